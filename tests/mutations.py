"""Structure-aware mutations of model files: `mutate(seed_file, rng)` gives bytes and what was done.

NIR files are read into a tree of nodes, changed in one to three places and written again; some are
also damaged as bytes. JSON files are changed as trees and as text.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import h5py
import numpy as np

from tests.mutations_hdf5 import FILE_TRICKS
from tests.mutations_json import damage_text, mutate_json

KINDS = (
    "Input", "Output", "Conv2d", "Conv1d", "Linear", "Affine", "IF", "LIF", "CubaLIF", "LI", "I",
    "SumPool2d", "AvgPool2d", "MaxPool2d", "Flatten", "Scale", "Threshold", "Delay", "NIRGraph",
    "", "Größe", "x" * 300,
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 8, 16, 17, 64, 127, 128, 129, 1024, 1025, 2**15, 2**31 - 1, 2**31, 2**62,
    -(2**62), 0.5, -0.0, 1e-45, 1e38, 1e308, float("nan"), float("inf"), -float("inf"), True,
)  # fmt: skip
Tree = dict[str, Any]


def mutate(seed_file: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Change a model file in one to three places."""
    if seed_file.startswith(b"\x89HDF"):
        if rng.random() < 0.3:
            return _damage_bytes(seed_file, rng), "bytes"
        data, what = _mutate_nir(seed_file, rng)
        return (_damage_bytes(data, rng), f"{what}, bytes") if rng.random() < 0.05 else (data, what)
    if rng.random() < 0.3:
        return damage_text(seed_file, rng), "text"
    return mutate_json(seed_file, rng)


def _mutate_nir(seed_file: bytes, rng: random.Random) -> tuple[bytes, str]:
    with h5py.File(io.BytesIO(seed_file)) as file:
        tree = _read(file["node"])
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(TREE_CHANGES)
        change(tree, rng)
        done.append(change.__name__.strip("_"))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["version"] = rng.choice(("1.0.4", "1.0", "0.2", "", 7))
        _write(file.create_group("node"), tree)
        if rng.random() < 0.15:
            trick = rng.choice(FILE_TRICKS)
            trick(file, rng)
            done.append(trick.__name__.strip("_"))
    return buffer.getvalue(), ", ".join(done)


def _read(group: h5py.Group) -> Tree:
    """Groups as dicts, datasets as values; `edges` as a list of pairs."""
    return {
        name: _read(item) if isinstance(item, h5py.Group) else _value(name, item[()])
        for name, item in group.items()
    }


def _value(name: str, value: Any) -> Any:
    if name == "edges":
        return [[_text(end) for end in edge] for edge in np.asarray(value).reshape(-1, 2)]
    return _text(value)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _write(group: h5py.Group, tree: Tree) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            _write(group.create_group(name or "empty"), value)
        elif _is_edges(value):
            text = h5py.string_dtype()
            group.create_dataset(name, data=value or None, dtype=text, shape=(len(value), 2))
        else:
            _write_value(group, name, value)


def _is_edges(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(edge, list) and len(edge) == 2 and all(isinstance(end, str) for end in edge)
        for edge in value
    )


def _write_value(group: h5py.Group, name: str, value: Any) -> None:
    options = {}
    if isinstance(value, np.ndarray) and value.ndim and value.size > 8 and value.dtype.kind in "fi":
        options = {"compression": "gzip"} if value.size % 3 else {}
    with contextlib.suppress(TypeError, ValueError):  # what HDF5 cannot hold is left out
        group.create_dataset(name, data=value, **options)


def _nodes(tree: Tree) -> Tree:
    nodes = tree.get("nodes")
    return nodes if isinstance(nodes, dict) else {}


def _any_node(tree: Tree, rng: random.Random) -> tuple[str, Tree]:
    names = [name for name, node in _nodes(tree).items() if isinstance(node, dict)]
    if not names:
        return "", {}
    name = rng.choice(names)
    return name, tree["nodes"][name]


def _any_field(tree: Tree, rng: random.Random) -> tuple[Tree, str]:
    _, node = _any_node(tree, rng)
    fields = [name for name, value in node.items() if not isinstance(value, dict)]
    return node, rng.choice(fields) if fields else "type"


