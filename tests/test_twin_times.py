"""Published times under stated conditions, and what each core did when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.twin.assumptions import UNLOADED
from speckfarm_server.twin.twin import Twin
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

BIN_US = 2**20 / 1000
BINS = 1024


def nine_in_series() -> Twin:
    """All nine cores in a row, kernels of 1 x 1, one channel."""
    cores = [core([[[[100]]]], (1, 1), core=number, layer=number) for number in range(9)]
    linked = [replace(each, destinations=to(each.core + 1)) for each in cores[:-1]]
    return Twin(chip(*linked, cores[-1]))


def test_nine_cores_in_series_take_the_published_time():
    spikes = nine_in_series().run(pack_events([Event(0, 0, 0, 0)]))

    assert spikes["layer"].tolist() == list(range(9))
    assert spikes["t_ns"][-1] == pytest.approx(3360, rel=0.1)  # Richter et al., arXiv 2304.06793


def test_one_3_by_3_layer_of_4_features_takes_the_published_time():
    layer = core(np.full((4, 1, 3, 3), 100), (8, 8), core=2, padding=(1, 1))

    spikes = Twin(chip(layer)).run(pack_events([Event(0, 0, 4, 4)]))

    assert len(spikes) == 36
    assert spikes["t_ns"].max() == pytest.approx(1580, rel=0.1)  # the same, cited by SANA-FE


@settings(deadline=None, max_examples=60)
@given(configuration=chips(leak=True), data=st.data())
def test_unloaded_every_spike_comes_at_the_time_of_its_cause(configuration, data):
    events = data.draw(recordings(configuration.input_shape))
    twin = Twin(configuration, assumptions=UNLOADED)

    spikes = twin.run(pack_events(events))

    caused = spikes[spikes["cause"] >= 0]
    times_us = np.array([event.t_us for event in events], np.int64)
    assert caused["t_ns"].tolist() == (1000 * times_us[caused["cause"]]).tolist()
    assert (twin.activity.stalled_us.sum(), twin.activity.held_back_us) == (0, 0)


@settings(deadline=None, max_examples=60)
@given(configuration=chips(), data=st.data())
def test_load_adds_up_to_synaptic_operations(configuration, data):
    twin = Twin(configuration)

    run_recording(twin, data.draw(recordings(configuration.input_shape)))

    activity = twin.activity
    assert activity.load.sum(axis=1).tolist() == activity.synops.tolist()
    assert activity.bin_us == BIN_US


def test_load_tells_ticks_too():
    leaky = core([[[[1]]]], (3, 3), biases=np.array([1], np.int16), leak_enable=True)
    twin = Twin(chip(leaky, slow_clock_hz=1000.0))

    run_recording(twin, pulses(11))  # to 10 ms: ticks at 1, 2, ... 10 ms

    assert twin.activity.synops.tolist() == [11]
    assert twin.activity.load.sum() == 11 + 10 * 9


@settings(deadline=None, max_examples=60)
@given(
    gaps_us=st.lists(st.integers(1, 10_000_000), min_size=1, max_size=40),
    first_us=st.sampled_from([0, 17, 1 << 35]),
)
def test_bins_double_whenever_a_recording_outlasts_them(gaps_us, first_us):
    times_us = first_us + np.cumsum([0, *gaps_us])
    twin = Twin(chip(core(np.ones((3, 1, 1, 1)), (1, 1))))

    run_recording(twin, [Event(int(t_us), 0, 0, 0) for t_us in times_us])

    activity = twin.activity
    lasts_us = int(times_us[-1]) - first_us
    bin_us = BIN_US
    while lasts_us >= BINS * bin_us:
        bin_us *= 2
    bin_ns = round(bin_us * 1000)  # whole numbers, for an event may lie on the edge of a bin
    expected = np.bincount((times_us - first_us) * 1000 // bin_ns) * 3
    assert activity.bin_us == bin_us
    assert activity.load[0, : len(expected)].tolist() == expected.tolist()
    assert activity.load.sum() == expected.sum()


def test_load_begins_anew_with_each_recording():
    twin = Twin(chip(core(np.ones((3, 1, 1, 1)), (1, 1))))
    run_recording(twin, [Event(0, 0, 0, 0), Event(5_000_000, 0, 0, 0)])

    run_recording(twin, [Event(0, 0, 0, 0), Event(3000, 0, 0, 0)])

    assert twin.activity.load.tolist() == [[3, 0, 3]]
    assert twin.activity.bin_us == BIN_US
