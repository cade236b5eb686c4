"""The twin of a configured Speck: input events in, monitored spikes out, in exact integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import PackedEvents, unpack
from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    Int16Array,
)
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions
from speckfarm_server.twin.core import NEVER_NS, Core
from speckfarm_server.twin.delay import SECOND_NS, delay_model
from speckfarm_server.twin.kernel import SPIKE_DTYPE, compile_kernels

Int64Array: TypeAlias = NDArray[np.int64]

OUTPUT_DTYPE = np.dtype([
    ("t_ns", "<i8"),
    ("cause", "<i8"),  # index of the input event within the recording; -1: a leak tick
    ("layer", "u1"),
    ("feature", "<u2"),
    ("y", "u1"),
    ("x", "u1"),
])
SLICE_EVENTS = 4096  # input events that go through all cores together; bounds buffers
CHECK_EVENTS = 1 << 16  # at a time, to bound temporaries
NO_OUTPUT = np.empty(0, OUTPUT_DTYPE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Activity:
    """Counts of one recording, one element per layer."""

    input_spikes: Int64Array  # that reached the layer's map
    output_spikes: Int64Array  # fired, before decimator and pooling
    synops: Int64Array  # neuron updates by spikes; those of leak ticks are not counted


class Twin:
    """A chip with a configuration loaded: neurons and decimator counters are zero.

    Calls must not overlap. Memory and time between two pieces of `stream` are bounded, whatever the
    network does; the first construction in a process loads or compiles the kernel.
    """

    def __init__(
        self, configuration: Configuration, *, assumptions: Assumptions = ASSUMPTIONS
    ) -> None:
        compile_kernels()
        hz = configuration.slow_clock_hz
        self._input_shape = configuration.input_shape
        self._cores = [
            Core(
                core,
                link,
                delays=delay_model(configuration.chip, core.core, assumptions),
                tick_period_ns=0 if hz is None else max(1, round(SECOND_NS / hz)),
                assumptions=assumptions,
            )
            for core, link in _chain(configuration)
        ]
        self.start_recording()

    def reset_state(self) -> None:
        """Zero all neurons; decimator counters stay."""
        for core in self._cores:
            core.reset_state()

    def start_recording(self) -> None:
        """Zero clocks, activity and the count of events; drop what a stream left unfinished."""
        self._events = 0
        self._last_us = -1
        for core in self._cores:
            core.start_recording()

    def run(self, packed: PackedEvents) -> NDArray[np.void]:
        """Run the next slice of a recording; return all its output, OUTPUT_DTYPE.

        Sorted by time, equal times by layer, a layer's equal times as they were fired. The next
        slice's output may begin before this one's ends, but no layer's times ever decrease; sorted
        together, slices give the same array however a recording is cut. Raises like `stream`.
        """
        pieces = [piece for piece in self.stream(packed) if len(piece)]
        outputs = np.concatenate(pieces) if pieces else NO_OUTPUT
        if sum(core.monitored for core in self._cores) == 1:
            return outputs  # a core is a FIFO: sorted already
        return outputs[np.lexsort((outputs["layer"], outputs["t_ns"]))]

    def stream(self, packed: PackedEvents) -> Iterator[NDArray[np.void]]:
        """Run like `run`, yielding output as it comes: unsorted, but each layer's in order.

        A piece, perhaps empty, comes about every 0.1 s at most. One that is not read to its end
        leaves neurons in between: `reset_state` and `start_recording` before going on. Raises
        ValueError, before anything has run, for events that are not of the input map or go back in
        time.
        """
        _check_events(packed, self._input_shape, self._last_us)
        return self._slices(packed)

    @property
    def activity(self) -> Activity:
        """Counts since `start_recording`."""
        counts = np.array([core.counts for core in self._by_layer()], np.int64)
        return Activity(input_spikes=counts[:, 0], output_spikes=counts[:, 1], synops=counts[:, 2])

    def neurons(self, layer: int) -> Int16Array:
        """A copy of a layer's neurons, (f, h, w)."""
        return self._by_layer()[layer].neurons

    def _by_layer(self) -> list[Core]:
        return sorted(self._cores, key=lambda core: core.layer)

    def _slices(self, packed: PackedEvents) -> Iterator[NDArray[np.void]]:
        for first in range(0, len(packed), SLICE_EVENTS):
            arrivals = self._arrivals(packed[first : first + SLICE_EVENTS])
            self._cores[0].accept(arrivals)
            yield from self._drain(0, int(arrivals["t_ns"][-1]))

    def _arrivals(self, packed: PackedEvents) -> NDArray[np.void]:
        events = unpack(packed)
        spikes = np.empty(len(packed), SPIKE_DTYPE)
        spikes["t_ns"] = events["t"] * 1000
        spikes["cause"] = np.arange(self._events, self._events + len(packed))
        for name in ("feature", "y", "x"):
            spikes[name] = events[name]
        if self._events == 0:
            for core in self._cores:
                core.start_ticks(int(spikes["t_ns"][0]))
        self._events += len(packed)
        self._last_us = int(events["t"][-1])
        return spikes

    def _drain(self, position: int, horizon_ns: int) -> Iterator[NDArray[np.void]]:
        """Advance a core, and those behind it whenever its buffer fills, until nothing waits.

        All later arrivals lie behind `horizon_ns`, so ticks up to there can be served. A core
        behind one that is not finished serves only the ticks before its arrivals.
        """
        core, behind = self._cores[position], self._cores[position + 1 : position + 2]
        finished = False
        while not finished:
            finished = core.advance(horizon_ns)
            yield _outputs(core) if core.monitored else NO_OUTPUT
            for follower in behind:
                follower.accept(core.emitted)
                yield from self._drain(position + 1, horizon_ns if finished else NEVER_NS)


