"""HDF5 bytes to plain arrays: nothing is read before it is known to be harmless.

HDF5 follows external storage, virtual arrays, soft links and any declared size. Here every object
is opened once, through a hard link; storage, filters, type and element count are checked before an
element is read. The HDF5 library itself can still hang or crash on corrupted bytes, so the server
comes here only through `parse_host`.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from h5py import h5d, h5f, h5g, h5l, h5pl, h5s, h5t, h5z
from numpy.typing import NDArray

from speckfarm_server.errors import BadInput
from speckfarm_server.file_kind import HDF5_MAGIC, describe

MAX_FILE_BYTES = 16 << 20
MAX_ELEMENTS = 4 << 20  # of all arrays together; a whole chip holds 0.3 M weights
MAX_CHUNK_BYTES = 64 << 20  # HDF5 allocates a whole chunk to read one element of it
MAX_NAME_LENGTH = 256  # characters

Value: TypeAlias = "NDArray[Any] | str"  # numbers (any shape) or one text

HDF5_ERRORS = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, NotImplementedError,
    OverflowError, SystemError,
)  # fmt: skip
_FILTERS = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32)


class SafeFile:
    """An HDF5 file in memory. Keeps what must hold over the whole of it: objects seen, elements.

    Its methods raise BadInput: MODEL_UNREADABLE, MODEL_TOO_LARGE, UNSAFE_LINK, UNSAFE_STORAGE, and
    whatever h5py raises on damaged bytes: HDF5_ERRORS.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_FILE_BYTES:
            raise too_large("The file", f"{len(data):,} bytes", f"{MAX_FILE_BYTES:,} bytes")
        if not data.startswith(HDF5_MAGIC):
            raise unreadable(f"This is {describe(data)}")
        while h5pl.size():  # no filter plugins from the machine's disk
            h5pl.remove(0)
        self._seen: set[int] = set()  # addresses of objects
        self._elements = 0
        self._file = h5f.open_file_image(data)
        self.root = h5g.open(self._file, b"/")

    def close(self) -> None:
        """Free the memory."""
        self._file.close()

    def group(self, parent: h5g.GroupID, name: str, path: str) -> h5g.GroupID:
        """Open a group; `path` is the parent's, for messages."""
        path = f"{path}/{name}"
        key = self._claim(parent, name, path)
        try:
            return h5g.open(parent, key)
        except (KeyError, ValueError) as error:
            raise unreadable(f"{path!r} is not a group that can be read") from error

    def value(self, parent: h5g.GroupID, name: str, path: str) -> Value | None:
        """Read numbers or one text; None for HDF5's empty dataset, which is Python's None."""
        array = self.array(parent, name, path)
        if array is None or array.dtype.kind not in "OS":
            return array
        if array.size != 1:
            raise unreadable(f"'{path}/{name}' is an array of texts; one text is wanted")
        return decode_name(array.item(), f"{path}/{name}")

    def array(self, parent: h5g.GroupID, name: str, path: str) -> NDArray[Any] | None:
        """Read numbers or texts (as bytes); the elements are counted before they are read."""
        path = f"{path}/{name}"
        key = self._claim(parent, name, path)
        try:
            found = h5d.open(parent, key)
        except (KeyError, ValueError) as error:
            raise unreadable(f"{path!r} is not an array that can be read") from error
        # Before the shape: HDF5 opens the sources of a virtual array to learn its shape.
        kind = _check_storage(found, path)
        shape = found.shape
        if shape is None:
            return None
        self._elements += math.prod(shape)
        if self._elements > MAX_ELEMENTS:
            size = f"{self._elements:,} numbers up to {path!r}"
            raise too_large("The model", size, f"{MAX_ELEMENTS:,} numbers")
        array: NDArray[Any] = np.empty(shape, kind.dtype)
        if array.size:
            found.read(h5s.ALL, h5s.ALL, array)
        return array

    def _claim(self, parent: h5g.GroupID, name: str, path: str) -> bytes:
        """Check the link to an object that nobody has opened before; returns its key."""
        key = name.encode()
        if not parent.links.exists(key):
            raise unreadable(f"{path!r} is missing")
        address = _check_link(parent, key, path)
        if address in self._seen:
            raise BadInput(
                "UNSAFE_LINK",
                f"{path!r} is a second hard link to an object seen before; every node and array "
                "must be stored once. Write the file with nir.write",
                path=path,
                found="a second hard link",
            )
        self._seen.add(address)
        return key


