"""A configuration is written into the vendor's objects under the documented names.

The objects here are doubles of speck2e's and speck2f's, which never ran; `make vendor` does the
same with the vendor's own objects of speck2b.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.boards.samna.configuration import differences, read, write
from speckfarm_server.boards.samna.names import CHIP_NAMES
from speckfarm_server.check import check
from speckfarm_server.chip import CHIPS as CHIP_LIMITS
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.settings import Settings
from speckfarm_server.vendor.readout import ReadoutConfiguration, vendor_values
from tests.configurations import configuration, core
from tests.networks import digits_network
from tests.samna_objects import KILL_BITS, noted, speck2ef
from tests.vendor_configurations import random_configuration

CHIPS = ("speck2f", "speck2e")
FIRST = core(
    3,
    core=4,
    input_shape=(2, 6, 9),
    kernel_size=2,
    stride=(1, 2),
    padding=(0, 3),
    weights=np.arange(24, dtype=np.int8).reshape(3, 2, 2, 2),
    biases=np.array([-300, 0, 300], np.int16),
    threshold_high=1000,
    threshold_low=-2000,
    return_to_zero=True,
    leak_enable=True,
    destinations=(
        Destination(core=7, pooling=2, feature_shift=5, enable=False),
        Destination(core=1),
    ),
)
STATE = np.arange(105, dtype=np.int16).reshape(3, 5, 7)
KILLED = np.arange(105).reshape(3, 5, 7) == 17
LAST = core(2, core=1, input_shape=(3, 5, 7), monitor_enable=True)
CAMERA = DvsConfiguration(
    merge=True,
    on_channel=False,
    pooling=(4, 2),
    origin=(3, 5),
    cut=(8, 13),
    mirror=(True, False),
    mirror_diagonal=True,
    monitor_enable=True,
    destinations=(Destination(core=4),),
)


def made(chip: str = "speck2f", first: Any = FIRST, **changes: Any) -> Configuration:
    return configuration(first, LAST, chip=chip, **changes)


def written(made: Configuration, **kind: Any) -> dict[str, Any]:
    target = speck2ef(**kind)
    write(made, target, CHIP_NAMES[made.chip])
    return noted(target)


def first(**changes: Any) -> Configuration:
    return made(first=replace(FIRST, **changes))


def vendor(values: dict[str, int]) -> Configuration:
    return made(vendor=values)


A = "cnn_layers[4]"
READOUT = vendor(vendor_values(ReadoutConfiguration(threshold=7, average=32)))
FILTER = vendor({"dvs_filter.enable": 1, "dvs_filter.filter_size.x": 3, "dvs_filter.threshold": 12})
# Configuration, path, what must be there: each documented name once, written out by hand.
TABLE: list[tuple[Configuration, str, object]] = [
    *[
        (first(decimator=ratio), f"{A}.output_decimator_{name}", value)
        for ratio, code in (
            (2, 0), (4, 1), (8, 2), (16, 3), (32, 4), (128, 5), (256, 6), (512, 7),
        )
        for name, value in (("enable", True), ("interval", code))
    ],
    (made(), f"{A}.output_decimator_enable", False),
    (made(), f"{A}.output_decimator_interval", 0),
    (made(), f"{A}.return_to_zero", True),
    (made(), "cnn_layers[1].return_to_zero", False),
    (made(), f"{A}.leak_enable", True),
    (made(), "cnn_layers[1].leak_enable", False),
    (made(), f"{A}.threshold_high", 1000),
    (made(), f"{A}.threshold_low", -2000),
    (made(), f"{A}.monitor_enable", False),
    (made(), "cnn_layers[1].monitor_enable", True),
    (made(), "cnn_layers[8].monitor_enable", False),
    (made(), f"{A}.destinations[0].layer", 7),
    (made(), f"{A}.destinations[0].pooling", 2),
    (made(), f"{A}.destinations[0].feature_shift", 5),
    (made(), f"{A}.destinations[0].enable", False),
    (made(), f"{A}.destinations[1].layer", 1),
    (made(), f"{A}.destinations[1].enable", True),
    (first(destinations=(Destination(core=12),)), f"{A}.destinations[0].layer", 12),
    (first(destinations=(Destination(core=12),)), f"{A}.destinations[1].enable", False),
    (made(), f"{A}.dimensions.kernel_size", 2),
    (made(), f"{A}.dimensions.stride.x", 2),
    (made(), f"{A}.dimensions.stride.y", 1),
    (made(), f"{A}.dimensions.padding.x", 3),
    (made(), f"{A}.dimensions.padding.y", 0),
    (made(), f"{A}.dimensions.input_shape.feature_count", 2),
    (made(), f"{A}.dimensions.input_shape.size.x", 9),
    (made(), f"{A}.dimensions.input_shape.size.y", 6),
    (made(), f"{A}.dimensions.output_shape.feature_count", 3),
    (made(), f"{A}.dimensions.output_shape.size.x", 7),
    (made(), f"{A}.dimensions.output_shape.size.y", 5),
    # out, in, x, y: within a kernel of [[0, 1], [2, 3]], the 2 below the 0 is at x 0, y 1.
    (made(), f"{A}.weights",
     [[[[n, n + 2], [n + 1, n + 3]] for n in (m, m + 4)] for m in (0, 8, 16)]),
    (made(), f"{A}.biases", [-300, 0, 300]),
    (made(), f"{A}.neurons_initial_value", [[[0] * 5] * 7] * 3),
    (first(initial_state=STATE), f"{A}.neurons_initial_value",
     [[[35 * f + 7 * y + x for y in range(5)] for x in range(7)] for f in range(3)]),
    (made(), f"{A}.weights_kill_bit", [[[[False] * 2] * 2] * 2] * 3),
    (made(), f"{A}.biases_kill_bit", [False] * 3),
    (made(), f"{A}.neurons_value_kill_bit", [[[False] * 5] * 7] * 3),
    (first(neurons_kill=KILLED), f"{A}.neurons_value_kill_bit",
     [[[(f, y, x) == (0, 2, 3) for y in range(5)] for x in range(7)] for f in range(3)]),
    (first(biases_kill=np.array([0, 1, 0], bool)), f"{A}.biases_kill_bit", [False, True, False]),
    (made(), "cnn_layers[0].weights_kill_bit", [[[[False]]]]),
    (vendor({f"{A}.leak_internal_slow_clk_enable": 1}), f"{A}.leak_internal_slow_clk_enable", True),
    (made(dvs=CAMERA), "dvs_layer.merge", True),
    (made(dvs=CAMERA), "dvs_layer.on_channel", False),
    (made(dvs=CAMERA), "dvs_layer.off_channel", True),
    (made(dvs=CAMERA), "dvs_layer.pooling.x", 2),
    (made(dvs=CAMERA), "dvs_layer.pooling.y", 4),
    (made(dvs=CAMERA), "dvs_layer.origin.x", 5),
    (made(dvs=CAMERA), "dvs_layer.origin.y", 3),
    (made(dvs=CAMERA), "dvs_layer.cut.x", 13),
    (made(dvs=CAMERA), "dvs_layer.cut.y", 8),
    (made(dvs=CAMERA), "dvs_layer.mirror.x", False),
    (made(dvs=CAMERA), "dvs_layer.mirror.y", True),
    (made(dvs=CAMERA), "dvs_layer.mirror_diagonal", True),
    (made(dvs=CAMERA), "dvs_layer.monitor_enable", True),
    (made(dvs=CAMERA), "dvs_layer.pass_sensor_events", False),
    (made(dvs=CAMERA), "dvs_layer.destinations[0].layer", 4),
    (made(dvs=CAMERA), "dvs_layer.destinations[0].enable", True),
    (made(dvs=CAMERA), "dvs_layer.destinations[1].enable", False),
    (made(), "dvs_layer.pass_sensor_events", False),
    (made(), "dvs_layer.destinations[0].enable", False),
    (vendor({"dvs_layer.raw_monitor_enable": 1}), "dvs_layer.raw_monitor_enable", True),
    (READOUT, "readout.enable", True),
    (READOUT, "readout.internal_slow_clk", False),
    (READOUT, "readout.low_pass_filter32_not16", True),
    (READOUT, "readout.low_pass_filter_disable", False),
    (READOUT, "readout.monitor_enable", False),
    (READOUT, "readout.output_mode_sel", 0),
    (READOUT, "readout.readout_configuration_sel", 3),
    (READOUT, "readout.readout_pin_monitor_enable", True),
    (READOUT, "readout.threshold", 7),
    (vendor({"readout.enable": 1}), "readout.low_pass_filter32_not16", False),
    (FILTER, "dvs_filter.enable", True),
    (FILTER, "dvs_filter.filter_size.x", 3),
    (FILTER, "dvs_filter.filter_size.y", 1),
    (FILTER, "dvs_filter.hot_pixel_filter_enable", False),
    (FILTER, "dvs_filter.internal_slow_clk", False),
    (FILTER, "dvs_filter.low_pass_mode_enable", False),
    (FILTER, "dvs_filter.threshold", 12),
]  # fmt: skip
NEVER = "input_congestion_balancer_enable"  # it makes a busy core drop events
FACTORY = "factory_config.io_sel"


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    ("wanted", "path", "value"), TABLE, ids=[f"{n}-{each[1]}" for n, each in enumerate(TABLE)]
)
def test_a_documented_name_gets_its_value(
    wanted: Configuration, path: str, value: object, chip: str
) -> None:
    found = written(replace(wanted, chip=chip))[path]

    assert (found, type(found)) == (value, type(value))


def test_the_table_has_every_documented_name_but_two() -> None:
    documented = {_kind(path) for path in _paths(speck2ef(), "")}

    covered = {_kind(path) for _, path, _ in TABLE}

    assert documented - covered == {f"cnn_layers.{NEVER}", FACTORY}
    assert covered <= documented


@pytest.mark.parametrize("wanted", [made(), made(dvs=CAMERA), READOUT, FILTER])
def test_what_the_farm_never_asked_for_is_never_set(wanted: Configuration) -> None:
    found = written(wanted)

    assert not [path for path in found if path.endswith(NEVER) or path == FACTORY]


def test_sections_known_by_assumption_alone_are_left_as_they_are_unless_used() -> None:
    found = written(made())

    assert not [path for path in found if path.startswith(("readout", "dvs_filter"))]
    assert not [path for path in found if "raw_monitor" in path or "internal_slow" in path]


def test_idle_cores_are_written_as_they_are_after_a_reset() -> None:
    found = written(made())

    idle = {_kind(path): found[path] for path in found if path.startswith("cnn_layers[8]")}
    assert idle["cnn_layers.weights"] == [[[[0]]]]
    assert idle["cnn_layers.dimensions.output_shape.size.x"] == 1
    assert idle["cnn_layers.destinations.enable"] is False
    assert idle["cnn_layers.threshold_high"] == 0
    assert {path.split(".")[0] for path in found} == {
        "dvs_layer", *(f"cnn_layers[{number}]" for number in range(9))
    }  # fmt: skip


@given(seed=st.integers(0, 2**32), chip=st.sampled_from(CHIPS))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back_equal(seed: int, chip: str) -> None:
    wanted = random_configuration(seed, chip)
    target = speck2ef()

    write(wanted, target, CHIP_NAMES[chip])

    assert differences(wanted, target, CHIP_NAMES[chip]) == []
    # What the farm leaves alone has, in the double, other defaults than are assumed.
    used = {path.split(".")[0] for path in wanted.vendor}
    found = read(target, CHIP_NAMES[chip])
    kept = {
        path: value
        for path, value in found.vendor.items()
        if path.split(".")[0] not in {"readout", "dvs_filter"} - used
    }
    assert (kept, found.chip) == (wanted.vendor, chip)
    assert replace(found, vendor=kept).digest == wanted.digest


@pytest.mark.parametrize("chip", CHIPS)
def test_a_network_as_the_check_places_it_is_held_by_the_object(chip: str) -> None:
    asked = Settings(
        reset="zero", decimator={0: 16, 2: 512}, monitor=(1,), slow_clock_hz=100,
        readout_threshold=3,
    )  # fmt: skip
    wanted = check(digits_network(), CHIP_LIMITS[chip], asked).configuration
    assert wanted is not None
    target = speck2ef()

    write(wanted, target, CHIP_NAMES[chip])

    assert differences(wanted, target, CHIP_NAMES[chip]) == []
    conv0, conv1, conv2, linear3 = (target.cnn_layers[core.core] for core in wanted.cores)
    assert (conv0.output_decimator_interval, conv2.output_decimator_interval) == (3, 7)
    assert (conv0.output_decimator_enable, conv1.output_decimator_enable) == (True, False)
    assert [each.return_to_zero for each in (conv0, conv1, conv2, linear3)] == [True] * 4
    assert (conv1.monitor_enable, conv2.monitor_enable) == (True, False)
    assert linear3.destinations[0].layer == 12
    assert (target.readout.enable, target.readout.threshold) == (True, 3)


def test_every_value_that_changed_behind_our_back_is_named() -> None:
    names, wanted = CHIP_NAMES["speck2f"], replace(made(dvs=CAMERA), vendor=READOUT.vendor)
    paths = list(written(wanted))

    for path in paths:
        target = speck2ef()
        write(wanted, target, names)
        _spoil(target, path)

        assert differences(wanted, target, names) == [path]


def test_a_library_without_kill_bits_takes_what_kills_nothing() -> None:
    without = tuple(f"cnn_layers.{name}" for name in KILL_BITS)
    target = speck2ef(without=without)
    names = CHIP_NAMES["speck2f"]

    write(made(), target, names)

    assert differences(made(), target, names) == []
    assert read(target, names).cores[0].weights.tolist() == FIRST.weights.tolist()


def test_kill_bits_that_a_library_cannot_take_are_not_lost_in_silence() -> None:
    wanted = first(neurons_kill=KILLED)

    with pytest.raises(BoardFault) as refused:
        written(wanted, without=("cnn_layers.neurons_value_kill_bit",))

    assert refused.value.reason == "VENDOR_NAMES_MISSING"
    assert refused.value.metadata == {"count": "1", "names": f"{A}.neurons_value_kill_bit"}


def test_all_missing_names_are_told_at_once_and_nothing_is_written() -> None:
    lacking = ("dvs_layer.merge", "cnn_layers.return_to_zero", "cnn_layers.dimensions.stride.y")
    target = speck2ef(without=lacking)

    with pytest.raises(BoardFault) as refused:
        write(made(), target, CHIP_NAMES["speck2f"])

    fault = refused.value
    assert (fault.reason, fault.error_class) == ("VENDOR_NAMES_MISSING", ErrorClass.CONFIGURATION)
    assert fault.metadata["count"] == "19"
    assert "cnn_layers[8].dimensions.stride.y" in fault.message
    assert noted(target) == {}


def test_an_object_that_lacks_names_is_not_read() -> None:
    target = speck2ef()
    write(made(), target, CHIP_NAMES["speck2f"])
    del vars(target.dvs_layer)["cut"], vars(target.cnn_layers[5])["weights"]

    with pytest.raises(BoardFault) as refused:
        read(target, CHIP_NAMES["speck2f"])

    assert refused.value.metadata == {"count": "2", "names": "cnn_layers[5].weights, dvs_layer.cut"}


def test_a_key_that_the_farm_does_not_know_is_written_as_the_attribute_it_is() -> None:
    wanted = vendor({
        "?value0.readout.override_threshold_max:switch": 1,
        "?value0.cnnLayers.value3.newThing": -5,
        "?value0.readout.nothing:{}": 0,
        "?camelCase": 1,
    })

    found = written(wanted, also=("readout.override_threshold_max", "cnn_layers.new_thing"))

    assert found["readout.override_threshold_max"] is True
    assert found["cnn_layers[3].new_thing"] == -5
    assert "cnn_layers[2].new_thing" not in found


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("?value0.readout.new_thing", "readout.new_thing"),
        ("?value0.cnn_layers.value9.threshold_high", "cnn_layers[9].threshold_high"),
        ("?value0.readout.list[2]", "readout.list[2]"),
        ("readout.bypass_enable", "readout.bypass_enable"),
    ],
)
def test_a_key_that_the_library_does_not_have_is_refused(key: str, path: str) -> None:
    with pytest.raises(BoardFault) as refused:
        written(vendor({key: 1}))

    assert (refused.value.reason, refused.value.metadata["names"]) == ("VENDOR_NAMES_MISSING", path)


def test_a_value_that_the_library_refuses_is_told_with_its_path() -> None:
    with pytest.raises(BoardFault) as refused:
        written(first(threshold_high=40000))

    assert refused.value.reason == "VENDOR_VALUE_REFUSED"
    assert refused.value.metadata == {"path": f"{A}.threshold_high"}


def test_a_configuration_of_another_chip_is_refused() -> None:
    with pytest.raises(BoardFault) as refused:
        write(made("speck2e"), speck2ef(), CHIP_NAMES["speck2f"])

    assert refused.value.reason == "WRONG_CHIP"
    assert refused.value.metadata == {"found": "speck2e", "expected": "speck2f"}


def _kind(path: str) -> str:
    return re.sub(r"\[\d+\]", "", path)


def _paths(value: Any, path: str) -> list[str]:
    if isinstance(value, list):
        return [found for n, each in enumerate(value) for found in _paths(each, f"{path}[{n}]")]
    if not hasattr(value, "_notes"):
        return [path]
    return [
        found
        for name, part in vars(value).items()
        if not name.startswith("_")
        for found in _paths(part, f"{path}.{name}".removeprefix("."))
    ]


def _spoil(target: Any, path: str) -> None:
    *steps, last = re.findall(r"\w+|\[\d+\]", path)
    for step in steps:
        target = target[int(step[1:-1])] if step.startswith("[") else getattr(target, step)
    value = getattr(target, last)
    vars(target)[last] = _changed(value)


def _changed(value: Any) -> Any:
    if isinstance(value, list):
        return [*value[:-1], _changed(value[-1])]
    return not value if isinstance(value, bool) else value + 1
