"""The slow clock of the double of samna: ticks come while it is on, as in the twin if it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from speckfarm_server.check import check
from speckfarm_server.chip import CHIPS
from speckfarm_server.settings import Settings
from speckfarm_server.twin.twin import Twin
from tests import samna_rig
from tests.networks import digits_network
from tests.reference_twin import Event
from tests.samna_rig import ONE, Rig, expected, pulses, ticks_us
from tests.twin_builders import chip, core, pack_events

pytestmark = pytest.mark.system  # real time, which says nothing of the Python version

library, world, opened = samna_rig.library, samna_rig.world, samna_rig.opened  # fixtures


def test_ticks_of_the_slow_clock_come_in_their_time(opened: Callable[..., Rig]) -> None:
    leaky = replace(ONE, biases=np.array([30], np.int16), leak_enable=True)
    wanted = replace(chip(leaky), slow_clock_hz=1000.0)
    events = pulses(100, 50_000)
    rig = opened()
    rig.load(wanted)

    rig.source.write(rig.spikes(events, 3))
    found = []
    for t_us in sorted([*range(0, 60_000, 500), *ticks_us(wanted, events)]):
        rig.at_us(t_us)
        if t_us in ticks_us(wanted, events):
            rig.slow_clock(is_on=t_us == events[0].t_us)
        found.append(rig.seen())

    assert [spike for each in found for spike in each] == expected(wanted, events)
    assert max(map(len, found)) <= 16
    assert sum(map(bool, found)) > 10


BIASED = replace(core([[[[0]]]], (1, 1), core=3), biases=np.array([30], np.int16), leak_enable=True)
LEAKY = replace(chip(BIASED), slow_clock_hz=1000.0)  # fires for 100: after 4 ticks, 7, and 10


def test_ticks_come_while_the_slow_clock_is_on_though_nothing_enters(
    opened: Callable[..., Rig],
) -> None:
    rig = opened()
    rig.load(LEAKY)

    seen = []
    for until_us, is_on in ((10_000, True), (20_500, False), (40_250, True), (50_000, False)):
        rig.at_us(until_us)
        seen.append([stamp for stamp, *_ in rig.seen()])
        rig.slow_clock(is_on=is_on)
    rig.later(1e6)

    assert seen == [[], [14_000, 17_000, 20_000], [], [44_250, 47_250]]
    assert rig.seen() == []


def test_ticks_go_on_after_the_last_event_and_begin_before_the_first(
    opened: Callable[..., Rig],
) -> None:
    leaky = replace(ONE, biases=np.array([5], np.int16), leak_enable=True)
    wanted = replace(chip(leaky), slow_clock_hz=1000.0)
    rig = opened()
    rig.load(wanted)
    rig.slow_clock(is_on=True)

    found = rig.all_in(*rig.spikes(pulses(15_500, 16_500), 3))

    stamps = [stamp for stamp, *_, y, x in found if (y, x) == (0, 0)]  # no event goes there
    assert stamps == list(range(20_000, 1_000_000, 20_000))  # each 20th tick of 5
    assert [stamp for stamp, *_, y, x in found if (y, x) == (1, 2)][:2] == [15_500, 16_500]
    assert {each[3:] for each in expected(wanted, pulses(15_500, 16_500))} == {(1, 2)}


def test_a_reset_of_the_watch_does_not_move_ticks(opened: Callable[..., Rig]) -> None:
    rig = opened()
    rig.load(LEAKY)
    rig.at_us(10_300)
    rig.slow_clock(is_on=True)

    rig.at_us(13_800)
    rig.begin()
    rig.at_us(4000)

    assert [stamp for stamp, *_ in rig.seen()] == [500, 3500]


def test_another_rate_counts_from_when_it_is_set(opened: Callable[..., Rig]) -> None:
    rig = opened()
    rig.load(LEAKY)
    rig.slow_clock(is_on=True)

    rig.at_us(2500)
    rig.board.get_io_module().set_slow_clk_rate(100)
    rig.at_us(40_000)

    assert [stamp for stamp, *_ in rig.seen()] == [22_500]


def test_rates_are_whole_numbers(opened: Callable[..., Rig]) -> None:
    rig = opened()
    slow, power = rig.board.get_io_module(), rig.board.get_power_monitor()

    for call in (slow.set_slow_clk_rate, power.start_auto_power_measurement):
        with pytest.raises(TypeError):
            call(50.0)
        call(np.int64(50))


def test_pins_of_the_readout_tell_what_the_twin_tells(opened: Callable[..., Rig]) -> None:
    asked = Settings(slow_clock_hz=1000, readout_threshold=0, readout_average=16)
    wanted = check(digits_network(), CHIPS["speck2f"], asked).configuration
    assert wanted is not None
    rng = np.random.default_rng(0)
    burst = np.sort(rng.integers(5, 30_000, 4000))
    times = [*burst.tolist(), *(burst + 100_000).tolist()]  # averages outlast the first burst
    events = [Event(t_us, *map(int, rng.integers(0, wanted.input_shape))) for t_us in times]
    rig = opened()
    rig.load(wanted)

    outputs = Twin(wanted).run(pack_events(events)).tolist()
    last_us = max(times[-1], *(t_ns // 1000 for t_ns, _, layer, *_ in outputs if layer != 12))
    switches = {times[0]: True, times[0] + ((last_us - times[0]) // 1000 + 1) * 1000: False}

    rig.source.write(rig.spikes(events, wanted.inputs[0].core))
    told = []
    for t_us in sorted([*range(0, 240_000, 1500), *switches]):
        rig.at_us(t_us)
        if t_us in switches:
            rig.slow_clock(is_on=switches[t_us])
        pins = [e for e in rig.sink.get_events() if isinstance(e, rig.chip.event.ReadoutPinValue)]
        assert all(t_us - 1500 <= each.timestamp <= t_us for each in pins)
        told += [(each.timestamp, each.index) for each in pins]

    wanted_pins = [(t_ns // 1000, index) for t_ns, _, layer, index, *_ in outputs if layer == 12]
    assert len(wanted_pins) > 5
    assert told == wanted_pins


def test_pins_of_the_readout_tell_nothing_until_the_slow_clock_is_on(
    opened: Callable[..., Rig],
) -> None:
    asked = Settings(slow_clock_hz=1000, readout_threshold=0, readout_average=1)
    wanted = check(digits_network(), CHIPS["speck2f"], asked).configuration
    assert wanted is not None
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(5, 30_000, 4000)).tolist()
    events = [Event(t_us, *map(int, rng.integers(0, wanted.input_shape))) for t_us in times]
    rig = opened()
    rig.load(wanted)
    rig.source.write(rig.spikes(events, wanted.inputs[0].core))

    told = []
    for until_us, is_on in ((400_000, True), (450_000, False)):
        rig.at_us(until_us)
        found = rig.sink.get_events()
        pins = [e for e in found if isinstance(e, rig.chip.event.ReadoutPinValue)]
        told.append([each.timestamp for each in pins])
        rig.slow_clock(is_on=is_on)

    assert told == [[], [401_000]]  # all that fired is one period; those behind it are empty
