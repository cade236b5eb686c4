"""Whether recordings fit what a configuration takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import TIME_SHIFT
from speckfarm_server.camera import CAMERA_SETTINGS, fitting_settings, sensor_window
from speckfarm_server.chip import LONGEST_REAL_US, find_chip
from speckfarm_server.configuration import Configuration, DvsConfiguration
from speckfarm_server.errors import BadInput
from speckfarm_server.recordings import POLARITY_OF, Recordings, features_of, x_of, y_of

BoolArray: TypeAlias = NDArray[np.bool_]


def check_fit(recordings: Recordings, configuration: Configuration) -> None:
    """Raise BadInput if recordings do not fit: all faults, under the reason of the first.

    POLARITY_NOT_CHOSEN, POLARITY_MISMATCH, RECORDING_OUTSIDE_INPUT, RECORDING_EMPTY.
    """
    find = _spike_problems if configuration.dvs is None else _camera_problems
    problems = list(find(recordings, configuration))
    if len(problems) == 1:
        raise problems[0]
    if problems:
        message = ". ".join(problem.message for problem in problems)
        fields = [field for problem in problems for field in problem.fields]
        raise BadInput(problems[0].reason, message, fields=fields, problems=len(problems))


def check_length(recordings: Recordings) -> None:
    """Whether a devkit's stamps last for every recording; BadInput RECORDING_TOO_LONG."""
    first = recordings.packed[recordings.offsets[:-1]] >> np.uint64(TIME_SHIFT)
    last = recordings.packed[recordings.offsets[1:] - 1] >> np.uint64(TIME_SHIFT)
    length_us = (last - first).astype(np.int64)
    if not len(length_us) or length_us.max() <= LONGEST_REAL_US:
        return
    number = int(length_us.argmax())
    text = (
        f"{_named(recordings, number)} lasts {length_us[number] / 1e6:,.0f} s. A real board stamps "
        f"with 32 bits of microseconds, and what follows the last is not known, so it takes "
        f"{LONGEST_REAL_US / 1e6:,.0f} s. Cut it, or run it on a simulated board (kind=simulated)"
    )
    raise BadInput(
        "RECORDING_TOO_LONG",
        text,
        found_us=int(length_us[number]),
        allowed_us=LONGEST_REAL_US,
        recording=recordings.names[number],
    )


def _spike_problems(recordings: Recordings, configuration: Configuration) -> Iterator[BadInput]:
    """Events enter the first layers as they are."""
    polarity, features = configuration.polarity, configuration.input_shape[0]
    if polarity == "keep":
        yield from _check_features(recordings, features)
    else:
        yield from _check_polarity(recordings, features, polarity)
    yield from _check_size(recordings, configuration)
    if polarity in POLARITY_OF:
        kept = features_of(recordings.packed) == POLARITY_OF[polarity]
        advice = "Use merge or leave them out"
        yield from _check_left(recordings, kept, what=f"of polarity {polarity}", advice=advice)


def _camera_problems(recordings: Recordings, configuration: Configuration) -> Iterator[BadInput]:
    """Events enter the event pre-processing layer, as those of a camera."""
    yield from _check_size(recordings, configuration)
    if recordings.features[-1] > 1:
        beyond = features_of(recordings.packed) > 1
        number, event = _first(recordings, beyond)
        largest = recordings.features[-1]
        yield BadInput(
            "RECORDING_OUTSIDE_INPUT",
            f"The recording goes up to p = {largest}, but a camera's events have p = 0 (OFF) or 1 "
            f"(ON); first at event {event} of {_named(recordings, number)}. Without "
            f"{CAMERA_SETTINGS} a recording need not be a camera's",
            recording=number,
            event=event,
            found=f"p = {largest}",
            allowed=1,
        )
        return
    dvs = configuration.dvs
    if dvs is not None:
        yield from _check_passing(recordings, dvs, configuration.chip)


def _check_passing(recordings: Recordings, dvs: DvsConfiguration, chip: str) -> Iterator[BadInput]:
    """Something of every recording passes polarity and crop."""
    rows, columns = sensor_window(dvs, find_chip(chip))
    kept = np.ones(len(recordings.packed), np.bool_)
    passing = []
    for axis, values, largest, window in (
        ("x", x_of, recordings.max_x, columns),
        ("y", y_of, recordings.max_y, rows),
    ):
        if window.start > 0 or largest >= window.stop:
            kept &= _is_within(values(recordings.packed), window)
            passing.append(f"{axis} = {window.start} to {window.stop - 1}")
    for polarity, passes in enumerate((dvs.off_channel, dvs.on_channel)):
        if not passes:
            kept &= features_of(recordings.packed) != polarity
            passing.append(f"p = {1 - polarity}")
    what = f"that crop and polarity let pass ({', '.join(passing)})"
    advice = "Use a larger crop, polarity merge or keep, or leave those recordings out"
    yield from _check_left(recordings, kept, what=what, advice=advice)


