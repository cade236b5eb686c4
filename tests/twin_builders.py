"""Configurations and recordings for tests of the twin, by hand or drawn by hypothesis."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from speckfarm.events import PackedEvents
from speckfarm_server.chip import DECIMATOR_CODES, output_size
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
from speckfarm_server.twin.twin import NO_OUTPUT, Twin
from tests.reference_twin import Event


def core(weights: Any, size: tuple[int, int], **changes: Any) -> CoreConfiguration:
    """A core for weights (f, c, k, k) on an input map of `size`; monitored, threshold 100."""
    array = np.asarray(weights, np.int8)
    features, channels, kernel_size, _ = array.shape
    stride, padding = changes.get("stride", (1, 1)), changes.get("padding", (0, 0))
    height, width = (
        output_size(n, kernel_size, s, p) for n, s, p in zip(size, stride, padding, strict=True)
    )
    values: dict[str, Any] = {
        "core": 2, "layer": 0, "stride": stride, "padding": padding, "threshold_high": 100,
        "threshold_low": -100, "return_to_zero": False, "monitor_enable": True,
        "biases": np.zeros(features, np.int16),
    }  # fmt: skip
    return CoreConfiguration(
        weights=array,
        kernel_size=kernel_size,
        input_shape=(channels, *size),
        output_shape=(features, height, width),
        **{**values, **changes},
    )


def chip(*cores: CoreConfiguration, **changes: Any) -> Configuration:
    """A chip with these cores in layer order."""
    values = {"inputs": (Destination(core=cores[0].core),), **changes}
    return Configuration(
        chip="speck2f", input_shape=cores[0].input_shape, cores=tuple(cores), **values
    )


def to(*cores: int, **changes: Any) -> tuple[Destination, ...]:
    """Destinations, alike but for the core."""
    return tuple(Destination(core=number, **changes) for number in cores)


def pack_events(events: list[Event]) -> PackedEvents:
    """Pack without the client's own packer."""
    words = [e.t_us << 28 | e.feature << 14 | e.y << 7 | e.x for e in events]
    return np.array(words, np.uint64)


def run_recording(twin: Twin, events: list[Event]) -> list[tuple[int, ...]]:
    """Run a whole recording: (t_ns, cause, layer, feature, y, x)."""
    twin.start_recording()
    return twin.run(pack_events(events)).tolist()


def run_cut(twin: Twin, packed: PackedEvents, cuts: list[int]) -> Any:
    """Run a recording in slices, unsorted output."""
    pieces = [NO_OUTPUT]
    for first, last in pairwise([0, *cuts, len(packed)]):
        pieces += twin.stream(packed[first:last])
    pieces += twin.finish()
    return np.concatenate(pieces)


def pulses(count: int, *, start_us: int = 0) -> list[Event]:
    """Events on one pixel, far apart."""
    return [Event(start_us + 1000 * n, 0, 0, 0) for n in range(count)]


