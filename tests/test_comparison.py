# ruff: noqa: N802 (rpc names are CamelCase)
"""A comparison: a job on a real board, some times, beside the same job on a simulated one."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.rpc import code_pb2
from hypothesis import given
from hypothesis import strategies as st

import speckfarm
from speckfarm.cli import main
from speckfarm.comparison import Comparison, Figure
from speckfarm.report import LayerReport
from speckfarm.result import Result
from speckfarm.side_by_side import measure_comparison
from speckfarm.v1 import boards_pb2, jobs_pb2, latency_pb2, models_pb2, recordings_pb2
from tests.command_line import Run, command_line
from tests.double_world import World
from tests.farm_process import FarmProcess
from tests.small_farm import SmallFarm, abort, serving

NO_FARM: Any = None  # these results fetch nothing
REAL, SIMULATED = boards_pb2.BOARD_KIND_REAL, boards_pb2.BOARD_KIND_SIMULATED
QUIET, CUT = jobs_pb2.RUN_ENDING_QUIET, jobs_pb2.RUN_ENDING_DRAIN_LIMIT
EVENTS = np.array([(5, 0, 0, 0)], [(name, "i8") for name in "txyp"])
DEVKIT = boards_pb2.Device(
    type="Speck2fDevKit", usb_path="2-1.3", logic_version=3, samna="0.46.1", first_event="keep"
)


def recording(name: str, counts: tuple[int, ...], **fields: Any) -> jobs_pb2.RecordingResult:
    """Half a second of it."""
    return jobs_pb2.RecordingResult(**{
        "recording": "b" * 64, "name": name, "label": 0, "counts": counts,
        "output_events": sum(counts), "duration_us": 500_000,
        "prediction": int(np.argmax(counts)) if sum(counts) else -1, **fields,
    })  # fmt: skip


def board_message(*counts: tuple[int, ...], job: str = "j-1", **fields: Any) -> jobs_pb2.Result:
    """A repeat on the real board."""
    recordings = [recording(f"r{n}", each, ending=QUIET) for n, each in enumerate(counts)]
    lags = latency_pb2.Latency(
        n=9, method=latency_pb2.LATENCY_METHOD_ESTIMATED, error_us=4.0, p50_us=10.0, p99_us=30.0,
        drain_us=50.0,
    )  # fmt: skip
    return jobs_pb2.Result(**{
        "job": jobs_pb2.Job(id=job, state=jobs_pb2.JOB_STATE_SUCCEEDED, chip="speck2f"),
        "board": "devkit-0", "board_kind": REAL, "device": DEVKIT, "recordings": recordings,
        "accuracy": 0.5, "latency": lags, **fields,
    })  # fmt: skip


def twin_message(*counts: tuple[int, ...], job: str = "j-2", **fields: Any) -> jobs_pb2.Result:
    """The run on the simulated board."""
    recordings = [
        recording(f"r{n}", each, ending=jobs_pb2.RUN_ENDING_SERVED) for n, each in enumerate(counts)
    ]
    lags = latency_pb2.Latency(
        n=9, method=latency_pb2.LATENCY_METHOD_EXACT, p50_us=8.0, p99_us=20.0, drain_us=40.0
    )
    return jobs_pb2.Result(**{
        "job": jobs_pb2.Job(id=job, state=jobs_pb2.JOB_STATE_SUCCEEDED, chip="speck2f"),
        "board": "twin-0", "board_kind": SIMULATED, "recordings": recordings, "accuracy": 1.0,
        "latency": lags, "layers": [jobs_pb2.LayerActivity(layer=2)], **fields,
    })  # fmt: skip


def one_result(message: jobs_pb2.Result) -> Result:
    return Result(NO_FARM, message)


def results(*messages: jobs_pb2.Result) -> list[Result]:
    return [one_result(message) for message in messages]


def compared(repeats: Any, twin: Any) -> Comparison:
    """Counts of each repeat's recordings, and of the twin's."""
    board = results(*(board_message(*counts) for counts in repeats))
    return measure_comparison(board, one_result(twin_message(*twin)))


def figure(*board: int, twin: int, seconds: float = 0.5) -> Figure:
    return Figure(what="class", number=0, name="class 0", board=board, twin=twin, seconds=seconds)


COUNTS = st.tuples(*[st.integers(0, 60)] * 3)
RUNS = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda sizes: st.tuples(
        st.lists(
            st.lists(COUNTS, min_size=sizes[0], max_size=sizes[0]),
            min_size=sizes[1],
            max_size=sizes[1],
        ),
        st.lists(COUNTS, min_size=sizes[0], max_size=sizes[0]),
    )
)


@given(runs=RUNS)
def test_every_figure_is_that_of_the_counts(
    runs: tuple[list[list[tuple[int, ...]]], list[tuple[int, ...]]],
) -> None:
    found = compared(*runs)

    board, twin = np.array(runs[0]), np.array(runs[1])  # (repeats, recordings, classes)
    for number, each in enumerate(found.classes):
        assert each.mean == pytest.approx(board[:, :, number].sum(axis=1).mean())
        assert each.twin == twin[:, number].sum()
        assert each.per_second(each.twin) == pytest.approx(each.twin / (0.5 * len(twin)))
    for number, one in enumerate(found.recordings):
        assert one.output_spikes.board == tuple(board[:, number].sum(axis=1))
        assert one.output_spikes.twin == twin[number].sum()
        assert one.changes == (len(set(one.predictions)) > 1)
        assert one.agrees == all(each == one.twin_prediction for each in one.predictions)
    assert [each.name for each in found.layers] == ["layer 2"]
    assert found.layers[0].board == tuple(board.sum(axis=(1, 2)))


@given(runs=RUNS)
def test_what_differs_is_beyond_two_deviations_and_a_spike(
    runs: tuple[list[list[tuple[int, ...]]], list[tuple[int, ...]]],
) -> None:
    found = compared(*runs)

    wanted = {
        (each.what, each.number)
        for each in found.figures
        if len(each.board) > 1
        and abs(np.mean(each.board) - each.twin) > 2 * np.std(each.board, ddof=1) + 1 + 1e-9
    }
    assert {(each.what, each.number) for each in found.differences} == wanted
    excesses = [each.excess or 0.0 for each in found.differences]
    assert excesses == sorted(excesses, reverse=True)
    assert all(excess > 1 for excess in excesses)


@pytest.mark.parametrize(
    ("one", "excess", "differs"),
    [
        (figure(10, 12, 14, twin=7), 1.0, False),  # std 2: 5 spikes are allowed
        (figure(10, 12, 14, twin=6), 1.2, True),
        (figure(10, 12, 14, twin=18), 1.2, True),
        (figure(9, 9, 9, twin=8), 1.0, False),  # no spread: one spike is allowed
        (figure(9, 9, 9, twin=7), 2.0, True),
        (figure(0, 0, twin=0), 0.0, False),
    ],
)
def test_a_figure_differs_where_the_rule_says_so(one: Figure, excess: float, differs: bool) -> None:
    assert one.excess == pytest.approx(excess)
    assert one.differs is differs


def test_a_single_repeat_has_no_spread_and_nothing_is_judged() -> None:
    found = compared([[(100, 0, 0)]], [(0, 0, 0)])

    assert not found.is_judged
    assert found.differences == ()
    assert {each.differs for each in found.figures} == {None}
    assert found.classes[0].to_dict()["std"] is None


def test_rates_are_spikes_over_all_recorded_time() -> None:
    plain = figure(10, 20, twin=5, seconds=2.0).to_dict()

    assert (plain["board_per_s"], plain["twin_per_s"], plain["difference_per_s"]) == (7.5, 2.5, 5.0)
    assert plain["std_per_s"] == round(statistics.stdev([10, 20]) / 2, 3)


def test_a_recording_without_length_has_no_rate() -> None:
    plain = figure(10, 20, twin=5, seconds=0.0).to_dict()

    assert (plain["board_per_s"], plain["twin_per_s"], plain["mean"]) == (None, None, 15.0)


def test_predictions_agree_only_if_every_repeat_does() -> None:
    found = compared(
        [[(3, 1, 0), (3, 1, 0), (0, 9, 0)], [(3, 1, 0), (1, 3, 0), (0, 9, 0)]],
        [(3, 1, 0), (3, 1, 0), (9, 0, 0)],
    )

    assert [each.agrees for each in found.recordings] == [True, False, False]
    assert [each.changes for each in found.recordings] == [False, True, False]
    assert (found.agreeing, found.changing) == (1, 1)


def test_lags_of_board_and_twin_stay_apart() -> None:
    slow = latency_pb2.Latency(
        n=9, method=latency_pb2.LATENCY_METHOD_ESTIMATED, error_us=6.0, p50_us=12.0, p99_us=34.0
    )
    board = results(board_message((3, 0)), board_message((3, 0), latency=slow))

    found = measure_comparison(board, one_result(twin_message((3, 0))))

    assert (found.lags.method, found.lags.error_us) == ("estimated", 6.0)
    assert (found.twin_lags.method, found.twin_lags.error_us) == ("exact", None)
    assert found.lags.p99_us is not None
    assert (found.lags.p99_us.min, found.lags.p99_us.max) == (30.0, 34.0)
    assert found.twin_lags.p99_us is not None
    assert (found.twin_lags.p99_us.min, found.twin_lags.p99_us.max) == (20.0, 20.0)
    assert found.lags.drain_us is None  # one repeat has none


def test_verdicts_and_endings_stand_beside_each_other() -> None:
    exceeded = jobs_pb2.Overrun(verdict=jobs_pb2.OVERRUN_VERDICT_EXCEEDED)
    healthy = jobs_pb2.Overrun(verdict=jobs_pb2.OVERRUN_VERDICT_HEALTHY)
    cut = board_message(
        recordings=[recording("r0", (3, 0), ending=CUT, overrun=exceeded), recording("r1", (0, 0))]
    )
    twin = twin_message(
        recordings=[recording("r0", (3, 0), overrun=healthy), recording("r1", (0, 0))]
    )

    found = measure_comparison(results(board_message((3, 0), (0, 0)), cut), one_result(twin))

    assert found.recordings[0].overruns == (None, "EXCEEDED")
    assert found.recordings[0].twin_overrun == "HEALTHY"
    assert found.recordings[0].endings == ("quiet", "drain_limit")
    assert found.cut_short == ("r0",)


def test_without_labels_there_is_no_accuracy() -> None:
    board = results(board_message((3, 0), accuracy=None), board_message((3, 0), accuracy=None))

    found = measure_comparison(board, one_result(twin_message((3, 0), accuracy=None)))

    assert (found.accuracy, found.twin_accuracy) == (None, None)


def placed(*cores: int | None) -> list[LayerReport]:
    return [
        LayerReport(
            layer=n, name=f"conv{n}", core=core, kernel_entries=0, neuron_entries=0,
            synops_per_event=0.0, synops_limit=0.0,
        )
        for n, core in enumerate(cores)
    ]  # fmt: skip


def test_layers_on_cores_0_and_1_are_named() -> None:
    board = results(board_message((3, 0)))

    found = measure_comparison(board, one_result(twin_message((3, 0))), placed(1, 2, 0))

    assert found.parallel_layers == (0, 2)
    assert found.layers[0].name == "layer 2 (conv2)"


@pytest.mark.parametrize(
    "board",
    [
        [],
        [board_message((3, 0)), board_message((3, 0), board="devkit-1")],
        [board_message((3, 0)), board_message((3, 0), (3, 0))],
        [board_message((3, 0, 0))],
        [board_message(recordings=[recording("another", (3, 0))])],
    ],
)
def test_results_of_different_jobs_are_not_compared(board: list[jobs_pb2.Result]) -> None:
    with pytest.raises(speckfarm.BadRequest, match="cannot be compared"):
        measure_comparison(results(*board), one_result(twin_message((3, 0))))


class TwoKinds(SmallFarm):
    """Real and simulated boards behind gRPC, whose answers are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.boards = [("devkit-0", REAL), ("twin-0", SIMULATED)]
        self.jobs: dict[str, jobs_pb2.CreateJobRequest] = {}
        self.ends: dict[str, str] = {}  # state in which a job is found; SUCCEEDED if not named
        self.asked: list[str] = []  # calls about jobs, in order
        self.outages = 0  # how often GetJob does not answer
        self.free = ["devkit-0"]  # where jobs that name no real board run
        self.counts = [(10, 12), (12, 14), (14, 16)]  # of the repeats

    def ListBoards(self, request: Any, context: Any) -> Any:
        boards = [
            boards_pb2.Board(id=name, kind=kind, chip="speck2f") for name, kind in self.boards
        ]
        return boards_pb2.ListBoardsResponse(boards=boards)

    def CheckModel(self, request: Any, context: Any) -> Any:
        layers = [models_pb2.LayerReport(layer=n, name=f"conv{n}", core=n) for n in range(3)]
        return models_pb2.CheckModelResponse(
            model=request.digest, chip="speck2f", deployable=True, layers=layers
        )

    def GetModel(self, request: Any, context: Any) -> Any:
        return models_pb2.GetModelResponse(model=models_pb2.Model(digest=request.model))

    def GetRecording(self, request: Any, context: Any) -> Any:
        found = recordings_pb2.Recording(digest=request.recording)
        return recordings_pb2.GetRecordingResponse(recording=found)

    def CreateJob(self, request: Any, context: Any) -> Any:
        fits = [
            name
            for name, kind in self.boards
            if kind == request.board_kind and request.board in ("", name)
        ]
        if not fits:
            abort(context, code_pb2.FAILED_PRECONDITION, "NO_MATCHING_BOARD", "No board fits")
        name = f"j-{len(self.jobs) + 1}"
        self.jobs[name] = request
        self.asked.append(f"create {name}")
        return jobs_pb2.CreateJobResponse(job=self.job_of(name, "QUEUED"))

    def GetJob(self, request: Any, context: Any) -> Any:
        if self.outages:
            self.outages -= 1
            abort(context, code_pb2.UNAVAILABLE, "UNAVAILABLE", "the server restarts")
        self.asked.append(f"get {request.job}")
        return jobs_pb2.GetJobResponse(
            job=self.job_of(request.job, self.ends.get(request.job, "SUCCEEDED"))
        )

    def GetResult(self, request: Any, context: Any) -> Any:
        order = self.jobs[request.job]
        if order.board_kind == SIMULATED:
            message = twin_message((12, 4), job=request.job)
        else:
            repeats = [name for name, each in self.jobs.items() if each.board_kind == REAL]
            counts = self.counts[repeats.index(request.job) % 3]
            board = order.board or self.free[0]
            message = board_message(counts, job=request.job, board=board)
        return jobs_pb2.GetResultResponse(result=message)

    def CancelJob(self, request: Any, context: Any) -> Any:
        self.cancelled.append(request.job)
        return jobs_pb2.CancelJobResponse(job=self.job_of(request.job, "CANCELLED"))

    def job_of(self, name: str, word: str) -> jobs_pb2.Job:
        state = jobs_pb2.JobState.Value(f"JOB_STATE_{word}")
        kind = self.jobs[name].board_kind
        job = jobs_pb2.Job(id=name, state=state, board_kind=kind, chip="speck2f")
        if word == "FAILED":
            job.error.CopyFrom(jobs_pb2.JobError(reason="RUN_TIMEOUT", message="took too long"))
        return job

    @property
    def orders(self) -> list[tuple[int, str]]:
        """Kind and board that each job asked for."""
        return [(each.board_kind, each.board) for each in self.jobs.values()]


