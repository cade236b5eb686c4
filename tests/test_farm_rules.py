"""Every rule of the farm itself: both sides of its limit, and the chip's rules stay silent."""

from typing import Any

import numpy as np
import pytest

from speckfarm_server.chip import CHIPS
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.rules.farm import FARM_RULES
from speckfarm_server.rules.tables import RULES, apply_farm_rules, apply_rules
from tests.configurations import configuration, core

SPECK2F = CHIPS["speck2f"]
TO_2, TO_3 = Destination(core=2), Destination(core=3)


def _filtered(key: str, value: int, **dvs: Any) -> Configuration:
    camera = DvsConfiguration(**{"cut": (0, 0), "merge": True, "destinations": (TO_2,), **dvs})
    return configuration(core(), inputs=(), dvs=camera, vendor={key: value})


def _swapped(width: int) -> Configuration:
    camera = DvsConfiguration(cut=(3, width - 1), mirror_diagonal=True, destinations=(TO_2,))
    return configuration(core(input_shape=(2, 4, width)), inputs=(), dvs=camera)


CASES: list[tuple[str, Configuration, Configuration]] = [
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
        "DESTINATION_NOT_CONFIGURED",
        configuration(core(destinations=(Destination(core=5, enable=False),))),
        configuration(core(destinations=(Destination(core=5),))),
    ),
    (
        "DESTINATION_NOT_CONFIGURED",
        configuration(core(), inputs=(TO_2,)),
        configuration(core(), inputs=(TO_2, TO_3)),
    ),
    (
        "EXIT_POOLING_OUT_OF_RANGE",
        configuration(core(exit_pooling=1)),
        configuration(core(exit_pooling=0)),
    ),
    (
        "SELF_LOOP",
        configuration(core(destinations=(Destination(core=2, enable=False),))),
        configuration(core(destinations=(TO_2,)), inputs=()),
    ),
    (
        "RING",
        configuration(core(destinations=(TO_3,)), core(core=3)),
        configuration(core(destinations=(TO_3,)), core(core=3, destinations=(TO_2,)), inputs=()),
    ),
    (
        "KILL_BITS_UNSUPPORTED",
        configuration(core(weights_kill=np.zeros((1, 1, 1, 1), np.bool_))),
        configuration(core(weights_kill=np.ones((1, 1, 1, 1), np.bool_))),
    ),
    (
        "KILL_BITS_UNSUPPORTED",
        configuration(core(2, biases_kill=np.array([False, False]))),
        configuration(core(2, biases_kill=np.array([False, True]))),
    ),
    (
        "DVS_FILTER_UNSUPPORTED",
        _filtered("value0.dvs_filter.enable?", 0),
        _filtered("value0.dvs_filter.enable?", 1),
    ),
    (
        "DVS_FILTER_UNSUPPORTED",
        _filtered("value0.dvsFilter.filterBypass?", 1),
        _filtered("value0.dvsFilter.filterBypass?", 0),
    ),
    (
        "DVS_FILTER_UNSUPPORTED",
        _filtered("value0.dvs_filter.enable?", 1, destinations=()),
        _filtered("value0.dvs_filter.enable?", 1),
    ),
    ("DVS_SWAP_NOT_SQUARE", _swapped(4), _swapped(5)),
]


@pytest.mark.parametrize(("reason", "legal", "illegal"), CASES)
def test_farm_rule_speaks_where_the_chip_would_not(
    reason: str, legal: Configuration, illegal: Configuration
) -> None:
    assert apply_farm_rules(legal, SPECK2F) == []
    assert [finding.reason for finding in apply_farm_rules(illegal, SPECK2F)] == [reason]
    assert apply_rules(legal, SPECK2F) == apply_rules(illegal, SPECK2F) == []


def test_every_rule_of_the_farm_is_made_to_speak_here() -> None:
    assert {reason for reason, *_ in CASES} == set(FARM_RULES)


def test_a_reason_is_the_chips_or_the_farms() -> None:
    assert not set(RULES) & set(FARM_RULES)


def test_a_ring_names_its_members_and_not_what_it_feeds() -> None:
    made = configuration(
        core(core=2, destinations=(TO_3,)),
        core(core=3, destinations=(Destination(core=4), Destination(core=5))),
        core(core=4, destinations=(TO_3,)),
        core(core=5, destinations=(Destination(core=6),)),
        core(core=6),
    )

    (found,) = [f for f in apply_farm_rules(made, SPECK2F) if f.reason == "RING"]

    assert found.metadata["cores"] == "3, 4"


def test_kill_bits_are_counted_array_by_array() -> None:
    bits = np.array([True, True, False])
    made = configuration(core(3, biases_kill=bits, neurons_kill=bits.reshape(3, 1, 1)))

    found = apply_farm_rules(made, SPECK2F)

    assert [(f.metadata["array"], f.metadata["killed"]) for f in found] == [
        ("biases", "2"),
        ("neurons", "2"),
    ]


def test_camera_events_to_a_core_that_runs_nothing_are_refused() -> None:
    camera = DvsConfiguration(cut=(0, 0), merge=True, destinations=(TO_3,))

    found = apply_farm_rules(configuration(core(), inputs=(), dvs=camera), SPECK2F)

    assert [finding.reason for finding in found] == ["DESTINATION_NOT_CONFIGURED"]


def test_a_core_that_others_feed_too_need_not_take_as_many_features_as_recordings_bring() -> None:
    first = core(1, core=2, destinations=(Destination(core=3, feature_shift=1),))
    both = configuration(first, core(core=3, input_shape=(2, 1, 1)), inputs=(TO_2, TO_3))

    assert apply_farm_rules(both, SPECK2F) == apply_rules(both, SPECK2F) == []
