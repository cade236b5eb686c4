"""Variation: the same job with the unknown order drawn again, and how far the outputs go apart."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import speckfarm
from speckfarm.cli import main
from speckfarm.result import Result
from speckfarm.v1 import benchmarks_pb2, boards_pb2, jobs_pb2, latency_pb2
from speckfarm.variation import measure_variation
from tests.command_line import Run, command_line
from tests.farm_process import FarmProcess
from tests.nir_files import chain_bytes, conv, neurons
from tests.small_farm import SmallFarm, serving, state_of

NO_FARM: Any = None  # these results fetch nothing


def result(
    *counts: tuple[int, ...], accuracy: float | None = 0.5, p99_us: float | None = 7.0
) -> Result:
    """One run: counts of each recording."""
    recordings = [
        jobs_pb2.RecordingResult(
            recording="b" * 64, name=f"r{n}", label=0, counts=each,
            prediction=int(np.argmax(each)) if sum(each) else -1,
        )
        for n, each in enumerate(counts)
    ]  # fmt: skip
    message = jobs_pb2.Result(
        job=state_of("SUCCEEDED"),
        board="twin-0",
        board_kind=boards_pb2.BOARD_KIND_SIMULATED,
        recordings=recordings,
        accuracy=accuracy,
        latency=latency_pb2.Latency(n=1, p99_us=p99_us),
    )
    return Result(NO_FARM, message)


COUNTS = st.integers(0, 50)
RUNS = st.integers(1, 4).flatmap(
    lambda recordings: st.lists(
        st.lists(st.tuples(COUNTS, COUNTS, COUNTS), min_size=recordings, max_size=recordings),
        min_size=2,
        max_size=6,
    )
)


@given(runs=RUNS)
def test_every_figure_is_that_of_the_counts(runs: list[list[tuple[int, ...]]]) -> None:
    found = measure_variation("b-1", [result(*counts) for counts in runs])

    counts = np.array(runs)
    for number, each in enumerate(found.recordings):
        spikes = counts[:, number].sum(axis=1)
        assert (each.output_spikes.min, each.output_spikes.max) == (spikes.min(), spikes.max())
        assert each.output_spikes.median == np.median(spikes)
        assert [spread.max for spread in each.counts] == counts[:, number].max(axis=0).tolist()
        assert each.changes == (len(set(each.predictions)) > 1)
    assert found.changed == np.mean([each.changes for each in found.recordings])
    if counts.any():
        wanted = counts.std(axis=0).sum() / counts.mean(axis=0).sum()
        assert found.relative_std == pytest.approx(wanted)
    else:
        assert found.relative_std is None


def test_runs_that_agree_have_no_spread() -> None:
    found = measure_variation("b-1", [result((3, 1)), result((3, 1)), result((3, 1))])

    assert (found.changed, found.relative_std) == (0.0, 0.0)
    assert found.recordings[0].predictions == (0, 0, 0)
    assert found.accuracy is not None
    assert found.accuracy.min == found.accuracy.max == 0.5


def test_a_run_without_accuracy_or_lag_leaves_the_figure_out() -> None:
    found = measure_variation("b-1", [result((3, 1)), result((3, 1), accuracy=None, p99_us=None)])

    assert (found.accuracy, found.p99_us) == (None, None)


def test_a_run_without_a_result_is_counted_and_left_out() -> None:
    found = measure_variation("b-1", [result((3, 1)), None, result((0, 2))])

    assert (found.failed, len(found.jobs)) == (1, 2)
    assert found.recordings[0].predictions == (0, 1)


@pytest.mark.parametrize("results", [[], [None, None], [result((3, 1)), None]])
def test_below_two_results_nothing_is_compared(results: list[Result | None]) -> None:
    with pytest.raises(speckfarm.WrongState) as caught:
        measure_variation("b-1", results)

    assert caught.value.reason == "TOO_FEW_RESULTS"


def test_networks_with_different_outputs_are_not_compared() -> None:
    with pytest.raises(speckfarm.BadRequest, match=r"different numbers of outputs \(2, 3\)"):
        measure_variation("b-1", [result((3, 1)), result((3, 1, 0))])


@pytest.fixture
def small() -> Iterator[SmallFarm]:
    farm = SmallFarm()
    with serving(farm):
        yield farm


@pytest.fixture
def run(small: SmallFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    return command_line(small.address, monkeypatch, tmp_path)


def test_vary_queues_the_job_as_given_and_one_for_each_seed(small: SmallFarm, run: Run) -> None:
    code = run("run", "m.nir", "r.npz", "--vary", "3", "--reset", "zero", "--sim", "--detach")

    request = small.created[-1]
    assert code == 0
    assert isinstance(request, benchmarks_pb2.CreateBenchmarkRequest)
    assert [(axis.key, list(axis.values)) for axis in request.axes] == [
        ("order_seed", ["off", "1", "2", "3"])
    ]
    assert request.settings.reset == 2
    assert request.board_kind == boards_pb2.BOARD_KIND_SIMULATED


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--vary", "0"], "a whole number from 1"),
        (["--vary", "two"], "a whole number from 1"),
        (["--vary", "2", "--board", "twin-0"], "--board"),
        (["--vary", "2", "--keep-lags"], "--keep-lags"),
        (["--vary", "2", "--run-timeout", "3"], "--run-timeout"),
        (["--vary", "2", "--queue-timeout", "3"], "--queue-timeout"),
        (["--vary", "2", "--order-seed", "0"], "order_seed is swept and also set"),
    ],
)
def test_what_does_not_go_with_vary_is_refused(
    small: SmallFarm,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    named: str,
) -> None:
    assert run("run", "m.nir", "r.npz", *words) == 2

    assert named in capsys.readouterr().err
    assert small.created == []


@pytest.mark.parametrize("runs", [0, -1, 1.5, True, "2"])
def test_the_number_of_runs_is_a_whole_number_from_1(small: SmallFarm, runs: Any) -> None:
    wanted = pytest.raises(speckfarm.BadRequest, match="a whole number from 1")
    with speckfarm.connect(small.address, "secret") as farm, wanted:
        farm.vary(b"model", b"r", runs=runs)


def speak(server: FarmProcess, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setenv("SPECKFARM_SERVER", server.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", server.token)
    return main(words)


def test_a_varied_run_on_simulated_boards_reports_every_recording(
    server: FarmProcess,
    digits_model: Path,
    one_digit: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("run", str(digits_model), str(one_digit), "--vary", "2")

    assert speak(server, monkeypatch, *words, "-o", "json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert speak(server, monkeypatch, *words) == 0
    table = capsys.readouterr().out
    assert speak(server, monkeypatch, *words, "-o", "csv") == 0
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))

    assert (plain["runs"], plain["failed"], len(plain["jobs"])) == (3, 0, 3)
    [recording] = plain["recordings"]
    assert len(recording["predictions"]) == 3
    assert len(recording["counts"]) == 10
    assert recording["output_spikes"]["min"] <= recording["output_spikes"]["max"]
    assert "of 1 recording (" in table
    assert len(row["predictions"].split()) == 3
    assert row["spikes_max"] == str(round(recording["output_spikes"]["max"]))


def test_each_seed_is_a_configuration_of_its_own_and_repeats(
    server: FarmProcess, digits_model: Path, one_digit: Path
) -> None:
    with server.connect() as farm:
        first, again = (
            farm.vary(digits_model, one_digit, runs=2).wait(timeout=60) for _ in range(2)
        )

        found = [farm.job(job).to_dict()["configuration"] for job in first.variation().jobs]
        assert len(set(found)) == 3
        assert [each.to_dict() for each in first.variation().recordings] == [
            each.to_dict() for each in again.variation().recordings
        ]


def test_a_benchmark_can_be_attached_to_for_its_variation(
    server: FarmProcess,
    digits_model: Path,
    one_digit: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("run", str(digits_model), str(one_digit), "--vary", "1", "--detach")
    assert speak(server, monkeypatch, *words) == 0
    name = capsys.readouterr().out.strip()

    assert speak(server, monkeypatch, "bench", "--resume", name, "--variation") == 0

    assert f"benchmark {name}: 2 simulated runs" in capsys.readouterr().out


def test_networks_with_different_outputs_have_no_variation(
    server: FarmProcess, digits_model: Path, one_digit: Path
) -> None:
    other = chain_bytes(conv((2, 2, 1, 1)), neurons(), input_shape=(2, 34, 34))
    with server.connect() as farm:
        bench = farm.benchmark([digits_model, other], one_digit).wait(timeout=60)

        with pytest.raises(speckfarm.BadRequest, match="different numbers of outputs"):
            bench.variation()
