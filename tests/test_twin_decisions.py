"""Every key of a vendor's file is decided on: simulated, harmless, or refused with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from speckfarm_server.configuration import DvsConfiguration
from speckfarm_server.rules.simulated import (
    HARMLESS,
    REFUSED,
    errors_on_twins,
    refusals,
    twin_refuses,
)
from speckfarm_server.twin.refuse import refuse
from speckfarm_server.vendor.keys import SPECK2B, SPECK2EF, Array, Many, Number, Section, Switch
from speckfarm_server.vendor.readout import ReadoutConfiguration, vendor_values
from tests.twin_builders import chip, core, to

# What the twin computes, or refuses in `twin/refuse.py` (kill bits).
SIMULATED = {
    *(
        f"cnn_layers.{name}"
        for name in (
            "destinations", "dimensions", "return_to_zero", "leak_enable", "threshold_high",
            "threshold_low", "monitor_enable", "weights", "weights_kill_bit", "biases",
            "biases_kill_bit", "neurons_initial_value", "neurons_value_kill_bit",
            "output_decimator_enable", "output_decimator_interval",
        )
    ),
    *(
        f"dvs_layer.{name}"
        for name in (
            "monitor_enable", "destinations", "mirror_diagonal", "merge", "on_channel",
            "off_channel", "origin", "pooling", "cut", "mirror",
        )
    ),
    *(
        f"readout.{name}"
        for name in (
            "enable", "low_pass_filter32_not16", "low_pass_filter_disable",
            "readout_configuration_sel", "readout_pin_monitor_enable", "threshold",
        )
    ),
}  # fmt: skip
DECIDED = [*SIMULATED, *HARMLESS, *REFUSED]
LEAKY = core([[[[1]]]], (1, 1), biases=np.ones(1, np.int16), leak_enable=True, destinations=to(12))
CAMERA = DvsConfiguration(destinations=to(2))


def fields_of(keys: Section, path: str = "") -> Iterator[str]:
    for name, key in keys.items():
        here = f"{path}.{name}" if path else name
        if isinstance(key, Many):
            yield from fields_of(key.keys, here)
        elif isinstance(key, (Number, Switch, Array)):
            yield here
        else:
            yield from fields_of(key, here)


FIELDS = sorted({*fields_of(SPECK2B.keys), *fields_of(SPECK2EF.keys)})


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_key_is_decided_on_once(field: str) -> None:
    decided = [each for each in DECIDED if field == each or field.startswith(f"{each}.")]

    assert len(decided) == 1


@pytest.mark.parametrize("decided", sorted(DECIDED))
def test_no_decision_is_about_a_key_that_is_gone(decided: str) -> None:
    assert any(field == decided or field.startswith(f"{decided}.") for field in FIELDS)


def set_to(field: str, value: int) -> dict[str, int]:
    """A vendor's value, of core 2 or of the whole chip; the readout layer is used."""
    path = field.replace("cnn_layers.", "cnn_layers[2].").replace(
        "cnn_layers_config.", "cnn_layers_config[2]."
    )
    return {**vendor_values(ReadoutConfiguration(threshold=1)), path: value}


def configured(vendor: dict[str, int]) -> Any:
    made = chip(LEAKY, vendor=vendor, slow_clock_hz=100.0)
    return replace(made, inputs=(), dvs=CAMERA)


@pytest.mark.parametrize("field", sorted(REFUSED))
def test_what_is_refused_is_named_with_its_reason(field: str) -> None:
    value = 0 if field == "dvs_filter.filter_bypass" else 1

    with pytest.raises(ValueError, match=r"found [01]; .* so the twin refuses it") as caught:
        refuse(configured(set_to(field, value)))

    assert field.rpartition(".")[2] in str(caught.value)


@pytest.mark.parametrize("field", sorted(HARMLESS))
def test_what_is_harmless_is_not_refused(field: str) -> None:
    refuse(configured(set_to(field, 1)))


def test_what_matters_nowhere_is_not_refused() -> None:
    still = replace(LEAKY, leak_enable=False, destinations=())
    vendor = {
        "cnn_layers[2].leak_internal_slow_clk_enable": 1,  # no leak
        "cnn_layers[3].input_congestion_balancer_enable": 1,  # nothing runs there
        "dvs_filter.enable": 1,  # no camera events
        "readout.monitor_enable": 1,  # not enabled
        "readout.internal_slow_clk": 1,
    }

    refuse(chip(still, vendor=vendor))


def test_a_camels_spelling_is_refused_too() -> None:
    vendor = {"value0.cnnLayers.value2.inputCongestionBalancerEnable": 1}

    [found] = refusals(chip(LEAKY, vendor=vendor))

    assert "busy core drops" in found.why


def test_only_one_way_from_the_exit_layer_to_the_readout_runs() -> None:
    vendor = vendor_values(ReadoutConfiguration(threshold=1))
    first = replace(LEAKY, destinations=to(3, 12))
    last = replace(LEAKY, core=3, layer=1, destinations=())

    [inner] = refusals(chip(first, last, vendor=vendor))
    [twice] = refusals(chip(replace(LEAKY, destinations=to(12, 12)), vendor=vendor))

    assert (inner.value, twice.value) == ("2", "2, 2")


def test_an_address_mode_without_published_meaning_is_refused() -> None:
    told = ReadoutConfiguration(threshold=1, addressing=0)

    [found] = twin_refuses(chip(LEAKY, vendor=vendor_values(told)))

    assert found.metadata == {"key": "readout.readout_configuration_sel", "value": "0"}
    assert [each.severity.value for each in errors_on_twins([found])] == ["error"]


@pytest.mark.parametrize("name", ["override_threshold_max", "overrideThresholdMax"])
def test_telling_a_class_without_a_threshold_is_refused(name: str) -> None:
    vendor = vendor_values(ReadoutConfiguration(threshold=1))
    key = f"?value0.readout.{name}:switch"

    [found] = refusals(chip(LEAKY, vendor={**vendor, key: 1}))

    assert (found.key, found.value) == (key, 1)
    assert list(refusals(chip(LEAKY, vendor={**vendor, key: 0}))) == []
