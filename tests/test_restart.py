"""kill -9 of the server at any moment: every accepted job is recorded exactly once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from speckfarm.benchmark import Benchmark
from speckfarm.job import Job
from tests.farm_process import FarmProcess, scripted

pytestmark = pytest.mark.system

ENDS = "'job.succeeded', 'job.failed', 'job.cancelled', 'job.expired'"
SLOW_MS = 800  # far above the tick after which progress is stored, also on a busy machine
EVERY_STAGE_IS_SLOW = scripted({
    "configure_ms": SLOW_MS,
    "reset_ms": SLOW_MS,
    "run_ms": SLOW_MS,
    "collect_ms": SLOW_MS,
})


@pytest.mark.parametrize(
    "state", ["QUEUED", "ASSIGNED", "CONFIGURING", "RUNNING", "COLLECTING", "CANCELLING"]
)
def test_a_job_whose_server_is_killed_in_any_state_ends_exactly_once(
    state: str, make_server: Callable[..., FarmProcess], digits_model: Path, one_digit: Path
) -> None:
    server = make_server(EVERY_STAGE_IS_SLOW)
    with server.connect() as farm:
        jobs = [farm.run(digits_model, one_digit)]
        if state in ("QUEUED", "ASSIGNED"):  # ASSIGNED lasts while a loaded board is only reset
            jobs.append(farm.run(digits_model, one_digit))
        wait_for(jobs[-1], "CONFIGURING" if state == "CANCELLING" else state)  # which goes on
        if state == "CANCELLING":
            jobs[-1].cancel()
    wait_until_stored(server, jobs[-1], state)
    server.kill()

    server.start()
    with server.connect() as farm:
        ends = [wait_for_end(farm.job(job.id)) for job in jobs]

    assert ends[-1] == ("CANCELLED" if state == "CANCELLING" else "SUCCEEDED")
    assert_each_ended_once(server, len(jobs))


def test_killing_the_server_again_and_again_during_a_benchmark_loses_and_doubles_nothing(
    make_server: Callable[..., FarmProcess], digits_model: Path, one_digit: Path
) -> None:
    server = make_server(scripted({"run_ms": 4}, {"run_ms": 4}))
    clips = [-1 - n / 100 for n in range(120)]
    with server.connect() as farm:
        benchmark = farm.benchmark(digits_model, one_digit, sweep={"lower_clip": clips})
    for part in range(1, 6):
        with server.connect() as farm:
            wait_for_share(farm.find_benchmark(benchmark.id), part * 20)
        server.kill()
        server.start()

    with server.connect() as farm:
        table = farm.find_benchmark(benchmark.id).wait().table()

    assert [row["state"] for row in table] == ["SUCCEEDED"] * 120
    assert_each_ended_once(server, 120)


def test_stopping_in_good_order_keeps_queued_and_running_jobs(
    make_server: Callable[..., FarmProcess], digits_model: Path, one_digit: Path
) -> None:
    server = make_server(scripted({"run_ms": 200}))
    with server.connect() as farm:
        jobs = [farm.run(digits_model, one_digit) for _ in range(3)]
        wait_for(jobs[0], "RUNNING")
    server.stop()

    server.start()
    with server.connect() as farm:
        ends = [wait_for_end(farm.job(job.id)) for job in jobs]

    assert ends == ["SUCCEEDED"] * 3
    assert_each_ended_once(server, 3)


def wait_for(job: Job, state: str) -> None:
    """Follow a job up to a state; an error if it ends without."""
    assert any(event.state == state for event in job.watch())


def wait_until_stored(server: FarmProcess, job: Job, state: str) -> None:
    """Look into the database until it says so; the slow stages leave time."""
    query = f"SELECT state FROM jobs WHERE id = '{job.id}'"
    while (stored := rows(server, query)) != [(state,)]:
        assert stored[0][0] not in ("SUCCEEDED", "FAILED", "CANCELLED"), f"{state} was not stored"


def wait_for_share(benchmark: Benchmark, done: int) -> None:
    """Follow a benchmark until so many points have ended."""
    assert any(points_done >= done for points_done, _ in benchmark.watch())


def wait_for_end(job: Job) -> str:
    return [event.state for event in job.watch()][-1]


def rows(server: FarmProcess, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(server.data / "farm.db")) as database:
        return database.execute(query).fetchall()


def assert_each_ended_once(server: FarmProcess, jobs: int) -> None:
    accepted = rows(server, "SELECT id FROM jobs")
    ends = rows(server, f"SELECT job FROM events WHERE event IN ({ENDS})")
    doubled = rows(
        server,
        "SELECT job, sequence FROM events WHERE sequence > 0"
        " GROUP BY job, sequence HAVING count(*) > 1",
    )
    results = rows(server, "SELECT job FROM results")
    succeeded = rows(server, "SELECT id FROM jobs WHERE state = 'SUCCEEDED'")

    assert len(accepted) == jobs
    assert sorted(ends) == sorted(accepted)
    assert doubled == []
    assert sorted(results) == sorted(succeeded)
