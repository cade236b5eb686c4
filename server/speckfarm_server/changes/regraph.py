"""Layers added to a network or taken out of it, and the numbers of layers that follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from speckfarm.events import ECHO
from speckfarm_server.changes.reshape import MOST_WEIGHTS, reshaped
from speckfarm_server.network import INPUT, Layer, Network, Pooling, Source
from speckfarm_server.settings import Settings

_Value = TypeVar("_Value")


def copied(network: Network, layer: int, copies: int) -> tuple[Network, list[int]]:
    """`copies` equal layers in place of one share its targets; with each layer's old number."""
    links = [(target, source) for target, source in network.targets(layer)]
    each = -(-len(links) // copies)
    if layer == len(network.layers) - 1 or not 1 < copies <= len(links):
        raise ValueError(f"{copies} copies of a layer with {len(links)} targets")
    origins = _origins(network, layer, copies)
    numbers = iter(range(len(links)))

    def links_of(source: Source) -> tuple[Source, ...]:
        return (replace(source, layer=layer + next(numbers) // each),)

    parts = [network.layers[layer]] * copies
    return _spliced(network, layer, parts, links_of), origins


def split(network: Network, layer: int, parts: int) -> tuple[Network, list[int]]:
    """Layers that have some of the features each; with each layer's old number."""
    whole = network.layers[layer]
    features = int(whole.weights.shape[0])
    if layer == len(network.layers) - 1 or not 1 < parts <= features or whole.groups != 1:
        raise ValueError(f"layer {layer} in {parts} parts")
    most = -(-features // parts)
    starts = range(0, features, most)

    def links_of(source: Source) -> tuple[Source, ...]:
        return tuple(
            replace(source, layer=layer + part, feature_shift=source.feature_shift + start)
            for part, start in enumerate(starts)
        )

    made = [_part(whole, start, min(start + most, features)) for start in starts]
    return _spliced(network, layer, made, links_of), _origins(network, layer, len(made))


def dropped(network: Network, layers: Sequence[int]) -> tuple[Network, list[int]]:
    """The network without inner layers: what fed one feeds its targets; with the old numbers."""
    origins = list(range(len(network.layers)))
    for layer in sorted(set(layers), reverse=True):
        if not 0 <= layer < len(network.layers) - 1:
            raise ValueError(f"layer {layer} is not within")
        network = _without(reshaped(network, {layer: _identity(network.layers[layer])}), layer)
        del origins[layer]
    return network, origins


def renumbered(settings: Settings, origins: Sequence[int]) -> Settings:
    """Settings of layers go with them, to copies and parts too; pins and monitors to the first."""
    first = {origin: number for number, origin in reversed(list(enumerate(origins)))}
    heard = {**first, ECHO: ECHO}  # the echo of the input is of no layer
    return replace(
        settings,
        layer_reset=_to_all(settings.layer_reset, origins),
        decimator=_to_all(settings.decimator, origins),
        cores={first[layer]: core for layer, core in settings.cores.items() if layer in first},
        monitor=tuple(heard[layer] for layer in settings.monitor if layer in heard),
    )


def _to_all(values: Mapping[int, _Value], origins: Sequence[int]) -> dict[int, _Value]:
    return {number: values[origin] for number, origin in enumerate(origins) if origin in values}


def _origins(network: Network, layer: int, parts: int) -> list[int]:
    before, after = range(layer), range(layer + 1, len(network.layers))
    return [*before, *[layer] * parts, *after]


def _spliced(
    network: Network,
    layer: int,
    parts: Sequence[Layer],
    links_of: Callable[[Source], tuple[Source, ...]],
) -> Network:
    def moved(source: Source) -> tuple[Source, ...]:
        if source.layer == layer:
            return links_of(source)
        later = source.layer > layer
        return (replace(source, layer=source.layer + len(parts) - 1) if later else source,)

    after = [
        replace(target, sources=tuple(new for old in target.sources for new in moved(old)))
        for target in network.layers[layer + 1 :]
    ]
    named = [
        replace(part, name=f"{part.name}_{number}") if number else part
        for number, part in enumerate(parts)
    ]
    return replace(network, layers=(*network.layers[:layer], *named, *after))


def _part(whole: Layer, start: int, stop: int) -> Layer:
    return replace(
        whole,
        weights=whole.weights[start:stop],
        bias=None if whole.bias is None else whole.bias[start:stop],
        output_shape=(stop - start, *whole.output_shape[1:]),
    )


def _identity(layer: Layer) -> Layer:
    """A layer that would send on what it gets; its size is all that is asked for."""
    features = int(layer.input_shape[0])
    if not features > 0 or features * features > MOST_WEIGHTS:
        raise ValueError(f"{features} features")
    return replace(
        layer, weights=np.zeros((features, features, 1, 1), np.float32), bias=None, stride=(1, 1),
        padding=(0, 0), dilation=(1, 1), groups=1, is_linear=False,
    )  # fmt: skip


def _without(network: Network, layer: int) -> Network:
    gone = network.layers[layer].sources

    def moved(source: Source) -> tuple[Source, ...]:
        if source.layer == layer:
            return tuple(_joined(feeding, source) for feeding in gone)
        return (replace(source, layer=source.layer - (source.layer > layer)),)

    layers = tuple(
        replace(each, sources=tuple(new for old in each.sources for new in moved(old)))
        for number, each in enumerate(network.layers)
        if number != layer
    )
    return replace(network, layers=layers)


def _joined(feeding: Source, link: Source) -> Source:
    poolings: tuple[Pooling, ...] = (*feeding.poolings, *link.poolings)
    if feeding.layer == INPUT and poolings:
        raise ValueError("the network's input is not pooled on the way to a core")
    shift = feeding.feature_shift + link.feature_shift
    return replace(link, layer=feeding.layer, poolings=poolings, feature_shift=shift)
