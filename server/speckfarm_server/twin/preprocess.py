"""The event pre-processing layer: camera events become the spikes that enter the cores."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import PackedEvents, pack, unpack
from speckfarm_server.chip import Chip
from speckfarm_server.configuration import BoolArray, DvsConfiguration
from speckfarm_server.rules.dvs import camera_size

Int64Array: TypeAlias = NDArray[np.int64]

Y, X = 0, 1  # axes of the pairs of a DvsConfiguration
OFF, ON = 0, 1  # polarities, as features of camera events


def preprocess(
    packed: PackedEvents, dvs: DvsConfiguration, chip: Chip
) -> tuple[PackedEvents, Int64Array]:
    """Events that leave the layer, each at its time, and for each the index of what it was.

    Takes camera events: feature 0 OFF, 1 ON, y and x of the sensor. In this order: polarity,
    pooling and crop (the chip says which first), mirror, swap. Summing divides coordinates: each
    event passes as one. What a pooling leaves over of a crop does not pass.
    """
    events = unpack(packed)
    y, passes_y = _along(Y, events["y"].astype(np.int64), dvs, chip)
    x, passes_x = _along(X, events["x"].astype(np.int64), dvs, chip)
    index = np.flatnonzero(_passes_polarity(events["feature"], dvs) & passes_y & passes_x)
    left = events[index]
    left["y"], left["x"] = (x[index], y[index]) if dvs.mirror_diagonal else (y[index], x[index])
    if dvs.merge:
        left["feature"] = 0
    return pack(left), index


def _passes_polarity(feature: NDArray[np.uint16], dvs: DvsConfiguration) -> BoolArray:
    passes: BoolArray = (dvs.on_channel & (feature == ON)) | (dvs.off_channel & (feature == OFF))
    return passes


def _along(
    axis: int, at: Int64Array, dvs: DvsConfiguration, chip: Chip
) -> tuple[Int64Array, BoolArray]:
    """Coordinates along one axis on the map that leaves, and which of them are on it."""
    pooling, origin = dvs.pooling[axis], dvs.origin[axis]
    size = camera_size(dvs, chip)[axis]
    at = (at - origin) // pooling if chip.dvs_crops_first else at // pooling - origin
    return size - 1 - at if dvs.mirror[axis] else at, (at >= 0) & (at < size)
