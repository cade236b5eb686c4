"""Graphs: nodes joined one behind the other. Who makes them must keep graph and nodes alive."""

from __future__ import annotations

from typing import Any

from samna.nodes import Route, TypeFilter

FILTERS = ("Speck2fOutputEventTypeFilter", "Speck2eOutputEventTypeFilter")


class EventFilterGraph:
    """Events flow through it while it runs; it holds the filters it made, and no other node."""

    def __init__(self) -> None:
        self._routes: list[Route] = []
        self._filters: list[Any] = []
        self._is_running = False

    def sequential(self, nodes: list[Any]) -> list[Any]:
        """Join nodes; names of filters become new nodes."""
        if self._is_running:
            raise RuntimeError("a running graph can not be changed")
        joined = [self._node(each) for each in nodes]
        self._routes.append(Route(joined))
        return joined

    def start(self) -> None:
        """Let events flow from here on."""
        self._drain()
        self._set(is_running=True)

    def stop(self) -> None:
        """Let no more events flow."""
        self._drain()
        self._set(is_running=False)

    def _node(self, each: Any) -> Any:
        if not isinstance(each, str):
            return each
        if each not in FILTERS:
            raise RuntimeError(f"filter {each} does not exist")
        self._filters.append(TypeFilter(each[:7].lower()))
        return self._filters[-1]

    def _drain(self) -> None:
        """What has come up to now goes where it went up to now."""
        for route in self._routes:
            route.drain()

    def _set(self, *, is_running: bool) -> None:
        self._is_running = is_running
        for route in self._routes:
            route.is_running = is_running
