"""What the rails of a board take."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING

from samna import clock
from samna.nodes import BoardSource

if TYPE_CHECKING:
    from samna.board import Board

MOST_HZ = 100  # Datasheet, sinabs' power notebook
IDLE_W = (61.7e-6, 51.7e-6, 367e-6, 78.9e-6, 610.9e-6)  # of a Speck2fDevKit, the same notebook
RIPPLE = (0.0, 0.01, 0.0, -0.01)  # of the value, sample by sample


class Measurement:
    """One rail at one time."""

    __slots__ = ("channel", "timestamp", "value")

    def __init__(self, channel: int, value: float, timestamp: int) -> None:
        self.channel, self.value, self.timestamp = channel, value, timestamp


class PowerMonitor:
    """Measures all rails at a rate while it is on."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._source = BoardSource(pull=self._pull, drain=self._pull)
        self._hz = 0  # 0: off
        self._began_s, self._given = 0.0, 0

    def start_auto_power_measurement(self, hz: int) -> None:
        """Measure so often, a whole number: C does not take another."""
        if not 0 < index(hz) <= MOST_HZ:
            raise RuntimeError(f"rate of power measurement: {hz} Hz, must be up to {MOST_HZ}")
        if self._board.call(f"power.start {index(hz)}"):
            self._hz, self._began_s, self._given = index(hz), clock.now_s(), 0

    def stop_auto_power_measurement(self) -> None:
        """Measure no more."""
        self._board.call("power.stop")
        self._pull()
        self._hz = 0

    def get_source_node(self) -> BoardSource:
        """Where measurements come out."""
        self._board.call("power.get_source_node", is_noted=False)
        return self._source

    def _pull(self) -> None:
        port = self._board.port
        if not self._hz or not self._board.is_there() or port.look("dead_handle"):
            return
        due = int((clock.now_s() - self._began_s) * self._hz)
        values = port.look("power_w") or IDLE_W
        found = []
        for sample in range(self._given, due):
            stamp_us = self._board.room.stamp_us(self._began_s + (sample + 1) / self._hz)
            stamp_us = 0 if port.look("zero_power_stamps") else stamp_us
            factor = 1 + RIPPLE[sample % len(RIPPLE)]
            found += [Measurement(n, value * factor, stamp_us) for n, value in enumerate(values)]
        self._given = max(due, self._given)
        self._source.give(found)
