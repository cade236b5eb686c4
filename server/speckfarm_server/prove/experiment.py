"""An experiment: a question, what is sent, and how the outcomes are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from speckfarm_server.prove.answer import Answer
from speckfarm_server.prove.trial import Outcome, Trial


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One question to a board. `judge` is pure: outcomes in the order of the trials."""

    name: str
    question: str
    settles: str  # what nobody has published, or the assumption that it checks
    trials: Callable[[str], Sequence[Trial]]  # of a chip
    judge: Callable[[Sequence[Outcome]], Answer]
    is_risky: bool = False  # leaves what the vendor advises; a failed job is no failed proof
