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
from speckfarm_server.twin.records import INPUT, Memory, Pointer, Record, called, compiled
from speckfarm_server.twin.service import is_inside, may_go_on, put, serve, work_of


@compiled
def advance_chain(memory: Memory, flow: Record) -> bool:
    """Run until all that came in has been served; False if the call must return before."""
    place = flow.place
    last = flow.sources - 1
    while True:
        if place == INPUT:
            _enter(memory, flow)
        else:
            _work_on(memory, flow, place)
        if not may_go_on(flow):
            flow.place = place  # what it fired last may still have to leave
            return False
        if place < last and _waits(record_at(memory.cores, place)):
            place += 1
        elif place == INPUT:
            flow.place = INPUT
            return True
        else:
            place -= 1


@compiled
def _waits(queue: Record) -> int:
    """How many spikes wait for the next core."""
    return queue.gone - queue.taken


@called
def _enter(memory: Memory, flow: Record) -> None:
    """Let events in as long as the first core has room; each leaves one pipe before its time."""
    queue = record_at(memory.cores, INPUT)
    link = record_at(memory.links, INPUT)
    pipe_ns, left_ns = flow.pipe_ns, flow.entered_ns
    while queue.cursor < queue.end:
        event = record_at(memory.events, queue.cursor)
        left_ns = max(event.t_ns - pipe_ns, left_ns)
        is_on_map = is_inside(link, event)
        if is_on_map:
            if _waits(queue) == flow.depth:
                return
            left_ns = max(left_ns, _free_since_ns(memory, flow, INPUT))
        late_ns = left_ns + pipe_ns - event.t_ns
        if late_ns > 0:
            flow.held_back_events += 1
            flow.held_back_ns = max(flow.held_back_ns, late_ns)
        if is_on_map:
            _move_up(memory.events, queue, event, left_ns + pipe_ns)
        flow.entered_ns = left_ns
        queue.cursor += 1


@called
def _work_on(memory: Memory, flow: Record, place: int) -> None:
    """Let a core's spikes leave and serve what waits for it, as far as there is room."""
    core = record_at(memory.cores, place)
    source = record_at(memory.cores, place - 1)
    work = work_of(memory, flow, core, record_at(memory.links, place - 1), memory.weights)
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
        serve(memory, flow, place, work, arrival, now_ns)


@compiled
def _let_go(memory: Memory, flow: Record, core: Record, place: int) -> bool:
    """Let spikes leave in the order of firing; False if one finds no room."""
    link = record_at(memory.links, place)
    while core.cursor < core.end:
        spike = record_at(memory.spikes, core.queue_at + core.cursor)
        leaves_ns = spike.t_ns + core.shift_ns
        if not link.may_miss or is_inside(link, spike):
            if _waits(core) == flow.depth:
                return False
            late_ns = max(0, _free_since_ns(memory, flow, place) - leaves_ns)
            leaves_ns += late_ns
            core.shift_ns += late_ns
            core.stalled_ns += late_ns
            _move_up(memory.spikes, core, spike, leaves_ns + flow.pipe_ns)
        if core.monitored:
            put(record_at(memory.outputs, flow.emitted), spike, leaves_ns + flow.pipe_ns)
            flow.emitted += 1
        core.cursor += 1
    core.busy_ns += core.shift_ns
    return True


@compiled
def _move_up(spikes: Pointer, queue: Record, spike: Record, arrives_ns: int) -> None:
    """Let a spike wait for the next core; it fills the gap if others went nowhere."""
    if queue.gone == queue.cursor:
        spike.t_ns = arrives_ns
    else:
        put(record_at(spikes, queue.queue_at + queue.gone), spike, arrives_ns)
    queue.gone += 1


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
