"""Findings: what the farm noticed about a network or a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from speckfarm.words import severity_word

if TYPE_CHECKING:
    from speckfarm.v1 import findings_pb2


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing to change that alone makes its finding go away."""

    layer: int | None  # 0-based; None: the network's input, or the settings as a whole
    what: str  # features, stride, ...; docs/reference/checks.md lists them
    value: str  # what it becomes: "32", "2x2" (y, x)
    keeps_function: bool  # every neuron spikes as before
    text: str  # one sentence

    def to_dict(self) -> dict[str, object]:
        """The JSON contract's shape."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.text} (keeps the function)" if self.keeps_function else self.text


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding; docs/reference/checks.md lists every reason."""

    reason: str  # stable UPPER_SNAKE
    severity: str  # error: cannot run; warning: runs, perhaps not as meant; info
    message: str  # what was found, what is allowed, what to change
    layer: int | None = None  # 0-based; None: about the whole network
    metadata: Mapping[str, str] = field(default_factory=dict)  # every number of the message
    changes: tuple[Change, ...] = ()  # alternatives; those that keep the function first

    def to_dict(self) -> dict[str, object]:
        """The JSON contract's shape."""
        return {
            "reason": self.reason,
            "severity": self.severity,
            "layer": self.layer,
            "message": self.message,
            "metadata": dict(self.metadata),
            "changes": [change.to_dict() for change in self.changes],
        }

    def lines(self) -> list[str]:
        """For people: the finding, then each change on a line of its own."""
        ordered = sorted(self.changes, key=lambda change: not change.keeps_function)
        return [str(self), *(f"  - {change}" for change in ordered)]

    def __str__(self) -> str:
        where = "" if self.layer is None else f"layer {self.layer}: "
        return f"{self.severity}: {where}{self.message} [{self.reason}]"


def read_finding(message: findings_pb2.Finding) -> Finding:
    """From the wire."""
    return Finding(
        reason=message.reason,
        severity=severity_word(message.severity),
        message=message.message,
        layer=message.layer if message.HasField("layer") else None,
        metadata=dict(sorted(message.metadata.items())),  # a map on the wire has no order
        changes=tuple(_read_change(change) for change in message.changes),
    )


def _read_change(message: findings_pb2.Change) -> Change:
    return Change(
        layer=message.layer if message.HasField("layer") else None,
        what=message.what,
        value=message.value,
        keeps_function=message.keeps_function,
        text=message.text,
    )
