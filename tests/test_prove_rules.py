"""Rules of neurons and decimators: the twin's, and each alternative is recognised."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from speckfarm_server.chip import DECIMATOR_CODES
from speckfarm_server.configuration import CoreConfiguration
from speckfarm_server.prove import arithmetic, decimators
from speckfarm_server.prove.answer import Answer, Verdict
from speckfarm_server.prove.rules import TWINS, Rules, compute, outcome_signature
from speckfarm_server.prove.trial import Outcome, predict
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions
from tests.prove_outcomes import BY_NAME, both_layers, spikes_of, trials


@pytest.mark.parametrize(
    ("configuration", "features"),
    [
        (arithmetic._comparison("speck2f"), arithmetic.COMPARISON),
        (arithmetic._reset("speck2f", zero=False), arithmetic.RESET),
        (arithmetic._reset("speck2f", zero=True), arithmetic.RESET),
        (arithmetic._charge("speck2f"), arithmetic.CHARGE),
        (arithmetic._upper("speck2f"), arithmetic.UPPER),
        (arithmetic._lower("speck2f"), arithmetic.LOWER),
        (arithmetic._clip("speck2f"), arithmetic.CLIP),
        (arithmetic._clip_order("speck2f"), arithmetic.CLIP_ORDER),
    ],
)
@pytest.mark.parametrize("fires", [">=", ">"])
def test_the_rules_in_python_are_those_of_the_twin(
    configuration: Any, features: list[int], fires: Any
) -> None:
    outcome = predict(
        arithmetic.trial_of("any", configuration, features), replace(ASSUMPTIONS, fires=fires)
    )

    computed = compute(configuration.cores[0], [features], replace(TWINS, fires=fires))

    assert computed == outcome_signature(outcome, 0, gap_us=arithmetic.GAP_US)


@pytest.mark.parametrize("passes", ["last", "first"])
@pytest.mark.parametrize("ratio", [2, 32, 512])
def test_the_decimator_in_python_is_that_of_the_twin(ratio: int, passes: Any) -> None:
    trial = next(each for each in trials("decimators") if each.name == f"1 in {ratio}")
    outcome = predict(trial, replace(ASSUMPTIONS, decimator_passes=passes))

    rules = replace(TWINS, decimator_passes=passes)
    first = trial.configuration.cores[0]
    computed = compute(first, decimators.trains_of(ratio), rules)

    assert computed == outcome_signature(outcome, 1, gap_us=decimators.GAP_US)


def of_one_neuron(configuration: Any, features: list[int], rules: Rules) -> Outcome:
    core: CoreConfiguration = configuration.cores[0]
    return spikes_of(compute(core, [features], rules), arithmetic.GAP_US)


def by_rules(name: str, rules: Rules) -> Answer:
    """What an experiment on one neuron says of a chip with other rules."""
    sent = {
        "comparison": [(arithmetic._comparison("speck2f"), arithmetic.COMPARISON)],
        "resets": [
            (arithmetic._reset("speck2f", zero=False), arithmetic.RESET),
            (arithmetic._reset("speck2f", zero=True), arithmetic.RESET),
            (arithmetic._charge("speck2f"), arithmetic.CHARGE),
        ],
        "saturation": [
            (arithmetic._upper("speck2f"), arithmetic.UPPER),
            (arithmetic._lower("speck2f"), arithmetic.LOWER),
        ],
        "clip": [(arithmetic._clip("speck2f"), arithmetic.CLIP)],
        "clip order": [(arithmetic._clip_order("speck2f"), arithmetic.CLIP_ORDER)],
    }
    return BY_NAME[name].judge([of_one_neuron(*each, rules) for each in sent[name]])


@pytest.mark.parametrize(
    ("experiment", "rule", "value"),
    [
        ("comparison", "fires", ">"),
        ("resets", "spikes_per_arrival", "until below the threshold"),
        ("resets", "subtracts", "subtract clears all"),
        ("resets", "zeroes", "zero leaves the rest"),
        ("saturation", "saturation", "wraps at 16 bits"),
        ("saturation", "saturation", "beyond 16 bits"),
    ],
)
@pytest.mark.parametrize("fires", [">=", ">"])
def test_another_rule_of_a_neuron_is_recognised(
    experiment: str, rule: str, value: str, fires: str
) -> None:
    answer = by_rules(experiment, replace(TWINS, **{"fires": fires, rule: value}))  # type: ignore[arg-type]

    assert answer.verdict is Verdict.DIFFERENT
    assert f"{rule}: {value}" in answer.found
    if rule in {each.name for each in fields(Assumptions)}:
        assert answer.sets[rule] == value


def test_a_state_that_nothing_holds_from_below_is_recognised() -> None:
    answer = by_rules("clip", replace(TWINS, lower_clip="never"))

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.found == "threshold_low does not hold the state"


@pytest.mark.parametrize(
    "rules",
    [
        replace(TWINS, lower_clip="per arriving spike, after comparison"),
        replace(TWINS, fires=">"),
    ],
)
def test_silence_at_two_thresholds_of_0_has_two_causes_and_none_is_claimed(rules: Rules) -> None:
    answer = by_rules("clip order", rules)

    assert answer.verdict is Verdict.NOT_TOLD
    assert answer.sets == {}


@pytest.mark.parametrize("name", ["comparison", "resets", "saturation", "clip", "clip order"])
def test_spikes_that_no_rule_explains_are_different_and_set_nothing(name: str) -> None:
    outcomes = [predict(trial) for trial in trials(name)]
    spoilt = [
        replace(each, spikes=tuple(spikes[::2] for spikes in each.spikes)) for each in outcomes
    ]

    answer = BY_NAME[name].judge(spoilt)

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.sets == {}


def decimated(rules: Rules, *, tap: str = decimators.AFTER) -> Answer:
    outcomes = []
    for ratio in DECIMATOR_CODES:
        first = decimators.decimated("speck2f", ratio).cores[0]
        passed = compute(first, decimators.trains_of(ratio), rules)
        fired = compute(replace(first, decimator=None), decimators.trains_of(ratio), rules)
        seen = passed if tap == decimators.AFTER else fired
        outcomes.append(
            both_layers(
                spikes_of(seen, decimators.GAP_US), spikes_of(passed, decimators.GAP_US, layer=1)
            )
        )
    return decimators.judge_decimators(outcomes)


@pytest.mark.parametrize(
    "changed",
    [
        {"decimator_passes": "first"},
        {"decimator_counter": "per neuron"},
        {"decimator_cleared_by": "configure and state reset"},
        {"decimator_counter": "per neuron", "decimator_passes": "first"},
        {
            "decimator_counter": "per neuron",
            "decimator_passes": "first",
            "decimator_cleared_by": "configure and state reset",
        },
    ],
)
def test_another_rule_of_decimators_is_recognised(changed: dict[str, str]) -> None:
    answer = decimated(replace(TWINS, **changed))  # type: ignore[arg-type]

    assert answer.verdict is Verdict.DIFFERENT
    assumed = {name: getattr(TWINS, name) for name in decimators._VARIED}
    assert answer.sets == {**assumed, **changed, "monitor_tap": decimators.AFTER}
    assert "all eight ratios as documented" in answer.found


def test_a_ratio_that_is_not_the_documented_one_is_named() -> None:
    outcomes = [predict(trial) for trial in trials("decimators")]
    first = decimators.decimated("speck2f", 128).cores[0]
    passed = compute(first, decimators.trains_of(128), replace(TWINS, ratio=64))
    as_64 = [spikes_of(passed, decimators.GAP_US, layer=layer) for layer in (0, 1)]
    outcomes[DECIMATOR_CODES[128]] = both_layers(*as_64)

    answer = decimators.judge_decimators(outcomes)

    assert answer.verdict is Verdict.DIFFERENT
    assert "code 5: 64" in answer.found
    assert answer.figures["ratio_of_code"]["5"] == 64


def test_a_monitor_before_the_decimator_is_recognised() -> None:
    answer = decimated(TWINS, tap=decimators.BEFORE)

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.sets["monitor_tap"] == decimators.BEFORE
