"""Weight nodes that feed the same neurons become one convolution over inputs side by side.

NIR adds what arrives at a node, so W1 x1 + W2 x2 is one convolution with the weights [W1 W2] over
the features of x1 and, behind them, of x2: what other tools call concatenation, and what a core
does with a feature shift. A source that several weight nodes see gets the sum of their weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speckfarm_server.errors import Finding
from speckfarm_server.network import Pooling
from speckfarm_server.nir.graph import listed, problem
from speckfarm_server.nir.parts import DoubleArray, Weights
from speckfarm_server.nir.shapes import Map
from speckfarm_server.nir.ways import Way
from speckfarm_server.nir.weight_nodes import MAX_DENSE


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution:
    """A weight node, what arrives at it by which ways, and the Scale behind it."""

    name: str
    part: Weights  # (f, c, ky, kx), linear ones too
    is_linear: bool
    arriving: Map
    leaving: Map
    ways: tuple[Way, ...]
    factors: DoubleArray | None  # (f,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stacked:
    """One convolution and the first feature at which each source arrives."""

    part: Weights
    channels: int
    shifts: tuple[tuple[Way, int], ...]


def stack(
    neurons: str, convolutions: Sequence[Convolution], numbers: Mapping[str, int]
) -> Stacked | Finding:
    """Make one convolution of those that feed `neurons`; `numbers` orders the sources.

    A finding GRAPH_MERGE if there is none that computes the same.
    """
    first = convolutions[0]
    groups = _groups(convolutions, numbers)
    plain = len(groups) == len(convolutions) == 1 and _is_unscaled(first)
    if plain:
        shifts = tuple((way, 0) for way in first.ways)
        return Stacked(part=first.part, channels=first.arriving.shape[0], shifts=shifts)
    wrong = _mismatch(convolutions)
    if wrong is None:
        window = _window(convolutions)
        channels = sum(members[0][0].arriving.shape[0] for members, _ in groups)
        size = first.leaving.shape[0] * channels * window.kernel[0] * window.kernel[1]
        if size > MAX_DENSE:
            wrong = f"which would take {size:,} weights in one; at most {MAX_DENSE:,} are made"
    if wrong is not None:
        names = [each.name for each in convolutions]
        text = (
            f"Node {neurons!r} adds the outputs of {listed(names)}, {wrong}. A core has one window "
            "for all its inputs: use the same kernel, stride and padding, or put IF behind each"
        )
        return problem("GRAPH_MERGE", text, node=neurons, found=len(names), allowed=1)
    return _joined(convolutions, groups, window)


@dataclass(frozen=True, kw_only=True)
class _Window:
    kernel: tuple[int, int]
    padding: tuple[int, int]


# Convolutions that see the same sources with the same factors, and these ways.
_Member = tuple[Convolution, "DoubleArray | None"]
_Group = tuple[list[_Member], list[Way]]


def _groups(convolutions: Sequence[Convolution], numbers: Mapping[str, int]) -> list[_Group]:
    """Sources that get the same weights share features; the first source comes first."""
    members: dict[str, list[_Member]] = {}
    ways: dict[str, Way] = {}
    for convolution in convolutions:
        for way in convolution.ways:
            members.setdefault(way.source, []).append((convolution, way.factors))
            ways.setdefault(way.source, way)
    groups: dict[object, _Group] = {}
    for source in sorted(ways, key=lambda name: numbers.get(name, -1)):
        key = tuple(
            (each.name, None if factors is None else factors.tobytes())
            for each, factors in members[source]
        )
        groups.setdefault(key, (members[source], []))[1].append(ways[source])
    return list(groups.values())


def _is_unscaled(convolution: Convolution) -> bool:
    return convolution.factors is None and all(way.factors is None for way in convolution.ways)


def _mismatch(convolutions: Sequence[Convolution]) -> str | None:
    """Why these are not one convolution, as the end of a sentence."""
    pooled: dict[str, list[Pooling]] = {}
    for way in (way for each in convolutions for way in each.ways):
        poolings = [replace(pool, name="") for pool in way.poolings]
        if pooled.setdefault(way.source, poolings) != poolings:
            return f"which see {way.source!r} through different poolings"
    parts = [each.part for each in convolutions]
    if any(part.groups != 1 for part in parts):
        return "with groups"
    if len({(part.stride, each.arriving.shape[1:], each.is_linear)
            for part, each in zip(parts, convolutions, strict=True)}) > 1:  # fmt: skip
        return "whose strides or input sizes differ"
    windows = {(part.weights.shape[2:], part.padding, part.dilation) for part in parts}
    if len(windows) > 1 and any(part.dilation != (1, 1) for part in parts):
        return "whose dilations differ"
    return None


def _window(convolutions: Sequence[Convolution]) -> _Window:
    """The smallest window that holds those of all; a smaller one has zeros around it.

    Its map is as large as theirs if theirs are equal: not smaller than that of the kernel that
    reaches farthest, not larger than that of the largest padding.
    """
    parts = [each.part for each in convolutions]
    rows, columns = (max(part.padding[axis] for part in parts) for axis in (0, 1))
    height = max(part.weights.shape[2] + rows - part.padding[0] for part in parts)
    width = max(part.weights.shape[3] + columns - part.padding[1] for part in parts)
    return _Window(kernel=(height, width), padding=(rows, columns))


def _joined(
    convolutions: Sequence[Convolution], groups: Sequence[_Group], window: _Window
) -> Stacked:
    first = convolutions[0]
    weights, shifts, channels = [], [], 0
    for members, ways in groups:
        weights.append(np.sum([_weights_of(*member, window) for member in members], axis=0))
        shifts += [(way, channels) for way in ways]
        channels += members[0][0].arriving.shape[0]
    biases = [
        each.part.bias * (1.0 if each.factors is None else each.factors)
        for each in convolutions
        if each.part.bias is not None
    ]
    part = replace(
        first.part,
        weights=np.concatenate(weights, axis=1).astype(np.float32),
        bias=np.sum(biases, axis=0).astype(np.float32) if biases else None,
        padding=window.padding,
    )
    return Stacked(part=part, channels=channels, shifts=tuple(shifts))


def _weights_of(
    convolution: Convolution, factors: DoubleArray | None, window: _Window
) -> DoubleArray:
    """In the common window, with the factors of what comes in and goes out."""
    part = convolution.part
    weights = np.asarray(part.weights, np.float64)
    if factors is not None:
        weights = weights * factors[None, :, None, None]
    if convolution.factors is not None:
        weights = weights * convolution.factors[:, None, None, None]
    height, width = weights.shape[2:]
    top, left = (window.padding[axis] - part.padding[axis] for axis in (0, 1))
    bottom, right = window.kernel[0] - height - top, window.kernel[1] - width - left
    return np.pad(weights, ((0, 0), (0, 0), (top, bottom), (left, right)))
