"""What boards do wrong, and who may hold one, as the double of samna has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from speckfarm_server.configuration import Destination, DvsConfiguration
from tests import samna_rig
from tests.double_world import World
from tests.reference_twin import Event
from tests.samna_rig import ONE, Library, Rig, pulses
from tests.twin_builders import chip, core

pytestmark = pytest.mark.system  # real time, which says nothing of the Python version

library, world, opened = samna_rig.library, samna_rig.world, samna_rig.opened  # fixtures

# Who holds a board.

OPEN = """
import sys, samna
board = samna.device.open_device(samna.device.get_all_devices()[0])
print("open", flush=True)
sys.stdin.read()
"""


def _process(world: World, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | world.env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def test_one_process_holds_a_board_until_it_dies(library: Library, world: World) -> None:
    world.plug()
    info = library.samna.device.get_all_devices()[0]
    with _process(world, OPEN) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"

        with pytest.raises(RuntimeError):
            library.samna.device.open_device(info)
        other.kill()
        other.wait()

    assert library.samna.device.open_device(info) is library.samna.device.open_device(info)


def test_a_closed_handle_is_invalid(opened: Callable[..., Rig]) -> None:
    rig = opened()

    rig.library.samna.device.close_device(rig.board)

    for call in (rig.board.get_model, rig.watch.start, lambda: rig.apply(chip(ONE))):
        with pytest.raises(RuntimeError):
            call()
    again = Rig(rig.library)
    again.load(chip(ONE))
    assert len(again.all_in(*again.spikes(pulses(0), 3))) == 1


def test_an_unplugged_board_is_gone_and_another_comes_at_a_new_address(
    opened: Callable[..., Rig], world: World
) -> None:
    rig = opened()
    rig.load(chip(ONE))
    [before] = rig.library.samna.device.get_all_devices()

    world.replug(serial="7")

    write_one = partial(rig.source.write, rig.spikes(pulses(0), 3))
    for call in (rig.board.get_model, rig.watch.start, write_one):
        with pytest.raises(RuntimeError):
            call()
    assert rig.sink.get_events() == []
    [after] = rig.library.samna.device.get_all_devices()
    assert (before.usb_device_address, after.usb_device_address) == (9, 10)
    assert after.serial_number == "7"
    assert (world.sysfs / "2-1.3" / "devnum").read_text() == "10\n"
    assert [each.name for each in (world.nodes / "002").iterdir()] == ["010"]


# What boards do wrong.


@pytest.mark.parametrize("behaviour", ["no_permission", "open_elsewhere"])
def test_a_board_may_not_be_opened(
    opened: Callable[..., Rig], world: World, behaviour: str
) -> None:
    with pytest.raises(RuntimeError, match="Unable to open"):
        opened(**{behaviour: {"times": 1}})

    assert world.log() == ["open"]


def test_a_configuration_may_fail_once(opened: Callable[..., Rig], library: Library) -> None:
    rig = opened(fail_configure={"times": 1})

    with pytest.raises(RuntimeError, match="time-out error"):
        rig.apply(chip(ONE))
    rig.load(chip(ONE))

    assert len(rig.all_in(*rig.spikes(pulses(0), 3))) == 1


def test_a_configuration_may_be_lost_in_silence(opened: Callable[..., Rig], world: World) -> None:
    rig = opened(configure_lost=True)
    rig.load(chip(ONE))
    lost = rig.all_in(*rig.spikes(pulses(0), 3))

    world.behave(configure_lost=None)
    rig.load(chip(ONE))

    assert (lost, len(rig.all_in(*rig.spikes(pulses(0), 3)))) == ([], 1)


DRIVE = """
import samna
from speckfarm_server.boards.samna.configuration import write
from speckfarm_server.boards.samna.names import CHIP_NAMES
from tests.configurations import configuration, core