def _is_within(values: NDArray[np.uint64], window: range) -> BoolArray:
    within: BoolArray = (values >= window.start) & (values < window.stop)
    return within


def _check_features(recordings: Recordings, features: int) -> Iterator[BadInput]:
    largest = recordings.features[-1]
    if largest < features:
        return
    if features == 1 and largest == 1:
        yield BadInput(
            "POLARITY_NOT_CHOSEN",
            "The recording has two polarities, p = 0 (OFF) and 1 (ON), but the network's input has "
            "one feature. Choose polarity merge (both), on or off",
            fields=[("settings.polarity", "merge, on or off is wanted")],
            found="keep",
            allowed="merge, on, off",
        )
        return
    number, event = _first(recordings, features_of(recordings.packed) >= features)
    yield BadInput(
        "RECORDING_OUTSIDE_INPUT",
        f"The recording goes up to p = {largest}, but the network's input takes p = 0 to "
        f"{features - 1}; first at event {event} of {_named(recordings, number)}. Number the "
        "events' p as the network's input features",
        recording=number,
        event=event,
        found=f"p = {largest}",
        allowed=features - 1,
    )


def _check_polarity(recordings: Recordings, features: int, polarity: str) -> Iterator[BadInput]:
    text = ""
    if features != 1:
        text = f"gives events of one feature, but the network's input has {features}: use keep"
    elif polarity in POLARITY_OF and recordings.features[-1] > 1:
        text = f"needs p = 0 (OFF) or 1 (ON), but p goes up to {recordings.features[-1]}: use merge"
    if text:
        yield BadInput(
            "POLARITY_MISMATCH",
            f"Polarity {polarity} {text}",
            fields=[("settings.polarity", text)],
            found=polarity,
            input_features=features,
            largest_p=recordings.features[-1],
        )


def _check_size(recordings: Recordings, configuration: Configuration) -> Iterator[BadInput]:
    _, height, width = configuration.input_shape
    outside = np.zeros(len(recordings.packed), np.bool_)
    found, allowed = [], []
    for axis, values, largest, size in (
        ("x", x_of, recordings.max_x, width),
        ("y", y_of, recordings.max_y, height),
    ):
        if largest >= size:
            outside |= values(recordings.packed) >= size
            found.append(f"{axis} = {largest}")
            allowed.append((axis, size - 1))
    if not found:
        return
    number, event = _first(recordings, outside)
    takes = " and ".join(f"{axis} = 0 to {last}" for axis, last in allowed)
    fitting = _fitting(recordings, configuration)
    yield BadInput(
        "RECORDING_OUTSIDE_INPUT",
        f"The recording goes up to {' and '.join(found)}, but the network's input takes {takes}; "
        f"first at event {event} of {_named(recordings, number)}. Crop or scale the recording"
        + (f", or let the chip do it: {fitting}" if fitting else ""),
        recording=number,
        event=event,
        found=", ".join(found),
        allowed=", ".join(str(last) for _, last in allowed),
        fitting=fitting,
    )


def _fitting(recordings: Recordings, configuration: Configuration) -> str:
    """Settings that would make a camera's recording fit; "" if it is none or nothing does."""
    chip = find_chip(configuration.chip)
    features, height, width = configuration.input_shape
    if (
        configuration.dvs is not None
        or max(recordings.features[-1], features - 1) > 1
        or len(configuration.inputs) > chip.dvs_destinations
    ):
        return ""
    extent = (recordings.max_y + 1, recordings.max_x + 1)
    return fitting_settings((height, width), chip, extent=extent)


def _check_left(
    recordings: Recordings, kept: BoolArray, *, what: str, advice: str
) -> Iterator[BadInput]:
    empty = np.flatnonzero(~np.logical_or.reduceat(kept, recordings.offsets[:-1]))
    if len(empty):
        number = int(empty[0])
        yield BadInput(
            "RECORDING_EMPTY",
            f"No events {what} in {_named(recordings, number)}; {len(empty)} of {len(recordings)} "
            f"recordings have none. {advice}",
            recording=number,
            found=0,
            allowed=">= 1",
            passing=what,
            empty=len(empty),
        )


def _first(recordings: Recordings, where: BoolArray) -> tuple[int, int]:
    """Recording and event within it of the first True."""
    event = int(np.argmax(where))
    number = int(np.searchsorted(recordings.offsets, event, "right")) - 1
    return number, event - int(recordings.offsets[number])


def _named(recordings: Recordings, number: int) -> str:
    return f"recording {number} ({recordings.names[number]!r})"
