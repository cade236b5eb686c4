"""A change that a finding advises, carried out on a network and its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from speckfarm_server.changes.regraph import copied, dropped, renumbered, split
from speckfarm_server.changes.reshape import (
    MOST_WEIGHTS,
    merged_with,
    reach,
    reshaped,
    resized,
    with_input_map,
    with_kernel,
)
from speckfarm_server.chip import SENSOR_SIZE
from speckfarm_server.errors import Change
from speckfarm_server.network import INPUT, Layer, Network, Pooling
from speckfarm_server.settings import Settings, with_key

OFF = "off"


def apply_change(network: Network, settings: Settings, change: Change) -> tuple[Network, Settings]:
    """The network and settings as advised; what follows from the change follows.

    Weights of layers whose shape changes are cut off or filled with zeros: the network has to be
    trained again, unless the change keeps its function. ValueError (or BadInput of the settings)
    if the change does not fit the network.
    """
    if change.what in _INPUT_STEPS:
        return _INPUT_STEPS[change.what](network, settings, change.value)
    if change.what in _SETTING_STEPS:
        return network, _SETTING_STEPS[change.what](settings, change)
    if change.what in _GRAPH_STEPS:
        made, origins = _GRAPH_STEPS[change.what](network, change)
        return made, renumbered(settings, origins)
    if change.what not in _LAYER_STEPS or change.layer is None:
        raise ValueError(f"no change is called {change.what!r} of layer {change.layer}")
    if not 0 <= change.layer < len(network.layers):
        raise ValueError(f"no layer {change.layer}")
    return _LAYER_STEPS[change.what](network, change.layer, change.value), settings


def origins_of(network: Network, change: Change) -> list[int]:
    """For each layer of the changed network the number of the one it comes from."""
    if change.what in _GRAPH_STEPS:
        return _GRAPH_STEPS[change.what](network, change)[1]
    return list(range(len(network.layers)))


def camera_crop(
    network: Network, settings: Settings, pooling: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """The crop that the camera layer needs to pool the network's input: left, top, width, height.

    Without one it would pool the whole sensor; one must not cut through pooled pixels.
    """
    height, width = seen_pixels(network, settings)
    if settings.crop is None and (height, width) == (SENSOR_SIZE, SENSOR_SIZE):
        return None
    left, top, _, _ = settings.crop or (0, 0, width, height)
    return left, top, width - width % pooling[1], height - height % pooling[0]


def seen_pixels(network: Network, settings: Settings) -> tuple[int, int]:
    """Sensor pixels (h, w) behind the network's input."""
    _, height, width = network.input_shape
    return int(height) * settings.input_pooling[0], int(width) * settings.input_pooling[1]


def _features(network: Network, number: int, value: str) -> Network:
    """Layers whose outputs are added keep equal features."""
    wanted = int(value)
    layers = {}
    for member in merged_with(network, number):
        layer = network.layers[member]
        if layer.groups != 1:
            raise ValueError("the layer is grouped")
        bias = None if layer.bias is None else resized(layer.bias, (wanted,))
        weights = resized(layer.weights, (wanted, *layer.weights.shape[1:]))
        layers[member] = replace(layer, weights=weights, bias=bias)
    return reshaped(network, layers)


def _stride(network: Network, number: int, value: str) -> Network:
    return _with(network, number, replace(network.layers[number], stride=_sizes(value)))


def _padding(network: Network, number: int, value: str) -> Network:
    return _with(network, number, replace(network.layers[number], padding=_sizes(value)))


def _kernel_size(network: Network, number: int, value: str) -> Network:
    return _with(network, number, with_kernel(network.layers[number], _sizes(value)[0]))


