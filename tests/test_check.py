"""The check: all findings at once with figures and advice, or else a configuration."""

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from networks import Plan, conv, digits_network, gesture_network, linear, network, pooling

from speckfarm_server.check import REASONS, Report, check
from speckfarm_server.chip import CHIPS
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Network
from speckfarm_server.settings import Settings

SPECK2F = CHIPS["speck2f"]
HUGE = 1 << 62


def report(made: Network, **settings: Any) -> Report:
    return check(made, SPECK2F, Settings(**settings))


def found(made: Report, severity: Severity = Severity.ERROR) -> list[tuple[int | None, str]]:
    return [(f.layer, f.reason) for f in made.findings if f.severity is severity]


def only(made: Report, reason: str) -> Finding:
    (finding,) = [f for f in made.findings if f.reason == reason]
    return finding


def test_a_realistic_network_is_deployable_without_warnings() -> None:
    made = report(digits_network())

    assert made.deployable
    assert found(made) == found(made, Severity.WARNING) == []
    assert [need.core for need in made.layers] == [2, 3, 4, 5]
    assert [need.name for need in made.layers] == ["conv0", "conv1", "conv2", "linear3"]
    assert [need.kernel_entries for need in made.layers] == [512, 8192, 32768, 16384]
    assert [need.neuron_entries for need in made.layers] == [65536, 32768, 4096, 10]
    assert made.layers[0].output_shape == (16, 34, 34)


def test_nine_layers_fill_the_chip() -> None:
    made = report(gesture_network())

    assert made.deployable
    assert sorted(need.core for need in made.layers if need.core is not None) == list(range(9))
    assert found(made, Severity.INFO) == [
        (None, "SYNOPS_PER_EVENT"),
        (0, "CORE_NOT_REPRODUCIBLE"),
        (1, "CORE_NOT_REPRODUCIBLE"),
    ]


def test_the_configuration_holds_the_chain() -> None:
    made = report(
        digits_network(), reset="zero", layer_reset={1: "subtract"}, decimator={0: 4}, monitor=(1,),
        polarity="merge", slow_clock_hz=100, state="keep",
    ).configuration  # fmt: skip

    assert made is not None
    assert [core.core for core in made.cores] == [2, 3, 4, 5]
    assert [[(d.core, d.pooling) for d in core.destinations] for core in made.cores] == [
        [(3, 2)],
        [(4, 2)],
        [(5, 2)],
        [],
    ]
    assert [core.return_to_zero for core in made.cores] == [True, False, True, True]
    assert [core.decimator for core in made.cores] == [4, None, None, None]
    assert [core.monitor_enable for core in made.cores] == [False, True, False, True]
    assert (made.polarity, made.slow_clock_hz, made.keep_state) == ("merge", 100.0, True)


def test_pooling_after_the_last_layer_is_left_to_the_host() -> None:
    made = report(network((1, 8, 8), conv(2, 3, padding=1, pool=4))).configuration

    assert made is not None
    assert made.cores[0].exit_pooling == 4
    assert made.cores[0].destinations == ()


SETTINGS: list[dict[str, Any]] = [
    {},
    {"reset": "zero"},
    {"layer_reset": {1: "zero"}},
    {"lower_clip": -2.0},
    {"input_dt_us": 1e6},
    {"decimator": {0: 4}},
    {"decimator": {0: 8}},
    {"monitor": (1,)},
    {"cores": {0: 1}},
    {"polarity": "merge"},
    {"slow_clock_hz": 100.0},
    {"state": "keep"},
]


def test_each_setting_changes_the_digest_and_the_same_settings_do_not() -> None:
    made = [report(digits_network(), **values).configuration for values in SETTINGS * 2]

    digests = [one.digest for one in made if one is not None]
    assert len(digests) == 2 * len(SETTINGS)
    assert len(set(digests)) == len(SETTINGS)
    assert digests[: len(SETTINGS)] == digests[len(SETTINGS) :]


def test_average_pooling_is_sum_pooling_with_smaller_next_weights() -> None:
    weights = np.array([0.5, -0.25, 0.125], np.float32).reshape(1, 3, 1, 1)
    plans = (conv(3, 3, padding=1, weights=0.1), conv(1, 1, weights=weights))
    average = network(
        (1, 4, 4), replace(plans[0], poolings=(pooling(2, kind="average"),)), plans[1]
    )
    scaled = network(
        (1, 4, 4),
        replace(plans[0], poolings=(pooling(2),)),
        replace(plans[1], weights=weights / np.float32(4)),
    )

    one, other = report(average).configuration, report(scaled).configuration

    assert one is not None
    assert other is not None
    assert one.digest == other.digest
    assert one.cores[1].threshold_high == 1016  # 127 / 0.125


