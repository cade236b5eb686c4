"""Experiments on what a board measures: time stamps and power."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from speckfarm_server.prove.answer import Answer, Verdict, not_told, verdict_of
from speckfarm_server.prove.build import chain, core, relay, with_primer
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.trial import (
    FIRST_US,
    PRIMER_US,
    Events,
    Outcome,
    Trial,
    events,
)

STAMPS = "stamps"
SENT, GAP_US = 50, 1000
APART_US = 1_000_000  # two events this far apart show how two clocks run
LARGEST_LAG_US = 50.0  # of a spike through one core: more is a delay, not an offset
SMALL_US = 1.0  # the step of stamps
HARMLESS_US = 5.0  # an offset that no experiment is misled by

BUSY_US, BUSY_GAP_US = 1_000_000, 25


def _stamps_trial(chip: str) -> Trial:
    times_us = [PRIMER_US, *(FIRST_US + GAP_US * np.arange(SENT))]
    even = events(times_us, [1, *[0] * SENT])
    far = events([PRIMER_US, FIRST_US, FIRST_US + APART_US], [1, 0, 0])
    configuration = chain(chip, with_primer(relay(3, 1)))
    return Trial(name="stamps", configuration=configuration, recordings=(even, even, far))


def judge_stamps(outcomes: Sequence[Outcome]) -> Answer:
    """One trial: the same recording twice, and one of two events a second apart."""
    first, second, far = outcomes[0].spikes
    figures: dict[str, object] = {"spikes": [len(first), len(second), len(far)]}
    if len(first) != SENT or len(second) != SENT or len(far) != 2:
        return not_told("events did not come out once each", figures)
    lags_us = np.array([_lags_us(each) for each in (first, second)])
    jitter_us = float(np.ptp(lags_us, axis=1).max())
    moved_us = float(np.ptp(lags_us.mean(axis=1)))
    drift_us_per_s = float(np.diff(far["t"])[0] - APART_US)
    figures |= {
        "lag_us": [float(lags_us.min()), float(lags_us.max())],
        "offset_us": float(lags_us.mean()),
        "jitter_us": jitter_us,
        "moved_between_recordings_us": moved_us,
        "drift_us_per_s": drift_us_per_s,
    }
    words = (
        f"lag {lags_us.mean():.2f} us, jitter {jitter_us:g} us, {moved_us:.2g} us from recording "
        f"to recording, {drift_us_per_s:g} us per s"
    )
    if lags_us.min() < 0:
        words += "; spikes carry stamps before those of their events"
    is_exact = lags_us.min() >= 0 and lags_us.max() <= LARGEST_LAG_US
    is_steady = max(jitter_us, moved_us, abs(drift_us_per_s)) <= SMALL_US
    return Answer(
        verdict=verdict_of(as_assumed=bool(is_exact and is_steady)), found=words, figures=figures
    )


def offset_us(answer: Answer) -> int:
    """By how much later experiments set stamps back: what is small is left, for it does no harm."""
    found_us = float(answer.figures.get("offset_us", 0.0))
    return round(found_us) if abs(found_us) > HARMLESS_US else 0


def _lags_us(spikes: Events) -> list[int]:
    in_time = np.sort(spikes["t"])
    lags: list[int] = (in_time - FIRST_US - GAP_US * np.arange(len(spikes))).tolist()
    return lags


def _power_trials(chip: str) -> list[Trial]:
    """A second of two events, and one of 40,000 that reach 128 neurons each."""
    weights = np.full((2, 1, 8, 8), 1)
    configuration = chain(chip, with_primer(core(4, weights, size=(16, 16), threshold_high=32767)))
    idle = events([PRIMER_US, BUSY_US], [1, 1])
    times_us = np.arange(PRIMER_US, BUSY_US, BUSY_GAP_US)
    busy = events(times_us, 0, y=8, x=8)
    return [
        Trial(name="idle", configuration=configuration, recordings=(idle,)),
        Trial(name="busy", configuration=configuration, recordings=(busy,)),
    ]


def judge_power(outcomes: Sequence[Outcome]) -> Answer:
    """Trials: idle, busy."""
    idle, busy = (dict(each.power_w) for each in outcomes)
    figures = {"idle_w": idle, "busy_w": busy}
    if not idle or not busy:
        return not_told("the board reports no power", figures)
    if not any(busy.values()):
        return not_told("the board reports a power of 0 on every rail", figures)
    words = [
        f"{rail} {idle.get(rail, 0) * 1e3:.2f} -> {watts * 1e3:.2f} mW"
        for rail, watts in busy.items()
    ]
    figures["busy_more_w"] = {rail: watts - idle.get(rail, 0.0) for rail, watts in busy.items()}
    text = f"idle -> busy: {', '.join(words)}; the twin assumes nothing of it"
    return Answer(verdict=Verdict.MEASURED, found=text, figures=figures)


EXPERIMENTS = (
    Experiment(
        name=STAMPS,
        question="How far are stamps of outputs from those of inputs, and how steady are they?",
        settles="open question 8",
        trials=lambda chip: [_stamps_trial(chip)],
        judge=judge_stamps,
    ),
    Experiment(
        name="power",
        question="What does each supply rail take, idle and busy?",
        settles="open question 18; volts, open question 14, are not in it",
        trials=_power_trials,
        judge=judge_power,
    ),
)
