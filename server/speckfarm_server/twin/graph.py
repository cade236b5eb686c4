"""The graph of cores: who sends to whom, in an order in which spikes only go forward."""

from __future__ import annotations

from dataclasses import dataclass

from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination

INPUT = -1  # in place of a core's number


@dataclass(frozen=True, kw_only=True)
class Link:
    """One way into a core."""

    source: int  # core, or INPUT
    destination: Destination


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A core and all that leads to it, first what is served first at equal times."""

    core: CoreConfiguration
    links: tuple[Link, ...]


def order_cores(configuration: Configuration) -> list[Node]:
    """All cores, sources before targets; ValueError for what the twin cannot run."""
    _refuse(configuration)
    sources = [(INPUT, input_ways(configuration))]
    for core in sorted(configuration.cores, key=lambda core: core.layer):
        sources.append((core.core, core.destinations))
    into: dict[int, list[Link]] = {core.core: [] for core in configuration.cores}
    readout = find_chip(configuration.chip).readout  # the host counts; nothing waits for it
    for source, ways in sources:
        for way in ways:
            if way.enable and way.core != readout:
                _check_way(source, way, configuration)
                into[way.core].append(Link(source=source, destination=way))
    cores = {core.core: core for core in configuration.cores}
    return [Node(core=cores[core], links=tuple(into[core])) for core in _forward(into)]


def input_ways(configuration: Configuration) -> tuple[Destination, ...]:
    """Where recorded events enter."""
    dvs = configuration.dvs
    return configuration.inputs if dvs is None or not dvs.destinations else dvs.destinations


def _forward(into: dict[int, list[Link]]) -> list[int]:
    """Cores, each behind all its sources."""
    order: list[int] = []
    waiting = list(into)
    while waiting:
        done = {INPUT, *order}
        free = [n for n in waiting if all(link.source in done for link in into[n])]
        if not free:
            found = ", ".join(map(str, _in_loops({n: into[n] for n in waiting})))
            text = "the twin runs feed-forward graphs of cores only, for loops may deadlock a chip"
            raise ValueError(f"cores {found} send spikes back to themselves; {text}")
        order += free
        waiting = [number for number in waiting if number not in free]
    return order


def _in_loops(into: dict[int, list[Link]]) -> list[int]:
    """Leave out cores that lead to none of the others."""
    while True:
        leading = {link.source for links in into.values() for link in links}
        kept = {number: links for number, links in into.items() if number in leading}
        if len(kept) == len(into):
            return sorted(into)
        into = kept


def _check_way(source: int, way: Destination, configuration: Configuration) -> None:
    name = "the input" if source == INPUT else f"core {source}"
    if configuration.core_of(way.core) is None:
        raise ValueError(f"{name} sends to core {way.core}, which is not configured")
    low, high = find_chip(configuration.chip).feature_shift
    if not low <= way.feature_shift <= high:
        found = f"found {way.feature_shift}, must be {low} to {high}"
        raise ValueError(f"{name}, feature_shift to core {way.core}: {found}")


def _refuse(configuration: Configuration) -> None:
    """Raise ValueError for what is no graph, or what the twin does not know."""
    for name in ("core", "layer"):
        numbers = [getattr(core, name) for core in configuration.cores]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"{name}: found {numbers}; each may be used once")
    if not any(way.enable for way in input_ways(configuration)):
        raise ValueError("no core takes the input; set `inputs`, or destinations of `dvs`")
    dvs = configuration.dvs
    if dvs is not None and dvs.destinations and configuration.inputs:
        raise ValueError("recorded events enter by `inputs` or by `dvs`; found both")
    if dvs is not None and dvs.monitor_enable:
        raise ValueError("dvs.monitor_enable: found True; the twin monitors cores only")
    for core in configuration.cores:
        for name in ("weights_kill", "biases_kill", "neurons_kill"):
            bits = getattr(core, name)
            if bits is not None and bits.any():
                text = "what killed ones do is not published, so the twin refuses them"
                raise ValueError(f"core {core.core}, {name}: found {int(bits.sum())} set; {text}")
