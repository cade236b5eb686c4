"""The runner: leads one job through one attempt on one board, and measures what came of it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from speckfarm_server.blobs import Blobs
from speckfarm_server.boards.child import fault_of
from speckfarm_server.boards.host import BoardHost
from speckfarm_server.boards.state import RuntimeState
from speckfarm_server.boards.wire import Message
from speckfarm_server.collect import attempt_row, collect, latency_rows, usage_row
from speckfarm_server.config import LimitsConfig
from speckfarm_server.errors import BoardFault, ErrorClass, FarmError
from speckfarm_server.job import ACTIVE, JobError, JobSpec, JobState
from speckfarm_server.job_result import JobResult, to_json
from speckfarm_server.live import LiveJob, now_us
from speckfarm_server.store.store import Store
from speckfarm_server.store.writer import Row

logger = logging.getLogger(__name__)

SMALL_BLOB_BYTES = 64 * 1024  # up to here a blob is committed with its result, above it is a file
TELL_S = 0.01  # a stage that is over sooner is not told: a stream message costs as much as a call
MANY_RECORDINGS = 500  # above it a result is put together in a thread, as it takes milliseconds
TICK_S = 0.05  # progress is stored after one to two ticks; of a shorter job it is with its end
STAGES = {
    "configuring": JobState.CONFIGURING,
    "running": JobState.RUNNING,
    "collecting": JobState.COLLECTING,
}
# How many attempts a kind of fault may spoil; the others end the job at once.
_TRIES = {ErrorClass.INFRASTRUCTURE: 3, ErrorClass.DEVICE_STALL: 2}
_BOARD_CLASSES = tuple(_TRIES)


class Library(Protocol):
    """Where a runner gets what a job needs."""

    async def recording_files(self, spec: JobSpec) -> list[tuple[str, str]]:
        """Digest and normalised file of each recording."""
        ...

    async def configuration_bytes(self, spec: JobSpec) -> bytes:
        """The job's configuration, serialised."""
        ...


