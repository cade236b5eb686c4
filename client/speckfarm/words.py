"""Protobuf enums as the words of the documentation, and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from speckfarm.errors import BadRequest
from speckfarm.v1 import boards_pb2, findings_pb2, jobs_pb2, latency_pb2, usage_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

KINDS = {"real": boards_pb2.BOARD_KIND_REAL, "simulated": boards_pb2.BOARD_KIND_SIMULATED}
FINAL_STATES = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


def state_word(state: jobs_pb2.JobState.ValueType) -> str:
    """Job state as QUEUED, RUNNING, ..."""
    return jobs_pb2.JobState.Name(state).removeprefix("JOB_STATE_")


def state_number(word: str) -> jobs_pb2.JobState.ValueType:
    """Job state from its word; BadRequest lists the known ones."""
    number = jobs_pb2.JobState.items()
    found = {name.removeprefix("JOB_STATE_"): value for name, value in number}
    found.pop("UNSPECIFIED")
    if word.upper() not in found:
        allowed = ", ".join(found)
        raise BadRequest("UNKNOWN_STATE", f"No job state is called {word!r}; known: {allowed}")
    return found[word.upper()]


def verdict_word(verdict: jobs_pb2.OverrunVerdict.ValueType) -> str:
    """Verdict on an overrun as EXCEEDED, HEALTHY or INCONCLUSIVE."""
    return jobs_pb2.OverrunVerdict.Name(verdict).removeprefix("OVERRUN_VERDICT_")


def kind_word(kind: boards_pb2.BoardKind.ValueType) -> str | None:
    """Kind of board as real or simulated; None if unspecified."""
    return _lower(boards_pb2.BoardKind.Name(kind), "BOARD_KIND_")


def kind_number(word: str | None) -> boards_pb2.BoardKind.ValueType:
    """Kind of board from its word; None leaves the choice to the farm."""
    if word is None:
        return boards_pb2.BOARD_KIND_UNSPECIFIED
    if word not in KINDS:
        text = f"No kind of board is called {word!r}; known: real, simulated"
        raise BadRequest("UNKNOWN_BOARD_KIND", text)
    return KINDS[word]


def usage_group(word: str) -> usage_pb2.UsageGroup.ValueType:
    """What usage is summed by: user, board, model or day."""
    return usage_pb2.UsageGroup.Value(_group("USAGE_GROUP_", word, usage_pb2.UsageGroup.keys()))


def latency_group(word: str) -> usage_pb2.LatencyGroup.ValueType:
    """What latency is merged by: model, board or week."""
    name = _group("LATENCY_GROUP_", word, usage_pb2.LatencyGroup.keys())
    return usage_pb2.LatencyGroup.Value(name)


def severity_word(severity: findings_pb2.Severity.ValueType) -> str:
    """Severity as error, warning or info."""
    return _lower(findings_pb2.Severity.Name(severity), "SEVERITY_") or "info"


def method_word(method: latency_pb2.LatencyMethod.ValueType) -> str | None:
    """Latency method as exact or estimated; None if nothing was measured."""
    return _lower(latency_pb2.LatencyMethod.Name(method), "LATENCY_METHOD_")


def error_class_word(error_class: jobs_pb2.ErrorClass.ValueType) -> str | None:
    """Error class as INFRASTRUCTURE, LIMIT, ...; None if the job did not fail."""
    word = jobs_pb2.ErrorClass.Name(error_class).removeprefix("ERROR_CLASS_")
    return None if word == "UNSPECIFIED" else word


def runtime_word(state: boards_pb2.BoardRuntimeState.ValueType) -> str:
    """Runtime state of a board as idle, busy, ..."""
    name = boards_pb2.BoardRuntimeState.Name(state)
    return _lower(name, "BOARD_RUNTIME_STATE_") or "unknown"


def health_word(health: boards_pb2.BoardHealth.ValueType) -> str:
    """Health of a board as good, bad or unknown."""
    return _lower(boards_pb2.BoardHealth.Name(health), "BOARD_HEALTH_") or "unknown"


def ending_word(ending: jobs_pb2.RunEnding.ValueType) -> str | None:
    """Why a run ended as served, quiet or drain_limit; None if it is not known."""
    return _lower(jobs_pb2.RunEnding.Name(ending), "RUN_ENDING_")


def to_datetime(timestamp: Timestamp) -> datetime | None:
    """Aware datetime in UTC; None for a timestamp that was never set (1970 is not in use)."""
    if timestamp.seconds == 0 and timestamp.nanos == 0:
        return None
    return timestamp.ToDatetime(tzinfo=timezone.utc)


def iso(time: datetime | None) -> str | None:
    """ISO 8601 for JSON and CSV; None stays None."""
    return None if time is None else time.isoformat()


def optional(message: Message, name: str) -> float | None:
    """Value of an `optional` number; None if absent."""
    return float(getattr(message, name)) if message.HasField(name) else None


def _lower(name: str, prefix: str) -> str | None:
    word = name.removeprefix(prefix).lower()
    return None if word == "unspecified" else word


def _group(prefix: str, word: str, names: Sequence[str]) -> str:
    name = prefix + word.upper()
    if name not in names or name.endswith("_UNSPECIFIED"):
        known = [_lower(each, prefix) for each in names]
        allowed = ", ".join(each for each in known if each)
        text = f"Nothing can be grouped by {word!r}; known: {allowed}"
        raise BadRequest("UNKNOWN_GROUP", text, metadata={"found": word, "allowed": allowed})
    return name
