"""Recorded events on their way in: checked, and spread out for the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from speckfarm.events import (
    FEATURE_SHIFT,
    LAYER_SHIFT,
    TIME_SHIFT,
    X_SHIFT,
    Y_SHIFT,
    PackedEvents,
    unpack,
)
from speckfarm_server.twin.records import SPIKE_DTYPE

NS_PER_US = 1000


def check_events(packed: PackedEvents, shape: tuple[int, int, int], last_us: int) -> None:
    """Raise ValueError for the first event that is not of the input map or goes back in time."""
    at = first_bad(_plain(packed), *shape, last_us)
    if at == len(packed):
        return
    event = unpack(packed[at : at + 1])[0]
    sizes = {"layer": 1, "feature": shape[0], "y": shape[1], "x": shape[2]}
    for name, size in sizes.items():
        if event[name] >= size:
            raise ValueError(f"event {at}: {name} is {event[name]}, must be 0 to {size - 1}")
    before_us = int(packed[at - 1]) >> TIME_SHIFT if at else last_us
    text = f"{before_us - int(event['t'])} us before the last one; sort events by time"
    raise ValueError(f"event {at} is {text}")


def spread_out(packed: PackedEvents, cause: NDArray[np.int64]) -> NDArray[np.void]:
    """Events as SPIKE_DTYPE of layer 0, with the cause of each."""
    spikes = np.empty(len(packed), SPIKE_DTYPE)
    spread(_plain(packed), cause, spikes)
    return spikes


def _plain(packed: PackedEvents) -> PackedEvents:
    """As the compiled functions take it; a copy only if it must be."""
    return np.require(packed, np.uint64, ["C_CONTIGUOUS", "ALIGNED"])


@njit(error_model="numpy", nogil=True)
def first_bad(packed: Any, features: int, height: int, width: int, last_us: int) -> int:
    """The first event beyond the map, of another layer than 0, or earlier than the one before."""
    before = np.uint64(max(last_us, 0))
    for at in range(len(packed)):
        word = packed[at]
        t_us = word >> np.uint64(TIME_SHIFT)
        if (
            t_us < before
            or word >> np.uint64(LAYER_SHIFT) & np.uint64(0xF)
            or word >> np.uint64(FEATURE_SHIFT) & np.uint64(0x3FF) >= np.uint64(features)
            or word >> np.uint64(Y_SHIFT) & np.uint64(0x7F) >= np.uint64(height)
            or word >> np.uint64(X_SHIFT) & np.uint64(0x7F) >= np.uint64(width)
        ):
            return at
        before = t_us
    return len(packed)


@njit(error_model="numpy", nogil=True)
def spread(packed: Any, cause: Any, spikes: Any) -> None:
    """Write each field of events to `spikes`."""
    for at in range(len(packed)):
        word = packed[at]
        spike = spikes[at]
        spike.t_ns = np.int64(word >> np.uint64(TIME_SHIFT)) * NS_PER_US
        spike.cause = cause[at]
        spike.layer = 0
        spike.feature = word >> np.uint64(FEATURE_SHIFT) & np.uint64(0x3FF)
        spike.y = word >> np.uint64(Y_SHIFT) & np.uint64(0x7F)
        spike.x = word >> np.uint64(X_SHIFT) & np.uint64(0x7F)
