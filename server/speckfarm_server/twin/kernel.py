"""The compiled part of the twin: one core takes the spikes waiting for it and emits its own.

Everything numba compiles stands in this file, because its cache is keyed by the file of the cached
function alone: a callee changed elsewhere would go unnoticed. The equation is written out in
docs/explanation/twin.md, the times of spikes in delay.py.

State and weights are feature-minor, padded to LANES features, with kernel columns reversed within
each stride phase. So the neurons of one output row that a spike reaches, and their weights, are two
contiguous runs of whole vectors. One branch-free pass adds, saturates, clips and finds the largest
state; a second pass looks for spikes only if that reaches the threshold.

No index is checked here: core.py checks shapes, twin.py checks events, and a spike that falls
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

from speckfarm_server.configuration import Int8Array, Int16Array
from speckfarm_server.twin.delay import SECOND_NS

Record: TypeAlias = Any  # one row of a structured array, whose fields numba knows as attributes
Spikes: TypeAlias = NDArray[np.void]  # SPIKE_DTYPE
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
    record: NDArray[np.void],  # (1,) CORE_DTYPE
    weights: Int8Array,  # (c, ky, kx by phase and reversed, lanes), flat
    biases: Int16Array,  # (width, lanes), flat
    state: Int16Array,  # (height, width, lanes), flat
    arrivals: Spikes,
    spikes: Spikes,
) -> bool:
    """Serve arrivals and due ticks in order of time, a tick first; True if none is left.

    Stops early, between two of them, when `spikes` might overflow or the budget is used up.
    """
    core = record[0]
    room = len(spikes) - core.out_features * core.out_height * core.out_width
    while core.emitted <= room and core.budget > 0:
        limit_ns = arrivals[core.taken].t_ns if core.taken < core.waiting else core.horizon_ns
        if core.tick_period_ns > 0 and core.next_tick_ns <= limit_ns:
            _tick(core, biases, state, spikes)
            core.next_tick_ns += core.tick_period_ns
        elif core.taken < core.waiting:
            _integrate(core, weights, state, arrivals[core.taken], spikes)
            core.taken += 1
        else:
            return True
    return False


@_compiled
def _integrate(
    core: Record, weights: Int8Array, state: Int16Array, arrival: Record, spikes: Spikes
) -> None:
    """Pool one arriving spike and add its weights to every neuron it reaches."""
    feature = arrival.feature + core.feature_shift
    y = np.int64(arrival.y) >> core.pooling_log2
    x = np.int64(arrival.x) >> core.pooling_log2
    if feature >= core.in_features or y >= core.in_height or x >= core.in_width:
        return  # the rest of a map that pooling does not divide
    core.start_ns = max(arrival.t_ns, core.busy_ns)
    core.cause = arrival.cause
    synops = _add_kernel(core, weights, state, spikes, feature, y, x)
    _serve(core, synops)
    core.input_spikes += 1
    core.synops += synops


@_compiled
def _add_kernel(
    core: Record,
    weights: Int8Array,
    state: Int16Array,
    spikes: Spikes,
    feature: int,
    y: int,
    x: int,
) -> int:
    """Add a pixel's weights row by row of the output map; return how many neurons it reached."""
    y += core.padding_y
    x += core.padding_x
    low_y, high_y, _ = _reach(y, core.stride_y_log2, core.kernel_size, core.out_height)
    low_x, high_x, column = _reach(x, core.stride_x_log2, core.kernel_size, core.out_width)
    if low_x > high_x:
        return 0
    count = (high_x - low_x + 1) * core.lanes
    synops = 0
    for out_y in range(low_y, high_y + 1):
        kernel_y = y - (out_y << core.stride_y_log2)
        row = (feature * core.kernel_size + kernel_y) * core.kernel_size
        first = (out_y * core.out_width + low_x) * core.lanes
        delta = (row + column) * core.lanes
        if _add_run(state, weights, first, delta, count, core.threshold_low) >= core.fires_from:
            _fire_row(core, state, spikes, synops, out_y, low_x, high_x)
        synops += (high_x - low_x + 1) * core.out_features
    return synops


@_compiled
def _tick(core: Record, biases: Int16Array, state: Int16Array, spikes: Spikes) -> None:
    """Add the biases to every neuron; spikes of a tick have no cause (-1)."""
    core.start_ns = max(core.next_tick_ns, core.busy_ns)
    core.cause = -1
    row = core.out_width * core.lanes
    for out_y in range(core.out_height):
        largest = _add_run(state, biases, out_y * row, 0, row, core.threshold_low)
        if largest >= core.fires_from:
            updates = out_y * core.out_width * core.out_features
            _fire_row(core, state, spikes, updates, out_y, 0, core.out_width - 1)
    _serve(core, core.out_height * core.out_width * core.out_features)


@_compiled
def _serve(core: Record, updates: int) -> None:
    core.busy_ns = core.start_ns + core.fixed_ns + updates * SECOND_NS // core.synops_per_s
    core.budget -= updates + 1


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
    state: Int16Array, deltas: NDArray[Any], first: Any, delta: Any, count: int, threshold_low: int
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
    core: Record, state: Int16Array, spikes: Spikes, updates: int, y: int, low_x: int, high_x: int
) -> None:
    """Emit and reset the neurons of a run that reached the threshold; `updates` came before."""
    features, lanes = core.out_features, core.lanes  # in registers: stores might alias `core`
    fires_from = np.int32(core.fires_from)
    neuron = (y * core.out_width + low_x) * lanes
    for x in range(low_x, high_x + 1):
        for f in range(features):
            if state[np.uint64(neuron + f)] >= fires_from:
                _reset(core, state, neuron + f)
                _emit(core, spikes, updates + f + 1, f, y, x)
        updates += features
        neuron += lanes


@_compiled
def _reset(core: Record, state: Int16Array, neuron: int) -> None:
    state[neuron] = 0 if core.return_to_zero else state[neuron] - core.threshold_high


@_compiled
def _emit(core: Record, spikes: Spikes, done: int, f: int, y: int, x: int) -> None:
    """Count a spike; the decimator passes each N-th."""
    core.output_spikes += 1
    core.decimator_count += 1
    if core.decimator_count == core.decimator:
        core.decimator_count = 0
        spike = spikes[core.emitted]
        spike.t_ns = (
            core.start_ns + core.fixed_ns + done * SECOND_NS // core.synops_per_s + core.pipe_ns
        )
        spike.cause = core.cause
        spike.feature = f
        spike.y = y
        spike.x = x
        core.emitted += 1


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
