"""Queues in front of cores are finite: a full one stalls its sources, up to the input."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st

from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from speckfarm_server.twin.delay import delay_model
from speckfarm_server.twin.twin import Activity
from tests.reference_twin import Event
from tests.twin_builders import (
    chip,
    chips,
    core,
    graphs,
    pack_events,
    recordings,
    run_cut,
    run_recording,
    to,
)
from tests.twin_comparison import DRAWN, assert_equal_to_reference, twin_of

DEPTHS = [2, 3, 5, 16, 1 << 16]
compared = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Configuration, list[list[Event]]]:
    """A chain or a graph of cores, with or without leak ticks, and recordings for it."""
    configuration = draw(draw(st.sampled_from([chips, graphs]))(leak=draw(st.booleans())))
    one_recording = recordings(configuration.input_shape)
    return configuration, draw(st.lists(one_recording, min_size=1, max_size=2))


def crowded_chain(rng: np.random.Generator, *, leak: bool) -> Configuration:
    """Four cores; the second and the last get more than they can serve."""
    shapes = [(3, 2, 3, 3), (9, 3, 5, 5), (3, 10, 1, 1), (60, 3, 3, 3)]
    first, second, third, fourth = (rng.integers(-30, 50, shape) for shape in shapes)
    biases = rng.integers(-20, 60, 9).astype(np.int16)
    return chip(
        core(first, (7, 8), core=3, padding=(1, 1), threshold_high=50, destinations=to(4)),
        core(second, (7, 8), core=4, layer=1, padding=(2, 2), threshold_high=500, decimator=2,
             biases=biases, leak_enable=leak, destinations=to(1, pooling=2, feature_shift=1)),
        core(third, (3, 4), core=1, layer=2, threshold_high=40, return_to_zero=True,
             monitor_enable=False, destinations=to(0)),
        core(fourth, (3, 4), core=0, layer=3, threshold_low=-1, padding=(1, 1),
             threshold_high=400),
        slow_clock_hz=10_000.0,
    )  # fmt: skip


def crowded_graph(rng: np.random.Generator, *, leak: bool) -> Configuration:
    """A fork whose branches are of unlike speed, a merge, and a core that feeds another twice."""
    shapes = [(4, 2, 1, 1), (2, 4, 5, 5), (10, 4, 3, 3), (20, 12, 3, 3), (2, 20, 1, 1)]
    first, slow, fast, last, readout = (rng.integers(-30, 50, shape) for shape in shapes)
    biases = rng.integers(-20, 20, 10).astype(np.int16)
    return chip(
        core(first, (6, 6), core=2, threshold_high=40, destinations=to(3, 4)),
        core(slow, (6, 6), core=3, layer=3, padding=(2, 2), threshold_high=150,
             destinations=to(5, feature_shift=10)),
        core(fast, (6, 6), core=4, layer=1, padding=(1, 1), threshold_high=200, biases=biases,
             leak_enable=leak, monitor_enable=False, destinations=to(5)),
        core(last, (6, 6), core=5, layer=2, padding=(1, 1), threshold_high=250, decimator=2,
             destinations=(*to(6, pooling=2), *to(6, pooling=4))),
        core(readout, (3, 3), core=6, layer=4, threshold_high=30),
        inputs=to(2, 4),
        slow_clock_hz=10_000.0,
    )  # fmt: skip


def burst(rng: np.random.Generator, configuration: Configuration) -> list[Event]:
    """40 events within 20 us."""
    places = rng.integers(0, configuration.input_shape, (40, 3))
    times_us = np.sort(rng.integers(0, 20, 40))
    return [Event(*map(int, row)) for row in zip(times_us, *places.T, strict=True)]


@pytest.mark.parametrize("depths", [DEPTHS[:3], DEPTHS[3:]])
def test_the_twin_equals_the_reference_however_many_spikes_may_wait(depths):
    waited = []

    @compared
    @given(case=cases(), fifo_depth=st.sampled_from(depths))
    def compare(case: tuple[Configuration, list[list[Event]]], fifo_depth: int) -> None:
        found = assert_equal_to_reference(*case, fifo_depth=fifo_depth, most_updates=DRAWN)
        waited.append(sum(found) > 0)
        target(found.stalled_us)

    compare()

    assert len(waited) >= 50
    assert np.mean(waited) > (0.2 if max(depths) < 16 else 0)


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("crowded", [crowded_chain, crowded_graph])
@pytest.mark.parametrize("fifo_depth", DEPTHS)
def test_crowded_cores_equal_the_reference(crowded, leak, fifo_depth):
    rng = np.random.default_rng(fifo_depth)
    configuration = crowded(rng, leak=leak)
    recorded = [burst(rng, configuration) for _ in range(2)]

    waiting = assert_equal_to_reference(configuration, recorded, fifo_depth=fifo_depth)

    assert (waiting.stalled_us > 0) == (waiting.held_back_us > 0) == (fifo_depth <= 16)


@compared
@given(case=cases(), fifo_depth=st.sampled_from(DEPTHS[:4]), data=st.data())
def test_a_recording_may_be_cut_anywhere_while_spikes_wait(case, fifo_depth, data):
    configuration, (events, *_) = case
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=4).map(sorted))

    assert_equal_when_cut(configuration, events, cuts, fifo_depth)


@pytest.mark.parametrize("crowded", [crowded_chain, crowded_graph])
def test_a_crowded_recording_may_be_cut_at_every_event(crowded):
    rng = np.random.default_rng(1)
    configuration = crowded(rng, leak=False)
    events = burst(rng, configuration)

    assert_equal_when_cut(configuration, events, list(range(len(events))), 3)


def assert_equal_when_cut(
    configuration: Configuration, events: list[Event], cuts: list[int], fifo_depth: int
) -> None:
    whole, cut = twin_of(configuration, fifo_depth), twin_of(configuration, fifo_depth)

    expected = whole.run(pack_events(events))
    found = run_cut(cut, pack_events(events), cuts)

    assert np.array_equal(found[np.lexsort((found["layer"], found["t_ns"]))], expected)
    for each in fields(Activity):
        name = each.name
        assert np.array_equal(getattr(cut.activity, name), getattr(whole.activity, name)), name


SLOW = 600  # neurons that one spike reaches in the third core
delays = delay_model("speck2f", 5, ASSUMPTIONS)
QUICK_NS = delays.busy_ns(0, 1)  # of the first two cores for each spike
SLOW_NS = delays.busy_ns(0, SLOW)
PIPE_NS = delays.pipe_ns


def overloaded() -> Configuration:
    """Three cores in a row, of which the third needs 60 times as long as those before."""
    last_fires = np.zeros((SLOW, 1, 1, 1))
    last_fires[-1] = 100
    return chip(
        core([[[[100]]]], (1, 1), core=3, destinations=to(4)),
        core([[[[100]]]], (1, 1), core=4, layer=1, destinations=to(5)),
        core(last_fires, (1, 1), core=5, layer=2),
    )


def each_us(count: int) -> list[Event]:
    """An event every microsecond."""
    return [Event(n, 0, 0, 0) for n in range(count)]


@pytest.mark.parametrize("fifo_depth", [2, 5, 16])
def test_an_overloaded_core_holds_back_the_input_by_what_arithmetic_says(fifo_depth):
    twin, count = twin_of(overloaded(), fifo_depth), 90
    last_ns = 1000 * (count - 1)

    spikes = twin.run(pack_events(each_us(count)))

    # The third core never rests. Spike n leaves the second when it starts on spike n - depth, and
    # then the second starts on the next; so it goes on to the input.
    first_start_ns = 2 * (QUICK_NS + PIPE_NS)
    seen_ns = [first_start_ns + n * SLOW_NS + PIPE_NS for n in range(1, count + 1)]
    last_enters_ns = first_start_ns + (count - 3 - 3 * fifo_depth) * SLOW_NS + PIPE_NS
    assert spikes["t_ns"][spikes["layer"] == 2].tolist() == seen_ns
    assert twin.activity.held_back_us == (last_enters_ns - last_ns) / 1000


def test_cores_before_an_overloaded_one_stall_and_it_does_not():
    found = [twin_of(overloaded(), 4) for _ in range(2)]

    for twin, count in zip(found, (90, 91), strict=True):
        run_recording(twin, each_us(count))

    before, after = (twin.activity.stalled_us for twin in found)
    per_spike_us = (SLOW_NS - QUICK_NS) / 1000
    assert (after - before).tolist() == pytest.approx([per_spike_us, per_spike_us, 0])
    assert before[2] == 0
    assert before[:2].min() > 80 * per_spike_us * 0.9


def test_a_core_with_room_in_front_of_it_stalls_nobody():
    twin = twin_of(overloaded(), 1 << 16)

    run_recording(twin, each_us(90))

    assert twin.activity.stalled_us.tolist() == [0, 0, 0]
    assert (twin.activity.held_back_us, twin.activity.held_back_events) == (0, 0)


def test_what_comes_after_a_spike_that_stalls_is_late_by_as_much():
    configuration = chip(
        core([[[[100]]], [[[100]]]], (1, 1), core=3, destinations=to(5)),
        core(np.zeros((SLOW, 1, 1, 1)), (1, 1), core=5, layer=1),
    )
    twin = twin_of(configuration, 2)

    spikes = twin.run(pack_events([Event(0, 0, 0, 0)] * 5))

    # Feature 0 goes to core 5, feature 1 goes nowhere. The fourth spike there finds a place when
    # core 5 starts on the second, the fifth when it starts on the third.
    starts_ns = [n * delays.busy_ns(0, 2) for n in range(3)]
    seen_ns = [delays.output_ns(start_ns, done) for start_ns in starts_ns for done in (1, 2)]
    for number in (1, 2):
        room_ns = delays.output_ns(0, 1) + number * SLOW_NS + PIPE_NS
        seen_ns += [room_ns, room_ns + delays.output_ns(0, 2) - delays.output_ns(0, 1)]
    assert spikes["t_ns"].tolist() == seen_ns
