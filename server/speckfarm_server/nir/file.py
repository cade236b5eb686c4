"""Bytes of a NIR file to nodes with plain arrays, as they stand in the file.

`nir.read` is not used: it opens whatever a file names. Only the fields listed here are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from h5py import h5g

from speckfarm_server.nir.hdf5 import (
    HDF5_ERRORS,
    SafeFile,
    Value,
    decode_name,
    list_names,
    too_large,
    unreadable,
)

MAX_NODES = 256
MAX_EDGES = 1024
MAX_DEPTH = 4  # of nested graphs
MAX_FIELDS = 64  # in one node

_POOLING = ("kernel_size", "stride", "padding")
FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "Input": ("shape",),
    "Output": ("shape",),
    "Conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups", "input_shape"),
    "Linear": ("weight",),
    "Affine": ("weight", "bias"),
    "IF": ("r", "v_threshold", "v_reset"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLIF": ("tau_mem", "tau_syn"),
    "LI": ("tau",),
    "CubaLI": ("tau_mem", "tau_syn"),
    "Scale": ("scale",),
    "Delay": ("delay",),
    "SumPool2d": _POOLING,
    "AvgPool2d": _POOLING,
    "Flatten": ("start_dim", "end_dim", "input_type"),
})
# Of neurons: what NIR has no field for and `speckfarm export` puts into the group `metadata`.
METADATA = ("speckfarm_reset", "speckfarm_lower_clip")
_WITH_METADATA = ("IF", "LIF")
# Written by some exporters, without a meaning for what the node computes.
REDUNDANT_FIELDS = ("type", "metadata", "input_type", "output_type", "version")


@dataclass(frozen=True, kw_only=True, eq=False)
class NirNode:
    """One node as the file has it."""

    name: str
    kind: str  # NIR's `type`
    fields: Mapping[str, Value] = field(default_factory=dict)  # those in FIELDS, and METADATA
    unknown_fields: tuple[str, ...] = ()  # there, but not read
    graph: NirGraph | None = None  # of a nested NIRGraph


@dataclass(frozen=True, kw_only=True, eq=False)
class NirGraph:
    """Nodes and edges as the file has them; edges may name nodes that do not exist."""

    nodes: tuple[NirNode, ...]
    edges: tuple[tuple[str, str], ...]


def read_nir(data: bytes) -> NirGraph:
    """Read a NIR file.

    Raises BadInput: MODEL_UNREADABLE, MODEL_TOO_LARGE, UNSAFE_LINK, UNSAFE_STORAGE.
    """
    try:
        file = SafeFile(data)
        try:
            return _Reader(file).read()
        finally:
            file.close()
    except UnicodeDecodeError as error:
        raise unreadable("A name or a text in this file is not UTF-8") from error
    except MemoryError as error:
        raise too_large("The file", "more data than a parser's memory holds", "512 MiB") from error
    except HDF5_ERRORS as error:
        raise unreadable(f"This HDF5 file is damaged or cut short ({error})") from error


class _Reader:
    """NIR's layout: node/{type, nodes/<name>/{type, field...}, edges}."""

    def __init__(self, file: SafeFile) -> None:
        self._file = file
        self._nodes = 0

    def read(self) -> NirGraph:
        root = self._file.root
        if not root.links.exists(b"node"):
            raise unreadable("This is an HDF5 file without the group 'node'")
        node = self._file.group(root, "node", "")
        kind = self._kind(node, "/node")
        if kind != "NIRGraph":
            raise unreadable(f"This file holds a single node of type {kind[:40]!r}")
        return self._graph(node, "/node", 1)

    def _graph(self, group: h5g.GroupID, path: str, depth: int) -> NirGraph:
        if depth > MAX_DEPTH:
            raise too_large(f"{path!r}", f"graphs nested {depth} deep", f"{MAX_DEPTH}")
        folder = self._file.group(group, "nodes", path)
        names = list_names(folder, f"{path}/nodes", MAX_NODES)
        self._nodes += len(names)
        if self._nodes > MAX_NODES:
            raise too_large("The graph", f"{self._nodes} nodes or more", f"{MAX_NODES}")
        nodes = tuple(self._node(folder, name, f"{path}/nodes", depth) for name in names)
        return NirGraph(nodes=nodes, edges=self._edges(group, path))

    def _node(self, folder: h5g.GroupID, name: str, path: str, depth: int) -> NirNode:
        group = self._file.group(folder, name, path)
        path = f"{path}/{name}"
        names = list_names(group, path, MAX_FIELDS)
        kind = self._kind(group, path)
        if kind == "NIRGraph":
            return NirNode(name=name, kind=kind, graph=self._graph(group, path, depth + 1))
        if kind not in FIELDS:
            return NirNode(name=name, kind=kind)
        read = {f: self._file.value(group, f, path) for f in FIELDS[kind] if f in names}
        if kind in _WITH_METADATA and "metadata" in names:
            read |= self._metadata(group, path)
        fields = {f: value for f, value in read.items() if value is not None}
        unknown = tuple(f for f in names if f not in FIELDS[kind] + REDUNDANT_FIELDS)
        return NirNode(name=name, kind=kind, fields=fields, unknown_fields=unknown)

    def _metadata(self, node: h5g.GroupID, path: str) -> dict[str, Value | None]:
        group = self._file.group(node, "metadata", path)
        path = f"{path}/metadata"
        names = list_names(group, path, MAX_FIELDS)
        return {f: self._file.value(group, f, path) for f in METADATA if f in names}

    def _kind(self, group: h5g.GroupID, path: str) -> str:
        kind = self._file.value(group, "type", path)
        if not isinstance(kind, str):
            raise unreadable(f"'{path}/type' is not a text")
        return kind

    def _edges(self, group: h5g.GroupID, path: str) -> tuple[tuple[str, str], ...]:
        rows = self._file.array(group, "edges", path)
        if rows is None or rows.size == 0:
            return ()
        if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "OS":
            raise unreadable(f"'{path}/edges' is not a list of pairs of node names")
        if len(rows) > MAX_EDGES:
            raise too_large(f"'{path}/edges'", f"{len(rows)} edges", f"{MAX_EDGES}")
        return tuple((decode_name(a, path), decode_name(b, path)) for a, b in rows.tolist())
