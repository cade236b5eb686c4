"""Rules on the settings of the event pre-processing layer, and on the network that it feeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from speckfarm.events import ECHO
from speckfarm_server.camera import CAMERA_SETTINGS, fitting_settings, size_after_layer
from speckfarm_server.chip import Chip
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import INPUT, Network
from speckfarm_server.rules.core import Problem
from speckfarm_server.rules.tables import finding
from speckfarm_server.settings import Settings

CameraRule: TypeAlias = Callable[[Network, Chip, Settings], Iterator[Problem]]
_Crop: TypeAlias = tuple[int, int, int, int]  # left, top, width, height


def check_camera(network: Network, chip: Chip, settings: Settings) -> list[Finding]:
    """Every violation of these rules: of those on the layer only if the settings use it."""
    if not network.layers:
        return []
    rules = CAMERA_RULES if settings.uses_dvs_layer else NO_CAMERA_RULES
    return [
        finding(reason, Severity.ERROR, None, *problem)
        for reason, rule in rules.items()
        for problem in rule(network, chip, settings)
    ]


def crop_aligned(_: Network, chip: Chip, settings: Settings) -> Iterator[Problem]:
    """A pooled pixel is inside the crop or outside.

    A chip that pools first is told pooled pixels, so all four numbers count; one that crops first
    takes any corner, but nobody knows what it does with a last pixel that is not whole.
    """
    if _is_aligned(chip, settings) or settings.crop is None:
        return
    found, nearest = settings.crop, _nearest(settings.crop, chip, settings.input_pooling)
    numbers = "width and height" if chip.dvs_crops_first else "left, top, width and height"
    y, x = settings.input_pooling
    text = (
        f"crop={found} (left, top, width, height) cuts through pooled pixels: with input_pooling "
        f"{y} x {x} (y, x) {chip.name} needs {numbers} that it divides. Nearest: crop={nearest}."
    )
    yield text, {"crop": found, "pooling_y": y, "pooling_x": x, "nearest": nearest}


def swap_square(_: Network, chip: Chip, settings: Settings) -> Iterator[Problem]:
    """The vendor's validator (samna 0.7.1) does not exchange the sizes when x and y are."""
    height, width = size_after_layer(settings, chip)
    if settings.swap_xy and height != width:
        text = (
            f"swap_xy with a map of {height} x {width} (h, w): nobody has published whether the "
            "chip exchanges height and width too. Make the map square with crop and input_pooling."
        )
        yield text, {"height": height, "width": width}


def features_match(network: Network, _: Chip, settings: Settings) -> Iterator[Problem]:
    """Two features with polarity keep, else one."""
    found, wanted = 2 if settings.polarity == "keep" else 1, network.input_shape[0]
    if found == wanted:
        return
    advice = {
        1: "Use polarity = merge (both), on or off.",
        2: "Use polarity = keep.",
    }.get(wanted, f"A camera gives 1 or 2; leave out {CAMERA_SETTINGS}.")
    text = (
        f"polarity = {settings.polarity} gives events of {found} input feature"
        f"{'s' if found > 1 else ''}, but the network takes {wanted}. {advice}"
    )
    yield text, {"polarity": settings.polarity, "features": found, "expected": wanted}


def size_matches(network: Network, chip: Chip, settings: Settings) -> Iterator[Problem]:
    """What leaves the layer is what the network takes."""
    found, wanted = size_after_layer(settings, chip), network.input_shape[1:]
    if not _is_aligned(chip, settings):
        return  # CROP_NOT_ALIGNED says it; there is no size yet
    if found == wanted or (settings.swap_xy and found == wanted[::-1]):
        return  # not square: SWAP_NOT_SQUARE says it
    size = chip.sensor_size
    fitting = fitting_settings(wanted, chip, extent=(size, size))
    nothing = f"a network with a smaller input: {size} x {size} pixels do not give that"
    advice = f"Use {fitting or nothing}."
    text = (
        f"Pooling and crop make {found[0]} x {found[1]} (h, w) of the sensor, but the network "
        f"takes {wanted[0]} x {wanted[1]}. {advice}"
    )
    figures = {"height": found[0], "width": found[1], "sensor_size": size, "fitting": fitting}
    yield text, {**figures, "expected_height": wanted[0], "expected_width": wanted[1]}


def destination_count(network: Network, chip: Chip, _: Settings) -> Iterator[Problem]:
    """The layer has two destinations; recorded spikes enter any number of cores."""
    fed = [layer for layer, _ in network.targets(INPUT)]
    if len(fed) > chip.dvs_destinations:
        listed = ", ".join(map(str, fed))
        text = (
            f"The network's input feeds layers {listed}, but the event pre-processing layer has "
            f"{chip.dvs_destinations} destinations. Leave out {CAMERA_SETTINGS} and prepare the "
            "recordings instead: without them events enter any number of layers."
        )
        yield text, {"layers": listed, "destinations": len(fed), "largest": chip.dvs_destinations}


