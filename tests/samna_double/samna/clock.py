"""The stop watch of a board, in the host's time."""

from __future__ import annotations

import time


def now_s() -> float:
    """The time that all boards live in; a test may put its own in its place."""
    return time.monotonic()


class Clock:
    """Stamps are 0 while it does not run; the chip goes on all the same, in a time of its own."""

    def __init__(self) -> None:
        self.is_running = False
        self._since_s = now_s()  # when it was started, stopped or reset
        self._value_us = 0.0  # of the watch, at that time

    def set(self, *, is_running: bool, value_us: float | None = None) -> None:
        """Start, stop or reset it."""
        at_s = now_s()
        self._value_us = self.watch_us(at_s) if value_us is None else value_us
        self._since_s, self.is_running = at_s, is_running

    def watch_us(self, at_s: float) -> float:
        """What the watch shows."""
        return self._value_us + (self._passed_us(at_s) if self.is_running else 0)

    def chip_us(self, at_s: float) -> int:
        """The chip's time: the watch's, or since it was stopped."""
        return int(self.watch_us(at_s) if self.is_running else self._passed_us(at_s))

    def _passed_us(self, at_s: float) -> float:
        return max(0.0, at_s - self._since_s) * 1e6
