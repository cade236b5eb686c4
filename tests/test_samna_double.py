"""The double of samna keeps to the documentation, and its chip is the twin."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.boards.samna.configuration import read, write
from speckfarm_server.boards.samna.names import (
    CHIP_NAMES,
    CONFIGURATION,
    LIBRARY,
    TEXT,
    names_missing,
    names_of,
    resolve,
)
from speckfarm_server.check import check
from speckfarm_server.chip import CHIPS
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.settings import Settings
from speckfarm_server.twin.twin import Twin
from tests.double_world import World
from tests.networks import digits_network
from tests.reference_twin import Event
from tests.twin_builders import chip, chips, core, graphs, pack_events, recordings

DOUBLE = Path(__file__).parent / "samna_double"
ONE = core([[[[100]]]], (4, 4), core=3)  # each spike in gives one out
Seen = list[tuple[int, int, int, int, int]]  # stamp, core, feature, y, x


class Time:
    """The time of all boards, as far as a test has let it pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def to_us(self, us: float) -> None:
        """So long after the beginning."""
        self.now_s = max(self.now_s, 1000.0 + us / 1e6)


@dataclass
class Library:
    """The double as a process has it, its world, and its time."""

    samna: Any
    world: World
    time: Time


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with pytest.MonkeyPatch.context() as patched:
        world = World(tmp_path_factory.mktemp("world"))
        for name, value in world.env.items():
            patched.setenv(name, value)
        patched.syspath_prepend(str(DOUBLE))
        import samna
        from samna import clock

        time = Time()
        patched.setattr(clock, "now_s", time)
        yield Library(samna, world, time)
        for name in [each for each in sys.modules if each.partition(".")[0] == "samna"]:
            del sys.modules[name]


@pytest.fixture
def world(library: Library) -> Iterator[World]:
    library.time.now_s = 1000.0
    yield library.world
    for board, _ in list(sys.modules["samna.device"]._opened.values()):
        library.samna.device.close_device(board)
    for usb_path in [each.name for each in library.world.sysfs.iterdir()]:
        library.world.unplug(usb_path)
        (library.world.folder / f"{usb_path}.log").unlink(missing_ok=True)


class Rig:
    """An opened board with its graphs, driven as the documentation says."""

    def __init__(self, library: Library, name: str = "speck2f") -> None:
        self.library, self.name = library, name
        self.chip = getattr(library.samna, name)
        self.board = library.samna.device.open_device(library.samna.device.get_all_devices()[0])
        self.model, self.watch = self.board.get_model(), self.board.get_stop_watch()
        names = names_of(name)
        self.source = resolve(library.samna, names["source"])()
        self.sink = resolve(library.samna, names["sink"])()
        self.graph = library.samna.graph.EventFilterGraph()
        self.graph.sequential([self.source, self.model.get_sink_node()])
        self.graph.sequential([self.model.get_source_node(), self.sink])
        self.graph.start()

    def apply(self, configuration: Configuration) -> None:
        """Write a configuration; it has not taken effect."""
        made = self.chip.configuration.SpeckConfiguration()
        write(configuration, made, CHIP_NAMES[self.name])
        assert self.chip.validate_configuration(made) == (True, "")
        self.model.apply_configuration(made)

    def load(self, configuration: Configuration) -> None:
        """Write a configuration, wait, and start the watch at 0."""
        if configuration.slow_clock_hz is not None:
            self.board.get_io_module().set_slow_clk_rate(configuration.slow_clock_hz)
            self.board.get_io_module().set_slow_clk(True)
        self.apply(configuration)
        self.later(30_000)
        self.begin()

    def begin(self) -> None:
        """A recording begins."""
        self.watch.start()
        self.watch.reset()
        self._zero_s = self.library.time.now_s

    def later(self, us: float) -> None:
        """Let time pass."""
        self.library.time.now_s += us / 1e6

    def at_us(self, us: float) -> None:
        """Let the watch show so much, and a little more."""
        self.library.time.now_s = max(self.library.time.now_s, self._zero_s + (us + 0.1) / 1e6)

    def event(self, kind: str, **fields: int) -> Any:
        """An event of the chip."""
        made = getattr(self.chip.event, kind)()
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    def spikes(self, events: Sequence[Event], *cores: int) -> list[Any]:
        """Each event as one spike to each core."""
        return [
            self.event("Spike", layer=core, feature=e.feature, x=e.x, y=e.y, timestamp=e.t_us)
            for e in events
            for core in cores
        ]

    def seen(self) -> Seen:
        """Spikes that have come out."""
        return [
            (e.timestamp, e.layer, e.feature, e.y, e.x)
            for e in self.sink.get_events()
            if isinstance(e, self.chip.event.Spike)
        ]

    def all_in(self, *events: Any) -> Seen:
        """Spikes that come of these within a second."""
        self.source.write(list(events))
        self.later(1e6)
        return self.seen()


