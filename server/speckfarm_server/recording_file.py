"""Bytes of an uploaded recording file to packed events: .npz, .npy and N-MNIST's .bin.

Nothing is unpickled, and sizes are checked before anything is read. The server calls this through
`parse_host`.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from speckfarm_server.errors import BadInput
from speckfarm_server.file_kind import NPY_MAGIC, ZIP_MAGIC, describe
from speckfarm_server.recording_events import pack_columns, whole_numbers
from speckfarm_server.recordings import Recordings, summarise

MAX_FILE_BYTES = 1 << 30
MAX_DECLARED_BYTES = 2 << 30  # of an .npz, unpacked
MAX_MEMBERS = 64
MAX_EVENTS = 32 << 20
MAX_ITEM_BYTES = 4096  # of one array element
MAX_RECORDINGS = 100_000
MAX_NAME_LENGTH = 256

COLUMNS = ("t", "x", "y", "p")
READABLE = (
    "readable are .npz (events with fields t, x, y, p, or those four arrays), .npy (fields t, x, "
    "y, p, or four integer columns) and N-MNIST .bin"
)
REASONS = (
    "UNSUPPORTED_RECORDING", "RECORDING_UNREADABLE", "RECORDING_TOO_LARGE", "RECORDING_EMPTY",
    "COLUMNS_WRONG", "OFFSETS_WRONG", "LABELS_WRONG", "NAMES_WRONG", "TIMES_UNSORTED",
    "TIMES_NEGATIVE", "TIME_TOO_LARGE", "COORDINATE_OUT_OF_RANGE", "FEATURE_OUT_OF_RANGE",
    "NOT_FINITE", "NOT_INTEGER",
)  # fmt: skip
Arrays: TypeAlias = Mapping[str, NDArray[Any]]

_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError,
    OverflowError, KeyError,
)  # fmt: skip
_NMNIST_BYTES = 5  # per event: x, y, then 1 bit polarity and 23 bits microseconds, big-endian


def read_recordings(data: bytes, name: str) -> Recordings:
    """Read a recording file; its kind is told by its first bytes, for .bin by its name.

    Raises BadInput with one of REASONS, naming recording and event where it is about one.
    """
    if len(data) > MAX_FILE_BYTES:
        raise too_large("The file", f"{len(data):,} bytes", f"{MAX_FILE_BYTES:,} bytes")
    arrays = _arrays(data, name)
    columns = _columns(arrays)
    count = len(columns["t"])
    if count > MAX_EVENTS:
        raise too_large("The file", f"{count:,} events", f"{MAX_EVENTS:,} events")
    offsets = _offsets(arrays, count)
    names = _names(arrays, len(offsets) - 1, PurePath(name).stem or "recording")
    labels = _labels(arrays, len(offsets) - 1)
    return summarise(pack_columns(columns, offsets), offsets, labels, names)


def _arrays(data: bytes, name: str) -> Arrays:
    if data.startswith(ZIP_MAGIC):
        return _read_npz(data)
    if data.startswith(NPY_MAGIC):
        return {"events": _read_npy(io.BytesIO(data), len(data), "the file")}
    if name.lower().endswith(".bin"):
        return _read_nmnist(data)
    found = describe(data)
    if not data:
        raise unreadable(f"This is {found}")
    text = f"This is {found}, which the farm does not read; {READABLE}. Convert it"
    raise BadInput("UNSUPPORTED_RECORDING", text, found=found, allowed=".npz, .npy, .bin")


def _read_nmnist(data: bytes) -> Arrays:
    if len(data) % _NMNIST_BYTES:
        raise unreadable(f"An N-MNIST .bin has 5 bytes per event, but this has {len(data)} bytes")
    rows = np.frombuffer(data, np.uint8).reshape(-1, _NMNIST_BYTES)
    high = rows[:, 2].astype(np.int64)
    time_us = (high & 0x7F) << 16 | rows[:, 3].astype(np.int64) << 8 | rows[:, 4]
    return {"t": time_us, "x": rows[:, 0], "y": rows[:, 1], "p": high >> 7}


def _read_npz(data: bytes) -> Arrays:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _members(archive)
            return {name: _read_member(archive, member) for name, member in members.items()}
    except _ZIP_ERRORS as error:
        raise unreadable(f"This .npz is damaged or cut short ({error})") from error


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members that are read, by array name; sizes are those declared in the archive."""
    listed = archive.infolist()
    if len(listed) > MAX_MEMBERS:
        raise too_large("The archive", f"{len(listed)} members", f"{MAX_MEMBERS}")
    size = sum(member.file_size for member in listed)
    if size > MAX_DECLARED_BYTES:
        raise too_large("The archive", f"{size:,} bytes unpacked", f"{MAX_DECLARED_BYTES:,}")
    wanted: dict[str, zipfile.ZipInfo] = {}
    for member in listed:
        name = member.filename.removesuffix(".npy")
        if name not in ("events", *COLUMNS, "offsets", "labels", "names"):
            continue
        if name in wanted:
            raise unreadable(f"This .npz has two arrays called {name!r}")
        if member.flag_bits & 1:
            raise unreadable(f"Array {name!r} in this .npz is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise unreadable(f"Array {name!r} in this .npz is not stored or deflated")
        wanted[name] = member
    return wanted


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        return _read_npy(cast("BinaryIO", stream), member.file_size, repr(member.filename))


def _read_npy(stream: BinaryIO, size: int, what: str) -> NDArray[Any]:
    """Read one .npy of `size` bytes; its header is checked before its data is read."""
    try:
        version = npy.read_magic(stream)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in readers:
            raise unreadable(f"{what} is of .npy version {version[0]}.{version[1]}")
        shape, is_fortran, dtype = readers[version](stream)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise unreadable(f"{what} has a damaged .npy header") from error
    if dtype.hasobject:
        raise unreadable(f"{what} holds Python objects (pickles)")
    count = _count(shape, dtype, what)
    if count * dtype.itemsize > size:
        raise unreadable(f"{what} is cut short: {count:,} elements declared, {size:,} bytes found")
    raw = np.empty(count * dtype.itemsize, np.uint8)
    _fill(stream, raw, what)
    array: NDArray[Any] = raw.view(dtype)
    return array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)


