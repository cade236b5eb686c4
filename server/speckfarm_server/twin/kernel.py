"""The compiled part of the twin: spikes enter, wait in front of cores, are served, and leave.

A spike leaves for each place it goes to when there is room; until it has left for all, its source
stalls, and with it all that comes after. Where spikes of several sources meet, or leak ticks come
between, all happens in order of time: a core starts on what is next, or a spike leaves, and what
comes first is done. Chains need no such order and have a faster way of their own, chain.py, with
the same results.

No index is checked here: core.py checks shapes, twin.py checks events, and a spike that falls
beyond a map is dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from speckfarm_server.twin.chain import advance_chain
from speckfarm_server.twin.pointers import lowest_bit, pointer_to, record_at
from speckfarm_server.twin.records import FOREVER_NS, INPUT, Memory, Record, called, compiled
from speckfarm_server.twin.service import (
    is_inside,
    may_go_on,
    put,
    random,
    serve,
    serve_tick,
    swap,
    work_of,
)

# A moment is time in ns and what is done then, in one integer: starts (0) go before leaves (1), for
# they make room.
LEAVES = 1
NEVER = FOREVER_NS * 2 + LEAVES


@njit(error_model="numpy", nogil=True)
def advance(
    chip: tuple[NDArray[Any], ...],  # the first thirteen of Memory
    events: NDArray[np.void],
    outputs: NDArray[np.void],
) -> bool:
    """Do what comes next, and so on; True if the next event of the input must be known first.

    Stops early, False, when `outputs` might overflow or the budget is used up.
    """
    (
        flow,
        cores,
        links,
        moments,
        since,
        weights,
        biases,
        state,
        reach,
        inboxes,
        starts,
        spikes,
        load,
    ) = chip
    memory = Memory(
        pointer_to(flow), pointer_to(cores), pointer_to(links), pointer_to(moments),
        pointer_to(since), pointer_to(weights), pointer_to(biases), pointer_to(state),
        pointer_to(reach), pointer_to(inboxes), pointer_to(starts), pointer_to(spikes),
        pointer_to(load), pointer_to(events), pointer_to(outputs),
    )  # fmt: skip
    record = record_at(memory.flow, 0)
    if record.is_chain:
        return advance_chain(memory, record)
    return _advance_in_order(memory, record)


@called
def _advance_in_order(memory: Memory, flow: Record) -> bool:
    queue = record_at(memory.cores, INPUT)
    if not flow.is_input_blocked:
        _await_event(memory, flow, queue)
    for place in range(1, flow.sources):
        if not _has_spikes(record_at(memory.cores, place)):
            _rest(memory, flow, place)
    while may_go_on(flow):
        place = _first(memory, flow.sources)
        moment = memory.moments[place]
        if place == INPUT:
            if queue.cursor == queue.end:
                return True
            _enter(memory, flow, queue, moment >> 1)
        elif moment & LEAVES:
            _leave(memory, flow, place, moment >> 1)
        else:
            _start(memory, flow, place, moment >> 1)
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
def _await_event(memory: Memory, flow: Record, queue: Record) -> None:
    """Let the next event leave the input one pipe before its time, or when the last one has."""
    wants_ns = flow.wait_until_ns
    if queue.cursor < queue.end:
        wants_ns = record_at(memory.events, queue.cursor).t_ns - flow.pipe_ns
    _await(memory, INPUT, max(wants_ns, flow.entered_ns))


@compiled
def _await(memory: Memory, place: int, leaves_ns: int) -> None:
    memory.since[place] = leaves_ns
    memory.moments[place] = leaves_ns * 2 + LEAVES


@compiled
def _go_on(memory: Memory, flow: Record, place: int) -> None:
    """Let a core's next spike leave when it is ready, or the core start on what comes next."""
    core = record_at(memory.cores, place)
    if _has_spikes(core):
        spike = record_at(memory.spikes, core.queue_at + core.cursor)
        _await(memory, place, spike.t_ns + core.shift_ns)
    else:
        core.busy_ns += core.shift_ns
        core.shift_ns = core.cursor = core.end = 0
        _rest(memory, flow, place)


@compiled
def _has_spikes(core: Record) -> Any:
    return core.cursor < core.end


@compiled
def _rest(memory: Memory, flow: Record, place: int) -> None:
    """Let a core without spikes start on what comes next: a spike or a tick."""
    core = record_at(memory.cores, place)
    next_ns = _arrival_ns(memory, core)
    if _ticks_before(core, flow, next_ns):
        next_ns = core.next_tick_ns
    memory.moments[place] = NEVER if next_ns == FOREVER_NS else max(next_ns, core.busy_ns) * 2
    memory.since[place] = FOREVER_NS


