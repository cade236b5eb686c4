"""Rules on the arrays of one core: shapes that the declared sizes ask for, and ranges of integers.

Source: the vendor's validator in samna 0.7.1 (chip speck2b) for shapes, its setters for ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import CoreConfiguration
from speckfarm_server.rules.core import CoreRule, Problem


def weights_shape(core: CoreConfiguration, _: Chip) -> Iterator[Problem]:
    """Weights are (f, c, k, k)."""
    yield from _shape("Weights", core.weights, _weights(core))


def biases_shape(core: CoreConfiguration, _: Chip) -> Iterator[Problem]:
    """Biases are (f,)."""
    yield from _shape("Biases", core.biases, core.output_shape[:1])


def initial_state_shape(core: CoreConfiguration, _: Chip) -> Iterator[Problem]:
    """The initial state is (f, h, w)."""
    yield from _shape("Initial states", core.initial_state, core.output_shape)


def kill_bits_shape(core: CoreConfiguration, _: Chip) -> Iterator[Problem]:
    """Kill bits have the shape of what they kill."""
    yield from _shape("Kill bits of weights", core.weights_kill, _weights(core))
    yield from _shape("Kill bits of biases", core.biases_kill, core.output_shape[:1])
    yield from _shape("Kill bits of neurons", core.neurons_kill, core.output_shape)


def weights_range(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """Weights are 8-bit."""
    yield from _range("weights", core.weights, np.dtype(np.int8), chip.weight)


def biases_range(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """Biases are 16-bit."""
    yield from _range("biases", core.biases, np.dtype(np.int16), chip.bias)


def initial_state_range(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """Initial states are 16-bit; beyond the thresholds is allowed."""
    if core.initial_state is not None:
        yield from _range("states", core.initial_state, np.dtype(np.int16), chip.initial_state)


ARRAY_RULES: Mapping[str, CoreRule] = {
    "WEIGHTS_SHAPE_MISMATCH": weights_shape,
    "BIASES_SHAPE_MISMATCH": biases_shape,
    "INITIAL_STATE_SHAPE_MISMATCH": initial_state_shape,
    "KILL_BITS_SHAPE_MISMATCH": kill_bits_shape,
    "WEIGHTS_OUT_OF_RANGE": weights_range,
    "BIASES_OUT_OF_RANGE": biases_range,
    "INITIAL_STATE_OUT_OF_RANGE": initial_state_range,
}


def _weights(core: CoreConfiguration) -> tuple[int, ...]:
    return core.output_shape[0], core.input_shape[0], core.kernel_size, core.kernel_size


def _shape(what: str, array: NDArray[Any] | None, wanted: tuple[int, ...]) -> Iterator[Problem]:
    if array is not None and array.shape != wanted:
        text = (
            f"{what} have shape {array.shape}; the declared sizes ask for {wanted}. Make the array "
            "or the sizes match."
        )
        yield text, {"shape": array.shape, "expected_shape": wanted}


def _range(
    what: str, array: NDArray[Any], exact: np.dtype[Any], allowed: tuple[int, int]
) -> Iterator[Problem]:
    if array.dtype == exact or not array.size:
        return  # every value of this type is allowed
    (low, high), smallest, largest = allowed, array.min(), array.max()
    if smallest < low or largest > high:
        text = f"Found {what} from {smallest} to {largest}; {low} to {high} is allowed."
        yield text, {"found_smallest": smallest, "found_largest": largest, "allowed": allowed}
