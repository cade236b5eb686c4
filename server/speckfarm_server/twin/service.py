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
    called,
    compiled,
)
from speckfarm_server.twin.vector import LANES, STEP, Rule, last_step, short_step, step


class Work(NamedTuple):
    """What stays while a core serves what comes through one link."""

    state: Pointer
    deltas: Pointer  # weights or biases
    reach: Pointer
    spikes: Pointer  # what fires: spikes that are to leave, or outputs of a core that feeds none
    rule: Rule
    layer: int
    seen_after_ns: int  # from the start to the first neuron's update; at an output with the pipe
    op_ns_q20: int
    per_feature: int
    features: int
    feature_shift: int
    pooling_log2: int
    reach_y_at: int
    reach_x_at: int
    state_at: int
    weights_at: int
    channel: int
    row: int
    kernel_step: int
    may_saturate: int


class Row(NamedTuple):
    """Neurons of one row of a map that are reached."""

    first: int  # in the state
    deltas_at: int
    length: int
    y: int
    low_x: int
    updates: int  # neurons that came before, of this spike or tick
    cause: int
    seen_ns: int  # when a spike of the first neuron would be


@compiled
def may_go_on(flow: Record) -> bool:
    """Whether there is room for all that one spike can cause, and budget left."""
    return flow.emitted <= flow.room and flow.budget > 0


@compiled
def work_of(memory: Memory, flow: Record, core: Record, link: Record, deltas: Pointer) -> Work:
    """A core's work on what comes through a link, or on ticks."""
    kept = 0 if core.return_to_zero else -1
    rule = Rule(core.threshold_low, core.fires_above, core.threshold_high, kept)
    spikes = memory.spikes if core.links else memory.outputs
    seen_after_ns = core.fixed_ns + (0 if core.links else flow.pipe_ns)
    return Work(
        memory.state, deltas, memory.reach, spikes, rule, core.layer, seen_after_ns,
        core.op_ns_q20, core.per_feature, core.out_features, link.feature_shift,
        link.pooling_log2, core.reach_y_at, core.reach_x_at, core.state_at, core.weights_at,
        core.channel, core.row, core.kernel_step, core.may_saturate,
    )  # fmt: skip


@compiled
def serve(
    memory: Memory, flow: Record, place: int, work: Work, arrival: Record, now_ns: int
) -> None:
    """Add a spike, and put what fires behind the core's queue."""
    core = record_at(memory.cores, place)
    first = core.queue_at + core.end if core.links else flow.emitted
    updates, end = _integrate(core, work, arrival, now_ns, first)
    core.input_spikes += 1
    _finish(memory, flow, place, now_ns, updates, first, end)


@compiled
def serve_tick(memory: Memory, flow: Record, place: int, now_ns: int) -> None:
    """Add the biases to every neuron; spikes of a tick have no cause (-1).

    Ticks that came since the one to be served are lost in it: a core slower than its clock would
    otherwise never get to the spikes that wait.
    """
    core = record_at(memory.cores, place)
    missed = (now_ns - core.next_tick_ns) // core.tick_period_ns
    core.next_tick_ns += (1 + missed) * core.tick_period_ns
    core.ticks += 1
    first = core.queue_at + core.end if core.links else flow.emitted
    work = work_of(memory, flow, core, record_at(memory.links, 0), memory.biases)
    seen_ns = now_ns + work.seen_after_ns
    end = first
    for y in range(core.out_height):
        row = Row(
            work.state_at + y * work.row, core.biases_at, work.row, y, 0, y * work.row, -1, seen_ns
        )
        end = _add_row(core, work, row, end)
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
    if end > first:
        core.output_spikes += end - first
        if core.is_sifted:
            end = _let_pass(memory, flow, core, first, end)
    if core.links:
        core.end = end - core.queue_at
    else:
        flow.emitted = end
    core.shift_ns = 0
    core.busy_ns = now_ns + core.fixed_ns + (updates * core.op_ns_q20 >> Q20)
    memory.load[place * LOAD_BINS + _bin(memory, flow, now_ns)] += updates
    flow.budget -= updates + 1


@compiled
def _integrate(core: Record, work: Work, arrival: Record, now_ns: int, end: int) -> tuple[int, int]:
    """Add a spike's weights row by row; return how many neurons it reached, and the new end."""
    reach_y = work.reach_y_at + (np.int64(arrival.y) >> work.pooling_log2) * REACH
    reach_x = work.reach_x_at + (np.int64(arrival.x) >> work.pooling_log2) * REACH
    low_y, rows = work.reach[reach_y], work.reach[reach_y + 1]
    low_x, length = work.reach[reach_x], work.reach[reach_x + 1]
    first = work.state_at + work.reach[reach_y + 2] + work.reach[reach_x + 2]
    deltas_at = work.weights_at + (np.int64(arrival.feature) + work.feature_shift) * work.channel
    deltas_at += work.reach[reach_y + 3] + work.reach[reach_x + 3]
    cause, seen_ns = arrival.cause, now_ns + work.seen_after_ns
    updates = 0
    for y in range(low_y, low_y + rows):
        row = Row(first, deltas_at, length, y, low_x, updates, cause, seen_ns)
        end = _add_row(core, work, row, end)
        deltas_at -= work.kernel_step
        first += work.row
        updates += length
    return updates, end


@compiled
def _add_row(core: Record, work: Work, row: Row, end: int) -> int:
    """Add deltas to a row of neurons and write what fires from `end` on; return the new end."""
    if work.may_saturate:
        core.saturated += _count_saturated(work, row)
    at = 0
    while at < row.length:
        left = row.length - at
        first, deltas_at = row.first + at, row.deltas_at + at
        if left <= LANES:
            fired = short_step(work.state, work.deltas, first, deltas_at, left, work.rule)
        elif left >= STEP:
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
    spike.t_ns = row.seen_ns + ((row.updates + lane + 1) * work.op_ns_q20 >> Q20)
    spike.cause = row.cause
    spike.layer = work.layer
    spike.feature = lane - x * work.features
    spike.y = row.y
    spike.x = row.low_x + x


@called
def _count_saturated(work: Work, row: Row) -> int:
    """How many neurons of a row cannot hold what is about to be added."""
    count = 0
    for lane in range(row.length):
        v = np.int64(work.state[row.first + lane]) + np.int64(work.deltas[row.deltas_at + lane])
        count += 1 if v > 32767 or v < -32768 else 0
    return count


@called
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
