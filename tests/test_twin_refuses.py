"""The twin refuses what it cannot run, and names it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from speckfarm_server.configuration import DvsConfiguration
from speckfarm_server.twin.twin import Twin
from tests.twin_builders import chip, core, pack_events, pulses, run_recording, to

ONE = core([[[[1]]]], (1, 1), core=1, destinations=to(2))
TWO = core([[[[1]]]], (1, 1), core=2, layer=1, destinations=to(3))
THREE = core([[[[1]]]], (1, 1), core=3, layer=2)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (chip(ONE, TWO, replace(THREE, destinations=to(2))),
         "cores 2, 3 send spikes back to themselves"),
        (chip(ONE, replace(TWO, destinations=to(2, 3)), THREE), "cores 2 send spikes back"),
        (chip(ONE, TWO), "core 2 sends to core 3, which is not configured"),
        (chip(THREE, inputs=to(4)), "the input sends to core 4, which is not configured"),
        (chip(THREE, inputs=()), "no core takes the input"),
        (chip(THREE, replace(THREE, layer=4)), r"core: found \[3, 3\]; each may be used once"),
        (chip(THREE, replace(THREE, core=4)), r"layer: found \[2, 2\]; each may be used once"),
        (chip(THREE, inputs=to(3, feature_shift=-1)), "feature_shift to core 3: found -1"),
        (chip(THREE, dvs=DvsConfiguration(destinations=to(3))), "found both"),
        (chip(replace(THREE, weights_kill=np.ones((1, 1, 1, 1), np.bool_))),
         "core 3, weights_kill: found 1 set"),
        (chip(replace(THREE, biases_kill=np.ones(1, np.bool_))), "core 3, biases_kill: found 1"),
        (chip(replace(THREE, neurons_kill=np.ones((1, 1, 1), np.bool_))), "neurons_kill: found 1"),
        (chip(replace(THREE, initial_state=np.zeros((1, 2, 1), np.int16))),
         r"core 3, initial state: found \(1, 2, 1\), other fields say \(1, 1, 1\)"),
    ],
)  # fmt: skip
def test_what_the_twin_cannot_run_is_refused_by_name(configuration, message):
    with pytest.raises(ValueError, match=message):
        Twin(configuration)


def test_kill_bits_that_are_not_set_are_taken():
    off = replace(THREE, weights_kill=np.zeros((1, 1, 1, 1), np.bool_))

    assert run_recording(Twin(chip(off)), pulses(1)) == []


def test_a_recording_that_was_finished_takes_no_more_events():
    twin = Twin(chip(core([[[[100]]]], (1, 1))))
    twin.run(pack_events(pulses(1)))

    with pytest.raises(ValueError, match="the recording was finished"):
        twin.stream(pack_events(pulses(1)))
