"""The latency echo: what a board's clock and chip that are not the twin's give, is found back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from speckfarm.events import ECHO
from speckfarm_server.align import Outputs, address
from speckfarm_server.estimate import read_clock
from speckfarm_server.prove import echo
from speckfarm_server.prove.answer import Answer, Verdict
from speckfarm_server.prove.trial import Events, Outcome, packed, predict, set_back
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from speckfarm_server.unloaded import UnloadedTwin
from tests.prove_outcomes import judged, trials

NAME = "latency echo"
Change = Callable[[Events], Events]


def outcomes_with(change: Change) -> list[Outcome]:
    """What the twin gives, changed."""
    found = [predict(trial) for trial in trials(NAME)]
    return [
        replace(each, spikes=tuple(change(spikes.copy()) for spikes in each.spikes))
        for each in found
    ]


def changed(change: Change) -> Answer:
    return echo.judge_echo(outcomes_with(change))


def later(spikes: Events, by_us: object, *, is_echo: bool) -> Events:
    spikes["t"][(spikes["layer"] == ECHO) == is_echo] += by_us
    return spikes


def without(number: int, *, is_echo: bool) -> Change:
    """One echo, or one output, less."""

    def change(spikes: Events) -> Events:
        [places] = np.nonzero((spikes["layer"] == ECHO) == is_echo)
        left: Events = np.delete(spikes, places[number])
        return left

    return change


def mirrored(spikes: Events) -> Events:
    mine = spikes["layer"] == ECHO
    spikes["x"][mine] = echo.SIZE - 1 - spikes["x"][mine]
    return spikes


@pytest.mark.parametrize(
    ("fixed_ns", "pipe_ns"), [(340, 70), (300, 30), (0, 0), (900, 120), (4000, 250)]
)
def test_the_time_of_a_core_is_found_back(fixed_ns: int, pipe_ns: int) -> None:
    answer = judged(NAME, replace(ASSUMPTIONS, fixed_ns=fixed_ns, pipe_ns=pipe_ns))

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.figures["core_ns"] == pytest.approx(fixed_ns + pipe_ns + 1000 / 30, abs=20)
    assert answer.figures["camera_to_core_beside_echo_us"] == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.3, 2.0])
def test_a_first_core_of_another_rate_is_no_delay_of_the_others(factor: float) -> None:
    factors = tuple(factor if core == echo.FIRST_CORE else 1.0 for core in range(9))

    answer = judged(NAME, replace(ASSUMPTIONS, rate_factors=factors))

    assert answer.verdict is Verdict.AS_ASSUMED
    assert answer.figures["core_ns"] == pytest.approx(403, abs=20)


@pytest.mark.parametrize("offset_us", [-700, -6, 6, 321])
def test_a_clock_that_is_off_moves_the_echo_and_no_lag(offset_us: int) -> None:
    def ahead(spikes: Events) -> Events:
        spikes["t"] += offset_us
        return spikes

    answer = changed(ahead)

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.figures["echo_offset_us"] == offset_us
    assert answer.figures["core_ns"] == judged(NAME).figures["core_ns"]
    assert answer.figures["lag_us_of_one_core"] == judged(NAME).figures["lag_us_of_one_core"]


def test_an_offset_that_was_set_back_is_told_and_no_difference() -> None:
    def ahead(spikes: Events) -> Events:
        spikes["t"] += 300
        return spikes

    answer = echo.judge_echo([set_back(each, 299) for each in outcomes_with(ahead)])

    assert answer.verdict is Verdict.AS_ASSUMED
    assert answer.figures["echo_offset_us"] == 300
    assert "echo 300.00 us behind its event" in answer.found


@pytest.mark.parametrize(("way_us", "verdict"), [(0, "as assumed"), (3, "different")])
def test_a_slow_way_from_the_camera_layer_is_told_from_the_cores(way_us: int, verdict: str) -> None:
    answer = changed(lambda spikes: later(spikes, way_us, is_echo=False))

    assert answer.verdict.value == verdict
    assert answer.figures["camera_to_core_beside_echo_us"] == pytest.approx(way_us, abs=0.15)
    assert answer.figures["core_ns"] == pytest.approx(403, abs=20)
    assert answer.figures["echo_offset_us"] == 0


def test_neurons_that_are_reached_from_the_other_end_give_the_same_times() -> None:
    update_us = 1 / 30
    from_the_end_us = (echo.NEURONS - 1 - 2 * echo.RANK) * update_us

    def turned(spikes: Events) -> Events:
        return later(spikes, np.round(from_the_end_us).astype(np.int64), is_echo=False)

    answer = changed(turned)

    assert answer.verdict is Verdict.AS_ASSUMED
    assert answer.figures["lag_us_of_one_core"] == pytest.approx(0.4, abs=0.15)


def jittering(seed: int, most_us: int, *, is_echo: bool) -> Change:
    rng = np.random.default_rng(seed)

    def change(spikes: Events) -> Events:
        count = int(np.count_nonzero((spikes["layer"] == ECHO) == is_echo))
        return later(spikes, rng.integers(0, most_us + 1, count), is_echo=is_echo)

    return change


@pytest.mark.parametrize("seed", range(20))
def test_stamps_that_jitter_by_their_step_are_as_assumed(seed: int) -> None:
    both = [jittering(seed, 1, is_echo=is_echo) for is_echo in (True, False)]

    answer = changed(lambda spikes: both[0](both[1](spikes)))

    assert answer.verdict is Verdict.AS_ASSUMED
    assert answer.figures["echo_jitter_us"] == 1
    assert answer.figures["lag_jitter_us"] == 2


@pytest.mark.parametrize("is_echo", [True, False])
def test_jitter_of_echoes_and_of_outputs_is_told_apart(is_echo: bool) -> None:
    answer = changed(jittering(1, 4, is_echo=is_echo))

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.figures["echo_jitter_us"] == (4 if is_echo else 0)
    assert answer.figures["lag_jitter_us"] == 4


def test_a_clock_that_starts_elsewhere_in_each_recording_is_told() -> None:
    starts_us = iter(range(0, 100, 2))

    def started(spikes: Events) -> Events:
        spikes["t"] += next(starts_us)
        return spikes

    answer = changed(started)

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.figures["echo_moved_between_recordings_us"] == 6
    assert answer.figures["core_ns"] == judged(NAME).figures["core_ns"]


def test_without_an_echo_nothing_is_told() -> None:
    answer = changed(lambda spikes: spikes[spikes["layer"] != ECHO])

    assert answer.verdict is Verdict.NOT_TOLD
    assert "no echo" in answer.found
    assert f"{echo.SENT * 4} outputs" in answer.found


@pytest.mark.parametrize(
    "broken",
    [
        without(20, is_echo=True),
        lambda spikes: np.concatenate([spikes, spikes[spikes["layer"] == ECHO]]),
        mirrored,
    ],
    ids=["one lost", "all twice", "at other places"],
)
def test_echoes_that_are_not_what_was_sent_are_different(broken: Change) -> None:
    answer = changed(broken)

    assert answer.verdict is Verdict.DIFFERENT
    assert "echoes are not" in answer.found


def test_an_output_that_is_lost_leaves_the_clock_told_and_the_lag_not() -> None:
    answer = changed(without(20, is_echo=False))

    assert answer.verdict is Verdict.NOT_TOLD
    assert answer.figures["echo_offset_us"] == 0
    assert "core_ns" not in answer.figures


def test_the_echo_of_the_first_event_may_be_lost() -> None:
    answer = changed(without(0, is_echo=True))

    assert answer.verdict is Verdict.AS_ASSUMED


def test_the_offset_is_the_one_by_which_the_farm_corrects_lags() -> None:
    short = trials(NAME)[0]
    rng = np.random.default_rng(2)
    twin = UnloadedTwin(short.as_read)
    assert all(step is None for step in twin.run(packed(short.recordings[0])))

    def ahead(spikes: Events) -> Events:
        spikes["t"] += 40 + rng.integers(0, 2, len(spikes))
        return spikes

    outcomes = outcomes_with(ahead)

    heard = outcomes[0].spikes[0]
    heard = heard[heard["layer"] == ECHO]
    measured = Outputs(
        t_us=heard["t"].astype(float),
        address=address(heard["feature"], heard["y"], heard["x"]),
    )
    clock = read_clock(measured, *twin.result.of(ECHO), twin.result.demand)
    assert clock is not None
    found_us = echo.judge_echo(outcomes).figures["echo_offset_us"]
    assert found_us == pytest.approx(clock.ahead_us, abs=clock.error_us)
