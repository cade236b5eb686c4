"""Verdicts and estimated lags on their way through an attempt, a stored result and the client."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speckfarm.events import PackedEvents
from speckfarm.overrun import read_overrun
from speckfarm.v1 import jobs_pb2
from speckfarm_server.boards.board import Board
from speckfarm_server.boards.execute import Attempt, Cancelled, Outcome, Task
from speckfarm_server.boards.scripted import ScriptedBoard
from speckfarm_server.boards.simulated import SimulatedBoard
from speckfarm_server.configuration import Configuration
from speckfarm_server.convert_result import result_message
from speckfarm_server.errors import Severity
from speckfarm_server.job_result import (
    JobResult,
    LayerLags,
    RecordingResult,
    StageTimes,
    from_json,
    to_json,
)
from speckfarm_server.latency import Latency
from speckfarm_server.observe import observe
from speckfarm_server.overrun import Overrun, Verdict
from speckfarm_server.recordings import summarise, to_file
from tests.hidden_board import HiddenBoard, hidden, steady, two_layers

LITTLE, MUCH = steady(6_000, 200_000), steady(90_000, 200_000)
EXCEEDED = Overrun(
    verdict=Verdict.EXCEEDED, confidence=0.97, why="lags grew", layer=1, core=4,
    drift_us_per_s=2e5, synops_per_s=45e6, synops_limit_per_s=30e6,
)  # fmt: skip


def attempt(
    board: Board,
    folder: Path,
    *recordings: PackedEvents,
    configuration: Configuration | None = None,
    progress: Callable[[str, int], None] = lambda *_: None,
) -> Outcome:
    path = folder / "recordings.events"
    offsets = np.cumsum([0, *map(len, recordings)])
    names = tuple(f"recording {n}" for n in range(len(recordings)))
    to_file(summarise(np.concatenate(recordings), offsets, None, names), path)
    task = Task(
        configuration=configuration or two_layers(),
        recordings=(("d" * 64, path),),
        keep_lags=True,
    )
    return Attempt(board, task, progress, loaded="").run()


def verdicts(outcome: Outcome) -> list[Verdict | None]:
    return [r.overrun.verdict if r.overrun else None for r in outcome.recordings]


def test_a_simulated_board_knows_whether_it_was_overrun(tmp_path: Path) -> None:
    outcome = attempt(SimulatedBoard(), tmp_path, LITTLE, MUCH)

    healthy, exceeded = (recording.overrun for recording in outcome.recordings)
    assert healthy == Overrun(verdict=Verdict.HEALTHY, confidence=1.0, why="on time")
    assert exceeded is not None
    assert (exceeded.verdict, exceeded.confidence) == (Verdict.EXCEEDED, 1.0)
    assert (exceeded.layer, exceeded.core) == (0, 3)
    assert (exceeded.drift_us_per_s or 0) > 1e6
    assert (exceeded.synops_per_s or 0) > 2 * (exceeded.synops_limit_per_s or 0) == 60e6
    assert outcome.latency is not None
    assert outcome.latency.method == "exact"


def test_lags_of_a_board_that_tells_no_causes_are_estimated(tmp_path: Path) -> None:
    board = HiddenBoard(hidden(0.8))

    outcome = attempt(board, tmp_path, LITTLE, MUCH, LITTLE)

    assert verdicts(outcome) == [Verdict.HEALTHY, Verdict.EXCEEDED, Verdict.HEALTHY]
    assert [held > 2000 for held in board.held_back_us] == [False, True, False]
    exceeded = outcome.recordings[1]
    assert exceeded.overrun is not None
    assert (exceeded.overrun.layer, exceeded.overrun.core) == (0, 3)
    latencies = [recording.lags[0].latency for recording in outcome.recordings]
    assert {latency.method for latency in latencies} == {"estimated"}
    true_us = np.concatenate(board.lags_us)
    # Lags are kept in the order of stamps; of a quantile the order does not matter.
    kept_us = np.frombuffer(outcome.lags, "<f8")
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(kept_us, share) == pytest.approx(np.quantile(true_us, share), abs=600)
    for latency, lags_us in zip(latencies, board.lags_us, strict=True):
        assert latency.error_us is not None
        assert latency.p50_us == pytest.approx(np.median(lags_us), abs=600)
    assert outcome.latency is not None
    assert outcome.latency.error_us == max(latency.error_us or 0 for latency in latencies)


def test_too_few_outputs_have_no_lags_and_no_verdict(tmp_path: Path) -> None:
    outcome = attempt(HiddenBoard(hidden(1.0)), tmp_path, steady(30, 200_000))

    [recording] = outcome.recordings
    assert verdicts(outcome) == [Verdict.INCONCLUSIVE]
    assert recording.lags[0].latency.n == 0
    assert recording.lags[0].latency.error_us is None


def test_leak_ticks_cause_no_lags_on_such_a_board_either(tmp_path: Path) -> None:
    first, second = two_layers().cores
    leaky = replace(first, leak_enable=True, biases=np.full(8, 200, np.int16))
    configuration = replace(two_layers(), cores=(leaky, second), slow_clock_hz=1000.0)
    exact = attempt(SimulatedBoard(), tmp_path, LITTLE, configuration=configuration)

    board = HiddenBoard(hidden(1.0), lost=0.0)
    estimated = attempt(board, tmp_path, LITTLE, configuration=configuration)

    [known], [guessed] = (o.recordings for o in (exact, estimated))
    assert known.lags[0].latency.uncaused > 50
    uncaused = guessed.lags[0].latency.uncaused
    assert uncaused == pytest.approx(known.lags[0].latency.uncaused, rel=0.3)


def test_a_cancel_is_heard_while_the_prediction_runs(tmp_path: Path) -> None:
    calls = []

    def progress(stage: str, done: int) -> None:
        calls.append(stage)
        if len(calls) > 20:  # the board itself reports only a few times
            raise Cancelled

    with pytest.raises(Cancelled):
        attempt(HiddenBoard(hidden(1.0)), tmp_path, MUCH, progress=progress)

    assert len(calls) == 21


def test_a_board_that_cannot_tell_has_no_verdict(tmp_path: Path) -> None:
    outcome = attempt(ScriptedBoard("{}"), tmp_path, LITTLE)

    assert verdicts(outcome) == [None]


def test_state_that_is_kept_is_kept_by_the_prediction_too(tmp_path: Path) -> None:
    configuration = replace(two_layers(), keep_state=True)

    outcome = attempt(
        HiddenBoard(hidden(1.0)), tmp_path, LITTLE, LITTLE, configuration=configuration
    )

    assert verdicts(outcome) == [Verdict.HEALTHY, Verdict.HEALTHY]
    assert all((r.lags[0].latency.error_us or 1e9) < 100 for r in outcome.recordings)


def recording_result(overrun: Overrun | None, name: str = "a recording") -> RecordingResult:
    return RecordingResult(
        recording="d" * 64, name=name, label=None, prediction=0, counts=(1,), input_events=1,
        output_events=1, duration_us=0, decision_us=None, lags=(), overrun=overrun,
    )  # fmt: skip


def job_result(*recordings: RecordingResult) -> JobResult:
    return JobResult(
        job="j-1", board="twin-0", board_kind="simulated", recordings=recordings, accuracy=None,
        latency=None, histogram=b"", findings=(), layers=(),
        timings=StageTimes(
            queue_ms=0, configure_ms=0, reset_ms=0, run_ms=0, collect_ms=0, total_ms=0
        ),
    )  # fmt: skip


def test_a_verdict_is_stored_and_results_of_earlier_versions_have_none() -> None:
    result = job_result(recording_result(EXCEEDED), recording_result(None))
    text = to_json(result)
    assert from_json(text) == result

    plain = json.loads(text)
    for recording in plain["recordings"]:
        del recording["overrun"]
    assert [r.overrun for r in from_json(json.dumps(plain)).recordings] == [None, None]


def test_a_verdict_reaches_the_client_whole() -> None:
    latency = Latency(n=0, uncaused=0, method="exact")
    lags = (LayerLags(layer=1, latency=latency, histogram=b""),)
    result = job_result(replace(recording_result(EXCEEDED), lags=lags))

    message = result_message(result, jobs_pb2.Job())

    read = read_overrun(message.recordings[0].overrun)
    assert read.to_dict() == {**vars(EXCEEDED), "verdict": "EXCEEDED"}
    healthy = Overrun(verdict=Verdict.HEALTHY, confidence=1.0, why="on time")
    quiet = job_result(replace(recording_result(healthy), lags=lags))
    [recording] = result_message(quiet, jobs_pb2.Job()).recordings
    assert read_overrun(recording.overrun).to_dict() == {**vars(healthy), "verdict": "HEALTHY"}


def test_a_core_that_cannot_keep_up_is_a_finding_with_what_to_do() -> None:
    worse = replace(EXCEEDED, synops_per_s=60e6, confidence=1.0)
    recordings = [recording_result(EXCEEDED), recording_result(None), recording_result(worse, "b")]

    [finding] = observe(recordings, ())

    assert (finding.reason, finding.layer) == ("BANDWIDTH_EXCEEDED", 1)
    assert finding.metadata == {
        "core": "4", "drift_us_per_s": "200000", "synops_per_s": "60000000",
        "synops_limit_per_s": "30000000", "confidence": "0.97", "exceeded": "2",
        "recordings": "3", "recording": "b",
    }  # fmt: skip
    assert "in 2 of 3 recordings" in finding.message
    assert "decimator on the layer before" in finding.message
    assert "speckfarm advise" in finding.message


def test_recordings_that_tell_nothing_are_a_remark() -> None:
    quiet = Overrun(verdict=Verdict.INCONCLUSIVE, confidence=0.0, why="few outputs")
    recordings = [recording_result(quiet), recording_result(None), recording_result(quiet)]

    [finding] = observe(recordings, ())

    assert (finding.reason, finding.severity) == ("BANDWIDTH_INCONCLUSIVE", Severity.INFO)
    assert "2 of 3 recordings" in finding.message
    assert "few outputs (2)" in finding.message
    [exceeded] = observe([*recordings, recording_result(EXCEEDED)], ())
    assert exceeded.reason == "BANDWIDTH_EXCEEDED"


def test_the_first_core_has_no_layer_before_it_to_decimate() -> None:
    [finding] = observe([recording_result(replace(EXCEEDED, layer=0))], ())

    assert "decimator" not in finding.message


def test_what_was_seen_is_not_said_again_as_what_is_believed(tmp_path: Path) -> None:
    outcome = attempt(SimulatedBoard(), tmp_path, MUCH)
    assert outcome.layers[0].peak_synops_per_s is not None
    assert outcome.layers[0].peak_synops_per_s > (outcome.layers[0].synops_limit or 0)

    reasons = [finding.reason for finding in observe(outcome.recordings, outcome.layers)]

    assert reasons.count("BANDWIDTH_EXCEEDED") == 1
    assert "SYNOPS_ABOVE_LIMIT" not in reasons
