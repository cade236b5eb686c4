"""The farm: what users may ask of it. Steps 2 to 7 of a job are `submit`; the rest is `runner`."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from speckfarm_server.blobs import Blobs
from speckfarm_server.boards.host import BoardHost
from speckfarm_server.chip import find_chip
from speckfarm_server.config import FarmConfig
from speckfarm_server.dispatch import Dispatcher
from speckfarm_server.errors import (
    Exhausted,
    FarmError,
    Finding,
    ModelRejected,
    NotAllowed,
    Severity,
    Unavailable,
    WrongState,
)
from speckfarm_server.job import ACTIVE, FINAL, BoardKind, JobSpec, JobState, JobStatus, run_time_us
from speckfarm_server.job_result import JobResult
from speckfarm_server.library import Library
from speckfarm_server.live import LiveJob, first_event, first_row, now_us
from speckfarm_server.rules.simulated import errors_on_twins
from speckfarm_server.settings import Settings
from speckfarm_server.store import queries
from speckfarm_server.store.steps import Request, event_row
from speckfarm_server.store.store import Store
from speckfarm_server.store.writer import Row

_RANDOM = random.Random()  # seeded by the operating system; names need not be secret
_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Order:
    """A job as a user asks for it."""

    user: str
    model: str  # digest
    recordings: tuple[str, ...] = ()  # digests
    settings: Settings
    chip: str = ""
    board_kind: BoardKind | None = None
    board_pin: str = ""
    queue_timeout_s: float | None = None
    run_timeout_s: float | None = None
    keep_lags: bool = False
    benchmark: str = ""
    point: int = 0


class Farm:
    """One lab's boards, models, recordings and jobs."""

    def __init__(self, config: FarmConfig, *, store: Store, blobs: Blobs, library: Library) -> None:
        self.config = config
        self.store = store
        self.blobs = blobs
        self.library = library
        self.dispatcher = Dispatcher(config, store=store, blobs=blobs, library=library)
        self.is_stopping = False

    async def submit(
        self, order: Order, *, request_id: str = "", body: bytes = b""
    ) -> tuple[JobStatus, tuple[Finding, ...]]:
        """Steps 2 to 7: parse, quantise, place, check, queue. A job that is returned can run."""
        spec = await self.prepare(order)
        request = make_request("CreateJob", order.user, request_id, body, spec.id)
        known = await self.accept([spec], request=request)
        return await self.status(known or spec.id), spec.findings

    async def prepare(self, order: Order) -> JobSpec:
        """Turn an order into what will be queued; every refusal is an error with its reason."""
        if self.is_stopping:
            raise Unavailable("STOPPING", "The server is stopping; try again in a moment")
        chip = find_chip(order.chip or self.default_chip).name
        kind = self._kind(order, chip)
        await self.library.model(order.model)
        report = await self.library.report(order.model, chip, order.settings)
        if report.configuration is None:
            raise ModelRejected(report.findings)
        if kind is BoardKind.SIMULATED and (refused := errors_on_twins(report.findings)):
            raise ModelRejected(refused)
        most = self.config.limits.max_job_recordings
        fit = self.library.check_fit(order.recordings, report, most=most, kind=kind)
        count, duration_us = await fit
        return JobSpec(
            id=new_id("job"),
            user=order.user,
            model=order.model,
            recordings=order.recordings,
            settings=order.settings,
            chip=chip,
            board_kind=kind,
            board_pin=order.board_pin,
            configuration=report.configuration.digest,
            created_us=now_us(),
            queue_deadline_us=now_us() + self._queue_time_us(order),
            run_timeout_us=_attempt_us(order, run_time_us(kind, count, duration_us)),
            keep_lags=order.keep_lags,
            benchmark=order.benchmark,
            point=order.point,
            recordings_total=count,
            findings=tuple(f for f in report.findings if f.severity is not Severity.INFO),
        )

    async def accept(
        self,
        specs: Sequence[JobSpec],
        *,
        request: Request | None = None,
        benchmark: Row | None = None,
    ) -> str | None:
        """Queue jobs durably, all or none; the id of the older object if this is a repeat."""
        self._check_queue(len(specs))
        rows = [first_row(spec) for spec in specs]
        change = self.store.steps.accept(specs, rows, request=request, benchmark=benchmark)
        return await _to_its_end(self._queue_up(specs, change))

    async def cancel(self, job_id: str, user: str) -> JobStatus:
        """End a job; cancelling twice changes nothing.

        Raises JOB_NOT_FOUND, NOT_OWNER, JOB_ALREADY_FINAL.
        """
        status = await self.status(job_id)
        if status.spec.user != user:
            owner = status.spec.user
            text = f"Job {job_id} belongs to {owner}; only its owner may cancel it"
            raise NotAllowed("NOT_OWNER", text, job=job_id, owner=owner)
        live = self.dispatcher.job(job_id)
        if live is None:
            return _already_final(status, status.state)
        if live.is_final and live.state is not JobState.CANCELLED:
            return _already_final(status, live.state)
        return await _to_its_end(self._cancel(live, user))

    async def status(self, job_id: str) -> JobStatus:
        """Where a job is; NotFound JOB_NOT_FOUND."""
        live = self.dispatcher.job(job_id)
        if live is not None:
            return live.status
        return await self.store.read(queries.find_job, job_id)

    async def result(self, job_id: str) -> JobResult:
        """What a job measured; JOB_NOT_FOUND, RESULT_NOT_READY, RESULT_NONE."""
        live = self.dispatcher.job(job_id)
        if live is not None and live.status.state is JobState.SUCCEEDED and live.result:
            return live.result
        return await self.store.read(queries.find_result, job_id)

    async def set_enabled(self, board_id: str, user: str, *, enabled: bool) -> BoardHost:
        """Put a board into service or take it out after its current job; kept over restarts."""
        host = self.dispatcher.host(board_id)
        event = "board.undrained" if enabled else "board.drained"
        row = event_row(
            None,
            time_us=now_us(),
            event=event,
            user=user,
            board=board_id,
            board_kind=host.kind.value,
        )
        await _to_its_end(self._set_enabled(host, enabled, row))
        return host

    async def log_refusal(
        self, user: str, model: str, refusal: FarmError, *, board_kind: BoardKind | None = None
    ) -> None:
        """Leave a usage event of a job that was not accepted."""
        row = event_row(
            None,
            time_us=now_us(),
            event="job.refused",
            user=user,
            model=model[:64],
            board_kind="" if board_kind is None else board_kind.value,
            reason=refusal.reason,
            message=refusal.message[:1000],
        )
        await self.store.write(self.store.steps.log([row]))

    @property
    def default_chip(self) -> str:
        """The chip that is meant when a user names none."""
        return self.config.boards[0].chip

    async def _queue_up(
        self, specs: Sequence[JobSpec], change: Callable[[Any], str | None]
    ) -> str | None:
        known = await self.store.write(change)
        if known is None:
            for spec in specs:
                status = JobStatus(
                    spec=spec, state=JobState.QUEUED, sequence=1, attempt=0, faults=0
                )
                self.dispatcher.enqueue(LiveJob(status, [first_event(spec)]))
        return known

    async def _cancel(self, live: LiveJob, user: str) -> JobStatus:
        """Cancel, or wait until the cancel of another client is durable."""
        if live.state is JobState.QUEUED:
            self.dispatcher.withdraw(live)
            live.move(JobState.CANCELLED, f"cancelled by {user} while it waited")
        elif live.state in ACTIVE:
            live.move(JobState.CANCELLING, f"cancelled by {user}")
            self.dispatcher.cancel_on_board(live)
        if live.has_unstored:
            moved_to = live.state
            await self.store.write(self.store.steps.move(live.take_step()))
            if live.state is moved_to:  # else its runner publishes the end when that is durable
                live.publish()
        while live.status.state not in (JobState.CANCELLING, *FINAL):
            await live.changed()
        return live.status

    async def _set_enabled(self, host: BoardHost, enabled: bool, event: Row) -> None:
        await self.store.set_enabled(host.id, enabled=enabled, events=[event])
        host.set_enabled(enabled)

    def _kind(self, order: Order, chip: str) -> BoardKind:
        """The kind of board a job is for; FailedPrecondition if the farm has none that fits."""
        fitting = [
            host
            for host in self.dispatcher.hosts
            if host.chip == chip
            and order.board_kind in (None, host.kind)
            and order.board_pin in ("", host.id)
        ]
        if not fitting:
            have = ", ".join(f"{h.id} ({h.kind.value} {h.chip})" for h in self.dispatcher.hosts)
            wanted = " ".join(
                filter(None, [order.board_kind and order.board_kind.value, chip, order.board_pin])
            )
            text = f"No board of this farm fits {wanted!r}; it has {have}"
            raise WrongState("NO_MATCHING_BOARD", text, wanted=wanted, boards=have)
        real = [host for host in fitting if host.kind is BoardKind.REAL and host.enabled]
        return BoardKind.REAL if real else fitting[0].kind

    def _check_queue(self, more: int) -> None:
        allowed, waiting = self.config.limits.max_queued_jobs, self.dispatcher.counts()[0]
        if waiting + more > allowed:
            text = f"{waiting} jobs wait; the queue takes {allowed}, so not {more} more now"
            text += "; try again later"
            raise Exhausted("QUEUE_FULL", text, found_jobs=waiting, allowed_jobs=allowed)

    def _queue_time_us(self, order: Order) -> int:
        default_s = self.config.limits.queue_timeout_s
        wanted_s = default_s if order.queue_timeout_s is None else order.queue_timeout_s
        return int(wanted_s * 1e6)


