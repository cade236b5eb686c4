"""Rules on the camera layer and the vendor's other keys: both sides of each limit."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm_server.chip import CHIPS, Chip
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.rules.dvs import DVS_RULES, camera_size
from speckfarm_server.rules.tables import RULES, apply_farm_rules, apply_rules
from speckfarm_server.rules.vendor import VENDOR_RULES, allowed_values, field_of
from tests.configurations import configuration, core

SPECK2F, SPECK2B = CHIPS["speck2f"], CHIPS["speck2b"]
HUGE = 1 << 62


def reasons(made: Configuration, chip: Chip = SPECK2B) -> list[str]:
    return [finding.reason for finding in apply_rules(made, chip)]


def _camera(size: tuple[int, int] = (32, 32), **changes: Any) -> Configuration:
    """A camera layer that feeds core 2, which takes 2 features and a map of `size`."""
    changes = {"destinations": (Destination(core=2),), **changes}
    target = core(input_shape=(2, *size))
    return configuration(target, inputs=(), dvs=DvsConfiguration(**changes))


def _unconnected(**changes: Any) -> Configuration:
    return configuration(core(), inputs=(), dvs=DvsConfiguration(**changes))


def _with(key: str, value: int) -> Configuration:
    return configuration(core(), vendor={key: value})


CASES: list[tuple[str, Configuration, Configuration]] = [
    ("DVS_ORIGIN_OUT_OF_RANGE", _unconnected(origin=(127, 0)), _unconnected(origin=(128, 0))),
    ("DVS_ORIGIN_OUT_OF_RANGE", _unconnected(origin=(0, 0)), _unconnected(origin=(0, -1))),
    ("DVS_CUT_OUT_OF_RANGE", _unconnected(cut=(0, 127)), _unconnected(cut=(0, 128))),
    ("DVS_POOLING_UNSUPPORTED", _unconnected(pooling=(1, 4)), _unconnected(pooling=(1, 8))),
    ("DVS_POOLING_UNSUPPORTED", _unconnected(pooling=(2, 4)), _unconnected(pooling=(0, 4))),
    ("DVS_INPUT_SIZE_MISMATCH", _camera((32, 32), cut=(31, 31)), _camera((32, 32), cut=(31, 32))),
    (
        "DVS_DESTINATION_UNSUPPORTED",
        _camera(cut=(31, 31), destinations=(Destination(core=2),)),
        _camera(cut=(31, 31), destinations=(Destination(core=2, feature_shift=1),)),
    ),
    (
        "DVS_DESTINATION_UNSUPPORTED",
        _camera(cut=(31, 31), destinations=(Destination(core=2),)),
        _camera(cut=(31, 31), destinations=(Destination(core=2, pooling=2),)),
    ),
    (
        "DESTINATION_OUT_OF_RANGE",
        _unconnected(destinations=(Destination(core=8, enable=False),)),
        _unconnected(destinations=(Destination(core=9, enable=False),)),
    ),
    (
        "TOO_MANY_DESTINATIONS",
        _unconnected(destinations=(Destination(core=8, enable=False),) * 2),
        _unconnected(destinations=(Destination(core=8, enable=False),) * 3),
    ),
    (
        "VENDOR_VALUE_OUT_OF_RANGE",
        _with("dvs_filter.filter_size.x", 7),
        _with("dvs_filter.filter_size.x", 8),
    ),
    (
        "VENDOR_VALUE_OUT_OF_RANGE",
        _with("value0.readout.p2sInputSelection", 3),
        _with("value0.readout.p2sInputSelection", 4),
    ),
    (
        "VENDOR_VALUE_OUT_OF_RANGE",
        _with("value0.cnnLayers.value3.destinations.value1.pooling", 8),
        _with("value0.cnnLayers.value3.destinations.value1.pooling", 3),
    ),
    (
        "VENDOR_VALUE_OUT_OF_RANGE",
        _with("value0.factoryConfig.cnnLayers.value8.leak.macroRead", 3),
        _with("value0.factoryConfig.cnnLayers.value8.leak.macroRead", 4),
    ),
]


@pytest.mark.parametrize(("reason", "legal", "illegal"), CASES)
def test_camera_rule_speaks_one_step_above_its_limit(
    reason: str, legal: Configuration, illegal: Configuration
) -> None:
    assert reasons(legal) == []
    assert reasons(illegal) == [reason]


def test_every_rule_on_the_camera_layer_is_made_to_speak_here() -> None:
    assert {reason for reason, *_ in CASES} >= {*DVS_RULES, *VENDOR_RULES}


def test_one_chip_crops_sensor_pixels_and_pools_then_the_others_crop_pooled_pixels() -> None:
    sensor_pixels = _camera((16, 32), origin=(32, 0), cut=(95, 63), pooling=(4, 2))
    pooled_pixels = _camera((16, 32), origin=(8, 0), cut=(23, 31), pooling=(4, 2))

    assert reasons(sensor_pixels, SPECK2B) == reasons(pooled_pixels, SPECK2F) == []
    assert reasons(sensor_pixels, SPECK2F) == ["DVS_INPUT_SIZE_MISMATCH"]
    assert reasons(pooled_pixels, SPECK2B) == ["DVS_INPUT_SIZE_MISMATCH"]


@given(
    st.tuples(st.integers(0, 127), st.integers(0, 127)),
    st.tuples(st.integers(0, 127), st.integers(0, 127)),
    st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])),
)
def test_the_camera_map_has_as_many_pixels_as_whole_ones_fit_into_the_crop(
    origin: tuple[int, int], cut: tuple[int, int], pooling: tuple[int, int]
) -> None:
    dvs = DvsConfiguration(origin=origin, cut=cut, pooling=pooling)

    sizes = zip(camera_size(dvs, SPECK2B), origin, cut, pooling, strict=True)

    for size, first, last, pool in sizes:
        if last >= first - 1:
            assert size == len(range(first, last + 1)[: (last + 1 - first) // pool * pool : pool])
        else:
            assert size <= 0


def test_a_cut_beyond_the_pooled_map_means_its_last_pixel() -> None:
    whole = DvsConfiguration(pooling=(2, 4))  # cut 127, as after a reset

    assert camera_size(whole, CHIPS["speck2f"]) == (64, 32)
    assert camera_size(whole, CHIPS["speck2b"]) == (64, 32)


def test_a_crop_that_ends_before_it_begins_matters_only_if_connected() -> None:
    backwards = {"origin": (9, 9), "cut": (3, 3)}

    assert reasons(_unconnected(**backwards)) == []
    assert reasons(_camera(**backwards)) == ["DVS_INPUT_SIZE_MISMATCH"]


def test_swapping_x_and_y_does_not_exchange_height_and_width() -> None:
    made = _camera((16, 32), cut=(15, 31), mirror_diagonal=True)

    (found,) = apply_farm_rules(made, SPECK2B)

    assert reasons(made) == []
    assert (found.reason, found.metadata["height"]) == ("DVS_SWAP_NOT_SQUARE", "16")


def test_camera_events_cannot_enter_the_readout() -> None:
    made = _unconnected(destinations=(Destination(core=12),))

    assert reasons(made, SPECK2F) == ["DESTINATION_OUT_OF_RANGE"]


def test_what_no_validator_is_known_for_is_not_judged() -> None:
    made = _with("value0.readout.p2sInputSelection", 200)

    assert reasons(made, SPECK2F) == reasons(_with("value0.something.new", HUGE)) == []


def test_idle_cores_keep_the_limits_of_every_chip() -> None:
    low = _with("value0.cnn_layers.value7.threshold_low", 1)
    readout = _with("value0.cnn_layers.value7.destinations.value0.layer", 12)

    assert reasons(low, SPECK2F) == reasons(low, SPECK2B) == ["VENDOR_VALUE_OUT_OF_RANGE"]
    assert (reasons(readout, SPECK2F), reasons(readout, SPECK2B)) == (
        [],
        ["VENDOR_VALUE_OUT_OF_RANGE"],
    )


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("value0.dvsFilter.filterBypass?", "dvs_filter.filter_bypass"),
        ("readout.low_pass_filter32_not16", "readout.low_pass_filter32_not16"),
        ("value0.readout.lowPassFilter32Not16?", "readout.low_pass_filter32_not16"),
        ("cnn_layers[3].destinations[1].layer", "cnn_layers.destinations.layer"),
        ("value0.factoryConfig.dvs.currentControlP5", "factory_config.dvs.current_control_p5"),
    ],
)
def test_a_key_is_known_however_it_is_spelled(key: str, field: str) -> None:
    assert field_of(key) == field


def test_every_known_field_is_spelled_as_keys_are_read() -> None:
    for chip in CHIPS.values():
        assert all(field_of(field) == field for field in allowed_values(chip))


@pytest.mark.parametrize("chip", CHIPS.values())
@pytest.mark.parametrize("value", [HUGE, -HUGE, -1, 0])
@pytest.mark.parametrize("name", ["origin", "cut", "pooling"])
def test_hostile_camera_values_are_findings_not_crashes(name: str, value: int, chip: Chip) -> None:
    made = _camera(**{name: (value, value)})

    found = apply_rules(made, chip)

    assert found
    assert all(finding.reason in RULES for finding in found)
    assert all(isinstance(text, str) for f in found for text in f.metadata.values())


def test_no_camera_layer_means_no_finding_about_it() -> None:
    made = replace(_camera(), dvs=None)

    assert reasons(made) == []
