"""An attempt on a simulated board runs graphs and camera events whole, with causes that hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speckfarm.events import unpack
from speckfarm_server.boards.execute import Attempt, Outcome, Task
from speckfarm_server.boards.simulated import SimulatedBoard
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.recordings import summarise, to_file
from tests.reference_twin import Event, ReferenceTwin
from tests.twin_builders import chip, core, pack_events


def attempt(configuration: Configuration, events: list[Event], folder: Path) -> Outcome:
    path = folder / "recording.events"
    packed = pack_events(events)
    to_file(summarise(packed, np.array([0, len(packed)]), None, ("one",)), path)
    task = Task(configuration=configuration, recordings=(("d" * 64, path),), keep_lags=True)
    return Attempt(SimulatedBoard(), task, lambda *_: None, loaded="").run()


def residual(**changes: object) -> Configuration:
    """Core 3 to core 5, straight and through core 4."""
    return chip(
        core([[[[60]]]], (4, 4), core=3, destinations=(Destination(core=4), Destination(core=5))),
        core([[[[70]]]], (4, 4), core=4, layer=1, destinations=(Destination(core=5),)),
        core(np.full((2, 1, 3, 3), 30), (4, 4), core=5, layer=2, padding=(1, 1)),
        **changes,
    )


def test_the_last_spikes_of_a_merge_are_in_the_result(tmp_path: Path) -> None:
    events = [Event(10 * n, 0, n % 4, n % 3) for n in range(200)]

    outcome = attempt(residual(), events, tmp_path)

    expected = ReferenceTwin(residual()).run_recording(events)
    spikes = unpack(np.frombuffer(outcome.spikes, "<u8"))
    assert spikes.tolist() == [(t // 1000, *rest) for t, _, *rest in expected]
    assert outcome.exit_spikes == sum(spike[2] == 2 for spike in expected)
    lags_us = [t / 1000 - events[cause].t_us for t, cause, layer, *_ in expected if layer == 2]
    assert np.allclose(np.frombuffer(outcome.lags, "<f8"), lags_us)


def test_camera_events_reach_the_board_as_they_were_recorded(tmp_path: Path) -> None:
    dvs = DvsConfiguration(
        merge=True, off_channel=False, pooling=(2, 2), origin=(1, 2), cut=(4, 5),
        destinations=(Destination(core=3),),
    )  # fmt: skip
    configuration = replace(residual(inputs=(), dvs=dvs), input_shape=(2, 128, 128))
    events = [Event(10 * n, n % 2, n % 12, n % 13) for n in range(600)]

    outcome = attempt(configuration, events, tmp_path)

    expected = ReferenceTwin(configuration).run_recording(events)
    [recording] = outcome.recordings
    assert recording.input_events == 600
    assert recording.output_events == len(expected) > 0
    assert outcome.layers[0].input_spikes < 300
    lags_us = [t / 1000 - events[cause].t_us for t, cause, layer, *_ in expected if layer == 2]
    assert np.allclose(np.frombuffer(outcome.lags, "<f8"), lags_us)


def test_a_configuration_that_the_twin_refuses_fails_the_job_with_words(tmp_path: Path) -> None:
    killed = core([[[[60]]]], (4, 4), core=3, biases_kill=np.ones(1, np.bool_))

    with pytest.raises(BoardFault, match="core 3, biases_kill: found 1 set") as caught:
        attempt(chip(killed), [Event(0, 0, 0, 0)], tmp_path)

    assert caught.value.reason == "TWIN_REFUSED"
    assert caught.value.error_class is ErrorClass.JOB


def test_a_recording_of_which_nothing_passes_has_a_result(tmp_path: Path) -> None:
    dvs = DvsConfiguration(
        merge=True, origin=(4, 4), cut=(7, 7), destinations=(Destination(core=3),)
    )
    configuration = replace(residual(inputs=(), dvs=dvs), input_shape=(2, 128, 128))

    outcome = attempt(configuration, [Event(0, 0, 1, 1), Event(5, 1, 9, 9)], tmp_path)

    [recording] = outcome.recordings
    assert (recording.output_events, recording.prediction) == (0, -1)
    assert outcome.layers[0].input_spikes == 0
