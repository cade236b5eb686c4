"""Nodes of graphs, and routes of events through them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from samna.chips import FIELDS, INPUTS


class Route:
    """Nodes in a row; dead when one of them is. The graph owns it."""

    def __init__(self, nodes: Sequence[Any]) -> None:
        self._nodes = [weakref.ref(node) for node in nodes]
        self.is_running = False
        nodes[0].routes.add(self)
        nodes[-1].routes.add(self)

    def pass_on(self, events: list[Any], head: Any) -> None:
        """Let events of the first node reach the last one."""
        nodes = self._alive()
        if not self.is_running or not nodes or nodes[0] is not head:
            return
        for node in nodes[1:-1]:
            events = node.filtered(events)
        if events:
            nodes[-1].take(events)

    def pull(self) -> None:
        """Let the first node give what it has, for somebody reads."""
        nodes = self._alive()
        if nodes and isinstance(nodes[0], BoardSource):
            nodes[0].pull()

    def drain(self) -> None:
        """Let the first node give what it has."""
        nodes = self._alive()
        if nodes and isinstance(nodes[0], BoardSource):
            nodes[0].drain()

    def _alive(self) -> list[Any]:
        nodes = [reference() for reference in self._nodes]
        return [] if None in nodes else nodes


class Node:
    """The end of routes."""

    def __init__(self) -> None:
        self.routes: weakref.WeakSet[Route] = weakref.WeakSet()

    def give(self, events: list[Any]) -> None:
        """Send events on their routes."""
        for route in list(self.routes):
            route.pass_on(events, self)


class SinkNode(Node):
    """Where a program takes events out."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[Any] = []

    def take(self, events: list[Any]) -> None:
        """Keep events until they are asked for."""
        self._events += events

    def get_events(self) -> list[Any]:
        """All that came since the last call."""
        for route in list(self.routes):
            route.pull()
        events, self._events = self._events, []
        return events

    def clear_events(self) -> None:
        """Forget all that came."""
        self.get_events()


class BoardSink(Node):
    """Where a board takes events in."""

    def __init__(self, take: Callable[[list[Any]], None]) -> None:
        super().__init__()
        self.take = take


class BoardSource(Node):
    """Where a board gives events; `pull` makes it do so when somebody reads, `drain` at will."""

    def __init__(self, *, pull: Callable[[], None], drain: Callable[[], None]) -> None:
        super().__init__()
        self.pull, self.drain = pull, drain


class TypeFilter(Node):
    """Lets one type of event pass; all of them until it is told which."""

    def __init__(self, chip: str) -> None:
        super().__init__()
        self._types = {f"{chip}::event::{name}": name for name in FIELDS}
        self._desired: str | None = None

    def set_desired_type(self, name: str) -> None:
        """By the C++ name."""
        if name not in self._types:
            raise RuntimeError(f"{name} is no type of this filter")
        self._desired = self._types[name]

    def filtered(self, events: list[Any]) -> list[Any]:
        """Those that pass."""
        if self._desired is None:
            return events
        return [event for event in events if type(event).__name__ == self._desired]


def source_node_class(events: SimpleNamespace) -> type:
    """The class of nodes by which a program sends a chip's events."""
    kinds = {getattr(events, name) for name in INPUTS}

    class SourceNode(Node):
        """Where a program puts events in."""

        def write(self, events: list[Any]) -> None:
            """Send events; they are lost if no running graph leads to a board."""
            if wrong := {type(event) for event in events} - kinds:
                raise TypeError(f"incompatible function arguments: {wrong}")
            self.give(list(events))

    return SourceNode
