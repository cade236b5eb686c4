"""Flags of the settings, and what the values of flags may be."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"found {text}; a number of seconds above 0 is wanted")
    return found


def limit(text: str) -> int:
    """A whole number from 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}; a whole number from 1 is wanted")
    return int(text)


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text}; a number is wanted") from None


def number_or_off(text: str) -> float | str:
    """A number or the word off."""
    try:
        return text if text == "off" else float(text)
    except ValueError:
        text = f"found {text}; a number or off is wanted"
        raise argparse.ArgumentTypeError(text) from None


def whole_number_or_off(text: str) -> int | str:
    """A whole number or the word off."""
    try:
        return text if text == "off" else int(text)
    except ValueError:
        text = f"found {text}; a whole number or off is wanted"
        raise argparse.ArgumentTypeError(text) from None


def whole_numbers_or_off(text: str) -> list[int] | str:
    """Whole numbers with commas (or, as findings write them, +) between, or the word off."""
    try:
        return text if text == "off" else [int(part) for part in text.replace("+", ",").split(",")]
    except ValueError:
        text = f"found {text}; whole numbers with commas between, or off, are wanted"
        raise argparse.ArgumentTypeError(text) from None


SETTING_FLAGS: Mapping[str, Mapping[str, object]] = {
    "--reset": {
        "metavar": "[LAYER=]MODE", "action": "append",
        "help": "subtract or zero, for all layers or one; repeatable",
    },
    "--lower-clip": {
        "metavar": "X", "type": number_or_off,
        "help": "lower clip of the state, times threshold; off: as the file says",
    },
    "--input-dt-us": {
        "metavar": "US", "type": number_or_off, "help": "time step for which NIR's r was written",
    },
    "--decimator": {
        "metavar": "LAYER=N", "action": "append",
        "help": "1 output spike in N passes; repeatable",
    },
    "--monitor": {
        "metavar": "L1,L2",
        "help": "layers to record besides the exit layer; input: events as they enter the cores",
    },
    "--core": {
        "metavar": "LAYER=CORE", "action": "append", "help": "pin a layer; repeatable",
    },
    "--polarity": {
        "metavar": "WORD", "help": "keep, merge, on or off",
    },
    "--input-pooling": {
        "metavar": "N or Y,X", "type": whole_numbers_or_off,
        "help": "sum pooling of camera events: 1, 2 or 4, for both axes or each",
    },
    "--crop": {
        "metavar": "LEFT,TOP,WIDTH,HEIGHT", "type": whole_numbers_or_off,
        "help": "part of the sensor whose events pass, in its pixels",
    },
    "--mirror": {
        "metavar": "WORD", "help": "off, x, y or xy: mirror camera events after the crop",
    },
    "--swap-xy": {
        "action": "store_true", "help": "exchange x and y of camera events after the mirror",
    },
    "--slow-clock-hz": {
        "metavar": "HZ", "type": number_or_off,
        "help": "rate of the slow clock that drives biases",
    },
    "--state": {
        "metavar": "WORD", "help": "reset or keep neurons between recordings",
    },
    "--order-seed": {
        "metavar": "N", "type": whole_number_or_off,
        "help": "draw what is unknown in the chip's order from this seed (simulated boards)",
    },
    "--readout-threshold": {
        "metavar": "N", "type": whole_number_or_off,
        "help": "use the chip's readout layer: tell the class above N spikes per slow-clock tick",
    },
    "--readout-average": {
        "metavar": "TICKS", "type": whole_number_or_off,
        "help": "ticks over which the readout layer averages: 1, 16 or 32",
    },
}  # fmt: skip
