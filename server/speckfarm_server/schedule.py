"""Which job goes to which board next, and why a job waits. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from speckfarm_server.job import BoardKind


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A queued job, as far as scheduling cares."""

    job: str
    chip: str
    board_kind: BoardKind
    configuration: str
    board_pin: str = ""
    avoid: frozenset[str] = frozenset()  # boards that spoiled an attempt of it


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A board, as far as scheduling cares."""

    board: str
    chip: str
    board_kind: BoardKind
    is_idle: bool
    in_service: bool  # enabled, not bad, its process there or coming
    configuration: str  # that it holds
    idle_since: float


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A decision with its reason."""

    job: str
    board: str
    why: str


def pick(queue: Iterable[Waiting], seats: Sequence[Seat]) -> list[Assignment]:
    """Give every idle board the oldest job it may run.

    Jobs are served first come, first served. Among idle boards a job takes one that holds its
    configuration, then the one that has been idle longest, then the first by name.
    """
    idle = [seat for seat in seats if seat.is_idle and seat.in_service]
    decisions: list[Assignment] = []
    for job in queue:
        if not idle:
            break
        fitting = [seat for seat in idle if _may_run(job, seat, seats)]
        if fitting:
            best = min(fitting, key=lambda seat: _preference(job, seat))
            idle.remove(best)
            decisions.append(Assignment(job=job.job, board=best.board, why=_why(job, best)))
    return decisions


def explain(job: Waiting, ahead: int, seats: Sequence[Seat]) -> str:
    """Say in one sentence why a job waits."""
    fitting = [seat for seat in seats if _fits(job, seat)]
    working = [seat for seat in fitting if seat.in_service]
    noun = f"{job.board_kind.value} {job.chip} board" + (
        f" called {job.board_pin}" if job.board_pin else ""
    )
    if not fitting:
        return f"the farm has no {noun} now"
    if not working:
        names = ", ".join(seat.board for seat in fitting)
        return f"no {noun} is in service: {names} drained or bad, or offline"
    return f"{ahead} jobs ahead; {len(working)} fitting boards at work"


def _fits(job: Waiting, seat: Seat) -> bool:
    same = job.chip == seat.chip and job.board_kind == seat.board_kind
    return same and job.board_pin in ("", seat.board)


def _may_run(job: Waiting, seat: Seat, seats: Sequence[Seat]) -> bool:
    if not _fits(job, seat):
        return False
    if seat.board not in job.avoid:
        return True
    # A board that spoiled an attempt is used again only if no other could ever take the job.
    others = (s for s in seats if s.in_service and s.board not in job.avoid)
    return not any(_fits(job, other) for other in others)


def _preference(job: Waiting, seat: Seat) -> tuple[bool, float, str]:
    return (seat.configuration != job.configuration, seat.idle_since, seat.board)


def _why(job: Waiting, seat: Seat) -> str:
    if seat.configuration == job.configuration:
        return f"{seat.board} holds this configuration"
    return f"{seat.board} is idle"
