"""Quantisation equals sinabs 3.1.3 on recorded layers (tests/sinabs/record_quantise_cases.py)."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.quantise import quantise_layer

RECORDED = Path(__file__).parent / "data" / "quantise_cases.npz"


def test_recorded_layers_equal_sinabs_bit_for_bit() -> None:
    with np.load(RECORDED) as file:
        cases = dict(file)
    bits = cases.get("threshold_bits", np.full(len(cases["names"]), 32))

    for i, name in enumerate(cases["names"]):
        made = quantise_layer(
            cases[f"weights_{i:03d}"],
            cases.get(f"bias_{i:03d}"),
            float(cases["threshold"][i]),
            float(cases["threshold_low"][i]),
            threshold_bits=int(bits[i]),
        )

        assert np.array_equal(made.weights, cases[f"expected_weights_{i:03d}"]), name
        assert np.array_equal(made.biases, cases[f"expected_bias_{i:03d}"]), name
        assert made.threshold_high == cases["expected_threshold_high"][i], name
        assert made.threshold_low == cases["expected_threshold_low"][i], name
        assert made.scale == cases["expected_scale"][i], name
    assert len(cases["names"]) > 50


def _one(weights: list[float], bias: float | None, threshold: float, low: float):
    biases = None if bias is None else np.array([bias], np.float32)
    return quantise_layer(np.array([[[weights]]], np.float32), biases, threshold, low)


def test_largest_weight_takes_the_whole_word() -> None:
    made = _one([0.5, -0.25], None, 1.0, -1.0)

    assert made.weights.ravel().tolist() == [127, -64]  # -63.5 ties to even
    assert (made.threshold_high, made.threshold_low, made.bound_by) == (254, -254, "weights")


def test_large_bias_shrinks_the_weights() -> None:
    made = _one([0.2], 5.0, 1.0, -1.0)

    assert (made.weights.item(), made.biases.item(), made.threshold_high) == (5, 127, 25)
    assert made.bound_by == "bias"


def test_tiny_weights_are_bound_by_the_threshold() -> None:
    made = _one([2e-4], None, 1.0, -1.0)

    assert (made.weights.item(), made.threshold_high) == (7, 32767)
    assert made.bound_by == "thresholds"


def test_a_lower_clip_of_the_whole_state_word_silences_the_layer() -> None:
    made = _one([0.4, -0.4], None, 1.0, -32768.0)

    assert not made.weights.any()
    assert (made.threshold_high, made.threshold_low) == (1, -32768)


def test_missing_bias_is_zero_and_does_not_bind() -> None:
    assert _one([0.3], None, 1.0, -1.0).biases.tolist() == [0]
    assert _one([0.3], None, 1.0, -1.0).scale == _one([0.3], 0.0, 1.0, -1.0).scale


@given(
    weights=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=12),
    bias=st.none() | st.floats(-1e3, 1e3, width=32),
    threshold=st.floats(1e-3, 1e3),
    low_ratio=st.floats(-4, -1e-3),
)
@settings(deadline=None)
def test_every_integer_fits_its_word_and_is_the_nearest(
    weights: list[float], bias: float | None, threshold: float, low_ratio: float
) -> None:
    made = _one(weights, bias, threshold, low_ratio * threshold)

    exact = np.array(weights) * made.scale
    assert np.all(np.abs(made.weights.ravel() - exact) <= 0.5001)
    assert made.weights.dtype == np.int8
    assert made.biases.dtype == np.int16
    assert -128 <= made.biases.item() <= 127
    assert 0 <= made.threshold_high <= 32767
    assert -32768 <= made.threshold_low <= 0


def test_an_all_but_zero_layer_gives_zeros() -> None:
    made = _one([0.0], None, 1e-45, -1e-45)

    assert (made.weights.item(), made.threshold_high, made.threshold_low) == (0, 32767, -32768)


@pytest.mark.parametrize("weight", [3e38, 1e-44, 0.0])
def test_extreme_weights_neither_warn_nor_wrap(weight: float) -> None:
    made = _one([weight, -weight], None, 1.0, -1.0)

    assert abs(int(made.weights.ravel()[0])) <= 127
