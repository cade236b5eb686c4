"""Experiments on what a core does that is told too much: how deep its queue is, when lags grow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from speckfarm_server.prove.answer import Answer, Verdict, not_told, verdict_of
from speckfarm_server.prove.build import chain, core, with_primer
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.trial import (
    FIRST_US,
    PRIMER_US,
    Events,
    Outcome,
    Trial,
    events,
    of_layer,
)
from speckfarm_server.twin.assumptions import ASSUMPTIONS

# One event makes 64 neurons of core 3 fire. Each of their spikes keeps core 5 busy with 1,024
# updates, so spikes leave core 3 at once while there is room in front of core 5, then one by one.
FAN, FEATURES = 64, 16
BURSTS, BURST_GAP_US = 5, 10_000

# Core 4 updates 128 neurons an event: 4.6 us as assumed, so lags grow from 4 us between events on.
RAMP_US = (18, 9, 6, 5, 4, 3, 2, 1)
RAMP_EVENTS, RAMP_EACH = 2000, 16  # events, and events per spike
ASSUMED_GROWING_US = (4, 3, 2, 1)
GROWN_US = 20  # a lag that grew by less may be jitter


def _queue_trial(chip: str) -> Trial:
    fan = core(3, np.full((FAN, 1), 2), size=(16, 16), return_to_zero=True, to=(5,))
    weights = np.full((FEATURES, FAN, 8, 8), -1)
    weights[0, :, 0, 0] = 2
    slow = core(5, weights, size=(16, 16), return_to_zero=True)
    times_us = [PRIMER_US, *(FIRST_US + BURST_GAP_US * np.arange(BURSTS))]
    recording = events(times_us, [1, *[0] * BURSTS], y=8, x=8)
    return Trial(
        name="queue", configuration=chain(chip, with_primer(fan), slow), recordings=(recording,)
    )


def judge_queue(outcomes: Sequence[Outcome]) -> Answer:
    """One trial."""
    spikes = outcomes[0].spikes[0]
    bursts = [_burst(spikes, number) for number in range(BURSTS)]
    left = [len(of_layer(burst, 0)) for burst in bursts]
    served = [len(of_layer(burst, 1)) for burst in bursts]
    figures: dict[str, object] = {"left": left, "served": served}
    if min(served) < FAN:
        return not_told(
            f"of {FAN} spikes {min(served)} were served: spikes are lost on the way", figures
        )
    at_once = [_at_once(burst) for burst in bursts]
    figures["left_at_once"] = at_once
    if min(left) < FAN or max(at_once) >= FAN - 2:
        text = "all spikes were seen at once: the monitor does not show when they leave"
        return not_told(text, figures)
    if max(at_once) - min(at_once) > 1:
        text = f"{min(at_once)} to {max(at_once)} spikes left at once, from burst to burst"
        return not_told(text, figures)
    depth = int(np.median(at_once)) - 1  # the first of them is being served
    as_assumed = depth == ASSUMPTIONS.fifo_depth
    return Answer(
        verdict=verdict_of(as_assumed=as_assumed),
        found=f"{depth} spikes wait in front of a core",
        figures=figures,
        sets={"fifo_depth": depth} if depth >= 2 else {},
    )


def _burst(spikes: Events, number: int) -> Events:
    """What one event caused."""
    first_us = FIRST_US + number * BURST_GAP_US - 100
    return spikes[(spikes["t"] >= first_us) & (spikes["t"] < first_us + BURST_GAP_US)]


def _at_once(burst: Events) -> int:
    """How many spikes left the first core before it had to wait for the slow one."""
    left_us, served_us = of_layer(burst, 0)["t"], of_layer(burst, 1)["t"]
    service_us = float(np.median(np.diff(served_us)))
    return int((left_us < left_us[0] + service_us / 2).sum())


def _ramp_trial(chip: str) -> Trial:
    weights = np.full((2, 1, 8, 8), -1)
    weights[0, 0, 0, 0] = 1
    counting = core(4, weights, size=(16, 16), threshold_high=RAMP_EACH)
    recordings = []
    for gap_us in RAMP_US:
        times_us = [PRIMER_US, *(FIRST_US + gap_us * np.arange(RAMP_EVENTS))]
        recordings.append(events(times_us, [1, *[0] * RAMP_EVENTS], y=8, x=8))
    return Trial(
        name="ramp",
        configuration=chain(chip, with_primer(counting)),
        recordings=tuple(recordings),
    )


def judge_ramp(outcomes: Sequence[Outcome]) -> Answer:
    """One trial; a recording for each gap."""
    grown_us: dict[str, int] = {}
    lost: dict[str, int] = {}
    for gap_us, spikes in zip(RAMP_US, outcomes[0].spikes, strict=True):
        lags_us = spikes["t"] - FIRST_US - gap_us * RAMP_EACH * np.arange(1, len(spikes) + 1)
        lost[str(gap_us)] = RAMP_EVENTS // RAMP_EACH - len(spikes)
        if len(spikes) > 1:
            grown_us[str(gap_us)] = int(lags_us[-1] - lags_us[0])
    figures = {"lag_grown_us_at_gap_us": grown_us, "spikes_lost_at_gap_us": lost}
    if len(grown_us) < len(RAMP_US):
        return not_told("nothing came out at some rates", figures)
    # Where events are lost the lags say nothing, but the core cannot keep up either.
    growing = tuple(gap for gap in RAMP_US if grown_us[str(gap)] > GROWN_US or lost[str(gap)] > 1)
    steady = [gap for gap in RAMP_US if gap not in growing]
    as_assumed = growing == ASSUMED_GROWING_US and max(lost.values()) <= 1
    text = (
        f"with 128 updates an event, core 4 keeps up at {_rate(steady[-1:])} events/s "
        f"and not at {_rate(growing[:1])}"
    )
    if max(lost.values()) > 1:
        text += "; it loses spikes instead of letting them wait"
    verdict = Verdict.AS_ASSUMED if as_assumed else Verdict.DIFFERENT
    return Answer(verdict=verdict, found=text, figures=figures)


def _rate(gaps_us: Sequence[int]) -> str:
    return f"{1e6 / gaps_us[0]:,.0f}" if gaps_us else "any number of"


EXPERIMENTS = (
    Experiment(
        name="queue",
        question="How many spikes wait in front of a core before those behind it stall?",
        settles="open question 7: `fifo_depth`",
        trials=lambda chip: [_queue_trial(chip)],
        judge=judge_queue,
    ),
    Experiment(
        name="overrun",
        question="From which event rate on do lags grow, and is anything lost?",
        settles="open questions 1 and 7; a check on `rate_factors`",
        trials=lambda chip: [_ramp_trial(chip)],
        judge=judge_ramp,
    ),
)
