"""The inbox of a core: spikes that have arrived or will, until it is certain which is the next."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.configuration import Destination
from speckfarm_server.twin.kernel import SPIKE_DTYPE, Spikes

NO_SPIKES = np.empty(0, SPIKE_DTYPE)
FOREVER_NS = (1 << 63) - 1
MANY = 1 << 18  # spikes that are taken together, about; more would take too long to sort


class Bound(NamedTuple):
    """What is still to come into an inbox comes no earlier, and at this time by no earlier link."""

    t_ns: int
    rank: int


class Inbox:
    """One queue per link, in the order in which links are served at equal times."""

    def __init__(self, links: Sequence[Destination], many: int = MANY) -> None:
        self._many = many
        self._links = tuple(links)
        self._queues: list[deque[Spikes]] = [deque() for _ in links]
        self._nothing = [0] * len(self._links)
        self.waiting = self._nothing.copy()  # spikes per link
        self.merges = len(self._links) > 1

    def clear(self) -> None:
        """Forget everything."""
        self._queues = [deque() for _ in self._links]
        self.waiting = self._nothing.copy()

    def put(self, rank: int, spikes: Spikes) -> None:
        """Add to a link's queue spikes in order of time, none before those there; not copied."""
        if len(spikes):
            self._queues[rank].append(spikes)
            self.waiting[rank] += len(spikes)

    @property
    def first_ns(self) -> int:
        """Time of the earliest spike."""
        return min((int(q[0]["t_ns"][0]) for q in self._queues if q), default=FOREVER_NS)

    def has_due(self, bound: Bound) -> bool:
        """Whether `take` would take anything."""
        if not self.merges:
            return self.waiting != self._nothing
        return any(
            (int(queue[0]["t_ns"][0]), rank) <= bound
            for rank, queue in enumerate(self._queues)
            if queue
        )

    def take(self, bound: Bound) -> Spikes:
        """Remove spikes that nothing to come can precede, in the order of service.

        Of very many only the first; `has_due` tells. One link needs no bound and leaves pooling and
        feature shift to the kernel; those of several links are applied here.
        """
        if not self.merges:
            return _joined(self._take_first())
        if sum(self.waiting) > self._many:  # then no queue beyond its first piece
            bound = min(bound, *self._ends())
        parts = []
        for rank, link in enumerate(self._links):
            find = bisect_right if rank <= bound.rank else bisect_left
            spikes = self._take(rank, bound.t_ns, find)
            if spikes:
                parts.append(_through(link, np.concatenate(spikes)))
        merged = _joined(parts)
        return merged[np.argsort(merged["t_ns"], kind="stable")] if len(parts) > 1 else merged

    def _ends(self) -> list[Bound]:
        return [
            Bound(int(queue[0]["t_ns"][-1]), rank)
            for rank, queue in enumerate(self._queues)
            if queue
        ]

    def _take_first(self) -> list[Spikes]:
        """Pieces of the only queue."""
        taken: list[Spikes] = []
        for queue in self._queues:
            before = self.waiting[0]
            while queue and before - self.waiting[0] < self._many:
                taken.append(queue.popleft())
                self.waiting[0] -= len(taken[-1])
        return taken

    def _take(
        self, rank: int, t_ns: int, find: Callable[[NDArray[np.int64], int], int]
    ) -> list[Spikes]:
        """Pieces of a queue up to `t_ns`; `find` says whether that time is included."""
        queue = self._queues[rank]
        taken: list[Spikes] = []
        while queue and queue[0]["t_ns"][0] <= t_ns:
            spikes = queue.popleft()
            due = len(spikes) if spikes["t_ns"][-1] < t_ns else find(spikes["t_ns"], t_ns)
            if due:
                taken.append(spikes[:due])
                self.waiting[rank] -= due
            if due < len(spikes):
                queue.appendleft(spikes[due:])
                break
        return taken


def copied(spikes: Spikes) -> Spikes:
    """A copy; of whole words, for numpy copies fields one by one."""
    return spikes.view(np.int64).copy().view(SPIKE_DTYPE)


def _through(link: Destination, spikes: Spikes) -> Spikes:
    """Change spikes to what arrives at the end of a link."""
    spikes["y"] //= link.pooling
    spikes["x"] //= link.pooling
    spikes["feature"] += link.feature_shift
    return spikes


def _joined(pieces: list[Spikes]) -> Spikes:
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else NO_SPIKES
