"""The echo of the input: events as they leave the camera layer, beside the spikes of cores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm.events import ECHO, TIME_SHIFT, PackedEvents, pack, unpack
from speckfarm_server.align import Outputs, address
from speckfarm_server.boards.board import Board
from speckfarm_server.boards.execute import Attempt, Outcome, Task
from speckfarm_server.boards.samna.board import SamnaBoard, open_samna_board
from speckfarm_server.boards.simulated import SimulatedBoard
from speckfarm_server.changes.regraph import renumbered
from speckfarm_server.check import check
from speckfarm_server.check_vendor import check_configuration
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration, DvsConfiguration
from speckfarm_server.errors import BadInput, Severity
from speckfarm_server.estimate import Offset, read_clock
from speckfarm_server.recordings import summarise, to_file
from speckfarm_server.settings import Settings, with_key
from speckfarm_server.twin.twin import Twin
from speckfarm_server.unloaded import UnloadedTwin
from speckfarm_server.vendor.read import read_vendor_json
from speckfarm_server.vendor.write import write_vendor_json
from tests.double_world import World, options
from tests.hidden_board import HiddenBoard, behind_camera, hidden, steady, two_layers
from tests.networks import conv, digits_network, network
from tests.twin_builders import chip, core, run_cut, to

WHOLE: dict[str, Any] = {"crop": (0, 0, 34, 34)}  # of the digits: all their events pass as they are
OFFSET_US = 321.0
# All that the layer does; on speck2f, which pools first: origin and cut are pooled pixels.
CAMERA = DvsConfiguration(
    off_channel=False, pooling=(2, 1), origin=(1, 3), cut=(8, 10), mirror=(False, True),
    mirror_diagonal=True, monitor_enable=True, destinations=to(4),
)  # fmt: skip


def scene(count: int = 3000) -> PackedEvents:
    """Events all over 40 x 40 pixels, some at one time."""
    rng = np.random.default_rng(8)
    columns = [np.sort(rng.integers(0, 60_000, count)), *rng.integers(0, (2, 40, 40), (count, 3)).T]
    events = np.zeros(
        count, [("t", "i8"), ("layer", "u1"), ("feature", "u2"), ("y", "u1"), ("x", "u1")]
    )
    for name, column in zip(("t", "feature", "y", "x"), columns, strict=True):
        events[name] = column
    return pack(events)


def behind(packed: PackedEvents) -> list[tuple[int, ...]]:
    """What leaves CAMERA, event by event and by hand: (cause, t, feature, y, x)."""
    left: list[tuple[int, ...]] = []
    for cause, (t_us, _, feature, y, x) in enumerate(unpack(packed).tolist()):
        row, column = y // 2 - 1, x - 3
        if feature == 1 and 0 <= row < 8 and 0 <= column < 8:
            left.append((cause, t_us, 1, 7 - column, row))
    return left


def camera_chip(**changes: Any) -> Configuration:
    """A network behind CAMERA."""
    rng = np.random.default_rng(3)
    only = core(
        rng.integers(-40, 100, (4, 2, 3, 3)), (8, 8), core=4, padding=(1, 1), threshold_high=300,
        threshold_low=-300,
    )  # fmt: skip
    made = replace(chip(only), input_shape=(2, 128, 128), inputs=(), dvs=CAMERA)
    return replace(made, **changes)


def echo_of(outputs: Any) -> list[tuple[int, ...]]:
    mine = outputs[outputs["layer"] == ECHO]
    columns = ["cause", "t_ns", "feature", "y", "x"]
    rows: list[tuple[int, ...]] = mine[columns].tolist()
    return [(cause, t_ns // 1000, *place) for cause, t_ns, *place in rows]


# The setting.


def test_the_echo_is_asked_for_like_a_layer() -> None:
    report = check(digits_network(), find_chip("speck2f"), Settings(monitor=(1, 13), **WHOLE))

    assert report.configuration is not None
    assert report.configuration.echoes_input
    assert [c.monitor_enable for c in report.configuration.cores] == [False, True, False, True]
    assert with_key(Settings(), "monitor", "1+13").monitor == (1, 13)


def test_a_network_that_events_enter_directly_cannot_echo() -> None:
    report = check(digits_network(), find_chip("speck2f"), Settings(monitor=(13,)))

    [found] = [each for each in report.findings if each.severity is Severity.ERROR]
    assert found.reason == "ECHO_NEEDS_CAMERA"
    assert "crop=(0, 0, 34, 34)" in found.message
    assert not report.deployable


@pytest.mark.parametrize("layer", [9, 12, 14])
def test_no_other_number_beyond_the_layers_is_taken(layer: int) -> None:
    with pytest.raises(BadInput, match="monitor takes 13 too") as caught:
        Settings(monitor=(layer,))

    assert caught.value.reason == "SETTING_OUT_OF_RANGE"


def test_the_echo_changes_the_digest_and_stays_when_layers_are_renumbered() -> None:
    made, speck = network((2, 34, 34), conv(2, 3)), find_chip("speck2f")
    plain, echoing = (
        check(made, speck, Settings(monitor=monitor, **WHOLE)).configuration
        for monitor in ((), (13,))
    )

    assert plain is not None
    assert echoing is not None
    assert plain.digest != echoing.digest
    assert renumbered(Settings(monitor=(2, 13)), [0, 2]).monitor == (1, 13)


def test_a_file_of_the_vendors_may_echo_by_itself_or_by_the_setting() -> None:
    for monitored, settings in ((True, Settings()), (False, Settings(monitor=(13,)))):
        dvs = replace(CAMERA, monitor_enable=monitored, mirror_diagonal=False)
        made = read_vendor_json(write_vendor_json(camera_chip(dvs=dvs))).configuration

        report = check_configuration(made, find_chip("speck2f"), settings)

        assert [f for f in report.findings if f.severity is Severity.ERROR] == []
        assert report.configuration is not None
        assert report.configuration.echoes_input


def test_a_file_of_the_vendors_whose_camera_feeds_nothing_cannot_echo() -> None:
    made = read_vendor_json(write_vendor_json(two_layers())).configuration

    report = check_configuration(made, find_chip("speck2f"), Settings(monitor=(13,)))

    errors = [f.reason for f in report.findings if f.severity is Severity.ERROR]
    assert errors == ["ECHO_NEEDS_CAMERA"]


# The twin.


def test_the_twin_gives_each_event_that_leaves_the_layer_at_its_time() -> None:
    packed = scene()

    outputs = Twin(camera_chip()).run(packed)

    expected = behind(packed)
    assert 100 < len(expected) < len(packed) / 2
    assert echo_of(outputs) == expected
    assert (np.diff(outputs["t_ns"]) >= 0).all()


def test_an_echo_changes_nothing_else() -> None:
    packed = scene()
    silent = replace(CAMERA, monitor_enable=False)

    outputs = Twin(camera_chip()).run(packed)

    others = outputs[outputs["layer"] != ECHO]
    assert len(others) > 10
    assert others.tolist() == Twin(camera_chip(dvs=silent)).run(packed).tolist()


def test_input_that_is_held_back_is_echoed_at_its_time() -> None:
    twin, packed = Twin(behind_camera(echo=True)), steady(40_000, 60_000)

    outputs = twin.run(packed)

    assert twin.activity.held_back_us > 1000
    echo = outputs[outputs["layer"] == ECHO]
    assert (echo["t_ns"] // 1000).tolist() == (packed >> np.uint64(TIME_SHIFT)).tolist()
    assert echo["cause"].tolist() == list(range(len(packed)))


@given(st.lists(st.integers(0, 400), max_size=4))
def test_an_echo_is_the_same_however_a_recording_is_cut(cuts: list[int]) -> None:
    packed = scene(400)

    pieces = run_cut(Twin(camera_chip()), packed, sorted(cuts))

    for layer in (0, ECHO):
        assert (np.diff(pieces["t_ns"][pieces["layer"] == layer]) >= 0).all()
    ordered = pieces[np.lexsort((pieces["layer"], pieces["t_ns"]))]
    assert ordered.tolist() == Twin(camera_chip()).run(packed).tolist()


# Jobs: an echo is no layer of the network.


def attempt(board: Board, folder: Path, configuration: Configuration, packed: Any) -> Outcome:
    path = folder / "recordings.events"
    to_file(summarise(packed, np.array([0, len(packed)]), None, ("one",)), path)
    task = Task(configuration=configuration, recordings=(("d" * 64, path),), keep_lags=True)
    return Attempt(board, task, lambda *_: None, loaded="").run()


def test_a_result_has_the_echo_among_its_spikes_and_nowhere_else(tmp_path: Path) -> None:
    packed = scene()
    without = camera_chip(dvs=replace(CAMERA, monitor_enable=False))

    plain = attempt(SimulatedBoard(), tmp_path, without, packed)
    outcome = attempt(SimulatedBoard(), tmp_path, camera_chip(), packed)

    [recording], [before] = outcome.recordings, plain.recordings
    spikes = np.frombuffer(outcome.spikes, "<u8")
    layers = unpack(spikes)["layer"]
    assert np.count_nonzero(layers == ECHO) == len(behind(packed))
    assert len(spikes) == recording.output_events
    assert spikes[layers != ECHO].tobytes() == plain.spikes
    assert replace(recording, output_events=before.output_events) == before
    assert (outcome.layers, outcome.lags) == (plain.layers, plain.lags)
    assert outcome.exit_spikes == plain.exit_spikes


# A devkit, on the double of samna.


@pytest.fixture
def board(world: World) -> Iterator[SamnaBoard]:
    opened = open_samna_board(options(world))
    yield opened
    opened.close()


def spikes_of(outcome: Outcome, *, is_echo: bool) -> list[int]:
    packed = np.frombuffer(outcome.spikes, "<u8")
    spikes: list[int] = packed[(unpack(packed)["layer"] == ECHO) == is_echo].tolist()
    return sorted(spikes)  # equal stamps may come in another order


def test_a_devkit_echoes_what_its_twin_echoes(board: SamnaBoard, tmp_path: Path) -> None:
    packed = scene()

    found = attempt(board, tmp_path, camera_chip(), packed)

    twin = attempt(SimulatedBoard(), tmp_path, camera_chip(), packed)
    expected = [
        t << TIME_SHIFT | 13 << 24 | f << 14 | y << 7 | x for _, t, f, y, x in behind(packed)
    ]
    assert spikes_of(found, is_echo=True) == sorted(expected)
    assert found.spikes != b""
    for is_echo in (True, False):
        assert spikes_of(found, is_echo=is_echo) == spikes_of(twin, is_echo=is_echo)
    assert found.recordings[0].counts == twin.recordings[0].counts
    assert [each.layer for each in found.recordings[0].lags] == [0]
    assert found.findings == ()


def test_an_event_that_is_sent_to_be_lost_has_no_echo(world: World, tmp_path: Path) -> None:
    whole = scene(500)
    packed = whole[behind(whole)[0][0] :]  # the first event passes the layer
    board = open_samna_board(options(world, first_event="sacrifice"))

    outcome = attempt(board, tmp_path, camera_chip(), packed)

    board.close()
    assert len(spikes_of(outcome, is_echo=True)) == len(behind(packed))


def test_without_the_setting_a_devkit_echoes_nothing(board: SamnaBoard, tmp_path: Path) -> None:
    silent = camera_chip(dvs=replace(CAMERA, monitor_enable=False))

    outcome = attempt(board, tmp_path, silent, scene(500))

    assert spikes_of(outcome, is_echo=True) == []
    assert spikes_of(outcome, is_echo=False) != []


# Lags on a board whose clock is ahead.


@pytest.mark.parametrize("rate", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("events", [6_000, 90_000], ids=["keeps up", "overrun"])
def test_lags_are_closer_to_the_truth_with_an_echo(
    tmp_path: Path, rate: float, events: int
) -> None:
    packed = steady(events, 200_000)
    off_us: dict[bool, float] = {}
    errors_us: dict[bool, float] = {}

    for echo in (False, True):
        board = HiddenBoard(hidden(rate), offset_us=OFFSET_US)
        outcome = attempt(board, tmp_path, behind_camera(echo=echo), packed)
        lags_us = np.frombuffer(outcome.lags, "<f8")
        off_us[echo] = abs(float(np.median(lags_us) - np.median(board.lags_us[0])))
        errors_us[echo] = outcome.recordings[0].lags[0].latency.error_us or np.inf

    assert off_us[True] < min(2, off_us[False])
    assert errors_us[True] < errors_us[False]
    assert off_us[True] <= errors_us[True] < 100  # us, where lags are up to a second


def test_an_echo_makes_few_outputs_times_since_the_input(tmp_path: Path) -> None:
    packed, configuration = steady(30, 200_000), behind_camera(echo=True)
    quick = replace(configuration.cores[0], threshold_high=300)
    configuration = replace(configuration, cores=(quick, configuration.cores[1]))
    board = HiddenBoard(hidden(1.0), offset_us=50_000.0, lost=0.0)

    outcome = attempt(board, tmp_path, configuration, packed)

    exact = attempt(SimulatedBoard(), tmp_path, configuration, packed)
    [found], [known] = outcome.recordings, exact.recordings
    assert 0 < known.lags[0].latency.n < 9
    assert found.lags[0].latency.n == 0
    first_us, known_us = (each.lags[0].latency.first_output_us for each in (found, known))
    assert first_us == pytest.approx(known_us, abs=5)


def clock_of(
    packed: PackedEvents, stamps_us: Any, *, kept: Any = slice(None)
) -> tuple[Offset | None, int]:
    """What the echo with these stamps tells, and how many there are."""
    twin = UnloadedTwin(behind_camera(echo=True))
    assert all(step is None for step in twin.run(packed))
    events = unpack(packed)[kept]
    measured = Outputs(
        t_us=np.asarray(stamps_us, float)[kept],
        address=address(events["feature"], events["y"], events["x"]),
    )
    found = read_clock(measured, *twin.result.of(ECHO), twin.result.demand)
    return found, len(events)


def test_the_clock_is_read_from_an_echo_of_which_a_third_is_missing_and_some_is_late() -> None:
    rng, packed = np.random.default_rng(1), steady(3000, 200_000)
    t_us = (packed >> np.uint64(TIME_SHIFT)).astype(float)
    late_us = np.where(np.arange(3000) > 2000, np.linspace(0, 5000, 3000), 0)
    stamps_us = np.floor(t_us + OFFSET_US + rng.uniform(-3, 3, 3000) + late_us)

    clock, _ = clock_of(packed, stamps_us, kept=rng.random(3000) > 1 / 3)

    assert clock is not None
    assert clock.ahead_us == pytest.approx(OFFSET_US, abs=clock.error_us)
    assert clock.error_us < 2


def test_a_step_of_the_clock_does_not_move_what_the_echo_tells() -> None:
    packed = steady(3000, 200_000)
    t_us = (packed >> np.uint64(TIME_SHIFT)).astype(float)

    clock, _ = clock_of(packed, t_us + OFFSET_US + np.where(t_us > 50_000, -4000, 0))

    assert clock is not None
    assert clock.ahead_us == pytest.approx(OFFSET_US, abs=clock.error_us)


def test_a_few_echoes_tell_nothing() -> None:
    packed = steady(3000, 200_000)
    t_us = (packed >> np.uint64(TIME_SHIFT)).astype(float)

    clock, count = clock_of(packed, t_us, kept=slice(8))

    assert count == 8
    assert clock is None