def _count(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> int:
    if not 1 <= dtype.itemsize <= MAX_ITEM_BYTES:
        raise too_large(what, f"elements of {dtype.itemsize:,} bytes", f"1 to {MAX_ITEM_BYTES}")
    count = 1
    for axis in shape:
        if axis < 0:
            raise unreadable(f"{what} has the shape {shape}")
        count *= axis
    if count > 4 * MAX_EVENTS:
        raise too_large(what, f"{count:,} elements", f"{4 * MAX_EVENTS:,} ({MAX_EVENTS:,} events)")
    return count


def _fill(stream: BinaryIO, raw: NDArray[np.uint8], what: str) -> None:
    view = raw.data
    filled = 0
    while filled < len(raw):
        piece = stream.read(min(len(raw) - filled, 1 << 20))
        if not piece:
            raise unreadable(f"{what} is cut short: {len(raw):,} bytes declared, {filled:,} found")
        view[filled : filled + len(piece)] = piece
        filled += len(piece)


def _columns(arrays: Arrays) -> Arrays:
    """t, x, y, p as rows of numbers of one length."""
    if "events" not in arrays:
        missing = [name for name in COLUMNS if name not in arrays]
        if missing:
            found = ", ".join(arrays) or "none of them"
            raise _columns_wrong(f"it has no events and lacks {', '.join(missing)}", found)
        columns: Arrays = {name: arrays[name] for name in COLUMNS}
    else:
        columns = _split(arrays["events"])
    for name, column in columns.items():
        if column.ndim != 1 or column.dtype.kind not in "biuf":
            text = f"{name} is of type {column.dtype} and shape {column.shape}"
            raise _columns_wrong(text, f"{column.dtype} {column.shape}")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise _columns_wrong(f"columns are of different lengths {lengths}", str(lengths))
    return columns


def _split(events: NDArray[Any]) -> Arrays:
    fields = events.dtype.names
    if fields is not None:
        missing = [name for name in COLUMNS if name not in fields]
        if missing:
            text = f"events have the fields {', '.join(fields)} and lack {', '.join(missing)}"
            raise _columns_wrong(text, ", ".join(fields))
        return {name: events[name] for name in COLUMNS}
    if events.ndim == 2 and events.shape[1] == len(COLUMNS):
        return {name: events[:, number] for number, name in enumerate(COLUMNS)}
    text = f"events are of type {events.dtype} and shape {events.shape}"
    raise _columns_wrong(text, f"{events.dtype} {events.shape}")


def _offsets(arrays: Arrays, count: int) -> NDArray[np.int64]:
    if count == 0:
        raise _empty("The file has no events")
    if "offsets" not in arrays:
        return np.array([0, count], np.int64)
    offsets = whole_numbers(arrays["offsets"], "OFFSETS_WRONG", "offsets")
    if len(offsets) - 1 > MAX_RECORDINGS:
        raise too_large("The file", f"{len(offsets) - 1:,} recordings", f"{MAX_RECORDINGS:,}")
    steps = np.diff(offsets)
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != count or (steps < 0).any():
        found = f"{len(offsets)} from {offsets[:1].tolist()} to {offsets[-1:].tolist()}"
        text = f"Offsets must rise from 0 to the number of events, {count:,}; found {found}"
        raise BadInput("OFFSETS_WRONG", text, found=found, allowed=f"0 to {count}")
    if (steps == 0).any():
        number = int(np.argmax(steps == 0))
        raise _empty(f"Recording {number} has no events", number)
    return offsets


MAX_LABEL = 1023  # output features are numbered 0 to 1023


def _labels(arrays: Arrays, count: int) -> NDArray[np.int64] | None:
    if "labels" not in arrays:
        return None
    labels = whole_numbers(arrays["labels"], "LABELS_WRONG", "labels")
    if len(labels) != count or (labels < 0).any() or (labels > MAX_LABEL).any():
        bounds = f"from {labels.min()} to {labels.max()}" if len(labels) else "none"
        found = f"{len(labels)} labels, {bounds}"
        text = f"One label of 0 to {MAX_LABEL} per recording is wanted, {count:,} in all; "
        text += f"found {found}"
        raise BadInput("LABELS_WRONG", text, found=found, allowed=count)
    return labels


def _names(arrays: Arrays, count: int, stem: str) -> tuple[str, ...]:
    if "names" not in arrays:
        return (stem,) if count == 1 else tuple(f"{stem}-{number}" for number in range(count))
    array = arrays["names"].reshape(-1)
    names: tuple[str, ...] = ()
    try:
        if array.dtype.kind == "U":
            names = tuple(map(str, array.tolist()))
        elif array.dtype.kind == "S":
            names = tuple(name.decode() for name in array.tolist())
        "".join(names).encode()
    except (ValueError, SystemError):  # beyond Unicode, or half a surrogate pair
        names = ()
    if len(names) != count or max(map(len, names)) > MAX_NAME_LENGTH:
        found = f"{len(array)} names of type {array.dtype}"
        text = (
            f"One text of at most {MAX_NAME_LENGTH} characters per recording is wanted, {count:,} "
        )
        raise BadInput("NAMES_WRONG", f"{text}in all; found {found}", found=found, allowed=count)
    return names


def too_large(what: str, found: str, allowed: str) -> BadInput:
    """RECORDING_TOO_LARGE, in words."""
    text = f"{what} has {found}; at most {allowed} are allowed. Split the recording"
    return BadInput("RECORDING_TOO_LARGE", text, found=found, allowed=allowed)


def unreadable(found: str) -> BadInput:
    """RECORDING_UNREADABLE, in words."""
    text = f"{found}; {READABLE}. The farm never unpickles"
    return BadInput("RECORDING_UNREADABLE", text, found=found, allowed=".npz, .npy, .bin")


def _empty(found: str, recording: int = 0) -> BadInput:
    text = f"{found}; every recording needs at least one. Leave it out"
    return BadInput("RECORDING_EMPTY", text, recording=recording, found=0, allowed=">= 1")


def _columns_wrong(text: str, found: str) -> BadInput:
    message = f"Columns t (µs), x, y, p of numbers are wanted, but {text}; {READABLE}"
    return BadInput("COLUMNS_WRONG", message, found=found, allowed="t, x, y, p")
