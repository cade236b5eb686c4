"""The least decimation that removes an overrun: a guided search over runs that somebody measures.

A decimator at a layer's output thins what the layers behind it get. So the search raises decimators
of the layers that feed the suspected one, by what the estimated excess asks for, until no run is
overrun; then it lowers each of them again as far as it goes. It takes for granted that a higher
decimator never causes an overrun; what it recommends was measured all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

# What a chip can be told: 1 spike in N passes (datasheet; there is no 64). 1 is off.
DIVISORS = (1, 2, 4, 8, 16, 32, 128, 256, 512)
HIGHEST = len(DIVISORS) - 1  # level, an index into DIVISORS

RAISES_PER_LAYER = 4  # the n-th raise of a decimator is by 2^(n-1) levels or more
LOWERINGS_PER_LAYER = 4  # one level less, then a bisection of what is left

Decimator: TypeAlias = Mapping[int, int]  # layer -> N; layers that are off are left out
Verdict: TypeAlias = Literal[
    "healthy", "removed", "first_layer", "not_removed", "unknown", "stopped"
]


@dataclass(frozen=True, kw_only=True)
class Overrun:
    """What a run says: a core was asked for more than it can do."""

    layer: int | None  # that the suspected core runs; None: unknown
    excess: float | None  # demanded / sustainable synaptic operations per second; None: unknown


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the search found."""

    verdict: Verdict
    decimator: Decimator  # the least that was seen without overrun; {} if there is none
    overrun: Overrun | None  # that stands in the way, unless healthy or removed
    is_least: bool  # no decimator can be lowered by one step


Measure: TypeAlias = Callable[[Decimator], "Overrun | None"]


def most_runs(sources: Mapping[int, Sequence[int]]) -> int:
    """How many runs a search takes at most; `sources` are the layers that feed each layer."""
    return 1 + (RAISES_PER_LAYER + LOWERINGS_PER_LAYER) * len(_feeding(sources))


def find_least(
    measure: Measure, sources: Mapping[int, Sequence[int]], *, max_runs: int | None = None
) -> Outcome:
    """Search with at most `max_runs` runs, or as `most_runs` says; never measures one twice."""
    return _Search(measure, sources, max_runs or most_runs(sources)).run()


class _Stopped(Exception):
    """No run is left."""


class _Search:
    def __init__(
        self, measure: Measure, sources: Mapping[int, Sequence[int]], max_runs: int
    ) -> None:
        self._measure = measure
        self._sources = sources
        self._runs_left = max_runs
        self._levels = dict.fromkeys(_feeding(sources), 0)
        self._raises: dict[int, int] = {}  # layer -> how often, in the order of the first raise
        self._known: dict[tuple[int, ...], Overrun | None] = {}

    def run(self) -> Outcome:
        """Raise, then lower."""
        overrun: Overrun | None = None
        try:
            while overrun := self._overrun():
                if hopeless := self._raise(overrun):
                    return self._failed(hopeless, overrun)
        except _Stopped:
            return self._failed("stopped", overrun)
        is_least = self._lower()
        verdict: Verdict = "removed" if self._raises else "healthy"
        return Outcome(
            verdict=verdict, decimator=self._decimator(), overrun=None, is_least=is_least
        )

    def _overrun(self) -> Overrun | None:
        """What the run with the present levels says."""
        key = tuple(self._levels.values())
        if key not in self._known:
            if self._runs_left == 0:
                raise _Stopped
            self._runs_left -= 1
            self._known[key] = self._measure(self._decimator())
        return self._known[key]

    def _raise(self, overrun: Overrun) -> Verdict | None:
        """Raise the nearest decimators before the suspected layer; why not, if none is left."""
        if overrun.layer is None:
            return "unknown"
        ring = list(self._sources.get(overrun.layer, ()))
        if not ring:
            return "first_layer"
        seen = set(ring)
        while ring and all(self._levels[layer] == HIGHEST for layer in ring):
            behind = {each for layer in ring for each in self._sources.get(layer, ())} - seen
            ring, seen = sorted(behind), seen | behind
        for layer in ring:
            self._raise_one(layer, overrun.excess)
        return None if ring else "not_removed"

    def _raise_one(self, layer: int, excess: float | None) -> None:
        level = self._levels[layer]
        if level < HIGHEST:
            times = self._raises[layer] = self._raises.get(layer, 0) + 1
            wanted = max(level + 2 ** (times - 1), _level_of(DIVISORS[level] * (excess or 1.0)))
            self._levels[layer] = min(wanted, HIGHEST)

    def _lower(self) -> bool:
        """Lower each decimator as far as it goes, that raised first first; False if stopped."""
        for layer in self._raises:
            good = self._levels[layer]
            try:
                if good == 0 or not self._is_good(layer, good - 1):
                    continue
                good -= 1
                low = 0
                while low < good:
                    middle = (low + good) // 2
                    if self._is_good(layer, middle):
                        good = middle
                    else:
                        low = middle + 1
            except _Stopped:
                return False
            finally:
                self._levels[layer] = good
        return True

    def _is_good(self, layer: int, level: int) -> bool:
        self._levels[layer] = level
        return self._overrun() is None

    def _decimator(self) -> Decimator:
        return {layer: DIVISORS[level] for layer, level in self._levels.items() if level}

    def _failed(self, verdict: Verdict, overrun: Overrun | None) -> Outcome:
        return Outcome(verdict=verdict, decimator={}, overrun=overrun, is_least=False)


def _feeding(sources: Mapping[int, Sequence[int]]) -> list[int]:
    """Layers that feed another one."""
    return sorted({layer for feeding in sources.values() for layer in feeding})


def _level_of(divisor: float) -> int:
    """The lowest level that thins by `divisor` at least, or the highest."""
    if not math.isfinite(divisor):
        return HIGHEST
    return next((n for n, known in enumerate(DIVISORS) if known >= divisor), HIGHEST)
