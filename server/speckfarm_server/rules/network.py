"""Rules on what a network says that a chip has no field for, so that no configuration shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np

from speckfarm.events import ECHO
from speckfarm_server.chip import Chip
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Layer, Network, Pooling
from speckfarm_server.rules.core import Problem
from speckfarm_server.rules.tables import finding
from speckfarm_server.settings import Settings

LayerRule: TypeAlias = Callable[[Layer, Chip, Settings], Iterator[Problem]]
PoolingRule: TypeAlias = Callable[[Pooling], Iterator[Problem]]
NetworkRule: TypeAlias = Callable[[Network, Chip, Settings], Iterator[Problem]]
R_TOLERANCE = 1e-6  # files hold 1/dt in float32
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def check_network(network: Network, chip: Chip, settings: Settings) -> list[Finding]:
    """Every violation of these rules."""
    found = [
        finding(reason, Severity.ERROR, None, *problem)
        for reason, rule in NETWORK_RULES.items()
        for problem in rule(network, chip, settings)
    ]
    for number, layer in enumerate(network.layers):
        for reason, layer_rule in LAYER_RULES.items():
            for problem in layer_rule(layer, chip, settings):
                found.append(finding(reason, Severity.ERROR, number, *problem))
        for pool in _poolings_after(network, number):
            for reason, pooling_rule in POOLING_RULES.items():
                for problem in pooling_rule(pool):
                    found.append(finding(reason, Severity.ERROR, number, *problem))
    return found


def current_factor(layer: Layer, settings: Settings) -> float:
    """What NIR's r makes of weights and biases: r * dt, 1 within what float32 can tell.

    NIR's IF neuron is dv/dt = r * I; a step of dt adds r * dt * (W * spikes + b).
    """
    if settings.input_dt_us is None:
        return 1.0
    factor = layer.r_range[0] * settings.input_dt_us * 1e-6
    return 1.0 if abs(factor - 1) <= R_TOLERANCE else factor


def no_layers(network: Network, *_: object) -> Iterator[Problem]:
    """There is something to run."""
    if not network.layers:
        yield "The network has no layer. Give it a weight node followed by IF neurons.", {}


def too_many_layers(network: Network, chip: Chip, _: Settings) -> Iterator[Problem]:
    """A core per layer."""
    found, largest = len(network.layers), len(chip.cores)
    if found > largest:
        text = (
            f"Found {found} layers; {chip.name} has {largest} cores, one per layer. Merge layers."
        )
        yield text, {"layers": found, "largest": largest}


def layer_not_found(network: Network, _: Chip, settings: Settings) -> Iterator[Problem]:
    """Settings name layers that exist."""
    last = len(network.layers) - 1
    for setting, layer in _named_layers(settings):
        if layer > last and network.layers:
            text = f"Setting {setting} names layer {layer}; this network has layers 0 to {last}."
            yield text, {"setting": setting, "named_layer": layer, "largest_layer": last}


def non_square_kernel(layer: Layer, *_: object) -> Iterator[Problem]:
    """A core has one kernel size."""
    height, width = layer.weights.shape[2:]
    if height != width and not layer.is_linear:
        side = max(height, width)
        text = (
            f"Kernel is {height} x {width}; a core has square kernels only. "
            f"Pad it with zeros to {side} x {side} and adapt the padding."
        )
        yield text, {"kernel_height": height, "kernel_width": width}


def linear_input(layer: Layer, chip: Chip, _: Settings) -> Iterator[Problem]:
    """A linear layer is a convolution over its whole input map."""
    height, width = layer.weights.shape[2:]
    largest = chip.kernel_size[1]
    if layer.is_linear and (height != width or height > largest):
        text = (
            f"Linear layer over a map of {height} x {width}; on a core it is a kernel of that "
            f"size, so the map must be square and at most {largest} x {largest}. "
            "Pool before it, or use a strided convolution."
        )
        yield text, {"height": height, "width": width, "largest": largest}


def dilation(layer: Layer, *_: object) -> Iterator[Problem]:
    """Dilation 1; any for a 1 x 1 kernel, where it means nothing."""
    y, x = layer.dilation
    if (y, x) != (1, 1) and max(layer.weights.shape[2:]) > 1:
        text = f"Dilation {y} x {x} (y, x); a core has none. Use a larger kernel with zeros in it."
        yield text, {"dilation_y": y, "dilation_x": x}


def groups(layer: Layer, *_: object) -> Iterator[Problem]:
    """One group."""
    if layer.groups != 1:
        text = (
            f"Convolution in {layer.groups} groups; a core connects every input feature with every "
            "output feature. Use groups = 1 with zero weights between the groups."
        )
        yield text, {"groups": layer.groups}


def merge_scales(layer: Layer, *_: object) -> Iterator[Problem]:
    """Sources that are added have been averaged over equally many pixels.

    A weight serves all of them. sinabs 3.1.3 refuses it only with `weight_rescaling_fn=None`; by
    default it takes half the mean factor, rounded to two places, which is another function.
    """
    scales: dict[int, set[float]] = {}
    for source in layer.sources:
        scales.setdefault(source.feature_shift, set()).add(source.weight_scale)
    for found in scales.values():
        if len(found) > 1:
            listed = ", ".join(f"1/{1 / scale:g}" for scale in sorted(found))
            text = (
                f"Adds inputs that average pooling divides differently, by {listed}; a core has "
                "one weight for both. Use SumPool2d, or the same AvgPool2d, on every branch. "
                "(sinabs would scale by half their mean without a word: another network.)"
            )
            yield text, {"factors": listed}


def pooling_square(pool: Pooling) -> Iterator[Problem]:
    """A core has one pooling for both axes."""
    height, width = pool.kernel_size
    if height != width:
        text = f"Pooling {pool.name!r} is {height} x {width}; only square pooling exists."
        yield text, {"pooling": pool.name, "height": height, "width": width}


def pooling_stride(pool: Pooling) -> Iterator[Problem]:
    """Pooling windows do not overlap and leave nothing out."""
    if pool.stride != pool.kernel_size:
        text = (
            f"Pooling {pool.name!r} has kernel {_pair(pool.kernel_size)} and stride "
            f"{_pair(pool.stride)}; a core only divides coordinates. Make the stride equal the "
            "kernel."
        )
        yield text, _pooling_figures(pool)


def pooling_padding(pool: Pooling) -> Iterator[Problem]:
    """Pooling is not padded."""
    if pool.padding != (0, 0):
        text = f"Pooling {pool.name!r} has padding {_pair(pool.padding)}; use 0."
        yield text, {**_pooling_figures(pool), "padding": _pair(pool.padding)}


def threshold_uniform(layer: Layer, *_: object) -> Iterator[Problem]:
    """A core has one threshold."""
    low, high = layer.threshold_range
    if low != high:
        text = (
            f"Thresholds of {layer.neuron_name!r} differ, from {low:g} to {high:g}; a core has one "
            "for all its neurons. Use one threshold and scale the weights of each feature instead."
        )
        yield text, {"smallest": low, "largest": high}


def threshold_positive(layer: Layer, *_: object) -> Iterator[Problem]:
    """A threshold is a finite number above 0."""
    if not 0 < layer.threshold <= LARGEST_FLOAT32:
        text = f"Threshold of {layer.neuron_name!r} is {layer.threshold:g}; it must be finite and "
        yield text + "above 0.", {"threshold": layer.threshold}


def weights_finite(layer: Layer, _: Chip, settings: Settings) -> Iterator[Problem]:
    """Weights and biases are finite numbers, after the factor r * dt too."""
    bias = layer.bias if layer.bias is not None else np.zeros(0, np.float32)
    factor = current_factor(layer, settings)
    limit = LARGEST_FLOAT32 / (max(factor, 1.0) if math.isfinite(factor) else 1.0)
    bad = sum(
        int(np.size(values) - np.count_nonzero(np.abs(values) <= limit))
        for values in (layer.weights, bias)
    )
    if bad:
        text = (
            f"{bad:,} weights or biases of {layer.name!r} are NaN, infinite or beyond 32 bits. "
            "Export the network again."
        )
        yield text, {"not_finite": bad, "largest": f"{limit:g}"}


def r_uniform(layer: Layer, *_: object) -> Iterator[Problem]:
    """All neurons of a layer have the same r, a finite number above 0."""
    low, high = layer.r_range
    if not 0 < low <= high < math.inf or high - low > R_TOLERANCE * high:
        text = (
            f"r of {layer.neuron_name!r} goes from {low:g} to {high:g}; a core has no field for "
            "it, so it must be one finite number above 0. Multiply the weights by r and use r = 1."
        )
        yield text, {"smallest": low, "largest": high}


def r_is_one(layer: Layer, _: Chip, settings: Settings) -> Iterator[Problem]:
    """Without a time step, r is 1."""
    low, high = layer.r_range
    if settings.input_dt_us is None and low > 0 and max(abs(low - 1), abs(high - 1)) > R_TOLERANCE:
        dt_us = 1e6 / low
        text = (
            f"r of {layer.neuron_name!r} is {low:g}, not 1: the network was written for a time "
            f"step of 1/r = {dt_us:g} µs. Pass input_dt_us={dt_us:g}."
        )
        yield text, {"r_per_s": low, "input_dt_us": f"{dt_us:g}"}


NETWORK_RULES: Mapping[str, NetworkRule] = {
    "NO_LAYERS": no_layers,
    "TOO_MANY_LAYERS": too_many_layers,
    "LAYER_NOT_FOUND": layer_not_found,
}
LAYER_RULES: Mapping[str, LayerRule] = {
    "NON_SQUARE_KERNEL": non_square_kernel,
    "LINEAR_INPUT_TOO_LARGE": linear_input,
    "DILATION_UNSUPPORTED": dilation,
    "GROUPS_UNSUPPORTED": groups,
    "MERGE_SCALES_DIFFER": merge_scales,
    "NON_UNIFORM_THRESHOLD": threshold_uniform,
    "THRESHOLD_NOT_POSITIVE": threshold_positive,
    "WEIGHTS_NOT_FINITE": weights_finite,
    "NON_UNIFORM_R": r_uniform,
    "R_NOT_ONE": r_is_one,
}
POOLING_RULES: Mapping[str, PoolingRule] = {  # of the layer before the pooling
    "NON_SQUARE_POOLING": pooling_square,
    "POOLING_STRIDE_MISMATCH": pooling_stride,
    "POOLING_PADDING": pooling_padding,
}
# What these cause in the configuration of the same layer is not reported a second time.
CONSEQUENCES: Mapping[str, frozenset[str]] = {
    "NON_SQUARE_KERNEL": frozenset({"OUTPUT_SIZE_MISMATCH", "WEIGHTS_SHAPE_MISMATCH"}),
    "LINEAR_INPUT_TOO_LARGE": frozenset({
        "OUTPUT_SIZE_MISMATCH",
        "WEIGHTS_SHAPE_MISMATCH",
        "KERNEL_SIZE_OUT_OF_RANGE",
    }),
    "DILATION_UNSUPPORTED": frozenset({"OUTPUT_SIZE_MISMATCH"}),
    "GROUPS_UNSUPPORTED": frozenset({"WEIGHTS_SHAPE_MISMATCH"}),
    "NON_SQUARE_POOLING": frozenset({"LINK_SIZE_MISMATCH", "POOLING_UNSUPPORTED"}),
    "POOLING_STRIDE_MISMATCH": frozenset({"LINK_SIZE_MISMATCH"}),
    "POOLING_PADDING": frozenset({"LINK_SIZE_MISMATCH"}),
    "NON_UNIFORM_R": frozenset({"R_NOT_ONE"}),
}


def _poolings_after(network: Network, number: int) -> list[Pooling]:
    """Each pooling node once, however many layers it leads to."""
    links = [link for _, link in network.targets(number)]
    found = [pool for link in links for pool in link.poolings]
    if number == len(network.layers) - 1:
        found += network.exit_poolings
    return list(dict.fromkeys(found))


def _named_layers(settings: Settings) -> Iterator[tuple[str, int]]:
    yield from ((f"reset.{layer}", layer) for layer in sorted(settings.layer_reset))
    yield from ((f"decimator.{layer}", layer) for layer in sorted(settings.decimator))
    yield from ((f"cores.{layer}", layer) for layer in sorted(settings.cores))
    yield from (("monitor", layer) for layer in sorted({*settings.monitor} - {ECHO}))


def _pooling_figures(pool: Pooling) -> dict[str, object]:
    kernel, step = _pair(pool.kernel_size), _pair(pool.stride)
    return {"pooling": pool.name, "kernel_size": kernel, "stride": step}


def _pair(sizes: tuple[int, int]) -> str:
    return f"{sizes[0]} x {sizes[1]}"