def list_names(group: h5g.GroupID, path: str, limit: int) -> list[str]:
    """Names in a group, all of them hard links; counted before they are listed."""
    count = group.get_num_objs()
    if count > limit:
        raise too_large(f"{path!r}", f"{count} entries", f"{limit}")
    keys: list[bytes] = []

    def collect(key: bytes) -> bool | None:
        keys.append(key)
        return True if len(keys) > limit else None  # HDF5 stops at anything but None

    group.links.iterate(collect)
    for key in keys:
        _check_link(group, key, f"{path}/{key.decode()}")
    return sorted(decode_name(key, path) for key in keys)


def decode_name(key: bytes, path: str) -> str:
    """Text of a file: UTF-8 (or UnicodeDecodeError) of at most MAX_NAME_LENGTH characters."""
    name = key.decode()
    if len(name) > MAX_NAME_LENGTH:
        raise too_large(f"A name in {path!r}", f"{len(name)} characters", f"{MAX_NAME_LENGTH}")
    return name


def _check_link(group: h5g.GroupID, key: bytes, path: str) -> int:
    """Refuse all but hard links; returns the object's address in the file."""
    link = group.links.get_info(key)
    if link.type != h5l.TYPE_HARD:
        words = {h5l.TYPE_SOFT: "a soft", h5l.TYPE_EXTERNAL: "an external"}
        word = words.get(link.type, "an unknown")
        raise BadInput(
            "UNSAFE_LINK",
            f"{path!r} is {word} link; only data stored in the file itself is read. Write the "
            "file with nir.write",
            path=path,
            found=f"{word} link",
        )
    return int(link.u)


def _check_storage(dataset: h5d.DatasetID, path: str) -> h5t.TypeID:
    """Refuse what is not plain numbers or texts in this very file; returns the element type."""
    created = dataset.get_create_plist()
    layout = created.get_layout()
    if layout == h5d.VIRTUAL:
        raise _unsafe_storage(path, "is a virtual array", "arrays stored in the file itself")
    if created.get_external_count():
        raise _unsafe_storage(path, "keeps its data outside this file", "data inside the file")
    for number in range(created.get_nfilters()):
        code = created.get_filter(number)[0]
        if code not in _FILTERS:
            found = f"is written with HDF5 filter {code}"
            raise _unsafe_storage(path, found, "gzip, shuffle and fletcher32")
    kind = dataset.get_type()
    _check_type(kind, path)
    if layout == h5d.CHUNKED:
        size = math.prod(created.get_chunk()) * kind.get_size()
        if size > MAX_CHUNK_BYTES:
            raise too_large(f"A chunk of {path!r}", f"{size:,} bytes", f"{MAX_CHUNK_BYTES:,}")
    return kind


def _check_type(kind: h5t.TypeID, path: str) -> None:
    name, size = kind.get_class(), kind.get_size()
    is_number = name in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM) and size in (1, 2, 4, 8)
    is_text = name == h5t.STRING and (kind.is_variable_str() or size <= 4 * MAX_NAME_LENGTH)
    if not (is_number or is_text):
        found = f"holds HDF5 type class {name} of {size} bytes"
        raise _unsafe_storage(path, found, "plain numbers of at most 8 bytes, and texts")


def unreadable(found: str) -> BadInput:
    """MODEL_UNREADABLE, in words."""
    return BadInput(
        "MODEL_UNREADABLE",
        f"{found}. A NIR file (HDF5, written by nir.write) is wanted; the farm takes data only "
        "and never unpickles",
        found=found,
        allowed="NIR file (HDF5)",
    )


def too_large(what: str, found: str, allowed: str) -> BadInput:
    """MODEL_TOO_LARGE, in words."""
    message = f"{what} has {found}; at most {allowed} are allowed. A Speck holds far less"
    return BadInput("MODEL_TOO_LARGE", message, found=found, allowed=allowed)


def _unsafe_storage(path: str, found: str, allowed: str) -> BadInput:
    return BadInput(
        "UNSAFE_STORAGE",
        f"{path!r} {found}; allowed: {allowed}. Write the file with nir.write",
        path=path,
        found=found,
        allowed=allowed,
    )
