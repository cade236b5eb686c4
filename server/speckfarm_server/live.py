"""A job in memory while it is queued or running: its moves, its watchers, what is yet to be stored.

A move is made in memory first and stored as a Step. What must be durable before anybody is told
(acceptance, the end) is published after its commit; progress is published at once and stored with
the next step, at the latest after a moment.
"""

from __future__ import annotations

import asyncio
import time

from speckfarm_server.job import FINAL, MAY_FOLLOW, JobError, JobEvent, JobSpec, JobState, JobStatus
from speckfarm_server.job_result import JobResult
from speckfarm_server.store.steps import Step, event_row
from speckfarm_server.store.writer import Row


def now_us() -> int:
    """Wall clock in microseconds since the epoch."""
    return time.time_ns() // 1000


class LiveJob:
    """One job that this server moves. Only farm.py and runner.py call its moving methods."""

    def __init__(self, status: JobStatus, events: list[JobEvent] | None = None) -> None:
        self.spec: JobSpec = status.spec
        self.state = status.state
        self.sequence = status.sequence
        self.attempt = status.attempt
        self.faults = status.faults
        self.board = status.board
        self.started_us = status.started_us
        self.ended_us = status.ended_us
        self.error = status.error
        self.result: JobResult | None = None
        self.avoid: frozenset[str] = frozenset()
        self.status = status  # what is published
        self.events: list[JobEvent] = list(events or [])  # published
        self._unpublished: list[JobEvent] = []
        self._unstored: list[Row] = []
        self._stored_state = status.state
        self._stored_attempt = status.attempt
        self._watchers: list[asyncio.Future[None]] = []

    @property
    def is_final(self) -> bool:
        """Whether the job has ended, published or not."""
        return self.state in FINAL

    def move(
        self,
        state: JobState,
        message: str = "",
        *,
        error: JobError | None = None,
        time_us: int | None = None,
    ) -> JobEvent:
        """Take the next step in memory; raises RuntimeError for one that the states forbid."""
        if self.state not in MAY_FOLLOW[state]:
            raise RuntimeError(f"{self.spec.id} cannot go from {self.state} to {state}")
        self.state = state
        self.sequence += 1
        self.error = error
        time_us = time_us or now_us()
        if state in FINAL:
            self.ended_us = time_us
        event = JobEvent(
            sequence=self.sequence,
            time_us=time_us,
            event="job.requeued" if state is JobState.QUEUED else f"job.{state.value.lower()}",
            state=state,
            attempt=self.attempt,
            board=self.board,
            message=message,
            reason="" if error is None else error.reason,
        )
        self._unpublished.append(event)
        self._unstored.append(_row(self.spec, event))
        return event

    def lease(self, board: str, why: str) -> None:
        """Begin a new attempt on a board."""
        self.attempt += 1
        self.board = board
        self.started_us = now_us()
        self.move(JobState.ASSIGNED, why)

    def publish(self, *, recordings_done: int | None = None) -> None:
        """Make everything up to now visible and wake the watchers."""
        self.events += self._unpublished
        self._unpublished.clear()
        done = self.status.recordings_done if recordings_done is None else recordings_done
        self.status = JobStatus(
            spec=self.spec,
            state=self.state,
            sequence=self.sequence,
            attempt=self.attempt,
            faults=self.faults,
            board=self.board,
            started_us=self.started_us,
            ended_us=self.ended_us,
            error=self.error,
            recordings_done=done,
        )
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():  # it may have been cancelled
                watcher.set_result(None)

    async def changed(self) -> None:
        """Return when something is published next."""
        future = asyncio.get_running_loop().create_future()
        self._watchers.append(future)
        await future

    @property
    def has_unstored(self) -> bool:
        """Whether a step is worth taking."""
        return bool(self._unstored)

    def take_step(
        self,
        *,
        attempts: list[Row] | None = None,
        results: list[Row] | None = None,
        latencies: list[Row] | None = None,
        blobs: list[Row] | None = None,
        usage: list[Row] | None = None,
    ) -> Step:
        """Everything since the last step, as one durable move from the last stored state."""
        step = Step(
            job=self.spec.id,
            old_state=self._stored_state,
            old_attempt=self._stored_attempt,
            state=self.state,
            attempt=self.attempt,
            sequence=self.sequence,
            board=self.board,
            faults=self.faults,
            started_us=self.started_us,
            ended_us=self.ended_us,
            error=self.error,
            events=[*self._unstored, *(usage or [])],
            attempts=attempts or [],
            results=results or [],
            latencies=latencies or [],
            blobs=blobs or [],
        )
        self._unstored = []
        self._stored_state = self.state
        self._stored_attempt = self.attempt
        return step


def first_event(spec: JobSpec) -> JobEvent:
    """The event that a job begins with."""
    return JobEvent(
        sequence=1,
        time_us=spec.created_us,
        event="job.queued",
        state=JobState.QUEUED,
        attempt=0,
        message=f"waiting for a {spec.board_kind.value} {spec.chip} board",
    )


def first_row(spec: JobSpec) -> Row:
    """That event as a row."""
    return _row(spec, first_event(spec))


def _row(spec: JobSpec, event: JobEvent) -> Row:
    return event_row(
        spec,
        time_us=event.time_us,
        event=event.event,
        sequence=event.sequence,
        state=event.state.value,
        attempt=event.attempt,
        board=event.board,
        reason=event.reason,
        message=event.message,
    )
