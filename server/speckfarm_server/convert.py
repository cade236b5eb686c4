"""Between the contract's messages and the farm's values; nothing is decided here."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from speckfarm.v1 import (
    boards_pb2,
    findings_pb2,
    jobs_pb2,
    models_pb2,
    recordings_pb2,
    settings_pb2,
)
from speckfarm_server.check import LayerNeed
from speckfarm_server.errors import BadInput, Finding
from speckfarm_server.job import BoardKind, JobError, JobEvent, JobState, JobStatus
from speckfarm_server.settings import Settings, from_canonical
from speckfarm_server.store.rows import Model, Recording

# What a Timestamp may hold, as google/protobuf/timestamp.proto says.
_YEAR_1_S, _YEAR_10000_S = -62_135_596_800, 253_402_300_800


def settings_of(message: settings_pb2.Settings) -> Settings:
    """Read settings; BadInput SETTING_OUT_OF_RANGE."""
    return _read_settings(message.SerializeToString(deterministic=True))


@lru_cache(maxsize=256)  # most jobs of a day have few different settings
def _read_settings(data: bytes) -> Settings:
    message = settings_pb2.Settings.FromString(data)
    optional = {
        name: getattr(message, name)
        for name in (
            "lower_clip", "input_dt_us", "slow_clock_hz", "order_seed", "readout_threshold",
            "readout_average",
        )
        if message.HasField(name)
    }  # fmt: skip
    return Settings(
        reset=_word(settings_pb2.ResetMode, message.reset, "") or None,
        layer_reset={
            layer: _word(settings_pb2.ResetMode, mode, "subtract")
            for layer, mode in message.layer_reset.items()
        },
        decimator=dict(message.decimator),
        monitor=tuple(message.monitor),
        cores=dict(message.cores),
        polarity=_word(settings_pb2.Polarity, message.polarity, "keep"),
        input_pooling=(
            message.input_pooling_y if message.HasField("input_pooling_y") else 1,
            message.input_pooling_x if message.HasField("input_pooling_x") else 1,
        ),
        crop=_crop(message.crop) if message.HasField("crop") else None,
        mirror="x" * message.mirror_x + "y" * message.mirror_y or "off",
        swap_xy=message.swap_xy,
        state=_word(settings_pb2.NeuronState, message.state, "reset", "NEURON_STATE_"),
        **optional,
    )


def settings_message(settings: Settings) -> settings_pb2.Settings:
    """Write settings, every one. The message must not be changed."""
    return _write_settings(settings.canonical())


@lru_cache(maxsize=256)
def _write_settings(canonical: str) -> settings_pb2.Settings:
    settings = from_canonical(canonical)
    modes = settings_pb2.ResetMode
    return settings_pb2.Settings(
        reset=modes.Value(f"RESET_MODE_{(settings.reset or 'unspecified').upper()}"),
        layer_reset={
            layer: modes.Value(f"RESET_MODE_{mode.upper()}")
            for layer, mode in settings.layer_reset.items()
        },
        lower_clip=settings.lower_clip,
        input_dt_us=settings.input_dt_us,
        decimator=settings.decimator,
        monitor=settings.monitor,
        cores=settings.cores,
        polarity=settings_pb2.Polarity.Value(f"POLARITY_{settings.polarity.upper()}"),
        slow_clock_hz=settings.slow_clock_hz,
        state=settings_pb2.NeuronState.Value(f"NEURON_STATE_{settings.state.upper()}"),
        input_pooling_y=settings.input_pooling[0],
        input_pooling_x=settings.input_pooling[1],
        crop=_crop_message(settings.crop),
        mirror_x="x" in settings.mirror,
        mirror_y="y" in settings.mirror,
        swap_xy=settings.swap_xy,
        order_seed=settings.order_seed,
        readout_threshold=settings.readout_threshold,
        readout_average=settings.readout_average,
    )


def _crop(message: settings_pb2.Crop) -> tuple[int, int, int, int]:
    return message.left, message.top, message.width, message.height


def _crop_message(crop: tuple[int, int, int, int] | None) -> settings_pb2.Crop | None:
    if crop is None:
        return None
    left, top, width, height = crop
    return settings_pb2.Crop(left=left, top=top, width=width, height=height)


def kind_of(value: boards_pb2.BoardKind.ValueType) -> BoardKind | None:
    """Read a kind of board, None for the default; BadInput UNKNOWN_BOARD_KIND."""
    if value == boards_pb2.BOARD_KIND_UNSPECIFIED:
        return None
    if value not in boards_pb2.BoardKind.values():
        text = f"board_kind is {value}; known: {', '.join(boards_pb2.BoardKind.keys()[1:])}"
        raise BadInput("UNKNOWN_BOARD_KIND", text, found=value)
    is_real = value == boards_pb2.BOARD_KIND_REAL
    return BoardKind.REAL if is_real else BoardKind.SIMULATED


def kind_message(kind: str) -> boards_pb2.BoardKind.ValueType:
    """Write a kind of board; an empty one is UNSPECIFIED."""
    if not kind:
        return boards_pb2.BOARD_KIND_UNSPECIFIED
    return boards_pb2.BoardKind.Value(f"BOARD_KIND_{kind.upper()}")


def time_message(time_us: int | None) -> Timestamp | None:
    """Write a wall-clock time."""
    if time_us is None:
        return None
    return Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1000)


def time_us_of(message: Timestamp) -> int:
    """Read a wall-clock time; BadInput TIME_INVALID beyond the years 1 to 9999."""
    if not _YEAR_1_S <= message.seconds < _YEAR_10000_S:
        text = f"A time is {message.seconds} s after 1970; only the years 1 to 9999 are known"
        raise BadInput("TIME_INVALID", text, found_s=message.seconds)
    return message.seconds * 1_000_000 + message.nanos // 1000


def finding_message(finding: Finding) -> findings_pb2.Finding:
    """Write a finding."""
    severity = findings_pb2.Severity.Value(f"SEVERITY_{finding.severity.name}")
    return findings_pb2.Finding(
        reason=finding.reason,
        severity=severity,
        layer=finding.layer,
        message=finding.message,
        metadata=dict(finding.metadata),
        changes=[findings_pb2.Change(**vars(change)) for change in finding.changes],
    )


def layer_message(need: LayerNeed) -> models_pb2.LayerReport:
    """Write what a layer needs."""
    return models_pb2.LayerReport(
        layer=need.layer,
        name=need.name,
        core=need.core,
        kernel_entries=need.kernel_entries,
        neuron_entries=need.neuron_entries,
        synops_per_event=need.synops_per_event,
        synops_limit=need.synops_limit,
        output_shape=need.output_shape,
        sources=need.sources,
    )


def model_message(model: Model) -> models_pb2.Model:
    """Write a model."""
    return models_pb2.Model(
        digest=model.digest,
        name=model.name,
        user=model.user,
        create_time=time_message(model.created_us),
        size=model.size,
        input_shape=model.input_shape,
        layers=model.layers,
    )


def recording_message(recording: Recording) -> recordings_pb2.Recording:
    """Write a recording file."""
    return recordings_pb2.Recording(
        digest=recording.digest,
        name=recording.name,
        user=recording.user,
        create_time=time_message(recording.created_us),
        size=recording.size,
        count=recording.count,
        events=recording.events,
        duration_us=recording.duration_us,
        labelled=recording.labelled,
    )


def job_message(status: JobStatus, waiting_reason: str = "") -> jobs_pb2.Job:
    """Write a job."""
    spec = status.spec
    return jobs_pb2.Job(
        id=spec.id,
        user=spec.user,
        state=state_message(status.state),
        sequence=status.sequence,
        model=spec.model,
        recordings=spec.recordings,
        settings=settings_message(spec.settings),
        chip=spec.chip,
        board_kind=kind_message(spec.board_kind.value),
        board=status.board,
        configuration=spec.configuration,
        attempt=status.attempt,
        create_time=time_message(spec.created_us),
        start_time=time_message(status.started_us),
        end_time=time_message(status.ended_us),
        error=error_message(status.error),
        benchmark=spec.benchmark,
        recordings_total=spec.recordings_total,
        recordings_done=status.recordings_done,
        waiting_reason=waiting_reason,
    )


def state_message(state: JobState) -> jobs_pb2.JobState.ValueType:
    """Write a job state."""
    return _STATES[state]


_STATES = {state: jobs_pb2.JobState.Value(f"JOB_STATE_{state.value}") for state in JobState}


def state_of(value: jobs_pb2.JobState.ValueType) -> JobState:
    """Read a job state; BadInput UNKNOWN_STATE."""
    for state in JobState:
        if state_message(state) == value:
            return state
    raise BadInput("UNKNOWN_STATE", f"There is no job state {value}", found=value)


def error_message(error: JobError | None) -> jobs_pb2.JobError | None:
    """Write why a job failed."""
    if error is None:
        return None
    return jobs_pb2.JobError(
        reason=error.reason,
        error_class=jobs_pb2.ErrorClass.Value(f"ERROR_CLASS_{error.error_class.value}"),
        message=error.message,
        metadata=dict(error.metadata),
    )


def event_message(event: JobEvent, done: int) -> jobs_pb2.WatchJobResponse:
    """Write a step of a job."""
    return jobs_pb2.WatchJobResponse(
        sequence=event.sequence,
        time=time_message(event.time_us),
        state=state_message(event.state),
        message=event.message,
        recordings_done=done,
    )


def _word(enum: Any, value: int, default: str, prefix: str = "") -> str:
    if value == 0:
        return default
    try:
        name = str(enum.Name(value))
    except ValueError:
        return f"{enum.DESCRIPTOR.name} {value}"  # Settings refuses it by that name
    return (name.removeprefix(prefix) if prefix else name.rpartition("_")[2]).lower()
