"""The check of a finished configuration: every rule, and what settings still change of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from speckfarm_server.check import Report
from speckfarm_server.check_vendor import REASONS, check_configuration
from speckfarm_server.chip import CHIPS
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.settings import Settings
from speckfarm_server.vendor.read import read_vendor_json
from speckfarm_server.vendor.write import write_vendor_json
from tests.configurations import configuration, core

FIRST = core(2, core=5, input_shape=(1, 4, 4), destinations=(Destination(core=3),))
LAST = core(3, core=3, input_shape=(2, 4, 4))
SENSOR = DvsConfiguration(cut=(3, 3), merge=True, destinations=(Destination(core=5),))


def as_file(*cores: Any, chip: str = "speck2b", **changes: Any) -> Configuration:
    """As it comes out of a file of the vendor's."""
    made = configuration(*(cores or (FIRST, LAST)), chip=chip, **changes)
    return read_vendor_json(write_vendor_json(made)).configuration


def checked(made: Configuration, chip: str = "speck2b", **settings: Any) -> Report:
    return check_configuration(made, CHIPS[chip], Settings(**settings))


def reasons(report: Report) -> set[str]:
    return {found.reason for found in report.findings}


def test_a_sound_configuration_is_deployable_and_its_layers_are_named_after_cores() -> None:
    report = checked(as_file())

    assert report.deployable
    assert [(need.layer, need.name, need.core) for need in report.layers] == [
        (0, "core 5", 5),
        (1, "core 3", 3),
    ]
    assert report.layers[0].kernel_entries == 2
    assert report.layers[1].output_shape == (3, 4, 4)
    assert report.layers[0].synops_limit == 30e6
    assert [need.sources for need in report.layers] == [(), (0,)]


def test_the_exit_layer_is_monitored_whatever_the_file_says() -> None:
    made = checked(as_file()).configuration

    assert made is not None
    assert [each.monitor_enable for each in made.cores] == [False, True]


def test_a_configuration_takes_the_settings_that_it_leaves_open() -> None:
    made = checked(
        as_file(chip="speck2f"),
        "speck2f",
        reset="zero",
        layer_reset={1: "subtract"},
        decimator={0: 4},
        monitor=(0,),
        polarity="merge",
        slow_clock_hz=100,
        state="keep",
        order_seed=3,
    ).configuration

    assert made is not None
    assert [each.return_to_zero for each in made.cores] == [True, False]
    assert [each.decimator for each in made.cores] == [4, None]
    assert [each.monitor_enable for each in made.cores] == [True, True]
    assert (made.polarity, made.slow_clock_hz, made.keep_state) == ("merge", 100.0, True)
    assert made.order_seed == 3
    assert Settings(polarity="merge").canonical() != made.settings != "{}"


def test_without_settings_the_file_stands() -> None:
    zero = replace(FIRST, return_to_zero=True, decimator=8)

    made = checked(as_file(zero, LAST, chip="speck2f"), "speck2f").configuration

    assert made is not None
    assert (made.cores[0].return_to_zero, made.cores[0].decimator) == (True, 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cores", {0: 3}),
        ("lower_clip", -2.0),
        ("input_dt_us", 1000.0),
        ("input_pooling", (2, 2)),
        ("crop", (0, 0, 64, 64)),
        ("mirror", "x"),
        ("swap_xy", True),
        ("readout_threshold", 0),
        ("readout_average", 16),
    ],
)
def test_a_setting_that_a_file_has_decided_is_refused_by_name(name: str, value: object) -> None:
    report = checked(as_file(), **{name: value})

    [found] = [each for each in report.findings if each.reason == "SETTING_NOT_APPLICABLE"]
    assert (found.severity.value, found.metadata["setting"]) == ("error", name)
    assert report.configuration is None


def test_a_file_for_another_chip_says_which_chip_to_ask_for() -> None:
    report = checked(as_file(chip="speck2b"), "speck2f")

    assert reasons(report) == {"CHIP_MISMATCH"}
    assert report.findings[0].metadata == {"chip": "speck2f", "configured_for": "speck2b"}
    assert len(report.layers) == 2


@pytest.mark.parametrize("chip", ["speck2e", "speck2f"])
def test_files_of_the_newer_chips_run_on_either(chip: str) -> None:
    made = checked(as_file(chip="speck2f"), chip).configuration

    assert made is not None
    assert made.chip == chip


def test_a_file_without_a_configured_core_is_refused() -> None:
    report = checked(read_vendor_json(write_vendor_json(Configuration(
        chip="speck2b", input_shape=(1, 1, 1), cores=()
    ))).configuration)  # fmt: skip

    assert reasons(report) == {"NO_LAYERS"}
    assert (report.layers, report.configuration) == ((), None)


