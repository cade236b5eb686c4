"""Advice: the search runs as jobs of a farm, and says what it found and what it cost."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import speckfarm
from speckfarm.advice import AdviceStep, overrun_of
from speckfarm.decimation import Overrun
from speckfarm.findings import Finding
from speckfarm.result import LayerActivity
from speckfarm.v1 import findings_pb2, jobs_pb2, latency_pb2, models_pb2, recordings_pb2
from tests.command_line import Run, command_line
from tests.farm_process import FarmProcess
from tests.small_farm import SmallFarm, serving


class OverrunFarm(SmallFarm):
    """A chain of four layers behind gRPC; what a decimator does to it is a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.load = [0.1, 0.2, 3.5, 0.1]  # demanded / sustainable, undecimated
        self.has_verdict = True  # BANDWIDTH_EXCEEDED, else the rates alone
        self.names_layer = True
        self.counts_synops = True
        self.is_inconclusive = False
        self.jobs: dict[str, jobs_pb2.CreateJobRequest] = {}

    def CheckModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        layers = [
            models_pb2.LayerReport(layer=n, name=f"conv{n}", sources=[n - 1] if n else [])
            for n in range(len(self.load))
        ]
        return models_pb2.CheckModelResponse(model=request.digest, deployable=True, layers=layers)

    def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        return models_pb2.GetModelResponse(model=models_pb2.Model(digest=request.model))

    def GetRecording(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = recordings_pb2.Recording(digest=request.recording)
        return recordings_pb2.GetRecordingResponse(recording=found)

    def CreateJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._refuse(context)
        name = f"j-{len(self.jobs) + 1}"
        self.jobs[name] = request
        job = jobs_pb2.Job(id=name, state=jobs_pb2.JOB_STATE_QUEUED, recordings_total=1)
        return jobs_pb2.CreateJobResponse(job=job)

    def WatchJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        state = jobs_pb2.JOB_STATE_SUCCEEDED
        job = jobs_pb2.Job(id=request.job, state=state)
        yield jobs_pb2.WatchJobResponse(
            sequence=1, state=state, job=job, result=self.result_of(request.job, job)
        )

    def loads_of(self, name: str) -> list[float]:
        settings, thinned, loads = self.jobs[name].settings, 1, []
        for layer, load in enumerate(self.load):
            loads.append(load / thinned)
            thinned *= settings.decimator.get(layer, 1)
        return loads

    def result_of(self, name: str, job: jobs_pb2.Job) -> jobs_pb2.Result:
        loads = self.loads_of(name)
        spikes = round(1000 / max(self.jobs[name].settings.decimator.get(1, 1), 1))
        activity = [
            jobs_pb2.LayerActivity(
                layer=n,
                synops_limit=3e7,
                peak_synops_per_s=load * 3e7 if self.counts_synops else None,
            )
            for n, load in enumerate(loads)
        ]
        latency = latency_pb2.Latency(n=spikes, p99_us=1000 * max(loads), drift_us_per_s=5.0)
        recording = jobs_pb2.RecordingResult(
            name="r", prediction=0, counts=[spikes], latency=latency
        )
        return jobs_pb2.Result(
            job=job,
            board="twin-0",
            board_kind=2,
            accuracy=0.75,
            recordings=[recording],
            latency=latency,
            layers=activity,
            findings=[self.finding(n, load) for n, load in enumerate(loads) if load > 1]
            + [findings_pb2.Finding(reason="BANDWIDTH_INCONCLUSIVE")] * self.is_inconclusive,
        )

    def finding(self, layer: int, load: float) -> findings_pb2.Finding:
        rate = "synops_per_s" if self.has_verdict else "peak_synops_per_s"
        return findings_pb2.Finding(
            reason="BANDWIDTH_EXCEEDED" if self.has_verdict else "SYNOPS_ABOVE_LIMIT",
            layer=layer if self.names_layer else None,
            metadata={rate: f"{load * 3e7:.0f}", "synops_limit_per_s": "30000000"},
        )


@pytest.fixture
def small() -> Iterator[OverrunFarm]:
    farm = OverrunFarm()
    with serving(farm):
        yield farm


@pytest.fixture
def farm(small: OverrunFarm) -> Iterator[speckfarm.Farm]:
    with speckfarm.connect(small.address, "secret") as connected:
        yield connected


@pytest.fixture
def run(small: OverrunFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    return command_line(small.address, monkeypatch, tmp_path)


def decimators(small: OverrunFarm) -> list[dict[int, int]]:
    return [dict(request.settings.decimator) for request in small.jobs.values()]


EVENTS = np.zeros(1, [("t", "i8"), ("x", "u1"), ("y", "u1"), ("p", "u2")])


def test_the_decimator_before_the_suspected_layer_is_raised_and_lowered(
    small: OverrunFarm, farm: speckfarm.Farm
) -> None:
    advice = farm.advise(b"model", EVENTS)

    assert (advice.verdict, advice.decimator, advice.is_least) == ("removed", {1: 4}, True)
    assert decimators(small) == [{}, {1: 4}, {1: 2}, {1: 4}, {1: 4}]
    assert (advice.suspect, advice.excess) == (2, 3.5)
    assert advice.max_runs == 25


def test_advice_has_figures_before_and_after(small: OverrunFarm, farm: speckfarm.Farm) -> None:
    advice = farm.advise(b"model", EVENTS)

    before, after = advice.before, advice.after
    assert after is not None
    assert (before.p99_us, before.output_spikes, before.accuracy) == (3500.0, 1000, 0.75)
    assert (after.p99_us, after.output_spikes) == (875.0, 250)
    assert (before.busiest_layer, before.synops_per_s, before.synops_limit) == (2, 1.05e8, 3e7)
    assert after.synops_per_s == pytest.approx(0.875 * 3e7)
    assert (before.overrun, after.overrun) == (True, False)
    assert before.drift_us_per_s == 5.0


def test_advice_is_ready_to_paste(farm: speckfarm.Farm) -> None:
    advice = farm.advise(b"model", EVENTS)

    assert advice.flags == "--decimator 1=4"
    assert advice.keywords == "decimator={1: 4}"
    assert "--decimator 1=4" in str(advice)


def test_both_reset_modes_are_compared_at_the_end(small: OverrunFarm, farm: speckfarm.Farm) -> None:
    advice = farm.advise(b"model", EVENTS)

    last = [(step.reset, step.is_search, dict(step.decimator)) for step in advice.steps[-2:]]
    assert last == [("subtract", False, {1: 4}), ("zero", False, {1: 4})]
    assert [request.settings.reset for request in small.jobs.values()][-2:] == [1, 2]


def test_a_reset_mode_that_was_asked_for_is_not_run_again(
    small: OverrunFarm, farm: speckfarm.Farm
) -> None:
    advice = farm.advise(b"model", EVENTS, reset="zero")

    assert [step.reset for step in advice.steps] == ["zero", "zero", "zero", "subtract"]


def test_a_network_without_overrun_needs_one_run(small: OverrunFarm, farm: speckfarm.Farm) -> None:
    small.load = [0.1, 0.9]

    advice = farm.advise(b"model", EVENTS)

    assert (advice.verdict, advice.decimator, len(advice.steps)) == ("healthy", {}, 1)
    assert advice.after is None
    assert str(advice).startswith("Nothing is needed")
    assert "layer 1 with 27 M of about 30 M SynOps/s" in str(advice)


def test_a_run_that_is_inconclusive_is_not_called_healthy(
    small: OverrunFarm, farm: speckfarm.Farm
) -> None:
    small.load, small.is_inconclusive = [0.1, 0.9], True

    advice = farm.advise(b"model", EVENTS)

    assert (advice.verdict, advice.before.inconclusive) == ("healthy", True)
    assert "inconclusive" in str(advice)
    assert "Nothing is needed" not in str(advice)


def test_a_recommendation_from_an_inconclusive_run_says_so(
    small: OverrunFarm, farm: speckfarm.Farm
) -> None:
    small.is_inconclusive = True

    advice = farm.advise(b"model", EVENTS)

    assert advice.decimator == {1: 4}
    assert not advice.before.inconclusive  # an overrun was found
    assert str(advice).endswith("longer or busier ones would tell")


def test_before_the_first_layer_there_is_no_decimator(
    small: OverrunFarm, farm: speckfarm.Farm
) -> None:
    small.load = [2.0, 0.9]

    advice = farm.advise(b"model", EVENTS)

    assert (advice.verdict, len(advice.steps)) == ("first_layer", 1)
    for remedy in ("crop", "polarity", "kernel", "stride", "--core 0=0"):
        assert remedy in str(advice)


def test_where_only_rates_are_known_they_are_the_hint(
    small: OverrunFarm, farm: speckfarm.Farm
) -> None:
    small.has_verdict = False

    assert farm.advise(b"model", EVENTS).decimator == {1: 4}


def test_a_finding_without_a_layer_means_the_busiest(
    small: OverrunFarm, farm: speckfarm.Farm
) -> None:
    small.names_layer = False

    assert farm.advise(b"model", EVENTS).decimator == {1: 4}


def test_without_layer_and_rates_nothing_can_be_chosen(
    small: OverrunFarm, farm: speckfarm.Farm
) -> None:
    small.names_layer = small.counts_synops = False

    advice = farm.advise(b"model", EVENTS)

    assert (advice.verdict, len(advice.steps)) == ("unknown", 1)
    assert "which one" in str(advice)


def test_an_overrun_that_stays_says_so(small: OverrunFarm, farm: speckfarm.Farm) -> None:
    small.load = [0.1, 1e9]

    advice = farm.advise(b"model", EVENTS)

    assert (advice.verdict, advice.decimator, advice.suspect) == ("not_removed", {}, 1)
    assert "every decimator before it at its highest" in str(advice)


def test_a_search_that_may_not_go_on_says_so(small: OverrunFarm, farm: speckfarm.Farm) -> None:
    assert farm.advise(b"model", EVENTS, max_runs=1).verdict == "stopped"

    early = farm.advise(b"model", EVENTS, max_runs=2)

    assert (early.verdict, early.decimator, early.is_least) == ("removed", {1: 4}, False)
    assert "before it was shown to be the least" in str(early)


def test_every_run_is_told_as_it_ends(farm: speckfarm.Farm) -> None:
    seen: list[AdviceStep] = []

    advice = farm.advise(b"model", EVENTS, observer=seen.append)

    assert tuple(seen) == advice.steps


def test_the_queue_and_settings_of_the_user_go_with_every_run(
    small: OverrunFarm, farm: speckfarm.Farm
) -> None:
    farm.advise(b"model", EVENTS, kind="simulated", board="twin-1", polarity="merge")

    assert len(small.jobs) == 5
    for request in small.jobs.values():
        assert (request.board, request.board_kind) == ("twin-1", 2)
        assert request.settings.polarity == 2
    assert len({request.request_id for request in small.jobs.values()}) == 5


def test_the_timeout_is_for_all_runs_together(farm: speckfarm.Farm) -> None:
    left: list[float | None] = []

    def wait(job: speckfarm.Job, left_s: float | None) -> speckfarm.Result:
        left.append(left_s)
        return job.wait(left_s)

    farm.advise(b"model", EVENTS, timeout=60.0, wait=wait)

    assert len(left) == 5
    assert all(each is not None and 0 < each <= 60 for each in left)
    assert left == sorted(left, key=lambda each: -(each or 0.0))


def test_a_search_that_takes_too_long_leaves_its_job_alone(
    small: OverrunFarm, farm: speckfarm.Farm
) -> None:
    with pytest.raises(speckfarm.WaitTimeout):
        farm.advise(b"model", EVENTS, timeout=1e-6)

    assert small.cancelled == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"decimator": {0: 2}}, "decimator"),
        ({"request_id": "mine"}, "request_id"),
        ({"max_runs": 0}, "max_runs"),
        ({"max_runs": True}, "max_runs"),
        ({"decimater": {0: 2}}, "Did you mean decimator"),
    ],
)
def test_what_the_search_decides_itself_is_refused(
    small: OverrunFarm, farm: speckfarm.Farm, options: Any, named: str
) -> None:
    with pytest.raises(speckfarm.BadRequest, match=named):
        farm.advise(b"model", EVENTS, **options)

    assert small.jobs == {}


