"""The twin equals the slow reference: spike by spike, count by count, neuron by neuron."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speckfarm_server.configuration import Configuration, Destination
from speckfarm_server.twin.twin import Twin
from tests.reference_twin import Event, ReferenceTwin
from tests.twin_builders import (
    chip,
    chips,
    core,
    pack_events,
    pulses,
    recordings,
    run_cut,
)
from tests.twin_comparison import DRAWN, assert_equal_to_reference

compared = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def cases(draw: st.DrawFn, *, leak: bool) -> tuple[Configuration, list[list[Event]]]:
    """A chip and recordings for it."""
    configuration = draw(chips(leak=leak))
    one_recording = recordings(configuration.input_shape)
    return configuration, draw(st.lists(one_recording, min_size=1, max_size=3))


def busy_chain(rng: np.random.Generator) -> Configuration:
    """Four layers that all fire, with strides, padding, pooling, shift, decimator and leak."""
    shapes = [(9, 2, 5, 5), (17, 9, 3, 3), (5, 18, 3, 3), (10, 5, 2, 2)]
    first, second, third, fourth = (rng.integers(-30, 60, shape) for shape in shapes)
    bias = rng.integers(-20, 20, 17).astype(np.int16)
    return chip(
        core(first, (13, 15), core=3, stride=(2, 1), padding=(2, 1), threshold_high=150,
             destinations=(Destination(core=0),)),
        core(second, (7, 13), core=0, layer=1, padding=(1, 1), decimator=2, biases=bias,
             leak_enable=True, destinations=(Destination(core=8, pooling=2, feature_shift=1),)),
        core(third, (3, 6), core=8, layer=2, stride=(1, 2), padding=(1, 1), return_to_zero=True,
             monitor_enable=False, destinations=(Destination(core=1),)),
        core(fourth, (3, 3), core=1, layer=3, threshold_high=300, threshold_low=-1),
        slow_clock_hz=2000.0,
    )  # fmt: skip


@compared
@given(case=cases(leak=False))
def test_spikes_counts_and_states_equal_the_reference(case):
    assert_equal_to_reference(*case, most_updates=DRAWN)


@compared
@given(case=cases(leak=True))
def test_spikes_counts_and_states_equal_the_reference_with_leak_ticks(case):
    assert_equal_to_reference(*case, most_updates=DRAWN)


@compared
@given(case=st.booleans().flatmap(lambda leak: cases(leak=leak)), data=st.data())
def test_a_recording_may_be_cut_anywhere(case, data):
    configuration, (events, *_) = case
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=4).map(sorted))
    packed = pack_events(events)
    whole, cut = Twin(configuration), Twin(configuration)

    expected = whole.run(packed)
    found = run_cut(cut, packed, cuts)

    assert np.array_equal(found[np.lexsort((found["layer"], found["t_ns"]))], expected)
    for layer in range(len(configuration.cores)):
        times_ns = found["t_ns"][found["layer"] == layer]
        assert (np.diff(times_ns) >= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_busy_chain_of_four_layers_equals_the_reference(seed):
    rng = np.random.default_rng(seed)
    configuration = busy_chain(rng)
    events = [
        Event(int(t_us), *map(int, rng.integers(0, (2, 13, 15))))
        for t_us in np.sort(rng.integers(0, 2000, 40))
    ]

    assert_equal_to_reference(configuration, [events, events])

    assert ReferenceTwin(configuration).run_recording(events)[-1][2] == 3


def test_more_events_than_a_slice_holds_equal_the_reference():
    configuration = chip(core(np.full((2, 1, 1, 1), 60), (1, 1), decimator=4))

    assert_equal_to_reference(configuration, [pulses(5000), pulses(4096), pulses(1)])


def test_more_spikes_than_a_buffer_holds_equal_the_reference():
    wide = core(
        np.ones((16, 1, 16, 16)), (64, 64), padding=(7, 7), threshold_high=0, monitor_enable=False,
        destinations=(Destination(core=5, pooling=4),),
    )  # fmt: skip
    narrow = core(
        np.ones((1, 16, 1, 1)), (15, 15), stride=(8, 8), core=5, layer=1, leak_enable=True,
        biases=np.array([7], np.int16),
    )  # fmt: skip
    burst = [Event(90 * n, 0, 32, 32) for n in range(40)]

    assert_equal_to_reference(chip(wide, narrow, slow_clock_hz=10_000.0), [burst])
