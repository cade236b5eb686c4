"""What is read from the database about jobs, models, recordings and benchmarks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, and_, func, or_, select

from speckfarm_server.errors import NotFound, WrongState
from speckfarm_server.job import FINAL, JobEvent, JobState, JobStatus
from speckfarm_server.job_result import JobResult, from_json
from speckfarm_server.store import schema
from speckfarm_server.store.rows import (
    Benchmark,
    Model,
    Page,
    Recording,
    benchmark_of,
    event_of,
    model_of,
    recording_of,
    status_of,
)
from speckfarm_server.store.writer import Row


def find_job(connection: Connection, job_id: str) -> JobStatus:
    """One job; NotFound JOB_NOT_FOUND."""
    row = connection.execute(select(schema.JOBS).where(schema.JOBS.c.id == job_id)).one_or_none()
    if row is None:
        message = f"There is no job {job_id!r}; `speckfarm jobs` lists them"
        raise NotFound("JOB_NOT_FOUND", message, job=job_id)
    return status_of(row)


def unfinished_jobs(connection: Connection) -> list[JobStatus]:
    """All jobs that are not final, oldest first."""
    final = [state.value for state in FINAL]
    jobs = schema.JOBS
    rows = connection.execute(
        select(jobs).where(jobs.c.state.not_in(final)).order_by(jobs.c.created_us, jobs.c.id)
    )
    return [status_of(row) for row in rows]


def unfinished_events(connection: Connection) -> dict[str, list[JobEvent]]:
    """The steps of all jobs that are not final, by job, in order."""
    jobs, events = schema.JOBS, schema.EVENTS
    final = [state.value for state in FINAL]
    rows = connection.execute(
        select(events)
        .join(jobs, jobs.c.id == events.c.job)
        .where(jobs.c.state.not_in(final), events.c.sequence > 0)
        .order_by(events.c.job, events.c.sequence)
    )
    found: dict[str, list[JobEvent]] = defaultdict(list)
    for row in rows:
        found[row.job].append(event_of(row))
    return found


def list_jobs(
    connection: Connection,
    page: Page,
    *,
    states: Sequence[JobState] = (),
    user: str = "",
    benchmark: str = "",
) -> list[JobStatus]:
    """Jobs, newest first."""
    jobs = schema.JOBS
    query = _newest(jobs, jobs.c.id, page)
    if states:
        query = query.where(jobs.c.state.in_([state.value for state in states]))
    if user:
        query = query.where(jobs.c.user == user)
    if benchmark:
        query = query.where(jobs.c.benchmark == benchmark)
    return [status_of(row) for row in connection.execute(query)]


def benchmark_jobs(connection: Connection, benchmark_id: str) -> list[JobStatus]:
    """Jobs of one benchmark in the order of its table."""
    jobs = schema.JOBS
    query = select(jobs).where(jobs.c.benchmark == benchmark_id).order_by(jobs.c.point)
    return [status_of(row) for row in connection.execute(query)]


def job_events(connection: Connection, job_id: str, after: int) -> list[JobEvent]:
    """Steps of one job with a larger sequence number than `after`."""
    events = schema.EVENTS
    rows = connection.execute(
        select(events)
        .where(events.c.job == job_id, events.c.sequence > after)
        .order_by(events.c.sequence)
    )
    return [event_of(row) for row in rows]


def find_result(connection: Connection, job_id: str) -> JobResult:
    """A job's result; WrongState RESULT_NOT_READY or RESULT_NONE, NotFound JOB_NOT_FOUND."""
    table = schema.RESULTS
    row = connection.execute(select(table.c.body).where(table.c.job == job_id)).one_or_none()
    if row is not None:
        return from_json(row.body)
    status = find_job(connection, job_id)
    if status.state in FINAL:
        message = f"Job {job_id} ended as {status.state.value} and has no result"
        raise WrongState("RESULT_NONE", message, job=job_id, state=status.state.value)
    message = f"Job {job_id} is {status.state.value}; wait for it with `speckfarm watch {job_id}`"
    raise WrongState("RESULT_NOT_READY", message, job=job_id, state=status.state.value)


def find_model(connection: Connection, name: str) -> Model:
    """A model by digest, its beginning, or name (the newest of that name)."""
    return model_of(_find(connection, schema.MODELS, name, "model"))