def no_shift(network: Network, *_: object) -> Iterator[Problem]:
    """The layer's features arrive as they are numbered; a destination of it has no shift."""
    for layer, link in network.targets(INPUT):
        if link.feature_shift:
            text = (
                f"Layer {layer} takes the network's input from feature {link.feature_shift} on, "
                "but camera events always arrive from feature 0 on. Put the input first in that "
                f"concatenation, or leave out {CAMERA_SETTINGS}."
            )
            yield text, {"layer": layer, "feature_shift": link.feature_shift}


def no_echo(network: Network, _: Chip, settings: Settings) -> Iterator[Problem]:
    """Only this layer can show what enters the cores."""
    if ECHO in settings.monitor:
        height, width = network.input_shape[1:]
        crop = (0, 0, width, height)
        text = (
            f"monitor = input ({ECHO}) asks for the echo, which comes out of the event "
            "pre-processing layer, but recorded events enter the first layers directly. For events "
            f"of a camera use {CAMERA_SETTINGS}: with crop={crop} those that fit the network pass "
            f"as they are. For others leave it out of monitor."
        )
        yield text, {"monitor": ECHO, "crop": crop}


NO_CAMERA_RULES: Mapping[str, CameraRule] = {"ECHO_NEEDS_CAMERA": no_echo}
CAMERA_RULES: Mapping[str, CameraRule] = {
    "CROP_NOT_ALIGNED": crop_aligned,
    "SWAP_NOT_SQUARE": swap_square,
    "CAMERA_FEATURES_MISMATCH": features_match,
    "CAMERA_SIZE_MISMATCH": size_matches,
    "CAMERA_TOO_MANY_DESTINATIONS": destination_count,
    "CAMERA_FEATURE_SHIFT": no_shift,
}
# What these cause in the configuration: of the event pre-processing layer, of the layers it feeds.
_CONSEQUENCES: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "CROP_NOT_ALIGNED": (
        frozenset({"DVS_CUT_OUT_OF_RANGE"}),
        frozenset({"DVS_INPUT_SIZE_MISMATCH"}),
    ),
    "SWAP_NOT_SQUARE": (frozenset(), frozenset({"DVS_INPUT_SIZE_MISMATCH"})),
    "CAMERA_FEATURES_MISMATCH": (
        frozenset(),
        frozenset({"FAN_IN_COUNT", "FAN_IN_GAP", "FAN_IN_OVERLAP"}),
    ),
    "CAMERA_SIZE_MISMATCH": (frozenset(), frozenset({"DVS_INPUT_SIZE_MISMATCH"})),
    "CAMERA_TOO_MANY_DESTINATIONS": (frozenset({"TOO_MANY_DESTINATIONS"}), frozenset()),
    "CAMERA_FEATURE_SHIFT": (frozenset({"DVS_DESTINATION_UNSUPPORTED"}), frozenset()),
}


def explained_by(found: Sequence[Finding], network: Network) -> set[tuple[int | None, str]]:
    """Layer and reason of what these findings cause in the configuration; not to be said twice."""
    explained = set[tuple[int | None, str]]()
    for each in found:
        of_camera, of_layers = _CONSEQUENCES.get(each.reason, (frozenset(), frozenset()))
        explained |= {(None, reason) for reason in of_camera}
        for layer, _ in network.targets(INPUT):
            explained |= {(layer, reason) for reason in of_layers}
    return explained


def _is_aligned(chip: Chip, settings: Settings) -> bool:
    left, top, width, height = settings.crop or (0, 0, chip.sensor_size, chip.sensor_size)
    y, x = settings.input_pooling
    corner = (0, 0) if chip.dvs_crops_first else (top % y, left % x)
    return (*corner, height % y, width % x) == (0, 0, 0, 0)


def _nearest(crop: _Crop, chip: Chip, pooling: tuple[int, int]) -> _Crop:
    left, top, width, height = crop
    unit_y, unit_x = (1, 1) if chip.dvs_crops_first else pooling
    width, height = _rounded(width, pooling[1]), _rounded(height, pooling[0])
    left = min(left + unit_x // 2, chip.sensor_size - width) // unit_x * unit_x
    top = min(top + unit_y // 2, chip.sensor_size - height) // unit_y * unit_y
    return left, top, width, height


def _rounded(size: int, unit: int) -> int:
    return max(1, (size + unit // 2) // unit) * unit
