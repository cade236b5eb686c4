"""The vendor's validator on 2,000 configurations of speck2b, and our rules on the same.

The corpus was made with samna 0.7.1.0: half of it is legal, most at the edge of a limit. `make
vendor` compares fresh configurations with the library itself.
"""

import gzip
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from speckfarm_server.check import REASONS as CHECKED
from speckfarm_server.chip import CHIPS
from speckfarm_server.errors import BadInput
from speckfarm_server.rules.tables import RULES, apply_rules
from tests.vendor_description import configuration_of
from tests.vendor_generator import describe
from tests.vendor_verdicts import (
    AFTER_SIZES,
    REASONS,
    REFUSED,
    SIZES,
    TOO_MANY,
    disagreement,
    our_findings,
    unlooked,
)

CORPUS = Path(__file__).parent / "data" / "vendor_corpus.jsonl.gz"

# Rules of ours that the vendor's validator does not have, so that no configuration of the corpus
# can break them alone, and why they are the chip's all the same.
NOT_THE_VENDORS = {
    "CORE_OUT_OF_RANGE": "its list of cores has nine items, so another cannot be named",
    "BIAS_MEMORY_EXCEEDED": "1,024 features are its limit, and the memory holds as many biases",
    "WEIGHTS_OUT_OF_RANGE": "its field refuses the value: VALUE_OUT_OF_RANGE",
    "BIASES_OUT_OF_RANGE": "its field refuses the value: VALUE_OUT_OF_RANGE",
    "INITIAL_STATE_OUT_OF_RANGE": "its field refuses the value: VALUE_OUT_OF_RANGE",
    "DECIMATOR_UNSUPPORTED": "its speck2b has no decimator",
    "DVS_DESTINATION_UNSUPPORTED": "its destinations of the camera layer have no such fields",
    TOO_MANY: "it has two slots, so a third cannot be offered",
}


@cache
def corpus() -> list[dict[str, Any]]:
    with gzip.open(CORPUS) as lines:
        return [json.loads(line) for line in lines]


def test_the_corpus_is_whole() -> None:
    verdicts = Counter(entry["valid"] for entry in corpus())

    assert verdicts == {True: 1000, False: 1000}


def test_every_configuration_gets_the_vendors_verdict() -> None:
    differing = [
        number
        for number, entry in enumerate(corpus())
        if (our_findings(entry["config"]) == []) is not entry["valid"]
    ]

    assert differing == []


def test_every_fault_that_the_vendor_names_is_found_and_none_that_it_looked_for_and_did_not() -> (
    None
):
    differing = {
        number: words
        for number, entry in enumerate(corpus())
        if (words := disagreement(entry["config"], entry))
    }

    assert differing == {}


def test_the_vendor_looks_at_formula_memory_and_thresholds_only_if_sizes_pass() -> None:
    stopped: Counter[str] = Counter()
    for entry in corpus():
        found = our_findings(entry["config"])
        named = {REASONS.get(rule) for rule in entry["rules"]}

        if entry["stage"] == "validate":
            assert not named & unlooked(found)
            stopped.update(unlooked(found))

    # Not an empty claim: each of these was broken somewhere behind a size, and never named.
    assert set(stopped) == AFTER_SIZES


def test_sizes_stop_the_vendor_for_their_own_core_only() -> None:
    two = [(0, "KERNEL_SIZE_OUT_OF_RANGE"), (1, "OUTPUT_SIZE_MISMATCH")]
    same = [(0, "KERNEL_SIZE_OUT_OF_RANGE"), (0, "OUTPUT_SIZE_MISMATCH"), (0, "FAN_IN_COUNT")]

    assert unlooked(two) == set()
    assert unlooked(same) == {"OUTPUT_SIZE_MISMATCH"}
    assert not SIZES & AFTER_SIZES


def test_every_chip_rule_has_its_counterpart_at_the_vendor_or_a_reason_why_not() -> None:
    assert {*REASONS.values(), *NOT_THE_VENDORS} == set(RULES)
    assert not set(REASONS.values()) & set(NOT_THE_VENDORS)
    assert set(RULES) <= set(CHECKED)


@pytest.mark.parametrize("valid", [True, False])
def test_a_verdict_turned_round_is_a_disagreement(valid: bool) -> None:
    entries = [entry for entry in corpus() if entry["valid"] is valid][:50]
    turned = [{**entry, "valid": not valid} for entry in entries]

    assert all(disagreement(entry["config"], entry) for entry in turned)


def test_a_fault_that_the_vendor_did_not_name_is_a_disagreement() -> None:
    entry = next(e for e in corpus() if len(e["rules"]) == 2 and "fan_in_count" in e["rules"])
    (other,) = set(entry["rules"]) - {"fan_in_count"}

    assert disagreement(entry["config"], {**entry, "rules": [other]})
    assert disagreement(entry["config"], {**entry, "rules": [*entry["rules"], "dest_shift"]})
    assert disagreement(entry["config"], {**entry, "rules": ["a new message of the vendor"]})


