"""The configuration: everything written to a chip, integers only, and its digest."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm_server import chip as chips

Int8Array: TypeAlias = NDArray[np.int8]
Int16Array: TypeAlias = NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a core's spikes go: coordinates are divided by `pooling` on the way."""

    core: int  # 0-8
    pooling: int = 1
    feature_shift: int = 0
    enable: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class CoreConfiguration:
    """What one core is told. Order of axes: features, y, x."""

    core: int  # 0-8
    layer: int  # number of the network layer it runs; for messages, not written to the chip
    input_shape: tuple[int, int, int]  # c, h, w
    output_shape: tuple[int, int, int]  # f, h, w before pooling
    kernel_size: int
    stride: tuple[int, int]  # y, x
    padding: tuple[int, int]  # y, x
    weights: Int8Array  # (f, c, k, k)
    biases: Int16Array  # (f,), added on every slow-clock tick if leak_enable
    threshold_high: int  # fires at >=
    threshold_low: int  # state is clamped to it
    return_to_zero: bool  # after a spike: state 0, else state - threshold_high
    leak_enable: bool = False
    monitor_enable: bool = False
    decimator: int | None = None  # passes 1 spike in N; None: off
    destinations: tuple[Destination, ...] = ()
    exit_pooling: int = 1  # pooling after the last layer, done by the host

    @property
    def kernel_entries(self) -> int:
        """Kernel memory in 8-bit words."""
        return chips.kernel_entries(self.input_shape[0], self.output_shape[0], self.kernel_size)

    @property
    def neuron_entries(self) -> int:
        """Neuron memory in 16-bit words."""
        return chips.neuron_entries(*self.output_shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Configuration:
    """A whole chip. `cores` are in layer order; the exit layer is the last and is monitored."""

    chip: str
    input_shape: tuple[int, int, int]  # c, h, w of the recordings' coordinates after `polarity`
    cores: tuple[CoreConfiguration, ...]
    polarity: str = "keep"  # keep, merge, on, off: how an event's p becomes a feature
    slow_clock_hz: float | None = None  # None: off, biases do nothing
    keep_state: bool = False  # neurons keep their state between recordings
    settings: str = field(default="{}")  # canonical JSON of the settings it was made with

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every field, arrays included."""
        sha = hashlib.sha256()
        plain = {k: getattr(self, k) for k in self.__dataclass_fields__ if k != "cores"}
        sha.update(json.dumps(plain, sort_keys=True).encode())
        for core in self.cores:
            sha.update(json.dumps(_plain(core), sort_keys=True).encode())
            sha.update(np.ascontiguousarray(core.weights).tobytes())
            sha.update(np.ascontiguousarray(core.biases).astype("<i2").tobytes())
        return sha.hexdigest()

    def core_of(self, number: int) -> CoreConfiguration | None:
        """The configuration of core `number`, None if it is not used."""
        return next((core for core in self.cores if core.core == number), None)


def _plain(core: CoreConfiguration) -> dict[str, Any]:
    plain = {k: getattr(core, k) for k in core.__dataclass_fields__ if k not in _ARRAYS}
    plain["destinations"] = [
        [d.core, d.pooling, d.feature_shift, d.enable] for d in core.destinations
    ]
    return plain


_ARRAYS = ("weights", "biases")


def to_bytes(configuration: Configuration) -> bytes:
    """Serialise as .npz for a board's process: JSON for the structure, arrays; no pickles."""
    arrays: dict[str, Any] = {}
    for number, core in enumerate(configuration.cores):
        arrays[f"weights{number}"] = core.weights
        arrays[f"biases{number}"] = core.biases
    plain = {k: getattr(configuration, k) for k in Configuration.__dataclass_fields__}
    plain["cores"] = [_plain(core) for core in configuration.cores]
    buffer = io.BytesIO()
    np.savez(buffer, head=np.frombuffer(json.dumps(plain).encode(), np.uint8), **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Configuration:
    """Read what `to_bytes` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        plain = json.loads(file["head"].tobytes().decode())
        cores = []
        for number, core in enumerate(plain.pop("cores")):
            names = ("core", "pooling", "feature_shift", "enable")
            ways = tuple(
                Destination(**dict(zip(names, way, strict=True)))
                for way in core.pop("destinations")
            )
            arrays = {name: file[f"{name}{number}"] for name in _ARRAYS}
            cores.append(CoreConfiguration(**_tuples(core), **arrays, destinations=ways))
    return Configuration(cores=tuple(cores), **_tuples(plain))


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
