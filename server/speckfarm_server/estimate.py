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
LEAVES = 0.05  # share of a rise by which the curve leaves its lowest point


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """Lags of one layer in one recording, at the outputs that were found among the predicted."""

    layer: int
    event: FloatArray  # (k,) input events up to the cause of each output
    cause_us: FloatArray  # (k,) time of the cause
    lag_us: FloatArray  # (k,) output - cause, counted from the quickest; steps taken out
    curve_us: FloatArray  # (k,) running median of the same
    doubt_us: FloatArray  # (k,) how far off the cause may be
    noise_us: float  # how far lags scatter around the curve
    error_us: float  # nine of ten lags are believed to be no further off
    steps_us: tuple[float, ...]  # of the clock
    low: int  # place from which the curve rises most
    high: int  # place of that highest point
    bottleneck: Bottleneck  # in between
    places: Int64Array  # (n,) of all measured outputs: which of the predicted ones each is
    all_lags_us: FloatArray  # (n,) of all measured outputs, as `lag_us`

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
    if min(len(measured.t_us), len(predicted.t_us)) < MEDIAN_OF:
        return None
    alignment = align(measured, predicted)
    if len(alignment.measured) < MEDIAN_OF:
        return None
    near = np.round(alignment.predicted).astype(np.int64)
    cause_us = predicted.t_us[near]
    by_time = np.interp(cause_us, demand.t_us, demand.event)  # leak ticks have no event
    from_event = np.where(cause[near] >= 0, cause[near] + 1.0, by_time)
    shift_us = measured.t_us[alignment.measured] - cause_us
    noise_us = _noise(shift_us)
    steps_us = _steps(shift_us, cause_us, from_event, demand, noise_us)
    curve_us = running_median(shift_us - steps_us.cumsum())
    transit_us = _transit(layer, demand)
    base_us = float(curve_us.min()) - transit_us
    doubt_us = _doubt(alignment, predicted)
    low, high = _stretch(curve_us)
    at_us = cause_us + curve_us
    bottleneck = find_bottleneck(demand, from_event[low : high + 1], at_us[low : high + 1])
    rise_us = curve_us[high] - curve_us[low]
    if bottleneck.fits and rise_us > 3 * (np.quantile(doubt_us, 0.9) + noise_us):
        waiting_us = backlog(demand, bottleneck.layer, bottleneck.rate)
        lowest = int(np.argmin(curve_us))
        base_us -= float(np.interp(from_event[lowest], demand.event, waiting_us))
    places = np.round(alignment.places(len(measured.t_us))).astype(np.int64)
    after = np.searchsorted(alignment.measured, np.arange(len(measured.t_us)), side="right") - 1
    stepped_us = steps_us.cumsum()[np.maximum(after, 0)]
    return Track(
        layer=layer,
        event=from_event,
        cause_us=cause_us,
        lag_us=shift_us - steps_us.cumsum() - base_us,
        curve_us=curve_us - base_us,
        doubt_us=doubt_us,
        noise_us=noise_us,
        error_us=float(np.quantile(doubt_us, 0.9)) + transit_us + 2 * noise_us + 2.0,
        steps_us=tuple(map(float, steps_us[steps_us != 0])),
        low=low,
        high=high,
        bottleneck=bottleneck,
        places=places,
        all_lags_us=measured.t_us - predicted.t_us[places] - stepped_us - base_us,
    )


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


def _noise(shift_us: FloatArray) -> float:
    return 1.5 * float(np.median(np.abs(shift_us - running_median(shift_us))))


def _transit(layer: int, demand: Demand) -> float:
    """What an output takes through idle cores, half of each core's work for a spike."""
    total_us = 0.0
    for each in demand.before[layer]:
        arrived = max(1.0, float(demand.arrivals[each, -1]))
        total_us += PIPE_US + float(demand.busy_us[each, -1]) / arrived / 2
    return total_us


def _steps(
    shift_us: FloatArray,
    cause_us: FloatArray,
    event: FloatArray,
    demand: Demand,
    noise_us: float,
) -> FloatArray:
    """By how much the clock jumped before each output, (n,); mostly zeros.

    Between two outputs lags may grow by what the work between them takes on the slowest core that
    is believed possible, and shrink by the time between their causes.
    """
    steps_us = np.zeros(len(shift_us))
    if len(shift_us) < 2 * SIDES:
        return steps_us
    work_us = demand.at(demand.busy_us, event)
    grows_us = np.maximum(0, np.diff(work_us, axis=1).max(axis=0)) / SLOWEST
    shrinks_us = np.maximum(0, np.diff(cause_us))
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
