"""Latency figures of one recording, a job, or a lab's month."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from speckfarm.words import method_word, optional

if TYPE_CHECKING:
    from speckfarm.v1 import latency_pb2


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Figures of the lags (output time - time of the input event that caused it).

    All times are chip time in µs; None where there is no value. docs/explanation/latency.md
    defines every figure.
    """

    n: int = 0  # output spikes with a cause
    uncaused: int = 0  # output spikes without one (leak ticks)
    method: str | None = None  # exact (simulated) or estimated (real)
    error_us: float | None = None  # of an estimated lag
    first_output_us: float | None = None  # first output - first input; None for merged figures
    p50_us: float | None = None
    p90_us: float | None = None
    p99_us: float | None = None
    max_us: float | None = None
    drain_us: float | None = None  # last output - last input, at least 0
    drift_us_per_s: float | None = None  # None below 30 outputs or 50 ms, and for merged figures

    def to_dict(self) -> dict[str, object]:
        """The JSON contract's LATENCY; figures are rounded to a nanosecond."""
        return {name: rounded(value) for name, value in asdict(self).items()}


def rounded(value: object) -> object:
    """A figure with three decimals; more are noise. Whatever is no float stays as it is."""
    return round(value, 3) if isinstance(value, float) else value


_OPTIONAL = (
    "error_us", "first_output_us", "p50_us", "p90_us", "p99_us", "max_us", "drain_us",
    "drift_us_per_s",
)  # fmt: skip


def read_latency(message: latency_pb2.Latency) -> Latency:
    """From the wire."""
    return Latency(
        n=message.n,
        uncaused=message.uncaused,
        method=method_word(message.method),
        **{name: optional(message, name) for name in _OPTIONAL},
    )
