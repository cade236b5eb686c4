"""A slow and obvious twin: plain Python, one neuron at a time, one core after the other.

It shares no code with the twin; times follow the equations of docs/explanation/twin.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination

FIXED_NS = 300
PIPE_NS = 70
SYNOPS_PER_S = {0: 100_000_000}
OTHER_SYNOPS_PER_S = 30_000_000


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


@dataclass
class ReferenceCore:
    """One core."""

    core: CoreConfiguration
    link: Destination
    tick_period_ns: int | None
    neurons: dict[tuple[int, int, int], int] = field(default_factory=dict)
    decimator_count: int = 0
    input_spikes: int = 0
    output_spikes: int = 0
    synops: int = 0
    busy_ns: int = 0
    sent: list[Spike] = field(default_factory=list)

    def run(self, arrivals: list[Spike], first_ns: int, last_ns: int) -> list[Spike]:
        self.busy_ns = self.input_spikes = self.output_spikes = self.synops = 0
        self.sent = []
        tick_ns = None
        if self.core.leak_enable and self.tick_period_ns is not None:
            tick_ns = first_ns + self.tick_period_ns
        for arrival in arrivals:
            while tick_ns is not None and tick_ns <= arrival.t_ns:
                self.tick(tick_ns)
                tick_ns += self.tick_period_ns
            self.take(arrival)
        while tick_ns is not None and tick_ns <= last_ns:
            self.tick(tick_ns)
            tick_ns += self.tick_period_ns
        return self.sent

    def take(self, arrival: Spike) -> None:
        core = self.core
        channels, in_height, in_width = core.input_shape
        features, height, width = core.output_shape
        channel = arrival.feature + self.link.feature_shift
        in_y = arrival.y // self.link.pooling
        in_x = arrival.x // self.link.pooling
        if channel >= channels or in_y >= in_height or in_x >= in_width:
            return
        self.input_spikes += 1
        updates = []
        for y in range(height):
            for x in range(width):
                ky = in_y + core.padding[0] - y * core.stride[0]
                kx = in_x + core.padding[1] - x * core.stride[1]
                if 0 <= ky < core.kernel_size and 0 <= kx < core.kernel_size:
                    for f in range(features):
                        updates.append((f, y, x, int(core.weights[f, channel, ky, kx])))
        self.synops += len(updates)
        self.serve(arrival.t_ns, arrival.cause, updates)

    def tick(self, t_ns: int) -> None:
        features, height, width = self.core.output_shape
        updates = []
        for y in range(height):
            for x in range(width):
                for f in range(features):
                    updates.append((f, y, x, int(self.core.biases[f])))
        self.serve(t_ns, -1, updates)

    def serve(self, t_ns: int, cause: int, updates: list[tuple[int, int, int, int]]) -> None:
        core = self.core
        rate = SYNOPS_PER_S.get(core.core, OTHER_SYNOPS_PER_S)
        start_ns = max(t_ns, self.busy_ns)
        for done, (f, y, x, delta) in enumerate(updates, 1):
            v = self.neurons.get((f, y, x), 0) + delta
            v = max(-32768, min(32767, v))
            v = max(v, core.threshold_low)
            if v >= core.threshold_high:
                v = 0 if core.return_to_zero else v - core.threshold_high
                out_ns = start_ns + FIXED_NS + done * 10**9 // rate + PIPE_NS
                self.fire(Spike(out_ns, cause, f, y, x))
            self.neurons[f, y, x] = v
        self.busy_ns = start_ns + FIXED_NS + len(updates) * 10**9 // rate

    def fire(self, spike: Spike) -> None:
        self.output_spikes += 1
        self.decimator_count += 1
        if self.core.decimator is None:
            self.sent.append(spike)
        elif self.decimator_count == self.core.decimator:
            self.decimator_count = 0
            self.sent.append(spike)


class ReferenceTwin:
    """A chip."""

    def __init__(self, configuration: Configuration) -> None:
        hz = configuration.slow_clock_hz
        period_ns = None if hz is None else round(1e9 / hz)
        targets = {d.core: d for core in configuration.cores for d in core.destinations}
        self.cores = {
            core.core: ReferenceCore(core, targets.get(core.core, Destination(core=0)), period_ns)
            for core in configuration.cores
        }
        (self.first,) = [number for number in self.cores if number not in targets]

    def reset_state(self) -> None:
        for core in self.cores.values():
            core.neurons = {}

    def run_recording(self, events: list[Event]) -> list[tuple[int, int, int, int, int, int]]:
        """(t_ns, cause, layer, feature, y, x) of monitored layers, by time, then layer."""
        spikes = [Spike(e.t_us * 1000, i, e.feature, e.y, e.x) for i, e in enumerate(events)]
        first_ns, last_ns = (spikes[0].t_ns, spikes[-1].t_ns) if spikes else (0, -1)
        outputs = []
        number: int | None = self.first
        while number is not None:
            core = self.cores[number]
            spikes = core.run(spikes, first_ns, last_ns)
            if core.core.monitor_enable:
                outputs += [(s.t_ns, s.cause, core.core.layer, *s[2:]) for s in spikes]
            number = core.core.destinations[0].core if core.core.destinations else None
        return sorted(outputs, key=lambda spike: (spike[0], spike[2]))
