"""A network becomes a configuration: chain, settings, average pooling, biases, NIR's r."""

from dataclasses import replace
from typing import Any

import numpy as np

from speckfarm_server.errors import Severity
from tests.networks import conv, digits_network, linear, network, pooling
from tests.reports import found, only, report


def test_the_configuration_holds_the_chain() -> None:
    made = report(
        digits_network(), reset="zero", layer_reset={1: "subtract"}, decimator={0: 4}, monitor=(1,),
        polarity="merge", slow_clock_hz=100, state="keep",
    ).configuration  # fmt: skip

    assert made is not None
    assert [core.core for core in made.cores] == [2, 3, 4, 5]
    assert [[(d.core, d.pooling) for d in core.destinations] for core in made.cores] == [
        [(3, 2)],
        [(4, 2)],
        [(5, 2)],
        [],
    ]
    assert [core.return_to_zero for core in made.cores] == [True, False, True, True]
    assert [core.decimator for core in made.cores] == [4, None, None, None]
    assert [core.monitor_enable for core in made.cores] == [False, True, False, True]
    assert (made.polarity, made.slow_clock_hz, made.keep_state) == ("merge", 100.0, True)


def test_pooling_after_the_last_layer_is_left_to_the_host() -> None:
    made = report(network((1, 8, 8), conv(2, 3, padding=1, pool=4))).configuration

    assert made is not None
    assert made.cores[0].exit_pooling == 4
    assert made.cores[0].destinations == ()


SETTINGS: list[dict[str, Any]] = [
    {},
    {"reset": "zero"},
    {"layer_reset": {1: "zero"}},
    {"lower_clip": -2.0},
    {"input_dt_us": 1e6},
    {"decimator": {0: 4}},
    {"decimator": {0: 8}},
    {"monitor": (1,)},
    {"cores": {0: 1}},
    {"polarity": "merge"},
    {"slow_clock_hz": 100.0},
    {"state": "keep"},
    {"order_seed": 0},
    {"order_seed": 1},
    {"slow_clock_hz": 100.0, "readout_threshold": 0},
    {"slow_clock_hz": 100.0, "readout_threshold": 0, "readout_average": 16},
]


def test_each_setting_changes_the_digest_and_the_same_settings_do_not() -> None:
    made = [report(digits_network(), **values).configuration for values in SETTINGS * 2]

    digests = [one.digest for one in made if one is not None]
    assert len(digests) == 2 * len(SETTINGS)
    assert len(set(digests)) == len(SETTINGS)
    assert digests[: len(SETTINGS)] == digests[len(SETTINGS) :]


def test_average_pooling_is_sum_pooling_with_smaller_next_weights() -> None:
    weights = np.array([0.5, -0.25, 0.125], np.float32).reshape(1, 3, 1, 1)
    plans = (conv(3, 3, padding=1, weights=0.1), conv(1, 1, weights=weights))
    average = network(
        (1, 4, 4), replace(plans[0], poolings=(pooling(2, kind="average"),)), plans[1]
    )
    scaled = network(
        (1, 4, 4),
        replace(plans[0], poolings=(pooling(2),)),
        replace(plans[1], weights=weights / np.float32(4)),
    )

    one, other = report(average).configuration, report(scaled).configuration

    assert one is not None
    assert other is not None
    assert one.digest == other.digest
    assert one.cores[1].threshold_high == 1016  # 127 / 0.125


def test_chained_poolings_multiply() -> None:
    first = replace(conv(2, 3, padding=1), poolings=(pooling(2), pooling(2, kind="average")))

    made = report(network((1, 8, 8), first, linear(2))).configuration

    assert made is not None
    assert made.cores[0].destinations[0].pooling == 4


def test_biases_enable_the_leak() -> None:
    made = report(network((1, 4, 4), conv(2, 3, bias=0.1)), slow_clock_hz=1000.0)

    assert made.configuration is not None
    assert made.configuration.cores[0].leak_enable
    assert "time steps of 1000 µs" in only(made, "BIAS_IS_LEAK").message


def test_biases_without_a_slow_clock_are_said_to_do_nothing() -> None:
    made = report(network((1, 4, 4), conv(2, 3, bias=0.1)))

    assert "do nothing" in only(made, "BIAS_IS_LEAK").message
    assert made.deployable


def test_zero_biases_are_no_leak() -> None:
    made = report(network((1, 4, 4), conv(2, 3, bias=0.0)))

    assert found(made, Severity.WARNING) == []
    assert made.configuration is not None
    assert not made.configuration.cores[0].leak_enable


def test_the_lower_clip_scales_with_the_threshold() -> None:
    plan = conv(1, 1, weights=1.27, threshold=2.54, threshold_range=(2.54, 2.54))
    made = report(network((1, 2, 2), plan), lower_clip=-0.5).configuration

    assert made is not None
    assert (made.cores[0].threshold_high, made.cores[0].threshold_low) == (254, -127)


NIR_R: dict[str, object] = {"r_range": (1000.0, 1000.0)}


def test_r_needs_its_time_step_and_then_changes_nothing() -> None:
    plain = network((1, 4, 4), conv(2, 3))
    with_r = network((1, 4, 4), conv(2, 3, **NIR_R))

    refused, accepted = report(with_r), report(with_r, input_dt_us=1000)

    assert found(refused) == [(0, "R_NOT_ONE")]
    assert "Pass input_dt_us=1000." in only(refused, "R_NOT_ONE").message
    assert accepted.deployable
    wanted = report(plain).configuration
    assert wanted is not None
    assert accepted.configuration is not None
    assert np.array_equal(accepted.configuration.cores[0].weights, wanted.cores[0].weights)
    assert found(accepted, Severity.WARNING) == []


def test_r_times_another_time_step_scales_the_weights() -> None:
    made = report(network((1, 4, 4), conv(1, 1, weights=1.0, **NIR_R)), input_dt_us=500)

    assert "multiplies weights and biases by 0.5" in only(made, "R_SCALES_WEIGHTS").message
    assert made.configuration is not None
    assert made.configuration.cores[0].threshold_high == 254
