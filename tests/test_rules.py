"""Every rule on a configuration: at the limit it is silent, one step above it alone speaks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from configurations import configuration, core

from speckfarm_server.chip import CHIPS, Chip
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
from speckfarm_server.errors import Severity
from speckfarm_server.rules import RULES, apply_rules

SPECK2F = CHIPS["speck2f"]
HUGE = 1 << 62


def reasons(made: Configuration, chip: Chip = SPECK2F) -> list[str]:
    return [finding.reason for finding in apply_rules(made, chip)]


def core_reasons(made: CoreConfiguration) -> list[str]:
    return reasons(configuration(made))


# reason, at the limit, one step above
AT_THE_LIMIT: list[tuple[str, CoreConfiguration, CoreConfiguration]] = [
    ("CORE_OUT_OF_RANGE", core(core=8), core(core=9)),
    ("CORE_OUT_OF_RANGE", core(core=0), core(core=-1)),
    (
        "INPUT_SIZE_OUT_OF_RANGE",
        core(input_shape=(1, 128, 9), kernel_size=3, stride=(2, 2)),
        core(input_shape=(1, 129, 9), kernel_size=3, stride=(8, 2)),
    ),
    ("OUTPUT_SIZE_OUT_OF_RANGE", core(input_shape=(1, 64, 9)), core(input_shape=(1, 65, 9))),
    (
        "OUTPUT_SIZE_OUT_OF_RANGE",
        core(input_shape=(1, 3, 3), kernel_size=3),
        core(input_shape=(1, 2, 3), kernel_size=3),
    ),
    ("INPUT_FEATURES_OUT_OF_RANGE", core(input_shape=(1024, 1, 1)), core(input_shape=(1025, 1, 1))),
    ("OUTPUT_FEATURES_OUT_OF_RANGE", core(1024), core(1025)),
    (
        "KERNEL_SIZE_OUT_OF_RANGE",
        core(kernel_size=16, input_shape=(1, 16, 16)),
        core(kernel_size=17, input_shape=(1, 17, 17)),
    ),
    *(("STRIDE_UNSUPPORTED", core(stride=(n, 1)), core(stride=(1, n + 1))) for n in (2, 4, 8)),
    (
        "PADDING_OUT_OF_RANGE",
        core(padding=(7, 0), kernel_size=15, input_shape=(1, 15, 15)),
        core(padding=(0, 8), kernel_size=15, input_shape=(1, 15, 15)),
    ),
    (
        "OUTPUT_SIZE_MISMATCH",
        core(input_shape=(1, 10, 9), kernel_size=3, stride=(2, 2), output_shape=(1, 4, 4)),
        core(input_shape=(1, 10, 9), kernel_size=3, stride=(2, 2), output_shape=(1, 5, 4)),
    ),
    ("THRESHOLD_HIGH_OUT_OF_RANGE", core(threshold_high=32767), core(threshold_high=32768)),
    ("THRESHOLD_HIGH_OUT_OF_RANGE", core(threshold_high=0), core(threshold_high=-1)),
    ("THRESHOLD_LOW_OUT_OF_RANGE", core(threshold_low=-32768), core(threshold_low=-32769)),
    ("THRESHOLD_LOW_OUT_OF_RANGE", core(threshold_low=0), core(threshold_low=1)),
    ("DECIMATOR_UNSUPPORTED", core(decimator=512), core(decimator=64)),
    (
        "WEIGHTS_SHAPE_MISMATCH",
        core(weights=np.ones((1, 1, 1, 1), np.int8)),
        core(weights=np.ones((1, 2, 1, 1), np.int8)),
    ),
    (
        "BIASES_SHAPE_MISMATCH",
        core(biases=np.zeros(1, np.int16)),
        core(biases=np.zeros(2, np.int16)),
    ),
    (
        "WEIGHTS_OUT_OF_RANGE",
        core(weights=np.full((1, 1, 1, 1), 127)),
        core(weights=np.full((1, 1, 1, 1), 128)),
    ),
    (
        "BIASES_OUT_OF_RANGE",
        core(biases=np.array([-32768])),
        core(biases=np.array([-32769])),
    ),
    ("EXIT_POOLING_OUT_OF_RANGE", core(exit_pooling=1), core(exit_pooling=0)),
]


@pytest.mark.parametrize(("reason", "legal", "illegal"), AT_THE_LIMIT)
def test_core_rule_speaks_one_step_above_its_limit(
    reason: str, legal: CoreConfiguration, illegal: CoreConfiguration
) -> None:
    assert core_reasons(legal) == []
    assert core_reasons(illegal) == [reason]


# kind, input shape, features, kernel, entries: the table of vendor verdicts in the vendor notes
MEMORY_FIGURES = [
    ("kernel", (64, 1, 1), 256, 1, 16_384),
    ("kernel", (65, 1, 1), 256, 1, 16_640),
    ("kernel", (16, 3, 3), 65, 3, 32_768),
    ("kernel", (17, 3, 3), 64, 3, 17_408),
    ("neuron", (1, 33, 33), 5, 1, 20_480),
    ("neuron", (1, 17, 17), 17, 1, 17_408),
    ("neuron", (1, 64, 64), 16, 1, 65_536),
    ("neuron", (1, 64, 64), 17, 1, 69_632),
    ("neuron", (1, 20, 40), 9, 1, 18_432),
]


@pytest.mark.parametrize(("kind", "input_shape", "features", "kernel", "entries"), MEMORY_FIGURES)
@pytest.mark.parametrize("number", range(9))
def test_memory_is_counted_and_limited_as_the_vendor_does(
    kind: str, input_shape: Any, features: int, kernel: int, entries: int, number: int
) -> None:
    made = core(features, core=number, input_shape=input_shape, kernel_size=kernel)
    limit = getattr(SPECK2F.cores[number], f"{kind}_entries")

    found = apply_rules(configuration(made), SPECK2F)

    assert getattr(made, f"{kind}_entries") == entries
    assert [f.reason for f in found] == [f"{kind.upper()}_MEMORY_EXCEEDED"] * (entries > limit)
    for finding in found:
        assert finding.metadata[f"{kind}_entries"] == str(entries)
        assert finding.metadata[f"{kind}_entries_limit"] == str(limit)
        assert finding.severity is Severity.ERROR


@pytest.mark.parametrize("number", range(9))
def test_a_core_full_of_kernels_and_neurons_is_legal(number: int) -> None:
    limits = SPECK2F.cores[number]
    kernels = core(core=number, input_shape=(limits.kernel_entries // 256, 16, 16), kernel_size=16)
    neurons = core(limits.neuron_entries // 4096, core=number, input_shape=(1, 64, 64))

    assert kernels.kernel_entries == limits.kernel_entries
    assert core_reasons(kernels) == []
    assert neurons.neuron_entries == limits.neuron_entries
    assert core_reasons(neurons) == []


def test_biases_take_memory_only_where_they_are_used() -> None:
    chip = replace(SPECK2F, cores=tuple(replace(c, bias_entries=3) for c in SPECK2F.cores))
    used = np.array([0, 0, 1, 0], np.int16)

    assert reasons(configuration(core(4)), chip) == []
    assert reasons(configuration(core(3, biases=used[:3])), chip) == []
    assert reasons(configuration(core(4, biases=used)), chip) == ["BIAS_MEMORY_EXCEEDED"]
    assert reasons(configuration(core(4, leak_enable=True)), chip) == ["BIAS_MEMORY_EXCEEDED"]


def test_memory_message_says_what_fits() -> None:
    on_small_core = core(64, core=7, input_shape=(17, 3, 3), kernel_size=3)
    nowhere = core(1024, core=7, input_shape=(64, 3, 3), kernel_size=3)
    split = core(9, core=7, input_shape=(8, 68, 68), kernel_size=16, padding=(5, 5))

    (small,) = apply_rules(configuration(on_small_core), SPECK2F)
    (large,) = apply_rules(configuration(nowhere), SPECK2F)
    both = apply_rules(configuration(split), SPECK2F)

    assert "core 7 holds 16,384. Core 3, 4, 5, 6 would hold the layer" in small.message
    assert "largest core of speck2f holds 65,536. Use at most 64 output features" in large.message
    assert large.metadata["largest_kernel_entries_limit"] == "65536"
    assert "core 3, 4, 5, 6 would hold them, but not the layer's other memory" in both[0].message
    assert [f.reason for f in both] == ["KERNEL_MEMORY_EXCEEDED", "NEURON_MEMORY_EXCEEDED"]


def _pair(*to: Destination, source: int = 4, **target: Any) -> Configuration:
    """A core with a 4 x 8 x 8 output that feeds core 3, which takes `target`."""
    first = core(source, input_shape=(1, 8, 8), destinations=to or (Destination(core=3),))
    return configuration(first, core(**{"core": 3, "input_shape": (source, 8, 8), **target}))


LINKS = [
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


def test_every_rule_is_made_to_speak_by_a_test_here() -> None:
    tested = {reason for reason, *_ in (*AT_THE_LIMIT, *LINKS)}
    tested |= {"KERNEL_MEMORY_EXCEEDED", "NEURON_MEMORY_EXCEEDED", "BIAS_MEMORY_EXCEEDED"}
    tested |= {"FAN_IN_START", "FAN_IN_GAP", "FAN_IN_OVERLAP", "FAN_IN_COUNT"}

    assert tested == set(RULES)
