"""A farm whose boards fail, are pulled and stopped: when jobs run again, and what is kept."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import speckfarm
from speckfarm.connection import Connection
from speckfarm.v1 import boards_pb2, usage_pb2
from speckfarm_server.boards.uevents import UsbWatch
from speckfarm_server.config import BoardConfig, FarmConfig, LimitsConfig
from speckfarm_server.server import Server
from tests.farm_follow import end_of, failure_of, follow_to, raw_calls, rows, wait_until_idle
from tests.farm_process import FarmProcess, scripted
from tests.supervised import plug, pull, script_of
from tests.test_uevents import message

pytestmark = pytest.mark.system

LEASE_S = 2.0
RETRY_S = 5.0  # within it a job is on another board


@pytest.mark.parametrize(("what", "limit_s"), [("crash", RETRY_S), ("hang", RETRY_S + LEASE_S)])
def test_a_job_is_on_another_board_within_seconds(
    make_server: Callable[..., FarmProcess],
    digits_model: Path,
    one_digit: Path,
    tmp_path: Path,
    what: str,
    limit_s: float,
) -> None:
    marker = tmp_path / "failed"
    script: dict[str, object] = {"fail": {"2": what}, "marker": str(marker)}
    server = make_server(f"[limits]\nlease_s = {LEASE_S}\n{scripted(script, script)}")
    with server.connect() as farm:
        job = farm.run(digits_model, one_digit)
        assert end_of(job) == "SUCCEEDED"

    query = "SELECT time_us, board FROM events WHERE job = ? AND event = 'job.assigned'"
    (_, first), (again_us, second) = rows(server, query, job.id)
    assert {first, second} == {"script-0", "script-1"}
    failed_s = marker.stat().st_mtime
    assert 0 < int(str(again_us)) / 1e6 - failed_s < limit_s


def test_a_server_stopped_during_configure_leaves_the_job_to_the_next(
    make_server: Callable[..., FarmProcess], digits_model: Path, one_digit: Path
) -> None:
    server = make_server(scripted({"configure_ms": 1500}))
    with server.connect() as farm:
        job = farm.run(digits_model, one_digit)
        follow_to(job, "CONFIGURING")
    server.stop()

    server.start()
    with server.connect() as farm:
        again = farm.job(job.id)
        assert end_of(again) == "SUCCEEDED"

    attempts = rows(server, "SELECT attempt FROM attempts WHERE job = ?", job.id)
    assert attempts == [(2,)]


def test_a_bad_board_gets_no_job_and_the_farm_says_why_and_since_when(
    make_server: Callable[..., FarmProcess], digits_model: Path, one_digit: Path
) -> None:
    server = make_server(
        f"[limits]\nquarantine_s = 600\n{scripted({'fail': {'*': 'crash'}}, {'run_ms': 1})}"
    )
    with server.connect() as farm, raw_calls(server) as calls:
        for _ in range(2):
            assert end_of(farm.run(digits_model, one_digit, board="script-1")) == "SUCCEEDED"
        spoiled = farm.run(digits_model, one_digit, board="script-0")
        follow_to_quarantine(calls, "script-0")
        waiting = calls.call(calls.boards.GetBoard, boards_pb2.GetBoardRequest(board="script-0"))
        others = [farm.run(digits_model, one_digit) for _ in range(5)]
        assert [end_of(job) for job in others] == ["SUCCEEDED"] * 5
        spoiled.cancel()
        assert end_of(spoiled) == "CANCELLED"

    board = waiting.board
    assert board.runtime_state == boards_pb2.BOARD_RUNTIME_STATE_OFFLINE
    assert board.faults == 2
    assert "in quarantine since 2" in board.message
    assert "The process of board script-0 died" in board.message
    assert {result.to_dict()["board"] for result in (job.result() for job in others)} == {
        "script-1"
    }
    logged = rows(server, "SELECT board, board_kind, event FROM events WHERE event LIKE 'board.%'")
    assert logged == [("script-0", "simulated", "board.quarantined")]


def follow_to_quarantine(calls: Connection, board_id: str) -> None:
    """Follow the boards until one is bad."""
    request = boards_pb2.WatchBoardsRequest()
    for told in calls.stream(calls.boards.WatchBoards, request, timeout_s=40):
        if told.board.id == board_id and told.board.health == boards_pb2.BOARD_HEALTH_BAD:
            return


def test_returns_are_in_the_usage_log(
    make_server: Callable[..., FarmProcess], digits_model: Path, one_digit: Path
) -> None:
    server = make_server(f"[limits]\nquarantine_s = 0.05\n{scripted({'fail': {'*': 'crash'}})}")
    with server.connect() as farm, raw_calls(server) as calls:
        failure_of(farm.run(digits_model, one_digit))
        wait_until_idle(calls, "script-0")
        request = usage_pb2.ListUsageEventsRequest(page_size=100)
        listed = calls.call(calls.usage.ListUsageEvents, request)

    events = [event for event in listed.events if event.event.startswith("board.")]
    assert [event.event for event in events] == ["board.quarantined", "board.returned"] * 2
    assert {event.board for event in events} == {"script-0"}


def test_a_swapped_board_stays_drained_over_a_restart_until_it_is_undrained(
    make_server: Callable[..., FarmProcess], tmp_path: Path, digits_model: Path
) -> None:
    server = make_server(scripted(script_of(tmp_path)))
    with raw_calls(server) as calls:
        wait_until_idle(calls, "script-0")
    server.stop()
    plug(tmp_path, serial="77")
    for _ in range(2):
        server.start()
        with raw_calls(server) as calls:
            wait_until_idle(calls, "script-0")
            told = calls.call(calls.boards.GetBoard, boards_pb2.GetBoardRequest(board="script-0"))
            assert (told.board.enabled, told.board.device.serial) == (False, "77")
            assert "another devkit is in this place" in told.board.message
        server.stop()
    server.start()
    with server.connect() as farm, raw_calls(server) as calls:
        wait_until_idle(calls, "script-0")
        farm.undrain("script-0")
    server.stop()

    server.start()
    with server.connect() as farm, raw_calls(server) as calls:
        wait_until_idle(calls, "script-0")
        told = calls.call(calls.boards.GetBoard, boards_pb2.GetBoardRequest(board="script-0"))
        assert end_of(farm.flash(digits_model)) == "SUCCEEDED"

    assert (told.board.enabled, told.board.message) == (True, "")
    kept = rows(server, "SELECT id, serial FROM board_devices")
    assert kept == [("script-0", "77")]


def test_a_job_on_a_board_that_is_pulled_goes_on_elsewhere(
    tmp_path: Path, digits_model: Path, one_digit: Path
) -> None:
    slow = script_of(tmp_path, run_ms=600_000)
    del slow["known_answer"]
    boards = tuple(
        BoardConfig(id=name, kind="scripted", script=json.dumps(script))
        for name, script in (("devkit", slow), ("other", {"run_ms": 1}))
    )
    limits = LimitsConfig(quarantine_s=0.05)
    config = FarmConfig(
        listen="127.0.0.1:0", data=str(tmp_path / "data"), boards=boards, limits=limits
    )

    def use(address: str, token: str, unplug: Callable[[], None]) -> tuple[str, str, str]:
        with speckfarm.connect(address, token=token) as farm:
            farm.drain("other")
            job = farm.run(digits_model, one_digit)
            follow_to(job, "RUNNING")
            farm.undrain("other")
            unplug()
            end = end_of(job)
            return end, str(job.result().to_dict()["board"]), job.id

    async def scene() -> None:
        server = Server(config)
        listening = await server.start()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        watch = UsbWatch(ours, server.farm.dispatcher.usb_changed)

        def unplug() -> None:
            pull(tmp_path)
            theirs.send(message("remove"))

        end, board, job = await asyncio.to_thread(use, listening.address, listening.token, unplug)

        host = server.farm.dispatcher.host("devkit")
        assert (end, board) == ("SUCCEEDED", "other")
        assert (host.faults, host.health.value, host.runtime_state.value) == (
            0,
            "UNKNOWN",
            "OFFLINE",
        )
        events = server.farm.dispatcher.job(job)
        assert events is not None
        assert "again after BOARD_UNPLUGGED on devkit" in [e.message for e in events.events]
        watch.close()
        theirs.close()
        await server.stop()

    asyncio.run(scene())
