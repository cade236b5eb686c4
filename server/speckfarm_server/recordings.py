"""Recordings: packed input events of one file, and their form on disk.

Form on disk (little-endian, read through mmap): 8 bytes magic, uint64 length of the head, the head
(JSON, padded with spaces to a multiple of 8), offsets int64[n+1], labels int64[n] if labelled,
events uint64[...].
"""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import (
    COORDINATE_BITS,
    FEATURE_BITS,
    FEATURE_SHIFT,
    PACKED_DTYPE,
    TIME_SHIFT,
    X_SHIFT,
    Y_SHIFT,
    PackedEvents,
)
from speckfarm_server.errors import BadInput

MAGIC = b"SPKREC1\n"
POLARITY_OF = {"off": 0, "on": 1}
_FEATURES = np.uint64((1 << FEATURE_BITS) - 1)
_COORDINATES = np.uint64((1 << COORDINATE_BITS) - 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recordings:
    """All recordings of one file, one after another; none of them is empty."""

    packed: PackedEvents  # layer 0, feature = p; each recording sorted by time
    offsets: NDArray[np.int64]  # (n + 1,): recording i is packed[offsets[i]:offsets[i + 1]]
    labels: NDArray[np.int64] | None  # (n,), >= 0
    names: tuple[str, ...]  # (n,)
    max_x: int
    max_y: int
    features: tuple[int, ...]  # values of p that occur, ascending
    duration_us: int  # sum over the recordings of last - first event

    def __len__(self) -> int:
        return len(self.names)

    def recording(self, number: int) -> PackedEvents:
        """Events of one recording, a view."""
        return self.packed[self.offsets[number] : self.offsets[number + 1]]


def summarise(
    packed: PackedEvents,
    offsets: NDArray[np.int64],
    labels: NDArray[np.int64] | None,
    names: tuple[str, ...],
) -> Recordings:
    """Complete recordings with the bounds that later checks need; no recording may be empty."""
    seen = np.zeros(1 << FEATURE_BITS, np.bool_)
    max_x = max_y = 0
    for start in range(0, len(packed), 1 << 20):  # in pieces, for the memory of the temporaries
        piece = packed[start : start + (1 << 20)]
        seen[features_of(piece)] = True
        max_x = max(max_x, int(x_of(piece).max()))
        max_y = max(max_y, int(y_of(piece).max()))
    first = packed[offsets[:-1]] >> np.uint64(TIME_SHIFT)
    last = packed[offsets[1:] - 1] >> np.uint64(TIME_SHIFT)
    return Recordings(
        packed=packed,
        offsets=offsets,
        labels=labels,
        names=names,
        max_x=max_x,
        max_y=max_y,
        features=tuple(np.flatnonzero(seen).tolist()),
        duration_us=int((last - first).sum()),
    )


def write_to(recordings: Recordings, file: BinaryIO) -> None:
    """Write the form on disk."""
    head = {
        "events": len(recordings.packed),
        "labelled": recordings.labels is not None,
        "names": recordings.names,
        "max_x": recordings.max_x,
        "max_y": recordings.max_y,
        "features": recordings.features,
        "duration_us": recordings.duration_us,
    }
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    labels = [] if recordings.labels is None else [recordings.labels]
    file.write(MAGIC + len(text).to_bytes(8, "little") + text)
    for array in (recordings.offsets, *labels):
        file.write(np.ascontiguousarray(array, "<i8").data)
    file.write(np.ascontiguousarray(recordings.packed, PACKED_DTYPE).data)


def to_file(recordings: Recordings, path: Path) -> None:
    """Write the form on disk to a new file."""
    with path.open("wb") as file:
        write_to(recordings, file)


def from_file(path: Path) -> Recordings:
    """Map what `to_file` wrote: the arrays are read-only and nothing is copied.

    Raises BadInput RECORDING_UNREADABLE if it is something else.
    """
    with path.open("rb") as file:
        return from_open_file(file)


def from_open_file(file: BinaryIO) -> Recordings:
    """Map what `write_to` wrote, from the beginning of a real file."""
    try:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _decode(memoryview(mapped))
    except (ValueError, KeyError, TypeError) as error:
        text = f"This is not a file of packed recordings ({error}). Upload the recording again"
        raise BadInput("RECORDING_UNREADABLE", text, found=error) from error


def _decode(data: memoryview) -> Recordings:
    if data[:8] != MAGIC:
        raise ValueError("wrong magic")
    start = 16 + int.from_bytes(data[8:16], "little")
    head = json.loads(bytes(data[16:start]))
    names = tuple(map(str, head["names"]))
    offsets = np.frombuffer(data, "<i8", len(names) + 1, start)
    start += offsets.nbytes
    labels = np.frombuffer(data, "<i8", len(names), start) if head["labelled"] else None
    start += 0 if labels is None else labels.nbytes
    packed = np.frombuffer(data, PACKED_DTYPE, int(head["events"]), start)
    if len(data) != start + packed.nbytes or offsets[0] != 0 or offsets[-1] != len(packed):
        raise ValueError("sizes disagree")
    if (np.diff(offsets) < 1).any():
        raise ValueError("offsets disagree")
    return Recordings(
        packed=packed,
        offsets=offsets,
        labels=labels,
        names=names,
        max_x=int(head["max_x"]),
        max_y=int(head["max_y"]),
        features=tuple(map(int, head["features"])),
        duration_us=int(head["duration_us"]),
    )


def select_polarity(packed: PackedEvents, polarity: str) -> PackedEvents:
    """Make features of p: keep (as they are), merge (all feature 0), on (only p = 1), off (p = 0).

    With on and off the events that stay have feature 0.
    """
    if polarity == "keep":
        return packed
    if polarity in POLARITY_OF:
        packed = packed[features_of(packed) == POLARITY_OF[polarity]]
    merged: PackedEvents = packed & ~(_FEATURES << np.uint64(FEATURE_SHIFT))
    return merged


def features_of(packed: PackedEvents) -> PackedEvents:
    """Feature (p) of every event."""
    return _bits(packed, FEATURE_SHIFT, _FEATURES)


def x_of(packed: PackedEvents) -> PackedEvents:
    """Column of every event."""
    return _bits(packed, X_SHIFT, _COORDINATES)


def y_of(packed: PackedEvents) -> PackedEvents:
    """Row of every event."""
    return _bits(packed, Y_SHIFT, _COORDINATES)


def _bits(packed: PackedEvents, shift: int, mask: np.uint64) -> PackedEvents:
    bits: PackedEvents = (packed >> np.uint64(shift)) & mask
    return bits
