"""The proof of a real board: what it answered when an operator had it proved."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speckfarm_server.boards.known_answer import COUNTS, Counts
from speckfarm_server.config import BoardConfig
from speckfarm_server.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The known answer of one board."""

    counts: Counts  # spikes for each recording and class
    tolerance: float  # share of each count that this board was seen to vary by
    digest: str  # SHA-256 of the file


def proof_of(config: BoardConfig) -> Proof | None:
    """Read a real board's proof, None if it has none or the proof holds no known answer.

    Raises BadInput CONFIG_PROOF_UNREADABLE.
    """
    if not config.proof or config.kind == "simulated":
        return None
    path = Path(config.proof)
    try:
        data = path.read_bytes()
        plain = json.loads(data)
        if not isinstance(plain, dict):
            raise ValueError("it is no JSON object")
        _check_origin(plain, config)
        known = plain["known_answer"]
        if known is None:  # the experiment could not run
            return None
        counts, tolerance = _counts(known["counts"]), float(known["tolerance"])
        if not 0 <= tolerance <= 1:
            raise ValueError(f"tolerance is {tolerance}; it must be 0 to 1")
    except (OSError, KeyError, TypeError, ValueError) as error:
        text = (
            f"board {config.id}: the proof {path} cannot be read: {_words(error)}"
            ". Make it again with `speckfarm-server doctor --prove`, or leave `proof` out of "
            "farm.toml"
        )
        raise BadInput("CONFIG_PROOF_UNREADABLE", text, found=path) from error
    return Proof(counts=counts, tolerance=tolerance, digest=hashlib.sha256(data).hexdigest())


def _check_origin(plain: dict[str, Any], config: BoardConfig) -> None:
    """A file without these keys was written by hand, and says of what by being named."""
    kind, chip = plain.get("kind", config.kind), plain.get("chip", config.chip)
    wrong = ""
    if config.kind == "real" and kind == "simulated":
        wrong = "is of a simulated board, and this board is real"
    elif chip != config.chip:
        wrong = f"is of chip {chip}, and this board has {config.chip}"
    if wrong:
        text = (
            f"board {config.id}: the proof {config.proof} {wrong}. Name the file that "
            f"`speckfarm-server doctor --board {config.id} --prove` wrote, or leave `proof` out of "
            "farm.toml"
        )
        raise BadInput("CONFIG_PROOF_UNREADABLE", text, found=f"{kind} {chip}", path=config.proof)


def _words(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no key {error.args[0]}"
    return f"{type(error).__name__}: {error}"


def _counts(plain: Any) -> Counts:
    counts = tuple(tuple(int(count) for count in row) for row in plain)
    if [len(row) for row in counts] != [len(row) for row in COUNTS] or min(map(min, counts)) < 0:
        raise ValueError(f"counts must be {len(COUNTS)} rows of {len(COUNTS[0])} numbers from 0")
    return counts
