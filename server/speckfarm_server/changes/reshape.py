"""A network some layers of which changed: every map, weight and link that follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speckfarm_server.chip import output_size
from speckfarm_server.network import INPUT, FloatArray, Layer, Network, Pooling, Source

# A core holds 64 Ki weights; sixteen times that is more than any advice asks for.
MOST_WEIGHTS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A kernel of another size in the place of the old one, along one axis."""

    before: int  # zeros before the first old weight; below 0: weights cut off
    padding: int
    stride: int


def reshaped(network: Network, layers: Mapping[int, Layer]) -> Network:
    """The network with these layers in place of its own.

    Sizes follow from layer to layer where something before them changed and are left as declared
    elsewhere. A feature's weights are kept or cut off; a new one's are 0. ValueError if that is
    impossible, or would take more than `MOST_WEIGHTS` new weights.
    """
    made: list[Layer] = []
    for number, old in enumerate(network.layers):
        layer = layers.get(number, old)
        channelled = _with_channels(layer, network, made)
        followed = _with_map(channelled, old, network, made)
        is_same = followed is old
        made.append(followed if is_same else _with_output(followed))
    return replace(network, layers=tuple(made))


def resized(weights: FloatArray, shape: Sequence[int], offsets: Sequence[int] = ()) -> FloatArray:
    """Weights of another shape: old ones moved by `offsets`, cut off where they do not fit.

    ValueError if the array grows beyond `MOST_WEIGHTS` or a size is below 1.
    """
    offsets = tuple(offsets) or (0,) * len(shape)
    if tuple(shape) == weights.shape and not any(offsets):
        return weights
    if min(shape) < 1 or math.prod(shape) > max(weights.size, MOST_WEIGHTS):
        raise ValueError(f"no weights of shape {tuple(shape)}")
    made = np.zeros(tuple(shape), np.float32)
    taken, given = [], []
    for old, new, offset in zip(weights.shape, shape, offsets, strict=True):
        first, stop = max(0, offset), min(new, old + offset)
        given.append(slice(first, max(first, stop)))
        taken.append(slice(first - offset, max(first, stop) - offset))
    made[tuple(given)] = weights[tuple(taken)]
    return made


def pooled(size: tuple[int, int], poolings: Iterable[Pooling]) -> tuple[int, int]:
    """A map (h, w) after poolings; ValueError if one has a stride below 1."""
    height, width = size
    for pool in poolings:
        if min(pool.stride) < 1:
            raise ValueError(f"pooling with stride {pool.stride}")
        height, width = (
            (side + 2 * pad - kernel) // step + 1
            for side, kernel, step, pad in zip(
                (height, width), pool.kernel_size, pool.stride, pool.padding, strict=True
            )
        )
    return height, width


def reach(layer: Layer) -> tuple[int, int]:
    """Pixels (y, x) a kernel spans, zeros of its dilation included."""
    height, width = ((k - 1) * d + 1 for k, d in zip(_kernel(layer), layer.dilation, strict=True))
    return height, width


