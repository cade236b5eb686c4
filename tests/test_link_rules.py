"""Every rule between cores: at the limit it is silent, one step above it alone speaks."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm_server.chip import CHIPS, Chip
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.rules.fan_in import fan_in
from speckfarm_server.rules.link import LINK_RULES
from speckfarm_server.rules.tables import FARM_RULES, RULES, apply_farm_rules, apply_rules
from tests.configurations import configuration, core

SPECK2F, SPECK2B = CHIPS["speck2f"], CHIPS["speck2b"]
HUGE = 1 << 62


def reasons(made: Configuration, chip: Chip = SPECK2F) -> list[str]:
    return [finding.reason for finding in apply_rules(made, chip)]


def _pair(*to: Destination, source: int = 4, **target: Any) -> Configuration:
    """A core with a 4 x 8 x 8 output that feeds core 3, which takes `target`."""
    first = core(source, input_shape=(1, 8, 8), destinations=to or (Destination(core=3),))
    return configuration(first, core(**{"core": 3, "input_shape": (source, 8, 8), **target}))


LINKS: list[tuple[str, Configuration, Configuration]] = [
    ("DESTINATION_OUT_OF_RANGE", _pair(), _pair(Destination(core=9), Destination(core=3))),
    (
        "DESTINATION_OUT_OF_RANGE",
        _pair(),
        _pair(Destination(core=9, enable=False), Destination(core=3)),
    ),
    (
        "DESTINATION_OUT_OF_RANGE",
        _pair(Destination(core=3), Destination(core=12)),
        _pair(Destination(core=3), Destination(core=13)),
    ),
    (
        "POOLING_UNSUPPORTED",
        _pair(Destination(core=3, pooling=4), input_shape=(4, 2, 2)),
        _pair(Destination(core=3, pooling=8), input_shape=(4, 1, 1)),
    ),
    (
        "POOLING_UNSUPPORTED",
        _pair(Destination(core=3), Destination(core=3, pooling=1, enable=False)),
        _pair(Destination(core=3), Destination(core=3, pooling=0, enable=False)),
    ),
    (
        "TOO_MANY_DESTINATIONS",
        _pair(Destination(core=3), Destination(core=4, enable=False)),
        _pair(Destination(core=3), *[Destination(core=4, enable=False)] * 2),
    ),
    (
        "FEATURE_SHIFT_OUT_OF_RANGE",
        _pair(Destination(core=3), Destination(core=4, feature_shift=1023, enable=False)),
        _pair(Destination(core=3), Destination(core=4, feature_shift=1024, enable=False)),
    ),
    (
        "LINK_SIZE_MISMATCH",
        _pair(Destination(core=3, pooling=2), input_shape=(4, 4, 4)),
        _pair(Destination(core=3, pooling=2), input_shape=(4, 4, 5)),
    ),
    (
        "FAN_IN_COUNT",
        _pair(input_shape=(4, 8, 8)),
        _pair(input_shape=(5, 8, 8)),
    ),
]


@pytest.mark.parametrize(("reason", "legal", "illegal"), LINKS)
def test_link_rule_speaks_one_step_above_its_limit(
    reason: str, legal: Configuration, illegal: Configuration
) -> None:
    assert reasons(legal) == []
    assert reasons(illegal) == [reason]


def test_the_readout_is_a_destination_only_where_a_chip_has_one() -> None:
    made = _pair(Destination(core=3), Destination(core=12))

    assert reasons(made, CHIPS["speck2e"]) == []
    assert reasons(made, SPECK2B) == ["DESTINATION_OUT_OF_RANGE"]


def _sources(*ranges: tuple[int, int], takes: int = 8) -> Configuration:
    """Two or more cores that each feed a range of input features of core 8."""
    cores = [
        core(features, core=number, destinations=(Destination(core=8, feature_shift=shift),))
        for number, (shift, features) in enumerate(ranges)
    ]
    return configuration(*cores, core(core=8, input_shape=(takes, 1, 1)))


@pytest.mark.parametrize("chip", CHIPS.values())
@pytest.mark.parametrize(
    ("reason", "made"),
    [
        ("FAN_IN_START", _sources((1, 4), (5, 4))),
        ("FAN_IN_GAP", _sources((0, 4), (5, 4))),
        ("FAN_IN_COUNT", _sources((0, 4), (4, 3))),
    ],
)
def test_features_of_two_sources_must_touch(reason: str, made: Configuration, chip: Chip) -> None:
    assert reasons(_sources((0, 4), (4, 4)), chip) == []
    assert reasons(_sources((4, 4), (0, 4)), chip) == []
    assert reasons(made, chip) == [reason]


def test_two_sources_may_share_features_only_where_the_chip_adds() -> None:
    addition = _sources((0, 8), (0, 8))

    assert reasons(addition) == []
    assert reasons(addition, SPECK2B) == ["FAN_IN_OVERLAP", "FAN_IN_COUNT"]


def test_shared_features_count_once_where_the_chip_adds_and_twice_elsewhere() -> None:
    part = _sources((0, 8), (2, 4))
    vendors_sum = _sources((0, 5), (2, 3))

    assert reasons(part) == []
    assert reasons(part, SPECK2B) == ["FAN_IN_OVERLAP", "FAN_IN_COUNT"]
    assert reasons(vendors_sum) == ["FAN_IN_COUNT"]
    assert reasons(vendors_sum, SPECK2B) == ["FAN_IN_OVERLAP"]


def test_a_gap_is_between_neighbours_where_the_chip_cannot_add() -> None:
    covered = _sources((0, 8), (1, 1), (4, 1))

    assert reasons(covered) == []
    assert "FAN_IN_GAP" in reasons(covered, SPECK2B)


def test_one_source_may_feed_a_target_twice_with_different_shifts() -> None:
    twice = (Destination(core=3), Destination(core=3, feature_shift=4))

    assert reasons(_pair(*twice, input_shape=(8, 8, 8))) == []


@pytest.mark.parametrize("chip", CHIPS.values())
def test_shifted_features_end_at_1023(chip: Chip) -> None:
    at = _sources((0, 1020), (1020, 4), takes=1024)
    above = _sources((0, 1021), (1021, 4), takes=1024)

    assert reasons(at, chip) == []
    assert reasons(above, chip) == ["FAN_IN_COUNT", "FAN_IN_TOP"]


@given(st.permutations([(0, 3), (3, 1), (4, 2), (6, 2)]))
def test_order_of_sources_does_not_matter(ranges: list[tuple[int, int]]) -> None:
    assert reasons(_sources(*ranges)) == reasons(_sources(*ranges), SPECK2B) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=7))
def test_where_sources_do_not_overlap_every_chip_says_the_same(
    ranges: list[tuple[int, int]],
) -> None:
    made = _sources(*ranges)
    found = reasons(made, SPECK2B)

    taken = [feature for shift, count in ranges for feature in range(shift, shift + count)]
    assert ("FAN_IN_OVERLAP" in found) == (len(taken) > len(set(taken)))
    if "FAN_IN_OVERLAP" not in found:
        assert reasons(made) == found
        assert (found == []) == (sorted(taken) == list(range(8)))


def test_a_core_that_runs_nothing_takes_one_pixel_of_one_feature() -> None:
    fitting = configuration(core(destinations=(Destination(core=5),)))
    larger = configuration(core(2, input_shape=(1, 2, 2), destinations=(Destination(core=5),)))

    assert reasons(fitting, SPECK2B) == []
    assert reasons(larger, SPECK2B) == ["LINK_SIZE_MISMATCH", "FAN_IN_COUNT"]
    (size, count) = apply_rules(larger, SPECK2B)
    assert "core 5, which runs no layer, takes 1 x 1" in size.message
    assert (size.layer, count.layer) == (0, None)


def test_a_slot_that_pools_by_0_feeds_nobody() -> None:
    made = _pair(Destination(core=3, pooling=0), input_shape=(4, 8, 8))

    assert reasons(made) == ["POOLING_UNSUPPORTED"]
    assert list(fan_in(made, SPECK2F)) == []


def test_recorded_events_are_a_source_except_for_the_validator_of_speck2b() -> None:
    ways = (Destination(core=2), Destination(core=3))
    first = core(
        2, core=2, input_shape=(2, 1, 1), destinations=(Destination(core=3, feature_shift=2),)
    )
    made = configuration(first, core(core=3, input_shape=(4, 1, 1)), inputs=ways)

    assert reasons(made) == []
    assert reasons(made, SPECK2B) == ["FAN_IN_START", "FAN_IN_COUNT"]


def test_camera_events_are_a_source_from_feature_0_on() -> None:
    shifted = core(2, core=2, destinations=(Destination(core=3, feature_shift=2),))
    made = configuration(shifted, core(core=3, input_shape=(4, 1, 1)))
    camera = DvsConfiguration(cut=(0, 0), destinations=(Destination(core=3),))

    for chip in CHIPS.values():
        assert reasons(replace(made, dvs=camera), chip) == []
        merged = replace(made, dvs=replace(camera, merge=True))
        assert reasons(merged, chip) == ["FAN_IN_GAP", "FAN_IN_COUNT"]


def test_merged_camera_events_without_a_polarity_are_no_source() -> None:
    merged = DvsConfiguration(cut=(0, 0), merge=True, destinations=(Destination(core=2),))
    made = configuration(core(input_shape=(3, 1, 1)), dvs=merged, inputs=())
    dark = replace(merged, on_channel=False, off_channel=False)

    assert reasons(made, SPECK2B) == ["FAN_IN_COUNT"]
    assert reasons(replace(made, dvs=dark), SPECK2B) == []
    assert reasons(replace(made, dvs=replace(dark, merge=False)), SPECK2B) == ["FAN_IN_COUNT"]


@pytest.mark.parametrize("chip", CHIPS.values())
@pytest.mark.parametrize("value", [HUGE, -HUGE, 0, -1])
@pytest.mark.parametrize(
    "change",
    [
        lambda v: {"stride": (v, v)},
        lambda v: {"padding": (v, v)},
        lambda v: {"kernel_size": v},
        lambda v: {"core": v},
        lambda v: {"threshold_high": v, "threshold_low": -v},
        lambda v: {"decimator": v},
        lambda v: {"exit_pooling": v},
        lambda v: {"input_shape": (v, v, v)},
        lambda v: {"output_shape": (v, v, v)},
        lambda v: {"destinations": (Destination(core=v, pooling=v, feature_shift=v),)},
        lambda v: {"destinations": (Destination(core=2, pooling=v, feature_shift=v),)},
    ],
)
def test_hostile_values_are_findings_not_crashes(value: int, change: Any, chip: Chip) -> None:
    made = configuration(replace(core(), **change(value)))

    found = [*apply_rules(made, chip), *apply_farm_rules(made, chip)]

    assert all(finding.reason in {*RULES, *FARM_RULES} for finding in found)


def test_every_rule_between_cores_is_made_to_speak_here() -> None:
    tested = {reason for reason, *_ in LINKS}
    tested |= {"FAN_IN_START", "FAN_IN_GAP", "FAN_IN_OVERLAP", "FAN_IN_TOP"}

    assert tested == set(LINK_RULES)
