"""What a NIR graph computes, node by node as NIR's equations say, and what a parsed network does.

Both step in float64: all events of a step at once, a spike travels through every layer in its step.
IF: v += r * input; fires at or above its threshold, which is then subtracted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.network import Network, Pooling

Map = NDArray[np.float64]
Edges = Sequence[tuple[str, str]]


def graph_spikes(nodes: Mapping[str, Any], edges: Edges, frames: Iterable[Map]) -> list[Map]:
    """What reaches the node "output" at each step; the order of `nodes` is one of execution."""
    states: dict[str, Map] = {}
    outputs = []
    for frame in frames:
        leaving = {"input": np.asarray(frame, np.float64)}
        for name, node in nodes.items():
            if name != "input":
                arriving = np.sum([leaving[a] for a, b in edges if b == name], axis=0)
                leaving[name] = _node(node, arriving, states, name)
        outputs.append(leaving["output"])
    return outputs


def network_spikes(network: Network, frames: Iterable[Map]) -> list[Map]:
    """What the exit layer fires at each step, pooled."""
    states: dict[str, Map] = {}
    outputs = []
    for frame in frames:
        leaving = {-1: np.asarray(frame, np.float64)}
        for number, layer in enumerate(network.layers):
            arriving = np.zeros(layer.input_shape)
            for source in layer.sources:
                sent = _pooled(leaving[source.layer], source.poolings)
                arriving[source.feature_shift : source.feature_shift + len(sent)] += sent
            current = convolve(arriving, layer.weights, layer.stride, layer.padding)
            if layer.bias is not None:
                current += layer.bias[:, None, None]
            current *= layer.r_range[0]
            leaving[number] = _fire(current, layer.threshold, states, layer.neuron_name)
        outputs.append(_pooled(leaving[len(network.layers) - 1], network.exit_poolings))
    return outputs


def convolve(
    arriving: Map, weights: NDArray[Any], stride: tuple[int, int], padding: tuple[int, int]
) -> Map:
    """Slide the weights over the map, (c, h, w) to (f, y, x)."""
    edges = [(0, 0), (padding[0], padding[0]), (padding[1], padding[1])]
    kernel = weights.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(arriving, edges), kernel, (1, 2))
    windows = windows[:, :: stride[0], :: stride[1]]
    made: Map = np.einsum("cyxij,fcij->fyx", windows, np.asarray(weights, np.float64))
    return made


def _node(node: Mapping[str, Any], arriving: Map, states: dict[str, Map], name: str) -> Map:
    kind = node["type"]
    if kind == "Conv2d":
        return _conv(node, arriving)
    if kind in ("Linear", "Affine"):
        made: Map = np.asarray(node["weight"], np.float64) @ arriving.ravel()
        return made + node.get("bias", 0)
    if kind == "IF":
        shape = [1] * (arriving.ndim - np.ndim(node["v_threshold"]))
        threshold = np.reshape(node["v_threshold"], [*shape, *np.shape(node["v_threshold"])])
        return _fire(arriving * node["r"], threshold, states, name)
    if kind == "Scale":
        return arriving * np.asarray(node["scale"])
    if kind == "Flatten":
        return arriving.ravel()
    if kind in ("SumPool2d", "AvgPool2d"):
        size = int(node["kernel_size"][0])
        return _sums(arriving, size) / (size * size if kind == "AvgPool2d" else 1)
    return arriving


def _conv(node: Mapping[str, Any], arriving: Map) -> Map:
    weights, groups = np.asarray(node["weight"]), int(node.get("groups", 1))
    stride, padding = (tuple(np.broadcast_to(node[key], 2).tolist()) for key in
                       ("stride", "padding"))  # fmt: skip
    parts = zip(np.split(arriving, groups), np.split(weights, groups), strict=True)
    made = np.concatenate([convolve(part, weight, stride, padding) for part, weight in parts])
    bias = node.get("bias")
    return made if bias is None else made + np.asarray(bias)[:, None, None]


def _fire(current: Map, threshold: Any, states: dict[str, Map], name: str) -> Map:
    state = states.get(name, np.zeros(current.shape)) + current
    spikes = (state >= threshold).astype(np.float64)
    states[name] = state - spikes * threshold
    return spikes


def _pooled(arriving: Map, poolings: Iterable[Pooling]) -> Map:
    for pool in poolings:
        area = pool.kernel_size[0] ** 2 if pool.kind == "average" else 1
        arriving = _sums(arriving, pool.kernel_size[0]) / area
    return arriving


def _sums(arriving: Map, size: int) -> Map:
    features, height, width = arriving.shape
    whole = arriving[:, : height // size * size, : width // size * size]
    made: Map = whole.reshape(features, height // size, size, width // size, size).sum((2, 4))
    return made
