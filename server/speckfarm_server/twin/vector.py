"""The vector step: add a run of deltas to neurons, saturate, clip, and say which reach the threshold.

`step` is a few vector instructions, written as LLVM code because no loop that numba can vectorise
also hands over the places of the spikes; `plain_step` is the same as a loop. Tests hold the two
together. Widths are those at which one comparison becomes one mask of the processor.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I16 = ir.IntType(16)
I64 = ir.IntType(64)


def _vectors() -> tuple[int, int]:
    """Lanes of 16 bits in one vector of this processor, and vectors that make up a step."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512bw"):
        return 32, 2
    return (16, 4) if features.get("avx2") else (8, 4)


LANES, VECTORS = _vectors()
STEP = LANES * VECTORS  # neurons that one step takes; buffers are padded by as many


def plain_step(
    state: Any, deltas: Any, first: int, delta: int, count: int, low: int, fires_from: int
) -> int:
    """What `step` does: bit n of the answer says whether neuron first + n reaches `fires_from`.

    `state` and `deltas` are arrays or pointers (int16; int8 or int16), `count` is 1 to STEP.
    """
    reached = 0
    for lane in range(count):
        v = state[first + lane] + deltas[delta + lane]
        v = max(min(max(v, -32768), 32767), low)
        state[first + lane] = v
        if v >= fires_from:
            reached |= 1 << lane
    return reached


def _step(is_whole: bool, vectors: int) -> Any:
    """A step of whole vectors, or one of which `count` neurons take part; others are unchanged."""

    @intrinsic
    def step(typing: Any, state: Any, deltas: Any, first: Any, delta: Any, count: Any, low: Any, fires_from: Any) -> Any:  # noqa: E501, PLR0913, PLR0917
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            states, weights, first, delta, count, low, fires_from = args
            low, fires_from = (builder.trunc(each, I16) for each in (low, fires_from))
            reached = []
            for part in range(vectors):
                offset = ir.Constant(I64, part * LANES)
                at = _pointer(builder, states, builder.add(first, offset))
                before = builder.load(at, align=2)
                change = _load_deltas(builder, weights, builder.add(delta, offset))
                after = _call(builder, "llvm.sadd.sat", before, change)
                after = _call(builder, "llvm.smax", after, _splat(builder, low))
                hits = builder.icmp_signed(">=", after, _splat(builder, fires_from))
                if not is_whole:
                    takes_part = _lanes_below(builder, builder.sub(count, offset))
                    after = builder.select(takes_part, after, before)
                    hits = builder.and_(hits, takes_part)
                builder.store(after, at, align=2)
                mask = builder.zext(builder.bitcast(hits, ir.IntType(LANES)), I64)
                reached.append(builder.shl(mask, offset))
            return reduce(builder.or_, reached)

        numbers = (types.int64,) * 5
        return types.uint64(state, deltas, *numbers), code

    return step


step = _step(is_whole=True, vectors=VECTORS)
last_step = _step(is_whole=False, vectors=VECTORS)


@intrinsic
def pointer_to(typing: Any, array: Any) -> Any:
    """The address of an array's first element: no reference is counted, no bound is checked."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), code


@intrinsic
def record_at(typing: Any, pointer: Any, index: Any) -> Any:
    """A record of an array, to read and write its fields."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer.dtype(pointer, types.int64), code


@intrinsic
def lowest_bit(typing: Any, mask: Any) -> Any:
    """The place of the lowest bit that is set; there must be one."""
    return types.int64(types.uint64), lambda _, builder, __, args: _count_zeros(builder, "cttz", args)


@intrinsic
def highest_bit(typing: Any, mask: Any) -> Any:
    """The place of the highest bit that is set; there must be one."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sub(ir.Constant(I64, 63), _count_zeros(builder, "ctlz", args))

    return types.int64(types.uint64), code


def _count_zeros(builder: Any, name: str, args: Any) -> Any:
    bit = ir.IntType(1)
    function_type = ir.FunctionType(I64, [I64, bit])
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.i64")
    return builder.call(function, [args[0], ir.Constant(bit, 1)])


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


def _lanes_below(builder: Any, count: Any) -> Any:
    numbers = ir.Constant(ir.VectorType(I16, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, _splat(builder, builder.trunc(count, I16)))


def _call(builder: Any, name: str, *operands: Any) -> Any:
    vector = operands[0].type
    function_type = ir.FunctionType(vector, [vector] * len(operands))
    function = cgutils.get_or_insert_function(
        builder.module, function_type, f"{name}.v{LANES}i16"
    )
    return builder.call(function, operands)
