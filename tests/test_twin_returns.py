"""A run goes on where it had to return, and a loaded chip gives the same for the same again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.configuration import Destination
from speckfarm_server.twin import machine
from speckfarm_server.twin.assumptions import Assumptions
from speckfarm_server.twin.twin import Twin
from tests.reference_twin import Event
from tests.twin_builders import chip, chips, core, graphs, pulses, recordings, run_recording
from tests.twin_comparison import DRAWN, assert_equal_to_reference


@pytest.mark.parametrize("buffer", [1, 2, 3, 4, 5, 1 << 15])
def test_the_last_spikes_leave_though_outputs_are_full(buffer):
    beyond = chip(
        core([[[[100]]]], (5, 5), core=3, destinations=(Destination(core=5, pooling=2),)),
        core([[[[100]]]], (2, 2), core=5, layer=1),
    )
    twin = Twin(beyond, buffer=buffer)

    assert len(run_recording(twin, [Event(1000 * n, 0, 4, 4) for n in range(5)])) == 5


@settings(deadline=None, max_examples=150)
@given(
    configuration=st.booleans().flatmap(lambda leak: chips(leak=leak)) | graphs(leak=False),
    buffer=st.sampled_from([1, 2, 5, 1 << 15]),
    budget=st.sampled_from([1, 7, 100, 1 << 27]),
    fifo_depth=st.sampled_from([2, 16]),
    data=st.data(),
)
def test_a_run_may_have_to_return_anywhere(configuration, buffer, budget, fifo_depth, data):
    events = data.draw(recordings(configuration.input_shape))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(machine, "BUDGET_UPDATES", budget)
        assert_equal_to_reference(
            configuration, [events], fifo_depth=fifo_depth, buffer=buffer, most_updates=DRAWN
        )


def test_nothing_fires_above_the_largest_state():
    twin = Twin(
        chip(core([[[[127]]]], (1, 1), threshold_high=32767)), assumptions=Assumptions(fires=">")
    )

    assert run_recording(twin, pulses(300)) == []
    assert twin.neurons(0).tolist() == [[[32767]]]


def test_a_seed_gives_the_same_for_the_same_recording_again():
    configuration = replace(chip(core(np.full((16, 1, 1, 1), 100), (1, 1))), order_seed=3)
    twin = Twin(configuration)
    first = run_recording(twin, pulses(3))

    twin.reset_state()

    assert run_recording(twin, pulses(3)) == first


def test_a_spike_to_one_core_many_times_gets_in_one_by_one():
    configuration = chip(
        core([[[[100]]]], (1, 1), core=3), inputs=tuple(Destination(core=3) for _ in range(3))
    )

    assert_equal_to_reference(configuration, [pulses(3)], fifo_depth=2)


def test_events_beyond_the_first_map_are_held_back_with_the_others():
    first = core(np.full((1, 1, 1, 1), 1), (2, 2), core=3)
    configuration = replace(chip(first), input_shape=(1, 4, 4))
    events = [Event(0, 0, n % 4, n % 4) for n in range(200)]
    chain, ordered = Twin(configuration), Twin(replace(configuration, order_seed=1))

    for twin in (chain, ordered):
        run_recording(twin, events)

    assert chain.activity.held_back_events > 100
    assert chain.activity.held_back_events == ordered.activity.held_back_events
    assert chain.activity.held_back_us == ordered.activity.held_back_us