def _dilation(network: Network, number: int, value: str) -> Network:
    """Less dilation needs less padding for the same map."""
    layer = network.layers[number]
    made = replace(layer, dilation=_sizes(value))
    padding = tuple(
        max(0, pad - (old - new) // 2) if old > new else pad
        for pad, old, new in zip(layer.padding, reach(layer), reach(made), strict=True)
    )
    return _with(network, number, replace(made, padding=(padding[0], padding[1])))


def _groups(network: Network, number: int, value: str) -> Network:
    """One group has zeros between what were groups."""
    layer = network.layers[number]
    features, channels = layer.weights.shape[:2]
    if int(value) != 1 or layer.groups < 1 or features % layer.groups:
        raise ValueError(f"{layer.groups} groups of {features} features")
    each = features // layer.groups
    shape = (features, channels * layer.groups, *layer.weights.shape[2:])
    if np.prod(shape, dtype=object) > MOST_WEIGHTS:
        raise ValueError(f"no weights of shape {shape}")
    weights = np.zeros(shape, np.float32)
    for group in range(layer.groups):
        rows = slice(group * each, (group + 1) * each)
        weights[rows, group * channels : (group + 1) * channels] = layer.weights[rows]
    return _with(network, number, replace(layer, weights=weights, groups=1))


def _bias(network: Network, number: int, value: str) -> Network:
    if value != OFF:
        raise ValueError(f"bias {value}")
    return _with(network, number, replace(network.layers[number], bias=None))


def _pooling_after(network: Network, number: int, value: str) -> Network:
    """Links that pool get this one; if none pools, all of them."""
    links = [link for _, link in network.targets(number)]
    is_exit = number == len(network.layers) - 1
    pools = any(link.poolings for link in links) or is_exit

    def pooled_by(poolings: tuple[Pooling, ...]) -> tuple[Pooling, ...]:
        return _pooling(poolings, int(value)) if poolings or not pools else poolings

    if is_exit:
        network = replace(network, exit_poolings=pooled_by(network.exit_poolings))
    layers = {
        target: replace(
            network.layers[target],
            sources=tuple(
                replace(source, poolings=pooled_by(source.poolings))
                if source.layer == number
                else source
                for source in network.layers[target].sources
            ),
        )
        for target, _ in network.targets(number)
    }
    return reshaped(network, layers)


def _pooling_before(network: Network, number: int, value: str) -> Network:
    layer = network.layers[number]
    if any(source.layer == INPUT for source in layer.sources):
        raise ValueError("the network's input is not pooled on the way to a core")
    sources = tuple(
        replace(source, poolings=_pooling(source.poolings, int(value))) for source in layer.sources
    )
    return _with(network, number, replace(layer, sources=sources))


def _pooling(old: tuple[Pooling, ...], size: int) -> tuple[Pooling, ...]:
    """One pooling instead of a chain, an average if one of them is."""
    if size == 1:
        return ()
    kinds = {pool.kind for pool in old}
    kind = "average" if "average" in kinds else "sum"
    name = old[0].name if old else "pooling"
    return (Pooling(name=name, kind=kind, kernel_size=(size, size), stride=(size, size)),)


def _input_size(network: Network, settings: Settings, value: str) -> tuple[Network, Settings]:
    size = _sizes(value)
    layers = {
        number: with_input_map(network.layers[number], size)
        for number, source in network.targets(INPUT)
        if not source.poolings
    }
    shape = (network.input_shape[0], *size)
    return reshaped(replace(network, input_shape=shape), layers), settings


def _input_pooling(network: Network, settings: Settings, value: str) -> tuple[Network, Settings]:
    pooling = _sizes(value)
    height, width = seen_pixels(network, settings)
    if network.input_shape[0] != (2 if settings.polarity == "keep" else 1):
        raise ValueError(f"the camera does not give {network.input_shape[0]} features")
    if settings.swap_xy and height != width:
        raise ValueError("nobody knows which side of a swapped map is which")
    pooled_size = f"{height // pooling[0]}x{width // pooling[1]}"
    made, _ = _input_size(network, settings, pooled_size)
    crop = camera_crop(network, settings, pooling)
    return made, replace(settings, input_pooling=pooling, crop=crop)


def _core(settings: Settings, change: Change) -> Settings:
    return with_key(settings, f"cores.{change.layer}", change.value)


def _cores(settings: Settings, change: Change) -> Settings:
    if change.value != OFF:
        raise ValueError(f"cores {change.value}")
    return replace(settings, cores={})


def _setting(settings: Settings, change: Change) -> Settings:
    """Drop what a setting says about one layer: "monitor.9" or "cores.9"."""
    key, _, layer = change.value.partition(".")
    if key == "monitor":
        kept = tuple(each for each in settings.monitor if each != int(layer))
        return replace(settings, monitor=kept)
    attribute = "layer_reset" if key == "reset" else key
    values: dict[str, Mapping[int, str | int]] = {
        "layer_reset": settings.layer_reset, "decimator": settings.decimator,
        "cores": settings.cores,
    }  # fmt: skip
    left = {each: value for each, value in values[attribute].items() if each != int(layer)}
    return replace(settings, **{attribute: left})  # type: ignore[arg-type]


def _copies(network: Network, change: Change) -> tuple[Network, list[int]]:
    return copied(network, _layer_of(change), int(change.value))


def _split(network: Network, change: Change) -> tuple[Network, list[int]]:
    return split(network, _layer_of(change), int(change.value))


def _dropped(network: Network, change: Change) -> tuple[Network, list[int]]:
    return dropped(network, [int(layer) for layer in change.value.split(",")])


def _layer_of(change: Change) -> int:
    if change.layer is None:
        raise ValueError(f"{change.what} of no layer")
    return change.layer


def _with(network: Network, number: int, layer: Layer) -> Network:
    return reshaped(network, {number: layer})


def _sizes(value: str) -> tuple[int, int]:
    first, second = value.split("x")
    return int(first), int(second)


_LAYER_STEPS: Mapping[str, Callable[[Network, int, str], Network]] = {
    "features": _features,
    "stride": _stride,
    "padding": _padding,
    "kernel_size": _kernel_size,
    "dilation": _dilation,
    "groups": _groups,
    "bias": _bias,
    "pooling_after": _pooling_after,
    "pooling_before": _pooling_before,
}
_INPUT_STEPS: Mapping[str, Callable[[Network, Settings, str], tuple[Network, Settings]]] = {
    "input_size": _input_size,
    "input_pooling": _input_pooling,
}
_SETTING_STEPS: Mapping[str, Callable[[Settings, Change], Settings]] = {
    "core": _core,
    "cores": _cores,
    "setting": _setting,
}
_GRAPH_STEPS: Mapping[str, Callable[[Network, Change], tuple[Network, list[int]]]] = {
    "layer_copies": _copies,
    "layer_split": _split,
    "layers_dropped": _dropped,
}
# Every `what` of a change.
WHATS = (*_LAYER_STEPS, *_INPUT_STEPS, *_SETTING_STEPS, *_GRAPH_STEPS)
