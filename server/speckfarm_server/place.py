"""Placement: which core runs which layer, by memory alone, always the same for the same network.

Cores 0 and 1 process in parallel and their results are not bit-reproducible on silicon (Datasheet;
sinabs issue 186), so they are used as little as possible; then lower core numbers come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from speckfarm_server.chip import Chip, CoreLimits

UNREPRODUCIBLE_CORES = frozenset({0, 1})
_Best = tuple[int, int, tuple[int, ...]]  # layers without a core, uses of cores 0 and 1, cores


@dataclass(frozen=True, kw_only=True)
class Need:
    """Memory one layer needs, as the chip rounds it up."""

    kernel_entries: int  # 8-bit words
    neuron_entries: int  # 16-bit words
    bias_entries: int = 0  # 16-bit words

    def fits(self, core: CoreLimits) -> bool:
        """Whether one core holds it."""
        return self.excess(core) == 0

    def excess(self, core: CoreLimits) -> int:
        """How many of the core's three memories are too small, 0 to 3."""
        return (
            (self.kernel_entries > core.kernel_entries)
            + (self.neuron_entries > core.neuron_entries)
            + (self.bias_entries > core.bias_entries)
        )


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Layer i runs on core `cores[i]`; for layers in `unplaced` that is only a draft."""

    cores: tuple[int, ...]
    unplaced: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Contention:
    """More layers than the cores that could hold any of them."""

    layers: tuple[int, ...]
    cores: tuple[int, ...]


def place(needs: Sequence[Need], chip: Chip, pins: Mapping[int, int]) -> Placement:
    """Give every layer its own core: the most layers placed, then the fewest on cores 0 and 1,
    then the lowest cores, first layer first.

    `pins` (layer -> core) are kept, even where the layer does not fit. Layers that no core is left
    for get some free core as a draft. Takes at most as many layers as the chip has cores, else
    ValueError. Well below 1 ms.
    """
    if len(needs) > len(chip.cores):
        raise ValueError(f"{len(needs)} layers on {len(chip.cores)} cores")
    candidates = candidate_cores(needs, chip, pins)
    cores = _search(candidates, chip, may_skip=False) or _search(candidates, chip, may_skip=True)
    unplaced = [layer for layer, core in enumerate(cores) if core == len(chip.cores)]
    drafts = list(cores)
    for layer in unplaced:
        drafts[layer] = pins.get(layer, -1)
    for layer in unplaced:
        if drafts[layer] < 0:
            free = [core for core in range(len(chip.cores)) if core not in drafts]
            drafts[layer] = min(free, key=lambda c: (needs[layer].excess(chip.cores[c]), c))
    return Placement(cores=tuple(drafts), unplaced=frozenset(unplaced))


def candidate_cores(
    needs: Sequence[Need], chip: Chip, pins: Mapping[int, int]
) -> list[tuple[int, ...]]:
    """For each layer the cores it may go to, ascending: its pin, or those no other layer pins."""
    pinned = {core for layer, core in pins.items() if layer < len(needs)}
    free = [core for core in range(len(chip.cores)) if core not in pinned]
    return [
        tuple(
            core
            for core in ([pins[layer]] if layer in pins else free)
            if need.fits(chip.cores[core])
        )
        for layer, need in enumerate(needs)
    ]


def find_contention(candidates: Sequence[tuple[int, ...]], placement: Placement) -> Contention:
    """Why an incomplete placement cannot be completed, by Hall's theorem.

    From the unplaced layers, alternately: cores they could use, layers that hold those cores.
    Layers without any candidate are left out: they have another problem.
    """
    holder = {
        core: layer for layer, core in enumerate(placement.cores) if layer not in placement.unplaced
    }
    layers = {layer for layer in placement.unplaced if candidates[layer]}
    fresh, cores = set(layers), set[int]()
    while fresh:
        reached = {core for layer in fresh for core in candidates[layer]} - cores
        cores |= reached
        fresh = {holder[core] for core in reached if core in holder} - layers
        layers |= fresh
    return Contention(layers=tuple(sorted(layers)), cores=tuple(sorted(cores)))


def _search(
    candidates: Sequence[tuple[int, ...]], chip: Chip, *, may_skip: bool
) -> tuple[int, ...]:
    """Exact dynamic programme over (layer, used cores); () if there is no complete placement.

    Of cores that are alike for every layer only the lowest free one is tried, which leaves at most
    162 sets of used cores on a Speck. A skipped layer gets the core number len(chip.cores).
    """
    nowhere = len(chip.cores)
    alike = _alike(candidates, nowhere)

    @cache
    def best(layer: int, used: int) -> _Best | None:
        if layer == len(candidates):
            return 0, 0, ()
        options = []
        tried = set[tuple[int, ...]]()
        for core in candidates[layer]:
            if used >> core & 1 or alike[core] in tried:
                continue
            tried.add(alike[core])
            rest = best(layer + 1, used | 1 << core)
            if rest is not None:
                uses = rest[1] + (core in UNREPRODUCIBLE_CORES)
                options.append((rest[0], uses, (core, *rest[2])))
        rest = best(layer + 1, used) if may_skip else None
        if rest is not None:
            options.append((rest[0] + 1, rest[1], (nowhere, *rest[2])))
        return min(options, default=None)

    found = best(0, 0)
    return () if found is None else found[2]


def _alike(candidates: Sequence[tuple[int, ...]], cores: int) -> list[tuple[int, ...]]:
    """For each core a key that equals another core's if swapping the two changes nothing."""
    return [
        (
            int(core in UNREPRODUCIBLE_CORES),
            *(layer for layer, allowed in enumerate(candidates) if core in allowed),
        )
        for core in range(cores)
    ]
