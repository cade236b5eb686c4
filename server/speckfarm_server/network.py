"""The network: what a model file says, still in floating point, as the layers that cores run.

A network here is a chain. Layer i is a weight node, its IF neurons and the pooling that follows.
Nothing of the file is lost on the way: what a chip has no field for (two kernel sizes, dilation,
groups) is kept, so that the check can name it.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.errors import Finding

FloatArray: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """One pooling node. Average pooling is sum pooling whose next weights are scaled."""

    name: str
    kind: str  # "sum" or "average"
    kernel_size: tuple[int, int]  # y, x
    stride: tuple[int, int]  # y, x
    padding: tuple[int, int] = (0, 0)  # y, x


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A convolution (a linear map is one over its whole input), IF neurons, pooling."""

    name: str  # of the weight node
    neuron_name: str  # of the IF node
    weights: FloatArray  # (f, c, ky, kx); a linear map's kernel is its input map
    bias: FloatArray | None  # (f,)
    stride: tuple[int, int] = (1, 1)  # y, x
    padding: tuple[int, int] = (0, 0)  # y, x
    dilation: tuple[int, int] = (1, 1)  # y, x
    groups: int = 1
    is_linear: bool = False  # it was Linear or Affine in the file
    threshold: float = 1.0  # the file's, or the first one if they differ
    threshold_range: tuple[float, float] = (1.0, 1.0)  # smallest and largest of the file's
    r_range: tuple[float, float] = (1.0, 1.0)  # smallest and largest NIR `r`
    input_shape: tuple[int, int, int] = (1, 1, 1)  # c, h, w
    output_shape: tuple[int, int, int] = (1, 1, 1)  # f, h, w before pooling
    poolings: tuple[Pooling, ...] = ()

    @property
    def pooling(self) -> int:
        """Factor by which chained poolings divide coordinates along y (equal to x if legal)."""
        return int(np.prod([pool.kernel_size[0] for pool in self.poolings], dtype=np.int64))

    @property
    def next_weight_scale(self) -> float:
        """What average poolings multiply the next layer's weights by: product of 1/k^2."""
        averages = [pool.kernel_size for pool in self.poolings if pool.kind == "average"]
        return 1.0 / float(np.prod([ky * kx for ky, kx in averages], dtype=np.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A chain of layers with its input."""

    input_shape: tuple[int, int, int]  # c, h, w
    layers: tuple[Layer, ...] = field(default=())


@dataclass(frozen=True, kw_only=True, eq=False)
class Parsed:
    """A parsed file: the network, or None if no chain of layers could be made, and why."""

    network: Network | None
    findings: tuple[Finding, ...] = ()


def to_bytes(network: Network) -> bytes:
    """Serialise as .npz: JSON for the structure, one array per layer; no pickles."""
    arrays: dict[str, Any] = {}
    layers = []
    for number, layer in enumerate(network.layers):
        arrays[f"weights{number}"] = layer.weights
        if layer.bias is not None:
            arrays[f"bias{number}"] = layer.bias
        plain = {k: getattr(layer, k) for k in Layer.__dataclass_fields__ if k not in _ARRAYS}
        plain["poolings"] = [{k: getattr(p, k) for k in _POOLING_FIELDS} for p in layer.poolings]
        layers.append(plain)
    head = json.dumps({"input_shape": network.input_shape, "layers": layers})
    buffer = io.BytesIO()
    np.savez(buffer, head=np.frombuffer(head.encode(), np.uint8), **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Network:
    """Read what `to_bytes` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        head = json.loads(file["head"].tobytes().decode())
        layers = [_layer(plain, number, file) for number, plain in enumerate(head["layers"])]
    return Network(input_shape=tuple(head["input_shape"]), layers=tuple(layers))


_ARRAYS = ("weights", "bias")
_POOLING_FIELDS = tuple(Pooling.__dataclass_fields__)


def _layer(plain: dict[str, Any], number: int, file: Any) -> Layer:
    arrays: dict[str, Any] = {"weights": file[f"weights{number}"], "bias": None}
    if f"bias{number}" in file:
        arrays["bias"] = file[f"bias{number}"]
    poolings = tuple(Pooling(**_tuples(pool)) for pool in plain.pop("poolings"))
    return Layer(**arrays, **_tuples(plain), poolings=poolings)


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
