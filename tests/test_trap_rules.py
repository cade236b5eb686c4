"""Traps that other tools leave are named from the integers alone."""

import numpy as np
import pytest

from speckfarm_server.build import build_configuration, integers_of
from speckfarm_server.check import check
from speckfarm_server.chip import CHIPS
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.rules.traps import find_traps
from speckfarm_server.settings import Settings
from tests.configurations import configuration, core
from tests.networks import conv, network
from tests.sinabs_cases import cases
from tests.sinabs_networks import NetworkPlan, to_network

SPECK2F = CHIPS["speck2f"]
CHOSEN = {plan.name: plan for plan in cases()}


def made_of(plan: NetworkPlan) -> Configuration:
    """The configuration of a recorded network: the same integers as sinabs makes."""
    made = to_network(plan)
    integers = integers_of(made, Settings())
    cores = range(len(made.layers))
    return build_configuration(made, integers, cores, chip=SPECK2F, settings=Settings())


def weights(*values: int) -> np.ndarray:
    return np.array(values, np.int8).reshape(len(values), 1, 1, 1)


def trapped(*values: int, threshold_high: int = 1, threshold_low: int = -32768) -> list[Finding]:
    layer = core(
        len(values),
        weights=weights(*values),
        threshold_high=threshold_high,
        threshold_low=threshold_low,
    )
    return find_traps(configuration(core(), layer))


def test_all_zero_weights_under_the_whole_word_name_min_v_mem_none() -> None:
    (found,) = trapped(0, 0)

    assert (found.reason, found.severity, found.layer) == ("SINABS_CLIP_TRAP", Severity.WARNING, 1)
    assert found.message == (
        "All weights are 0, so nothing makes this layer fire, and threshold_low is -32768 beside a "
        "threshold of 1: sinabs makes this of min_v_mem = None, which it takes for -32768 and "
        "scales together with the weights. Set min_v_mem = -spike_threshold and convert again."
    )


def test_weights_that_have_lost_most_of_their_bits_are_named_too() -> None:
    (found,) = trapped(1, -2)

    assert found.message.startswith("No weight is beyond 2, so 5 of 256 values are left, and")
    assert found.metadata == {
        "largest_weight": "2",
        "values_left": "5",
        "values": "256",
        "threshold_high": "1",
        "threshold_low": "-32768",
    }


@pytest.mark.parametrize(
    ("values", "changes", "found"),
    [
        ((0, 0), {"threshold_low": -32767}, 0),
        ((0, 0), {"threshold_high": 127}, 1),
        ((0, 0), {"threshold_high": 128}, 0),
        ((0, -15), {}, 1),
        ((0, 16), {}, 0),
        ((0, -128), {}, 0),
    ],
)
def test_the_trap_ends_at_each_of_its_limits(values, changes, found: int) -> None:
    assert len(trapped(*values, **changes)) == found


@pytest.mark.parametrize("name", ["min_v_mem None", "min_v_mem None, linear"])
def test_what_sinabs_makes_of_min_v_mem_none_is_found(name: str) -> None:
    assert [found.reason for found in find_traps(made_of(CHOSEN[name]))] == ["SINABS_CLIP_TRAP"]


@pytest.mark.parametrize(
    "name", ["weights bind", "lower clip binds", "all weights zero", "min_v_mem 0"]
)
def test_other_recorded_layers_are_not_found(name: str) -> None:
    assert find_traps(made_of(CHOSEN[name])) == []


def test_in_a_network_the_check_names_the_lower_clip_as_the_cause() -> None:
    silent = network((2, 8, 8), conv(4, 3, trained_lower_clip=-32768.0))

    report = check(silent, SPECK2F, Settings())

    (found,) = [found for found in report.findings if found.reason == "LAYER_SILENT"]
    assert "lower_clip = -32768 takes the whole 16-bit range" in found.message
    assert found.message.endswith("Use a lower_clip closer to -1.")
