"""Latency: what the time stamps of one recording say, and how recordings are put together.

A lag is output time - time of the input event that caused it. docs/explanation/latency.md defines
every figure; this module is pure and runs once per recording in the board's process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.histogram import (
    FloatArray,
    Histogram,
    Int64Array,
    merge_all,
    nearest_rank,
)

__all__ = ["Decision", "Histogram", "Latency", "Measured", "decide", "measure", "merge"]

DRIFT_MIN_OUTPUTS = 30
DRIFT_MIN_SPAN_US = 50_000.0


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Figures of the lags; times are chip time in us, None where undefined."""

    n: int  # outputs with a cause
    uncaused: int  # outputs without one (leak ticks)
    method: str  # "exact" or "estimated"
    error_us: float | None = None  # of an estimated lag; None when exact
    first_output_us: float | None = None  # first output - first input; None when merged
    p50_us: float | None = None
    p90_us: float | None = None
    p99_us: float | None = None
    max_us: float | None = None
    drain_us: float | None = None  # max(0, last output - last input)
    drift_us_per_s: float | None = None  # slope of lag over causing input time; None when merged


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Latency of one recording with what it was made from."""

    latency: Latency
    histogram: Histogram
    lags_us: FloatArray  # (m,), NaN if uncaused


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """What the exit layer said."""

    prediction: int  # feature with most spikes, ties to the lowest; -1 without spikes
    counts: Int64Array  # (features,), spikes summed over x and y
    decision_us: float | None  # after the first input; None without spikes or input


def measure(
    *,
    input_t_us: Int64Array,
    output_t_us: FloatArray,
    cause: Int64Array,
    method: str = "exact",
    error_us: float | None = None,
) -> Measured:
    """Measure one recording: inputs (n,) sorted by time, outputs (m,) and their causes (m,).

    A cause is an index into the inputs, or -1 for none. Percentiles are exact nearest ranks.
    """
    uncaused = cause < 0
    if uncaused.any():
        caused_t_us = input_t_us[cause[~uncaused]]
        lags_us = np.full(len(output_t_us), np.nan)
        lags_us[~uncaused] = output_t_us[~uncaused] - caused_t_us
        caused_us = lags_us[~uncaused]
    else:
        caused_t_us = input_t_us[cause]
        lags_us = caused_us = output_t_us - caused_t_us
    first_output_us, drain_us = _ends(input_t_us, output_t_us)
    p50_us, p90_us, p99_us, max_us = _percentiles(caused_us)
    latency = Latency(
        n=len(caused_us),
        uncaused=len(output_t_us) - len(caused_us),
        method=method,
        error_us=error_us,
        first_output_us=first_output_us,
        p50_us=p50_us,
        p90_us=p90_us,
        p99_us=p99_us,
        max_us=max_us,
        drain_us=drain_us,
        drift_us_per_s=_drift(caused_t_us, caused_us),
    )
    return Measured(latency=latency, histogram=Histogram.of(lags_us), lags_us=lags_us)


def merge(items: Sequence[tuple[Latency, Histogram]]) -> Latency:
    """Latency of several recordings or jobs; percentiles at most 1 % off.

    ValueError if exact and estimated lags are mixed. A single item keeps its exact percentiles if
    it carries them (what the store keeps does not); no items give n = 0.
    """
    if not items:
        return Latency(n=0, uncaused=0, method="exact")
    methods = {latency.method for latency, _ in items}
    if len(methods) > 1:
        raise ValueError(f"lags of different methods are never merged: {sorted(methods)}")
    first = items[0][0]
    if len(items) == 1 and first.p50_us is not None:
        return replace(first, first_output_us=None, drift_us_per_s=None)
    histogram = merge_all([histogram for _, histogram in items])
    return Latency(
        n=histogram.n,
        uncaused=histogram.uncaused,
        method=first.method,
        error_us=_largest([latency.error_us for latency, _ in items]),
        p50_us=histogram.percentile(50),
        p90_us=histogram.percentile(90),
        p99_us=histogram.percentile(99),
        max_us=histogram.maximum_us,
        drain_us=_largest([latency.drain_us for latency, _ in items]),
    )


def decide(
    *,
    output_t_us: FloatArray,
    feature: NDArray[np.integer],
    features: int,
    first_input_us: float | None,
) -> Decision:
    """Predict from the exit layer's outputs (m,) and their features (m,), each below `features`.

    Outputs of one time stamp count as simultaneous: their order changes nothing.
    """
    counts = np.bincount(feature, minlength=features)
    if len(output_t_us) == 0:
        return Decision(prediction=-1, counts=counts, decision_us=None)
    winner = int(counts.argmax())
    decision_us = None
    if first_input_us is not None:
        settled_us = _settled_us(output_t_us, feature, counts=counts, winner=winner)
        decision_us = settled_us - first_input_us
    return Decision(prediction=winner, counts=counts, decision_us=decision_us)


def _settled_us(
    output_t_us: FloatArray, feature: NDArray[np.integer], *, counts: Int64Array, winner: int
) -> float:
    """Time from which `winner` leads for good.

    When another feature f reaches c spikes, the winner needs c of them too, or c + 1 if f is lower
    and so wins ties. If it has fewer at that moment it does not lead until it has that many; the
    last such moment is the one with the largest need.
    """
    # A stable sort by feature keeps each feature's outputs in time order; 16 bits sort in O(m).
    in_time = output_t_us.argsort(kind="stable")
    order = in_time[feature[in_time].astype(np.int16).argsort(kind="stable")]
    grouped_t_us = output_t_us[order]
    begin = counts.cumsum() - counts  # first place of each feature
    stop = begin[winner] + counts[winner]
    winner_t_us = grouped_t_us[begin[winner] : stop]
    need = np.arange(1, len(order) + 1) - np.repeat(begin, counts)
    need[: begin[winner]] += 1
    has = winner_t_us.searchsorted(grouped_t_us, side="right")
    need[begin[winner] : stop] = 0
    largest_need = int(need[has < need].max(initial=1))
    return float(winner_t_us[largest_need - 1])


def _ends(
    input_t_us: Int64Array, output_t_us: FloatArray
) -> tuple[float, float] | tuple[None, None]:
    """First output after the first input, and drain."""
    if len(input_t_us) == 0 or len(output_t_us) == 0:
        return None, None
    first_output_us = float(output_t_us.min()) - int(input_t_us[0])
    return first_output_us, max(0.0, float(output_t_us.max()) - int(input_t_us[-1]))


def _percentiles(lags_us: FloatArray) -> Sequence[float | None]:
    """50th, 90th, 99th and largest, nearest rank."""
    n = len(lags_us)
    if n == 0:
        return None, None, None, None
    ascending = np.sort(lags_us)
    return [float(ascending[nearest_rank(q, n) - 1]) for q in (50, 90, 99, 100)]


def _drift(caused_t_us: Int64Array, lags_us: FloatArray) -> float | None:
    """Least-squares slope of the lag over the time of its cause, in us per s."""
    if len(lags_us) < DRIFT_MIN_OUTPUTS or np.ptp(caused_t_us) < DRIFT_MIN_SPAN_US:
        return None
    centred_s = (caused_t_us - caused_t_us.mean()) * 1e-6
    return float(centred_s @ (lags_us - lags_us.mean()) / (centred_s @ centred_s))


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
