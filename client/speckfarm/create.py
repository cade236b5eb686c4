"""What run, flash and benchmark send: files first, then one request that may be repeated."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from speckfarm.benchmark import Benchmark
from speckfarm.errors import ModelRejected, name_in
from speckfarm.findings import read_finding
from speckfarm.job import Job
from speckfarm.operands import (
    ModelLike,
    RecordingLike,
    model_name,
    register_model,
    register_models,
    register_recordings,
)
from speckfarm.options import (
    GRID_KEYS,
    QUEUE_KEYS,
    GridOptions,
    JobOptions,
    split_options,
    to_duration,
)
from speckfarm.report import read_report
from speckfarm.settings import build_settings
from speckfarm.sweep import build_axes
from speckfarm.v1 import benchmarks_pb2, jobs_pb2, models_pb2
from speckfarm.words import kind_number

if TYPE_CHECKING:
    from speckfarm.connection import Connection


def create_job(
    connection: Connection,
    model: ModelLike,
    recordings: Sequence[RecordingLike],
    options: JobOptions,
) -> Job:
    """Upload what is missing and queue a job; without recordings it only flashes."""
    settings, queue = split_options(options, QUEUE_KEYS)
    # Arguments are evaluated in order: nothing is uploaded for an option that cannot be sent.
    request = jobs_pb2.CreateJobRequest(
        settings=build_settings(settings, also_known=QUEUE_KEYS),
        chip=queue.get("chip") or "",
        board_kind=kind_number(queue.get("kind")),
        board=queue.get("board") or "",
        request_id=queue.get("request_id") or uuid.uuid4().hex,
        keep_lags=queue.get("keep_lags", False),
        queue_timeout=to_duration(queue.get("queue_timeout_s")),
        run_timeout=to_duration(queue.get("run_timeout_s")),
        model=register_model(connection, model),
        recordings=register_recordings(connection, recordings),
    )
    try:
        answer = connection.call(connection.jobs.CreateJob, request)
    except ModelRejected as error:
        _complete_findings(connection, error, request)
        raise
    findings = tuple(read_finding(finding) for finding in answer.findings)
    return Job(connection, answer.job, findings=findings)


def create_benchmark(
    connection: Connection,
    models: Sequence[ModelLike],
    recordings: Sequence[RecordingLike],
    *,
    sweep: Mapping[str, Sequence[object]],
    options: GridOptions,
) -> Benchmark:
    """Upload what is missing and queue a grid."""
    given, queue = split_options(options, GRID_KEYS)
    settings = build_settings(given, also_known=GRID_KEYS)
    request = benchmarks_pb2.CreateBenchmarkRequest(
        settings=settings,
        axes=build_axes(sweep, settings),
        chip=queue.get("chip") or "",
        board_kind=kind_number(queue.get("kind")),
        request_id=queue.get("request_id") or uuid.uuid4().hex,
        models=register_models(connection, models),
        recordings=register_recordings(connection, recordings),
    )
    try:
        answer = connection.call(connection.benchmarks.CreateBenchmark, request)
    except ModelRejected as error:
        if len(models) > 1:
            _name_rejected(connection, error, request)
        raise
    return Benchmark(connection, answer.benchmark)


def _name_rejected(
    connection: Connection, error: ModelRejected, request: benchmarks_pb2.CreateBenchmarkRequest
) -> None:
    # The refusal of a grid does not say which model; a value of an axis may be the reason too.
    rejected = []
    for digest in request.models:
        check = models_pb2.CheckModelRequest(
            digest=digest, chip=request.chip, settings=request.settings
        )
        if not connection.call(connection.models.CheckModel, check).deployable:
            rejected.append(model_name(connection, digest) or digest[:12])
    if rejected:
        name_in(error, ", ".join(dict.fromkeys(rejected)))


def _complete_findings(
    connection: Connection, error: ModelRejected, request: jobs_pb2.CreateJobRequest
) -> None:
    # A status has room for a few kilobytes; an answer has room for all.
    found = sum(finding.severity == "error" for finding in error.findings)
    if found < int(error.metadata.get("errors", 0)):
        again = models_pb2.CheckModelRequest(
            digest=request.model, chip=request.chip, settings=request.settings
        )
        error.findings = read_report(connection.call(connection.models.CheckModel, again)).findings
