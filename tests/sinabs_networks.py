"""Networks in a neutral form, drawn at random: sinabs modules and our networks are made of both.

A weight is an integer below 2^23 times a power of 2, drawn from numpy's frozen `RandomState`: the
same float32 on every machine and in every release, so a seed stands for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.chip import output_size
from speckfarm_server.network import INPUT, Layer, Network, Pooling, Source

FloatArray: TypeAlias = NDArray[np.float32]
Pools: TypeAlias = tuple[tuple[str, int], ...]  # ("sum" or "average", size), in order
Shape: TypeAlias = tuple[int, int, int]
NO_CLIP = -32768.0  # what sinabs puts in the place of min_v_mem = None


@dataclass(frozen=True, kw_only=True)
class Link:
    """One input of a layer."""

    layer: int = INPUT
    pools: Pools = ()

    @property
    def factor(self) -> int:
        return int(np.prod([size for _, size in self.pools], dtype=int))


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """A layer; `kernel` None is linear. Values are drawn from the network's seed."""

    features: int
    kernel: int | None
    links: tuple[Link, ...]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    weights: str = "any"  # any, negative, positive, zero
    weight_power: int = -24  # weights are integers below 2^23 times 2^this
    bias: str | None = None  # any, one, zero; None: no bias
    bias_power: int = -24
    threshold: float = 1.0
    low: float | None = -1.0  # min_v_mem
    threshold_bits: int = 32


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """Layers in topological order; the last one is the only exit."""

    name: str
    seed: int
    input_shape: Shape
    layers: tuple[LayerPlan, ...]
    exit_pools: Pools = ()

    def shapes(self) -> list[tuple[Shape, Shape]]:
        """What arrives at each layer and what its neurons are, (c, h, w) and (f, h, w)."""
        found: list[tuple[Shape, Shape]] = []
        for layer in self.layers:
            link = layer.links[0]
            c, *sides = self.input_shape if link.layer == INPUT else found[link.layer][1]
            height, width = (side // link.factor for side in sides)
            leaving = (1, 1)
            if layer.kernel is not None:
                leaving = tuple(
                    output_size(side, layer.kernel, stride, padding)
                    for side, stride, padding in zip(
                        (height, width), layer.stride, layer.padding, strict=True
                    )
                )
            found.append(((c, height, width), (layer.features, *leaving)))
        return found

    def floats(self, number: int) -> tuple[FloatArray, FloatArray | None]:
        """Weights (f, c, ky, kx) and bias (f,) of a layer."""
        layer = self.layers[number]
        c, height, width = self.shapes()[number][0]
        kernel = (height, width) if layer.kernel is None else (layer.kernel, layer.kernel)
        random = np.random.RandomState([self.seed, number])
        weights = _draw(random, layer.weights, (layer.features, c, *kernel), layer.weight_power)
        if layer.bias is None:
            return weights, None
        return weights, _draw(random, layer.bias, (layer.features,), layer.bias_power)


def _draw(
    random: np.random.RandomState, kind: str, shape: tuple[int, ...], power: int
) -> FloatArray:
    whole = random.randint(-(2**21), 2**21, (3, *shape), np.int32).sum(0)
    if kind in {"negative", "positive"}:
        whole = np.abs(whole) * (1 if kind == "positive" else -1)
    if kind == "one":  # all but one are much smaller
        whole.flat[1:] //= 1 << 12
    if kind == "zero":
        whole = whole * 0
    return np.ldexp(whole.astype(np.float32), power).astype(np.float32)


def to_network(plan: NetworkPlan) -> Network:
    """The network as our parser would give it."""
    layers = []
    for number, (layer, (arriving, leaving)) in enumerate(
        zip(plan.layers, plan.shapes(), strict=True)
    ):
        weights, bias = plan.floats(number)
        low = NO_CLIP if layer.low is None else layer.low
        made = Layer(
            name=f"weights{number}",
            neuron_name=f"neurons{number}",
            weights=weights,
            bias=bias,
            sources=tuple(
                Source(layer=link.layer, poolings=_poolings(link.pools)) for link in layer.links
            ),
            stride=layer.stride,
            padding=layer.padding,
            is_linear=layer.kernel is None,
            threshold=layer.threshold,
            threshold_range=(layer.threshold, layer.threshold),
            threshold_bits=layer.threshold_bits,
            trained_lower_clip=low / layer.threshold,
            input_shape=arriving,
            output_shape=leaving,
        )
        layers.append(made)
    return Network(
        input_shape=plan.input_shape,
        layers=tuple(layers),
        exit_poolings=_poolings(plan.exit_pools),
    )


def _poolings(pools: Pools) -> tuple[Pooling, ...]:
    return tuple(
        Pooling(name=f"pool{number}", kind=kind, kernel_size=(size, size), stride=(size, size))
        for number, (kind, size) in enumerate(pools)
    )


def plan_of(plain: dict[str, Any]) -> NetworkPlan:
    """A plan from the JSON of its `asdict`."""
    layers = []
    for layer in plain["layers"]:
        links = tuple(
            Link(layer=way["layer"], pools=_pools(way["pools"])) for way in layer["links"]
        )
        sizes = {"stride": tuple(layer["stride"]), "padding": tuple(layer["padding"])}
        layers.append(LayerPlan(**{**layer, **sizes, "links": links}))
    return NetworkPlan(
        name=plain["name"],
        seed=plain["seed"],
        input_shape=tuple(plain["input_shape"]),
        layers=tuple(layers),
        exit_pools=_pools(plain["exit_pools"]),
    )


def _pools(plain: list[list[Any]]) -> Pools:
    return tuple((kind, size) for kind, size in plain)


def digest(integers: NDArray[Any]) -> dict[str, Any]:
    """An array of integers by its hash, with what helps to see how two differ."""
    whole = np.ascontiguousarray(integers, "<i2")
    return {
        "sha256": hashlib.sha256(whole.tobytes()).hexdigest(),
        "sum": int(whole.sum(dtype=np.int64)),
        "first": whole.ravel()[:16].tolist(),
    }
