"""What a core does with a spike or a leak tick: add, saturate, clip, fire, decimate.

State and weights are feature-minor, with kernel columns reversed within each stride phase. So the
neurons of one output row that a spike reaches, and their weights, are two contiguous runs, which
vector.py adds up. The equations are written out in docs/explanation/twin.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from speckfarm_server.twin.pointers import lowest_bit, record_at
from speckfarm_server.twin.records import (
    LOAD_BINS,
    Q20,
    REACH,
    Memory,
    Pointer,
    Record,
    compiled,
)
from speckfarm_server.twin.vector import STEP, Rule, last_step, step


class Work(NamedTuple):
    """A core at work on a spike or tick; what does not change meanwhile."""

    state: Pointer
    deltas: Pointer  # weights or biases
    spikes: Pointer  # what fires: spikes that are to leave, or outputs of a core that feeds none
    rule: Rule
    layer: int
    cause: int
    start_ns: int  # of the first neuron's update; at an output when it is seen
    op_ns_q20: int
    per_feature: int
    features: int


class Row(NamedTuple):
    """Neurons of one row of a map that are reached."""

    first: int  # in the state
    deltas_at: int
    length: int
    y: int
    low_x: int
    updates: int  # neurons that came before, of this spike or tick


@compiled
def may_go_on(flow: Record) -> bool:
    """Whether there is room for all that one spike can cause, and budget left."""
    return flow.emitted <= flow.room and flow.budget > 0


@compiled
def serve(
    memory: Memory, flow: Record, place: int, arrival: Record, link: Record, now_ns: int
) -> None:
    """Add a spike that came through a link, and put what fires behind the core's queue."""
    core = record_at(memory.cores, place)
    first = core.queue_at + core.end if core.links else flow.emitted
    work = _work(memory, flow, core, memory.weights, arrival.cause, now_ns)
    updates, end = _integrate(memory, core, work, first, _place_behind(link, arrival))
    core.input_spikes += 1
    core.synops += updates
    _finish(memory, flow, place, now_ns, updates, first, end)


@compiled
def serve_tick(memory: Memory, flow: Record, place: int, now_ns: int) -> None:
    """Add the biases to every neuron; spikes of a tick have no cause (-1)."""
    core = record_at(memory.cores, place)
    core.next_tick_ns += core.tick_period_ns
    first = core.queue_at + core.end if core.links else flow.emitted
    work = _work(memory, flow, core, memory.biases, -1, now_ns)
    end = first
    for y in range(core.out_height):
        row = Row(core.state_at + y * core.row, core.biases_at, core.row, y, 0, y * core.row)
        if core.may_saturate:
            core.saturated += _count_saturated(work, row)
        end = _add_row(work, row, end)
    _finish(memory, flow, place, now_ns, core.out_height * core.row, first, end)


@compiled
def is_inside(link: Record, spike: Record) -> bool:
    """Whether a spike falls on the target's map, not on the rest that pooling does not divide."""
    feature, y, x = _place_behind(link, spike)
    return feature < link.features and y < link.height and x < link.width


@compiled
def _place_behind(link: Record, spike: Record) -> tuple[int, int, int]:
    """Feature, y and x of a spike at the end of a link."""
    y = np.int64(spike.y) >> link.pooling_log2
    return np.int64(spike.feature) + link.feature_shift, y, np.int64(spike.x) >> link.pooling_log2


@compiled
def _finish(
    memory: Memory, flow: Record, place: int, now_ns: int, updates: int, first: int, end: int
) -> None:
    """Count, let the decimator pass, and say until when the core is busy."""
    core = record_at(memory.cores, place)
    core.output_spikes += end - first
    if core.decimator > 1 or flow.is_random or not (core.links or core.monitored):
        end = _let_pass(memory, flow, core, first, end)
    if core.links:
        core.end = end - core.queue_at
    else:
        flow.emitted = end
    core.shift_ns = 0
    service_ns = core.fixed_ns + (updates * core.op_ns_q20 >> Q20)
    core.busy_ns = now_ns + service_ns
    core.served_ns += service_ns
    memory.load[place * LOAD_BINS + _bin(memory, flow, now_ns)] += updates
    flow.budget -= updates + 1


@compiled
def _work(
    memory: Memory, flow: Record, core: Record, deltas: Pointer, cause: int, now_ns: int
) -> Work:
    return Work(
        state=memory.state,
        deltas=deltas,
        spikes=memory.spikes if core.links else memory.outputs,
        rule=Rule(
            core.threshold_low,
            core.fires_from,
            core.threshold_high,
            0 if core.return_to_zero else -1,
        ),
        layer=core.layer,
        cause=cause,
        start_ns=now_ns + core.fixed_ns + (0 if core.links else flow.pipe_ns),
        op_ns_q20=core.op_ns_q20,
        per_feature=core.per_feature,
        features=core.out_features,
    )


