"""Rows of the database as the values that the rest of the server uses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from speckfarm_server.errors import ErrorClass
from speckfarm_server.job import BoardKind, JobError, JobEvent, JobSpec, JobState, JobStatus
from speckfarm_server.job_result import finding_from_plain
from speckfarm_server.settings import from_canonical


@dataclass(frozen=True, kw_only=True)
class Model:
    """A registered network file."""

    digest: str
    name: str
    user: str
    created_us: int
    size: int  # bytes
    input_shape: tuple[int, ...]  # c, h, w; empty if the graph is no chain
    layers: int


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A registered file of input events."""

    digest: str
    name: str
    user: str
    created_us: int
    size: int  # bytes
    count: int
    events: int
    duration_us: int
    labelled: bool


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A grid of jobs."""

    id: str
    user: str
    created_us: int
    body: str  # JSON, see benchmark.py
    points: int


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a listing starts after: a keyset, so that pages stay right while rows are added."""

    size: int
    before_us: int | None = None
    before_id: str = ""


def status_of(row: Any) -> JobStatus:
    """Read a row of jobs."""
    return JobStatus(
        spec=spec_of(row),
        state=JobState(row.state),
        sequence=row.sequence,
        attempt=row.attempt,
        faults=row.faults,
        board=row.board,
        started_us=row.started_us,
        ended_us=row.ended_us,
        error=None if row.error is None else _error(json.loads(row.error)),
        recordings_done=row.recordings_total if row.state == JobState.SUCCEEDED.value else 0,
    )


def spec_of(row: Any) -> JobSpec:
    """Read what was accepted from a row of jobs."""
    findings = json.loads(row.findings)
    return JobSpec(
        id=row.id,
        user=row.user,
        model=row.model,
        recordings=tuple(json.loads(row.recordings)),
        settings=from_canonical(row.settings),
        chip=row.chip,
        board_kind=BoardKind(row.board_kind),
        configuration=row.configuration,
        created_us=row.created_us,
        queue_deadline_us=row.queue_deadline_us,
        run_timeout_us=row.run_timeout_us,
        board_pin=row.board_pin,
        keep_lags=row.keep_lags,
        benchmark=row.benchmark,
        point=row.point,
        recordings_total=row.recordings_total,
        findings=tuple(map(finding_from_plain, findings)),
    )


def event_of(row: Any) -> JobEvent:
    """Read a step of a job from a row of events."""
    return JobEvent(
        sequence=row.sequence,
        time_us=row.time_us,
        event=row.event,
        state=JobState(row.state),
        attempt=row.attempt,
        board=row.board,
        message=row.message,
        reason=row.reason,
    )


def model_of(row: Any) -> Model:
    """Read a row of models."""
    return Model(
        digest=row.digest,
        name=row.name,
        user=row.user,
        created_us=row.created_us,
        size=row.size,
        input_shape=tuple(json.loads(row.input_shape)),
        layers=row.layers,
    )


def recording_of(row: Any) -> Recording:
    """Read a row of recordings."""
    return Recording(**{name: getattr(row, name) for name in Recording.__dataclass_fields__})


def benchmark_of(row: Any) -> Benchmark:
    """Read a row of benchmarks."""
    return Benchmark(**{name: getattr(row, name) for name in Benchmark.__dataclass_fields__})


def _error(plain: dict[str, Any]) -> JobError:
    return JobError(**{**plain, "error_class": ErrorClass(plain["error_class"])})
