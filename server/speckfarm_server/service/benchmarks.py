"""BenchmarkService: grids of jobs that end in one table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc

from speckfarm.v1 import benchmarks_pb2 as pb
from speckfarm.v1 import benchmarks_pb2_grpc as pb_grpc
from speckfarm_server.benchmark import Axis, Grid, from_json, to_json, values_of
from speckfarm_server.convert import (
    error_message,
    kind_message,
    kind_of,
    settings_message,
    settings_of,
    state_message,
    time_message,
)
from speckfarm_server.convert_result import activity_message, latency_message
from speckfarm_server.farm import Farm, Order, make_request, new_id
from speckfarm_server.job import FINAL, JobSpec, JobStatus
from speckfarm_server.job_result import JobResult
from speckfarm_server.live import now_us
from speckfarm_server.service.authentication import calling_user
from speckfarm_server.service.jobs import checked_request_id
from speckfarm_server.service.pages import next_token, page_of
from speckfarm_server.service.refusals import logged_refusals
from speckfarm_server.service.status import translated
from speckfarm_server.store import queries
from speckfarm_server.store.rows import Benchmark

Context = grpc.aio.ServicerContext[Any, Any]


@translated
class BenchmarkService(pb_grpc.BenchmarkServiceServicer):
    """Benchmarks."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    async def CreateBenchmark(
        self, request: pb.CreateBenchmarkRequest, context: Context
    ) -> pb.CreateBenchmarkResponse:
        """Check every point and queue a job for each; all or none."""
        model = request.models[0] if len(request.models) == 1 else ""
        async with logged_refusals(self._farm, model, request.board_kind):
            return await self._create(request)

    async def _create(self, request: pb.CreateBenchmarkRequest) -> pb.CreateBenchmarkResponse:
        kind = kind_of(request.board_kind)
        grid = Grid(
            models=tuple(request.models),
            recordings=tuple(request.recordings),
            settings=settings_of(request.settings),
            axes=tuple(Axis(key=axis.key, values=tuple(axis.values)) for axis in request.axes),
            chip=request.chip or self._farm.default_chip,
            board_kind="" if kind is None else kind.value,
        )
        request_id = checked_request_id(request.request_id)
        benchmark = Benchmark(
            id=new_id("bench"), user=calling_user(), created_us=now_us(), body="", points=0
        )
        specs = await self._specs(grid, benchmark)
        grid = replace(grid, board_kind=specs[0].board_kind.value)  # the default, made explicit
        benchmark = replace(benchmark, body=to_json(grid), points=len(specs))
        body = request.SerializeToString(deterministic=True)
        known = await self._farm.accept(
            specs,
            request=make_request("CreateBenchmark", benchmark.user, request_id, body, benchmark.id),
            benchmark={name: getattr(benchmark, name) for name in benchmark.__dataclass_fields__},
        )
        return pb.CreateBenchmarkResponse(benchmark=await self._whole(known or benchmark.id))

    async def GetBenchmark(
        self, request: pb.GetBenchmarkRequest, context: Context
    ) -> pb.GetBenchmarkResponse:
        """Return one benchmark with its table as far as it is."""
        return pb.GetBenchmarkResponse(benchmark=await self._whole(request.benchmark))

    async def ListBenchmarks(
        self, request: pb.ListBenchmarksRequest, context: Context
    ) -> pb.ListBenchmarksResponse:
        """List benchmarks, newest first, without their points."""
        page = page_of(request.page_size, request.page_token)
        rows = await self._farm.store.read(queries.list_benchmarks, page)
        done = await self._farm.store.read(queries.benchmark_progress, [row.id for row in rows])
        token = next_token(len(rows), page.size, rows[-1].created_us, rows[-1].id) if rows else ""
        messages = [_message(row, done.get(row.id, 0)) for row in rows]
        return pb.ListBenchmarksResponse(benchmarks=messages, next_page_token=token)

    async def WatchBenchmark(
        self, request: pb.WatchBenchmarkRequest, context: Context
    ) -> AsyncIterator[pb.WatchBenchmarkResponse]:
        """Stream the counts whenever a job of the grid ends; the table at last."""
        row = await self._farm.store.read(queries.find_benchmark, request.benchmark)
        jobs = await self._farm.store.read(queries.benchmark_jobs, row.id)
        done, total = sum(job.state in FINAL for job in jobs), len(jobs)
        ends = [asyncio.ensure_future(self._end_of(job)) for job in jobs if job.state not in FINAL]
        try:
            yield pb.WatchBenchmarkResponse(benchmark=_message(row, done))
            for end in asyncio.as_completed(ends):
                await end
                done += 1
                if done < total:
                    yield pb.WatchBenchmarkResponse(benchmark=_message(row, done))
        finally:
            for task in ends:
                task.cancel()
        yield pb.WatchBenchmarkResponse(benchmark=await self._whole(row.id))

    async def _specs(self, grid: Grid, benchmark: Benchmark) -> list[JobSpec]:
        points = grid.points(max_points=self._farm.config.limits.max_benchmark_points)
        specs = []
        for number, point in enumerate(points):
            order = Order(
                user=benchmark.user,
                model=point.model,
                recordings=grid.recordings,
                settings=point.settings,
                chip=grid.chip,
                board_kind=kind_of(kind_message(grid.board_kind)),
                benchmark=benchmark.id,
                point=number,
            )
            specs.append(await self._farm.prepare(order))
        return specs

    async def _end_of(self, status: JobStatus) -> None:
        live = self._farm.dispatcher.job(status.spec.id)
        while live is not None and live.status.state not in FINAL:
            await live.changed()

    async def _whole(self, benchmark_id: str) -> pb.Benchmark:
        row = await self._farm.store.read(queries.find_benchmark, benchmark_id)
        jobs = await self._farm.store.read(queries.benchmark_jobs, benchmark_id)
        ids = [job.spec.id for job in jobs]
        results = await self._farm.store.read(queries.find_results, ids)
        grid = from_json(row.body)
        message = _message(row, sum(job.state in FINAL for job in jobs))
        message.points.extend(_point(job, results.get(job.spec.id), grid) for job in jobs)
        return message


def _message(row: Benchmark, done: int) -> pb.Benchmark:
    grid = from_json(row.body)
    return pb.Benchmark(
        id=row.id,
        user=row.user,
        create_time=time_message(row.created_us),
        models=grid.models,
        recordings=grid.recordings,
        settings=settings_message(grid.settings),
        axes=[pb.SweepAxis(key=axis.key, values=axis.values) for axis in grid.axes],
        chip=grid.chip,
        board_kind=kind_message(grid.board_kind),
        points_done=done,
        points_total=row.points,
    )


def _point(job: JobStatus, result: JobResult | None, grid: Grid) -> pb.BenchmarkPoint:
    message = pb.BenchmarkPoint(
        model=job.spec.model,
        values=values_of(grid, job.spec.point),
        job=job.spec.id,
        state=state_message(job.state),
        board=job.board,
        error=error_message(job.error),
    )
    if result is not None:
        message.output_spikes = result.exit_spikes
        message.layers.extend(activity_message(layer) for layer in result.layers)
        if result.accuracy is not None:
            message.accuracy = result.accuracy
        if result.latency is not None:
            message.latency.CopyFrom(latency_message(result.latency))
    return message
