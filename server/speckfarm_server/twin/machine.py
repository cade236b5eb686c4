"""The machine: a chip's configuration laid out in the arrays that the kernel works on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.configuration import CoreConfiguration, Int16Array
from speckfarm_server.twin.assumptions import Assumptions
from speckfarm_server.twin.core import (
    arrange_biases,
    arrange_initial_state,
    arrange_weights,
    core_fields,
    link_fields,
    reach_of,
)
from speckfarm_server.twin.delay import delay_model
from speckfarm_server.twin.graph import Source
from speckfarm_server.twin.kernel import NEVER, advance
from speckfarm_server.twin.records import (
    CORE_DTYPE,
    FIRST_BIN_LOG2,
    FLOW_DTYPE,
    FOREVER_NS,
    INPUT,
    LINK_DTYPE,
    LOAD_BINS,
    REACH,
    SPIKE_DTYPE,
)
from speckfarm_server.twin.vector import STEP

BUDGET_UPDATES = 1 << 27  # neuron updates per call of the kernel: about 0.1 s
CACHE_LINE = 64  # bytes; vectors that cross one cost twice as much
SLACK = 256  # spikes; how often a queue is moved to its front
NO_SPIKES = np.empty(0, SPIKE_DTYPE)


class Machine:
    """All cores of a chip in one set of arrays. `buffer` is how many outputs are held at least."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        chip: str,
        tick_period_ns: int,
        assumptions: Assumptions,
        buffer: int,
    ) -> None:
        self._configured = [source.core for source in sources if source.core is not None]
        self._cores = np.zeros(len(sources), CORE_DTYPE)
        self._flow = np.zeros(1, FLOW_DTYPE)
        is_chain = assumptions.order_seed is None and _is_chain(sources, tick_period_ns)
        ring = 1 << (assumptions.fifo_depth - 1).bit_length()
        largest = max(_neurons(core) for core in self._configured)
        self._outputs = np.empty(largest + buffer, SPIKE_DTYPE)
        self._set(
            sources=len(sources), depth=assumptions.fifo_depth, ring_mask=ring - 1,
            pipe_ns=assumptions.pipe_ns, room=len(self._outputs) - largest,
            is_random=int(assumptions.order_seed is not None),
            is_chain=int(is_chain),
        )  # fmt: skip
        self._events: NDArray[np.void] = NO_SPIKES
        self._lay_out(sources, assumptions.fifo_depth)
        seeds = [0]
        for place, core in enumerate(self._configured, 1):
            delays = delay_model(chip, core.core, assumptions)
            values = core_fields(core, assumptions)
            values |= {"fixed_ns": delays.fixed_ns, "op_ns_q20": delays.op_ns_q20}
            values["tick_period_ns"] = tick_period_ns if core.leak_enable else 0
            is_heard = bool(self._cores["links"][place]) or core.monitor_enable
            is_random = assumptions.order_seed is not None
            values["is_sifted"] = int(values["decimator"] > 1 or is_random or not is_heard)
            seeds.append(_random_state(assumptions.order_seed, core.core))
            self._set_core(place, **values)
        self._seeds = np.array(seeds)
        self.start_recording()

    def reset_state(self) -> None:
        """Give every neuron its initial state."""
        self._state[:] = self._initial_state

    def start_recording(self) -> None:
        """Zero clocks and counters, forget spikes on their way; neurons and decimators stay."""
        for name in _OF_A_RECORDING:
            self._cores[name] = 0
        self._cores["random"] = self._seeds  # a recording comes out the same whatever ran before it
        self._starts[:] = -FOREVER_NS  # every place has always been free
        self._moments[:] = NEVER
        self._load[:] = 0
        self._set(
            wait_until_ns=-1, horizon_ns=FOREVER_NS, origin_ns=0, bin_log2=FIRST_BIN_LOG2, place=0,
            is_input_blocked=0, entered_ns=-FOREVER_NS, held_back_ns=0, held_back_events=0,
        )  # fmt: skip

    def begin(self, origin_ns: int) -> None:
        """The first event of a recording comes at this time: clocks of ticks and load start."""
        self._set(origin_ns=origin_ns)
        self._cores["next_tick_ns"] = origin_ns + self._cores["tick_period_ns"]

    def put(self, events: NDArray[np.void], last_ns: int) -> Iterator[NDArray[np.void]]:
        """Run with SPIKE_DTYPE in order of time, none before `last_ns` will follow; yield outputs.

        A piece, perhaps empty, comes about every 0.1 s at most.
        """
        self._last_ns = last_ns
        self._events = events
        self._set_core(INPUT, taken=0, gone=0, cursor=0, end=len(events))
        self._set(wait_until_ns=last_ns - self._flow["pipe_ns"][0])
        yield from self._advance()

    def finish(self) -> Iterator[NDArray[np.void]]:
        """No event will follow: run until all is done; ticks end with the input."""
        self._events = NO_SPIKES
        flow = self._flow[0]
        horizon_ns = max(self._last_ns, int(flow["entered_ns"] + flow["pipe_ns"]))
        self._set_core(INPUT, taken=0, gone=0, cursor=0, end=0)
        self._set(wait_until_ns=FOREVER_NS, horizon_ns=horizon_ns)
        yield from self._advance()

    @property
    def flow(self) -> np.void:
        """The record of what concerns all; FLOW_DTYPE."""
        record: np.void = self._flow[0]
        return record

    @property
    def cores(self) -> NDArray[np.void]:
        """The records of the cores by layer; CORE_DTYPE."""
        return self._cores[1:]

    @property
    def load(self) -> NDArray[np.int64]:
        """Synaptic operations, (cores, bins); a copy."""
        return self._load[1:].copy()

    def neurons(self, place: int) -> Int16Array:
        """A copy of the state of the core at `place` in `cores`, (f, h, w)."""
        features, height, width = self._configured[place].output_shape
        first = int(self.cores["state_at"][place])
        state = self._state[first : first + features * height * width]
        return np.ascontiguousarray(state.reshape(height, width, features).transpose(2, 0, 1))

    def _advance(self) -> Iterator[NDArray[np.void]]:
        is_done = False
        while not is_done:
            self._set(emitted=0, budget=BUDGET_UPDATES)
            is_done = advance(self._memory, self._events, self._outputs)
            yield copied(self._outputs[: int(self._flow["emitted"][0])])

    def _lay_out(self, sources: Sequence[Source], depth: int) -> None:
        ring = 1 << (depth - 1).bit_length()
        cores = self._configured
        self._state, state_at = _joined([arrange_initial_state(core) for core in cores])
        self._initial_state = self._state.copy()
        weights, weights_at = _joined([arrange_weights(core) for core in cores])
        biases, biases_at = _joined([arrange_biases(core) for core in cores])
        reach, reach_at = _joined([reach_of(core) for core in cores])
        rooms = [0]  # the input's queue are the events
        for source in sources[1:]:
            if source.core is not None and source.ways:
                rooms.append(_neurons(source.core) + depth + SLACK)
            else:
                rooms.append(0)
        queue_at = np.cumsum([0, *rooms])
        links, first_links = _links(sources)
        self._cores["first_link"] = first_links
        self._cores["links"] = [len(source.ways) for source in sources]
        self._cores["queue_at"], self._cores["queue_room"] = queue_at[:-1], rooms
        for place, core in enumerate(cores, 1):
            self._set_core(
                place, neurons=_neurons(core), state_at=state_at[place - 1],
                weights_at=weights_at[place - 1], biases_at=biases_at[place - 1],
                reach_y_at=reach_at[place - 1],
                reach_x_at=reach_at[place - 1] + REACH * core.input_shape[1],
                inbox_at=(place - 1) * ring, starts_at=(place - 1) * ring,
            )  # fmt: skip
        self._starts = np.zeros(len(cores) * ring, np.int64)
        self._moments = np.full(len(sources), NEVER, np.int64)
        self._load = np.zeros((len(sources), LOAD_BINS), np.int64)
        self._memory = (
            self._flow, self._cores, links, self._moments, np.zeros(len(sources), np.int64),
            weights, biases, self._state, reach, np.empty(len(cores) * ring, SPIKE_DTYPE),
            self._starts, np.empty(int(queue_at[-1]), SPIKE_DTYPE), self._load.reshape(-1),
        )  # fmt: skip

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self._flow[name] = value

    def _set_core(self, place: int, **values: int) -> None:
        for name, value in values.items():
            self._cores[name][place] = value


