"""One attempt on one board: configure what is not loaded, run every recording, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import TIME_SHIFT, PackedEvents
from speckfarm_server.boards.board import Board, Chunk, RunReport
from speckfarm_server.boards.chunks import in_time, join, pack_output, pool_exit
from speckfarm_server.boards.lags import ExactLags, Lags, Measurement
from speckfarm_server.boards.shadow import EstimatedLags
from speckfarm_server.boards.totals import add_up, average
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BoardFault, ErrorClass, Finding
from speckfarm_server.histogram import Histogram, merge_all
from speckfarm_server.job_result import Device, LayerActivity, LayerLags, RailPower, RecordingResult
from speckfarm_server.latency import Decision, Latency, decide, merge
from speckfarm_server.recordings import Recordings, from_file, select_polarity

# Output spikes of one job. They are held in memory (about 100 bytes each) until all is measured; a
# chip's link carries fewer than a million per second.
MAX_OUTPUTS = 10_000_000


class Cancelled(Exception):
    """The server asked for the end of this attempt."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a board's process is asked to do."""

    configuration: Configuration
    recordings: tuple[tuple[str, Path], ...]  # digest and normalised file of each
    keep_lags: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What came of it."""

    recordings: tuple[RecordingResult, ...]
    layers: tuple[LayerActivity, ...]
    spikes: bytes  # packed events of all recordings
    lags: bytes  # float64 lags of the exit layer, empty unless asked for
    exit_spikes: int
    latency: Latency | None  # exit layer, all recordings; None for flash
    histogram: bytes  # of the same; empty for flash
    configure_ms: float
    reset_ms: float
    run_ms: float
    collect_ms: float
    assumptions: str
    device: Device | None
    power: tuple[RailPower, ...]  # over all recordings
    findings: tuple[Finding, ...]  # about the board


class Attempt:
    """Runs a Task. `progress` is called with a stage or after each recording, and often enough to
    be the heartbeat; it raises Cancelled when the server wants the end."""

    def __init__(
        self, board: Board, task: Task, progress: Callable[[str, int], None], *, loaded: str
    ) -> None:
        self._board = board
        self._task = task
        self._progress = progress
        self._loaded = loaded  # digest of the configuration on the board
        self._stopwatch = {"configure": 0.0, "reset": 0.0, "run": 0.0, "collect": 0.0}
        self._recordings: list[RecordingResult] = []
        self._spikes: list[PackedEvents] = []
        self._lags: list[NDArray[np.float64]] = []
        self._merged: list[tuple[Latency, Histogram]] = []  # of the exit layer, to be merged
        self._reports: list[RunReport] = []
        self._exit_spikes = 0
        self._outputs = 0
        self._lags_of: Lags = _lags_of(board, task.configuration)

    def run(self) -> Outcome:
        """Do it all; the order of the steps is the order of this function."""
        fresh = self._configure()
        for digest, path in self._task.recordings:
            file = _open_recordings(path)
            for number in range(len(file.offsets) - 1):
                if not fresh and not self._task.configuration.keep_state:
                    self._timed("reset", self._reset)
                fresh = False
                self._progress("running", len(self._recordings))
                self._run_one(digest, file, number)
        self._progress("collecting", len(self._recordings))
        return self._outcome()

    def _configure(self) -> bool:
        """Write the configuration unless it is loaded; returns whether all state is zero now."""
        if self._task.configuration.digest == self._loaded:
            if self._task.configuration.keep_state:  # the first recording starts at zero
                self._timed("reset", self._reset)
            return False
        self._progress("configuring", 0)
        tell = partial(self._progress, "configuring", 0)
        self._timed("configure", lambda: self._board.configure(self._task.configuration, tell))
        return True

    def _reset(self) -> None:
        self._board.reset_state(self._tell)
        self._lags_of.reset_state()

    def _run_one(self, digest: str, file: Recordings, number: int) -> None:
        raw = file.packed[file.offsets[number] : file.offsets[number + 1]]
        packed = select_polarity(raw, self._task.configuration.polarity)
        began = time.perf_counter()
        output = join(list(self._watched(self._board.run(packed))))
        ran = time.perf_counter()
        self._tell()  # sorting and measuring may take seconds
        for _ in self._lags_of.prepare(packed):
            self._tell()
        self._collect(digest, file, number, packed, output)
        self._stopwatch["run"] += (ran - began) * 1e3
        self._stopwatch["collect"] += (time.perf_counter() - ran) * 1e3

    def _watched(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            self._progress("running", len(self._recordings))
            self._outputs += len(chunk.t_us)
            if self._outputs > MAX_OUTPUTS:
                raise _too_many_outputs()
            yield chunk

    def _collect(
        self,
        digest: str,
        file: Recordings,
        number: int,
        packed: PackedEvents,
        output: Chunk,
    ) -> None:
        input_t_us = (packed >> np.uint64(TIME_SHIFT)).astype(np.int64)
        exit_layer = self._task.configuration.cores[-1].layer
        measurement = self._lags_of.measure(input_t_us, output, self._tell)
        exit_lags = measurement.layers[exit_layer]
        self._merged.append((exit_lags.latency, exit_lags.histogram))
        self._lags += [exit_lags.lags_us] if self._task.keep_lags else []
        output = pool_exit(in_time(output), self._task.configuration)
        decision = self._decide(output, float(input_t_us[0]))
        self._exit_spikes += int(decision.counts.sum())
        report = self._board.report()
        self._reports.append(report)
        self._spikes.append(pack_output(output))
        self._recordings.append(
            RecordingResult(
                recording=digest,
                name=file.names[number],
                label=None if file.labels is None else int(file.labels[number]),
                prediction=decision.prediction,
                counts=tuple(map(int, decision.counts)),
                input_events=len(packed),
                output_events=len(output.t_us),
                duration_us=int(input_t_us[-1] - input_t_us[0]),
                decision_us=decision.decision_us,
                lags=_layer_lags(measurement),
                overrun=measurement.overrun,
                ending=report.ending,
            )
        )

    def _decide(self, output: Chunk, first_input_us: float) -> Decision:
        last = self._task.configuration.cores[-1]
        at_exit = output.layer == last.layer
        return decide(
            output_t_us=output.t_us[at_exit],
            feature=output.feature[at_exit],
            features=last.output_shape[0],
            first_input_us=first_input_us,
        )

    def _outcome(self) -> Outcome:
        return Outcome(
            recordings=tuple(self._recordings),
            layers=add_up(
                [report.activity for report in self._reports],
                self._recordings,
                self._task.configuration,
            ),
            spikes=b"".join(spikes.astype("<u8").tobytes() for spikes in self._spikes),
            lags=b"".join(lags.astype("<f8").tobytes() for lags in self._lags),
            exit_spikes=self._exit_spikes,
            latency=merge(self._merged) if self._merged else None,
            histogram=merge_all([each for _, each in self._merged]).to_bytes()
            if self._merged
            else b"",
            configure_ms=self._stopwatch["configure"],
            reset_ms=self._stopwatch["reset"],
            run_ms=self._stopwatch["run"],
            collect_ms=self._stopwatch["collect"],
            assumptions=self._board.assumptions,
            device=self._board.device,
            power=average([report.power for report in self._reports]),
            findings=(*self._lags_of.findings, *_first_of_each(self._reports)),
        )

    def _tell(self) -> None:
        self._progress("running", len(self._recordings))

    def _timed(self, stage: str, step: Callable[[], None]) -> None:
        began = time.perf_counter()
        step()
        self._stopwatch[stage] += (time.perf_counter() - began) * 1e3


def _lags_of(board: Board, configuration: Configuration) -> Lags:
    kind = ExactLags if board.method == "exact" else EstimatedLags
    return kind(board, configuration)


def _layer_lags(measurement: Measurement) -> tuple[LayerLags, ...]:
    return tuple(
        LayerLags(layer=layer, latency=each.latency, histogram=each.histogram.to_bytes())
        for layer, each in measurement.layers.items()
    )


def _first_of_each(reports: Sequence[RunReport]) -> tuple[Finding, ...]:
    """A board says the same of every recording; once is enough."""
    found = [finding for report in reports for finding in report.findings]
    return tuple({finding.reason: finding for finding in reversed(found)}.values())


@lru_cache(maxsize=8)
def _open_recordings(path: Path) -> Recordings:
    """A file is named by its digest, so what was mapped once need not be mapped again."""
    return from_file(path)


def _too_many_outputs() -> BoardFault:
    text = (
        f"The job gave more than {MAX_OUTPUTS:,} output spikes, which is all a result takes. "
        "Monitor fewer layers, use decimators or shorter recordings; a network that fires for "
        "ever has weights above its thresholds (see the findings of `check`)"
    )
    return BoardFault("TOO_MANY_OUTPUTS", text, ErrorClass.LIMIT, allowed=MAX_OUTPUTS)
