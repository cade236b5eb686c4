"""The compiled part of the twin: all cores of a chip and the events that enter, in order of time.

Everything happens at a time of its own: a core starts on the spike or leak tick that is next, or a
spike leaves a core or the input. `advance` always does what comes first. A spike leaves when each
place it goes to has room for it; until then its source stalls, and with it all that comes after.
The equations are written out in docs/explanation/twin.md, the times of spikes in delay.py.

State and weights are feature-minor, with kernel columns reversed within each stride phase. So the
neurons of one output row that a spike reaches, and their weights, are two contiguous runs, which
vector.py adds up. No index is checked here: core.py checks shapes, twin.py checks events, and a
spike that falls beyond a map is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from speckfarm_server.twin.vector import (
    PLACES,
    STEP,
    last_step,
    lowest_bit,
    pointer_to,
    record_at,
    smallest,
    step,
)

Pointer: TypeAlias = Any  # to elements of one dtype; records have fields as attributes
Record: TypeAlias = Any
Function = TypeVar("Function", bound=Callable[..., object])

INPUT = 0  # its place among the sources; cores follow in order of their layers
FOREVER_NS = (1 << 62) - 1
# A moment is time in ns and what is done then, in one integer: starts (0) go before leaves (1), for
# they make room.
LEAVES = 1
NEVER = FOREVER_NS * 2 + LEAVES
Q20 = 20  # op_ns_q20 is ns per synaptic operation times 2^20
LOAD_BINS = 1024
FIRST_BIN_LOG2 = 20  # 2^20 ns, about 1 ms; doubled whenever a recording outgrows the bins

# One spike: on its way, waiting, or put out. Alignment makes each field one load or store.
SPIKE_DTYPE = np.dtype(
    [("t_ns", "<i8"), ("cause", "<i8"), ("layer", "u1"), ("feature", "<u2"), ("y", "u1"),
     ("x", "u1")], align=True,
)  # fmt: skip
# fmt: off
CORE_DTYPE = np.dtype([(name, "<i8") for name in (
    # From the configuration.
    "layer", "monitored", "out_features", "out_height", "out_width",
    "kernel_size", "padding_y", "padding_x", "stride_y_log2", "stride_x_log2",
    "fires_from",  # smallest state that fires
    "threshold_high", "threshold_low", "return_to_zero",
    "decimator",  # N; 1 if off
    "tick_period_ns",  # 0: no leak
    "fixed_ns", "op_ns_q20",  # delay.py
    "per_feature",  # 2^32 / out_features, rounded up: lane * per_feature >> 32 is lane // features
    "may_saturate",  # whether its integers can leave 16 bits
    "swaps",  # whether it may serve the second waiting spike before the first
    # Where its parts of the shared arrays begin.
    "weights_at", "biases_at", "state_at", "inbox_at", "pending_at", "first_link", "links",
    # Carried from call to call.
    "busy_ns", "next_tick_ns", "decimator_count", "random",
    "head", "waiting",  # its inbox, a ring
    "pending", "left",  # spikes of what is being served, and how many of them are gone
    "shift_ns",  # how long they were held up
    "wanted_by",  # places whose spikes found no room here, as bits
    "start_ns", "cause",  # of what is being served
    "input_spikes", "output_spikes", "synops", "served_ns", "stalled_ns", "saturated",
)])
LINK_DTYPE = np.dtype([(name, "<i8") for name in (
    "target", "pooling_log2", "feature_shift", "features", "height", "width",
    "slots",  # links of the same source to this target, up to this one
)])
FLOW_DTYPE = np.dtype([(name, "<i8") for name in (
    "sources",  # the input and all cores
    "pipe_ns", "depth", "ring_mask", "is_random",
    "waiting", "taken",  # events of this slice
    "wait_until_ns",  # no event after this slice is earlier; FOREVER_NS: none will come
    "horizon_ns",  # ticks up to here are due
    "origin_ns", "bin_log2",  # of `load`
    "is_input_blocked", "entered_ns", "held_back_ns", "held_back_events",
    "emitted", "room",  # spikes in `outputs`, and how many there may be before a step
    "budget",  # neuron updates before the call returns unfinished
)])
# fmt: on


class Memory(NamedTuple):
    """Pointers to everything, for numba counts references of arrays at every turn."""

    flow: Pointer  # FLOW_DTYPE, one
    cores: Pointer  # CORE_DTYPE, by place; the input's has links only
    links: Pointer  # LINK_DTYPE, grouped by source
    moments: Pointer  # int64, by place: what comes next there
    since: Pointer  # int64, by place: since when a spike has wanted to leave, ns
    weights: Pointer  # int8, (c, ky, kx by phase and reversed, f) for each core
    biases: Pointer  # int16, (w, f) for each core
    state: Pointer  # int16, (h, w, f) for each core
    inboxes: Pointer  # SPIKE_DTYPE, a ring for each core; times of arrival
    pending: Pointer  # SPIKE_DTYPE, h * w * f for each core that has links; times of leaving
    load: Pointer  # int64, (sources, LOAD_BINS) synaptic operations
    events: Pointer  # SPIKE_DTYPE, input in order of time
    outputs: Pointer  # SPIKE_DTYPE, what monitors see


class Run(NamedTuple):
    """Neurons of one row of a map that a spike or tick reaches, and what is added to them."""

    deltas: Pointer  # weights or biases
    deltas_at: int
    first: int  # in `state`
    length: int
    y: int
    low_x: int
    updates: int  # neurons that came before, of this spike or tick


def compiled(function: Function) -> Function:
    """Compiled into its caller."""
    dispatcher: Any = njit(error_model="numpy", nogil=True, forceinline=True)(function)
    wrapped: Function = dispatcher
    return wrapped


@njit(error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def advance(
    chip: tuple[NDArray[Any], ...],  # the first eleven of Memory
    events: NDArray[np.void],
    outputs: NDArray[np.void],
) -> bool:
    """Do what comes next, and so on; True if the next event of the input must be known first.

    Stops early, False, when `outputs` might overflow or the budget is used up.
    """
    flow, cores, links, moments, since, weights, biases, state, inboxes, pending, load = chip
    memory = Memory(
        pointer_to(flow), pointer_to(cores), pointer_to(links), pointer_to(moments),
        pointer_to(since), pointer_to(weights), pointer_to(biases), pointer_to(state),
        pointer_to(inboxes), pointer_to(pending), pointer_to(load), pointer_to(events),
        pointer_to(outputs),
    )  # fmt: skip
    now = record_at(memory.flow, 0)
    _begin(memory, now)
    while now.emitted <= now.room and now.budget > 0:
        place = _first(memory, now.sources)
        moment = memory.moments[place]
        if place == INPUT:
            if now.taken == now.waiting:
                return True
            _enter(memory, now, moment >> 1)
        elif moment & LEAVES:
            _leave(memory, now, place, moment >> 1)
        else:
            _serve(memory, now, place, moment >> 1)
    return False


@compiled
def _begin(memory: Memory, flow: Record) -> None:
    """The input's next moment, and those of idle cores, whose ticks may be due by now."""
    if not flow.is_input_blocked:
        _await_input(memory, flow, flow.entered_ns)
    for place in range(1, flow.sources):
        if record_at(memory.cores, place).pending == 0:
            _rest(memory, flow, place)


