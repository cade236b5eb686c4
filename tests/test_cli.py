"""The command line: exit codes, what goes where, Ctrl-C, and its documentation."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import code_pb2

import speckfarm
from speckfarm import errors
from speckfarm.cli import exit_code
from speckfarm.cli_parser import build_parser
from speckfarm.v1 import jobs_pb2
from tests.command_line import Run, command_line
from tests.small_farm import SmallFarm, event, result_message, serving, state_of, status

REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
DONE = event(1, "SUCCEEDED", job=state_of("SUCCEEDED"), result=result_message())


@pytest.fixture
def small() -> Iterator[SmallFarm]:
    farm = SmallFarm()
    with serving(farm):
        yield farm


@pytest.fixture
def run(small: SmallFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    return command_line(small.address, monkeypatch, tmp_path)


def _subparsers() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    [commands] = [each for each in actions if isinstance(each, argparse._SubParsersAction)]
    return commands.choices


@pytest.mark.parametrize("name", sorted(_subparsers()))
def test_every_command_and_its_options_are_documented(name: str) -> None:
    text = REFERENCE.read_text()

    assert f"### `{name}" in text
    for action in _subparsers()[name]._actions:
        assert action.help, f"{name} {action.dest} has no help"
        flags = [flag for flag in action.option_strings if flag not in ("-h", "--help")]
        for flag in flags:
            assert f"`{flag}" in text, f"{name} {flag} is not in {REFERENCE.name}"


def test_check_prints_the_contract_and_exits_3_when_rejected(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("check", "m.nir", "-o", "json")

    plain = json.loads(capsys.readouterr().out)
    assert code == 3
    assert plain["findings"][0]["reason"] == "KERNEL_MEMORY_EXCEEDED"
    assert plain["findings"][0]["layer"] == 0
    assert plain["findings"][0]["severity"] == "error"


def test_check_prints_findings_and_layers_for_people(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run("check", "m.nir")

    out = capsys.readouterr().out
    assert "error: layer 0: too large [KERNEL_MEMORY_EXCEEDED]" in out
    assert "conv0" in out
    assert "cannot run on speck2f" in out


def test_run_prints_the_result_and_its_summary(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    small.streams = [[DONE]]

    code = run("run", "m.nir", "r.npz", "--decimator", "0=4", "--reset", "zero", "--sim")

    out = capsys.readouterr().out
    assert code == 0
    assert out.splitlines()[-1] == "accuracy 0.50 on 2 recordings, p99 lag 7.1 us"
    assert "digit-3" in out
    request = small.created[-1]
    assert dict(request.settings.decimator) == {0: 4}
    assert request.board_kind == 2


def test_the_json_of_run_is_alone_on_stdout(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    small.streams = [[event(1, "RUNNING"), DONE]]

    run("-o", "json", "run", "m.nir", "r.npz")

    captured = capsys.readouterr()
    assert json.loads(captured.out)["accuracy"] == 0.5
    assert captured.err == ""


def test_csv_has_one_row_for_each_recording(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    small.streams = [[DONE]]

    run("run", "m.nir", "r.npz", "-o", "csv")

    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["prediction"] for row in rows] == ["3", "-1"]
    assert [row["latency_p99_us"] for row in rows] == ["7.125", ""]
    assert rows[0]["counts"] == "0 0 0 2"


def test_detach_prints_the_id_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", "m.nir", "r.npz", "--detach") == 0

    assert capsys.readouterr().out == "j-1\n"


@pytest.mark.parametrize(("state", "code"), [("FAILED", 4), ("CANCELLED", 5), ("EXPIRED", 6)])
def test_a_job_without_result_has_its_exit_code(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    error = jobs_pb2.JobError(reason="RUN_TIMEOUT", message="took 31 s")
    job = state_of(state, error=error if state == "FAILED" else None)
    small.streams = [[event(2, state, job=job)], [event(2, state, job=job)]]

    assert run("run", "m.nir", "r.npz", "-o", "json") == code

    last = capsys.readouterr().err.splitlines()[-1]
    assert json.loads(last)["error"]["metadata"] == {"job": "j-1"}
    assert run("watch", "j-1") == code


def test_a_client_timeout_exits_8_and_says_how_to_attach(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    small.streams = [[event(1, "QUEUED"), None]]

    assert run("run", "m.nir", "r.npz", "--timeout", "0.05") == 8

    assert "speckfarm watch" in capsys.readouterr().err
    assert small.cancelled == []


def test_a_rejected_model_exits_3_with_its_findings(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    small.refusal = status(code_pb2.FAILED_PRECONDITION, "MODEL_REJECTED", "The model cannot run")

    assert run("flash", "m.nir") == 3

    err = capsys.readouterr().err
    assert err.startswith("error: The model cannot run\n")
    assert "reason      MODEL_REJECTED" in err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["run", "absent.nir", "r.npz"], 2, "neither a file on this machine"),
        (["run", "m.nir", "r.npz", "--decimator", "4"], 2, "LAYER=VALUE"),
        (["run", "m.nir", "r.npz", "--polarity", "both"], 2, "keep, merge, on, off"),
        (["bench", "m.nir"], 2, "--resume ID"),
        (["bench", "m.nir", "r.npz", "--sweep", "reset"], 2, "KEY=V1,V2"),
        (["boards", "drain"], 2, "needs a board's id"),
        (["jobs", "--state", "done"], 2, "QUEUED"),
        (["info", "--token", "wrong"], 7, "speckfarm login"),
        (["info", "--server", "127.0.0.1:1"], 7, "127.0.0.1:1"),
        (["info", "--server", "speck.lab"], 2, "HOST:PORT is wanted"),
        (["info", "--server", "speck.lab:1"], 7, "speckfarm login speck.lab:1"),
    ],
)
def test_what_went_wrong_decides_the_exit_code(
    run: Run, capsys: pytest.CaptureFixture[str], words: list[str], code: int, told: str
) -> None:
    assert run(*words) == code

    assert told in capsys.readouterr().err


def test_unknown_words_are_usage_errors(run: Run) -> None:
    assert run("frobnicate") == 2


def test_every_error_has_an_exit_code() -> None:
    kinds = [getattr(speckfarm, name) for name in speckfarm.__all__]
    kinds = [k for k in kinds if isinstance(k, type) and issubclass(k, errors.SpeckfarmError)]
    abstract = (errors.SpeckfarmError, errors.JobEnded)

    codes = {kind: exit_code(kind("R", "m")) for kind in kinds if kind not in abstract}

    assert set(codes.values()) == set(range(1, 9))


def test_bench_prints_its_table_and_writes_it(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = run("bench", "m.nir", "r.npz", "--sweep", "decimator.0=off,2", "--csv", "t.csv")

    out = capsys.readouterr().out
    assert code == 0
    assert out.splitlines()[0].split()[:4] == ["model", "decimator.0", "state", "board"]
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3


def test_lists_are_json_lists(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("jobs", "-o", "json", "--limit", "2")

    assert [job["job"] for job in json.loads(capsys.readouterr().out)] == ["j-0", "j-1"]


def test_help_loads_neither_grpc_nor_numpy() -> None:
    code = "import sys, speckfarm.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'grpc', 'numpy', 'rich'} & set(sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.fixture
def waiting(small: SmallFarm, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`speckfarm watch` of a job that does not end, once it shows that it is watching."""
    small.streams = [[event(1, "QUEUED", message="waiting for a board"), None]]
    environment = os.environ | {
        "SPECKFARM_SERVER": small.address,
        "SPECKFARM_TOKEN": "secret",
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "speckfarm.cli", "watch", "j-1"]
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        assert "QUEUED waiting for a board" in first, process.stderr.read()
        yield process
        process.kill()


def test_the_first_interrupt_detaches(small: SmallFarm, waiting: subprocess.Popen[str]) -> None:
    waiting.send_signal(signal.SIGINT)

    _, err = waiting.communicate()
    assert waiting.returncode == 0
    assert "Attach again: speckfarm watch j-1" in err
    assert small.cancelled == []


def test_a_second_interrupt_cancels(small: SmallFarm, waiting: subprocess.Popen[str]) -> None:
    assert waiting.stderr is not None
    waiting.send_signal(signal.SIGINT)
    while "again within 3 s" not in waiting.stderr.readline():
        pass
    waiting.send_signal(signal.SIGINT)

    waiting.communicate()
    assert waiting.returncode == 5
    assert small.cancelled == ["j-1"]
