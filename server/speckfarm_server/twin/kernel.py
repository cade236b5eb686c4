"""The compiled part of the twin: spikes enter, wait in front of cores, are served, and leave.

A spike leaves when each place it goes to has room for it; until then its source stalls, and with it
all that comes after. Its time is the latest of when it was ready and when that room came about.

Where spikes of several sources meet, or leak ticks come between, all happens in order of time: a
core starts on what is next, or a spike leaves, and `advance` always does what comes first. Without
that a core's spikes, and their times, do not depend on what other cores have done meanwhile, so
cores go on in whatever order is quickest: most downstream first, each as long as it can. Both ways
give the same, and tests say so.

No index is checked here: core.py checks shapes, twin.py checks events, and a spike that falls
beyond a map is dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from speckfarm_server.twin.records import FOREVER_NS, INPUT, Memory, Record, compiled
from speckfarm_server.twin.service import put, serve
from speckfarm_server.twin.vector import highest_bit, lowest_bit, pointer_to, record_at

# A moment is time in ns and what is done then, in one integer: starts (0) go before leaves (1), for
# they make room.
LEAVES = 1
NEVER = FOREVER_NS * 2 + LEAVES
BLOCKED = -FOREVER_NS  # instead of the time at which a spike leaves


@njit(error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def advance(
    chip: tuple[NDArray[Any], ...],  # the first twelve of Memory
    events: NDArray[np.void],
    outputs: NDArray[np.void],
) -> bool:
    """Do what comes next, and so on; True if the next event of the input must be known first.

    Stops early, False, when `outputs` might overflow or the budget is used up.
    """
    flow, cores, links, moments, since, weights, biases, state, reach, inboxes, pending, load = chip
    memory = Memory(
        pointer_to(flow), pointer_to(cores), pointer_to(links), pointer_to(moments),
        pointer_to(since), pointer_to(weights), pointer_to(biases), pointer_to(state),
        pointer_to(reach), pointer_to(inboxes), pointer_to(pending), pointer_to(load),
        pointer_to(events), pointer_to(outputs),
    )  # fmt: skip
    record = record_at(memory.flow, 0)
    if record.is_ordered:
        return _advance_in_order(memory, record)
    return _advance_downstream_first(memory, record)


@compiled
def _may_go_on(flow: Record) -> bool:
    return flow.emitted <= flow.room and flow.budget > 0


@compiled
def _advance_downstream_first(memory: Memory, flow: Record) -> bool:
    flow.ready |= flow.taken < flow.waiting
    while _may_go_on(flow):
        places = np.uint64(flow.ready & ~flow.blocked)
        if not places:
            return True
        place = highest_bit(places)
        if place == INPUT:
            _enter_all(memory, flow)
        else:
            _go_on(memory, flow, place)
    return False


@compiled
def _enter_all(memory: Memory, flow: Record) -> None:
    """Let in all events that find room."""
    while flow.taken < flow.waiting:
        event = record_at(memory.events, flow.taken)
        if not _enter(memory, flow, event, max(event.t_ns - flow.pipe_ns, flow.entered_ns)):
            return
    flow.ready &= ~1


@compiled
def _go_on(memory: Memory, flow: Record, place: int) -> None:
    """Let a core serve what waits there, and its spikes leave, as far as they find room."""
    core = record_at(memory.cores, place)
    while _may_go_on(flow):
        while core.left < core.pending:
            if not _leave(memory, flow, place, _wants_ns(memory, core)):
                return
        if not core.waiting:
            flow.ready &= ~(1 << place)
            return
        _make_room(memory, flow, core, BLOCKED)
        serve(memory, flow, place, max(_arrival_ns(memory, core), core.busy_ns), False)


@compiled
def _advance_in_order(memory: Memory, flow: Record) -> bool:
    if not flow.blocked & 1:
        _await_input(memory, flow)
    for place in range(1, flow.sources):
        core = record_at(memory.cores, place)
        if core.left == core.pending:
            _rest(memory, flow, core, place)
    while _may_go_on(flow):
        place = _first(memory, flow.sources)
        moment = memory.moments[place]
        if place == INPUT:
            if flow.taken == flow.waiting:
                return True
            if _enter(memory, flow, record_at(memory.events, flow.taken), moment >> 1):
                _await_input(memory, flow)
        elif moment & LEAVES:
            if _leave(memory, flow, place, moment >> 1):
                _await_next(memory, flow, place)
        else:
            core = record_at(memory.cores, place)
            _make_room(memory, flow, core, moment >> 1)
            is_tick = _ticks_before(core, flow, _arrival_ns(memory, core))
            serve(memory, flow, place, moment >> 1, is_tick)
            _await_next(memory, flow, place)
    return False


@compiled
def _first(memory: Memory, sources: int) -> int:
    """The place of the earliest moment; of equal ones that which has waited longest, then first."""
    found = 0
    earliest = memory.moments[0]
    for place in range(1, sources):
        moment = memory.moments[place]
        if moment < earliest:
            found, earliest = place, moment
        elif moment == earliest and moment & LEAVES and memory.since[place] < memory.since[found]:
            found = place
    return found


@compiled
def _await_input(memory: Memory, flow: Record) -> None:
    """Let the next event leave the input one pipe before its time, or when the last one has."""
    wants_ns = flow.wait_until_ns
    if flow.taken < flow.waiting:
        wants_ns = record_at(memory.events, flow.taken).t_ns - flow.pipe_ns
    wants_ns = max(wants_ns, flow.entered_ns)
    memory.since[INPUT] = wants_ns
    memory.moments[INPUT] = wants_ns * 2 + LEAVES


@compiled
def _await_next(memory: Memory, flow: Record, place: int) -> None:
    """Let a core's next spike leave when it is ready, or the core start on what comes next."""
    core = record_at(memory.cores, place)
    if core.left < core.pending:
        memory.since[place] = _wants_ns(memory, core)
        memory.moments[place] = memory.since[place] * 2 + LEAVES
    else:
        _rest(memory, flow, core, place)


