"""Random networks that branch and merge, each with a NIR file that says the same.

drawn = data.draw(branching())      Drawn(network by layer name, file)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from speckfarm_server.network import FloatArray
from tests.nir_files import average_pool, conv, neurons, nir_bytes, sum_pool

Shape = tuple[int, int, int]
Route = tuple[str, tuple[tuple[str, int], ...]]  # source layer or "input", poolings (kind, size)
_POOLS = {"sum": sum_pool, "average": average_pool}
_NAMES = ("a", "b1", "b2", "b10", "conv", "x-9", "x-10")


@dataclass(frozen=True, kw_only=True, eq=False)
class Planned:
    """One layer as it should come out of the file."""

    weights: FloatArray
    input_shape: Shape
    output_shape: Shape
    routes: frozenset[Route]


@dataclass(kw_only=True)
class Drawn:
    """Layers by name, the last one the exit, and the nodes and edges of a file that has them."""

    layers: dict[str, Planned]
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def bytes(self, *, seed: int = 0) -> bytes:
        """The file; its edges are shuffled by `seed`."""
        order = np.random.default_rng(seed).permutation(len(self.edges))
        return nir_bytes(self.nodes, [self.edges[number] for number in order])


@st.composite
def branching(draw: st.DrawFn) -> Drawn:
    """One to seven 3x3 or 1x1 convolutions; each adds one to three sources of equal shape."""
    names = draw(st.permutations(_NAMES))[: draw(st.integers(1, len(_NAMES)))]
    shapes: dict[str, Shape] = {"input": (2, 8, 8)}
    layers: dict[str, Planned] = {}
    for name in names:
        layers[name] = _layer(draw, shapes, seed=len(layers))
        shapes[name] = layers[name].output_shape
    drawn = Drawn(layers=_leading_to(names[-1], layers))
    _write(draw, drawn)
    return drawn


def _layer(draw: st.DrawFn, shapes: dict[str, Shape], *, seed: int) -> Planned:
    first = _route(draw, draw(st.sampled_from(sorted(shapes))), shapes)
    arriving = _pooled(shapes[first[0]], first)
    routes = {first[0]: first}
    for source in draw(st.sets(st.sampled_from(sorted(shapes)), max_size=2)):
        route = _route(draw, source, shapes)
        if _pooled(shapes[source], route) == arriving:
            routes[source] = route
    routes[first[0]] = first
    kernel, features = draw(st.sampled_from([1, 3])), draw(st.integers(1, 2))
    weights = np.random.default_rng(seed).normal(size=(features, arriving[0], kernel, kernel))
    return Planned(
        weights=weights.astype(np.float32),
        input_shape=arriving,
        output_shape=(features, *arriving[1:]),
        routes=frozenset(routes.values()),
    )


def _route(draw: st.DrawFn, source: str, shapes: dict[str, Shape]) -> Route:
    """No pooling before the first layer: that is no network for a Speck."""
    most = 0 if source == "input" else min(2, int(np.log2(shapes[source][1])))
    kinds = draw(st.lists(st.sampled_from(sorted(_POOLS)), max_size=most))
    return source, tuple((kind, 2) for kind in kinds)


def _pooled(shape: Shape, route: Route) -> Shape:
    factor = int(np.prod([size for _, size in route[1]], initial=1))
    return shape[0], shape[1] // factor, shape[2] // factor


def _leading_to(exit_name: str, layers: dict[str, Planned]) -> dict[str, Planned]:
    kept, waiting = {exit_name}, [exit_name]
    while waiting:
        fresh = {source for source, _ in layers[waiting.pop()].routes} - kept - {"input"}
        kept |= fresh
        waiting += fresh
    return {name: layer for name, layer in layers.items() if name in kept}


def _write(draw: st.DrawFn, drawn: Drawn) -> None:
    """Pooling nodes of one source are shared or not; equal poolings may stand behind the sum."""
    drawn.nodes = {"input": {"type": "Input", "shape": np.array([2, 8, 8])}}
    for name, layer in drawn.layers.items():
        drawn.nodes[name] = conv(layer.weights, bias=None, padding=layer.weights.shape[2] // 2)
        drawn.nodes[f"{name} if"] = neurons()
        drawn.edges.append((name, f"{name} if"))
        poolings = {poolings for _, poolings in layer.routes}
        if len(poolings) == 1 and draw(st.booleans()):
            starts = [_start(source) for source, _ in layer.routes]
            _chain(drawn, starts, poolings.pop(), name, prefix=f"{name} in")
        else:
            for source, pools in layer.routes:
                prefix = _start(source) if draw(st.booleans()) else f"{source} to {name}"
                _chain(drawn, [_start(source)], pools, name, prefix=prefix)
    drawn.nodes["output"] = {"type": "Output"}
    drawn.edges.append((_start(list(drawn.layers)[-1]), "output"))


def _start(source: str) -> str:
    return source if source == "input" else f"{source} if"


def _chain(
    drawn: Drawn,
    starts: list[str],
    poolings: tuple[tuple[str, int], ...],
    target: str,
    *,
    prefix: str,
) -> None:
    for kind, size in poolings:
        prefix = f"{prefix} {kind}"
        drawn.nodes[prefix] = _POOLS[kind](size)
        drawn.edges += [(start, prefix) for start in starts]
        starts = [prefix]
    drawn.edges += [(start, target) for start in starts]
