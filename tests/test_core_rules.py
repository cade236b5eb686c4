"""Every rule on one core and its arrays: at the limit silent, one step above it alone speaks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from speckfarm_server.chip import CHIPS, Chip
from speckfarm_server.configuration import Configuration, CoreConfiguration
from speckfarm_server.errors import Severity
from speckfarm_server.rules.arrays import ARRAY_RULES
from speckfarm_server.rules.core import CORE_RULES
from speckfarm_server.rules.tables import apply_rules
from tests.configurations import configuration, core

SPECK2F = CHIPS["speck2f"]


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
        "INITIAL_STATE_SHAPE_MISMATCH",
        core(input_shape=(1, 2, 3), initial_state=np.full((1, 2, 3), 32767, np.int16)),
        core(input_shape=(1, 2, 3), initial_state=np.zeros((1, 3, 2), np.int16)),
    ),
    (
        "KILL_BITS_SHAPE_MISMATCH",
        core(2, weights_kill=np.zeros((2, 1, 1, 1), np.bool_)),
        core(2, weights_kill=np.zeros((1, 2, 1, 1), np.bool_)),
    ),
    (
        "KILL_BITS_SHAPE_MISMATCH",
        core(2, biases_kill=np.zeros(2, np.bool_)),
        core(2, biases_kill=np.zeros(1, np.bool_)),
    ),
    (
        "KILL_BITS_SHAPE_MISMATCH",
        core(2, neurons_kill=np.zeros((2, 1, 1), np.bool_)),
        core(2, neurons_kill=np.zeros(2, np.bool_)),
    ),
    (
        "INITIAL_STATE_OUT_OF_RANGE",
        core(initial_state=np.full((1, 1, 1), -32768)),
        core(initial_state=np.full((1, 1, 1), -32769)),
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


def test_neuron_memory_is_that_of_the_map_the_chip_makes_whatever_is_declared() -> None:
    made = core(16, core=8, input_shape=(1, 32, 32), output_shape=(16, 32, 33))
    larger = core(16, core=8, input_shape=(1, 32, 33), output_shape=(16, 32, 32))

    assert core_reasons(made) == ["OUTPUT_SIZE_MISMATCH"]
    assert core_reasons(larger) == ["OUTPUT_SIZE_MISMATCH", "NEURON_MEMORY_EXCEEDED"]


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


def test_every_rule_on_a_core_is_made_to_speak_here() -> None:
    tested = {reason for reason, *_ in AT_THE_LIMIT}
    tested |= {"KERNEL_MEMORY_EXCEEDED", "NEURON_MEMORY_EXCEEDED", "BIAS_MEMORY_EXCEEDED"}

    assert tested == set(CORE_RULES) | set(ARRAY_RULES)
