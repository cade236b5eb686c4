"""How many faults a board may have in a row, and how long it rests after one. No clock, no I/O."""

from __future__ import annotations

ALLOWED = 2  # faults in a row put a board into quarantine
FIRST_BACK_OFF_S = 0.5
LONGEST_BACK_OFF_S = 30.0


class FaultBudget:
    """Faults of one board in a row, over its jobs and its starts."""

    def __init__(self) -> None:
        self.faults = 0
        self._failures = 0  # since the last success; a return from quarantine forgives none
        self._at_ready = 0  # faults when the board was ready for jobs last

    @property
    def is_spent(self) -> bool:
        """Whether the board belongs into quarantine."""
        return self.faults >= ALLOWED

    def rest_s(self, quarantine_s: float) -> float:
        """How long a board rests after a start that failed, or in quarantine.

        A quarantine takes twice as long as the one before, up to 30 s, until a job succeeds.
        """
        if not self.is_spent:
            return back_off_s(self._failures)
        longest_s = max(quarantine_s, LONGEST_BACK_OFF_S)
        return min(quarantine_s * 2.0 ** min(self._failures - ALLOWED, 20), longest_s)

    def count(self) -> None:
        """A job was spoiled, the board did not start, or failed its test."""
        self.faults += 1
        self._failures += 1

    def clear(self) -> None:
        """A job succeeded."""
        self.faults = self._failures = self._at_ready = 0

    def ready(self) -> None:
        """The board takes jobs again; out of quarantine it comes with one fault left."""
        self.faults = min(self.faults, ALLOWED - 1)
        self._at_ready = self.faults

    def excuse(self) -> None:
        """What was counted since the board was ready had another cause: it was unplugged."""
        self._failures -= max(0, self.faults - self._at_ready)
        self.faults = self._at_ready


def back_off_s(failures: int) -> float:
    """0.5 s after the first of these failures, twice as long after each other, at most 30 s."""
    doubled: float = FIRST_BACK_OFF_S * 2 ** min(max(failures, 1) - 1, 10)
    return min(doubled, LONGEST_BACK_OFF_S)