@compiled
def _first(memory: Memory, sources: int) -> int:
    """The place of the earliest moment; of equal ones that which has waited longest, then first."""
    found = 0
    earliest = memory.moments[0]
    ties = False
    for place in range(1, sources):  # without branches, for none could be foretold
        moment = memory.moments[place]
        is_earlier = moment < earliest
        ties = (ties | (moment == earliest)) & (not is_earlier)
        found = place if is_earlier else found
        earliest = min(earliest, moment)
    if ties and earliest & LEAVES:
        for place in range(found + 1, sources):
            if memory.moments[place] == earliest and memory.since[place] < memory.since[found]:
                found = place
    return found


@compiled
def _await_input(memory: Memory, flow: Record, last_ns: int) -> None:
    """Let the next event leave the input one pipe before its time, or when the last one has."""
    wants_ns = flow.wait_until_ns
    if flow.taken < flow.waiting:
        wants_ns = record_at(memory.events, flow.taken).t_ns - flow.pipe_ns
    wants_ns = max(wants_ns, last_ns)
    memory.since[INPUT] = wants_ns
    memory.moments[INPUT] = wants_ns * 2 + LEAVES


@compiled
def _enter(memory: Memory, flow: Record, now_ns: int) -> None:
    """Let an event in, if all cores that it goes to have room."""
    event = record_at(memory.events, flow.taken)
    flow.is_input_blocked = not _deliver(memory, flow, INPUT, event, now_ns)
    if flow.is_input_blocked:
        return
    late_ns = now_ns + flow.pipe_ns - event.t_ns
    if late_ns > 0:
        flow.held_back_events += 1
        flow.held_back_ns = max(flow.held_back_ns, late_ns)
    flow.entered_ns = now_ns
    flow.taken += 1
    _await_input(memory, flow, now_ns)


