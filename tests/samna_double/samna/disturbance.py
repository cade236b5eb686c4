"""What comes out of a board, as its events: also what nobody asked for, and wrong stamps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from samna.camera import RAW_ECHO
from samna.chips import made
from samna.live_twin import NS, Output
from samna.world import Port

READOUT = 12
EVERY_US = 1000  # noise of the camera, and spikes of what is never quiet
MOST = 10_000  # of them at once
STAMPS = 0xFFFFFFFF  # 32 bits


class Disturbance:
    """Makes events of a board; what it does beside that are behaviours of the board."""

    def __init__(self, port: Port, events: Any, now_us: int) -> None:
        self._port, self._events = port, events
        self._input_us: int | None = None  # of the first input, or since the recording began
        self.start_recording(now_us)

    def start_recording(self, now_us: int) -> None:
        """Times begin again."""
        self._random = random.Random(0)
        self._shown_us = now_us
        self._input_us = None if self._input_us is None else now_us

    def first_input(self, at_us: int) -> None:
        """Something has come in."""
        if self._input_us is None:
            self._input_us = at_us

    def events(
        self, found: list[Output], now_us: int, exit_core: int, *, is_timed: bool
    ) -> list[Any]:
        """The events of what came out up to now, in order of time."""
        before_us, self._shown_us = self._shown_us, max(now_us, self._shown_us)
        unasked = list(self._unasked(before_us, self._shown_us, exit_core))
        if unasked:
            found = sorted(found + unasked, key=lambda each: each[0])
        is_untimed = self._port.look("untimed")
        is_timed = is_timed and not self._port.look("zero_stamps")
        offset_us, jitter_us = (self._port.look(n) or 0 for n in ("offset_us", "jitter_us"))
        events = []
        for t_ns, core, *place in found:
            stamp_us = t_ns // NS + offset_us
            if jitter_us:
                stamp_us += self._random.randint(0, jitter_us)
            if is_untimed:
                events.append(made(self._events.ReadoutValue, 0))
            events.append(self._event(core, place, stamp_us & STAMPS if is_timed else 0))
        return events

    def neuron_values(self, found: list[tuple[int, int, int]]) -> list[Any]:
        """Answers to what was read."""
        return [made(self._events.NeuronValue, *each) for each in found]

    def _event(self, core: int, place: list[int], stamp_us: int) -> Any:
        feature, y, x = place
        if core == READOUT:
            return made(self._events.ReadoutPinValue, feature, stamp_us)
        if core == RAW_ECHO:
            return made(self._events.DvsEvent, x, y, feature, stamp_us)
        return made(self._events.Spike, core, feature, x, y, stamp_us)

    def _unasked(self, before_us: int, now_us: int, exit_core: int) -> Iterator[Output]:
        if self._port.look("dvs_noise"):
            for t_us in _every(before_us, now_us):
                yield t_us * NS, RAW_ECHO, t_us // EVERY_US % 2, 64, 64
        if self._input_us is not None and self._port.look("never_quiet"):
            for t_us in _every(max(before_us, self._input_us), now_us):
                yield t_us * NS, exit_core, 0, 0, 0


def _every(before_us: int, now_us: int) -> range:
    """Times of which there is one in each period, not before the first and before now."""
    first = max(-(-before_us // EVERY_US), now_us // EVERY_US - MOST)
    return range(first * EVERY_US, now_us, EVERY_US)