board = samna.device.open_device(samna.device.get_all_devices()[NUMBER])
made = samna.speck2f.configuration.SpeckConfiguration()
write(configuration(core()), made, CHIP_NAMES["speck2f"])
model = board.get_model()
model.apply_configuration(made)
source = samna.BasicSourceNode_speck2f_event_input_event()
sink = samna.BasicSinkNode_speck2f_event_output_event()
graph = samna.graph.EventFilterGraph()
graph.sequential([source, model.get_sink_node()])
graph.sequential([model.get_source_node(), sink])
graph.start()
source.write([samna.speck2f.event.Spike()])
sink.get_events()
"""


def test_a_process_hangs_or_dies_in_the_step_that_is_asked_for(world: World) -> None:
    steps = ("open", "configure", "write", "read")
    ways = [f"{way} {step}" for way in ("crash", "hang") for step in steps]
    notes = []
    for number, way in enumerate(ways):
        name, step = way.split()
        world.plug(f"1-{number}", bus=1, address=number)
        world.behave(f"1-{number}", **{name: {"value": step, "times": 1}})
        os.mkfifo(world.folder / f"1-{number}.log")  # so that notes can be waited for
        notes.append((world.folder / f"1-{number}.log").open("r+b", buffering=0))

    processes = [_process(world, DRIVE.replace("NUMBER", str(n))) for n in range(len(ways))]

    for way, process, lines in zip(ways, processes, notes, strict=True):
        with process, lines:
            while lines.readline() != f"{way}\n".encode():
                pass
            if way.startswith("hang"):
                assert process.poll() is None
                process.kill()
            assert process.wait() == (-9 if way.startswith("hang") else -11)


def test_what_happens_once_happens_to_one_process(world: World) -> None:
    world.plug(crash={"value": "read", "times": 1})

    ends = []
    for _ in range(2):
        with _process(world, DRIVE.replace("NUMBER", "0")) as process:
            ends.append(process.wait())

    assert ends == [-11, 0]


def test_a_dead_handle_takes_all_in_silence(opened: Callable[..., Rig]) -> None:
    rig = opened(dead_handle=True)

    rig.load(chip(ONE))
    rig.source.write([rig.event("ReadNeuronValue", layer=3)])

    assert rig.all_in(*rig.spikes(pulses(0), 3)) == []
    assert rig.sink.get_events() == []


def test_a_broken_handle_fails_at_every_call(opened: Callable[..., Rig], world: World) -> None:
    rig = opened()
    world.behave(broken_handle=True)

    for call in (rig.watch.reset, rig.board.reset_board_soft, rig.sink.get_events):
        with pytest.raises(RuntimeError):
            call()


def test_events_without_stamps_are_mixed_in(opened: Callable[..., Rig]) -> None:
    rig = opened(untimed=True)
    rig.load(chip(ONE))

    rig.source.write(rig.spikes(pulses(0), 3))
    rig.later(1000)
    readout, spike = rig.sink.get_events()

    assert not hasattr(readout, "timestamp")
    assert not hasattr(readout, "layer")
    assert spike.layer == 3


def test_with_the_clock_ahead_all_comes_in_a_burst(opened: Callable[..., Rig]) -> None:
    rig = opened(clock_ahead_us=1_000_000)
    rig.load(chip(ONE))

    found = rig.all_in(*rig.spikes(pulses(*range(0, 9000, 1000)), 3))

    assert 1_000_000 <= found[0][0] <= found[-1][0] < 1_000_010


def test_the_first_event_is_lost_after_a_configuration_and_a_written_neuron(
    opened: Callable[..., Rig],
) -> None:
    rig = opened(lost_first_event=True)
    rig.load(chip(ONE))
    first = rig.all_in(*rig.spikes(pulses(0, 10, 20), 3))
    rig.source.write([rig.event("WriteNeuronValue", layer=3)])

    counts = [len(rig.all_in(*rig.spikes(pulses(0, 0), 3))) for _ in range(2)]

    assert ([each[0] for each in first], counts) == ([10, 20], [1, 2])


def test_stamps_may_be_zero_while_events_pass_in_their_time(
    opened: Callable[..., Rig], world: World
) -> None:
    rig = opened(zero_stamps=True)
    rig.load(chip(ONE))
    rig.source.write(rig.spikes(pulses(5000, 9000), 3))

    counts = []
    for t_us in (4999, 5010, 9010):
        rig.at_us(t_us)
        found = rig.seen()
        counts.append(len(found))
        assert {each[0] for each in found} <= {0}
    world.behave(zero_stamps=None)
    [(stamp_us, *_)] = rig.all_in(*rig.spikes(pulses(10_000), 3))

    assert (counts, stamp_us) == ([0, 1, 1], 10_000)


def test_a_dead_watch_holds_what_has_a_stamp_for_ever(
    opened: Callable[..., Rig], world: World
) -> None:
    rig = opened(watch_dead=True)
    rig.load(chip(ONE))

    found = rig.all_in(*rig.spikes(pulses(0, 1), 3))
    rig.later(3600e6)
    later = rig.seen()
    world.behave(watch_dead=None)
    rig.watch.start()

    assert (found, later) == ([(0, 3, 0, 1, 2)], [])
    assert [stamp_us for stamp_us, *_ in rig.all_in()] == [1]


LOOKING = DvsConfiguration(
    merge=False, pooling=(1, 1), origin=(2, 2), cut=(5, 5), destinations=(Destination(core=3),)
)


@pytest.mark.parametrize("passes", [True, False])
@pytest.mark.parametrize("is_connected", [True, False])
def test_the_live_camera_enters_where_the_configuration_lets_it(
    opened: Callable[..., Rig], passes: bool, is_connected: bool
) -> None:
    inside = core(np.full((1, 2, 1, 1), 100), (4, 4), core=3)
    dvs = LOOKING if is_connected else replace(LOOKING, destinations=())
    inputs = () if is_connected else (Destination(core=3),)
    rig = opened(camera_live=True)
    rig.load(replace(chip(inside, inputs=inputs), dvs=replace(dvs, pass_sensor_events=passes)))

    rig.at_us(64_000)

    # Event n, at 250 n us, is of row and column n // 2; the crop leaves 2 to 5, as 0 to 3.
    live = [(250 * n, 3, 0, n // 2 - 2, n // 2 - 2) for n in range(4, 12)]
    assert rig.seen() == (live if passes and is_connected else [])


def test_the_live_camera_mixes_with_a_recording_in_order_of_time(
    opened: Callable[..., Rig], world: World
) -> None:
    inside = core(np.full((1, 2, 1, 1), 100), (4, 4), core=3)
    rig = opened()
    rig.load(replace(chip(inside, inputs=()), dvs=replace(LOOKING, pass_sensor_events=True)))
    recorded = [rig.event("DvsEvent", x=5, y=2, timestamp=t_us) for t_us in (1100, 1600, 70_000)]
    rig.source.write(recorded)

    rig.at_us(500)
    quiet = rig.seen()
    world.behave(camera_live=True)
    rig.at_us(1700)
    mixed = [each[0] for each in rig.seen()]
    world.behave(camera_live=None)
    rig.later(1e6)

    assert (quiet, mixed) == ([], [1000, 1100, 1250, 1500, 1600])
    assert [each[0] for each in rig.seen()] == [70_000]


def test_other_assumptions_give_other_output(opened: Callable[..., Rig], world: World) -> None:
    rig = opened(assumptions={"fires": ">"})
    rig.load(chip(ONE))
    silent = rig.all_in(*rig.spikes(pulses(0), 3))

    world.behave(assumptions=None)
    rig.load(chip(ONE))

    assert (silent, len(rig.all_in(*rig.spikes(pulses(0), 3)))) == ([], 1)


def test_stamps_are_off_and_spread_alike_in_each_recording(opened: Callable[..., Rig]) -> None:
    rig = opened(offset_us=500, jitter_us=20)
    rig.load(chip(ONE))
    times = range(0, 10_000, 100)

    first = rig.all_in(*rig.spikes(pulses(*times), 3))
    rig.begin()
    second = rig.all_in(*rig.spikes(pulses(*times), 3))

    shifts = [each[0] - t_us for each, t_us in zip(first, times, strict=True)]
    assert (min(shifts), max(shifts), first) == (500, 520, second)


def test_a_board_may_never_be_quiet(opened: Callable[..., Rig]) -> None:
    rig = opened(never_quiet=True)
    rig.load(chip(ONE))
    rig.later(10_000)
    before = rig.seen()

    rig.source.write(rig.spikes(pulses(10_000), 3))
    counts = []
    for _ in range(3):
        rig.later(100_000)
        counts.append(len(rig.seen()))

    assert before == []
    assert min(counts) >= 99


def test_cores_0_and_1_do_not_repeat_themselves(opened: Callable[..., Rig]) -> None:
    rng = np.random.default_rng(0)
    wanted = chip(core(rng.integers(-50, 100, (8, 1, 3, 3)), (6, 6), core=0))
    events = [Event(n, 0, *map(int, rng.integers(0, 6, 2))) for n in range(100, 300)]
    rig = opened(core01_shuffle=True)
    rig.load(wanted)

    runs = []
    for _ in range(2):
        rig.begin()
        runs.append(rig.all_in(*rig.spikes(events, 0)))
        rig.load(wanted)

    assert runs[0] != runs[1]
    assert {len(each) > 100 for each in runs} == {True}


@pytest.mark.parametrize("is_zero", [False, True])
def test_power_comes_at_the_asked_rate(opened: Callable[..., Rig], is_zero: bool) -> None:
    rig = opened(power_w=[1e-3, 2e-3, 3e-3, 4e-3, 5e-3], zero_power_stamps=is_zero)
    monitor = rig.board.get_power_monitor()
    graph = rig.library.samna.graph.EventFilterGraph()
    sink = rig.library.samna.BasicSinkNode_unifirm_modules_events_measurement()
    graph.sequential([monitor.get_source_node(), sink])
    graph.start()
    rig.watch.start()

    monitor.start_auto_power_measurement(50)
    rig.later(1e6 + 1000)
    monitor.stop_auto_power_measurement()
    rig.later(1e6)

    found = sink.get_events()
    assert [each.channel for each in found] == [*range(5)] * 50
    means = [np.mean([each.value for each in found[rail::5]]) for rail in range(5)]
    assert means == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3, 5e-3], rel=0.01)
    stamps = [each.timestamp for each in found[::5]]
    apart_us = np.diff(stamps)
    assert np.abs(apart_us - (0 if is_zero else 20_000)).max() <= 1
    assert is_zero == (stamps[0] == 0)
    with pytest.raises(RuntimeError):
        monitor.start_auto_power_measurement(101)


def test_chatter_goes_past_python_to_stdout(
    opened: Callable[..., Rig], capfd: pytest.CaptureFixture[str]
) -> None:
    rig = opened(chatter=True)

    rig.watch.start()

    assert "stop_watch.start" in capfd.readouterr().out
