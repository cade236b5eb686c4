"""Estimated lags: of a board that tells when outputs came, but not what caused them.

The twin's run of the same recording, unloaded, has each output at the time of its cause. Once each
measured output has found its place among the predicted ones (align.py), the difference of both
times is its lag, and an offset between the clocks that nobody knows. Steps of the clock are found
as jumps that no work of any core explains, and taken out. Where a board echoes its input, the
offset is known from the stamps of the echo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from speckfarm_server.align import Outputs
from speckfarm_server.bottleneck import SLOWEST, Bottleneck, backlog, find_bottleneck
from speckfarm_server.demand import Demand
from speckfarm_server.histogram import FloatArray, Int64Array
from speckfarm_server.pairs import FEWEST, Pairs, pair

MEDIAN_OF = 9  # outputs that the curve of lags is smoothed over; no more than FEWEST
LEAST_STEP_US = 100.0
MOST_STEPS = 3
SIDES = 8  # outputs before and after a step that must agree
PIPE_US = 0.07
STAMP_US = 2.0  # stamps are whole us and jitter
GRAIN_US = 1.0  # of a stamp
LEVEL_US, LEVEL_SHARE = 20.0, 0.05  # a level is a share of the outputs within so much
UNSURE_WAIT, UNSURE_RISE = 0.3, 0.03  # shares by which lags may be off that have no level
LEAVES = 0.05  # share of a rise by which the curve leaves its lowest point


@dataclass(frozen=True, kw_only=True)
class Offset:
    """How far a board's clock is ahead of the recording's."""

    ahead_us: float
    error_us: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """Lags of one layer in one recording, at the outputs that were found among the predicted."""

    layer: int
    event: FloatArray  # (k,) input events up to the cause of each output
    cause_us: FloatArray  # (k,) time of the cause
    course_us: FloatArray  # (k,) running median of stamp - cause, steps taken out
    doubt_us: FloatArray  # (k,) how far off the cause may be
    noise_us: float  # how far lags scatter around the curve
    unsure_us: float  # nine of ten lags are believed to be no further off, but for the clock
    clock: Offset  # what the quickest outputs tell, unless it is known better
    steps_us: tuple[float, ...]  # of the clock
    low: int  # place from which the curve rises most
    high: int  # place of that highest point
    bottleneck: Bottleneck  # in between
    places: Int64Array  # (n,) of all measured outputs: which of the predicted ones each is
    shifts_us: FloatArray  # (n,) of all measured outputs: stamp - cause, steps taken out

    @property
    def curve_us(self) -> FloatArray:
        """Running median of the lags, (k,)."""
        curve_us: FloatArray = self.course_us - self.clock.ahead_us
        return curve_us

    @property
    def lags_us(self) -> FloatArray:
        """Of all measured outputs, (n,)."""
        lags_us: FloatArray = self.shifts_us - self.clock.ahead_us
        return lags_us

    @property
    def error_us(self) -> float:
        """Nine of ten lags are believed to be no further off."""
        return self.unsure_us + self.clock.error_us

    @property
    def rise_us(self) -> float:
        """How far the curve rises at most."""
        return float(self.curve_us[self.high] - self.curve_us[: self.high + 1].min())

    @property
    def margin_us(self) -> float:
        """By which that may be wrong."""
        doubt_us = float(np.quantile(self.doubt_us, 0.9))
        return doubt_us + 2 * self.noise_us + 10.0


def read_clock(
    measured: Outputs, predicted: Outputs, cause: Int64Array, demand: Demand
) -> Offset | None:
    """Compare the echo of the input with the events that were recorded; None as `pair`.

    Where a chip is held up an echo may be late, but none is early, so the quickest tell.
    """
    pairs = pair(measured, predicted, cause, demand)
    if pairs is None:
        return None
    noise_us = _noise(pairs.shift_us)
    shift_us = pairs.shift_us - _steps(pairs, demand, noise_us).cumsum()
    floor_us, _ = _floor(running_median(shift_us), noise_us)
    quick_us = shift_us[np.abs(shift_us - floor_us) <= max(LEVEL_US, 4 * noise_us)]
    scatter_us = 1.5 * float(np.median(np.abs(quick_us - np.median(quick_us))))
    return Offset(
        ahead_us=float(np.median(quick_us)),
        error_us=GRAIN_US + scatter_us / len(quick_us) ** 0.5,
    )


def track(
    layer: int, measured: Outputs, predicted: Outputs, cause: Int64Array, demand: Demand
) -> Track | None:
    """Follow the lags of one layer; None as `pair`."""
    pairs = pair(measured, predicted, cause, demand)
    if pairs is None:
        return None
    noise_us = _noise(pairs.shift_us)
    steps_us = _steps(pairs, demand, noise_us)
    jumped_us = steps_us.cumsum()
    curve_us = running_median(pairs.shift_us - jumped_us)
    floor_us, is_level = _floor(curve_us, noise_us)
    curve_us = np.maximum(curve_us, floor_us)  # what is quicker than the quickest was mistaken
    low, high = _stretch(curve_us)
    mine = slice(low, high + 1)
    bottleneck = find_bottleneck(demand, pairs.event[mine], (pairs.cause_us + curve_us)[mine])
    return Track(
        layer=layer,
        event=pairs.event,
        cause_us=pairs.cause_us,
        course_us=curve_us,
        doubt_us=pairs.doubt_us,
        noise_us=noise_us,
        unsure_us=_error(pairs, curve_us - floor_us, bottleneck, noise_us),
        clock=_guess(
            layer,
            demand,
            event=pairs.event,
            curve_us=curve_us,
            bottleneck=bottleneck,
            is_level=is_level,
        ),
        steps_us=tuple(map(float, steps_us[steps_us != 0])),
        low=low,
        high=high,
        bottleneck=bottleneck,
        places=pairs.places,
        shifts_us=pairs.shifts_us - jumped_us[pairs.latest],
    )


def _error(pairs: Pairs, above_us: FloatArray, bottleneck: Bottleneck, noise_us: float) -> float:
    """How far off nine of ten lags may be: what is left open, and what no work explains."""
    open_us = float(np.quantile(pairs.doubt_us, 0.9)) + 2 * noise_us + STAMP_US
    if not bottleneck.fits:
        return open_us + float(np.quantile(above_us, 0.9))
    return open_us + bottleneck.misfit * float(above_us.max())


def _floor(curve_us: FloatArray, noise_us: float) -> tuple[float, bool]:
    """The least lag, and whether many outputs share it, as on a board that keeps up."""
    ascending = np.sort(curve_us)
    width_us = max(LEVEL_US, 4 * noise_us)
    shares = np.searchsorted(ascending, ascending + width_us, side="right") - np.arange(
        len(ascending)
    )
    many = np.flatnonzero(shares >= max(FEWEST, LEVEL_SHARE * len(ascending)))
    if len(many) == 0 or many[0] > LEVEL_SHARE * len(ascending):
        return float(ascending[0]), False
    return float(ascending[many[0]]), True


def _guess(
    layer: int,
    demand: Demand,
    *,
    event: FloatArray,
    curve_us: FloatArray,
    bottleneck: Bottleneck,
    is_level: bool,
) -> Offset:
    """What the quickest outputs tell: they took half of what idle cores take for a spike.

    Unless lags have a level, the first output had to wait already, as they grew later.
    """
    above_us = curve_us - curve_us.min()
    ahead_us = float(curve_us.min()) - _transit(layer, demand)
    error_us = _transit(layer, demand)
    if bottleneck.fits:
        error_us += UNSURE_RISE * float(above_us.max())
    if not is_level:
        waited_us = _waited(event[np.argmin(curve_us)], bottleneck, demand)
        unseen = float(event[0] / demand.event[-1])  # events before the first output
        _, high = _stretch(curve_us)
        ahead_us -= waited_us
        error_us += UNSURE_WAIT * waited_us + unseen / 2 * float(above_us[high])
    return Offset(ahead_us=ahead_us, error_us=error_us)


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


def _noise(shift_us: FloatArray) -> float:
    """How far they scatter around their running median."""
    return 1.5 * float(np.median(np.abs(shift_us - running_median(shift_us))))


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


def _steps(pairs: Pairs, demand: Demand, noise_us: float) -> FloatArray:
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
