"""Experiments of the proof: all of them with the twin as it is, and on broken boards."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm.events import ECHO, EVENT_DTYPE
from speckfarm_server.check_vendor import check_configuration
from speckfarm_server.chip import CHIPS
from speckfarm_server.errors import BadInput
from speckfarm_server.prove import senses
from speckfarm_server.prove.answer import Verdict
from speckfarm_server.prove.catalogue import EXPERIMENTS
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.trial import Outcome, predict, set_back
from speckfarm_server.settings import Settings
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from tests.prove_outcomes import BY_NAME

MEASURED_POWER = {"VDD_IO": 0.001, "VDD_RAM": 0.002}


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.name)
def test_a_board_like_the_twin_is_as_assumed(experiment: Experiment) -> None:
    outcomes = [predict(trial) for trial in experiment.trials("speck2f")]
    if experiment.name == "power":
        outcomes = [replace(outcome, power_w=MEASURED_POWER) for outcome in outcomes]

    answer = experiment.judge(outcomes)

    wanted = Verdict.MEASURED if experiment.name == "power" else Verdict.AS_ASSUMED
    assert answer.verdict is wanted, answer.found
    for name, value in answer.sets.items():
        assumed = getattr(ASSUMPTIONS, name)
        assert value == (list(assumed) if isinstance(assumed, tuple) else assumed)


@pytest.mark.parametrize("chip", ["speck2f", "speck2e"])
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.name)
def test_the_check_lets_every_trial_run_as_it_is_meant(experiment: Experiment, chip: str) -> None:
    for trial in experiment.trials(chip):
        report = check_configuration(trial.as_read, CHIPS[chip], Settings())

        errors = [each.message for each in report.findings if each.severity == "error"]
        assert errors == []
        assert report.configuration is not None
        made = report.configuration.cores
        meant = trial.configuration.cores
        assert [each.monitor_enable for each in made] == [each.monitor_enable for each in meant]
        assert [each.core for each in made] == [each.core for each in meant]


def test_a_chip_whose_files_have_no_decimator_refuses_before_anything_is_sent() -> None:
    with pytest.raises(BadInput) as caught:
        _ = BY_NAME["decimators"].trials("speck2b")[0].model

    assert caught.value.reason == "NOT_IN_VENDOR_JSON"


@pytest.mark.parametrize("offset_us", [-700, 5000])
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.name)
def test_a_clock_that_is_off_is_set_right_by_what_stamps_told(
    experiment: Experiment, offset_us: int
) -> None:
    def board(each: Experiment) -> list[Outcome]:
        outcomes = [predict(trial) for trial in each.trials("speck2f")]
        for outcome in outcomes:
            for spikes in outcome.spikes:
                spikes["t"] += offset_us
        return outcomes

    told = senses.offset_us(BY_NAME["stamps"].judge(board(BY_NAME["stamps"])))
    answer = experiment.judge([set_back(outcome, told) for outcome in board(experiment)])

    assert told == offset_us
    assert answer.verdict is (
        Verdict.NOT_TOLD if experiment.name == "power" else Verdict.AS_ASSUMED
    )


@st.composite
def outcomes_of(draw: st.DrawFn, experiment: Experiment) -> list[Outcome]:
    """Whatever a broken board may send."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    made = []
    for trial in experiment.trials("speck2f"):
        features = max(core.output_shape[0] for core in trial.configuration.cores)
        recordings = []
        for _ in trial.recordings:
            spikes = np.zeros(draw(st.sampled_from([0, 0, 1, 3, 200])), EVENT_DTYPE)
            spikes["t"] = np.sort(rng.integers(0, draw(st.sampled_from([1, 10**4])), len(spikes)))
            layers = [*range(len(trial.configuration.cores)), ECHO]
            spikes["layer"] = rng.choice(layers, len(spikes))
            spikes["feature"] = rng.integers(0, features, len(spikes))
            spikes["y"], spikes["x"] = rng.integers(0, 3, (2, len(spikes)))
            recordings.append(spikes)
        made.append(Outcome(spikes=tuple(recordings)))
    return made


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.name)
def test_whatever_a_broken_board_sends_is_answered(
    experiment: Experiment,
) -> None:
    seen: list[Verdict] = []

    @settings(max_examples=6)
    @given(outcomes_of(experiment))
    def judge(outcomes: list[Outcome]) -> None:
        answer = experiment.judge(outcomes)
        assert answer.found
        seen.append(answer.verdict)

    judge()
    assert set(seen) - {Verdict.AS_ASSUMED}


def explanation() -> str:
    return (Path(__file__).parents[1] / "docs" / "explanation" / "proof.md").read_text()


def test_every_experiment_is_explained() -> None:
    assert [each.name for each in EXPERIMENTS if f"| {each.name} |" not in explanation()] == []


def test_each_open_question_names_the_experiments_that_say_they_settle_it() -> None:
    rows = {
        int(number): cells.split("|")[1].split(", ")
        for number, cells in re.findall(r"^\| (\d+)\. (.*) \|$", explanation(), re.MULTILINE)
    }
    settled = {
        (int(number), each.name)
        for each in EXPERIMENTS
        for named in re.findall(r"^open questions? ([\d and]+)", each.settles)
        for number in re.findall(r"\d+", named)
    }

    assert sorted(rows) == list(range(1, 19))
    named = {(number, name.strip()) for number, names in rows.items() for name in names}
    assert settled - named == set()
    known = {each.name for each in EXPERIMENTS}
    assert [name for _, name in named if name not in known and not name.startswith("none")] == []
