"""The check: all findings at once with figures and advice, or else a configuration."""

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.check import REASONS
from speckfarm_server.errors import Severity
from speckfarm_server.network import Network, Source
from tests.networks import conv, digits_network, gesture_network, linear, network, pooling
from tests.reports import found, only, report

HUGE = 1 << 62


def test_a_realistic_network_is_deployable_without_warnings() -> None:
    made = report(digits_network())

    assert made.deployable
    assert found(made) == found(made, Severity.WARNING) == []
    assert [need.core for need in made.layers] == [2, 3, 4, 5]
    assert [need.name for need in made.layers] == ["conv0", "conv1", "conv2", "linear3"]
    assert [need.kernel_entries for need in made.layers] == [512, 8192, 32768, 16384]
    assert [need.neuron_entries for need in made.layers] == [65536, 32768, 4096, 10]
    assert made.layers[0].output_shape == (16, 34, 34)
    assert [need.sources for need in made.layers] == [(), (0,), (1,), (2,)]


def test_a_layer_is_fed_by_each_of_its_sources_and_not_by_the_input() -> None:
    chain = network((2, 8, 8), *[conv(2, 3, padding=1)] * 3)
    last = replace(chain.layers[2], sources=(Source(layer=1), Source(layer=0), Source()))

    made = report(replace(chain, layers=(*chain.layers[:2], last)))

    assert [need.sources for need in made.layers] == [(), (0,), (0, 1)]


def test_nine_layers_fill_the_chip() -> None:
    made = report(gesture_network())

    assert made.deployable
    assert sorted(need.core for need in made.layers if need.core is not None) == list(range(9))
    assert found(made, Severity.INFO) == [
        (None, "SYNOPS_PER_EVENT"),
        (0, "CORE_NOT_REPRODUCIBLE"),
        (1, "CORE_NOT_REPRODUCIBLE"),
        (8, "READOUT_CHANNELS"),
    ]


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
    assert found(made, Severity.WARNING) == [
        (0, "BIAS_IS_LEAK"),
        (1, "WEIGHT_TWICE_THRESHOLD"),
        (1, "STATE_MAY_SATURATE"),
    ]
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
        lambda v: {"sources": (Source(layer=0, poolings=(pooling(v),)),)},
        lambda v: {"sources": (Source(layer=0, poolings=(pooling(v, kind="average"),) * 3),)},
        lambda v: {"sources": (Source(layer=0, feature_shift=v or 1),)},
    ],
)
def test_hostile_integers_are_findings_not_crashes(value: int, change: Any) -> None:
    first, second = network((1, 4, 4), conv(2, 3, padding=1), conv(2, 3)).layers
    layers = (first, replace(second, **change(value)))
    if "sources" not in change(value):
        layers = (replace(first, **change(value)), second)

    made = report(Network(input_shape=(1, 4, 4), layers=layers))

    assert not made.deployable
    assert all(f.reason in REASONS for f in made.findings)
    assert all(abs(need.kernel_entries) < 2**63 for need in made.layers)
    assert all(abs(size) < 2**31 for need in made.layers for size in need.output_shape)


ANY_FLOAT = st.floats() | st.sampled_from([1e-320, 1e308, 1e39, 1e-45])


@given(
    weight=st.floats(width=32),
    threshold=ANY_FLOAT,
    r=ANY_FLOAT,
    lower_clip=st.floats(max_value=-1e-300, allow_infinity=False),
    input_dt_us=st.none() | st.floats(min_value=1e-300, allow_infinity=False),
)
@settings(deadline=None)
def test_any_numbers_give_legal_integers_or_an_error(
    weight: float, threshold: float, r: float, lower_clip: float, input_dt_us: float | None
) -> None:
    plan = conv(
        1, 1, weights=np.float32(weight), threshold=threshold,
        threshold_range=(threshold, threshold), r_range=(r, r),
    )  # fmt: skip

    made = report(network((1, 2, 2), plan), lower_clip=lower_clip, input_dt_us=input_dt_us)

    assert made.deployable == (made.configuration is not None)
    if made.configuration is not None:
        assert 0 < threshold < 4e38
        assert weight == 0 or np.isfinite(weight)


def test_drafts_are_not_said_to_be_on_cores_0_and_1() -> None:
    made = report(network((17, 64, 64), conv(17, 1)))

    assert "CORE_NOT_REPRODUCIBLE" not in [f.reason for f in made.findings]


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
