"""Estimated lags: of a board that tells when outputs came, but not what caused them.

The twin's run of the same recording, unloaded, has each output at the time of its cause. Once each
measured output has found its place among the predicted ones (align.py), the difference of both
times is its lag, and an offset between the clocks that nobody knows. Steps of the clock are found
as jumps that no work of any core explains, and taken out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from speckfarm_server.align import Alignment, Outputs, align
from speckfarm_server.bottleneck import SLOWEST, Bottleneck, backlog, find_bottleneck
from speckfarm_server.demand import Demand
from speckfarm_server.histogram import FloatArray, Int64Array

MEDIAN_OF = 9  # outputs that the curve of lags is smoothed over
LEAST_STEP_US = 100.0
MOST_STEPS = 3
SIDES = 8  # outputs before and after a step that must agree
PIPE_US = 0.07
STAMP_US = 2.0  # stamps are whole us and jitter
LEVEL_US, LEVEL_SHARE = 20.0, 0.05  # a level is a share of the outputs within so much
UNSURE_WAIT, UNSURE_RISE = 0.3, 0.03  # shares by which lags may be off that have no level
LEAVES = 0.05  # share of a rise by which the curve leaves its lowest point


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """Lags of one layer in one recording, at the outputs that were found among the predicted."""

    layer: int
    event: FloatArray  # (k,) input events up to the cause of each output
    cause_us: FloatArray  # (k,) time of the cause
    curve_us: FloatArray  # (k,) running median of the lags, steps taken out
    doubt_us: FloatArray  # (k,) how far off the cause may be
    noise_us: float  # how far lags scatter around the curve
    error_us: float  # nine of ten lags are believed to be no further off
    steps_us: tuple[float, ...]  # of the clock
    low: int  # place from which the curve rises most
    high: int  # place of that highest point
    bottleneck: Bottleneck  # in between
    places: Int64Array  # (n,) of all measured outputs: which of the predicted ones each is
    lags_us: FloatArray  # (n,) of all measured outputs

    @property
    def rise_us(self) -> float:
        """How far the curve rises at most."""
        return float(self.curve_us[self.high] - self.curve_us[: self.high + 1].min())

    @property
    def margin_us(self) -> float:
        """By which that may be wrong."""
        doubt_us = float(np.quantile(self.doubt_us, 0.9))
        return doubt_us + 2 * self.noise_us + 10.0


def track(
    layer: int, measured: Outputs, predicted: Outputs, cause: Int64Array, demand: Demand
) -> Track | None:
    """Follow the lags of one layer; `cause` (n,) is the input event of each predicted output.

    None for fewer than MEDIAN_OF measured or predicted outputs, or outputs that were found.
    """
    pairs = _pair(measured, predicted, cause, demand)
    if pairs is None:
        return None
    noise_us = 1.5 * float(np.median(np.abs(pairs.shift_us - running_median(pairs.shift_us))))
    steps_us = _steps(pairs, demand, noise_us)
    jumped_us = steps_us.cumsum()
    curve_us = running_median(pairs.shift_us - jumped_us)
    floor_us, is_level = _floor(curve_us, noise_us)
    curve_us = np.maximum(curve_us, floor_us)  # what is quicker than the quickest was mistaken
    low, high = _stretch(curve_us)
    mine = slice(low, high + 1)
    bottleneck = find_bottleneck(demand, pairs.event[mine], (pairs.cause_us + curve_us)[mine])
    waited_us = 0.0 if is_level else _waited(pairs.event[np.argmin(curve_us)], bottleneck, demand)
    transit_us = _transit(layer, demand)
    zero_us = floor_us - waited_us - transit_us
    error_us = _error(pairs, curve_us - floor_us, bottleneck, noise_us) + transit_us
    if not is_level:  # events before the first output are unseen
        unseen = float(pairs.event[0] / demand.event[-1])
        error_us += UNSURE_WAIT * waited_us + unseen / 2 * float(curve_us[high] - floor_us)
    return Track(
        layer=layer,
        event=pairs.event,
        cause_us=pairs.cause_us,
        curve_us=curve_us - zero_us,
        doubt_us=pairs.doubt_us,
        noise_us=noise_us,
        error_us=error_us,
        steps_us=tuple(map(float, steps_us[steps_us != 0])),
        low=low,
        high=high,
        bottleneck=bottleneck,
        places=pairs.places,
        lags_us=pairs.shifts_us - jumped_us[pairs.latest] - zero_us,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """Measured outputs (n,) and those of them (k,) that were found among the predicted."""

    event: FloatArray  # (k,) input events up to the cause
    cause_us: FloatArray  # (k,)
    shift_us: FloatArray  # (k,) stamp - cause
    doubt_us: FloatArray  # (k,)
    places: Int64Array  # (n,) which of the predicted ones each is, or would be
    shifts_us: FloatArray  # (n,) stamp - cause
    latest: Int64Array  # (n,) place among the k of the latest one up to it


def _pair(
    measured: Outputs, predicted: Outputs, cause: Int64Array, demand: Demand
) -> _Pairs | None:
    if min(len(measured.t_us), len(predicted.t_us)) < MEDIAN_OF:
        return None
    found = align(measured, predicted)
    if len(found.measured) < MEDIAN_OF:
        return None
    near = np.round(found.predicted).astype(np.int64)
    cause_us = predicted.t_us[near]
    by_time = np.interp(cause_us, demand.t_us, demand.event)  # leak ticks have no event
    places = np.round(found.places(len(measured.t_us))).astype(np.int64)
    latest = np.searchsorted(found.measured, np.arange(len(places)), side="right") - 1
    return _Pairs(
        event=np.where(cause[near] >= 0, cause[near] + 1.0, by_time),
        cause_us=cause_us,
        shift_us=measured.t_us[found.measured] - cause_us,
        doubt_us=_doubt(found, predicted),
        places=places,
        shifts_us=measured.t_us - predicted.t_us[places],
        latest=np.maximum(latest, 0),
    )


def _error(pairs: _Pairs, above_us: FloatArray, bottleneck: Bottleneck, noise_us: float) -> float:
    """How far off nine of ten lags may be: what is left open, and what no work explains."""
    open_us = float(np.quantile(pairs.doubt_us, 0.9)) + 2 * noise_us + STAMP_US
    if not bottleneck.fits:
        return open_us + float(np.quantile(above_us, 0.9))
    return open_us + (UNSURE_RISE + bottleneck.misfit) * float(above_us.max())


def _floor(curve_us: FloatArray, noise_us: float) -> tuple[float, bool]:
    """The least lag, and whether many outputs share it, as on a board that keeps up."""
    ascending = np.sort(curve_us)
    width_us = max(LEVEL_US, 4 * noise_us)
    shares = np.searchsorted(ascending, ascending + width_us, side="right") - np.arange(
        len(ascending)
    )
    many = np.flatnonzero(shares >= max(MEDIAN_OF, LEVEL_SHARE * len(ascending)))
    if len(many) == 0 or many[0] > LEVEL_SHARE * len(ascending):
        return float(ascending[0]), False
    return float(ascending[many[0]]), True


def _waited(event: float, bottleneck: Bottleneck, demand: Demand) -> float:
    """How long the quickest output had to wait, if lags grew as the work of one core."""
    if not bottleneck.fits:
        return 0.0
    waiting_us = backlog(demand, bottleneck.layer, bottleneck.rate)
    return float(np.interp(event, demand.event, waiting_us))


def _stretch(curve_us: FloatArray) -> tuple[int, int]:
    """Where the curve rises most: where it leaves its lowest point before, and the highest."""
    rise_us = curve_us - np.minimum.accumulate(curve_us)
    high = int(np.argmax(rise_us))
    lowest = float(curve_us[: high + 1].min())
    left = np.flatnonzero(curve_us[: high + 1] <= lowest + LEAVES * rise_us[high])
    return int(left[-1]), high


def _doubt(alignment: Alignment, predicted: Outputs) -> FloatArray:
    places = np.arange(len(predicted.t_us))
    low, high = (
        np.interp(alignment.predicted + side * alignment.doubt, places, predicted.t_us)
        for side in (-1, 1)
    )
    middle = np.interp(alignment.predicted, places, predicted.t_us)
    doubt_us: FloatArray = np.maximum(high - middle, middle - low)
    return doubt_us


def running_median(values: FloatArray) -> FloatArray:
    """Median of MEDIAN_OF neighbours, fewer at the ends repeated; (n,)."""
    half = MEDIAN_OF // 2
    padded = np.pad(values, half, mode="edge")
    smooth: FloatArray = np.median(sliding_window_view(padded, MEDIAN_OF), axis=1)
    return smooth


def _transit(layer: int, demand: Demand) -> float:
    """What an output takes through idle cores, half of each core's work for a spike."""
    total_us = 0.0
    for each in demand.before[layer]:
        arrived = max(1.0, float(demand.arrivals[each, -1]))
        total_us += PIPE_US + float(demand.busy_us[each, -1]) / arrived / 2
    return total_us


