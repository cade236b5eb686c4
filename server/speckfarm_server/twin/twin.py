"""The twin of a configured Speck: input events in, monitored spikes out, in exact integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import TIME_SHIFT, PackedEvents, unpack
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration, Int16Array
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions
from speckfarm_server.twin.core import Core, Surroundings
from speckfarm_server.twin.delay import SECOND_NS, delay_model
from speckfarm_server.twin.flow import Flow, Limits, Station
from speckfarm_server.twin.graph import order_cores
from speckfarm_server.twin.kernel import SPIKE_DTYPE, Spikes, compile_kernels
from speckfarm_server.twin.preprocess import Int64Array, preprocess

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
NS_PER_US = 1000
LIMITS = Limits()
NO_OUTPUT = np.empty(0, OUTPUT_DTYPE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Activity:
    """Counts of one recording, one element per layer."""

    input_spikes: Int64Array  # that reached the layer's map
    output_spikes: Int64Array  # fired, before decimator and pooling
    synops: Int64Array  # neuron updates by spikes; those of leak ticks are not counted


class Twin:
    """A chip with a configuration loaded: neurons are in their initial state, counters are zero.

    Calls must not overlap. Memory and time between two pieces of `stream` are bounded, whatever the
    network does (`Limits`); the first construction in a process loads or compiles the kernel.
    Raises ValueError for a configuration that the twin cannot run.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        assumptions: Assumptions = ASSUMPTIONS,
        limits: Limits = LIMITS,
    ) -> None:
        compile_kernels()
        self._input_shape = configuration.input_shape
        dvs = configuration.dvs
        self._dvs = dvs if dvs is not None and dvs.destinations else None
        self._chip = find_chip(configuration.chip)
        hz = configuration.slow_clock_hz
        stations = [
            Station(
                node,
                Surroundings(
                    delays=delay_model(configuration.chip, node.core.core, assumptions),
                    tick_period_ns=0 if hz is None else max(1, round(SECOND_NS / hz)),
                    assumptions=assumptions,
                    buffer_spikes=limits.buffer,
                ),
            )
            for node in order_cores(configuration)
        ]
        self._cores = [station.core for station in stations]
        self._flow = Flow(stations, limits)
        self.start_recording()

    def reset_state(self) -> None:
        """Give all neurons their initial state; decimator counters stay."""
        for core in self._cores:
            core.reset_state()

    def start_recording(self) -> None:
        """Zero clocks, activity and the count of events; drop what a stream left unfinished."""
        self._events = 0
        self._last_us = -1
        self._finished = False
        self._flow.start_recording()
        for core in self._cores:
            core.start_recording()

    def run(self, packed: PackedEvents) -> NDArray[np.void]:
        """Run a recording from here to its end; return all its output, OUTPUT_DTYPE.

        Sorted by time, equal times by layer, a layer's equal times as they were fired. Raises like
        `stream`.
        """
        pieces = [piece for piece in self.stream(packed) if len(piece)]
        pieces += [piece for piece in self.finish() if len(piece)]
        outputs = np.concatenate(pieces) if pieces else NO_OUTPUT
        if sum(core.monitored for core in self._cores) == 1:
            return outputs  # a core is a FIFO: sorted already
        return outputs[np.lexsort((outputs["layer"], outputs["t_ns"]))]

    def stream(self, packed: PackedEvents) -> Iterator[NDArray[np.void]]:
        """Run the next slice of a recording, yielding output as it comes, unsorted.

        Each layer's times never decrease, also from slice to slice; after the last one comes
        `finish`. All together, sorted as `run` does, is the same however a recording is cut.

        A piece, perhaps empty, comes about every 0.1 s at most. A stream that is not read to its
        end leaves neurons in between: `reset_state` and `start_recording` before going on. Raises
        ValueError, before anything has run, for events that are not of the input map or go back in
        time, or that come after `finish`; BoardFault TWIN_QUEUE_TOO_LONG when too many spikes wait
        in front of a merge.
        """
        if self._finished:
            raise ValueError("the recording was finished; start_recording before the next")
        _check_events(packed, self._input_shape, self._last_us)
        return self._slices(packed)

    def finish(self) -> Iterator[NDArray[np.void]]:
        """End the recording: yield what merges held back, for more input might have preceded it.

        Nothing if every core has one source at most. Raises BoardFault like `stream`.
        """
        self._finished = True
        self._flow.end_input()
        yield from self._settled()

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
            piece = packed[first : first + SLICE_EVENTS]
            first_us, self._last_us = (int(piece[at]) >> TIME_SHIFT for at in (0, -1))
            if self._events == 0:
                for core in self._cores:
                    core.start_ticks(first_us * NS_PER_US)
            self._flow.put(self._arrivals(piece), self._last_us * NS_PER_US)
            self._events += len(piece)
            outputs = self._settled()
            yield next(outputs, NO_OUTPUT)  # also if nothing passed the pre-processing layer
            yield from outputs

    def _arrivals(self, packed: PackedEvents) -> Spikes:
        cause = np.arange(self._events, self._events + len(packed))
        if self._dvs is not None:
            packed, index = preprocess(packed, self._dvs, self._chip)
            cause = cause[index]
        events = unpack(packed)
        spikes = np.empty(len(packed), SPIKE_DTYPE)
        spikes["t_ns"] = events["t"] * NS_PER_US
        spikes["cause"] = cause
        for name in ("feature", "y", "x"):
            spikes[name] = events[name]
        return spikes

    def _settled(self) -> Iterator[NDArray[np.void]]:
        for core, spikes in self._flow.settle():
            yield _outputs(core, spikes) if core.monitored else NO_OUTPUT


def _outputs(core: Core, spikes: Spikes) -> NDArray[np.void]:
    outputs = np.empty(len(spikes), OUTPUT_DTYPE)
    outputs["layer"] = core.layer
    for name in SPIKE_DTYPE.names or ():
        outputs[name] = spikes[name]
    return outputs


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
