"""Benchmarks: the grid expands, ends in one table, and is accepted whole or not at all."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import speckfarm
from speckfarm.v1 import benchmarks_pb2
from tests.farm_follow import faults, raw_calls, rows
from tests.farm_process import FarmProcess, scripted
from tests.nir_files import chain_bytes, conv, neurons

LIMITS = "[limits]\nmax_benchmark_points = 40\nmax_queued_jobs = 100\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    folder = tmp_path_factory.mktemp("benchmarks")
    process = FarmProcess(folder / "data", LIMITS + scripted({"run_ms": 5}, {"run_ms": 5})).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def farm(own: FarmProcess) -> Iterator[speckfarm.Farm]:
    with own.connect() as connected:
        yield connected


@pytest.fixture(scope="module")
def digests(farm: speckfarm.Farm, digits_model: Path, one_digit: Path) -> tuple[str, str]:
    job = farm.run(digits_model, one_digit)
    job.wait(timeout=40)
    plain = json.loads(json.dumps(job.to_dict()))
    return plain["model"], plain["recordings"][0]


@pytest.fixture
def drained(farm: speckfarm.Farm) -> Iterator[None]:
    """No board takes a job while the test runs."""
    for board in farm.boards():
        farm.drain(board.board)
    yield
    for board in farm.boards():
        farm.undrain(board.board)


@pytest.fixture(scope="module")
def other_model() -> bytes:
    return chain_bytes(conv((2, 2, 1, 1)), neurons(), input_shape=(2, 34, 34))


def counts(own: FarmProcess) -> tuple[object, ...]:
    [jobs], [benches] = (
        rows(own, "SELECT count(*) FROM jobs"),
        rows(own, "SELECT count(*) FROM benchmarks"),
    )
    return *jobs, *benches


def test_a_grid_is_the_product_of_models_and_axes_in_order(
    farm: speckfarm.Farm, digests: tuple[str, str], other_model: bytes
) -> None:
    sweep = {"decimator.0": [None, 2, 4], "reset": ["subtract", "zero"]}

    bench = farm.benchmark([digests[0], other_model], digests[1], sweep=sweep).wait(timeout=40)

    table = bench.table()
    found = [(row["decimator.0"], row["reset"]) for row in table]
    assert found == list(itertools.product(["off", "2", "4"], ["subtract", "zero"])) * 2
    assert [row["model"] == digests[0] for row in table] == [True] * 6 + [False] * 6
    assert {row["state"] for row in table} == {"SUCCEEDED"}
    assert len({row["job"] for row in table}) == 12


def test_each_point_ran_with_its_own_settings(
    farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    bench = farm.benchmark(*digests, sweep={"decimator.1": [2, 8]}, lower_clip=-2.0)

    rows_ = bench.wait(timeout=40).table()

    settings = [farm.job(str(row["job"])).result().to_dict()["settings"] for row in rows_]
    plain = json.loads(json.dumps(settings))
    assert [each["decimator"] for each in plain] == [{"1": 2}, {"1": 8}]
    assert [each["lower_clip"] for each in plain] == [-2.0, -2.0]


def test_the_table_is_csv_too(farm: speckfarm.Farm, digests: tuple[str, str]) -> None:
    bench = farm.benchmark(*digests, sweep={"reset": ["zero"]}).wait(timeout=40)

    read = list(csv.DictReader(io.StringIO(bench.to_csv())))

    assert [(row["reset"], row["state"]) for row in read] == [("zero", "SUCCEEDED")]


def test_each_point_names_its_board_and_how_its_lags_were_found(
    farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    bench = farm.benchmark(*digests, sweep={"reset": ["zero", "subtract"]}).wait(timeout=40)

    table = bench.table()
    jobs = [farm.job(str(row["job"])) for row in table]
    points = json.loads(json.dumps(bench.to_dict()))["points"]
    assert [row["board"] for row in table] == [job.result().board for job in jobs]
    assert [point["board"] for point in points] == [row["board"] for row in table]
    latencies = [job.result().latency for job in jobs]
    assert [row["lag_method"] for row in table] == [each.method for each in latencies]
    assert [row["lag_error_us"] for row in table] == [each.error_us for each in latencies]


def test_a_point_that_never_ran_has_no_board(
    farm: speckfarm.Farm, digests: tuple[str, str], drained: None
) -> None:
    bench = farm.benchmark(*digests)

    [row] = bench.cancel().table()

    assert (row["board"], row["lag_method"], row["lag_error_us"]) == (None, None, None)


def test_without_axes_there_is_one_point_for_each_model(
    farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    assert len(farm.benchmark(*digests).wait(timeout=40).table()) == 1


@pytest.mark.parametrize(
    ("sweep", "reason", "word"),
    [
        ({"decimater.0": [2]}, "UNKNOWN_SETTING", "decimator"),
        ({"polarity.0": ["on"]}, "UNKNOWN_SETTING", "polarity"),
        ({"decimator.0": []}, "GRID_EMPTY", "decimator.0"),
        ({"decimator.0": [2, 64]}, "SETTING_OUT_OF_RANGE", "64"),
        ({"decimator.x": [2]}, "SETTING_OUT_OF_RANGE", "x"),
        ({"decimator": [2]}, "SETTING_OUT_OF_RANGE", "decimator.0"),
        ({"lower_clip": ["low"]}, "SETTING_OUT_OF_RANGE", "low"),
        ({"lower_clip": [-1 - n for n in range(41)]}, "GRID_TOO_LARGE", "41"),
        (
            {"lower_clip": [-1 - n for n in range(9)], "decimator.0": [2, 4, 8, 16, 32]},
            "GRID_TOO_LARGE",
            "45",
        ),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused_whole(
    own: FarmProcess,
    farm: speckfarm.Farm,
    digests: tuple[str, str],
    sweep: dict[str, list[object]],
    reason: str,
    word: str,
) -> None:
    before = counts(own)

    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.benchmark(*digests, sweep=sweep)

    assert caught.value.reason == reason
    assert word in caught.value.message
    assert counts(own) == before


def test_one_point_that_cannot_run_refuses_the_grid(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    before = counts(own)

    with pytest.raises(speckfarm.ModelRejected) as caught:
        farm.benchmark(*digests, sweep={"decimator.7": [None, 2]})

    assert "LAYER_NOT_FOUND" in {finding.reason for finding in caught.value.findings}
    assert counts(own) == before


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"models": []}, "GRID_EMPTY"),
        ({"recordings": []}, "GRID_EMPTY"),
        ({"models": ["00" * 32]}, "MODEL_NOT_FOUND"),
        ({"recordings": ["00" * 32]}, "RECORDING_NOT_FOUND"),
        ({"chip": "speck9"}, "UNKNOWN_CHIP"),
        ({"board_kind": 1}, "NO_MATCHING_BOARD"),
        ({"axes": [("reset", ["zero"]), ("reset", ["zero"])]}, "AXIS_TWICE"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    own: FarmProcess, digests: tuple[str, str], changed: dict[str, object], reason: str
) -> None:
    fields = {"models": [digests[0]], "recordings": [digests[1]], **changed}
    axes = [benchmarks_pb2.SweepAxis(key=k, values=v) for k, v in fields.pop("axes", ())]  # type: ignore[attr-defined]
    request = benchmarks_pb2.CreateBenchmarkRequest(axes=axes, **fields)  # type: ignore[arg-type]
    before = counts(own)

    with raw_calls(own) as calls, pytest.raises(speckfarm.SpeckfarmError) as caught:
        calls.call(calls.benchmarks.CreateBenchmark, request)

    assert caught.value.reason == reason
    assert counts(own) == before


@pytest.mark.usefixtures("drained")
def test_a_grid_that_the_queue_has_no_room_for_is_refused_whole(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    sweep = {"lower_clip": [-1 - n / 8 for n in range(40)]}
    benches = [farm.benchmark(*digests, sweep=sweep) for _ in range(2)]
    before = counts(own)

    with pytest.raises(speckfarm.Exhausted) as caught:
        farm.benchmark(*digests, sweep=sweep)

    assert caught.value.reason == "QUEUE_FULL"
    assert counts(own) == before
    for bench in benches:
        bench.cancel()


def test_a_benchmark_outlives_its_client(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    with own.connect() as leaving:
        bench_id = leaving.benchmark(
            *digests, sweep={"lower_clip": [-1 - n / 8 for n in range(30)]}
        ).id

    table = farm.find_benchmark(bench_id).wait(timeout=40).table()

    assert [row["state"] for row in table] == ["SUCCEEDED"] * 30


def test_counts_only_rise_and_end_with_the_table(
    farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    bench = farm.benchmark(*digests, sweep={"lower_clip": [-1 - n / 8 for n in range(20)]})

    told = [done for done, _ in bench.watch(timeout=40)]

    assert told == sorted(told)
    assert told[-1] == 20
    assert len(bench.table()) == 20


@pytest.mark.usefixtures("drained")
def test_cancelled_points_say_so_in_the_table(
    farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    bench = farm.benchmark(*digests, sweep={"decimator.0": [2, 4]})

    bench.cancel()

    table = bench.wait(timeout=40).table()
    assert [(row["state"], row["p50_us"], row["accuracy"]) for row in table] == [
        ("CANCELLED", None, None)
    ] * 2


@pytest.mark.usefixtures("drained")
def test_points_without_a_result_have_none_and_cannot_be_compared(
    farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    bench = farm.vary(*digests, runs=1)

    bench.cancel()

    assert bench.wait(timeout=40).results() == [None, None]
    with pytest.raises(speckfarm.WrongState) as caught:
        bench.variation()
    assert caught.value.reason == "TOO_FEW_RESULTS"


def test_results_stand_in_the_order_of_the_table(
    farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    bench = farm.benchmark(*digests, sweep={"decimator.0": [4, None, 2]}).wait(timeout=40)

    found = [None if each is None else each.job_id for each in bench.results()]

    assert found == [row["job"] for row in bench.table()]


def test_a_benchmark_that_is_not_there_is_not_found(farm: speckfarm.Farm) -> None:
    with pytest.raises(speckfarm.NotFound) as caught:
        farm.find_benchmark("bench-that-is-not")

    assert caught.value.reason == "BENCHMARK_NOT_FOUND"


def test_after_all_that_the_server_logged_no_fault(own: FarmProcess) -> None:
    assert faults(own) == []
