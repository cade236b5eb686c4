"""The readout layer in a check: who is heard, what it needs, and how a file says it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from speckfarm_server.check import check
from speckfarm_server.chip import CHIPS
from speckfarm_server.configuration import Configuration, Destination
from speckfarm_server.errors import Severity
from speckfarm_server.settings import Settings
from speckfarm_server.vendor.read import read_vendor_json
from speckfarm_server.vendor.readout import ReadoutConfiguration, readout_of
from speckfarm_server.vendor.write import write_vendor_json
from tests.networks import conv, linear, network, pooling
from tests.reports import found, only, report

USED: dict[str, Any] = {"slow_clock_hz": 100.0, "readout_threshold": 5}


def spread(classes: int) -> Any:
    weights = np.zeros((4 * (classes - 1) + 1, 1, 1, 1), np.float32)
    weights[::4] = 0.5
    return weights


def test_the_exit_layer_feeds_the_readout_layer_that_settings_turn_on() -> None:
    made = report(network((1, 1, 1), conv(9, 1, weights=spread(3))), **USED, readout_average=16)

    assert made.configuration is not None
    assert made.configuration.cores[-1].destinations == (Destination(core=12),)
    told = readout_of(made.configuration, CHIPS["speck2f"])
    assert told == ReadoutConfiguration(threshold=5, average=16)
    assert found(made, Severity.WARNING) == []
    assert "READOUT_CHANNELS" not in [each.reason for each in made.findings]


@pytest.mark.parametrize("average", [1, 16, 32])
def test_a_file_carries_the_readout_layer_and_gives_it_back(average: int) -> None:
    made = report(
        network((1, 1, 1), conv(9, 1, weights=spread(3))), **USED, readout_average=average
    ).configuration
    assert made is not None

    back = read_vendor_json(write_vendor_json(made)).configuration

    told = ReadoutConfiguration(threshold=5, average=average)
    assert (readout_of(back, CHIPS["speck2f"]), back.vendor) == (told, made.vendor)
    assert back.cores[-1].destinations == made.cores[-1].destinations


def test_the_readout_layer_needs_the_slow_clock() -> None:
    made = report(network((1, 1, 1), conv(9, 1, weights=spread(3))), readout_threshold=5)

    assert only(made, "READOUT_NEEDS_SLOW_CLOCK").severity is Severity.ERROR
    assert not made.deployable


def test_a_chip_without_a_readout_that_cores_can_name_refuses_the_setting() -> None:
    made = check(network((1, 1, 1), linear(3)), CHIPS["speck2b"], Settings(**USED))

    assert only(made, "READOUT_NOT_ON_CHIP").metadata["chip"] == "speck2b"
    assert not made.deployable


def test_features_that_the_readout_layer_does_not_hear_are_a_warning() -> None:
    made = report(network((1, 1, 1), linear(6)), **USED)

    warning = only(made, "READOUT_UNHEARD")
    assert (warning.severity, warning.layer) == (Severity.WARNING, 0)
    assert "hears feature 0 as class 1, feature 4 as class 2, but not 1, 2, 3, 5" in warning.message
    assert warning.metadata == {"heard": "0, 4", "unheard": "4"}
    assert made.deployable


def test_the_host_pooling_after_the_exit_layer_is_the_chips_on_the_way_to_the_readout() -> None:
    plan = replace(conv(9, 1, weights=spread(3)), poolings=(pooling(4),))

    made = report(network((1, 4, 4), plan), **USED)

    assert made.configuration is not None
    assert made.configuration.cores[-1].destinations == (Destination(core=12, pooling=4),)
    assert "TWIN_REFUSES" not in [each.reason for each in made.findings]


def test_a_map_on_its_way_to_the_readout_is_refused_by_simulated_boards_only() -> None:
    made = report(network((1, 4, 4), conv(9, 1, weights=spread(3))), **USED)

    warning = only(made, "TWIN_REFUSES")
    assert warning.severity is Severity.WARNING
    assert "4 x 4" in warning.message
    assert made.deployable


def with_average(configuration: Configuration, average: int) -> ReadoutConfiguration | None:
    bits = {"low_pass_filter_disable": average == 1, "low_pass_filter32_not16": average == 32}
    vendor = {**configuration.vendor, **{f"readout.{key}": int(v) for key, v in bits.items()}}
    return readout_of(replace(configuration, vendor=vendor), CHIPS["speck2f"])


def test_a_file_that_disables_the_low_pass_filter_averages_over_one_tick() -> None:
    made = report(network((1, 1, 1), conv(1, 1, weights=0.5)), **USED).configuration
    assert made is not None

    found = [with_average(made, average) for average in (1, 16, 32)]

    assert [each and each.average for each in found] == [1, 16, 32]
