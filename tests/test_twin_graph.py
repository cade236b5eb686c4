"""The twin of forks, merges and skips equals the slow reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.twin import Twin
from tests.reference_twin import Event, ReferenceTwin
from tests.twin_builders import (
    chip,
    core,
    graphs,
    pack_events,
    pulses,
    recordings,
    run_cut,
    run_recording,
    to,
)
from tests.twin_comparison import DRAWN, assert_equal_to_reference

compared = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Configuration, list[list[Event]]]:
    """A graph of cores and recordings for it."""
    configuration = draw(graphs(leak=draw(st.booleans())))
    one_recording = recordings(configuration.input_shape)
    return configuration, draw(st.lists(one_recording, min_size=1, max_size=2))


@compared
@given(case=cases(), buffer=st.sampled_from([1 << 15, 1, 5, 40]))
def test_spikes_counts_and_states_equal_the_reference(case, buffer):
    assert_equal_to_reference(*case, buffer=buffer, most_updates=DRAWN)


@compared
@given(case=cases(), buffer=st.sampled_from([1 << 15, 1, 5]), data=st.data())
def test_a_recording_may_be_cut_anywhere(case, buffer, data):
    configuration, (events, *_) = case
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=4).map(sorted))
    packed = pack_events(events)
    whole, cut = Twin(configuration), Twin(configuration, buffer=buffer)

    expected = whole.run(packed)
    found = run_cut(cut, packed, cuts)

    assert np.array_equal(found[np.lexsort((found["layer"], found["t_ns"]))], expected)
    for layer in range(len(configuration.cores)):
        assert (np.diff(found["t_ns"][found["layer"] == layer]) >= 0).all()
        assert (cut.neurons(layer) == whole.neurons(layer)).all()


def diamond(*, layers: tuple[int, int] = (1, 2), weight: int = 100) -> Configuration:
    """Core 3 to cores 4 and 5, alike, both to core 6: every spike arrives there twice at once."""
    return chip(
        core([[[[100]]]], (1, 1), core=3, destinations=to(4, 5)),
        core([[[[100]]]], (1, 1), core=4, layer=layers[0], destinations=to(6)),
        core([[[[100]]]], (1, 1), core=5, layer=layers[1], destinations=to(6, feature_shift=1)),
        core([[[[weight]], [[-60]]]], (1, 1), core=6, layer=3, threshold_low=-10),
    )


def test_a_spike_arrives_at_both_destinations_at_the_same_time():
    spikes = Twin(diamond()).run(pack_events(pulses(1)))

    in_fork = spikes["t_ns"][np.isin(spikes["layer"], (1, 2))]
    assert len(set(in_fork.tolist())) == 1
    assert len(in_fork) == 2


@pytest.mark.parametrize(("layers", "left"), [((1, 2), 90 - 60), ((2, 1), -10 + 90)])
def test_spikes_that_arrive_together_are_served_by_layer_number(layers, left):
    twin = Twin(diamond(layers=layers, weight=90))

    twin.run(pack_events(pulses(1)))

    assert twin.neurons(3).tolist() == [[[left]]]


def test_the_input_is_served_before_a_core_of_the_same_time():
    late = np.zeros((63, 2, 1, 1))
    late[62, 0] = 100  # the 63rd neuron: 300 + 63 * 10 + 70 ns after an event of feature 0
    weights = np.zeros((1, 65, 1, 1))
    weights[0, [1, 64], 0, 0] = (90, -60)
    configuration = chip(
        core(late, (1, 1), core=0, destinations=to(6, feature_shift=2)),
        core(weights, (1, 1), core=6, layer=1, threshold_low=-10),
        inputs=to(0, 6),
    )
    twin = Twin(configuration)

    spikes = twin.run(pack_events([Event(0, 0, 0, 0), Event(1, 1, 0, 0)]))

    assert spikes["t_ns"].tolist() == [1000]
    assert twin.neurons(1).tolist() == [[[30]]]  # -60 (clipped to -10), then 90, would be 80


def test_a_merge_adds_what_its_sources_send():
    configuration = chip(
        core([[[[100]]]], (2, 2), core=3, destinations=to(5, pooling=2)),
        core([[[[100]]]], (2, 2), core=4, layer=1, destinations=to(5, pooling=2)),
        core([[[[40]]]], (1, 1), core=5, layer=2, threshold_high=1000),
        inputs=to(3, 4),
    )
    twin = Twin(configuration)

    twin.run(pack_events([Event(0, 0, 1, 1), Event(9, 0, 0, 1)]))

    assert twin.neurons(2).tolist() == [[[160]]]
    assert twin.activity.input_spikes.tolist() == [2, 2, 4]


def test_one_core_may_feed_another_twice():
    configuration = chip(
        core([[[[100]]]], (1, 1), core=3, destinations=(*to(5), *to(5, feature_shift=1))),
        core([[[[40]], [[7]]]], (1, 1), core=5, layer=1),
    )
    twin = Twin(configuration)

    twin.run(pack_events(pulses(1)))

    assert twin.neurons(1).tolist() == [[[47]]]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), high=st.integers(1, 63), zero=st.booleans())
def test_a_merge_of_two_equal_branches_is_one_branch_of_doubled_weights(seed, high, zero):
    rng = np.random.default_rng(seed)
    first = core(rng.integers(0, 127, (2, 1, 3, 3)), (6, 6), core=1, padding=(1, 1))
    branch = core(rng.integers(0, 127, (3, 2, 3, 3)), (6, 6), core=4, layer=1)
    weights = rng.integers(0, high + 1, (4, 3, 2, 2))
    # Not below 0 and at most half the threshold: no clip, one spike in two additions at most.
    last = {"core": 7, "threshold_high": 2 * high}
    merged = chip(
        replace(first, destinations=to(4, 5)),
        replace(branch, destinations=to(7, pooling=2)),
        replace(branch, core=5, layer=2, destinations=to(7, pooling=2)),
        core(weights, (2, 2), layer=3, **last),
    )
    doubled = chip(
        replace(first, destinations=to(4)),
        replace(branch, destinations=to(7, pooling=2)),
        core(2 * weights, (2, 2), layer=2, **last),
    )
    events = [Event(300 * n, 0, *map(int, rng.integers(0, 6, 2))) for n in range(30)]
    twice, once = Twin(merged), Twin(doubled)

    found, expected = twice.run(pack_events(events)), once.run(pack_events(events))

    fields = ["cause", "feature", "y", "x"]
    assert sorted(found[fields][found["layer"] == 3].tolist()) == sorted(
        expected[fields][expected["layer"] == 2].tolist()
    )
    assert (twice.neurons(3) == once.neurons(2)).all()
    assert twice.activity.synops[3] == 2 * once.activity.synops[2]


def slow_branch(count: int) -> tuple[Configuration, list[Event]]:
    """Core 3 straight to core 5 and through core 4, which needs 17 us where 3 needs 1."""
    configuration = chip(
        core(np.full((1, 1, 1, 1), 100), (16, 16), core=3, destinations=to(4, 5)),
        core(np.full((2, 1, 16, 16), 1), (16, 16), core=4, layer=1, padding=(7, 7),
             threshold_high=400, monitor_enable=False, destinations=to(5)),
        core(np.full((1, 2, 1, 1), 7), (16, 16), core=5, layer=2),
    )  # fmt: skip
    return configuration, [Event(n, 0, n % 16, 8) for n in range(count)]


def test_a_branch_behind_its_input_equals_the_reference_with_any_buffer():
    configuration, events = slow_branch(60)

    for buffer in (1, 30, 1 << 15):
        assert_equal_to_reference(configuration, [events, events[:9]], buffer=buffer)


def beside_ticks(*inputs: int) -> Configuration:
    """Core 3, 8 us for each spike, and core 4, which fires at every second tick, both to core 5."""
    weights = np.zeros((1, 1, 16, 16))
    weights[0, 0, 8, 8] = 100
    return chip(
        core(weights, (16, 16), core=3, padding=(7, 7), destinations=to(5)),
        core([[[[1]]]], (16, 16), core=4, layer=1, destinations=to(5), leak_enable=True,
             biases=np.array([50], np.int16)),
        core([[[[100]]]], (16, 16), core=5, layer=2),
        inputs=to(*inputs),
        slow_clock_hz=50_000.0,
    )  # fmt: skip


BURST = [Event(30, 0, 8, 8)] * 20


def test_a_merge_does_not_wait_for_ticks_that_the_end_of_the_recording_takes_away():
    configuration = beside_ticks(3, 4)

    assert_equal_to_reference(configuration, [BURST])
    assert run_recording(Twin(configuration), BURST)[-1][0] > 100_000


@pytest.mark.parametrize("inputs", [(3,), (3, 4)])
def test_a_merge_waits_for_ticks_that_more_input_would_bring(inputs):
    configuration = beside_ticks(*inputs)
    events = [*BURST, Event(300, 0, 8, 8)]

    found = run_cut(Twin(configuration), pack_events(events), [len(BURST)])

    in_order = found[np.lexsort((found["layer"], found["t_ns"]))]
    assert in_order.tolist() == ReferenceTwin(configuration).run_recording(events)


def test_more_events_than_a_slice_holds_equal_the_reference():
    configuration = chip(
        core([[[[60]]]], (1, 1), core=3, destinations=to(4, 5), monitor_enable=False),
        core([[[[60]]]], (1, 1), core=4, layer=1, destinations=to(5), decimator=2),
        core([[[[70]]]], (1, 1), core=5, layer=2, threshold_low=-1),
        inputs=to(3, 5),
    )
    close = [Event(n // 3, 0, 0, 0) for n in range(9000)]

    assert_equal_to_reference(configuration, [close, pulses(4096)])


def test_more_spikes_than_a_buffer_holds_equal_the_reference():
    wide = core(
        np.ones((16, 1, 16, 16)), (64, 64), padding=(7, 7), threshold_high=0, monitor_enable=False,
        destinations=(*to(5, pooling=4), *to(6, pooling=4, feature_shift=1)),
    )  # fmt: skip
    narrow = core(
        np.ones((1, 16, 1, 1)), (15, 15), stride=(8, 8), core=5, layer=1, leak_enable=True,
        biases=np.array([7], np.int16), destinations=to(6),
    )  # fmt: skip
    last = core(np.ones((1, 17, 1, 1)), (15, 15), stride=(8, 8), core=6, layer=2)
    burst = [Event(90 * n, 0, 32, 32) for n in range(40)]

    configuration = chip(wide, narrow, last, slow_clock_hz=10_000.0)
    assert_equal_to_reference(configuration, [burst])


def test_a_branch_that_is_ahead_waits_instead_of_filling_memory():
    configuration = chip(
        core([[[[100]]]], (1, 1), core=3, destinations=to(4, 5)),
        core([[[[100]]]], (1, 1), core=4, layer=1, destinations=to(6)),
        core(np.full((256, 1, 1, 1), 100), (1, 1), core=5, layer=2, destinations=to(6)),
        core(np.full((1, 256, 1, 1), 1), (1, 1), core=6, layer=3),
    )
    # Cores 4 and 5 have 1,000 spikes each to serve; all that core 5 makes of them are 256,000.
    twin = Twin(configuration)

    twin.run(pack_events(pulses(1000)))

    assert twin.activity.input_spikes.tolist() == [1000, 1000, 1000, 257_000]


def test_merges_hold_nothing_back_from_recording_to_recording():
    configuration, events = slow_branch(20)
    twin = Twin(configuration)
    list(twin.stream(pack_events(events)))

    twin.reset_state()

    assert run_recording(twin, events) == run_recording(Twin(configuration), events)
