"""Chains have a way of their own through the kernel; it leads where the ordered one does."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.twin import Activity, Twin
from tests.reference_twin import Event
from tests.twin_builders import (
    chip,
    chips,
    core,
    pack_events,
    pulses,
    recordings,
    run_recording,
    to,
)
from tests.twin_comparison import twin_of


def in_order(configuration: Configuration, fifo_depth: int) -> Twin:
    """A twin that does all in order of time, also on a chain."""
    twin = twin_of(configuration, fifo_depth)
    twin._machine._flow["is_chain"] = 0
    return twin


def assert_equal_both_ways(
    configuration: Configuration, recorded: list[list[Event]], fifo_depth: int
) -> None:
    chain, ordered = twin_of(configuration, fifo_depth), in_order(configuration, fifo_depth)
    assert chain._machine.flow["is_chain"]
    for events in recorded:
        assert run_recording(chain, events) == run_recording(ordered, events)
        for each in fields(Activity):
            found, expected = (getattr(twin.activity, each.name) for twin in (chain, ordered))
            assert np.array_equal(found, expected), each.name
        for layer in range(len(configuration.cores)):
            assert (chain.neurons(layer) == ordered.neurons(layer)).all()


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(configuration=chips(), data=st.data(), fifo_depth=st.sampled_from([2, 3, 5, 16, 1 << 16]))
def test_a_chain_gives_the_same_both_ways(configuration, data, fifo_depth):
    one_recording = recordings(configuration.input_shape)
    recorded = data.draw(st.lists(one_recording, min_size=1, max_size=2))

    assert_equal_both_ways(configuration, recorded, fifo_depth)


@pytest.mark.parametrize("fifo_depth", [2, 16, 1000])
def test_a_long_crowded_chain_gives_the_same_both_ways(fifo_depth):
    rng = np.random.default_rng(fifo_depth)
    shape = (16, 2, 3, 3)
    cores = []
    for layer, number in enumerate([7, 2, 0, 5, 1, 8, 3, 6, 4]):
        weights = rng.integers(-40, 60, shape)
        cores.append(
            core(weights, (12, 12), core=number, layer=layer, padding=(1, 1),
                 threshold_high=50 if layer == 0 else 1500, monitor_enable=layer % 2 == 0,
                 decimator=2 if layer in (1, 4) else None)
        )  # fmt: skip
        shape = (16, 16, 3, 3)
    linked = [replace(each, destinations=to(after.core)) for each, after in pairwise(cores)]
    events = [
        Event(int(t_us), *map(int, rng.integers(0, (2, 12, 12))))
        for t_us in np.sort(rng.integers(0, 5000, 2000))
    ]

    configuration = chip(*linked, cores[-1])
    assert_equal_both_ways(configuration, [events, events[:50]], fifo_depth)

    twin = twin_of(configuration, fifo_depth)
    run_recording(twin, events)
    assert twin.activity.input_spikes.min() > 100
    assert twin.activity.stalled_us.max() > 0


def test_a_core_beside_a_chain_changes_nothing_of_it():
    first = core(np.full((3, 1, 2, 2), 60), (5, 5), core=3, destinations=to(5))
    second = core(np.full((2, 3, 3, 3), 50), (4, 4), core=5, layer=1)
    beside = core([[[[0]]]], (5, 5), core=8, layer=2, monitor_enable=False)
    events = [Event(n // 2, 0, n % 5, n % 3) for n in range(200)]
    alone, accompanied = (
        Twin(chip(first, second)),
        Twin(chip(first, second, beside, inputs=to(3, 8))),
    )

    assert alone.run(pack_events(events)).tolist() == accompanied.run(pack_events(events)).tolist()

    for name in ("synops", "stalled_us", "load"):
        found, expected = (getattr(twin.activity, name) for twin in (accompanied, alone))
        assert (found[:2] == expected).all()


def test_leak_ticks_forks_and_a_seed_need_the_order():
    leaky = core([[[[9]]]], (1, 1), core=3, leak_enable=True)
    plain = core([[[[9]]]], (1, 1), core=3)
    ways = [
        chip(leaky, slow_clock_hz=100.0),
        chip(plain, replace(plain, core=4, layer=1), inputs=to(3, 4)),
        replace(chip(plain), order_seed=1),
        chip(leaky),
    ]

    assert [bool(Twin(way)._machine.flow["is_chain"]) for way in ways] == [False] * 3 + [True]
    assert run_recording(Twin(ways[-1]), pulses(12)) == run_recording(Twin(chip(plain)), pulses(12))
