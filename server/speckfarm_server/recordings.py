"""Recordings: packed input events of one file, their form on disk, and whether they fit a network.

Form on disk (little-endian, read through mmap): 8 bytes magic, uint64 length of the head, the head
(JSON, padded with spaces to a multiple of 8), offsets int64[n+1], labels int64[n] if labelled,
events uint64[...].
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
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
        seen[_bits(piece, FEATURE_SHIFT, _FEATURES)] = True
        max_x = max(max_x, int(_bits(piece, X_SHIFT, _COORDINATES).max()))
        max_y = max(max_y, int(_bits(piece, Y_SHIFT, _COORDINATES).max()))
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
        packed = packed[_bits(packed, FEATURE_SHIFT, _FEATURES) == POLARITY_OF[polarity]]
    merged: PackedEvents = packed & ~(_FEATURES << np.uint64(FEATURE_SHIFT))
    return merged


def check_fit(recordings: Recordings, input_shape: tuple[int, int, int], polarity: str) -> None:
    """Raise BadInput if a network of this input (c, h, w) cannot take the recordings.

    POLARITY_NOT_CHOSEN, POLARITY_MISMATCH, RECORDING_OUTSIDE_INPUT, RECORDING_EMPTY.
    """
    problems = list(_fit_problems(recordings, input_shape, polarity))
    if len(problems) == 1:
        raise problems[0]
    if problems:  # all at once, under the reason of the first
        message = ". ".join(problem.message for problem in problems)
        fields = [field for problem in problems for field in problem.fields]
        raise BadInput(problems[0].reason, message, fields=fields, problems=len(problems))


def _fit_problems(
    recordings: Recordings, input_shape: tuple[int, int, int], polarity: str
) -> Iterator[BadInput]:
    features, height, width = input_shape
    if polarity == "keep":
        yield from _check_features(recordings, features)
    else:
        yield from _check_polarity(recordings, features, polarity)
    for axis, largest, size, shift in (
        ("x", recordings.max_x, width, X_SHIFT),
        ("y", recordings.max_y, height, Y_SHIFT),
    ):
        if largest >= size:
            outside = _bits(recordings.packed, shift, _COORDINATES) >= size
            yield _outside(recordings, int(np.argmax(outside)), f"{axis} = {largest}", size)
    if polarity in POLARITY_OF:
        yield from _check_left(recordings, polarity)


def _check_features(recordings: Recordings, features: int) -> Iterator[BadInput]:
    largest = recordings.features[-1]
    if largest < features:
        return
    if features == 1 and largest == 1:
        yield BadInput(
            "POLARITY_NOT_CHOSEN",
            "The recording has two polarities, p = 0 (OFF) and 1 (ON), but the network's input has "
            "one feature. Choose polarity merge (both), on or off",
            fields=[("settings.polarity", "merge, on or off is wanted")],
            found="keep",
            allowed="merge, on, off",
        )
        return
    beyond = _bits(recordings.packed, FEATURE_SHIFT, _FEATURES) >= features
    yield _outside(recordings, int(np.argmax(beyond)), f"p = {largest}", features)


def _check_polarity(recordings: Recordings, features: int, polarity: str) -> Iterator[BadInput]:
    text = ""
    if features != 1:
        text = f"gives events of one feature, but the network's input has {features}: use keep"
    elif polarity in POLARITY_OF and recordings.features[-1] > 1:
        text = f"needs p = 0 (OFF) or 1 (ON), but p goes up to {recordings.features[-1]}: use merge"
    if text:
        yield BadInput(
            "POLARITY_MISMATCH",
            f"Polarity {polarity} {text}",
            fields=[("settings.polarity", text)],
            found=polarity,
            input_features=features,
            largest_p=recordings.features[-1],
        )


def _check_left(recordings: Recordings, polarity: str) -> Iterator[BadInput]:
    kept = _bits(recordings.packed, FEATURE_SHIFT, _FEATURES) == POLARITY_OF[polarity]
    empty = np.flatnonzero(~np.logical_or.reduceat(kept, recordings.offsets[:-1]))
    if len(empty):
        number = int(empty[0])
        yield BadInput(
            "RECORDING_EMPTY",
            f"Recording {number} ({recordings.names[number]!r}) has no events of polarity "
            f"{polarity}; {len(empty)} of {len(recordings)} recordings have none. Use merge or "
            "leave them out",
            recording=number,
            found=0,
            allowed=">= 1",
            empty=len(empty),
        )


def _outside(recordings: Recordings, event: int, found: str, size: int) -> BadInput:
    number = int(np.searchsorted(recordings.offsets, event, "right")) - 1
    event -= int(recordings.offsets[number])
    return BadInput(
        "RECORDING_OUTSIDE_INPUT",
        f"The recording goes up to {found}, but the network's input takes {found[0]} = 0 to "
        f"{size - 1}; first at event {event} of recording {number} "
        f"({recordings.names[number]!r}). Crop or scale the recording",
        recording=number,
        event=event,
        found=found,
        allowed=size - 1,
    )


def _bits(packed: PackedEvents, shift: int, mask: np.uint64) -> PackedEvents:
    bits: PackedEvents = (packed >> np.uint64(shift)) & mask
    return bits
