"""How a real board and its twin answered the same job, and where they differ beyond the spread."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from speckfarm.device import Device
from speckfarm.latency import rounded
from speckfarm.variation import Spread

DEVIATIONS = 2.0  # of the board's repeats that a difference may have; a choice of ours
SPIKES = 1.0  # that it may have besides: counts are whole, and a few repeats may be equal by chance


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number of spikes: of each repeat on the board, and on the twin."""

    what: Literal["class", "layer", "recording"]
    number: int  # exit feature, layer, or place among the recordings
    name: str  # e.g. class 3, layer 1 (conv2), or the recording's name
    board: tuple[int, ...]  # of each repeat
    twin: int
    seconds: float  # of input that they belong to

    @property
    def mean(self) -> float:
        """Of the repeats."""
        return statistics.fmean(self.board)

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the repeats; None for a single one."""
        return statistics.stdev(self.board) if len(self.board) > 1 else None

    @property
    def difference(self) -> float:
        """Mean of the board - twin."""
        return self.mean - self.twin

    @property
    def excess(self) -> float | None:
        """|difference| / (2 standard deviations + 1 spike); None: there is no spread."""
        if self.std is None:
            return None
        return abs(self.difference) / (DEVIATIONS * self.std + SPIKES)

    @property
    def differs(self) -> bool | None:
        """Whether the excess is above 1; None if there is no spread."""
        return None if self.excess is None else self.excess > 1

    def per_second(self, spikes: float | None) -> float | None:
        """As a rate; None without time."""
        return None if spikes is None or self.seconds <= 0 else spikes / self.seconds

    def to_dict(self) -> dict[str, object]:
        """For JSON; null when there is no value."""
        return {
            "what": self.what,
            "number": self.number,
            "name": self.name,
            "board": list(self.board),
            "mean": rounded(self.mean),
            "std": rounded(self.std),
            "twin": self.twin,
            "difference": rounded(self.difference),
            "excess": rounded(self.excess),
            "differs": self.differs,
            "seconds": round(self.seconds, 6),
            "board_per_s": rounded(self.per_second(self.mean)),
            "std_per_s": rounded(self.per_second(self.std)),
            "twin_per_s": rounded(self.per_second(self.twin)),
            "difference_per_s": rounded(self.per_second(self.difference)),
        }


@dataclass(frozen=True, kw_only=True)
class RecordingComparison:
    """One recording: what each repeat on the board made of it, and what the twin did."""

    recording: str  # SHA-256 of its file
    name: str
    label: int | None
    predictions: tuple[int, ...]  # of each repeat
    twin_prediction: int
    output_spikes: Figure  # of the exit layer
    overruns: tuple[str | None, ...]  # verdict of each repeat; None: the board cannot tell
    twin_overrun: str | None
    endings: tuple[str | None, ...]  # why each repeat ended: quiet or drain_limit

    @property
    def agrees(self) -> bool:
        """Whether every repeat predicts what the twin predicts."""
        return set(self.predictions) == {self.twin_prediction}

    @property
    def changes(self) -> bool:
        """Whether the repeats predict different classes."""
        return len(set(self.predictions)) > 1

    @property
    def is_cut_short(self) -> bool:
        """Whether a repeat ended with spikes still coming out; what came later is missing."""
        return "drain_limit" in self.endings

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "recording": self.recording,
            "name": self.name,
            "label": self.label,
            "predictions": list(self.predictions),
            "twin_prediction": self.twin_prediction,
            "agrees": self.agrees,
            "changes": self.changes,
            "output_spikes": self.output_spikes.to_dict(),
            "overruns": list(self.overruns),
            "twin_overrun": self.twin_overrun,
            "endings": list(self.endings),
            "is_cut_short": self.is_cut_short,
        }


@dataclass(frozen=True, kw_only=True)
class Lags:
    """Lags of one side. Those of a board are estimated, those of its twin exact: never merged."""

    method: str | None  # exact or estimated; None if no lag was measured
    error_us: float | None  # of an estimated lag; the largest of the repeats
    p50_us: Spread | None  # over the repeats; None if one has no lag
    p99_us: Spread | None
    drain_us: Spread | None  # the longest one of each repeat

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        figures = {"p50_us": self.p50_us, "p99_us": self.p99_us, "drain_us": self.drain_us}
        plain = {name: each and each.to_dict() for name, each in figures.items()}
        return {"method": self.method, "error_us": rounded(self.error_us), **plain}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A job on a real board, some times, and once on a simulated board of the same chip.

    >>> found = farm.compare("model.nir", "digits.npz", repeats=5)
    >>> agreeing, different = found.agreeing, [each.name for each in found.differences]
    """

    model: str  # SHA-256
    chip: str
    board: str  # the real one, the same for all repeats
    device: Device | None  # which devkit that is; None if it was not told
    jobs: tuple[str, ...]  # of the repeats
    twin: str  # the simulated board
    twin_job: str
    classes: tuple[Figure, ...]  # output spikes of each exit feature, all recordings
    # Recorded spikes of the monitored layers and the exit layer, all recordings; they are recorded
    # after the layer's decimator and before its pooling.
    layers: tuple[Figure, ...]
    recordings: tuple[RecordingComparison, ...]
    accuracy: Spread | None  # of the repeats; None without labels
    twin_accuracy: float | None
    lags: Lags
    twin_lags: Lags
    parallel_layers: tuple[int, ...]  # on cores 0 and 1, where results need not repeat

    @property
    def is_judged(self) -> bool:
        """Whether there is a spread; a single repeat has none, and then nothing is judged."""
        return len(self.jobs) > 1

    @property
    def agreeing(self) -> int:
        """Recordings for which every repeat predicts what the twin predicts."""
        return sum(each.agrees for each in self.recordings)

    @property
    def changing(self) -> int:
        """Recordings whose prediction is not the same in all repeats."""
        return sum(each.changes for each in self.recordings)

    @property
    def cut_short(self) -> tuple[str, ...]:
        """Names of recordings of which a repeat ended with spikes still coming out."""
        return tuple(each.name for each in self.recordings if each.is_cut_short)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All that is judged: classes, layers, recordings."""
        return (*self.classes, *self.layers, *(each.output_spikes for each in self.recordings))

    @cached_property
    def differences(self) -> tuple[Figure, ...]:
        """Figures beyond the board's own spread, furthest first."""
        found = [each for each in self.figures if each.differs]
        return tuple(sorted(found, key=lambda each: each.excess or 0.0, reverse=True))

    def to_dict(self) -> dict[str, object]:
        """For JSON; null when there is no value."""
        return {
            "model": self.model,
            "chip": self.chip,
            "board": self.board,
            "device": self.device and self.device.to_dict(),
            "repeats": len(self.jobs),
            "jobs": list(self.jobs),
            "twin": self.twin,
            "twin_job": self.twin_job,
            "is_judged": self.is_judged,
            "differences": [each.to_dict() for each in self.differences],
            "agreeing": self.agreeing,
            "changing": self.changing,
            "cut_short": list(self.cut_short),
            "accuracy": self.accuracy and self.accuracy.to_dict(),
            "twin_accuracy": rounded(self.twin_accuracy),
            "lags": self.lags.to_dict(),
            "twin_lags": self.twin_lags.to_dict(),
            "parallel_layers": list(self.parallel_layers),
            "classes": [each.to_dict() for each in self.classes],
            "layers": [each.to_dict() for each in self.layers],
            "recordings": [each.to_dict() for each in self.recordings],
        }
