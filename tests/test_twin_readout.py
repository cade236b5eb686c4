"""The readout layer against a plain one, and every number that its documents give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm_server.chip import CHIPS
from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.readout import NO_PINS, Readout
from speckfarm_server.vendor.readout import (
    ReadoutConfiguration,
    class_of,
    readout_of,
    vendor_values,
)
from tests.twin_builders import chip, core, to

SPIKE = [("t_ns", "<i8"), ("feature", "<u2"), ("y", "u1"), ("x", "u1")]
MS = 1_000_000
Spike = tuple[int, int, int, int]


def with_readout(
    *, average: int = 1, threshold: int = 0, features: int = 61, pooling: int = 1, shift: int = 0
) -> Configuration:
    """1 kHz; a map of 5 x 5 before the pooling."""
    exit_core = core(
        np.ones((features, 1, 1, 1)), (5, 5) if pooling > 1 else (1, 1),
        destinations=to(12, pooling=pooling, feature_shift=shift),
    )  # fmt: skip
    told = vendor_values(ReadoutConfiguration(average=average, threshold=threshold))
    return chip(exit_core, slow_clock_hz=1000.0, vendor=told)


def spikes_of(rows: list[Spike]) -> Any:
    return np.array(rows, SPIKE)


def whole(
    configuration: Configuration, rows: list[Spike], *, origin_ns: int = 0, last_ns: int = 0
) -> list[tuple[int, int]]:
    """All pins of a recording that is not cut."""
    readout = Readout(configuration)
    readout.start_recording(origin_ns)
    pins = readout.push(spikes_of(rows), rows[-1][0] if rows else origin_ns).tolist()
    return pins + readout.finish(last_ns).tolist()


@dataclass(frozen=True, kw_only=True)
class Case:
    configuration: Configuration
    average: int
    threshold: int
    rows: list[Spike]
    origin_ns: int
    last_ns: int
    cuts: list[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    average = draw(st.sampled_from([1, 16, 32]))
    threshold = draw(st.sampled_from([0, 0, 1, 2, 5]))
    pooling, shift = draw(st.sampled_from([(1, 0), (4, 0), (1, 4), (1, 2)]))
    origin_ns = draw(st.sampled_from([0, 123_456]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.sampled_from([0, 1, 40, 400]))
    gap_ns = draw(st.sampled_from([0, 10_000, MS // 2, 40 * MS]))
    t_ns = origin_ns + np.cumsum(random.integers(0, gap_ns + 1, count))
    if draw(st.booleans()):
        t_ns = origin_ns + (t_ns - origin_ns) // MS * MS  # on ticks
    places = random.integers(0, 5 if pooling > 1 else 1, (2, count))
    features = random.choice([0, 4, 4, 8, 56, 57, 60, 3], count)
    rows = [tuple(map(int, row)) for row in zip(t_ns, features, *places, strict=True)]
    return Case(
        configuration=with_readout(
            average=average, threshold=threshold, pooling=pooling, shift=shift
        ),
        average=average,
        threshold=threshold,
        rows=rows,
        origin_ns=origin_ns,
        last_ns=origin_ns + draw(st.sampled_from([0, MS, 5 * MS + 1])),
        cuts=sorted(draw(st.lists(st.integers(0, count), max_size=4))),
    )


def plain(case: Case) -> list[tuple[int, int]]:
    """The layer, tick by tick and spike by spike."""
    way = case.configuration.cores[0].destinations[0]
    end_ns = max([case.last_ns, *[row[0] for row in case.rows]])
    waiting, counters, pins = list(case.rows), [[0] * 15 for _ in range(case.average)], []
    now_ns = case.origin_ns
    while now_ns <= end_ns:
        now_ns += MS
        counter = [0] * 15
        while waiting and waiting[0][0] < now_ns:
            _, feature, y, x = waiting.pop(0)
            channel = feature + way.feature_shift
            if channel % 4 == 0 and channel < 60 and y < way.pooling and x < way.pooling:
                counter[channel // 4] += 1
        counters = [*counters[1:], counter]
        averages = [sum(each[n] for each in counters) // case.average for n in range(15)]
        if max(averages) > case.threshold:
            pins.append((now_ns, averages.index(max(averages)) + 1))
    return pins


@given(cases())
def test_pins_are_those_of_a_plain_readout(case: Case) -> None:
    found = whole(case.configuration, case.rows, origin_ns=case.origin_ns, last_ns=case.last_ns)

    assert found == plain(case)


@given(cases())
def test_a_recording_may_be_cut_anywhere(case: Case) -> None:
    readout = Readout(case.configuration)
    readout.start_recording(case.origin_ns)
    pins = [NO_PINS]
    for first, stop in zip([0, *case.cuts], [*case.cuts, len(case.rows)], strict=True):
        until_ns = case.rows[stop - 1][0] if stop else case.origin_ns
        pins.append(readout.push(spikes_of(case.rows[first:stop]), until_ns))
    pins.append(readout.finish(case.last_ns))

    assert np.concatenate(pins).tolist() == whole(
        case.configuration, case.rows, origin_ns=case.origin_ns, last_ns=case.last_ns
    )


def test_a_class_is_told_only_above_the_threshold() -> None:
    rows = [(n, 4, 0, 0) for n in range(3)]

    at, above = (whole(with_readout(threshold=threshold), rows) for threshold in (3, 2))

    assert (at, above) == ([], [(MS, 2)])


def test_channels_reach_classes_as_the_erratum_says() -> None:
    assert [class_of(4 * n) for n in range(16)] == [*range(1, 16), None]
    assert {class_of(channel) for channel in range(60) if channel % 4} == {None}
    assert whole(with_readout(), [(0, 56, 0, 0)]) == [(MS, 15)]
    assert whole(with_readout(), [(0, 60, 0, 0), (1, 1, 0, 0)]) == []


def test_equal_averages_go_to_the_lowest_class() -> None:
    assert whole(with_readout(), [(0, 8, 0, 0), (1, 4, 0, 0)]) == [(MS, 2)]


@pytest.mark.parametrize("average", [16, 32])
def test_an_average_is_over_the_last_ticks_and_rounded_down(average: int) -> None:
    rows = [(n, 0, 0, 0) for n in range(2 * average - 1)]
    last_ns = 100 * MS

    pins = whole(with_readout(average=average), rows, last_ns=last_ns)

    assert pins == [(n * MS, 1) for n in range(1, average + 1)]


def test_a_counter_holds_16_bits() -> None:
    rows = [(n, 0, 0, 0) for n in range(70_000)] + [(70_000 + n, 4, 0, 0) for n in range(66_000)]

    full = whole(with_readout(threshold=65_534), rows)
    over = whole(with_readout(threshold=65_535), rows)

    assert (full, over) == ([(MS, 1)], [])  # both classes have 65,535


def test_a_tick_goes_before_a_spike_of_its_time() -> None:
    assert whole(with_readout(), [(MS, 0, 0, 0)]) == [(2 * MS, 1)]


def test_hours_of_silence_cost_nothing() -> None:
    hour_ns = 3600 * 1_000_000_000

    pins = whole(with_readout(average=32), [(0, 0, 0, 0)] * 32 + [(10 * hour_ns, 4, 0, 0)] * 32)

    assert [pin for pin in pins if pin[1] == 2] == [(10 * hour_ns + MS, 2)]
    assert len(pins) == 33


def test_a_recording_starts_with_empty_counters() -> None:
    readout = Readout(with_readout(average=16))
    readout.push(spikes_of([(0, 0, 0, 0)] * 16), 0)
    readout.start_recording(0)

    assert readout.finish(0).tolist() == []


def test_what_is_not_reported_is_no_readout() -> None:
    made = with_readout()
    chip_ = CHIPS["speck2f"]

    assert readout_of(made, chip_) == ReadoutConfiguration(average=1, threshold=0)
    for left_out in ("readout.enable", "readout.readout_pin_monitor_enable"):
        rest = {key: value for key, value in made.vendor.items() if key != left_out}
        assert readout_of(replace(made, vendor=rest), chip_) is None
    assert (
        readout_of(replace(made, cores=(replace(made.cores[0], destinations=()),)), chip_) is None
    )
    assert readout_of(replace(made, chip="speck2b"), CHIPS["speck2b"]) is None


def test_without_a_slow_clock_there_is_no_readout() -> None:
    with pytest.raises(ValueError, match="a slow clock"):
        Readout(replace(with_readout(), slow_clock_hz=None))


def test_a_readout_hears_a_monitored_layer_only() -> None:
    made = with_readout()
    unheard = replace(made.cores[0], monitor_enable=False)

    with pytest.raises(ValueError, match="layer 0 feeds the readout, which hears what monitors"):
        Readout(replace(made, cores=(unheard,)))
