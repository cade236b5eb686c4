"""What a succeeded job measured, and its JSON as stored."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from speckfarm_server.errors import Change, Finding, Severity
from speckfarm_server.latency import Latency
from speckfarm_server.overrun import Overrun, Verdict


@dataclass(frozen=True, kw_only=True)
class LayerActivity:
    """What one layer did in all recordings of a job."""

    layer: int
    input_spikes: int | None  # None: the board cannot tell
    output_spikes: int | None  # fired, before decimator and pooling; None: the board cannot tell
    synops: int | None  # None on a real board
    synops_formula: float | None = None  # the published formula, which ignores borders
    synops_per_s: float | None = None  # all recordings; None without time
    peak_synops_per_s: float | None = None  # in the busiest recording of 10 ms or more
    synops_limit: float | None = None  # per second, what its core is believed to sustain; soft
    saturated: int | None = None  # neuron updates that 16 bits could not hold; None: not counted


class Ending(str, Enum):
    """Why the run of a recording ended."""

    SERVED = "SERVED"  # simulated: no spike was left on its way
    QUIET = "QUIET"  # real: all input was in, and nothing came out for the board's quiet time
    DRAIN_LIMIT = "DRAIN_LIMIT"  # real: spikes still came out after the longest drain


@dataclass(frozen=True, kw_only=True)
class RailPower:
    """What one supply rail of a real board took while recordings ran."""

    rail: str  # VDD_IO, VDD_RAM, VDD_LOGIC, VDD_PIXEL_DIGITAL, VDD_PIXEL_ANALOG
    mean_w: float
    samples: int


@dataclass(frozen=True, kw_only=True)
class Device:
    """Which devkit it was, and how it was driven."""

    type: str  # the vendor's device_type_name
    usb_path: str  # of the port, e.g. 2-1.3: stays when the board is plugged in again
    usb_address: int  # on its bus; another one after it was plugged in again
    serial: str  # empty on most devkits
    logic_version: int
    samna: str  # version of the vendor's library; empty if it does not say
    first_event: str  # keep or sacrifice: what is done about the event that a reset may swallow


@dataclass(frozen=True, kw_only=True)
class StageTimes:
    """Host time of each stage in milliseconds."""

    queue_ms: float
    configure_ms: float
    reset_ms: float
    run_ms: float
    collect_ms: float
    total_ms: float


@dataclass(frozen=True, kw_only=True)
class LayerLags:
    """Lags of one monitored layer in one recording."""

    layer: int
    latency: Latency
    histogram: bytes  # Histogram.to_bytes


@dataclass(frozen=True, kw_only=True)
class RecordingResult:
    """What one recording gave. `lags[0]` is the exit layer."""

    recording: str  # digest of its file
    name: str
    label: int | None
    prediction: int
    counts: tuple[int, ...]
    input_events: int
    output_events: int
    duration_us: int
    decision_us: float | None
    lags: tuple[LayerLags, ...]
    overrun: Overrun | None = None  # None: the board cannot tell, or an earlier version ran it
    ending: Ending | None = None  # None: an earlier version ran it


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """The result of a job."""

    job: str
    board: str
    board_kind: str
    recordings: tuple[RecordingResult, ...]
    accuracy: float | None
    latency: Latency | None  # exit layer, all recordings; None for flash
    histogram: bytes  # of the exit layer; empty for flash
    findings: tuple[Finding, ...]
    timings: StageTimes
    layers: tuple[LayerActivity, ...]
    spikes: str = ""  # digest of the blob
    lags: str = ""  # digest of the blob; empty unless asked for
    assumptions: str = ""  # digest; empty on a real board
    exit_spikes: int = field(default=0)
    device: Device | None = None  # None on a simulated board
    power: tuple[RailPower, ...] = ()  # empty unless the board measures it


def accuracy_of(recordings: tuple[RecordingResult, ...]) -> float | None:
    """Share of labelled recordings predicted right; None without labels."""
    labelled = [r for r in recordings if r.label is not None]
    if not labelled:
        return None
    return sum(r.prediction == r.label for r in labelled) / len(labelled)


def to_json(result: JobResult) -> str:
    """Serialise; histograms are stored in rows of their own and left out."""
    return _ENCODER.encode(result)


def from_json(text: str) -> JobResult:
    """Read what `to_json` wrote; histograms come back empty."""
    plain: dict[str, Any] = json.loads(text)
    latency = plain.pop("latency")
    return JobResult(
        recordings=tuple(_recording(r) for r in plain.pop("recordings")),
        latency=None if latency is None else Latency(**latency),
        histogram=b"",
        findings=tuple(finding_from_plain(f) for f in plain.pop("findings")),
        timings=StageTimes(**plain.pop("timings")),
        layers=tuple(LayerActivity(**layer) for layer in plain.pop("layers")),
        device=device_from_plain(plain.pop("device", None)),
        power=tuple(RailPower(**rail) for rail in plain.pop("power", ())),
        **plain,
    )


def finding_from_plain(plain: dict[str, Any]) -> Finding:
    """Read a finding from the form that `asdict` gives; an earlier version's has no changes."""
    changes = tuple(Change(**change) for change in plain.get("changes", ()))
    return Finding(**{**plain, "severity": Severity(plain["severity"]), "changes": changes})


def overrun_from_plain(plain: dict[str, Any] | None) -> Overrun | None:
    """Read a verdict from the form that JSON has; results of earlier versions have none."""
    return None if plain is None else Overrun(**{**plain, "verdict": Verdict(plain["verdict"])})


def device_from_plain(plain: dict[str, Any] | None) -> Device | None:
    """Read a device from the form that JSON has; None stays None."""
    return None if plain is None else Device(**plain)


def ending_from_plain(plain: str | None) -> Ending | None:
    """Read why a run ended; results of earlier versions do not say."""
    return None if plain is None else Ending(plain)


def _without_histogram(value: object) -> dict[str, object]:
    plain = vars(value)
    if "histogram" not in plain:
        return plain
    return {name: field for name, field in plain.items() if name != "histogram"}


_ENCODER = json.JSONEncoder(default=_without_histogram)


def _recording(plain: dict[str, Any]) -> RecordingResult:
    lags = tuple(
        LayerLags(layer=item["layer"], latency=Latency(**item["latency"]), histogram=b"")
        for item in plain.pop("lags")
    )
    overrun = overrun_from_plain(plain.pop("overrun", None))
    ending = ending_from_plain(plain.pop("ending", None))
    counts = tuple(plain.pop("counts"))
    return RecordingResult(**plain, counts=counts, lags=lags, overrun=overrun, ending=ending)
