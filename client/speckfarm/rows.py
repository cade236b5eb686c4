"""Rows of the farm's lists: boards, models, recordings, usage, latency; and what the farm is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from speckfarm.device import Device, read_device
from speckfarm.latency import Latency, read_latency, rounded
from speckfarm.words import health_word, kind_word, runtime_word, to_datetime

if TYPE_CHECKING:
    from speckfarm.v1 import boards_pb2, info_pb2, models_pb2, recordings_pb2, usage_pb2


@dataclass(frozen=True, kw_only=True)
class ListRow:
    """A row of a list."""

    def to_dict(self) -> dict[str, object]:
        """For JSON; times in ISO 8601, null when there is no value."""
        plain = {k: rounded(v) for k, v in asdict(self).items()}
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in plain.items()}


@dataclass(frozen=True, kw_only=True)
class Board(ListRow):
    """A devkit, real or simulated."""

    board: str
    kind: str | None
    chip: str
    state: str  # offline, starting, idle, busy, recovering
    health: str  # good, bad, unknown
    enabled: bool  # False while drained
    job: str | None  # what it runs
    user: str | None  # for whom
    since: datetime | None  # when it entered its state
    configuration: str | None  # SHA-256 of what it holds
    message: str
    device: Device | None  # None on a simulated board, and before one was found
    swap_hint: str  # why it may be another devkit than before; empty if nothing hints at that
    faults: int  # in a row; two put a board into quarantine


@dataclass(frozen=True, kw_only=True)
class Model(ListRow):
    """A registered network file."""

    model: str  # SHA-256
    name: str
    user: str
    created: datetime | None
    size: int  # bytes
    input_shape: tuple[int, ...]  # features, height, width; empty if not known
    layers: int


@dataclass(frozen=True, kw_only=True)
class Recording(ListRow):
    """A registered file of input events."""

    recording: str  # SHA-256
    name: str
    user: str
    created: datetime | None
    size: int  # bytes
    count: int  # recordings in the file
    events: int
    duration_us: int  # sum of their lengths
    labelled: bool


@dataclass(frozen=True, kw_only=True)
class UsageRow(ListRow):
    """Sums of one user, board, model or day, for one kind of board."""

    key: str
    name: str | None  # of a model
    board_kind: str | None  # None: refused before a kind was chosen
    jobs: int  # accepted
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    refused: int
    attempts: int
    board_seconds: float  # time boards were leased


@dataclass(frozen=True, kw_only=True)
class LatencyRow(ListRow):
    """Merged latency of one model, board or week, for one kind of board."""

    key: str
    name: str | None  # of a model
    board_kind: str | None
    jobs: int
    latency: Latency

    def to_dict(self) -> dict[str, object]:
        """For JSON; latency as the JSON contract's LATENCY."""
        return super().to_dict() | {"latency": self.latency.to_dict()}


@dataclass(frozen=True, kw_only=True)
class ChipInfo(ListRow):
    """A chip that the farm knows."""

    chip: str
    boards: int
    # Not in the repr: it would be three pages long.
    cores: tuple[dict[str, float], ...] = field(
        repr=False
    )  # core, kernel/neuron/bias entries, synops_per_s


@dataclass(frozen=True, kw_only=True)
class ServerInfo(ListRow):
    """What the farm is, and as whom it knows the caller."""

    server: str
    version: str
    user: str
    chips: tuple[ChipInfo, ...]
    max_model_bytes: int
    max_recording_bytes: int
    max_benchmark_points: int
    queued_jobs: int
    active_jobs: int


def read_board(message: boards_pb2.Board) -> Board:
    """From the wire."""
    return Board(
        board=message.id,
        kind=kind_word(message.kind),
        chip=message.chip,
        state=runtime_word(message.runtime_state),
        health=health_word(message.health),
        enabled=message.enabled,
        job=message.job or None,
        user=message.user or None,
        since=to_datetime(message.since),
        configuration=message.configuration or None,
        message=message.message,
        device=read_device(message.device) if message.HasField("device") else None,
        swap_hint=message.swap_hint,
        faults=message.faults,
    )


def read_model(message: models_pb2.Model) -> Model:
    """From the wire."""
    return Model(
        model=message.digest,
        name=message.name,
        user=message.user,
        created=to_datetime(message.create_time),
        size=message.size,
        input_shape=tuple(message.input_shape),
        layers=message.layers,
    )


def read_recording(message: recordings_pb2.Recording) -> Recording:
    """From the wire."""
    return Recording(
        recording=message.digest,
        name=message.name,
        user=message.user,
        created=to_datetime(message.create_time),
        size=message.size,
        count=message.count,
        events=message.events,
        duration_us=message.duration_us,
        labelled=message.labelled,
    )


def read_usage_row(message: usage_pb2.UsageRow) -> UsageRow:
    """From the wire."""
    return UsageRow(
        key=message.key,
        name=message.name or None,
        board_kind=kind_word(message.board_kind),
        jobs=message.jobs,
        succeeded=message.succeeded,
        failed=message.failed,
        cancelled=message.cancelled,
        expired=message.expired,
        refused=message.refused,
        attempts=message.attempts,
        board_seconds=message.board_seconds,
    )


def read_latency_row(message: usage_pb2.LatencyRow) -> LatencyRow:
    """From the wire."""
    return LatencyRow(
        key=message.key,
        name=message.name or None,
        board_kind=kind_word(message.board_kind),
        jobs=message.jobs,
        latency=read_latency(message.latency),
    )


def read_info(message: info_pb2.GetServerInfoResponse, server: str) -> ServerInfo:
    """From the wire; `server` is the address it was asked at."""
    return ServerInfo(
        server=server,
        version=message.version,
        user=message.user,
        chips=tuple(_read_chip(chip) for chip in message.chips),
        max_model_bytes=message.max_model_bytes,
        max_recording_bytes=message.max_recording_bytes,
        max_benchmark_points=message.max_benchmark_points,
        queued_jobs=message.queued_jobs,
        active_jobs=message.active_jobs,
    )


def _read_chip(message: info_pb2.Chip) -> ChipInfo:
    cores = tuple(
        {
            "core": core.core,
            "kernel_entries": core.kernel_entries,
            "neuron_entries": core.neuron_entries,
            "bias_entries": core.bias_entries,
            "synops_per_s": core.synops_per_s,
        }
        for core in message.cores
    )
    return ChipInfo(chip=message.name, boards=message.boards, cores=cores)