@compiled
def _leave(memory: Memory, flow: Record, place: int, now_ns: int) -> None:
    """Let a core's next spike go, if all that it goes to have room; then the core goes on."""
    core = record_at(memory.cores, place)
    spike = record_at(memory.pending, core.pending_at + core.left)
    if not _deliver(memory, flow, place, spike, now_ns):
        return
    if core.monitored:
        _put(record_at(memory.outputs, flow.emitted), spike, now_ns + flow.pipe_ns)
        flow.emitted += 1
    late_ns = now_ns - memory.since[place]
    core.shift_ns += late_ns
    core.stalled_ns += late_ns
    core.left += 1
    if core.left < core.pending:
        leaves_ns = record_at(memory.pending, core.pending_at + core.left).t_ns + core.shift_ns
        memory.since[place] = leaves_ns
        memory.moments[place] = leaves_ns * 2 + LEAVES
    else:
        core.pending = 0
        core.busy_ns += core.shift_ns
        _rest(memory, flow, place)


@compiled
def _deliver(memory: Memory, flow: Record, place: int, spike: Record, now_ns: int) -> bool:
    """Put a spike into the inboxes at the ends of its links: into all or, if one is full, none."""
    core = record_at(memory.cores, place)
    for number in range(core.first_link, core.first_link + core.links):
        link = record_at(memory.links, number)
        target = record_at(memory.cores, link.target)
        if target.waiting + link.slots > flow.depth and _is_inside(link, spike):
            target.wanted_by |= 1 << place
            memory.moments[place] = NEVER
            return False
    for number in range(core.first_link, core.first_link + core.links):
        link = record_at(memory.links, number)
        if _is_inside(link, spike):
            target = record_at(memory.cores, link.target)
            slot = (target.head + target.waiting) & flow.ring_mask
            arrival = record_at(memory.inboxes, target.inbox_at + slot)
            _put(arrival, spike, now_ns + flow.pipe_ns)
            arrival.feature = spike.feature + link.feature_shift
            arrival.y = spike.y >> link.pooling_log2
            arrival.x = spike.x >> link.pooling_log2
            target.waiting += 1
            if target.waiting == 1 and target.pending == 0:
                _rest(memory, flow, link.target)
    return True


@compiled
def _is_inside(link: Record, spike: Record) -> bool:
    """Whether it falls on the target's map, not on the rest that pooling does not divide."""
    return (
        spike.feature + link.feature_shift < link.features
        and np.int64(spike.y) >> link.pooling_log2 < link.height
        and np.int64(spike.x) >> link.pooling_log2 < link.width
    )


@compiled
def _put(place: Record, spike: Record, t_ns: int) -> None:
    place.t_ns = t_ns
    place.cause = spike.cause
    place.layer = spike.layer
    place.feature = spike.feature
    place.y = spike.y
    place.x = spike.x


@compiled
def _rest(memory: Memory, flow: Record, place: int) -> None:
    """Let a core without anything to do start on what comes next: a spike or a tick."""
    core = record_at(memory.cores, place)
    next_ns = _arrival_ns(memory, core)
    if _ticks_before(core, flow, next_ns):
        next_ns = core.next_tick_ns
    memory.moments[place] = NEVER if next_ns == FOREVER_NS else max(next_ns, core.busy_ns) * 2
    memory.since[place] = FOREVER_NS


@compiled
def _arrival_ns(memory: Memory, core: Record) -> int:
    return record_at(memory.inboxes, core.inbox_at + core.head).t_ns if core.waiting else FOREVER_NS


@compiled
def _ticks_before(core: Record, flow: Record, t_ns: int) -> bool:
    return core.tick_period_ns > 0 and core.next_tick_ns <= min(t_ns, flow.horizon_ns)


