"""Warnings and remarks: what runs, but probably not as its author expects."""

from typing import Any

import numpy as np
import pytest

from speckfarm_server.errors import Severity
from tests.networks import Plan, conv, linear, network
from tests.reports import found, only, report

ADVICE: list[tuple[str, Plan, dict[str, Any]]] = [
    ("WEIGHT_REACHES_THRESHOLD", conv(1, 1, weights=1.0), {}),
    ("WEIGHT_REACHES_THRESHOLD", conv(1, 1, weights=1.9), {}),
    ("WEIGHT_TWICE_THRESHOLD", conv(1, 1, weights=2.1), {}),
    ("THRESHOLD_ZERO", conv(1, 1, weights=1000.0), {"lower_clip": -1000.0}),
    ("LAYER_SILENT", conv(1, 1, weights=0.0), {}),
    ("LAYER_SILENT", conv(1, 1, weights=-0.5), {}),
    ("LAYER_SILENT", conv(1, 1, weights=0.4), {"lower_clip": -40_000.0}),
    ("LAYER_SILENT", conv(1, 1, weights=1e-6), {}),
    ("THRESHOLD_LOW_ZERO", conv(1, 1, weights=0.5), {"lower_clip": -0.001}),
    ("BIAS_IS_LEAK", conv(1, 1, weights=0.5, bias=0.1), {}),
    ("R_SCALES_WEIGHTS", conv(1, 1, r_range=(2.0, 2.0)), {"input_dt_us": 1000}),
    ("RESET_DIFFERS", conv(1, 1, trained_reset="zero"), {"reset": "subtract"}),
    ("RESET_DIFFERS", conv(1, 1, trained_reset="subtract"), {"layer_reset": {0: "zero"}}),
    ("LOWER_CLIP_DIFFERS", conv(1, 1, trained_lower_clip=-0.5), {"lower_clip": -1.0}),
]


@pytest.mark.parametrize(("reason", "plan", "settings"), ADVICE)
def test_what_runs_but_surprises_is_warned_of(
    reason: str, plan: Plan, settings: dict[str, Any]
) -> None:
    made = report(network((1, 2, 2), plan), **settings)

    assert reason in [reason_ for _, reason_ in found(made, Severity.WARNING)]
    assert made.deployable


@pytest.mark.parametrize(
    ("plan", "settings", "cause"),
    [
        (conv(1, 1, weights=0.0), {}, "all 0 in the file"),
        (conv(1, 1, weights=-0.5), {}, "No weight is positive"),
        (conv(1, 1, weights=0.4), {"lower_clip": -40_000.0}, "lower_clip = -40000 takes"),
        (conv(1, 1, weights=1e-6), {}, "too small beside the threshold"),
        (conv(1, 1, weights=0.001, bias=9.0), {}, "one bias is so large"),
    ],
)
def test_a_silent_layer_is_told_its_cause(plan: Plan, settings: dict[str, Any], cause: str) -> None:
    made = report(network((1, 2, 2), plan), **settings)

    assert cause in only(made, "LAYER_SILENT").message


def test_merged_polarities_leave_the_other_input_feature_silent() -> None:
    two = report(network((2, 4, 4), conv(1, 3)), polarity="merge")
    one = report(network((1, 4, 4), conv(1, 3)), polarity="merge")

    assert (None, "INPUT_FEATURES_SILENT") in found(two, Severity.WARNING)
    assert "INPUT_FEATURES_SILENT" not in [f.reason for f in one.findings]


def test_weights_below_the_threshold_give_no_warning() -> None:
    assert found(report(network((1, 2, 2), conv(1, 1, weights=0.99))), Severity.WARNING) == []


def test_synops_per_event_follow_the_published_formula() -> None:
    made = report(network((2, 32, 32), conv(8, 3, stride=(1, 2), padding=1), conv(4, 2, stride=2)))

    assert [need.synops_per_event for need in made.layers] == [36.0, 4.0]
    assert only(made, "SYNOPS_PER_EVENT").metadata["total_synops_per_event"] == "40"
    assert made.layers[0].synops_limit == 30e6


def test_what_the_file_says_is_used_unless_a_setting_says_otherwise() -> None:
    trained = conv(1, 1, weights=0.5, trained_reset="zero", trained_lower_clip=-0.5)

    made = report(network((1, 2, 2), trained))

    assert made.configuration is not None
    [core] = made.configuration.cores
    assert core.return_to_zero
    assert core.threshold_low == -core.threshold_high // 2
    assert found(made, Severity.WARNING) == []


def test_biases_are_told_what_they_cost() -> None:
    made = report(network((1, 4, 4), conv(3, 1, weights=0.5, bias=0.1)), slow_clock_hz=100)

    assert only(made, "BIAS_IS_LEAK").metadata["neurons_per_tick"] == "48"


def test_the_chips_own_readout_has_15_classes() -> None:
    made = report(network((1, 1, 1), linear(16)))

    assert only(made, "READOUT_CHANNELS").metadata == {"classes": "16", "largest": "15"}


def test_the_readout_erratum_is_told_until_the_features_are_spread() -> None:
    spread = np.zeros((9, 1, 1, 1), np.float32)
    spread[::4] = 0.5

    plain = report(network((1, 1, 1), linear(3)))
    done = report(network((1, 1, 1), conv(9, 1, weights=spread)))

    assert only(plain, "READOUT_CHANNELS").metadata["readout_features"] == "9"
    assert "READOUT_CHANNELS" not in [f.reason for f in done.findings]


def test_an_event_of_a_linear_layer_reaches_each_output_once() -> None:
    made = report(network((2, 16, 16), conv(4, 4, stride=4), linear(10)))

    assert [need.synops_per_event for need in made.layers] == [4.0, 10.0]


def test_only_the_exit_layer_of_a_network_too_long_is_told_of_the_readout() -> None:
    made = report(network((1, 4, 4), *[conv(2, 1)] * 12))

    assert [f.layer for f in made.findings if f.reason == "READOUT_CHANNELS"] == [11]
