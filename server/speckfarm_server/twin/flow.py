"""The flow of spikes through the graph of cores: which core goes on next, and how far it may.

A core is a FIFO, so one that a single link leads to takes whatever has come. A merge must know that
nothing earlier is on its way: every source gives a guarantee, the earliest time at which a spike of
it may still arrive, and the merge takes what lies before all of them. (Conservative simulation of
discrete events, after Chandy and Misra, 1979; processing takes time, so guarantees always rise.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from speckfarm_server.configuration import Destination
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.twin.core import NEVER_NS, Core, Surroundings
from speckfarm_server.twin.graph import INPUT, Node
from speckfarm_server.twin.inbox import FOREVER_NS, Bound, Inbox, copied
from speckfarm_server.twin.kernel import Spikes


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many spikes are held, 24 bytes each."""

    buffer: int = 1 << 15  # a core's, beyond what one arrival can emit; then others go on
    # In all inboxes together. Only a branch slower than another one with which it merges lets so
    # many wait: about the queue that a chip of unbounded FIFOs would have at that time.
    waiting: int = 1 << 23


class Station:
    """A core in the flow."""

    def __init__(self, node: Node, surroundings: Surroundings) -> None:
        links = [link.destination for link in node.links]
        # The kernel applies one link, an inbox several.
        only = links[0] if len(links) == 1 else Destination(core=node.core.core)
        self.core = Core(node.core, only, surroundings)
        self.number = node.core.core
        self.inbox = Inbox(links)
        self.sources = [link.source for link in node.links]  # core numbers or INPUT, by rank
        self.ways: list[tuple[Inbox, int]] = []  # inboxes that its spikes go to, and its rank there
        self.lends = True  # its buffer, for whoever gets its spikes is done before it goes on

    def is_ready(self, bound: Bound, last_ns: int) -> bool:
        """Whether there is something to serve; ticks are due up to `last_ns`."""
        if not self.core.is_done or self.inbox.has_due(bound):
            return True
        return self.core.ticks and self.core.next_tick_ns <= min(bound.t_ns, last_ns)

    def is_ahead(self, enough: int) -> bool:
        """Whether enough of its spikes wait for a slower branch."""
        return any(inbox.waiting[rank] >= enough for inbox, rank in self.ways)

    def next_ns(self, bound: Bound, last_ns: int) -> int:
        """The earliest time at which it may serve anything."""
        arrival_ns = min(bound.t_ns, self.core.arrival_ns, self.inbox.first_ns)
        tick_ns = self.core.next_tick_ns
        if arrival_ns == FOREVER_NS and tick_ns > last_ns:
            return FOREVER_NS  # the recording has ended, and with it the ticks
        return max(self.core.busy_ns, min(arrival_ns, tick_ns))

    def advance(self, bound: Bound, last_ns: int) -> Spikes:
        """Serve what is due, until the buffer is full; return what leaves, valid until the next."""
        if self.core.is_done:
            self.core.accept(self.inbox.take(bound))
        ticks_until_ns = NEVER_NS
        if self.core.ticks:
            ticks_until_ns = min(bound.t_ns, last_ns, self.inbox.first_ns)
        self.core.advance(ticks_until_ns)
        leaving = self.core.emitted
        spikes = leaving if self.lends else copied(leaving)
        for inbox, rank in self.ways:
            inbox.put(rank, spikes)
        return leaving


class Flow:
    """All stations, sources first, and where the input enters."""

    def __init__(self, stations: Sequence[Station], limits: Limits) -> None:
        self._stations = stations
        self._limits = limits
        self._entries = [
            (station.inbox, rank)
            for station in stations
            for rank, source in enumerate(station.sources)
            if source == INPUT
        ]
        places = {station.number: place for place, station in enumerate(stations)}
        self._places = [[places.get(n, INPUT) for n in station.sources] for station in stations]
        for place, station in enumerate(stations):
            for rank, source in enumerate(self._places[place]):
                if source != INPUT:
                    stations[source].ways.append((station.inbox, rank))
        merges = any(station.inbox.merges for station in stations)
        for station in stations:
            station.lends = not merges
        self._needs_bounds = merges or any(station.core.ticks for station in stations)
        self.start_recording()

    def start_recording(self) -> None:
        """Forget spikes on their way; the input has given nothing yet."""
        self._last_ns = self._input_ns = NEVER_NS
        for station in self._stations:
            station.inbox.clear()

    def put(self, spikes: Spikes, last_ns: int) -> None:
        """Take input spikes in order of time; none before `last_ns` will follow."""
        self._last_ns = self._input_ns = last_ns
        for inbox, rank in self._entries:
            inbox.put(rank, spikes)

    def end_input(self) -> None:
        """No input spike will follow."""
        self._input_ns = FOREVER_NS

    def settle(self) -> Iterator[tuple[Core, Spikes]]:
        """Advance cores, most downstream first, until all that is left waits for the input."""
        bounds = self._bounds()
        while (place := self._next(bounds)) is not None:
            station = self._stations[place]
            yield station.core, station.advance(bounds[place], self._last_ns)
            if self._needs_bounds:
                self._check_waiting()
                bounds = self._bounds()

    def _next(self, bounds: Sequence[Bound]) -> int | None:
        behind: list[tuple[int, int]] = []
        for place in reversed(range(len(self._stations))):
            station, bound = self._stations[place], bounds[place]
            if station.is_ready(bound, self._last_ns):
                if station.lends or not station.is_ahead(self._limits.buffer):
                    return place
                behind.append((station.next_ns(bound, self._last_ns), place))
        # All are ahead of a slower branch: the last of them must go on, unless that is the input.
        next_ns, place = min(behind, default=(FOREVER_NS, INPUT))
        return place if next_ns < self._input_ns else None

    def _bounds(self) -> list[Bound]:
        """For each station, what its sources guarantee together; anything if nobody asks."""
        if not self._needs_bounds:
            return [Bound(FOREVER_NS, 0)] * len(self._stations)
        bounds: list[Bound] = []
        guarantees: list[int] = []
        for station, places in zip(self._stations, self._places, strict=True):
            from_sources = [
                Bound(self._input_ns if place == INPUT else guarantees[place], rank)
                for rank, place in enumerate(places)
            ]
            bound = min(from_sources, default=Bound(self._input_ns, 0))
            bounds.append(bound)
            next_ns = station.next_ns(bound, self._last_ns)
            guarantees.append(min(next_ns + station.core.delay_ns, FOREVER_NS))
        return bounds

    def _check_waiting(self) -> None:
        waiting = sum(sum(station.inbox.waiting) for station in self._stations)
        allowed = self._limits.waiting
        if waiting > allowed:
            text = (
                f"{waiting:,} spikes wait in front of cores that are slower than others with which "
                f"they merge again; the twin holds {allowed:,}. Give the slower branch less to do "
                "(fewer spikes, a decimator, smaller kernels), or run shorter recordings"
            )
            reason = "TWIN_QUEUE_TOO_LONG"
            raise BoardFault(reason, text, ErrorClass.LIMIT, found=waiting, allowed=allowed)
