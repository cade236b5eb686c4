"""The overrun verdict: whether a core was asked for more than it can do, and which.

A core that is too slow holds up all before it, up to the input, and every output comes late. So
the verdict looks at how far lags rise above their lowest point so far. A rise says how much work
waited, not where: what a queue can hold is no overrun yet. docs/explanation/latency.md has the
rules in words and how often they are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from speckfarm_server.bottleneck import SLOWEST, backlog
from speckfarm_server.demand import Demand
from speckfarm_server.estimate import Track
from speckfarm_server.histogram import FloatArray

HELD_BACK_SHARE = 0.01  # of a recording: input held back for longer is an overrun
FEWEST_OUTPUTS = 30  # of a layer; below, its lags say nothing
DEPTHS = (4, 256)  # what a queue may hold, each factor of two as likely
SURE = 0.9
RATES = np.geomspace(SLOWEST, 2.0, 12)  # that a core may have, times the table of chips


class Verdict(str, Enum):
    """What is known about a recording."""

    EXCEEDED = "EXCEEDED"  # a core could not keep up
    HEALTHY = "HEALTHY"  # all cores kept up
    INCONCLUSIVE = "INCONCLUSIVE"  # too short, too quiet, or what a queue may have held


@dataclass(frozen=True, kw_only=True)
class Overrun:
    """The verdict on one recording."""

    verdict: Verdict
    confidence: float  # 0 to 1; 1 on a simulated board
    why: str  # a word: what decided
    layer: int | None = None  # suspected; None unless EXCEEDED
    core: int | None = None
    drift_us_per_s: float | None = None  # growth of the lag while it grew most
    synops_per_s: float | None = None  # asked of that core meanwhile
    synops_limit_per_s: float | None = None  # what the table of chips believes it can do


def judge_exactly(held_back_us: float, duration_us: float, suspect: Overrun) -> Overrun:
    """Judge a recording on a simulated board, which knows how late its input came in.

    `suspect` is what to say if a core could not keep up. Events of one single time have no rate
    that a core could keep up with or not.
    """
    if held_back_us <= HELD_BACK_SHARE * duration_us:
        return _healthy(1.0, "on time")
    return suspect if duration_us > 0 else _inconclusive("all events at one time")


def judge(tracks: Sequence[Track], demand: Demand) -> Overrun:
    """Judge a recording by its estimated lags, one track for each monitored layer."""
    allowed_us = HELD_BACK_SHARE * demand.duration_us
    seen = [track for track in tracks if len(track.event) >= FEWEST_OUTPUTS]
    if not seen:
        return _inconclusive("few outputs")
    late = [track for track in seen if track.rise_us - track.margin_us > allowed_us]
    on_time = [
        track
        for track in seen
        if track.rise_us + track.margin_us <= allowed_us
        and not _begins_late(track, demand, allowed_us)
    ]
    if any(not _may_hide(track.event, demand, allowed_us) for track in on_time):
        return _healthy(SURE, "on time")
    fitting = [track for track in late if track.bottleneck.fits]
    if not fitting and not _may_hide(np.empty(0), demand, allowed_us):
        return _healthy(SURE, "little asked")
    if on_time or not late:
        return _inconclusive("sparse outputs" if on_time else "lags not known well enough")
    if not fitting:
        return _inconclusive("lags do not grow as the work")
    chances = [_chance(track, demand, allowed_us) for track in fitting]
    chance = max(chances, key=lambda value: abs(value - 0.5))
    if chance <= 1 - SURE:
        return _healthy(1 - chance, "a queue holds it")
    if chance < SURE:
        return _inconclusive("a queue may hold it")
    closest = min(fitting, key=lambda track: track.bottleneck.misfit)
    return _exceeded(closest, demand, chance)


def _healthy(confidence: float, why: str) -> Overrun:
    return Overrun(verdict=Verdict.HEALTHY, confidence=confidence, why=why)


def _inconclusive(why: str) -> Overrun:
    return Overrun(verdict=Verdict.INCONCLUSIVE, confidence=0.0, why=why)


def _begins_late(track: Track, demand: Demand, allowed_us: float) -> bool:
    """Whether the first outputs are late already, and work may be why.

    A burst of events that the board got together at the start makes them late as well, but before
    work has piled up.
    """
    if track.curve_us[0] - track.curve_us.min() <= allowed_us:
        return False
    waiting_us = [backlog(demand, layer, SLOWEST) for layer in range(len(demand.core))]
    return bool(np.interp(track.event[0], demand.event, np.max(waiting_us, axis=0)) > allowed_us)


def _may_hide(seen: FloatArray, demand: Demand, allowed_us: float) -> bool:
    """Whether a core may have been late where no output that came on time, `seen`, would show it.

    A rate that a core may have is ruled out by an output on time that it would have made late.
    """
    for layer in range(len(demand.core)):
        for rate in RATES:
            waiting_us = backlog(demand, layer, rate)
            most_us = float(waiting_us.max())
            shown_us = np.interp(seen, demand.event, waiting_us).max(initial=0.0)
            if most_us > allowed_us and shown_us < min(most_us / 2, allowed_us):
                return True
    return False


def _chance(track: Track, demand: Demand, allowed_us: float) -> float:
    """Chance that the input was held back for longer than allowed, not at all being the rest.

    Queues in front of the bottleneck and those before it hold a part of what waits. How many
    spikes they hold is not known.
    """
    guilty = track.bottleneck.layer
    passed = np.diff(demand.at(demand.arrivals, track.event[[track.low, track.high]]), axis=1)[:, 0]
    path = [layer for layer in demand.before[track.layer] if layer in demand.before[guilty]]
    hold_us = sum(_spent_us(track) / max(1.0, passed[layer]) for layer in path)
    least_us = track.rise_us - track.margin_us
    exceeded = _share_below((least_us - allowed_us) / hold_us)
    healthy = 1 - _share_below(least_us / hold_us)
    return exceeded / (exceeded + healthy) if exceeded + healthy > 0 else 0.5


def _share_below(depth: float) -> float:
    """Share of queues that hold less."""
    low, high = np.log2(DEPTHS)
    return float(np.clip((np.log2(max(depth, 1.0)) - low) / (high - low), 0, 1))


def _spent_us(track: Track) -> float:
    """Time in which the lag grew, on the board's clock."""
    at_us = track.cause_us + track.curve_us
    return max(1.0, float(at_us[track.high] - at_us[track.low]))


def _exceeded(track: Track, demand: Demand, chance: float) -> Overrun:
    guilty = track.bottleneck.layer
    ends = track.event[[track.low, track.high]]
    asked_us = max(1.0, float(track.cause_us[track.high] - track.cause_us[track.low]))
    synops = float(np.diff(demand.at(demand.synops, ends), axis=1)[guilty, 0])
    return Overrun(
        verdict=Verdict.EXCEEDED,
        confidence=chance,
        why="lags grew",
        layer=guilty,
        core=int(demand.core[guilty]),
        drift_us_per_s=track.rise_us / asked_us * 1e6,
        synops_per_s=synops / asked_us * 1e6,
        synops_limit_per_s=float(demand.synops_limit[guilty]),
    )
