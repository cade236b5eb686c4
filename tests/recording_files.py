"""Small recording files for tests."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import unpack
from speckfarm_server.errors import BadInput
from speckfarm_server.recording_file import REASONS, read_recordings
from speckfarm_server.recordings import Recordings

EVENTS = [(0, 1, 2, 0), (5, 3, 4, 1), (5, 33, 0, 1)]  # t, x, y, p
OUTCOMES = (*REASONS, "read")
NMNIST = b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for t, x, y, p in EVENTS)


def structured(rows: list[tuple[int, ...]], dtype: str = "i8,i2,i2,i1") -> NDArray[Any]:
    events = np.array(rows, dtype)
    events.dtype.names = ("t", "x", "y", "p")
    return events


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def columns(rows: list[tuple[int, ...]], dtype: Any = np.int64) -> dict[str, NDArray[Any]]:
    return dict(zip("txyp", np.array(rows, dtype).reshape(-1, 4).T.copy(), strict=True))


def rows_of(recordings: Recordings) -> list[tuple[int, ...]]:
    events = unpack(recordings.packed)
    assert not events["layer"].any()
    names = ("t", "x", "y", "feature")
    return [tuple(int(event[name]) for name in names) for event in events]


def outcome(data: bytes, name: str = "a.npz") -> str:
    try:
        read_recordings(data, name)
    except BadInput as error:
        return error.reason
    return "read"
