"""Configurations for tests of the twin, written by hand or drawn by hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from speckfarm.events import PackedEvents
from speckfarm_server.chip import DECIMATOR_CODES, output_size
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
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
    return Configuration(
        chip="speck2f", input_shape=cores[0].input_shape, cores=tuple(cores), **changes
    )


def pack_events(events: list[Event]) -> PackedEvents:
    """Pack without the client's own packer."""
    words = [e.t_us << 28 | e.feature << 14 | e.y << 7 | e.x for e in events]
    return np.array(words, np.uint64)


@st.composite
def chips(draw: st.DrawFn, *, leak: bool = False) -> Configuration:
    """A chain of one to three small cores on any of the nine, with all that a core can do."""
    numbers = draw(st.permutations(range(9)))[: draw(st.integers(1, 3))]
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    largest = 5 if leak else 9  # a tick of the reference takes every neuron
    shape = tuple(draw(st.integers(1, size)) for size in (3, largest, largest))
    cores: list[CoreConfiguration] = []
    for layer, number in enumerate(numbers):
        built = draw(_cores(shape, seed, leak))
        is_exit = layer == len(numbers) - 1
        pooling = draw(st.sampled_from([1, 1, 2, 4])) if not is_exit else 1
        features, height, width = built.output_shape
        pooling = pooling if min(height, width) >= pooling else 1
        shift = draw(st.sampled_from([0, 0, 0, 1])) if not is_exit else 0
        onward = (
            ()
            if is_exit
            else (Destination(core=numbers[layer + 1], pooling=pooling, feature_shift=shift),)
        )
        values = {name: getattr(built, name) for name in CoreConfiguration.__dataclass_fields__}
        values |= {"core": number, "layer": layer, "destinations": onward}
        values["monitor_enable"] = is_exit or draw(st.booleans())
        cores.append(CoreConfiguration(**values))
        # Features short of what arrives, or more, and a map that pooling does not divide.
        shape = (max(1, features + draw(st.sampled_from([0, 0, -1, 1]))), height // pooling,
                 width // pooling)  # fmt: skip
    hz = draw(st.sampled_from([10_000.0, 3333.3, 700.0])) if leak else None
    return chip(*cores, slow_clock_hz=hz)


@st.composite
def _cores(
    draw: st.DrawFn, shape: tuple[int, int, int], seed: np.random.Generator, leak: bool
) -> CoreConfiguration:
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    smallest = min(shape[1] + 2 * padding[0], shape[2] + 2 * padding[1])
    kernel_size = draw(st.integers(1, min(6, smallest)))
    features = draw(st.sampled_from([2, 1, 17, 16] if not leak else [2, 1, 3]))
    low, high = draw(st.sampled_from([(-128, 127), (-20, 60), (0, 127), (-60, 120), (127, 127)]))
    weights = seed.integers(low, high + 1, (features, shape[0], kernel_size, kernel_size))
    strides = st.sampled_from([1, 1, 1, 2, 4, 8])
    return core(
        weights,
        shape[1:],
        stride=(draw(strides), draw(strides)),
        padding=padding,
        threshold_high=draw(st.sampled_from([50, 0, 1, 20, 100, 127, 300, 32767])),
        threshold_low=draw(st.sampled_from([-32768, -300, -20, -1, 0])),
        return_to_zero=draw(st.booleans()),
        decimator=draw(st.none() | st.sampled_from([2, 4, *DECIMATOR_CODES])),
        biases=seed.integers(-40, 60, features).astype(np.int16),
        leak_enable=leak and draw(st.booleans()),
    )


@st.composite
def recordings(draw: st.DrawFn, shape: tuple[int, int, int]) -> list[Event]:
    """Up to 30 events, some of equal time, bursts and gaps, at places that repeat."""
    count = draw(st.sampled_from([30, 12, 3, 1, 0]))
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    largest_gap_us = draw(st.sampled_from([0, 2, 60, 300]))
    unit_us = draw(st.sampled_from([1, 100]))  # 100: ticks and events fall together
    gaps_us = seed.integers(0, largest_gap_us // unit_us + 1, count) * unit_us
    times_us = draw(st.sampled_from([0, 5, 2**36 - 50_000])) + np.cumsum(gaps_us)
    places = [seed.integers(0, min(n, 4), count) + max(0, n - 4) // 2 for n in shape]
    return [Event(*map(int, row)) for row in zip(times_us, *places, strict=True)]
