"""How long a user waits for a one-event job on an idle farm: `python benchmarks/job_latency.py`.

Every job is a CreateJob and a WatchJob with the result, one after the other on one channel; the
network is loaded already, and every commit is durable. Beside it, in the same run: a unary call to
a gRPC server that does nothing, and a durable SQLite commit of one row.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import grpc
import uvloop
from bare_grpc import ECHO, PAYLOAD, BareServer
from farm_under_test import FarmUnderTest, cpu_seconds, one_event, scripted, simulated
from figures import percentile, say

from speckfarm.v1 import jobs_pb2
from speckfarm.v1.jobs_pb2_grpc import JobServiceStub

WARM_UP = 50
# Client-side times of one job in ns: call, CreateJob answered, result here.
Times = tuple[str, int, int, int]


def main() -> None:
    """Measure both kinds of board."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for name, toml in (("no-op board", scripted({})), ("simulated board", simulated(1))):
        with tempfile.TemporaryDirectory() as folder, FarmUnderTest(toml) as farm:
            request = farm.warm_up(one_event(Path(folder)))
            uvloop.run(_measure(farm, request, name, options))


async def _measure(
    farm: FarmUnderTest,
    request: jobs_pb2.CreateJobRequest,
    name: str,
    options: argparse.Namespace,
) -> None:
    echoes: list[list[float]] = []
    runs: list[list[Times]] = []
    commits: list[list[float]] = []
    busy_ms: list[float] = []
    with BareServer() as bare:
        async with farm.channel() as channel, grpc.aio.insecure_channel(bare.address) as empty:
            jobs = JobServiceStub(channel)
            await _run_jobs(jobs, request, farm, WARM_UP)
            await _call_echo(empty, WARM_UP)
            for _ in range(options.repeats):
                echoes.append(await _call_echo(empty, options.jobs))
                busy_s = cpu_seconds(farm.process.pid)
                runs.append(await _run_jobs(jobs, request, farm, options.jobs))
                busy_ms.append((cpu_seconds(farm.process.pid) - busy_s) / options.jobs * 1e3)
                commits.append(_commit_rows(farm.folder, options.jobs))
    print(f"\n{name}: {options.repeats} x {options.jobs} one-event jobs, one by one")
    totals = [[(end - begin) / 1e6 for _, begin, _, end in run] for run in runs]
    say("submit to result, p50", [percentile(t, 50) for t in totals], "ms", goal="<= 2.5")
    say("submit to result, p99", [percentile(t, 99) for t in totals], "ms")
    say("bare unary call, p50", [percentile(e, 50) for e in echoes], "ms")
    say("bare unary call, p99", [percentile(e, 99) for e in echoes], "ms")
    pairs = list(zip(totals, echoes, strict=True))
    say("RATIO of the p50", [percentile(t, 50) / percentile(e, 50) for t, e in pairs], "x")
    say("processor time of the server for a job", busy_ms, "ms")
    say("durable SQLite commit of one row, p50", [percentile(c, 50) for c in commits], "ms")
    _break_down(farm, runs)


async def _run_jobs(
    jobs: JobServiceStub, request: jobs_pb2.CreateJobRequest, farm: FarmUnderTest, count: int
) -> list[Times]:
    times: list[Times] = []
    for _ in range(count):
        begin = time.time_ns()
        answer = await jobs.CreateJob(request, metadata=farm.metadata)
        accepted = time.time_ns()
        watch = jobs_pb2.WatchJobRequest(job=answer.job.id, with_result=True)
        async for message in jobs.WatchJob(watch, metadata=farm.metadata):
            last = message
        times.append((answer.job.id, begin, accepted, time.time_ns()))
        if not last.HasField("result"):
            raise SystemExit(f"{answer.job.id} did not succeed: {last}")
    return times


async def _call_echo(channel: grpc.aio.Channel, count: int) -> list[float]:
    call = channel.unary_unary(ECHO)
    times: list[float] = []
    for _ in range(count):
        begin = time.perf_counter()
        await call(PAYLOAD)
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def _commit_rows(folder: Path, count: int) -> list[float]:
    """Durable commits of 500 bytes beside the farm's database, while the farm is idle."""
    times: list[float] = []
    with closing(sqlite3.connect(folder / "probe.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE IF NOT EXISTS probe (text)")
        for _ in range(count):
            begin = time.perf_counter()
            database.execute("INSERT INTO probe VALUES (?)", ("x" * 500,))
            times.append((time.perf_counter() - begin) * 1e3)
    return times


def _break_down(farm: FarmUnderTest, runs: list[list[Times]]) -> None:
    """Client and server read the same clock, so their times can be laid end to end."""
    query = (
        "SELECT id, created_us, attempts.started_us, attempts.ended_us, timings"
        " FROM jobs JOIN attempts ON attempts.job = jobs.id"
    )
    with closing(farm.database()) as database:
        stored = {row[0]: [us * 1000 for us in row[1:4]] for row in database.execute(query)}
    parts: dict[str, list[float]] = {
        "call, authentication, checks (to the job's creation)": [],
        "acceptance: commit 1 and hand-offs (to the lease)": [],
        "on the board: message out, work, message in": [],
        "end: result, commit 2, stream (to the client)": [],
        "of these, until CreateJob has answered": [],
    }
    for run in runs:
        split: list[list[float]] = []
        for job, begin, accepted, end in run:
            created, started, ended = stored[job]
            edges = (begin, created, started, ended, end)
            steps = [later - earlier for earlier, later in pairwise(edges)]
            split.append([*steps, accepted - begin])
        for values, column in zip(parts.values(), zip(*split, strict=True), strict=True):
            values.append(percentile(column, 50) / 1e6)
    for name, values in parts.items():
        say(f"  {name}, p50", values, "ms")


if __name__ == "__main__":
    main()