class Runner:
    """Runs jobs on one board, one at a time."""

    def __init__(
        self,
        host: BoardHost,
        *,
        store: Store,
        blobs: Blobs,
        library: Library,
        limits: LimitsConfig,
        released: Callable[[], None],
        again: Callable[[LiveJob], None],
    ) -> None:
        self.host = host
        self.live: LiveJob | None = None
        self._store = store
        self._blobs = blobs
        self._library = library
        self._limits = limits
        self._released = released  # called as soon as the board is free
        self._again = again  # takes a job back into the queue
        self._news: Message | None = None  # the board's last progress, while it is not told
        self._news_us = 0
        self._teller: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._ticked: LiveJob | None = None  # the job that was here at the last tick
        self._grace: asyncio.TimerHandle | None = None
        self._deadline_s = 0.0  # of the attempt, on the loop's clock
        self._timed_out = False
        self._task: asyncio.Task[None] | None = None

    def start(self, live: LiveJob, why: str) -> None:
        """Lease the board to a job; returns at once."""
        self.live = live
        self._timed_out = False
        loop = asyncio.get_running_loop()
        self._deadline_s = loop.time() + live.spec.run_timeout_us / 1e6
        if self._tick is None:
            self._tick = loop.call_later(TICK_S, self._on_tick)
        live.lease(self.host.id, why)
        live.publish(recordings_done=0)
        self._task = asyncio.create_task(self._attempt(live))

    def cancel(self) -> None:
        """Ask the board to end its job; a board that does not is replaced after the grace time."""
        if self.host.runtime_state is not RuntimeState.BUSY:
            return  # the job is being prepared; `_run` looks before it goes on
        self.host.cancel()
        if self._grace is None:  # a user and the run clock may both ask
            loop = asyncio.get_running_loop()
            grace_s = self._limits.cancel_grace_s
            why = f"it did not end its job within {grace_s:g} s"
            self._grace = loop.call_later(grace_s, self.host.replace, why)

    async def stop(self) -> None:
        """End the attempt without a verdict: the server is stopping, the job stays as stored."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _attempt(self, live: LiveJob) -> None:
        """Steps 9 to 11: configure and run, measure, store result and usage in one transaction."""
        done, failure = await self._run(live)
        self._news = None
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self.live = None
        released_us = now_us()
        is_stuck = self.host.runtime_state is RuntimeState.BUSY  # it never said that it ended
        if failure is not None and failure.is_the_boards:
            self.host.replace(failure.message)
        elif is_stuck:
            self.host.replace("it did not say how its job ended")
        self._released()  # the board's next job starts before the end of this one is stored
        try:
            await self._conclude(live, done, failure, released_us)
        except Exception as error:  # e.g. no room for the spikes: the job must end all the same
            logger.exception("the end of job %s could not be stored", live.spec.id)
            if not live.is_final:
                await self._conclude(live, None, _internal(error), released_us)

    async def _conclude(
        self, live: LiveJob, done: Message | None, failure: BoardFault | None, released_us: int
    ) -> None:
        if live.state is JobState.CANCELLING:
            await self._store_end(live, JobState.CANCELLED, released_us)
        elif failure is not None:
            await self._fail(live, failure, released_us)
        elif done is not None:
            await self._succeed(live, done, released_us)

    async def _run(self, live: LiveJob) -> tuple[Message | None, BoardFault | None]:
        """What the board said last: `done`, or why not."""
        try:
            recordings = await self._library.recording_files(live.spec)
            configuration = await self._library.configuration_bytes(live.spec)
            is_wanted = live.state is not JobState.CANCELLING and not self._timed_out
            if is_wanted:  # else it ended before the board heard of it
                task = {
                    "configuration": live.spec.configuration,
                    "recordings": recordings,
                    "keep_lags": live.spec.keep_lags,
                }
                return await self._listen(live, task, configuration)
        except BoardFault as fault:
            if not self._timed_out:
                return None, fault
        except FarmError as refusal:  # e.g. CONFIGURATION_CHANGED
            job = ErrorClass.JOB
            return None, BoardFault(refusal.reason, refusal.message, job, **refusal.metadata)
        except Exception as error:  # the one catch-all for bugs of the farm: the job must end
            logger.exception("job %s failed inside the farm", live.spec.id)
            return None, _internal(error)
        return None, _late(live)

    async def _listen(
        self, live: LiveJob, task: dict[str, Any], configuration: bytes
    ) -> tuple[Message | None, BoardFault | None]:
        async for message in self.host.run(task, configuration):
            if message["op"] == "done":
                return message, None
            if message["op"] == "failed":
                return None, fault_of(message)
            if message["op"] == "progress":
                self._note(message)
        return None, _late(live)  # or cancelled, which the job's state tells

    def _note(self, message: Message) -> None:
        """Tell what the board does if it still does it in a moment."""
        self._news, self._news_us = message, now_us()
        if self._teller is None:
            self._teller = asyncio.get_running_loop().call_later(TELL_S, self._tell)

    def _tell(self) -> None:
        self._teller, message, self._news = None, self._news, None
        live = self.live
        if live is None or message is None:
            return
        state = STAGES[message["stage"]]
        if state is not live.state and live.state in ACTIVE:
            live.move(state, time_us=self._news_us)
        live.publish(recordings_done=message["done"])

    def _on_tick(self) -> None:
        """Store how a job moved on and end one that is late: one timer, not two for each job."""
        self._tick = None
        live, before = self.live, self._ticked
        self._ticked = live
        if live is None:
            return
        loop = asyncio.get_running_loop()
        self._tick = loop.call_later(TICK_S, self._on_tick)
        if live is before and live.has_unstored and not live.is_final:
            self._store.write(self._store.steps.move(live.take_step()))
        if loop.time() > self._deadline_s and not self._timed_out:
            self._timed_out = True
            self.cancel()

    async def _succeed(self, live: LiveJob, done: Message, released_us: int) -> None:
        spikes, lags = done.data[: done["spike_bytes"]], done.data[done["spike_bytes"] :]
        blobs: list[Row] = []
        digests = {
            "spikes": await self._keep(spikes, blobs),
            "lags": await self._keep(lags, blobs) if lags else "",
        }
        if len(done["recordings"]) > MANY_RECORDINGS:
            result = await asyncio.to_thread(collect, live, done, released_us, **digests)
        else:
            result = collect(live, done, released_us, **digests)
        if live.state is JobState.CANCELLING:  # meanwhile
            await self._store_end(live, JobState.CANCELLED, released_us)
            return
        live.move(JobState.SUCCEEDED, f"measured on {self.host.id}")
        if len(result.recordings) <= MANY_RECORDINGS:  # else whoever asks reads it from the store
            live.result = result
        await self._store_end(live, None, released_us, result=result, blobs=blobs)

    async def _fail(self, live: LiveJob, fault: BoardFault, released_us: int) -> None:
        """Put the job back if the board was at fault and tries are left, else end it."""
        error = JobError(
            reason=fault.reason,
            error_class=fault.error_class,
            message=fault.message,
            metadata=fault.metadata,
        )
        live.faults += fault.error_class in _BOARD_CLASSES
        tries = _TRIES.get(fault.error_class, 0)
        if live.faults < min(tries, self._limits.max_attempts):
            live.avoid |= {self.host.id} if fault.is_the_boards else set()
            logger.warning("job %s goes back into the queue: %s", live.spec.id, fault.message)
            live.move(JobState.QUEUED, f"again after {fault.reason} on {self.host.id}")
            await self._store_end(live, None, released_us, error=error)
            if live.state is JobState.QUEUED:  # nobody cancelled it meanwhile
                self._again(live)
            return
        logger.warning("job %s failed: %s [%s]", live.spec.id, fault.message, fault.reason)
        live.move(JobState.FAILED, fault.message, error=error)
        await self._store_end(live, None, released_us, error=error)

    async def _store_end(
        self,
        live: LiveJob,
        state: JobState | None,
        released_us: int,
        *,
        result: JobResult | None = None,
        blobs: list[Row] | None = None,
        error: JobError | None = None,
    ) -> None:
        """Commit the end of an attempt with its usage, then tell whoever watches."""
        if state is not None:
            live.move(state)
        usage = usage_row(live, self.host.id, released_us, error=error)
        attempt = attempt_row(live, self.host.id, released_us, error=error, result=result)
        step = live.take_step(usage=[usage], attempts=[attempt], blobs=blobs)
        if result is not None:
            step = replace(
                step,
                results=[{"job": live.spec.id, "body": to_json(result)}],
                latencies=latency_rows(live, result, released_us),
            )
        await self._store.write(self._store.steps.move(step))
        if live.state is step.state:  # else a cancel came between two attempts, and publishes
            live.publish(recordings_done=None if result is None else len(result.recordings))

    async def _keep(self, data: bytes, blobs: list[Row]) -> str:
        """Store bytes beside the result; returns their digest."""
        if len(data) > SMALL_BLOB_BYTES:
            return await asyncio.to_thread(self._blobs.put, data)
        digest = hashlib.sha256(data).hexdigest()
        blobs.append({"digest": digest, "data": data})
        return digest


def _late(live: LiveJob) -> BoardFault:
    limit_s = live.spec.run_timeout_us / 1e6
    text = f"The attempt was ended after its limit of {limit_s:g} s; give a longer run_timeout"
    return BoardFault("RUN_TIMEOUT", text, ErrorClass.LIMIT, limit_s=limit_s)


def _internal(error: Exception) -> BoardFault:
    text = f"The farm failed: {type(error).__name__}: {error}"
    return BoardFault("INTERNAL_ERROR", text, ErrorClass.INTERNAL)
