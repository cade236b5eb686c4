"""How many jobs a farm with two boards gets through: `python benchmarks/throughput.py`.

First 1,000 jobs without work (a network that is loaded already, no recordings) from one client that
keeps 64 calls in flight: durable jobs per second from the first call until all have SUCCEEDED.
Beside it, in the same run, as many calls to a gRPC server that does nothing. Then 200 jobs of
50 ms that are queued before the boards may start: how much of their time the boards are idle.
`--huey PYTHON` also runs 1,000 tasks without work on Huey with durable SQLite, for which that
Python must have huey (`pip install huey`).
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import grpc
import uvloop
from bare_grpc import ECHO, PAYLOAD, BareServer
from farm_under_test import FarmUnderTest, cpu_seconds, one_event, scripted
from figures import percentile, say

from speckfarm.v1 import jobs_pb2
from speckfarm.v1.jobs_pb2_grpc import JobServiceStub

WINDOW = 64  # calls in flight
RUN_MS = 50
TIMED_JOBS = 200
UNFINISHED = [
    state
    for state in jobs_pb2.JobState.values()
    if jobs_pb2.JOB_STATE_UNSPECIFIED < state < jobs_pb2.JOB_STATE_SUCCEEDED
]


def main() -> None:
    """Measure jobs per second, then idle boards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--huey", metavar="PYTHON", help="a Python that has huey")
    options = parser.parse_args()
    with FarmUnderTest(scripted({}, {})) as farm:
        uvloop.run(_measure_rate(farm, options))
    if options.huey:
        rates = [_huey_rate(options.huey, options.jobs) for _ in range(options.repeats)]
        say("Huey, SQLite with fsync, two worker processes", rates, "tasks/s")
    _measure_idle(options)


async def _measure_rate(farm: FarmUnderTest, options: argparse.Namespace) -> None:
    request = await asyncio.to_thread(farm.warm_up)
    bare_rates, rates, watched, server_ms = [], [], [], []
    with BareServer() as bare:
        async with farm.channel() as channel, grpc.aio.insecure_channel(bare.address) as empty:
            jobs, echo = JobServiceStub(channel), empty.unary_unary(ECHO)
            await _create_all(jobs, request, farm, 200)
            for _ in range(options.repeats):
                bare_rates.append(await _rate(options.jobs, lambda: echo(PAYLOAD)))
                busy_s = cpu_seconds(farm.process.pid)
                began = time.perf_counter()
                await _create_all(jobs, request, farm, options.jobs)
                rates.append(options.jobs / (time.perf_counter() - began))
                server_ms.append((cpu_seconds(farm.process.pid) - busy_s) / options.jobs * 1e3)
                watched.append(
                    await _rate(options.jobs, lambda: _create_and_watch(jobs, request, farm))
                )
    print(f"\ntwo boards, {options.jobs} durable jobs without work, {WINDOW} calls in flight")
    say("CreateJob, then wait until all have SUCCEEDED", rates, "jobs/s", goal=">= 1500")
    say("bare unary calls", bare_rates, "calls/s")
    pairs = zip(rates, bare_rates, strict=True)
    say("RATIO to bare calls", [rate / calls for rate, calls in pairs], "x")
    say("processor time of the server for a job", server_ms, "ms")
    say("CreateJob and WatchJob with the result for each", watched, "jobs/s")


async def _create_all(
    jobs: JobServiceStub, request: jobs_pb2.CreateJobRequest, farm: FarmUnderTest, count: int
) -> None:
    last = ""

    async def create() -> None:
        nonlocal last
        last = (await jobs.CreateJob(request, metadata=farm.metadata)).job.id

    await _rate(count, create)
    while last:  # follow a job that is unfinished, until there is none
        watch = jobs_pb2.WatchJobRequest(job=last)
        async for _ in jobs.WatchJob(watch, metadata=farm.metadata):
            pass
        left = jobs_pb2.ListJobsRequest(states=UNFINISHED, page_size=1)
        page = await jobs.ListJobs(left, metadata=farm.metadata)
        last = page.jobs[0].id if page.jobs else ""
    await asyncio.to_thread(_check_success, farm)


def _check_success(farm: FarmUnderTest) -> None:
    with closing(farm.database()) as database:
        states = {state for (state,) in database.execute("SELECT DISTINCT state FROM jobs")}
    if states != {"SUCCEEDED"}:
        raise SystemExit(f"jobs ended as {states}")


