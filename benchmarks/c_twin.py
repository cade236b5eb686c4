"""The hand-written C kernel behind the twin's interface: how fast one thread can be.

`twin_kernel.c` is compiled for this processor when it is first used. It runs chains of cores only,
without leak ticks and without the event pre-processing layer; with the twin's queues, or with
queues that have no end, which cost less. tests/test_c_twin.py holds it and the twin together.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import platform
import shutil
import subprocess
import tempfile
import weakref
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import TIME_SHIFT, PackedEvents
from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    Int16Array,
)
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from speckfarm_server.twin.core import (
    arrange_initial_state,
    arrange_weights,
    link_fields,
    reach_of,
)
from speckfarm_server.twin.delay import delay_model
from speckfarm_server.twin.records import FIRST_BIN_LOG2, FOREVER_NS, LOAD_BINS
from speckfarm_server.twin.twin import OUTPUT_DTYPE

SOURCE = Path(__file__).with_name("twin_kernel.c")
FLAGS = ("-O3", "-march=native", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
# What the compiler may use of this processor.
VECTORS: dict[str, tuple[str, ...]] = {"native": ()}
if platform.machine() in {"x86_64", "AMD64"}:
    # Without -mno-stv gcc compares two times as vectors of one, by way of memory.
    VECTORS = {"native": ("-mno-stv",)}
    VECTORS["avx2"] = (*VECTORS["native"], "-mno-avx512bw")
    VECTORS["none"] = (*VECTORS["avx2"], "-mno-avx2")
COORDINATES = 256
BEYOND = -1  # the map
NS_PER_US = 1000
SLACK_SPIKES = 256  # how often a queue with an end is moved to its front
BLOCK_SPIKES = 2048  # what a core without one sends before the next core goes on
CACHE_LINE = 64  # bytes, and the widest vector: loads go so far beyond the last neuron
Integer = TypeVar("Integer", bound=np.integer)

SPIKE_DTYPE = np.dtype([
    ("t_ns", "<i8"),
    ("x", "u1"),
    ("y", "u1"),
    ("feature", "<u2"),
    ("cause", "<i4"),
])
_REACH_DTYPE = np.dtype((np.int32, (COORDINATES, 4)))
# fmt: off
_CORE_DTYPE = np.dtype([
    ("reach_y", _REACH_DTYPE), ("reach_x", _REACH_DTYPE), *((name, "<i8") for name in (
        "weights", "state", "in_features", "feature_shift", "channel_weights", "neurons",
        "out_features", "row_lanes", "weights_step", "threshold_high", "threshold_low",
        "return_to_zero", "decimator", "monitored", "may_miss", "fixed_ns", "pipe_ns", "op_ns_q20",
        "busy_ns", "until_pass", "input_spikes", "output_spikes", "synops", "shift_ns",
        "stalled_ns", "spikes", "room", "taken", "gone", "cursor", "end", "starts", "load",
        "monitor", "monitor_count", "monitor_room",
    ))
])
_CHAIN_DTYPE = np.dtype([(name, "<i8") for name in (
    "cores", "count", "depth", "ring_mask", "origin_ns", "bin_log2", "entered_ns", "held_back_ns",
    "held_back_events",
)])
# fmt: on


@dataclass(frozen=True, kw_only=True, eq=False)
class Activity:
    """Counts of one recording, one element per layer, as the twin's.

    Those from `stalled_us` on are 0 where queues have no end.
    """

    input_spikes: NDArray[np.int64]
    output_spikes: NDArray[np.int64]
    synops: NDArray[np.int64]
    stalled_us: NDArray[np.float64]
    load: NDArray[np.int64]  # (layers, bins)
    bin_us: float
    held_back_us: float
    held_back_events: int


class CTwin:
    """A chain of cores with a configuration loaded, as `Twin`.

    Takes what `Twin` takes, if it is a plain chain, and raises ValueError otherwise; RuntimeError
    if there is no gcc. A `fifo_depth` of 0 gives queues without end.
    """

    def __init__(
        self,
        configuration: Configuration,
        vectors: str = "native",
        *,
        fifo_depth: int = ASSUMPTIONS.fifo_depth,
    ) -> None:
        self._library = load_library(vectors)
        chain = _chain(configuration)
        ring = 1 << max(0, fifo_depth - 1).bit_length()
        slack = fifo_depth + SLACK_SPIKES if fifo_depth else BLOCK_SPIKES
        self._shapes = [core.output_shape for core, _ in chain]
        self._initial = [arrange_initial_state(core) for core, _ in chain]
        self._states = [_aligned(state) for state in self._initial]
        self._starts = np.empty((len(chain), ring), np.int64)
        self._load = np.empty((len(chain), LOAD_BINS), np.int64)
        self._memory = {
            "weights": [_aligned(arrange_weights(core)) for core, _ in chain],
            "state": self._states,
            "spikes": [np.empty(slack + len(state), SPIKE_DTYPE) for state in self._initial],
            "starts": list(self._starts),
            "load": list(self._load),
        }
        self._cores = np.zeros(len(chain), _CORE_DTYPE)
        for place, (core, link) in enumerate(chain):
            record = self._cores[place]
            record["reach_y"], record["reach_x"] = _reach(core, link)
            for name, arrays in self._memory.items():
                record[name] = arrays[place].ctypes.data
            source = chain[place - 1][0] if place else None
            for name, value in _settings(core, link, source, configuration.chip).items():
                record[name] = value
        self._cores["room"] = slack + self._cores["neurons"]
        self._flow = np.zeros(1, _CHAIN_DTYPE)
        self._flow["cores"], self._flow["count"] = self._cores.ctypes.data, len(chain)
        self._flow["depth"], self._flow["ring_mask"] = fifo_depth, ring - 1
        weakref.finalize(self, _forget, self._library, self._cores)

    def reset_state(self) -> None:
        """Give all neurons their initial state; decimator counters stay."""
        for state, initial in zip(self._states, self._initial, strict=True):
            state[: len(initial)] = initial

    def run(self, packed: PackedEvents) -> NDArray[np.void]:
        """Run a recording, all clocks at zero; return its output layer by layer, OUTPUT_DTYPE."""
        self.run_only(packed)
        return np.concatenate([self._monitored(place) for place in range(len(self._cores))])

    def run_only(self, packed: PackedEvents) -> None:
        """The same, but output stays as the kernel writes it."""
        _forget(self._library, self._cores)
        for name in _OF_A_RECORDING:
            self._cores[name] = 0
        self._starts[:] = -FOREVER_NS  # every place has always been free
        self._load[:] = 0
        events = np.ascontiguousarray(packed, np.uint64)
        self._flow["origin_ns"] = (int(events[0]) >> TIME_SHIFT) * NS_PER_US if len(events) else 0
        self._flow["bin_log2"], self._flow["entered_ns"] = FIRST_BIN_LOG2, -FOREVER_NS
        self._flow["held_back_ns"] = self._flow["held_back_events"] = 0
        if self._library.run_chain(self._flow.ctypes.data, events.ctypes.data, len(events)):
            raise MemoryError("no memory for the monitored spikes; run a shorter recording")

    @property
    def activity(self) -> Activity:
        """Counts of the last recording."""
        flow = self._flow[0]
        return Activity(
            input_spikes=self._cores["input_spikes"].copy(),
            output_spikes=self._cores["output_spikes"].copy(),
            synops=self._cores["synops"].copy(),
            stalled_us=self._cores["stalled_ns"] / NS_PER_US,
            load=self._load.copy(),
            bin_us=(1 << int(flow["bin_log2"])) / NS_PER_US,
            held_back_us=float(flow["held_back_ns"]) / NS_PER_US,
            held_back_events=int(flow["held_back_events"]),
        )

    def neurons(self, layer: int) -> Int16Array:
        """A copy of a layer's neurons, (f, h, w)."""
        features, height, width = self._shapes[layer]
        state = self._states[layer][: features * height * width]
        return np.ascontiguousarray(state.reshape(height, width, features).transpose(2, 0, 1))

    def _monitored(self, layer: int) -> NDArray[np.void]:
        size = int(self._cores["monitor_count"][layer]) * SPIKE_DTYPE.itemsize
        address = int(self._cores["monitor"][layer])
        spikes = np.frombuffer(ctypes.string_at(address, size) if size else b"", SPIKE_DTYPE)
        outputs = np.empty(len(spikes), OUTPUT_DTYPE)
        outputs["layer"] = layer
        for name in SPIKE_DTYPE.names or ():
            outputs[name] = spikes[name]
        return outputs


