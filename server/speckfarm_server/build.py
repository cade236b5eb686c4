"""A network, its integers and its placement become a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speckfarm_server.camera import dvs_configuration
from speckfarm_server.chip import SENSOR_SHAPE, Chip
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
from speckfarm_server.network import INPUT, FloatArray, Layer, Network
from speckfarm_server.quantise import QuantisedLayer, quantise_layer
from speckfarm_server.rules.network import LARGEST_FLOAT32, current_factor
from speckfarm_server.settings import Settings
from speckfarm_server.vendor.readout import ReadoutConfiguration, vendor_values

DEFAULT_LOWER_CLIP = -1.0  # thresholds; sinabs' from_nir takes the same


@dataclass(frozen=True, kw_only=True)
class Span:
    """Layers `first` to `stop - 1` of a network; all of them unless it is too long for the chip."""

    first: int
    stop: int


def integers_of(network: Network, settings: Settings) -> list[QuantisedLayer | None]:
    """Quantise every layer; None where weights or threshold are no usable numbers."""
    return [_integers(layer, settings) for layer in network.layers]


def reset_of(layer: Layer, number: int, settings: Settings) -> str:
    """Reset mode: the setting of this layer, of all layers, what the file says, subtract."""
    return settings.layer_reset.get(number) or settings.reset or layer.trained_reset or "subtract"


def lower_clip_of(layer: Layer, settings: Settings) -> float:
    """Lower clip in thresholds: the setting, what the file says, -1."""
    if settings.lower_clip is not None:
        return settings.lower_clip
    return DEFAULT_LOWER_CLIP if layer.trained_lower_clip is None else layer.trained_lower_clip


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

    The rules tell whether a chip would take it. Layers without integers get zeros. Links that leave
    the span are left out.
    """
    span = span or Span(first=0, stop=len(network.layers))
    core_of = dict(zip(range(span.first, span.stop), cores, strict=True))
    built = [
        _core(network.layers[n], n, integers=integers[n], core=core, settings=settings)
        for n, core in core_of.items()
    ]
    inputs = _destinations(network, INPUT, core_of) if span.first == 0 else ()
    inputs = inputs or tuple(Destination(core=core) for core in cores[:1])
    shape = network.input_shape if span.first == 0 else built[0].input_shape
    uses_dvs = settings.uses_dvs_layer and span.first == 0
    dvs = dvs_configuration(settings, chip, inputs) if uses_dvs else None
    made = Configuration(
        chip=chip.name,
        input_shape=_shape(shape) if dvs is None else SENSOR_SHAPE,
        cores=tuple(_linked(core, network, core_of) for core in built),
        inputs=inputs if dvs is None else (),
        dvs=dvs,
        polarity=settings.polarity if dvs is None else "keep",
        slow_clock_hz=None if settings.slow_clock_hz is None else float(settings.slow_clock_hz),
        keep_state=settings.state == "keep",
        order_seed=settings.order_seed,
        settings=settings.canonical(),
    )
    return made if span.stop < len(network.layers) else _with_readout(made, chip, settings)


def _with_readout(configuration: Configuration, chip: Chip, settings: Settings) -> Configuration:
    """Let the exit layer feed the chip's readout layer, if a setting asks for it."""
    if settings.readout_threshold is None or chip.readout is None:
        return configuration
    *others, last = configuration.cores
    way = Destination(core=chip.readout, pooling=last.exit_pooling)
    readout = ReadoutConfiguration(
        threshold=settings.readout_threshold, average=settings.readout_average
    )
    return replace(
        configuration,
        cores=(*others, replace(last, destinations=(*last.destinations, way))),
        vendor={**configuration.vendor, **vendor_values(readout)},
    )


def _integers(layer: Layer, settings: Settings) -> QuantisedLayer | None:
    """Scale as sinabs does, in float32 and before quantisation; biases see only r."""
    factor = current_factor(layer, settings)
    if not (0 < layer.threshold <= LARGEST_FLOAT32 and 0 < factor < math.inf):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        weights = _scaled(_source_scaled(layer), factor)
        bias = None if layer.bias is None else _scaled(layer.bias, factor)
    if not (np.isfinite(weights).all() and (bias is None or np.isfinite(bias).all())):
        return None
    low = max(lower_clip_of(layer, settings) * layer.threshold, -LARGEST_FLOAT32)
    bits = layer.threshold_bits
    return quantise_layer(weights, bias, layer.threshold, low, threshold_bits=bits)


def _source_scaled(layer: Layer) -> FloatArray:
    """Weights times what the average poolings before each input feature ask for."""
    scales = {source.weight_scale for source in layer.sources}
    if len(scales) == 1:
        return _scaled(layer.weights, scales.pop())
    weights = np.array(layer.weights, np.float32)
    for source in sorted(layer.sources, key=lambda source: source.feature_shift):
        weights[:, source.feature_shift :] = _scaled(
            layer.weights[:, source.feature_shift :], source.weight_scale
        )
    return weights


def _scaled(values: FloatArray, factor: float) -> FloatArray:
    values = np.asarray(values, np.float32)
    return values if factor == 1 else values * np.float32(factor)


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
        return_to_zero=reset_of(layer, number, settings) == "zero",
        leak_enable=bool(biases.any()),
        monitor_enable=number in settings.monitor,
        decimator=settings.decimator.get(number),
    )


def _linked(
    core: CoreConfiguration, network: Network, core_of: Mapping[int, int]
) -> CoreConfiguration:
    """With its destinations; the exit layer is monitored and pooled by the host."""
    destinations = _destinations(network, core.layer, core_of)
    if core.layer < max(core_of):
        return replace(core, destinations=destinations)
    pooling = 1
    if core.layer == len(network.layers) - 1:
        pooling = math.prod(int(pool.kernel_size[0]) for pool in network.exit_poolings)
    return replace(core, monitor_enable=True, exit_pooling=pooling)


def _destinations(
    network: Network, layer: int, core_of: Mapping[int, int]
) -> tuple[Destination, ...]:
    return tuple(
        Destination(core=core_of[target], pooling=link.pooling, feature_shift=link.feature_shift)
        for target, link in network.targets(layer)
        if target in core_of
    )


def _shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Plain ints: the digest is made of JSON."""
    features, height, width = shape
    return int(features), int(height), int(width)


def _pair(values: tuple[int, int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])
