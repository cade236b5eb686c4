"""What first-time users ran into: mistakes are named early, in one sentence, and cost nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import code_pb2

import speckfarm
from speckfarm import operands, reattach
from speckfarm.profile import local_path
from speckfarm.settings import build_settings
from speckfarm.v1 import findings_pb2, info_pb2, models_pb2
from tests.command_line import Run, command_line
from tests.small_farm import SmallFarm, event, serving, status


@pytest.fixture
def small() -> Iterator[SmallFarm]:
    farm = SmallFarm()
    with serving(farm):
        yield farm


@pytest.fixture
def run(small: SmallFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return command_line(small.address, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("bench m.nir r.npz --csv absent/t.csv", 2, "there is no folder absent"),
        ("bench m.nir r.npz --csv folder", 2, "it is a folder"),
        ("bench m.nir r.npz --sweep reset=zero --sweep reset=subtract", 2, "AXIS_TWICE"),
        ("bench m.nir r.npz --sweep reset=zero,zero", 2, "the value zero twice"),
        ("bench m.nir r.npz --sweep reset=zero --reset subtract", 2, "reset is swept and also set"),
        ("bench m.nir r.npz --sweep decimator.0=2 --decimator 0=4", 2, "leave out one"),
        ("bench --resume b-1 extra.nir", 2, "--resume attaches"),
        ("jobs --limit -3", 2, "found -3; a whole number from 1"),
        ("models --limit 0", 2, "found 0; a whole number from 1"),
        ("run m.nir r.npz --timeout 0", 2, "found 0; a number of seconds above 0"),
        ("run m.nir r.npz --queue-timeout -1", 2, "found -1; a number of seconds above 0"),
        ("run m.nir r.npz --monitor x", 2, "--monitor x is not understood; a list of layers"),
        ("run m.nir r.npz --decimator 0=x", 2, "a whole number after the ="),
        ("run m.nir r.npz --bord twin-0", 2, "no option --bord; did you mean --board?"),
        ("run --bogs", 2, "no option --bogs"),
        ("rum m.nir", 2, "No command is called rum; did you mean run?"),
        ("check pipe", 3, "pipe cannot be read: it is a device, a pipe or a socket"),
        ("check /dev/zero", 3, "no regular file"),
        ("info --server foo", 2, "'foo' is no address"),
    ],
)
def test_mistakes_are_named_in_one_sentence_before_anything_is_sent(
    small: SmallFarm,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    words: str,
    code: int,
    told: str,
) -> None:
    assert run(*words.split()) == code

    err = capsys.readouterr().err
    assert told in err
    assert "usage:" not in err
    assert "int()" not in err
    assert not small.blobs or "bench" in words


def test_a_usage_error_is_json_for_programs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("jobs", "--limit", "0", "-o", "json")

    last = capsys.readouterr().err.splitlines()[-1]
    assert json.loads(last)["error"]["reason"] == "BAD_ARGUMENT"


def test_limits_below_one_are_refused_in_python(small: SmallFarm) -> None:
    with (
        speckfarm.connect(small.address, "secret") as farm,
        pytest.raises(speckfarm.BadRequest, match="limit is -3"),
    ):
        farm.jobs(limit=-3)


@pytest.mark.parametrize("words", ["m.nir --sim r.npz", "--sim m.nir r.npz", "m.nir r.npz --sim"])
def test_operands_may_stand_between_options(small: SmallFarm, run: Run, words: str) -> None:
    assert run("bench", *words.split(), "--detach") == 0
    assert run("run", *words.split(), "--detach") == 0

    assert len(small.created[-1].recordings) == 1


def test_a_detached_benchmark_prints_its_id_alone(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run("bench", "m.nir", "--model", "m.nir", "r.npz", "--detach")

    assert capsys.readouterr().out == "b-1\n"


def test_off_clears_what_the_settings_page_says_it_clears(small: SmallFarm, run: Run) -> None:
    words = ["--slow-clock-hz", "off", "--input-dt-us", "off", "--monitor", "off"]

    assert run("run", "m.nir", "r.npz", "--detach", "--polarity", "off", *words) == 0

    settings = small.created[-1].settings
    assert [field.name for field, _ in settings.ListFields()] == ["polarity"]


def test_all_words_that_cannot_be_sent_are_named_at_once() -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        build_settings({"reset": "foo", "polarity": "x", "decimator": {0: "y"}})

    assert [path for path, _ in caught.value.fields] == ["reset", "polarity", "decimator"]
    assert "'y' is no whole number" in caught.value.message


def test_a_timeout_names_the_job_and_tells_of_no_lost_connection(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    small.streams = [[event(1, "QUEUED"), None]]

    assert run("run", "m.nir", "r.npz", "--timeout", "0.05") == 8

    err = capsys.readouterr().err
    assert "`speckfarm watch j-1`" in err
    assert "still trying" not in err


def test_a_farm_that_went_away_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reattach, "PATIENCE_S", 0.3)
    small = SmallFarm()
    small.streams = [[event(1, "QUEUED"), None]]
    with serving(small) as address:
        farm = speckfarm.connect(address, "secret")
        watching = farm.job("j-1").watch()
        next(watching)

    with (
        farm,
        caplog.at_level("INFO", "speckfarm"),
        pytest.raises(speckfarm.FarmUnavailable, match=r"Nobody answers .* \(connection refused\)"),
    ):
        list(watching)

    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(set(told))
    assert all("ipv4" not in text for text in told)


def test_too_large_a_file_is_refused_before_it_is_hashed(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = info_pb2.GetServerInfoResponse(max_model_bytes=10, max_recording_bytes=8)
    monkeypatch.setattr(operands, "NOTABLE_BYTES", 4)
    monkeypatch.setattr(small, "GetServerInfo", lambda *_: limits)
    with serving(small) as address:
        monkeypatch.setenv("SPECKFARM_SERVER", address)

        assert run("run", "m.nir", "r.npz") == 3

    assert "r.npz has 9 bytes; a recording may have 8" in capsys.readouterr().err


def test_a_refused_file_is_named_among_several(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: object, context: object) -> None:
        small.refusal = status(code_pb2.INVALID_ARGUMENT, "EMPTY", "The file has no events")
        small._refuse(context)

    monkeypatch.setattr(small, "CreateRecording", refuse)
    with serving(small) as address:
        monkeypatch.setenv("SPECKFARM_SERVER", address)
        run("run", "m.nir", "r.npz")

    assert "error: r.npz: The file has no events" in capsys.readouterr().err


def test_a_refused_model_is_named_among_several(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: models_pb2.CreateModelRequest, context: object) -> object:
        if request.name == "bad.nir":
            small.refusal = status(code_pb2.INVALID_ARGUMENT, "MODEL_UNREADABLE", "no network")
        small._refuse(context)
        return models_pb2.CreateModelResponse()

    Path("bad.nir").write_bytes(b"bad")
    monkeypatch.setattr(small, "CreateModel", refuse)
    with serving(small) as address:
        monkeypatch.setenv("SPECKFARM_SERVER", address)
        run("bench", "m.nir", "--model", "bad.nir", "r.npz")

    assert "error: bad.nir: no network" in capsys.readouterr().err


def test_a_rejected_setting_is_told_once_and_not_blamed_on_the_network(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "Setting decimator.6 names layer 6; this network has layers 0 to 3."
    finding = findings_pb2.Finding(
        reason="LAYER_NOT_FOUND", severity=findings_pb2.SEVERITY_ERROR, message=text
    )
    small.refusal = status(
        code_pb2.FAILED_PRECONDITION, "MODEL_REJECTED", f"The model cannot run: {text}", finding
    )

    run("flash", "m.nir")

    err = capsys.readouterr().err
    assert err.count(text) == 1
    assert "change the settings as the findings say" in err


@pytest.mark.parametrize("name", ["127.0.0.1:50051", "localhost:50051"])
def test_the_local_server_may_be_called_localhost(name: str) -> None:
    local_path().parent.mkdir(parents=True)
    local_path().write_text('{"server": "127.0.0.1:50051", "token": "t"}')

    with speckfarm.connect(name) as farm:
        assert repr(farm) == "<Farm 127.0.0.1:50051>"


def test_a_token_that_was_not_known_for_localhost_goes_nowhere() -> None:
    local_path().parent.mkdir(parents=True)
    local_path().write_text('{"server": "127.0.0.1:50051", "token": "t"}')

    with pytest.raises(speckfarm.Unauthenticated):
        speckfarm.connect("localhost:50052")
