"""Inside a board: the queue of what goes in, the chip, and what comes out, by the stop watch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any

from samna import clock
from samna.camera import Camera
from samna.clock import Clock
from samna.disturbance import Disturbance
from samna.live_twin import CAMERA, NS, Entry, LiveTwin, Output
from samna.slow_clock import SlowClock
from samna.world import Port
from speckfarm_server.boards.samna.configuration import read
from speckfarm_server.boards.samna.names import CHIP_NAMES
from speckfarm_server.twin.assumptions import Assumptions
from speckfarm_server.twin.compilation import compile_kernels

CONFIGURE_MS = 20.0
SPIKES = ("Spike", "DvsEvent")


class Loaded:
    """A configuration on its way to the chip, or there."""

    def __init__(self, twin: LiveTwin | None, camera: Camera, effect_s: float) -> None:
        self.twin, self.camera, self.effect_s = twin, camera, effect_s


class MachineRoom:
    """All is done when somebody asks, for the time up to then."""

    def __init__(self, port: Port, chip: str, module: Any) -> None:
        self.give: Callable[[list[Any]], None] = lambda _: None
        self._port, self._chip = port, chip
        self._events = module.event
        self._lock = threading.RLock()
        self._clock = Clock()
        self._slow_clock = SlowClock()
        compile_kernels()  # now, for apply_configuration returns at once
        self.reset()

    def reset(self) -> None:
        """No configuration, nothing on its way."""
        with self._lock:
            self._loaded = Loaded(None, Camera(None, self._chip), 0.0)
            self._next: Loaded | None = None
            self._held: deque[Entry] = deque()  # waits for the stop watch; times are stamps
            self._left: list[Output] = []  # fired for a recording before
            self._echoes: list[Output] = []
            self._entered_us = self._pumped_us = self._clock.chip_us(clock.now_s())
            self._make = Disturbance(self._port, self._events, self._pumped_us)
            self._is_first = False  # the next entry is the first after a configuration

    def apply(self, configuration: Any) -> None:
        """Read the object now; the chip has it later."""
        with self._lock:
            self.pump()
            found = read(configuration, CHIP_NAMES[self._chip])
            try:
                twin = (
                    LiveTwin(found, self._assumptions(found), self._slow_clock)
                    if found.cores
                    else None
                )
            except ValueError as error:
                raise RuntimeError(f"the double cannot run this configuration: {error}") from error
            takes_ms = self._port.look("configure_ms")
            takes_s = (CONFIGURE_MS if takes_ms is None else takes_ms) / 1e3
            camera = Camera(configuration.dvs_layer, self._chip)
            self._next = Loaded(twin, camera, clock.now_s() + takes_s)

    def take(self, events: list[Any]) -> None:
        """Take input in the order written."""
        with self._lock:
            self.pump()
            for name, group in groupby(events, lambda event: type(event).__name__):
                if name == "Spike":
                    self._held += [(e.timestamp, e.layer, e.feature, e.y, e.x) for e in group]
                elif name == "DvsEvent":
                    self._held += [(e.timestamp, CAMERA, e.p, e.y, e.x) for e in group]
                else:
                    self._run_to(self._pumped_us)
                    self._neurons(name, list(group))
            self._run_to(self._pumped_us)

    def pump(self) -> None:
        """Do all that is due, and hand out what has come out."""
        with self._lock:
            at_s = clock.now_s()
            if self._next is not None and at_s >= self._next.effect_s:
                self._run_to(max(self._pumped_us, self._clock.chip_us(self._next.effect_s)))
                self._hand_out()
                self._loaded, self._next = self._next, None
                if self._loaded.twin is not None:
                    self._loaded.twin.start_recording(self._pumped_us * NS)
                self._left = []
                self._is_first = True
                self._restart_if_shuffled()
            self._run_to(self._clock.chip_us(at_s))
            self._hand_out()

    def start_watch(self) -> None:
        """Go on counting."""
        if not self._port.take("watch_dead") and not self._clock.is_running:
            self._set_watch(is_running=True, value_us=self._port.look("clock_ahead_us"))

    def stop_watch(self) -> None:
        """Stand still."""
        if self._clock.is_running:
            self._set_watch(is_running=False)

    def reset_watch(self) -> None:
        """To 0."""
        ahead_us = self._port.take("clock_ahead_us")
        self._set_watch(is_running=self._clock.is_running, value_us=float(ahead_us or 0))

    def set_slow_clock(self, hz: float | None) -> None:
        """Give the chip another clock, or none."""
        with self._lock:
            if hz == self._slow_clock.hz:
                return
            self.pump()
            self._slow_clock.switch(hz, self._pumped_us * NS)
            if self._loaded.twin is not None:
                self._loaded.twin.switch_clock()

    def stamp_us(self, at_s: float) -> int:
        """What the watch puts on what happens."""
        return int(self._clock.watch_us(at_s)) & 0xFFFFFFFF if self._clock.is_running else 0

    def _set_watch(self, *, is_running: bool, value_us: float | None = None) -> None:
        """A new recording begins, and what is still to come of the last one comes in its time."""
        with self._lock:
            self.pump()
            before_us = self._pumped_us
            left = [*self._left, *self._echoes]
            self._clock.set(is_running=is_running, value_us=value_us)
            self._pumped_us = self._entered_us = self._clock.chip_us(clock.now_s())
            shift_ns = (self._pumped_us - before_us) * NS
            if self._loaded.twin is not None:
                left += self._loaded.twin.conclude()
            self._slow_clock.move(shift_ns)
            if self._loaded.twin is not None:
                self._loaded.twin.start_recording(self._pumped_us * NS)
            self._left = [(each[0] + shift_ns, *each[1:]) for each in left]
            self._echoes = []
            self._make.start_recording(self._pumped_us)
            self._restart_if_shuffled()

    def _run_to(self, now_us: int) -> None:
        """Let the chip do all that is due up to now."""
        shown_us = now_us if self._clock.is_running else self._clock.watch_us(0)
        entries: list[Entry] = []
        while self._held and self._held[0][0] <= shown_us:
            stamp_us, core, *place = self._held.popleft()
            self._entered_us = max(
                stamp_us if self._clock.is_running else 0, self._entered_us, self._pumped_us
            )
            if self._is_first and self._port.take("lost_first_event"):
                self._is_first = False
                continue
            self._is_first = False
            self._make.first_input(self._entered_us)
            entries.append((self._entered_us, core, place[0], place[1], place[2]))
        if self._port.look("camera_live"):
            entries += self._loaded.camera.sees(self._pumped_us, now_us)
            entries.sort(key=itemgetter(0))
        self._pumped_us = max(self._pumped_us, now_us)
        entries, echoes = self._loaded.camera.seen(entries)
        self._echoes += echoes
        if self._loaded.twin is not None:
            self._loaded.twin.enter(entries)
            self._loaded.twin.advance(self._pumped_us * NS)

    def _hand_out(self) -> None:
        before_ns = self._pumped_us * NS
        found = [] if self._loaded.twin is None else self._loaded.twin.take(before_ns)
        late = [*self._left, *self._echoes]
        if late:
            found += [each for each in late if each[0] < before_ns]
            found.sort(key=lambda each: each[0])
            self._left = [each for each in self._left if each[0] >= before_ns]
            self._echoes = [each for each in self._echoes if each[0] >= before_ns]
        twin = self._loaded.twin
        exit_core = twin.configuration.cores[-1].core if twin is not None else 0
        is_timed = self._clock.is_running
        made = self._make.events(found, self._pumped_us, exit_core, is_timed=is_timed)
        if made:
            self.give(made)

    def _neurons(self, name: str, events: list[Any]) -> None:
        twin = self._loaded.twin
        if name == "WriteNeuronValue":
            self._is_first = True
            if twin is not None:
                for event in events:
                    twin.write_neuron(event.layer, event.address, event.neuron_state)
            return
        read_one = (lambda *_: 0) if twin is None else twin.read_neuron
        answers = [(e.layer, e.address, read_one(e.layer, e.address)) for e in events]
        self.give(self._make.neuron_values(answers))

    def _restart_if_shuffled(self) -> None:
        twin = self._loaded.twin
        if twin is not None and self._port.look("core01_shuffle"):
            twin.become(self._assumptions(twin.configuration))

    def _assumptions(self, found: Any) -> Assumptions:
        changes = dict(self._port.look("assumptions") or {})
        if self._port.look("core01_shuffle") and any(core.core < 2 for core in found.cores):
            changes["order_seed"] = self._port.count("shuffle")
        lists = {name: tuple(each) for name, each in changes.items() if isinstance(each, list)}
        return Assumptions(**{**changes, **lists})
