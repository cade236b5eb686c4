"""Rules on the chip's own readout layer, where it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np

from speckfarm_server.chip import READOUT_CLASSES, READOUT_STRIDE, Chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.rules.fan_in import LinkProblem
from speckfarm_server.rules.tables import finding
from speckfarm_server.settings import Settings
from speckfarm_server.vendor.readout import class_of, readout_of, readout_ways

ReadoutRule: TypeAlias = Callable[[Configuration, Chip, Settings], Iterator[LinkProblem]]
NAMED_FEATURES = 8  # in a message; the others are counted


def check_readout(
    configuration: Configuration, chip: Chip, settings: Settings
) -> Iterator[Finding]:
    """Every violation of these rules."""
    for reason, (severity, rule) in READOUT_RULES.items():
        for layer, problem in rule(configuration, chip, settings):
            yield finding(reason, severity, layer, *problem)


def on_chip(_: Configuration, chip: Chip, settings: Settings) -> Iterator[LinkProblem]:
    """The chip has a readout layer that a core can name."""
    if settings.readout_threshold is not None and chip.readout is None:
        text = (
            f"readout_threshold = {settings.readout_threshold}, but no core of {chip.name} can "
            "send to its readout layer. Leave the setting out, or ask for speck2f or speck2e."
        )
        figures = {"readout_threshold": settings.readout_threshold, "chip": chip.name}
        yield None, (text, figures)


def slow_clock(configuration: Configuration, chip: Chip, _: Settings) -> Iterator[LinkProblem]:
    """The layer counts per tick."""
    if configuration.slow_clock_hz is None and readout_of(configuration, chip) is not None:
        text = (
            "The readout layer counts spikes per tick of the slow clock, which is off, so it would "
            "never tell a class. Set slow_clock_hz, e.g. 100, or turn the readout layer off."
        )
        yield None, (text, {"slow_clock_hz": "off"})


def features_heard(configuration: Configuration, chip: Chip, _: Settings) -> Iterator[LinkProblem]:
    """Every feature that can fire has a class."""
    if readout_of(configuration, chip) is None:
        return
    for core, way in readout_ways(configuration, chip):
        if not core.weights.size:
            continue  # WEIGHTS_SHAPE_MISMATCH says it
        used = np.flatnonzero(core.weights.reshape(len(core.weights), -1).any(axis=1)).tolist()
        heard = {n: class_of(n + way.feature_shift) for n in used}
        unheard = [n for n in used if heard[n] is None]
        if unheard:
            classes = {n: number for n, number in heard.items() if number is not None}
            words = ", ".join(f"feature {n} as class {number}" for n, number in classes.items())
            text = (
                f"The readout layer hears {words or 'none of the features'}, but not "
                f"{_listed(unheard)}: on speck2e and speck2f class n is feature "
                f"{READOUT_STRIDE}(n - 1), an erratum, and there are {READOUT_CLASSES} classes. "
                "Spread the features, class n on that one, with zeros between."
            )
            figures = {"heard": _listed(list(classes)), "unheard": len(unheard)}
            yield core.layer, (text, figures)


READOUT_RULES: Mapping[str, tuple[Severity, ReadoutRule]] = {
    "READOUT_NOT_ON_CHIP": (Severity.ERROR, on_chip),
    "READOUT_NEEDS_SLOW_CLOCK": (Severity.ERROR, slow_clock),
    "READOUT_UNHEARD": (Severity.WARNING, features_heard),
}


def _listed(features: list[int]) -> str:
    named = ", ".join(map(str, features[:NAMED_FEATURES]))
    rest = len(features) - NAMED_FEATURES
    return f"{named} and {rest} more" if rest > 0 else named
