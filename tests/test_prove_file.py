"""The proof file: what it holds, and a simulated board that takes its constants from it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from speckfarm_server.boards.proved import proved_assumptions
from speckfarm_server.boards.simulated import SimulatedBoard
from speckfarm_server.errors import BoardFault
from speckfarm_server.prove.answer import Answer, Verdict
from speckfarm_server.prove.catalogue import EXPERIMENTS
from speckfarm_server.prove.proof import Done, Proof, as_json, file_names, write_whole
from speckfarm_server.prove.report import as_page
from speckfarm_server.prove.trial import predict
from speckfarm_server.twin.assumptions import ASSUMPTIONS

DATE = datetime(2026, 3, 4, 5, 6, tzinfo=timezone.utc)
OTHER = replace(
    ASSUMPTIONS,
    fixed_ns=444,
    pipe_ns=11,
    fires=">",
    decimator_passes="first",
    fifo_depth=5,
    rate_factors=(0.5, *[1.0] * 7, 1.25),
    order_seed=None,
)


def proof_of(*done: Done, **changes: Any) -> Proof:
    values = {"board": "speck-0", "chip": "speck2f", "kind": "real", "device": None}
    return Proof(date=DATE, version="1.2.3", done=done, **{**values, **changes})


def written(folder: Path, assumptions: object) -> str:
    path = folder / "proof.json"
    path.write_text(json.dumps({"version": 1, "assumptions": assumptions}))
    return str(path)


def test_without_a_file_the_constants_are_the_twins() -> None:
    assert proved_assumptions("") is ASSUMPTIONS
    assert SimulatedBoard().assumptions == ASSUMPTIONS.digest()


def test_a_board_with_a_proof_has_its_constants_and_another_digest(tmp_path: Path) -> None:
    trial = next(each for each in EXPERIMENTS if each.name == "comparison").trials("speck2f")[0]
    path = written(tmp_path, {"fires": ">", "fixed_ns": 444, "rate_factors": [2, *[1] * 8]})

    found = proved_assumptions(path)

    board = SimulatedBoard(found)
    assert found == replace(ASSUMPTIONS, fires=">", fixed_ns=444, rate_factors=(2.0, *[1.0] * 8))
    assert board.assumptions == found.digest() != ASSUMPTIONS.digest()
    board.configure(trial.as_read)
    assert len(predict(trial, found).spikes[0]) < len(predict(trial).spikes[0])


@pytest.mark.parametrize(
    ("assumptions", "named"),
    [
        ({"fixed_nz": 3}, "no assumption fixed_nz; did you mean fixed_ns?"),
        ({"fixed_ns": "3"}, "fixed_ns is '3'"),
        ({"fixed_ns": True}, "fixed_ns is True"),
        ({"fixed_ns": 2.5}, "fixed_ns is 2.5"),
        ({"fixed_ns": -1}, "fixed_ns: found -1"),
        ({"fifo_depth": 1}, "fifo_depth: found 1"),
        ({"fires": "<"}, "fires: found '<'"),
        ({"saturation": "wraps at 16 bits"}, "saturation: found"),
        ({"rate_factors": [1.0] * 8}, "rate_factors: found"),
        ({"rate_factors": [0.0, *[1.0] * 8]}, "rate_factors is"),
        ({"rate_factors": ["1"] * 9}, "rate_factors is"),
        ({"rate_factors": 2.0}, "rate_factors is 2.0"),
        ({"order_seed": "x"}, "order_seed is 'x'"),
        ([], "no key assumptions"),
        (None, "no key assumptions"),
    ],
)
def test_a_file_that_the_twin_cannot_take_names_the_key(
    tmp_path: Path, assumptions: object, named: str
) -> None:
    with pytest.raises(BoardFault) as caught:
        proved_assumptions(written(tmp_path, assumptions))

    assert caught.value.reason == "PROOF_WRONG"
    assert named in caught.value.message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_told_with_the_way_out(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "proof.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(BoardFault) as caught:
        proved_assumptions(str(path))

    assert caught.value.reason == "PROOF_UNREADABLE"
    assert "doctor --prove" in caught.value.message


@pytest.mark.parametrize("content", ["[]", "3", '"text"'])
def test_json_that_is_no_object_is_no_proof(tmp_path: Path, content: str) -> None:
    path = tmp_path / "proof.json"
    path.write_text(content)

    with pytest.raises(BoardFault) as caught:
        proved_assumptions(str(path))

    assert caught.value.reason == "PROOF_WRONG"


def test_what_a_proof_of_another_chip_says_makes_a_twin_like_it(tmp_path: Path) -> None:
    done = []
    for experiment in EXPERIMENTS:
        outcomes = [predict(trial, OTHER) for trial in experiment.trials("speck2f")]
        done.append(Done(experiment=experiment, answer=experiment.judge(outcomes)))
    proof = proof_of(*done)
    path = tmp_path / file_names(proof)[1]
    write_whole(path, as_json(proof))

    found = proved_assumptions(str(path))

    assert (found.fires, found.decimator_passes, found.fifo_depth) == (">", "first", 5)
    assert found.rate_factors == pytest.approx(OTHER.rate_factors, rel=0.01)
    assert found.fixed_ns == pytest.approx(444, abs=3)
    assert found.pipe_ns == pytest.approx(11, abs=15)
    assert list(tmp_path.iterdir()) == [path]


def test_the_twin_is_set_to_what_it_knows_and_the_rest_is_named() -> None:
    answer = Answer(
        verdict=Verdict.DIFFERENT,
        found="x",
        sets={"fixed_ns": 5, "decimator_counter": "per neuron", "rate_factors": [2.0] * 9},
    )

    proof = proof_of(Done(experiment=EXPERIMENTS[0], answer=answer))

    plain = json.loads(as_json(proof))
    assert plain["assumptions"] == {"fixed_ns": 5, "rate_factors": [2.0] * 9}
    assert plain["not_simulated"] == {"decimator_counter": "per neuron"}
    assert "no rule yet for: decimator_counter = per neuron" in as_page(proof)


def test_an_experiment_that_could_not_run_is_no_answer() -> None:
    failed = Done(experiment=EXPERIMENTS[1], answer=None, problem="the job | failed\n[REASON]")

    proof = proof_of(failed, device={"type": "Speck2fDevKit", "serial": ""})

    assert not proof.is_whole
    page = as_page(proof)
    assert "| **could not run** | the job / failed [REASON] |" in page
    assert "| serial | (empty) |" in page
    assert "1 could not run" in page
    assert (
        json.loads(as_json(proof))["experiments"][EXPERIMENTS[1].name]["verdict"] == "could not run"
    )


def test_names_of_files_stay_in_their_folder() -> None:
    report, file = file_names(proof_of(board="../rack 1/a"))

    assert report == "PROOF-.._rack_1_a-20260304.md"
    assert file == "proof-.._rack_1_a.json"


def test_a_page_of_a_simulated_board_claims_nothing_of_silicon() -> None:
    assert "nothing about silicon" in as_page(proof_of(kind="simulated"))
    assert "never on hardware" in as_page(proof_of(kind="real"))


def test_the_page_of_a_simulated_board_says_that_the_file_sets_constants() -> None:
    simulated, real = (as_page(proof_of(kind=kind)) for kind in ("simulated", "real"))

    assert "its health is then judged by" in real
    assert "judged by what it answered" not in simulated
    assert "sets its constants" in simulated


@pytest.mark.parametrize("kind", ["real", "simulated"])
def test_a_twin_takes_constants_of_its_own_chip_only(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "proof.json"
    path.write_text(as_json(proof_of(kind=kind, chip="speck2e")))

    with pytest.raises(BoardFault) as caught:
        proved_assumptions(str(path), chip="speck2f")

    assert proved_assumptions(str(path), chip="speck2e") == ASSUMPTIONS
    assert caught.value.reason == "PROOF_WRONG"
    assert "of chip speck2e, and this board has speck2f" in caught.value.message


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_text("old")

    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")

    assert path.read_text() == "old"