@pytest.fixture
def small() -> Iterator[TwoKinds]:
    farm = TwoKinds()
    with serving(farm):
        yield farm


@pytest.fixture
def farm(small: TwoKinds) -> Iterator[speckfarm.Farm]:
    with speckfarm.connect(small.address, "secret") as connected:
        yield connected


@pytest.fixture
def run(small: TwoKinds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    return command_line(small.address, monkeypatch, tmp_path)


def test_all_is_queued_at_once_where_there_is_one_real_board(
    small: TwoKinds, farm: speckfarm.Farm
) -> None:
    found = farm.compare(b"model", EVENTS, repeats=3, reset="zero", monitor=[0])

    assert small.orders == [(REAL, "devkit-0"), (SIMULATED, ""), *[(REAL, "devkit-0")] * 2]
    assert [each.partition(" ")[0] for each in small.asked[:5]] == ["create"] * 4 + ["get"]
    assert {(each.chip, each.settings.reset) for each in small.jobs.values()} == {("speck2f", 2)}
    assert (found.board, found.twin, found.twin_job) == ("devkit-0", "twin-0", "j-2")
    assert found.jobs == ("j-1", "j-3", "j-4")
    assert [each.name for each in found.differences] == ["class 1", "layer 2 (conv2)", "r0"]


def test_of_several_boards_the_first_repeat_decides(small: TwoKinds, farm: speckfarm.Farm) -> None:
    small.boards.insert(1, ("devkit-1", REAL))
    small.free = ["devkit-1"]

    found = farm.compare(b"model", EVENTS, repeats=3)

    assert small.orders == [(REAL, ""), (SIMULATED, ""), *[(REAL, "devkit-1")] * 2]
    assert small.asked.index("create j-3") > small.asked.index("get j-1")
    assert found.board == "devkit-1"


def test_a_board_that_is_named_runs_all_repeats(small: TwoKinds, farm: speckfarm.Farm) -> None:
    small.boards.insert(1, ("devkit-1", REAL))

    found = farm.compare(b"model", EVENTS, repeats=2, board="devkit-1")

    assert small.orders == [(REAL, "devkit-1"), (SIMULATED, ""), (REAL, "devkit-1")]
    assert found.board == "devkit-1"


def test_a_twin_that_is_named_is_the_simulated_side(small: TwoKinds, farm: speckfarm.Farm) -> None:
    small.boards.append(("twin-1", SIMULATED))

    farm.compare(b"model", EVENTS, repeats=2, twin="twin-1")

    assert small.orders == [(REAL, "devkit-0"), (SIMULATED, "twin-1"), (REAL, "devkit-0")]


def test_the_command_line_names_the_twin_too(small: TwoKinds, run: Run) -> None:
    small.boards.append(("twin-1", SIMULATED))

    words = ("--compare", "twin", "--repeats", "1", "--twin", "twin-1")
    assert run("run", "m.nir", "r.npz", *words) == 0

    assert small.orders == [(REAL, "devkit-0"), (SIMULATED, "twin-1")]


def test_a_twin_that_is_not_there_is_refused_with_what_to_do(
    small: TwoKinds, farm: speckfarm.Farm
) -> None:
    with pytest.raises(speckfarm.WrongState) as caught:
        farm.compare(b"model", EVENTS, repeats=2, twin="devkit-0")

    assert caught.value.reason == "NO_MATCHING_BOARD"
    assert "--twin" in caught.value.advice
    assert small.cancelled == ["j-1"]


@pytest.mark.parametrize(
    ("ended", "side", "others"),
    [("j-3", "real", ["j-1", "j-2", "j-4"]), ("j-2", "simulated", ["j-1", "j-3", "j-4"])],
)
def test_a_job_that_fails_cancels_the_others(
    small: TwoKinds, farm: speckfarm.Farm, ended: str, side: str, others: list[str]
) -> None:
    small.ends = {**dict.fromkeys(others, "RUNNING"), ended: "FAILED"}

    with pytest.raises(speckfarm.JobFailed, match=f"On the {side} board.*took too long") as caught:
        farm.compare(b"model", EVENTS, repeats=3)

    assert (caught.value.job_id, caught.value.reason) == (ended, "RUN_TIMEOUT")
    assert small.cancelled == others


def test_a_twin_that_fails_ends_the_search_for_a_board(
    small: TwoKinds, farm: speckfarm.Farm
) -> None:
    small.boards.insert(1, ("devkit-1", REAL))
    small.ends = {"j-1": "QUEUED", "j-2": "FAILED"}

    with pytest.raises(speckfarm.JobFailed):
        farm.compare(b"model", EVENTS, repeats=3)

    assert small.cancelled == ["j-1"]
    assert len(small.jobs) == 2


@pytest.mark.parametrize(("kept", "cancelled"), [("twin-0", []), ("devkit-0", ["j-1"])])
def test_a_farm_without_both_kinds_says_what_to_do(
    small: TwoKinds,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    kept: str,
    cancelled: list[str],
) -> None:
    small.boards = [each for each in small.boards if each[0] == kept]

    assert run("run", "m.nir", "r.npz", "--compare", "twin", "--repeats", "3") == 2

    error = capsys.readouterr().err
    assert "NO_MATCHING_BOARD" in error
    assert "needs a real board and a simulated one" in error
    assert small.cancelled == cancelled


def test_time_that_is_over_leaves_the_jobs_alone(
    small: TwoKinds, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    small.ends = {"j-1": "QUEUED"}

    assert (
        run("run", "m.nir", "r.npz", "--compare", "twin", "--repeats", "3", "--timeout", "0.01")
        == 8
    )

    assert "speckfarm result JOB" in capsys.readouterr().err
    assert small.cancelled == []


def test_a_server_that_restarts_is_waited_for(small: TwoKinds, farm: speckfarm.Farm) -> None:
    small.outages = 5  # gRPC tries 4 times

    assert farm.compare(b"model", EVENTS, repeats=1).jobs == ("j-1",)


def test_the_observer_is_shown_every_job(farm: speckfarm.Farm) -> None:
    seen: list[list[str]] = []

    farm.compare(
        b"model", EVENTS, repeats=1, observer=lambda jobs: seen.append([job.id for job in jobs])
    )

    assert seen[0] == ["j-1"]
    assert seen[-1] == ["j-1", "j-2"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"repeats": 0}, "a whole number from 1"),
        ({"repeats": True}, "a whole number from 1"),
        ({"kind": "real"}, "runs on a real board and on a simulated one"),
        ({"request_id": "x"}, "many jobs"),
        ({"decimater": {0: 2}}, "Did you mean decimator"),
    ],
)
def test_what_a_comparison_decides_itself_is_refused(
    small: TwoKinds, farm: speckfarm.Farm, options: Any, named: str
) -> None:
    with pytest.raises(speckfarm.BadRequest, match=named):
        farm.compare(b"model", EVENTS, **options)

    assert small.jobs == {}
    assert small.blobs == {}