def test_chained_poolings_multiply() -> None:
    first = replace(conv(2, 3, padding=1), poolings=(pooling(2), pooling(2, kind="average")))

    made = report(network((1, 8, 8), first, linear(2))).configuration

    assert made is not None
    assert made.cores[0].destinations[0].pooling == 4


def test_biases_enable_the_leak() -> None:
    made = report(network((1, 4, 4), conv(2, 3, bias=0.1)), slow_clock_hz=1000.0)

    assert made.configuration is not None
    assert made.configuration.cores[0].leak_enable
    assert "time steps of 1000 µs" in only(made, "BIAS_IS_LEAK").message


def test_biases_without_a_slow_clock_are_said_to_do_nothing() -> None:
    made = report(network((1, 4, 4), conv(2, 3, bias=0.1)))

    assert "do nothing" in only(made, "BIAS_IS_LEAK").message
    assert made.deployable


def test_zero_biases_are_no_leak() -> None:
    made = report(network((1, 4, 4), conv(2, 3, bias=0.0)))

    assert found(made, Severity.WARNING) == []
    assert made.configuration is not None
    assert not made.configuration.cores[0].leak_enable


def test_the_lower_clip_scales_with_the_threshold() -> None:
    plan = conv(1, 1, weights=1.27, threshold=2.54, threshold_range=(2.54, 2.54))
    made = report(network((1, 2, 2), plan), lower_clip=-0.5).configuration

    assert made is not None
    assert (made.cores[0].threshold_high, made.cores[0].threshold_low) == (254, -127)


NIR_R: dict[str, object] = {"r_range": (1000.0, 1000.0)}


def test_r_needs_its_time_step_and_then_changes_nothing() -> None:
    plain = network((1, 4, 4), conv(2, 3))
    with_r = network((1, 4, 4), conv(2, 3, **NIR_R))

    refused, accepted = report(with_r), report(with_r, input_dt_us=1000)

    assert found(refused) == [(0, "R_NOT_ONE")]
    assert "Pass input_dt_us=1000." in only(refused, "R_NOT_ONE").message
    assert accepted.deployable
    wanted = report(plain).configuration
    assert wanted is not None
    assert accepted.configuration is not None
    assert np.array_equal(accepted.configuration.cores[0].weights, wanted.cores[0].weights)
    assert found(accepted, Severity.WARNING) == []


def test_r_times_another_time_step_scales_the_weights() -> None:
    made = report(network((1, 4, 4), conv(1, 1, weights=1.0, **NIR_R)), input_dt_us=500)

    assert "multiplies weights and biases by 0.5" in only(made, "R_SCALES_WEIGHTS").message
    assert made.configuration is not None
    assert made.configuration.cores[0].threshold_high == 254


ONE_FAULT: list[tuple[str, Plan, dict[str, Any]]] = [
    ("DILATION_UNSUPPORTED", conv(2, 3, dilation=(1, 2), output_shape=(2, 6, 4)), {}),
    ("GROUPS_UNSUPPORTED", conv(2, 3, groups=2), {}),
    ("NON_UNIFORM_THRESHOLD", conv(2, 3, threshold_range=(1.0, 2.0)), {}),
    ("THRESHOLD_NOT_POSITIVE", conv(2, 3, threshold=0.0, threshold_range=(0.0, 0.0)), {}),
    ("THRESHOLD_NOT_POSITIVE", conv(2, 3, threshold=float("nan")), {}),
    ("THRESHOLD_NOT_POSITIVE", conv(2, 3, threshold=1e39), {}),
    ("WEIGHTS_NOT_FINITE", conv(2, 3, weights=np.float32("nan")), {}),
    ("WEIGHTS_NOT_FINITE", conv(2, 3, bias=np.float32("inf")), {}),
    ("WEIGHTS_NOT_FINITE", conv(2, 3, r_range=(1e300, 1e300)), {"input_dt_us": 1000}),
    ("NON_UNIFORM_R", conv(2, 3, r_range=(1.0, 2.0)), {}),
    ("NON_UNIFORM_R", conv(2, 3, r_range=(float("nan"), float("nan"))), {"input_dt_us": 1000}),
    ("NON_UNIFORM_R", conv(2, 3, r_range=(0.0, 0.0)), {"input_dt_us": 1000}),
    ("R_NOT_ONE", conv(2, 3, r_range=(2.0, 2.0)), {}),
    ("LAYER_NOT_FOUND", conv(2, 3), {"decimator": {1: 4}}),
    ("LAYER_NOT_FOUND", conv(2, 3), {"layer_reset": {1: "zero"}}),
    ("LAYER_NOT_FOUND", conv(2, 3), {"monitor": (0, 1)}),
    ("LAYER_NOT_FOUND", conv(2, 3), {"cores": {1: 4}}),
    ("STRIDE_UNSUPPORTED", conv(2, 3, stride=3), {}),
    ("PADDING_OUT_OF_RANGE", conv(2, 3, padding=8), {}),
    ("OUTPUT_SIZE_MISMATCH", conv(2, 3, output_shape=(2, 5, 6)), {}),
]


