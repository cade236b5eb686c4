"""Findings: what the farm noticed about a network or a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from speckfarm.words import severity_word

if TYPE_CHECKING:
    from speckfarm.v1 import findings_pb2


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding; docs/reference/checks.md lists every reason."""

    reason: str  # stable UPPER_SNAKE
    severity: str  # error: cannot run; warning: runs, perhaps not as meant; info
    message: str  # what was found, what is allowed, what to change
    layer: int | None = None  # 0-based; None: about the whole network
    metadata: Mapping[str, str] = field(default_factory=dict)  # every number of the message

    def to_dict(self) -> dict[str, object]:
        """The JSON contract's shape."""
        return {
            "reason": self.reason,
            "severity": self.severity,
            "layer": self.layer,
            "message": self.message,
            "metadata": dict(self.metadata),
        }

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
    )
