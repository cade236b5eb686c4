"""One core of the twin: its configuration as the arrays that the kernel works on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.chip import output_size
from speckfarm_server.configuration import CoreConfiguration, Destination, Int8Array, Int16Array
from speckfarm_server.twin.assumptions import Assumptions
from speckfarm_server.twin.delay import DelayModel
from speckfarm_server.twin.inbox import FOREVER_NS, NO_SPIKES
from speckfarm_server.twin.kernel import CORE_DTYPE, LANES, SPIKE_DTYPE, advance

BUDGET_UPDATES = 1 << 27  # neuron updates per call of the kernel: about 0.1 s
NEVER_NS = -1

Integer = TypeVar("Integer", bound=np.integer)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a core runs in, besides its own configuration."""

    delays: DelayModel
    tick_period_ns: int  # 0: no slow clock
    assumptions: Assumptions
    buffer_spikes: int  # room beyond what one arrival can emit


class Core:
    """State, clock, counters and buffers of one core; `link` is what leads to it."""

    def __init__(
        self, configuration: CoreConfiguration, link: Destination, surroundings: Surroundings
    ) -> None:
        _check(configuration)
        features, height, width = configuration.output_shape
        delays, assumptions = surroundings.delays, surroundings.assumptions
        lanes = -(-features // LANES) * LANES
        self.layer = configuration.layer
        self.monitored = configuration.monitor_enable
        self.delay_ns = delays.fixed_ns + delays.pipe_ns  # from service to the earliest spike
        self.ticks = bool(configuration.leak_enable and surroundings.tick_period_ns)
        self._shape = (height, width, lanes)
        self._features = features
        self._weights = _arrange(configuration, lanes)
        self._biases = np.tile(_widen(configuration.biases, lanes), width)
        self._initial_state = _initial_state(configuration, lanes)
        self._state = self._initial_state.copy()
        self._spikes = np.empty(features * height * width + surroundings.buffer_spikes, SPIKE_DTYPE)
        self._arrivals: NDArray[np.void] = NO_SPIKES
        self.is_done = True  # with what was accepted
        self._record = np.zeros(1, CORE_DTYPE)
        self._set(**_geometry(configuration, link), lanes=lanes, **asdict(delays))
        self._set(fires_from=configuration.threshold_high + (assumptions.fires == ">"))
        self._set(tick_period_ns=surroundings.tick_period_ns if self.ticks else 0)
        if configuration.decimator is not None and assumptions.decimator_passes == "first":
            self._set(decimator_count=configuration.decimator - 1)

    def reset_state(self) -> None:
        """Give every neuron its initial state."""
        self._state[:] = self._initial_state

    def start_recording(self) -> None:
        """Zero clock and counters, forget spikes on their way."""
        self._set(busy_ns=0, input_spikes=0, output_spikes=0, synops=0)
        self.accept(NO_SPIKES)
        self.is_done = True

    def start_ticks(self, origin_ns: int) -> None:
        """Let leak ticks, if any, come every period after `origin_ns`."""
        self._set(next_tick_ns=origin_ns + int(self._record["tick_period_ns"][0]))

    def accept(self, spikes: NDArray[np.void]) -> None:
        """Take SPIKE_DTYPE in order of time; they must stay unchanged until `is_done`."""
        self._arrivals = spikes
        self._set(waiting=len(spikes), taken=0)

    def advance(self, horizon_ns: int) -> None:
        """Serve what was accepted, then ticks up to `horizon_ns`, as far as the buffer goes."""
        self._set(horizon_ns=horizon_ns, budget=BUDGET_UPDATES, emitted=0)
        self.is_done = advance(
            self._record, self._weights, self._biases, self._state, self._arrivals, self._spikes
        )

    @property
    def busy_ns(self) -> int:
        """When it is free again."""
        return int(self._record["busy_ns"][0])

    @property
    def arrival_ns(self) -> int:
        """Time of the next arrival among those accepted."""
        taken = int(self._record["taken"][0])
        return int(self._arrivals["t_ns"][taken]) if taken < len(self._arrivals) else FOREVER_NS

    @property
    def next_tick_ns(self) -> int:
        """When the next leak tick comes."""
        return int(self._record["next_tick_ns"][0]) if self.ticks else FOREVER_NS

    @property
    def emitted(self) -> NDArray[np.void]:
        """What the last `advance` let through the decimator; valid until the next."""
        return self._spikes[: int(self._record["emitted"][0])]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Input spikes, output spikes (before the decimator), synaptic operations."""
        record = self._record[0]
        return int(record["input_spikes"]), int(record["output_spikes"]), int(record["synops"])

    @property
    def neurons(self) -> Int16Array:
        """A copy of the state, (f, h, w)."""
        state = self._state.reshape(self._shape)[..., : self._features]
        return np.ascontiguousarray(state.transpose(2, 0, 1))

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self._record[name] = value


def _geometry(core: CoreConfiguration, link: Destination) -> dict[str, int]:
    in_features, in_height, in_width = core.input_shape
    out_features, out_height, out_width = core.output_shape
    return {
        "in_features": in_features,
        "in_height": in_height,
        "in_width": in_width,
        "out_features": out_features,
        "out_height": out_height,
        "out_width": out_width,
        "kernel_size": core.kernel_size,
        "padding_y": core.padding[0],
        "padding_x": core.padding[1],
        "stride_y_log2": _log2("stride", core.stride[0]),
        "stride_x_log2": _log2("stride", core.stride[1]),
        "pooling_log2": _log2("pooling", link.pooling),
        "feature_shift": link.feature_shift,
        "threshold_high": core.threshold_high,
        "threshold_low": core.threshold_low,
        "return_to_zero": int(core.return_to_zero),
        "decimator": core.decimator or 1,
    }


def _arrange(core: CoreConfiguration, lanes: int) -> Int8Array:
    """Weights as (c, ky, kx, lanes), flat; kx by stride phase, each phase from last to first."""
    stride = core.stride[1]
    columns = [kx for phase in range(stride) for kx in range(phase, core.kernel_size, stride)[::-1]]
    return _widen(core.weights.transpose(1, 2, 3, 0)[:, :, columns], lanes).ravel()


def _initial_state(core: CoreConfiguration, lanes: int) -> Int16Array:
    """Neurons as (y, x, lanes), flat."""
    neurons = core.initial_state
    if neurons is None:
        neurons = np.zeros(core.output_shape, np.int16)
    return _widen(neurons.transpose(1, 2, 0), lanes).ravel()


def _widen(array: NDArray[Integer], lanes: int) -> NDArray[Integer]:
    """Pad the last axis, features, with zeros."""
    wide = np.zeros((*array.shape[:-1], lanes), array.dtype)
    wide[..., : array.shape[-1]] = array
    return wide


def _log2(name: str, value: int) -> int:
    if value < 1 or value & (value - 1):
        raise ValueError(f"{name}: found {value}; the chip has powers of two only")
    return value.bit_length() - 1


def _check(core: CoreConfiguration) -> None:
    """Raise ValueError if the kernel could leave its arrays or overflow its integers."""
    in_features, *in_size = core.input_shape
    features, *size = core.output_shape
    k = core.kernel_size
    axes = zip(in_size, core.stride, core.padding, strict=True)
    rules: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
        ("weights", core.weights.shape, (features, in_features, k, k)),
        ("biases", core.biases.shape, (features,)),
        ("output map", tuple(size), tuple(output_size(n, k, s, p) for n, s, p in axes)),
    )
    if core.initial_state is not None:
        rules += (("initial state", core.initial_state.shape, core.output_shape),)
    for name, found, wanted in rules:
        if found != wanted:
            raise ValueError(f"core {core.core}, {name}: found {found}, other fields say {wanted}")
    if not -32768 <= core.threshold_low <= 0 <= core.threshold_high <= 32767:
        found = (core.threshold_low, core.threshold_high)
        raise ValueError(f"core {core.core}, thresholds: found {found}; -32768..0 and 0..32767")
