"""Findings of a finished run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from speckfarm_server.job_result import LayerActivity, RecordingResult
from speckfarm_server.observe import observe

LAYER = LayerActivity(
    layer=3,
    input_spikes=100,
    output_spikes=10,
    synops=20_000_000,
    synops_formula=25_000_000.0,
    synops_per_s=20e6,
    peak_synops_per_s=40e6,
    synops_limit=30e6,
)


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
    assert observe([recording(0), recording(0, label=2)], []) == ()
    assert observe([], [LAYER]) == ()


def test_recordings_without_output_are_counted_and_the_first_is_named() -> None:
    [finding] = observe([recording(0), recording(-1), recording(-1)], [])

    assert finding.reason == "NO_OUTPUT"
    assert finding.message.startswith("2 of 3 recordings")
    assert "'a recording'" in finding.message


def test_the_layer_at_which_all_spikes_end_is_named() -> None:
    layers = [replace(LAYER, layer=0), replace(LAYER, layer=1, output_spikes=0, input_spikes=1234)]

    silent, *_ = observe([recording(-1)], layers)

    assert "Spikes end at layer 1: 1,234 reached it, and it never fired" in silent.message
    assert (silent.metadata["mute_layer"], silent.metadata["arrived"]) == ("1", "1234")


def test_labels_that_the_network_cannot_predict_are_a_warning() -> None:
    [finding] = observe([recording(0, label=0), recording(0, label=3)], [])

    assert finding.reason == "LABEL_OUT_OF_RANGE"
    assert finding.metadata == {"found": "3", "allowed": "2"}


def test_a_core_asked_for_more_than_it_sustains_is_a_warning() -> None:
    [finding, _] = observe([recording(0)], [LAYER])

    assert (finding.reason, finding.layer) == ("SYNOPS_ABOVE_LIMIT", 3)
    assert "40 M SynOps/s" in finding.message
    assert finding.metadata == {"peak_synops_per_s": "40000000", "synops_limit_per_s": "30000000"}


def test_rates_are_given_counted_and_by_the_formula() -> None:
    [finding] = observe([recording(0)], [replace(LAYER, peak_synops_per_s=30e6)])

    assert finding.reason == "SYNOPS_RATE"
    assert "layer 3: 20 M (formula 25 M)" in finding.message
    assert finding.metadata["layer_3_formula_synops_per_s"] == "25000000"


@pytest.mark.parametrize("missing", ["synops", "synops_per_s", "synops_formula"])
def test_without_counts_or_time_there_are_no_rates(missing: str) -> None:
    quiet = replace(LAYER, peak_synops_per_s=None, **{missing: None})

    assert observe([recording(0)], [quiet]) == ()


def test_the_first_layer_has_none_before_it_to_decimate() -> None:
    [first, _] = observe([recording(0)], [replace(LAYER, layer=0)])
    [third, _] = observe([recording(0)], [LAYER])

    assert "decimator" not in first.message
    assert "decimator on the layer before" in third.message


def test_states_that_left_their_16_bits_are_counted() -> None:
    quiet = replace(LAYER, synops=None, peak_synops_per_s=None)

    [finding] = observe([recording(0)], [replace(quiet, saturated=70_000)])

    assert (finding.reason, finding.layer) == ("STATE_SATURATED", 3)
    assert finding.message.startswith("70,000 times")
    assert finding.metadata == {"saturated": "70000"}
    for none in (0, None):
        assert observe([recording(0)], [replace(quiet, saturated=none)]) == ()
