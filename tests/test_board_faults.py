"""Boards that crash, stall, hang and die: the job is tried elsewhere, and recorded once."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import speckfarm
from speckfarm.connection import Connection
from tests.farm_follow import (
    child_processes,
    end_of,
    failure_of,
    faults,
    follow_to,
    raw_calls,
    rows,
    wait_until_idle,
)
from tests.farm_process import FarmProcess

pytestmark = pytest.mark.system

PAIRS = [("crash", "speck2e"), ("stall", "speck2b")]  # the first attempt on either board fails
# Steps of a scripted board: 1 configures, 2 runs the first recording.
SINGLE = {
    "sound": {"run_ms": 1},
    "crashing": {"fail": {"*": "crash"}},
    "faulty": {"fail": {"*": "fault"}},
    "stalling": {"fail": {"*": "stall"}},
    "misfit": {"fail": {"*": "job"}},
    "slow": {"run_ms": 120_000},
    "stuck": {"fail": {"2": "hang"}},
}
LIMITS = "[limits]\nlease_s = 1.5\ncancel_grace_s = 20\nquarantine_s = 0.1\n"


def toml(folder: Path) -> str:
    """Single boards on speck2f; on the other chips pairs, of which one fails once."""
    boards = [(name, "speck2f", script) for name, script in SINGLE.items()]
    for what, chip in PAIRS:
        script = {"fail": {"2": what}, "marker": str(folder / what)}
        boards += [(f"{what}-{n}", chip, script) for n in range(2)]
    return LIMITS + "".join(
        f"[[boards]]\nid = '{name}'\nkind = 'scripted'\nchip = '{chip}'\n"
        f"script = '{json.dumps(script)}'\n"
        for name, chip, script in boards
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    folder = tmp_path_factory.mktemp("faults")
    process = FarmProcess(folder / "data", toml(folder)).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def farm(own: FarmProcess) -> Iterator[speckfarm.Farm]:
    with own.connect() as connected:
        yield connected


@pytest.fixture(scope="module")
def calls(own: FarmProcess) -> Iterator[Connection]:
    with raw_calls(own) as connection:
        yield connection


@pytest.fixture(scope="module")
def digests(farm: speckfarm.Farm, digits_model: Path, one_digit: Path) -> tuple[str, str]:
    """A model and a recording that the farm has."""
    job = farm.run(digits_model, one_digit, board="sound")
    job.wait(timeout=40)
    plain = json.loads(json.dumps(job.to_dict()))
    return plain["model"], plain["recordings"][0]


def attempts(own: FarmProcess, job_id: str) -> list[tuple[object, ...]]:
    """Number and board of each attempt that usage knows."""
    query = "SELECT attempt, board FROM events WHERE job = ? AND event = 'attempt.ended'"
    return rows(own, query, job_id)


def ends(own: FarmProcess, job_id: str) -> list[tuple[object, ...]]:
    finals = "('job.succeeded', 'job.failed', 'job.cancelled', 'job.expired')"
    return rows(own, f"SELECT event FROM events WHERE job = ? AND event IN {finals}", job_id)


@pytest.mark.parametrize(("what", "chip"), PAIRS)
def test_a_job_whose_board_fails_once_succeeds_on_the_other(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str], what: str, chip: str
) -> None:
    job = farm.run(*digests, chip=chip)

    result = job.wait(timeout=40)

    tried = attempts(own, job.id)
    assert [number for number, _ in tried] == [1, 2]
    assert {board for _, board in tried} == {f"{what}-0", f"{what}-1"}
    assert result.to_dict()["board"] == tried[1][1]
    assert ends(own, job.id) == [("job.succeeded",)]
    assert rows(own, "SELECT count(*) FROM results WHERE job = ?", job.id) == [(1,)]


def test_a_board_that_always_crashes_fails_the_job_after_three_attempts(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    job = farm.run(*digests, board="crashing")

    error = failure_of(job)

    assert isinstance(error, speckfarm.JobFailed)
    assert (error.reason, error.error_class) == ("BOARD_PROCESS_DIED", "INFRASTRUCTURE")
    assert attempts(own, job.id) == [(1, "crashing"), (2, "crashing"), (3, "crashing")]
    assert ends(own, job.id) == [("job.failed",)]


@pytest.mark.parametrize(
    ("board", "reason", "error_class", "tries"),
    [
        ("faulty", "SCRIPTED_FAULT", "INFRASTRUCTURE", 3),
        ("stalling", "SCRIPTED_STALL", "DEVICE_STALL", 2),
        ("misfit", "SCRIPTED_JOB", "JOB", 1),
        ("stuck", "BOARD_HUNG", "DEVICE_STALL", 2),
    ],
)
def test_how_often_a_job_is_tried_is_told_by_the_class_of_its_fault(
    own: FarmProcess,
    farm: speckfarm.Farm,
    calls: Connection,
    digests: tuple[str, str],
    board: str,
    reason: str,
    error_class: str,
    tries: int,
) -> None:
    job = farm.run(*digests, board=board)

    error = failure_of(job)

    assert isinstance(error, speckfarm.JobFailed)
    assert (error.reason, error.error_class) == (reason, error_class)
    assert attempts(own, job.id) == [(n, board) for n in range(1, tries + 1)]
    assert ends(own, job.id) == [("job.failed",)]
    wait_until_idle(calls, board)


def test_an_attempt_that_takes_too_long_fails_and_its_board_works_on(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    job = farm.run(*digests, board="slow", run_timeout_s=0.3)

    error = failure_of(job)

    assert isinstance(error, speckfarm.JobFailed)
    assert (error.reason, error.error_class) == ("RUN_TIMEOUT", "LIMIT")
    assert error.metadata["limit_s"] == "0.3"
    assert attempts(own, job.id) == [(1, "slow")]
    assert end_of(farm.flash(digests[0], board="slow")) == "SUCCEEDED"


def test_a_board_that_hangs_beyond_the_run_time_is_replaced(
    farm: speckfarm.Farm, calls: Connection, digests: tuple[str, str]
) -> None:
    job = farm.run(*digests, board="stuck", run_timeout_s=0.3)

    error = failure_of(job)

    assert error.reason == "RUN_TIMEOUT"
    wait_until_idle(calls, "stuck")
    assert end_of(farm.flash(digests[0], board="stuck")) == "SUCCEEDED"


def test_a_job_that_no_board_takes_in_time_expires(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    farm.drain("sound")
    job = farm.run(*digests, board="sound", queue_timeout_s=0.2)

    error = failure_of(job)

    farm.undrain("sound")
    assert isinstance(error, speckfarm.JobExpired)
    assert attempts(own, job.id) == []
    assert ends(own, job.id) == [("job.expired",)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_board_whose_process_is_killed_while_idle_comes_back_by_itself(
    own: FarmProcess,
    farm: speckfarm.Farm,
    calls: Connection,
    digests: tuple[str, str],
    number: signal.Signals,
) -> None:
    idle_since = wait_until_idle(calls, "sound")
    [process_id] = child_processes(own, json.dumps(SINGLE["sound"]))

    os.kill(process_id, number)
    wait_until_idle(calls, "sound", since=idle_since)
    job = farm.run(*digests, board="sound")

    assert end_of(job) == "SUCCEEDED"
    assert attempts(own, job.id) == [(1, "sound")]


def test_a_queued_job_survives_the_loss_of_the_cache(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    farm.drain("sound")
    job = farm.run(*digests, board="sound")
    for folder in ("networks", "recordings"):
        shutil.rmtree(own.data / "cache" / folder)
        (own.data / "cache" / folder).mkdir()

    farm.undrain("sound")

    assert end_of(job) == "SUCCEEDED"


def test_a_job_runs_while_all_other_boards_fail(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    failing = [farm.run(*digests, board=board) for board in ("crashing", "faulty", "misfit")]

    result = farm.run(*digests, board="sound").wait(timeout=10)

    assert result.to_dict()["board"] == "sound"
    assert [end_of(job) for job in failing] == ["FAILED"] * 3


def test_a_cancel_between_two_attempts_ends_the_job(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    job = farm.run(*digests, board="crashing")
    follow_to(job, "ASSIGNED")  # the board dies at once, and is back after a second

    job.cancel()

    assert end_of(job) == "CANCELLED"
    assert ends(own, job.id) == [("job.cancelled",)]


def test_after_all_that_the_server_logged_no_fault(own: FarmProcess) -> None:
    assert faults(own) == []
