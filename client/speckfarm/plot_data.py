"""What the pictures of a result show, as arrays; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from speckfarm.errors import BadRequest
from speckfarm.events import ECHO
from speckfarm.recorded import Events

if TYPE_CHECKING:
    from speckfarm.result import Result

FloatArray = NDArray[np.float64]
Int64Array = NDArray[np.int64]
WINDOWS = 4  # event images, one beside the other
SMALLEST_IMAGE = 4  # pixels; a map of fewer shows no stripes


@dataclass(frozen=True, kw_only=True, eq=False)
class LagSeries:
    """Lags of the exit layer in one recording, against the time of the causing input."""

    cause_us: FloatArray  # (n,), from the first input event
    lag_us: FloatArray  # (n,)
    drift_us_per_s: float | None
    method: str | None  # exact or estimated
    error_us: float | None  # of an estimated lag

    def line_us(self, at_us: FloatArray) -> FloatArray:
        """The drift line, through the middle of the points."""
        slope = (self.drift_us_per_s or 0.0) * 1e-6
        line_us: FloatArray = self.lag_us.mean() + slope * (at_us - self.cause_us.mean())
        return line_us


@dataclass(frozen=True, kw_only=True, eq=False)
class Latencies:
    """Lags of one or all recordings."""

    lag_us: FloatArray  # (n,)
    p50_us: float
    p99_us: float
    of: str  # which recordings, in words
    method: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """Output spikes of one layer in one recording."""

    layer: int
    time_us: FloatArray  # (n,), from the first input event where that is known
    feature: Int64Array  # (n,)
    features: int  # that the layer has, as far as is known
    is_exit: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Raster:
    """All recorded spikes of one recording, the exit layer last."""

    bands: tuple[Band, ...]
    end_us: float  # last input event
    prediction: int
    label: int | None


@dataclass(frozen=True, kw_only=True)
class Load:
    """Synaptic operations per second of one layer."""

    layer: int
    mean_per_s: float | None  # all recordings
    peak_per_s: float | None  # busiest recording of 10 ms or more
    limit_per_s: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Events on the map in successive windows of one recording: what went in, what came out."""

    windows_us: FloatArray  # (windows, 2) begin and end, from the first input event
    inputs: Int64Array  # (windows, h, w) events in each pixel
    outputs: Int64Array  # (windows, h, w) spikes in each neuron, summed over features
    layer: int  # whose outputs these are


def lag_series(result: Result, index: int) -> LagSeries:
    """Lags over time of one recording.

    Raises NotFound LAGS_NOT_KEPT, BadRequest NOTHING_TO_PLOT if no output has a cause.
    """
    lags_us = _lags_of(result, index)
    spikes = result.spikes_of(index, exit_layer(result))
    has_cause = ~np.isnan(lags_us)
    if not has_cause.any():
        raise nothing("lags", f"no output spike of recording {index} has a cause")
    latency = result.recordings[index].latency
    time_us = spikes["t"][has_cause] - first_input_us(result, index)
    return LagSeries(
        cause_us=time_us - lags_us[has_cause],
        lag_us=lags_us[has_cause],
        drift_us_per_s=latency.drift_us_per_s,
        method=latency.method,
        error_us=latency.error_us,
    )


def latencies(result: Result, index: int | None) -> Latencies:
    """Lags of one recording, or of all. Raises as `lag_series` does."""
    lags_us = result.lags if index is None else _lags_of(result, index)
    lags_us = lags_us[~np.isnan(lags_us)]
    if not len(lags_us):
        raise nothing("latency", "no output spike has a cause")
    latency = result.latency if index is None else result.recordings[index].latency
    count = len(result.recordings)
    every = "1 recording" if count == 1 else f"{count} recordings"
    return Latencies(
        lag_us=lags_us,
        p50_us=float(latency.p50_us or 0.0),
        p99_us=float(latency.p99_us or 0.0),
        of=every if index is None else result.recordings[index].name,
        method=latency.method,
    )


def raster(result: Result, index: int) -> Raster:
    """Output spikes of one recording. Raises BadRequest NOTHING_TO_PLOT if there are none."""
    spikes, last = _of_network(result, index), exit_layer(result)
    if not len(spikes):
        raise nothing("raster", f"recording {index} gave no output spike")
    recording = result.recordings[index]
    origin_us = first_input_us(result, index)
    bands = []
    for layer in [*sorted(set(spikes["layer"].tolist()) - {last}), last]:
        mine = spikes[spikes["layer"] == layer]
        known = int(mine["feature"].max()) + 1 if len(mine) else 1
        bands.append(
            Band(
                layer=layer,
                time_us=mine["t"] - origin_us,
                feature=mine["feature"].astype(np.int64),
                features=max(known, len(recording.counts)) if layer == last else known,
                is_exit=layer == last,
            )
        )
    return Raster(
        bands=tuple(bands),
        end_us=float(recording.duration_us),
        prediction=recording.prediction,
        label=recording.label,
    )