def _steps(pairs: _Pairs, demand: Demand, noise_us: float) -> FloatArray:
    """By how much the clock jumped before each output, (n,); mostly zeros.

    Between two outputs lags may grow by what the work between them takes on the slowest core that
    is believed possible, and shrink by the time between their causes.
    """
    shift_us = pairs.shift_us
    steps_us = np.zeros(len(shift_us))
    if len(shift_us) < 2 * SIDES:
        return steps_us
    work_us = demand.at(demand.busy_us, pairs.event)
    grows_us = np.maximum(0, np.diff(work_us, axis=1).max(axis=0)) / SLOWEST
    shrinks_us = np.maximum(0, np.diff(pairs.cause_us))
    jump_us = np.diff(shift_us)
    least_us = max(LEAST_STEP_US, 8 * noise_us)
    is_jump = (jump_us > least_us + grows_us) | (jump_us < -least_us - shrinks_us)
    jumps = np.flatnonzero(is_jump) + 1
    for at in jumps[np.argsort(-np.abs(jump_us[jumps - 1]))]:
        if steps_us[max(0, at - SIDES) : at + SIDES].any():
            continue
        before, after = shift_us[max(0, at - SIDES) : at], shift_us[at : at + SIDES]
        if min(len(before), len(after)) < SIDES // 2:
            continue
        jump = float(jump_us[at - 1])
        if jump > 0:
            stays = np.quantile(after, 0.25) - np.quantile(before, 0.75)
        else:
            stays = np.quantile(before, 0.25) - np.quantile(after, 0.75)
        if stays > abs(jump) / 2:
            steps_us[at] = float(np.median(after) - np.median(before))
    if np.count_nonzero(steps_us) > MOST_STEPS:  # then it is not the clock
        return np.zeros(len(shift_us))
    return steps_us
