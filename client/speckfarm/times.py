"""Points in time as people write them: 7d, 24h, 2026-03-01."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp

from speckfarm.errors import BadRequest

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_since(since: str | datetime | timedelta, *, now: datetime) -> datetime:
    """A point in time: "7d" or a timedelta before now, an ISO 8601 date or time, a datetime.

    Without a time zone it is local time. Raises BadRequest BAD_TIME.
    """
    if isinstance(since, timedelta):
        return now - since
    if isinstance(since, datetime):
        return since.astimezone(timezone.utc)
    if ago := re.fullmatch(r"(\d+)([mhdw])", since):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        return datetime.fromisoformat(since).astimezone(timezone.utc)
    except ValueError:
        text = f"{since!r} is no time; wanted: 30m, 24h, 7d, 4w, 2026-03-01 or 2026-03-01T12:00"
        raise BadRequest("BAD_TIME", text, metadata={"found": since}) from None


def since_timestamp(since: str | datetime | timedelta | None) -> Timestamp | None:
    """The same for the wire; None stays None: from the beginning."""
    if since is None:
        return None
    moment = Timestamp()
    moment.FromDatetime(parse_since(since, now=datetime.now(timezone.utc)))
    return moment
