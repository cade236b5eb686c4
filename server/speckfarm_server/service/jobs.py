"""JobService: queue, follow, cancel, fetch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from speckfarm.v1 import jobs_pb2 as pb
from speckfarm.v1 import jobs_pb2_grpc as pb_grpc
from speckfarm_server.convert import (
    event_message,
    finding_message,
    job_message,
    kind_of,
    settings_of,
    state_of,
)
from speckfarm_server.convert_result import result_message
from speckfarm_server.errors import BadInput
from speckfarm_server.farm import Farm, Order
from speckfarm_server.job import FINAL, JobState, JobStatus
from speckfarm_server.live import LiveJob, now_us
from speckfarm_server.service.authentication import calling_user
from speckfarm_server.service.pages import next_token, page_of
from speckfarm_server.service.refusals import logged_refusals
from speckfarm_server.service.status import translated
from speckfarm_server.store import queries

Context = grpc.aio.ServicerContext[Any, Any]
MAX_REQUEST_ID_CHARS = 64
MAX_TIMEOUT_S = 10 * 365 * 24 * 3600


@translated
class JobService(pb_grpc.JobServiceServicer):
    """Jobs."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    async def CreateJob(
        self, request: pb.CreateJobRequest, context: Context
    ) -> pb.CreateJobResponse:
        """Check and queue a job."""
        async with logged_refusals(self._farm, request.model, request.board_kind):
            return await self._create(request)

    async def _create(self, request: pb.CreateJobRequest) -> pb.CreateJobResponse:
        request_id = checked_request_id(request.request_id)
        order = Order(
            user=calling_user(),
            model=request.model,
            recordings=tuple(request.recordings),
            settings=settings_of(request.settings),
            chip=request.chip,
            board_kind=kind_of(request.board_kind),
            board_pin=request.board,
            queue_timeout_s=_seconds(request, "queue_timeout"),
            run_timeout_s=_seconds(request, "run_timeout"),
            keep_lags=request.keep_lags,
        )
        body = request.SerializeToString(deterministic=True)
        status, findings = await self._farm.submit(order, request_id=request_id, body=body)
        return pb.CreateJobResponse(
            job=self._message(status), findings=[finding_message(f) for f in findings]
        )

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        """Return one job."""
        return pb.GetJobResponse(job=self._message(await self._farm.status(request.job)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """List jobs, newest first."""
        page = page_of(request.page_size, request.page_token)
        rows = await self._farm.store.read(
            queries.list_jobs,
            page,
            states=[state_of(state) for state in request.states],
            user=request.user,
            benchmark=request.benchmark,
        )
        token = ""
        if rows:
            last = rows[-1].spec
            token = next_token(len(rows), page.size, last.created_us, last.id)
        return pb.ListJobsResponse(jobs=[self._message(row) for row in rows], next_page_token=token)

    async def CancelJob(
        self, request: pb.CancelJobRequest, context: Context
    ) -> pb.CancelJobResponse:
        """End a job."""
        status = await self._farm.cancel(request.job, calling_user())
        return pb.CancelJobResponse(job=self._message(status))

    async def WatchJob(
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        """Replay what happened after a sequence number, then follow to the end."""
        live = self._farm.dispatcher.job(request.job)
        events = self._stored(request) if live is None else self._followed(live, request)
        async for event in events:
            yield event

    async def GetResult(
        self, request: pb.GetResultRequest, context: Context
    ) -> pb.GetResultResponse:
        """Return what a succeeded job measured."""
        result = await self._farm.result(request.job)
        status = await self._farm.status(request.job)
        return pb.GetResultResponse(result=result_message(result, self._message(status)))

    async def _stored(self, request: pb.WatchJobRequest) -> AsyncIterator[pb.WatchJobResponse]:
        """The events of a job that ended a while ago."""
        status = await self._farm.status(request.job)
        after = request.after_sequence
        events = await self._farm.store.read(queries.job_events, request.job, after)
        for number, event in enumerate(events):
            is_last = number == len(events) - 1
            message = event_message(event, status.recordings_done if is_last else 0)
            yield await self._dressed(message, status, request, first=number == 0, last=is_last)

    async def _followed(
        self, live: LiveJob, request: pb.WatchJobRequest
    ) -> AsyncIterator[pb.WatchJobResponse]:
        """The events of a job in memory, up to its final one."""
        sent, done, is_first = request.after_sequence, -1, True
        while True:
            status = live.status
            for event in list(live.events):
                if event.sequence <= sent:
                    continue
                sent = event.sequence
                done = status.recordings_done if event.sequence == status.sequence else 0
                message = event_message(event, done)
                last = event.state in FINAL
                yield await self._dressed(message, status, request, first=is_first, last=last)
                is_first = False
            if status.state in FINAL and live.status is status:
                return
            if status.recordings_done != done and live.events:
                done = status.recordings_done
                yield event_message(replace(live.events[-1], time_us=now_us()), done)
            if live.status is status:
                await live.changed()

    async def _dressed(
        self,
        message: pb.WatchJobResponse,
        status: JobStatus,
        request: pb.WatchJobRequest,
        *,
        first: bool,
        last: bool,
    ) -> pb.WatchJobResponse:
        """Add the job to the first and the last message, and the result to the last."""
        if first or last:
            message.job.CopyFrom(self._message(status))
        if last and request.with_result and status.state is JobState.SUCCEEDED:
            result = await self._farm.result(request.job)
            message.result.CopyFrom(result_message(result, message.job))
        return message

    def _message(self, status: JobStatus) -> pb.Job:
        return job_message(status, self._farm.dispatcher.waiting_reason(status.spec.id))


def checked_request_id(request_id: str) -> str:
    """A request id; BadInput REQUEST_ID_INVALID if it is too long."""
    if len(request_id) <= MAX_REQUEST_ID_CHARS:
        return request_id
    text = f"request_id has {len(request_id)} characters; allowed are {MAX_REQUEST_ID_CHARS}"
    raise BadInput("REQUEST_ID_INVALID", text, found=len(request_id))


def _seconds(request: pb.CreateJobRequest, name: str) -> float | None:
    if not request.HasField(name):  # type: ignore[arg-type]
        return None
    duration: Duration = getattr(request, name)
    seconds = duration.ToMicroseconds() / 1e6
    if 0 < seconds <= MAX_TIMEOUT_S:
        return seconds
    text = f"{name} is {seconds:g} s; it must be above 0 and at most {MAX_TIMEOUT_S} s"
    raise BadInput("TIMEOUT_INVALID", text, fields=[(name, text)], found=seconds)
