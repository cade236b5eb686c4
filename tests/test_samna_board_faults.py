"""A devkit driven through samna, on its double: which one it is, and every documented failure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from speckfarm_server.boards import known_answer
from speckfarm_server.boards.samna import run as samna_run
from speckfarm_server.boards.samna.board import SamnaBoard, open_samna_board
from speckfarm_server.boards.samna.names import member, names_of
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.job_result import Ending
from tests.double_world import World, options
from tests.hidden_board import events_at, steady
from tests.samna_cases import CONFIGURATION, PACKED, camera_network, everything, from_twin, same
from tests.twin_builders import chip, core

pytestmark = pytest.mark.system  # real time, which says nothing of the Python version


@pytest.fixture
def board(world: World) -> Iterator[SamnaBoard]:
    opened = open_samna_board(options(world))
    yield opened
    opened._lock.close()


def fault_of(world: World, **board: object) -> BoardFault:
    with pytest.raises(BoardFault) as error:
        open_samna_board(options(world, **board))
    return error.value


def run_fault(board: SamnaBoard) -> BoardFault:
    with pytest.raises(BoardFault) as error:
        everything(board)
    return error.value


def configure_fault(board: SamnaBoard) -> BoardFault:
    with pytest.raises(BoardFault) as error:
        board.configure(CONFIGURATION)
    return error.value


# Which devkit it is.


def test_of_several_devkits_the_one_in_the_named_port_is_opened(world: World) -> None:
    world.plug("2-1.4", address=12)

    board = open_samna_board(options(world, usb="2-1.4"))

    board.close()
    assert "open" in world.log("2-1.4")
    assert world.log("2-1.3") == []


@pytest.mark.parametrize(
    ("plugged", "wanted", "reason", "words"),
    [
        ({"type": "Speck3DevKit"}, {"usb": "2-1.3"}, "DEVICE_TYPE_UNKNOWN", "Speck2fDevKit"),
        ({"type": "Speck2eDevKit"}, {"usb": "2-1.3"}, "DEVICE_WRONG_CHIP", "speck2e"),
        ({"type": "Speck2eDevKit"}, {}, "DEVICE_NOT_FOUND", "Speck2eDevKit at USB 2-1.3"),
        ({}, {"usb": "2-9"}, "DEVICE_NOT_FOUND", "usb '2-9'"),
        ({"serial": "B"}, {"serial": "A"}, "DEVICE_NOT_FOUND", "serial B"),
    ],
)
def test_a_devkit_that_does_not_fit_is_refused_with_what_is_there(
    world: World, plugged: dict[str, object], wanted: dict[str, object], reason: str, words: str
) -> None:
    world.replug(**plugged)

    fault = fault_of(world, **wanted)

    assert fault.reason == reason
    assert words in fault.message


def test_two_devkits_that_fit_one_board_are_told_apart_by_the_operator(world: World) -> None:
    world.plug("2-1.4", address=12)

    fault = fault_of(world)

    assert fault.reason == "DEVICE_AMBIGUOUS"
    assert "2-1.3" in fault.message
    assert "2-1.4" in fault.message


def test_no_devkit_at_all_says_where_to_look(world: World) -> None:
    world.unplug()

    fault = fault_of(world)

    assert (fault.reason, fault.error_class) == ("DEVICE_NOT_FOUND", ErrorClass.INFRASTRUCTURE)
    assert "doctor" in fault.message


def test_a_devkit_is_one_board_of_one_server(world: World, board: SamnaBoard) -> None:
    assert fault_of(world).reason == "DEVICE_IN_USE"

    board.close()

    open_samna_board(options(world)).close()


@pytest.mark.parametrize("how", ["no_permission", "open_elsewhere"])
def test_a_devkit_that_samna_cannot_open_says_why_it_may_be(world: World, how: str) -> None:
    world.behave(**{how: True})

    fault = fault_of(world)

    assert fault.reason == "DEVICE_NOT_OPENED"
    assert "another process" in fault.message


# How it fails.


def test_a_time_out_while_configuring_names_the_reset_button(
    world: World, board: SamnaBoard
) -> None:
    world.behave(fail_configure=True)

    fault = configure_fault(board)

    assert (fault.reason, fault.error_class) == ("BOARD_TIMED_OUT", ErrorClass.INFRASTRUCTURE)
    assert "reset button" in fault.message


def test_a_board_that_takes_long_to_configure_is_waited_for(
    world: World, board: SamnaBoard
) -> None:
    world.behave(configure_ms=1500)

    board.configure(CONFIGURATION)

    assert same(everything(board), from_twin())


def test_a_configuration_that_never_arrives_is_noticed(
    world: World, board: SamnaBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.behave(configure_lost=True)
    monkeypatch.setattr("speckfarm_server.boards.samna.board.READY_LIMIT_S", 0.5)

    fault = configure_fault(board)

    assert fault.reason == "BOARD_NOT_READY"


def test_the_former_configuration_is_not_taken_for_the_new_one(
    world: World, board: SamnaBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.configure(CONFIGURATION)
    world.behave(configure_lost=True)
    monkeypatch.setattr("speckfarm_server.boards.samna.board.READY_LIMIT_S", 0.5)

    fault = configure_fault(board)

    assert fault.reason == "BOARD_NOT_READY"


def test_what_samna_refuses_comes_with_its_own_words(
    board: SamnaBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = sys.modules["samna"].speck2f
    words = "Weight memory requirements 16640 exceeds 16384"
    monkeypatch.setattr(library, "validate_configuration", lambda _: (False, words))

    fault = configure_fault(board)

    assert (fault.reason, fault.error_class) == ("VENDOR_REFUSED", ErrorClass.JOB)
    assert words in fault.message


def test_a_dead_handle_is_noticed_by_its_silence(
    world: World, board: SamnaBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.configure(CONFIGURATION)
    world.behave(dead_handle=True)

    fault = run_fault(board)

    assert (fault.reason, fault.error_class) == ("BOARD_SILENT", ErrorClass.DEVICE_STALL)
    assert "does not answer" in board.health()


def test_a_network_that_stays_silent_is_no_fault(board: SamnaBoard) -> None:
    board.configure(CONFIGURATION)

    found = everything(board, events_at(np.array([0])))

    assert len(found.t_us) == 0


def test_a_broken_handle_is_a_fault_of_the_board(world: World, board: SamnaBoard) -> None:
    board.configure(CONFIGURATION)
    world.behave(broken_handle=True)

    fault = run_fault(board)

    assert (fault.reason, fault.error_class) == ("BOARD_CALL_FAILED", ErrorClass.INFRASTRUCTURE)


def test_a_board_that_is_pulled_out_while_it_runs_is_a_fault(
    world: World, board: SamnaBoard
) -> None:
    board.configure(CONFIGURATION)
    chunks = board.run(PACKED)
    next(chunks)

    world.unplug()

    with pytest.raises(BoardFault) as error:
        list(chunks)
    assert error.value.error_class is ErrorClass.INFRASTRUCTURE
    assert "not plugged in" in board.health()


@pytest.mark.parametrize("noise", ["untimed", "dvs_noise", "chatter"])
def test_events_that_nobody_asked_for_change_nothing(
    world: World, board: SamnaBoard, noise: str
) -> None:
    world.behave(**{noise: True})

    board.configure(CONFIGURATION)
    found = everything(board)

    assert same(found, from_twin())
    reasons = [finding.reason for finding in board.report().findings]
    assert reasons == ([] if noise == "chatter" else ["UNASKED_EVENTS"])


def test_a_stop_watch_that_is_ahead_is_noticed_before_a_burst_is_taken_for_a_result(
    world: World, board: SamnaBoard
) -> None:
    world.behave(clock_ahead_us=500_000)
    board.configure(CONFIGURATION)

    fault = run_fault(board)

    assert (fault.reason, fault.error_class) == ("STOP_WATCH_WRONG", ErrorClass.INFRASTRUCTURE)


def test_stamps_that_stand_still_are_noticed(world: World, board: SamnaBoard) -> None:
    world.behave(zero_stamps=True)
    board.configure(CONFIGURATION)

    fault = run_fault(board)

    assert fault.reason == "STOP_WATCH_WRONG"
    assert "all 0" in fault.message


def test_a_stop_watch_that_does_not_start_fails_the_known_answer(
    world: World, board: SamnaBoard
) -> None:
    """All input is held for ever: as if the network were silent, so only the check can tell."""
    world.behave(watch_dead=True)
    known = known_answer.recordings()
    board.configure(known_answer.network("speck2f"))

    counts = [
        np.bincount(everything(board, known.packed[first:last]).feature, minlength=4).tolist()
        for first, last in pairwise(known.offsets)
    ]

    assert known_answer.judge(counts) != []


def test_live_events_of_the_camera_are_kept_out_whatever_the_configuration_says(
    world: World, board: SamnaBoard
) -> None:
    world.behave(camera_live=True)
    configuration = camera_network()
    assert configuration.dvs is not None
    live = replace(configuration, dvs=replace(configuration.dvs, pass_sensor_events=True))

    board.configure(live)
    found = everything(board)

    assert same(found, from_twin(configuration))
    assert [finding.reason for finding in board.report().findings] == ["LIVE_EVENTS_OFF"]


def test_power_without_stamps_is_told_as_old_firmware(world: World, board: SamnaBoard) -> None:
    world.behave(zero_power_stamps=True)
    board.configure(CONFIGURATION)

    everything(board)

    assert [finding.reason for finding in board.report().findings] == ["POWER_STAMPS_ZERO"]


def test_the_lost_first_event_is_missing_if_it_is_kept_and_there_if_one_is_sacrificed(
    world: World,
) -> None:
    relay = chip(core(np.full((1, 1, 1, 1), 10), (16, 16), core=4, threshold_high=10))
    world.behave(lost_first_event=True)
    outputs = []
    for first_event in ("keep", "sacrifice"):
        board = open_samna_board(options(world, first_event=first_event))
        board.configure(relay)
        outputs += [everything(board), everything(board)]  # only the first follows a reset
        board.close()

    expected = from_twin(relay)
    assert len(outputs[0].t_us) == len(expected.t_us) - 1
    assert all(same(output, expected) for output in outputs[1:])


def test_a_board_that_is_never_quiet_is_ended_and_the_result_says_so(
    world: World, board: SamnaBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.behave(never_quiet=True)
    monkeypatch.setattr(samna_run, "LONGEST_DRAIN_US", 400_000)
    board.configure(CONFIGURATION)

    found = everything(board)

    assert board.report().ending is Ending.DRAIN_LIMIT
    assert len(found.t_us) > len(from_twin().t_us)


def test_an_abandoned_recording_leaves_nothing_for_the_next(board: SamnaBoard) -> None:
    board.configure(CONFIGURATION)
    long = steady(2000, 300_000)
    chunks = board.run(long)
    for chunk in chunks:
        if len(chunk.t_us):
            break

    board.configure(CONFIGURATION)

    assert same(everything(board), from_twin())


def test_a_recording_whose_stamps_would_wrap_is_refused(board: SamnaBoard) -> None:
    board.configure(CONFIGURATION)
    hours = events_at(np.array([0, 1 << 32]))

    with pytest.raises(BoardFault) as error:
        list(board.run(hours))

    assert (error.value.reason, error.value.error_class) == ("RECORDING_TOO_LONG", ErrorClass.JOB)
    assert error.value.metadata["allowed_us"] == "4234967296"


def test_a_host_that_writes_too_late_does_not_pass_off_the_burst_as_a_result(
    board: SamnaBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samna_run, "SAFETY_LEAD_US", 0)
    monkeypatch.setattr(samna_run, "WRITE_AHEAD_US", -100)
    board.configure(CONFIGURATION)

    fault = run_fault(board)

    assert fault.reason == "INPUT_LATE"


def test_an_older_stop_watch_is_told_with_one_switch() -> None:
    class Watch:
        def set_enable_value(self, is_on: bool) -> bool:
            return is_on

    found = member(Watch(), names_of("speck2f")["watch.start"])

    assert found(True) is True
