"""First events, maps, stamps, power and the known answer of boards that are otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from speckfarm_server.boards import known_answer
from speckfarm_server.prove import states
from speckfarm_server.prove.answer import Verdict
from speckfarm_server.prove.trial import Outcome, predict
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from tests.prove_outcomes import BY_NAME, trials


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ((True, True, True), "after configuring is lost, after a state reset it is lost"),
        ((False, True, True), "after configuring is kept, after a state reset it is lost"),
        ((True, False, False), "after configuring is lost, after a state reset it is kept"),
    ],
)
def test_a_first_event_that_is_lost_is_told_and_asks_for_a_sacrifice(
    lost: tuple[bool, ...], words: str
) -> None:
    [outcome] = [predict(trial) for trial in trials("first event")]
    spikes = tuple(
        each[1:] if is_lost else each for is_lost, each in zip(lost, outcome.spikes, strict=True)
    )

    answer = states.judge_first_event([Outcome(spikes=spikes)])

    assert answer.verdict is Verdict.DIFFERENT
    assert words in answer.found
    assert "sacrifice" in answer.advice


def test_a_sacrifice_that_was_not_needed_is_told() -> None:
    [outcome] = [predict(trial) for trial in trials("first event")]
    twice = tuple(np.concatenate([each[:1], each]) for each in outcome.spikes)

    answer = states.judge_first_event([Outcome(spikes=twice, first_event="sacrifice")])

    assert answer.verdict is Verdict.AS_ASSUMED
    assert "keep" in answer.advice


def test_a_sacrifice_that_makes_up_for_the_loss_shows_the_loss() -> None:
    outcomes = [replace(predict(each), first_event="sacrifice") for each in trials("first event")]

    answer = states.judge_first_event(outcomes)

    assert answer.verdict is Verdict.DIFFERENT
    assert "makes up for it" in answer.found
    assert answer.advice == ""


@pytest.mark.parametrize("fires", [">=", ">"])
@pytest.mark.parametrize(
    ("held", "value"),
    [
        ((True, True), states.HELD),
        ((True, False), states.NOT_AGAIN),
        ((False, False), states.NEVER),
    ],
)
def test_when_the_initial_state_holds_is_told(
    held: tuple[bool, bool], value: str, fires: Any
) -> None:
    assumptions = replace(ASSUMPTIONS, fires=fires)
    zero = np.zeros_like(states.initial_state())
    spikes = [
        predict(states._maps_trial("speck2f", None if each else zero), assumptions).spikes[0]
        for each in held
    ]

    answer = states.judge_maps([Outcome(spikes=tuple(spikes))])

    assert answer.sets == {"initial_state": value}
    assert (answer.verdict is Verdict.AS_ASSUMED) == (value == states.HELD)


def test_a_map_whose_axes_are_swapped_somewhere_is_different() -> None:
    [outcome] = [predict(trial) for trial in trials("maps")]
    for spikes in outcome.spikes:
        number = spikes["y"].astype(int) + 3 * spikes["x"]  # written with the other axis first
        spikes["y"], spikes["x"] = number // 6, number % 6

    answer = states.judge_maps([outcome])

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.figures["astray"] > 0


def test_a_reset_that_does_not_reach_all_neurons_is_different() -> None:
    [outcome] = [predict(trial) for trial in trials("maps")]
    missing = outcome.spikes[1][3:]

    answer = states.judge_maps([Outcome(spikes=(outcome.spikes[0], missing))])

    assert answer.verdict is Verdict.DIFFERENT
    assert "state reset" in answer.found


@pytest.mark.parametrize(
    ("shift_us", "words"),
    [(-3, "before those of their events"), (200, "lag 200.00 us")],
)
def test_stamps_far_from_their_events_are_different(shift_us: int, words: str) -> None:
    [outcome] = [predict(trial) for trial in trials("stamps")]
    for spikes in outcome.spikes:
        spikes["t"] += shift_us

    answer = BY_NAME["stamps"].judge([outcome])

    assert answer.verdict is Verdict.DIFFERENT
    assert words in answer.found


def test_clocks_that_run_apart_are_different() -> None:
    [outcome] = [predict(trial) for trial in trials("stamps")]
    outcome.spikes[2]["t"][1] += 40

    answer = BY_NAME["stamps"].judge([outcome])

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.figures["drift_us_per_s"] == 40


@pytest.mark.parametrize("power_w", [{}, {"VDD_IO": 0.0}])
def test_a_board_without_power_figures_does_not_tell_power(power_w: dict[str, float]) -> None:
    outcomes = [replace(predict(each), power_w=power_w) for each in trials("power")]

    assert BY_NAME["power"].judge(outcomes).verdict is Verdict.NOT_TOLD


def test_a_known_answer_that_moved_is_told_and_kept_for_the_board() -> None:
    [outcome] = [predict(trial) for trial in trials("known answer")]
    fewer = tuple(spikes[::2] for spikes in outcome.spikes)

    answer = BY_NAME["known answer"].judge([Outcome(spikes=fewer)])

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.known_answer is not None
    halves = np.array(known_answer.COUNTS) / 2
    assert np.abs(np.array(answer.known_answer["counts"]) - halves).max() <= 25


def test_a_known_answer_that_varies_is_judged_with_more_tolerance() -> None:
    [outcome] = [predict(trial) for trial in trials("known answer")]
    classes = known_answer.CLASSES
    fewer = tuple(
        spikes[: len(spikes) * 9 // 10] if number < classes else spikes
        for number, spikes in enumerate(outcome.spikes)
    )

    steady = BY_NAME["known answer"].judge([outcome]).known_answer
    varied = BY_NAME["known answer"].judge([Outcome(spikes=fewer)]).known_answer

    assert steady is not None
    assert varied is not None
    assert steady["tolerance"] == 0.05 < varied["tolerance"] < 1
    assert known_answer.judge(steady["counts"], varied["counts"], varied["tolerance"]) == []
