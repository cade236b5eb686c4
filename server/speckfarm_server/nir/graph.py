"""A NIR graph to its nodes in order from Input to Output, or all reasons why there is none."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.nir.file import NirGraph, NirNode

# A nested graph's Input and Output, once it is written out flat: they pass events on.
ENTRY, EXIT = "Entry", "Exit"
_ENDS = {"Input": ENTRY, "Output": EXIT}

MAX_LISTED = 8  # names in one message


@dataclass(frozen=True, kw_only=True, eq=False)
class Flat:
    """A graph without nested graphs and without duplicate edges."""

    nodes: dict[str, NirNode]
    edges: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Road:
    """The nodes of a file; if `is_whole`, each comes after all that feed it."""

    nodes: tuple[NirNode, ...]
    is_whole: bool
    before: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # what feeds each node
    findings: tuple[Finding, ...] = ()


def problem(reason: str, message: str, **metadata: object) -> Finding:
    """Build a finding of severity ERROR; metadata holds the figures of the message."""
    plain = {key: str(value) for key, value in metadata.items()}
    return Finding(reason=reason, severity=Severity.ERROR, message=message, metadata=plain)


def find_road(graph: NirGraph) -> Road:
    """Order the nodes from Input to Output; ties by name, numbers in names as numbers.

    Findings: EDGE_TO_MISSING_NODE, NO_INPUT, NO_OUTPUT, SECOND_INPUT, SECOND_OUTPUT, GRAPH_CYCLE,
    DANGLING_NODE, DUPLICATE_NODE. With any of them the road is not whole.
    """
    flat = flatten(graph)
    findings = (
        *flat.findings,
        *_check_ends(flat),
        *_check_edges(flat),
        *_check_cycles(flat),
        *_check_dangling(flat),
    )
    if findings:
        return Road(nodes=tuple(flat.nodes.values()), is_whole=False, findings=findings)
    before = _feeding(flat.edges)
    names = in_order({name: before.get(name, ()) for name in flat.nodes})
    return Road(nodes=tuple(flat.nodes[name] for name in names), is_whole=True, before=before)


def in_order(before: Mapping[str, Iterable[str]]) -> list[str]:
    """Sort names so that each comes after those it needs; ties by name, "9" before "10"."""
    missing = {name: set(needed) for name, needed in before.items()}
    after: dict[str, list[str]] = {name: [] for name in missing}
    for name, needed in missing.items():
        for other in needed:
            after[other].append(name)
    ready = [(_natural(name), name) for name, needed in missing.items() if not needed]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, name = heapq.heappop(ready)
        ordered.append(name)
        for target in after[name]:
            missing[target].discard(name)
            if not missing[target]:
                heapq.heappush(ready, (_natural(target), target))
    return ordered


def _natural(name: str) -> list[tuple[int, str]]:
    """Digits compare as numbers: by their count, then as text."""
    parts = re.split(r"([0-9]+)", name)
    return [
        (len(part.lstrip("0")) + 1, part.lstrip("0")) if number % 2 else (0, part)
        for number, part in enumerate(parts)
    ]


def _feeding(edges: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    before: dict[str, tuple[str, ...]] = {}
    for a, b in edges:
        before[b] = (*before.get(b, ()), a)
    return before


def flatten(graph: NirGraph) -> Flat:
    """Write nested graphs out flat: node "b" of the graph "a" becomes "a.b"."""
    nodes: dict[str, NirNode] = {}
    edges: list[tuple[str, str]] = []
    findings: list[Finding] = []
    doors: dict[str, tuple[str, str]] = {}  # nested graph -> its entry and exit
    for node in graph.nodes:
        if node.graph is None:
            findings += _add(nodes, node)
            continue
        inner = flatten(node.graph)
        findings += [*inner.findings, *_check_ends(inner, node.name)]
        for name, child in inner.nodes.items():
            kind = _ENDS.get(child.kind, child.kind)
            findings += _add(nodes, replace(child, name=f"{node.name}.{name}", kind=kind))
        edges += [(f"{node.name}.{a}", f"{node.name}.{b}") for a, b in inner.edges]
        entry, exit_ = _first(inner, "Input"), _first(inner, "Output")
        doors[node.name] = (f"{node.name}.{entry}", f"{node.name}.{exit_}")
    edges += [(doors[a][1] if a in doors else a, doors[b][0] if b in doors else b)
              for a, b in graph.edges]  # fmt: skip
    unique = tuple(dict.fromkeys(edges))
    return Flat(nodes=nodes, edges=unique, findings=tuple(findings))


def _add(nodes: dict[str, NirNode], node: NirNode) -> list[Finding]:
    taken = node.name in nodes
    nodes.setdefault(node.name, node)
    if not taken:
        return []
    text = f"Two nodes are called {node.name!r} once nested graphs are written out flat: rename one"
    return [problem("DUPLICATE_NODE", text, node=node.name)]


def _first(flat: Flat, kind: str) -> str:
    return next((n.name for n in flat.nodes.values() if n.kind == kind), kind.lower())


def _check_ends(flat: Flat, where: str = "") -> list[Finding]:
    findings = []
    place = f"Nested graph {where!r}" if where else "The graph"
    for kind in ("Input", "Output"):
        names = [node.name for node in flat.nodes.values() if node.kind == kind]
        if not names:
            text = f"{place} has no {kind} node; exactly one is wanted"
            findings.append(problem(f"NO_{kind.upper()}", text, found=0, allowed=1, graph=where))
        for name in names[1:]:
            text = f"{place} has a second {kind} node {name!r} beside {names[0]!r}; one is wanted"
            figures = {"node": name, "found": len(names), "allowed": 1}
            findings.append(problem(f"SECOND_{kind.upper()}", text, **figures))
    return findings


def _check_edges(flat: Flat) -> list[Finding]:
    missing: dict[str, list[str]] = {}
    for a, b in flat.edges:
        for name in dict.fromkeys((a, b)):
            if name not in flat.nodes:
                missing.setdefault(name, []).append(f"{a} -> {b}")
    return [
        problem(
            "EDGE_TO_MISSING_NODE",
            f"No node is called {name!r}, but edges name it: {listed(edges)}; known nodes: "
            f"{listed(flat.nodes)}",
            node=name,
            edges=", ".join(edges[:MAX_LISTED]),
        )
        for name, edges in missing.items()
    ]


def _cyclic(flat: Flat) -> list[set[str]]:
    """Groups of nodes that reach each other."""
    after = {name: _reachable(flat.edges, [name]) for name in _names(flat)}
    groups: list[set[str]] = []
    for name in sorted(after):
        if name in after[name] and not any(name in group for group in groups):
            groups.append({other for other in after[name] if name in after[other]})
    return groups


def _names(flat: Flat) -> set[str]:
    return set(flat.nodes).union(*flat.edges) if flat.edges else set(flat.nodes)


def _check_cycles(flat: Flat) -> list[Finding]:
    return [
        problem(
            "GRAPH_CYCLE",
            f"Nodes {listed(sorted(group))} form a cycle (recurrence), which can deadlock the "
            "chip: remove the feedback edge",
            nodes=", ".join(sorted(group)),
            found=len(group),
        )
        for group in _cyclic(flat)
    ]


def _check_dangling(flat: Flat) -> list[Finding]:
    inputs = [node.name for node in flat.nodes.values() if node.kind == "Input"]
    outputs = [node.name for node in flat.nodes.values() if node.kind == "Output"]
    if not inputs or not outputs:
        return []  # every node would be named; NO_INPUT or NO_OUTPUT says it
    fed = _reachable(flat.edges, inputs) | set(inputs)
    heard = _reachable([(b, a) for a, b in flat.edges], outputs) | set(outputs)
    findings = []
    for name in flat.nodes:
        if name in fed and name in heard:
            continue
        lack = "Input does not reach it" if name not in fed else "it does not lead to Output"
        text = (
            f"Node {name!r} is not on the road from Input to Output: {lack}. Connect or remove it"
        )
        findings.append(problem("DANGLING_NODE", text, node=name))
    return findings


def _reachable(edges: Iterable[tuple[str, str]], start: Sequence[str]) -> set[str]:
    """Nodes at the end of at least one edge from `start`."""
    after: dict[str, list[str]] = {}
    for a, b in edges:
        after.setdefault(a, []).append(b)
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        fresh = set(after.get(waiting.pop(), ())) - found
        found |= fresh
        waiting += fresh
    return found


def listed(names: Iterable[str]) -> str:
    """Quote names for a message, the first few of them."""
    quoted = [repr(name) for name in names]
    more = f" and {len(quoted) - MAX_LISTED} more" if len(quoted) > MAX_LISTED else ""
    return ", ".join(quoted[:MAX_LISTED]) + more
