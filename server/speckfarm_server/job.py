"""The job: what was asked for, where it is on its road, and how it may move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from speckfarm_server.errors import ErrorClass, Finding
from speckfarm_server.settings import Settings


class BoardKind(str, Enum):
    """What a board is made of. Results of the two kinds are never merged."""

    REAL = "real"
    SIMULATED = "simulated"


class JobState(str, Enum):
    """Where a job is. Each member says who moves it on."""

    QUEUED = "QUEUED"  # the scheduler, the queue clock, or its user
    ASSIGNED = "ASSIGNED"  # a board is leased; its runner, or the rescue after a lost server
    CONFIGURING = "CONFIGURING"  # the board is written or reset; its runner
    RUNNING = "RUNNING"  # events go in; its runner
    COLLECTING = "COLLECTING"  # the result is measured; its runner
    CANCELLING = "CANCELLING"  # a board is being made safe; its runner
    SUCCEEDED = "SUCCEEDED"  # final: the result is stored
    FAILED = "FAILED"  # final: see error
    CANCELLED = "CANCELLED"  # final: its user ended it
    EXPIRED = "EXPIRED"  # final: it never ran within its queue time


ACTIVE = (JobState.ASSIGNED, JobState.CONFIGURING, JobState.RUNNING, JobState.COLLECTING)
FINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
_ON_A_BOARD = (*ACTIVE, JobState.CANCELLING)

# new state -> states it may follow. Progress may be recorded late and in one step (a short job goes
# from QUEUED to SUCCEEDED in one transaction), so each step lists all that may lie before it.
MAY_FOLLOW: Mapping[JobState, tuple[JobState, ...]] = {
    JobState.QUEUED: _ON_A_BOARD,
    JobState.ASSIGNED: (JobState.QUEUED,),
    JobState.CONFIGURING: (JobState.QUEUED, JobState.ASSIGNED),
    JobState.RUNNING: (JobState.QUEUED, JobState.ASSIGNED, JobState.CONFIGURING),
    JobState.COLLECTING: (JobState.QUEUED, *ACTIVE[:3]),
    JobState.CANCELLING: (JobState.QUEUED, *ACTIVE),
    JobState.SUCCEEDED: (JobState.QUEUED, *ACTIVE),
    JobState.FAILED: (JobState.QUEUED, *_ON_A_BOARD),
    JobState.CANCELLED: (JobState.QUEUED, *_ON_A_BOARD),
    JobState.EXPIRED: (JobState.QUEUED,),
}


# Default run time of an attempt: a fixed part, a part for each recording, and their length times a
# factor. A simulated board may be far slower than the chip. A real one is not, but before each
# recording it writes up to 327,680 neurons, and after it waits up to 10 s for quiet.
RUN_BASE_US = 30_000_000
RUN_EACH_US = {BoardKind.REAL: 15_000_000, BoardKind.SIMULATED: 0}
RUN_FACTOR = {BoardKind.REAL: 3, BoardKind.SIMULATED: 300}


def run_time_us(kind: BoardKind, recordings: int, duration_us: int) -> int:
    """How long an attempt may take unless its user says."""
    return RUN_BASE_US + RUN_EACH_US[kind] * recordings + RUN_FACTOR[kind] * duration_us


@dataclass(frozen=True, kw_only=True)
class JobError:
    """Why a job failed."""

    reason: str
    error_class: ErrorClass
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What was accepted; never changes."""

    id: str
    user: str
    model: str  # digest
    recordings: tuple[str, ...]  # digests; empty: flash only
    settings: Settings
    chip: str
    board_kind: BoardKind
    configuration: str  # digest
    created_us: int  # wall clock, since the epoch
    queue_deadline_us: int
    run_timeout_us: int
    board_pin: str = ""  # only this board; empty: any that fits
    keep_lags: bool = False
    benchmark: str = ""
    point: int = 0  # row of the benchmark's table
    recordings_total: int = 0
    findings: tuple[Finding, ...] = ()  # warnings of the check


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """Something that happened to a job; numbered per job from 1."""

    sequence: int
    time_us: int
    event: str  # "job.queued", ...
    state: JobState
    attempt: int
    board: str = ""
    message: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """Where a job is, as stored or as seen now."""

    spec: JobSpec
    state: JobState
    sequence: int
    attempt: int  # fencing number: each lease has its own
    faults: int  # attempts that a board spoiled
    board: str = ""
    started_us: int | None = None
    ended_us: int | None = None
    error: JobError | None = None
    recordings_done: int = 0
    waiting_reason: str = ""