@compiled
def _serve(memory: Memory, flow: Record, place: int, now_ns: int) -> None:
    """Start on the next tick or waiting spike, and compute all that comes of it."""
    core = record_at(memory.cores, place)
    core.start_ns = now_ns
    core.pending = core.left = core.shift_ns = 0
    before = flow.emitted
    if _ticks_before(core, flow, _arrival_ns(memory, core)):
        core.next_tick_ns += core.tick_period_ns
        updates = _tick(memory, flow, core)
    else:
        updates = _integrate(memory, flow, core, now_ns)
        core.input_spikes += 1
        core.synops += updates
        _make_room(memory, core, now_ns)
    _pass(memory, flow, core, before)
    service_ns = core.fixed_ns + (updates * core.op_ns_q20 >> Q20)
    core.busy_ns = now_ns + service_ns
    core.served_ns += service_ns
    memory.load[place * LOAD_BINS + _bin(memory, flow, now_ns)] += updates
    flow.budget -= updates + 1
    if core.pending:
        leaves_ns = record_at(memory.pending, core.pending_at).t_ns
        memory.since[place] = leaves_ns
        memory.moments[place] = leaves_ns * 2 + LEAVES
    else:
        _rest(memory, flow, place)


@compiled
def _make_room(memory: Memory, core: Record, now_ns: int) -> None:
    """Let sources that wait for a place in this inbox try again."""
    places = np.uint64(core.wanted_by)
    core.wanted_by = 0
    while places:
        memory.moments[lowest_bit(places)] = now_ns * 2 + LEAVES
        places &= places - np.uint64(1)


