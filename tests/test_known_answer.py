"""The known answer: the twin gives it, what is only guessed of silicon does not move it, and a
board with a fault in it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speckfarm.events import PACKED_DTYPE
from speckfarm_server.boards import known_answer
from speckfarm_server.boards.execute import Attempt, Outcome, Task
from speckfarm_server.boards.known_answer import COUNTS, judge, network, recordings
from speckfarm_server.boards.simulated import SimulatedBoard
from speckfarm_server.check_vendor import check_configuration
from speckfarm_server.chip import CHIPS, find_chip
from speckfarm_server.configuration import Configuration, CoreConfiguration
from speckfarm_server.errors import Severity
from speckfarm_server.settings import Settings
from speckfarm_server.twin.assumptions import ASSUMPTIONS, CORES, Assumptions
from speckfarm_server.twin.twin import Twin


def counts(
    configuration: Configuration, assumptions: Assumptions = ASSUMPTIONS, *, lost: int = 0
) -> list[list[int]]:
    """What a twin counts; `lost` events are missing at the begin of each recording."""
    twin = Twin(configuration, assumptions=assumptions)
    found = []
    for number in range(known_answer.CLASSES):
        twin.reset_state()
        twin.start_recording()
        output = twin.run(recordings().recording(number)[lost:])
        found.append(np.bincount(output["feature"], minlength=known_answer.CLASSES).tolist())
    return found


def run(board: SimulatedBoard, folder: Path) -> Outcome:
    path = known_answer.write_recordings(folder)
    task = Task(configuration=network("speck2f"), recordings=(("d", path),), keep_lags=False)
    return Attempt(board, task, lambda _stage, _done: None, loaded="").run()


@pytest.mark.parametrize("chip", CHIPS)
def test_the_twin_of_every_chip_gives_exactly_the_known_answer(chip: str) -> None:
    assert counts(network(chip)) == [list(row) for row in COUNTS]


def test_a_simulated_board_gives_it_through_the_seam_of_all_boards(tmp_path: Path) -> None:
    outcome = run(SimulatedBoard(), tmp_path)

    assert [recording.counts for recording in outcome.recordings] == list(COUNTS)
    assert [recording.prediction for recording in outcome.recordings] == [0, 1, 2, 3]


@pytest.mark.parametrize("chip", CHIPS)
def test_every_chip_may_be_given_the_network(chip: str) -> None:
    report = check_configuration(network(chip), find_chip(chip), Settings())

    wrong = [f for f in report.findings if f.severity is not Severity.INFO]
    assert (wrong, report.configuration is not None) == ([], True)


def test_the_recordings_take_well_under_a_second_and_every_class_is_heard() -> None:
    made = recordings()

    assert made.packed.dtype == PACKED_DTYPE
    assert made.duration_us < 700_000
    assert (made.max_x, made.max_y, made.features) == (15, 15, (0, 1))
    assert min(min(row) for row in COUNTS) > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"fires": ">"},
        {"decimator_passes": "first"},
        {"fifo_depth": 2},
        {"fixed_ns": 3000, "pipe_ns": 700},
        {"rate_factors": (0.25,) * CORES},
        {"rate_factors": (4.0,) * CORES},
    ],
)
def test_what_is_guessed_of_silicon_moves_no_count_too_far(changes: dict[str, object]) -> None:
    found = counts(network("speck2f"), replace(ASSUMPTIONS, **changes))  # type: ignore[arg-type]

    assert judge(found) == []


@pytest.mark.parametrize("seed", range(5))
def test_neither_do_the_order_of_neurons_and_a_lost_first_event(seed: int) -> None:
    found = counts(replace(network("speck2f"), order_seed=seed), lost=1)

    assert judge(found) == []


def faulty(layer: int, change: Callable[[CoreConfiguration], CoreConfiguration]) -> Configuration:
    made = network("speck2f")
    cores = list(made.cores)
    cores[layer] = change(cores[layer])
    return replace(made, cores=tuple(cores))


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        (1, lambda core: replace(core, decimator=None)),
        (1, lambda core: replace(core, decimator=4)),
        (0, lambda core: replace(core, threshold_high=core.threshold_high // 2)),
        (0, lambda core: replace(core, weights=core.weights[:, ::-1] // 2)),
        (1, lambda core: replace(core, weights=np.zeros_like(core.weights))),
        (2, lambda core: replace(core, weights=np.roll(core.weights, 1, axis=0))),
    ],
)
def test_a_board_that_computes_something_else_fails(
    layer: int, change: Callable[[CoreConfiguration], CoreConfiguration]
) -> None:
    assert judge(counts(faulty(layer, change))) != []


def test_a_board_that_lost_a_tenth_of_a_large_count_passes_until_it_is_proved() -> None:
    found = [[round(count * 0.9) for count in row] for row in COUNTS]

    assert judge(found) == []
    assert [words.split(":")[0] for words in judge(found, COUNTS, 0.05)] == [
        f"recording {n}, class {n}" for n in range(4)
    ]


@pytest.mark.parametrize(("count", "is_wrong"), [(5, False), (4, True), (15, False), (16, True)])
def test_a_small_count_may_be_wrong_by_five_spikes(count: int, is_wrong: bool) -> None:
    found = [list(row) for row in COUNTS]
    found[3][0] = count  # 10 are known

    assert bool(judge(found)) is is_wrong


def test_the_words_say_what_was_found_and_what_is_known() -> None:
    found = [list(row) for row in COUNTS]
    found[1] = [29, 300, 10, 29]

    assert judge(found) == ["recording 1, class 1: 300 spikes, known are 406 +- 81"]


@pytest.mark.parametrize("found", [[], [[1, 2, 3, 4]], [[1, 2, 3]] * 4])
def test_an_answer_of_another_shape_is_wrong(found: list[list[int]]) -> None:
    assert judge(found) != []


def test_the_recordings_are_written_again_when_the_cache_was_deleted(tmp_path: Path) -> None:
    path = known_answer.write_recordings(tmp_path / "cache")
    path.unlink()

    again = known_answer.write_recordings(tmp_path / "cache")

    assert again == path
    assert path.is_file()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