def fit_axis(layer: Layer, axis: int, side: int) -> Fit:
    """Where to put a kernel of `side` along an axis so that it reads the same pixels, if it can.

    The output keeps its size if the padding or the stride can absorb the difference.
    """
    old, size = reach(layer)[axis], int(layer.input_shape[1 + axis])
    pad, step = int(layer.padding[axis]), int(layer.stride[axis])
    added = side - old
    if added <= 0:
        cut = min(-added // 2, pad) if pad >= 0 else 0
        return Fit(before=-(-added // 2), padding=max(0, pad - cut), stride=step)
    if layer.is_linear:  # one output pixel; at an odd difference stride 2 steps over the second
        before = (added + 1) // 2
        return Fit(before=before, padding=before, stride=1 + added % 2)
    if step < 1:
        raise ValueError(f"stride {step}")
    wanted = output_size(size, old, step, pad)
    even = added // 2
    for before in (even, even + added % 2):
        if output_size(size, side, step, pad + before) == wanted:
            return Fit(before=before, padding=pad + before, stride=step)
    return Fit(before=even, padding=pad + even, stride=step)


def with_kernel(layer: Layer, side: int) -> Layer:
    """A square kernel without dilation; more weights are zeros, fewer are the middle ones."""
    fits = fit_axis(layer, 0, side), fit_axis(layer, 1, side)
    return replace(
        layer,
        weights=resized(
            _undilated(layer, side),
            (*layer.weights.shape[:2], side, side),
            (0, 0, fits[0].before, fits[1].before),
        ),
        stride=(fits[0].stride, fits[1].stride),
        padding=(fits[0].padding, fits[1].padding),
        dilation=(1, 1),
        is_linear=False,
    )


def merged_with(network: Network, layer: int) -> frozenset[int]:
    """Layers whose outputs are added to this one's, itself included; ValueError if the input is."""
    group, fresh = {layer}, {layer}
    while fresh:
        added = {
            other.layer
            for target in network.layers
            for mine in target.sources
            for other in target.sources
            if mine.layer in fresh and other.feature_shift == mine.feature_shift
        }
        fresh = added - group
        group |= added
    if INPUT in group:
        raise ValueError("the network's input is added to it")
    return frozenset(group)


def _undilated(layer: Layer, side: int) -> FloatArray:
    spans = reach(layer)
    if layer.dilation == (1, 1):
        return layer.weights
    if min(layer.dilation) < 1 or max(spans) > max(side, *_kernel(layer)):
        raise ValueError(f"dilation {layer.dilation}")
    shape = (*layer.weights.shape[:2], *spans)
    if math.prod(shape) > MOST_WEIGHTS:
        raise ValueError(f"no weights of shape {shape}")
    made = np.zeros(shape, np.float32)
    made[:, :, :: layer.dilation[0], :: layer.dilation[1]] = layer.weights
    return made


def _kernel(layer: Layer) -> tuple[int, int]:
    return int(layer.weights.shape[2]), int(layer.weights.shape[3])


def _with_channels(layer: Layer, network: Network, made: Sequence[Layer]) -> Layer:
    """Input features follow those of the sources; other sources move up or down."""
    differences = {
        source.feature_shift: (_features(source, network.layers), _features(source, made))
        for source in layer.sources
        if source.layer != INPUT and _features(source, network.layers) != _features(source, made)
    }
    for shift in sorted(differences, reverse=True):
        layer = _with_range(layer, shift, *differences[shift])
    return layer


def _with_range(layer: Layer, shift: int, old: int, new: int) -> Layer:
    if layer.groups != 1:
        raise ValueError("a grouped layer follows")
    kept = layer.weights[:, : shift + min(old, new)]
    missing = (layer.weights.shape[0], max(0, new - old), *layer.weights.shape[2:])
    if math.prod(missing) > MOST_WEIGHTS:
        raise ValueError(f"{missing} new weights")
    parts = (kept, np.zeros(missing, np.float32), layer.weights[:, shift + old :])
    features, height, width = layer.input_shape
    sources = tuple(
        replace(source, feature_shift=source.feature_shift + new - old)
        if source.feature_shift > shift
        else source
        for source in layer.sources
    )
    return replace(
        layer,
        weights=np.concatenate(parts, axis=1),
        input_shape=(features + new - old, height, width),
        sources=sources,
    )


def _with_map(layer: Layer, old: Layer, network: Network, made: Sequence[Layer]) -> Layer:
    """The input map follows the sources where they or the poolings on the way changed."""
    for before, after in zip(old.sources, layer.sources, strict=True):
        if before.layer == INPUT:
            continue  # whoever changes the network's input changes what reads it
        if _arriving(before, network.layers) != _arriving(after, made):
            layer = with_input_map(layer, _arriving(after, made))
    return layer


def with_input_map(layer: Layer, size: tuple[int, int]) -> Layer:
    """The layer on another input map (h, w); a linear one's kernel follows."""
    weights = layer.weights
    if layer.is_linear:
        weights = resized(weights, (*weights.shape[:2], *size))
    shape = (layer.input_shape[0], *size)
    return replace(layer, input_shape=shape, weights=weights)


def _with_output(layer: Layer) -> Layer:
    if min(layer.stride) < 1:
        return layer  # STRIDE_UNSUPPORTED says it
    sides = [
        output_size(int(size), span, int(step), int(pad))
        for size, span, step, pad in zip(
            layer.input_shape[1:], reach(layer), layer.stride, layer.padding, strict=True
        )
    ]
    return replace(layer, output_shape=(int(layer.weights.shape[0]), sides[0], sides[1]))


def _features(source: Source, layers: Sequence[Layer]) -> int:
    return int(layers[_known(source, layers)].output_shape[0])


def _arriving(source: Source, layers: Sequence[Layer]) -> tuple[int, int]:
    _, height, width = layers[_known(source, layers)].output_shape
    return pooled((int(height), int(width)), source.poolings)


def _known(source: Source, layers: Sequence[Layer]) -> int:
    """Layers are in topological order, but for hostile files."""
    if not 0 <= source.layer < len(layers):
        raise ValueError(f"layer {source.layer} feeds an earlier one")
    return source.layer
