"""The verdict on overruns and estimated lags, on boards whose constants are hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from speckfarm.events import PackedEvents
from speckfarm_server.align import Outputs, address
from speckfarm_server.bottleneck import find_bottleneck
from speckfarm_server.configuration import Configuration
from speckfarm_server.estimate import Track, track
from speckfarm_server.overrun import Overrun, Verdict, judge, judge_exactly
from speckfarm_server.unloaded import Unloaded, UnloadedTwin
from tests.hidden_board import HiddenBoard, events_at, hidden, steady, two_layers

DURATION_US = 200_000
# Events in that time that keep the first core busy for all of it, by the table of chips.
FULL = 30_000


def unloaded(configuration: Configuration, packed: PackedEvents) -> Unloaded:
    twin = UnloadedTwin(configuration)
    assert all(step is None for step in twin.run(packed))
    return twin.result


def tracks_of(
    board: HiddenBoard, packed: PackedEvents, configuration: Configuration, **shift: Any
) -> tuple[list[Track], Overrun]:
    """Run the board; `shift` is what its clock does besides: from which time on, by how much."""
    board.configure(configuration)
    [output] = board.run(packed)
    t_us = output.t_us
    if shift:
        t_us = np.where(t_us > shift["from_us"], t_us + shift["by_us"], t_us)
    expected = unloaded(configuration, packed)
    tracks = []
    for layer in [c.layer for c in reversed(configuration.cores) if c.monitor_enable]:
        mine = output.layer == layer
        addresses = address(output.feature[mine], output.y[mine], output.x[mine])
        measured = Outputs(t_us=t_us[mine], address=addresses)
        found = track(layer, measured, *expected.of(layer), expected.demand)
        tracks += [] if found is None else [found]
    return tracks, judge(tracks, expected.demand)


@pytest.mark.parametrize("rate", [0.6, 1.0, 1.4])
def test_a_board_that_keeps_up_is_healthy_and_its_lags_are_known(rate: float) -> None:
    board = HiddenBoard(hidden(rate))

    [found], overrun = tracks_of(board, steady(FULL // 5, DURATION_US), two_layers())

    assert board.held_back_us == [0.0]
    assert overrun.verdict is Verdict.HEALTHY
    off_us = np.abs(found.lags_us - board.lags_us[0])
    assert np.quantile(off_us, 0.9) <= found.error_us < 100


@pytest.mark.parametrize("rate", [0.6, 1.0, 1.4])
def test_a_board_asked_for_too_much_is_found_with_its_core_and_its_rate(rate: float) -> None:
    board = HiddenBoard(hidden(rate))

    [found], overrun = tracks_of(board, steady(3 * FULL, DURATION_US), two_layers())

    assert board.held_back_us[0] > 0.2 * DURATION_US
    assert (overrun.verdict, overrun.layer, overrun.core) == (Verdict.EXCEEDED, 0, 3)
    assert overrun.confidence > 0.95
    assert found.bottleneck.rate == pytest.approx(rate, rel=0.05)
    assert (overrun.synops_per_s or 0) > 2 * (overrun.synops_limit_per_s or 0)
    true_us = board.lags_us[0]
    slope = np.polyfit(found.cause_us, np.interp(found.cause_us, *_by_cause(found, true_us)), 1)[0]
    assert (overrun.drift_us_per_s or 0) / 1e6 == pytest.approx(slope, rel=0.1)


def _by_cause(found: Track, lags_us: Any) -> tuple[Any, Any]:
    """Causes in ascending order with the true lags, as far as outputs were found."""
    causes_us = np.linspace(found.cause_us[0], found.cause_us[-1], len(lags_us))
    return causes_us, lags_us


def test_estimated_lags_of_an_overrun_are_right_within_a_hundredth() -> None:
    board = HiddenBoard(hidden(0.8), lost=0.1)

    [found], _ = tracks_of(board, steady(3 * FULL, DURATION_US), two_layers())

    off_us = np.abs(found.lags_us - board.lags_us[0])
    assert np.quantile(off_us, 0.9) < 0.01 * board.lags_us[0].max()


@pytest.mark.parametrize("by_us", [-3000.0, 5000.0, 20_000.0])
def test_a_step_of_the_clock_is_no_drift(by_us: float) -> None:
    board = HiddenBoard(hidden(1.0))
    shift = {"from_us": DURATION_US / 2, "by_us": by_us}

    [found], overrun = tracks_of(board, steady(FULL // 5, DURATION_US), two_layers(), **shift)

    assert overrun.verdict is Verdict.HEALTHY
    assert found.steps_us == pytest.approx([by_us], abs=20)


def test_a_burst_at_the_start_is_no_drift() -> None:
    times = np.random.default_rng(4).integers(0, DURATION_US, FULL // 5)
    recorded = np.sort(times)
    board = HiddenBoard(hidden(1.0, fifo_depth=1 << 16))
    board.configure(two_layers())
    [output] = board.run(events_at(np.maximum(recorded, 60_000)))
    expected = unloaded(two_layers(), events_at(recorded))
    addresses = address(output.feature, output.y, output.x)
    measured = Outputs(t_us=output.t_us, address=addresses)

    found = track(1, measured, *expected.of(1), expected.demand)

    assert found is not None
    assert found.curve_us[0] > 10_000
    assert judge([found], expected.demand).verdict is Verdict.HEALTHY


def test_a_quiet_recording_says_nothing() -> None:
    board = HiddenBoard(hidden(1.0))

    tracks, overrun = tracks_of(board, steady(60, DURATION_US), two_layers())

    assert all(len(each.event) < 30 for each in tracks)
    assert (overrun.verdict, overrun.why) == (Verdict.INCONCLUSIVE, "few outputs")
    assert overrun.layer is None


def test_a_burst_that_a_queue_may_have_held_is_not_judged() -> None:
    burst = np.random.default_rng(4).integers(50_000, 51_000, 330)
    around = np.random.default_rng(5).integers(0, 100_000, 1500)
    packed = events_at(np.sort(np.concatenate([burst, around])))

    _, deep = tracks_of(HiddenBoard(hidden(1.0, fifo_depth=1024)), packed, two_layers())
    _, shallow = tracks_of(HiddenBoard(hidden(1.0, fifo_depth=4)), packed, two_layers())

    assert deep.verdict is shallow.verdict is Verdict.INCONCLUSIVE
    assert deep.why == "a queue may hold it"


def test_lags_that_no_work_explains_are_not_called_an_overrun() -> None:
    board = HiddenBoard(hidden(1.0))
    board.configure(two_layers())
    packed = steady(FULL // 5, DURATION_US)
    [output] = board.run(packed)
    expected = unloaded(two_layers(), packed)
    slow_us = output.t_us + 0.3 * np.maximum(0, output.t_us - 100_000)  # a clock that runs wild
    addresses = address(output.feature, output.y, output.x)

    found = track(1, Outputs(t_us=slow_us, address=addresses), *expected.of(1), expected.demand)

    assert found is not None
    assert found.rise_us > 10_000
    overrun = judge([found], expected.demand)
    assert not found.bottleneck.fits
    assert (overrun.verdict, overrun.why) == (Verdict.HEALTHY, "little asked")


def test_monitored_inner_layers_are_judged_too() -> None:
    board = HiddenBoard(hidden(1.0))

    tracks, overrun = tracks_of(board, steady(3 * FULL, DURATION_US), two_layers(monitor=True))

    assert [each.layer for each in tracks] == [1, 0]
    assert (overrun.verdict, overrun.layer) == (Verdict.EXCEEDED, 0)


def test_a_simulated_board_is_judged_by_what_it_knows() -> None:
    suspect = Overrun(verdict=Verdict.EXCEEDED, confidence=1.0, why="held back", layer=2, core=4)

    assert judge_exactly(1001.0, 100_000.0, suspect) is suspect
    healthy = judge_exactly(1000.0, 100_000.0, suspect)
    assert (healthy.verdict, healthy.confidence, healthy.layer) == (Verdict.HEALTHY, 1.0, None)
    assert judge_exactly(5.0, 0.0, suspect).verdict is Verdict.INCONCLUSIVE
    assert judge_exactly(0.0, 0.0, suspect).verdict is Verdict.HEALTHY


def test_a_bottleneck_is_named_though_causes_swap_places() -> None:
    demand = unloaded(two_layers(), steady(5000, DURATION_US)).demand

    found = find_bottleneck(demand, np.array([900.0, 800.0]), np.array([1e5, 1.1e5]))

    assert found.layer in (0, 1)
    assert not found.fits or found.rate < 0.1


def test_demand_grows_with_the_events_and_ends_with_the_twins_own_counts() -> None:
    packed = steady(5000, DURATION_US)
    board = HiddenBoard(replace(hidden(1.0)))
    board.configure(two_layers())

    demand = unloaded(two_layers(), packed).demand

    list(board.run(packed))
    assert board._twin is not None
    assert demand.synops[:, -1].tolist() == board._twin.activity.synops.tolist()
    assert (np.diff(demand.synops, axis=1) >= 0).all()
    assert demand.event[-1] == 5000
    assert demand.before == ((0,), (0, 1))
