"""Settings: everything about a run that is not in the model or the recording."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from speckfarm.events import ECHO
from speckfarm_server.chip import DECIMATOR_CODES, SENSOR_SIZE
from speckfarm_server.errors import BadInput

RESET_MODES = ("subtract", "zero")
POLARITIES = ("keep", "merge", "on", "off")
STATES = ("reset", "keep")
MAX_LAYER = 8
SLOW_CLOCK_HZ = (10.0, 10_000.0)  # typical range, Datasheet section 3
MIRRORS = ("off", "x", "y", "xy")
INPUT_POOLINGS = (1, 2, 4)  # of every chip, Datasheet section 3
KEYS = (
    "reset", "lower_clip", "input_dt_us", "decimator", "monitor", "cores", "polarity",
    "input_pooling", "crop", "mirror", "swap_xy", "slow_clock_hz", "state", "order_seed",
    "readout_threshold", "readout_average",
)  # fmt: skip
MAX_SEED = 2**63 - 1  # what the wire carries
LARGEST_THRESHOLD = 65535  # of the readout layer: 16 bits, Datasheet section 3.2.5
READOUT_AVERAGES = (1, 16, 32)
PER_LAYER = ("reset", "decimator", "cores")
WHOLE = ("order_seed", "readout_threshold", "readout_average")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings with their defaults; docs/reference/settings.md says what each does."""

    reset: str | None = None  # None: as the network's file says, else subtract
    layer_reset: Mapping[int, str] = field(default_factory=dict)  # layer -> mode
    lower_clip: float | None = None  # times the threshold; None: as the file says, else -1
    input_dt_us: float | None = None  # step for which NIR's r was written; None: r must be 1
    decimator: Mapping[int, int] = field(default_factory=dict)  # layer -> N
    monitor: tuple[int, ...] = ()  # layers; ECHO: the input as it enters the cores
    cores: Mapping[int, int] = field(default_factory=dict)  # layer -> core
    polarity: str = "keep"
    input_pooling: tuple[int, int] = (1, 1)  # y, x
    crop: tuple[int, int, int, int] | None = None  # left, top, width, height, sensor pixels
    mirror: str = "off"  # after the crop
    swap_xy: bool = False  # after the mirror
    slow_clock_hz: float | None = None
    state: str = "reset"
    order_seed: int | None = None  # of what is unknown in the chip's order; None: a fixed order
    readout_threshold: int | None = None  # spikes per tick; None: the readout layer is off
    readout_average: int = 1  # ticks

    def __post_init__(self) -> None:
        problems = [problem for rule in _RULES for problem in rule(self)]
        if problems:
            message = "; ".join(f"{path}: {text}" for path, text in problems)
            raise BadInput("SETTING_OUT_OF_RANGE", message, fields=problems, **dict(problems))

    @property
    def uses_dvs_layer(self) -> bool:
        """Whether recorded events pass the chip's event pre-processing layer, as camera events."""
        return (self.input_pooling, self.crop, self.mirror, self.swap_xy) != (
            (1, 1), None, "off", False
        )  # fmt: skip

    def canonical(self) -> str:
        """JSON with sorted keys: equal settings, equal text."""
        return self._canonical

    @cached_property
    def _canonical(self) -> str:
        plain: dict[str, object] = {
            "reset": self.reset,
            "layer_reset": {str(k): v for k, v in self.layer_reset.items()},
            "lower_clip": _float(self.lower_clip),
            "input_dt_us": _float(self.input_dt_us),
            "decimator": {str(k): v for k, v in self.decimator.items()},
            "monitor": sorted(set(self.monitor)),
            "cores": {str(k): v for k, v in self.cores.items()},
            "polarity": self.polarity,
            "input_pooling": self.input_pooling,
            "crop": self.crop,
            "mirror": self.mirror,
            "swap_xy": self.swap_xy,
            "slow_clock_hz": _float(self.slow_clock_hz),
            "state": self.state,
            "order_seed": self.order_seed,
            "readout_threshold": self.readout_threshold,
            "readout_average": self.readout_average,
        }
        return json.dumps(plain, sort_keys=True)


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def from_canonical(text: str) -> Settings:
    """Read what `canonical` wrote."""
    plain: dict[str, Any] = json.loads(text)  # of an earlier version it may lack keys
    for key in ("layer_reset", "decimator", "cores"):
        plain[key] = {int(layer): value for layer, value in plain[key].items()}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    return Settings(**values)


