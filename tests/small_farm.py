# ruff: noqa: N802 (rpc names are CamelCase)
"""A real gRPC server with scripted answers: the client's protocol paths, without a farm."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from speckfarm.v1 import (
    benchmarks_pb2,
    benchmarks_pb2_grpc,
    blobs_pb2,
    blobs_pb2_grpc,
    boards_pb2,
    boards_pb2_grpc,
    findings_pb2,
    info_pb2,
    info_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    latency_pb2,
    models_pb2,
    models_pb2_grpc,
    recordings_pb2,
    recordings_pb2_grpc,
)

JOB = jobs_pb2.Job(
    id="j-1",
    user="ada",
    state=jobs_pb2.JOB_STATE_QUEUED,
    chip="speck2f",
    model="a" * 64,
    recordings_total=2,
)
MEASURED = latency_pb2.Latency(n=3, method=latency_pb2.LATENCY_METHOD_EXACT, p99_us=7.125)


class SmallFarm(
    benchmarks_pb2_grpc.BenchmarkServiceServicer,
    blobs_pb2_grpc.BlobServiceServicer,
    boards_pb2_grpc.BoardServiceServicer,
    info_pb2_grpc.InfoServiceServicer,
    jobs_pb2_grpc.JobServiceServicer,
    models_pb2_grpc.ModelServiceServicer,
    recordings_pb2_grpc.RecordingServiceServicer,
):
    """Holds what tests put in and remembers what it was asked."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.partial: dict[str, bytes] = {}
        self.break_upload_after: list[int] = []  # bytes; one break for each
        self.upload_offsets: list[int] = []
        self.watched_after: list[int] = []
        self.created: list[Any] = []
        self.tokens: list[str] = []
        self.refusal: status_pb2.Status | None = None  # of CreateJob and CheckModel
        self.refuse_once = False
        # What each WatchJob sends; all but the last break off. None: silence until released.
        self.streams: list[list[jobs_pb2.WatchJobResponse | None]] = []
        self.released = threading.Event()
        self.job = JOB
        self.cancelled: list[str] = []
        self.address = ""

    def FindMissing(self, request: Any, context: Any) -> Any:
        missing = [
            blobs_pb2.MissingBlob(digest=digest, committed_size=len(self.partial.get(digest, b"")))
            for digest in request.digests
            if digest not in self.blobs
        ]
        return blobs_pb2.FindMissingResponse(missing=missing)

    def Upload(self, requests: Iterator[Any], context: Any) -> Any:
        header = next(requests).header
        self.upload_offsets.append(header.offset)
        content = self.partial.get(header.digest, b"")[: header.offset]
        limit = self.break_upload_after.pop(0) if self.break_upload_after else None
        if limit == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the cable was pulled")
        for request in requests:
            content += request.chunk
            if limit is not None and len(content) >= limit:
                self.partial[header.digest] = content
                context.abort(grpc.StatusCode.UNAVAILABLE, "the cable was pulled")
        assert hashlib.sha256(content).hexdigest() == header.digest
        self.blobs[header.digest] = content
        return blobs_pb2.UploadResponse(committed_size=len(content))

    def Download(self, request: Any, context: Any) -> Any:
        content = self.blobs[request.digest][request.offset :]
        for start in range(0, len(content), 5):
            if start == 10:  # breaks once in every 10 bytes
                context.abort(grpc.StatusCode.UNAVAILABLE, "the cable was pulled")
            yield blobs_pb2.DownloadResponse(chunk=content[start : start + 5])

    def CreateModel(self, request: Any, context: Any) -> Any:
        self.created.append(request)
        model = models_pb2.Model(digest=request.digest, name=request.name)
        return models_pb2.CreateModelResponse(model=model)

    def GetModel(self, request: Any, context: Any) -> Any:
        abort(context, code_pb2.NOT_FOUND, "MODEL_NOT_FOUND", "no such model")

    def CheckModel(self, request: Any, context: Any) -> Any:
        self._refuse(context)
        finding = findings_pb2.Finding(
            reason="KERNEL_MEMORY_EXCEEDED",
            severity=findings_pb2.SEVERITY_ERROR,
            layer=0,
            message="too large",
            metadata={"found": "9"},
        )
        layer = models_pb2.LayerReport(
            name="conv0", kernel_entries=128, neuron_entries=256, synops_per_event=9.0
        )
        return models_pb2.CheckModelResponse(
            model=request.digest, chip="speck2f", findings=[finding], layers=[layer]
        )

    def CreateRecording(self, request: Any, context: Any) -> Any:
        self.created.append(request)
        recording = recordings_pb2.Recording(digest=request.digest, name=request.name)
        return recordings_pb2.CreateRecordingResponse(recording=recording)

    def CreateJob(self, request: Any, context: Any) -> Any:
        self._refuse(context)
        self.created.append(request)
        return jobs_pb2.CreateJobResponse(job=self.job)

    def GetJob(self, request: Any, context: Any) -> Any:
        return jobs_pb2.GetJobResponse(job=self.job)

    def ListJobs(self, request: Any, context: Any) -> Any:
        first = int(request.page_token or 0)
        last = min(first + min(request.page_size, 2), 5)
        listed = [jobs_pb2.Job(id=f"j-{n}") for n in range(first, last)]
        token = "" if last == 5 else str(last)
        return jobs_pb2.ListJobsResponse(jobs=listed, next_page_token=token)

    def CancelJob(self, request: Any, context: Any) -> Any:
        self.cancelled.append(request.job)
        self.job = state_of("CANCELLED")
        return jobs_pb2.CancelJobResponse(job=self.job)

    def WatchJob(self, request: Any, context: Any) -> Any:
        self.watched_after.append(request.after_sequence)
        for message in self.streams.pop(0):
            if message is None:
                self.released.wait()
                return
            yield message
        if self.streams:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the server restarts")

    def GetResult(self, request: Any, context: Any) -> Any:
        return jobs_pb2.GetResultResponse(result=result_message())

    def CreateBenchmark(self, request: Any, context: Any) -> Any:
        self.created.append(request)
        benchmark = benchmarks_pb2.Benchmark(id="b-1", axes=request.axes, points_total=2)
        return benchmarks_pb2.CreateBenchmarkResponse(benchmark=benchmark)

    def WatchBenchmark(self, request: Any, context: Any) -> Any:
        axes = [benchmarks_pb2.SweepAxis(key="decimator.0", values=["off", "2"])]
        done = benchmarks_pb2.Benchmark(id="b-1", axes=axes, points_total=2, points_done=2)
        for values, accuracy in [("off", 1.0), ("2", 0.5)]:
            done.points.add(
                model="a" * 64,
                values=[values],
                job="j-1",
                state=jobs_pb2.JOB_STATE_SUCCEEDED,
                accuracy=accuracy,
                latency=MEASURED,
            )
        yield benchmarks_pb2.WatchBenchmarkResponse(benchmark=done)

    def GetServerInfo(self, request: Any, context: Any) -> Any:
        token = dict(context.invocation_metadata()).get("authorization", "")
        self.tokens.append(token)
        if token != "Bearer secret":
            abort(context, code_pb2.UNAUTHENTICATED, "TOKEN_UNKNOWN", "who are you?")
        return info_pb2.GetServerInfoResponse(version="0.1.0", user="ada")

    def _refuse(self, context: Any) -> None:
        if self.refusal is not None:
            refusal = rpc_status.to_status(self.refusal)
            self.refusal = None if self.refuse_once else self.refusal
            context.abort_with_status(refusal)