_OF_A_RECORDING = (
    "busy_ns", "next_tick_ns", "head", "waiting", "taken", "gone", "cursor", "end", "shift_ns",
    "wanted_by", "delivered",
    "input_spikes", "output_spikes", "ticks", "stalled_ns", "saturated",
)  # fmt: skip


def copied(spikes: NDArray[np.void]) -> NDArray[np.void]:
    """A copy; of whole words, for numpy copies fields one by one."""
    return spikes.view(np.int64).copy().view(SPIKE_DTYPE)


def _is_chain(sources: Sequence[Source], tick_period_ns: int) -> bool:
    """Whether each source feeds the next one only, and no core has leak ticks."""
    cores = [source.core for source in sources if source.core is not None]
    ticks = tick_period_ns > 0 and any(core.leak_enable for core in cores)
    ways = [[way.core for way in source.ways] for source in sources]
    return not ticks and ways == [*([core.core] for core in cores), []]


def _links(sources: Sequence[Source]) -> tuple[NDArray[np.void], list[int]]:
    """All links, grouped by source, and where each source's begin."""
    places = {source.core.core: n for n, source in enumerate(sources) if source.core is not None}
    rows: list[dict[str, int]] = []
    firsts = []
    for source in sources:
        firsts.append(len(rows))
        for way in source.ways:
            target = sources[places[way.core]].core
            if target is not None:
                fields = link_fields(way, source.core, target)
                rows.append({**fields, "target": places[way.core]})
    links = np.zeros(len(rows), LINK_DTYPE)
    for name in LINK_DTYPE.names or ():
        links[name] = [row[name] for row in rows]
    return links, firsts


def _joined(arrays: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], list[int]]:
    """One array and where each begins: all at a cache line, with room for reads beyond the end."""
    items = CACHE_LINE // arrays[0].itemsize
    firsts = np.cumsum([0, *(-(-len(array) // items) * items for array in arrays)])
    memory = np.zeros((int(firsts[-1]) + STEP + items) * arrays[0].itemsize, np.uint8)
    skipped = -memory.ctypes.data % CACHE_LINE
    joined = memory[skipped : len(memory) - CACHE_LINE + skipped].view(arrays[0].dtype)
    for first, array in zip(firsts, arrays, strict=False):
        joined[first : first + len(array)] = array
    return joined, [int(first) for first in firsts[:-1]]


def _neurons(core: CoreConfiguration) -> int:
    features, height, width = core.output_shape
    return features * height * width


def _random_state(seed: int | None, core: int) -> int:
    """Where a core's random numbers begin; never 0."""
    return 0 if seed is None else int(np.random.default_rng([seed, core]).integers(1, 1 << 62))
