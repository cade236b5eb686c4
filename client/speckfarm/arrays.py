"""Event arrays in memory become recording files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speckfarm.errors import BadRequest

FIELDS = ("t", "x", "y", "p")
RECORDING_DTYPE = np.dtype([("t", "<i8"), ("x", "u1"), ("y", "u1"), ("p", "<u2")])


@dataclass(frozen=True, kw_only=True)
class EventArray:
    """One recording in memory."""

    events: NDArray[np.void]  # (n,), fields t (µs), x, y, p (0 OFF, 1 ON, or an input feature)
    label: int | None = None


def as_event_array(value: object) -> EventArray:
    """An event array from events or (events, label).

    Raises BadRequest RECORDING_ARRAY_WRONG if it is not a structured array with t, x, y, p.
    """
    events, label = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    if not isinstance(events, np.ndarray) or not set(FIELDS) <= set(events.dtype.names or ()):
        found = events.dtype if isinstance(events, np.ndarray) else type(events).__name__
        raise _wrong(f"found {found}; a structured array with the fields t, x, y, p is wanted")
    if events.ndim != 1:
        raise _wrong(f"found shape {events.shape}; one dimension is wanted")
    for name in FIELDS:
        _check_range(events, name)
    if label is None:
        return EventArray(events=events)
    return EventArray(events=events, label=int(label))


def recording_file(arrays: Sequence[EventArray]) -> bytes:
    """An .npz with one recording for each array; labels are kept if all have one."""
    events = np.concatenate([_with_dtype(array.events) for array in arrays])
    offsets = np.cumsum([0, *(len(array.events) for array in arrays)], dtype=np.int64)
    columns = {"events": events, "offsets": offsets}
    labels = [array.label for array in arrays if array.label is not None]
    if len(labels) == len(arrays):
        columns["labels"] = np.array(labels, np.int64)
    file = io.BytesIO()
    np.savez(file, **columns)  # type: ignore[arg-type]
    return file.getvalue()


def _with_dtype(events: NDArray[np.void]) -> NDArray[np.void]:
    copied = np.empty(len(events), RECORDING_DTYPE)
    for name in FIELDS:
        copied[name] = events[name]
    return copied


def _check_range(events: NDArray[np.void], name: str) -> None:
    column = events[name]
    if column.dtype.kind not in "iub":
        hint = "; times are whole microseconds, e.g. (seconds * 1e6).astype(int)"
        hint = hint if name == "t" else ""
        raise _wrong(f"field {name} has type {column.dtype}; whole numbers are wanted{hint}")
    kind = RECORDING_DTYPE[name]
    if len(column) and not np.iinfo(kind).min <= int(column.min()) <= int(column.max()) <= int(
        np.iinfo(kind).max
    ):
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        found = f"{column.min()} to {column.max()}"
        raise _wrong(f"field {name} has values {found}; {low} to {high} can be sent")


def _wrong(text: str) -> BadRequest:
    return BadRequest("RECORDING_ARRAY_WRONG", f"A recording array cannot be used: {text}")
