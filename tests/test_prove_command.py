"""`speckfarm-server doctor --board B --prove` beside a server, as an operator runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speckfarm_server.prove.answer import Answer, Verdict
from speckfarm_server.prove.bench import open_bench
from speckfarm_server.prove.catalogue import EXPERIMENTS
from tests.double_world import World
from tests.farm_follow import follow_board
from tests.farm_process import FarmProcess, scripted

pytestmark = pytest.mark.system  # real time, which says nothing of the Python version

OTHER = {
    "fixed_ns": 520,
    "pipe_ns": 130,
    "fires": ">",
    "decimator_passes": "first",
    "fifo_depth": 9,
    "rate_factors": [0.5, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0],
}
Made = Callable[..., FarmProcess]


def prove(
    server: FarmProcess, board: str, out: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "speckfarm_server", "doctor", "--prove", "--board", board]
    command += ["--data", str(server.data), "--out", str(out), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def proof_in(folder: Path, board: str) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads((folder / f"proof-{board}.json").read_text())
    return plain


def test_a_simulated_board_is_proved_as_assumed(server: FarmProcess, tmp_path: Path) -> None:
    done = prove(server, "twin-0", tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    proof = proof_in(tmp_path, "twin-0")
    verdicts = {name: each["verdict"] for name, each in proof["experiments"].items()}
    assert verdicts.pop("power") == "not told"
    assert set(verdicts.values()) == {"as assumed"}
    assert proof["known_answer"]["tolerance"] == 0.05
    assert (proof["kind"], proof["device"], proof["not_simulated"]) == ("simulated", None, {})
    [report] = tmp_path.glob("PROOF-twin-0-*.md")
    assert f"{len(EXPERIMENTS)} experiments: 16 as assumed, 1 not told." in report.read_text()
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:-3]].count("as") == 16
    assert lines[-1] == "16 as assumed, 1 not told"
    with server.connect() as farm:  # ordinary jobs of the operator, on that board
        first = farm.job(proof["experiments"]["known answer"]["jobs"][0])
        assert first.wait().board == "twin-0"


def test_a_board_with_other_constants_is_found_out(make_server: Made, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"version": 1, "assumptions": OTHER}))
    toml = f'[[boards]]\nid = "odd"\nproof = "{other}"\n'

    done = prove(make_server(toml), "odd", tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    found = proof_in(tmp_path, "odd")["assumptions"]
    assert {name: found[name] for name in ("fires", "decimator_passes", "fifo_depth")} == {
        "fires": ">", "decimator_passes": "first", "fifo_depth": 9,
    }  # fmt: skip
    assert found["fixed_ns"] == pytest.approx(520, abs=5)
    assert found["pipe_ns"] == pytest.approx(130, abs=15)
    assert found["rate_factors"] == pytest.approx(OTHER["rate_factors"], rel=0.01)
    assert "different      delays" in done.stdout


def test_a_board_that_fails_is_an_exit_code_of_1_and_a_page_that_says_so(
    make_server: Made, tmp_path: Path
) -> None:
    server = make_server(scripted({"fail": {"*": "job"}}))

    done = prove(server, "script-0", tmp_path)

    assert done.returncode == 1
    assert f"{len(EXPERIMENTS) - 1} could not run" in done.stdout
    verdicts = {
        name: each["verdict"]
        for name, each in proof_in(tmp_path, "script-0")["experiments"].items()
    }
    assert verdicts.pop("clip order") == "not told"  # it is risky: that its job fails is an answer
    assert set(verdicts.values()) == {"could not run"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--prove"], 2, "--prove and --board B go together"),
        (["--board", "twin-0"], 2, "--prove and --board B go together"),
        (["--prove", "--board", "twin-7"], 1, "it has twin-0, twin-1 [BOARD_NOT_FOUND]"),
        (["--prove", "--board", "twin-0", "--out", "/proc"], 1, "[OUT_FOLDER_UNUSABLE]"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_job(
    server: FarmProcess, arguments: list[str], code: int, words: str
) -> None:
    command = [sys.executable, "-m", "speckfarm_server", "doctor", "--data", str(server.data)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_server_it_says_how_to_start_one(make_server: Made, tmp_path: Path) -> None:
    server = make_server()
    stopped = FarmProcess(tmp_path / "never")
    server.stop()

    gone, never = (prove(each, "twin-0", tmp_path) for each in (server, stopped))

    assert (gone.returncode, never.returncode) == (1, 1)
    assert "[FARM_LOST]" in gone.stderr
    assert "[NO_LOCAL_SERVER]" in never.stderr
    assert "speckfarm-server serve" in never.stderr


def test_a_drained_board_is_not_waited_for(make_server: Made, tmp_path: Path) -> None:
    server = make_server()
    with server.connect() as farm:
        farm.drain("twin-1")

    done = prove(server, "twin-1", tmp_path)

    assert done.returncode == 1
    assert "speckfarm undrain twin-1" in done.stderr
    assert list(tmp_path.glob("proof*")) == []


def refused_proof(server: FarmProcess, board: str, out: Path) -> str:
    """What it says of a board that turned out to be away."""
    with server.connect() as farm:
        follow_board(farm, board, lambda each: each.state == "offline" and each.message)
    done = prove(server, board, out)
    assert done.returncode == 1
    assert list(out.glob("proof*")) == []
    return done.stderr


def test_a_board_in_quarantine_is_not_waited_for(make_server: Made, tmp_path: Path) -> None:
    server = make_server(f'[[boards]]\nid = "odd"\nproof = "{tmp_path}/none.json"\n')

    said = refused_proof(server, "odd", tmp_path)

    assert "[BOARD_OFFLINE]" in said
    assert "none.json cannot be read" in said
    assert "wait until `speckfarm boards` shows it idle" in said


def test_a_devkit_that_is_not_plugged_in_is_not_waited_for(
    make_server: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "world")
    for name, value in world.env.items():
        monkeypatch.setenv(name, value)
    server = make_server(world.farm_toml({"away": "2-1.3"}))

    said = refused_proof(server, "away", tmp_path)

    assert "[BOARD_OFFLINE]" in said


def test_a_server_beyond_loopback_is_proved_over_tls(make_server: Made) -> None:
    server = make_server(listen="0.0.0.0:0")

    bench = open_bench(server.data, "twin-0")

    answer = answer_of(bench.run, "comparison")
    assert answer.verdict is Verdict.AS_ASSUMED


def answer_of(run: Callable[..., Any], name: str) -> Answer:
    experiment = next(each for each in EXPERIMENTS if each.name == name)
    return experiment.judge(run(experiment.trials("speck2f")).outcomes)


@pytest.fixture
def devkit(
    make_server: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., FarmProcess]:
    """A server with a board on the double of the vendor's library."""

    def make(**behaviour: Any) -> FarmProcess:
        world = World(tmp_path / "world")
        world.plug(**behaviour)
        for name, value in world.env.items():
            monkeypatch.setenv(name, value)
        usb = f'[usb]\nsysfs = "{world.sysfs}"\nnodes = "{world.nodes}"\n'
        return make_server(f'{usb}[[boards]]\nid = "speck-0"\nkind = "real"\nusb = "2-1.3"\n')

    return make


