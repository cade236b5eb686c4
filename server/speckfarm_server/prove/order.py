"""Experiments on order: that of the neurons of one event, and that of cores 0 and 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product
from typing import TypeAlias

import numpy as np

from speckfarm_server.prove.answer import Answer, Verdict, not_told
from speckfarm_server.prove.build import chain, core, with_primer
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.trial import (
    FIRST_US,
    PRIMER_US,
    Events,
    Outcome,
    Trial,
    events,
    of_layer,
    places,
)

Neuron: TypeAlias = tuple[int, int, int]  # feature, y, x
Key: TypeAlias = Callable[[Neuron], tuple[int, ...]]  # to sort neurons by
GAP_US = 200
# One event reaches 3 features on 3 x 3 places. 27 spikes an event and 1 in 32 passing: 27 and 32
# have no common divisor, so in 32 events each place in the order passes exactly once.
REACHED, RATIO = 27, 32
ASSUMED = "y, x, feature, each ascending"

REPEATS = 6
BUSY_EVENTS = 1200
CORES = (0, 1, 2)  # 0 and 1 work on two things at once (Datasheet); 2 stands for the others


def _order_trial(chip: str) -> Trial:
    weights = np.full((3, 1, 3, 3), 2)
    first = core(3, weights, size=(5, 5), return_to_zero=True, decimator=RATIO)
    times_us = [PRIMER_US, *(FIRST_US + GAP_US * np.arange(RATIO))]
    recording = events(times_us, [1, *[0] * RATIO], y=2, x=2)
    return Trial(
        name="order", configuration=chain(chip, with_primer(first)), recordings=(recording,)
    )


def judge_order(outcomes: Sequence[Outcome]) -> Answer:
    """One trial."""
    spikes = of_layer(outcomes[0].spikes[0], 0)
    order = order_of(spikes)
    figures = {"spikes": len(spikes), "order_feature_y_x": [list(each) for each in order]}
    if not order:
        text = f"{len(spikes)} spikes passed, which are no fixed order of {REACHED} neurons"
        return not_told(text, figures)
    name = next((name for name, key in _orders() if sorted(order, key=key) == order), "")
    if not name:
        text = "neurons fire in a fixed order, but not along one axis after the other"
        return Answer(verdict=Verdict.DIFFERENT, found=text, figures=figures)
    verdict = Verdict.AS_ASSUMED if name == ASSUMED else Verdict.DIFFERENT
    sets = {"neuron_order": name}
    return Answer(verdict=verdict, found=f"neurons fire by {name}", figures=figures, sets=sets)


def order_of(spikes: Events) -> list[Neuron]:
    """Neurons in the order in which one event reaches them; [] if these spikes do not tell."""
    places_of: dict[Neuron, int] = {}
    numbers = places(spikes, gap_us=GAP_US)
    for number, feature, y, x in zip(
        numbers.tolist(), *(spikes[name].tolist() for name in ("feature", "y", "x")), strict=True
    ):
        places_of[feature, y, x] = -REACHED * number % RATIO
    taken = set(places_of.values())
    if len(spikes) != REACHED or len(taken) != REACHED:
        return []
    # Which spikes pass first is not known, so places are known up to a turn; the five that are
    # missing lie behind the last.
    for first in taken:
        if all((first + at) % RATIO in taken for at in range(REACHED)):
            return sorted(places_of, key=lambda neuron: (places_of[neuron] - first) % RATIO)
    return []


def _orders() -> Iterator[tuple[str, Key]]:
    """Along one axis after the other, each up or down; the twin's first."""
    axes = {"feature": 0, "y": 1, "x": 2}
    for names in permutations(("y", "x", "feature")):
        for words in product(("ascending", "descending"), repeat=3):
            text = ", ".join(f"{name} {word}" for name, word in zip(names, words, strict=True))
            if len(set(words)) == 1:
                text = f"{', '.join(names)}, each {words[0]}"
            signs = [1 if word == "ascending" else -1 for word in words]
            yield text, _key([axes[name] for name in names], signs)


def _key(axes: Sequence[int], signs: Sequence[int]) -> Key:
    return lambda neuron: tuple(s * neuron[axis] for axis, s in zip(axes, signs, strict=True))


def _busy_trial(chip: str, number: int) -> Trial:
    """More events than the core can serve, so that some always wait; the same six times."""
    rng = np.random.default_rng(11)
    weights = rng.integers(-60, 61, (8, 1, 3, 3))
    made = core(number, weights, size=(12, 12), threshold_high=100, threshold_low=-100)
    y, x = rng.integers(3, 9, (2, BUSY_EVENTS))
    times_us = FIRST_US + np.arange(BUSY_EVENTS) // 2
    busy = events(times_us, y=y.tolist(), x=x.tolist())
    recording = np.concatenate([events([PRIMER_US], 1), busy])
    return Trial(
        name=f"core {number}",
        configuration=chain(chip, with_primer(made)),
        recordings=(recording,) * REPEATS,
    )


def judge_repeats(outcomes: Sequence[Outcome]) -> Answer:
    """A trial for each of CORES."""
    figures = {}
    varied = []
    for number, outcome in zip(CORES, outcomes, strict=True):
        counts = [_counts(spikes) for spikes in outcome.spikes]
        apart = [_apart(counts[0], each) for each in counts]
        spikes = [each.total() for each in counts]
        figures[f"core {number}"] = {"spikes": spikes, "spikes_unlike_the_first": apart}
        varied += [number] if any(apart) else []
    if not any(figures[f"core {number}"]["spikes"][0] for number in CORES):
        return not_told("nothing came out", figures)
    if not varied:
        text = f"{REPEATS} equal recordings gave equal spikes on cores 0, 1 and 2"
        return Answer(verdict=Verdict.AS_ASSUMED, found=text, figures=figures)
    named = ", ".join(map(str, varied))
    advice = "Keep layers whose results must repeat off cores 0 and 1"
    text = f"equal recordings gave other spikes on cores {named}"
    if set(varied) - {0, 1}:
        text += ", and the Datasheet says so of cores 0 and 1 only"
        advice = "Look at the cable and the hub first: spikes may be lost on their way"
    return Answer(verdict=Verdict.DIFFERENT, found=text, figures=figures, advice=advice)


def _counts(spikes: Events) -> Counter[Neuron]:
    return Counter(zip(*(spikes[name].tolist() for name in ("feature", "y", "x")), strict=True))


def _apart(one: Counter[Neuron], other: Counter[Neuron]) -> int:
    return (one - other).total() + (other - one).total()


EXPERIMENTS = (
    Experiment(
        name="neuron order",
        question="In which order does one event reach neurons?",
        settles="open question 4: `neuron_order`",
        trials=lambda chip: [_order_trial(chip)],
        judge=judge_order,
    ),
    Experiment(
        name="repeats",
        question="Do equal recordings give equal spikes, on cores 0 and 1 and on others?",
        settles="`cores_0_and_1`",
        trials=lambda chip: [_busy_trial(chip, number) for number in CORES],
        judge=judge_repeats,
    ),
)
