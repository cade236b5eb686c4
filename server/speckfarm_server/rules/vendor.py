"""The rule on the vendor's other keys: what a configuration carries along and no other rule sees.

Such are registers of no concern to the farm, and what is set in cores and a camera layer that do
nothing: the vendor's validator (samna 0.7.1, chip speck2b) looks at their ranges all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.rules.fan_in import LinkProblem, LinkRule

Allowed: TypeAlias = "range | tuple[int, ...]"
_ROOT = re.compile(r"^value0\.")
_ITEM = re.compile(r"\.(value)?\d+(?=\.|$)|\[\d+\]")  # the number of a list's item
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


def vendor_value(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """The vendor's other keys have values that its validator takes."""
    known = allowed_values(chip) if configuration.vendor else {}
    for key, value in configuration.vendor.items():
        allowed = known.get(field_of(key))
        if allowed is not None and value not in allowed:
            words = _named(allowed)
            text = f"Found {key} = {value}; allowed: {words}. Correct the file."
            yield None, (text, {"key": key, "value": value, "allowed": words})


VENDOR_RULES: Mapping[str, LinkRule] = {"VENDOR_VALUE_OUT_OF_RANGE": vendor_value}


def allowed_values(chip: Chip) -> dict[str, Allowed]:
    """Values by field; a field is a path as Python spells it, without the numbers of items."""
    pixels = range(chip.sensor_size)
    targets = (*range(len(chip.cores)), *(() if chip.readout is None else (chip.readout,)))
    fields: dict[str, Allowed] = {
        "cnn_layers.threshold_high": _whole(chip.threshold_high),
        "cnn_layers.threshold_low": _whole(chip.threshold_low),
        "cnn_layers.destinations.layer": targets,
        "cnn_layers.destinations.pooling": chip.poolings,
        "cnn_layers.destinations.feature_shift": _whole(chip.feature_shift),
        "dvs_layer.destinations.layer": range(len(chip.cores)),
    }
    for axis in ("x", "y"):
        fields[f"dvs_layer.origin.{axis}"] = fields[f"dvs_layer.cut.{axis}"] = pixels
        fields[f"dvs_layer.pooling.{axis}"] = chip.dvs_poolings
    return {**fields, **{field: _whole(limits) for field, limits in chip.vendor_ranges.items()}}


def field_of(key: str) -> str:
    """`value0.cnnLayers.value3.thresholdHigh` is `cnn_layers.threshold_high`."""
    path = _ITEM.sub("", _ROOT.sub("", key.rstrip("?")))
    return _HUMP.sub(r"_\1", path).lower()


def _whole(limits: tuple[int, int]) -> range:
    return range(limits[0], limits[1] + 1)


def _named(allowed: Allowed) -> str:
    if isinstance(allowed, range):
        return f"{allowed[0]} to {allowed[-1]}"
    return ", ".join(map(str, allowed))
