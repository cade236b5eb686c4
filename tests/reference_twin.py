"""A slow and obvious twin: plain Python, one neuron at a time, one core after the other.

It shares no code with the twin; times follow the equations of docs/explanation/twin.md. A core is
run when all that will ever arrive there is known, sorted by time, then link.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from speckfarm_server.configuration import Configuration, CoreConfiguration, DvsConfiguration

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
    tick_period_ns: int | None
    neurons: dict[tuple[int, int, int], int] = field(default_factory=dict)
    decimator_count: int = 0
    input_spikes: int = 0
    output_spikes: int = 0
    synops: int = 0
    busy_ns: int = 0
    sent: list[Spike] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reset_state()

    def reset_state(self) -> None:
        self.neurons = {}
        if self.core.initial_state is not None:
            for f, rows in enumerate(self.core.initial_state.tolist()):
                for y, row in enumerate(rows):
                    for x, v in enumerate(row):
                        self.neurons[f, y, x] = v

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
        channel, in_y, in_x = arrival.feature, arrival.y, arrival.x
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
        self.configuration = configuration
        self.cores = {core.core: ReferenceCore(core, period_ns) for core in configuration.cores}
        # (layer of the source, -1 for the input; its slot; source; destination), by rank
        inputs = (
            configuration.inputs if configuration.dvs is None else configuration.dvs.destinations
        )
        self.links = [(-1, slot, None, to) for slot, to in enumerate(inputs) if to.enable]
        for core in configuration.cores:
            for slot, to in enumerate(core.destinations):
                if to.enable:
                    self.links.append((core.layer, slot, core.core, to))
        self.links.sort(key=lambda link: link[:2])

    def reset_state(self) -> None:
        for core in self.cores.values():
            core.reset_state()

    def run_recording(self, events: list[Event]) -> list[tuple[int, int, int, int, int, int]]:
        """(t_ns, cause, layer, feature, y, x) of monitored layers, by time, then layer."""
        first_ns, last_ns = (events[0].t_us * 1000, events[-1].t_us * 1000) if events else (0, -1)
        sent: dict[int | None, list[Spike]] = {None: self.entering(events)}
        while len(sent) <= len(self.cores):
            for number, core in self.cores.items():
                links = [link for link in self.links if link[3].core == number]
                if number not in sent and all(source in sent for _, _, source, _ in links):
                    arrivals = []
                    for _, _, source, to in links:
                        for spike in sent[source]:
                            at = (spike.y // to.pooling, spike.x // to.pooling)
                            feature = spike.feature + to.feature_shift
                            arrivals.append(Spike(spike.t_ns, spike.cause, feature, *at))
                    arrivals.sort(key=lambda spike: spike.t_ns)  # stable: equal times by link
                    sent[number] = core.run(arrivals, first_ns, last_ns)
        outputs = [
            (s.t_ns, s.cause, core.core.layer, *s[2:])
            for number, core in self.cores.items()
            if core.core.monitor_enable
            for s in sent[number]
        ]
        return sorted(outputs, key=lambda spike: (spike[0], spike[2]))

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