@pytest.mark.parametrize(("reason", "plan", "settings"), ONE_FAULT)
def test_one_fault_gives_that_error_alone(
    reason: str, plan: Plan, settings: dict[str, Any]
) -> None:
    made = report(network((2, 8, 8), plan), **settings)

    assert [reason_ for _, reason_ in found(made)] == [reason]
    assert not made.deployable
    assert made.configuration is None


def test_dilation_of_a_1x1_kernel_means_nothing() -> None:
    assert report(network((2, 8, 8), conv(2, 1, dilation=(2, 2)))).deployable


def test_non_square_kernels_are_named_as_such() -> None:
    weights = np.full((2, 1, 3, 5), 0.1, np.float32)
    layer = network((1, 8, 8), conv(2, 3)).layers[0]
    made = Network(
        input_shape=(1, 8, 8), layers=(replace(layer, weights=weights, output_shape=(2, 6, 4)),)
    )

    assert found(report(made)) == [(0, "NON_SQUARE_KERNEL")]


@pytest.mark.parametrize("size", [(17, 17), (4, 6)])
def test_a_linear_layer_needs_a_small_square_map(size: tuple[int, int]) -> None:
    made = report(network((1, *size), linear(3)))

    assert found(made) == [(0, "LINEAR_INPUT_TOO_LARGE")]
    assert only(made, "LINEAR_INPUT_TOO_LARGE").metadata["height"] == str(size[0])


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("NON_SQUARE_POOLING", {"kernel_size": (2, 1), "stride": (2, 1)}),
        ("POOLING_STRIDE_MISMATCH", {"stride": (1, 1)}),
        ("POOLING_PADDING", {"padding": (1, 1)}),
    ],
)
def test_pooling_that_a_core_cannot_do_is_named(reason: str, changes: dict[str, Any]) -> None:
    first = replace(conv(2, 3, padding=1), poolings=(pooling(2, **changes),))
    made = report(network((1, 8, 8), first, conv(2, 3, input_shape=(2, 5, 5))))

    assert (0, reason) in found(made)
    assert (0, "LINK_SIZE_MISMATCH") not in found(made)


def test_pooling_by_3_is_refused_between_layers_only() -> None:
    between = report(network((1, 9, 9), conv(2, 3, padding=1, pool=3), linear(2)))
    at_the_end = report(network((1, 9, 9), conv(2, 3, padding=1, pool=3)))

    assert found(between) == [(0, "POOLING_UNSUPPORTED")]
    assert at_the_end.deployable


def test_all_faults_are_reported_at_once_errors_first_then_by_layer() -> None:
    made = report(
        network(
            (2, 40, 40),
            conv(4, 3, stride=3, pool=3, bias=0.3, threshold_range=(1.0, 2.0)),
            conv(4, 2, dilation=(2, 2), weights=3.0),
            linear(2000, r_range=(100.0, 100.0)),
        ),
        decimator={5: 2},
    )

    assert found(made) == [
        (None, "LAYER_NOT_FOUND"),
        (0, "NON_UNIFORM_THRESHOLD"),
        (0, "STRIDE_UNSUPPORTED"),
        (0, "POOLING_UNSUPPORTED"),
        (1, "DILATION_UNSUPPORTED"),
        (2, "R_NOT_ONE"),
        (2, "OUTPUT_FEATURES_OUT_OF_RANGE"),
        (2, "KERNEL_MEMORY_EXCEEDED"),
    ]
    assert found(made, Severity.WARNING) == [(0, "BIAS_IS_LEAK"), (1, "WEIGHT_TWICE_THRESHOLD")]
    assert all(f.reason in REASONS and f.severity is REASONS[f.reason] for f in made.findings)


def test_a_layer_too_large_for_every_core_gives_exact_figures() -> None:
    made = report(network((17, 64, 64), conv(17, 1), conv(2, 3)))

    finding = only(made, "NEURON_MEMORY_EXCEEDED")
    assert found(made) == [(0, "NEURON_MEMORY_EXCEEDED")]
    assert finding.metadata["neuron_entries"] == "69632"
    assert finding.metadata["largest_neuron_entries_limit"] == "65536"
    assert "at most 16 output features" in finding.message
    assert [need.core for need in made.layers] == [None, 2]
    assert made.layers[0].neuron_entries == 69632


def test_a_layer_that_needs_two_large_memories_is_told_so() -> None:
    made = report(network((8, 68, 68), conv(9, 16, padding=5)))

    message = only(made, "KERNEL_MEMORY_EXCEEDED").message
    assert found(made) == [(0, "KERNEL_MEMORY_EXCEEDED")]
    assert "core 3, 4, 5, 6 would hold them, but not the layer's other memory" in message


