"""The known answer of one board: counts of the shipped network, and how much they vary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import unpack
from speckfarm_server.boards import known_answer
from speckfarm_server.prove.answer import Answer, Verdict, not_told
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.trial import (
    RECORDING_DTYPE,
    Events,
    Outcome,
    Trial,
    of_layer,
)

REPEATS = 5
EXIT_LAYER = 2
LEAST_TOLERANCE = 0.05  # five repeats see a part of what varies
MARGIN = 2.0  # times the largest distance from the mean that was seen


def _recordings() -> list[Events]:
    made = known_answer.recordings()
    recordings = []
    for first, last in zip(made.offsets[:-1], made.offsets[1:], strict=True):
        plain = unpack(made.packed[first:last])
        recording = np.zeros(len(plain), RECORDING_DTYPE)
        recording["t"], recording["p"] = plain["t"], plain["feature"]
        recording["y"], recording["x"] = plain["y"], plain["x"]
        recordings.append(recording)
    return recordings


def _trial(chip: str) -> Trial:
    return Trial(
        name="known answer",
        configuration=known_answer.network(chip),
        recordings=tuple(_recordings() * REPEATS),
    )


def judge_known_answer(outcomes: Sequence[Outcome]) -> Answer:
    """One trial: the shipped recordings, five times over."""
    classes = known_answer.CLASSES
    counted = [
        np.bincount(of_layer(spikes, EXIT_LAYER)["feature"], minlength=classes)[:classes]
        for spikes in outcomes[0].spikes
    ]
    counts = np.array(counted).reshape(REPEATS, -1, classes)
    mean = counts.mean(axis=0)
    apart = np.abs(counts - mean).max(axis=0)
    figures = {
        "counts_of_repeats": counts.tolist(),
        "mean": mean.round(2).tolist(),
        "largest_distance_from_mean": apart.round(2).tolist(),
    }
    if not counts.any():
        return not_told("nothing came out", figures)
    wrong = known_answer.judge([[round(each) for each in row] for row in mean.tolist()])
    tolerance = _tolerance(mean, apart)
    answer = {"counts": mean.round().astype(int).tolist(), "tolerance": tolerance}
    varies = f"counts vary by {apart.max():.1f} spikes over {REPEATS} repeats"
    if wrong:
        found = f"{'; '.join(wrong[:3])}; {varies}"
        return Answer(verdict=Verdict.DIFFERENT, found=found, figures=figures, known_answer=answer)
    found = f"every class as the twin counts it, within {known_answer.TOLERANCE:.0%}; {varies}"
    return Answer(verdict=Verdict.AS_ASSUMED, found=found, figures=figures, known_answer=answer)


def _tolerance(mean: NDArray[np.float64], apart: NDArray[np.float64]) -> float:
    """A share of each count; of small counts the check allows some spikes more anyway."""
    judged = mean > known_answer.LEAST_TOLERANCE
    shares = apart[judged] / mean[judged]
    return round(min(1.0, max(LEAST_TOLERANCE, MARGIN * float(shares.max(initial=0.0)))), 4)


EXPERIMENTS = (
    Experiment(
        name="known answer",
        question="Does the shipped network answer as computed, and how much does that vary?",
        settles="what the board's health is judged by (`known_answer` of the proof)",
        trials=lambda chip: [_trial(chip)],
        judge=judge_known_answer,
    ),
)