@compiled
def _bin(memory: Memory, flow: Record, now_ns: int) -> int:
    """Where in `load` a time is; bins become twice as wide when it lies beyond the last one."""
    since_ns = max(0, now_ns - flow.origin_ns)
    while since_ns >> flow.bin_log2 >= LOAD_BINS:
        flow.bin_log2 += 1
        for row in range(0, flow.sources * LOAD_BINS, LOAD_BINS):
            for n in range(LOAD_BINS // 2):
                both = memory.load[row + 2 * n] + memory.load[row + 2 * n + 1]
                memory.load[row + n] = both
            for n in range(LOAD_BINS // 2, LOAD_BINS):
                memory.load[row + n] = 0
    return since_ns >> flow.bin_log2


@compiled
def _integrate(memory: Memory, flow: Record, core: Record, now_ns: int) -> int:
    """Take a spike from the inbox and add its weights; return how many neurons it reached."""
    second_at = core.inbox_at + (core.head + 1 & flow.ring_mask)
    arrival = record_at(memory.inboxes, core.inbox_at + core.head)
    if flow.is_random and core.swaps and core.waiting > 1:
        second = record_at(memory.inboxes, second_at)
        if second.t_ns <= now_ns and _random(core, 2):
            _swap(arrival, second)
    core.head = core.head + 1 & flow.ring_mask
    core.waiting -= 1
    core.cause = arrival.cause
    y = arrival.y + core.padding_y
    x = arrival.x + core.padding_x
    low_y, high_y, _ = _reach(y, core.stride_y_log2, core.kernel_size, core.out_height)
    low_x, high_x, column = _reach(x, core.stride_x_log2, core.kernel_size, core.out_width)
    length = (high_x - low_x + 1) * core.out_features
    if length <= 0:
        return 0
    kernel_row = arrival.feature * core.kernel_size + y - (low_y << core.stride_y_log2)
    deltas_at = core.weights_at + (kernel_row * core.kernel_size + column) * core.out_features
    kernel_step = (core.kernel_size * core.out_features) << core.stride_y_log2
    first = core.state_at + (low_y * core.out_width + low_x) * core.out_features
    row = core.out_width * core.out_features
    updates = 0
    for out_y in range(low_y, high_y + 1):
        _add_run(memory, flow, core, Run(memory.weights, deltas_at, first, length, out_y, low_x, updates))
        deltas_at -= kernel_step
        first += row
        updates += length
    return updates


@compiled
def _tick(memory: Memory, flow: Record, core: Record) -> int:
    """Add the biases to every neuron; spikes of a tick have no cause (-1)."""
    core.cause = -1
    row = core.out_width * core.out_features
    for y in range(core.out_height):
        first = core.state_at + y * row
        _add_run(memory, flow, core, Run(memory.biases, core.biases_at, first, row, y, 0, y * row))
    return core.out_height * row


@compiled
def _reach(at: int, stride_log2: int, kernel_size: int, out_size: int) -> tuple[int, int, int]:
    """Along one axis: first and last output reached from padded input `at`; column of the first.

    Input `at` is in stride phase `at % stride`; kernel columns of equal phase stand together,
    reversed, so that weights and outputs run the same way.
    """
    last = at >> stride_log2
    phase = at - (last << stride_log2)
    full = kernel_size >> stride_log2
    rest = kernel_size - (full << stride_log2)
    first = last - full + (0 if phase < rest else 1)
    low = max(0, first)
    column = phase * full + min(phase, rest) + low - first
    return low, min(last, out_size - 1), column


@compiled
def _add_run(memory: Memory, flow: Record, core: Record, run: Run) -> None:
    """Add deltas to a run of neurons, and fire those that reach the threshold."""
    low, fires_from = core.threshold_low, core.fires_from
    if core.may_saturate:
        _count_saturated(memory, core, run)
    at = 0
    while at < run.length:
        left = run.length - at
        if left >= STEP:
            reached = step(
                memory.state, run.deltas, run.first + at, run.deltas_at + at, STEP, low, fires_from
            )
        else:
            reached = last_step(
                memory.state, run.deltas, run.first + at, run.deltas_at + at, left, low, fires_from
            )
        while reached:
            _fire(memory, flow, core, run, at + lowest_bit(reached))
            reached &= reached - np.uint64(1)
        at += STEP


@compiled
def _fire(memory: Memory, flow: Record, core: Record, run: Run, lane: int) -> None:
    """Reset a neuron of a run and note its spike."""
    neuron = run.first + lane
    memory.state[neuron] = 0 if core.return_to_zero else memory.state[neuron] - core.threshold_high
    x = lane * core.per_feature >> 32
    place = lane - x * core.out_features, run.y, run.low_x + x
    _emit(memory, flow, core, run.updates + lane + 1, place)


@compiled
def _count_saturated(memory: Memory, core: Record, run: Run) -> None:
    for lane in range(run.length):
        v = np.int64(memory.state[run.first + lane]) + np.int64(run.deltas[run.deltas_at + lane])
        core.saturated += v > 32767 or v < -32768


@compiled
def _emit(
    memory: Memory, flow: Record, core: Record, done: int, place: tuple[int, int, int]
) -> None:
    """Note a spike: one that waits for its turn or, if it goes nowhere else, an output."""
    core.output_spikes += 1
    leaves_ns = core.start_ns + core.fixed_ns + (done * core.op_ns_q20 >> Q20)
    if core.links:
        spike = record_at(memory.pending, core.pending_at + core.pending)
        core.pending += 1
        spike.t_ns = leaves_ns
    else:
        spike = record_at(memory.outputs, flow.emitted)
        flow.emitted += 1
        spike.t_ns = leaves_ns + flow.pipe_ns
    spike.cause = core.cause
    spike.layer = core.layer
    spike.feature, spike.y, spike.x = place


@compiled
def _pass(memory: Memory, flow: Record, core: Record, before: int) -> None:
    """Put what was emitted into another order if that is asked for; let the decimator pass."""
    count = core.pending if core.links else flow.emitted - before
    if count == 0 or (core.decimator == 1 and not flow.is_random and (core.links or core.monitored)):
        return
    spikes = memory.pending if core.links else memory.outputs
    first = core.pending_at if core.links else before
    if flow.is_random:
        for n in range(count - 1, 0, -1):
            _swap(record_at(spikes, first + n), record_at(spikes, first + _random(core, n + 1)))
    kept = 0
    for n in range(count):
        core.decimator_count += 1
        if core.decimator_count == core.decimator:
            core.decimator_count = 0
            _put(record_at(spikes, first + kept), record_at(spikes, first + n), record_at(spikes, first + n).t_ns)
            kept += 1
    if core.links:
        core.pending = kept
    else:
        flow.emitted = before + (kept if core.monitored else 0)


@compiled
def _swap(one: Record, other: Record) -> None:
    """Exchange two spikes, but for their times."""
    one.cause, other.cause = other.cause, one.cause
    one.feature, other.feature = other.feature, one.feature
    one.y, other.y = other.y, one.y
    one.x, other.x = other.x, one.x


@compiled
def _random(core: Record, below: int) -> int:
    """A number from 0 to below - 1 (xorshift; Marsaglia, 2003)."""
    word = np.uint64(core.random)
    word ^= word << np.uint64(13)
    word ^= word >> np.uint64(7)
    word ^= word << np.uint64(17)
    core.random = np.int64(word)
    return np.int64((word >> np.uint64(33)) % np.uint64(below))
