"""One conformance suite for every kind of board, run through Attempt as a board's process does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from speckfarm.events import unpack
from speckfarm_server.boards.board import Board
from speckfarm_server.boards.execute import Attempt, Cancelled, Outcome, Task
from speckfarm_server.boards.samna.board import open_samna_board
from speckfarm_server.boards.scripted import ScriptedBoard
from speckfarm_server.boards.simulated import SimulatedBoard
from speckfarm_server.check import check
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.parse import parse_network
from speckfarm_server.recording_file import read_recordings
from speckfarm_server.recordings import to_file
from speckfarm_server.settings import Settings
from tests.double_world import World, options

ALL = ("simulated", "scripted", "real")
COMPUTED = ("simulated", "real")  # a real board is driven on a double that computes
MakeBoard = Callable[[], Board]


@pytest.fixture
def make_board(request: pytest.FixtureRequest, world: World) -> Iterator[MakeBoard]:
    """Boards of the kind that the test is given; the one before is closed: there is one devkit."""
    made: list[Board] = []

    def make() -> Board:
        if made:
            made.pop().close()
        made.append(_made(request.param, world))
        return made[-1]

    yield make
    for board in made:
        board.close()


def _made(kind: str, world: World) -> Board:
    if kind == "real":
        return open_samna_board(options(world))
    return SimulatedBoard() if kind == "simulated" else ScriptedBoard("{}")


def configuration_of(model: Path, **settings: object) -> Configuration:
    network = parse_network(model.read_bytes()).network
    assert network is not None
    report = check(network, find_chip("speck2f"), Settings(**settings))  # type: ignore[arg-type]
    assert report.configuration is not None
    return report.configuration


def task_of(recordings: Path, folder: Path, configuration: Configuration, copies: int = 1) -> Task:
    path = folder / "recordings.events"
    if not path.exists():
        to_file(read_recordings(recordings.read_bytes(), recordings.name), path)
    return Task(
        configuration=configuration,
        recordings=tuple([("d" * 64, path)] * copies),
        keep_lags=True,
    )


def run(board: Board, task: Task, *, loaded: str = "") -> tuple[Outcome, list[str]]:
    stages: list[str] = []
    outcome = Attempt(board, task, lambda stage, _: stages.append(stage), loaded=loaded).run()
    return outcome, stages


@pytest.mark.parametrize("make_board", ALL, indirect=True)
def test_a_recording_gives_one_result_with_figures_that_agree(
    make_board: MakeBoard, digits_model: Path, one_digit: Path, tmp_path: Path
) -> None:
    task = task_of(one_digit, tmp_path, configuration_of(digits_model))

    outcome, stages = run(make_board(), task)

    [recording] = outcome.recordings
    spikes = np.frombuffer(outcome.spikes, "<u8")
    assert len(spikes) == recording.output_events == sum(recording.counts)
    assert len(outcome.lags) == len(outcome.spikes)
    assert recording.prediction == int(np.argmax(recording.counts))
    assert recording.lags[0].latency.n == recording.output_events
    assert len(outcome.layers) == len(task.configuration.cores)
    assert stages[0] == "configuring"
    assert stages[-1] == "collecting"


@pytest.mark.parametrize("make_board", ALL, indirect=True)
def test_a_loaded_configuration_is_not_written_again_and_changes_nothing(
    make_board: MakeBoard, digits_model: Path, one_digit: Path, tmp_path: Path
) -> None:
    board = make_board()
    task = task_of(one_digit, tmp_path, configuration_of(digits_model))

    first, _ = run(board, task)
    second, stages = run(board, task, loaded=task.configuration.digest)

    assert "configuring" not in stages
    assert second.configure_ms == 0
    assert second.spikes == first.spikes
    assert second.recordings == first.recordings


@pytest.mark.parametrize("make_board", ALL, indirect=True)
def test_without_recordings_a_board_is_only_configured(
    make_board: MakeBoard, digits_model: Path, one_digit: Path, tmp_path: Path
) -> None:
    task = task_of(one_digit, tmp_path, configuration_of(digits_model), copies=0)

    outcome, _ = run(make_board(), task)

    assert outcome.recordings == ()
    assert outcome.spikes == b""


@pytest.mark.parametrize("make_board", ALL, indirect=True)
def test_a_cancel_ends_the_attempt_and_the_next_one_is_as_if_nothing_had_been(
    make_board: MakeBoard, digits_model: Path, one_digit: Path, tmp_path: Path
) -> None:
    task = task_of(one_digit, tmp_path, configuration_of(digits_model))
    untouched, _ = run(make_board(), task)
    board = make_board()

    def cancel(stage: str, _done: int) -> None:
        if stage == "running":
            raise Cancelled

    with pytest.raises(Cancelled):
        Attempt(board, task, cancel, loaded="").run()
    after, _ = run(board, task)

    assert after.spikes == untouched.spikes


@pytest.mark.parametrize("make_board", COMPUTED, indirect=True)
def test_state_is_zero_before_each_recording_unless_it_is_kept(
    make_board: MakeBoard, digits_model: Path, one_digit: Path, tmp_path: Path
) -> None:
    fresh = configuration_of(digits_model)
    kept = configuration_of(digits_model, state="keep")

    reset, _ = run(make_board(), task_of(one_digit, tmp_path, fresh, copies=2))
    keep, _ = run(make_board(), task_of(one_digit, tmp_path, kept, copies=2))

    assert reset.recordings[0] == reset.recordings[1]
    assert keep.recordings[0] == reset.recordings[0]
    assert keep.recordings[0].counts != keep.recordings[1].counts


@pytest.mark.parametrize("make_board", COMPUTED, indirect=True)
def test_monitored_layers_are_reported_apart_and_spikes_carry_their_layer(
    make_board: MakeBoard, digits_model: Path, one_digit: Path, tmp_path: Path
) -> None:
    task = task_of(one_digit, tmp_path, configuration_of(digits_model, monitor=(0, 2)))

    outcome, _ = run(make_board(), task)

    [recording] = outcome.recordings
    exit_layer = len(task.configuration.cores) - 1
    assert [lags.layer for lags in recording.lags] == [exit_layer, 0, 2]
    events = unpack(np.frombuffer(outcome.spikes, "<u8"))
    assert set(events["layer"]) == {0, 2, exit_layer}
    assert (np.diff(events["t"]) >= 0).all()


@pytest.mark.parametrize("make_board", COMPUTED, indirect=True)
def test_a_decimator_thins_its_layer_by_its_ratio(
    make_board: MakeBoard, digits_model: Path, one_digit: Path, tmp_path: Path
) -> None:
    plain = configuration_of(digits_model)
    thinned = configuration_of(digits_model, decimator={3: 4})

    full, _ = run(make_board(), task_of(one_digit, tmp_path, plain))
    fewer, _ = run(make_board(), task_of(one_digit, tmp_path, thinned))

    assert fewer.exit_spikes == full.exit_spikes // 4
