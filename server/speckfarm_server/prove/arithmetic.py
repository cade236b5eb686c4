"""Experiments on one neuron: comparison, reset modes, the ends of 16 bits, the lower clip."""

from __future__ import annotations

from collections.abc import Sequence

from speckfarm_server.configuration import Configuration
from speckfarm_server.prove.answer import Answer, Verdict, not_told
from speckfarm_server.prove.build import neuron
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.rules import (
    Rules,
    answer_from,
    counts_of,
    fitting,
    in_short,
    outcome_signature,
    told,
)
from speckfarm_server.prove.trial import Outcome, Trial, train

GAP_US = 100

# Weight 10, threshold 30: the third event reaches it exactly.
COMPARISON = [0] * 12
# Weights 50 and 0, threshold 70: after 100 the reset leaves 30 or nothing.
RESET = [0] * 9
# Weight 120, threshold 40: one event leaves charge for two more spikes; weight 0 asks for them.
CHARGE = [0, 1, 1, 1, 1]
# Weights 127 and 0, threshold 100: each event leaves 27 more, so the state reaches 32767 after
# 1,211 events. A state that wraps misses spikes; how long it fires afterwards tells the rest.
UPPER = [0] * 1400 + [1] * 420
# Weights -128 and 127, threshold 100, lowest -32768: 300 events go beyond it, 127 brings it back.
LOWER = [0] * 300 + [1] * 320
# Weights -20 and 20, threshold 60, lowest -50.
CLIP = [0] * 10 + [1] * 16
# Weight -5, both thresholds 0: clipped to 0 before the comparison it fires, after it it does not.
CLIP_ORDER = [0] * 6


def _comparison(chip: str) -> Configuration:
    return neuron(chip, [10], threshold_high=30)


def _reset(chip: str, *, zero: bool) -> Configuration:
    return neuron(chip, [50], threshold_high=70, return_to_zero=zero)


def _charge(chip: str) -> Configuration:
    return neuron(chip, [120, 0], threshold_high=40)


def _upper(chip: str) -> Configuration:
    return neuron(chip, [127, 0], threshold_high=100, threshold_low=-100)


def _lower(chip: str) -> Configuration:
    return neuron(chip, [-128, 127], threshold_high=100, threshold_low=-32768)


def _clip(chip: str) -> Configuration:
    return neuron(chip, [-20, 20], threshold_high=60, threshold_low=-50)


def _clip_order(chip: str) -> Configuration:
    return neuron(chip, [-5], threshold_high=0, threshold_low=0)


def trial_of(name: str, configuration: Configuration, features: Sequence[int]) -> Trial:
    """One recording: a train behind a primer."""
    primer = configuration.input_shape[0] - 1
    recording = train(features, gap_us=GAP_US, primer=primer)
    return Trial(name=name, configuration=configuration, recordings=(recording,))


def _fits(
    configuration: Configuration, features: Sequence[int], outcome: Outcome, *varied: str
) -> list[Rules]:
    found = outcome_signature(outcome, 0, gap_us=GAP_US)
    return fitting(configuration.cores[0], [features], found, varied)


def judge_comparison(outcomes: Sequence[Outcome]) -> Answer:
    """One trial."""
    fits = _fits(_comparison(ANY), COMPARISON, outcomes[0], "fires")
    signature = outcome_signature(outcomes[0], 0, gap_us=GAP_US)
    return answer_from(
        [told(fits, "fires")],
        {"fired_after_events": in_short(signature)},
        sets=["fires"],
        nothing_fits="the neuron fired at events that neither >= nor > explains",
    )


def judge_resets(outcomes: Sequence[Outcome]) -> Answer:
    """Trials: subtract, zero, charge."""
    subtract, zero, charge = outcomes
    subtracts = told(
        _fits(_reset(ANY, zero=False), RESET, subtract, "subtracts", "fires"), "subtracts"
    )
    zeroes = told(_fits(_reset(ANY, zero=True), RESET, zero, "zeroes", "fires"), "zeroes")
    charged = _fits(_charge(ANY), CHARGE, charge, "spikes_per_arrival", "subtracts", "fires")
    agreeing = [each for each in charged if each.subtracts in subtracts.values]
    found = [subtracts, zeroes, told(agreeing, "spikes_per_arrival")]
    signatures = [outcome_signature(each, 0, gap_us=GAP_US) for each in outcomes]
    return answer_from(
        found,
        dict(zip(("subtract", "zero", "charge"), map(in_short, signatures), strict=True)),
        sets=["spikes_per_arrival"],
        nothing_fits="the neuron fired at events that no known reset explains",
    )


