"""The event pre-processing layer as settings: what the chip is told, and what is refused."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm_server.build import build_configuration, integers_of
from speckfarm_server.camera import dvs_configuration, sensor_window, size_after_layer
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration, DvsConfiguration
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import INPUT, Network, Source
from speckfarm_server.rules.camera import CAMERA_RULES, check_camera, explained_by
from speckfarm_server.settings import Settings
from tests.networks import conv, linear, network

CHIPS = ("speck2f", "speck2b")
SIXTEENTHS = st.integers(0, 15)


def taking(features: int, height: int, width: int) -> Network:
    return network((features, height, width), conv(2, 3, stride=4), conv(2, 3))


def fed_by_input(count: int) -> Network:
    """That many first layers, and one that adds them up."""
    one = network((2, 64, 64), *[conv(2, 3, stride=2)] * (count + 1))
    firsts = [replace(one.layers[0], name=f"first{number}") for number in range(count)]
    sources = tuple(Source(layer=number) for number in range(count))
    return replace(one, layers=(*firsts, replace(one.layers[1], sources=sources)))


def built(made: Network, chip: str, **settings: Any) -> Configuration:
    values = Settings(**settings)
    integers = integers_of(made, values)
    cores = tuple(range(2, 2 + len(made.layers)))
    return build_configuration(made, integers, cores, chip=find_chip(chip), settings=values)


def dvs_of(chip: str, **settings: Any) -> DvsConfiguration:
    dvs = built(taking(2, 64, 64), chip, **settings).dvs
    assert dvs is not None
    return dvs


def judged(made: Network, chip: str = "speck2f", **settings: Any) -> list[Finding]:
    return check_camera(made, find_chip(chip), Settings(**settings))


def reasons(made: Network, chip: str = "speck2f", **settings: Any) -> list[str]:
    return [found.reason for found in judged(made, chip, **settings)]


def test_a_chip_that_pools_first_is_told_pooled_pixels() -> None:
    dvs = dvs_of("speck2f", input_pooling=(2, 4), crop=(32, 16, 64, 96))

    assert dvs.pooling == (2, 4)
    assert dvs.origin == (16 // 2, 32 // 4)
    assert dvs.cut == ((16 + 96) // 2 - 1, (32 + 64) // 4 - 1)


def test_a_chip_that_crops_first_is_told_sensor_pixels() -> None:
    dvs = dvs_of("speck2b", input_pooling=(2, 4), crop=(32, 16, 64, 96))

    assert (dvs.pooling, dvs.origin, dvs.cut) == ((2, 4), (16, 32), (111, 95))


@pytest.mark.parametrize(("chip", "last"), [("speck2f", 63), ("speck2b", 127)])
def test_without_a_crop_the_whole_sensor_passes(chip: str, last: int) -> None:
    dvs = dvs_of(chip, input_pooling=(2, 2))

    assert (dvs.origin, dvs.cut) == ((0, 0), (last, last))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mirror": "x"}, {"mirror": (False, True), "mirror_diagonal": False}),
        ({"mirror": "y"}, {"mirror": (True, False), "mirror_diagonal": False}),
        ({"mirror": "xy"}, {"mirror": (True, True), "mirror_diagonal": False}),
        ({"swap_xy": True}, {"mirror": (False, False), "mirror_diagonal": True}),
        ({"mirror": "x", "polarity": "keep"}, {"merge": False, "features": 2}),
        ({"mirror": "x", "polarity": "merge"}, {"merge": True, "features": 1}),
        (
            {"mirror": "x", "polarity": "on"},
            {"merge": True, "on_channel": True, "off_channel": False},
        ),
        (
            {"mirror": "x", "polarity": "off"},
            {"merge": True, "on_channel": False, "off_channel": True},
        ),
    ],
)
def test_mirror_swap_and_polarity_are_fields_of_the_layer(
    settings: dict[str, Any], expected: dict[str, object]
) -> None:
    dvs = dvs_of("speck2f", **settings)

    assert {name: getattr(dvs, name) for name in expected} == expected
    assert not dvs.pass_sensor_events


def test_events_enter_through_the_layer_or_the_cores_never_both() -> None:
    through = built(taking(2, 64, 64), "speck2f", input_pooling=(2, 2), polarity="keep")
    beside = built(taking(2, 64, 64), "speck2f")

    assert through.dvs is not None
    assert [to.core for to in through.dvs.destinations] == [to.core for to in beside.inputs] == [2]
    assert through.inputs == ()
    assert through.input_shape == (2, 128, 128)
    assert beside.dvs is None


def test_polarity_alone_is_the_hosts_and_with_camera_settings_the_chips() -> None:
    host = built(taking(1, 64, 64), "speck2f", polarity="on")
    chip = built(taking(1, 64, 64), "speck2f", polarity="on", crop=(0, 0, 64, 64))

    assert (host.dvs, host.polarity) == (None, "on")
    assert (chip.dvs is not None, chip.polarity) == (True, "keep")


@given(
    chip=st.sampled_from(CHIPS),
    pooling=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])),
    corner=st.tuples(SIXTEENTHS, SIXTEENTHS),
    size=st.tuples(st.integers(1, 16), st.integers(1, 16)),
)
def test_the_window_of_an_aligned_crop_is_the_crop(
    chip: str, pooling: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    (left, top), (width, height) = corner, size
    crop = (4 * left, 4 * top, 4 * width, 4 * height)
    settings = Settings(input_pooling=pooling, crop=crop)

    rows, columns = sensor_window(dvs_configuration(settings, find_chip(chip), ()), find_chip(chip))

    assert (columns.start, rows.start, len(columns), len(rows)) == crop
    assert size_after_layer(settings, find_chip(chip)) == (
        len(rows) // pooling[0],
        len(columns) // pooling[1],
    )


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((2, 64, 64), {"input_pooling": (2, 2)}),
        ((1, 64, 64), {"input_pooling": (2, 2), "polarity": "merge"}),
        ((2, 64, 64), {"crop": (32, 32, 64, 64), "mirror": "xy", "swap_xy": True}),
        ((2, 32, 16), {"input_pooling": (2, 4), "crop": (32, 32, 64, 64)}),
        ((2, 128, 128), {"mirror": "x"}),
    ],
)
def test_settings_that_give_what_the_network_takes_are_fine(
    shape: tuple[int, int, int], settings: dict[str, Any], chip: str
) -> None:
    assert reasons(taking(*shape), chip, **settings) == []


@pytest.mark.parametrize("polarity", ["keep", "merge", "on", "off"])
def test_without_camera_settings_no_camera_rule_speaks(polarity: str) -> None:
    assert reasons(taking(3, 34, 20), polarity=polarity) == []


def test_a_crop_through_pooled_pixels_names_the_nearest_aligned_one() -> None:
    [found] = judged(taking(2, 32, 32), input_pooling=(2, 2), crop=(31, 33, 63, 65))

    assert found.reason == "CROP_NOT_ALIGNED"
    assert found.severity is Severity.ERROR
    assert found.metadata == {
        "crop": "(31, 33, 63, 65)",
        "pooling_y": "2",
        "pooling_x": "2",
        "nearest": "(32, 34, 64, 66)",
    }
    assert "crop=(32, 34, 64, 66)" in found.message


def test_a_chip_that_crops_first_takes_any_corner_but_whole_pooled_pixels() -> None:
    settings = {"input_pooling": (2, 2), "crop": (31, 33, 64, 64)}

    assert reasons(taking(2, 32, 32), "speck2b", **settings) == []
    assert reasons(taking(2, 32, 32), "speck2f", **settings) == ["CROP_NOT_ALIGNED"]
    [found] = judged(taking(2, 32, 32), "speck2b", input_pooling=(2, 2), crop=(31, 33, 63, 64))
    assert found.reason == "CROP_NOT_ALIGNED"
    assert found.metadata["nearest"] == "(31, 33, 64, 64)"


@given(
    chip=st.sampled_from(CHIPS),
    pooling=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])),
    corner=st.tuples(st.integers(0, 127), st.integers(0, 127)),
    size=st.tuples(st.integers(1, 128), st.integers(1, 128)),
)
def test_the_nearest_crop_is_aligned_on_the_sensor_and_near(
    chip: str, pooling: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    (left, top), (width, height) = corner, size
    crop = (left, top, min(width, 128 - left), min(height, 128 - top))
    found = [
        each
        for each in judged(taking(2, 32, 32), chip, input_pooling=pooling, crop=crop)
        if each.reason == "CROP_NOT_ALIGNED"
    ]

    for each in found:
        nearest = tuple(map(int, each.metadata["nearest"].strip("()").split(",")))
        settings = {
            "input_pooling": pooling,
            "crop": nearest,
        }  # Settings refuses one off the sensor
        assert "CROP_NOT_ALIGNED" not in reasons(taking(2, 32, 32), chip, **settings)
        assert max(abs(a - b) for a, b in zip(nearest, crop, strict=True)) < 2 * max(pooling)


def test_a_swap_needs_a_square_map() -> None:
    square = {"crop": (0, 0, 64, 64), "swap_xy": True}

    assert reasons(taking(2, 64, 64), **square) == []
    assert reasons(taking(2, 32, 64), crop=(0, 0, 64, 32), swap_xy=True) == ["SWAP_NOT_SQUARE"]
    assert reasons(taking(2, 64, 32), crop=(0, 0, 64, 32), swap_xy=True) == ["SWAP_NOT_SQUARE"]
    assert "SWAP_NOT_SQUARE" in reasons(taking(2, 32, 16), input_pooling=(2, 4), **square)
    assert reasons(taking(2, 32, 64), crop=(0, 0, 64, 32)) == []


@pytest.mark.parametrize(
    ("features", "polarity", "advice"),
    [
        (1, "keep", "merge (both), on or off"),
        (2, "merge", "polarity = keep"),
        (2, "on", "polarity = keep"),
        (3, "keep", "leave out input_pooling, crop, mirror and swap_xy"),
        (3, "off", "leave out input_pooling, crop, mirror and swap_xy"),
    ],
)
def test_features_that_polarity_does_not_give_name_the_one_that_does(
    features: int, polarity: str, advice: str
) -> None:
    [found] = judged(taking(features, 64, 64), input_pooling=(2, 2), polarity=polarity)

    assert found.reason == "CAMERA_FEATURES_MISMATCH"
    assert found.metadata["expected"] == str(features)
    assert advice in found.message


@pytest.mark.parametrize(
    ("size", "settings", "advice"),
    [
        ((64, 64), {"mirror": "x"}, "Use input_pooling=2 or crop=(32, 32, 64, 64)"),
        ((64, 64), {"input_pooling": (4, 4)}, "Use input_pooling=2 or crop=(32, 32, 64, 64)"),
        ((128, 128), {"input_pooling": (2, 2)}, "Use neither input_pooling nor crop"),
        ((130, 130), {"mirror": "y"}, "Use a network with a smaller input"),
    ],
)
def test_a_size_that_does_not_arrive_names_the_settings_that_fit(
    size: tuple[int, int], settings: dict[str, Any], advice: str
) -> None:
    [found] = judged(taking(2, *size), **settings)

    assert found.reason == "CAMERA_SIZE_MISMATCH"
    assert (found.metadata["expected_height"], found.metadata["expected_width"]) == (
        str(size[0]),
        str(size[1]),
    )
    assert advice in found.message


@given(
    height=st.integers(3, 128),
    width=st.integers(3, 128),
    chip=st.sampled_from(CHIPS),
)
def test_every_setting_that_is_proposed_fits(height: int, width: int, chip: str) -> None:
    made = taking(2, height, width)
    proposed = [
        option
        for found in judged(made, chip, mirror="x")
        for option in found.metadata["fitting"].split(" or ")
    ]

    for option in proposed:
        words = re.findall(r"(\w+)=(\([^)]*\)|\d+)", option)
        settings = {key: ast.literal_eval(value) for key, value in words}
        pooling = settings.pop("input_pooling", 1)
        assert reasons(made, chip, input_pooling=(pooling, pooling), **settings) == []
    assert proposed or (height, width) == (128, 128)


def test_the_layer_feeds_two_layers_and_recorded_spikes_any_number() -> None:
    settings = {"input_pooling": (2, 2)}

    [found] = judged(fed_by_input(3), **settings)

    assert found.reason == "CAMERA_TOO_MANY_DESTINATIONS"
    assert found.metadata == {"layers": "0, 1, 2", "destinations": "3", "largest": "2"}
    assert reasons(fed_by_input(2), **settings) == []
    assert reasons(fed_by_input(3)) == []
    assert len(built(fed_by_input(3), "speck2f").inputs) == 3


def test_camera_events_arrive_from_feature_0_on() -> None:
    made = network((2, 64, 64), conv(2, 3, padding=1), conv(2, 3), linear(2))
    sources = (Source(layer=0), Source(layer=INPUT, feature_shift=2))
    made = replace(
        made, layers=(made.layers[0], replace(made.layers[1], sources=sources), made.layers[2])
    )

    [found] = judged(made, input_pooling=(2, 2))

    assert found.reason == "CAMERA_FEATURE_SHIFT"
    assert found.metadata == {"layer": "1", "feature_shift": "2"}


def test_all_faults_come_at_once_and_none_with_a_layer() -> None:
    found = judged(fed_by_input(3), mirror="x", polarity="merge")

    assert [each.reason for each in found] == [
        "CAMERA_FEATURES_MISMATCH",
        "CAMERA_SIZE_MISMATCH",
        "CAMERA_TOO_MANY_DESTINATIONS",
    ]
    assert {each.layer for each in found} == {None}


def test_what_a_fault_causes_in_the_configuration_is_known_by_layer() -> None:
    made = fed_by_input(3)

    explained = explained_by(judged(made, mirror="x"), made)

    assert (None, "TOO_MANY_DESTINATIONS") in explained
    assert {layer for layer, reason in explained if reason == "DVS_INPUT_SIZE_MISMATCH"} == {
        0,
        1,
        2,
    }
    assert explained_by([], made) == set()


def test_every_number_of_a_message_is_in_the_metadata() -> None:
    cases = [
        judged(taking(2, 32, 32), input_pooling=(2, 4), crop=(31, 33, 63, 65)),
        judged(taking(1, 32, 64), crop=(0, 0, 64, 34), swap_xy=True),
        judged(fed_by_input(3), mirror="x", polarity="merge"),
    ]

    every = [found for case in cases for found in case]
    assert {found.reason for found in every} == set(CAMERA_RULES) - {"CAMERA_FEATURE_SHIFT"}
    for found in every:
        listed = " ".join(found.metadata.values())
        digits = {word.strip(".,;:()=") for word in found.message.split()}
        missing = {w for w in digits if w.isdigit() and w not in listed}
        assert missing == set(), found.message
