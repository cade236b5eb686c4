"""Whether recordings fit what a configuration takes: as spikes of its input, or as a camera's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm_server.camera import dvs_configuration, fitting_settings
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration, Destination
from speckfarm_server.errors import BadInput
from speckfarm_server.recording_file import read_recordings
from speckfarm_server.recording_fit import check_fit
from speckfarm_server.recordings import Recordings
from speckfarm_server.settings import Settings
from tests.configurations import configuration, core
from tests.recording_files import EVENTS, columns, npz

SPECK2F = find_chip("speck2f")
CORNERS = [(0, 0, 0, 0), (1, 127, 127, 1)]


def read(rows: list[tuple[int, ...]], offsets: list[int] | None = None) -> Recordings:
    more = {} if offsets is None else {"offsets": offsets}
    return read_recordings(npz(**columns(rows), **more), "a.npz")


def taking(shape: tuple[int, int, int], polarity: str = "keep") -> Configuration:
    return configuration(core(input_shape=shape), polarity=polarity)


def camera(settings: Settings, chip: str = "speck2f") -> Configuration:
    ways = (Destination(core=2),)
    made = configuration(core(input_shape=(2, 64, 64)), chip=chip, inputs=())
    dvs = dvs_configuration(settings, find_chip(chip), ways)
    return replace(made, input_shape=(2, 128, 128), dvs=dvs)


def refusal(recordings: Recordings, taker: Configuration) -> BadInput:
    with pytest.raises(BadInput) as caught:
        check_fit(recordings, taker)
    return caught.value


FITTING = [
    (EVENTS, (2, 5, 34), "keep"),
    (EVENTS, (1, 5, 34), "merge"),
    (EVENTS, (1, 5, 34), "on"),
    (EVENTS, (1, 5, 34), "off"),
    ([(0, 0, 0, 5)], (6, 1, 1), "keep"),
    ([(0, 0, 0, 5)], (1, 1, 1), "merge"),
    ([(0, 0, 0, 0)], (1, 1, 1), "keep"),
]
NOT_FITTING = [
    (EVENTS, (2, 5, 33), "keep", "RECORDING_OUTSIDE_INPUT"),
    (EVENTS, (2, 4, 34), "keep", "RECORDING_OUTSIDE_INPUT"),
    (EVENTS, (1, 5, 34), "keep", "POLARITY_NOT_CHOSEN"),
    (EVENTS, (2, 5, 34), "merge", "POLARITY_MISMATCH"),
    (EVENTS, (2, 5, 34), "on", "POLARITY_MISMATCH"),
    ([(0, 0, 0, 5)], (5, 1, 1), "keep", "RECORDING_OUTSIDE_INPUT"),
    ([(0, 0, 0, 5)], (1, 1, 1), "keep", "RECORDING_OUTSIDE_INPUT"),
    ([(0, 0, 0, 5)], (1, 1, 1), "on", "POLARITY_MISMATCH"),
    ([(0, 0, 0, 0)], (1, 1, 1), "on", "RECORDING_EMPTY"),
    ([(0, 0, 0, 1)], (1, 1, 1), "off", "RECORDING_EMPTY"),
]


@pytest.mark.parametrize(("rows", "shape", "polarity"), FITTING)
def test_recordings_fit_the_input(
    rows: list[tuple[int, ...]], shape: tuple[int, int, int], polarity: str
) -> None:
    check_fit(read(rows), taking(shape, polarity))


@pytest.mark.parametrize(("rows", "shape", "polarity", "reason"), NOT_FITTING)
def test_recordings_that_do_not_fit_the_input_are_refused(
    rows: list[tuple[int, ...]], shape: tuple[int, int, int], polarity: str, reason: str
) -> None:
    assert refusal(read(rows), taking(shape, polarity)).reason == reason


def test_an_event_outside_is_named_with_its_recording() -> None:
    recordings = read([(0, 0, 0, 0), (0, 1, 0, 0), (1, 7, 0, 0)], [0, 1, 3])

    found = refusal(recordings, taking((2, 4, 4)))

    assert found.metadata == {
        "recording": "1",
        "event": "1",
        "found": "x = 7",
        "allowed": "3",
        "fitting": "input_pooling=2 with crop=(0, 0, 8, 8) or crop=(2, 0, 4, 4)",
    }
    assert all(word in found.message for word in ("x = 7", "x = 0 to 3", found.metadata["fitting"]))


def test_both_axes_are_named_with_the_first_event_outside_of_either() -> None:
    recordings = read([(0, 0, 9, 0), (1, 7, 0, 0)])

    found = refusal(recordings, taking((2, 4, 4)))

    assert found.metadata["found"] == "x = 7, y = 9"
    assert found.metadata["event"] == "0"


def test_a_full_sensor_recording_names_the_settings_that_a_smaller_network_needs() -> None:
    found = refusal(read(CORNERS), taking((2, 64, 64)))

    assert "input_pooling=2 or crop=(32, 32, 64, 64)" in found.message


@pytest.mark.parametrize(
    "taker",
    [
        taking((3, 64, 64)),
        replace(
            taking((2, 64, 64)),
            inputs=tuple(Destination(core=number) for number in range(3)),
        ),
    ],
    ids=["three features", "three first layers"],
)
def test_settings_that_the_network_could_not_use_are_not_proposed(taker: Configuration) -> None:
    assert refusal(read(CORNERS), taker).metadata["fitting"] == ""


def test_settings_of_a_camera_are_not_proposed_for_a_recording_of_none() -> None:
    found = refusal(read([(0, 99, 0, 5)]), taking((2, 64, 64)))

    assert "input_pooling" not in found.message


@pytest.mark.parametrize(
    ("size", "extent", "expected"),
    [
        ((64, 64), (128, 128), "input_pooling=2 or crop=(32, 32, 64, 64)"),
        ((32, 32), (128, 128), "input_pooling=4 or crop=(48, 48, 32, 32)"),
        (
            (34, 34),
            (128, 128),
            "input_pooling=2 with crop=(30, 30, 68, 68) or crop=(47, 47, 34, 34)",
        ),
        ((28, 28), (34, 34), "input_pooling=2 with crop=(0, 0, 56, 56) or crop=(3, 3, 28, 28)"),
        ((64, 128), (128, 128), "crop=(0, 32, 128, 64)"),
        ((128, 128), (128, 128), "neither input_pooling nor crop"),
        ((129, 64), (128, 128), ""),
        ((0, 64), (128, 128), ""),
    ],
)
def test_the_settings_that_fit_are_named(
    size: tuple[int, int], extent: tuple[int, int], expected: str
) -> None:
    assert fitting_settings(size, SPECK2F, extent=extent) == expected


@pytest.mark.parametrize("chip", ["speck2f", "speck2b"])
@pytest.mark.parametrize("polarity", ["keep", "merge"])
def test_a_camera_recording_fits_over_the_whole_sensor(chip: str, polarity: str) -> None:
    check_fit(read(CORNERS), camera(Settings(input_pooling=(2, 2), polarity=polarity), chip))


def test_a_camera_recording_has_two_polarities() -> None:
    found = refusal(read([(0, 0, 0, 1), (1, 0, 0, 5)]), camera(Settings(mirror="x")))

    assert found.reason == "RECORDING_OUTSIDE_INPUT"
    assert found.metadata == {"recording": "0", "event": "1", "found": "p = 5", "allowed": "1"}
    assert "swap_xy" in found.message


@given(
    chip=st.sampled_from(["speck2f", "speck2b"]),
    pooling=st.sampled_from([(1, 1), (2, 2), (4, 2)]),
    corner=st.tuples(st.integers(0, 15), st.integers(0, 15)),
    size=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    event=st.tuples(st.integers(0, 127), st.integers(0, 127)),
)
def test_a_recording_whose_events_are_all_cropped_away_is_refused(
    chip: str,
    pooling: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int, int],
    event: tuple[int, int],
) -> None:
    (left, top), (width, height), (x, y) = corner, size, event
    crop = (4 * left, 4 * top, 4 * width, 4 * height)
    settings = Settings(input_pooling=pooling, crop=crop)
    inside = 0 <= x - crop[0] < crop[2] and 0 <= y - crop[1] < crop[3]

    taker = camera(settings, chip)

    if inside:
        check_fit(read([(0, x, y, 0)]), taker)
    else:
        assert refusal(read([(0, x, y, 0)]), taker).reason == "RECORDING_EMPTY"


def test_an_empty_recording_says_what_would_have_passed() -> None:
    recordings = read([(0, 32, 31, 1), (0, 32, 32, 0), (0, 95, 95, 1)], [0, 1, 2, 3])
    settings = Settings(crop=(32, 32, 64, 64), polarity="on")

    found = refusal(recordings, camera(settings))

    assert found.reason == "RECORDING_EMPTY"
    assert found.metadata["recording"] == "0"
    assert found.metadata["empty"] == "2"
    assert "crop and polarity" in found.message
    assert "x = 32 to 95, y = 32 to 95, p = 1" in found.message
