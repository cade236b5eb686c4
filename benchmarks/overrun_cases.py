"""Boards whose constants are hidden: networks, recordings, chips and stamps, drawn with a seed.

Everything about a case follows from its seed. `draw` makes it, `play` runs it on the hidden board
and spoils the stamps as a devkit may. The truth is taken without the start-up burst.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from overrun_networks import CHIP, DIGITS, digits_network, draw_network

from speckfarm.events import EVENT_DTYPE, PackedEvents, pack, unpack
from speckfarm_server.configuration import Configuration
from speckfarm_server.recording_file import read_recordings
from speckfarm_server.twin.assumptions import ASSUMPTIONS, UNLOADED, Assumptions
from speckfarm_server.twin.twin import Twin

MOST_EVENTS = 60_000
MOST_EVENTS_PER_US = 0.5
MOST_SYNOPS = 1.5e8
PILOT_EVENTS = 2000
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Stamps:
    """How output stamps differ from the times at which outputs leave."""

    offset_us: float
    jitter_us: float
    lost: float  # share
    extra: float  # share
    step_us: float  # added to all stamps from the time `step_at` on; 0: none
    step_at: float  # share of the recording


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One run: what is put in, and what the estimator must not know."""

    seed: int
    network: str  # words
    pattern: str  # words
    configuration: Configuration
    packed: PackedEvents
    hidden: Assumptions
    stamps: Stamps
    start_burst_us: float  # events of this much time come together at its end; 0: none

    @property
    def duration_us(self) -> float:
        """Last - first input event."""
        return float(np.ptp(unpack(self.packed)["t"]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """What the hidden board did, and what is seen of it."""

    stamp_us: FloatArray  # (n,) whole us, in order of arrival
    layer: NDArray[np.integer]  # (n,)
    address: NDArray[np.int64]  # (n,)
    lag_us: FloatArray  # (n,) true lag; NaN of extra outputs
    held_back_us: float  # truth: without the start-up burst
    guilty: int  # layer that was busy for longest
    share: FloatArray  # (layers,) time for which each core was busy, over that of the guilty one


def draw(seed: int) -> Case:
    """Case `seed`."""
    rng = np.random.default_rng([20260, seed])
    rates = rng.uniform(0.5, 1.5) * rng.uniform(0.9, 1.1, 9)
    depth = round(2 ** rng.uniform(2, 8))
    is_digits = rng.random() < 0.1
    configuration = digits_network() if is_digits else draw_network(rng)
    hidden = replace(
        ASSUMPTIONS,
        fifo_depth=depth,
        rate_factors=tuple(map(float, rates)),
        # Cores 0 and 1 are the ones that are not reproducible.
        order_seed=seed if any(core.core < 2 for core in configuration.cores) else None,
    )
    load, duration_us = 2 ** rng.uniform(-6, 3.3), 20e3 * 100 ** rng.uniform()
    pattern = str(rng.choice(["steady", "regular", "bursts", "one burst", "rising"]))
    if is_digits:
        packed = _digit_events(rng, configuration, load, duration_us)
    else:
        packed = _events(rng, configuration, load, duration_us, pattern)
    duration_us = float(np.ptp(unpack(packed)["t"]))
    step_us = rng.choice([-1, 1]) * 200 * 100 ** rng.uniform() if rng.random() < 0.2 else 0.0
    burst_us = 1e3 * 10 ** rng.uniform() if rng.random() < 0.15 else 0.0
    stamps = Stamps(
        offset_us=rng.uniform(-1000, 1000),
        jitter_us=rng.uniform(0, 5),
        lost=rng.uniform(0, 0.1) * (rng.random() < 0.6),
        extra=rng.uniform(0, 0.1) * (rng.random() < 0.6),
        step_us=float(step_us),
        step_at=rng.uniform(0.1, 0.9),
    )
    return Case(
        seed=seed,
        network="digits" if is_digits else f"{len(configuration.cores)} cores",
        pattern="digits" if is_digits else pattern,
        configuration=_monitored(rng, configuration),
        packed=packed,
        hidden=hidden,
        stamps=stamps,
        start_burst_us=min(burst_us, duration_us / 4),
    )


def play(case: Case) -> Played:
    """Run the case on its hidden board."""
    rng = np.random.default_rng([20261, case.seed])
    board = Twin(case.configuration, assumptions=case.hidden)
    outputs = board.run(case.packed)
    activity = board.activity
    input_us = unpack(case.packed)["t"].astype(np.float64)
    if case.start_burst_us:
        late = Twin(case.configuration, assumptions=case.hidden)
        outputs = late.run(_burst_at_start(case.packed, case.start_burst_us))
    guilty = int(np.argmax(activity.served_us))
    t_us = outputs["t_ns"] / 1000
    address = addresses(outputs)
    lag_us = np.where(outputs["cause"] >= 0, t_us - input_us[outputs["cause"]], np.nan)
    stamp_us, layer, address, lag_us = _spoiled(
        rng, case, t_us, outputs["layer"].astype(np.int64), address, lag_us
    )
    return Played(
        stamp_us=stamp_us,
        layer=layer,
        address=address,
        lag_us=lag_us,
        held_back_us=activity.held_back_us,
        guilty=guilty,
        share=activity.served_us / activity.served_us.max(),
    )


def addresses(outputs: NDArray[np.void]) -> NDArray[np.int64]:
    """Feature, y and x in one number."""
    feature, y, x = (outputs[name].astype(np.int64) for name in ("feature", "y", "x"))
    return feature << 14 | y << 7 | x


def _spoiled(
    rng: np.random.Generator,
    case: Case,
    t_us: FloatArray,
    layer: NDArray[np.int64],
    address: NDArray[np.int64],
    lag_us: FloatArray,
) -> tuple[Any, Any, Any, Any]:
    stamps = case.stamps
    kept = rng.random(len(t_us)) >= stamps.lost
    extra = rng.binomial(len(t_us), stamps.extra)
    like = rng.integers(0, max(1, len(t_us)), extra)
    at_us = rng.uniform(t_us.min(), t_us.max(), extra) if extra else np.empty(0)
    t_us = np.concatenate([t_us[kept], at_us])
    layer = np.concatenate([layer[kept], layer[like]])
    address = np.concatenate([address[kept], address[rng.permutation(like)]])
    lag_us = np.concatenate([lag_us[kept], np.full(extra, np.nan)])
    order = np.argsort(t_us, kind="stable")
    t_us, layer, address, lag_us = (each[order] for each in (t_us, layer, address, lag_us))
    first_us, duration_us = float(unpack(case.packed)["t"][0]), case.duration_us
    stepped = t_us >= first_us + stamps.step_at * duration_us
    jitter_us = rng.uniform(-stamps.jitter_us, stamps.jitter_us, len(t_us))
    stamp_us = np.floor(t_us + stamps.offset_us + jitter_us + stamps.step_us * stepped)
    return stamp_us, layer, address, lag_us


def _burst_at_start(packed: PackedEvents, burst_us: float) -> PackedEvents:
    events = unpack(packed)
    events["t"] = np.maximum(events["t"], events["t"][0] + np.int64(burst_us))
    return pack(events)


def _monitored(rng: np.random.Generator, configuration: Configuration) -> Configuration:
    """The exit layer alone, or inner layers as well."""
    share = rng.choice([0.0, 0.0, 0.5, 1.0])
    cores = [
        replace(core, monitor_enable=core is configuration.cores[-1] or bool(rng.random() < share))
        for core in configuration.cores
    ]
    return replace(configuration, cores=tuple(cores))


def _events(
    rng: np.random.Generator,
    configuration: Configuration,
    load: float,
    duration_us: float,
    pattern: str,
) -> PackedEvents:
    """As many events as keep the busiest core busy for `load` of the time, if it is nominal."""
    pilot = np.sort(rng.uniform(0, 1e6, PILOT_EVENTS))
    cost_us, synops = _cost(configuration, _placed(rng, configuration, pilot))
    cost_us, synops = cost_us / PILOT_EVENTS, synops / PILOT_EVENTS
    most = min(MOST_EVENTS, MOST_SYNOPS / synops)
    duration_us = float(np.clip(most * cost_us / load, 20e3, duration_us))
    most = min(most, duration_us * MOST_EVENTS_PER_US)
    count = int(np.clip(load * duration_us / cost_us, 20, most))
    return _placed(rng, configuration, _times(rng, count, duration_us, pattern))


def _times(rng: np.random.Generator, count: int, duration_us: float, pattern: str) -> FloatArray:
    if pattern == "regular":
        return np.linspace(0, duration_us, count)
    share = rng.uniform(0, 1, count)
    if pattern == "rising":
        share = np.sqrt(share)
    if pattern == "one burst":
        middle, width = rng.uniform(0.1, 0.8), rng.uniform(0.02, 0.2)
        share = np.where(rng.random(count) < 0.7, middle + width * share, share)
    if pattern == "bursts":
        bursts = int(np.clip(duration_us / 10 ** rng.uniform(3.7, 5), 1, 200))
        on = rng.uniform(0.05, 0.6)
        share = (np.floor(share * bursts) + rng.uniform(0, on, count)) / bursts
    share = np.sort(share)
    return (share - share[0]) / (share[-1] - share[0]) * duration_us


def _placed(
    rng: np.random.Generator, configuration: Configuration, t_us: FloatArray
) -> PackedEvents:
    events = np.zeros(len(t_us), EVENT_DTYPE)
    features, *sizes = configuration.input_shape
    events["t"] = 1000 + t_us.astype(np.int64)
    events["feature"] = rng.integers(0, features, len(t_us))
    is_blob = rng.random() < 0.5
    turns = events["t"] * rng.uniform(2e-6, 2e-5) * 2 * np.pi
    for axis, size, phase in (("y", sizes[0], np.sin(turns)), ("x", sizes[1], np.cos(turns))):
        places = rng.integers(0, size, len(t_us))
        if is_blob:
            near = size / 2 + size / 4 * phase + rng.normal(0, size / 10, len(t_us))
            places = np.clip(near, 0, size - 1).astype(np.int64)
        events[axis] = places
    return pack(events)


def _cost(configuration: Configuration, packed: PackedEvents) -> tuple[float, float]:
    """Time of the busiest core at its nominal rate, and synaptic operations of all."""
    twin = Twin(configuration, assumptions=UNLOADED)
    twin.run(packed)
    activity = twin.activity
    cores = [CHIP.cores[core.core].synops_per_s for core in configuration.cores]
    busy_us = activity.input_spikes * ASSUMPTIONS.fixed_ns / 1e3
    busy_us = busy_us + activity.synops / np.array(cores) * 1e6
    return float(busy_us.max()), float(activity.synops.sum())


def _digit_events(
    rng: np.random.Generator, configuration: Configuration, load: float, duration_us: float
) -> PackedEvents:
    """Recordings of the example, one after the other, faster or slower."""
    file = read_recordings((DIGITS / "digits.npz").read_bytes(), "digits.npz")
    parts = [unpack(file.recording(int(n))) for n in rng.integers(0, len(file), 8)]
    end = 0
    for part in parts:
        part["t"] += end - part["t"][0]
        end = int(part["t"][-1]) + 1
    events = np.concatenate(parts)
    cost_us, _ = _cost(configuration, pack(events))
    whole_us = float(np.clip(cost_us / load, 20e3, 2e6))
    events["t"] = (1000 + events["t"] * (whole_us / end)).astype(np.int64)
    until_us = 1000 + max(20e3, min(duration_us, whole_us))
    return pack(events[events["t"] <= until_us])
