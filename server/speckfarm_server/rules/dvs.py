"""Rules on the camera layer.

Sources: the vendor's validator in samna 0.7.1 (chip speck2b), probed; the Speck Dev Kit Datasheet
of August 2023, section 3. Which features camera events are is a rule of `link_rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration, DvsConfiguration
from speckfarm_server.rules.fan_in import LinkProblem, LinkRule, dvs_targets


def origin(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """The crop begins on the sensor."""
    if configuration.dvs is not None:
        yield from _pixels("Crop begins", "origin", configuration.dvs.origin, chip)


def cut(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """The crop ends on the sensor."""
    if configuration.dvs is not None:
        yield from _pixels("Crop ends", "cut", configuration.dvs.cut, chip)


def dvs_pooling(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """1, 2 or 4, each axis by itself."""
    if configuration.dvs is None:
        return
    y, x = configuration.dvs.pooling
    if not {y, x} <= set(chip.dvs_poolings):
        allowed = ", ".join(map(str, chip.dvs_poolings))
        text = f"Camera pools by {y} x {x} (y, x); each must be one of {allowed}. Use one of these."
        yield None, (text, {"pooling_y": y, "pooling_x": x, "allowed": allowed})


def dvs_input_size(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """A core that camera events reach takes a map of the size of the crop."""
    for target in dvs_targets(configuration, chip):
        if configuration.dvs is None:
            continue
        height, width = camera_size(configuration.dvs, chip)
        if (height, width) != target.input_shape[1:]:
            wanted_height, wanted_width = target.input_shape[1:]
            text = (
                f"Camera map is {height} x {width} (h, w) after crop and pooling, but "
                f"{target.name} takes {wanted_height} x {wanted_width}. Crop or pool otherwise."
            )
            figures = {"height": height, "width": width, "target_core": target.core}
            wanted = {"expected_height": wanted_height, "expected_width": wanted_width}
            yield target.layer, (text, {**figures, **wanted})


def dvs_destination(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """Destinations of the camera layer neither pool nor shift: the chip has no field for it."""
    for to in configuration.dvs.destinations if configuration.dvs else ():
        if to.pooling != 1 or to.feature_shift != 0:
            text = (
                f"Camera events reach core {to.core} with pooling {to.pooling} and feature shift "
                f"{to.feature_shift}; only 1 and 0 exist there. Pool in the camera layer, and let "
                "other sources take the features above."
            )
            figures = {"destination": to.core, "pooling": to.pooling}
            yield None, (text, {**figures, "feature_shift": to.feature_shift})


DVS_RULES: Mapping[str, LinkRule] = {
    "DVS_ORIGIN_OUT_OF_RANGE": origin,
    "DVS_CUT_OUT_OF_RANGE": cut,
    "DVS_POOLING_UNSUPPORTED": dvs_pooling,
    "DVS_INPUT_SIZE_MISMATCH": dvs_input_size,
    "DVS_DESTINATION_UNSUPPORTED": dvs_destination,
}


def camera_size(dvs: DvsConfiguration, chip: Chip) -> tuple[int, int]:
    """Height and width of what leaves the layer; a swap of x and y does not count (samna 0.7.1).

    Where a chip pools first, a cut beyond the pooled map means its last pixel: an assumption, which
    `Assumptions.camera_pooling` names too.
    """
    height, width = (_length(dvs, chip, axis) for axis in (0, 1))
    return height, width


def _length(dvs: DvsConfiguration, chip: Chip, axis: int) -> int:
    first, last, pooling = dvs.origin[axis], dvs.cut[axis], dvs.pooling[axis]
    if chip.dvs_crops_first:
        return _quotient(last - first + 1, pooling)
    return min(last, chip.sensor_size // max(1, pooling) - 1) - first + 1


def _pixels(what: str, name: str, found: tuple[int, int], chip: Chip) -> Iterator[LinkProblem]:
    y, x = found
    last = chip.sensor_size - 1
    if not (0 <= y <= last and 0 <= x <= last):
        text = f"{what} at {y}, {x} (y, x); 0 to {last} is allowed. Correct it."
        yield None, (text, {f"{name}_y": y, f"{name}_x": x, "smallest": 0, "largest": last})


def _quotient(size: int, pooling: int) -> int:
    """Rounded towards zero: the vendor's validator divides as C does."""
    return size // pooling if size >= 0 else -(-size // pooling)
