"""What doctor says of the files that `proof` of boards names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from speckfarm_server.boards.known_answer import COUNTS
from speckfarm_server.config import BoardConfig
from speckfarm_server.doctor import proofs
from speckfarm_server.doctor.line import Line, State

DEVICE = {"type": "Speck2fDevKit", "usb_path": "2-1.3", "serial": ""}
KNOWN = {"counts": COUNTS, "tolerance": 0.05}


def proof(folder: Path, **changes: Any) -> str:
    plain = {
        "board": "speck-0", "chip": "speck2f", "kind": "real", "device": DEVICE,
        "date": "2026-03-04T05:06:00+00:00", "known_answer": KNOWN, "assumptions": {},
        "experiments": {"first event": {"verdict": "as assumed"}},
    }  # fmt: skip
    path = folder / "proof.json"
    path.write_text(json.dumps({**plain, **changes}))
    return str(path)


def lines(path: str, **board: str) -> list[Line]:
    config = BoardConfig(**{"id": "speck-0", "kind": "real", "proof": path, **board})
    [found] = proofs.find_proofs([BoardConfig(id="other"), config])
    return list(proofs.judge_proof(found))


@pytest.mark.parametrize("kind", ["real", "simulated"])
def test_a_proof_that_fits_is_ok(kind: str, tmp_path: Path) -> None:
    [line] = lines(proof(tmp_path), kind=kind)

    assert (line.check, line.state) == ("proof", State.OK)
    assert line.found == f"speck-0 has {tmp_path / 'proof.json'}, of 2026-03-04"


@pytest.mark.parametrize(
    ("board", "changes", "words"),
    [
        ({}, {"kind": "simulated"}, "is of a simulated board, and this board is real"),
        ({}, {"chip": "speck2e"}, "is of chip speck2e, and this board has speck2f"),
        ({}, {"known_answer": {"counts": COUNTS}}, "it has no key tolerance"),
        ({"kind": "simulated"}, {"chip": "speck2e"}, "is of chip speck2e, and this board has"),
        ({"kind": "simulated"}, {"assumptions": {"fixed_nz": 1}}, "did you mean fixed_ns?"),
        ({"kind": "simulated"}, {"assumptions": None}, "it has no key assumptions"),
    ],
)
def test_a_proof_that_a_server_would_not_take_is_wrong(
    board: dict[str, str], changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    [line] = lines(proof(tmp_path, **changes), **board)

    assert line.state is State.WRONG
    assert words in line.found
    assert "board speck-0: " in line.found
    assert "KeyError" not in line.found


@pytest.mark.parametrize("kind", ["real", "simulated"])
def test_a_proof_that_is_not_there_is_wrong(kind: str, tmp_path: Path) -> None:
    [line] = lines(str(tmp_path / "none.json"), kind=kind)

    assert line.state is State.WRONG
    assert "No such file" in line.found


@pytest.mark.parametrize(
    ("board", "changes", "words"),
    [
        ({"id": "b"}, {}, "is of a board called speck-0"),
        ({"usb": "2-2"}, {}, "is of usb 2-1.3, and farm.toml has 2-2"),
        ({"serial": "A1"}, {}, "is of serial (empty), and farm.toml has A1"),
        ({"device": "Other"}, {}, "is of device Speck2fDevKit, and farm.toml has Other"),
        ({"first_event": "sacrifice"}, {}, "says keep, and first_event is sacrifice"),
        (
            {},
            {"experiments": {"first event": {"verdict": "different"}}},
            "says sacrifice, and first_event is keep",
        ),
        ({}, {"known_answer": None}, "holds no known answer"),
    ],
)
def test_what_does_not_fit_a_real_board_is_a_note(
    board: dict[str, str], changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = proof(tmp_path, **changes)

    first, remark = lines(path, **board)

    assert (first.state, remark.state) == (State.OK, State.NOTE)
    assert words in remark.found
    assert len(lines(path, kind="simulated", id="twin")) == 1


def test_a_proof_written_by_hand_is_of_any_board(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_text(json.dumps({"known_answer": KNOWN}))

    [line] = lines(str(path), first_event="sacrifice", usb="2-1.3")

    assert line.state is State.OK
