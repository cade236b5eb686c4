"""What a succeeded job measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from speckfarm.device import read_device
from speckfarm.errors import NotFound
from speckfarm.events import PACKED_DTYPE, unpack
from speckfarm.findings import read_finding
from speckfarm.latency import Latency, read_latency, rounded
from speckfarm.overrun import Overrun, read_overrun
from speckfarm.settings import settings_dict
from speckfarm.upload import download
from speckfarm.words import ending_word, kind_word, optional, state_word

if TYPE_CHECKING:
    from pathlib import Path

    from speckfarm.connection import Connection
    from speckfarm.drawing import Picture
    from speckfarm.plot import Panel
    from speckfarm.v1 import jobs_pb2

STAGES = ("queue", "configure", "reset", "run", "collect", "total")


@dataclass(frozen=True, kw_only=True)
class RecordingResult:
    """What one recording gave."""

    recording: str  # SHA-256 of its file
    name: str
    label: int | None
    prediction: int  # exit feature with most spikes; ties go to the lowest, none is -1
    counts: tuple[int, ...]  # output spikes of each exit feature, summed over x and y
    input_events: int
    output_events: int  # monitored layers and the echo of the input included
    duration_us: int  # last - first input event
    decision_us: float | None  # after the first input; from then on the prediction stays
    latency: Latency  # of the exit layer
    layer_latency: Mapping[int, Latency]  # of monitored inner layers
    overrun: Overrun | None = None  # whether the cores kept up; None: the board cannot tell
    ending: str | None = None  # why the run ended: served (simulated), quiet or drain_limit (real)

    @property
    def output_spikes(self) -> int:
        """Output spikes of the exit layer alone."""
        return sum(self.counts)

    def to_dict(self) -> dict[str, object]:
        """The JSON contract's shape."""
        plain: dict[str, object] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        del plain["layer_latency"]
        layers = {str(n): lags.to_dict() for n, lags in sorted(self.layer_latency.items())}
        return plain | {
            "counts": list(self.counts),
            "decision_us": rounded(self.decision_us),
            "latency": self.latency.to_dict(),
            "output_spikes": self.output_spikes,
            "overrun": None if self.overrun is None else self.overrun.to_dict(),
            "layers": layers,
        }


@dataclass(frozen=True, kw_only=True)
class LayerActivity:
    """What one layer did in all recordings of a job."""

    layer: int
    input_spikes: int | None  # None where a real board cannot tell
    output_spikes: int | None  # fired, before decimator and pooling
    synops: int | None  # None on a real board
    synops_formula: float | None  # the published formula, which ignores borders
    synops_per_s: float | None  # all recordings; None without time
    peak_synops_per_s: float | None  # in the busiest recording of 10 ms or more
    synops_limit: float | None  # per second, what its core is believed to sustain; soft

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


