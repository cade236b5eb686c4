"""What first-time users ran into: mistakes are named early, in one sentence, and cost nothing."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from google.rpc import code_pb2

import speckfarm
from speckfarm import operands, reattach
from speckfarm.cli import main
from speckfarm.cli_output import bytes_words
from speckfarm.events import EVENT_DTYPE, pack
from speckfarm.profile import local_path
from speckfarm.settings import build_settings
from speckfarm.upload import bytes_source
from speckfarm.v1 import benchmarks_pb2, boards_pb2, findings_pb2, info_pb2, jobs_pb2, models_pb2
from tests.small_farm import MEASURED, SmallFarm, event, result_message, serving, state_of, status

Run = Callable[..., int]


@pytest.fixture
def small() -> Iterator[SmallFarm]:
    farm = SmallFarm()
    with serving(farm):
        yield farm


@pytest.fixture
def run(small: SmallFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("SPECKFARM_SERVER", small.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", "secret")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.nir").write_bytes(b"model")
    (tmp_path / "r.npz").write_bytes(b"recording")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return lambda *words: main(words)


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


def test_check_starts_with_the_verdict(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("check", "m.nir")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("m.nir (")
    assert lines[0].endswith("cannot run on speck2f")
    assert any(line.endswith("max_events_per_s") for line in lines)


def _monitored() -> jobs_pb2.Result:
    message = result_message()
    for recording in message.recordings:
        recording.layer_latency[0].CopyFrom(MEASURED)
    return message


def test_monitored_layers_are_shown_apart(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    done = event(1, "SUCCEEDED", job=state_of("SUCCEEDED"), result=_monitored())
    outputs = {}
    for output in ("table", "json", "csv"):
        small.streams = [[done]]
        run("run", "m.nir", "r.npz", "-o", output)
        outputs[output] = capsys.readouterr().out

    plain = json.loads(outputs["json"])
    assert plain["recordings"][0]["layers"]["0"]["p99_us"] == 7.125
    assert plain["recordings"][0]["output_spikes"] == 2
    assert "monitored layer 0: 6 spikes, highest p99 lag 7.1 us" in outputs["table"]
    rows = list(csv.DictReader(io.StringIO(outputs["csv"])))
    assert rows[0]["layers_0_p99_us"] == "7.125"


def test_spikes_of_one_layer_can_be_asked_for(small: SmallFarm) -> None:
    spikes = np.array([(5, 0, 1, 0, 0), (6, 3, 1, 0, 1)], EVENT_DTYPE)
    source = bytes_source(pack(spikes).tobytes(), "spikes")
    small.blobs[source.digest] = pack(spikes).tobytes()
    result = result_message(spikes=source.digest)
    small.streams = [[event(1, "SUCCEEDED", job=state_of("SUCCEEDED"), result=result)]]

    with speckfarm.connect(small.address, "secret") as farm:
        found = farm.job("j-1").wait()

        assert found.spikes_of(0, layer=3)["t"].tolist() == [6]
        assert len(found.spikes_of(0)) == 2


def test_progress_has_a_time_of_its_own(small: SmallFarm) -> None:
    first, second = event(1, "RUNNING"), event(1, "RUNNING", done=1)
    first.time.FromSeconds(1000)
    second.time.FromSeconds(1000)
    done = event(2, "SUCCEEDED", job=state_of("SUCCEEDED"))
    done.time.FromSeconds(1010)
    small.streams = [[first, second, done]]

    with speckfarm.connect(small.address, "secret") as farm:
        times = [each.time for each in farm.job("j-1").watch()]

    assert times[1] != times[0]


def test_watching_prints_progress_in_tenths_and_csv_with_a_header(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    job = state_of("RUNNING", recordings_total=98)
    steps = [event(1, "RUNNING", done=done) for done in range(100)]
    steps[0].job.CopyFrom(job)
    small.job = job
    last = event(2, "SUCCEEDED", job=state_of("SUCCEEDED"), result=result_message())
    small.streams = [[*steps, last], [*steps, last]]

    run("watch", "j-1")
    lines = capsys.readouterr().out.splitlines()
    run("watch", "j-1", "-o", "csv")
    rows = capsys.readouterr().out.splitlines()

    assert len(lines) <= 13
    assert "1 recording done" not in lines[1]
    assert rows[0] == "sequence,time,state,message,recordings_done"
    assert len(rows) == 102


def test_a_flash_has_a_row(small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    flashed = jobs_pb2.Result(
        job=state_of("SUCCEEDED"), board="twin-0", board_kind=boards_pb2.BOARD_KIND_SIMULATED
    )
    small.streams = [[event(1, "SUCCEEDED", job=state_of("SUCCEEDED"), result=flashed)]]

    run("flash", "m.nir", "-o", "csv")

    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["job"], row["board"]) == ("j-1", "twin-0")


def test_show_has_settings_and_run_time(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    job = state_of("SUCCEEDED", settings=build_settings({"decimator": {0: 4}, "monitor": [0, 1]}))
    job.start_time.FromMilliseconds(1_000_000)
    job.end_time.FromMilliseconds(1_001_500)
    small.job = job

    run("show", "j-1")

    out = capsys.readouterr().out
    assert "decimator.0=4 monitor=0+1" in out
    assert "1.50 s" in out
    assert "+00:00" not in out


def test_a_benchmark_with_cancelled_points_exits_5_and_shows_no_zeros_for_them(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = benchmarks_pb2.Benchmark(id="b-1", points_total=1, points_done=1)
    done.points.add(model="a" * 64, job="j-1", state=jobs_pb2.JOB_STATE_CANCELLED)
    answer = benchmarks_pb2.GetBenchmarkResponse(benchmark=done)
    last = benchmarks_pb2.WatchBenchmarkResponse(benchmark=done)
    monkeypatch.setattr(small, "GetBenchmark", lambda *_: answer)
    monkeypatch.setattr(small, "WatchBenchmark", lambda *_: iter([last]))
    monkeypatch.setattr(
        small,
        "GetModel",
        lambda *_: models_pb2.GetModelResponse(model=models_pb2.Model(name="m.nir")),
    )
    with serving(small) as address:
        monkeypatch.setenv("SPECKFARM_SERVER", address)

        assert run("bench", "--resume", "b-1") == 5

    captured = capsys.readouterr()
    header, row = captured.out.splitlines()
    shown = dict(zip(header.split(), row.split(), strict=True))
    assert (shown["model"], shown["job"], shown["output_spikes"]) == ("m.nir", "j-1", "-")
    assert "1 of 1 point cancelled" in captured.err


def test_an_interrupt_of_a_command_that_waits_for_nothing_exits_130(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: speckfarm.Farm) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(speckfarm.Farm, "info", interrupted)

    assert run("info") == 130


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


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (999, "999 B"), (182_400, "182 kB"), (2**30, "1.07 GB")]
)
def test_sizes_are_readable(size: int, words: str) -> None:
    assert bytes_words(size) == words
