"""What the readout layer tells stands beside the spikes of a result and changes no figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from speckfarm.events import unpack
from speckfarm_server.boards.execute import Attempt, Outcome, Task
from speckfarm_server.boards.simulated import SimulatedBoard
from speckfarm_server.configuration import Configuration
from speckfarm_server.recordings import summarise, to_file
from speckfarm_server.vendor.readout import ReadoutConfiguration, vendor_values
from tests.reference_twin import Event
from tests.twin_builders import chip, core, pack_events, to

MS = 1000
WEIGHTS = np.zeros((5, 2, 1, 1))
WEIGHTS[0, 0] = WEIGHTS[4, 1] = 100  # input feature 0 is class 1, 1 is class 2
EVENTS = [Event(n * MS // 4, int(n >= 40), 0, 0) for n in range(80)]  # 4 per tick, two classes


def configured(threshold: int) -> Configuration:
    told = vendor_values(ReadoutConfiguration(threshold=threshold))
    exit_core = core(WEIGHTS, (1, 1), destinations=to(12))
    return chip(exit_core, slow_clock_hz=1000.0, vendor=told)


def without_readout(configuration: Configuration) -> Configuration:
    return replace(configuration, vendor={})


def attempt(configuration: Configuration, folder: Path) -> Outcome:
    path = folder / "recording.events"
    packed = pack_events(EVENTS)
    to_file(summarise(packed, np.array([0, len(packed)]), None, ("one",)), path)
    task = Task(configuration=configuration, recordings=(("d" * 64, path),), keep_lags=True)
    return Attempt(SimulatedBoard(), task, lambda *_: None, loaded="").run()


def test_pins_are_events_of_layer_12_at_ticks_with_the_class_as_feature(tmp_path: Path) -> None:
    outcome = attempt(configured(threshold=3), tmp_path)

    spikes = unpack(np.frombuffer(outcome.spikes, "<u8"))
    pins = spikes[spikes["layer"] == 12]
    assert pins["t"].tolist() == [n * MS for n in range(1, 21)]
    assert pins["feature"].tolist() == [1] * 10 + [2] * 10
    assert [field["t"] for field in spikes] == sorted(spikes["t"])


def test_pins_are_no_exit_spikes(tmp_path: Path) -> None:
    told, plain = (
        attempt(made, tmp_path) for made in (configured(3), without_readout(configured(3)))
    )

    assert told.exit_spikes == plain.exit_spikes == 80
    assert told.lags == plain.lags
    assert told.latency == plain.latency
    [with_pins], [alone] = told.recordings, plain.recordings
    assert replace(with_pins, output_events=alone.output_events) == alone
    assert with_pins.output_events == alone.output_events + 20


def test_a_threshold_that_is_reached_but_not_passed_tells_nothing(tmp_path: Path) -> None:
    outcome = attempt(configured(threshold=4), tmp_path)

    assert set(unpack(np.frombuffer(outcome.spikes, "<u8"))["layer"].tolist()) == {0}
