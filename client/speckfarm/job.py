"""Jobs: one model with settings on one or many recordings, queued on the farm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from speckfarm.errors import JobCancelled, JobEnded, JobExpired, JobFailed
from speckfarm.findings import Finding
from speckfarm.progress import JobObserver, bar
from speckfarm.reattach import reattached
from speckfarm.result import Result
from speckfarm.settings import settings_dict
from speckfarm.v1 import jobs_pb2
from speckfarm.words import (
    FINAL_STATES,
    error_class_word,
    iso,
    kind_word,
    state_word,
    to_datetime,
)

if TYPE_CHECKING:
    from speckfarm.connection import Connection


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """Something that happened to a job."""

    sequence: int  # progress messages repeat the number of the latest event
    time: datetime | None
    state: str
    message: str  # board, what is being waited for
    recordings_done: int

    def to_dict(self) -> dict[str, object]:
        """For JSON lines."""
        return {
            "sequence": self.sequence,
            "time": iso(self.time),
            "state": self.state,
            "message": self.message,
            "recordings_done": self.recordings_done,
        }


class Job:
    """A job on the farm. It goes on whether or not anybody waits for it.

    >>> job = farm.run("model.nir", "digits.npz", decimator={0: 4})
    >>> [event.state for event in job.watch()][-1]
    'SUCCEEDED'
    >>> result = job.wait(timeout=60)
    """

    def __init__(
        self,
        connection: Connection,
        message: jobs_pb2.Job,
        *,
        findings: tuple[Finding, ...] = (),
    ) -> None:
        self._connection = connection
        self._message = message
        self._result: Result | None = None
        self.findings = findings  # warnings of the check, known to whoever created the job

    @property
    def id(self) -> str:
        """The job's name on the farm."""
        return self._message.id

    @property
    def state(self) -> str:
        """Where the job is now, e.g. QUEUED; asks the farm until the state is final."""
        return self.refresh().last_state

    @property
    def last_state(self) -> str:
        """The state this object saw last, without asking."""
        return state_word(self._message.state)

    @property
    def recordings_total(self) -> int:
        """Number of recordings in its recording files."""
        return self._message.recordings_total

    def refresh(self) -> Job:
        """Ask the farm how the job is, unless its state is final; returns itself."""
        if self.last_state not in FINAL_STATES:
            request = jobs_pb2.GetJobRequest(job=self.id)
            self._message = self._connection.call(self._connection.jobs.GetJob, request).job
        return self

    def watch(self, timeout: float | None = None) -> Iterator[JobEvent]:
        """What happened to the job and what happens, until its final state.

        A broken connection is made again and nothing is shown twice. `timeout` is in seconds.
        """
        last_seen: JobEvent | None = None
        for message in self._follow(timeout):
            event = _read_event(message, last_seen)
            # A stream that was taken up again repeats where it stands.
            if last_seen is None or _place(event) != _place(last_seen):
                yield event
            last_seen = event

    def wait(self, timeout: float | None = None, *, observer: JobObserver | None = None) -> Result:
        """Wait for the result; shows a bar on a terminal or in a notebook.

        `timeout` is in seconds. Raises JobFailed, JobCancelled, JobExpired, or WaitTimeout, which
        leaves the job alone. `observer` is shown the events instead of the bar.
        """
        with observer or bar() as display:
            display.started(self)
            for event in self.watch(timeout):
                display.happened(event)
        return self.result()

    def result(self) -> Result:
        """What the job measured, without waiting.

        Raises JobFailed, JobCancelled or JobExpired if it ended without, WrongState
        RESULT_NOT_READY if it has not ended.
        """
        if self._result is None:
            if self.state in FINAL_STATES and self.last_state != "SUCCEEDED":
                raise ended_error(self._message)
            request = jobs_pb2.GetResultRequest(job=self.id)
            answer = self._connection.call(self._connection.jobs.GetResult, request)
            self._result = Result(self._connection, answer.result)
        return self._result

    def cancel(self) -> Job:
        """Ask for the end of the job; an active one stops within a second. Returns itself."""
        request = jobs_pb2.CancelJobRequest(job=self.id)
        self._message = self._connection.call(self._connection.jobs.CancelJob, request).job
        return self

    def to_dict(self) -> dict[str, object]:
        """For JSON: the job as last seen; null when there is no value."""
        return job_dict(self._message)

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.last_state}>"

    def _follow(self, timeout_s: float | None) -> Iterator[jobs_pb2.WatchJobResponse]:
        after, jobs, is_first = 0, self._connection.jobs, True

        def attach(left_s: float | None) -> Iterator[jobs_pb2.WatchJobResponse]:
            nonlocal after, is_first
            after, is_first = after if is_first else self._resume_after(after), False
            request = jobs_pb2.WatchJobRequest(
                job=self.id, after_sequence=after, with_result=self._result is None
            )
            return self._connection.stream(jobs.WatchJob, request, timeout_s=left_s)

        stream = reattached(attach, _is_final, what=f"job {self.id}", timeout_s=timeout_s)
        for message in stream:
            after = max(after, message.sequence)
            if message.HasField("job"):
                self._message = message.job
            if message.HasField("result"):
                self._result = Result(self._connection, message.result)
            yield message

    def _resume_after(self, last_seen: int) -> int:
        """A server that crashed may have forgotten events it had shown: then replay its latest."""
        latest = self.refresh()._message
        forgotten = latest.sequence < last_seen or self.last_state in FINAL_STATES
        return max(0, latest.sequence - 1) if forgotten else last_seen


