"""The farm's lists; long ones come newest first, a page at a time while they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from speckfarm.benchmark import Benchmark
from speckfarm.errors import BadRequest
from speckfarm.job import Job
from speckfarm.rows import (
    Board,
    LatencyRow,
    Model,
    Recording,
    UsageRow,
    read_board,
    read_latency_row,
    read_model,
    read_recording,
    read_usage_row,
)
from speckfarm.times import since_timestamp
from speckfarm.v1 import (
    benchmarks_pb2,
    boards_pb2,
    jobs_pb2,
    models_pb2,
    recordings_pb2,
    usage_pb2,
)
from speckfarm.words import latency_group, state_number, usage_group

if TYPE_CHECKING:
    from speckfarm.connection import Connection

    Since = str | datetime | timedelta | None

Item = TypeVar("Item")


def list_jobs(
    connection: Connection,
    states: Iterable[str],
    user: str | None,
    benchmark: str | None,
    *,
    limit: int,
) -> list[Job]:
    """At most `limit` jobs of these states, this user, this benchmark."""
    request = jobs_pb2.ListJobsRequest(
        page_size=limit,
        states=[state_number(state) for state in states],
        user=user or "",
        benchmark=benchmark or "",
    )
    pages = connection.pages(connection.jobs.ListJobs, request)
    found = (message for page in pages for message in page.jobs)
    return [Job(connection, message) for message in _first(found, limit)]


def list_benchmarks(connection: Connection, limit: int) -> list[Benchmark]:
    """At most `limit` benchmarks, without their points."""
    request = benchmarks_pb2.ListBenchmarksRequest(page_size=limit)
    pages = connection.pages(connection.benchmarks.ListBenchmarks, request)
    found = (message for page in pages for message in page.benchmarks)
    return [Benchmark(connection, message) for message in _first(found, limit)]


def list_boards(connection: Connection) -> list[Board]:
    """All boards."""
    answer = connection.call(connection.boards.ListBoards, boards_pb2.ListBoardsRequest())
    return [read_board(board) for board in answer.boards]


def drain_board(connection: Connection, board: str) -> Board:
    """Take a board out of service; how it is now."""
    request = boards_pb2.DrainBoardRequest(board=board)
    return read_board(connection.call(connection.boards.DrainBoard, request).board)


def undrain_board(connection: Connection, board: str) -> Board:
    """Put a board back into service; how it is now."""
    request = boards_pb2.UndrainBoardRequest(board=board)
    return read_board(connection.call(connection.boards.UndrainBoard, request).board)


def list_models(connection: Connection, limit: int) -> list[Model]:
    """At most `limit` registered models."""
    request = models_pb2.ListModelsRequest(page_size=limit)
    pages = connection.pages(connection.models.ListModels, request)
    found = (message for page in pages for message in page.models)
    return [read_model(message) for message in _first(found, limit)]


def list_recordings(connection: Connection, limit: int) -> list[Recording]:
    """At most `limit` registered recording files."""
    request = recordings_pb2.ListRecordingsRequest(page_size=limit)
    pages = connection.pages(connection.recordings.ListRecordings, request)
    found = (message for page in pages for message in page.recordings)
    return [read_recording(message) for message in _first(found, limit)]


def list_usage(connection: Connection, by: str, since: Since) -> list[UsageRow]:
    """Sums by user, board, model or day."""
    request = usage_pb2.QueryUsageRequest(group_by=usage_group(by), since=since_timestamp(since))
    answer = connection.call(connection.usage.QueryUsage, request)
    return [read_usage_row(row) for row in answer.rows]


def list_latency(connection: Connection, by: str, since: Since) -> list[LatencyRow]:
    """Lags merged by model, board or week."""
    request = usage_pb2.QueryLatencyRequest(
        group_by=latency_group(by), since=since_timestamp(since)
    )
    answer = connection.call(connection.usage.QueryLatency, request)
    return [read_latency_row(row) for row in answer.rows]


def _first(found: Iterable[Item], limit: int) -> Iterator[Item]:
    """At most `limit` of a list that is fetched while it is read."""
    if limit < 1:
        text = f"limit is {limit}; a whole number from 1 is wanted"
        raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": "limit", "found": str(limit)})
    return islice(found, limit)
