"""A network, its integers and its placement become a configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
from speckfarm_server.network import FloatArray, Layer, Network
from speckfarm_server.network_rules import LARGEST_FLOAT32, current_factor
from speckfarm_server.quantise import QuantisedLayer, quantise_layer
from speckfarm_server.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Span:
    """Layers `first` to `stop - 1` of a network; all of them unless it is too long for the chip."""

    first: int
    stop: int


def integers_of(network: Network, settings: Settings) -> list[QuantisedLayer | None]:
    """Quantise every layer; None where weights or threshold are no usable numbers."""
    scales = [1.0, *(_weight_scale(layer) for layer in network.layers)]
    return [
        _integers(layer, scale, settings)
        for layer, scale in zip(network.layers, scales, strict=False)
    ]


def build_configuration(
    network: Network,
    integers: Sequence[QuantisedLayer | None],
    cores: Sequence[int],
    *,
    chip: Chip,
    settings: Settings,
    span: Span | None = None,
) -> Configuration:
    """Everything that would be written to the chip; `cores` has one core per layer of the span.

    The rules tell whether a chip would take it. Layers without integers get zeros.
    """
    span = span or Span(first=0, stop=len(network.layers))
    built = [
        _core(
            network.layers[number], number, integers=integers[number], core=core, settings=settings
        )
        for number, core in zip(range(span.first, span.stop), cores, strict=True)
    ]
    poolings = [_pooling(network.layers[number]) for number in range(span.first, span.stop)]
    whole = span.first == 0
    return Configuration(
        chip=chip.name,
        input_shape=_shape(network.input_shape if whole else built[0].input_shape),
        cores=_chained(built, poolings),
        polarity=settings.polarity,
        slow_clock_hz=None if settings.slow_clock_hz is None else float(settings.slow_clock_hz),
        keep_state=settings.state == "keep",
        settings=settings.canonical(),
    )


def _integers(layer: Layer, scale: float, settings: Settings) -> QuantisedLayer | None:
    """Scale as sinabs does, in float32 and before quantisation; biases see only r."""
    factor = current_factor(layer, settings)
    if not (0 < layer.threshold <= LARGEST_FLOAT32 and 0 < factor < math.inf):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        weights = _scaled(_scaled(layer.weights, scale), factor)
        bias = None if layer.bias is None else _scaled(layer.bias, factor)
    if not (np.isfinite(weights).all() and (bias is None or np.isfinite(bias).all())):
        return None
    low = max(settings.lower_clip * layer.threshold, -LARGEST_FLOAT32)
    return quantise_layer(weights, bias, layer.threshold, low)


def _scaled(values: FloatArray, factor: float) -> FloatArray:
    values = np.asarray(values, np.float32)
    return values if factor == 1 else values * np.float32(factor)


def _weight_scale(layer: Layer) -> float:
    """What this layer's average poolings make of the next layer's weights, 1 if they are absurd."""
    sizes = [int(size) for pool in layer.poolings for size in pool.kernel_size]
    is_sane = all(size > 0 for size in sizes) and math.prod(sizes) < 1 << 53
    return layer.next_weight_scale if is_sane else 1.0


def _core(
    layer: Layer, number: int, *, integers: QuantisedLayer | None, core: int, settings: Settings
) -> CoreConfiguration:
    features = int(layer.weights.shape[0])
    weights = np.zeros(layer.weights.shape, np.int8) if integers is None else integers.weights
    biases = np.zeros(features, np.int16) if integers is None else integers.biases
    return CoreConfiguration(
        core=core,
        layer=number,
        input_shape=_shape(layer.input_shape),
        output_shape=_shape(layer.output_shape),
        kernel_size=max(map(int, layer.weights.shape[2:])),
        stride=_pair(layer.stride),
        padding=_pair(layer.padding),
        weights=weights,
        biases=biases,
        threshold_high=1 if integers is None else integers.threshold_high,
        threshold_low=-1 if integers is None else integers.threshold_low,
        return_to_zero=settings.reset_of(number) == "zero",
        leak_enable=bool(biases.any()),
        monitor_enable=number in settings.monitor,
        decimator=settings.decimator.get(number),
    )


def _chained(
    cores: Sequence[CoreConfiguration], poolings: Sequence[int]
) -> tuple[CoreConfiguration, ...]:
    """Each core feeds the next; the last one is monitored and pooled by the host."""
    linked = [
        replace(core, destinations=(Destination(core=after.core, pooling=pooling),))
        for core, after, pooling in zip(cores, cores[1:], poolings, strict=False)
    ]
    ends = [
        replace(core, monitor_enable=True, exit_pooling=pooling)
        for core, pooling in zip(cores[-1:], poolings[-1:], strict=True)
    ]
    return (*linked, *ends)


def _pooling(layer: Layer) -> int:
    """Chained poolings multiply."""
    return math.prod(int(pool.kernel_size[0]) for pool in layer.poolings)


def _shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Plain ints: the digest is made of JSON."""
    features, height, width = shape
    return int(features), int(height), int(width)


def _pair(values: tuple[int, int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])
