"""Rules that a core may follow, the twin's and others, and which of them fit what came out.

A core of one place (1 x 1 map) is enough: this is the arithmetic of twin/service.py with its
alternatives, in plain Python. A test holds the twin's own rules against the twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from speckfarm_server.configuration import CoreConfiguration
from speckfarm_server.prove.answer import Answer, Verdict, not_told, verdict_of
from speckfarm_server.prove.trial import Events, Outcome, places

# Of each recording: (number of the event behind the primer, feature) of each spike, sorted.
Signature: TypeAlias = tuple[tuple[tuple[int, int], ...], ...]


def rule(default: Any, *others: Any) -> Any:
    """A rule as the twin has it, and what a chip might do instead."""
    return field(default=default, metadata={"others": others})


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Names and values are those of twin Assumptions where the twin has the field."""

    fires: str = rule(">=", ">")
    saturation: str = rule("at -32768 and 32767", "wraps at 16 bits", "beyond 16 bits")
    lower_clip: str = rule(
        "per arriving spike, before comparison", "per arriving spike, after comparison", "never"
    )
    spikes_per_arrival: str = rule("one per neuron", "until below the threshold")
    subtracts: str = rule("subtract leaves the rest", "subtract clears all")
    zeroes: str = rule("zero clears all", "zero leaves the rest")
    decimator_passes: str = rule("last", "first")
    decimator_counter: str = rule("per core", "per neuron")
    decimator_cleared_by: str = rule("configure, not state reset", "configure and state reset")
    # Passes 1 in N; None: as configured.
    ratio: int | None = rule(None, *(1 << n for n in range(1, 11)))


TWINS = Rules()


@dataclass(frozen=True, kw_only=True)
class Told:
    """What outcomes say of one rule: the values that fit them, the twin's first."""

    name: str
    values: tuple[Any, ...]

    @property
    def is_told(self) -> bool:
        """Whether exactly one value fits."""
        return len(self.values) == 1


def signature_of(spikes: Sequence[Events], *, gap_us: int) -> Signature:
    """Of what came out behind the primer."""
    return tuple(_places_and_features(each, gap_us) for each in spikes)


def compute(core: CoreConfiguration, trains: Sequence[Sequence[int]], rules: Rules) -> Signature:
    """What a core of one place makes of trains of input features."""
    return tuple(_recordings(core, trains, rules))


def _recordings(
    core: CoreConfiguration, trains: Sequence[Sequence[int]], rules: Rules
) -> Iterator[tuple[tuple[int, int], ...]]:
    count = core.output_shape[0]
    counters = _counters(core, rules, count)
    weights = core.weights[:, :, 0, 0].astype(int).T.tolist()
    for number, features in enumerate(trains):
        states = [0] * count
        if number and rules.decimator_cleared_by == "configure and state reset":
            counters = _counters(core, rules, count)
        spikes = []
        for place, feature in enumerate(features):
            for neuron, weight in enumerate(weights[feature]):
                states[neuron], fired = _update(core, states[neuron] + weight, rules)
                passing = sum(_passes(core, counters, neuron, rules) for _ in range(fired))
                spikes += [(place, neuron)] * passing
        yield tuple(spikes)


def fitting(
    core: CoreConfiguration,
    trains: Sequence[Sequence[int]],
    found: Signature,
    varied: Sequence[str],
) -> list[Rules]:
    """The rules, some of them varied, that give what was found."""

    def fits(rules: Rules) -> bool:
        pairs = zip(_recordings(core, trains, rules), found, strict=True)
        return all(computed == came_out for computed, came_out in pairs)  # up to the first unlike

    return [rules for rules in variations(varied) if fits(rules)]


def variations(varied: Sequence[str]) -> Iterator[Rules]:
    """The twin's rules first, then each combination with others."""
    metadata = {each.name: each.metadata["others"] for each in fields(Rules)}
    values = [(getattr(TWINS, name), *metadata[name]) for name in varied]
    for combination in product(*values):
        yield replace(TWINS, **dict(zip(varied, combination, strict=True)))


