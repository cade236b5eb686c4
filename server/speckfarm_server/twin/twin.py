"""The twin of a configured Speck: input events in, monitored spikes out, in exact integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import ECHO, TIME_SHIFT, PackedEvents
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration, Int16Array
from speckfarm_server.twin.arrivals import NS_PER_US, check_events, spread_out
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions
from speckfarm_server.twin.compilation import compile_kernels
from speckfarm_server.twin.delay import SECOND_NS
from speckfarm_server.twin.graph import find_sources
from speckfarm_server.twin.machine import NO_SPIKES, Machine, copied
from speckfarm_server.twin.preprocess import Int64Array, preprocess
from speckfarm_server.twin.readout import readout_for
from speckfarm_server.twin.records import Q20, SPIKE_DTYPE

# Fields t_ns, cause (index of the input event within the recording; -1: a leak tick), layer (also
# the readout's number and ECHO), feature, y, x.
OUTPUT_DTYPE = SPIKE_DTYPE
FloatArray: TypeAlias = NDArray[np.float64]
SLICE_EVENTS = 1 << 14  # input events that are unpacked together; bounds buffers
BUFFER_SPIKES = 1 << 15  # outputs that are handed over together
NO_OUTPUT = NO_SPIKES


@dataclass(frozen=True, kw_only=True, eq=False)
class Activity:
    """Counts of one recording, one element per layer."""

    input_spikes: Int64Array  # that reached the layer's map
    output_spikes: Int64Array  # fired, before decimator and pooling
    synops: Int64Array  # neuron updates by spikes; those of leak ticks are not counted
    saturated: Int64Array  # neuron updates that 16 bits could not hold
    served_us: FloatArray  # time spent on spikes and ticks, rounded once instead of once each
    stalled_us: FloatArray  # time for which the core stood still, its spikes finding no room
    load: Int64Array  # (layers, bins) neuron updates, those of ticks included
    bin_us: float  # width of a bin of `load`; the first begins with the first event
    held_back_us: float  # the most by which an input event came into the cores too late
    held_back_events: int  # input events that came too late


class Twin:
    """A chip with a configuration loaded: neurons are in their initial state, counters are zero.

    Calls must not overlap. Memory and time between two pieces of `stream` are bounded, whatever the
    network does; the first construction in a process loads or compiles the kernel. Raises
    ValueError for a configuration that the twin cannot run.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        assumptions: Assumptions = ASSUMPTIONS,
        buffer: int = BUFFER_SPIKES,
    ) -> None:
        compile_kernels()
        self._input_shape = configuration.input_shape
        dvs = configuration.dvs
        self._dvs = dvs if dvs is not None and dvs.destinations else None
        self._chip = find_chip(configuration.chip)
        hz = configuration.slow_clock_hz
        if configuration.order_seed is not None:
            assumptions = replace(assumptions, order_seed=configuration.order_seed)
        self._machine = Machine(
            find_sources(configuration),
            chip=configuration.chip,
            tick_period_ns=0 if hz is None else max(1, round(SECOND_NS / hz)),
            assumptions=assumptions,
            buffer=buffer,
        )
        self._readout = readout_for(configuration)
        monitored = sum(core.monitor_enable for core in configuration.cores)
        self._echoes_input = configuration.echoes_input
        # A core is a FIFO.
        self._is_sorted = monitored == 1 and self._readout is None and not self._echoes_input
        self.start_recording()

    def reset_state(self) -> None:
        """Give all neurons their initial state; decimator counters stay."""
        self._machine.reset_state()

    def start_recording(self) -> None:
        """Zero clocks, activity and the count of events; drop what a stream left unfinished."""
        self._events = 0
        self._last_us = -1
        self._finished = False
        self._machine.start_recording()

    def run(self, packed: PackedEvents) -> NDArray[np.void]:
        """Run a recording from here to its end; return all its output, OUTPUT_DTYPE.

        Sorted by time, equal times by layer, a layer's equal times as they were fired. Raises like
        `stream`.
        """
        pieces = [piece for piece in self.stream(packed) if len(piece)]
        pieces += [piece for piece in self.finish() if len(piece)]
        outputs = np.concatenate(pieces) if pieces else NO_OUTPUT
        if self._is_sorted:
            return outputs
        return outputs[np.lexsort((outputs["layer"], outputs["t_ns"]))]

    def stream(self, packed: PackedEvents) -> Iterator[NDArray[np.void]]:
        """Run the next slice of a recording, yielding output as it comes, unsorted.

        Each layer's times never decrease, also from slice to slice; after the last one comes
        `finish`. All together, sorted as `run` does, is the same however a recording is cut.

        A piece, perhaps empty, comes about every 0.1 s at most. A stream that is not read to its
        end leaves neurons in between: `reset_state` and `start_recording` before going on. Raises
        ValueError, before anything has run, for events that are not of the input map or go back in
        time, or that come after `finish`.
        """
        if self._finished:
            raise ValueError("the recording was finished; start_recording before the next")
        check_events(packed, self._input_shape, self._last_us)
        return self._slices(packed)

    def finish(self) -> Iterator[NDArray[np.void]]:
        """End the recording: yield what is still on its way when the last event has entered."""
        self._finished = True
        if self._events:
            yield from self._with_pins(self._machine.finish())
            if self._readout is not None:
                yield self._pins(self._readout.finish(self._last_us * NS_PER_US))

    @property
    def activity(self) -> Activity:
        """Counts since `start_recording`."""
        cores, flow, load = self._machine.cores, self._machine.flow, self._machine.load
        bins = int(cores["busy_ns"].max() - flow["origin_ns"] >> flow["bin_log2"]) + 1
        return Activity(
            input_spikes=cores["input_spikes"].copy(),
            output_spikes=cores["output_spikes"].copy(),
            synops=load.sum(axis=1) - cores["ticks"] * cores["neurons"],
            saturated=cores["saturated"].copy(),
            served_us=self._served_ns(load) / NS_PER_US,
            stalled_us=cores["stalled_ns"] / NS_PER_US,
            load=load[:, : max(0, bins)],
            bin_us=(1 << int(flow["bin_log2"])) / NS_PER_US,
            held_back_us=float(flow["held_back_ns"]) / NS_PER_US,
            held_back_events=int(flow["held_back_events"]),
        )

    def _served_ns(self, load: Int64Array) -> Int64Array:
        cores = self._machine.cores
        services = cores["input_spikes"] + cores["ticks"]
        served_ns: Int64Array = (load.sum(axis=1) * cores["op_ns_q20"] >> Q20) + (
            cores["fixed_ns"] * services
        )
        return served_ns

    def neurons(self, layer: int) -> Int16Array:
        """A copy of a layer's neurons, (f, h, w)."""
        return self._machine.neurons(layer)

    def _slices(self, packed: PackedEvents) -> Iterator[NDArray[np.void]]:
        for first in range(0, len(packed), SLICE_EVENTS):
            piece = packed[first : first + SLICE_EVENTS]
            first_us, self._last_us = (int(piece[at]) >> TIME_SHIFT for at in (0, -1))
            if self._events == 0:
                self._machine.begin(first_us * NS_PER_US)
                if self._readout is not None:
                    self._readout.start_recording(first_us * NS_PER_US)
            arrivals = self._arrivals(piece)
            self._events += len(piece)
            if self._echoes_input:
                yield _echo(arrivals)
            yield from self._with_pins(self._machine.put(arrivals, self._last_us * NS_PER_US))

    def _with_pins(self, pieces: Iterator[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
        """Add what the readout layer tells, if it is used."""
        for piece in pieces:
            yield piece
            if self._readout is not None and len(piece):
                spikes = piece[piece["layer"] == self._readout.layer]
                until_ns = int(spikes["t_ns"][-1]) if len(spikes) else 0
                yield self._pins(self._readout.push(spikes, until_ns))

    def _pins(self, pins: NDArray[np.void]) -> NDArray[np.void]:
        outputs = np.zeros(len(pins), OUTPUT_DTYPE)
        outputs["t_ns"], outputs["feature"] = pins["t_ns"], pins["index"]
        outputs["cause"], outputs["layer"] = -1, self._chip.readout
        return outputs

    def _arrivals(self, packed: PackedEvents) -> NDArray[np.void]:
        cause = np.arange(self._events, self._events + len(packed))
        if self._dvs is not None:
            packed, index = preprocess(packed, self._dvs, self._chip)
            cause = cause[index]
        return spread_out(packed, cause)


def _echo(arrivals: NDArray[np.void]) -> NDArray[np.void]:
    """What the monitor of the event pre-processing layer shows: each event as it leaves."""
    echo = copied(arrivals)  # the kernel moves `arrivals` about
    echo["layer"] = ECHO
    return echo
