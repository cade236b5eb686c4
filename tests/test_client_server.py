"""The client and the command line against a real farm with simulated boards."""

from __future__ import annotations

import doctest
import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import speckfarm
from speckfarm.arrays import as_event_array, recording_file
from speckfarm.cli import main
from tests.farm_process import FarmProcess

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
MODEL, RECORDINGS = DIGITS / "digits.nir", DIGITS / "digits.npz"


@pytest.fixture
def farm(server: FarmProcess) -> Iterator[speckfarm.Farm]:
    with speckfarm.connect(server.address, server.token) as connected:
        yield connected


@pytest.fixture
def command(server: FarmProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECKFARM_SERVER", server.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", server.token)


def _digits(count: int) -> list[tuple[np.ndarray, int]]:
    stored = np.load(RECORDINGS)
    recordings = []
    for number in range(count):
        first, last = stored["offsets"][number : number + 2]
        events = np.zeros(last - first, [("t", "i8"), ("x", "u1"), ("y", "u1"), ("p", "u1")])
        for name in "txyp":
            events[name] = stored[name][first:last]
        recordings.append((events, int(stored["labels"][number])))
    return recordings


def test_check_finds_the_example_deployable(farm: speckfarm.Farm) -> None:
    report = farm.check(MODEL, chip="speck2f")

    assert report.deployable
    assert len(report.layers) == 4
    assert len({layer.core for layer in report.layers}) == 4


def test_check_leaves_no_model_and_no_job_behind(farm: speckfarm.Farm, tmp_path: Path) -> None:
    jobs = [job.id for job in farm.jobs()]
    changed = tmp_path / "absent.nir"
    changed.write_bytes(b"no network at all")

    with pytest.raises(speckfarm.SpeckfarmError) as caught:
        farm.check(changed)

    assert isinstance(caught.value, (speckfarm.BadRequest, speckfarm.WrongState))
    assert [job.id for job in farm.jobs()] == jobs
    assert "absent.nir" not in {model.name for model in farm.models()}


@pytest.mark.simulated
def test_the_example_network_reads_most_digits(farm: speckfarm.Farm) -> None:
    result = farm.run(MODEL, RECORDINGS).wait(timeout=50)

    assert result.accuracy is not None
    assert result.accuracy > 0.9
    assert result.labels is not None
    assert np.mean(result.predictions == result.labels) == pytest.approx(result.accuracy)
    assert result.latency.method == "exact"
    assert result.latency.n == len(result.spikes)


@pytest.mark.simulated
def test_arrays_give_what_the_file_gives(farm: speckfarm.Farm) -> None:
    from_file = farm.run(MODEL, RECORDINGS).wait(timeout=50)

    from_arrays = farm.run(MODEL, *_digits(3)).wait(timeout=50)

    assert from_arrays.predictions.tolist() == from_file.predictions[:3].tolist()
    for number in range(3):
        found, expected = from_arrays.spikes_of(number), from_file.spikes_of(number)
        assert found["feature"].tolist() == expected["feature"].tolist()
        assert (found["t"] - found["t"][0]).tolist() == (expected["t"] - expected["t"][0]).tolist()


def test_spikes_split_by_recording_and_agree_with_the_counts(farm: speckfarm.Farm) -> None:
    result = farm.run(MODEL, *_digits(3)).wait(timeout=50)

    for number, recording in enumerate(result.recordings):
        features = result.spikes_of(number)["feature"]
        assert np.bincount(features, minlength=10).tolist() == list(recording.counts)


def test_kept_lags_are_the_measured_ones(farm: speckfarm.Farm) -> None:
    result = farm.run(MODEL, *_digits(2), keep_lags=True).wait(timeout=50)

    assert len(result.lags) == len(result.spikes)
    assert np.nanmax(result.lags) == pytest.approx(result.latency.max_us)


def test_the_same_request_id_is_the_same_job(farm: speckfarm.Farm) -> None:
    first, second = (farm.flash(MODEL, request_id="flash-once") for _ in range(2))

    assert first.id == second.id
    with pytest.raises(speckfarm.AlreadyExists):
        farm.flash(MODEL, request_id="flash-once", reset="zero")


def test_a_registered_model_runs_by_its_digest(farm: speckfarm.Farm) -> None:
    farm.flash(MODEL).wait(timeout=50)
    [digest] = {model.model for model in farm.models() if model.name == "digits.nir"}

    result = farm.flash(digest[:12]).wait(timeout=50)

    assert result.to_dict()["model"] == digest


def test_watching_twice_tells_the_same_story(farm: speckfarm.Farm) -> None:
    job = farm.run(MODEL, *_digits(1))
    job.wait(timeout=50)

    first, second = ([event.sequence for event in job.watch()] for _ in range(2))

    assert first == second
    assert first == sorted(first)
    assert job.state == "SUCCEEDED"


def test_a_queued_job_is_cancelled_at_once(make_server: Callable[..., FarmProcess]) -> None:
    own = make_server()
    farm = speckfarm.connect(own.address, own.token)
    for board in farm.boards():
        farm.drain(board.board)
    job = farm.run(MODEL, RECORDINGS, kind="simulated")

    with pytest.raises(speckfarm.WaitTimeout):
        job.wait(timeout=0.1)
    waiting = job.state
    job.cancel()

    farm.close()
    assert waiting == "QUEUED"
    assert job.state == "CANCELLED"
    with pytest.raises(speckfarm.JobCancelled):
        job.result()


