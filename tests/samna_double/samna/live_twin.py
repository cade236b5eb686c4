"""The twin in real time: events enter one after the other, output is there when its time has come.

All output of a recording is that of `Twin.run`, however often and when it is asked for: time is
moved on with the twin's own slices, which may be empty. One thing is otherwise: ticks come while
the board's slow clock is on, not from the first event to the last. Where it is on from the one to
the other, all is the same again. Uses private parts of the twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samna.live_readout import LiveReadout
from samna.slow_clock import SlowClock
from speckfarm_server.configuration import Configuration, Destination
from speckfarm_server.twin.assumptions import Assumptions
from speckfarm_server.twin.graph import input_ways
from speckfarm_server.twin.machine import NO_SPIKES
from speckfarm_server.twin.records import FOREVER_NS, INPUT, SPIKE_DTYPE
from speckfarm_server.twin.twin import Twin

NS = 1000  # per us
CAMERA = -1  # stands for a core: all that the event pre-processing layer sends to
ANY_HZ = 1.0
Entry = tuple[int, int, int, int, int]  # t_us, core, feature, y, x
Output = tuple[int, int, int, int, int]  # t_ns, core, feature, y, x


class LiveTwin:
    """A configured chip. Times of entries never decrease within a recording."""

    def __init__(
        self, configuration: Configuration, assumptions: Assumptions, clock: SlowClock
    ) -> None:
        # Any rate: it lets the twin have what ticks, and when they come is said by `clock`.
        self.configuration = replace(configuration, slow_clock_hz=ANY_HZ)
        self.assumptions, self._clock = assumptions, clock
        ways = tuple(way for way in input_ways(configuration) if way.enable)
        self._joint = tuple(way.core for way in ways)  # what enters by itself enters all of these
        self._cores = {core.layer: core.core for core in configuration.cores} | {12: 12}
        self._numbers = {core.core: place for place, core in enumerate(self._in_order())}
        leaks = [core.leak_enable for core in self._in_order()]
        self._leaks = np.array([False, *leaks])  # by place; the input is the first
        self._pins: LiveReadout | None = None
        self._pieces: list[NDArray[np.void]] = []  # output that was not taken
        self._now_ns, self._last_ns = 0, -1  # up to when it was advanced; of the last entry
        self._build(ways)
        if self._twin._readout is not None:
            self._pins = LiveReadout(self._twin._readout, clock)

    def start_recording(self, now_ns: int) -> None:
        """Time is this from here on; what is on its way is lost, neurons and decimators stay."""
        self._begin(now_ns)
        if self._pins is not None:
            self._pins.start_recording(now_ns)

    def become(self, assumptions: Assumptions) -> None:
        """Be a chip of which other things are true. Begins a recording."""
        self.assumptions, now_ns = assumptions, self._now_ns
        self._build(self._ways)
        self.start_recording(now_ns)

    def switch_clock(self) -> None:
        """Do as the slow clock was told just now, up to when time was advanced."""
        machine = self._twin._machine
        cores, clock = machine._cores, self._clock
        if clock.hz is not None:
            last_ns = min(int(machine.flow["horizon_ns"]), self._now_ns)
            # A tick that a busy core has not come to yet is not lost; of several, one is kept.
            waits = (cores["tick_period_ns"] > 0) & (cores["next_tick_ns"] <= last_ns)
            cores["tick_period_ns"] = np.where(self._leaks, clock.period_ns, 0)
            cores["next_tick_ns"] = clock.on_ns + np.where(waits, 0, clock.period_ns)
            if self._pins is not None:
                self._pins.switch()
        machine._set(horizon_ns=clock.last_ns)

    def enter(self, entries: Sequence[Entry]) -> None:
        """Let spikes in; those to cores that are not configured are lost."""
        entries = [each for each in entries if each[1] == CAMERA or each[1] in self._numbers]
        missing = {each[1] for each in entries} - {CAMERA} - {way.core for way in self._ways}
        if missing:
            self._reroute(sorted(missing))
        for route, group in groupby(self._routed(entries), itemgetter(0)):
            self._put(route, [row for _, row in group])

    def advance(self, now_ns: int) -> None:
        """No entry before `now_ns` will follow."""
        self._now_ns = now_ns
        if self._last_ns >= 0 or self._leaks.any():
            self._keep(self._twin._machine.put(NO_SPIKES, now_ns))
        if self._pins is not None:
            self._pieces.append(self._twin._pins(self._pins.advance(now_ns)))

    def take(self, before_ns: int) -> list[Output]:
        """All output before a time up to which it was advanced, in order of time."""
        found = np.concatenate([NO_SPIKES, *self._pieces])
        is_due = found["t_ns"] < before_ns
        self._pieces = [found[~is_due]]
        due = found[is_due]
        due = due[np.lexsort((due["layer"], due["t_ns"]))]
        return [
            (t_ns, self._cores[layer], feature, y, x)
            for t_ns, _, layer, feature, y, x in due.tolist()
        ]

    def conclude(self) -> list[Output]:
        """All output that is still to come of what has entered; no tick comes after now."""
        machine = self._twin._machine
        machine._events = NO_SPIKES
        machine._set_core(INPUT, taken=0, gone=0, cursor=0, end=0)
        horizon_ns = min(self._clock.last_ns, self._now_ns)
        machine._set(wait_until_ns=FOREVER_NS, horizon_ns=horizon_ns)
        self._keep(machine._advance())
        return self.take(FOREVER_NS)

    def read_neuron(self, core: int, address: int) -> int:
        """A neuron's state; 0 where there is none."""
        at = self._address(core, address)
        return 0 if at is None else int(self._twin._machine._state[at])

    def write_neuron(self, core: int, address: int, state: int) -> None:
        """Set a neuron's state."""
        at = self._address(core, address)
        if at is not None:
            self._twin._machine._state[at] = state

    def _build(self, ways: Iterable[Destination]) -> None:
        before = getattr(self, "_twin", None)
        self._ways = tuple(ways)
        wanted = replace(self.configuration, dvs=None, inputs=self._ways)
        self._twin = Twin(wanted, assumptions=self.assumptions)
        if before is not None:
            self._twin._machine._state[:] = before._machine._state
            self._twin._machine._cores["decimator_count"] = before._machine._cores[
                "decimator_count"
            ]
        self._begin(self._now_ns)

    def _begin(self, now_ns: int) -> None:
        """Let nothing be on its way, and the next tick be the first after now."""
        machine = self._twin._machine
        machine.start_recording()
        machine.begin(now_ns)
        machine._cores["tick_period_ns"] = np.where(self._leaks, self._clock.period_ns, 0)
        machine._cores["next_tick_ns"] = self._clock.next_ns(now_ns)
        machine._set(horizon_ns=self._clock.last_ns)
        self._pieces, self._now_ns, self._last_ns = [], now_ns, -1

    def _reroute(self, cores: Sequence[int]) -> None:
        """Let spikes also into cores that others feed; what is on its way is done at once."""
        left = self.conclude()
        layers = {core: layer for layer, core in self._cores.items()}
        self._build((*self._ways, *(Destination(core=core) for core in cores)))
        self._pieces = [
            np.array([(t, -1, layers[c], f, y, x) for t, c, f, y, x in left], SPIKE_DTYPE)
        ]

    def _routed(self, entries: Sequence[Entry]) -> Iterator[tuple[tuple[int, int], Any]]:
        """Each entry with its links, first and count; what goes to all entry cores is one event."""
        at, all_of_them = 0, (0, len(self._joint))
        places = {way.core: place for place, way in enumerate(self._ways)}
        while at < len(entries):
            t_us, core, *place = entries[at]
            alike = entries[at : at + len(self._joint)]
            if core == CAMERA:
                yield all_of_them, (t_us, *place)
            elif alike == [(t_us, joint, *place) for joint in self._joint]:
                yield all_of_them, (t_us, *place)
                at += len(self._joint) - 1
            else:
                yield (places[core], 1), (t_us, *place)
            at += 1

    def _put(self, route: tuple[int, int], rows: Sequence[tuple[int, ...]]) -> None:
        machine, columns = self._twin._machine, np.array(rows, np.int64).T
        spikes = np.zeros(len(rows), SPIKE_DTYPE)
        spikes["t_ns"] = columns[0] * NS
        for name, column in zip(("feature", "y", "x"), columns[1:], strict=True):
            spikes[name] = column
        self._last_ns = int(spikes["t_ns"][-1])
        machine._set_core(INPUT, first_link=route[0], links=route[1])
        self._keep(machine.put(spikes, self._last_ns))

    def _keep(self, pieces: Iterator[NDArray[np.void]]) -> None:
        for piece in pieces:
            if len(piece):
                self._pieces.append(piece)
                if self._pins is not None:
                    self._pins.hear(piece)

    def _in_order(self) -> list[Any]:
        return sorted(self.configuration.cores, key=lambda core: core.layer)

    def _address(self, number: int, address: int) -> int | None:
        """Where a neuron of the chip is among the twin's."""
        place = self._numbers.get(number)
        if place is None:
            return None
        features, height, width = self._in_order()[place].output_shape
        address, feature = divmod(address, 1 << (features - 1).bit_length())
        y, x = divmod(address, 1 << (width - 1).bit_length())
        if feature >= features or x >= width or y >= height:
            return None
        first = int(self._twin._machine.cores["state_at"][place])
        return first + int((y * width + x) * features + feature)