@contextmanager
def serving(
    farm: SmallFarm, credentials: Any = None, address: str = "127.0.0.1:0"
) -> Iterator[str]:
    """Serve on a free port; yields the address."""
    server = grpc.server(ThreadPoolExecutor(8))
    benchmarks_pb2_grpc.add_BenchmarkServiceServicer_to_server(farm, server)
    blobs_pb2_grpc.add_BlobServiceServicer_to_server(farm, server)
    boards_pb2_grpc.add_BoardServiceServicer_to_server(farm, server)
    info_pb2_grpc.add_InfoServiceServicer_to_server(farm, server)
    jobs_pb2_grpc.add_JobServiceServicer_to_server(farm, server)
    models_pb2_grpc.add_ModelServiceServicer_to_server(farm, server)
    recordings_pb2_grpc.add_RecordingServiceServicer_to_server(farm, server)
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    server.start()
    farm.address = f"127.0.0.1:{port}"
    try:
        yield farm.address
    finally:
        farm.released.set()
        server.stop(None).wait()


def abort(context: Any, code: int, reason: str, message: str) -> None:
    """Refuse a call as the farm does."""
    context.abort_with_status(rpc_status.to_status(status(code, reason, message)))


def status(code: int, reason: str, message: str, *details: Any, **metadata: str) -> Any:
    """A google.rpc.Status with an ErrorInfo and further details."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="speckfarm", metadata=metadata)
    made = status_pb2.Status(code=code, message=message)
    for detail in (info, *details):
        packed = AnyMessage()
        packed.Pack(detail)
        made.details.append(packed)
    return made


def state_of(word: str, **fields: Any) -> jobs_pb2.Job:
    """The job of all tests, in this state."""
    job = jobs_pb2.Job()
    job.CopyFrom(JOB)
    job.MergeFrom(jobs_pb2.Job(state=jobs_pb2.JobState.Value(f"JOB_STATE_{word}"), **fields))
    return job


def event(sequence: int, word: str, *, done: int = 0, **fields: Any) -> jobs_pb2.WatchJobResponse:
    """Something that happened to the job of all tests."""
    return jobs_pb2.WatchJobResponse(
        sequence=sequence,
        state=jobs_pb2.JobState.Value(f"JOB_STATE_{word}"),
        recordings_done=done,
        **fields,
    )


def result_message(**fields: Any) -> jobs_pb2.Result:
    """A result with two recordings, one of them silent."""
    loud = jobs_pb2.RecordingResult(
        recording="b" * 64,
        name="digit-3",
        label=3,
        prediction=3,
        counts=[0, 0, 0, 2],
        input_events=10,
        output_events=2,
        duration_us=100,
        decision_us=12.5,
        latency=MEASURED,
    )
    silent = jobs_pb2.RecordingResult(recording="b" * 64, name="digit-4", label=4, prediction=-1)
    defaults: dict[str, Any] = {
        "job": state_of("SUCCEEDED"),
        "board": "twin-0",
        "board_kind": boards_pb2.BOARD_KIND_SIMULATED,
        "recordings": [loud, silent],
        "accuracy": 0.5,
        "latency": MEASURED,
    }
    return jobs_pb2.Result(**(defaults | fields))
