"""Both sides of the limit at which a neuron's state may leave its 16 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from speckfarm_server.chip import CHIPS
from speckfarm_server.rules.state import may_saturate
from tests.twin_builders import chip, core

QUIET = core([[[[100]]]], (1, 1))


def found(*, slow_clock_hz: float | None = None, **changes: Any) -> list[str]:
    made = chip(replace(QUIET, **changes), slow_clock_hz=slow_clock_hz)
    return [each.message for each in may_saturate(made, CHIPS["speck2f"])]


def weights(*values: int) -> Any:
    return np.array(values, np.int8).reshape(len(values), 1, 1, 1)


@pytest.mark.parametrize(
    ("inside", "beyond", "told"),
    [
        ({"threshold_high": 32_668}, {"threshold_high": 32_669}, "lead to 32,768"),
        ({"weights": weights(100)}, {"weights": weights(101)}, "charge can pile up to 32,767"),
        (
            {"weights": weights(100, -68), "threshold_low": -32_700},
            {"weights": weights(100, -69), "threshold_low": -32_700},
            "lead to -32,769",
        ),
    ],
)
def test_a_state_that_may_leave_its_range_is_told(
    inside: dict[str, Any], beyond: dict[str, Any], told: str
) -> None:
    [message] = found(**beyond)

    assert told in message
    assert found(**inside) == []


def test_a_reset_to_zero_keeps_no_charge() -> None:
    assert found(weights=weights(101), return_to_zero=True) == []


def test_biases_count_when_the_slow_clock_ticks() -> None:
    leaky = {"biases": np.array([32_000], np.int16), "leak_enable": True, "return_to_zero": True}
    leaky["threshold_high"] = 1000

    assert found(**leaky) == []
    [message] = found(**leaky, slow_clock_hz=100.0)
    assert "32,999" in message