@st.composite
def chips(draw: st.DrawFn, *, leak: bool = False) -> Configuration:
    """A chain of one to three small cores on any of the nine, with all that a core can do."""
    numbers = draw(st.permutations(range(9)))[: draw(st.sampled_from([2, 3, 1]))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.integers(1, size)) for size in (3, 9, 9))
    cores: list[CoreConfiguration] = []
    reached = 1
    for layer, number in enumerate(numbers):
        is_exit = layer == len(numbers) - 1
        built = draw(_cores(shape, rng, leak=leak, reached=reached))
        features, height, width = built.output_shape
        poolings = [size for size in (1, 2, 4) if size <= min(height, width)]
        pooling = 1 if is_exit else draw(st.sampled_from(poolings))
        shift = draw(st.sampled_from([0, 0, 0, 1]))
        link = Destination(core=numbers[layer + 1 - is_exit], pooling=pooling, feature_shift=shift)
        changes = {
            "core": number,
            "layer": layer,
            "destinations": () if is_exit else (link,),
            "monitor_enable": is_exit or draw(st.booleans()),
        }
        cores.append(replace(built, **changes))
        reached *= features * built.kernel_size**2
        # Features short of what arrives, or more, and a map that pooling does not divide.
        features = max(1, features + draw(st.sampled_from([0, 0, -1, 1])))
        shape = (features, height // pooling, width // pooling)
    hz = draw(st.sampled_from([10_000.0, 7777.7, 700.0])) if leak else None
    return chip(*cores, slow_clock_hz=hz)


@st.composite
def graphs(draw: st.DrawFn, *, leak: bool = False) -> Configuration:
    """Two to six small cores that spikes pass in any way without loops: forks, merges, skips."""
    count = draw(st.sampled_from([4, 3, 5, 6, 2]))
    numbers = draw(st.permutations(range(9)))[:count]
    layers = draw(st.sampled_from([list(range(count)), list(range(count))[::-1]]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.integers(*ends)) for ends in ((1, 3), (3, 7), (3, 7)))
    inputs = [numbers[0]] + [n for n in numbers[1:] if draw(st.integers(0, 3)) == 0]
    reached = [1] * count  # neurons that one event reaches before each core, through all branches
    cores: list[CoreConfiguration] = []
    for place, number in enumerate(numbers):
        taken = (draw(st.integers(shape[0], 6)), *shape[1:])
        built = draw(_cores(taken, rng, leak=leak, reached=reached[place]))
        ways = []
        onward = st.integers(place + 1, min(place + 3, count - 1))
        for target in draw(st.lists(onward, min_size=1, max_size=2)) if place < count - 1 else ():
            ways.append(draw(_destinations(numbers[target])))
            reached[target] += reached[place] * built.output_shape[0] * built.kernel_size**2
        changes = {
            "core": number,
            "layer": layers[place],
            "destinations": tuple(ways),
            "monitor_enable": place == count - 1 or draw(st.booleans()),
            "initial_state": draw(_initial_states(built, rng)),
        }
        cores.append(replace(built, **changes))
    hz = draw(st.sampled_from([10_000.0, 100_000.0, 7777.7])) if leak else None
    first, *others = [draw(_destinations(number)) for number in inputs]
    made = chip(*cores, slow_clock_hz=hz, inputs=(replace(first, enable=True), *others))
    return replace(made, input_shape=shape)


@st.composite
def _destinations(draw: st.DrawFn, core_: int) -> Destination:
    return Destination(
        core=core_,
        pooling=draw(st.sampled_from([1, 1, 1, 2, 4])),
        feature_shift=draw(st.sampled_from([0, 0, 0, 1, 2])),
        enable=draw(st.sampled_from([True, True, True, True, False])) if core_ % 2 else True,
    )


def _initial_states(built: CoreConfiguration, rng: np.random.Generator) -> st.SearchStrategy[Any]:
    some = rng.integers(-200, 200, built.output_shape).astype(np.int16)
    return st.sampled_from([None, None, some])


@st.composite
def _cores(
    draw: st.DrawFn,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    leak: bool,
    reached: int,
) -> CoreConfiguration:
    """A core; one event reaches up to `reached` neurons before it."""
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    shortest = min(size + 2 * pad for size, pad in zip(shape[1:], padding, strict=True))
    kernel_size = draw(st.integers(1, min(6, shortest)))
    strides = st.sampled_from([1, 1, 1, 2, 4, 8])
    features = draw(st.sampled_from([2, 3, 1] if leak or reached > 1 else [2, 17, 16, 1]))
    low, high = draw(st.sampled_from([(-128, 127), (-20, 60), (0, 127), (-60, 120), (127, 127)]))
    weights = rng.integers(low, high + 1, (features, shape[0], kernel_size, kernel_size))
    leaks = leak and draw(st.booleans())
    reached *= features * (50 if leaks else kernel_size**2)
    # Low thresholds in a row would make more spikes than the reference can follow.
    thresholds = [50, 20, 1, 0, 100, 127, 300] if reached < 700 else [150, 300, 32767]
    return core(
        weights,
        shape[1:],
        stride=(draw(strides), draw(strides)),
        padding=padding,
        threshold_high=draw(st.sampled_from(thresholds)),
        threshold_low=draw(st.sampled_from([-32768, -300, -20, -1, 0])),
        return_to_zero=draw(st.booleans()),
        decimator=draw(st.none() | st.sampled_from([2, 2, 4, 4, 8, *DECIMATOR_CODES])),
        biases=rng.integers(-20, 80, features).astype(np.int16),
        leak_enable=leaks,
    )


@st.composite
def recordings(draw: st.DrawFn, shape: tuple[int, int, int]) -> list[Event]:
    """Up to 30 events, some of equal time, bursts and gaps, at places that repeat."""
    count = draw(st.sampled_from([30, 30, 20, 3, 0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    largest_gap_us = draw(st.sampled_from([200, 60, 2, 0]))
    unit_us = draw(st.sampled_from([1, 100]))  # 100: ticks and events fall together
    gaps_us = rng.integers(0, largest_gap_us // unit_us + 1, count) * unit_us
    times_us = draw(st.sampled_from([0, 5, 2**36 - 50_000])) + np.cumsum(gaps_us)
    places = [rng.integers(0, min(n, 3), count) + max(0, n - 3) // 2 for n in shape]
    return [Event(*map(int, row)) for row in zip(times_us, *places, strict=True)]