def test_advice_needs_a_recording(farm: speckfarm.Farm) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.advise(b"model")

    assert caught.value.reason == "NO_RECORDING"


RATED = LayerActivity(
    layer=3, input_spikes=0, output_spikes=0, synops=None, synops_formula=None,
    synops_per_s=2.0, peak_synops_per_s=None, synops_limit=1.0,
)  # fmt: skip


def found(reason: str, layer: int | None, **metadata: str) -> Finding:
    return Finding(reason=reason, severity="warning", message="", layer=layer, metadata=metadata)


@pytest.mark.parametrize(
    ("findings", "wanted"),
    [
        ([], None),
        ([found("SYNOPS_RATE", None)], None),
        ([found("BANDWIDTH_EXCEEDED", 1)], Overrun(layer=1, excess=None)),
        ([found("BANDWIDTH_EXCEEDED", None)], Overrun(layer=3, excess=None)),
        (
            [found("BANDWIDTH_EXCEEDED", 1, synops_per_s="x", synops_limit_per_s="2")],
            Overrun(layer=1, excess=None),
        ),
        (
            [
                found("SYNOPS_ABOVE_LIMIT", 0, peak_synops_per_s="9", synops_limit_per_s="1"),
                found("BANDWIDTH_EXCEEDED", 1, synops_per_s="3", synops_limit_per_s="2"),
                found("BANDWIDTH_EXCEEDED", 2, synops_per_s="5", synops_limit_per_s="2"),
            ],
            Overrun(layer=2, excess=2.5),
        ),
    ],
)
def test_the_suspect_is_read_from_the_findings(
    findings: list[Finding], wanted: Overrun | None
) -> None:
    assert overrun_of(findings, [RATED], is_judged=True) == wanted


