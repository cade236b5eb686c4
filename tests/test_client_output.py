"""What the commands print: layers apart, times of progress, rows and names. Scripted farm."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import speckfarm
from speckfarm.cli_output import bytes_words
from speckfarm.events import EVENT_DTYPE, pack
from speckfarm.settings import build_settings
from speckfarm.upload import bytes_source
from speckfarm.v1 import benchmarks_pb2, boards_pb2, jobs_pb2, latency_pb2, models_pb2
from tests.command_line import Run, command_line
from tests.small_farm import MEASURED, SmallFarm, event, result_message, serving, state_of


@pytest.fixture
def small() -> Iterator[SmallFarm]:
    farm = SmallFarm()
    with serving(farm):
        yield farm


@pytest.fixture
def run(small: SmallFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    return command_line(small.address, monkeypatch, tmp_path)


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


def _on_a_devkit() -> jobs_pb2.Result:
    message = result_message()
    message.device.CopyFrom(boards_pb2.Device(type="Speck2fDevKit", usb_path="2-1.3"))
    message.power.add(rail="VDD_IO", mean_w=0.0000617)
    message.power.add(rail="VDD_RAM", mean_w=0.0042)
    message.recordings[0].ending = jobs_pb2.RUN_ENDING_DRAIN_LIMIT
    for recording in message.recordings[1:]:
        recording.ending = jobs_pb2.RUN_ENDING_QUIET
    return message


@pytest.mark.parametrize("words", [("run", "m.nir", "r.npz"), ("result", "j-1")])
def test_what_ran_on_a_devkit_shows_it_its_power_and_odd_endings(
    small: SmallFarm,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    message = _on_a_devkit()
    small.streams = [[event(1, "SUCCEEDED", job=state_of("SUCCEEDED"), result=message)]]
    answer = jobs_pb2.GetResultResponse(result=message)
    monkeypatch.setattr(small, "GetResult", lambda *_: answer)
    with serving(small) as address:
        monkeypatch.setenv("SPECKFARM_SERVER", address)

        assert run(*words) == 0

    lines = capsys.readouterr().out.splitlines()
    assert "  Speck2fDevKit at USB 2-1.3, logic version 0" in lines
    assert "power: VDD_IO 0.0617 mW, VDD_RAM 4.2 mW" in lines
    assert [line for line in lines if "ended by" in line] == ["1 recording ended by drain_limit"]


def test_a_simulated_result_speaks_of_no_devkit(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    message = result_message()
    for recording in message.recordings:
        recording.ending = jobs_pb2.RUN_ENDING_SERVED
    small.streams = [[event(1, "SUCCEEDED", job=state_of("SUCCEEDED"), result=message)]]

    assert run("run", "m.nir", "r.npz") == 0

    out = capsys.readouterr().out
    assert not any(word in out for word in ("USB", "power:", "ended by"))


def test_boards_show_their_port_and_that_they_may_be_another_devkit(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = boards_pb2.Board(id="kit-0", message="plugged", swap_hint="swapped")
    kit.device.CopyFrom(boards_pb2.Device(type="Speck2fDevKit", usb_path="2-1.3"))
    answer = boards_pb2.ListBoardsResponse(boards=[kit, boards_pb2.Board(id="twin-0")])
    monkeypatch.setattr(small, "ListBoards", lambda *_: answer)
    printed = {}
    with serving(small) as address:
        monkeypatch.setenv("SPECKFARM_SERVER", address)
        for output in ("table", "json", "csv"):
            assert run("boards", "-o", output) == 0
            printed[output] = capsys.readouterr().out

    header, first, second = (line.split() for line in printed["table"].splitlines())
    place = header.index("usb")
    assert (first[place], second[place]) == ("2-1.3", "-")
    assert (" ".join(first[-2:]), second[-1]) == ("plugged; swapped", "-")
    [plain, _] = json.loads(printed["json"])
    assert (plain["message"], plain["swap_hint"], "usb" in plain) == ("plugged", "swapped", False)
    assert "usb" not in printed["csv"].splitlines()[0].split(",")


def test_an_estimated_lag_of_a_benchmark_has_its_error_beside_it(
    small: SmallFarm, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = benchmarks_pb2.Benchmark(id="b-1", points_total=1, points_done=1)
    point = done.points.add(
        model="a" * 64, job="j-1", state=jobs_pb2.JOB_STATE_SUCCEEDED, board="kit-0"
    )
    point.latency.n, point.latency.error_us = 3, 4.5
    point.latency.method = latency_pb2.LATENCY_METHOD_ESTIMATED
    last = benchmarks_pb2.WatchBenchmarkResponse(benchmark=done)
    answer = benchmarks_pb2.GetBenchmarkResponse(benchmark=done)
    monkeypatch.setattr(small, "GetBenchmark", lambda *_: answer)
    monkeypatch.setattr(small, "WatchBenchmark", lambda *_: iter([last]))
    printed = {}
    with serving(small) as address:
        monkeypatch.setenv("SPECKFARM_SERVER", address)
        for output in ("table", "csv"):
            assert run("bench", "--resume", "b-1", "-o", output) == 0
            printed[output] = capsys.readouterr().out

    header, row = printed["table"].splitlines()
    table = dict(zip(header.split(), row.split(), strict=True))
    [plain] = csv.DictReader(io.StringIO(printed["csv"]))
    for shown in (table, plain):
        assert shown["board"] == "kit-0"
        assert (shown["lag_method"], shown["lag_error_us"]) == ("estimated", "4.5")


@pytest.mark.parametrize("command", ["run", "flash", "bench", "advise"])
def test_the_kind_of_pythons_jobs_is_real_or_sim_here(
    run: Run, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(command, "m.nir", "r.npz", "--kind", "real") == 2

    expected = f"speckfarm {command} has no option --kind; did you mean --real or --sim?"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (999, "999 B"), (182_400, "182 kB"), (2**30, "1.07 GB")]
)
def test_sizes_are_readable(size: int, words: str) -> None:
    assert bytes_words(size) == words
