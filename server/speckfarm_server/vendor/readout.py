"""The chip's readout layer: what a configuration tells it, in the keys of the vendor's JSON.

Each class counts the spikes of its channel per tick of the slow clock and averages them over 1, 16
or 32 ticks. The class of the largest average is told at a tick if that average is above the
threshold. Sources: Speck Dev Kit Datasheet, section 3.2.5; sinabs docs, readout notebook and chip
errata.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from speckfarm_server.chip import READOUT_CLASSES, READOUT_STRIDE, Chip
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
from speckfarm_server.vendor.keys import SPECK2EF, Number, Switch

NORMAL_CLASSIFIER = 3  # readout_configuration_sel: 1x 1y 16f
_SECTION = "readout"


@dataclass(frozen=True, kw_only=True)
class ReadoutConfiguration:
    """What the layer is told, as far as its pins depend on it."""

    threshold: int  # an average above it is told
    average: int = 1  # ticks: 1, 16 or 32
    addressing: int = NORMAL_CLASSIFIER  # readout_configuration_sel


def vendor_values(readout: ReadoutConfiguration) -> dict[str, int]:
    """Values for `Configuration.vendor` that turn the layer and the report of its pins on."""
    wanted = {
        "enable": 1,
        "low_pass_filter32_not16": int(readout.average == 32),
        "low_pass_filter_disable": int(readout.average == 1),
        "readout_configuration_sel": readout.addressing,
        "readout_pin_monitor_enable": 1,
        "threshold": readout.threshold,
    }
    return {
        f"{_SECTION}.{name}": value for name, value in wanted.items() if value != _default(name)
    }


def readout_of(configuration: Configuration, chip: Chip) -> ReadoutConfiguration | None:
    """What a used readout layer is told.

    None if it is off, does not report its pins, or no core sends to it: then nothing of it is seen.
    """
    if chip.readout is None or not any(readout_ways(configuration, chip)):
        return None
    if not (
        _value(configuration, "enable") and _value(configuration, "readout_pin_monitor_enable")
    ):
        return None
    average = 32 if _value(configuration, "low_pass_filter32_not16") else 16
    return ReadoutConfiguration(
        threshold=_value(configuration, "threshold"),
        average=1 if _value(configuration, "low_pass_filter_disable") else average,
        addressing=_value(configuration, "readout_configuration_sel"),
    )


def readout_ways(
    configuration: Configuration, chip: Chip
) -> Iterator[tuple[CoreConfiguration, Destination]]:
    """Every enabled destination that is the readout layer."""
    for core in configuration.cores:
        for way in core.destinations:
            if way.enable and way.core == chip.readout:
                yield core, way


def class_of(channel: int) -> int | None:
    """The class, 1 to 15, that hears a channel which reaches the layer; None if none does.

    Erratum of speck2e and speck2f: channel 4(n - 1) feeds class n.
    """
    number, rest = divmod(channel, READOUT_STRIDE)
    return number + 1 if rest == 0 and number < READOUT_CLASSES else None


def _value(configuration: Configuration, name: str) -> int:
    return configuration.vendor.get(f"{_SECTION}.{name}", _default(name))


def _default(name: str) -> int:
    section = SPECK2EF.keys[_SECTION]
    key = section[name] if isinstance(section, dict) else None
    return int(key.default) if isinstance(key, (Number, Switch)) else 0
