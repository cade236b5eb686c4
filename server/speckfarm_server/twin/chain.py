"""A chain of cores, compiled: input to core to core, each spike in the order in which it fired.

A core's spikes, and their times, do not depend on what other cores have done meanwhile, but for one
thing: a spike leaves when the core behind has a place for it, which is when that core has started
on the spike that came as many places before. So no clock says what comes next. Each core goes on
until its spikes find no more room, or nothing waits for it; then the one behind, or before, does.

What a core has fired stands in its queue, a part of `spikes`: from `taken` to `gone` what has left
and waits for the next core, from `cursor` to `end` what has not left. `events` is the input's.
"""

from __future__ import annotations

from speckfarm_server.twin.pointers import record_at
from speckfarm_server.twin.records import INPUT, Memory, Record, compiled
from speckfarm_server.twin.service import is_inside, may_go_on, put, serve


@compiled
def advance_chain(memory: Memory, flow: Record) -> bool:
    """Run until all that came in has been served; False if the call must return before."""
    place = flow.place
    last = flow.sources - 1
    while may_go_on(flow):
        if place == INPUT:
            _enter(memory, flow)
        else:
            _work_on(memory, flow, place)
        if place < last and _waits(record_at(memory.cores, place)):
            place += 1
        elif place == INPUT:
            flow.place = INPUT
            return True
        else:
            place -= 1
    flow.place = place
    return False


@compiled
def _waits(queue: Record) -> int:
    """How many spikes wait for the next core."""
    return queue.gone - queue.taken


@compiled
def _enter(memory: Memory, flow: Record) -> None:
    """Let events in as long as the first core has room; each leaves one pipe before its time."""
    queue = record_at(memory.cores, INPUT)
    while queue.cursor < queue.end:
        event = record_at(memory.events, queue.cursor)
        leaves_ns = max(event.t_ns - flow.pipe_ns, flow.entered_ns)
        if is_inside(record_at(memory.links, INPUT), event):
            if _waits(queue) == flow.depth:
                return
            leaves_ns = max(leaves_ns, _free_since_ns(memory, flow, INPUT))
            late_ns = leaves_ns + flow.pipe_ns - event.t_ns
            flow.held_back_events += late_ns > 0
            flow.held_back_ns = max(flow.held_back_ns, late_ns)
            put(record_at(memory.events, queue.gone), event, leaves_ns + flow.pipe_ns)
            queue.gone += 1
        flow.entered_ns = leaves_ns
        queue.cursor += 1


@compiled
def _work_on(memory: Memory, flow: Record, place: int) -> None:
    """Let a core's spikes leave and serve what waits for it, as far as there is room."""
    core = record_at(memory.cores, place)
    source = record_at(memory.cores, place - 1)
    link = record_at(memory.links, place - 1)
    arrivals = memory.events if place - 1 == INPUT else memory.spikes
    while may_go_on(flow):
        if core.cursor < core.end and not _let_go(memory, flow, core, place):
            return
        if not _waits(source):
            return
        arrival = record_at(arrivals, source.queue_at + source.taken)
        source.taken += 1
        now_ns = max(arrival.t_ns, core.busy_ns)
        memory.starts[core.starts_at + (core.input_spikes & flow.ring_mask)] = now_ns
        _make_room(memory, core)
        serve(memory, flow, place, arrival, link, now_ns)


@compiled
def _let_go(memory: Memory, flow: Record, core: Record, place: int) -> bool:
    """Let spikes leave in the order of firing; False if one finds no room."""
    while core.cursor < core.end:
        spike = record_at(memory.spikes, core.queue_at + core.cursor)
        leaves_ns = spike.t_ns + core.shift_ns
        if is_inside(record_at(memory.links, place), spike):
            if _waits(core) == flow.depth:
                return False
            late_ns = max(0, _free_since_ns(memory, flow, place) - leaves_ns)
            leaves_ns += late_ns
            core.shift_ns += late_ns
            core.stalled_ns += late_ns
            left = record_at(memory.spikes, core.queue_at + core.gone)
            put(left, spike, leaves_ns + flow.pipe_ns)
            core.gone += 1
        if core.monitored:
            put(record_at(memory.outputs, flow.emitted), spike, leaves_ns + flow.pipe_ns)
            flow.emitted += 1
        core.cursor += 1
    core.busy_ns += core.shift_ns
    return True


@compiled
def _free_since_ns(memory: Memory, flow: Record, place: int) -> int:
    """Since when the next spike of a queue has had a place in front of the next core."""
    target = record_at(memory.cores, place + 1)
    arrived = target.input_spikes + _waits(record_at(memory.cores, place))
    return memory.starts[target.starts_at + (arrived - flow.depth & flow.ring_mask)]


@compiled
def _make_room(memory: Memory, core: Record) -> None:
    """Move a core's queue to its front if it is short of room for all that one spike can cause."""
    if not _waits(core):
        core.taken = core.gone = 0
    elif core.end + core.neurons > core.queue_room:
        for n in range(_waits(core)):
            spike = record_at(memory.spikes, core.queue_at + core.taken + n)
            put(record_at(memory.spikes, core.queue_at + n), spike, spike.t_ns)
        core.gone = _waits(core)
        core.taken = 0
    core.cursor = core.end = core.gone