def loads(result: Result) -> list[Load]:
    """Synaptic operations per second of every layer. Raises BadRequest NOTHING_TO_PLOT."""
    found = [
        Load(
            layer=each.layer,
            mean_per_s=each.synops_per_s,
            peak_per_s=each.peak_synops_per_s,
            limit_per_s=each.synops_limit,
        )
        for each in result.layers
    ]
    if not any(each.mean_per_s for each in found):
        raise nothing("synops", f"synaptic operations were not counted on {result.board}")
    return found


def images(
    result: Result, index: int, file: Sequence[Events], *, window_us: float | None
) -> Images:
    """Event images in successive windows, of the recorded layer with the largest map.

    `file` has the recordings of the file that the recording is of; maps are as large as all of
    them need. Windows lie side by side, or have `window_us` and are spread over the recording.

    Raises BadRequest NOTHING_TO_PLOT if no layer with a map was recorded.
    """
    layer = _largest_map(_of_network(result, index))
    if layer is None:
        text = "no layer with a map was recorded; run it with a layer near the input monitored, "
        raise nothing("images", f"{text}--monitor 0 or monitor=[0]")
    mine = result.spikes_of(index, layer)
    events = _recording_in(file, result, index)
    first_us = int(events["t"][0])
    last_us = max(int(events["t"][-1]), int(mine["t"].max()))
    whole_us = max(last_us - first_us, 1) + 1
    length_us = whole_us / WINDOWS if window_us is None else min(window_us, whole_us)
    starts_us = np.linspace(0.0, whole_us - length_us, WINDOWS)
    windows_us = np.stack([starts_us, starts_us + length_us], axis=1)
    return Images(
        windows_us=windows_us,
        inputs=_counted(events, windows_us + first_us, _shape(file)),
        outputs=_counted(mine, windows_us + first_us, _shape([_of_layer(result.spikes, layer)])),
        layer=layer,
    )


def worst(result: Result) -> int:
    """The recording with the largest p99 lag; the first one if none was measured."""
    lags = [each.latency.p99_us or 0.0 for each in result.recordings]
    return max(range(len(lags)), key=lags.__getitem__)


def exit_layer(result: Result) -> int:
    """Number of the last layer."""
    layers = [each.layer for each in result.layers]
    return max(layers, default=0)


def first_input_us(result: Result, index: int) -> float:
    """Time of the first input on the recording's clock; 0 if there is no output to tell by."""
    recording = result.recordings[index]
    known = {exit_layer(result): recording.latency, **recording.layer_latency}
    for layer, latency in known.items():
        spikes = result.spikes_of(index, layer)
        if latency.first_output_us is not None and len(spikes):
            return float(spikes["t"][0]) - latency.first_output_us
    return 0.0


def nothing(panel: str, why: str) -> BadRequest:
    """The error for a panel that has nothing to show."""
    text = f"There is nothing to draw for {panel}: {why}"
    return BadRequest("NOTHING_TO_PLOT", text, metadata={"panel": panel})


def _lags_of(result: Result, index: int) -> FloatArray:
    """Lags of the exit spikes of one recording."""
    ends = np.cumsum([each.output_spikes for each in result.recordings])
    end = int(ends[index])
    return result.lags[end - result.recordings[index].output_spikes : end]


def _of_network(result: Result, index: int) -> NDArray[np.void]:
    """Output spikes of one recording without the echo of its input."""
    spikes = result.spikes_of(index)
    without: NDArray[np.void] = spikes[spikes["layer"] != ECHO]
    return without


def _largest_map(spikes: NDArray[np.void]) -> int | None:
    sizes = {
        layer: (int(mine["y"].max()) + 1) * (int(mine["x"].max()) + 1)
        for layer in sorted(set(spikes["layer"].tolist()))
        if len(mine := _of_layer(spikes, layer))
    }
    layer = max(sizes, key=lambda each: sizes[each], default=None)
    return None if layer is None or sizes[layer] < SMALLEST_IMAGE else layer


def _recording_in(file: Sequence[Events], result: Result, index: int) -> Events:
    """A result's recording in its file; one that was given twice is in the result twice."""
    digests = [each.recording for each in result.recordings]
    place = sum(digest == digests[index] for digest in digests[:index]) % max(len(file), 1)
    if place >= len(file) or not len(file[place]):
        name = result.recordings[index].name
        raise nothing("images", f"the file has no events of recording {index} ({name})")
    return file[place]


def _of_layer(spikes: NDArray[np.void], layer: int) -> NDArray[np.void]:
    mine: NDArray[np.void] = spikes[spikes["layer"] == layer]
    return mine


def _shape(pieces: Sequence[NDArray[np.void]]) -> tuple[int, int]:
    """Rows and columns that hold all events."""
    height, width = (
        max(int(piece[axis].max()) + 1 for piece in pieces if len(piece)) for axis in "yx"
    )
    return height, width


def _counted(
    events: NDArray[np.void], windows_us: FloatArray, shape: tuple[int, int]
) -> Int64Array:
    """Events in each window, from its begin to just before its end, and pixel."""
    counts = np.zeros((len(windows_us), *shape), np.int64)
    for image, (begin_us, end_us) in zip(counts, windows_us, strict=True):
        inside = events[(events["t"] >= begin_us) & (events["t"] < end_us)]
        np.add.at(image, (inside["y"].astype(int), inside["x"].astype(int)), 1)
    return counts
