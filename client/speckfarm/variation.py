"""How much the outputs of one job vary between runs that differ in what nobody can fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from speckfarm.errors import BadRequest, WrongState
from speckfarm.latency import rounded

if TYPE_CHECKING:
    from speckfarm.result import Result

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over the runs."""

    min: float
    median: float
    max: float

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {name: rounded(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class RecordingVariation:
    """How one recording came out in every run."""

    recording: str  # SHA-256 of its file
    name: str
    label: int | None
    predictions: tuple[int, ...]  # one for each run; the first is the job as given
    output_spikes: Spread  # of the exit layer
    counts: tuple[Spread, ...]  # output spikes of each exit feature
    relative_std: float | None  # of the counts, as in Variation; None without any spike

    @property
    def changes(self) -> bool:
        """Whether the runs predict different classes."""
        return len(set(self.predictions)) > 1

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "recording": self.recording,
            "name": self.name,
            "label": self.label,
            "predictions": list(self.predictions),
            "changes": self.changes,
            "output_spikes": self.output_spikes.to_dict(),
            "counts": [spread.to_dict() for spread in self.counts],
            "relative_std": _figure(self.relative_std),
        }


@dataclass(frozen=True, kw_only=True)
class Variation:
    """How the runs of a benchmark differ; the first is the job as given.

    >>> variation = farm.vary("model.nir", "digits.npz", runs=4).wait().variation()
    >>> changed, low, high = variation.changed, variation.accuracy.min, variation.accuracy.max
    """

    benchmark: str
    board_kind: str | None
    jobs: tuple[str, ...]  # of the runs that succeeded
    boards: tuple[str, ...]  # where each of them ran
    failed: int  # runs without a result
    recordings: tuple[RecordingVariation, ...]
    accuracy: Spread | None  # None without labels
    p99_us: Spread | None  # 99th percentile of the lags; None if a run had no lag
    output_spikes: Spread  # of the exit layer, all recordings
    relative_std: float | None  # sum of standard deviations / sum of means, all features' counts

    @property
    def changed(self) -> float:
        """Share of recordings whose prediction is not the same in all runs."""
        return sum(each.changes for each in self.recordings) / len(self.recordings)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "benchmark": self.benchmark,
            "board_kind": self.board_kind,
            "runs": len(self.jobs),
            "failed": self.failed,
            "jobs": list(self.jobs),
            "boards": list(self.boards),
            "changed": rounded(self.changed),
            "accuracy": None if self.accuracy is None else self.accuracy.to_dict(),
            "p99_us": None if self.p99_us is None else self.p99_us.to_dict(),
            "output_spikes": self.output_spikes.to_dict(),
            "relative_std": _figure(self.relative_std),
            "recordings": [each.to_dict() for each in self.recordings],
        }


def measure_variation(benchmark: str, results: Sequence[Result | None]) -> Variation:
    """Compare the results of one model on the same recordings; None is a run without one.

    Raises WrongState TOO_FEW_RESULTS below two results, BadRequest BAD_ARGUMENT if networks with
    different numbers of outputs were run.
    """
    found = [each for each in results if each is not None and each.recordings]
    if len(found) < 2:
        text = (
            f"Benchmark {benchmark} has {len(found)} results; at least 2 are needed to compare. "
            "`speckfarm jobs --benchmark` shows how its runs ended"
        )
        raise WrongState("TOO_FEW_RESULTS", text, metadata={"found": str(len(found))})
    counts = _counts(benchmark, found)
    accuracies = [each.accuracy for each in found if each.accuracy is not None]
    tails_us = [each.latency.p99_us for each in found if each.latency.p99_us is not None]
    return Variation(
        benchmark=benchmark,
        board_kind=found[0].board_kind,
        jobs=tuple(each.job_id for each in found),
        boards=tuple(each.board for each in found),
        failed=len(results) - len(found),
        recordings=tuple(_recording(n, found, counts[:, n]) for n in range(counts.shape[1])),
        accuracy=_spread(accuracies) if len(accuracies) == len(found) else None,
        p99_us=_spread(tails_us) if len(tails_us) == len(found) else None,
        output_spikes=_spread(counts.sum(axis=(1, 2))),
        relative_std=_relative_std(counts),
    )


def _counts(benchmark: str, results: Sequence[Result]) -> FloatArray:
    """Output spikes, (runs, recordings, features)."""
    features = {len(recording.counts) for each in results for recording in each.recordings}
    if len(features) > 1:
        found = ", ".join(map(str, sorted(features)))
        text = (
            f"Benchmark {benchmark} runs networks with different numbers of outputs ({found}); "
            "only runs of one network vary"
        )
        raise BadRequest("BAD_ARGUMENT", text, metadata={"found": found})
    rows = [[recording.counts for recording in each.recordings] for each in results]
    return np.array(rows, np.float64)


def _recording(number: int, results: Sequence[Result], counts: FloatArray) -> RecordingVariation:
    """One recording; `counts` are its output spikes, (runs, features)."""
    first = results[0].recordings[number]
    return RecordingVariation(
        recording=first.recording,
        name=first.name,
        label=first.label,
        predictions=tuple(each.recordings[number].prediction for each in results),
        output_spikes=_spread(counts.sum(axis=1)),
        counts=tuple(_spread(column) for column in counts.T),
        relative_std=_relative_std(counts),
    )


def _spread(values: Sequence[float] | FloatArray) -> Spread:
    return Spread(min=float(min(values)), median=float(np.median(values)), max=float(max(values)))


def _relative_std(counts: FloatArray) -> float | None:
    """Over the first axis, which are the runs."""
    total = float(counts.mean(axis=0).sum())
    return float(counts.std(axis=0).sum()) / total if total else None


def _figure(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
