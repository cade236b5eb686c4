"""The vector step: add deltas to a run of neurons, saturate, clip, fire, reset; say who fired.

`step` is a few vector instructions, written as LLVM code because no loop that numba can vectorise
also hands over the places of the spikes; `plain_step` is the same as a loop. Tests hold the two
together. Widths are those at which one comparison becomes one mask of the processor.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import llvmlite.binding
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

intrinsic: Any = extending.intrinsic
I16 = ir.IntType(16)
I64 = ir.IntType(64)


_FEATURES = llvmlite.binding.get_host_cpu_features()
MASK_REGISTERS = bool(_FEATURES.get("avx512bw"))
# Lanes of 16 bits in one vector of this processor, and vectors that make up a step.
LANES, VECTORS = (32, 2) if MASK_REGISTERS else (16, 4) if _FEATURES.get("avx2") else (8, 4)
STEP = LANES * VECTORS  # neurons that one step takes; buffers are padded by as many


class Rule(NamedTuple):
    """What is alike for all neurons of a core."""

    low: int  # threshold_low
    fires_above: int  # the highest state that does not fire
    loss: int  # what a neuron that fires loses, threshold_high
    kept: int  # bits that it keeps then: all, -1, or none, 0


def plain_step(state: Any, deltas: Any, first: int, delta: int, count: int, rule: Rule) -> int:
    """What `step` does: bit n of the answer says whether neuron first + n has fired.

    `state` and `deltas` hold int16, and int8 or int16; plain Python needs lists, for arrays would
    wrap around. `count` is 1 to STEP.
    """
    fired = 0
    for lane in range(count):
        v = state[first + lane] + deltas[delta + lane]
        v = max(min(max(v, -32768), 32767), rule.low)
        if v > rule.fires_above:
            fired |= 1 << lane
            v = (v - rule.loss) & rule.kept
        state[first + lane] = v
    return fired


def _step(is_whole: bool, vectors: int) -> Any:
    """A step of whole vectors, or one of which `count` neurons take part; others are unchanged."""

    @intrinsic
    def step(
        typing: Any, state: Any, deltas: Any, first: Any, delta: Any, count: Any, rule: Any
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            states, weights, first, delta, count, rule = args
            low, fires_above, loss, kept = (
                _splat(builder, builder.trunc(builder.extract_value(rule, n), I16))
                for n in range(len(Rule._fields))
            )
            masks = []
            for part in range(vectors):
                offset = ir.Constant(I64, part * LANES)
                at = _pointer(builder, states, builder.add(first, offset))
                before = builder.load(at, align=2)
                change = _load_deltas(builder, weights, builder.add(delta, offset))
                after = _call(builder, "llvm.sadd.sat", before, change)
                after = _call(builder, "llvm.smax", after, low)
                fires = builder.icmp_signed(">", after, fires_above)
                reset = builder.and_(builder.sub(after, loss), kept)
                after = builder.select(fires, reset, after)
                if not is_whole:
                    takes_part = _lanes_below(builder, count, part)
                    after = builder.select(takes_part, after, before)
                    fires = builder.and_(fires, takes_part)
                builder.store(after, at, align=2)
                mask = builder.zext(builder.bitcast(fires, ir.IntType(LANES)), I64)
                masks.append(builder.shl(mask, offset))
            return reduce(builder.or_, masks)

        return types.uint64(state, deltas, types.int64, types.int64, types.int64, rule), code

    return step


step = _step(is_whole=True, vectors=VECTORS)
last_step = _step(is_whole=False, vectors=VECTORS)
short_step = _step(is_whole=False, vectors=1)  # for up to LANES neurons


def _pointer(builder: Any, base: Any, index: Any) -> Any:
    element = builder.gep(base, [index])
    vector = ir.VectorType(element.type.pointee, LANES)
    return builder.bitcast(element, vector.as_pointer())


def _load_deltas(builder: Any, base: Any, index: Any) -> Any:
    loaded = builder.load(_pointer(builder, base, index), align=1)
    wide = ir.VectorType(I16, LANES)
    return loaded if loaded.type == wide else builder.sext(loaded, wide)


def _splat(builder: Any, value: Any, lanes: int = LANES) -> Any:
    vector = ir.VectorType(value.type, lanes)
    zero = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, zero)
    places = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), places)


def _lanes_below(builder: Any, count: Any, part: int) -> Any:
    """Which lanes of a vector are among the first `count` (1 to STEP) of the step."""
    if MASK_REGISTERS:
        all_ones = builder.lshr(ir.Constant(I64, -1), builder.sub(ir.Constant(I64, 64), count))
        lanes = builder.lshr(all_ones, ir.Constant(I64, part * LANES))
        bits = builder.trunc(lanes, ir.IntType(LANES))
        return builder.bitcast(bits, ir.VectorType(ir.IntType(1), LANES))
    numbers = ir.Constant(ir.VectorType(I16, LANES), list(range(part * LANES, (part + 1) * LANES)))
    return builder.icmp_signed("<", numbers, _splat(builder, builder.trunc(count, I16)))


def _call(builder: Any, name: str, *operands: Any) -> Any:
    vector = operands[0].type
    function_type = ir.FunctionType(vector, [vector] * len(operands))
    function = cgutils.get_or_insert_function(builder.module, function_type, f"{name}.v{LANES}i16")
    return builder.call(function, operands)
