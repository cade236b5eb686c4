"""What a board gives to experiments: computed by the twin, or made up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from speckfarm.events import EVENT_DTYPE
from speckfarm_server.prove.answer import Answer
from speckfarm_server.prove.catalogue import EXPERIMENTS
from speckfarm_server.prove.rules import Signature
from speckfarm_server.prove.trial import FIRST_US, Outcome, Trial, predict
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions

BY_NAME = {each.name: each for each in EXPERIMENTS}


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
