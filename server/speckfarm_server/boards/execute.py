"""One attempt on one board: configure what is not loaded, run every recording, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import FEATURE_SHIFT, LAYER_SHIFT, TIME_SHIFT, X_SHIFT, Y_SHIFT, PackedEvents
from speckfarm_server.advice import synops_per_event
from speckfarm_server.boards.board import Board, Chunk
from speckfarm_server.chip import Chip, find_chip
from speckfarm_server.configuration import Configuration, CoreConfiguration
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.histogram import Histogram, merge_all
from speckfarm_server.job_result import LayerActivity, LayerLags, RecordingResult
from speckfarm_server.latency import Latency, decide, measure, merge
from speckfarm_server.recordings import Recordings, from_file, select_polarity

# Output spikes of one job. They are held in memory (about 100 bytes each) until all is measured; a
# chip's link carries fewer than a million per second.
MAX_OUTPUTS = 10_000_000
SHORTEST_RATED_S = 0.01  # a rate over less says nothing about what a core sustains


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
        self._activity: list[tuple[LayerActivity, ...]] = []
        self._exit_spikes = 0
        self._outputs = 0

    def run(self) -> Outcome:
        """Do it all; the order of the steps is the order of this function."""
        fresh = self._configure()
        for digest, path in self._task.recordings:
            file = _open_recordings(path)
            for number in range(len(file.offsets) - 1):
                if not fresh and not self._task.configuration.keep_state:
                    self._timed("reset", self._board.reset_state)
                fresh = False
                self._progress("running", len(self._recordings))
                self._run_one(digest, file, number)
        self._progress("collecting", len(self._recordings))
        return self._outcome()

    def _configure(self) -> bool:
        """Write the configuration unless it is loaded; returns whether all state is zero now."""
        if self._task.configuration.digest == self._loaded:
            if self._task.configuration.keep_state:  # the first recording starts at zero
                self._timed("reset", self._board.reset_state)
            return False
        self._progress("configuring", 0)
        self._timed("configure", lambda: self._board.configure(self._task.configuration))
        return True

    def _run_one(self, digest: str, file: Recordings, number: int) -> None:
        raw = file.packed[file.offsets[number] : file.offsets[number + 1]]
        packed = select_polarity(raw, self._task.configuration.polarity)
        began = time.perf_counter()
        output = _pool_exit(_join(self._watched(self._board.run(packed))), self._task.configuration)
        ran = time.perf_counter()
        self._progress("running", len(self._recordings))  # sorting and measuring may take seconds
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
        lags: list[LayerLags] = []
        monitored = [c.layer for c in self._task.configuration.cores if c.monitor_enable]
        for layer in sorted(monitored, key=lambda layer: layer != exit_layer):
            mine = output.layer == layer
            measured = measure(
                input_t_us=input_t_us,
                output_t_us=output.t_us[mine],
                cause=output.cause[mine],
                method=self._board.method,
            )
            histogram = measured.histogram.to_bytes()
            lags.append(LayerLags(layer=layer, latency=measured.latency, histogram=histogram))
            if layer == exit_layer:
                self._merged.append((measured.latency, measured.histogram))
                self._lags += [measured.lags_us] if self._task.keep_lags else []
        self._progress("running", len(self._recordings))
        at_exit = output.layer == exit_layer
        decision = decide(
            output_t_us=output.t_us[at_exit],
            feature=output.feature[at_exit],
            features=self._task.configuration.cores[-1].output_shape[0],
            first_input_us=float(input_t_us[0]),
        )
        self._exit_spikes += int(at_exit.sum())
        self._activity.append(self._board.activity())
        self._spikes.append(_pack(output))
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
                lags=tuple(lags),
            )
        )

    def _outcome(self) -> Outcome:
        return Outcome(
            recordings=tuple(self._recordings),
            layers=_add_up(self._activity, self._recordings, self._task.configuration),
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
        )

    def _timed(self, stage: str, step: Callable[[], None]) -> None:
        began = time.perf_counter()
        step()
        self._stopwatch[stage] += (time.perf_counter() - began) * 1e3


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


def _join(chunks: Iterator[Chunk]) -> Chunk:
    """Put the chunks of one recording together, sorted by time, then layer, then as they came."""
    parts = list(chunks)
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _COLUMNS}
    order = np.lexsort((columns["layer"], columns["t_us"]))
    return Chunk(**{name: column[order] for name, column in columns.items()})


def _pool_exit(output: Chunk, configuration: Configuration) -> Chunk:
    """Boards report spikes before pooling; a pooling after the last layer is the host's."""
    last = configuration.cores[-1]
    if last.exit_pooling == 1:
        return output
    divisor = np.where(output.layer == last.layer, last.exit_pooling, 1).astype(np.uint8)
    return replace(output, y=output.y // divisor, x=output.x // divisor)


_COLUMNS = ("t_us", "cause", "layer", "feature", "y", "x")


def _pack(output: Chunk) -> PackedEvents:
    packed: PackedEvents = (
        np.floor(output.t_us).astype(np.uint64) << np.uint64(TIME_SHIFT)
        | output.layer.astype(np.uint64) << np.uint64(LAYER_SHIFT)
        | output.feature.astype(np.uint64) << np.uint64(FEATURE_SHIFT)
        | output.y.astype(np.uint64) << np.uint64(Y_SHIFT)
        | output.x.astype(np.uint64) << np.uint64(X_SHIFT)
    )
    return packed


def _add_up(
    activity: list[tuple[LayerActivity, ...]],
    recordings: list[RecordingResult],
    configuration: Configuration,
) -> tuple[LayerActivity, ...]:
    """Each layer's counts over all recordings, and its synaptic operations per second."""
    chip = find_chip(configuration.chip)
    cores = {core.layer: core for core in configuration.cores}
    seconds = [recording.duration_us / 1e6 for recording in recordings]
    return tuple(
        _summed(items, seconds, cores[items[0].layer], chip)
        for items in zip(*activity, strict=True)
    )


def _summed(
    items: Sequence[LayerActivity], seconds: Sequence[float], core: CoreConfiguration, chip: Chip
) -> LayerActivity:
    arrived = sum(item.input_spikes for item in items)
    total = LayerActivity(
        layer=core.layer,
        input_spikes=arrived,
        output_spikes=sum(item.output_spikes for item in items),
        synops=None,
        synops_limit=chip.cores[core.core].synops_per_s,
        saturated=_sum([item.saturated for item in items]),
    )
    if items[0].synops is None:
        return total
    synops = [item.synops or 0 for item in items]
    rates = [
        ops / time_s
        for ops, time_s in zip(synops, seconds, strict=True)
        if time_s >= SHORTEST_RATED_S
    ]
    return replace(
        total,
        synops=sum(synops),
        synops_formula=arrived * synops_per_event(core),
        synops_per_s=sum(synops) / sum(seconds) if sum(seconds) > 0 else None,
        peak_synops_per_s=max(rates, default=None),
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    """None if one is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
