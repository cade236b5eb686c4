"""Patience with a farm that does not answer: growing pauses, and an end."""

from __future__ import annotations

import time

from speckfarm.errors import SpeckfarmError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class Patience:
    """Counts from the first failure in a row; any success starts it anew."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.renew()

    def renew(self) -> None:
        """Something worked."""
        self._broken_since: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def pause(self, error: SpeckfarmError, *, at_most_s: float | None = None) -> None:
        """Wait before trying again; raises `error` if that is hopeless or took too long."""
        self._broken_since = self._broken_since or time.monotonic()
        is_hopeless = error.reason == "CERTIFICATE_CHANGED"
        if is_hopeless or time.monotonic() - self._broken_since > self._limit_s:
            raise error from None
        time.sleep(self._pause_s if at_most_s is None else min(self._pause_s, at_most_s))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
