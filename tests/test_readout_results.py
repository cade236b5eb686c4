"""What the readout layer tells stands beside the spikes of a result and changes no figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from speckfarm.events import TIME_SHIFT, PackedEvents, unpack
from speckfarm_server.boards.board import Board, Chunk
from speckfarm_server.boards.execute import Attempt, Outcome, Task
from speckfarm_server.boards.simulated import SimulatedBoard
from speckfarm_server.configuration import Configuration
from speckfarm_server.recordings import summarise, to_file
from speckfarm_server.twin.readout import readout_for
from speckfarm_server.vendor.readout import ReadoutConfiguration, vendor_values
from tests.reference_twin import Event
from tests.twin_builders import chip, core, pack_events, to

MS = 1000
WEIGHTS = np.zeros((5, 2, 1, 1))
WEIGHTS[0, 0] = WEIGHTS[4, 1] = 100  # input feature 0 is class 1, 1 is class 2
EVENTS = [Event(n * MS // 4, int(n >= 40), 0, 0) for n in range(80)]  # 4 per tick, two classes


class ReadoutBoard(SimulatedBoard):
    """A simulated board with a readout layer behind its exit layer."""

    def configure(self, configuration: Configuration) -> None:
        super().configure(configuration)
        self._readout = readout_for(configuration)

    def run(self, packed: PackedEvents) -> Iterator[Chunk]:
        if self._readout is None:
            yield from super().run(packed)
            return
        first_ns, last_ns = (int(packed[at] >> np.uint64(TIME_SHIFT)) * 1000 for at in (0, -1))
        self._readout.start_recording(first_ns)
        for chunk in super().run(packed):
            yield chunk
            spikes = exit_spikes(chunk, self._readout.layer)
            if len(spikes):
                yield pins_chunk(self._readout.push(spikes, int(spikes["t_ns"][-1])))
        yield pins_chunk(self._readout.finish(last_ns))


def exit_spikes(chunk: Chunk, layer: int) -> Any:
    mine = chunk.layer == layer
    fields = [("t_ns", "<i8"), ("feature", "<u2"), ("y", "u1"), ("x", "u1")]
    spikes = np.empty(int(mine.sum()), fields)
    spikes["t_ns"] = np.round(chunk.t_us[mine] * 1000)
    for name in ("feature", "y", "x"):
        spikes[name] = getattr(chunk, name)[mine]
    return spikes


def pins_chunk(pins: Any) -> Chunk:
    zeros = np.zeros(len(pins), np.uint8)
    return Chunk(
        t_us=pins["t_ns"] / 1000, cause=np.full(len(pins), -1), layer=zeros + np.uint8(12),
        feature=pins["index"].astype(np.uint16), y=zeros, x=zeros,
    )  # fmt: skip


def configured(threshold: int) -> Configuration:
    told = vendor_values(ReadoutConfiguration(threshold=threshold))
    exit_core = core(WEIGHTS, (1, 1), destinations=to(12))
    return chip(exit_core, slow_clock_hz=1000.0, vendor=told)


def without_readout(configuration: Configuration) -> Configuration:
    return replace(configuration, vendor={})


def attempt(configuration: Configuration, folder: Path, *, board: Board | None = None) -> Outcome:
    path = folder / "recording.events"
    packed = pack_events(EVENTS)
    to_file(summarise(packed, np.array([0, len(packed)]), None, ("one",)), path)
    task = Task(configuration=configuration, recordings=(("d" * 64, path),), keep_lags=True)
    return Attempt(board or ReadoutBoard(), task, lambda *_: None, loaded="").run()


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
