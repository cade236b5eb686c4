"""Experiments on decimators: ratios of all codes, what is counted and cleared, where the tap is."""

from __future__ import annotations

from collections.abc import Sequence

from speckfarm_server.chip import DECIMATOR_CODES
from speckfarm_server.configuration import Configuration
from speckfarm_server.prove.answer import Answer, Verdict
from speckfarm_server.prove.build import chain, relay, with_primer
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.rules import (
    Rules,
    answer_from,
    counts_of,
    fitting,
    outcome_signature,
    told,
)
from speckfarm_server.prove.trial import Outcome, Trial, train

GAP_US = 50
PRIMER = 2  # feature that no weight takes up
_VARIED = ("decimator_passes", "decimator_counter", "decimator_cleared_by")


def trains_of(ratio: int) -> list[list[int]]:
    """What tells the rules apart: N + N/2 events; N after a reset; 2 N of two neurons in turn."""
    return [[0] * (ratio + ratio // 2), [0] * ratio, [0, 1] * ratio]


def decimated(chip: str, ratio: int) -> Configuration:
    """Two neurons behind a decimator, and a core behind it that says what passed."""
    first = with_primer(relay(3, 2, decimator=ratio, to=(4,)))
    return chain(chip, first, relay(4, 2))


def _trial(chip: str, ratio: int) -> Trial:
    recordings = [train(each, gap_us=GAP_US, primer=PRIMER) for each in trains_of(ratio)]
    return Trial(
        name=f"1 in {ratio}",
        configuration=decimated(chip, ratio),
        recordings=tuple(recordings),
    )


def judge_decimators(outcomes: Sequence[Outcome]) -> Answer:
    """A trial for each code."""
    agreed: list[Rules] | None = None
    ratios: dict[str, int | None] = {}
    spikes: dict[str, list[int]] = {}
    for (ratio, code), outcome in zip(DECIMATOR_CODES.items(), outcomes, strict=True):
        found = outcome_signature(outcome, 1, gap_us=GAP_US)
        first = decimated("speck2f", ratio).cores[0]
        fits = fitting(first, trains_of(ratio), found, _VARIED)
        fits = fits or fitting(first, trains_of(ratio), found, (*_VARIED, "ratio"))
        ratios[str(code)] = (fits[0].ratio or ratio) if fits else None
        spikes[str(code)] = counts_of(found)
        rules = [_without_ratio(each) for each in fits]
        agreed = rules if agreed is None else [each for each in agreed if each in rules]
    return _answer(agreed or [], ratios, spikes, _tap(outcomes))


def _answer(
    agreed: list[Rules], ratios: dict[str, int | None], spikes: dict[str, list[int]], tap: str
) -> Answer:
    assumed = {str(code): ratio for ratio, code in DECIMATOR_CODES.items()}
    answer = answer_from(
        [told(agreed, name) for name in _VARIED],
        {"ratio_of_code": ratios, "spikes_behind": spikes, "monitor_tap": tap},
        sets=_VARIED,
        nothing_fits="no counter explains which spikes passed",
    )
    words = "all eight ratios as documented"
    if ratios != assumed:
        wrong = [f"code {code}: {n or 'no ratio fits'}" for code, n in ratios.items()]
        words = f"ratios differ ({', '.join(wrong)})"
    as_assumed = ratios == assumed and tap == AFTER and answer.verdict is Verdict.AS_ASSUMED
    return Answer(
        verdict=Verdict.AS_ASSUMED if as_assumed else Verdict.DIFFERENT,
        found=f"{words}; {answer.found}; monitored {tap}",
        figures=answer.figures,
        sets={**answer.sets, **({"monitor_tap": tap} if tap != UNCLEAR else {})},
    )


AFTER = "after decimator, before pooling"
BEFORE = "before decimator"
UNCLEAR = "neither what fired nor what passed"


def _tap(outcomes: Sequence[Outcome]) -> str:
    """Whether the decimated layer's own monitor shows what fired, or what passed."""
    places = set()
    for ratio, outcome in zip(DECIMATOR_CODES, outcomes, strict=True):
        seen = outcome_signature(outcome, 0, gap_us=GAP_US)
        passed = outcome_signature(outcome, 1, gap_us=GAP_US)
        fired = [len(each) for each in trains_of(ratio)]
        places.add(AFTER if seen == passed else BEFORE if counts_of(seen) == fired else UNCLEAR)
    return places.pop() if len(places) == 1 else UNCLEAR


def _without_ratio(rules: Rules) -> Rules:
    return Rules(**{name: getattr(rules, name) for name in _VARIED})


EXPERIMENTS = (
    Experiment(
        name="decimators",
        question="Which spikes pass a decimator, for all eight codes?",
        settles="open question 3: `decimator_passes`, `decimator_counter`, `decimator_cleared_by`, "
        "`monitor_tap`",
        trials=lambda chip: [_trial(chip, ratio) for ratio in DECIMATOR_CODES],
        judge=judge_decimators,
    ),
)
