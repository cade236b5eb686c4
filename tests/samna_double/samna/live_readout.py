"""The readout layer in real time: ticks of the slow clock close its periods, while it is on.

Computes with `Readout` of the twin, whose periods have no such end. Uses private parts of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from samna.slow_clock import SlowClock
from speckfarm_server.twin.machine import NO_SPIKES
from speckfarm_server.twin.readout import NO_PINS, Readout


class LiveReadout:
    """Counts spikes of the exit core, also while the clock is off; then no period is closed."""

    def __init__(self, readout: Readout, clock: SlowClock) -> None:
        self._readout, self._clock = readout, clock
        self._heard = NO_SPIKES  # that are not counted yet: some are put out ahead of their time
        self._shown_ns = 0

    def start_recording(self, now_ns: int) -> None:
        """Time is `now_ns` from here on, and all averages are 0."""
        self._heard["t_ns"] += now_ns - self._shown_ns
        self._shown_ns = now_ns
        is_on = self._clock.hz is not None
        self._readout.start_recording(self._clock.before_ns(now_ns) if is_on else now_ns)
        self._readout._period_ns = self._clock.period_ns

    def switch(self) -> None:
        """The clock was switched on just now: the period that is open ends one period from now."""
        readout, clock = self._readout, self._clock
        readout._period_ns = clock.period_ns
        readout._origin_ns = clock.on_ns - readout._tick * clock.period_ns

    def hear(self, spikes: NDArray[np.void]) -> None:
        """Take what cores put out, of whatever time."""
        mine = spikes[spikes["layer"] == self._readout.layer]
        self._heard = np.concatenate([self._heard, mine])

    def advance(self, now_ns: int) -> NDArray[np.void]:
        """What the pins tell up to now; PIN_DTYPE."""
        readout, self._shown_ns = self._readout, now_ns
        is_due = self._heard["t_ns"] < now_ns
        due = self._heard[is_due]
        self._heard = self._heard[~is_due]
        closed = readout._tick
        if self._clock.hz is not None:
            closed = max(closed, (now_ns - readout._origin_ns) // readout._period_ns)
        if not len(due) and closed == readout._tick:
            return NO_PINS
        return readout._count(due[np.argsort(due["t_ns"], kind="stable")], closed)