@pytest.mark.slow
def test_what_a_devkit_does_otherwise_comes_through_samna(
    devkit: Callable[..., FarmProcess],
) -> None:
    server = devkit(
        lost_first_event=True, core01_shuffle=True, offset_us=4,
        assumptions={"fires": ">", "fifo_depth": 9},
    )  # fmt: skip
    bench = open_bench(server.data, "speck-0")

    answers = {
        name: answer_of(bench.run, name)
        for name in ("first event", "comparison", "repeats", "queue", "maps")
    }

    assert "sacrifice" in answers["first event"].advice
    assert answers["comparison"].sets == {"fires": ">"}
    assert "on cores 0, 1" in answers["repeats"].found
    assert answers["queue"].sets == {"fifo_depth": 9}
    assert answers["maps"].verdict is Verdict.AS_ASSUMED


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_devkit_is_proved_with_one_command(
    devkit: Callable[..., FarmProcess], tmp_path: Path
) -> None:
    server = devkit(offset_us=300, jitter_us=1, serial="A1")

    done = prove(server, "speck-0", tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    proof = proof_in(tmp_path, "speck-0")
    verdicts = {name: each["verdict"] for name, each in proof["experiments"].items()}
    assert verdicts.pop("stamps") == "different"  # and no other experiment is misled by it
    assert verdicts.pop("power") == "measured"
    assert set(verdicts.values()) == {"as assumed"}
    assert proof["experiments"]["delays"]["figures"]["offset_us"] == pytest.approx(300, abs=1)
    assert proof["device"]["serial"] == "A1"
    assert proof["kind"] == "real"
    [report] = tmp_path.glob("PROOF-speck-0-*.md")
    assert "| samna |" in report.read_text()