@compiled
def _rest(memory: Memory, flow: Record, core: Record, place: int) -> None:
    next_ns = _arrival_ns(memory, core)
    if _ticks_before(core, flow, next_ns):
        next_ns = core.next_tick_ns
    memory.moments[place] = NEVER if next_ns == FOREVER_NS else max(next_ns, core.busy_ns) * 2
    memory.since[place] = FOREVER_NS


@compiled
def _wants_ns(memory: Memory, core: Record) -> int:
    return record_at(memory.pending, core.pending_at + core.left).t_ns + core.shift_ns


@compiled
def _arrival_ns(memory: Memory, core: Record) -> int:
    if not core.waiting:
        return FOREVER_NS
    return record_at(memory.inboxes, core.inbox_at + core.head).t_ns


@compiled
def _ticks_before(core: Record, flow: Record, t_ns: int) -> bool:
    return core.tick_period_ns > 0 and core.next_tick_ns <= min(t_ns, flow.horizon_ns)


@compiled
def _make_room(memory: Memory, flow: Record, core: Record, now_ns: int) -> None:
    """A place in this inbox becomes free: let sources that wait for one try again."""
    places = np.uint64(core.wanted_by)
    flow.blocked &= ~core.wanted_by
    core.wanted_by = 0
    while places and flow.is_ordered:
        memory.moments[lowest_bit(places)] = now_ns * 2 + LEAVES
        places &= places - np.uint64(1)


@compiled
def _enter(memory: Memory, flow: Record, event: Record, wants_ns: int) -> bool:
    """Let an event in, if all cores that it goes to have room."""
    left_ns = _deliver(memory, flow, INPUT, event, wants_ns)
    if left_ns == BLOCKED:
        return False
    late_ns = left_ns + flow.pipe_ns - event.t_ns
    if late_ns > 0:
        flow.held_back_events += 1
        flow.held_back_ns = max(flow.held_back_ns, late_ns)
    flow.entered_ns = left_ns
    flow.taken += 1
    return True


@compiled
def _leave(memory: Memory, flow: Record, place: int, wants_ns: int) -> bool:
    """Let a core's next spike go, if all cores that it goes to have room."""
    core = record_at(memory.cores, place)
    spike = record_at(memory.pending, core.pending_at + core.left)
    left_ns = _deliver(memory, flow, place, spike, wants_ns)
    if left_ns == BLOCKED:
        return False
    if core.monitored:
        put(record_at(memory.outputs, flow.emitted), spike, left_ns + flow.pipe_ns)
        flow.emitted += 1
    late_ns = left_ns - spike.t_ns - core.shift_ns
    core.shift_ns += late_ns
    core.stalled_ns += late_ns
    core.left += 1
    if core.left == core.pending:
        core.busy_ns += core.shift_ns
    return True


@compiled
def _deliver(memory: Memory, flow: Record, place: int, spike: Record, wants_ns: int) -> int:
    """Put a spike into the inboxes at the ends of its links; return the time at which it leaves.

    BLOCKED, with nothing done, if one of them is full.
    """
    core = record_at(memory.cores, place)
    leaves_ns = wants_ns
    for number in range(core.first_link, core.first_link + core.links):
        link = record_at(memory.links, number)
        if _is_inside(link, spike):
            target = record_at(memory.cores, link.target)
            last = target.waiting + link.slots
            if last > flow.depth:
                target.wanted_by |= 1 << place
                flow.blocked |= 1 << place
                memory.moments[place] = NEVER
                return BLOCKED
            # Served where the last of the places that it takes has come from.
            slot = target.head + last - 1 - flow.depth & flow.ring_mask
            leaves_ns = max(leaves_ns, record_at(memory.inboxes, target.inbox_at + slot).t_ns)
    for number in range(core.first_link, core.first_link + core.links):
        link = record_at(memory.links, number)
        if _is_inside(link, spike):
            _arrive(memory, flow, link, spike, leaves_ns + flow.pipe_ns)
    return leaves_ns


@compiled
def _arrive(memory: Memory, flow: Record, link: Record, spike: Record, t_ns: int) -> None:
    target = record_at(memory.cores, link.target)
    slot = target.head + target.waiting & flow.ring_mask
    arrival = record_at(memory.inboxes, target.inbox_at + slot)
    arrival.t_ns = t_ns
    arrival.cause = spike.cause
    arrival.feature = spike.feature + link.feature_shift
    arrival.y = np.int64(spike.y) >> link.pooling_log2
    arrival.x = np.int64(spike.x) >> link.pooling_log2
    target.waiting += 1
    flow.ready |= 1 << link.target
    if flow.is_ordered and target.waiting == 1 and target.left == target.pending:
        _rest(memory, flow, target, link.target)


@compiled
def _is_inside(link: Record, spike: Record) -> bool:
    """Whether it falls on the target's map, not on the rest that pooling does not divide."""
    return (
        np.int64(spike.feature) + link.feature_shift < link.features
        and np.int64(spike.y) >> link.pooling_log2 < link.height
        and np.int64(spike.x) >> link.pooling_log2 < link.width
    )