def _set_number(tree: Tree, rng: random.Random) -> None:
    node, name = _any_field(tree, rng)
    number = rng.choice(NUMBERS)
    node[name] = rng.choice((number, [number], [number, rng.choice(NUMBERS)]))


def _set_element(tree: Tree, rng: random.Random) -> None:
    node, name = _any_field(tree, rng)
    array = np.array(node.get(name, 0))
    if array.dtype.kind not in "fi" or not array.size:
        return
    with np.errstate(all="ignore"):  # an earlier mutation may have put inf or NaN there
        array = array.astype(rng.choice(("<f8", "<f4", "<i8", "<i4")))
        array.flat[rng.randrange(array.size)] = rng.choice((0, -1, 3, 2**20, 0.25, -7))
    node[name] = array


def _set_dtype(tree: Tree, rng: random.Random) -> None:
    node, name = _any_field(tree, rng)
    array = np.array(node.get(name, 0))
    kind = rng.choice(("<f2", "<f4", "<f8", ">f8", "?", "u1", "<i2", ">i8", "<u8", "<c8", "S4"))
    if array.dtype.kind in "fi":
        with np.errstate(all="ignore"):
            node[name] = np.abs(array).astype(kind)


def _reshape(tree: Tree, rng: random.Random) -> None:
    node, name = _any_field(tree, rng)
    array = np.array(node.get(name, 0))
    if array.dtype.kind not in "fi":
        return
    shapes = [(-1,), (1, *array.shape), (*array.shape, 1), array.shape[::-1], (0,)]
    shape = rng.choice(shapes)
    node[name] = np.zeros(shape) if shape == (0,) else array.reshape(shape)


def _cut(tree: Tree, rng: random.Random) -> None:
    node, name = _any_field(tree, rng)
    array = np.array(node.get(name, 0))
    if array.ndim and array.dtype.kind in "fi":
        axis = rng.randrange(array.ndim)
        node[name] = np.take(array, range(max(0, array.shape[axis] - 1)), axis=axis)


def _drop_field(tree: Tree, rng: random.Random) -> None:
    node, name = _any_field(tree, rng)
    node.pop(name, None)


def _add_field(tree: Tree, rng: random.Random) -> None:
    _, node = _any_node(tree, rng)
    name = rng.choice((
        "bias", "weight", "stride", "padding", "dilation", "groups", "input_shape", "r",
        "v_threshold", "v_reset", "v_leak", "tau", "tau_mem", "tau_syn", "scale", "delay",
        "kernel_size", "start_dim", "end_dim", "shape", "metadata", "odd", "input_type",
    ))  # fmt: skip
    node[name] = rng.choice((rng.choice(NUMBERS), "same", "valid", "?", np.ones((2, 2)), {"a": 1}))


def _set_metadata(tree: Tree, rng: random.Random) -> None:
    _, node = _any_node(tree, rng)
    node["metadata"] = {
        "speckfarm_reset": rng.choice(("zero", "subtract", "none", 3, [1.0])),
        "speckfarm_lower_clip": rng.choice((*NUMBERS, "low")),
        "note": {"deep": {"deeper": 1}},
    }


def _retype(tree: Tree, rng: random.Random) -> None:
    _, node = _any_node(tree, rng)
    node["type"] = rng.choice((*KINDS, 3, [1, 2]))


def _rename_node(tree: Tree, rng: random.Random) -> None:
    name, node = _any_node(tree, rng)
    if node:
        del tree["nodes"][name]
        tree["nodes"][rng.choice(("a.b", "Ω", "0", "x" * 200, "input", " "))] = node


def _copy_node(tree: Tree, rng: random.Random) -> None:
    name, node = _any_node(tree, rng)
    copy = f"{name}_{rng.randrange(99)}"
    if node:
        tree["nodes"][copy] = deepcopy(node)
        edges = _edges(tree)
        edges += [[copy if end == name else end for end in edge] for edge in edges if name in edge]


def _drop_node(tree: Tree, rng: random.Random) -> None:
    name, _ = _any_node(tree, rng)
    _nodes(tree).pop(name, None)


