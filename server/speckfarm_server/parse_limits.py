"""What the server and its parsing helper agree on: kinds of files, and what one parse may take."""

from __future__ import annotations

from dataclasses import dataclass

MODEL, RECORDING = "model", "recording"
NETWORK, CONFIGURATION = "network", "configuration"  # what a model can be parsed into
MESSAGE_BYTES = 16 << 10


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one parse may take."""

    memory_bytes: int  # of address space, beyond what the warm process has
    time_s: float  # of wall clock, and of processor
    answer_bytes: int


LIMITS = {
    MODEL: Limits(
        memory_bytes=512 << 20,
        time_s=10,
        answer_bytes=64 << 20,
    ),
    RECORDING: Limits(
        memory_bytes=4 << 30,
        time_s=60,
        answer_bytes=512 << 20,
    ),
}