def list_models(connection: Connection, page: Page) -> list[Model]:
    """Models that were not deleted, newest first."""
    query = _newest(schema.MODELS, schema.MODELS.c.digest, page)
    rows = connection.execute(query.where(schema.MODELS.c.deleted_us.is_(None)))
    return [model_of(row) for row in rows]


def find_recording(connection: Connection, name: str) -> Recording:
    """A recording file by digest, its beginning, or name (the newest of that name)."""
    return recording_of(_find(connection, schema.RECORDINGS, name, "recording"))


def list_recordings(connection: Connection, page: Page) -> list[Recording]:
    """Recording files that were not deleted, newest first."""
    query = _newest(schema.RECORDINGS, schema.RECORDINGS.c.digest, page)
    rows = connection.execute(query.where(schema.RECORDINGS.c.deleted_us.is_(None)))
    return [recording_of(row) for row in rows]


def find_benchmark(connection: Connection, benchmark_id: str) -> Benchmark:
    """One benchmark; NotFound BENCHMARK_NOT_FOUND."""
    table = schema.BENCHMARKS
    row = connection.execute(select(table).where(table.c.id == benchmark_id)).one_or_none()
    if row is None:
        message = f"There is no benchmark {benchmark_id!r}"
        raise NotFound("BENCHMARK_NOT_FOUND", message, benchmark=benchmark_id)
    return benchmark_of(row)


def list_benchmarks(connection: Connection, page: Page) -> list[Benchmark]:
    """Benchmarks, newest first."""
    rows = connection.execute(_newest(schema.BENCHMARKS, schema.BENCHMARKS.c.id, page))
    return [benchmark_of(row) for row in rows]


def benchmark_progress(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Number of jobs in a final state for each benchmark."""
    jobs = schema.JOBS
    rows = connection.execute(
        select(jobs.c.benchmark, func.count().label("done"))
        .where(jobs.c.benchmark.in_(ids), jobs.c.state.in_([state.value for state in FINAL]))
        .group_by(jobs.c.benchmark)
    )
    return {row.benchmark: row.done for row in rows}


def find_results(connection: Connection, job_ids: Sequence[str]) -> dict[str, JobResult]:
    """Results of many jobs."""
    table = schema.RESULTS
    rows = connection.execute(select(table).where(table.c.job.in_(job_ids)))
    return {row.job: from_json(row.body) for row in rows}


def small_blob(connection: Connection, digest: str) -> bytes | None:
    """Bytes of a small blob, None if there is none of that digest."""
    table = schema.SMALL_BLOBS
    row = connection.execute(select(table.c.data).where(table.c.digest == digest)).one_or_none()
    return None if row is None else bytes(row.data)


def disabled_boards(connection: Connection) -> set[str]:
    """Boards that were drained."""
    table = schema.BOARDS
    return {row.id for row in connection.execute(select(table.c.id).where(~table.c.enabled))}


def board_devices(connection: Connection) -> dict[str, Row]:
    """The devkit that was accepted as each board last, as its columns; by board."""
    rows = connection.execute(select(schema.BOARD_DEVICES)).mappings()
    return {row["id"]: {name: row[name] for name in row if name != "id"} for row in rows}


def _newest(table: Table, key: Any, page: Page) -> Select[Any]:
    query = select(table).order_by(table.c.created_us.desc(), key.desc()).limit(page.size)
    if page.before_us is None:
        return query
    older = table.c.created_us < page.before_us
    same = and_(table.c.created_us == page.before_us, key < page.before_id)
    return query.where(or_(older, same))


MIN_PREFIX, DIGEST_CHARS = 6, 64


def _find(connection: Connection, table: Table, name: str, noun: str) -> Any:
    alive = select(table).where(table.c.deleted_us.is_(None))
    row = connection.execute(alive.where(table.c.digest == name)).one_or_none()
    if row is None and MIN_PREFIX <= len(name) < DIGEST_CHARS:
        begins = table.c.digest.startswith(name, autoescape=True)
        rows = connection.execute(alive.where(begins).limit(2)).all()
        row = rows[0] if len(rows) == 1 else None
    if row is None:
        by_name = alive.where(table.c.name == name).order_by(table.c.created_us.desc())
        row = connection.execute(by_name.limit(1)).one_or_none()
    if row is None:
        message = f"There is no {noun} {name!r}; `speckfarm {noun}s` lists them"
        raise NotFound(f"{noun.upper()}_NOT_FOUND", message, found=name)
    return row
