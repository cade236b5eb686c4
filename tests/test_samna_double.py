"""The double of samna keeps to the documentation, and its chip is the twin."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.boards.samna.names import (
    CONFIGURATION,
    LIBRARY,
    names_missing,
    names_of,
    resolve,
)
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.twin.twin import Twin
from tests import samna_rig
from tests.double_world import World
from tests.reference_twin import Event
from tests.samna_rig import ONE, Library, Rig, Seen, as_held, expected, pulses, ticks_us
from tests.twin_builders import chip, chips, core, graphs, pack_events, recordings

pytestmark = pytest.mark.system  # real time, which says nothing of the Python version

library, world, opened = samna_rig.library, samna_rig.world, samna_rig.opened  # fixtures

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
    nodes = [rig.model.get_source_node(), f"{name.capitalize()}OutputEventTypeFilter", rig.sink]
    passing = filters.sequential(nodes)[1]
    passing.set_desired_type(f"{name}::event::Spike")
    owners = {
        "board": rig.board, "model": rig.model, "stop watch": rig.watch,
        "io module": rig.board.get_io_module(), "power monitor": monitor,
        "type filter": passing, "measurement": power.get_events()[0],
    }  # fmt: skip

    assert names_missing(library.samna) == []
    for each in table.values():
        if each.owner not in (LIBRARY, CONFIGURATION):
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
    rig: Rig,
    events: list[Event],
    cores: Sequence[int],
    *,
    cuts: Sequence[int] = (),
    reads: Sequence[int] = (),
    ticks: tuple[int, int] | None = None,
) -> Seen:
    """Write pieces at their times at the latest, read at other times, and switch the slow clock.

    It is switched on before anything is written for that time: input that is held back makes the
    double compute ahead, and what is switched later takes effect after that.
    """
    moments: list[tuple[int, Callable[[], object]]] = []
    for t_us, is_on in zip(ticks or (), (True, False), strict=False):
        moments.append((t_us, partial(rig.slow_clock, is_on=is_on)))
    for first, stop in zip([0, *cuts], [*cuts, len(events)], strict=True):
        if first < stop:
            piece = rig.spikes(events[first:stop], *cores)
            ahead_us = 0 if ticks and events[first].t_us == ticks[0] else 1
            moments.append((events[first].t_us - ahead_us, partial(rig.source.write, piece)))
    found: Seen = []
    moments += [(t_us, lambda: None) for t_us in reads]
    for t_us, happens in sorted(moments, key=itemgetter(0)):
        rig.at_us(t_us)
        happens()
        found += rig.seen()
    rig.later(60e6)
    return found + rig.seen()


@settings(deadline=None, max_examples=60)
@given(
    wanted=st.booleans().flatmap(lambda leak: chips(leak=leak) | graphs(leak=leak)),
    data=st.data(),
)
def test_a_recording_comes_out_as_the_twin_has_it_whoever_looks_when(
    library: Library, wanted: Configuration, data: st.DataObject
) -> None:
    if wanted.slow_clock_hz is not None:
        wanted = replace(wanted, slow_clock_hz=float(round(wanted.slow_clock_hz)))
    held = as_held(library, wanted)
    drawn = data.draw(recordings(held.input_shape))
    first_us = drawn[0].t_us if drawn else 0
    events = [each._replace(t_us=each.t_us - first_us + 100) for each in drawn]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=3)))
    reads = data.draw(st.lists(st.integers(0, 7000), max_size=6))
    library.world.plug()
    rig = Rig(library)
    rig.load(wanted)

    ticks = ticks_us(held, events) if events and held.slow_clock_hz is not None else None
    cores = [way.core for way in held.inputs]

    found = play(rig, events, cores, cuts=cuts, reads=reads, ticks=ticks)

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


def test_what_enters_two_cores_enters_them_as_in_the_twin_though_one_is_full(
    opened: Callable[..., Rig],
) -> None:
    slow = core(np.full((9, 1, 3, 3), 20), (8, 8), core=3, threshold_high=60)
    fast = core([[[[100]]]], (8, 8), core=5, layer=1)
    wanted = chip(slow, fast, inputs=(Destination(core=3), Destination(core=5)))
    events = [Event(100 + n // 20, 0, n % 8, n // 3 % 8) for n in range(400)]
    rig = opened()
    rig.load(wanted)

    found = rig.all_in(*rig.spikes(events, 3, 5))

    assert Twin(wanted).run(pack_events(events))["t_ns"].max() > 250_000
    assert found == expected(wanted, events)


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


def test_a_graph_that_nobody_keeps_stops(opened: Callable[..., Rig]) -> None:
    rig = opened()
    rig.load(chip(ONE))
    event = rig.spikes(pulses(0), 3)
    assert len(rig.all_in(*event)) == 1

    del rig.graph
    gc.collect()

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


STATE = np.arange(3 * 3 * 7, dtype=np.int16).reshape(3, 3, 7)
WIDE = replace(core(np.zeros((3, 1, 1, 1)), (3, 7), core=2), initial_state=STATE)


def _read_all(rig: Rig) -> Any:
    """By the addresses of the vendor's translation, `speck.md` 4.1: 2, 3, 2 bits."""
    wanted = [(f, y, x) for f in range(3) for y in range(3) for x in range(7)]
    rig.source.write([
        rig.event("ReadNeuronValue", layer=2, address=y << 5 | x << 2 | f) for f, y, x in wanted
    ])
    values = rig.sink.get_events()
    assert [each.address for each in values] == [y << 5 | x << 2 | f for f, y, x in wanted]
    return np.array([each.neuron_state for each in values]).reshape(3, 3, 7)


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
    address = 2 << 5 | 6 << 2 | 1

    rig.source.write([
        rig.event("WriteNeuronValue", layer=2, address=address, neuron_state=-77),
        rig.event("WriteNeuronValue", layer=2, address=3, neuron_state=5),  # between neurons
        rig.event("WriteNeuronValue", layer=8, address=0, neuron_state=5),  # an idle core
    ])

    wanted = STATE.copy()
    wanted[1, 2, 6] = -77
    assert np.array_equal(_read_all(rig), wanted)


def test_a_soft_reset_leaves_a_chip_that_does_nothing(opened: Callable[..., Rig]) -> None:
    rig = opened()
    rig.load(chip(ONE))
    rig.source.write(rig.spikes(pulses(500_000), 3))

    rig.board.reset_board_soft(True)

    assert rig.all_in(*rig.spikes(pulses(0), 3)) == []


def test_the_world_notes_what_was_done(opened: Callable[..., Rig], world: World) -> None:
    rig = opened()

    rig.board.reset_board_soft(True)
    rig.load(replace(chip(ONE), slow_clock_hz=100.0))
    rig.slow_clock(is_on=True)
    rig.source.write(rig.spikes(pulses(0, 1), 3))
    rig.library.samna.device.close_device(rig.board)

    assert world.log() == [
        "open", "reset_board_soft", "set_slow_clk_rate 100", "apply", "stop_watch.start",
        "stop_watch.reset", "set_slow_clk True", "write 2", "close",
    ]  # fmt: skip
