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
        "kernel_size": core.kernel_size,
        "padding_y": core.padding[0],
        "padding_x": core.padding[1],
        "stride_y_log2": _log2("stride", core.stride[0]),
        "stride_x_log2": _log2("stride", core.stride[1]),
        "threshold_high": core.threshold_high,
        "threshold_low": core.threshold_low,
        "fires_from": core.threshold_high + (assumptions.fires == ">"),
        "return_to_zero": int(core.return_to_zero),
        "decimator": core.decimator or 1,
        "decimator_count": core.decimator - 1 if core.decimator and first_passes else 0,
        "may_saturate": int(_may_saturate(core)),
        "swaps": int(core.core in (0, 1)),
    }


def link_fields(way: Destination, target: CoreConfiguration) -> dict[str, int]:
    """Fields of LINK_DTYPE that a destination decides."""
    features, height, width = target.input_shape
    return {
        "pooling_log2": _log2("pooling", way.pooling),
        "feature_shift": way.feature_shift,
        "features": features,
        "height": height,
        "width": width,
    }


def arrange_weights(core: CoreConfiguration) -> Int8Array:
    """Weights as (c, ky, kx, f), flat; kx by stride phase, each phase from last to first."""
    stride = core.stride[1]
    columns = [kx for phase in range(stride) for kx in range(phase, core.kernel_size, stride)[::-1]]
    return core.weights.transpose(1, 2, 3, 0)[:, :, columns].ravel()


def arrange_biases(core: CoreConfiguration) -> Int16Array:
    """Biases of one row of the output map, (x, f), flat."""
    return np.tile(core.biases, core.output_shape[2])


def arrange_initial_state(core: CoreConfiguration) -> Int16Array:
    """Neurons as (y, x, f), flat."""
    neurons = core.initial_state
    if neurons is None:
        neurons = np.zeros(core.output_shape, np.int16)
    return neurons.transpose(1, 2, 0).ravel()


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
