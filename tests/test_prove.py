"""Experiments of the proof: each judge with the twin as it is, and with chips that are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm.events import EVENT_DTYPE
from speckfarm_server.boards import known_answer
from speckfarm_server.check_vendor import check_configuration
from speckfarm_server.chip import CHIPS, DECIMATOR_CODES
from speckfarm_server.configuration import CoreConfiguration
from speckfarm_server.errors import BadInput
from speckfarm_server.prove import arithmetic, decimators, delays, order, senses, states
from speckfarm_server.prove.answer import Answer, Verdict
from speckfarm_server.prove.catalogue import EXPERIMENTS
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.rules import TWINS, Rules, Signature, compute, outcome_signature
from speckfarm_server.prove.trial import FIRST_US, Outcome, Trial, predict, set_back
from speckfarm_server.settings import Settings
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions

BY_NAME = {each.name: each for each in EXPERIMENTS}
MEASURED_POWER = {"VDD_IO": 0.001, "VDD_RAM": 0.002}


def trials(name: str) -> Sequence[Trial]:
    return BY_NAME[name].trials("speck2f")


def judged(name: str, assumptions: Assumptions = ASSUMPTIONS) -> Answer:
    return BY_NAME[name].judge([predict(trial, assumptions) for trial in trials(name)])


def spikes_of(signature: Signature, gap_us: int, layer: int = 0) -> Outcome:
    """An outcome with these spikes, each soon after its event."""
    recordings = []
    for each in signature:
        spikes = np.zeros(len(each), EVENT_DTYPE)
        for number, (place, feature) in enumerate(each):
            spikes[number] = (FIRST_US + gap_us * place + 1, layer, feature, 0, 0)
        recordings.append(spikes)
    return Outcome(spikes=tuple(recordings))


def both_layers(first: Outcome, second: Outcome) -> Outcome:
    pairs = zip(first.spikes, second.spikes, strict=True)
    return Outcome(spikes=tuple(np.concatenate(pair) for pair in pairs))


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.name)
def test_a_board_like_the_twin_is_as_assumed(experiment: Experiment) -> None:
    outcomes = [predict(trial) for trial in experiment.trials("speck2f")]
    if experiment.name == "power":
        outcomes = [replace(outcome, power_w=MEASURED_POWER) for outcome in outcomes]

    answer = experiment.judge(outcomes)

    assert answer.verdict is Verdict.AS_ASSUMED, answer.found
    for name, value in answer.sets.items():
        assumed = getattr(ASSUMPTIONS, name)
        assert value == (list(assumed) if isinstance(assumed, tuple) else assumed)


@pytest.mark.parametrize("chip", ["speck2f", "speck2e"])
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.name)
def test_the_check_lets_every_trial_run_as_it_is_meant(experiment: Experiment, chip: str) -> None:
    for trial in experiment.trials(chip):
        report = check_configuration(trial.as_read, CHIPS[chip], Settings())

        errors = [each.message for each in report.findings if each.severity == "error"]
        assert errors == []
        assert report.configuration is not None
        made = report.configuration.cores
        meant = trial.configuration.cores
        assert [each.monitor_enable for each in made] == [each.monitor_enable for each in meant]
        assert [each.core for each in made] == [each.core for each in meant]


def test_a_chip_whose_files_have_no_decimator_refuses_before_anything_is_sent() -> None:
    with pytest.raises(BadInput) as caught:
        _ = BY_NAME["decimators"].trials("speck2b")[0].model

    assert caught.value.reason == "NOT_IN_VENDOR_JSON"


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


@pytest.mark.parametrize("name", [name for name, _ in order._orders()])
def test_every_order_along_axes_is_recognised(name: str) -> None:
    key = dict(order._orders())[name]
    neurons = [(f, y, x) for f in range(3) for y in range(3) for x in range(3)]
    by_rank = sorted(neurons, key=key)
    spikes = np.zeros(order.REACHED, EVENT_DTYPE)
    for number, at in enumerate(range(7, order.REACHED * order.RATIO, order.RATIO)):
        event, rank = divmod(at, order.REACHED)
        f, y, x = by_rank[rank]
        spikes[number] = (FIRST_US + order.GAP_US * event, 0, f, y, x)

    answer = order.judge_order([Outcome(spikes=(spikes,))])

    assert answer.sets == {"neuron_order": name}
    assert (answer.verdict is Verdict.AS_ASSUMED) == (name == ASSUMPTIONS.neuron_order)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_order_that_is_drawn_anew_for_each_event_is_not_told(seed: int) -> None:
    assert judged("neuron order", replace(ASSUMPTIONS, order_seed=seed)).verdict is (
        Verdict.NOT_TOLD
    )


def test_cores_0_and_1_that_do_not_repeat_are_told_from_the_others() -> None:
    seeds = [replace(ASSUMPTIONS, order_seed=seed) for seed in range(order.REPEATS)]
    outcomes = []
    for core, trial in zip(order.CORES, trials("repeats"), strict=True):
        drawn = [predict(trial, each).spikes[0] for each in seeds]
        varied = Outcome(spikes=tuple(drawn))
        outcomes.append(varied if core in (0, 1) else predict(trial))

    answer = order.judge_repeats(outcomes)

    assert answer.verdict is Verdict.DIFFERENT
    assert "on cores 0, 1" in answer.found
    assert answer.figures["core 2"]["spikes_unlike_the_first"] == [0] * order.REPEATS


def test_a_core_that_should_repeat_and_does_not_points_at_lost_spikes() -> None:
    outcomes = [predict(trial) for trial in trials("repeats")]
    spikes = outcomes[2].spikes
    outcomes[2] = Outcome(spikes=(spikes[0][1:], *spikes[1:]))

    answer = order.judge_repeats(outcomes)

    assert answer.verdict is Verdict.DIFFERENT
    assert "cable" in answer.advice


@pytest.mark.parametrize(
    ("fixed_ns", "pipe_ns"), [(0, 0), (150, 250), (320, 0), (900, 120), (4000, 250)]
)
def test_the_delays_of_a_core_are_found_back(fixed_ns: int, pipe_ns: int) -> None:
    answer = judged("delays", replace(ASSUMPTIONS, fixed_ns=fixed_ns, pipe_ns=pipe_ns))

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.sets["fixed_ns"] == pytest.approx(fixed_ns, abs=4)
    assert answer.sets["pipe_ns"] == pytest.approx(pipe_ns, abs=15)
    assert answer.sets["rate_factors"] == [1.0] * 9


@pytest.mark.parametrize(("core", "factor"), [*enumerate([0.2, 0.9, 1.5] * 3)])
def test_the_rate_of_each_core_is_found_back_and_the_others_left(core: int, factor: float) -> None:
    factors = tuple(factor if number == core else 1.0 for number in range(9))

    answer = judged("delays", replace(ASSUMPTIONS, rate_factors=factors))

    assert answer.verdict is Verdict.DIFFERENT
    found = answer.sets["rate_factors"]
    assert isinstance(found, list)
    assert found[core] == pytest.approx(factor, rel=0.01)
    assert [each for number, each in enumerate(found) if number != core] == [1.0] * 8


def test_weights_of_0_that_cost_nothing_are_recognised() -> None:
    sent = trials("delays")
    outcomes = [predict(trial) for trial in sent]
    free = replace(ASSUMPTIONS, rate_factors=(1e6,) * 9)
    outcomes[delays.CORES] = predict(sent[delays.CORES], free)

    answer = delays.judge_delays(outcomes)

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.sets["zero_weights"] == "cost nothing"


def test_a_clock_that_is_ahead_moves_the_offset_and_no_constant() -> None:
    outcomes = [predict(trial) for trial in trials("delays")]
    for outcome in outcomes:
        for spikes in outcome.spikes:
            spikes["t"] += 9

    answer = delays.judge_delays(outcomes)

    assert answer.verdict is Verdict.AS_ASSUMED
    assert answer.figures["offset_us"] == pytest.approx(9, abs=0.1)


def test_a_chain_that_drops_a_spike_leaves_the_way_between_cores_untold() -> None:
    outcomes = [predict(trial) for trial in trials("delays")]
    outcomes[-1] = Outcome(spikes=(outcomes[-1].spikes[0][1:],))

    answer = delays.judge_delays(outcomes)

    assert "pipe_ns" not in answer.sets
    assert "not told" in answer.found


@pytest.mark.parametrize("depth", [2, 3, 8, 15, 17, 40, 60])
def test_the_depth_of_a_queue_is_found_back(depth: int) -> None:
    answer = judged("queue", replace(ASSUMPTIONS, fifo_depth=depth))

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.sets == {"fifo_depth": depth}


@pytest.mark.parametrize("depth", [64, 1000])
def test_a_queue_that_takes_all_is_not_told(depth: int) -> None:
    answer = judged("queue", replace(ASSUMPTIONS, fifo_depth=depth))

    assert answer.verdict is Verdict.NOT_TOLD
    assert answer.sets == {}


@pytest.mark.parametrize(("factor", "growing"), [(0.5, 6), (3.0, 1)])
def test_lags_grow_from_another_rate_on_where_a_core_is_slower_or_faster(
    factor: float, growing: int
) -> None:
    answer = judged("overrun", replace(ASSUMPTIONS, rate_factors=(factor,) * 9))

    assert answer.verdict is Verdict.DIFFERENT
    assert f"not at {1e6 / growing:,.0f}" in answer.found


def test_a_core_that_drops_instead_of_stalling_is_told() -> None:
    [outcome] = [predict(trial) for trial in trials("overrun")]
    spikes = (*outcome.spikes[:-1], outcome.spikes[-1][::2])

    answer = BY_NAME["overrun"].judge([Outcome(spikes=spikes)])

    assert answer.verdict is Verdict.DIFFERENT
    assert "loses spikes" in answer.found


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ((True, True, True), "after configuring is lost, after a state reset it is lost"),
        ((False, True, True), "after configuring is kept, after a state reset it is lost"),
        ((True, False, False), "after configuring is lost, after a state reset it is kept"),
    ],
)
def test_a_first_event_that_is_lost_is_told_and_asks_for_a_sacrifice(
    lost: tuple[bool, ...], words: str
) -> None:
    [outcome] = [predict(trial) for trial in trials("first event")]
    spikes = tuple(
        each[1:] if is_lost else each for is_lost, each in zip(lost, outcome.spikes, strict=True)
    )

    answer = states.judge_first_event([Outcome(spikes=spikes)])

    assert answer.verdict is Verdict.DIFFERENT
    assert words in answer.found
    assert "sacrifice" in answer.advice


def test_a_sacrifice_that_was_not_needed_is_told() -> None:
    [outcome] = [predict(trial) for trial in trials("first event")]
    twice = tuple(np.concatenate([each[:1], each]) for each in outcome.spikes)

    answer = states.judge_first_event([Outcome(spikes=twice, first_event="sacrifice")])

    assert answer.verdict is Verdict.AS_ASSUMED
    assert "keep" in answer.advice


def test_a_sacrifice_that_makes_up_for_the_loss_shows_the_loss() -> None:
    outcomes = [replace(predict(each), first_event="sacrifice") for each in trials("first event")]

    answer = states.judge_first_event(outcomes)

    assert answer.verdict is Verdict.DIFFERENT
    assert "makes up for it" in answer.found
    assert answer.advice == ""


@pytest.mark.parametrize("fires", [">=", ">"])
@pytest.mark.parametrize(
    ("held", "value"),
    [
        ((True, True), states.HELD),
        ((True, False), states.NOT_AGAIN),
        ((False, False), states.NEVER),
    ],
)
def test_when_the_initial_state_holds_is_told(
    held: tuple[bool, bool], value: str, fires: Any
) -> None:
    assumptions = replace(ASSUMPTIONS, fires=fires)
    zero = np.zeros_like(states.initial_state())
    spikes = [
        predict(states._maps_trial("speck2f", None if each else zero), assumptions).spikes[0]
        for each in held
    ]

    answer = states.judge_maps([Outcome(spikes=tuple(spikes))])

    assert answer.sets == {"initial_state": value}
    assert (answer.verdict is Verdict.AS_ASSUMED) == (value == states.HELD)


def test_a_map_whose_axes_are_swapped_somewhere_is_different() -> None:
    [outcome] = [predict(trial) for trial in trials("maps")]
    for spikes in outcome.spikes:
        number = spikes["y"].astype(int) + 3 * spikes["x"]  # written with the other axis first
        spikes["y"], spikes["x"] = number // 6, number % 6

    answer = states.judge_maps([outcome])

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.figures["astray"] > 0


def test_a_reset_that_does_not_reach_all_neurons_is_different() -> None:
    [outcome] = [predict(trial) for trial in trials("maps")]
    missing = outcome.spikes[1][3:]

    answer = states.judge_maps([Outcome(spikes=(outcome.spikes[0], missing))])

    assert answer.verdict is Verdict.DIFFERENT
    assert "state reset" in answer.found


@pytest.mark.parametrize(
    ("shift_us", "words"),
    [(-3, "before those of their events"), (200, "lag 200.00 us")],
)
def test_stamps_far_from_their_events_are_different(shift_us: int, words: str) -> None:
    [outcome] = [predict(trial) for trial in trials("stamps")]
    for spikes in outcome.spikes:
        spikes["t"] += shift_us

    answer = BY_NAME["stamps"].judge([outcome])

    assert answer.verdict is Verdict.DIFFERENT
    assert words in answer.found


@pytest.mark.parametrize("offset_us", [-700, 40, 5000])
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.name)
def test_a_clock_that_is_off_is_set_right_by_what_stamps_told(
    experiment: Experiment, offset_us: int
) -> None:
    def board(each: Experiment) -> list[Outcome]:
        outcomes = [predict(trial) for trial in each.trials("speck2f")]
        for outcome in outcomes:
            for spikes in outcome.spikes:
                spikes["t"] += offset_us
        return outcomes

    told = senses.offset_us(BY_NAME["stamps"].judge(board(BY_NAME["stamps"])))
    answer = experiment.judge([set_back(outcome, told) for outcome in board(experiment)])

    assert told == offset_us
    assert answer.verdict is (
        Verdict.NOT_TOLD if experiment.name == "power" else Verdict.AS_ASSUMED
    )


def test_clocks_that_run_apart_are_different() -> None:
    [outcome] = [predict(trial) for trial in trials("stamps")]
    outcome.spikes[2]["t"][1] += 40

    answer = BY_NAME["stamps"].judge([outcome])

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.figures["drift_us_per_s"] == 40


@pytest.mark.parametrize("power_w", [{}, {"VDD_IO": 0.0}])
def test_a_board_without_power_figures_does_not_tell_power(power_w: dict[str, float]) -> None:
    outcomes = [replace(predict(each), power_w=power_w) for each in trials("power")]

    assert BY_NAME["power"].judge(outcomes).verdict is Verdict.NOT_TOLD


def test_a_known_answer_that_moved_is_told_and_kept_for_the_board() -> None:
    [outcome] = [predict(trial) for trial in trials("known answer")]
    fewer = tuple(spikes[::2] for spikes in outcome.spikes)

    answer = BY_NAME["known answer"].judge([Outcome(spikes=fewer)])

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.known_answer is not None
    halves = np.array(known_answer.COUNTS) / 2
    assert np.abs(np.array(answer.known_answer["counts"]) - halves).max() <= 25


def test_a_known_answer_that_varies_is_judged_with_more_tolerance() -> None:
    [outcome] = [predict(trial) for trial in trials("known answer")]
    classes = known_answer.CLASSES
    fewer = tuple(
        spikes[: len(spikes) * 9 // 10] if number < classes else spikes
        for number, spikes in enumerate(outcome.spikes)
    )

    steady = BY_NAME["known answer"].judge([outcome]).known_answer
    varied = BY_NAME["known answer"].judge([Outcome(spikes=fewer)]).known_answer

    assert steady is not None
    assert varied is not None
    assert steady["tolerance"] == 0.05 < varied["tolerance"] < 1
    assert known_answer.judge(steady["counts"], varied["counts"], varied["tolerance"]) == []


@st.composite
def outcomes_of(draw: st.DrawFn, experiment: Experiment) -> list[Outcome]:
    """Whatever a broken board may send."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    made = []
    for trial in experiment.trials("speck2f"):
        features = max(core.output_shape[0] for core in trial.configuration.cores)
        recordings = []
        for _ in trial.recordings:
            spikes = np.zeros(draw(st.sampled_from([0, 0, 1, 3, 200])), EVENT_DTYPE)
            spikes["t"] = np.sort(rng.integers(0, draw(st.sampled_from([1, 10**4])), len(spikes)))
            spikes["layer"] = rng.integers(0, len(trial.configuration.cores), len(spikes))
            spikes["feature"] = rng.integers(0, features, len(spikes))
            spikes["y"], spikes["x"] = rng.integers(0, 3, (2, len(spikes)))
            recordings.append(spikes)
        made.append(Outcome(spikes=tuple(recordings)))
    return made


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.name)
def test_whatever_a_broken_board_sends_is_answered(
    experiment: Experiment,
) -> None:
    seen: list[Verdict] = []

    @settings(max_examples=6)
    @given(outcomes_of(experiment))
    def judge(outcomes: list[Outcome]) -> None:
        answer = experiment.judge(outcomes)
        assert answer.found
        seen.append(answer.verdict)

    judge()
    assert set(seen) - {Verdict.AS_ASSUMED}


def test_every_experiment_is_explained() -> None:
    text = (Path(__file__).parents[1] / "docs" / "explanation" / "proof.md").read_text()

    assert [each.name for each in EXPERIMENTS if f"| {each.name} |" not in text] == []
