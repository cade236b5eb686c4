"""What a core does with a spike or a leak tick: add, saturate, clip, fire, decimate.

State and weights are feature-minor, with kernel columns reversed within each stride phase. So the
neurons of one output row that a spike reaches, and their weights, are two contiguous runs, which
vector.py adds up. The equations are written out in docs/explanation/twin.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from speckfarm_server.twin.records import (
    LOAD_BINS,
    Q20,
    REACH,
    Memory,
    Pointer,
    Record,
    compiled,
)
from speckfarm_server.twin.vector import STEP, last_step, lowest_bit, record_at, step


class Run(NamedTuple):
    """Neurons of one row of a map that a spike or tick reaches, and what is added to them."""

    deltas: Pointer  # weights or biases
    deltas_at: int
    first: int  # in `state`
    length: int
    y: int
    low_x: int
    updates: int  # neurons that came before, of this spike or tick


@compiled
def serve(memory: Memory, flow: Record, place: int, now_ns: int, is_tick: bool) -> None:
    """Start on a tick or on the first waiting spike, and compute all that comes of it."""
    core = record_at(memory.cores, place)
    core.start_ns = now_ns
    core.pending = core.left = core.shift_ns = 0
    before = flow.emitted
    if is_tick:
        core.next_tick_ns += core.tick_period_ns
        updates = _tick(memory, flow, core)
    else:
        updates = _integrate(memory, flow, core, _take(memory, flow, core))
        core.input_spikes += 1
        core.synops += updates
    if core.decimator > 1 or flow.is_random or not (core.links or core.monitored):
        _let_pass(memory, flow, core, before)
    service_ns = core.fixed_ns + (updates * core.op_ns_q20 >> Q20)
    core.busy_ns = now_ns + service_ns
    core.served_ns += service_ns
    memory.load[place * LOAD_BINS + _bin(memory, flow, now_ns)] += updates
    flow.budget -= updates + 1


@compiled
def _take(memory: Memory, flow: Record, core: Record) -> Record:
    """The first spike of the inbox; its place is free from now on."""
    arrival = record_at(memory.inboxes, core.inbox_at + core.head)
    core.head = core.head + 1 & flow.ring_mask
    core.waiting -= 1
    if flow.is_random and core.swaps and core.waiting:
        second = record_at(memory.inboxes, core.inbox_at + core.head)
        if second.t_ns <= core.start_ns and _random(core, 2):
            _swap(arrival, second)
    arrival.t_ns = core.start_ns
    core.cause = arrival.cause
    return arrival


@compiled
def _integrate(memory: Memory, flow: Record, core: Record, arrival: Record) -> int:
    """Add a spike's weights row by row of the output map; return how many neurons it reached."""
    reach_y = core.reach_y_at + np.int64(arrival.y) * REACH
    reach_x = core.reach_x_at + np.int64(arrival.x) * REACH
    low_y, rows = memory.reach[reach_y], memory.reach[reach_y + 1]
    low_x, length = memory.reach[reach_x], memory.reach[reach_x + 1]
    first = core.state_at + memory.reach[reach_y + 2] + memory.reach[reach_x + 2]
    deltas_at = core.weights_at + np.int64(arrival.feature) * core.channel
    deltas_at += memory.reach[reach_y + 3] + memory.reach[reach_x + 3]
    updates = 0
    for y in range(low_y, low_y + rows):
        _add_run(memory, flow, core, Run(memory.weights, deltas_at, first, length, y, low_x, updates))
        deltas_at -= core.kernel_step
        first += core.row
        updates += length
    return updates


@compiled
def _tick(memory: Memory, flow: Record, core: Record) -> int:
    """Add the biases to every neuron; spikes of a tick have no cause (-1)."""
    core.cause = -1
    for y in range(core.out_height):
        first = core.state_at + y * core.row
        run = Run(memory.biases, core.biases_at, first, core.row, y, 0, y * core.row)
        _add_run(memory, flow, core, run)
    return core.out_height * core.row


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
def _count_saturated(memory: Memory, core: Record, run: Run) -> None:
    for lane in range(run.length):
        v = np.int64(memory.state[run.first + lane]) + np.int64(run.deltas[run.deltas_at + lane])
        core.saturated += v > 32767 or v < -32768


@compiled
def _fire(memory: Memory, flow: Record, core: Record, run: Run, lane: int) -> None:
    """Reset a neuron and note its spike: one that is to leave, or an output if it goes nowhere."""
    neuron = run.first + lane
    memory.state[neuron] = 0 if core.return_to_zero else memory.state[neuron] - core.threshold_high
    core.output_spikes += 1
    done = run.updates + lane + 1
    leaves_ns = core.start_ns + core.fixed_ns + (done * core.op_ns_q20 >> Q20)
    if core.links:
        spike = record_at(memory.pending, core.pending_at + core.pending)
        core.pending += 1
        spike.t_ns = leaves_ns
    else:
        spike = record_at(memory.outputs, flow.emitted)
        flow.emitted += 1
        spike.t_ns = leaves_ns + flow.pipe_ns
    x = lane * core.per_feature >> 32
    spike.cause = core.cause
    spike.layer = core.layer
    spike.feature = lane - x * core.out_features
    spike.y = run.y
    spike.x = run.low_x + x


@compiled
def _let_pass(memory: Memory, flow: Record, core: Record, before: int) -> None:
    """Put what fired into another order if that is asked for; keep what the decimator passes."""
    count = core.pending if core.links else flow.emitted - before
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
            spike = record_at(spikes, first + n)
            put(record_at(spikes, first + kept), spike, spike.t_ns)
            kept += 1
    if core.links:
        core.pending = kept
    else:
        flow.emitted = before + (kept if core.monitored else 0)


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
