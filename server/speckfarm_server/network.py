"""The network: what a model file says, still in floating point, as the layers that cores run.

A layer is a weight node and its IF neurons. Layers are in topological order; each names what feeds
it, with the pooling on the way. Nothing of the file is lost: what a chip has no field for (two
kernel sizes, dilation, groups) is kept, so that the check can name it.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
INPUT = -1  # the number of the network's input among the sources of a layer


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """One pooling node. Average pooling is sum pooling whose next weights are scaled."""

    name: str
    kind: str  # "sum" or "average"
    kernel_size: tuple[int, int]  # y, x
    stride: tuple[int, int]  # y, x
    padding: tuple[int, int] = (0, 0)  # y, x


@dataclass(frozen=True, kw_only=True)
class Source:
    """What feeds a layer. Sources of equal features are added, others stand side by side."""

    layer: int = INPUT
    poolings: tuple[Pooling, ...] = ()  # on the way, in order
    feature_shift: int = 0  # the source's feature 0 arrives as this one

    @property
    def pooling(self) -> int:
        """Factor by which chained poolings divide coordinates along y (equal to x if legal)."""
        return math.prod(int(pool.kernel_size[0]) for pool in self.poolings)

    @property
    def weight_scale(self) -> float:
        """What average poolings multiply the weights they lead to by: product of 1/k^2.

        1 for absurd sizes, which the check refuses.
        """
        averages = [pool.kernel_size for pool in self.poolings if pool.kind == "average"]
        sizes = [int(size) for kernel in averages for size in kernel]
        is_sane = all(size > 0 for size in sizes) and math.prod(sizes) < 1 << 53
        return 1.0 / math.prod(sizes) if is_sane else 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A convolution (a linear map is one over its whole input) and IF neurons."""

    name: str  # of the weight node
    neuron_name: str  # of the IF node
    weights: FloatArray  # (f, c, ky, kx); a linear map's kernel is its input map
    bias: FloatArray | None  # (f,)
    sources: tuple[Source, ...] = (Source(),)
    stride: tuple[int, int] = (1, 1)  # y, x
    padding: tuple[int, int] = (0, 0)  # y, x
    dilation: tuple[int, int] = (1, 1)  # y, x
    groups: int = 1
    is_linear: bool = False  # it was Linear or Affine in the file
    threshold: float = 1.0  # the file's, or the first one if they differ
    threshold_range: tuple[float, float] = (1.0, 1.0)  # smallest and largest of the file's
    threshold_bits: int = 32  # width of the file's number; 64 can change the last bit of integers
    r_range: tuple[float, float] = (1.0, 1.0)  # smallest and largest NIR `r`
    trained_reset: str | None = None  # "subtract" or "zero", if the file says it
    trained_lower_clip: float | None = None  # times the threshold, if the file says it
    input_shape: tuple[int, int, int] = (1, 1, 1)  # c, h, w
    output_shape: tuple[int, int, int] = (1, 1, 1)  # f, h, w before pooling


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """Layers in topological order; the last one is the exit layer and feeds no other."""

    input_shape: tuple[int, int, int]  # c, h, w
    layers: tuple[Layer, ...] = field(default=())
    exit_poolings: tuple[Pooling, ...] = ()  # after the exit layer

    def targets(self, layer: int) -> list[tuple[int, Source]]:
        """Layers that `layer` (or INPUT) feeds, with the link that leads there, in order."""
        return [
            (number, source)
            for number, target in enumerate(self.layers)
            for source in target.sources
            if source.layer == layer
        ]


def to_bytes(network: Network) -> bytes:
    """Serialise as .npz: JSON for the structure, one array per layer; no pickles."""
    arrays: dict[str, Any] = {}
    layers = []
    for number, layer in enumerate(network.layers):
        arrays[f"weights{number}"] = layer.weights
        if layer.bias is not None:
            arrays[f"bias{number}"] = layer.bias
        plain = {k: getattr(layer, k) for k in Layer.__dataclass_fields__ if k not in _ARRAYS}
        plain["sources"] = [
            {**vars(source), "poolings": _plain_poolings(source.poolings)}
            for source in layer.sources
        ]
        layers.append(plain)
    exit_poolings = _plain_poolings(network.exit_poolings)
    head = json.dumps({
        "input_shape": network.input_shape, "layers": layers, "exit_poolings": exit_poolings
    })  # fmt: skip
    buffer = io.BytesIO()
    np.savez(buffer, head=np.frombuffer(head.encode(), np.uint8), **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Network:
    """Read what `to_bytes` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        head = json.loads(file["head"].tobytes().decode())
        layers = [_layer(plain, number, file) for number, plain in enumerate(head["layers"])]
    return Network(
        input_shape=tuple(head["input_shape"]),
        layers=tuple(layers),
        exit_poolings=_poolings(head["exit_poolings"]),
    )


_ARRAYS = ("weights", "bias")


def _layer(plain: dict[str, Any], number: int, file: Any) -> Layer:
    arrays: dict[str, Any] = {"weights": file[f"weights{number}"], "bias": None}
    if f"bias{number}" in file:
        arrays["bias"] = file[f"bias{number}"]
    sources = tuple(
        Source(**{**source, "poolings": _poolings(source["poolings"])})
        for source in plain.pop("sources")
    )
    return Layer(**arrays, **_tuples(plain), sources=sources)


def _plain_poolings(poolings: tuple[Pooling, ...]) -> list[dict[str, Any]]:
    return [dict(vars(pool)) for pool in poolings]


def _poolings(plain: list[dict[str, Any]]) -> tuple[Pooling, ...]:
    return tuple(Pooling(**_tuples(pool)) for pool in plain)


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