def with_key(settings: Settings, key: str, value: str) -> Settings:
    """Set one setting from words, as a sweep does: ("decimator.0", "off"), ("reset", "zero").

    Raises BadInput UNKNOWN_SETTING (with the nearest name) or SETTING_OUT_OF_RANGE.
    """
    name, _, layer_text = key.partition(".")
    if name not in KEYS or (layer_text and name not in PER_LAYER):
        raise _unknown(key)
    if not layer_text:
        return _replaced(settings, name, _parse_plain(key, value))
    layer = _parse(int, key, layer_text)
    attribute = "layer_reset" if name == "reset" else name
    mapping = dict(getattr(settings, attribute))
    mapping.pop(layer, None)
    if name == "reset":
        mapping[layer] = value
    elif value != "off":
        mapping[layer] = _parse(int, key, value)
    return _replaced(settings, attribute, mapping)


def _replaced(settings: Settings, name: str, value: object) -> Settings:
    changed: dict[str, Any] = {name: value}
    return replace(settings, **changed)


def _parse_plain(key: str, value: str) -> object:
    if key in ("polarity", "state", "mirror"):
        return value
    if key == "reset":
        return None if value == "off" else value
    if key == "swap_xy":
        return _parse_switch(key, value)
    if key in ("input_pooling", "crop"):
        return _parse_wholes(key, value)
    if key == "monitor":
        return () if value == "off" else tuple(_parse(int, key, v) for v in value.split("+"))
    if key in ("decimator", "cores"):
        raise _out_of_range(key, f"name the layer, e.g. {key}.0", found=value)
    if value == "off":
        return READOUT_AVERAGES[0] if key == "readout_average" else None
    return _parse(int if key in WHOLE else float, key, value)


