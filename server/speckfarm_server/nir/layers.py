"""Checked nodes and their ways become the layers of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import INPUT, Layer, Network, Source
from speckfarm_server.nir.file import NirNode
from speckfarm_server.nir.graph import Road, listed, problem
from speckfarm_server.nir.order import NEURONS, WEIGHTS, number_layers, role_of
from speckfarm_server.nir.parts import DoubleArray, Neurons, Part, Shape, Weights, per_feature
from speckfarm_server.nir.shapes import Map
from speckfarm_server.nir.stack import Convolution, Stacked, stack
from speckfarm_server.nir.ways import Way


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """A whole graph and everything found out about its nodes, each by name."""

    road: Road
    parts: Mapping[str, Part | None]
    arriving: Mapping[str, Map | None]
    leaving: Mapping[str, Map | None]
    ways: Mapping[str, tuple[Way, ...]]


def check_exit(known: Known) -> list[Finding]:
    """Output hears one layer; GRAPH_MERGE or, for a Scale before it, UNSUPPORTED_NODE."""
    output = known.road.nodes[-1]
    ways = known.ways[output.name]
    roles = {node.name: role_of(node) for node in known.road.nodes}
    if len(ways) > 1:
        names = sorted(way.source for way in ways)
        text = (
            f"Node {output.name!r} (Output) adds what comes from {listed(names)}; the farm reads "
            "out one layer: add them in one more layer, or leave one"
        )
        return [problem("GRAPH_MERGE", text, node=output.name, found=len(names), allowed=1)]
    return [
        problem(
            "UNSUPPORTED_NODE",
            f"Node {way.scale!r} (Scale) scales the network's output; spikes have no size: remove "
            "it, or count with it what comes back",
            node=way.scale,
            kind="Scale",
        )
        for way in ways
        if way.factors is not None and roles[way.source] == NEURONS and (way.factors != 1).any()
    ]


def build_network(known: Known, faulty: set[str]) -> tuple[Network | None, list[Finding]]:
    """Make a layer of each neuron node; None if one cannot be made.

    `faulty` nodes and the layers they belong to are left out. Findings: GRAPH_MERGE, the remarks
    THRESHOLDS_FOLDED and SOURCES_STACKED.
    """
    numbers = number_layers(known.road)
    layers: dict[int, Layer] = {}
    findings: list[Finding] = []
    for node in known.road.nodes:
        if role_of(node) != NEURONS:
            continue
        layer, found = _layer(node, known, numbers, faulty)
        findings += found
        if layer is not None:
            layers[numbers[node.name]] = layer
    wanted = {numbers[node.name] for node in known.road.nodes if role_of(node) == WEIGHTS}
    first, last = known.road.nodes[0], known.road.nodes[-1]
    start, exits = known.leaving[first.name], known.ways[last.name]
    if faulty or set(layers) != wanted or start is None or len(exits) != 1:
        return None, findings
    network = Network(
        input_shape=start.shape,
        layers=tuple(layers[number] for number in sorted(layers)),
        exit_poolings=exits[0].poolings,
    )
    return network, findings


def _layer(
    node: NirNode, known: Known, numbers: Mapping[str, int], faulty: set[str]
) -> tuple[Layer | None, list[Finding]]:
    part, arriving = known.parts[node.name], known.arriving[node.name]
    convolutions = [_convolution(way, known, faulty) for way in known.ways[node.name]]
    whole = [each for each in convolutions if each is not None]
    if not isinstance(part, Neurons) or arriving is None or not whole or node.name in faulty:
        return None, []
    if len(whole) != len(convolutions):
        return None, []
    stacked = stack(node.name, whole, numbers)
    if isinstance(stacked, Finding):
        return None, [stacked]
    is_plain = len(whole) == 1 and not any(shift for _, shift in stacked.shifts)
    joined = [] if is_plain else [_joined(node, whole, stacked)]
    sources = tuple(
        Source(layer=numbers.get(way.source, INPUT), poolings=way.poolings, feature_shift=shift)
        for way, shift in sorted(
            stacked.shifts, key=lambda found: (numbers.get(found[0].source, INPUT), found[1])
        )
    )
    layer = _plain_layer(whole, stacked, sources)
    layer, folded = _with_neurons(layer, node, part)
    return layer, [*joined, *folded]


def _convolution(way: Way, known: Known, faulty: set[str]) -> Convolution | None:
    part = known.parts[way.source]
    arriving, leaving = known.arriving.get(way.source), known.leaving.get(way.source)
    if not isinstance(part, Weights) or arriving is None or leaving is None or way.source in faulty:
        return None
    is_linear = part.is_linear
    if is_linear:  # inputs of a flat map are (c, h, w) in C order
        weights = part.weights.reshape(len(part.weights), *arriving.shape)
        part = replace(part, weights=weights)
    return Convolution(
        name=way.source,
        part=part,
        is_linear=is_linear,
        arriving=arriving,
        leaving=leaving,
        ways=known.ways[way.source],
        factors=way.factors,
    )


def _plain_layer(
    convolutions: Sequence[Convolution], stacked: Stacked, sources: tuple[Source, ...]
) -> Layer:
    first, part = convolutions[0], stacked.part
    return Layer(
        name=" + ".join(each.name for each in convolutions),
        neuron_name="",
        weights=part.weights,
        bias=part.bias,
        sources=sources,
        stride=part.stride,
        padding=part.padding,
        dilation=part.dilation,
        groups=part.groups,
        is_linear=first.is_linear,
        input_shape=(stacked.channels, *first.arriving.shape[1:]),
        output_shape=first.leaving.shape,
    )


def _with_neurons(layer: Layer, node: NirNode, part: Neurons) -> tuple[Layer, list[Finding]]:
    """Neurons with one threshold and one r per feature are given equal ones by their weights."""
    layer = replace(
        layer,
        neuron_name=node.name,
        threshold=float(part.thresholds.flat[0]),
        threshold_range=_range(part.thresholds),
        threshold_bits=part.threshold_bits,
        r_range=_range(part.r),
        trained_reset=part.reset,
        trained_lower_clip=part.lower_clip,
    )
    factors = _factors(part, layer.output_shape)
    if factors is None:
        return layer, []
    with np.errstate(over="ignore"):
        weights = (layer.weights * factors[:, None, None, None]).astype(np.float32)
        bias = None if layer.bias is None else (layer.bias * factors).astype(np.float32)
    if not (np.isfinite(weights).all() and (bias is None or np.isfinite(bias).all())):
        return layer, []
    threshold, r = layer.threshold_range[1], layer.r_range[1]
    folded = replace(
        layer,
        weights=weights,
        bias=bias,
        threshold=threshold,
        threshold_range=(threshold, threshold),
        r_range=(r, r),
    )
    return folded, [_folded(node, layer)]


def _factors(part: Neurons, shape: Shape) -> DoubleArray | None:
    """What weights of each feature are multiplied by to share the largest threshold and r.

    v < threshold is v * a < threshold * a for any a > 0, and resets and clips scale too. None if
    all are equal, or if they differ within a feature or are not above 0.
    """
    if part.thresholds.min() == part.thresholds.max() and part.r.min() == part.r.max():
        return None
    thresholds, r = per_feature(part.thresholds, shape), per_feature(part.r, shape)
    if thresholds is None or r is None or thresholds.min() <= 0 or r.min() <= 0:
        return None
    with np.errstate(over="ignore"):
        factors: DoubleArray = (thresholds.max() / thresholds) * (r / r.max())
    return factors


def _range(values: DoubleArray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _folded(node: NirNode, layer: Layer) -> Finding:
    low, high = layer.threshold_range
    r_low, r_high = layer.r_range
    of_r = f" and r from {r_low:g} to {r_high:g}" if r_low != r_high else ""
    return Finding(
        reason="THRESHOLDS_FOLDED",
        severity=Severity.INFO,
        message=f"Node {node.name!r} ({node.kind}) has thresholds from {low:g} to {high:g}{of_r}, "
        f"equal within each feature; a core has one threshold, so it gets {high:g} and the weights "
        "of each feature are scaled to match: the same spikes, but for rounding",
        metadata={
            "node": node.name,
            "kind": node.kind,
            "smallest": str(low),
            "largest": str(high),
            "smallest_r": str(r_low),
            "largest_r": str(r_high),
        },
    )


def _joined(node: NirNode, convolutions: Sequence[Convolution], stacked: Stacked) -> Finding:
    names = [each.name for each in convolutions]
    places = ", ".join(f"{way.source!r} from feature {shift} on" for way, shift in stacked.shifts)
    return Finding(
        reason="SOURCES_STACKED",
        severity=Severity.INFO,
        message=f"Node {node.name!r} ({node.kind}) adds inputs with different weights "
        f"({listed(names)}): they run as one layer over {stacked.channels} input features, with "
        f"the events of {places}",
        metadata={
            "node": node.name,
            "kind": node.kind,
            "features": str(stacked.channels),
            "sources": places,
        },
    )