def test_every_rule_is_applied_and_named_by_layer() -> None:
    wrong = replace(FIRST, stride=(3, 3), destinations=(Destination(core=3, pooling=3),))

    report = checked(as_file(wrong, LAST))

    found = {(each.reason, each.layer) for each in report.findings}
    assert {("STRIDE_UNSUPPORTED", 0), ("POOLING_UNSUPPORTED", 0)} <= found
    assert not report.deployable


def test_settings_that_name_a_layer_that_is_not_there_are_refused() -> None:
    assert "LAYER_NOT_FOUND" in reasons(checked(as_file(), monitor=(5,)))


def test_a_ring_is_refused() -> None:
    one = core(core=6, destinations=(Destination(core=7),))
    other = core(core=7, destinations=(Destination(core=6),))

    assert "RING" in reasons(checked(as_file(one, other, inputs=())))


def test_of_several_exits_the_last_one_counts_and_the_others_are_named() -> None:
    fork = replace(FIRST, destinations=(Destination(core=3), Destination(core=4)))
    other = replace(LAST, core=4, monitor_enable=False)

    report = checked(as_file(fork, LAST, other))

    [found] = [each for each in report.findings if each.reason == "SEVERAL_EXITS"]
    assert found.metadata == {"exit_layer": "2", "others": "1"}
    assert report.configuration is not None
    assert report.configuration.cores[-1].core == 4


def test_a_layer_that_feeds_only_the_readout_is_the_exit_layer() -> None:
    to_readout = replace(LAST, destinations=(Destination(core=12),), monitor_enable=False)

    report = checked(as_file(FIRST, to_readout, chip="speck2f"), "speck2f")

    assert "SEVERAL_EXITS" not in reasons(report)
    assert report.configuration is not None
    assert report.configuration.cores[-1].monitor_enable
    assert report.configuration.cores[-1].destinations == (Destination(core=12),)


def test_advice_is_about_the_integers_of_the_file() -> None:
    silent = replace(FIRST, weights=-FIRST.weights, threshold_high=0, threshold_low=0)
    leaky = replace(LAST, biases=np.ones(3, np.int16), leak_enable=True)

    report = checked(as_file(silent, leaky))

    thresholds = {"THRESHOLD_ZERO", "THRESHOLD_LOW_ZERO"}
    assert {"LAYER_SILENT", "BIAS_IS_LEAK", *thresholds} <= reasons(report)
    assert report.deployable
    assert not any("quantise" in f.message for f in report.findings if f.reason in thresholds)


def test_camera_events_go_through_the_layer_that_the_file_connects() -> None:
    made = checked(as_file(dvs=SENSOR, inputs=(), input_shape=(2, 128, 128))).configuration

    assert made is not None
    assert (made.dvs, made.inputs, made.input_shape) == (SENSOR, (), (2, 128, 128))


@pytest.mark.parametrize(("polarity", "on", "off"), [("on", True, False), ("off", False, True)])
def test_polarity_is_a_switch_of_a_connected_camera_layer(
    polarity: str, on: bool, off: bool
) -> None:
    file = as_file(dvs=SENSOR, inputs=(), input_shape=(2, 128, 128))

    made = checked(file, polarity=polarity).configuration

    assert made is not None
    assert made.dvs == replace(SENSOR, on_channel=on, off_channel=off)
    assert made.polarity == "keep"


def test_values_without_effect_on_the_twin_are_told() -> None:
    report = checked(as_file(vendor={"readout.threshold": 9}))

    [found] = [each for each in report.findings if each.reason == "KEYS_NOT_SIMULATED"]
    assert found.severity.value == "info"
    assert found.metadata == {"count": "1", "keys": "readout.threshold = 9"}
    assert report.deployable


def test_a_decimator_set_on_top_of_a_file_is_written_as_it_runs() -> None:
    file = as_file(chip="speck2f")
    unused = {"cnn_layers[5].output_decimator_interval": 5}

    made = checked(replace(file, vendor=unused), "speck2f", decimator={0: 2}).configuration

    assert made is not None
    back = read_vendor_json(write_vendor_json(made)).configuration
    assert (made.cores[0].decimator, back.cores[0].decimator) == (2, 2)


def test_what_is_written_of_a_checked_file_is_checked_to_the_same() -> None:
    made = checked(as_file()).configuration

    assert made is not None
    again = checked(read_vendor_json(write_vendor_json(made)).configuration).configuration
    assert again is not None
    assert again.digest == made.digest


def test_reasons_have_the_severity_that_the_table_says() -> None:
    reports = [
        checked(as_file(), "speck2f"),
        checked(as_file(vendor={"readout.threshold": 9}), cores={0: 1}),
    ]

    found = [f for report in reports for f in report.findings if f.reason in REASONS]
    assert len(found) == 3
    assert all(each.severity is REASONS[each.reason] for each in found)
