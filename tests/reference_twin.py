"""A slow and obvious twin: plain Python, one neuron, one spike and one moment at a time.

It shares no code with the twin; times follow the equations of docs/explanation/twin.md. At every
step all that could happen next is listed, and what comes first is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    DvsConfiguration,
)

FIXED_NS = 300
PIPE_NS = 70
OP_NS_Q20 = {0: 10_485_760}  # 10 ns
OTHER_OP_NS_Q20 = 34_952_534  # 33.3 ns
FIFO_DEPTH = 16


class Spike(NamedTuple):
    """A spike on its way; `cause` is -1 if a leak tick is behind it."""

    t_ns: int
    cause: int
    feature: int
    y: int
    x: int


class Event(NamedTuple):
    """An input event."""

    t_us: int
    feature: int
    y: int
    x: int


class Leaving(NamedTuple):
    """A spike that its core has made, and when it would leave if nothing held it up."""

    t_ns: int
    spike: Spike


@dataclass
class ReferenceCore:
    """One core."""

    core: CoreConfiguration
    tick_period_ns: int | None
    neurons: dict[tuple[int, int, int], int] = field(default_factory=dict)
    decimator_count: int = 0
    input_spikes: int = 0
    output_spikes: int = 0
    synops: int = 0
    saturated: int = 0
    busy_ns: int = 0
    next_tick_ns: int | None = None
    inbox: list[Spike] = field(default_factory=list)
    leaving: list[Leaving] = field(default_factory=list)
    ways_left: list[Destination] = field(default_factory=list)  # of the first that leaves
    late_ns: int = 0  # by which what is being served was held up
    stalled_ns: int = 0

    def __post_init__(self) -> None:
        self.reset_state()

    def reset_state(self) -> None:
        self.neurons = {}
        if self.core.initial_state is not None:
            for f, rows in enumerate(self.core.initial_state.tolist()):
                for y, row in enumerate(rows):
                    for x, v in enumerate(row):
                        self.neurons[f, y, x] = v

    def start_recording(self, first_ns: int) -> None:
        self.busy_ns = self.input_spikes = self.output_spikes = self.synops = 0
        self.saturated = self.stalled_ns = 0
        self.inbox, self.leaving = [], []
        if self.core.leak_enable and self.tick_period_ns is not None:
            self.next_tick_ns = first_ns + self.tick_period_ns

    def next_start_ns(self, horizon_ns: float) -> int | None:
        """When it starts on the next spike or tick; None if there is none or it is at work."""
        if self.leaving:
            return None
        times = [spike.t_ns for spike in self.inbox[:1]]
        if self.next_tick_ns is not None and self.next_tick_ns <= horizon_ns:
            times.append(self.next_tick_ns)
        return max(min(times), self.busy_ns) if times else None

    def start(self, now_ns: int, horizon_ns: float) -> None:
        tick_ns = self.next_tick_ns
        is_tick = tick_ns is not None and tick_ns <= horizon_ns
        if is_tick and (not self.inbox or tick_ns <= self.inbox[0].t_ns):
            while self.next_tick_ns <= now_ns:  # those that came meanwhile are lost
                self.next_tick_ns += self.tick_period_ns
            self.serve(now_ns, -1, self.reached_by_tick())
        else:
            arrival = self.inbox.pop(0)
            updates = self.reached_by(arrival)
            self.input_spikes += 1
            self.synops += len(updates)
            self.serve(now_ns, arrival.cause, updates)

    def reached_by(self, arrival: Spike) -> list[tuple[int, int, int, int]]:
        core = self.core
        features, height, width = core.output_shape
        updates = []
        for y in range(height):
            for x in range(width):
                ky = arrival.y + core.padding[0] - y * core.stride[0]
                kx = arrival.x + core.padding[1] - x * core.stride[1]
                if 0 <= ky < core.kernel_size and 0 <= kx < core.kernel_size:
                    for f in range(features):
                        updates.append((f, y, x, int(core.weights[f, arrival.feature, ky, kx])))
        return updates

    def reached_by_tick(self) -> list[tuple[int, int, int, int]]:
        features, height, width = self.core.output_shape
        updates = []
        for y in range(height):
            for x in range(width):
                for f in range(features):
                    updates.append((f, y, x, int(self.core.biases[f])))
        return updates

    def serve(self, now_ns: int, cause: int, updates: list[tuple[int, int, int, int]]) -> None:
        core = self.core
        op_ns_q20 = OP_NS_Q20.get(core.core, OTHER_OP_NS_Q20)
        self.late_ns = 0
        for done, (f, y, x, delta) in enumerate(updates, 1):
            exact = self.neurons.get((f, y, x), 0) + delta
            v = max(-32768, min(32767, exact))
            self.saturated += v != exact
            v = max(v, core.threshold_low)
            if v >= core.threshold_high:
                v = 0 if core.return_to_zero else v - core.threshold_high
                leaves_ns = now_ns + FIXED_NS + (done * op_ns_q20 >> 20)
                self.fire(Leaving(leaves_ns, Spike(0, cause, f, y, x)))
            self.neurons[f, y, x] = v
        self.busy_ns = now_ns + FIXED_NS + (len(updates) * op_ns_q20 >> 20)

    def fire(self, leaving: Leaving) -> None:
        self.output_spikes += 1
        self.decimator_count += 1
        if self.core.decimator is None:
            self.leaving.append(leaving)
        elif self.decimator_count == self.core.decimator:
            self.decimator_count = 0
            self.leaving.append(leaving)

    def let_go(self, now_ns: int) -> None:
        """Its first spike leaves now; what comes after it is late by as much."""
        waited_ns = now_ns - self.wants_ns()
        self.late_ns += waited_ns
        self.stalled_ns += waited_ns
        self.leaving.pop(0)
        if not self.leaving:
            self.busy_ns += self.late_ns

    def wants_ns(self) -> int:
        return self.leaving[0].t_ns + self.late_ns


class ReferenceTwin:
    """A chip."""

    def __init__(self, configuration: Configuration, fifo_depth: int = FIFO_DEPTH) -> None:
        hz = configuration.slow_clock_hz
        period_ns = None if hz is None else round(1e9 / hz)
        self.configuration = configuration
        self.fifo_depth = fifo_depth
        self.cores = {core.core: ReferenceCore(core, period_ns) for core in configuration.cores}
        self.by_layer = sorted(self.cores.values(), key=lambda core: core.core.layer)
        self.held_back_ns = 0

    def reset_state(self) -> None:
        for core in self.cores.values():
            core.reset_state()

    def run_recording(self, events: list[Event]) -> list[tuple[int, int, int, int, int, int]]:
        """(t_ns, cause, layer, feature, y, x) of monitored layers, by time, then layer."""
        first_ns, last_ns = (events[0].t_us * 1000, events[-1].t_us * 1000) if events else (0, -1)
        for core in self.cores.values():
            core.start_recording(first_ns)
            core.ways_left = self.ways([core.core])
        self.events = self.entering(events)
        self.ways_left = self.ways([])
        self.entered_ns = self.held_back_ns = 0
        self.outputs: list[tuple[int, int, int, int, int, int]] = []
        now_ns = -PIPE_NS
        while True:
            horizon_ns = float("inf") if self.events else max(last_ns, self.entered_ns)
            moments = self.moments(now_ns, horizon_ns)
            if not moments:
                return sorted(self.outputs, key=lambda spike: (spike[0], spike[2]))
            now_ns, is_leave, _, place = min(moments)
            if place == 0:
                self.enter(now_ns)
            elif is_leave:
                self.leave(self.by_layer[place - 1], now_ns)
            else:
                core = self.by_layer[place - 1]
                core.start(now_ns, horizon_ns)
                if not self.ways([core.core]):
                    self.let_all_go(core)

    def moments(self, now_ns: int, horizon_ns: float) -> list[tuple[int, bool, int, int]]:
        """All that could happen next: time, whether a spike leaves, since when it wants to, place.

        Of equal times starts come first, then what has waited longest, then the input, then layers.
        """
        found = []
        for place, core in enumerate(self.by_layer, 1):
            start_ns = core.next_start_ns(horizon_ns)
            if start_ns is not None:
                found.append((start_ns, False, 0, place))
            elif core.leaving and self.can_go_on(core.leaving[0].spike, core.ways_left):
                found.append((max(core.wants_ns(), now_ns), True, core.wants_ns(), place))
        if self.events and self.can_go_on(self.events[0], self.ways_left):
            wants_ns = max(self.events[0].t_ns, self.entered_ns) - PIPE_NS
            found.append((max(wants_ns, now_ns), True, wants_ns, 0))
        return found

    def enter(self, now_ns: int) -> None:
        event = self.events[0]
        if self.deliver(event, self.ways_left, now_ns):
            self.events.pop(0)
            self.ways_left = self.ways([])
            self.entered_ns = now_ns + PIPE_NS
            self.held_back_ns = max(self.held_back_ns, self.entered_ns - event.t_ns)

    def leave(self, core: ReferenceCore, now_ns: int) -> None:
        spike = core.leaving[0].spike
        if self.deliver(spike, core.ways_left, now_ns):
            core.let_go(now_ns)
            core.ways_left = self.ways([core.core])
            self.see(core, now_ns, spike)

    def let_all_go(self, core: ReferenceCore) -> None:
        """Nothing holds up the spikes of a core that feeds none, and it need not wait for them."""
        for leaving in core.leaving:
            self.see(core, *leaving)
        core.leaving = []

    def see(self, core: ReferenceCore, leaves_ns: int, spike: Spike) -> None:
        if core.core.monitor_enable:
            self.outputs.append((leaves_ns + PIPE_NS, spike.cause, core.core.layer, *spike[2:]))

    def ways(self, source: list[CoreConfiguration]) -> list[Destination]:
        """Where spikes of a core, or of the input if none is given, go."""
        if source:
            ways = source[0].destinations
        elif self.configuration.dvs is None:
            ways = self.configuration.inputs
        else:
            ways = self.configuration.dvs.destinations
        return [to for to in ways if to.enable]

    def can_go_on(self, spike: Spike, ways: list[Destination]) -> bool:
        """Whether a spike that has these ways to go can go one of them, or has none to go."""
        inside = [to for to in ways if self.arriving(spike, to, 0) is not None]
        return not inside or any(self.has_room(to) for to in inside)

    def has_room(self, to: Destination) -> bool:
        return len(self.cores[to.core].inbox) < self.fifo_depth

    def deliver(self, spike: Spike, ways: list[Destination], now_ns: int) -> bool:
        """Send a spike the ways on which there is room; whether that was all."""
        left = []
        for to in ways:
            arriving = self.arriving(spike, to, now_ns + PIPE_NS)
            if arriving is not None and self.has_room(to):
                self.cores[to.core].inbox.append(arriving)
            elif arriving is not None:
                left.append(to)
        ways[:] = left
        return not left

    def arriving(self, spike: Spike, to: Destination, t_ns: int) -> Spike | None:
        """What comes out at the end of a link; None beyond the map."""
        place = (spike.feature + to.feature_shift, spike.y // to.pooling, spike.x // to.pooling)
        shape = self.cores[to.core].core.input_shape
        if any(at >= size for at, size in zip(place, shape, strict=True)):
            return None
        return Spike(t_ns, spike.cause, *place)

    def entering(self, events: list[Event]) -> list[Spike]:
        spikes = []
        for cause, event in enumerate(events):
            place: tuple[int, int, int] | None = event[1:]
            if self.configuration.dvs is not None:
                crops_first = self.configuration.chip == "speck2b"
                place = through_layer(event, self.configuration.dvs, crops_first)
            if place is not None:
                spikes.append(Spike(event.t_us * 1000, cause, *place))
        return spikes


def through_layer(
    event: Event, dvs: DvsConfiguration, crops_first: bool
) -> tuple[int, int, int] | None:
    """Feature, y and x behind the event pre-processing layer; None if the event does not pass."""
    is_on = event.feature == 1
    if is_on and not dvs.on_channel:
        return None
    if not is_on and not dvs.off_channel:
        return None
    place = []
    for axis, pixel in enumerate((event.y, event.x)):
        # The map that leaves, written out: which pixels each of its places sums up.
        pool, first, last = dvs.pooling[axis], dvs.origin[axis], dvs.cut[axis]
        if crops_first:
            pixels = list(range(first, last + 1))
            windows = [pixels[n : n + pool] for n in range(0, len(pixels), pool)]
            windows = [window for window in windows if len(window) == pool]
        else:
            sensor = [list(range(pixel, pixel + pool)) for pixel in range(0, 128, pool)]
            windows = sensor[first : last + 1]
        if dvs.mirror[axis]:
            windows.reverse()
        found = [at for at, window in enumerate(windows) if pixel in window]
        if not found:
            return None
        place.append(found[0])
    if dvs.mirror_diagonal:
        place.reverse()
    return (0 if dvs.merge else event.feature), place[0], place[1]
