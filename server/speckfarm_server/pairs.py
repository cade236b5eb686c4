"""Pairs: each measured output of a layer beside the predicted one that it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speckfarm_server.align import Alignment, Outputs, align
from speckfarm_server.demand import Demand
from speckfarm_server.histogram import FloatArray, Int64Array

FEWEST = 9  # outputs that anything is said of


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Measured outputs (n,) and those of them (k,) that were found among the predicted."""

    event: FloatArray  # (k,) input events up to the cause
    cause_us: FloatArray  # (k,)
    shift_us: FloatArray  # (k,) stamp - cause
    doubt_us: FloatArray  # (k,)
    places: Int64Array  # (n,) which of the predicted ones each is, or would be
    shifts_us: FloatArray  # (n,) stamp - cause
    latest: Int64Array  # (n,) place among the k of the latest one up to it


def pair(measured: Outputs, predicted: Outputs, cause: Int64Array, demand: Demand) -> Pairs | None:
    """Find measured outputs among the predicted; `cause` (n,) is the input event of each of these.

    None for fewer than FEWEST measured or predicted outputs, or outputs that were found.
    """
    if min(len(measured.t_us), len(predicted.t_us)) < FEWEST:
        return None
    found = align(measured, predicted)
    if len(found.measured) < FEWEST:
        return None
    near = np.round(found.predicted).astype(np.int64)
    cause_us = predicted.t_us[near]
    by_time = np.interp(cause_us, demand.t_us, demand.event)  # leak ticks have no event
    places = np.round(found.places(len(measured.t_us))).astype(np.int64)
    latest = np.searchsorted(found.measured, np.arange(len(places)), side="right") - 1
    return Pairs(
        event=np.where(cause[near] >= 0, cause[near] + 1.0, by_time),
        cause_us=cause_us,
        shift_us=measured.t_us[found.measured] - cause_us,
        doubt_us=_doubt(found, predicted),
        places=places,
        shifts_us=measured.t_us - predicted.t_us[places],
        latest=np.maximum(latest, 0),
    )


def _doubt(alignment: Alignment, predicted: Outputs) -> FloatArray:
    places = np.arange(len(predicted.t_us))
    low, high = (
        np.interp(alignment.predicted + side * alignment.doubt, places, predicted.t_us)
        for side in (-1, 1)
    )
    middle = np.interp(alignment.predicted, places, predicted.t_us)
    doubt_us: FloatArray = np.maximum(high - middle, middle - low)
    return doubt_us
