"""Small NIR files for tests, written with h5py as `nir.write` lays them out.

    nir_bytes(nodes, edges)     any graph: {name: fields}, [(from, to)]
    write_nir(path, nodes, edges)
    chain_bytes(fields, ..., input_shape=(c, h, w))    a chain with Input and Output added
    chain_nir(path, fields, ..., input_shape=(c, h, w))

Node fields come from conv, linear, affine, neurons, leaky, sum_pool, average_pool, flatten, scale;
in a chain the nodes are named "0", "1", ... as sinabs names them. A field that is a dictionary
becomes a group.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Fields = Mapping[str, Any]
Edges = Iterable[tuple[str, str]]


def write_nir(path: Path, nodes: Mapping[str, Fields], edges: Edges) -> Path:
    path.write_bytes(nir_bytes(nodes, edges))
    return path


def chain_nir(
    path: Path,
    *nodes: Fields,
    input_shape: Sequence[int],
    output_shape: Sequence[int] | None = None,
) -> Path:
    path.write_bytes(chain_bytes(*nodes, input_shape=input_shape, output_shape=output_shape))
    return path


def nir_bytes(nodes: Mapping[str, Fields], edges: Edges) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("version", data="1.0.4", dtype=h5py.string_dtype())
        write_graph(file.create_group("node"), nodes, edges)
    return buffer.getvalue()


def chain_bytes(
    *nodes: Fields, input_shape: Sequence[int], output_shape: Sequence[int] | None = None
) -> bytes:
    named, edges = chain(*nodes, input_shape=input_shape, output_shape=output_shape)
    return nir_bytes(named, edges)


def chain(
    *nodes: Fields, input_shape: Sequence[int], output_shape: Sequence[int] | None = None
) -> tuple[dict[str, Fields], list[tuple[str, str]]]:
    """Nodes by name and edges of a chain; tests change them and call `nir_bytes`."""
    named: dict[str, Fields] = {"input": {"type": "Input", "shape": np.array(input_shape)}}
    named |= {str(number): fields for number, fields in enumerate(nodes)}
    named["output"] = {"type": "Output"}
    if output_shape is not None:
        named["output"] = {"type": "Output", "shape": np.array(output_shape)}
    names = list(named)
    return named, list(itertools.pairwise(names))


def write_graph(group: h5py.Group, nodes: Mapping[str, Fields], edges: Edges) -> None:
    """Write a graph into an HDF5 group; a node whose fields hold `nodes` is a nested graph."""
    group.create_dataset("type", data="NIRGraph", dtype=h5py.string_dtype())
    pairs = [list(edge) for edge in edges]
    group.create_dataset(
        "edges", data=pairs or None, dtype=h5py.string_dtype(), shape=(len(pairs), 2)
    )
    folder = group.create_group("nodes")
    for name, fields in nodes.items():
        if "nodes" in fields:
            write_graph(folder.create_group(name), fields["nodes"], fields["edges"])
        else:
            _write_fields(folder.create_group(name), fields)


def _write_fields(group: h5py.Group, fields: Fields) -> None:
    for name, value in fields.items():
        if value is None:
            continue
        if isinstance(value, dict):
            _write_fields(group.create_group(name), value)
        elif isinstance(value, str):
            group.create_dataset(name, data=value, dtype=h5py.string_dtype())
        elif isinstance(value, np.ndarray) and value.ndim:
            group.create_dataset(name, data=value, compression="gzip")
        else:
            group.create_dataset(name, data=value)


def conv(weight: Any, **fields: Any) -> dict[str, Any]:
    """Conv2d; weight (f, c, ky, kx) or its shape, then all ones. bias=None leaves it out."""
    weight = _weight(weight)
    node = {
        "type": "Conv2d",
        "weight": weight,
        "bias": np.zeros(weight.shape[0], np.float32),
        "stride": np.array([1, 1]),
        "padding": np.array([0, 0]),
        "dilation": np.array([1, 1]),
        "groups": 1,
    }
    return _without_none({**node, **fields})


def linear(weight: Any, **fields: Any) -> dict[str, Any]:
    """Linear; weight (outputs, inputs) or its shape."""
    return _without_none({"type": "Linear", "weight": _weight(weight), **fields})


def affine(weight: Any, **fields: Any) -> dict[str, Any]:
    """Affine with a zero bias; weight (outputs, inputs) or its shape."""
    weight = _weight(weight)
    bias = np.zeros(weight.shape[0], np.float32)
    return _without_none({"type": "Affine", "weight": weight, "bias": bias, **fields})


def neurons(threshold: Any = 1.0, *, r: Any = 1.0, **fields: Any) -> dict[str, Any]:
    """IF; threshold and r are scalars or arrays."""
    node = {"type": "IF", "v_threshold": np.asarray(threshold), "r": np.asarray(r)}
    return _without_none({**node, **fields})


def leaky(tau: Any = np.inf, *, r: Any = np.inf, **fields: Any) -> dict[str, Any]:
    """LIF with threshold 1; as snnTorch writes Leaky(beta=1) unless told otherwise."""
    node = {"type": "LIF", "tau": np.asarray(tau), "r": np.asarray(r), "v_leak": np.zeros(())}
    return _without_none({**node, "v_threshold": np.ones(()), **fields})


def scale(factors: Any) -> dict[str, Any]:
    """Scale by one number or an array."""
    return {"type": "Scale", "scale": np.asarray(factors)}


def sum_pool(kernel_size: Any = 2, **fields: Any) -> dict[str, Any]:
    """SumPool2d with stride = kernel size."""
    return _pool("SumPool2d", kernel_size, fields)


def average_pool(kernel_size: Any = 2, **fields: Any) -> dict[str, Any]:
    """AvgPool2d with stride = kernel size."""
    return _pool("AvgPool2d", kernel_size, fields)


def flatten(**fields: Any) -> dict[str, Any]:
    """Flatten of everything."""
    return _without_none({"type": "Flatten", "start_dim": 0, "end_dim": -1, **fields})


def small_chain(*, features: int = 2, size: int = 8, seed: int = 0) -> bytes:
    """A legal network: 3x3 conv to 4 features, IF, sum pooling 2, Flatten, Affine to 10, IF."""
    random = np.random.default_rng(seed)
    weight = random.normal(0, 0.3, (4, features, 3, 3)).astype(np.float32)
    half = size // 2
    read_out = random.normal(0, 0.3, (10, 4 * half * half)).astype(np.float32)
    return chain_bytes(
        conv(weight, padding=np.array([1, 1]), input_shape=np.array([size, size])),
        neurons(np.ones((4, size, size), np.float32), r=np.ones((4, size, size), np.float32)),
        sum_pool(2),
        flatten(input_type=np.array([4, half, half])),
        affine(read_out),
        neurons(np.ones(10, np.float32), r=np.ones(10, np.float32)),
        input_shape=(features, size, size),
        output_shape=(10,),
    )


def _pool(kind: str, kernel_size: Any, fields: Fields) -> dict[str, Any]:
    kernel = np.broadcast_to(np.asarray(kernel_size), 2).copy()
    node = {"type": kind, "kernel_size": kernel, "stride": kernel, "padding": np.array([0, 0])}
    return _without_none({**node, **fields})


def _weight(weight: Any) -> Any:
    return np.ones(weight, np.float32) if isinstance(weight, tuple) else np.asarray(weight)


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