def told(fits: Sequence[Rules], name: str) -> Told:
    """The values of one rule in all rules that fit."""
    return Told(name=name, values=tuple(dict.fromkeys(getattr(each, name) for each in fits)))


def answer_from(
    found: Sequence[Told],
    figures: Mapping[str, Any],
    *,
    sets: Sequence[str] = (),
    nothing_fits: str,
) -> Answer:
    """Put together what was told of several rules; `sets` are those with a field of the twin's."""
    if any(not each.values for each in found):
        return Answer(verdict=Verdict.DIFFERENT, found=nothing_fits, figures=figures)
    clear = [each for each in found if each.is_told]
    if not clear:
        words = "; ".join(f"{each.name}: {' or '.join(map(str, each.values))}" for each in found)
        return not_told(f"several rules fit ({words})", figures)
    return Answer(
        verdict=verdict_of(
            as_assumed=all(each.values[0] == getattr(TWINS, each.name) for each in clear)
        ),
        found="; ".join(_words(each) for each in found),
        figures=figures,
        sets={each.name: each.values[0] for each in clear if each.name in sets},
    )


def outcome_signature(outcome: Outcome, layer: int, *, gap_us: int) -> Signature:
    """Of one layer's spikes."""
    kept = [each[each["layer"] == layer] for each in outcome.spikes]
    return signature_of(kept, gap_us=gap_us)


def _places_and_features(spikes: Events, gap_us: int) -> tuple[tuple[int, int], ...]:
    pairs = zip(places(spikes, gap_us=gap_us).tolist(), spikes["feature"].tolist(), strict=True)
    return tuple(sorted((place, feature) for place, feature in pairs if place >= 0))


def _words(each: Told) -> str:
    values = " or ".join(map(str, each.values))
    return f"{each.name}: {values}" + ("" if each.is_told else " (not told apart)")


def _update(core: CoreConfiguration, state: int, rules: Rules) -> tuple[int, int]:
    """Saturate, clip, compare; the new state and how often it fired."""
    if rules.saturation.startswith("at"):
        state = min(32767, max(-32768, state))
    elif rules.saturation.startswith("wraps"):
        state = (state + 32768) % 65536 - 32768
    if rules.lower_clip.endswith("before comparison"):
        state = max(state, core.threshold_low)
    fired, most = 0, 1 if rules.spikes_per_arrival == "one per neuron" else 64
    while fired < most and _reaches(core, state, rules):
        state = 0 if _clears(core, rules) else state - core.threshold_high
        fired += 1
    if rules.lower_clip.endswith("after comparison"):
        state = max(state, core.threshold_low)
    return state, fired


def _reaches(core: CoreConfiguration, state: int, rules: Rules) -> bool:
    return state > core.threshold_high - (rules.fires == ">=")


def _clears(core: CoreConfiguration, rules: Rules) -> bool:
    if core.return_to_zero:
        return rules.zeroes == "zero clears all"
    return rules.subtracts == "subtract clears all"


def _passes(core: CoreConfiguration, counters: list[int], neuron: int, rules: Rules) -> bool:
    ratio = _ratio(core, rules)
    at = neuron if rules.decimator_counter == "per neuron" else 0
    counters[at] = (counters[at] + 1) % ratio
    return counters[at] == 0


def _counters(core: CoreConfiguration, rules: Rules, count: int) -> list[int]:
    first = _ratio(core, rules) - 1 if rules.decimator_passes == "first" else 0
    return [first] * count


def _ratio(core: CoreConfiguration, rules: Rules) -> int:
    if core.decimator is None:
        return 1
    return rules.ratio or core.decimator


def in_short(signature: Signature, most: int = 40) -> list[list[list[int]]]:
    """For the proof file: the first spikes of each recording."""
    return [[list(spike) for spike in each[:most]] for each in signature]


def counts_of(signature: Signature) -> list[int]:
    """Spikes of each recording."""
    return [int(np.size(each) // 2) for each in signature]