def test_a_rate_above_a_believed_limit_is_no_overrun_where_a_verdict_says_so() -> None:
    above = found("SYNOPS_ABOVE_LIMIT", 0, peak_synops_per_s="9", synops_limit_per_s="1")

    assert overrun_of([above], [RATED], is_judged=True) is None
    assert overrun_of([above], [RATED], is_judged=False) == Overrun(layer=0, excess=9.0)


def test_the_command_shows_every_run_and_what_to_paste(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("advise", "m.nir", "r.npz", "--sim") == 0

    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split()[:4] == ["run", "decimator", "reset", "overrun"]
    assert [line.split()[1] for line in lines[1:6]] == ["off", "1=4", "1=2", "1=4", "1=4"]
    assert "  speckfarm run ... --decimator 1=4" in lines
    assert "  farm.run(..., decimator={1: 4})" in lines
    assert "p99 lag in us 3500.0 -> 875.0" in captured.out
    assert "decimator off: overrun (layer 2, x3.5)" in captured.err


def test_json_and_csv_have_every_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("advise", "m.nir", "r.npz", "-o", "json") == 0
    captured = capsys.readouterr()
    plain = json.loads(captured.out)
    assert run("advise", "m.nir", "r.npz", "-o", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    assert captured.err == ""
    assert (plain["verdict"], plain["decimator"]) == ("removed", {"1": 4})
    assert plain["steps"][0]["excess"] == 3.5
    assert [row["decimator"] for row in rows] == ["off", "1=4", "1=2", "1=4", "1=4"]
    assert rows[0]["p99_us"] == "3500.0"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--decimator", "0=2"], "decimators are what is searched for"),
        (["--max-runs", "0"], "a whole number from 1"),
        (["--detach"], "has no option --detach"),
        (["--vary", "2"], "has no option --vary"),
    ],
)
def test_arguments_that_do_not_go_with_a_search_are_refused(
    small: OverrunFarm, run: Run, capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    assert run("advise", "m.nir", "r.npz", *words) == 2

    assert named in capsys.readouterr().err
    assert small.jobs == {}


def test_an_interrupt_leaves_the_present_job_on_the_farm(
    small: OverrunFarm,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(speckfarm.Job, "wait", interrupted)
    monkeypatch.setattr("speckfarm.cli_wait.SECOND_INTERRUPT_S", 0.0)

    assert run("advise", "m.nir", "r.npz") == 0

    assert "speckfarm watch j-1" in capsys.readouterr().err
    assert small.cancelled == []


@pytest.fixture(scope="module")
def fast_digits(tmp_path_factory: pytest.TempPathFactory, digits_recordings: Path) -> Path:
    """Thirty digits 60 times faster, one after the other as one recording."""
    path = tmp_path_factory.mktemp("advise") / "fast.npz"
    with np.load(digits_recordings) as file:
        offsets = file["offsets"][:31]
        times, end_us = [], 0
        for start, stop in pairwise(offsets):
            times.append(file["t"][start:stop] // 60 + end_us)
            end_us = int(times[-1][-1]) + 20
        columns = {name: file[name][: offsets[-1]] for name in "xyp"}
        np.savez(path, t=np.concatenate(times), **columns)
    return path


def test_an_overrun_on_a_simulated_board_is_removed(
    server: FarmProcess, digits_model: Path, fast_digits: Path
) -> None:
    with server.connect() as farm:
        advice = farm.advise(digits_model, fast_digits, cores={0: 0}, kind="simulated")

        assert (advice.verdict, advice.suspect, advice.is_least) == ("removed", 2, True)
        assert list(advice.decimator) == [1]
        assert advice.after is not None
        assert not advice.after.overrun
        before_us, after_us = advice.before.drain_us, advice.after.drain_us
        assert before_us is not None
        assert after_us is not None
        assert after_us < before_us / 10
        again = farm.run(digits_model, fast_digits, cores={0: 0}, decimator=advice.decimator)
        assert again.wait(timeout=60).latency.drain_us == after_us


def test_a_first_layer_that_is_overrun_on_a_simulated_board_is_named(
    server: FarmProcess, digits_model: Path, fast_digits: Path
) -> None:
    with server.connect() as farm:
        advice = farm.advise(digits_model, fast_digits)

        assert (advice.verdict, advice.suspect) == ("first_layer", 0)
        assert len(advice.steps) <= 3  # layer 2 is overrun as well, and may be suspected first