def test_layers_that_contend_for_the_same_cores_are_named() -> None:
    wide = conv(16, 3, padding=1, weights=0.01)
    made = report(network((16, 64, 64), *[wide] * 4, conv(2, 3)))

    finding = only(made, "NO_PLACEMENT")
    assert found(made) == [(None, "NO_PLACEMENT")]
    assert finding.metadata == {"layers": "0, 1, 2, 3", "cores": "0, 1, 2"}
    assert [need.core for need in made.layers].count(None) == 1
    assert made.configuration is None


def test_a_pin_to_a_core_too_small_names_the_cores_that_would_do() -> None:
    made = report(network((16, 34, 34), conv(16, 3, padding=1)), cores={0: 8})

    finding = only(made, "NEURON_MEMORY_EXCEEDED")
    assert found(made) == [(0, "NEURON_MEMORY_EXCEEDED")]
    assert finding.metadata["fitting_cores"] == "0, 1, 2"


def test_a_pin_that_takes_the_only_fitting_core_is_named() -> None:
    large = conv(256, 1, weights=0.1)  # 64 Ki kernel entries: cores 5 and 6
    made = report(network((256, 1, 1), conv(256, 1), large, conv(2, 1)), cores={0: 5, 2: 6})

    assert found(made) == [(1, "NO_PLACEMENT")]
    assert only(made, "NO_PLACEMENT").metadata == {"cores": "5, 6"}


def test_pins_are_kept() -> None:
    made = report(digits_network(), cores={3: 2, 1: 0})

    assert [need.core for need in made.layers] == [1, 0, 3, 2]


def test_too_many_layers_are_still_looked_at() -> None:
    plans = [conv(1, 1)] * 9 + [conv(1, 1, pool=3), conv(1, 1, stride=3), linear(2000)]
    made = report(network((1, 12, 12), *plans))

    assert found(made) == [
        (None, "TOO_MANY_LAYERS"),
        (9, "POOLING_UNSUPPORTED"),
        (10, "STRIDE_UNSUPPORTED"),
        (11, "OUTPUT_FEATURES_OUT_OF_RANGE"),
    ]
    assert [need.layer for need in made.layers] == list(range(12))
    assert all(need.core is None for need in made.layers)


def test_a_network_without_layers_is_refused() -> None:
    made = report(Network(input_shape=(1, 2, 2)))

    assert found(made) == [(None, "NO_LAYERS")]
    assert made.layers == ()


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


@pytest.mark.parametrize("value", [HUGE, -HUGE, 0, -1])
@pytest.mark.parametrize(
    "change",
    [
        lambda v: {"stride": (v, v)},
        lambda v: {"padding": (v, v)},
        lambda v: {"dilation": (v, v)},
        lambda v: {"groups": v},
        lambda v: {"input_shape": (v, v, v)},
        lambda v: {"output_shape": (v, v, v)},
        lambda v: {"poolings": (pooling(v),)},
        lambda v: {"poolings": (pooling(v, kind="average"),) * 3},
    ],
)
def test_hostile_integers_are_findings_not_crashes(value: int, change: Any) -> None:
    first, second = network((1, 4, 4), conv(2, 3, padding=1), conv(2, 3)).layers
    made = report(Network(input_shape=(1, 4, 4), layers=(replace(first, **change(value)), second)))

    assert not made.deployable
    assert all(f.reason in REASONS for f in made.findings)
    assert all(abs(need.kernel_entries) < 2**63 for need in made.layers)
    assert all(abs(size) < 2**31 for need in made.layers for size in need.output_shape)


def test_findings_hold_text_only_and_end_with_a_full_stop() -> None:
    made = report(
        network((2, 200, 200), conv(5, 17, stride=3), *[conv(1, 1, pool=3, bias=1.0)] * 3),
        cores={0: 0, 7: 3},
    )

    assert len(made.findings) > 10
    for finding in made.findings:
        assert finding.message.endswith(".")
        assert all(isinstance(value, str) for value in finding.metadata.values())


def test_a_check_takes_milliseconds() -> None:
    made = digits_network()
    report(made)

    start = perf_counter()
    for _ in range(10):
        report(made)

    assert (perf_counter() - start) / 10 < 0.1  # about 1.5 ms on an idle machine


def test_the_reference_page_lists_every_reason_and_no_other() -> None:
    page = Path(__file__).parent.parent / "docs" / "reference" / "checks.md"

    lines = page.read_text(encoding="utf-8").partition("## From other steps")[0].splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| `")]
    listed = {cells[1].strip(" `"): cells[2].strip() for cells in rows}

    assert listed == {reason: severity.value for reason, severity in REASONS.items()}
    assert all(len([c for c in cells if c.strip()]) == 5 for cells in rows)
