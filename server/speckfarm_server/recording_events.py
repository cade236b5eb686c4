"""Columns of numbers to packed events, every value checked, in pieces that fit a cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import (
    COORDINATE_BITS,
    EVENT_DTYPE,
    FEATURE_BITS,
    MAX_TIME_US,
    PACKED_DTYPE,
    PackedEvents,
    pack,
)
from speckfarm_server.errors import BadInput

PIECE = 1 << 18  # events
MAX_COORDINATE = (1 << COORDINATE_BITS) - 1
MAX_FEATURE = (1 << FEATURE_BITS) - 1
_EXACT = 1 << 53  # beyond it a float64 skips whole numbers


def pack_columns(columns: Mapping[str, NDArray[Any]], offsets: NDArray[np.int64]) -> PackedEvents:
    """Pack the columns t, x, y, p (numbers, of one length) of all recordings.

    Raises BadInput naming recording, event, what was found and what is allowed: NOT_FINITE,
    NOT_INTEGER, TIMES_NEGATIVE, TIME_TOO_LARGE, TIMES_UNSORTED, COORDINATE_OUT_OF_RANGE,
    FEATURE_OUT_OF_RANGE.
    """
    count = len(columns["t"])
    packed: PackedEvents = np.empty(count, PACKED_DTYPE)
    begins = np.zeros(count, np.bool_)
    begins[offsets[:-1]] = True  # time may fall back where a recording begins
    before_us = 0
    for start in range(0, count, PIECE):
        stop = min(start + PIECE, count)
        piece = {name: column[start:stop] for name, column in columns.items()}
        events = _check_piece(piece, _Place(start, offsets))
        _check_sorted(events["t"], before_us, begins[start:stop], _Place(start, offsets))
        packed[start:stop] = pack(events)
        before_us = int(events["t"][-1])
    return packed


class _Place:
    """Words for where an event is."""

    def __init__(self, start: int, offsets: NDArray[np.int64]) -> None:
        self._start = start
        self._offsets = offsets

    def refuse(
        self, reason: str, index: int, text: str, *, found: object, allowed: object
    ) -> BadInput:
        event = self._start + index
        number = int(np.searchsorted(self._offsets, event, "right")) - 1
        event -= int(self._offsets[number])
        message = f"Event {event} of recording {number} {text}"
        return BadInput(
            reason, message, recording=number, event=event, found=found, allowed=allowed
        )


def _check_piece(piece: Mapping[str, NDArray[Any]], place: _Place) -> NDArray[np.void]:
    events = np.zeros(len(piece["t"]), EVENT_DTYPE)
    for name, field, largest in (
        ("t", "t", MAX_TIME_US),
        ("x", "x", MAX_COORDINATE),
        ("y", "y", MAX_COORDINATE),
        ("p", "feature", MAX_FEATURE),
    ):
        column = piece[name]
        if column.dtype.kind == "f":
            _check_whole(column, name, place)
        outside = (column < 0) | (column > largest) if column.dtype.kind != "b" else None
        if outside is not None and outside.any():
            index = int(np.argmax(outside))
            raise _out_of_range(name, column[index], largest, index, place)
        events[field] = column
    return events


def _check_whole(column: NDArray[Any], name: str, place: _Place) -> None:
    for reason, bad, wanted in (
        ("NOT_FINITE", ~np.isfinite(column), "finite"),
        ("NOT_INTEGER", column != np.floor(column), "whole"),
    ):
        if bad.any():
            index = int(np.argmax(bad))
            text = f"has {name} = {column[index]}; {wanted} numbers are wanted"
            if name == "t" and reason == "NOT_INTEGER":
                text += ", in microseconds: multiply and round"
            raise place.refuse(reason, index, text, found=column[index], allowed=wanted)


def _out_of_range(name: str, found: Any, largest: int, index: int, place: _Place) -> BadInput:
    reason = {"t": "TIME_TOO_LARGE", "p": "FEATURE_OUT_OF_RANGE"}.get(
        name, "COORDINATE_OUT_OF_RANGE"
    )
    advice = {"t": "subtract the first time stamp", "p": "0 is OFF and 1 is ON"}.get(
        name, "crop or scale the recording to the chip's 128 x 128 pixels"
    )
    if name == "t" and found < 0:
        reason = "TIMES_NEGATIVE"
    text = f"has {name} = {found}; allowed: 0 to {largest}; {advice}"
    return place.refuse(reason, index, text, found=found, allowed=largest)


def _check_sorted(
    times_us: NDArray[np.int64], before_us: int, begins: NDArray[np.bool_], place: _Place
) -> None:
    earlier = np.empty_like(times_us)
    earlier[0], earlier[1:] = before_us, times_us[:-1]
    falls = (times_us < earlier) & ~begins
    if falls.any():
        index = int(np.argmax(falls))
        found, last = int(times_us[index]), int(earlier[index])
        text = f"is at {found} µs, before the previous one at {last} µs; sort the events by time"
        raise place.refuse("TIMES_UNSORTED", index, text, found=found, allowed=f">= {last}")


def whole_numbers(array: NDArray[Any], reason: str, what: str) -> NDArray[np.int64]:
    """A row of whole numbers, or one alone, as int64; BadInput with `reason` if it is not."""
    row = array.reshape(-1) if array.ndim < 2 else array
    kind = row.dtype.kind
    is_whole = row.ndim == 1 and kind in "iuf"
    if is_whole and kind != "i" and len(row):
        is_whole = bool((np.abs(row) < _EXACT).all() and (row == np.floor(row)).all())
    if not is_whole:
        found = f"{array.dtype} {array.shape}"
        text = f"Found {what} of type and shape {found}; a row of whole numbers is wanted"
        raise BadInput(reason, text, found=found, allowed="int64")
    return row.astype(np.int64)
