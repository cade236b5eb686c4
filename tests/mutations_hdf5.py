"""Tricks that an HDF5 file can hold and NIR never writes: links, giants, bombs, foreign storage."""

from __future__ import annotations

import random
from typing import Any

import h5py
import numpy as np


def _any_group(file: h5py.File, rng: random.Random) -> h5py.Group:
    groups = [file["node"]]
    file["node"].visititems(lambda _, item: groups.append(item) if _is_group(item) else None)
    return rng.choice(groups)


def _is_group(item: Any) -> bool:
    return isinstance(item, h5py.Group)


def _place(group: h5py.Group, rng: random.Random) -> str:
    """The name of something that is there, taken out, or of something new."""
    names = [*group, "weight"]
    name = rng.choice(names)
    if name in group:
        del group[name]
    return str(name)


def _external_link(file: h5py.File, rng: random.Random) -> None:
    group = _any_group(file, rng)
    group[_place(group, rng)] = h5py.ExternalLink("/etc/hostname", "/node")


def _soft_link(file: h5py.File, rng: random.Random) -> None:
    group = _any_group(file, rng)
    group[_place(group, rng)] = h5py.SoftLink(rng.choice(("/node", "/nowhere", ".", "/node/nodes")))


def _hard_links(file: h5py.File, rng: random.Random) -> None:
    """Every level twice: a tree of 2^n paths in a few kB."""
    group = _any_group(file, rng)
    below = group.create_group(f"deep{rng.randrange(99)}")
    for level in range(rng.randrange(2, 20)):
        above = file.create_group(f"level{level}{rng.random()}")
        above["a"] = above["b"] = below
        below = above
    group[f"bomb{rng.randrange(99)}"] = below


def _own_parent(file: h5py.File, rng: random.Random) -> None:
    group = _any_group(file, rng)
    group[f"loop{rng.randrange(99)}"] = file["node"]


def _giant(file: h5py.File, rng: random.Random) -> None:
    """Declared huge, never written."""
    group = _any_group(file, rng)
    shape = rng.choice(((1 << 40,), (1 << 31, 4), (1 << 20, 1 << 20), (1 << 27,)))
    group.create_dataset(_place(group, rng), shape=shape, dtype="f4", chunks=True)


def _zip_bomb(file: h5py.File, rng: random.Random) -> None:
    group = _any_group(file, rng)
    zeros = np.zeros((1 << 21,), np.float32)
    options = {"compression": "gzip", "compression_opts": 9, "chunks": (1 << 21,)}
    group.create_dataset(_place(group, rng), data=zeros, **options)


def _outside_storage(file: h5py.File, rng: random.Random) -> None:
    group = _any_group(file, rng)
    outside = [("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    group.create_dataset(_place(group, rng), (16,), "u1", external=outside)


def _virtual(file: h5py.File, rng: random.Random) -> None:
    group = _any_group(file, rng)
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    group.create_virtual_dataset(_place(group, rng), layout)


def _odd_type(file: h5py.File, rng: random.Random) -> None:
    group = _any_group(file, rng)
    kinds = (
        h5py.vlen_dtype(np.dtype("f4")), h5py.ref_dtype, h5py.enum_dtype({"a": 1}),
        h5py.string_dtype(), np.dtype([("a", "f4"), ("b", "S3")]), np.dtype("V8"),
        h5py.regionref_dtype,
    )  # fmt: skip
    group.create_dataset(_place(group, rng), (3,), rng.choice(kinds))


def _filtered(file: h5py.File, rng: random.Random) -> None:
    group = _any_group(file, rng)
    options = rng.choice((
        {"compression": "lzf"}, {"shuffle": True, "compression": "gzip"}, {"fletcher32": True},
        {"scaleoffset": 2},
    ))  # fmt: skip
    group.create_dataset(_place(group, rng), data=np.ones((4, 2, 3, 3), np.float32), **options)


FILE_TRICKS = (
    _external_link, _soft_link, _hard_links, _own_parent, _giant, _zip_bomb, _outside_storage,
    _virtual, _odd_type, _filtered,
)  # fmt: skip
