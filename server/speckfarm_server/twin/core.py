"""One core of the twin: its configuration as the integers and arrays that the kernel works on."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.chip import output_size
from speckfarm_server.configuration import CoreConfiguration, Destination, Int8Array, Int16Array
from speckfarm_server.twin.assumptions import Assumptions

Integer = TypeVar("Integer", bound=np.integer)


def core_fields(core: CoreConfiguration, assumptions: Assumptions) -> dict[str, int]:
    """Fields of CORE_DTYPE that its configuration decides; ValueError if it cannot be run."""
    _check(core)
    features, height, width = core.output_shape
    first_passes = core.decimator is not None and assumptions.decimator_passes == "first"
    return {
        "layer": core.layer,
        "monitored": int(core.monitor_enable),
        "out_features": features,
        "out_height": height,
        "out_width": width,
        "per_feature": -(-(1 << 32) // features),
        "row": width * features,
        "channel": core.kernel_size**2 * features,
        "kernel_step": core.stride[0] * core.kernel_size * features,
        "threshold_high": core.threshold_high,
        "threshold_low": core.threshold_low,
        "fires_above": core.threshold_high - (assumptions.fires == ">="),
        "return_to_zero": int(core.return_to_zero),
        "decimator": core.decimator or 1,
        "decimator_count": core.decimator - 1 if core.decimator and first_passes else 0,
        "may_saturate": int(_may_saturate(core)),
        "swaps": int(core.core in (0, 1)),
    }


def link_fields(
    way: Destination, source: CoreConfiguration | None, target: CoreConfiguration
) -> dict[str, int]:
    """Fields of LINK_DTYPE that a destination of a core, or of the input (None), decides."""
    pooling = _log2("pooling", way.pooling)
    features, height, width = target.input_shape
    may_miss = True
    if source is not None:
        last, y, x = (size - 1 for size in source.output_shape)
        last += way.feature_shift
        may_miss = last >= features or y >> pooling >= height or x >> pooling >= width
    return {
        "pooling_log2": pooling,
        "feature_shift": way.feature_shift,
        "features": features,
        "height": height,
        "width": width,
        "may_miss": int(may_miss),
    }


def arrange_weights(core: CoreConfiguration) -> Int8Array:
    """Weights as (c, ky, kx, f), flat; kx in the order of `_columns`."""
    return core.weights.transpose(1, 2, 3, 0)[:, :, _columns(core)].ravel()


def arrange_biases(core: CoreConfiguration) -> Int16Array:
    """Biases of one row of the output map, (x, f), flat."""
    return np.tile(core.biases, core.output_shape[2])


def arrange_initial_state(core: CoreConfiguration) -> Int16Array:
    """Neurons as (y, x, f), flat."""
    neurons = core.initial_state
    if neurons is None:
        neurons = np.zeros(core.output_shape, np.int16)
    return neurons.transpose(1, 2, 0).ravel()


def reach_of(core: CoreConfiguration) -> NDArray[np.int64]:
    """What a spike at each y, then at each x, of the input map reaches: REACH numbers each.

    For y: the first output row, rows, where that row begins in the state, and where its kernel row
    begins in the weights. For x: the first output column, neurons of a row that are reached, where
    they begin in the row, and where their kernel columns begin in the kernel row.
    """
    features, _, width = core.output_shape
    k = core.kernel_size
    rows = _reach_along(core, axis=0)
    columns = _reach_along(core, axis=1)
    rows[:, 2] = rows[:, 0] * width * features
    rows[:, 3] *= k * features
    columns[:, 1:] *= features
    columns[:, 2] = columns[:, 0] * features
    return np.concatenate([rows, columns]).ravel()


def _reach_along(core: CoreConfiguration, axis: int) -> NDArray[np.int64]:
    """First output, outputs, nothing, and place of the kernel's entry for the first, per input."""
    k, stride, padding = core.kernel_size, core.stride[axis], core.padding[axis]
    size, out_size = core.input_shape[1 + axis], core.output_shape[1 + axis]
    at = np.arange(size) + padding
    low = np.maximum(0, -(-(at - k + 1) // stride))
    count = np.maximum(0, np.minimum(at // stride, out_size - 1) - low + 1)
    entry = at - low * stride  # in the kernel
    if axis == 1:
        order = np.argsort(_columns(core), kind="stable")  # place of each column among the weights
        entry = order[np.clip(entry, 0, k - 1)]
    return np.stack([low, count, np.zeros(size, np.int64), entry], axis=1).astype(np.int64)


def _columns(core: CoreConfiguration) -> list[int]:
    """Kernel columns as they are stored: by stride phase, each phase from last to first."""
    stride, k = core.stride[1], core.kernel_size
    return [kx for phase in range(stride) for kx in range(phase, k, stride)[::-1]]


def _may_saturate(core: CoreConfiguration) -> bool:
    """Whether a state can leave 16 bits: a neuron that fires keeps what exceeds its threshold."""
    highest = max(0, int(core.weights.max(initial=0)))
    lowest = min(0, int(core.weights.min(initial=0)))
    if core.leak_enable:
        highest = max(highest, int(core.biases.max(initial=0)))
        lowest = min(lowest, int(core.biases.min(initial=0)))
    accumulates = not core.return_to_zero and highest > core.threshold_high
    above = core.threshold_high + highest > 32767 or accumulates
    below = core.threshold_low + lowest < -32768
    started = core.initial_state is not None and bool(core.initial_state.any())
    return above or below or started


def _log2(name: str, value: int) -> int:
    if value < 1 or value & (value - 1):
        raise ValueError(f"{name}: found {value}; the chip has powers of two only")
    return value.bit_length() - 1


def _check(core: CoreConfiguration) -> None:
    """Raise ValueError if the kernel could leave its arrays or overflow its integers."""
    in_features, *in_size = core.input_shape
    features, *size = core.output_shape
    k = core.kernel_size
    axes = zip(in_size, core.stride, core.padding, strict=True)
    rules: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
        ("weights", core.weights.shape, (features, in_features, k, k)),
        ("biases", core.biases.shape, (features,)),
        ("output map", tuple(size), tuple(output_size(n, k, s, p) for n, s, p in axes)),
    )
    if core.initial_state is not None:
        rules += (("initial state", core.initial_state.shape, core.output_shape),)
    for name, found, wanted in rules:
        if found != wanted:
            raise ValueError(f"core {core.core}, {name}: found {found}, other fields say {wanted}")
    if not -32768 <= core.threshold_low <= 0 <= core.threshold_high <= 32767:
        found = (core.threshold_low, core.threshold_high)
        raise ValueError(f"core {core.core}, thresholds: found {found}; -32768..0 and 0..32767")
