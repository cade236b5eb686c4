"""The dispatcher: the queue, the boards, and the moments at which one meets the other."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator

from speckfarm_server import schedule
from speckfarm_server.blobs import Blobs
from speckfarm_server.boards.host import BoardHost
from speckfarm_server.boards.state import RuntimeState
from speckfarm_server.boards.uevents import UsbEvent, UsbWatch, open_socket
from speckfarm_server.config import FarmConfig
from speckfarm_server.errors import NotFound
from speckfarm_server.job import BoardKind, JobEvent, JobState, JobStatus
from speckfarm_server.ledger import Ledger
from speckfarm_server.library import Library
from speckfarm_server.live import LiveJob, now_us
from speckfarm_server.runner import Runner
from speckfarm_server.store import queries
from speckfarm_server.store.steps import event_row
from speckfarm_server.store.store import Store
from speckfarm_server.store.writer import Row
from speckfarm_server.waiting_line import WaitingLine

logger = logging.getLogger(__name__)

RECENT_JOBS = 512  # finished jobs that stay in memory for whoever watches them
FORGOTTEN_AT_ONCE = 4  # above one, so that the number falls; bounded, as this runs at every end


class Dispatcher:
    """Moves jobs from the queue to boards; first come, first served."""

    def __init__(self, config: FarmConfig, *, store: Store, blobs: Blobs, library: Library) -> None:
        self._ledger = Ledger(store)
        self.hosts = [
            BoardHost(board, config, self._board_changed, self._ledger.note)
            for board in config.boards
        ]
        self._store = store
        self._runners = {
            host.id: Runner(
                host,
                store=store,
                blobs=blobs,
                library=library,
                limits=config.limits,
                released=self._released,
                again=self.enqueue,
            )
            for host in self.hosts
        }
        self._line = WaitingLine()
        self._jobs: OrderedDict[str, LiveJob] = OrderedDict()  # unfinished and recent
        self._watchers: set[asyncio.Queue[BoardHost]] = set()
        self._usb: UsbWatch | None = None
        self._is_stopping = False

    async def start(self) -> None:
        """Take up the jobs that a former server left, then bring the boards up."""
        disabled = await self._ledger.disabled()
        accepted = await self._ledger.accepted()
        events = await self._store.read(queries.unfinished_events)
        for status in await self._store.read(queries.unfinished_jobs):
            await self._rescue(status, events[status.spec.id])
        self._watch_usb()
        for host in self.hosts:
            host.enabled = host.id not in disabled
            host.start(accepted.get(host.id))

    async def stop(self) -> None:
        """Stop the boards; unfinished jobs stay as stored and go on with the next server."""
        self._is_stopping = True
        if self._usb is not None:
            self._usb.close()
        for runner in self._runners.values():
            await runner.stop()
        await asyncio.gather(*(host.close() for host in self.hosts))

    def enqueue(self, live: LiveJob) -> None:
        """Let a job wait for a board until its deadline, unless it was cancelled meanwhile."""
        if live.state is not JobState.QUEUED:
            return
        self._jobs[live.spec.id] = live
        clock = None
        if live.attempt == 0:  # the queue clock is for jobs that never ran
            wait_s = max(0.0, (live.spec.queue_deadline_us - now_us()) / 1e6)
            clock = asyncio.get_running_loop().call_later(wait_s, self._expire, live)
        self._line.add(live, clock)
        self.dispatch()
        self._forget_old()

    def withdraw(self, live: LiveJob) -> None:
        """Take a job out of the queue."""
        self._line.remove(live.spec.id)

    def cancel_on_board(self, live: LiveJob) -> None:
        """Ask the board that runs a job to end it, unless it has ended and only is not stored."""
        runner = self._runners[live.board]
        if runner.live is live:
            runner.cancel()

    def job(self, job_id: str) -> LiveJob | None:
        """A job that is unfinished, or finished a moment ago."""
        return self._jobs.get(job_id)

    def dispatch(self) -> None:
        """Give every idle board the job that the schedule picks for it."""
        if self._is_stopping or not self._line:
            return
        idle = sum(map(self._is_idle, self.hosts))
        if not idle:
            return
        for decision in schedule.pick(self._line.first(idle), self._seats()):
            live = self._line.remove(decision.job)
            if live is not None:
                self._runners[decision.board].start(live, decision.why)

    def counts(self) -> tuple[int, int]:
        """Jobs waiting, and jobs on boards."""
        active = sum(runner.live is not None for runner in self._runners.values())
        return len(self._line), active

    def waiting_reason(self, job_id: str) -> str:
        """Why a queued job waits; empty if it does not."""
        found = self._line.find(job_id)
        return "" if found is None else schedule.explain(*found, self._seats())

    def host(self, board_id: str) -> BoardHost:
        """A board by id; NotFound BOARD_NOT_FOUND."""
        for host in self.hosts:
            if host.id == board_id:
                return host
        known = ", ".join(host.id for host in self.hosts)
        text = f"There is no board {board_id!r}; boards: {known}"
        raise NotFound("BOARD_NOT_FOUND", text, found=board_id, allowed=known)

    def job_on(self, board_id: str) -> LiveJob | None:
        """The job that a board runs now."""
        return self._runners[board_id].live

    async def watch_boards(self) -> AsyncIterator[BoardHost]:
        """All boards once, then each board whenever it changes."""
        changes: asyncio.Queue[BoardHost] = asyncio.Queue()
        self._watchers.add(changes)
        try:
            for host in self.hosts:
                yield host
            while True:
                yield await changes.get()
        finally:
            self._watchers.discard(changes)

    def usb_changed(self, event: UsbEvent) -> None:
        """A USB device came or went."""
        for host in self.hosts:
            host.usb_changed(event)

    def _watch_usb(self) -> None:
        if any(host.kind is BoardKind.REAL for host in self.hosts):
            listening = open_socket()
            self._usb = None if listening is None else UsbWatch(listening, self.usb_changed)

    async def _rescue(self, status: JobStatus, events: list[JobEvent]) -> None:
        """Take up one job of a former server. Losing a server costs the job no try."""
        live = LiveJob(status, events)
        lost = [] if live.state is JobState.QUEUED else [_lost_attempt(live)]
        if live.state is JobState.CANCELLING:
            live.move(JobState.CANCELLED, "cancelled; the server stopped before the board answered")
        elif live.state is not JobState.QUEUED:
            logger.info("job %s runs again: the server stopped while it ran", live.spec.id)
            live.move(JobState.QUEUED, "again: the server stopped while it ran")
        if live.has_unstored:
            await self._store.write(self._store.steps.move(live.take_step(usage=lost)))
            live.publish()
        if live.state is JobState.QUEUED:
            self.enqueue(live)

    def _expire(self, live: LiveJob) -> None:
        self.withdraw(live)
        waited_s = (now_us() - live.spec.created_us) / 1e6
        live.move(JobState.EXPIRED, f"no board took it within {waited_s:.0f} s")
        future = self._store.write(self._store.steps.move(live.take_step()))
        future.add_done_callback(lambda _: live.publish())

    def _released(self) -> None:
        """A board is free: its next job starts before the last one is stored."""
        self.dispatch()
        self._forget_old()

    def _board_changed(self, host: BoardHost) -> None:
        for watcher in self._watchers:
            watcher.put_nowait(host)
        self.dispatch()  # a board that went may leave a job to one that it avoided

    def _is_idle(self, host: BoardHost) -> bool:
        return host.runtime_state is RuntimeState.IDLE and self._runners[host.id].live is None

    def _seats(self) -> list[schedule.Seat]:
        return [
            schedule.Seat(
                board=host.id,
                chip=host.chip,
                board_kind=host.kind,
                is_idle=self._is_idle(host),
                in_service=host.in_service,
                configuration=host.loaded,
                idle_since=host.since,
            )
            for host in self.hosts
        ]

    def _forget_old(self) -> None:
        for _ in range(FORGOTTEN_AT_ONCE):
            if len(self._jobs) <= RECENT_JOBS + len(self._line) + len(self._runners):
                return
            oldest = next(iter(self._jobs.values()))
            if oldest.status.ended_us is None:
                self._jobs.move_to_end(oldest.spec.id)
            else:
                self._jobs.popitem(last=False)


def _lost_attempt(live: LiveJob) -> Row:
    """Usage of an attempt whose server was lost: up to the last that is known of it."""
    started_us = live.started_us or live.events[-1].time_us
    return event_row(
        live.spec,
        time_us=now_us(),
        event="attempt.ended",
        attempt=live.attempt,
        board=live.board,
        state=live.state.value,
        reason="SERVER_LOST",
        board_us=max(0, live.events[-1].time_us - started_us),
    )
