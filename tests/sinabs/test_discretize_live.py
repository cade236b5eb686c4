"""Compare `quantise` with sinabs' own discretisation, run here and now."""

import numpy as np
import pytest
from record_quantise_cases import Case, cases, discretise, load_discretize, random_case

from speckfarm_server.quantise import quantise_layer

DISCRETIZE = load_discretize()
RECORDED = [case for case in cases() if case.threshold_bits == 32]


def assert_equals_sinabs(case: Case) -> None:
    low = -32768.0 if case.threshold_low is None else case.threshold_low
    expected = discretise(case, DISCRETIZE)

    result = quantise_layer(case.weights, case.bias, case.threshold, low)

    np.testing.assert_array_equal(result.weights, expected.weights, case.name)
    np.testing.assert_array_equal(result.biases, expected.bias, case.name)
    assert result.threshold_high == expected.threshold_high, case.name
    assert result.threshold_low == expected.threshold_low, case.name
    assert result.scale == expected.scale, case.name


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
def test_recorded_layers_become_the_integers_of_sinabs(case: Case) -> None:
    assert_equals_sinabs(case)


@pytest.mark.parametrize("seed", range(10))
def test_random_layers_become_the_integers_of_sinabs(seed: int) -> None:
    generator = np.random.default_rng(seed)

    for _ in range(100):
        assert_equals_sinabs(random_case(generator))
