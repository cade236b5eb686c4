"""The slow clock that a board's FPGA gives: one tick each period after it was switched on."""

from __future__ import annotations

from speckfarm_server.twin.delay import SECOND_NS
from speckfarm_server.twin.records import FOREVER_NS


class SlowClock:
    """All times are the chip's. Ticks come whatever enters, until it is switched off."""

    def __init__(self) -> None:
        self.hz: float | None = None  # None: off
        self.period_ns = SECOND_NS  # of the ticks up to now
        self.on_ns = 0  # when it was switched on last
        self.last_ns = -FOREVER_NS  # no tick is later; FOREVER_NS while it is on

    def switch(self, hz: float | None, now_ns: int) -> None:
        """On, with a tick one period from now, or off with None."""
        self.hz = hz
        self.last_ns = now_ns if hz is None else FOREVER_NS
        if hz is not None:
            self.on_ns, self.period_ns = now_ns, max(1, round(SECOND_NS / hz))

    def move(self, by_ns: int) -> None:
        """The chip's time begins anew; ticks come when they would have come."""
        self.on_ns += by_ns
        if self.hz is None:
            self.last_ns += by_ns

    def before_ns(self, now_ns: int) -> int:
        """The last tick up to now, or when it was switched on."""
        return self.on_ns + (now_ns - self.on_ns) // self.period_ns * self.period_ns

    def next_ns(self, now_ns: int) -> int:
        """The first tick after now."""
        return self.before_ns(now_ns) + self.period_ns
