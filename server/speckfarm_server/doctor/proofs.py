"""Proof files: whether a server would take them, and what does not fit the board they are for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speckfarm_server.config import BoardConfig
from speckfarm_server.doctor.line import Line, note, ok, wrong
from speckfarm_server.errors import BadInput, BoardFault

# Keys of `device` in a proof, and those of a board in farm.toml that say the same.
_SAME = {"type": "device", "usb_path": "usb", "serial": "serial"}
# What a verdict on the experiment "first event" asks of a board: prove/states.py gives them.
_FIRST_EVENTS = {"different": "sacrifice", "as assumed": "keep"}


@dataclass(frozen=True, kw_only=True)
class ProofFile:
    """The file that `proof` of one board names."""

    board: BoardConfig
    problem: str = ""  # why a server does not take it
    has_known_answer: bool = True
    plain: Mapping[str, Any] = field(default_factory=dict)


def find_proofs(boards: Sequence[BoardConfig]) -> Iterator[ProofFile]:
    """Read each file as the server and the board would. Needs numpy."""
    for board in boards:
        if board.proof:
            yield _read(board)


def judge_proof(found: ProofFile) -> Iterator[Line]:
    """One line on the file, and one for all that does not fit the board."""
    board, plain = found.board, found.plain
    if found.problem:
        advice = "docs/how-to/first-board.md tells how a proof is made and used"
        yield wrong("proof", found.problem, advice)
        return
    made = f", of {plain['date'][:10]}" if isinstance(plain.get("date"), str) else ""
    yield ok("proof", f"{board.id} has {board.proof}{made}")
    if board.kind == "simulated":
        return
    remarks = list(_remarks(found))
    if remarks:
        text = f"{board.id}: the proof {'; the proof '.join(remarks)}"
        yield note("proof", text, "Change farm.toml, or prove the board again")


def _read(board: BoardConfig) -> ProofFile:
    from speckfarm_server.boards.proof import proof_of
    from speckfarm_server.boards.proved import proved_assumptions

    is_simulated = board.kind == "simulated"
    try:
        if is_simulated:
            proved_assumptions(board.proof, chip=board.chip)
        known = proof_of(board)
    except BoardFault as fault:  # of the board's process, which needs not say which board it is
        return ProofFile(board=board, problem=f"board {board.id}: {fault.message} [{fault.reason}]")
    except BadInput as error:
        return ProofFile(board=board, problem=f"{error.message} [{error.reason}]")
    plain = json.loads(Path(board.proof).read_bytes())
    return ProofFile(board=board, has_known_answer=known is not None, plain=plain)


def _remarks(found: ProofFile) -> Iterator[str]:
    board, plain = found.board, found.plain
    if not found.has_known_answer:
        yield "holds no known answer, so the board is judged by the twin's"
    if (name := plain.get("board", board.id)) != board.id:
        yield f"is of a board called {name}"
    device: Mapping[str, Any] = plain.get("device") or {}
    for key, name in _SAME.items() if device else ():
        if getattr(board, name) and device.get(key, "") != getattr(board, name):
            shown = device.get(key) or "(empty)"
            yield f"is of {name} {shown}, and farm.toml has {getattr(board, name)}"
    wanted = _FIRST_EVENTS.get(_verdict(plain, "first event"), board.first_event)
    if wanted != board.first_event:
        yield f"says {wanted}, and first_event is {board.first_event}"


def _verdict(plain: Mapping[str, Any], experiment: str) -> str:
    try:
        return str(plain["experiments"][experiment]["verdict"])
    except (KeyError, TypeError):  # it was written by hand
        return ""
