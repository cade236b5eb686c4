"""The proof of one board: every experiment's answer, as a file for programs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from speckfarm_server.prove.answer import Answer, Verdict
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Done:
    """An experiment that was tried."""

    experiment: Experiment
    answer: Answer | None  # None: it could not run
    problem: str = ""  # why
    jobs: tuple[str, ...] = ()
    took_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Proof:
    """All about one board at one time."""

    board: str
    chip: str
    kind: str  # real or simulated
    device: Mapping[str, Any] | None  # None: simulated
    date: datetime  # UTC
    version: str  # of the farm
    done: tuple[Done, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every experiment ran."""
        return all(each.answer is not None for each in self.done)

    @property
    def sets(self) -> dict[str, object]:
        """Everything that answers say of the twin's constants."""
        answers = [each.answer for each in self.done if each.answer is not None]
        return {name: value for answer in answers for name, value in answer.sets.items()}

    @property
    def assumptions(self) -> dict[str, object]:
        """What the twin can be set to."""
        return {name: value for name, value in self.sets.items() if _is_known(name, value)}

    @property
    def not_simulated(self) -> dict[str, object]:
        """What the twin has no rule for yet."""
        return {name: value for name, value in self.sets.items() if not _is_known(name, value)}

    @property
    def known_answer(self) -> Mapping[str, Any] | None:
        """What the board's health is judged by."""
        answers = [each.answer for each in self.done if each.answer is not None]
        return next((each.known_answer for each in answers if each.known_answer), None)


def as_json(proof: Proof) -> str:
    """What farm.toml's `proof` names; docs/reference/formats.md has its keys."""
    plain = {
        "version": VERSION,
        "board": proof.board,
        "chip": proof.chip,
        "kind": proof.kind,
        "device": proof.device,
        "date": proof.date.isoformat(timespec="seconds"),
        "farm_version": proof.version,
        "known_answer": proof.known_answer,
        "assumptions": proof.assumptions,
        "not_simulated": proof.not_simulated,
        "experiments": {each.experiment.name: _plain(each) for each in proof.done},
    }
    return json.dumps(plain, indent=2) + "\n"


def tally(done: Sequence[Done]) -> dict[str, int]:
    """How many experiments ended how."""
    words = [_word(each) for each in done]
    known = [*(each.value for each in Verdict), NOT_RUN]
    return {word: words.count(word) for word in known if word in words}


NOT_RUN = "could not run"


def _word(done: Done) -> str:
    return NOT_RUN if done.answer is None else done.answer.verdict.value


def file_names(proof: Proof) -> tuple[str, str]:
    """Of the report, and of the file for programs."""
    name = re.sub(r"[^\w.-]", "_", proof.board)
    return f"PROOF-{name}-{proof.date:%Y%m%d}.md", f"proof-{name}.json"


def write_whole(path: Path, text: str) -> None:
    """All of it or nothing; what was there before stays until then."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def _plain(done: Done) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "question": done.experiment.question,
        "verdict": _word(done),
        "found": done.problem if done.answer is None else done.answer.found,
        "jobs": list(done.jobs),
        "took_s": round(done.took_s, 2),
    }
    if done.answer is not None:
        plain |= {"figures": done.answer.figures, "sets": dict(done.answer.sets)}
    return plain


def _is_known(name: str, value: object) -> bool:
    """Whether the twin can have this value."""
    if name not in {each.name for each in fields(Assumptions)}:
        return False
    changed = tuple(value) if isinstance(value, list) else value
    try:
        replace(ASSUMPTIONS, **{name: changed})  # type: ignore[arg-type]
    except ValueError:
        return False
    return True
