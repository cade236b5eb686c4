"""Settings as keyword arguments, as protobuf, and as JSON; their ranges are the server's to judge.

`farm.run("m.nir", "digits.npz", decimator={0: 4}, reset={"all": "zero", 2: "subtract"})`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, SupportsFloat, SupportsIndex, TypedDict, TypeVar

from speckfarm.errors import BadRequest
from speckfarm.v1 import settings_pb2 as pb

if TYPE_CHECKING:
    from typing import TypeAlias

    ResetWord: TypeAlias = Literal["subtract", "zero"]

RESETS = {"subtract": pb.RESET_MODE_SUBTRACT, "zero": pb.RESET_MODE_ZERO}
POLARITIES = {
    "keep": pb.POLARITY_KEEP,
    "merge": pb.POLARITY_MERGE,
    "on": pb.POLARITY_ON,
    "off": pb.POLARITY_OFF,
}
STATES = {"reset": pb.NEURON_STATE_RESET, "keep": pb.NEURON_STATE_KEEP}


class SettingOptions(TypedDict, total=False):
    """Settings as keyword arguments; docs/reference/settings.md says what each does."""

    reset: (
        ResetWord | Mapping[int | Literal["all"], ResetWord] | None
    )  # None: as the file says, else "subtract"
    lower_clip: float | None  # times the threshold; default: as the file says, else -1
    input_dt_us: float | None  # step for which NIR's r was written; None: r must be 1
    decimator: Mapping[int, int | None]  # layer -> N: 1 spike in N passes; None: off
    # Layers recorded besides the exit layer; 13 or "input": events as they enter the cores.
    monitor: Iterable[int | Literal["input"]]
    cores: Mapping[int, int]  # layer -> core
    polarity: Literal["keep", "merge", "on", "off"]
    input_pooling: int | tuple[int, int]  # (y, x) or one number for both: 1, 2 or 4
    crop: tuple[int, int, int, int] | None  # left, top, width, height in sensor pixels
    mirror: Literal["off", "x", "y", "xy"]
    swap_xy: bool
    slow_clock_hz: float | None  # None: biases do nothing
    state: Literal["reset", "keep"]  # what happens to neurons between recordings
    order_seed: int | None  # of what is unknown in the chip's order; None: a fixed order
    readout_threshold: int | None  # spikes per tick; None: the chip's readout layer is off
    readout_average: Literal[1, 16, 32]  # ticks


Number = TypeVar("Number", bound=int)
KEYS = tuple(SettingOptions.__annotations__)


def build_settings(
    options: Mapping[str, object], *, also_known: tuple[str, ...] = ()
) -> pb.Settings:
    """Settings from keyword arguments.

    Raises BadRequest: UNKNOWN_SETTING with the nearest name (`also_known` are the caller's other
    arguments), SETTING_OUT_OF_RANGE for all words and types that cannot be sent.
    """
    settings = pb.Settings()
    faults: list[tuple[str, str]] = []
    for key in options:
        if key not in KEYS:
            raise unknown_setting(key, also_known=also_known)
    for key, value in options.items():
        try:
            _WRITERS[key](settings, value)
        except BadRequest as error:
            faults += error.fields
        except (TypeError, ValueError, AttributeError) as error:
            text = f"{key}={value!r} is not understood ({error}); an example: {_EXAMPLES[key]}"
            faults.append((key, text))
    if faults:
        message = "; ".join(text for _, text in faults)
        raise BadRequest("SETTING_OUT_OF_RANGE", message, fields=faults)
    return settings


def unknown_setting(key: str, *, also_known: tuple[str, ...] = ()) -> BadRequest:
    """The error for a keyword argument that nothing is called."""
    known = (*also_known, *KEYS)
    near = get_close_matches(key, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return BadRequest(
        "UNKNOWN_SETTING",
        f"No setting is called {key!r}.{hint} Known: {', '.join(known)}",
        metadata={"found": key, "allowed": ", ".join(known)},
    )


def settings_dict(settings: pb.Settings) -> dict[str, object]:
    """Settings with all defaults written out, as JSON has them."""
    return {
        "reset": _word(RESETS, settings.reset, None),
        "layer_reset": {
            str(layer): _word(RESETS, mode, None)
            for layer, mode in sorted(settings.layer_reset.items())
        },
        "lower_clip": settings.lower_clip if settings.HasField("lower_clip") else None,
        "input_dt_us": settings.input_dt_us if settings.HasField("input_dt_us") else None,
        "decimator": {str(k): n for k, n in sorted(settings.decimator.items())},
        "monitor": sorted(set(settings.monitor)),
        "cores": {str(k): core for k, core in sorted(settings.cores.items())},
        "polarity": _word(POLARITIES, settings.polarity, "keep"),
        "input_pooling": [
            settings.input_pooling_y if settings.HasField("input_pooling_y") else 1,
            settings.input_pooling_x if settings.HasField("input_pooling_x") else 1,
        ],
        "crop": _crop_list(settings.crop) if settings.HasField("crop") else None,
        "mirror": "x" * settings.mirror_x + "y" * settings.mirror_y or "off",
        "swap_xy": settings.swap_xy,
        "slow_clock_hz": settings.slow_clock_hz if settings.HasField("slow_clock_hz") else None,
        "state": _word(STATES, settings.state, "reset"),
        "order_seed": settings.order_seed if settings.HasField("order_seed") else None,
        "readout_threshold": settings.readout_threshold
        if settings.HasField("readout_threshold")
        else None,
        "readout_average": settings.readout_average if settings.HasField("readout_average") else 1,
    }


def _set_reset(settings: pb.Settings, value: object) -> None:
    if value is None:
        return
    modes = value if isinstance(value, Mapping) else {"all": value}
    for layer, word in modes.items():
        path = "reset" if layer == "all" else f"reset.{layer}"
        mode = _number(RESETS, word, path)
        if layer == "all":
            settings.reset = mode
        else:
            settings.layer_reset[_whole(layer)] = mode


def _set_lower_clip(settings: pb.Settings, value: object) -> None:
    if value is not None:
        settings.lower_clip = _real(value)


def _set_input_dt_us(settings: pb.Settings, value: object) -> None:
    if value is not None:
        settings.input_dt_us = _real(value)


def _set_decimator(settings: pb.Settings, value: object) -> None:
    for layer, divisor in _mapping(value).items():
        if divisor not in (None, "off"):
            settings.decimator[_whole(layer)] = _whole(divisor)


def _set_monitor(settings: pb.Settings, value: object) -> None:
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise TypeError("a list of layers is wanted")
    from speckfarm.events import ECHO  # numpy, which most commands do without

    settings.monitor.extend(ECHO if layer == "input" else _whole(layer) for layer in value)


def _set_cores(settings: pb.Settings, value: object) -> None:
    for layer, core in _mapping(value).items():
        settings.cores[_whole(layer)] = _whole(core)


def _set_polarity(settings: pb.Settings, value: object) -> None:
    settings.polarity = _number(POLARITIES, value, "polarity")


def _set_input_pooling(settings: pb.Settings, value: object) -> None:
    sizes = _wholes(value, 2) if isinstance(value, Iterable) else [_whole(value)] * 2
    settings.input_pooling_y, settings.input_pooling_x = sizes


def _set_crop(settings: pb.Settings, value: object) -> None:
    if value is not None:
        left, top, width, height = _wholes(value, 4)
        settings.crop.CopyFrom(pb.Crop(left=left, top=top, width=width, height=height))


def _set_mirror(settings: pb.Settings, value: object) -> None:
    axes = _number({"off": 0, "x": 1, "y": 2, "xy": 3}, value, "mirror")
    settings.mirror_x, settings.mirror_y = bool(axes & 1), bool(axes & 2)


def _set_swap_xy(settings: pb.Settings, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError("True or False is wanted")
    settings.swap_xy = value


def _set_slow_clock_hz(settings: pb.Settings, value: object) -> None:
    if value is not None:
        settings.slow_clock_hz = _real(value)


def _set_state(settings: pb.Settings, value: object) -> None:
    settings.state = _number(STATES, value, "state")


def _set_order_seed(settings: pb.Settings, value: object) -> None:
    if value is not None:
        settings.order_seed = _whole(value)


def _set_readout_threshold(settings: pb.Settings, value: object) -> None:
    if value is not None:
        settings.readout_threshold = _whole(value)


def _set_readout_average(settings: pb.Settings, value: object) -> None:
    settings.readout_average = _whole(value)


_WRITERS = {
    "reset": _set_reset,
    "lower_clip": _set_lower_clip,
    "input_dt_us": _set_input_dt_us,
    "decimator": _set_decimator,
    "monitor": _set_monitor,
    "cores": _set_cores,
    "polarity": _set_polarity,
    "input_pooling": _set_input_pooling,
    "crop": _set_crop,
    "mirror": _set_mirror,
    "swap_xy": _set_swap_xy,
    "slow_clock_hz": _set_slow_clock_hz,
    "state": _set_state,
    "order_seed": _set_order_seed,
    "readout_threshold": _set_readout_threshold,
    "readout_average": _set_readout_average,
}
_EXAMPLES = {
    "reset": 'reset="zero" or reset={"all": "zero", 2: "subtract"}',
    "lower_clip": "lower_clip=-1.0",
    "input_dt_us": "input_dt_us=1000",
    "decimator": "decimator={0: 4}",
    "monitor": "monitor=[0, 2]",
    "cores": "cores={0: 3}",
    "polarity": 'polarity="merge"',
    "input_pooling": "input_pooling=2 or input_pooling=(2, 4)",
    "crop": "crop=(32, 32, 64, 64)",
    "mirror": 'mirror="x"',
    "swap_xy": "swap_xy=True",
    "slow_clock_hz": "slow_clock_hz=1000",
    "state": 'state="keep"',
    "order_seed": "order_seed=1",
    "readout_threshold": "readout_threshold=5",
    "readout_average": "readout_average=16",
}


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (SupportsFloat, str)):
        raise TypeError("a number is wanted")
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (SupportsIndex, str)):
        raise TypeError("a whole number is wanted")
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{value!r} is no whole number") from None


def _wholes(value: object, count: int) -> list[int]:
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise TypeError(f"{count} whole numbers are wanted")
    numbers = [_whole(item) for item in value]
    if len(numbers) != count:
        raise ValueError(f"{count} whole numbers are wanted")
    return numbers


def _mapping(value: object) -> Mapping[object, object]:
    if not isinstance(value, Mapping):
        raise TypeError("a dict with layers as keys is wanted")
    return value


def _number(numbers: Mapping[str, Number], word: object, path: str) -> Number:
    if not isinstance(word, str) or word not in numbers:
        text = f"{path}: found {word!r}; allowed: {', '.join(numbers)}"
        raise BadRequest("SETTING_OUT_OF_RANGE", text, fields=[(path, text)])
    return numbers[word]


def _crop_list(crop: pb.Crop) -> list[int]:
    return [crop.left, crop.top, crop.width, crop.height]


def _word(numbers: Mapping[str, Number], number: Number, default: str | None) -> str | None:
    return next((word for word, known in numbers.items() if known == number), default)
