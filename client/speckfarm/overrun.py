"""Whether a core could keep up with a recording."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from speckfarm.words import optional, verdict_word

if TYPE_CHECKING:
    from speckfarm.v1 import jobs_pb2


@dataclass(frozen=True, kw_only=True)
class Overrun:
    """The verdict on one recording; docs/explanation/latency.md says how it is reached.

    Figures are None unless the verdict is EXCEEDED.
    """

    verdict: str  # EXCEEDED, HEALTHY or INCONCLUSIVE
    confidence: float  # 0 to 1; 1 on a simulated board, which knows
    why: str  # what decided, in words
    layer: int | None = None  # suspected
    core: int | None = None  # that runs it
    drift_us_per_s: float | None = None  # growth of the lag
    synops_per_s: float | None = None  # asked of that core
    synops_limit_per_s: float | None = None  # what it is believed to sustain; soft

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def read_overrun(message: jobs_pb2.Overrun) -> Overrun:
    """From the wire."""
    return Overrun(
        verdict=verdict_word(message.verdict),
        confidence=message.confidence,
        why=message.why,
        layer=message.layer if message.HasField("layer") else None,
        core=message.core if message.HasField("core") else None,
        drift_us_per_s=optional(message, "drift_us_per_s"),
        synops_per_s=optional(message, "synops_per_s"),
        synops_limit_per_s=optional(message, "synops_limit_per_s"),
    )
