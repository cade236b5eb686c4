"""Sums over the usage log and merged latency: the lab's view of its boards."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, case, func, select

from speckfarm_server.latency import Histogram, Latency, merge
from speckfarm_server.store import schema

MICROSECONDS = 1_000_000
_FAR_FUTURE_US = 2**62


@dataclass(frozen=True, kw_only=True)
class UsageRow:
    """Sums of one user, board, model or day, for one kind of board."""

    key: str
    board_kind: str
    jobs: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    refused: int
    attempts: int
    board_seconds: float
    name: str = ""  # of the model


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """Merged latency of one model, board or week, for one kind of board."""

    key: str
    board_kind: str
    latency: Latency
    jobs: int
    name: str = ""  # of the model


@dataclass(frozen=True, kw_only=True)
class Period:
    """From `since_us` on, before `until_us`."""

    since_us: int = 0
    until_us: int = _FAR_FUTURE_US


_COUNTED = {
    "jobs": "job.queued",
    "succeeded": "job.succeeded",
    "failed": "job.failed",
    "cancelled": "job.cancelled",
    "expired": "job.expired",
    "refused": "job.refused",
    "attempts": "attempt.ended",
}


def query_usage(connection: Connection, group_by: str, period: Period) -> list[UsageRow]:
    """Sum events by "user", "board", "model" or "day"; by key, then kind."""
    events = schema.EVENTS
    keys = {
        "user": events.c.user,
        "board": events.c.board,
        "model": events.c.model,
        "day": func.strftime("%Y-%m-%d", events.c.time_us / MICROSECONDS, "unixepoch"),
    }
    key = keys[group_by].label("key")
    sums = [
        func.sum(case((events.c.event == event, 1), else_=0)).label(name)
        for name, event in _COUNTED.items()
    ]
    board_us = func.sum(events.c.board_us).label("board_us")
    rows = connection.execute(
        select(key, events.c.board_kind, board_us, *sums)
        .where(
            events.c.time_us >= period.since_us,
            events.c.time_us < period.until_us,
            events.c.event.in_([*_COUNTED.values()]),
        )
        .group_by(key, events.c.board_kind)
        .order_by(key, events.c.board_kind)
    )
    names = _model_names(connection) if group_by == "model" else {}
    return [
        UsageRow(
            key=row.key,
            board_kind=row.board_kind,
            board_seconds=row.board_us / MICROSECONDS,
            name=names.get(row.key, ""),
            **{name: getattr(row, name) for name in _COUNTED},
        )
        for row in rows
    ]


def query_latency(connection: Connection, group_by: str, period: Period) -> list[LatencyRow]:
    """Merge the jobs' histograms by "model", "board" or "week"; never across kinds."""
    table = schema.LATENCIES
    rows = connection.execute(
        select(table).where(
            table.c.recording == -1,
            table.c.time_us >= period.since_us,
            table.c.time_us < period.until_us,
        )
    )
    groups: dict[tuple[str, str], list[tuple[Latency, Histogram]]] = defaultdict(list)
    for row in rows:
        key = _week(row.time_us) if group_by == "week" else getattr(row, group_by)
        groups[key, row.board_kind].append((_latency(row), Histogram.from_bytes(row.histogram)))
    names = _model_names(connection) if group_by == "model" else {}
    return [
        LatencyRow(
            key=key, board_kind=kind, latency=merge(items), jobs=len(items), name=names.get(key, "")
        )
        for (key, kind), items in sorted(groups.items())
    ]


def list_events(
    connection: Connection, *, after_id: int, limit: int, since_us: int
) -> list[dict[str, Any]]:
    """Rows of the usage log, oldest first."""
    events = schema.EVENTS
    rows = connection.execute(
        select(events)
        .where(events.c.id > after_id, events.c.time_us >= since_us)
        .order_by(events.c.id)
        .limit(limit)
    )
    return [dict(row._mapping) for row in rows]


def _week(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / MICROSECONDS, tz=timezone.utc).strftime("%G-W%V")


def _latency(row: Any) -> Latency:
    return Latency(
        n=row.n,
        uncaused=row.uncaused,
        method=row.method,
        error_us=row.error_us,
        first_output_us=None,
        p50_us=None,
        p90_us=None,
        p99_us=None,
        max_us=None,
        drain_us=row.drain_us,
        drift_us_per_s=None,
    )


def _model_names(connection: Connection) -> dict[str, str]:
    rows = connection.execute(select(schema.MODELS.c.digest, schema.MODELS.c.name))
    return {row.digest: row.name for row in rows}
