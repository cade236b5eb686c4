"""Changes of jobs: accepting them, and moving them with the old state in the WHERE."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection, Engine, Insert, bindparam, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from speckfarm_server.errors import AlreadyExists, WrongState
from speckfarm_server.job import JobError, JobSpec, JobState
from speckfarm_server.store import schema
from speckfarm_server.store.writer import Prepared, Row


@dataclass(frozen=True, kw_only=True)
class Request:
    """A create call that may be repeated: same id and body, same object."""

    user: str
    method: str
    request_id: str
    body: str  # SHA-256 of the request
    object: str  # id of what it makes


@dataclass(frozen=True, kw_only=True)
class Step:
    """One move of a job with everything that is durable together with it."""

    job: str
    old_state: JobState
    old_attempt: int
    state: JobState
    attempt: int
    sequence: int
    board: str
    faults: int
    started_us: int | None
    ended_us: int | None
    error: JobError | None
    events: Sequence[Row]
    attempts: Sequence[Row] = ()
    results: Sequence[Row] = ()
    latencies: Sequence[Row] = ()
    blobs: Sequence[Row] = field(default=())


class Steps:
    """Prepared statements of the job path."""

    def __init__(self, engine: Engine) -> None:
        jobs = schema.JOBS
        moved = (
            "state", "attempt", "sequence", "board", "faults", "started_us", "ended_us", "error"
        )  # fmt: skip
        self._move = Prepared(
            engine,
            update(jobs)
            .where(
                jobs.c.id == bindparam("job"),
                jobs.c.state == bindparam("old_state"),
                jobs.c.attempt == bindparam("old_attempt"),
            )
            .values({name: bindparam(f"new_{name}") for name in moved}),
        )
        self._job = Prepared(engine, insert(jobs))
        self._events = Prepared(engine, _append_event())
        self._attempts = Prepared(engine, insert(schema.ATTEMPTS))
        self._results = Prepared(engine, insert(schema.RESULTS))
        self._latencies = Prepared(engine, insert(schema.LATENCIES))
        self._benchmark = Prepared(engine, insert(schema.BENCHMARKS))
        self._request = Prepared(engine, sqlite_insert(schema.REQUESTS).on_conflict_do_nothing())
        self._blobs = Prepared(engine, sqlite_insert(schema.SMALL_BLOBS).on_conflict_do_nothing())

    def accept(
        self,
        specs: Sequence[JobSpec],
        events: Sequence[Row],
        *,
        request: Request | None = None,
        benchmark: Row | None = None,
    ) -> Callable[[Connection], str | None]:
        """Queue jobs, all or none. The answer is the older object's id if this is a repeat.

        Raises AlreadyExists REQUEST_ID_REUSED if the id was used with another body.
        """
        rows = [_job_row(spec) for spec in specs]

        def change(connection: Connection) -> str | None:
            if request is not None:
                known = self._claim(connection, request, specs[0].created_us)
                if known is not None:
                    return known
            if benchmark is not None:
                self._benchmark(connection, benchmark)
            self._job(connection, *rows)
            self._events(connection, *events)
            return None

        return change

    def move(self, step: Step) -> Callable[[Connection], None]:
        """Move a job. Raises WrongState LEASE_EXPIRED if it is not where the caller thinks."""
        error = None if step.error is None else json.dumps(vars(step.error))
        row = {
            "job": step.job,
            "old_state": step.old_state.value,
            "old_attempt": step.old_attempt,
            "new_state": step.state.value,
            "new_attempt": step.attempt,
            "new_sequence": step.sequence,
            "new_board": step.board,
            "new_faults": step.faults,
            "new_started_us": step.started_us,
            "new_ended_us": step.ended_us,
            "new_error": error,
        }

        def change(connection: Connection) -> None:
            if self._move(connection, row) != 1:
                raise _stale(step)
            for statement, rows in (
                (self._events, step.events),
                (self._attempts, step.attempts),
                (self._results, step.results),
                (self._latencies, step.latencies),
                (self._blobs, step.blobs),
            ):
                if rows:
                    statement(connection, *rows)

        return change

    def log(self, events: Sequence[Row]) -> Callable[[Connection], None]:
        """Append usage events that move no job."""

        def change(connection: Connection) -> None:
            self._events(connection, *events)

        return change

    def _claim(self, connection: Connection, request: Request, now_us: int) -> str | None:
        if self._request(connection, {**asdict(request), "created_us": now_us}) == 1:
            return None
        table = schema.REQUESTS
        row = connection.execute(
            select(table.c.body, table.c.object).where(
                table.c.user == request.user,
                table.c.method == request.method,
                table.c.request_id == request.request_id,
            )
        ).one()
        if row.body != request.body:
            raise AlreadyExists(
                "REQUEST_ID_REUSED",
                f"Request id {request.request_id!r} was used for {row.object} with another body; "
                "use a new id for a new request",
                request_id=request.request_id,
                object=row.object,
            )
        return str(row.object)


def event_row(spec: JobSpec | None, **values: object) -> Row:
    """Fill one row of the events table; `spec` gives user, job, model and kind."""
    row: dict[str, object] = {
        "user": "", "job": "", "sequence": 0, "state": "", "attempt": 0, "board": "",
        "board_kind": "", "model": "", "reason": "", "message": "", "board_us": 0,
    }  # fmt: skip
    if spec is not None:
        row.update(user=spec.user, job=spec.id, model=spec.model, board_kind=spec.board_kind.value)
    row.update(values)
    return row


def _append_event() -> Insert:
    names = [column.name for column in schema.EVENTS.c if column.name != "id"]
    return insert(schema.EVENTS).values({name: bindparam(name) for name in names})


def _job_row(spec: JobSpec) -> Row:
    return {
        "id": spec.id,
        "user": spec.user,
        "state": JobState.QUEUED.value,
        "sequence": 1,
        "attempt": 0,
        "faults": 0,
        "model": spec.model,
        "recordings": json.dumps(spec.recordings) if spec.recordings else "[]",
        "settings": spec.settings.canonical(),
        "chip": spec.chip,
        "board_kind": spec.board_kind.value,
        "board_pin": spec.board_pin,
        "board": "",
        "configuration": spec.configuration,
        "keep_lags": spec.keep_lags,
        "benchmark": spec.benchmark,
        "point": spec.point,
        "recordings_total": spec.recordings_total,
        "created_us": spec.created_us,
        "queue_deadline_us": spec.queue_deadline_us,
        "run_timeout_us": spec.run_timeout_us,
        "started_us": None,
        "ended_us": None,
        "error": None,
        "findings": json.dumps(spec.findings, default=vars) if spec.findings else "[]",
    }


def _stale(step: Step) -> WrongState:
    return WrongState(
        "LEASE_EXPIRED",
        f"Job {step.job} is no longer {step.old_state.value} in attempt {step.old_attempt}; "
        "this report comes from a lost lease and is dropped",
        job=step.job,
        attempt=step.old_attempt,
    )
