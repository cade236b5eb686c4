"""The waiting line: queued jobs in the order they came, quick however many there are."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from heapq import merge
from itertools import count, islice

from speckfarm_server.live import LiveJob
from speckfarm_server.schedule import Waiting


@dataclass(frozen=True, kw_only=True)
class _Place:
    ticket: int  # rises from job to job
    live: LiveJob
    waiting: Waiting
    group: Hashable
    clock: asyncio.TimerHandle | None  # when it expires; None: never


class WaitingLine:
    """Jobs that wait for a board; first come, first served."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._tickets: list[int] = []  # of those who wait, ascending
        # Jobs that may run on the same boards: only the first few of each group can be next.
        self._groups: dict[Hashable, OrderedDict[int, Waiting]] = {}
        self._next_ticket = count()

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._places

    def add(self, live: LiveJob, clock: asyncio.TimerHandle | None) -> None:
        """Let a job wait at the end; its timer is cancelled when it leaves."""
        waiting = Waiting(
            job=live.spec.id,
            chip=live.spec.chip,
            board_kind=live.spec.board_kind,
            configuration=live.spec.configuration,
            board_pin=live.spec.board_pin,
            avoid=live.avoid,
        )
        group = (waiting.chip, waiting.board_kind, waiting.board_pin, waiting.avoid)
        ticket = next(self._next_ticket)
        place = _Place(ticket=ticket, live=live, waiting=waiting, group=group, clock=clock)
        self._places[live.spec.id] = place
        self._tickets.append(ticket)
        self._groups.setdefault(group, OrderedDict())[ticket] = waiting

    def remove(self, job_id: str) -> LiveJob | None:
        """Take a job out; None if it does not wait."""
        place = self._places.pop(job_id, None)
        if place is None:
            return None
        if place.clock is not None:
            place.clock.cancel()
        del self._tickets[bisect_left(self._tickets, place.ticket)]
        group = self._groups[place.group]
        del group[place.ticket]
        if not group:
            del self._groups[place.group]
        return place.live

    def first(self, boards: int) -> list[Waiting]:
        """Every job that could be given one of so many boards, oldest first."""
        heads = [islice(group.items(), boards) for group in self._groups.values()]
        return [waiting for _, waiting in merge(*heads, key=lambda item: item[0])]

    def find(self, job_id: str) -> tuple[Waiting, int] | None:
        """A job and how many are ahead of it; None if it does not wait."""
        place = self._places.get(job_id)
        if place is None:
            return None
        return place.waiting, bisect_left(self._tickets, place.ticket)