def _parse(kind: type[int] | type[float], key: str, text: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        word = "a whole number" if kind is int else "a number"
        raise _out_of_range(key, f"found {text!r}; {word} is wanted", found=text) from None


def _parse_switch(key: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise _out_of_range(key, f"found {text!r}; on or off is wanted", found=text)
    return text == "on"


def _parse_wholes(key: str, text: str) -> tuple[int, ...] | None:
    """Numbers joined by +; one input pooling stands for both axes."""
    wanted = 2 if key == "input_pooling" else 4
    if text == "off":
        return (1, 1) if key == "input_pooling" else None
    numbers = tuple(int(_parse(int, key, part)) for part in text.split("+"))
    numbers *= 2 if key == "input_pooling" and len(numbers) == 1 else 1
    if len(numbers) != wanted:
        raise _out_of_range(key, f"found {text!r}; {wanted} numbers with + between", found=text)
    return numbers


def _out_of_range(key: str, text: str, *, found: str) -> BadInput:
    return BadInput("SETTING_OUT_OF_RANGE", f"{key}: {text}", fields=[(key, text)], found=found)


def _unknown(key: str) -> BadInput:
    near = get_close_matches(key.partition(".")[0], KEYS, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    allowed = ", ".join(KEYS)
    return BadInput(
        "UNKNOWN_SETTING",
        f"No setting is called {key!r}{hint} Known: {allowed}; {', '.join(PER_LAYER)} also take "
        "a layer, e.g. decimator.0",
        found=key,
        allowed=allowed,
    )


_Problems = list[tuple[str, str]]


def _check_words(s: Settings) -> _Problems:
    words = [("polarity", s.polarity, POLARITIES), ("state", s.state, STATES)]
    words.append(("mirror", s.mirror, MIRRORS))
    words += [("reset", s.reset, RESET_MODES)] if s.reset is not None else []
    words += [(f"reset.{k}", v, RESET_MODES) for k, v in s.layer_reset.items()]
    return [
        (path, f"found {value!r}; allowed: {', '.join(allowed)}")
        for path, value, allowed in words
        if value not in allowed
    ]


def _check_layers(s: Settings) -> _Problems:
    maps = {"reset": s.layer_reset, "decimator": s.decimator, "cores": s.cores}
    named = [(f"{name}.{k}", k) for name, layers in maps.items() for k in layers]
    named += [("monitor", k) for k in s.monitor if k != ECHO]
    return [
        (path, f"layer {layer} cannot exist; layers are 0 to {MAX_LAYER}, monitor takes {ECHO} too")
        for path, layer in named
        if not 0 <= layer <= MAX_LAYER
    ]


def _check_decimator(s: Settings) -> _Problems:
    allowed = ", ".join(map(str, DECIMATOR_CODES))
    return [
        (f"decimator.{layer}", f"found {n}; the chip passes 1 spike in N for N = {allowed}, or off")
        for layer, n in s.decimator.items()
        if n not in DECIMATOR_CODES
    ]


def _check_cores(s: Settings) -> _Problems:
    problems = [
        (f"cores.{layer}", f"found core {core}; cores are numbered 0 to 8")
        for layer, core in s.cores.items()
        if not 0 <= core <= 8
    ]
    pinned: dict[int, int] = {}
    for layer, core in sorted(s.cores.items()):
        if core in pinned:
            text = f"core {core} is pinned to layer {pinned[core]} too; a core runs one layer"
            problems.append((f"cores.{layer}", text))
        pinned.setdefault(core, layer)
    return problems


def _check_numbers(s: Settings) -> _Problems:
    problems = []
    clip = s.lower_clip
    if clip is not None and not (math.isfinite(clip) and clip < 0):
        text = f"found {clip}; a finite number below 0 (times the threshold), e.g. -1"
        problems.append(("lower_clip", text))
    if s.input_dt_us is not None and not (math.isfinite(s.input_dt_us) and s.input_dt_us > 0):
        problems.append(("input_dt_us", f"found {s.input_dt_us}; a finite number of µs above 0"))
    low, high = SLOW_CLOCK_HZ
    if s.slow_clock_hz is not None and not low <= s.slow_clock_hz <= high:
        text = f"found {s.slow_clock_hz}; {low:g} to {high:g} Hz, or off"
        problems.append(("slow_clock_hz", text))
    if s.order_seed is not None and not 0 <= s.order_seed <= MAX_SEED:
        problems.append(("order_seed", f"found {s.order_seed}; 0 to {MAX_SEED}, or off"))
    return problems


def _check_camera(s: Settings) -> _Problems:
    problems = []
    if any(size not in INPUT_POOLINGS for size in s.input_pooling):
        y, x = s.input_pooling
        problems.append(("input_pooling", f"found {y} x {x} (y, x); each is one of 1, 2, 4"))
    if s.crop is None:
        return problems
    left, top, width, height = s.crop
    if (
        min(left, top) < 0
        or min(width, height) < 1
        or max(left + width, top + height) > SENSOR_SIZE
    ):
        text = (
            f"found left {left}, top {top}, width {width}, height {height}; the crop must lie in "
            f"the sensor's {SENSOR_SIZE} x {SENSOR_SIZE} pixels"
        )
        problems.append(("crop", text))
    return problems


def _check_readout(s: Settings) -> _Problems:
    problems = []
    if s.readout_threshold is not None and not 0 <= s.readout_threshold <= LARGEST_THRESHOLD:
        text = f"found {s.readout_threshold}; 0 to {LARGEST_THRESHOLD} spikes per tick, or off"
        problems.append(("readout_threshold", text))
    if s.readout_average not in READOUT_AVERAGES:
        problems.append(("readout_average", f"found {s.readout_average}; 1, 16 or 32 ticks"))
    return problems


_RULES = (
    _check_words, _check_layers, _check_decimator, _check_cores, _check_numbers, _check_camera,
    _check_readout,
)  # fmt: skip
