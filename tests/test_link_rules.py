"""Every rule between cores: at the limit it is silent, one step above it alone speaks."""

from dataclasses import replace
from typing import Any

import pytest

from speckfarm_server.chip import CHIPS, Chip
from speckfarm_server.configuration import Configuration, Destination
from speckfarm_server.link_rules import LINK_RULES
from speckfarm_server.rules import RULES, apply_rules
from tests.configurations import configuration, core

SPECK2F = CHIPS["speck2f"]
HUGE = 1 << 62


def reasons(made: Configuration, chip: Chip = SPECK2F) -> list[str]:
    return [finding.reason for finding in apply_rules(made, chip)]


def _pair(*to: Destination, source: int = 4, **target: Any) -> Configuration:
    """A core with a 4 x 8 x 8 output that feeds core 3, which takes `target`."""
    first = core(source, input_shape=(1, 8, 8), destinations=to or (Destination(core=3),))
    return configuration(first, core(**{"core": 3, "input_shape": (source, 8, 8), **target}))


LINKS: list[tuple[str, Configuration, Configuration]] = [
    (
        "EXIT_POOLING_OUT_OF_RANGE",
        configuration(core(exit_pooling=1)),
        configuration(core(exit_pooling=0)),
    ),
    ("DESTINATION_OUT_OF_RANGE", _pair(), _pair(Destination(core=9), Destination(core=3))),
    (
        "DESTINATION_OUT_OF_RANGE",
        _pair(),
        _pair(Destination(core=9, enable=False), Destination(core=3)),
    ),
    (
        "DESTINATION_NOT_CONFIGURED",
        _pair(Destination(core=3), Destination(core=5, enable=False)),
        _pair(Destination(core=3), Destination(core=5)),
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
    (
        "CORE_USED_TWICE",
        configuration(core(core=2), core(core=3)),
        configuration(core(core=2), core(core=2)),
    ),
    (
        "INPUT_SHAPE_MISMATCH",
        configuration(core(), input_shape=(1, 1, 1)),
        configuration(core(), input_shape=(2, 1, 1)),
    ),
    (
        "SELF_LOOP",
        configuration(core(destinations=(Destination(core=2, enable=False),))),
        configuration(core(destinations=(Destination(core=2),))),
    ),
    (
        "RING",
        configuration(core(destinations=(Destination(core=3),)), core(core=3)),
        configuration(
            core(destinations=(Destination(core=3),)),
            core(core=3, destinations=(Destination(core=2),)),
        ),
    ),
]


@pytest.mark.parametrize(("reason", "legal", "illegal"), LINKS)
def test_link_rule_speaks_one_step_above_its_limit(
    reason: str, legal: Configuration, illegal: Configuration
) -> None:
    assert reasons(legal) == []
    assert reasons(illegal) == [reason]


def _sources(*ranges: tuple[int, int], takes: int = 8) -> Configuration:
    """Two or more cores that each feed a range of input features of core 8."""
    cores = [
        core(features, core=number, destinations=(Destination(core=8, feature_shift=shift),))
        for number, (shift, features) in enumerate(ranges)
    ]
    return configuration(*cores, core(core=8, input_shape=(takes, 1, 1)))


@pytest.mark.parametrize(
    ("reason", "made"),
    [
        ("FAN_IN_START", _sources((1, 4), (5, 4))),
        ("FAN_IN_GAP", _sources((0, 4), (5, 4))),
        ("FAN_IN_COUNT", _sources((0, 4), (4, 3))),
    ],
)
def test_features_of_two_sources_must_touch(reason: str, made: Configuration) -> None:
    assert reasons(_sources((0, 4), (4, 4))) == []
    assert reasons(_sources((4, 4), (0, 4))) == []
    assert reasons(made) == [reason]


def test_two_sources_may_share_features_only_where_the_chip_adds() -> None:
    addition = _sources((0, 8), (0, 8))

    assert reasons(addition) == []
    assert reasons(addition, CHIPS["speck2b"]) == ["FAN_IN_OVERLAP"]


def test_one_source_may_feed_a_target_twice_with_different_shifts() -> None:
    twice = (Destination(core=3), Destination(core=3, feature_shift=4))

    assert reasons(_pair(*twice, input_shape=(8, 8, 8))) == []


def test_shifted_features_end_at_1023() -> None:
    at = _sources((0, 1020), (1020, 4), takes=1024)
    above = _sources((0, 1021), (1021, 4), takes=1024)

    assert reasons(at) == []
    assert reasons(above) == ["FEATURE_SHIFT_OUT_OF_RANGE", "FAN_IN_COUNT"]


def test_a_ring_names_its_members_and_not_what_it_feeds() -> None:
    made = configuration(
        core(core=2, destinations=(Destination(core=3),)),
        core(core=3, destinations=(Destination(core=4), Destination(core=5))),
        core(core=4, destinations=(Destination(core=3),)),
        core(core=5, destinations=(Destination(core=6),)),
        core(core=6),
    )

    (found,) = [f for f in apply_rules(made, SPECK2F) if f.reason == "RING"]

    assert found.metadata["cores"] == "3, 4"


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
def test_hostile_values_are_findings_not_crashes(value: int, change: Any) -> None:
    made = configuration(replace(core(), **change(value)))

    found = apply_rules(made, SPECK2F)

    assert all(finding.reason in RULES for finding in found)


def test_every_rule_between_cores_is_made_to_speak_here() -> None:
    tested = {reason for reason, *_ in LINKS}
    tested |= {"FAN_IN_START", "FAN_IN_GAP", "FAN_IN_OVERLAP"}

    assert tested == set(LINK_RULES)