@compiled
def _integrate(
    memory: Memory, core: Record, work: Work, end: int, place: tuple[int, int, int]
) -> tuple[int, int]:
    """Add a spike's weights row by row; return how many neurons it reached, and the new end."""
    feature, y, x = place
    reach_y = core.reach_y_at + y * REACH
    reach_x = core.reach_x_at + x * REACH
    low_y, rows = memory.reach[reach_y], memory.reach[reach_y + 1]
    low_x, length = memory.reach[reach_x], memory.reach[reach_x + 1]
    first = core.state_at + memory.reach[reach_y + 2] + memory.reach[reach_x + 2]
    deltas_at = core.weights_at + feature * core.channel
    deltas_at += memory.reach[reach_y + 3] + memory.reach[reach_x + 3]
    row, kernel_step, may_saturate = core.row, core.kernel_step, core.may_saturate
    updates = 0
    for out_y in range(low_y, low_y + rows):
        here = Row(first, deltas_at, length, out_y, low_x, updates)
        if may_saturate:
            core.saturated += _count_saturated(work, here)
        end = _add_row(work, here, end)
        deltas_at -= kernel_step
        first += row
        updates += length
    return updates, end


@compiled
def _add_row(work: Work, row: Row, end: int) -> int:
    """Add deltas to a row of neurons and write what fires from `end` on; return the new end."""
    at = 0
    while at < row.length:
        left = row.length - at
        first, deltas_at = row.first + at, row.deltas_at + at
        if left >= STEP:
            fired = step(work.state, work.deltas, first, deltas_at, STEP, work.rule)
        else:
            fired = last_step(work.state, work.deltas, first, deltas_at, left, work.rule)
        while fired:
            _write(record_at(work.spikes, end), work, row, at + lowest_bit(fired))
            fired &= fired - np.uint64(1)
            end += 1
        at += STEP
    return end


@compiled
def _write(spike: Record, work: Work, row: Row, lane: int) -> None:
    x = lane * work.per_feature >> 32
    spike.t_ns = work.start_ns + ((row.updates + lane + 1) * work.op_ns_q20 >> Q20)
    spike.cause = work.cause
    spike.layer = work.layer
    spike.feature = lane - x * work.features
    spike.y = row.y
    spike.x = row.low_x + x


@compiled
def _count_saturated(work: Work, row: Row) -> int:
    """How many neurons of a row cannot hold what is about to be added."""
    count = 0
    for lane in range(row.length):
        v = np.int64(work.state[row.first + lane]) + np.int64(work.deltas[row.deltas_at + lane])
        count += 1 if v > 32767 or v < -32768 else 0
    return count


@compiled
def _let_pass(memory: Memory, flow: Record, core: Record, first: int, end: int) -> int:
    """Put what fired into another order if that is asked for; keep what the decimator passes."""
    spikes = memory.spikes if core.links else memory.outputs
    if flow.is_random:
        for n in range(end - 1, first, -1):
            swap(record_at(spikes, n), record_at(spikes, first + random(core, n - first + 1)))
    kept = first
    for n in range(first, end):
        core.decimator_count += 1
        if core.decimator_count == core.decimator:
            core.decimator_count = 0
            spike = record_at(spikes, n)
            put(record_at(spikes, kept), spike, spike.t_ns)
            kept += 1
    return kept if core.links or core.monitored else first


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
def put(place: Record, spike: Record, t_ns: int) -> None:
    """Write a spike with a time of its own."""
    place.t_ns = t_ns
    place.cause = spike.cause
    place.layer = spike.layer
    place.feature = spike.feature
    place.y = spike.y
    place.x = spike.x


@compiled
def swap(one: Record, other: Record) -> None:
    """Exchange two spikes, but for their times."""
    one.cause, other.cause = other.cause, one.cause
    one.layer, other.layer = other.layer, one.layer
    one.feature, other.feature = other.feature, one.feature
    one.y, other.y = other.y, one.y
    one.x, other.x = other.x, one.x


@compiled
def random(core: Record, below: int) -> int:
    """A number from 0 to below - 1 (xorshift; Marsaglia, 2003)."""
    word = np.uint64(core.random)
    word ^= word << np.uint64(13)
    word ^= word >> np.uint64(7)
    word ^= word << np.uint64(17)
    core.random = np.int64(word)
    drawn: Any = np.int64((word >> np.uint64(33)) % np.uint64(below))
    return drawn
