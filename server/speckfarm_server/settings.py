"""Settings: everything about a run that is not in the model or the recording."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from speckfarm_server.chip import DECIMATOR_CODES
from speckfarm_server.errors import BadInput

RESET_MODES = ("subtract", "zero")
POLARITIES = ("keep", "merge", "on", "off")
STATES = ("reset", "keep")
MAX_LAYER = 8
SLOW_CLOCK_HZ = (10.0, 10_000.0)  # typical range, Datasheet section 3
KEYS = (
    "reset", "lower_clip", "input_dt_us", "decimator", "monitor", "cores", "polarity",
    "slow_clock_hz", "state",
)  # fmt: skip
PER_LAYER = ("reset", "decimator", "cores")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings with their defaults; docs/reference/settings.md says what each does."""

    reset: str = "subtract"
    layer_reset: Mapping[int, str] = field(default_factory=dict)  # layer -> mode
    lower_clip: float = -1.0  # times the threshold
    input_dt_us: float | None = None  # step for which NIR's r was written; None: r must be 1
    decimator: Mapping[int, int] = field(default_factory=dict)  # layer -> N
    monitor: tuple[int, ...] = ()
    cores: Mapping[int, int] = field(default_factory=dict)  # layer -> core
    polarity: str = "keep"
    slow_clock_hz: float | None = None
    state: str = "reset"

    def __post_init__(self) -> None:
        problems = [problem for rule in _RULES for problem in rule(self)]
        if problems:
            message = "; ".join(f"{path}: {text}" for path, text in problems)
            raise BadInput("SETTING_OUT_OF_RANGE", message, fields=problems, **dict(problems))

    def reset_of(self, layer: int) -> str:
        """Reset mode of one layer."""
        return self.layer_reset.get(layer, self.reset)

    def canonical(self) -> str:
        """JSON with sorted keys: equal settings, equal text."""
        return self._canonical

    @cached_property
    def _canonical(self) -> str:
        plain: dict[str, object] = {
            "reset": self.reset,
            "layer_reset": {str(k): v for k, v in self.layer_reset.items()},
            "lower_clip": float(self.lower_clip),
            "input_dt_us": _float(self.input_dt_us),
            "decimator": {str(k): v for k, v in self.decimator.items()},
            "monitor": sorted(set(self.monitor)),
            "cores": {str(k): v for k, v in self.cores.items()},
            "polarity": self.polarity,
            "slow_clock_hz": _float(self.slow_clock_hz),
            "state": self.state,
        }
        return json.dumps(plain, sort_keys=True)


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def from_canonical(text: str) -> Settings:
    """Read what `canonical` wrote."""
    plain = json.loads(text)
    for key in ("layer_reset", "decimator", "cores"):
        plain[key] = {int(layer): value for layer, value in plain[key].items()}
    plain["monitor"] = tuple(plain["monitor"])
    return Settings(**plain)


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
    if key in ("reset", "polarity", "state"):
        return value
    if key == "monitor":
        return () if value == "off" else tuple(_parse(int, key, v) for v in value.split("+"))
    if key in ("decimator", "cores"):
        raise _out_of_range(key, f"name the layer, e.g. {key}.0", found=value)
    if value == "off" and key != "lower_clip":
        return None
    return _parse(float, key, value)


def _parse(kind: type[int] | type[float], key: str, text: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        word = "a whole number" if kind is int else "a number"
        raise _out_of_range(key, f"found {text!r}; {word} is wanted", found=text) from None


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
    words = [("reset", s.reset, RESET_MODES), ("polarity", s.polarity, POLARITIES)]
    words.append(("state", s.state, STATES))
    words += [(f"reset.{k}", v, RESET_MODES) for k, v in s.layer_reset.items()]
    return [
        (path, f"found {value!r}; allowed: {', '.join(allowed)}")
        for path, value, allowed in words
        if value not in allowed
    ]


def _check_layers(s: Settings) -> _Problems:
    named = [(f"reset.{k}", k) for k in s.layer_reset]
    named += [(f"decimator.{k}", k) for k in s.decimator]
    named += [(f"cores.{k}", k) for k in s.cores] + [("monitor", k) for k in s.monitor]
    return [
        (path, f"layer {layer} cannot exist; layers are numbered 0 to {MAX_LAYER}")
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
    if not (math.isfinite(s.lower_clip) and s.lower_clip < 0):
        text = f"found {s.lower_clip}; a finite number below 0 (times the threshold); default -1"
        problems.append(("lower_clip", text))
    if s.input_dt_us is not None and not (math.isfinite(s.input_dt_us) and s.input_dt_us > 0):
        problems.append(("input_dt_us", f"found {s.input_dt_us}; a finite number of µs above 0"))
    low, high = SLOW_CLOCK_HZ
    if s.slow_clock_hz is not None and not low <= s.slow_clock_hz <= high:
        text = f"found {s.slow_clock_hz}; {low:g} to {high:g} Hz, or off"
        problems.append(("slow_clock_hz", text))
    return problems


_RULES = (_check_words, _check_layers, _check_decimator, _check_cores, _check_numbers)