@compiled
def _arrival_ns(memory: Memory, core: Record) -> int:
    if not core.waiting:
        return FOREVER_NS
    return record_at(memory.inboxes, core.inbox_at + core.head).t_ns


@compiled
def _ticks_before(core: Record, flow: Record, t_ns: int) -> Any:
    return core.tick_period_ns > 0 and core.next_tick_ns <= min(t_ns, flow.horizon_ns)


@compiled
def _enter(memory: Memory, flow: Record, queue: Record, now_ns: int) -> None:
    """Let an event in, if all cores that it goes to have room."""
    event = record_at(memory.events, queue.cursor)
    flow.is_input_blocked = not _deliver(memory, flow, INPUT, event, now_ns)
    if flow.is_input_blocked:
        return
    late_ns = now_ns + flow.pipe_ns - event.t_ns
    flow.held_back_events += late_ns > 0
    flow.held_back_ns = max(flow.held_back_ns, late_ns)
    flow.entered_ns = now_ns
    queue.cursor += 1
    _await_event(memory, flow, queue)


@compiled
def _leave(memory: Memory, flow: Record, place: int, now_ns: int) -> None:
    """Let a core's next spike go, if all cores that it goes to have room."""
    core = record_at(memory.cores, place)
    spike = record_at(memory.spikes, core.queue_at + core.cursor)
    if not _deliver(memory, flow, place, spike, now_ns):
        return
    if core.monitored:
        put(record_at(memory.outputs, flow.emitted), spike, now_ns + flow.pipe_ns)
        flow.emitted += 1
    late_ns = now_ns - memory.since[place]
    core.shift_ns += late_ns
    core.stalled_ns += late_ns
    core.cursor += 1
    _go_on(memory, flow, place)


@compiled
def _deliver(memory: Memory, flow: Record, place: int, spike: Record, now_ns: int) -> bool:
    """Put a spike into the inboxes at the ends of its links; False if one is full.

    Then those that had room have theirs, and the next call sees to the others.
    """
    core = record_at(memory.cores, place)
    waits = False
    for number in range(core.links):
        link = record_at(memory.links, core.first_link + number)
        if core.delivered >> number & 1 or not is_inside(link, spike):
            continue
        target = record_at(memory.cores, link.target)
        if target.waiting == flow.depth:
            target.wanted_by |= 1 << place
            waits = True
        else:
            core.delivered |= 1 << number
            _arrive(memory, flow, core.first_link + number, spike, now_ns + flow.pipe_ns)
    if waits:
        memory.moments[place] = NEVER
        return False
    core.delivered = 0
    return True


@compiled
def _arrive(memory: Memory, flow: Record, number: int, spike: Record, t_ns: int) -> None:
    place = record_at(memory.links, number).target
    target = record_at(memory.cores, place)
    slot = target.head + target.waiting & flow.ring_mask
    arrival = record_at(memory.inboxes, target.inbox_at + slot)
    put(arrival, spike, t_ns)
    arrival.layer = number  # of the link, for its own layer matters no more
    target.waiting += 1
    if target.waiting == 1 and not _has_spikes(target):
        _rest(memory, flow, place)


@compiled
def _start(memory: Memory, flow: Record, place: int, now_ns: int) -> None:
    """Serve the next tick or waiting spike."""
    core = record_at(memory.cores, place)
    if _ticks_before(core, flow, _arrival_ns(memory, core)):
        serve_tick(memory, flow, place, now_ns)
    else:
        arrival = record_at(memory.inboxes, core.inbox_at + core.head)
        core.head = core.head + 1 & flow.ring_mask
        core.waiting -= 1
        if flow.is_random and core.swaps and core.waiting:
            second = record_at(memory.inboxes, core.inbox_at + core.head)
            if second.t_ns <= now_ns and random(core, 2):
                swap(arrival, second)
        _make_room(memory, core, now_ns)
        link = record_at(memory.links, arrival.layer)
        work = work_of(memory, flow, core, link, memory.weights)
        serve(memory, flow, place, work, arrival, now_ns)
    _go_on(memory, flow, place)


@compiled
def _make_room(memory: Memory, core: Record, now_ns: int) -> None:
    """A place in this inbox is free: let sources that wait for one try again."""
    places = np.uint64(core.wanted_by)
    core.wanted_by = 0
    while places:
        memory.moments[lowest_bit(places)] = now_ns * 2 + LEAVES
        places &= places - np.uint64(1)