_OF_A_RECORDING = (
    "busy_ns", "input_spikes", "output_spikes", "synops", "shift_ns", "stalled_ns",
    "taken", "gone", "cursor", "end",
)  # fmt: skip


def _forget(library: ctypes.CDLL, cores: NDArray[np.void]) -> None:
    """Give monitored spikes back to the system."""
    for place in range(len(cores)):
        library.forget(cores[place : place + 1].ctypes.data)


@cache
def load_library(vectors: str) -> ctypes.CDLL:
    """Compile the kernel for these `VECTORS` and load it; about a second, once per process."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise RuntimeError(
            "gcc was not found, and the C kernel is compiled where it is used; install gcc "
            "(Debian: apt-get install gcc). speckfarm itself needs no compiler"
        )
    folder = tempfile.mkdtemp(prefix="speckfarm-c-twin-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = Path(folder) / "twin_kernel.so"
    flags = (*FLAGS, *VECTORS[vectors])
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(target)], check=True)
    library = ctypes.CDLL(str(target))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    library.run_chain.argtypes = [pointer, pointer, integer]
    library.forget.argtypes = [pointer]
    library.forget.restype = None
    return library


def _chain(configuration: Configuration) -> list[tuple[CoreConfiguration, Destination]]:
    """Cores in the order in which spikes pass them, each with the only link that leads to it."""
    if configuration.slow_clock_hz is not None or configuration.dvs is not None:
        raise ValueError("found a slow clock or a camera layer; the C kernel knows neither")
    chain: list[tuple[CoreConfiguration, Destination]] = []
    ways = [way for way in configuration.inputs if way.enable]
    while ways:
        if len(ways) > 1 or (core := configuration.core_of(ways[0].core)) is None:
            raise ValueError(f"found {ways}; the C kernel runs plain chains of cores")
        chain.append((core, ways[0]))
        ways = [way for way in core.destinations if way.enable]
    if [core.layer for core, _ in chain] != list(range(len(configuration.cores))):
        raise ValueError("the C kernel runs plain chains of cores, in order of their layers")
    return chain


def _settings(
    core: CoreConfiguration, link: Destination, source: CoreConfiguration | None, chip: str
) -> dict[str, int]:
    features, _, width = core.output_shape
    k = core.kernel_size
    return {
        "in_features": core.input_shape[0],
        "feature_shift": link.feature_shift,
        "channel_weights": k * k * features,
        "neurons": math.prod(core.output_shape),
        "out_features": features,
        "row_lanes": width * features,
        "weights_step": -core.stride[0] * k * features,
        "threshold_high": core.threshold_high,
        "threshold_low": core.threshold_low,
        "return_to_zero": int(core.return_to_zero),
        "decimator": core.decimator or 1,
        "until_pass": core.decimator or 1,
        "monitored": int(core.monitor_enable),
        "may_miss": link_fields(link, source, core)["may_miss"],
        **asdict(delay_model(chip, core.core, ASSUMPTIONS)),
    }


def _reach(core: CoreConfiguration, link: Destination) -> list[NDArray[np.int32]]:
    """What a spike at each y, and at each x, before pooling reaches: as ReachY, and as ReachX."""
    tables = []
    for table in np.split(reach_of(core).reshape(-1, 4), [core.input_shape[1]]):
        low, count, first, weights = table.repeat(link.pooling, axis=0)[:COORDINATES].T
        reached = np.full((COORDINATES, 4), BEYOND, np.int32)
        reached[: len(low)] = np.stack([count, first, weights, low], axis=1)
        tables.append(reached)
    return tables


def _aligned(array: NDArray[Integer]) -> NDArray[Integer]:
    """The array, flat, from the start of a cache line, and room behind it for the last vector."""
    room = np.zeros(array.nbytes + 2 * CACHE_LINE, np.uint8)
    start = -room.ctypes.data % CACHE_LINE
    aligned = room[start : start + array.nbytes + CACHE_LINE].view(array.dtype)
    aligned[: array.size] = array
    return aligned