def _described(**core: Any) -> dict[str, Any]:
    legal = {"input": [2, 3, 4], "output": [1, 3, 4], "destinations": []}
    return {"cores": {"0": {**legal, **core}}}


def test_arrays_of_a_seed_are_bytes_scaled_to_the_span_in_the_order_y_then_x() -> None:
    spec = {"seed": 5, "lo": -128, "hi": 127}
    few = {"seed": 5, "lo": 0, "hi": 7}

    made = configuration_of(_described(weights=spec, neurons_initial_value=few))

    (core,) = made.cores
    assert core.weights.ravel().tolist() == [-10, 31]
    assert core.initial_state is not None
    assert core.initial_state.shape == (1, 3, 4)
    assert core.initial_state[0, 0].tolist() == [2, 3, 3, 4]


def test_arrays_with_a_large_span_are_drawn_one_by_one() -> None:
    made = configuration_of(_described(biases={"seed": 5, "lo": -32768, "hi": 32767}))

    assert made.cores[0].biases.tolist() == [713]


@pytest.mark.parametrize(
    "change",
    [
        {"weights": {"fill": 128}},
        {"weights": {"fill": 1.0}},
        {"weights": {"seed": 1, "lo": -300, "hi": -200}},
        {"weights": [[[[1]], [[2], [3]]]]},
        {"weights": [[1]]},
        {"weights": {"fill": 0, "shape": [1, 2, 1]}},
        {"biases": []},
        {"biases": [32768]},
        {"biases": "0"},
        {"neurons_initial_value": {"fill": -32769}},
        {"weights_kill_bit": {"fill": "1"}},
        {"kernel": 256},
        {"kernel": None},
        {"stride": [1, -1]},
        {"padding": [1]},
        {"input": [65536, 1, 1]},
        {"output": [1, 256, 1]},
        {"threshold_high": 32768},
        {"threshold_low": -32769},
        {"leak_enable": "yes"},
        {"destinations": [{"core": 256}]},
        {"destinations": [{}]},
        {"destinations": [{"core": 1, "feature_shift": 65536}]},
    ],
)
def test_what_the_vendors_fields_refuse_is_no_configuration(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        configuration_of(_described(**change))

    assert refused.value.reason == REFUSED


@pytest.mark.parametrize(
    "description",
    [
        [],
        {"chip": "speck9"},
        {"cores": {"9": {}}},
        {"cores": {"x": {}}},
        {"cores": [1]},
        {"dvs": {"cut": [1]}},
        {"dvs": {"mirror": True}},
        {"readout": {"no_such_field": 1}},
        {"dvs_filter": {"filter_size": [0, 256]}},
    ],
)
def test_a_malformed_description_is_no_configuration(description: Any) -> None:
    with pytest.raises(BadInput) as refused:
        configuration_of(description)

    assert refused.value.reason == REFUSED


def test_true_is_1_and_numbers_are_truth_values_as_in_the_vendors_fields() -> None:
    made = configuration_of(_described(kernel=True, leak_enable=2.5, return_to_zero=None))

    (core,) = made.cores
    assert (core.kernel_size, core.leak_enable, core.return_to_zero) == (1, True, False)


def test_an_output_left_out_is_what_the_formula_gives() -> None:
    plain = {"input": [1, 10, 9], "features": 3, "kernel": 3, "stride": [2, 1]}

    made = configuration_of({"cores": {"4": plain}})

    assert made.cores[0].output_shape == (3, 4, 7)


def test_the_same_seed_describes_the_same_configuration() -> None:
    assert describe("1:0") == describe("1:0")
    assert describe("1:0") != describe("1:1")


def test_a_good_half_of_the_fresh_configurations_is_legal_and_the_rest_breaks_every_rule() -> None:
    found = [our_findings(describe(f"7:{number}")) for number in range(1500)]

    broken = {reason for findings in found for _, reason in findings}
    assert 0.5 < sum(not findings for findings in found) / len(found) < 0.75
    assert broken >= set(REASONS.values()) | {REFUSED, TOO_MANY}


def test_legal_descriptions_fill_the_memories_of_the_cores_to_the_last_word() -> None:
    limits = CHIPS["speck2b"].cores
    full: set[tuple[str, int]] = set()
    for number in range(600):
        description = describe(f"8:{number}")
        if our_findings(description):
            continue
        for core in configuration_of(description).cores:
            limit = limits[core.core]
            full |= (
                {("kernel", core.core)} if core.kernel_entries == limit.kernel_entries else set()
            )
            full |= (
                {("neuron", core.core)} if core.neuron_entries == limit.neuron_entries else set()
            )

    assert full == {(kind, core) for kind in ("kernel", "neuron") for core in range(9)}


def test_descriptions_without_cores_are_chips_after_a_reset() -> None:
    made = configuration_of({"chip": "speck2b"})

    assert made.cores == ()
    assert apply_rules(made, CHIPS["speck2b"]) == []
    assert made.dvs is None