def job_dict(job: jobs_pb2.Job) -> dict[str, object]:
    """A job for JSON; null when there is no value."""
    return {
        "job": job.id,
        "state": state_word(job.state),
        "user": job.user,
        "chip": job.chip,
        "board_kind": kind_word(job.board_kind),
        "board": job.board or None,
        "model": job.model,
        "recordings": list(job.recordings),
        "settings": settings_dict(job.settings),
        "configuration": job.configuration or None,
        "attempt": job.attempt,
        "created": iso(to_datetime(job.create_time)),
        "started": iso(to_datetime(job.start_time)),
        "ended": iso(to_datetime(job.end_time)),
        "recordings_done": job.recordings_done,
        "recordings_total": job.recordings_total,
        "benchmark": job.benchmark or None,
        "waiting_reason": job.waiting_reason or None,
        "error": error_dict(job.error) if job.HasField("error") else None,
    }


def ended_error(job: jobs_pb2.Job) -> JobEnded:
    """The error of a job that ended without a result."""
    metadata = {**job.error.metadata, "job": job.id}
    error: JobEnded
    if job.state == jobs_pb2.JOB_STATE_CANCELLED:
        error = JobCancelled("JOB_CANCELLED", f"Job {job.id} was cancelled", metadata=metadata)
    elif job.state == jobs_pb2.JOB_STATE_EXPIRED:
        text = f"Job {job.id} was not run within its queue time"
        error = JobExpired("JOB_EXPIRED", text, metadata=metadata)
    else:
        text = f"Job {job.id} failed: {job.error.message}"
        failed = JobFailed(job.error.reason or "JOB_FAILED", text, metadata=metadata)
        failed.error_class = error_class_word(job.error.error_class)
        error = failed
    error.job_id = job.id
    return error


def error_dict(error: jobs_pb2.JobError) -> dict[str, object]:
    """A job's error for JSON."""
    return {
        "reason": error.reason,
        "error_class": error_class_word(error.error_class),
        "message": error.message,
        "metadata": dict(error.metadata),
    }


def _is_final(message: jobs_pb2.WatchJobResponse) -> bool:
    return state_word(message.state) in FINAL_STATES


def _place(event: JobEvent) -> tuple[int, str, int]:
    return event.sequence, event.message, event.recordings_done


def _read_event(message: jobs_pb2.WatchJobResponse, last_seen: JobEvent | None) -> JobEvent:
    time = to_datetime(message.time)
    is_progress = last_seen is not None and message.sequence == last_seen.sequence
    if is_progress and last_seen and message.recordings_done > last_seen.recordings_done:
        # It may carry the time of the event whose number it repeats; it happens now.
        time = max(filter(None, (time, last_seen.time, datetime.now(timezone.utc))))
    return JobEvent(
        sequence=message.sequence,
        time=time,
        state=state_word(message.state),
        message=message.message,
        recordings_done=message.recordings_done,
    )
