"""Events of a recording file, for pictures. What a file may be is the farm's to judge, not ours."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from speckfarm.arrays import FIELDS, RECORDING_DTYPE
from speckfarm.errors import BadRequest, NotFound
from speckfarm.upload import download, file_source
from speckfarm.v1 import recordings_pb2

if TYPE_CHECKING:
    from speckfarm.connection import Connection

Events = NDArray[np.void]  # (n,), fields t (µs), x, y, p
_UNREADABLE = (
    ValueError, TypeError, KeyError, IndexError, OSError, EOFError, zipfile.BadZipFile,
)  # fmt: skip
NMNIST_BYTES = 5  # per event: x, y, then 1 bit polarity and 23 bits microseconds, big-endian


def fetch_recorded(connection: Connection, digest: str) -> list[Events]:
    """Recordings of a registered file. Raises NotFound RECORDING_NOT_FOUND if it is gone."""
    request = recordings_pb2.GetRecordingRequest(recording=digest)
    try:
        found = connection.call(connection.recordings.GetRecording, request).recording
        content = download(connection, digest)
    except NotFound:
        text = f"The farm no longer has the recording file {digest[:12]}; give the file itself"
        error = NotFound("RECORDING_NOT_FOUND", text, metadata={"found": digest})
        error.advice = "--input FILE, or input_file= in Python"
        raise error from None
    return parse_recorded(content, found.name)


def read_recorded(path: Path, digest: str) -> list[Events]:
    """Recordings of a file on this machine, which must be the one with this digest.

    Raises BadRequest FILE_UNREADABLE and its kin, BAD_ARGUMENT for another file.
    """
    source = file_source(path)
    if source.digest != digest:
        text = (
            f"{path} is not the file that was run: its SHA-256 begins with {source.digest[:12]}, "
            f"that of the recording with {digest[:12]}"
        )
        metadata = {"argument": "input_file", "found": source.digest, "wanted": digest}
        raise BadRequest("BAD_ARGUMENT", text, metadata=metadata)
    with source.open() as file:
        return parse_recorded(file.read(), path.name)


def parse_recorded(content: bytes, name: str) -> list[Events]:
    """Recordings of an .npz, .npy or N-MNIST .bin. Raises BadRequest RECORDING_UNREADABLE."""
    try:
        arrays = _arrays(content, name)
        events = _events(arrays)
        offsets = np.asarray(arrays.get("offsets", [0, len(events)])).astype(np.int64)
        if (np.diff(offsets) < 0).any() or not 0 <= offsets.min() <= offsets.max() <= len(events):
            raise ValueError("offsets do not fit the events")
        return [events[start:stop] for start, stop in pairwise(offsets)]
    except _UNREADABLE as error:
        text = f"{name} cannot be read as a recording: {error}"
        raise BadRequest("RECORDING_UNREADABLE", text, metadata={"path": name}) from None


def _arrays(content: bytes, name: str) -> Mapping[str, NDArray[Any]]:
    if name.lower().endswith(".bin"):
        return _nmnist(content)
    if not content.startswith((b"PK", b"\x93NUMPY")):
        raise ValueError("it is no .npz, .npy or N-MNIST .bin")
    loaded = np.load(io.BytesIO(content), allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {"events": loaded}
    with loaded:
        return {key: loaded[key] for key in ("events", *FIELDS, "offsets") if key in loaded}


def _nmnist(content: bytes) -> Mapping[str, NDArray[Any]]:
    rows = np.frombuffer(content, np.uint8).reshape(-1, NMNIST_BYTES).astype(np.int64)
    time_us = (rows[:, 2] & 0x7F) << 16 | rows[:, 3] << 8 | rows[:, 4]
    return {"t": time_us, "x": rows[:, 0], "y": rows[:, 1], "p": rows[:, 2] >> 7}


def _events(arrays: Mapping[str, NDArray[Any]]) -> Events:
    source = arrays.get("events")
    if source is None:
        columns = {name: arrays[name] for name in FIELDS}
    elif source.dtype.names is not None:
        columns = {name: source[name] for name in FIELDS}
    else:
        columns = {name: source[:, number] for number, name in enumerate(FIELDS)}
    events = np.empty(len(columns["t"]), RECORDING_DTYPE)
    for name, column in columns.items():
        events[name] = column
    return events
