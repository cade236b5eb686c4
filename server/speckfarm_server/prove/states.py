"""Experiments on what configuring and a state reset leave: the first event, non-square maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from speckfarm_server.configuration import Configuration, Int16Array
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
    places,
    predict,
)
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions

Spike: TypeAlias = tuple[int, int, int, int]  # event, feature, y, x

SENT = 5  # features, one event each
FIRST_GAP_US = 1000

# Not square, and no power of two: an address made with the bits of the other axis goes astray.
HEIGHT, WIDTH, FEATURES = 3, 6, 2
GAP_US = 100
ROUNDS, THRESHOLD = 5, 4
HELD = ASSUMPTIONS.initial_state
NOT_AGAIN = "held after configuring, zero after a state reset"
NEVER = "zero after configuring and after a state reset"


def _first_trial(chip: str) -> Trial:
    times_us = FIRST_US + FIRST_GAP_US * np.arange(SENT)
    recording = events(times_us, np.arange(SENT))  # no primer: the first event is what is asked for
    configuration = chain(chip, relay(3, SENT))
    return Trial(name="first event", configuration=configuration, recordings=(recording,) * 3)


def judge_first_event(outcomes: Sequence[Outcome]) -> Answer:
    """One trial; the first recording behind configuring, two behind a state reset."""
    [outcome] = outcomes
    counts = [np.bincount(each["feature"], minlength=SENT).tolist() for each in outcome.spikes]
    after_configure = _lost(counts[0])
    after_reset = [_lost(each) for each in counts[1:]]
    figures = {
        "first_event": outcome.first_event,
        "was_configured": outcome.was_configured,
        "spikes_of_each_event": counts,
        "lost_after_configuring": after_configure,
        "lost_after_state_reset": after_reset,
    }
    if any(sum(each[1:]) != SENT - 1 or max(each[1:]) > 1 for each in counts):
        return not_told("events behind the first did not come out once each", figures)
    twice = [each[0] > 1 for each in counts]
    if any(twice):
        text = f"the first event came out {counts[0][0]} times: it was sent twice and not lost"
        advice = 'first_event = "keep" for this board in farm.toml'
        return Answer(verdict=Verdict.AS_ASSUMED, found=text, figures=figures, advice=advice)
    if outcome.first_event == "sacrifice" and not after_configure and not any(after_reset):
        text = "the first event is lost, and the board's first_event = sacrifice makes up for it"
        return Answer(verdict=Verdict.DIFFERENT, found=text, figures=figures)
    words = (
        f"the first event after configuring is {'lost' if after_configure else 'kept'}, after a "
        f"state reset it is {'lost' if any(after_reset) else 'kept'}"
    )
    if not outcome.was_configured:
        words += " (the board held the configuration, so both followed a state reset)"
    is_lost = after_configure or any(after_reset)
    return Answer(
        verdict=verdict_of(as_assumed=not is_lost),
        found=words,
        figures=figures,
        advice='first_event = "sacrifice" for this board in farm.toml' if is_lost else "",
    )


def _lost(counts: Sequence[int]) -> bool:
    return counts[0] == 0


def initial_state() -> Int16Array:
    """0 to 3, other numbers on neighbours: below the threshold."""
    f, y, x = np.indices((FEATURES, HEIGHT, WIDTH))
    state: Int16Array = ((5 * f + 3 * y + 2 * x) % THRESHOLD).astype(np.int16)
    return state


def _map(chip: str, state: Int16Array | None) -> Configuration:
    made = core(3, [[1], [1]], size=(HEIGHT, WIDTH), threshold_high=THRESHOLD, return_to_zero=True)
    made = replace(with_primer(made), initial_state=state)
    return chain(chip, made)


def _maps_trial(chip: str, state: Int16Array | None = None) -> Trial:
    """Each place in turn, five times over; twice, with a state reset between."""
    y, x = (axis.ravel().tolist() * ROUNDS for axis in np.indices((HEIGHT, WIDTH)))
    times_us = FIRST_US + GAP_US * np.arange(len(y))
    recording = np.concatenate([events([PRIMER_US], 1), events(times_us, y=y, x=x)])
    state = initial_state() if state is None else state
    return Trial(name="maps", configuration=_map(chip, state), recordings=(recording,) * 2)


def judge_maps(outcomes: Sequence[Outcome]) -> Answer:
    """One trial."""
    found = [_spikes(each) for each in outcomes[0].spikes]
    figures = {"spikes": [len(each) for each in found]}
    if not found[0]:
        return not_told("nothing came out", figures)
    for fires in (">=", ">"):
        assumptions = replace(ASSUMPTIONS, fires=fires)
        held = _predicted(assumptions, initial_state())
        zero = _predicted(assumptions, np.zeros_like(initial_state()))
        known = {(held, held): HELD, (held, zero): NOT_AGAIN, (zero, zero): NEVER}
        told = known.get((found[0], found[1]))
        if told is not None:
            text = f"each of {FEATURES} x {HEIGHT} x {WIDTH} neurons answers its own place; {told}"
            verdict = verdict_of(as_assumed=told == HELD)
            sets = {"initial_state": told}
            return Answer(verdict=verdict, found=text, figures=figures, sets=sets)
    astray = len(set(found[0]) ^ set(_predicted(ASSUMPTIONS, initial_state())))
    text = f"{astray} spikes of the first recording are not those of the map as it was written"
    if found[0] == _predicted(ASSUMPTIONS, initial_state()):
        text = "a state reset does not give every neuron of a non-square map its initial state"
    return Answer(verdict=Verdict.DIFFERENT, found=text, figures={**figures, "astray": astray})


def _predicted(assumptions: Assumptions, state: Int16Array) -> tuple[Spike, ...]:
    return _spikes(predict(_maps_trial("speck2f", state), assumptions).spikes[0])


def _spikes(spikes: Events) -> tuple[Spike, ...]:
    numbers = places(spikes, gap_us=GAP_US).tolist()
    columns = (spikes[name].tolist() for name in ("feature", "y", "x"))
    return tuple(sorted(zip(numbers, *columns, strict=True)))


EXPERIMENTS = (
    Experiment(
        name="first event",
        question="Is the first event after configuring, or after a state reset, lost?",
        settles="open question 5: `first_event` of the board in farm.toml",
        trials=lambda chip: [_first_trial(chip)],
        judge=judge_first_event,
    ),
    Experiment(
        name="maps",
        question="Do neurons of a non-square map answer where they should, also after a reset?",
        settles="open question 6: `initial_state`, addresses of neurons",
        trials=lambda chip: [_maps_trial(chip)],
        judge=judge_maps,
    ),
)