@pytest.fixture
def opened(library: Library, world: World) -> Callable[..., Rig]:
    def open_rig(**behaviour: Any) -> Rig:
        world.plug(**behaviour)
        return Rig(library)

    return open_rig


def expected(configuration: Configuration, events: Sequence[Event]) -> Seen:
    """What the twin gives, as a board says it; without what the pins of the readout tell."""
    cores = {each.layer: each.core for each in configuration.cores}
    return [
        (t_ns // 1000, cores[layer], feature, y, x)
        for t_ns, _, layer, feature, y, x in Twin(configuration)
        .run(pack_events(list(events)))
        .tolist()
        if layer in cores
    ]


def as_held(library: Library, wanted: Configuration) -> Configuration:
    """A configuration as it is read from the object that it is written into."""
    made = library.samna.speck2f.configuration.SpeckConfiguration()
    write(wanted, made, CHIP_NAMES["speck2f"])
    return replace(read(made, CHIP_NAMES["speck2f"]), slow_clock_hz=wanted.slow_clock_hz)


def pulses(*times_us: int) -> list[Event]:
    return [Event(t_us, 0, 1, 2) for t_us in times_us]


# The library and its parts.


@pytest.mark.parametrize("name", ["speck2f", "speck2e"])
def test_every_name_of_the_table_is_there(library: Library, world: World, name: str) -> None:
    world.plug(type=f"{name.capitalize()}DevKit")
    rig = Rig(library, name)
    table = names_of(name)
    monitor = rig.board.get_power_monitor()
    power = resolve(library.samna, table["power.sink"])()
    graph = library.samna.graph.EventFilterGraph()
    graph.sequential([monitor.get_source_node(), power])
    graph.start()
    monitor.start_auto_power_measurement(100)
    rig.later(20_000)
    filters = library.samna.graph.EventFilterGraph()
    nodes = [rig.model.get_source_node(), table["type_filter"].path, rig.sink]
    passing = filters.sequential(nodes)[1]
    passing.set_desired_type(table["spike_type"].path)
    owners = {
        "board": rig.board, "model": rig.model, "stop watch": rig.watch,
        "io module": rig.board.get_io_module(), "power monitor": monitor,
        "type filter": passing, "measurement": power.get_events()[0],
    }  # fmt: skip

    assert names_missing(library.samna) == []
    for each in table.values():
        if each.owner not in (LIBRARY, TEXT, CONFIGURATION):
            assert hasattr(owners[each.owner], each.path), each.text


def test_fields_take_what_c_takes(library: Library) -> None:
    spike = library.samna.speck2f.event.Spike()

    for name, value in (("timestamp", 1 << 32), ("feature", 1 << 16), ("x", -1), ("layer", 0.5)):
        with pytest.raises(TypeError):
            setattr(spike, name, value)
    with pytest.raises(AttributeError):
        spike.channel = 1
    with pytest.raises(TypeError):
        library.samna.speck2f.event.Spike(1)
    spike.x = np.uint8(7)
    assert spike.x == 7


def test_an_event_of_another_chip_is_refused(opened: Callable[..., Rig], library: Library) -> None:
    rig = opened()

    with pytest.raises(TypeError):
        rig.source.write([library.samna.speck2e.event.Spike()])


# The chip.


def play(
    rig: Rig, events: list[Event], cores: Sequence[int], *, cuts: list[int], reads: list[int]
) -> Seen:
    """Write pieces at their times at the latest, and read at other times."""
    moments: list[tuple[int, int, list[Event]]] = []
    for first, stop in zip([0, *cuts], [*cuts, len(events)], strict=True):
        if first < stop:
            moments.append((events[first].t_us - 1, 0, events[first:stop]))
    found: Seen = []
    for t_us, _, piece in sorted([*moments, *((t_us, 1, []) for t_us in reads)], key=_moment):
        rig.at_us(t_us)
        if piece:
            rig.source.write(rig.spikes(piece, *cores))
        found += rig.seen()
    rig.later(60e6)
    return found + rig.seen()


def _moment(item: tuple[int, int, list[Event]]) -> tuple[int, int]:
    return item[:2]


@settings(deadline=None, max_examples=60)
@given(
    wanted=st.booleans().flatmap(lambda leak: chips(leak=leak) | graphs(leak=leak)),
    data=st.data(),
)
def test_a_recording_comes_out_as_the_twin_has_it_whoever_looks_when(
    library: Library, wanted: Configuration, data: st.DataObject
) -> None:
    held = as_held(library, wanted)
    drawn = data.draw(recordings(held.input_shape))
    first_us = drawn[0].t_us if drawn else 0
    events = [each._replace(t_us=each.t_us - first_us + 100) for each in drawn]
    # With leaks, what is not known of yet is no input: ticks end before.
    is_cut = wanted.slow_clock_hz is None
    places = st.lists(st.integers(0, len(events)), max_size=3 if is_cut else 0)
    cuts = sorted(data.draw(places))
    reads = data.draw(st.lists(st.integers(0, 7000), max_size=6))
    library.world.plug()
    rig = Rig(library)
    rig.load(wanted)

    found = play(rig, events, [way.core for way in held.inputs], cuts=cuts, reads=reads)

    library.samna.device.close_device(rig.board)
    library.world.unplug()
    assert found == sorted(found, key=lambda each: each[0])
    assert sorted(found) == sorted(expected(held, events))


def test_a_second_recording_begins_at_zero_and_keeps_neurons(opened: Callable[..., Rig]) -> None:
    half = chip(core([[[[60]]]], (4, 4), core=3))
    rig = opened()
    rig.load(half)
    assert rig.all_in(*rig.spikes(pulses(500), 3)) == []

    rig.begin()
    found = rig.all_in(*rig.spikes(pulses(500), 3))

    assert found == [(500, 3, 0, 1, 2)]


def test_spikes_enter_the_core_that_they_name(opened: Callable[..., Rig]) -> None:
    first = core([[[[100]]]], (4, 4), core=3, destinations=(Destination(core=5),))
    second = core([[[[0]]], [[[100]]]], (4, 4), core=5, layer=1)
    rig = opened()
    rig.load(chip(first, second))

    through = rig.all_in(*rig.spikes(pulses(100), 3))
    rig.begin()
    inside = rig.all_in(*rig.spikes(pulses(100), 5))
    rig.begin()
    nowhere = rig.all_in(*rig.spikes(pulses(100), 7))

    assert [each[1:3] for each in through] == [(3, 0), (5, 1)]
    assert [each[1:3] for each in inside] == [(5, 1)]
    assert nowhere == []


CAMERA = DvsConfiguration(
    merge=False, off_channel=False, pooling=(2, 1), origin=(1, 3), cut=(4, 6), mirror=(False, True),
    destinations=(Destination(core=3),),
)  # fmt: skip


def test_camera_events_pass_the_layer_and_its_monitor_shows_them(
    opened: Callable[..., Rig],
) -> None:
    inside = core(np.full((1, 2, 1, 1), 100), (4, 4), core=3)
    wanted = replace(
        chip(inside, inputs=()), dvs=replace(CAMERA, monitor_enable=True), input_shape=(2, 128, 128)
    )
    rng = np.random.default_rng(1)
    events = [Event(100 + 10 * n, *map(int, rng.integers(0, (2, 12, 9)))) for n in range(300)]
    rig = opened()
    rig.load(wanted)

    found = rig.all_in(*[
        rig.event("DvsEvent", p=e.feature, y=e.y, x=e.x, timestamp=e.t_us) for e in events
    ])

    through = expected(replace(wanted, dvs=CAMERA), events)
    assert [each for each in found if each[1] == 3] == through
    echoes = [(stamp, feature, y, x) for stamp, core_, feature, y, x in found if core_ == 13]
    assert [each[1:] for each in echoes] == [each[2:] for each in _with_feature(through, 1)]
    assert {each[0] for each in echoes} <= {e.t_us for e in events if e.feature == 1}


def _with_feature(found: Seen, feature: int) -> Seen:
    return [(stamp, core_, feature, y, x) for stamp, core_, _, y, x in found]


def test_pins_of_the_readout_tell_what_the_twin_tells(opened: Callable[..., Rig]) -> None:
    asked = Settings(slow_clock_hz=1000, readout_threshold=0)
    wanted = check(digits_network(), CHIPS["speck2f"], asked).configuration
    assert wanted is not None
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(5, 30_000, 3000)).tolist()
    events = [Event(t_us, *map(int, rng.integers(0, wanted.input_shape))) for t_us in times]
    rig = opened()
    rig.load(wanted)

    rig.source.write(rig.spikes(events, wanted.inputs[0].core))
    came = []
    for t_us in range(0, 100_000, 1500):
        rig.at_us(t_us)
        came += rig.sink.get_events()

    told = [(e.timestamp, e.index) for e in came if isinstance(e, rig.chip.event.ReadoutPinValue)]
    outputs = Twin(wanted).run(pack_events(events)).tolist()
    pins = [(t_ns // 1000, index) for t_ns, _, layer, index, *_ in outputs if layer == 12]
    assert len(pins) > 5
    assert told == pins


# Clocks and graphs.


def test_events_that_are_late_enter_at_once(opened: Callable[..., Rig]) -> None:
    rig = opened()
    rig.load(chip(ONE))
    rig.at_us(5000)

    found = rig.all_in(*rig.spikes(pulses(*range(0, 4000, 100)), 3))

    assert found == expected(chip(ONE), pulses(*[5000] * 40))


def test_an_event_is_held_until_its_time(opened: Callable[..., Rig]) -> None:
    rig = opened()
    rig.load(chip(ONE))
    rig.source.write(rig.spikes(pulses(100_000), 3))

    rig.at_us(99_999)
    before = rig.seen()
    rig.at_us(100_010)

    assert (before, rig.seen()) == ([], [(100_000, 3, 0, 1, 2)])


def test_without_the_watch_stamps_are_zero_and_stamped_input_is_held(
    opened: Callable[..., Rig],
) -> None:
    rig = opened()
    rig.apply(chip(ONE))
    rig.later(30_000)

    assert rig.all_in(*rig.spikes(pulses(0), 3)) == [(0, 3, 0, 1, 2)]
    assert rig.all_in(*rig.spikes(pulses(1), 3)) == []


def test_what_a_reset_of_the_watch_overtakes_comes_in_the_new_time(
    opened: Callable[..., Rig],
) -> None:
    slow = {"rate_factors": [1e-6] * 9}  # 33 ms for an operation
    rig = opened(assumptions=slow)
    rig.load(chip(ONE))
    rig.source.write(rig.spikes(pulses(0), 3))
    rig.at_us(20_000)

    rig.begin()
    rig.later(1e6)

    [(stamp_us, *_)] = rig.seen()
    assert 10_000 < stamp_us < 15_000


def test_nothing_flows_before_the_start_and_after_the_stop(opened: Callable[..., Rig]) -> None:
    rig = opened()
    rig.load(chip(ONE))
    rig.graph.stop()
    assert rig.all_in(*rig.spikes(pulses(0), 3)) == []

    rig.graph.start()
    flowing = rig.all_in(*rig.spikes(pulses(0), 3))
    with pytest.raises(RuntimeError, match="running"):
        rig.graph.sequential([rig.source, rig.model.get_sink_node()])

    assert len(flowing) == 1


@pytest.mark.parametrize("part", ["graph", "source"])
def test_what_nobody_keeps_stops(opened: Callable[..., Rig], part: str) -> None:
    rig = opened()
    rig.load(chip(ONE))
    source = rig.source if part == "graph" else None
    event = rig.spikes(pulses(0), 3)
    assert len(rig.all_in(*event)) == 1

    delattr(rig, part)
    gc.collect()
    rig.source = source or rig.library.samna.BasicSourceNode_speck2f_event_input_event()

    assert rig.all_in(*event) == []


def test_a_filter_lets_one_type_pass(opened: Callable[..., Rig]) -> None:
    rig = opened(dvs_noise=True)
    samna, graph = rig.library.samna, rig.library.samna.graph.EventFilterGraph()
    sink = samna.BasicSinkNode_speck2f_event_output_event()
    nodes = [rig.model.get_source_node(), "Speck2fOutputEventTypeFilter", sink]
    graph.sequential(nodes)[1].set_desired_type("speck2f::event::Spike")
    graph.start()
    rig.load(chip(ONE))

    rig.source.write(rig.spikes(pulses(0, 5000), 3))
    rig.later(10_000)

    assert [type(each).__name__ for each in sink.get_events()] == ["Spike"] * 2
    assert [type(each).__name__ for each in rig.sink.get_events()].count("DvsEvent") > 8


# Configurations and neurons.


def test_a_configuration_takes_effect_later(opened: Callable[..., Rig]) -> None:
    rig = opened()
    rig.load(chip(ONE))
    rig.library.world.behave(configure_ms=50)
    rig.apply(chip(replace(ONE, core=4)))

    rig.later(49_000)
    rig.source.write(rig.spikes(pulses(0), 3, 4))
    rig.later(500)
    former = rig.seen()
    rig.later(1000)
    later = rig.all_in(*rig.spikes(pulses(0), 3, 4))

    assert [each[1] for each in former] == [3]
    assert [each[1] for each in later] == [4]


STATE = np.arange(3 * 5 * 7, dtype=np.int16).reshape(3, 5, 7)
WIDE = replace(core(np.zeros((3, 1, 1, 1)), (5, 7), core=2), initial_state=STATE)


def _read_all(rig: Rig) -> Any:
    """By the addresses of the vendor's translation, `speck.md` 4.1: y, x and feature in 3, 3, 2."""
    wanted = [(f, y, x) for f in range(3) for y in range(5) for x in range(7)]
    rig.source.write([
        rig.event("ReadNeuronValue", layer=2, address=y << 5 | x << 2 | f) for f, y, x in wanted
    ])
    values = rig.sink.get_events()
    assert [each.address for each in values] == [y << 5 | x << 2 | f for f, y, x in wanted]
    return np.array([each.neuron_state for each in values]).reshape(3, 5, 7)


def test_neurons_hold_their_initial_state_once_the_configuration_is_there(
    opened: Callable[..., Rig],
) -> None:
    rig = opened()
    rig.apply(chip(WIDE))

    before = _read_all(rig)
    rig.later(30_000)

    assert not before.any()
    assert np.array_equal(_read_all(rig), STATE)


def test_a_neuron_that_is_written_holds_its_value(opened: Callable[..., Rig]) -> None:
    rig = opened()
    rig.load(chip(WIDE))
    address = 3 << 5 | 6 << 2 | 1

    rig.source.write([
        rig.event("WriteNeuronValue", layer=2, address=address, neuron_state=-77),
        rig.event("WriteNeuronValue", layer=2, address=3, neuron_state=5),  # between neurons
        rig.event("WriteNeuronValue", layer=8, address=0, neuron_state=5),  # an idle core
    ])

    wanted = STATE.copy()
    wanted[1, 3, 6] = -77
    assert np.array_equal(_read_all(rig), wanted)


def test_a_soft_reset_leaves_a_chip_that_does_nothing(opened: Callable[..., Rig]) -> None:
    rig = opened()
    rig.load(chip(ONE))
    rig.source.write(rig.spikes(pulses(500_000), 3))

    rig.board.reset_board_soft(True)

    assert rig.all_in(*rig.spikes(pulses(0), 3)) == []


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
    for number, way in enumerate(ways):
        name, step = way.split()
        world.plug(f"1-{number}", bus=1, address=number, **{name: {"value": step, "times": 1}})

    processes = [_process(world, DRIVE.replace("NUMBER", str(n))) for n in range(len(ways))]

    for number, (way, process) in enumerate(zip(ways, processes, strict=True)):
        with process:
            while way not in world.log(f"1-{number}"):
                assert process.poll() is None or way.startswith("crash")
            assert world.log(f"1-{number}")[-1] == way
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


def test_the_world_notes_what_was_done(opened: Callable[..., Rig], world: World) -> None:
    rig = opened()

    rig.board.reset_board_soft(True)
    rig.load(replace(chip(ONE), slow_clock_hz=100.0))
    rig.source.write(rig.spikes(pulses(0, 1), 3))
    rig.library.samna.device.close_device(rig.board)

    assert world.log() == [
        "open", "reset_board_soft", "set_slow_clk_rate 100", "set_slow_clk True", "apply",
        "stop_watch.start", "stop_watch.reset", "write 2", "close",
    ]  # fmt: skip
