"""Results of a real board beside that of its twin become one comparison."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from speckfarm.comparison import Comparison, Figure, Lags, RecordingComparison
from speckfarm.errors import BadRequest
from speckfarm.plot_data import exit_layer
from speckfarm.variation import Spread

if TYPE_CHECKING:
    from speckfarm.report import LayerReport
    from speckfarm.result import RecordingResult, Result

Int64Array = NDArray[np.int64]
# They work in parallel, so a run need not give the same spikes again: "known bugs" of the Speck
# datasheet; sinabs leaves them out of its comparison with hardware (its issue 186).
PARALLEL_CORES = (0, 1)
LAYERS = 16  # that 4 bits of a packed event can name


def measure_comparison(
    repeats: Sequence[Result], twin: Result, placed: Sequence[LayerReport] = ()
) -> Comparison:
    """Compare repeats on one real board with the twin's result; `placed` names layers and cores.

    Fetches the spikes of all results if inner layers were monitored. Raises BadRequest
    BAD_ARGUMENT if they are not results of one job on one board.
    """
    _check_same(repeats, twin)
    job, first = twin.to_dict(), repeats[0]
    return Comparison(
        model=str(job["model"]),
        chip=str(job["chip"]),
        board=first.board,
        device=first.device,
        jobs=tuple(each.job_id for each in repeats),
        twin=twin.board,
        twin_job=twin.job_id,
        classes=_classes(repeats, twin),
        layers=_layers(repeats, twin, {each.layer: each.name for each in placed}),
        recordings=tuple(_recording(n, repeats, twin) for n in range(len(twin.recordings))),
        accuracy=_spread([each.accuracy for each in repeats]),
        twin_accuracy=twin.accuracy,
        lags=_lags(repeats),
        twin_lags=_lags([twin]),
        parallel_layers=tuple(each.layer for each in placed if each.core in PARALLEL_CORES),
    )


def _check_same(repeats: Sequence[Result], twin: Result) -> None:
    boards = sorted({each.board for each in repeats})
    runs = {tuple(_identity(each) for each in result.recordings) for result in (*repeats, twin)}
    if len(boards) != 1 or len(runs) != 1 or not twin.recordings:
        text = (
            f"{len(repeats)} results of boards {', '.join(boards) or 'none'} and one of "
            f"{twin.board} cannot be compared: at least one recording is needed, the same "
            "recordings and outputs in all results, and one board for all repeats"
        )
        raise BadRequest("BAD_ARGUMENT", text, metadata={"boards": ", ".join(boards)})


def _identity(recording: RecordingResult) -> tuple[str, str, int]:
    return recording.recording, recording.name, len(recording.counts)


def _classes(repeats: Sequence[Result], twin: Result) -> tuple[Figure, ...]:
    """Of each exit feature."""
    board, simulated = [_counts(each) for each in repeats], _counts(twin)
    return tuple(
        Figure(
            what="class",
            number=feature,
            name=f"class {feature}",
            board=tuple(int(each[feature]) for each in board),
            twin=int(spikes),
            seconds=_seconds(twin),
        )
        for feature, spikes in enumerate(simulated)
    )


def _counts(result: Result) -> Int64Array:
    """Output spikes in all recordings, (features,)."""
    rows: Int64Array = np.array([each.counts for each in result.recordings], np.int64)
    total: Int64Array = rows.sum(axis=0)
    return total


def _layers(
    repeats: Sequence[Result], twin: Result, names: Mapping[int, str]
) -> tuple[Figure, ...]:
    """Of each inner layer that all results recorded, and the exit layer."""
    inner = set.intersection(*(_monitored(each) for each in (*repeats, twin)))
    last = exit_layer(twin)
    board, simulated = (
        [_by_layer(each, inner, last) for each in repeats],
        _by_layer(twin, inner, last),
    )
    return tuple(
        Figure(
            what="layer",
            number=layer,
            name=f"layer {layer}" + (f" ({names[layer]})" if names.get(layer) else ""),
            board=tuple(each[layer] for each in board),
            twin=spikes,
            seconds=_seconds(twin),
        )
        for layer, spikes in simulated.items()
    )


def _monitored(result: Result) -> set[int]:
    return {layer for each in result.recordings for layer in each.layer_latency}


def _by_layer(result: Result, inner: Collection[int], last: int) -> dict[int, int]:
    """Recorded spikes of these inner layers and of the exit layer."""
    found = {}
    if inner:
        spikes = np.bincount(result.spikes["layer"], minlength=LAYERS)
        found = {layer: int(spikes[layer]) for layer in sorted(inner)}
    return {**found, last: sum(each.output_spikes for each in result.recordings)}


def _seconds(result: Result) -> float:
    return sum(each.duration_us for each in result.recordings) * 1e-6


def _recording(number: int, repeats: Sequence[Result], twin: Result) -> RecordingComparison:
    one = twin.recordings[number]
    board = [each.recordings[number] for each in repeats]
    return RecordingComparison(
        recording=one.recording,
        name=one.name,
        label=one.label,
        predictions=tuple(each.prediction for each in board),
        twin_prediction=one.prediction,
        output_spikes=Figure(
            what="recording",
            number=number,
            name=one.name,
            board=tuple(each.output_spikes for each in board),
            twin=one.output_spikes,
            seconds=one.duration_us * 1e-6,
        ),
        overruns=tuple(_verdict(each) for each in board),
        twin_overrun=_verdict(one),
        endings=tuple(each.ending for each in board),
    )


def _verdict(recording: RecordingResult) -> str | None:
    return None if recording.overrun is None else recording.overrun.verdict


def _lags(results: Sequence[Result]) -> Lags:
    """Of one side; the method is that of the first run that has lags."""
    found = [each.latency for each in results]
    errors_us = [each.error_us for each in found if each.error_us is not None]
    return Lags(
        method=next((each.method for each in found if each.method), None),
        error_us=max(errors_us, default=None),
        p50_us=_spread([each.p50_us for each in found]),
        p99_us=_spread([each.p99_us for each in found]),
        drain_us=_spread([each.drain_us for each in found]),
    )


def _spread(values: Sequence[float | None]) -> Spread | None:
    """None if a run has no value."""
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return None
    return Spread(min=min(found), median=statistics.median(found), max=max(found))
