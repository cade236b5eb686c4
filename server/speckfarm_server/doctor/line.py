"""One line of the report: what was looked at, what was found, what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """How a line ends."""

    OK = "ok"
    NOTE = "note"  # nothing to do now, or it could not be found out
    WRONG = "wrong"  # the farm does not run, or not for long; exit code 1


@dataclass(frozen=True, kw_only=True)
class Line:
    """One finding about this host."""

    check: str  # stable word, documented in docs/reference/server.md
    state: State
    found: str
    advice: str = ""  # what to do; never empty where something is wrong


def ok(check: str, found: str) -> Line:
    """Nothing to do."""
    return Line(check=check, state=State.OK, found=found)


def note(check: str, found: str, advice: str = "") -> Line:
    """Worth knowing."""
    return Line(check=check, state=State.NOTE, found=found, advice=advice)


def wrong(check: str, found: str, advice: str) -> Line:
    """Something has to be done."""
    return Line(check=check, state=State.WRONG, found=found, advice=advice)


def needed_or_note(check: str, found: str, advice: str, *, needed: bool) -> Line:
    """Wrong on a host with real boards, a note on one without."""
    return wrong(check, found, advice) if needed else note(check, found, advice)


def is_healthy(lines: Sequence[Line]) -> bool:
    """Whether nothing is wrong."""
    return all(line.state is not State.WRONG for line in lines)


def as_text(lines: Sequence[Line]) -> str:
    """A line each, for people."""
    width = max((len(line.check) for line in lines), default=0)
    return "\n".join(_text(line, width) for line in lines)


def as_json(lines: Sequence[Line]) -> str:
    """For programs: {"ok": bool, "lines": [{"check", "state", "found", "advice"}]}."""
    plain = [
        {"check": line.check, "state": line.state, "found": line.found, "advice": line.advice}
        for line in lines
    ]
    return json.dumps({"ok": is_healthy(lines), "lines": plain}, indent=2)


def _text(line: Line, width: int) -> str:
    shown = line.state.value.upper() if line.state is not State.NOTE else "note"
    advice = f". {line.advice}" if line.advice else ""
    return f"{shown:<5}  {line.check:<{width}}  {line.found}{advice}"