async def _create_and_watch(
    jobs: JobServiceStub, request: jobs_pb2.CreateJobRequest, farm: FarmUnderTest
) -> None:
    answer = await jobs.CreateJob(request, metadata=farm.metadata)
    watch = jobs_pb2.WatchJobRequest(job=answer.job.id, with_result=True)
    async for _ in jobs.WatchJob(watch, metadata=farm.metadata):
        pass


async def _rate(count: int, act: Callable[[], Awaitable[object]]) -> float:
    """Do something `count` times, WINDOW of them at once; how often per second."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await act()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(WINDOW)))
    return count / (time.perf_counter() - began)


def _measure_idle(options: argparse.Namespace) -> None:
    script = {"run_ms": RUN_MS}
    idle, beyond_work, gaps_ms = [], [], []
    with tempfile.TemporaryDirectory() as folder, FarmUnderTest(scripted(script, script)) as farm:
        request = farm.warm_up(one_event(Path(folder)))
        for _ in range(options.repeats):
            attempts = uvloop.run(_run_from_full_queue(farm, request))
            span_us = sum(last - first for first, last in _spans(attempts).values())
            board_us = sum(ended - started for _, started, ended in attempts)
            idle.append((1 - board_us / span_us) * 100)
            work_us = len(attempts) * RUN_MS * 1e3
            beyond_work.append((1 - work_us / board_us) * 100)
            gaps_ms.append(_gaps_ms(attempts))
    print(f"\ntwo boards, {TIMED_JOBS} jobs of {RUN_MS} ms that were queued before the first start")
    say("idle: board time without a lease while jobs wait", idle, "%", goal="<= 0.5")
    say("end of a job to start of the next, p50", [percentile(g, 50) for g in gaps_ms], "ms")
    say("end of a job to start of the next, p99", [percentile(g, 99) for g in gaps_ms], "ms")
    say("leased board time beyond the work of 50 ms", beyond_work, "%")


Attempt = tuple[str, int, int]  # board, started_us, ended_us


async def _run_from_full_queue(
    farm: FarmUnderTest, request: jobs_pb2.CreateJobRequest
) -> list[Attempt]:
    """Queue all jobs while the boards are drained, let the boards loose, wait for the end."""
    with farm.connect() as client, closing(farm.database()) as database:
        boards = [board.board for board in client.boards()]
        for board in boards:
            client.drain(board)
        (before,) = database.execute("SELECT max(ended_us) FROM attempts").fetchone()
        async with farm.channel() as channel:
            jobs = JobServiceStub(channel)
            ids: list[str] = []

            async def create() -> None:
                ids.append((await jobs.CreateJob(request, metadata=farm.metadata)).job.id)

            await _rate(TIMED_JOBS, create)
            for board in boards:
                client.undrain(board)
            for job in ids[-2:]:
                async for _ in jobs.WatchJob(
                    jobs_pb2.WatchJobRequest(job=job), metadata=farm.metadata
                ):
                    pass
        query = "SELECT board, started_us, ended_us FROM attempts WHERE started_us > ? ORDER BY 2"
        attempts = database.execute(query, (before,)).fetchall()
    if len(attempts) != TIMED_JOBS:
        raise SystemExit(f"{len(attempts)} of {TIMED_JOBS} jobs have run")
    return attempts


def _spans(attempts: list[Attempt]) -> dict[str, tuple[int, int]]:
    """First start and last end on each board: while jobs wait, so that the last odd job is out."""
    spans: dict[str, tuple[int, int]] = {}
    for board, started, ended in attempts:
        first, last = spans.get(board, (started, ended))
        spans[board] = (min(first, started), max(last, ended))
    return spans


def _gaps_ms(attempts: list[Attempt]) -> list[float]:
    gaps: list[float] = []
    free_since: dict[str, int] = {}
    for board, started, ended in attempts:
        if board in free_since:
            gaps.append((started - free_since[board]) / 1e3)
        free_since[board] = ended
    return gaps


def _huey_rate(python: str, tasks: int) -> float:
    """Tasks per second as `huey_reference.py` prints them."""
    script = Path(__file__).with_name("huey_reference.py")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, str(script), folder, str(tasks)], capture_output=True, text=True, check=True
        )
    return float(done.stdout)


if __name__ == "__main__":
    main()