def make_request(
    method: str, user: str, request_id: str, body: bytes, object_id: str
) -> Request | None:
    """What makes a create call repeatable; None if the client gave no request id."""
    if not request_id:
        return None
    digest = hashlib.sha256(body).hexdigest()
    return Request(user=user, method=method, request_id=request_id, body=digest, object=object_id)


def new_id(prefix: str) -> str:
    """A name that sorts by time: prefix, 9 digits of milliseconds, 8 random ones, base 32."""
    number = time.time_ns() // 1_000_000 << 40 | _RANDOM.getrandbits(40)
    digits = [_ID_ALPHABET[number >> shift & 31] for shift in range(80, -1, -5)]
    return f"{prefix}-{''.join(digits)}"


async def _to_its_end(step: Coroutine[Any, Any, T]) -> T:
    """Finish a step though its caller may leave: gRPC cancels the call of a client that is gone,
    and what is durable by then must be in memory too."""
    return await asyncio.shield(asyncio.ensure_future(step))


def _already_final(status: JobStatus, state: JobState) -> JobStatus:
    if state is JobState.CANCELLED:
        return status
    text = f"Job {status.spec.id} has ended as {state.value}; there is nothing to cancel"
    raise WrongState("JOB_ALREADY_FINAL", text, job=status.spec.id, state=state.value)


def _attempt_us(order: Order, default_us: int) -> int:
    return default_us if order.run_timeout_s is None else int(order.run_timeout_s * 1e6)
