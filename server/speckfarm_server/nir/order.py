"""Which node stands where: a layer is a weight node, IF neurons, then any pooling."""

from __future__ import annotations

from collections.abc import Mapping

from speckfarm_server.errors import Finding
from speckfarm_server.nir.file import NirNode
from speckfarm_server.nir.graph import ENTRY, EXIT, Road, in_order, listed, problem

# What a node does. An unsupported node has its own finding; known ones get a role too, so that
# what stands around them is judged as if they were replaced.
WEIGHTS, NEURONS, POOLING, PASSING, UNKNOWN = "weights", "neurons", "pooling", "passing", "unknown"
START, END = "start", "end"
_ROLES = {
    WEIGHTS: ("Conv2d", "Linear", "Affine", "Conv1d"),
    NEURONS: ("IF", "LIF", "CubaLIF", "Threshold"),
    POOLING: ("SumPool2d", "AvgPool2d", "MaxPool2d"),
    PASSING: (ENTRY, EXIT, "Flatten", "Scale", "Delay"),
    START: ("Input",),
    END: ("Output",),
}
_ROLE_OF = {kind: role for role, kinds in _ROLES.items() for kind in kinds}
_LAYER = "a layer is Conv2d, Linear or Affine, then IF, then any SumPool2d or AvgPool2d"


def role_of(node: NirNode) -> str:
    """What the node does in a network."""
    return _ROLE_OF.get(node.kind, UNKNOWN)


def check_order(road: Road) -> list[Finding]:
    """Find WRONG_ORDER, NO_LAYERS and GRAPH_FORK."""
    roles = {node.name: role_of(node) for node in road.nodes}
    if set(roles.values()) <= {START, END, PASSING}:
        text = "The graph leads from Input to Output without a layer; one is wanted at least"
        return [problem("NO_LAYERS", text, found=0, allowed="1 to 9")]
    before = _neighbours(roles, road.before)
    after = _neighbours(dict(reversed(roles.items())), _turned(road))
    findings = []
    for node in road.nodes:
        sources = {roles[name] for name in before[node.name]}
        targets = {roles[name] for name in after[node.name]}
        wrong = _wrong_order(roles[node.name], sources, targets)
        if wrong:
            text = f"Node {node.name!r} ({node.kind}) {wrong}"
            findings.append(problem("WRONG_ORDER", text, node=node.name, kind=node.kind))
        elif roles[node.name] == WEIGHTS and len(after[node.name]) > 1:
            findings.append(_fork(node, sorted(after[node.name])))
    return findings


def number_layers(road: Road) -> dict[str, int]:
    """Number the layer of each node by name; none before the first layer.

    Layers are in topological order, ties by name of the weight node. Weight nodes that feed the
    same neurons are one layer. Pooling belongs to the layer before it, the last of several.
    """
    roles = {node.name: role_of(node) for node in road.nodes}
    layer_of = _layer_names(roles, road.before)
    reached: dict[str, set[str]] = {}  # node -> layers whose events reach it, itself included
    needed: dict[str, set[str]] = {layer: set() for layer in layer_of.values()}
    for name, role in roles.items():
        fed = set().union(*(reached[source] for source in road.before.get(name, ())))
        reached[name] = {layer_of[name]} if role == WEIGHTS else fed
        if role == WEIGHTS:
            needed[layer_of[name]] |= fed - {layer_of[name]}
    # Weight nodes behind each other that feed the same neurons (WRONG_ORDER) need each other.
    ordered = dict.fromkeys([*in_order(needed), *sorted(needed)])
    numbers = {layer: number for number, layer in enumerate(ordered)}
    found = {name: [numbers[layer] for layer in layers]
             for name, layers in reached.items() if roles[name] != END}  # fmt: skip
    return {name: max(layers) for name, layers in found.items() if layers}


def _layer_names(roles: Mapping[str, str], before: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Weight nodes to the first of those that feed the same neurons."""
    near = _neighbours(roles, before)
    names: dict[str, str] = {name: name for name, role in roles.items() if role == WEIGHTS}
    for name, role in roles.items():
        if role == NEURONS:
            first = ""
            for source in in_order({other: () for other in near[name] if other in names}):
                first = first or source
                names[source] = names[first]
    return names


def _neighbours(
    roles: Mapping[str, str], before: Mapping[str, tuple[str, ...]]
) -> dict[str, set[str]]:
    """Nodes that feed each one, seen through those that only pass events on."""
    seen: dict[str, set[str]] = {}
    for name in roles:
        seen[name] = set()
        for source in before.get(name, ()):
            seen[name] |= seen[source] if roles[source] == PASSING else {source}
    return seen


def _turned(road: Road) -> dict[str, tuple[str, ...]]:
    """What each node feeds."""
    after: dict[str, tuple[str, ...]] = {}
    for name, sources in road.before.items():
        for source in sources:
            after[source] = (*after.get(source, ()), name)
    return after


def _wrong_order(role: str, before: set[str], after: set[str]) -> str | None:
    if role == WEIGHTS and WEIGHTS in after:
        wrong = "is followed by another weight node: multiply them into one or put IF between"
        return f"{wrong}; {_LAYER}"
    if role == WEIGHTS and not after <= {NEURONS, UNKNOWN}:
        return f"has no IF node right after it: add one; {_LAYER}"
    if role == NEURONS and not before <= {WEIGHTS, UNKNOWN}:
        return f"has no weight node right before it: add one or remove it; {_LAYER}"
    if role == POOLING and START in before:
        return (
            "pools before the first layer, which no core does: remove it and use the setting "
            "input_pooling=2 (the camera layer's), or put it after a layer"
        )
    return None


def _fork(node: NirNode, targets: list[str]) -> Finding:
    text = (
        f"Node {node.name!r} ({node.kind}) feeds {len(targets)} neuron nodes ({listed(targets)}); "
        "a core has one: repeat the weight node for each"
    )
    return problem("GRAPH_FORK", text, node=node.name, found=len(targets), allowed=1)
