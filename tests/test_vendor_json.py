"""The vendor's JSON is read and written without loss, and whatever is wrong with it is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.chip import CHIPS
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.errors import BadInput
from speckfarm_server.rules.tables import apply_rules
from speckfarm_server.vendor.keys import CAMEL_CASE
from speckfarm_server.vendor.read import MAX_FILE_BYTES, looks_like_json, read_vendor_json
from speckfarm_server.vendor.tree import MAX_UNKNOWN
from speckfarm_server.vendor.write import write_vendor_json
from tests.configurations import configuration, core
from tests.vendor_configurations import random_configuration

SAMPLE = gzip.decompress((Path(__file__).parent / "data" / "vendor_speck2b.json.gz").read_bytes())
FORWARD = core(
    3,
    core=4,
    input_shape=(2, 4, 5),
    kernel_size=2,
    weights=np.arange(24, dtype=np.int8).reshape(3, 2, 2, 2),
    destinations=(Destination(core=1),),
)
EXIT = core(2, core=1, input_shape=(3, 3, 4), monitor_enable=True)


def small(chip: str = "speck2b", **changes: Any) -> Configuration:
    return configuration(FORWARD, EXIT, chip=chip, **changes)


def tree(chip: str = "speck2b") -> Any:
    return json.loads(write_vendor_json(small(chip)))


def read(plain: Any) -> Any:
    return read_vendor_json(json.dumps(plain).encode())


@given(seed=st.integers(0, 2**32), chip=st.sampled_from(sorted(CHIPS)))
@settings(max_examples=150)
def test_what_is_written_is_read_back_equal(seed: int, chip: str) -> None:
    made = random_configuration(seed, chip)

    found = read_vendor_json(write_vendor_json(made))

    back = replace(found.configuration, chip=chip)  # 2e and 2f have the same keys
    assert (back.digest, back.vendor) == (made.digest, made.vendor)
    assert found.findings == ()


@given(seed=st.integers(0, 2**32), chip=st.sampled_from(sorted(CHIPS)))
@settings(max_examples=50)
def test_random_configurations_keep_every_rule_of_the_chip(seed: int, chip: str) -> None:
    assert apply_rules(random_configuration(seed, chip), CHIPS[chip]) == []


def test_a_file_of_the_vendor_is_written_back_with_equal_keys_and_values() -> None:
    found = read_vendor_json(SAMPLE)

    assert json.loads(write_vendor_json(found.configuration)) == json.loads(SAMPLE)
    assert found.findings == ()


def test_a_file_of_the_vendor_says_what_was_set_in_the_vendors_library() -> None:
    made = read_vendor_json(SAMPLE).configuration

    first, second = made.cores
    assert [(each.core, each.layer) for each in made.cores] == [(5, 0), (2, 1)]
    assert first.input_shape == (2, 2, 6)
    assert first.output_shape == (3, 3, 3)
    assert (first.stride, first.padding) == ((1, 2), (1, 0))
    f, c, y, x = np.indices((3, 2, 2, 2))
    assert np.array_equal(first.weights, 40 * f + 10 * c + 2 * x + y - 60)
    assert first.weights_kill is not None
    assert np.argwhere(first.weights_kill).tolist() == [[2, 1, 0, 1]]
    assert first.biases.tolist() == [-300, 0, 300]
    assert first.biases_kill is not None
    assert first.biases_kill.tolist() == [False, True, False]
    f, y, x = np.indices((3, 3, 3))
    assert np.array_equal(first.initial_state, 100 * f + 10 * x + y)
    assert first.neurons_kill is not None
    assert np.argwhere(first.neurons_kill).tolist() == [[1, 0, 2]]
    assert (first.threshold_high, first.threshold_low) == (1000, -2000)
    assert (first.return_to_zero, first.leak_enable, first.monitor_enable) == (True, True, False)
    assert first.destinations == (
        Destination(core=2, pooling=2),
        Destination(core=0, feature_shift=6, enable=False),
    )
    assert (second.threshold_high, second.threshold_low) == (32767, -32768)
    assert second.weights.ravel().tolist() == list(range(-128, -122))
    assert (second.initial_state, second.weights_kill, second.neurons_kill) == (None, None, None)
    assert made.dvs == DvsConfiguration(
        pooling=(4, 2),
        origin=(20, 10),
        cut=(27, 21),
        mirror=(False, True),
        destinations=(Destination(core=0, enable=False), Destination(core=5)),
    )
    assert (made.inputs, made.input_shape) == ((), (2, 128, 128))
    assert made.vendor == {
        "cnn_layers[7].threshold_high": 9,
        "dvs_layer.monitor_sensor_enable": 1,
        "factory_config.neurons[11].clock_delay": 3,
        "readout.threshold": 77,
    }


def test_cores_that_nothing_feeds_take_the_recorded_events() -> None:
    made = read_vendor_json(write_vendor_json(small())).configuration

    assert made.inputs == (Destination(core=4),)
    assert made.input_shape == (2, 4, 5)
    assert made.dvs is None


def test_a_core_as_it_is_after_a_reset_runs_nothing() -> None:
    plain = tree()
    plain["value0"]["cnnLayers"]["value8"]["returnToZero"] = True

    made = read(plain).configuration

    assert [each.core for each in made.cores] == [4, 1]
    assert made.vendor == {"cnn_layers[8].return_to_zero": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it["weights"]["values"].__setitem__(0, 1),
        lambda it: it["neuronsValueKillBit"]["values"].__setitem__(0, True),
        lambda it: it["dimensions"]["padding"].__setitem__("y", 1),
        lambda it: it["destinations"]["value1"].__setitem__("enable", True),
        lambda it: it.__setitem__("monitorEnable", True),
    ],
)
def test_a_core_that_could_do_something_counts_as_configured(
    change: Callable[[Any], None],
) -> None:
    plain = tree()
    change(plain["value0"]["cnnLayers"]["value8"])

    made = read(plain)

    assert 8 in [each.core for each in made.configuration.cores]
    assert json.loads(write_vendor_json(made.configuration)) == plain


def test_a_camera_layer_that_feeds_nothing_is_kept_as_other_keys() -> None:
    plain = tree()
    plain["value0"]["dvsLayer"]["passSensorEvents"] = True
    plain["value0"]["dvsLayer"]["cut"]["x"] = 63

    made = read(plain).configuration

    assert made.dvs is None
    assert made.vendor == {"dvs_layer.pass_sensor_events": 1, "dvs_layer.cut.x": 63}


@pytest.mark.parametrize("chip", ["speck2b", "speck2f"])
def test_unknown_keys_are_named_and_written_back(chip: str) -> None:
    plain = tree(chip)
    new = {"a": [1, True, {"b": -5}, []], "c": {}, "newKey": False}
    plain["value0"]["readout"]["new_thing"] = new
    plain["value0"]["other"] = 3

    made = read(plain)

    [found] = made.findings
    assert (found.reason, found.severity.value) == ("UNKNOWN_KEY", "warning")
    assert found.metadata["count"] == "7"
    assert "value0.readout.new_thing.a[2].b" in found.metadata["paths"]
    assert json.loads(write_vendor_json(made.configuration)) == plain


def test_decimators_are_codes_in_files_of_speck2f() -> None:
    made = configuration(replace(FORWARD, decimator=128), EXIT, chip="speck2f")

    plain = json.loads(write_vendor_json(made))

    found = plain["value0"]["cnn_layers"]["value4"]
    assert (found["output_decimator_enable"], found["output_decimator_interval"]) == (True, 5)
    assert read(plain).configuration.cores[0].decimator == 128


def test_a_decimator_that_is_off_keeps_its_code() -> None:
    plain = tree("speck2f")
    plain["value0"]["cnn_layers"]["value4"]["output_decimator_interval"] = 3

    made = read(plain).configuration

    assert made.cores[0].decimator is None
    assert made.vendor == {"cnn_layers[4].output_decimator_interval": 3}


def test_a_decimator_has_no_key_in_files_of_speck2b() -> None:
    made = configuration(replace(FORWARD, decimator=4), EXIT, chip="speck2b")

    with pytest.raises(BadInput) as caught:
        write_vendor_json(made)

    assert caught.value.reason == "NOT_IN_VENDOR_JSON"
    assert caught.value.metadata == {"layer": "0", "decimator": "4", "chip": "speck2b"}


def test_newer_files_in_camel_case_are_written_back_in_camel_case() -> None:
    plain = tree("speck2f")
    camel = json.loads(_camel_case(json.dumps(plain)))

    made = read(camel)

    assert made.configuration.vendor == {CAMEL_CASE: 1}
    assert (made.configuration.chip, made.findings) == ("speck2f", ())
    assert json.loads(write_vendor_json(made.configuration)) == camel


def _camel_case(text: str) -> str:
    first, *others = text.split("_")
    return first + "".join(part[0].upper() + part[1:] for part in others)


def test_newer_files_may_lack_what_is_only_assumed() -> None:
    plain = tree("speck2f")
    del plain["value0"]["readout"], plain["value0"]["dvs_filter"]["threshold"]

    made = read(plain).configuration

    assert (made.vendor, len(made.cores)) == ({}, 2)


def test_layers_are_numbered_behind_their_sources_and_rings_come_last() -> None:
    ring = [
        core(core=number, destinations=(Destination(core=to),))
        for number, to in ((6, 7), (7, 6), (3, 0), (8, 0))
    ]
    end = core(core=0, input_shape=(1, 1, 1), monitor_enable=True)

    made = read_vendor_json(
        write_vendor_json(
            configuration(
                *ring, end, chip="speck2b", inputs=(Destination(core=3), Destination(core=8))
            )
        )
    )

    assert [each.core for each in made.configuration.cores] == [3, 8, 0, 6, 7]


def test_recorded_events_that_enter_a_fed_core_are_not_lost_in_silence() -> None:
    first = core(core=2, destinations=(Destination(core=3),))
    inputs = (Destination(core=2), Destination(core=3))

    with pytest.raises(BadInput) as refused:
        write_vendor_json(configuration(first, core(core=3), inputs=inputs))

    assert refused.value.reason == "NOT_IN_VENDOR_JSON"
    assert refused.value.metadata == {"found": "2, 3"}


def test_a_key_that_stands_twice_among_many_is_named_at_once() -> None:
    keys = ",".join(f'"{number}":0' for number in range(100_000))

    with pytest.raises(BadInput, match="'7' twice"):
        read_vendor_json(f'{{{keys},"7":1}}'.encode())


def test_white_space_and_a_byte_order_mark_do_not_matter() -> None:
    data = write_vendor_json(small())
    spaced = b"\xef\xbb\xbf\n " + json.dumps(json.loads(data), indent=4).encode()

    assert looks_like_json(spaced)
    assert (
        read_vendor_json(spaced).configuration.digest == read_vendor_json(data).configuration.digest
    )


Path_ = tuple[str, ...]
CORE4 = ("value0", "cnnLayers", "value4")
REFUSED: list[tuple[str, str, Path_, object]] = [
    ("threshold that would wrap", "VALUE_OUT_OF_RANGE", (*CORE4, "thresholdHigh"), 40000),
    ("kernel that would wrap", "VALUE_OUT_OF_RANGE", (*CORE4, "dimensions", "kernelSize"), 300),
    ("negative size", "VALUE_OUT_OF_RANGE", (*CORE4, "dimensions", "stride", "x"), -1),
    ("number of 4,000 digits", "VALUE_OUT_OF_RANGE", (*CORE4, "thresholdLow"), 10**4000),
    ("true as a number", "MODEL_UNREADABLE", (*CORE4, "thresholdHigh"), True),
    ("number as a switch", "MODEL_UNREADABLE", (*CORE4, "leakEnable"), 1),
    ("a fraction", "MODEL_UNREADABLE", (*CORE4, "thresholdHigh"), 1.5),
    ("not a number", "MODEL_UNREADABLE", (*CORE4, "thresholdHigh"), float("nan")),
    ("infinite", "MODEL_UNREADABLE", (*CORE4, "thresholdHigh"), float("inf")),
    ("text", "MODEL_UNREADABLE", (*CORE4, "thresholdHigh"), "5"),
    ("null", "MODEL_UNREADABLE", CORE4, None),
    ("list for an object", "MODEL_UNREADABLE", ("value0", "readout"), []),
    ("no array", "MODEL_UNREADABLE", (*CORE4, "weights"), [1, 2]),
    ("values that are no list", "MODEL_UNREADABLE", (*CORE4, "weights", "values"), {}),
    ("more in an array", "MODEL_UNREADABLE", (*CORE4, "weights", "kind"), 1),
    ("too few values", "WRONG_SHAPE", (*CORE4, "weights", "values"), [1]),
    ("a million values in 1 x 1", "WRONG_SHAPE",
     ("value0", "cnnLayers", "value0", "weights", "values"), [0] * 10**6),
    ("dimensions without values", "VALUE_OUT_OF_RANGE",
     (*CORE4, "biases", "dimensions", "value0"), 0),
    ("too many axes", "WRONG_SHAPE", (*CORE4, "biases", "dimensions", "value1"), 1),
    ("huge dimensions", "WRONG_SHAPE", (*CORE4, "biases", "dimensions", "value0"), 2**31),
    ("other strides", "WRONG_SHAPE", (*CORE4, "weights", "offsets", "value0"), 1),
    ("weight that would wrap", "VALUE_OUT_OF_RANGE", (*CORE4, "weights", "values"), [200] * 24),
    ("true as a weight", "MODEL_UNREADABLE", (*CORE4, "weights", "values"), [True] * 24),
    ("number as a kill bit", "MODEL_UNREADABLE", (*CORE4, "biasesKillBit", "values"), [0] * 3),
    ("unknown text", "MODEL_UNREADABLE", ("value0", "note"), "hello"),
    ("unknown huge number", "VALUE_OUT_OF_RANGE", ("value0", "note"), 2**70),
    ("key that is no name", "MODEL_UNREADABLE", ("value0", "a.b"), 1),
    ("key with a lone surrogate", "MODEL_UNREADABLE", ("value0", "\ud800"), 1),
    ("more unknown values than kept", "MODEL_TOO_LARGE",
     ("value0", "note"), [1] * (MAX_UNKNOWN + 1)),
    ("decimator without a code", "VALUE_OUT_OF_RANGE",
     ("value0", "cnn_layers", "value4", "output_decimator_interval"), 8),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "path", "value"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_wrong_value_is_refused_with_its_path(reason: str, path: Path_, value: object) -> None:
    plain = tree("speck2f" if "cnn_layers" in path else "speck2b")
    holder = plain
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value

    with pytest.raises(BadInput) as caught:
        read(plain)

    assert caught.value.reason == reason
    if reason != "MODEL_TOO_LARGE":
        assert caught.value.metadata["path"].startswith(path[0])
    assert len(caught.value.message) < 500
    caught.value.message.encode()


@pytest.mark.parametrize(
    "path",
    [
        ("value0", "cnnLayers", "value8"),
        ("value0", "readout", "threshold"),
        ("value0", "debugConfig"),
        (*CORE4, "destinations", "value1"),
        (*CORE4, "neuronsInitialValue"),
    ],
    ids=".".join,
)
def test_a_missing_field_is_refused_by_its_path(path: Path_) -> None:
    plain = tree()
    holder = plain
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]

    with pytest.raises(BadInput) as caught:
        read(plain)

    assert caught.value.reason == "MISSING_FIELD"
    assert caught.value.metadata == {"path": ".".join(path)}


def test_the_range_of_a_refused_value_is_in_the_metadata() -> None:
    plain = tree()
    plain["value0"]["cnnLayers"]["value4"]["weights"]["values"][17] = -129

    with pytest.raises(BadInput) as caught:
        read(plain)

    assert caught.value.metadata == {
        "path": "value0.cnnLayers.value4.weights.values[17]",
        "found": "-129",
        "smallest": "-128",
        "largest": "127",
    }


BROKEN: list[tuple[str, str, bytes]] = [
    ("cut off", "MODEL_UNREADABLE", SAMPLE[:-20]),
    ("not UTF-8", "MODEL_UNREADABLE", b'{"value0": "\xff"}'),
    ("UTF-16", "MODEL_UNREADABLE", '{"value0": 1}'.encode("utf-16-le")),
    ("a key twice", "MODEL_UNREADABLE", SAMPLE.replace(b'"dvsFilter"', b'"dvsLayer"')),
    ("nested lists", "MODEL_UNREADABLE", b'{"value0": ' + b"[" * 10**6),
    ("nested objects", "MODEL_UNREADABLE", b'{"a":' * 10**6),
    ("nested unknown", "MODEL_UNREADABLE",
     write_vendor_json(small())[:-2] + b',"note":' + b"[" * 900 + b"1" + b"]" * 900 + b"}}"),
    ("a number of 100,000 digits", "MODEL_UNREADABLE", b'{"value0": ' + b"9" * 10**5 + b"}"),
    ("other JSON", "MODEL_UNREADABLE", b'{"nodes": []}'),
    ("an older chip", "MISSING_FIELD", b'{"value0": {"cnn_layers": {}}}'),
    ("too large", "MODEL_TOO_LARGE", b'{"value0": 1}' + b" " * MAX_FILE_BYTES),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "data"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_a_broken_file_is_refused(reason: str, data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        read_vendor_json(data)

    assert caught.value.reason == reason


@given(position=st.integers(0, len(SAMPLE) - 1), byte=st.integers(0, 255))
@settings(max_examples=200)
def test_any_changed_byte_is_read_or_refused(position: int, byte: int) -> None:
    data = SAMPLE[:position] + bytes([byte]) + SAMPLE[position + 1 :]

    try:
        found = read_vendor_json(data)
    except BadInput:
        return

    assert json.loads(write_vendor_json(found.configuration)) == json.loads(data)
