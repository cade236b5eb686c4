"""Findings of a finished run."""

from __future__ import annotations

from speckfarm_server.job_result import RecordingResult
from speckfarm_server.observe import observe


def recording(prediction: int, label: int | None = None) -> RecordingResult:
    return RecordingResult(
        recording="d" * 64,
        name="a recording",
        label=label,
        prediction=prediction,
        counts=(0, 0, 0) if prediction < 0 else (1, 0, 0),
        input_events=1,
        output_events=0 if prediction < 0 else 1,
        duration_us=0,
        decision_us=None,
        lags=(),
    )


def test_a_run_that_needs_no_comment_gets_none() -> None:
    assert observe([recording(0), recording(0, label=2)]) == ()
    assert observe([]) == ()


def test_recordings_without_output_are_counted_and_the_first_is_named() -> None:
    [finding] = observe([recording(0), recording(-1), recording(-1)])

    assert finding.reason == "NO_OUTPUT"
    assert finding.message.startswith("2 of 3 recordings")
    assert "'a recording'" in finding.message


def test_labels_that_the_network_cannot_predict_are_a_warning() -> None:
    [finding] = observe([recording(0, label=0), recording(0, label=3)])

    assert finding.reason == "LABEL_OUT_OF_RANGE"
    assert finding.metadata == {"found": "3", "allowed": "2"}
