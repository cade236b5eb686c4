"""A devkit driven through samna, on a double of samna: what it gives, and every documented failure.

The double is made from the vendor's documentation; nothing here says what hardware does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from speckfarm.events import TIME_SHIFT
from speckfarm_server.boards.samna.board import SamnaBoard, open_samna_board
from speckfarm_server.boards.simulated import SimulatedBoard
from speckfarm_server.job_result import Ending
from tests.double_world import World, options
from tests.hidden_board import steady, two_layers
from tests.samna_cases import CONFIGURATION, PACKED, camera_network, everything, from_twin, same
from tests.twin_builders import chip, core

pytestmark = pytest.mark.system  # real time, which says nothing of the Python version


@pytest.fixture
def board(world: World) -> Iterator[SamnaBoard]:
    opened = open_samna_board(options(world))
    yield opened
    opened._lock.close()


def test_a_recording_gives_what_the_twin_gives(board: SamnaBoard) -> None:
    board.configure(CONFIGURATION)

    found = everything(board)

    expected = from_twin()
    assert len(expected.t_us) > 100
    assert same(found, expected)
    assert board.report().ending is Ending.QUIET


def test_times_are_those_of_the_recording_wherever_it_begins(board: SamnaBoard) -> None:
    board.configure(CONFIGURATION)
    late = PACKED + (np.uint64(3_000_000) << np.uint64(TIME_SHIFT))

    found = everything(board, late)

    assert same(found, from_twin(packed=late))


def test_recordings_follow_each_other_from_the_same_state(board: SamnaBoard) -> None:
    board.configure(CONFIGURATION)

    first = everything(board)
    board.reset_state()
    second = everything(board)

    assert same(second, first)


def test_kept_state_goes_on_in_the_next_recording(board: SamnaBoard) -> None:
    board.configure(CONFIGURATION)
    twin = SimulatedBoard()
    twin.configure(CONFIGURATION)

    everything(board), everything(twin)

    assert same(everything(board), everything(twin))


def test_camera_events_enter_through_the_camera_layer(board: SamnaBoard) -> None:
    configuration = camera_network()

    board.configure(configuration)

    assert same(everything(board), from_twin(configuration))


def test_neurons_begin_in_their_initial_state_on_maps_that_are_not_square(
    board: SamnaBoard,
) -> None:
    rng = np.random.default_rng(2)
    only = core(
        rng.integers(-40, 100, (3, 1, 3, 3)), (16, 5), core=4, padding=(1, 1),
        threshold_high=300, threshold_low=-300,
    )  # fmt: skip
    states = rng.integers(0, 300, only.output_shape).astype(np.int16)
    configuration = chip(replace(only, initial_state=states))
    packed = steady(60, 20_000)
    inside = packed[(packed & np.uint64(127)) < 5]

    board.configure(configuration)
    found = everything(board, inside)
    board.reset_state()

    assert same(found, from_twin(configuration, inside))
    assert same(everything(board, inside), found)


def test_the_slow_clock_runs_only_while_a_recording_does(board: SamnaBoard, world: World) -> None:
    leaky = replace(two_layers(), slow_clock_hz=1000.0)

    board.configure(leaky)
    everything(board)

    clock = [line for line in world.log() if line.startswith(("set_slow_clk ", "stop_watch.s"))]
    assert clock[-4:] == [
        "stop_watch.start", "set_slow_clk True", "set_slow_clk False", "stop_watch.stop",
    ]  # fmt: skip


def test_leaks_tick_from_the_first_event_to_the_last(board: SamnaBoard) -> None:
    """As far as the host can time it: with a bias of a tenth of the threshold, within a spike."""
    only = core(np.zeros((1, 1, 1, 1)), (1, 1), core=4, threshold_high=100, leak_enable=True)
    leaky = replace(chip(replace(only, biases=np.array([10], np.int16))), slow_clock_hz=200.0)
    half_a_second = np.array([0, 500_000], np.uint64) << np.uint64(TIME_SHIFT)

    board.configure(leaky)
    found = everything(board, half_a_second)

    assert len(from_twin(leaky, half_a_second).t_us) == 10
    assert 9 <= len(found.t_us) <= 11
    assert board.report().ending is Ending.QUIET


def test_power_is_averaged_over_the_run(world: World) -> None:
    watts = [0.001, 0.002, 0.003, 0.004, 0.005]
    world.behave(power_w=watts)
    board = open_samna_board(options(world))
    board.configure(CONFIGURATION)

    everything(board)

    rails = board.report().power
    board.close()
    assert [rail.rail for rail in rails][:3] == ["VDD_IO", "VDD_RAM", "VDD_LOGIC"]
    assert [rail.mean_w for rail in rails] == pytest.approx(
        [0.001, 0.002, 0.003, 0.004, 0.005], rel=0.2
    )
    assert min(rail.samples for rail in rails) >= 5


def test_what_layers_did_is_known_where_they_are_monitored(board: SamnaBoard) -> None:
    board.configure(two_layers())

    found = everything(board)

    first, second = board.report().activity
    assert (first.input_spikes, first.output_spikes) == (len(PACKED), None)
    assert (second.input_spikes, second.output_spikes) == (None, len(found.t_us))


def test_a_devkit_says_which_one_it_is(world: World) -> None:
    world.replug(serial="A17", logic_version=3)

    board = open_samna_board(options(world, first_event="sacrifice"))

    device = board.device
    board.close()
    assert (device.type, device.usb_path, device.serial) == ("Speck2fDevKit", "2-1.3", "A17")
    assert (device.logic_version, device.usb_address) == (3, 10)
    assert (device.samna, device.first_event) == ("0.48.6", "sacrifice")


def test_a_speck2e_is_driven_under_its_own_names(world: World) -> None:
    world.replug(type="Speck2eDevKit")
    configuration = replace(CONFIGURATION, chip="speck2e")

    board = open_samna_board(options(world, chip="speck2e"))
    board.configure(configuration)
    found = everything(board)

    board.close()
    assert same(found, from_twin(configuration))
