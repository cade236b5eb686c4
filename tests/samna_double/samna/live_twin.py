"""The twin in real time: events enter one after the other, output is there when its time has come.

All output of a recording is that of `Twin.run`, however often and when it is asked for: time is
moved on with the twin's own slices, which may be empty. Uses private parts of the twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.configuration import Configuration, Destination
from speckfarm_server.twin.assumptions import Assumptions
from speckfarm_server.twin.graph import input_ways
from speckfarm_server.twin.machine import NO_SPIKES
from speckfarm_server.twin.records import FOREVER_NS, INPUT, SPIKE_DTYPE
from speckfarm_server.twin.twin import Twin

NS = 1000  # per us
CAMERA = -1  # stands for a core: all that the event pre-processing layer sends to
Entry = tuple[int, int, int, int, int]  # t_us, core, feature, y, x
Output = tuple[int, int, int, int, int]  # t_ns, core, feature, y, x


class LiveTwin:
    """A configured chip. Times of entries never decrease within a recording."""

    def __init__(self, configuration: Configuration, assumptions: Assumptions) -> None:
        self.configuration, self.assumptions = configuration, assumptions
        ways = tuple(way for way in input_ways(configuration) if way.enable)
        self._joint = tuple(way.core for way in ways)  # what enters by itself enters all of these
        self._cores = {core.layer: core.core for core in configuration.cores} | {12: 12}
        self._numbers = {core.core: place for place, core in enumerate(self._in_order())}
        self._build(ways)

    def start_recording(self) -> None:
        """Time is 0 again; what is on its way is lost, neurons and decimators stay."""
        self._twin.start_recording()
        self._pieces: list[NDArray[np.void]] = []
        self._last_ns = -1  # of the last entry

    def become(self, configuration: Configuration, assumptions: Assumptions) -> None:
        """Change what is no part of the cores: clocks, assumptions. Begins a recording."""
        self.configuration, self.assumptions = configuration, assumptions
        self._build(self._ways)

    def enter(self, entries: Sequence[Entry]) -> None:
        """Let spikes in; those to cores that are not configured are lost."""
        entries = [each for each in entries if each[1] == CAMERA or each[1] in self._numbers]
        missing = {each[1] for each in entries} - {CAMERA} - {way.core for way in self._ways}
        if missing:
            self._reroute(sorted(missing))
        for route, group in groupby(self._routed(entries), itemgetter(0)):
            self._put(route, [row for _, row in group])

    def advance(self, now_ns: int, *, is_more: bool) -> None:
        """No entry before `now_ns` will follow; `is_more`: one at all is known of."""
        if self._last_ns < 0:
            return
        machine = self._twin._machine
        ends_ns = max(self._last_ns, int(machine.flow["entered_ns"] + machine.flow["pipe_ns"]))
        machine._set(horizon_ns=FOREVER_NS if is_more else ends_ns)
        self._keep(machine.put(NO_SPIKES, now_ns))
        self._tell(now_ns, is_more=is_more)

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
        """All output that is still to come of what has entered."""
        if self._last_ns >= 0:
            self._twin._machine._last_ns = self._last_ns
            self._pieces += [piece for piece in self._twin.finish() if len(piece)]
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
        self.start_recording()

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
        if self._last_ns < 0:
            self._origin_ns = int(spikes["t_ns"][0])
            self._twin._events = 1
            machine.begin(self._origin_ns)
            if self._twin._readout is not None:
                self._twin._readout.start_recording(self._origin_ns)
        self._last_ns = int(spikes["t_ns"][-1])
        self._twin._last_us = self._last_ns // NS
        machine._set_core(INPUT, first_link=route[0], links=route[1])
        machine._set(horizon_ns=FOREVER_NS)
        self._keep(machine.put(spikes, self._last_ns))

    def _keep(self, pieces: Iterator[NDArray[np.void]]) -> None:
        self._pieces += [piece for piece in self._twin._with_pins(pieces) if len(piece)]

    def _tell(self, now_ns: int, *, is_more: bool) -> None:
        """Let the readout layer tick up to now, or to the first tick after all is over."""
        readout = self._twin._readout
        if readout is None:
            return
        none = NO_SPIKES
        until_ns = now_ns if is_more else min(now_ns, self._last_ns)
        self._pieces.append(self._twin._pins(readout.push(none, until_ns)))
        last_ns = max(readout._last_ns, self._last_ns)
        periods = (last_ns - self._origin_ns) // readout._period_ns + 1
        if readout._tick < periods and now_ns > self._origin_ns + periods * readout._period_ns:
            self._pieces.append(self._twin._pins(readout.finish(self._last_ns)))

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
