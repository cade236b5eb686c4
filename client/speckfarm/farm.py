"""A farm: what a user can ask of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from speckfarm import lists
from speckfarm.advice import Advice, AdviceStep
from speckfarm.advise import Runs, advise
from speckfarm.benchmark import Benchmark
from speckfarm.check import check_model
from speckfarm.compare import ComparedRuns, compare
from speckfarm.comparison import Comparison
from speckfarm.configuration import fetch_configuration
from speckfarm.connection import Connection
from speckfarm.create import create_benchmark, create_job
from speckfarm.errors import BadRequest
from speckfarm.job import Job
from speckfarm.operands import ModelLike, RecordingLike, model_name
from speckfarm.options import GridOptions, JobOptions
from speckfarm.profile import find_endpoint
from speckfarm.report import Report
from speckfarm.result import Result
from speckfarm.rows import Board, LatencyRow, Model, Recording, ServerInfo, UsageRow, read_info
from speckfarm.settings import SettingOptions
from speckfarm.v1 import benchmarks_pb2, info_pb2, jobs_pb2

if TYPE_CHECKING:
    from typing_extensions import Unpack

    Since = str | datetime | timedelta | None


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
        return check_model(self._connection, model, settings, chip=chip)

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
        request = jobs_pb2.GetJobRequest(job=job_id)
        answer = self._connection.call(self._connection.jobs.GetJob, request)
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
        return lists.list_jobs(self._connection, states, user, benchmark, limit=limit)

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

    def vary(
        self,
        model: ModelLike,
        *recordings: RecordingLike,
        runs: int = 8,
        **options: Unpack[GridOptions],
    ) -> Benchmark:
        """Queue a job as it is, and `runs` times with what is unknown in the chip's order varied.

        A benchmark over `order_seed`: off, 1, 2, ... A real board varies by itself.

        >>> variation = farm.vary("model.nir", "digits.npz", runs=4).wait().variation()
        >>> len(variation.recordings[0].predictions)
        5
        """
        if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
            text = f"runs is {runs!r}; a whole number from 1 is wanted"
            raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": "runs"})
        seeds = {"order_seed": [None, *range(1, runs + 1)]}
        return create_benchmark(self._connection, [model], recordings, sweep=seeds, options=options)

    def advise(
        self,
        model: ModelLike,
        *recordings: RecordingLike,
        max_runs: int | None = None,
        timeout: float | None = None,
        observer: Callable[[AdviceStep], None] | None = None,
        wait: Callable[[Job, float | None], Result] = Job.wait,
        **options: Unpack[JobOptions],
    ) -> Advice:
        """Search for the least decimation that removes an overrun: jobs, one after the other.

        It takes at most 1 + 8 runs for each layer that feeds another one, or `max_runs`, mostly 3
        to 7, and 1 or 2 more that compare reset modes. `timeout` is in seconds, for all of them;
        `observer` is shown every run, `wait` waits for its job. Raises as `run` and `Job.wait` do.

        >>> advice = farm.advise("model.nir", "digits.npz", kind="simulated")
        >>> verdict, decimator = advice.verdict, advice.decimator
        """
        runs = Runs(wait=wait, observer=observer, timeout=timeout)
        return advise(self._connection, model, recordings, options, max_runs=max_runs, runs=runs)

    def compare(
        self,
        model: ModelLike,
        *recordings: RecordingLike,
        repeats: int = 5,
        twin: str = "",
        timeout: float | None = None,
        observer: Callable[[Sequence[Job]], None] | None = None,
        **options: Unpack[JobOptions],
    ) -> Comparison:
        """Run a job `repeats` times on one real board and once on a simulated one, and compare.

        The board is `board`, or that on which the first repeat ran; the simulated one is `twin`, or
        any. `timeout` is in seconds, for all jobs; `observer` is shown them from time to time. If
        one fails the others are cancelled. Raises as `run` and `Job.wait` do.

        >>> found = farm.compare("model.nir", "digits.npz", board="devkit-0")  # doctest: +SKIP
        >>> agreeing, worst = found.agreeing, found.differences[:3]  # doctest: +SKIP
        """
        runs = ComparedRuns(observer=observer, timeout=timeout, twin=twin)
        return compare(self._connection, model, recordings, options, repeats=repeats, runs=runs)

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
        return lists.list_benchmarks(self._connection, limit)

    def usage(self, *, by: str = "user", since: Since = None) -> list[UsageRow]:
        """Who used what: sums by user, board, model or day, one row per kind of board.

        >>> {row.key for row in farm.usage(by="user", since="7d")}
        {'local'}
        """
        return lists.list_usage(self._connection, by, since)

    def latency(self, *, by: str = "model", since: Since = None) -> list[LatencyRow]:
        """What the boards delivered: lags merged by model, board or week, one row per kind.

        >>> [row.board_kind for row in farm.latency(by="week", since="7d")]
        ['simulated']
        """
        return lists.list_latency(self._connection, by, since)

    def boards(self) -> list[Board]:
        """Boards, who uses them, since when, and what they hold.

        >>> [board.board for board in farm.boards()]
        ['twin-0', 'twin-1']
        """
        return lists.list_boards(self._connection)

    def drain(self, board: str) -> Board:
        """Take a board out of service after its current job; kept over restarts."""
        return lists.drain_board(self._connection, board)

    def undrain(self, board: str) -> Board:
        """Put a board back into service."""
        return lists.undrain_board(self._connection, board)

    def models(self, *, limit: int = 50) -> list[Model]:
        """Registered models, newest first."""
        return lists.list_models(self._connection, limit)

    def model_name(self, digest: str) -> str | None:
        """The name that a model was registered under; None if it is not registered."""
        return model_name(self._connection, digest)

    def recordings(self, *, limit: int = 50) -> list[Recording]:
        """Registered recording files, newest first."""
        return lists.list_recordings(self._connection, limit)

    def info(self) -> ServerInfo:
        """Version, limits and chips of the farm, and as whom it knows you.

        >>> farm.info().user
        'local'
        """
        request = info_pb2.GetServerInfoRequest()
        answer = self._connection.call(self._connection.info.GetServerInfo, request)
        return read_info(answer, self.server)