def judge_saturation(outcomes: Sequence[Outcome]) -> Answer:
    """Trials: upper end, lower end."""
    upper = _fits(_upper(ANY), UPPER, outcomes[0], "saturation", "fires")
    lower = _fits(_lower(ANY), LOWER, outcomes[1], "saturation", "fires")
    both = [one for one in upper if one.saturation in {each.saturation for each in lower}]
    signatures = [outcome_signature(each, 0, gap_us=GAP_US) for each in outcomes]
    return answer_from(
        [told(both, "saturation")],
        {
            "spikes_at_upper_end": counts_of(signatures[0]),
            "spikes_at_lower_end": counts_of(signatures[1]),
        },
        sets=["saturation"],
        nothing_fits="states at the ends of 16 bits neither stay, nor wrap, nor go on",
    )


def judge_clip(outcomes: Sequence[Outcome]) -> Answer:
    """One trial."""
    fits = _fits(_clip(ANY), CLIP, outcomes[0], "lower_clip", "fires")
    signature = outcome_signature(outcomes[0], 0, gap_us=GAP_US)
    is_clipped = [each for each in fits if each.lower_clip != "never"]
    first = signature[0][0][0] - 9 if signature[0] else None
    figures = {"events_from_the_lower_threshold_to_a_spike": first}
    if is_clipped and len(is_clipped) == len(fits):
        return Answer(
            verdict=Verdict.AS_ASSUMED,
            found=f"threshold_low holds the state: {first} events from there to a spike",
            figures=figures,
        )
    words = "threshold_low does not hold the state" if fits else "no known clip explains the spikes"
    return Answer(verdict=Verdict.DIFFERENT, found=words, figures=figures)


def judge_clip_order(outcomes: Sequence[Outcome]) -> Answer:
    """One trial."""
    fits = _fits(_clip_order(ANY), CLIP_ORDER, outcomes[0], "lower_clip", "fires")
    signature = outcome_signature(outcomes[0], 0, gap_us=GAP_US)
    figures = {"spikes": counts_of(signature)[0]}
    if not signature[0]:
        text = "nothing fired with both thresholds 0: clipped after the comparison, or fires at >"
        return not_told(text, figures)
    return answer_from(
        [told(fits, "lower_clip")],
        figures,
        sets=["lower_clip"],
        nothing_fits="with both thresholds 0 it fired at some events and not at others",
    )


ANY = "speck2f"  # the arithmetic of a trial is the same on every chip
EXPERIMENTS = (
    Experiment(
        name="comparison",
        question="Does a neuron fire when its state reaches the threshold, or beyond it?",
        settles="`fires`",
        trials=lambda chip: [trial_of("comparison", _comparison(chip), COMPARISON)],
        judge=judge_comparison,
    ),
    Experiment(
        name="resets",
        question="What do the reset modes leave, and how often does a neuron fire for one event?",
        settles="`spikes_per_arrival`, the reset modes",
        trials=lambda chip: [
            trial_of("subtract", _reset(chip, zero=False), RESET),
            trial_of("zero", _reset(chip, zero=True), RESET),
            trial_of("charge", _charge(chip), CHARGE),
        ],
        judge=judge_resets,
    ),
    Experiment(
        name="saturation",
        question="What does a state do at the ends of its 16 bits?",
        settles="`saturation`",
        trials=lambda chip: [
            trial_of("upper end", _upper(chip), UPPER),
            trial_of("lower end", _lower(chip), LOWER),
        ],
        judge=judge_saturation,
    ),
    Experiment(
        name="clip",
        question="Does threshold_low hold the state after each event?",
        settles="`lower_clip`",
        trials=lambda chip: [trial_of("clip", _clip(chip), CLIP)],
        judge=judge_clip,
    ),
)
# The vendor advises against threshold_low = 0 (Datasheet, known bugs), and no other configuration
# shows the order; it is asked last.
RISKY = Experiment(
    name="clip order",
    question="Is the state clipped before it is compared with the threshold?",
    settles="`lower_clip`",
    trials=lambda chip: [trial_of("clip order", _clip_order(chip), CLIP_ORDER)],
    judge=judge_clip_order,
    is_risky=True,
)
