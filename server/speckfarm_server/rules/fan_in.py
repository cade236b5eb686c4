"""Links of a configuration as the chip sees them: who feeds which core with which features.

A core that runs nothing is still there with the chip's values after a reset, and can be named by a
destination. Source: the vendor's validator in samna 0.7.1 (chip speck2b), probed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
from speckfarm_server.rules.core import Problem

LinkProblem: TypeAlias = tuple[int | None, Problem]  # layer it is about
LinkRule: TypeAlias = Callable[[Configuration, Chip], Iterator[LinkProblem]]
RESET_SHAPE = (1, 1, 1)  # input of a core that nobody configured


@dataclass(frozen=True, kw_only=True)
class Target:
    """A core that a destination names."""

    core: int
    layer: int | None  # None: runs nothing
    input_shape: tuple[int, int, int]

    @property
    def name(self) -> str:
        """The layer, or the core if it runs none."""
        if self.layer is None:
            return f"core {self.core}, which runs no layer,"
        return f"layer {self.layer}"


@dataclass(frozen=True, kw_only=True)
class FanIn:
    """What arrives at one core: a range of its input features for each source."""

    target: Target
    # First feature, one past the last; sorted by the first, then by core and slot, camera last.
    ranges: tuple[tuple[int, int], ...]


def slots(
    configuration: Configuration, *, enabled: bool = False
) -> Iterator[tuple[CoreConfiguration, Destination]]:
    """Every destination of every core, slots that are off too unless `enabled`."""
    for core in configuration.cores:
        for to in core.destinations:
            if to.enable or not enabled:
                yield core, to


def links(
    configuration: Configuration, chip: Chip
) -> Iterator[tuple[CoreConfiguration, Destination, Target]]:
    """Enabled destinations that reach a core; pooling by 0 reaches none."""
    for core, to in slots(configuration, enabled=True):
        if 0 <= to.core < len(chip.cores) and to.pooling > 0:
            yield core, to, _target(configuration, to.core)


def dvs_targets(configuration: Configuration, chip: Chip) -> Iterator[Target]:
    """The cores that camera events reach."""
    dvs = configuration.dvs
    if dvs is None or min(dvs.pooling) < 1:
        return
    for to in dvs.destinations:
        if to.enable and 0 <= to.core < len(chip.cores):
            yield _target(configuration, to.core)


def fan_in(configuration: Configuration, chip: Chip) -> Iterator[FanIn]:
    """Each core that others feed; camera events are features from 0 on."""
    found: dict[int, tuple[Target, list[tuple[int, int]]]] = {}

    def add(target: Target, first: int, features: int) -> None:
        _, ranges = found.setdefault(target.core, (target, []))
        ranges.append((first, first + features))

    for core, to, target in sorted(links(configuration, chip), key=lambda link: link[0].core):
        add(target, to.feature_shift, core.output_shape[0])
    dvs = configuration.dvs
    # Merged with both polarities off, the camera layer is no source to the vendor's validator.
    if dvs is not None and (not dvs.merge or dvs.on_channel or dvs.off_channel):
        for target in dvs_targets(configuration, chip):
            add(target, 0, dvs.features)
    for way in configuration.inputs if chip.fan_in_recorded else ():
        if way.core in found:
            add(found[way.core][0], way.feature_shift, configuration.input_shape[0])
    for number in sorted(found):
        target, ranges = found[number]
        yield FanIn(target=target, ranges=tuple(sorted(ranges, key=lambda r: r[0])))


def _target(configuration: Configuration, number: int) -> Target:
    core = configuration.core_of(number)
    if core is None:
        return Target(core=number, layer=None, input_shape=RESET_SHAPE)
    return Target(core=number, layer=core.layer, input_shape=core.input_shape)
