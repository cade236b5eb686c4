"""The graph of cores: who sends to whom. Spikes only go forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
from speckfarm_server.twin.refuse import refuse


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What sends spikes to cores: the input, or a core."""

    core: CoreConfiguration | None  # None: the input
    ways: tuple[Destination, ...]  # to cores, in order of service at equal times


def find_sources(configuration: Configuration) -> list[Source]:
    """The input, then all cores by layer; ValueError for what the twin cannot run."""
    refuse(configuration)
    sources = [Source(core=None, ways=_ways(configuration, None))]
    for core in sorted(configuration.cores, key=lambda core: core.layer):
        sources.append(Source(core=core, ways=_ways(configuration, core)))
    _check_forward(sources)
    return sources


def input_ways(configuration: Configuration) -> tuple[Destination, ...]:
    """Where recorded events enter."""
    dvs = configuration.dvs
    return configuration.inputs if dvs is None or not dvs.destinations else dvs.destinations


def _ways(configuration: Configuration, core: CoreConfiguration | None) -> tuple[Destination, ...]:
    ways = input_ways(configuration) if core is None else core.destinations
    readout = find_chip(configuration.chip).readout  # readout.py; nothing waits for it
    used = tuple(way for way in ways if way.enable and way.core != readout)
    for way in used:
        _check_way("the input" if core is None else f"core {core.core}", way, configuration)
    return used


def _check_forward(sources: Sequence[Source]) -> None:
    """Raise ValueError if spikes could come back to a core."""
    into: dict[int, set[int]] = {
        source.core.core: set() for source in sources if source.core is not None
    }
    for source in sources:
        if source.core is not None:
            for way in source.ways:
                into[way.core].add(source.core.core)
    while free := [number for number, before in into.items() if not before]:
        into = {n: before - set(free) for n, before in into.items() if n not in free}
    if into:
        found = ", ".join(map(str, _in_loops(into)))
        text = "the twin runs feed-forward graphs of cores only, for loops may deadlock a chip"
        raise ValueError(f"cores {found} send spikes back to themselves; {text}")


def _in_loops(into: dict[int, set[int]]) -> list[int]:
    """Leave out cores that lead to none of the others."""
    while True:
        leading = set().union(*into.values())
        kept = {number: before & set(into) for number, before in into.items() if number in leading}
        if len(kept) == len(into):
            return sorted(into)
        into = kept


def _check_way(name: str, way: Destination, configuration: Configuration) -> None:
    if configuration.core_of(way.core) is None:
        raise ValueError(f"{name} sends to core {way.core}, which is not configured")
    low, high = find_chip(configuration.chip).feature_shift
    if not low <= way.feature_shift <= high:
        found = f"found {way.feature_shift}, must be {low} to {high}"
        raise ValueError(f"{name}, feature_shift to core {way.core}: {found}")
