"""What the compiled part of the twin works on: arrays of records, and pointers to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numba import njit

Pointer: TypeAlias = Any  # to elements of one dtype
Record: TypeAlias = Any  # one row of a structured array, whose fields are attributes
Function = TypeVar("Function", bound=Callable[..., object])

INPUT = 0  # its place among the sources; cores follow in order of their layers
FOREVER_NS = (1 << 62) - 1
Q20 = 20  # op_ns_q20 is ns per synaptic operation times 2^20
LOAD_BINS = 1024
FIRST_BIN_LOG2 = 20  # 2^20 ns, about 1 ms; doubled whenever a recording outgrows the bins
REACH = 4  # numbers of `reach` for each coordinate

# One spike: on its way, waiting, or put out. Alignment makes each field one load or store.
SPIKE_DTYPE = np.dtype(
    [("t_ns", "<i8"), ("cause", "<i8"), ("layer", "u1"), ("feature", "<u2"), ("y", "u1"),
     ("x", "u1")], align=True,
)  # fmt: skip
# fmt: off
CORE_DTYPE = np.dtype([(name, "<i8") for name in (
    # From the configuration.
    "layer", "monitored", "out_features", "out_height", "out_width",
    "row",  # neurons of one row of the output map
    "channel",  # weights of one input feature
    "kernel_step",  # weights between those of one output row and of the next
    "fires_above",  # largest state that does not fire
    "threshold_high", "threshold_low", "return_to_zero",
    "decimator",  # N; 1 if off
    "is_sifted",  # whether not all that fires goes on, or not in its order
    "tick_period_ns",  # 0: no leak
    "fixed_ns", "op_ns_q20",  # delay.py
    "per_feature",  # 2^32 / out_features, rounded up: lane * per_feature >> 32 is lane // features
    "may_saturate",  # whether its integers can leave 16 bits
    "swaps",  # whether it may serve the second waiting spike before the first
    # Where its parts of the shared arrays begin.
    "weights_at", "biases_at", "state_at", "reach_y_at", "reach_x_at", "inbox_at", "starts_at",
    "queue_at", "queue_room", "neurons",  # of its spikes; neurons are as many as may fire at once
    "first_link", "links",
    # Carried from call to call.
    "busy_ns", "next_tick_ns", "decimator_count", "random",
    "taken", "gone", "cursor", "end",  # in its queue, see chain.py
    "shift_ns",  # how long spikes of what is being served were held up
    "head", "waiting",  # its inbox, a ring, unless it is one of a chain
    "delivered",  # links by which the spike at `cursor` has left, while others had no room, as bits
    "wanted_by",  # places whose spikes found no room here, as bits
    "input_spikes", "output_spikes", "ticks", "stalled_ns", "saturated",
)])
LINK_DTYPE = np.dtype([(name, "<i8") for name in (
    "target", "pooling_log2", "feature_shift", "features", "height", "width",
    "may_miss",  # whether a spike of the source may fall beyond the target's map
)])
FLOW_DTYPE = np.dtype([(name, "<i8") for name in (
    "sources",  # the input and all cores
    "is_chain", "is_random", "pipe_ns", "depth", "ring_mask",
    "wait_until_ns",  # no event after this slice is earlier; FOREVER_NS: none will come
    "horizon_ns",  # ticks up to here are due
    "origin_ns", "bin_log2",  # of `load`
    "place",  # where a chain goes on
    "is_input_blocked",
    "entered_ns", "held_back_ns", "held_back_events",
    "emitted", "room",  # spikes in `outputs`, and how many there may be before a step
    "budget",  # neuron updates before the call returns unfinished
)])
# fmt: on


class Memory(NamedTuple):
    """Pointers to everything, for numba counts references of arrays at every turn."""

    flow: Pointer  # FLOW_DTYPE, one
    cores: Pointer  # CORE_DTYPE, by place; the input's has links and a queue only
    links: Pointer  # LINK_DTYPE, grouped by source
    moments: Pointer  # int64, by place: what comes next there
    since: Pointer  # int64, by place: since when a spike has wanted to leave, ns
    weights: Pointer  # int8, (c, ky, kx by phase and reversed, f) for each core
    biases: Pointer  # int16, (w, f) for each core
    state: Pointer  # int16, (h, w, f) for each core
    reach: Pointer  # int64, (y, REACH) and (x, REACH) for each core; see core.py
    inboxes: Pointer  # SPIKE_DTYPE, a ring for each core; times of arrival
    starts: Pointer  # int64, a ring for each core of a chain: when it started on its last spikes
    spikes: Pointer  # SPIKE_DTYPE, queues of cores; times of leaving, then of arrival
    load: Pointer  # int64, (sources, LOAD_BINS) synaptic operations
    events: Pointer  # SPIKE_DTYPE, input in order of time
    outputs: Pointer  # SPIKE_DTYPE, what monitors see


def compiled(function: Function) -> Function:
    """Compiled into its caller."""
    dispatcher: Any = njit(error_model="numpy", nogil=True, forceinline=True)(function)
    wrapped: Function = dispatcher
    return wrapped


def called(function: Function) -> Function:
    """Compiled by itself, with registers of its own."""
    dispatcher: Any = njit(error_model="numpy", nogil=True)(function)
    wrapped: Function = dispatcher
    return wrapped
