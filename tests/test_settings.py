"""Settings: ranges with advice, one canonical text, and the words a sweep uses."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.chip import DECIMATOR_CODES
from speckfarm_server.convert import settings_message, settings_of
from speckfarm_server.errors import BadInput
from speckfarm_server.settings import KEYS, Settings, from_canonical, with_key

LAYERS = st.integers(0, 8)
POOLINGS = st.sampled_from([1, 2, 4])
HALF = st.integers(1, 64)
LEGAL = st.builds(
    Settings,
    reset=st.none() | st.sampled_from(["subtract", "zero"]),
    layer_reset=st.dictionaries(LAYERS, st.sampled_from(["subtract", "zero"])),
    lower_clip=st.none() | st.floats(-100, -0.01),
    input_dt_us=st.none() | st.floats(0.1, 1e6),
    decimator=st.dictionaries(LAYERS, st.sampled_from(sorted(DECIMATOR_CODES))),
    monitor=st.lists(LAYERS, unique=True).map(lambda found: tuple(sorted(found))),
    cores=st.permutations(range(9)).map(lambda found: {0: found[0], 3: found[1]}),
    polarity=st.sampled_from(["keep", "merge", "on", "off"]),
    input_pooling=st.tuples(POOLINGS, POOLINGS),
    crop=st.none() | st.tuples(HALF, HALF, HALF, HALF),
    mirror=st.sampled_from(["off", "x", "y", "xy"]),
    swap_xy=st.booleans(),
    slow_clock_hz=st.none() | st.floats(10, 10_000),
    state=st.sampled_from(["reset", "keep"]),
    order_seed=st.none() | st.integers(0, 2**63 - 1),
    readout_threshold=st.none() | st.integers(0, 65535),
    readout_average=st.sampled_from([1, 16, 32]),
)


@given(made=LEGAL)
@settings(deadline=None)
def test_canonical_text_reads_back_the_same(made: Settings) -> None:
    assert from_canonical(made.canonical()) == made
    assert from_canonical(made.canonical()).canonical() == made.canonical()


@given(made=LEGAL)
@settings(deadline=None)
def test_settings_survive_the_wire(made: Settings) -> None:
    assert settings_of(settings_message(made)) == made


def test_equal_settings_have_equal_text() -> None:
    one = Settings(decimator={1: 2, 0: 4}, monitor=(2, 1, 2), input_dt_us=1000, slow_clock_hz=50)
    other = Settings(decimator={0: 4, 1: 2}, monitor=(1, 2), input_dt_us=1e3, slow_clock_hz=50.0)

    assert one.canonical() == other.canonical()


def test_every_setting_is_in_the_text() -> None:
    text = json.loads(Settings().canonical())

    assert set(text) == {*KEYS, "layer_reset"}


OUT_OF_RANGE: list[tuple[str, dict[str, Any]]] = [
    ("reset", {"reset": "half"}),
    ("reset.2", {"layer_reset": {2: "half"}}),
    ("reset.9", {"layer_reset": {9: "zero"}}),
    ("lower_clip", {"lower_clip": 0.0}),
    ("lower_clip", {"lower_clip": float("nan")}),
    ("input_dt_us", {"input_dt_us": 0.0}),
    ("input_dt_us", {"input_dt_us": float("inf")}),
    ("decimator.0", {"decimator": {0: 64}}),
    ("decimator.9", {"decimator": {9: 2}}),
    ("monitor", {"monitor": (-1,)}),
    ("cores.0", {"cores": {0: 9}}),
    ("cores.1", {"cores": {0: 3, 1: 3}}),
    ("polarity", {"polarity": "both"}),
    ("input_pooling", {"input_pooling": (3, 1)}),
    ("input_pooling", {"input_pooling": (1, 8)}),
    ("input_pooling", {"input_pooling": (-1, 1)}),
    ("crop", {"crop": (-1, 0, 4, 4)}),
    ("crop", {"crop": (0, 0, 0, 4)}),
    ("crop", {"crop": (0, 0, 4, 0)}),
    ("crop", {"crop": (65, 0, 64, 64)}),
    ("crop", {"crop": (0, 65, 64, 64)}),
    ("mirror", {"mirror": "yx"}),
    ("slow_clock_hz", {"slow_clock_hz": 9.0}),
    ("slow_clock_hz", {"slow_clock_hz": 10_001.0}),
    ("state", {"state": "forget"}),
    ("order_seed", {"order_seed": -1}),
    ("order_seed", {"order_seed": 2**63}),
    ("readout_threshold", {"readout_threshold": -1}),
    ("readout_threshold", {"readout_threshold": 65_536}),
    ("readout_average", {"readout_average": 2}),
]


@pytest.mark.parametrize(("path", "values"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_by_its_path(path: str, values: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        Settings(**values)

    assert refused.value.reason == "SETTING_OUT_OF_RANGE"
    assert [found for found, _ in refused.value.fields] == [path]
    assert path in refused.value.message


def test_all_values_out_of_range_are_named_at_once() -> None:
    with pytest.raises(BadInput) as refused:
        Settings(reset="half", lower_clip=1.0, decimator={0: 3}, cores={0: 9})

    assert {path for path, _ in refused.value.fields} == {
        "reset",
        "lower_clip",
        "decimator.0",
        "cores.0",
    }


def test_a_crop_may_reach_the_last_pixel_of_the_sensor() -> None:
    assert Settings(crop=(64, 0, 64, 128)).crop == (64, 0, 64, 128)


@pytest.mark.parametrize("polarity", ["keep", "merge", "on", "off"])
def test_polarity_alone_is_selected_by_the_host(polarity: str) -> None:
    assert not Settings(polarity=polarity).uses_dvs_layer


@pytest.mark.parametrize(
    "values",
    [{"input_pooling": (1, 2)}, {"crop": (0, 0, 128, 128)}, {"mirror": "x"}, {"swap_xy": True}],
)
def test_each_camera_setting_sends_events_through_the_pre_processing_layer(
    values: dict[str, Any],
) -> None:
    assert Settings(**values).uses_dvs_layer


def test_settings_of_an_earlier_version_have_no_camera_settings() -> None:
    plain = json.loads(Settings(reset="subtract", lower_clip=-1.0).canonical())
    new = ("input_pooling", "crop", "mirror", "swap_xy")

    stored = json.dumps({key: value for key, value in plain.items() if key not in new})

    assert from_canonical(stored) == Settings(reset="subtract", lower_clip=-1.0)


def test_settings_of_an_earlier_version_have_no_order_seed() -> None:
    plain = json.loads(Settings(order_seed=7).canonical())

    del plain["order_seed"]

    assert from_canonical(json.dumps(plain)) == Settings()


def test_settings_of_an_earlier_version_have_no_readout() -> None:
    plain = json.loads(Settings(readout_threshold=7, readout_average=16).canonical())

    del plain["readout_threshold"], plain["readout_average"]

    assert from_canonical(json.dumps(plain)) == Settings()


WORDS: list[tuple[str, str, Settings]] = [
    ("reset", "zero", Settings(reset="zero")),
    ("reset.1", "zero", Settings(layer_reset={1: "zero"})),
    ("reset", "off", Settings()),
    ("lower_clip", "-2.5", Settings(lower_clip=-2.5)),
    ("lower_clip", "off", Settings()),
    ("input_dt_us", "1000", Settings(input_dt_us=1000.0)),
    ("input_dt_us", "off", Settings()),
    ("decimator.0", "4", Settings(decimator={0: 4})),
    ("decimator.0", "off", Settings()),
    ("monitor", "0+2", Settings(monitor=(0, 2))),
    ("monitor", "off", Settings()),
    ("cores.0", "7", Settings(cores={0: 7})),
    ("polarity", "merge", Settings(polarity="merge")),
    ("input_pooling", "2", Settings(input_pooling=(2, 2))),
    ("input_pooling", "2+4", Settings(input_pooling=(2, 4))),
    ("input_pooling", "off", Settings()),
    ("crop", "32+16+64+48", Settings(crop=(32, 16, 64, 48))),
    ("crop", "off", Settings()),
    ("mirror", "xy", Settings(mirror="xy")),
    ("mirror", "off", Settings()),
    ("swap_xy", "on", Settings(swap_xy=True)),
    ("swap_xy", "off", Settings()),
    ("slow_clock_hz", "100", Settings(slow_clock_hz=100.0)),
    ("slow_clock_hz", "off", Settings()),
    ("state", "keep", Settings(state="keep")),
    ("order_seed", "0", Settings(order_seed=0)),
    ("order_seed", "off", Settings()),
    ("readout_threshold", "5", Settings(readout_threshold=5)),
    ("readout_threshold", "off", Settings()),
    ("readout_average", "16", Settings(readout_average=16)),
    ("readout_average", "off", Settings()),
]


@pytest.mark.parametrize(("key", "value", "wanted"), WORDS)
def test_a_setting_is_set_from_words(key: str, value: str, wanted: Settings) -> None:
    assert with_key(Settings(), key, value) == wanted


def test_a_key_replaces_what_was_set_before() -> None:
    before = Settings(decimator={0: 4, 1: 8})

    assert with_key(before, "decimator.0", "off") == Settings(decimator={1: 8})
    assert with_key(before, "decimator.0", "2") == Settings(decimator={0: 2, 1: 8})


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("decimater.0", "4", "UNKNOWN_SETTING"),
        ("polarity.0", "on", "UNKNOWN_SETTING"),
        ("decimator", "4", "SETTING_OUT_OF_RANGE"),
        ("decimator.0", "four", "SETTING_OUT_OF_RANGE"),
        ("decimator.zero", "4", "SETTING_OUT_OF_RANGE"),
        ("decimator.0", "3", "SETTING_OUT_OF_RANGE"),
        ("lower_clip", "low", "SETTING_OUT_OF_RANGE"),
        ("lower_clip", "0", "SETTING_OUT_OF_RANGE"),
        ("input_pooling", "3", "SETTING_OUT_OF_RANGE"),
        ("input_pooling", "1+2+4", "SETTING_OUT_OF_RANGE"),
        ("input_pooling", "2,4", "SETTING_OUT_OF_RANGE"),
        ("crop", "32", "SETTING_OUT_OF_RANGE"),
        ("crop", "0+0+64+129", "SETTING_OUT_OF_RANGE"),
        ("mirror", "z", "SETTING_OUT_OF_RANGE"),
        ("swap_xy", "True", "SETTING_OUT_OF_RANGE"),
        ("crop.0", "off", "UNKNOWN_SETTING"),
        ("slow_clock_hz", "fast", "SETTING_OUT_OF_RANGE"),
        ("monitor", "0,1", "SETTING_OUT_OF_RANGE"),
        ("order_seed", "1.5", "SETTING_OUT_OF_RANGE"),
        ("order_seed", "-1", "SETTING_OUT_OF_RANGE"),
        ("order_seed", str(2**63), "SETTING_OUT_OF_RANGE"),
        ("order_seed.0", "1", "UNKNOWN_SETTING"),
        ("readout_threshold", "65536", "SETTING_OUT_OF_RANGE"),
        ("readout_average", "8", "SETTING_OUT_OF_RANGE"),
    ],
)
def test_wrong_words_are_refused(key: str, value: str, reason: str) -> None:
    with pytest.raises(BadInput) as refused:
        with_key(Settings(), key, value)

    assert refused.value.reason == reason


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean decimator"):
        with_key(Settings(), "decimater.0", "4")
