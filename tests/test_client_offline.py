"""The client without any server: settings, arrays, JSON shapes, import cost, endpoints."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import speckfarm
from speckfarm.arrays import as_event_array, recording_file
from speckfarm.cli_parser import UsageFault, parse
from speckfarm.cli_settings import setting_options
from speckfarm.report import read_report
from speckfarm.result import Result
from speckfarm.settings import KEYS, build_settings, settings_dict
from speckfarm.sweep import build_axes, sweep_word
from speckfarm.times import parse_since
from speckfarm.v1 import models_pb2, settings_pb2
from tests.small_farm import result_message

LATENCY_KEYS = [
    "n", "uncaused", "method", "error_us", "first_output_us", "p50_us", "p90_us", "p99_us",
    "max_us", "drain_us", "drift_us_per_s",
]  # fmt: skip
EVENTS = np.array([(5, 1, 2, 0), (9, 3, 4, 1)], [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "?")])


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_client_loads_no_server_no_torch_and_no_rich() -> None:
    loaded = _modules_after("import speckfarm; speckfarm.connect; speckfarm.Result")

    unwanted = {"torch", "sqlalchemy", "rich", "h5py", "numba", "speckfarm_server"}
    assert not unwanted & loaded


def test_importing_the_package_alone_loads_neither_grpc_nor_numpy() -> None:
    loaded = _modules_after("import speckfarm")

    assert not {"grpc", "numpy", "google.protobuf"} & loaded


def test_packed_events_need_numpy_only() -> None:
    loaded = _modules_after("import speckfarm.events")

    assert "numpy" in loaded
    assert not {"grpc", "google.protobuf", "platformdirs"} & loaded


def test_every_public_name_exists_and_the_list_is_sorted() -> None:
    assert speckfarm.__all__ == sorted(speckfarm.__all__)
    for name in speckfarm.__all__:
        assert getattr(speckfarm, name) is not None
    assert set(speckfarm.__all__) <= set(dir(speckfarm))


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Frm'"):
        speckfarm.Frm  # noqa: B018


def test_every_setting_reaches_its_field() -> None:
    settings = build_settings({
        "reset": {"all": "zero", 2: "subtract"},
        "lower_clip": -2,
        "input_dt_us": 1000,
        "decimator": {0: 4, 1: None},
        "monitor": [2, 0],
        "cores": {0: 3},
        "polarity": "merge",
        "input_pooling": (2, 4),
        "crop": (32, 16, 64, 48),
        "mirror": "xy",
        "swap_xy": True,
        "slow_clock_hz": 500.0,
        "state": "keep",
        "order_seed": 0,
        "readout_threshold": 0,
        "readout_average": 32,
    })

    assert settings_dict(settings) == {
        "reset": "zero",
        "layer_reset": {"2": "subtract"},
        "lower_clip": -2.0,
        "input_dt_us": 1000.0,
        "decimator": {"0": 4},
        "monitor": [0, 2],
        "cores": {"0": 3},
        "polarity": "merge",
        "input_pooling": [2, 4],
        "crop": [32, 16, 64, 48],
        "mirror": "xy",
        "swap_xy": True,
        "slow_clock_hz": 500.0,
        "state": "keep",
        "order_seed": 0,
        "readout_threshold": 0,
        "readout_average": 32,
    }


def test_absent_settings_are_sent_as_absent_and_shown_as_defaults() -> None:
    settings = build_settings({})

    assert settings == settings_pb2.Settings()
    assert settings_dict(settings)["reset"] is None  # as the file says
    assert settings_dict(settings)["lower_clip"] is None
    assert settings_dict(settings)["input_pooling"] == [1, 1]
    assert settings_dict(settings)["crop"] is None
    assert settings_dict(settings)["mirror"] == "off"
    assert settings_dict(settings)["order_seed"] is None
    assert settings_dict(settings)["readout_threshold"] is None
    assert settings_dict(settings)["readout_average"] == 1


def test_one_input_pooling_is_for_both_axes() -> None:
    settings = build_settings({"input_pooling": 4})

    assert (settings.input_pooling_y, settings.input_pooling_x) == (4, 4)


@pytest.mark.parametrize(
    "key",
    [
        "reset", "lower_clip", "input_dt_us", "crop", "slow_clock_hz", "order_seed",
        "readout_threshold",
    ],
)  # fmt: skip
def test_none_leaves_a_setting_out(key: str) -> None:
    assert build_settings({key: None}) == settings_pb2.Settings()


CAMERA_FLAGS: list[tuple[list[str], dict[str, object]]] = [
    (["--input-pooling", "2"], {"input_pooling": [2, 2]}),
    (["--input-pooling", "2,4"], {"input_pooling": [2, 4]}),
    (["--input-pooling", "off"], {}),
    (["--crop", "32,16,64,48"], {"crop": [32, 16, 64, 48]}),
    (["--crop", "off"], {}),
    (["--mirror", "xy"], {"mirror": "xy"}),
    (["--mirror", "off"], {}),
    (["--swap-xy"], {"swap_xy": True}),
    (["--lower-clip", "-0.5"], {"lower_clip": -0.5}),
    (["--lower-clip", "off"], {}),
    (
        ["--readout-threshold", "0", "--readout-average", "16"],
        {"readout_threshold": 0, "readout_average": 16},
    ),
    (["--readout-threshold", "off", "--readout-average", "off"], {}),
    ([], {}),
]


@pytest.mark.parametrize(("flags", "given"), CAMERA_FLAGS)
@pytest.mark.parametrize("command", [["check", "m.nir"], ["run", "m.nir", "r.npz"]])
def test_flags_become_settings(
    command: list[str], flags: list[str], given: dict[str, object]
) -> None:
    settings = build_settings(setting_options(parse([*command, *flags])))

    assert settings_dict(settings) == {**settings_dict(settings_pb2.Settings()), **given}


@pytest.mark.parametrize("flags", [["--crop", "left"], ["--input-pooling", "1.5"], ["--mirror"]])
def test_flags_that_mean_nothing_are_usage_faults(flags: list[str]) -> None:
    with pytest.raises(UsageFault):
        parse(["run", "m.nir", "r.npz", *flags])


@given(st.dictionaries(st.integers(0, 8), st.integers(-(2**31), 2**31 - 1)))
def test_mappings_by_layer_survive_the_wire(layers: dict[int, int]) -> None:
    sent = build_settings({"decimator": layers, "cores": layers}).SerializeToString()

    shown = settings_dict(settings_pb2.Settings.FromString(sent))

    assert shown["decimator"] == shown["cores"] == {str(k): v for k, v in layers.items()}


def test_a_misspelt_setting_names_the_nearest_one() -> None:
    with pytest.raises(speckfarm.BadRequest, match="Did you mean decimator") as caught:
        build_settings({"decimater": {0: 4}})

    assert caught.value.reason == "UNKNOWN_SETTING"
    assert caught.value.metadata["found"] == "decimater"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reset", "none"),
        ("reset", {"first": "zero"}),
        ("lower_clip", "low"),
        ("lower_clip", True),
        ("decimator", 4),
        ("decimator", {0: 2.5}),
        ("decimator", {0: 2**40}),
        ("monitor", 2),
        ("monitor", "2"),
        ("cores", [3]),
        ("polarity", None),
        ("state", 1),
        ("input_pooling", None),
        ("input_pooling", (1, 2, 4)),
        ("input_pooling", 1.5),
        ("crop", (0, 0, 64)),
        ("crop", 64),
        ("crop", "0064"),
        ("crop", (0, 0, 2**40, 1)),
        ("mirror", "yx"),
        ("swap_xy", 1),
        ("order_seed", 1.5),
        ("order_seed", True),
        ("order_seed", 2**63),
        ("readout_threshold", 1.5),
        ("readout_average", None),
    ],
)
def test_a_setting_that_cannot_be_sent_says_what_was_found(key: str, value: object) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        build_settings({key: value})

    assert caught.value.reason == "SETTING_OUT_OF_RANGE"
    assert key in caught.value.message


def test_settings_are_those_of_the_protocol() -> None:
    fields = set(settings_pb2.Settings.DESCRIPTOR.fields_by_name) - {"layer_reset"}
    pairs = {"input_pooling", "mirror"}  # a field for each axis

    assert set(KEYS) - pairs | {f"{key}_{axis}" for key in pairs for axis in "xy"} == fields


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("input_pooling", {"input_pooling": (1, 2)}),
        ("crop", {"crop": (0, 0, 64, 64)}),
        ("mirror", {"mirror": "y"}),
        ("swap_xy", {"swap_xy": True}),
    ],
)
def test_a_camera_setting_is_swept_or_set_but_not_both(
    key: str, settings: dict[str, object]
) -> None:
    with pytest.raises(speckfarm.BadRequest, match=f"{key} is swept and also set"):
        build_axes({key: ["off"]}, build_settings(settings))


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (None, "off"),
        (4, "4"),
        ("zero", "zero"),
        ((0, 2), "0+2"),
        (-1.5, "-1.5"),
        (True, "on"),
        (False, "off"),
    ],
)
def test_sweep_values_become_words(value: object, word: str) -> None:
    assert sweep_word(value) == word


def test_event_arrays_become_one_file_with_offsets_and_labels() -> None:
    arrays = [as_event_array((EVENTS, 7)), as_event_array((EVENTS[:1], 8))]

    stored = np.load(io.BytesIO(recording_file(arrays)))

    assert stored["offsets"].tolist() == [0, 2, 3]
    assert stored["labels"].tolist() == [7, 8]
    assert stored["events"]["t"].tolist() == [5, 9, 5]
    assert stored["events"]["p"].tolist() == [0, 1, 0]


def test_equal_arrays_make_equal_files() -> None:
    first, second = (recording_file([as_event_array(EVENTS)]) for _ in range(2))

    assert first == second


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((3, 4)), "fields t, x, y, p"),
        (EVENTS.reshape(2, 1), "one dimension"),
        (np.array([(0.5, 0, 0, 0)], [(n, "f8") for n in "txyp"]), "whole microseconds"),
        (np.array([(0, 300, 0, 0)], [(n, "i8") for n in "txyp"]), "300 to 300; 0 to 255"),
    ],
)
def test_an_array_that_is_no_recording_says_what_is_wanted(value: object, words: str) -> None:
    with pytest.raises(speckfarm.BadRequest, match=words):
        as_event_array(value)


def test_report_has_exactly_the_fields_of_the_contract() -> None:
    layer = models_pb2.LayerReport(layer=0, name="conv0")
    report = read_report(models_pb2.CheckModelResponse(model="a" * 64, layers=[layer]))

    plain = json.loads(json.dumps(report.to_dict()))

    assert list(plain) == ["model", "chip", "deployable", "findings", "layers"]
    assert list(plain["layers"][0]) == [
        "layer", "name", "core", "kernel_entries", "neuron_entries", "synops_per_event",
        "synops_limit", "sources",
    ]  # fmt: skip
    assert plain["layers"][0]["core"] is None


def test_result_has_exactly_the_fields_of_the_contract() -> None:
    result = Result(None, result_message())  # type: ignore[arg-type] # nothing is fetched

    plain = json.loads(json.dumps(result.to_dict()))

    assert list(plain) == [
        "job", "state", "board", "board_kind", "chip", "model", "configuration", "settings",
        "recordings", "accuracy", "latency", "findings", "timings_ms", "layers",
        "device", "power_w",
    ]  # fmt: skip
    assert list(plain["recordings"][0]) == [
        "recording", "name", "label", "prediction", "counts", "input_events", "output_events",
        "duration_us", "decision_us", "latency", "overrun", "ending", "output_spikes",
        "layers",
    ]  # fmt: skip
    assert list(plain["latency"]) == list(plain["recordings"][0]["latency"]) == LATENCY_KEYS
    assert list(plain["timings_ms"]) == ["queue", "configure", "reset", "run", "collect", "total"]


def test_what_was_not_measured_is_null_never_zero() -> None:
    result = Result(None, result_message())  # type: ignore[arg-type]

    silent = result.to_dict()["recordings"][1]  # type: ignore[index]

    assert silent["decision_us"] is None
    assert silent["latency"]["p50_us"] is None
    assert silent["latency"]["method"] is None


def test_predictions_and_labels_are_arrays_in_the_order_of_the_recordings() -> None:
    result = Result(None, result_message())  # type: ignore[arg-type]

    assert result.predictions.tolist() == [3, -1]
    assert result.labels is not None
    assert result.labels.tolist() == [3, 4]


def test_since_takes_spans_dates_and_datetimes() -> None:
    now = datetime(2026, 3, 8, 12, tzinfo=timezone.utc)

    assert parse_since("7d", now=now) == datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
    assert parse_since(timedelta(hours=1), now=now).hour == 11
    assert parse_since("2026-03-01T00:00:00+00:00", now=now).day == 1
    with pytest.raises(speckfarm.BadRequest, match="wanted: 30m, 24h"):
        parse_since("last week", now=now)
