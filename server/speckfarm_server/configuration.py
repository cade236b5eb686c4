"""The configuration: everything written to a chip, integers only, and its digest."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm_server import chip as chips

Int8Array: TypeAlias = NDArray[np.int8]
Int16Array: TypeAlias = NDArray[np.int16]
BoolArray: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a core's spikes go: coordinates are divided by `pooling` on the way."""

    core: int  # 0-8
    pooling: int = 1
    feature_shift: int = 0
    enable: bool = True


@dataclass(frozen=True, kw_only=True)
class DvsConfiguration:
    """The event pre-processing layer, between the sensor or recorded camera events and the cores.

    Polarity, then pooling and crop in the order of the chip (`Chip.dvs_crops_first`), then mirror
    and swap; speck.md 1.6. Pairs are y, x.
    """

    merge: bool = False  # all events are feature 0; else OFF is feature 0, ON feature 1
    on_channel: bool = True  # ON events pass
    off_channel: bool = True  # OFF events pass
    pooling: tuple[int, int] = (1, 1)
    origin: tuple[int, int] = (0, 0)  # first pixel of the crop
    cut: tuple[int, int] = (127, 127)  # last pixel of the crop
    mirror: tuple[bool, bool] = (False, False)  # along y, along x
    mirror_diagonal: bool = False  # swap x and y
    pass_sensor_events: bool = False  # live events enter beside the recorded ones
    monitor_enable: bool = False  # what leaves comes out as spikes of layer ECHO too
    destinations: tuple[Destination, ...] = ()  # no pooling, no shift of their own

    @property
    def features(self) -> int:
        """Features that leave the layer."""
        return 1 if self.merge else 2


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
    initial_state: Int16Array | None = None  # (f, h, w) after configuring and reset; None: zeros
    weights_kill: BoolArray | None = None  # (f, c, k, k); None: nothing is killed
    biases_kill: BoolArray | None = None  # (f,)
    neurons_kill: BoolArray | None = None  # (f, h, w)

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
    """A whole chip. `cores` are in layer order; the exit layer is the last and is monitored.

    Recorded events enter as spikes of the cores in `inputs`, or as camera events of `dvs`.
    """

    chip: str
    input_shape: tuple[int, int, int]  # c, h, w of the recordings' coordinates after `polarity`
    cores: tuple[CoreConfiguration, ...]
    inputs: tuple[Destination, ...] = ()  # pooling 1
    dvs: DvsConfiguration | None = None  # None: not connected, as after a reset
    vendor: Mapping[str, int] = field(default_factory=dict)  # other keys of the vendor's JSON
    polarity: str = "keep"  # keep, merge, on, off: how an event's p becomes a feature
    slow_clock_hz: float | None = None  # None: off, biases do nothing
    keep_state: bool = False  # neurons keep their state between recordings
    order_seed: int | None = None  # of what is unknown in the chip's order; None: a fixed order
    settings: str = field(default="{}")  # canonical JSON of the settings it was made with

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every field, arrays included."""
        sha = hashlib.sha256(json.dumps(_plain(self), sort_keys=True).encode())
        for core in self.cores:
            for name, array in _arrays(core).items():
                sha.update(name.encode())
                sha.update(np.ascontiguousarray(array).astype(_ARRAYS[name]).tobytes())
        return sha.hexdigest()

    @property
    def echoes_input(self) -> bool:
        """Whether recorded events come back as outputs of layer ECHO, as they enter the cores."""
        return self.dvs is not None and self.dvs.monitor_enable and bool(self.dvs.destinations)

    def core_of(self, number: int) -> CoreConfiguration | None:
        """The configuration of core `number`, None if it is not used."""
        return next((core for core in self.cores if core.core == number), None)


# Arrays of a core and how they are hashed and stored.
_ARRAYS = {
    "weights": "i1",
    "biases": "<i2",
    "initial_state": "<i2",
    "weights_kill": "?",
    "biases_kill": "?",
    "neurons_kill": "?",
}


def to_bytes(configuration: Configuration) -> bytes:
    """Serialise as .npz for a board's process: JSON for the structure, arrays; no pickles."""
    arrays: dict[str, Any] = {
        f"{name}{number}": array
        for number, core in enumerate(configuration.cores)
        for name, array in _arrays(core).items()
    }
    head = np.frombuffer(json.dumps(_plain(configuration)).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, head=head, **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Configuration:
    """Read what `to_bytes` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        plain = json.loads(file["head"].tobytes().decode())
        cores = []
        for number, core in enumerate(plain.pop("cores")):
            arrays = {
                name: file[f"{name}{number}"] for name in _ARRAYS if f"{name}{number}" in file
            }
            ways = _destinations(core.pop("destinations"))
            cores.append(CoreConfiguration(**_tuples(core), **arrays, destinations=ways))
    dvs = plain.pop("dvs")
    if dvs is not None:
        ways = _destinations(dvs.pop("destinations"))
        dvs = DvsConfiguration(**_tuples(dvs), destinations=ways)
    inputs = _destinations(plain.pop("inputs"))
    return Configuration(cores=tuple(cores), inputs=inputs, dvs=dvs, **_tuples(plain))


def _arrays(core: CoreConfiguration) -> dict[str, NDArray[Any]]:
    found = {name: getattr(core, name) for name in _ARRAYS}
    return {name: array for name, array in found.items() if array is not None}


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, without the arrays of cores."""
    if is_dataclass(value):
        return {
            f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in _ARRAYS
        }
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _destinations(plain: list[dict[str, Any]]) -> tuple[Destination, ...]:
    return tuple(Destination(**way) for way in plain)


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
