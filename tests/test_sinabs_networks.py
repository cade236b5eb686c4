"""Whole networks equal sinabs 3.1.3: integers, shapes, poolings, and whether cores are found.

Recorded by tests/sinabs/record_networks.py; `make test-sinabs` compares live.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sinabs_cases import cases
from tests.sinabs_comparison import FarmResult, farm_result
from tests.sinabs_networks import NetworkPlan, plan_of
from tests.sinabs_random import random_plan

RECORDED = Path(__file__).parent / "data" / "sinabs_networks.json.gz"
# sinabs 3.1.3 maps these, as it looks at memory alone; the vendor's validator refuses them.
BEYOND_THE_CHIP: Mapping[str, str] = {
    "output of 65 pixels": "OUTPUT_SIZE_OUT_OF_RANGE",
    "input of 129 pixels": "INPUT_SIZE_OUT_OF_RANGE",
    "1,025 features": "OUTPUT_FEATURES_OUT_OF_RANGE",
    "kernel of 17": "KERNEL_SIZE_OUT_OF_RANGE",
    "linear over 17 pixels": "LINEAR_INPUT_TOO_LARGE",
    "stride 3": "STRIDE_UNSUPPORTED",
    "padding 8": "PADDING_OUT_OF_RANGE",
    "pooling 3": "POOLING_UNSUPPORTED",
    "average 2, average 4": "POOLING_UNSUPPORTED",
    "three destinations": "TOO_MANY_DESTINATIONS",
    "fork and merge, unequal factors": "MERGE_SCALES_DIFFER",
}
UNEQUAL = "fork and merge, unequal factors"


@pytest.fixture(scope="module")
def compared() -> list[tuple[NetworkPlan, dict[str, Any], FarmResult]]:
    """Plan, sinabs' result, ours."""
    networks = json.loads(gzip.decompress(RECORDED.read_bytes()))["networks"]
    plans = [plan_of(each["plan"]) for each in networks]
    return [
        (plan, each["result"], farm_result(plan))
        for plan, each in zip(plans, networks, strict=True)
    ]


def test_every_integer_and_shape_equals_sinabs(compared) -> None:
    unequal = [
        (plan.name, number, plan.layers[number], sinabs, ours)
        for plan, recorded, farm in compared
        if "error" not in recorded and plan.name != UNEQUAL
        for number, (sinabs, ours) in enumerate(zip(recorded["layers"], farm.layers, strict=True))
        if sinabs != ours
    ]

    assert unequal == []


def test_cores_are_found_exactly_when_sinabs_finds_them(compared) -> None:
    unequal = [
        (plan.name, recorded["maps"], farm.errors)
        for plan, recorded, farm in compared
        if "error" not in recorded and recorded["maps"] != farm.maps
    ]

    assert unequal == []


def test_what_sinabs_maps_is_deployable_but_for_the_known_limits_of_the_chip(compared) -> None:
    refused = {
        plan.name: set(farm.errors)
        for plan, recorded, farm in compared
        if recorded.get("maps") and farm.errors
    }

    assert refused == {name: {reason} for name, reason in BEYOND_THE_CHIP.items()}


def test_one_layer_that_sinabs_cannot_convert_runs_here(compared) -> None:
    """sinabs 3.1.3 looks for the last pooling of a destination that has none."""
    failed = {
        plan.name: (recorded["error"], farm.errors)
        for plan, recorded, farm in compared
        if "error" in recorded
    }

    error = "IndexError: list index out of range"
    assert failed == {"pooled and direct destinations": (error, frozenset())}


def test_sinabs_changes_the_function_of_a_merge_with_unequal_factors(compared) -> None:
    """It scales by half the mean of 1 and 1/4, rounded to 0.31, and says nothing."""
    plan, recorded, farm = next(each for each in compared if each[0].name == UNEQUAL)

    scale = 127 / float(abs(plan.floats(3)[0]).max())
    sums = [layer["threshold_high"] for layer in recorded["layers"]]
    assert sums[3] == pytest.approx(scale / 0.31, rel=0.01)
    assert farm.errors == {"MERGE_SCALES_DIFFER"}


def test_min_v_mem_none_silences_the_layer_as_in_sinabs(compared) -> None:
    for plan, recorded, farm in compared:
        if plan.name in {"min_v_mem None", "min_v_mem None, linear"}:
            for layer in (recorded["layers"][0], farm.layers[0]):
                assert layer["weights"]["sum"] == 0
                assert (layer["threshold_high"], layer["threshold_low"]) == (1, -32768)


def test_thresholds_next_to_a_tie_need_the_width_of_the_file(compared) -> None:
    near = [each for each in compared if each[0].name.startswith("threshold next to a tie")]
    highs = {plan.name: recorded["layers"][0]["threshold_high"] for plan, recorded, _ in near}

    assert {high for name, high in highs.items() if name.endswith("64")} == {16001}
    assert 16000 in {high for name, high in highs.items() if name.endswith("32")}


def test_the_record_covers_what_it_is_meant_to(compared) -> None:
    plans = [plan for plan, _, _ in compared]
    layers = [layer for plan in plans for layer in plan.layers]
    pools = [pools for layer in layers for pools in [link.pools for link in layer.links]]
    counts = Counter(len(plan.layers) for plan in plans)

    assert len(plans) > 400
    assert all(counts[number] >= 20 for number in range(1, 10))
    assert sum(any(len(layer.links) > 1 for layer in plan.layers) for plan in plans) > 150
    assert sum(len(chained) > 1 for chained in pools) > 50
    assert {kind for chained in pools for kind, _ in chained} == {"sum", "average"}
    assert Counter(recorded.get("maps") for _, recorded, _ in compared)[False] > 40
    assert {layer.kernel is None for layer in layers} == {True, False}
    assert {layer.low is None for layer in layers} == {True, False}


def test_the_recorded_networks_are_those_of_the_generators(compared) -> None:
    recorded = [plan for plan, _, _ in compared]
    chosen = list(cases())

    assert recorded[: len(chosen)] == chosen
    assert recorded[len(chosen) :] == [random_plan(n) for n in range(len(recorded) - len(chosen))]
