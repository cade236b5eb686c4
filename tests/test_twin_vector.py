"""The vector step does what the plain loop beside it does, and touches no other neuron."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray

from speckfarm_server.twin.pointers import pointer_to
from speckfarm_server.twin.vector import LANES, STEP, Rule, last_step, plain_step, short_step, step

AROUND = 5  # neurons before those of a step; as many and a whole step lie behind
Step = Callable[[Any, Any, int, int, int, Rule], int]


@njit
def whole(state: Any, deltas: Any, first: int, delta: int, count: int, rule: Rule) -> Any:
    return step(pointer_to(state), pointer_to(deltas), first, delta, count, rule)


@njit
def partial(state: Any, deltas: Any, first: int, delta: int, count: int, rule: Rule) -> Any:
    return last_step(pointer_to(state), pointer_to(deltas), first, delta, count, rule)


@njit
def short(state: Any, deltas: Any, first: int, delta: int, count: int, rule: Rule) -> Any:
    return short_step(pointer_to(state), pointer_to(deltas), first, delta, count, rule)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Thresholds at the ends of their ranges and between, both ways of reset."""
    high = draw(st.sampled_from([0, 1, 127, 32766, 32767]) | st.integers(0, 32767))
    fires_above = high - draw(st.integers(0, 1))
    low = draw(st.sampled_from([0, -1, -32768]) | st.integers(-32768, 0))
    return Rule(low, fires_above, high, draw(st.sampled_from([-1, 0])))


@st.composite
def runs(draw: st.DrawFn, dtype: type) -> tuple[NDArray[np.int16], NDArray[Any], Rule]:
    """States at the ends of 16 bits, around the thresholds and anywhere; deltas; a rule."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rule = draw(rules())
    length = 2 * (AROUND + STEP)
    anywhere = rng.integers(-32768, 32768, (4, length))
    edges = np.array([[-32768], [32767], [rule.fires_above], [rule.low]])
    near = edges + rng.integers(-130, 131, (4, length))
    chosen = rng.permuted(np.concatenate([anywhere, near]), axis=0)[0]
    ends = np.iinfo(dtype)
    deltas = rng.integers(ends.min, ends.max + 1, length)
    deltas[rng.integers(0, 4, length) == 0] = draw(st.sampled_from([ends.min, ends.max, 0]))
    return chosen.clip(-32768, 32767).astype(np.int16), deltas.astype(dtype), rule


def assert_equal_to_plain(
    vector: Step, state: NDArray[np.int16], deltas: NDArray[Any], count: int, rule: Rule
) -> None:
    plain = state.tolist()

    expected = plain_step(plain, deltas.tolist(), AROUND, AROUND + 1, count, rule)
    found = vector(state, deltas, AROUND, AROUND + 1, count, rule)

    assert int(found) == expected
    assert state.tolist() == plain  # those around the step as well


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_step_equals_the_plain_loop_for_every_count(dtype, data):
    state, deltas, rule = data.draw(runs(dtype))

    assert_equal_to_plain(whole, state.copy(), deltas, STEP, rule)
    for count in range(1, STEP + 1):
        assert_equal_to_plain(partial, state.copy(), deltas, count, rule)
    for count in range(1, LANES + 1):
        assert_equal_to_plain(short, state.copy(), deltas, count, rule)


def test_each_neuron_that_fires_has_its_bit():
    for lane in range(STEP):
        state, deltas = np.zeros(STEP, np.int16), np.zeros(STEP, np.int8)
        deltas[lane] = 100

        found = whole(state, deltas, 0, 0, STEP, Rule(-100, 99, 100, -1))

        assert int(found) == 1 << lane


def test_the_plain_loop_saturates_clips_fires_and_resets():
    state = [32700, -32700, -90, 60, 60]
    deltas = [127, -127, -50, 39, 45]

    fired = plain_step(state, deltas, 0, 0, 5, Rule(-32768, 99, 100, -1))
    assert (fired, state) == (0b10001, [32667, -32768, -140, 99, 5])

    state = [32700, -32700, -90, 60, 60]
    fired = plain_step(state, deltas, 0, 0, 4, Rule(-100, 98, 99, 0))
    assert (fired, state) == (0b1001, [0, -100, -100, 0, 60])
