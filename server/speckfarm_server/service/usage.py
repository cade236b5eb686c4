"""UsageService: the lab's view."""

from __future__ import annotations

from typing import Any

import grpc

from speckfarm.v1 import usage_pb2 as pb
from speckfarm.v1 import usage_pb2_grpc as pb_grpc
from speckfarm_server.convert import kind_message, time_message, time_us_of
from speckfarm_server.convert_result import latency_message
from speckfarm_server.errors import BadInput
from speckfarm_server.farm import Farm
from speckfarm_server.service.pages import checked_key, size_of
from speckfarm_server.service.status import translated
from speckfarm_server.store import usage
from speckfarm_server.store.usage import Period

Context = grpc.aio.ServicerContext[Any, Any]
_COUNTS = (
    "jobs", "succeeded", "failed", "cancelled", "expired", "refused", "attempts", "board_seconds"
)  # fmt: skip
_EVENT_FIELDS = ("id", "event", "user", "job", "attempt", "board", "model", "reason")


@translated
class UsageService(pb_grpc.UsageServiceServicer):
    """Usage and lab-wide latency."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    async def QueryUsage(
        self, request: pb.QueryUsageRequest, context: Context
    ) -> pb.QueryUsageResponse:
        """Sum usage events."""
        group = _group(pb.UsageGroup, request.group_by, "user")
        rows = await self._farm.store.read(usage.query_usage, group, _period(request))
        return pb.QueryUsageResponse(
            rows=[
                pb.UsageRow(
                    key=row.key,
                    board_kind=kind_message(row.board_kind),
                    name=row.name,
                    **{name: getattr(row, name) for name in _COUNTS},
                )
                for row in rows
            ]
        )

    async def ListUsageEvents(
        self, request: pb.ListUsageEventsRequest, context: Context
    ) -> pb.ListUsageEventsResponse:
        """List usage events, oldest first."""
        size = size_of(request.page_size)
        rows = await self._farm.store.read(
            usage.list_events,
            after_id=checked_key(request.page_token or "0"),
            limit=size,
            since_us=time_us_of(request.since),
        )
        return pb.ListUsageEventsResponse(
            events=[_event(row) for row in rows],
            next_page_token=str(rows[-1]["id"]) if len(rows) == size else "",
        )

    async def QueryLatency(
        self, request: pb.QueryLatencyRequest, context: Context
    ) -> pb.QueryLatencyResponse:
        """Merge latency histograms."""
        group = _group(pb.LatencyGroup, request.group_by, "model")
        rows = await self._farm.store.read(usage.query_latency, group, _period(request))
        return pb.QueryLatencyResponse(
            rows=[
                pb.LatencyRow(
                    key=row.key,
                    board_kind=kind_message(row.board_kind),
                    latency=latency_message(row.latency),
                    jobs=row.jobs,
                    name=row.name,
                )
                for row in rows
            ]
        )


def _period(request: pb.QueryUsageRequest | pb.QueryLatencyRequest) -> Period:
    period = Period(since_us=time_us_of(request.since))
    if request.HasField("until"):
        return Period(since_us=period.since_us, until_us=time_us_of(request.until))
    return period


def _group(enum: Any, value: int, default: str) -> str:
    if value == 0:
        return default
    if value not in enum.values():
        text = f"group_by is {value}; known: {', '.join(enum.keys()[1:])}"
        raise BadInput("GROUP_UNKNOWN", text, found=value)
    return str(enum.Name(value)).rpartition("_")[2].lower()


def _event(row: dict[str, Any]) -> pb.UsageEvent:
    return pb.UsageEvent(
        time=time_message(row["time_us"]),
        board_kind=kind_message(row["board_kind"]),
        board_seconds=row["board_us"] / 1e6,
        **{name: row[name] for name in _EVENT_FIELDS},
    )
