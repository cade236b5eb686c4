"""A seed draws what is unknown: the order of neurons in one event, and that of cores 0 and 1."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from speckfarm_server.twin.twin import Twin
from tests.reference_twin import Event
from tests.twin_builders import chip, chips, core, graphs, pack_events, recordings, run_cut, to

seeds = st.integers(0, 2**32)
some = settings(deadline=None, max_examples=60)


def seeded(configuration: Configuration, seed: int | None) -> Twin:
    """A twin whose queues never fill, so that nobody stalls for what others do."""
    deep = replace(ASSUMPTIONS, fifo_depth=1 << 16)
    return Twin(replace(configuration, order_seed=seed), assumptions=deep)


def contested() -> Configuration:
    """Core 3 fires 16 features at once, which charge and discharge the neuron behind."""
    charges = np.where(np.arange(16) % 2, 60, -60).reshape(1, 16, 1, 1)
    return chip(
        core(np.full((16, 1, 1, 1), 100), (1, 1), core=3, destinations=to(4)),
        core(charges, (1, 1), core=4, layer=1, threshold_high=100, threshold_low=-60),
    )


def spaced(count: int) -> list[Event]:
    return [Event(1000 * n, 0, 0, 0) for n in range(count)]


@some
@given(configuration=graphs(leak=True), seed=seeds, data=st.data())
def test_the_same_seed_gives_the_same_wherever_a_recording_is_cut(configuration, seed, data):
    events = data.draw(recordings(configuration.input_shape))
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=4).map(sorted))
    packed = pack_events(events)

    whole, cut = (Twin(replace(configuration, order_seed=seed)) for _ in range(2))
    expected, found = whole.run(packed), run_cut(cut, packed, cuts)

    assert np.array_equal(found[np.lexsort((found["layer"], found["t_ns"]))], expected)


def test_seeds_change_outputs_where_order_matters():
    outputs = {
        tuple(seeded(contested(), seed).run(pack_events(spaced(20)))["cause"]) for seed in range(8)
    }
    unseeded = {
        tuple(seeded(contested(), None).run(pack_events(spaced(20)))["cause"]) for _ in range(2)
    }

    assert len(outputs) > 4
    assert len(unseeded) == 1


@some
@given(configuration=chips(), seed=seeds, data=st.data())
def test_the_first_layer_fires_the_same_neurons_at_the_same_times_in_another_order(
    configuration, seed, data
):
    number = data.draw(st.integers(2, 8))
    changes = {"core": number, "destinations": (), "monitor_enable": True, "decimator": None}
    first = replace(configuration.cores[0], **changes)
    packed = pack_events(data.draw(recordings(configuration.input_shape)))

    shuffled, plain = (seeded(chip(first), each).run(packed) for each in (seed, None))

    for name in (["t_ns", "cause"], ["cause", "feature", "y", "x"]):
        assert Counter(shuffled[name].tolist()) == Counter(plain[name].tolist())


def test_neurons_of_one_event_fire_in_another_order():
    plain, shuffled = (seeded(contested(), seed).run(pack_events(spaced(1))) for seed in (None, 5))

    features = [each["feature"][each["layer"] == 0].tolist() for each in (plain, shuffled)]
    assert features[0] == sorted(features[1]) == list(range(16))
    assert features[1] != features[0]


def one_by_one(number: int) -> Configuration:
    """A core on which each event makes the neuron at its place fire."""
    return chip(core([[[[100]]]], (1, 100), core=number))


def order_of(number: int, seed: int, events: list[Event]) -> list[int]:
    return seeded(one_by_one(number), seed).run(pack_events(events))["cause"].tolist()


@pytest.mark.parametrize("number", [0, 1])
def test_cores_0_and_1_serve_the_first_or_the_second_that_waits(number):
    burst = [Event(0, 0, 0, n) for n in range(100)]
    swaps = []

    for seed in range(10):
        waiting = list(range(100))
        for cause in order_of(number, seed, burst):
            swaps.append(waiting.index(cause))
            waiting.remove(cause)

    assert set(swaps) == {0, 1}
    assert 0.4 < np.mean(swaps) < 0.6


@pytest.mark.parametrize("number", [0, 1])
def test_cores_0_and_1_swap_nothing_that_does_not_wait_together(number):
    spaced_out = [Event(n, 0, 0, n) for n in range(100)]  # a core needs 0.3 us
    pairs = [Event(n // 2, 0, 0, n) for n in range(100)]

    assert order_of(number, 7, spaced_out) == list(range(100))
    found = np.array(order_of(number, 7, pairs)).reshape(50, 2)
    assert np.sort(found).ravel().tolist() == list(range(100))
    assert 10 < (found[:, 0] > found[:, 1]).sum() < 40


def test_cores_0_and_1_do_not_swap_what_is_still_on_its_way():
    each_its_own = 100 * np.eye(2).reshape(2, 2, 1, 1)
    configuration = chip(
        core(np.full((2, 1, 1, 1), 100), (1, 1), core=3, destinations=to(0)),
        core(each_its_own, (1, 1), core=0, layer=1),
    )

    for seed in range(20):
        # Core 0 starts on the first when the second has left but not arrived, 33 ns later.
        spikes = seeded(configuration, seed).run(pack_events(spaced(1)))
        left, served = (spikes["feature"][spikes["layer"] == layer].tolist() for layer in (0, 1))
        assert served == left


def test_times_of_a_swap_are_those_without():
    burst = pack_events([Event(0, 0, 0, n) for n in range(100)])

    swapped, plain = (seeded(one_by_one(0), seed).run(burst) for seed in (3, None))

    assert swapped["t_ns"].tolist() == plain["t_ns"].tolist()
    assert swapped["cause"].tolist() != plain["cause"].tolist()


@pytest.mark.parametrize("number", range(2, 9))
def test_other_cores_serve_what_came_first(number):
    assert order_of(number, 7, [Event(0, 0, 0, n) for n in range(100)]) == list(range(100))
