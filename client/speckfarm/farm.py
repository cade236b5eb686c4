"""A farm: what a user can ask of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from speckfarm.benchmark import Benchmark
from speckfarm.configuration import fetch_configuration
from speckfarm.connection import Connection
from speckfarm.create import create_benchmark, create_job
from speckfarm.errors import BadRequest
from speckfarm.job import Job
from speckfarm.operands import ModelLike, RecordingLike, model_name, upload_model
from speckfarm.options import GridOptions, JobOptions
from speckfarm.profile import find_endpoint
from speckfarm.report import Report, read_report
from speckfarm.rows import (
    Board,
    LatencyRow,
    Model,
    Recording,
    ServerInfo,
    UsageRow,
    read_board,
    read_info,
    read_latency_row,
    read_model,
    read_recording,
    read_usage_row,
)
from speckfarm.settings import SettingOptions, build_settings
from speckfarm.times import since_timestamp
from speckfarm.v1 import (
    benchmarks_pb2,
    boards_pb2,
    info_pb2,
    jobs_pb2,
    models_pb2,
    recordings_pb2,
    usage_pb2,
)
from speckfarm.words import latency_group, state_number, usage_group

if TYPE_CHECKING:
    from typing_extensions import Unpack

    Since = str | datetime | timedelta | None

Item = TypeVar("Item")


def connect(server: str | None = None, token: str | None = None) -> Farm:
    """The farm at HOST:PORT, or the one that this machine knows.

    Arguments first, then SPECKFARM_SERVER and SPECKFARM_TOKEN, then the saved login, then the
    local server. Nothing is sent yet. Raises FarmUnavailable if no farm is known.

    >>> farm = speckfarm.connect()
    >>> farm.check("model.nir").deployable
    True
    """
    return Farm(Connection(find_endpoint(server, token)))


class Farm:
    """A farm. Use as a context manager, or close it; jobs go on either way."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Farm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __repr__(self) -> str:
        return f"<Farm {self.server}>"

    @property
    def server(self) -> str:
        """Its address, HOST:PORT."""
        return self._connection.endpoint.server

    def check(
        self, model: ModelLike, *, chip: str | None = None, **settings: Unpack[SettingOptions]
    ) -> Report:
        """Tell whether a network would run and why not: all findings at once, nothing queued.

        >>> report = farm.check("model.nir", chip="speck2f", reset="zero")
        >>> report.deployable, [layer.name for layer in report.layers]
        (True, ['conv1', 'conv2', 'conv3', 'readout'])
        """
        request = models_pb2.CheckModelRequest(
            settings=build_settings(settings, also_known=("chip",)),
            chip=chip or "",
            digest=upload_model(self._connection, model),
        )
        return read_report(self._connection.call(self._connection.models.CheckModel, request))

    def configuration(
        self, model: ModelLike, *, chip: str | None = None, **settings: Unpack[SettingOptions]
    ) -> bytes:
        """What the chip would be told, as JSON for the vendor's `from_json`. Raises ModelRejected.

        >>> farm.configuration("model.nir", chip="speck2b")[:25]
        b'{"value0":{"cnnLayers":{"'
        """
        return fetch_configuration(self._connection, model, chip, settings)

    def run(
        self, model: ModelLike, *recordings: RecordingLike, **options: Unpack[JobOptions]
    ) -> Job:
        """Queue a job: a model on recordings. What is not on the farm yet is uploaded.

        A recording is a path, a structured array (t, x, y, p), (array, label), or the digest of a
        registered file. Options are settings, and chip, kind ("real" or "simulated"), board,
        keep_lags, request_id, queue_timeout_s, run_timeout_s. Raises ModelRejected with all
        findings before anything is queued.

        >>> job = farm.run("model.nir", "digits.npz", decimator={0: 4}, reset="zero")
        >>> job.wait().predictions.shape
        (3,)
        """
        if not recordings:
            text = "run() needs at least one recording; flash() configures a board without"
            raise BadRequest("NO_RECORDING", text)
        return create_job(self._connection, model, recordings, options)

    def flash(self, model: ModelLike, **options: Unpack[JobOptions]) -> Job:
        """Queue a job that only configures a board.

        >>> farm.flash("model.nir", board="twin-0").wait().board
        'twin-0'
        """
        return create_job(self._connection, model, (), options)

    def job(self, job_id: str) -> Job:
        """An existing job. Raises NotFound.

        >>> created = farm.run("model.nir", "digits.npz")
        >>> farm.job(created.id).wait().job_id == created.id
        True
        """
        answer = self._connection.call(
            self._connection.jobs.GetJob, jobs_pb2.GetJobRequest(job=job_id)
        )
        return Job(self._connection, answer.job)

    def jobs(
        self,
        *,
        states: Iterable[str] = (),
        user: str | None = None,
        benchmark: str | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Jobs, newest first, of these states, this user, this benchmark.

        >>> waiting = farm.jobs(states=["QUEUED"], limit=10)
        """
        request = jobs_pb2.ListJobsRequest(
            page_size=limit,
            states=[state_number(state) for state in states],
            user=user or "",
            benchmark=benchmark or "",
        )
        pages = self._connection.pages(self._connection.jobs.ListJobs, request)
        found = (message for page in pages for message in page.jobs)
        return [Job(self._connection, message) for message in _first(found, limit)]

    def benchmark(
        self,
        models: ModelLike | Sequence[ModelLike],
        *recordings: RecordingLike,
        sweep: Mapping[str, Sequence[object]] | None = None,
        **options: Unpack[GridOptions],
    ) -> Benchmark:
        """Queue a grid of jobs: models times the values of every setting that is swept.

        Keys of the sweep are settings, with a layer where they have one: "decimator.0", "reset".
        Options are settings that all points share, and chip, kind, request_id.

        >>> sweep = {"decimator.0": [None, 2, 4], "reset": ["subtract", "zero"]}
        >>> len(farm.benchmark("model.nir", "digits.npz", sweep=sweep).wait().table())
        6
        """
        many = [models] if isinstance(models, (str, bytes, os.PathLike)) else models
        return create_benchmark(
            self._connection, many, recordings, sweep=sweep or {}, options=options
        )

    def find_benchmark(self, benchmark_id: str) -> Benchmark:
        """An existing benchmark, e.g. after a laptop was closed. Raises NotFound.

        >>> bench = farm.benchmark("model.nir", "digits.npz")
        >>> farm.find_benchmark(bench.id).wait().points_done
        1
        """
        request = benchmarks_pb2.GetBenchmarkRequest(benchmark=benchmark_id)
        answer = self._connection.call(self._connection.benchmarks.GetBenchmark, request)
        return Benchmark(self._connection, answer.benchmark)

    def benchmarks(self, *, limit: int = 50) -> list[Benchmark]:
        """Benchmarks, newest first."""
        request = benchmarks_pb2.ListBenchmarksRequest(page_size=limit)
        pages = self._connection.pages(self._connection.benchmarks.ListBenchmarks, request)
        found = (message for page in pages for message in page.benchmarks)
        return [Benchmark(self._connection, message) for message in _first(found, limit)]

    def usage(self, *, by: str = "user", since: Since = None) -> list[UsageRow]:
        """Who used what: sums by user, board, model or day, one row per kind of board.

        >>> {row.key for row in farm.usage(by="user", since="7d")}
        {'local'}
        """
        request = usage_pb2.QueryUsageRequest(
            group_by=usage_group(by), since=since_timestamp(since)
        )
        answer = self._connection.call(self._connection.usage.QueryUsage, request)
        return [read_usage_row(row) for row in answer.rows]

    def latency(self, *, by: str = "model", since: Since = None) -> list[LatencyRow]:
        """What the boards delivered: lags merged by model, board or week, one row per kind.

        >>> [row.board_kind for row in farm.latency(by="week", since="7d")]
        ['simulated']
        """
        request = usage_pb2.QueryLatencyRequest(
            group_by=latency_group(by), since=since_timestamp(since)
        )
        answer = self._connection.call(self._connection.usage.QueryLatency, request)
        return [read_latency_row(row) for row in answer.rows]

    def boards(self) -> list[Board]:
        """Boards, who uses them, since when, and what they hold.

        >>> [board.board for board in farm.boards()]
        ['twin-0', 'twin-1']
        """
        request = boards_pb2.ListBoardsRequest()
        answer = self._connection.call(self._connection.boards.ListBoards, request)
        return [read_board(board) for board in answer.boards]

    def drain(self, board: str) -> Board:
        """Take a board out of service after its current job; kept over restarts."""
        request = boards_pb2.DrainBoardRequest(board=board)
        answer = self._connection.call(self._connection.boards.DrainBoard, request)
        return read_board(answer.board)

    def undrain(self, board: str) -> Board:
        """Put a board back into service."""
        request = boards_pb2.UndrainBoardRequest(board=board)
        answer = self._connection.call(self._connection.boards.UndrainBoard, request)
        return read_board(answer.board)

    def models(self, *, limit: int = 50) -> list[Model]:
        """Registered models, newest first."""
        request = models_pb2.ListModelsRequest(page_size=limit)
        pages = self._connection.pages(self._connection.models.ListModels, request)
        found = (message for page in pages for message in page.models)
        return [read_model(message) for message in _first(found, limit)]

    def model_name(self, digest: str) -> str | None:
        """The name that a model was registered under; None if it is not registered."""
        return model_name(self._connection, digest)

    def recordings(self, *, limit: int = 50) -> list[Recording]:
        """Registered recording files, newest first."""
        request = recordings_pb2.ListRecordingsRequest(page_size=limit)
        pages = self._connection.pages(self._connection.recordings.ListRecordings, request)
        found = (message for page in pages for message in page.recordings)
        return [read_recording(message) for message in _first(found, limit)]

    def info(self) -> ServerInfo:
        """Version, limits and chips of the farm, and as whom it knows you.

        >>> farm.info().user
        'local'
        """
        request = info_pb2.GetServerInfoRequest()
        answer = self._connection.call(self._connection.info.GetServerInfo, request)
        return read_info(answer, self.server)


def _first(found: Iterable[Item], limit: int) -> Iterator[Item]:
    """At most `limit` of a list that is fetched while it is read."""
    if limit < 1:
        text = f"limit is {limit}; a whole number from 1 is wanted"
        raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": "limit", "found": str(limit)})
    return islice(found, limit)
