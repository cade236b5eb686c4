"""The twin does what docs/explanation/twin.md says, in cases small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from speckfarm_server.chip import DECIMATOR_CODES
from speckfarm_server.configuration import Destination
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from speckfarm_server.twin.delay import delay_model
from speckfarm_server.twin.twin import Twin
from tests.reference_twin import Event
from tests.twin_builders import chip, core, pack_events, pulses, run_recording


def test_a_kernel_lies_as_in_a_convolution_of_torch():
    twin = Twin(chip(core([[[[1, 2], [3, 4]]]], (2, 3))))

    twin.run(pack_events([Event(0, 0, 1, 1)]))

    assert twin.neurons(0).tolist() == [[[4, 3]]]


def test_an_empty_recording_has_no_output():
    twin = Twin(chip(core([[[[127]]]], (1, 1))))

    assert run_recording(twin, []) == []


@pytest.mark.parametrize("interval", DECIMATOR_CODES)
def test_the_decimator_passes_each_nth_spike_across_resets_of_the_state(interval):
    twin = Twin(chip(core([[[[100]]]], (1, 1), decimator=interval)))

    first = run_recording(twin, pulses(interval + 1))
    twin.reset_state()
    second = run_recording(twin, pulses(2 * interval))

    assert [spike[1] for spike in first] == [interval - 1]
    assert [spike[1] for spike in second] == [interval - 2, 2 * interval - 2]


def test_the_decimator_counts_all_neurons_of_a_core_together():
    twin = Twin(chip(core(np.full((3, 1, 1, 1), 100), (1, 1), decimator=2)))

    spikes = twin.run(pack_events(pulses(2)))

    assert spikes["feature"].tolist() == [1, 0, 2]
    assert twin.activity.output_spikes.tolist() == [6]


def test_configuring_clears_the_decimator():
    configuration = chip(core([[[[100]]]], (1, 1), decimator=2))
    Twin(configuration).run(pack_events(pulses(1)))

    assert run_recording(Twin(configuration), pulses(1)) == []


def test_neurons_keep_their_state_until_it_is_reset():
    twin = Twin(chip(core([[[[60]]]], (1, 1))))

    counts = [len(run_recording(twin, pulses(1))) for _ in range(2)]
    twin.reset_state()
    counts += [len(run_recording(twin, pulses(1))) for _ in range(2)]

    assert counts == [0, 1, 0, 1]
    assert twin.neurons(0).tolist() == [[[20]]]


def test_initial_states_hold_after_configuring_and_after_a_reset():
    initial = np.array([[[60, -30]]], np.int16)
    twin = Twin(chip(core([[[[50]]]], (1, 2), initial_state=initial)))

    configured = run_recording(twin, [Event(0, 0, 0, 0), Event(9, 0, 0, 1)])
    changed = twin.neurons(0).tolist()
    twin.reset_state()

    assert [spike[-1] for spike in configured] == [0]
    assert changed == [[[10, 20]]]
    assert twin.neurons(0).tolist() == initial.tolist()
    assert run_recording(twin, [Event(0, 0, 0, 0), Event(9, 0, 0, 1)]) == configured


def test_return_to_zero_forgets_the_rest():
    twin = Twin(chip(core([[[[60]]]], (1, 1), return_to_zero=True)))

    run_recording(twin, pulses(2))

    assert twin.neurons(0).tolist() == [[[0]]]


def test_a_neuron_fires_once_per_event_and_keeps_what_is_left():
    twin = Twin(chip(core([[[[127]]]], (1, 1), threshold_high=50)))

    spikes = run_recording(twin, pulses(2))

    assert [spike[1] for spike in spikes] == [0, 1]
    assert twin.neurons(0).tolist() == [[[154]]]


def test_a_neuron_saturates_at_32767():
    twin = Twin(chip(core([[[[127]]]], (1, 1), threshold_high=32767)))

    spikes = run_recording(twin, pulses(259))  # 258 * 127 = 32766

    assert [spike[1] for spike in spikes] == [258]
    assert twin.neurons(0).tolist() == [[[0]]]


def test_every_neuron_that_is_reached_fires_at_threshold_zero():
    twin = Twin(chip(core(np.zeros((1, 1, 3, 3)), (5, 5), threshold_high=0)))

    spikes = twin.run(pack_events([Event(0, 0, 1, 4)]))

    assert list(zip(spikes["y"].tolist(), spikes["x"].tolist(), strict=True)) == [(0, 2), (1, 2)]


def test_zero_weights_are_counted():
    twin = Twin(chip(core(np.zeros((4, 1, 3, 3)), (5, 5))))

    twin.run(pack_events([Event(0, 0, 2, 2)]))

    assert twin.activity.synops.tolist() == [36]


def test_pooling_behind_the_exit_is_left_to_the_host():
    twin = Twin(chip(core([[[[100]]]], (8, 8), exit_pooling=4)))

    spikes = twin.run(pack_events([Event(0, 0, 7, 5)]))

    assert spikes[["y", "x"]].tolist() == [(7, 5)]


def test_rows_that_pooling_leaves_over_do_not_arrive():
    first = core([[[[100]]]], (5, 5), destinations=(Destination(core=7, pooling=2),))
    twin = Twin(chip(first, core([[[[100]]]], (2, 2), core=7, layer=1)))

    spikes = twin.run(pack_events([Event(0, 0, 4, 4), Event(9, 0, 3, 3)]))

    assert spikes[["layer", "y", "x"]].tolist() == [(0, 4, 4), (0, 3, 3), (1, 1, 1)]
    assert twin.activity.input_spikes.tolist() == [2, 1]


def test_spikes_follow_destinations_not_the_order_of_cores():
    last = core([[[[100]]]], (1, 1), layer=1)
    first = core([[[[100]]]], (1, 1), core=4, destinations=(Destination(core=2),))
    twin = Twin(chip(last, first, inputs=(Destination(core=4),)))

    spikes = twin.run(pack_events(pulses(1)))

    assert spikes["layer"].tolist() == [0, 1]


def test_spikes_of_leak_ticks_and_what_they_cause_are_uncaused():
    first = core(
        [[[[1]]]], (1, 1), biases=np.array([50], np.int16), leak_enable=True,
        destinations=(Destination(core=7),),
    )  # fmt: skip
    second = core([[[[100]]]], (1, 1), core=7, layer=1)
    twin = Twin(chip(first, second, slow_clock_hz=1000.0))

    spikes = twin.run(pack_events([Event(500, 0, 0, 0), Event(3000, 0, 0, 0)]))

    assert spikes[["t_ns", "cause", "layer"]].tolist() == [
        (2_500_000 + 300 + 33 + 70, -1, 0),  # ticks at 1.5 and 2.5 ms
        (2_500_403 + 300 + 33 + 70, -1, 1),
    ]


def test_a_leak_tick_goes_before_a_spike_of_the_same_time():
    leaky = core([[[[60]]]], (1, 1), biases=np.array([50], np.int16), leak_enable=True)
    twin = Twin(chip(leaky, slow_clock_hz=1000.0))

    spikes = twin.run(pack_events(pulses(2)))

    assert spikes[["t_ns", "cause"]].tolist() == [(1_000_403, -1)]


def test_biases_do_nothing_without_the_slow_clock():
    leaky = core([[[[1]]]], (1, 1), biases=np.array([50], np.int16), leak_enable=True)
    twin = Twin(chip(leaky))

    assert run_recording(twin, pulses(9)) == []


@pytest.mark.parametrize("number", [0, 1, 8])
def test_times_follow_the_delay_model(number):
    twin = Twin(chip(core(np.full((3, 1, 1, 1), 100), (1, 1), core=number)))
    delays = delay_model("speck2f", number, ASSUMPTIONS)

    spikes = twin.run(pack_events([Event(5, 0, 0, 0)] * 2))

    start_ns = delays.start_ns(5000, 0)
    expected = [delays.output_ns(start_ns, done) for done in (1, 2, 3)]
    start_ns = delays.start_ns(5000, delays.busy_ns(start_ns, 3))
    expected += [delays.output_ns(start_ns, done) for done in (1, 2, 3)]
    assert spikes["t_ns"].tolist() == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Event(2, 1, 0, 0), "event 1: feature is 1, must be 0 to 0"),
        (Event(2, 0, 2, 0), "event 1: y is 2, must be 0 to 1"),
        (Event(2, 0, 0, 3), "event 1: x is 3, must be 0 to 2"),
        (Event(0, 0, 0, 0), "event 1 is 1 us before the last one; sort events by time"),
    ],
)
def test_events_that_do_not_fit_are_refused_before_any_is_run(wrong, message):
    twin = Twin(chip(core([[[[100]]]], (2, 3))))

    with pytest.raises(ValueError, match=message):
        twin.run(pack_events([Event(1, 0, 0, 0), wrong]))

    assert twin.activity.input_spikes.tolist() == [0]


def test_events_of_another_layer_are_refused():
    twin = Twin(chip(core([[[[100]]]], (2, 3))))

    with pytest.raises(ValueError, match="event 0: layer is 3, must be 0 to 0"):
        twin.run(np.array([3 << 24], np.uint64))


def test_time_may_not_go_back_between_slices_but_between_recordings():
    twin = Twin(chip(core([[[[100]]]], (1, 1))))
    list(twin.stream(pack_events([Event(7, 0, 0, 0)])))

    with pytest.raises(ValueError, match="event 0 is 1 us before"):
        twin.stream(pack_events([Event(6, 0, 0, 0)]))
    assert len(run_recording(twin, [Event(6, 0, 0, 0)])) == 1


def test_an_abandoned_stream_leaves_nothing_behind():
    configuration = chip(
        core([[[[100]]]], (1, 1), destinations=(Destination(core=7),)),
        core([[[[100]]]], (1, 1), core=7, layer=1),
    )
    twin = Twin(configuration)
    next(twin.stream(pack_events(pulses(5000))))

    twin.reset_state()
    found = run_recording(twin, pulses(3))

    assert found == run_recording(Twin(configuration), pulses(3))


def test_shapes_that_contradict_each_other_are_refused():
    with pytest.raises(
        ValueError, match="core 2, biases: found \\(2,\\), other fields say \\(1,\\)"
    ):
        Twin(chip(core([[[[1]]]], (1, 1), biases=np.zeros(2, np.int16))))
