"""What an experiment found out about a board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

Figures: TypeAlias = Mapping[str, Any]  # goes into the proof file as JSON


class Verdict(str, Enum):
    """How a board compares with what the twin assumes."""

    AS_ASSUMED = "as assumed"
    DIFFERENT = "different"
    MEASURED = "measured"  # the twin assumes nothing of it
    NOT_TOLD = "not told"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one question."""

    verdict: Verdict
    found: str  # one sentence with the figures that matter
    figures: Figures = field(default_factory=dict)
    sets: Mapping[str, object] = field(default_factory=dict)  # fields of twin Assumptions
    advice: str = ""  # what the operator should change; empty if nothing
    known_answer: Figures | None = None  # what the board's health is judged by from now on


def not_told(found: str, figures: Figures | None = None) -> Answer:
    """The board gave no answer, and why."""
    return Answer(verdict=Verdict.NOT_TOLD, found=found, figures=figures or {})


def verdict_of(*, as_assumed: bool) -> Verdict:
    """For what was told."""
    return Verdict.AS_ASSUMED if as_assumed else Verdict.DIFFERENT
