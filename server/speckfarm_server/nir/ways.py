"""Ways through the graph: which layer's events reach a node, pooled and scaled how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Pooling
from speckfarm_server.nir.file import NirNode
from speckfarm_server.nir.graph import MAX_LISTED, Road, listed, problem
from speckfarm_server.nir.order import NEURONS, START, UNKNOWN, WEIGHTS, role_of
from speckfarm_server.nir.parts import DoubleArray, Part, Scaling, per_feature
from speckfarm_server.nir.shapes import Map


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """From Input, a weight node or a neuron node to another one."""

    source: str  # node where it starts
    poolings: tuple[Pooling, ...] = ()  # on the way, in order
    factors: DoubleArray | None = None  # (features,); None: nothing is scaled
    scale: str = ""  # the last Scale node on the way

    def scaled(self, factors: DoubleArray, name: str) -> Way:
        """With one more Scale; pooling adds pixels of one feature, so the order does not count."""
        product = factors if self.factors is None else self.factors * factors
        return replace(self, factors=product, scale=name)


def find_ways(
    road: Road, parts: Mapping[str, Part | None], arriving: Mapping[str, Map | None]
) -> tuple[dict[str, tuple[Way, ...]], list[Finding]]:
    """Find the ways that end in each node, at most one per source, so their number is bounded.

    Findings: GRAPH_MERGE where one source arrives twice, UNSUPPORTED_NODE for a Scale whose factors
    differ within a feature, the remark SCALE_FOLDED.
    """
    ending: dict[str, tuple[Way, ...]] = {}
    leaving: dict[str, tuple[Way, ...]] = {}
    findings: list[Finding] = []
    for node in road.nodes:
        found: dict[str, Way] = {}
        twice: list[str] = []
        for name in road.before.get(node.name, ()):
            twice += [way.source for way in leaving[name] if way.source in found]
            found |= {way.source: way for way in leaving[name]}
        if twice:
            findings.append(_twice(node, sorted(set(twice))))
        ending[node.name] = tuple(found.values())
        part, came = parts[node.name], arriving.get(node.name)
        leaving[node.name] = _passed(node, part, ending[node.name])
        if isinstance(part, Scaling) and came is not None:
            factors = per_feature(part.factors, came.shape)
            if factors is None and part.factors.size == math.prod(came.shape):
                findings.append(_not_foldable(node))
            if factors is not None:
                findings.append(_folded(node))
                leaving[node.name] = tuple(w.scaled(factors, node.name) for w in found.values())
    return ending, findings


def _passed(node: NirNode, part: Part | None, ways: tuple[Way, ...]) -> tuple[Way, ...]:
    if role_of(node) in (START, WEIGHTS, NEURONS, UNKNOWN):
        return (Way(source=node.name),)
    if isinstance(part, Pooling):
        return tuple(replace(way, poolings=(*way.poolings, part)) for way in ways)
    return ways


def _twice(node: NirNode, sources: list[str]) -> Finding:
    text = (
        f"Node {node.name!r} ({node.kind}) adds what comes from {listed(sources)} twice, by two "
        "ways; a core is fed once: double the weights instead, or remove one way"
    )
    figures = {"sources": ", ".join(sources[:MAX_LISTED]), "found": 2, "allowed": 1}
    return problem("GRAPH_MERGE", text, node=node.name, **figures)


def _not_foldable(node: NirNode) -> Finding:
    text = (
        f"Node {node.name!r} (Scale) scales the pixels of a feature differently; only one factor "
        "per feature can go into weights: use one, or multiply the weights of a Linear by it"
    )
    return problem("UNSUPPORTED_NODE", text, node=node.name, kind=node.kind)


def _folded(node: NirNode) -> Finding:
    return Finding(
        reason="SCALE_FOLDED",
        severity=Severity.INFO,
        message=f"Node {node.name!r} (Scale) is multiplied into the weights: the same spikes",
        metadata={"node": node.name, "kind": node.kind},
    )
