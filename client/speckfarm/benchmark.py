"""Benchmarks: a grid of jobs on the farm that ends in one table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from speckfarm.job import Job, error_dict
from speckfarm.latency import read_latency, rounded
from speckfarm.progress import is_watched, make_progress
from speckfarm.reattach import reattached
from speckfarm.result import Result, read_activity
from speckfarm.settings import settings_dict
from speckfarm.v1 import benchmarks_pb2, jobs_pb2
from speckfarm.variation import Variation, measure_variation
from speckfarm.words import FINAL_STATES, iso, kind_word, optional, state_word, to_datetime

if TYPE_CHECKING:
    from speckfarm.connection import Connection

Row = dict[str, object]
Counts = Callable[[int, int], None]  # points done, points in all


class Benchmark:
    """A grid of jobs on the farm; it goes on whether or not anybody waits.

    >>> bench = farm.benchmark("model.nir", "digits.npz", sweep={"decimator.0": [None, 2, 4]})
    >>> [row["decimator.0"] for row in bench.wait().table()]
    ['off', '2', '4']
    """

    def __init__(self, connection: Connection, message: benchmarks_pb2.Benchmark) -> None:
        self._connection = connection
        self._message = message

    @property
    def id(self) -> str:
        """Its name on the farm."""
        return self._message.id

    @property
    def axes(self) -> dict[str, list[str]]:
        """Setting -> values as words, in the order of the sweep."""
        return {axis.key: list(axis.values) for axis in self._message.axes}

    @property
    def points_done(self) -> int:
        """Points that had ended when this object last heard of them."""
        return self._message.points_done

    @property
    def points_total(self) -> int:
        """Points in all."""
        return self._message.points_total

    def refresh(self) -> Benchmark:
        """Ask the farm for the table as far as it is; returns itself."""
        request = benchmarks_pb2.GetBenchmarkRequest(benchmark=self.id)
        answer = self._connection.call(self._connection.benchmarks.GetBenchmark, request)
        self._message = answer.benchmark
        return self

    def watch(self, timeout: float | None = None) -> Iterator[tuple[int, int]]:
        """(points done, points in all) whenever a point ends, until all have."""
        benchmarks = self._connection.benchmarks

        def attach(left_s: float | None) -> Iterator[benchmarks_pb2.WatchBenchmarkResponse]:
            request = benchmarks_pb2.WatchBenchmarkRequest(benchmark=self.id)
            return self._connection.stream(benchmarks.WatchBenchmark, request, timeout_s=left_s)

        what = f"benchmark {self.id}"
        for message in reattached(attach, _is_final, what=what, timeout_s=timeout):
            self._message = message.benchmark
            yield self.points_done, self.points_total

    def wait(self, timeout: float | None = None, *, observer: Counts | None = None) -> Benchmark:
        """Wait until every point has ended; returns itself, with the whole table.

        A failed point does not raise: its row says so. Raises WaitTimeout after `timeout` seconds,
        which leaves the benchmark alone.
        """
        if observer is None and is_watched():
            self._wait_with_bar(timeout)
        else:
            for done, total in self.watch(timeout):
                if observer:
                    observer(done, total)
        return self if len(self._message.points) == self.points_total else self.refresh()

    def cancel(self) -> Benchmark:
        """Cancel every point that has not ended; returns itself."""
        for point in self.refresh()._message.points:
            if state_word(point.state) not in FINAL_STATES:
                Job(self._connection, jobs_pb2.Job(id=point.job)).cancel()
        return self.refresh()

    def table(self) -> list[Row]:
        """One flat row for each point, models outermost, last axis innermost; None for no value.

        Asks the farm if no points were seen yet.
        """
        return [_row(point, list(self.axes)) for point in self._points()]

    def results(self) -> list[Result | None]:
        """One for each point, in the order of the table; None where a point has none.

        Each is a call to the farm.
        """
        return [
            Job(self._connection, jobs_pb2.Job(id=point.job, state=point.state)).result()
            if state_word(point.state) == "SUCCEEDED"
            else None
            for point in self._points()
        ]

    def variation(self) -> Variation:
        """How much the outputs vary between the points, the first being the job as given.

        Raises WrongState TOO_FEW_RESULTS below two results, BadRequest if networks differ.
        """
        return measure_variation(self.id, self.results())

    def summary_dict(self) -> dict[str, object]:
        """For JSON, without the points; null when there is no value."""
        return summary_dict(self._message)

    def to_dict(self) -> dict[str, object]:
        """For JSON, with the points as far as they are."""
        points = [_point_dict(point, list(self.axes)) for point in self._points()]
        return {**self.summary_dict(), "points": points}

    def to_csv(self, path: str | Path | None = None) -> str:
        """The table as CSV; also written to `path` if given."""
        rows, file = self.table(), io.StringIO()
        writer = csv.DictWriter(file, rows[0] if rows else ["model"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        if path is not None:
            Path(path).write_text(file.getvalue(), encoding="utf-8")
        return file.getvalue()

    def __repr__(self) -> str:
        return f"<Benchmark {self.id}: {self.points_done} of {self.points_total} points>"

    def _wait_with_bar(self, timeout: float | None) -> None:
        with make_progress() as progress:
            task = progress.add_task(f"benchmark {self.id}", total=self.points_total)
            for done, total in self.watch(timeout):
                progress.update(task, completed=done, total=total)

    def _points(self) -> list[benchmarks_pb2.BenchmarkPoint]:
        if not self._message.points:
            self.refresh()
        return list(self._message.points)


def summary_dict(message: benchmarks_pb2.Benchmark) -> Row:
    """A benchmark for JSON, without its points."""
    return {
        "benchmark": message.id,
        "user": message.user,
        "created": iso(to_datetime(message.create_time)),
        "chip": message.chip,
        "board_kind": kind_word(message.board_kind),
        "models": list(message.models),
        "recordings": list(message.recordings),
        "settings": settings_dict(message.settings),
        "axes": [{"key": axis.key, "values": list(axis.values)} for axis in message.axes],
        "points_done": message.points_done,
        "points_total": message.points_total,
    }


def _is_final(message: benchmarks_pb2.WatchBenchmarkResponse) -> bool:
    return message.benchmark.points_done >= message.benchmark.points_total


def _row(point: benchmarks_pb2.BenchmarkPoint, keys: list[str]) -> Row:
    latency = read_latency(point.latency)
    return {
        "model": point.model,
        **dict(zip(keys, point.values, strict=True)),
        "job": point.job,
        "state": state_word(point.state),
        "board": point.board or None,
        "accuracy": optional(point, "accuracy"),
        "output_spikes": _output_spikes(point),
        "synops": _synops(point),
        "synops_by_layer": _synops_by_layer(point),
        "lags": latency.n,
        "p50_us": rounded(latency.p50_us),
        "p90_us": rounded(latency.p90_us),
        "p99_us": rounded(latency.p99_us),
        "max_us": rounded(latency.max_us),
        "drain_us": rounded(latency.drain_us),
        "lag_method": latency.method,
        "lag_error_us": rounded(latency.error_us),
        "error": point.error.reason or None,
    }


def _output_spikes(point: benchmarks_pb2.BenchmarkPoint) -> int | None:
    return point.output_spikes if state_word(point.state) == "SUCCEEDED" else None


def _synops(point: benchmarks_pb2.BenchmarkPoint) -> int | None:
    if not point.layers or not all(layer.HasField("synops") for layer in point.layers):
        return None  # not counted on a real board
    return sum(layer.synops for layer in point.layers)


def _synops_by_layer(point: benchmarks_pb2.BenchmarkPoint) -> str | None:
    """One figure for each layer, in order, as "12/34/56": one cell whatever the models' layers."""
    if _synops(point) is None:
        return None
    return "/".join(str(layer.synops) for layer in point.layers)


def _point_dict(point: benchmarks_pb2.BenchmarkPoint, keys: list[str]) -> Row:
    return {
        "model": point.model,
        "values": dict(zip(keys, point.values, strict=True)),
        "job": point.job,
        "state": state_word(point.state),
        "board": point.board or None,
        "accuracy": optional(point, "accuracy"),
        "latency": read_latency(point.latency).to_dict(),
        "output_spikes": _output_spikes(point),
        "layers": [read_activity(layer).to_dict() for layer in point.layers],
        "error": error_dict(point.error) if point.HasField("error") else None,
    }