def _outputs(core: Core) -> NDArray[np.void]:
    spikes = core.emitted
    outputs = np.empty(len(spikes), OUTPUT_DTYPE)
    outputs["layer"] = core.layer
    for name in SPIKE_DTYPE.names or ():
        outputs[name] = spikes[name]
    return outputs


def _chain(configuration: Configuration) -> list[tuple[CoreConfiguration, Destination]]:
    """Cores with the link that leads to each, in the order in which spikes pass them."""
    cores = configuration.cores
    onward = {core.core: [link for link in core.destinations if link.enable] for core in cores}
    targets = {link.core for links in onward.values() for link in links}
    links = [Destination(core=core.core) for core in cores if core.core not in targets]
    chain: list[tuple[CoreConfiguration, Destination]] = []
    while len(links) == 1 and len(chain) < len(cores):
        core = configuration.core_of(links[0].core)
        if core is None:
            break
        chain.append((core, links[0]))
        links = onward[core.core]
    if links or not chain or len(chain) < len(cores):
        found = {number: [link.core for link in links] for number, links in onward.items()}
        raise ValueError(f"core -> destinations: found {found}; the twin runs one chain of cores")
    return chain


def _check_events(packed: PackedEvents, shape: tuple[int, int, int], last_us: int) -> None:
    """Raise ValueError for the first event that is not of the input map or goes back in time."""
    sizes = {"layer": 1, "feature": shape[0], "y": shape[1], "x": shape[2]}
    for first in range(0, len(packed), CHECK_EVENTS):
        events = unpack(packed[first : first + CHECK_EVENTS])
        for name, size in sizes.items():
            found = events[name]
            if found.max() >= size:
                at = int(np.argmax(found >= size))
                allowed = f"must be 0 to {size - 1}"
                raise ValueError(f"event {first + at}: {name} is {found[at]}, {allowed}")
        steps_us = np.diff(events["t"], prepend=last_us)
        if steps_us.min() < 0:
            at = int(np.argmax(steps_us < 0))
            text = f"{-steps_us[at]} us before the last one; sort events by time"
            raise ValueError(f"event {first + at} is {text}")
        last_us = int(events["t"][-1])