class Result:
    """What a succeeded job measured; spikes and lags are fetched when asked for.

    >>> result = farm.run("model.nir", "digits.npz").wait()
    >>> result.spikes.dtype.names, len(result.spikes_of(0)) == sum(result.recordings[0].counts)
    (('t', 'layer', 'feature', 'y', 'x'), True)
    """

    def __init__(self, connection: Connection, message: jobs_pb2.Result) -> None:
        self._connection = connection
        self._message = message
        self.job_id: str = message.job.id
        self.board: str = message.board
        self.board_kind = kind_word(message.board_kind)  # real or simulated
        self.accuracy = optional(message, "accuracy")  # None without labels
        self.latency: Latency = read_latency(message.latency)  # all recordings, exit layer
        self.findings = tuple(read_finding(finding) for finding in message.findings)
        self.recordings = tuple(_read_recording(each) for each in message.recordings)
        self.layers = tuple(read_activity(each) for each in message.layers)
        # Which devkit it was; None on a simulated board.
        self.device = read_device(message.device) if message.HasField("device") else None
        # Mean of each supply rail while recordings ran; empty unless the board measures it.
        self.power_w = {rail.rail: rail.mean_w for rail in message.power}
        # Host time of each stage in ms.
        self.timings_ms = {name: getattr(message.timings, f"{name}_ms") for name in STAGES}

    @property
    def predictions(self) -> NDArray[np.int64]:
        """One for each recording, shape (recordings,); -1 where nothing came out."""
        return np.array([each.prediction for each in self.recordings], np.int64)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """One for each recording; None unless all have one."""
        labels = [each.label for each in self.recordings if each.label is not None]
        return np.array(labels, np.int64) if len(labels) == len(self.recordings) else None

    @cached_property
    def spikes(self) -> NDArray[np.void]:
        """All output spikes, recording after recording, fields (t, layer, feature, y, x)."""
        if not self._message.spikes:
            return unpack(np.empty(0, PACKED_DTYPE))
        content = download(self._connection, self._message.spikes)
        return unpack(np.frombuffer(content, PACKED_DTYPE))

    def spikes_of(self, index: int, layer: int | None = None) -> NDArray[np.void]:
        """Output spikes of one recording, by its place in `recordings`; of one layer if given."""
        spikes = self.spikes[self._slice(index)]
        return spikes if layer is None else spikes[spikes["layer"] == layer]

    @cached_property
    def lags(self) -> NDArray[np.float64]:
        """Every lag of the exit layer in µs, in the order of its spikes; NaN if uncaused.

        Raises NotFound LAGS_NOT_KEPT unless the job was started with keep_lags=True.
        """
        if not self._message.lags:
            text = f"Job {self.job_id} kept no lags; run it with keep_lags=True (--keep-lags)"
            raise NotFound("LAGS_NOT_KEPT", text, metadata={"job": self.job_id})
        return np.frombuffer(download(self._connection, self._message.lags), "<f8")

    def to_dict(self) -> dict[str, object]:
        """The JSON contract of `speckfarm run -o json`."""
        job = self._message.job
        return {
            "job": self.job_id,
            "state": state_word(job.state),
            "board": self.board,
            "board_kind": self.board_kind,
            "chip": job.chip,
            "model": job.model,
            "configuration": job.configuration,
            "settings": settings_dict(job.settings),
            "recordings": [each.to_dict() for each in self.recordings],
            "accuracy": self.accuracy,
            "latency": self.latency.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
            "timings_ms": {name: rounded(value) for name, value in self.timings_ms.items()},
            "layers": [layer.to_dict() for layer in self.layers],
            "device": None if self.device is None else self.device.to_dict(),
            "power_w": self.power_w,
        }

    def plot(
        self,
        *panels: Panel,
        recording: int | str | None = None,
        input_file: str | Path | None = None,
        window_ms: float | None = None,
    ) -> Picture:
        """Draw what was measured as a matplotlib figure; a notebook shows it.

        Panels: "lags", "latency", "raster", "synops", "images"; without any, all that there is
        something for. `recording` is a place in `recordings` or a name; None: the one with the
        largest p99 lag. `input_file` has its events if the farm no longer has them. Event images
        are of `window_ms`, spread over the recording; None: of a quarter of it each. Raises
        BadRequest EXTRA_MISSING without matplotlib, NOTHING_TO_PLOT, NotFound LAGS_NOT_KEPT.

        >>> figure = farm.run("model.nir", "digits.npz", keep_lags=True).wait().plot("lags")
        >>> figure.savefig("lags.pdf")
        """
        from speckfarm.plot import Subject, make_picture

        subject = Subject(
            connection=self._connection,
            result=self,
            recording=recording,
            input_file=input_file,
            window_ms=window_ms,
        )
        return make_picture(subject, panels)

    def summary(self) -> str:
        """One line: accuracy, recordings, 99th percentile of the lags."""
        count = len(self.recordings)
        if count == 0:
            return f"configured {self.board}"
        what = f"{count} recording" + ("s" if count != 1 else "")
        start = what if self.accuracy is None else f"accuracy {self.accuracy:.2f} on {what}"
        if self.latency.p99_us is None:
            return f"{start}, no lag measured"
        return f"{start}, p99 lag {self.latency.p99_us:.1f} us"

    def __repr__(self) -> str:
        return f"<Result of {self.job_id} on {self.board} ({self.board_kind}): {self.summary()}>"

    def _slice(self, index: int) -> slice:
        ends = np.cumsum([each.output_events for each in self.recordings])
        end = int(ends[index])  # IndexError as any sequence
        return slice(end - self.recordings[index].output_events, end)


def read_activity(message: jobs_pb2.LayerActivity) -> LayerActivity:
    """From the wire."""
    return LayerActivity(
        layer=message.layer,
        input_spikes=message.input_spikes if message.HasField("input_spikes") else None,
        output_spikes=message.output_spikes if message.HasField("output_spikes") else None,
        synops=message.synops if message.HasField("synops") else None,
        synops_formula=optional(message, "synops_formula"),
        synops_per_s=optional(message, "synops_per_s"),
        peak_synops_per_s=optional(message, "peak_synops_per_s"),
        synops_limit=optional(message, "synops_limit"),
    )


def _read_recording(message: jobs_pb2.RecordingResult) -> RecordingResult:
    return RecordingResult(
        recording=message.recording,
        name=message.name,
        label=message.label if message.HasField("label") else None,
        prediction=message.prediction,
        counts=tuple(message.counts),
        input_events=message.input_events,
        output_events=message.output_events,
        duration_us=message.duration_us,
        decision_us=optional(message, "decision_us"),
        latency=read_latency(message.latency),
        layer_latency={
            layer: read_latency(latency) for layer, latency in message.layer_latency.items()
        },
        overrun=read_overrun(message.overrun) if message.HasField("overrun") else None,
        ending=ending_word(message.ending),
    )
