"""Everything the farm refuses, and how it says so.

    FarmError                  has reason, message, metadata, fields
    ├── BadInput               the request or a file is wrong, whatever the farm's state
    ├── NotFound               no such job, model, recording, board, blob
    ├── WrongState             right request, wrong moment or missing precondition
    │   └── ModelRejected      the check found errors; carries them
    ├── AlreadyExists          the same request id with another body
    ├── Unauthenticated        no token, or one that is not known
    ├── NotAllowed             known user, not theirs
    ├── Exhausted              too large, too many
    ├── Unavailable            stopping, or not ready; try again
    ├── InternalError          a bug of the farm
    └── BoardFault             a board or its process failed; classed for the retry rules

service/status.py holds the one table from these classes to gRPC codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class FarmError(Exception):
    """Something was refused. `reason` is stable UPPER_SNAKE, `metadata` has every number."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        fields: Sequence[tuple[str, str]] = (),
        **metadata: object,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.fields = tuple(fields)  # (path in the request, what is wrong with it)
        self.metadata = {key: str(value) for key, value in metadata.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross process borders whole."""
        return _rebuild, (type(self), self.__dict__.copy())


class BadInput(FarmError):
    """The request or a file is wrong, whatever the farm's state."""


class NotFound(FarmError):
    """No such thing."""


class WrongState(FarmError):
    """A precondition does not hold."""


class AlreadyExists(FarmError):
    """The request id was used with another body."""


class Unauthenticated(FarmError):
    """No token, or one that is not known."""


class NotAllowed(FarmError):
    """A known user, but not theirs to do."""


class Exhausted(FarmError):
    """Too large or too many."""


class Unavailable(FarmError):
    """Stopping or not ready; the same call may succeed later."""


class InternalError(FarmError):
    """A bug of the farm."""


class ErrorClass(str, Enum):
    """What kind of failure ended an attempt; decides about retry and charge."""

    INFRASTRUCTURE = "INFRASTRUCTURE"  # another board, at most 3 attempts, not charged
    DEVICE_STALL = "DEVICE_STALL"  # once more elsewhere, then the model's fault
    JOB = "JOB"  # recording or settings, found late; no retry
    LIMIT = "LIMIT"  # a clock ran out; no retry
    CONFIGURATION = "CONFIGURATION"  # the server lacks something; no retry
    INTERNAL = "INTERNAL"  # a bug of the farm; no retry


_OF_THE_HOST = ("INPUT_LATE",)  # tried again, and blamed on no board


class BoardFault(FarmError):
    """An attempt failed on its board."""

    def __init__(
        self, reason: str, message: str, error_class: ErrorClass, **metadata: object
    ) -> None:
        super().__init__(reason, message, fields=(), **metadata)
        self.error_class = error_class

    @property
    def is_the_boards(self) -> bool:
        """Whether it tells against the board, or else against the job, the host or the farm."""
        is_retried = self.error_class in (ErrorClass.INFRASTRUCTURE, ErrorClass.DEVICE_STALL)
        return is_retried and not self.is_the_hosts

    @property
    def is_the_hosts(self) -> bool:
        """Whether the host was too slow for what it had to do."""
        return self.reason in _OF_THE_HOST


class Severity(str, Enum):
    """How much a finding matters."""

    ERROR = "error"  # cannot run on this chip
    WARNING = "warning"  # runs, but probably not as its author expects
    INFO = "info"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing to change that makes its finding go away; the farm has tried it on the rules."""

    layer: int | None  # 0-based, of the network as it is; None: the whole network or its input
    what: str  # features, stride, kernel_size, ...; docs/reference/checks.md lists them
    value: str  # "32", "2x2" (y, x)
    keeps_function: bool  # every neuron spikes as before; nothing has to be trained again
    text: str  # one sentence for people


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something the farm noticed about a network or a run."""

    reason: str  # stable UPPER_SNAKE; docs/reference/checks.md lists them
    severity: Severity
    message: str  # what was found, what is allowed, what to change
    layer: int | None = None  # 0-based, None: about the whole network
    metadata: Mapping[str, str] = field(default_factory=dict)  # every number of the message
    changes: tuple[Change, ...] = ()  # alternatives; those that keep the function come first


class ModelRejected(WrongState):
    """The check found errors."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        errors = [f for f in findings if f.severity is Severity.ERROR]
        listed = " · ".join(_named(f) for f in errors)
        super().__init__("MODEL_REJECTED", f"The model cannot run: {listed}", errors=len(errors))
        self.findings = tuple(findings)


def _named(finding: Finding) -> str:
    where = "" if finding.layer is None else f"layer {finding.layer}: "
    return f"{where}{finding.message} [{finding.reason}]"


def _rebuild(kind: type[FarmError], state: dict[str, Any]) -> FarmError:
    error = kind.__new__(kind)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error