def test_a_comparison_needs_a_recording(farm: speckfarm.Farm) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.compare(b"model")

    assert caught.value.reason == "NO_RECORDING"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--compare", "board"], "twin"),
        (["--compare"], "expected one argument"),
        (["--compare", "twin", "--repeats", "0"], "a whole number from 1"),
        (["--compare", "twin", "--vary", "2"], "--vary does not go with --compare"),
        (["--compare", "twin", "--detach"], "--detach does not go with --compare"),
        (["--compare", "twin", "--sim"], "--sim does not go with --compare"),
        (["--compare", "twin", "--real"], "--real does not go with --compare"),
        (["--repeats", "2"], "--repeats is of --compare twin"),
        (["--twin", "twin-0"], "--twin is of --compare twin"),
    ],
)
def test_what_does_not_go_with_compare_is_a_usage_error(
    small: TwoKinds, run: Run, capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    assert run("run", "m.nir", "r.npz", *words) == 2

    assert named in capsys.readouterr().err
    assert small.jobs == {}


def test_the_table_has_rates_and_says_what_differs(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", "m.nir", "r.npz", "--compare", "twin", "--repeats", "3") == 0

    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "board devkit-0 (real speck2f): 3 repeats, jobs j-1 j-3 j-4"
    assert "Speck2fDevKit at USB 2-1.3, logic version 3" in lines[1]
    assert [line.split()[:2] for line in lines[4:7]] == [
        ["class", "0"], ["class", "1"], ["layer", "2"],
    ]  # fmt: skip
    assert lines[5].split()[2:] == ["28", "4", "8", "20", "2"]
    agree = "predictions: 0 of 1 recording agree with the twin in every repeat; 0 change"
    assert f"{agree} between repeats" in lines
    assert "lag in us, board: p50 10.0, p99 30.0, drain 50.0 (estimated, error 4.0)" in lines
    assert "lag in us, twin: p50 8.0, p99 20.0, drain 40.0 (exact)" in lines
    assert "accuracy: board 0.500, twin 1.000" in lines
    assert "  class 1: board 14 +- 2 spikes, twin 4: 2 times what is allowed" in lines
    assert any(line.startswith("on cores 0 and 1: layer 0, 1") for line in lines)
    assert "job j-2 (simulated): SUCCEEDED" in captured.err


def test_one_repeat_says_that_nothing_is_judged(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", "m.nir", "r.npz", "--compare", "twin", "--repeats", "1") == 0

    assert "no difference is judged" in capsys.readouterr().out


def test_json_and_csv_have_every_figure(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", "m.nir", "r.npz", "--compare", "twin", "--repeats", "3")
    assert run(*words, "-o", "json") == 0
    captured = capsys.readouterr()
    plain = json.loads(captured.out)
    assert run(*words, "-o", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    assert captured.err == ""
    assert (plain["repeats"], plain["device"]["usb_path"]) == (3, "2-1.3")
    assert [each["what"] for each in plain["differences"]] == ["class", "layer", "recording"]
    assert [row["name"] for row in rows] == ["class 0", "class 1", "layer 2 (conv2)", "r0"]
    assert (rows[1]["board"], rows[1]["twin"], rows[1]["excess"]) == ("12 14 16", "4", "2.0")
    assert (rows[3]["predictions"], rows[3]["endings"]) == ("1 1 1", "quiet quiet quiet")


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_leaves_the_jobs_on_the_farm(
    small: TwoKinds,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(speckfarm.Job, "refresh", interrupted)
    monkeypatch.setattr("speckfarm.cli_wait.SECOND_INTERRUPT_S", 0.0)

    assert run("run", "m.nir", "r.npz", "--compare", "twin", "--repeats", "3") == 0

    assert "each of its jobs j-1 j-2 j-3 j-4 goes on" in capsys.readouterr().err
    assert small.cancelled == []


def test_a_second_interrupt_cancels_the_jobs(
    small: TwoKinds, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speckfarm.Job, "refresh", interrupted)
    monkeypatch.setattr("speckfarm.cli_wait.time.sleep", interrupted)

    assert run("run", "m.nir", "r.npz", "--compare", "twin", "--repeats", "3") == 5

    assert small.cancelled == ["j-1", "j-2", "j-3", "j-4"]


def test_monitored_layers_are_counted_from_the_recorded_spikes(
    server: FarmProcess, digits_model: Path, one_digit: Path
) -> None:
    with server.connect() as farm:
        runs = [
            farm.run(
                digits_model, one_digit, monitor=[0, 1], decimator={1: 4}, order_seed=seed,
                board="twin-0",
            ).wait(timeout=60)
            for seed in (1, 2, None)
        ]  # fmt: skip
        report = farm.check(digits_model)

        found = measure_comparison(runs[:2], runs[2], report.layers)

        assert [each.number for each in found.layers] == [0, 1, 3]
        assert found.layers[0].name == f"layer 0 ({report.layers[0].name})"
        fired = [each.output_spikes for each in runs[2].layers]
        assert found.layers[0].twin == fired[0]
        assert fired[1] is not None
        assert found.layers[1].twin == pytest.approx(fired[1] / 4, abs=1)  # after the decimator
        assert found.layers[2].twin == sum(each.twin for each in found.classes) > 0
        assert found.layers[0].board == tuple(len(each.spikes_of(0, 0)) for each in runs[:2])


def test_a_farm_of_simulated_boards_alone_queues_nothing(
    server: FarmProcess,
    digits_model: Path,
    one_digit: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SPECKFARM_SERVER", server.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", server.token)
    with server.connect() as farm:
        before = [job.id for job in farm.jobs()]

        assert main(["run", str(digits_model), str(one_digit), "--compare", "twin"]) == 2

        assert [job.id for job in farm.jobs()] == before
    error = capsys.readouterr().err
    assert "it has twin-0 (simulated speck2f), twin-1 (simulated speck2f)" in error
    assert "speckfarm run --vary N" in error


REAL_AND_TWIN = """
[usb]
sysfs = "{world.sysfs}"
nodes = "{world.nodes}"
[[boards]]
id = "devkit-0"
kind = "real"
usb = "2-1.3"
[[boards]]
id = "twin-0"
"""


def test_a_devkit_that_does_what_its_twin_does_agrees_with_it(
    world: World,
    make_server: Callable[..., FarmProcess],
    digits_model: Path,
    one_digit: Path,
) -> None:
    with make_server(REAL_AND_TWIN.format(world=world)).connect() as farm:
        found = farm.compare(
            digits_model, one_digit, repeats=2, monitor=[0], decimator={0: 2}, timeout=90
        )

    assert (found.board, found.twin, found.agreeing) == ("devkit-0", "twin-0", 1)
    assert found.device is not None
    assert (found.device.type, found.device.usb_path) == ("Speck2fDevKit", "2-1.3")
    assert [each.name for each in found.layers] == ["layer 0 (conv1)", "layer 3 (readout)"]
    assert all(each.board == (each.twin, each.twin) for each in found.figures)
    assert sum(each.twin for each in found.classes) > 0
    assert found.differences == ()
    assert (found.lags.method, found.twin_lags.method) == ("estimated", "exact")
    assert found.lags.error_us is not None
    assert found.recordings[0].endings == ("quiet", "quiet")


def test_a_devkit_whose_neurons_fire_later_than_assumed_is_found_out(
    world: World,
    make_server: Callable[..., FarmProcess],
    digits_model: Path,
    one_digit: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.behave(assumptions={"fires": ">"})  # the twin says: at the threshold
    server = make_server(REAL_AND_TWIN.format(world=world))
    monkeypatch.setenv("SPECKFARM_SERVER", server.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", server.token)
    words = ("run", str(digits_model), str(one_digit), "--compare", "twin", "--repeats", "2")

    assert main([*words, "--board", "devkit-0", "-o", "json"]) == 0

    plain = json.loads(capsys.readouterr().out)
    [layer] = plain["layers"]
    assert layer["board"][0] == layer["board"][1] < layer["twin"]
    assert "layer 3 (readout)" in [each["name"] for each in plain["differences"]]
    assert "class 2" in [each["name"] for each in plain["differences"]]
