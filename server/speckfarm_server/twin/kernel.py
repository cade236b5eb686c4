"""The compiled part of the twin: one core takes the spikes waiting for it and emits its own.

Everything numba compiles stands in this file, because its cache is keyed by the file of the cached
function alone: a callee changed elsewhere would go unnoticed. The equation is written out in
docs/explanation/twin.md, the times of spikes in delay.py.

State and weights are feature-minor, padded to LANES features, with kernel columns reversed within
each stride phase. So the neurons of one output row that a spike reaches, and their weights, are two
contiguous runs of whole vectors. One branch-free pass adds, saturates, clips and finds the largest
state; a second pass looks for spikes only if that reaches the threshold.

No index is checked here: stage.py checks shapes, twin.py checks events, and a spike that falls
beyond a map is dropped.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numba import from_dtype, njit, types
from numpy.typing import NDArray

from speckfarm_server.twin.delay import SECOND_NS

Record: TypeAlias = Any  # one row of a structured array, whose fields numba knows as attributes
Function = TypeVar("Function", bound=Callable[..., object])

LANES = 16  # int16 per 256-bit vector

# One spike on its way. Alignment makes each field one load or store.
SPIKE_DTYPE = np.dtype(
    [("t_ns", "<i8"), ("cause", "<i8"), ("feature", "<u2"), ("y", "u1"), ("x", "u1")], align=True
)
# fmt: off
CORE_DTYPE = np.dtype([(name, "<i8") for name in (
    # From the configuration: maps before pooling, the link that leads here, the neurons.
    "in_features", "in_height", "in_width", "out_features", "out_height", "out_width",
    "lanes",  # out_features rounded up to LANES
    "kernel_size", "padding_y", "padding_x", "stride_y_log2", "stride_x_log2",
    "pooling_log2", "feature_shift",
    "fires_from",  # smallest state that fires
    "threshold_high", "threshold_low", "return_to_zero",
    "decimator",  # N; 1 if off
    "tick_period_ns",  # 0: no leak
    "fixed_ns", "pipe_ns", "synops_per_s",  # delay.py
    # Carried from call to call.
    "busy_ns", "next_tick_ns", "decimator_count", "input_spikes", "output_spikes", "synops",
    # The spike or tick being served.
    "start_ns", "cause",
    # One call.
    "horizon_ns",  # ticks up to here are due even if no spike arrives
    "budget",  # neuron updates before the call returns unfinished
    "waiting", "taken",  # spikes in `arrivals`, and how many of them are done
    "emitted",  # spikes in `spikes`
)])
# fmt: on

_log = logging.getLogger(__name__)


def _compiled(function: Function) -> Function:
    dispatcher: Any = njit(error_model="numpy", nogil=True, forceinline=True)(function)
    compiled: Function = dispatcher
    return compiled


@_compiled
def advance(
    core: NDArray[np.void],  # (1,) CORE_DTYPE
    weights: NDArray[np.int8],  # (c, ky, kx by phase and reversed, lanes), flat
    biases: NDArray[np.int16],  # (width, lanes), flat; empty without leak
    state: NDArray[np.int16],  # (height, width, lanes), flat
    arrivals: NDArray[np.void],  # SPIKE_DTYPE
    spikes: NDArray[np.void],  # SPIKE_DTYPE
) -> bool:
    """Serve arrivals and due ticks in order of time, a tick first; True if none is left.

    Stops early, between two of them, when `spikes` might overflow or the budget is used up.
    """
    c = core[0]
    room = len(spikes) - c.out_features * c.out_height * c.out_width
    while c.emitted <= room and c.budget > 0:
        limit_ns = arrivals[c.taken].t_ns if c.taken < c.waiting else c.horizon_ns
        if c.tick_period_ns > 0 and c.next_tick_ns <= limit_ns:
            _tick(c, biases, state, spikes)
            c.next_tick_ns += c.tick_period_ns
        elif c.taken < c.waiting:
            _integrate(c, weights, state, arrivals[c.taken], spikes)
            c.taken += 1
        else:
            return True
    return False


@_compiled
def _integrate(
    c: Record,
    weights: NDArray[np.int8],
    state: NDArray[np.int16],
    arrival: Record,
    spikes: NDArray[np.void],
) -> None:
    """Pool one arriving spike and add its weights to every neuron it reaches."""
    feature = arrival.feature + c.feature_shift
    y = np.int64(arrival.y) >> c.pooling_log2
    x = np.int64(arrival.x) >> c.pooling_log2
    if feature >= c.in_features or y >= c.in_height or x >= c.in_width:
        return  # the rest of a map that pooling does not divide
    c.start_ns = max(arrival.t_ns, c.busy_ns)
    c.cause = arrival.cause
    y += c.padding_y
    low_y, high_y, _ = _reach(y, c.stride_y_log2, c.kernel_size, c.out_height)
    low_x, high_x, column = _reach(x + c.padding_x, c.stride_x_log2, c.kernel_size, c.out_width)
    columns = max(0, high_x - low_x + 1)
    synops = 0
    if columns > 0:
        for out_y in range(low_y, high_y + 1):
            kernel_y = y - (out_y << c.stride_y_log2)
            row = (feature * c.kernel_size + kernel_y) * c.kernel_size
            first = (out_y * c.out_width + low_x) * c.lanes
            largest = _add_run(
                state, weights, first, (row + column) * c.lanes, columns * c.lanes, c.threshold_low
            )
            if largest >= c.fires_from:
                _fire_row(c, state, spikes, synops, out_y, low_x, high_x)
            synops += columns * c.out_features
    _serve(c, synops)
    c.input_spikes += 1
    c.synops += synops


@_compiled
def _tick(
    c: Record, biases: NDArray[np.int16], state: NDArray[np.int16], spikes: NDArray[np.void]
) -> None:
    """Add the biases to every neuron; spikes of a tick have no cause (-1)."""
    c.start_ns = max(c.next_tick_ns, c.busy_ns)
    c.cause = -1
    row = c.out_width * c.lanes
    for out_y in range(c.out_height):
        largest = _add_run(state, biases, out_y * row, 0, row, c.threshold_low)
        if largest >= c.fires_from:
            updates = out_y * c.out_width * c.out_features
            _fire_row(c, state, spikes, updates, out_y, 0, c.out_width - 1)
    _serve(c, c.out_height * c.out_width * c.out_features)


@_compiled
def _serve(c: Record, updates: int) -> None:
    c.busy_ns = c.start_ns + c.fixed_ns + updates * SECOND_NS // c.synops_per_s
    c.budget -= updates + 1


@_compiled
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


@_compiled
def _add_run(
    state: NDArray[np.int16],
    deltas: NDArray[Any],
    first: Any,
    delta: Any,
    count: int,
    threshold_low: int,
) -> np.int16:
    """Add a run of deltas to a run of neurons, saturate, clip; return the largest state."""
    low = np.int16(threshold_low)
    largest = np.int16(-32768)
    first = np.uint64(first)  # unsigned: no wrap-around of negative indices to test for
    delta = np.uint64(delta)
    for lane in range(np.uint64(count)):
        wide = np.int32(state[first + lane]) + np.int32(deltas[delta + lane])
        v = max(np.int16(min(max(wide, np.int32(-32768)), np.int32(32767))), low)
        state[first + lane] = v
        largest = max(largest, v)
    return largest


@_compiled
def _fire_row(
    c: Record,
    state: NDArray[np.int16],
    spikes: NDArray[np.void],
    updates: int,
    y: int,
    low_x: int,
    high_x: int,
) -> None:
    """Emit and reset the neurons of a run that reached the threshold; `updates` came before."""
    features, lanes, fires_from = c.out_features, c.lanes, np.int32(c.fires_from)  # in registers
    neuron = (y * c.out_width + low_x) * lanes
    for x in range(low_x, high_x + 1):
        for f in range(features):
            if state[np.uint64(neuron + f)] >= fires_from:
                _reset(c, state, neuron + f)
                _emit(c, spikes, updates + f + 1, f, y, x)
        updates += features
        neuron += lanes


@_compiled
def _reset(c: Record, state: NDArray[np.int16], neuron: int) -> None:
    state[neuron] = 0 if c.return_to_zero else state[neuron] - c.threshold_high


@_compiled
def _emit(c: Record, spikes: NDArray[np.void], done: int, f: int, y: int, x: int) -> None:
    """Count a spike; the decimator passes each N-th."""
    c.output_spikes += 1
    c.decimator_count += 1
    if c.decimator_count == c.decimator:
        c.decimator_count = 0
        spike = spikes[c.emitted]
        spike.t_ns = c.start_ns + c.fixed_ns + done * SECOND_NS // c.synops_per_s + c.pipe_ns
        spike.cause = c.cause
        spike.feature = f
        spike.y = y
        spike.x = x
        c.emitted += 1


_SPIKES = types.Array(from_dtype(SPIKE_DTYPE), 1, "C", aligned=True)
_SIGNATURE = (
    types.Array(from_dtype(CORE_DTYPE), 1, "C", aligned=True),
    types.int8[::1],
    types.int16[::1],
    types.int16[::1],
    _SPIKES,
    _SPIKES,
)


def is_compiled() -> bool:
    """Whether `compile_kernels` will find its work done, judged by the age of the cache."""
    _use_cache()
    folder = _dispatcher.stats.cache_path
    if not folder:
        return False
    source_time = Path(__file__).stat().st_mtime
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    indices = Path(folder).glob(f"{Path(__file__).stem}.{advance.__name__}-*.{python}*.nbi")
    return any(index.stat().st_mtime >= source_time for index in indices)


def compile_kernels() -> None:
    """Compile, or load from the cache: about 3 s or 0.2 s; afterwards nothing compiles."""
    if _dispatcher.signatures:
        return
    _use_cache()
    try:
        _dispatcher.compile(_SIGNATURE)
    except OSError as error:  # from writing the cache, once compiled
        if not _dispatcher.signatures:
            raise
        _log.warning("The compiled twin could not be cached: %s", error)
    _dispatcher.disable_compile()


_dispatcher: Any = advance


def _use_cache() -> None:
    """Cache beside this file, else in the user's cache folder, or where NUMBA_CACHE_DIR says."""
    if _dispatcher.stats.cache_path:
        return
    try:
        _dispatcher.enable_caching()
    except RuntimeError as error:  # no folder is writable
        _log.warning("The twin is compiled anew at every start: %s; set NUMBA_CACHE_DIR", error)
