"""The hand-written C kernel behind the twin's interface: how fast one thread can be.

`twin_kernel.c` is compiled for this processor when it is first used. It runs chains of cores only,
without leak ticks and without the event pre-processing layer, and its queues have no end; that is
what the benchmarks compare the twin with. tests/test_c_twin.py holds the two together.
"""

from __future__ import annotations

import atexit
import ctypes
import platform
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import PackedEvents
from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    Int8Array,
    Int16Array,
)
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from speckfarm_server.twin.delay import delay_model
from speckfarm_server.twin.twin import OUTPUT_DTYPE

SOURCE = Path(__file__).with_name("twin_kernel.c")
FLAGS = ("-O3", "-march=native", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
# What the compiler may use of this processor.
VECTORS: dict[str, tuple[str, ...]] = {"native": ()}
if platform.machine() in {"x86_64", "AMD64"}:
    VECTORS |= {"avx2": ("-mno-avx512bw",), "none": ("-mno-avx512bw", "-mno-avx2")}
COORDINATES = 256
BEYOND = -1  # the map
CACHE_LINE = 64  # bytes, and the widest vector: loads go so far beyond the last neuron
Integer = TypeVar("Integer", bound=np.integer)

SPIKE_DTYPE = np.dtype([
    ("t_ns", "<i8"),
    ("cause", "<i4"),
    ("feature", "<u2"),
    ("y", "u1"),
    ("x", "u1"),
])
_REACH_DTYPE = np.dtype((np.int32, (COORDINATES, 4)))
# fmt: off
_CORE_DTYPE = np.dtype([
    ("reach_y", _REACH_DTYPE), ("reach_x", _REACH_DTYPE), *((name, "<i8") for name in (
        "weights", "state", "in_features", "feature_shift", "channel_weights", "out_features",
        "row_lanes", "weights_step", "threshold_high", "threshold_low", "return_to_zero",
        "decimator", "monitored", "fixed_ns", "pipe_ns", "op_ns_q20",
        "busy_ns", "until_pass", "input_spikes", "output_spikes", "synops",
        "sent", "sent_count", "monitor", "monitor_count", "monitor_room",
    ))
])
# fmt: on


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of one recording, one element per layer, as the twin's `Activity`."""

    input_spikes: NDArray[np.int64]
    output_spikes: NDArray[np.int64]
    synops: NDArray[np.int64]


class CTwin:
    """A chain of cores with a configuration loaded, as `Twin`.

    Takes what `Twin` takes, if it is a plain chain, and raises ValueError otherwise; RuntimeError
    if there is no gcc.
    """

    def __init__(self, configuration: Configuration, vectors: str = "native") -> None:
        self._library = load_library(vectors)
        chain = _chain(configuration)
        self._shapes = [core.output_shape for core, _ in chain]
        self._weights = [_arrange(core) for core, _ in chain]
        self._initial = [_initial_state(core) for core, _ in chain]
        self._states = [_aligned(state) for state in self._initial]
        block = ctypes.c_int64.in_dll(self._library, "block_spikes").value
        self._sent = [np.empty(block + state.size, SPIKE_DTYPE) for state in self._states]
        self._cores = np.zeros(len(chain), _CORE_DTYPE)
        for place, (core, link) in enumerate(chain):
            record = self._cores[place]
            record["reach_y"], record["reach_x"] = _reach_y(core, link), _reach_x(core, link)
            record["weights"] = self._weights[place].ctypes.data
            record["state"] = self._states[place].ctypes.data
            record["sent"] = self._sent[place].ctypes.data
            for name, value in _settings(core, link, configuration.chip).items():
                record[name] = value
        weakref.finalize(self, _forget, self._library, self._cores)

    def reset_state(self) -> None:
        """Give all neurons their initial state; decimator counters stay."""
        for state, initial in zip(self._states, self._initial, strict=True):
            state[: initial.size] = initial.ravel()

    def run(self, packed: PackedEvents) -> NDArray[np.void]:
        """Run a recording, all clocks at zero; return its output layer by layer, OUTPUT_DTYPE."""
        self.run_only(packed)
        return np.concatenate([self._monitored(place) for place in range(len(self._cores))])

    def run_only(self, packed: PackedEvents) -> None:
        """The same, but output stays as the kernel writes it."""
        _forget(self._library, self._cores)
        for name in ("busy_ns", "input_spikes", "output_spikes", "synops"):
            self._cores[name] = 0
        cores = self._cores.ctypes.data
        events = np.ascontiguousarray(packed, np.uint64)
        if self._library.run_chain(cores, len(self._cores), events.ctypes.data, len(events)):
            raise MemoryError("no memory for the monitored spikes; run a shorter recording")

    @property
    def activity(self) -> Counts:
        """Counts of the last recording."""
        return Counts(*(self._cores[field.name].copy() for field in fields(Counts)))

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
    library.run_chain.argtypes = [pointer, ctypes.c_int, pointer, integer]
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


def _settings(core: CoreConfiguration, link: Destination, chip: str) -> dict[str, int]:
    features, _, width = core.output_shape
    k = core.kernel_size
    return {
        "in_features": core.input_shape[0],
        "feature_shift": link.feature_shift,
        "channel_weights": k * k * features,
        "out_features": features,
        "row_lanes": width * features,
        "weights_step": -core.stride[0] * k * features,
        "threshold_high": core.threshold_high,
        "threshold_low": core.threshold_low,
        "return_to_zero": int(core.return_to_zero),
        "decimator": core.decimator or 1,
        "until_pass": core.decimator or 1,
        "monitored": int(core.monitor_enable),
        **asdict(delay_model(chip, core.core, ASSUMPTIONS)),
    }


def _reach_y(core: CoreConfiguration, link: Destination) -> NDArray[np.int32]:
    features, _, width = core.output_shape
    table = np.full((COORDINATES, 4), BEYOND, np.int32)
    for at, (count, low, kernel_y) in enumerate(_reached(core, link, axis=0)):
        weights = kernel_y * core.kernel_size * features
        table[at] = (count, low * width * features, weights, low)
    return table


def _reach_x(core: CoreConfiguration, link: Destination) -> NDArray[np.int32]:
    features = core.output_shape[0]
    columns = _columns(core)
    table = np.full((COORDINATES, 4), BEYOND, np.int32)
    for at, (count, low, kernel_x) in enumerate(_reached(core, link, axis=1)):
        weights = columns.index(kernel_x) * features
        table[at] = (count * features, low * features, weights, low)
    return table


def _reached(
    core: CoreConfiguration, link: Destination, *, axis: int
) -> Iterator[tuple[int, int, int]]:
    """For each coordinate that pools into the map: outputs reached, the first, and its tap."""
    stride, padding, size = core.stride[axis], core.padding[axis], core.input_shape[1 + axis]
    for at in range(min(size * link.pooling, COORDINATES)):
        taps = [
            (out, tap)
            for out in range(core.output_shape[1 + axis])
            if 0 <= (tap := at // link.pooling + padding - out * stride) < core.kernel_size
        ]
        yield len(taps), *(taps[0] if taps else (0, 0))


def _columns(core: CoreConfiguration) -> list[int]:
    """Kernel columns as they are stored: by stride phase, each phase from last to first."""
    stride = core.stride[1]
    return [kx for phase in range(stride) for kx in range(phase, core.kernel_size, stride)[::-1]]


def _arrange(core: CoreConfiguration) -> Int8Array:
    """Weights as (c, ky, kx, f), flat."""
    return _aligned(core.weights.transpose(1, 2, 3, 0)[:, :, _columns(core)])


def _initial_state(core: CoreConfiguration) -> Int16Array:
    """Neurons as (y, x, f)."""
    state = core.initial_state
    neurons = np.zeros(core.output_shape, np.int16) if state is None else state
    return neurons.transpose(1, 2, 0)


def _aligned(array: NDArray[Integer]) -> NDArray[Integer]:
    """The array, flat, from the start of a cache line, and room behind it for the last vector."""
    room = np.zeros(array.nbytes + 2 * CACHE_LINE, np.uint8)
    start = -room.ctypes.data % CACHE_LINE
    aligned = room[start : start + array.nbytes + CACHE_LINE].view(array.dtype)
    aligned[: array.size] = array.ravel()
    return aligned