def test_a_setting_out_of_range_names_the_field(farm: speckfarm.Farm) -> None:
    with pytest.raises(speckfarm.BadRequest, match="decimator") as caught:
        farm.check(MODEL, decimator={0: 3})

    assert caught.value.reason == "SETTING_OUT_OF_RANGE"
    assert any("decimator" in path for path, _ in caught.value.fields)


def test_a_setting_for_an_absent_layer_is_rejected_with_findings(farm: speckfarm.Farm) -> None:
    with pytest.raises(speckfarm.ModelRejected) as caught:
        farm.flash(MODEL, decimator={7: 2})

    assert caught.value.findings
    assert any(finding.severity == "error" for finding in caught.value.findings)


def test_a_benchmark_has_a_row_for_each_point(farm: speckfarm.Farm) -> None:
    sweep = {"decimator.0": [None, 4], "reset": ["subtract", "zero"]}

    bench = farm.benchmark(MODEL, *_digits(2), sweep=sweep).wait(timeout=50)

    rows = bench.table()
    assert [(row["decimator.0"], row["reset"]) for row in rows] == [
        ("off", "subtract"), ("off", "zero"), ("4", "subtract"), ("4", "zero"),
    ]  # fmt: skip
    assert {row["state"] for row in rows} == {"SUCCEEDED"}
    assert farm.find_benchmark(bench.id).table() == rows
    assert bench.id in {each.id for each in farm.benchmarks()}


def test_usage_counts_the_users_jobs(farm: speckfarm.Farm) -> None:
    me = farm.info().user
    before = sum(row.succeeded for row in farm.usage(by="user", since="7d") if row.key == me)

    farm.flash(MODEL).wait(timeout=50)

    after = sum(row.succeeded for row in farm.usage(by="user", since="7d") if row.key == me)
    assert after == before + 1


@pytest.mark.simulated
def test_latency_is_merged_by_model_and_kind(farm: speckfarm.Farm) -> None:
    result = farm.run(MODEL, *_digits(2)).wait(timeout=50)

    rows = farm.latency(by="model", since="1d")

    [row] = [each for each in rows if each.key == result.to_dict()["model"]]
    assert row.board_kind == "simulated"
    assert row.latency.n >= result.latency.n


@pytest.mark.simulated
@pytest.mark.usefixtures("command")
@pytest.mark.parametrize("name", ["", ".farm", ".job", ".result", ".benchmark"])
def test_the_examples_in_docstrings_are_true(
    name: str, farm: speckfarm.Farm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.nir").write_bytes(MODEL.read_bytes())
    Path("digits.npz").write_bytes(recording_file([as_event_array(each) for each in _digits(3)]))
    names = {"farm": farm, "speckfarm": speckfarm}

    found = doctest.testmod(import_module(f"speckfarm{name}"), extraglobs=names)

    assert found.attempted > 0
    assert found.failed == 0


def test_a_wrong_token_is_refused(server: FarmProcess) -> None:
    with (
        speckfarm.connect(server.address, "sf_wrong") as farm,
        pytest.raises(speckfarm.Unauthenticated),
    ):
        farm.info()


@pytest.mark.simulated
@pytest.mark.usefixtures("command")
def test_run_on_the_command_line_prints_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", str(MODEL), str(RECORDINGS), "--decimator", "0=2", "-o", "json"])

    plain = json.loads(capsys.readouterr().out)
    assert code == 0
    assert len(plain["recordings"]) == 100
    assert plain["settings"]["decimator"] == {"0": 2}
    assert plain["board_kind"] == "simulated"


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    "words",
    [
        ["boards"], ["models"], ["recordings"], ["benches"], ["jobs"], ["info"],
        ["usage", "--by", "board"], ["usage", "--by", "day", "--since", "7d"],
        ["latency", "--by", "week"], ["latency", "--by", "board"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_every_list_prints_in_every_way(
    capsys: pytest.CaptureFixture[str], words: list[str], output: str
) -> None:
    code = main([*words, "-o", output])

    out = capsys.readouterr().out
    assert code == 0
    if output == "json":
        assert json.loads(out) is not None


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["show", "job-that-is-not"], 2),
        (["check", str(MODEL), "--decimator", "0=3"], 2),
        (["check", str(MODEL), "--chip", "speck9"], 2),
        (["check", str(MODEL), "--monitor", "8"], 3),
        (["run", str(MODEL), str(MODEL)], 3),
        (["run", str(RECORDINGS), str(RECORDINGS)], 3),
        pytest.param(
            ["run", str(MODEL), str(RECORDINGS), "--real"], 2, marks=pytest.mark.simulated
        ),
        (["bench", str(MODEL), str(RECORDINGS), "--sweep", "decimater.0=2"], 2),
    ],
)
def test_refusals_have_their_exit_codes(words: list[str], code: int) -> None:
    assert main(words) == code