def _skip_node(tree: Tree, rng: random.Random) -> None:
    """Take a node out and join what it stood between."""
    name, _ = _any_node(tree, rng)
    edges = _edges(tree)
    before = [a for a, b in edges if b == name]
    after = [b for a, b in edges if a == name]
    _nodes(tree).pop(name, None)
    tree["edges"] = [edge for edge in edges if name not in edge]
    tree["edges"] += [[a, b] for a in before for b in after]


def _edges(tree: Tree) -> list[list[str]]:
    edges = tree.get("edges")
    if not isinstance(edges, list):
        edges = tree["edges"] = []
    return edges


def _add_edge(tree: Tree, rng: random.Random) -> None:
    names = [*_nodes(tree), "ghost"]
    _edges(tree).append([rng.choice(names), rng.choice(names)])


def _drop_edge(tree: Tree, rng: random.Random) -> None:
    edges = _edges(tree)
    if edges:
        edges.pop(rng.randrange(len(edges)))


def _shuffle_edges(tree: Tree, rng: random.Random) -> None:
    edges = _edges(tree)
    edges += rng.choices(edges, k=rng.randrange(3)) if edges else []
    rng.shuffle(edges)


def _branch(tree: Tree, rng: random.Random) -> None:
    """Repeat a node beside itself: a fork and a merge."""
    name, node = _any_node(tree, rng)
    if node:
        tree["nodes"][f"{name}b"] = deepcopy(node)
        edges = _edges(tree)
        tree["edges"] = edges + [
            [end if end != name else f"{name}b" for end in edge] for edge in edges if name in edge
        ]


def _nest(tree: Tree, rng: random.Random) -> None:
    """Put the whole graph into a node of a new one, up to six deep."""
    for _ in range(rng.randrange(1, 7)):
        inner = dict(tree)
        tree.clear()
        tree["type"] = "NIRGraph"
        ends = {"input": {"type": "Input", "shape": [2, 8, 8]}, "output": {"type": "Output"}}
        tree["nodes"] = {**ends, "inner": inner}
        tree["edges"] = [["input", "inner"], ["inner", "output"]]


def _diamonds(tree: Tree, rng: random.Random) -> None:
    """Exponentially many roads: forks and merges in a row behind the input."""
    nodes, edges = _nodes(tree), _edges(tree)
    weight = {"type": "Conv2d", "weight": np.ones((1, 1, 1, 1), np.float32), "stride": [1, 1]}
    before = "input"
    for number in range(rng.randrange(2, 60)):
        left, right, joint = (f"{side}{number}" for side in "lrj")
        for name in (left, right, joint):
            fires = {"type": "IF", "r": np.ones(1), "v_threshold": np.ones(1)}
            nodes[name] = dict(weight) if name == joint else fires
        edges += [[before, left], [before, right], [left, joint], [right, joint]]
        before = joint
    edges.append([before, "output"])


TREE_CHANGES: tuple[Callable[[Tree, random.Random], None], ...] = (
    _set_number, _set_number, _set_element, _set_element, _set_dtype, _reshape, _cut, _drop_field,
    _add_field, _set_metadata, _retype, _rename_node, _copy_node, _drop_node, _skip_node,
    _add_edge, _drop_edge, _shuffle_edges, _branch, _nest, _diamonds,
)  # fmt: skip


def _damage_bytes(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 16))):
        if not damaged:
            break
        at, other = rng.randrange(len(damaged)), rng.randrange(len(damaged))
        length = rng.choice((1, 2, 8, 64))
        match rng.randrange(5):
            case 0:
                damaged[at] ^= 1 << rng.randrange(8)
            case 1:
                damaged[at : at + length] = rng.randbytes(length)
            case 2:
                damaged[at : at + length] = damaged[other : other + length]
            case 3:
                damaged[at : at + 8] = rng.choice((0, 1, 2**32 - 1, 2**63, 2**64 - 1)).to_bytes(
                    8, "little"
                )
            case _ if rng.random() < 0.2:
                del damaged[at:]
    return bytes(damaged)
