"""The packed event: one little-endian uint64, on the wire and on disk, on both sides.

    t_us << 28 | layer << 24 | feature << 14 | y << 7 | x

t: 36 bits, whole microseconds; layer: 4 bits (0 for input, 0-8 network, 12 readout, 13 echo of the
input); feature: 10 bits; y and x: 7 bits. Sorting the integers sorts by time.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

PackedEvents: TypeAlias = NDArray[np.uint64]
EVENT_DTYPE = np.dtype([
    ("t", "<i8"),
    ("layer", "u1"),
    ("feature", "<u2"),
    ("y", "u1"),
    ("x", "u1"),
])
PACKED_DTYPE = np.dtype("<u8")

TIME_BITS, LAYER_BITS, FEATURE_BITS, COORDINATE_BITS = 36, 4, 10, 7
X_SHIFT = 0
Y_SHIFT = X_SHIFT + COORDINATE_BITS
FEATURE_SHIFT = Y_SHIFT + COORDINATE_BITS
LAYER_SHIFT = FEATURE_SHIFT + FEATURE_BITS
TIME_SHIFT = LAYER_SHIFT + LAYER_BITS
MAX_TIME_US = (1 << TIME_BITS) - 1
ECHO = 13  # layer of input events as they leave the chip's event pre-processing layer


def pack(events: NDArray[np.void]) -> PackedEvents:
    """Pack a structured array (EVENT_DTYPE); values must be in range, nothing is checked here."""
    packed: PackedEvents = (
        events["t"].astype(np.uint64) << np.uint64(TIME_SHIFT)
        | events["layer"].astype(np.uint64) << np.uint64(LAYER_SHIFT)
        | events["feature"].astype(np.uint64) << np.uint64(FEATURE_SHIFT)
        | events["y"].astype(np.uint64) << np.uint64(Y_SHIFT)
        | events["x"].astype(np.uint64) << np.uint64(X_SHIFT)
    )
    return packed


def unpack(packed: PackedEvents) -> NDArray[np.void]:
    """Unpack to a structured array (t, layer, feature, y, x), shape as given."""
    events = np.empty(packed.shape, EVENT_DTYPE)
    events["t"] = packed >> np.uint64(TIME_SHIFT)
    events["layer"] = _field(packed, LAYER_SHIFT, LAYER_BITS)
    events["feature"] = _field(packed, FEATURE_SHIFT, FEATURE_BITS)
    events["y"] = _field(packed, Y_SHIFT, COORDINATE_BITS)
    events["x"] = _field(packed, X_SHIFT, COORDINATE_BITS)
    return events


def _field(packed: PackedEvents, shift: int, bits: int) -> PackedEvents:
    field: PackedEvents = (packed >> np.uint64(shift)) & np.uint64((1 << bits) - 1)
    return field
