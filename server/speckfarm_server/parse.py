"""Step 2 of the road: bytes become a Network, with every reason why they do not.

Untrusted bytes are parsed in a child process: see `parse_host`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Layer, Network, Parsed, Pooling, Source
from speckfarm_server.nir.file import NirNode, read_nir
from speckfarm_server.nir.graph import ENTRY, EXIT, find_road, problem
from speckfarm_server.nir.nodes import Neurons, Part, Weights, read_part
from speckfarm_server.nir.shapes import Map, infer_maps

MAX_FINDINGS = 200  # in one answer; the rest is counted

# What a node does in a chain. An unsupported node has its own finding; known ones get a role too,
# so that what stands around them is judged as if they were replaced.
WEIGHTS, NEURONS, POOLING, PASSING, UNKNOWN = "weights", "neurons", "pooling", "passing", "unknown"
_ROLES = {
    WEIGHTS: ("Conv2d", "Linear", "Affine", "Conv1d"),
    NEURONS: ("IF", "LIF", "CubaLIF", "Threshold"),
    POOLING: ("SumPool2d", "AvgPool2d", "MaxPool2d"),
    PASSING: ("Input", "Output", ENTRY, EXIT, "Flatten"),
}
_ROLE_OF = {kind: role for role, kinds in _ROLES.items() for kind in kinds}
# Errors with which the network is still whole, so that the check can go on and add its own.
_HARMLESS = ("NON_UNIFORM_THRESHOLD", "V_RESET")
# The network keeps what these are about, and the check names them: not twice.
_LEFT_TO_CHECK = ("NON_UNIFORM_THRESHOLD",)


def parse_network(data: bytes) -> Parsed:
    """Parse a NIR file. Every node is used, passes events on, or is named in a finding.

    Raises BadInput for a file that is not NIR or not safe to read: MODEL_UNREADABLE,
    MODEL_TOO_LARGE, UNSAFE_LINK, UNSAFE_STORAGE. What is wrong with the graph or its nodes becomes
    findings, all of them: those of `find_road`, `read_part`, `infer_maps`, WRONG_ORDER, NO_LAYERS.
    """
    road = find_road(read_nir(data))
    nodes = road.nodes
    read = [read_part(node) for node in nodes]
    parts = [part for part, _ in read]
    findings = [*road.findings, *(finding for _, found in read for finding in found)]
    network = None
    if road.is_chain:
        maps, mismatches = infer_maps(nodes, parts)
        findings += check_order(nodes) + mismatches
        if not any(_is_fatal(finding) for finding in findings):
            network = _build(nodes, parts, maps)
            findings = [f for f in findings if f.reason not in _LEFT_TO_CHECK]
        findings = _with_layers(nodes, findings)
    return Parsed(network=network, findings=_limited(findings))


def check_order(nodes: Sequence[NirNode]) -> list[Finding]:
    """Find WRONG_ORDER and NO_LAYERS: a layer is a weight node, IF neurons, then any pooling."""
    steps = [(node, _ROLE_OF.get(node.kind, UNKNOWN)) for node in nodes]
    steps = [(node, role) for node, role in steps if role != PASSING]
    if not steps:
        text = "The graph leads from Input to Output without a layer; one is wanted at least"
        return [problem("NO_LAYERS", text, found=0, allowed="1 to 9")]
    findings = []
    roles = [None, *(role for _, role in steps), None]
    for number, (node, _) in enumerate(steps, start=1):
        wrong = _wrong_order(roles[number - 1], roles[number], roles[number + 1])
        if wrong:
            text = (
                f"Node {node.name!r} ({node.kind}) {wrong}; a layer is Conv2d, Linear or Affine, "
            )
            text += "then IF, then any SumPool2d or AvgPool2d"
            findings.append(problem("WRONG_ORDER", text, node=node.name, kind=node.kind))
    return findings


def _wrong_order(before: str | None, role: str | None, after: str | None) -> str | None:
    if role == WEIGHTS and after == WEIGHTS:
        return "is followed by another weight node: multiply them into one or put IF between"
    if role == WEIGHTS and after not in (NEURONS, UNKNOWN):
        return "has no IF node right after it: add one"
    if role == NEURONS and before not in (WEIGHTS, UNKNOWN):
        return "has no weight node right before it: add one or remove it"
    if role == POOLING and before is None:
        return "pools before the first layer: put it after a layer"
    return None


def _build(
    nodes: Sequence[NirNode], parts: Sequence[Part | None], maps: Sequence[Map | None]
) -> Network:
    """Group a chain without fatal findings into layers."""
    layers: list[Layer] = []
    poolings: list[Pooling] = []
    for number, (node, part, arriving) in enumerate(zip(nodes, parts, maps, strict=True)):
        if isinstance(part, Weights) and arriving is not None:
            leaving = maps[number + 1]
            source = Source(layer=len(layers) - 1, poolings=tuple(poolings))
            poolings = []
            layer = _layer(node.name, part, arriving, leaving or arriving)
            layers.append(replace(layer, sources=(source,)))
        elif isinstance(part, Neurons):
            layers[-1] = _with_neurons(layers[-1], node.name, part)
        elif isinstance(part, Pooling):
            poolings.append(part)
    start = maps[1]
    return Network(
        input_shape=start.shape if start else (1, 1, 1),
        layers=tuple(layers),
        exit_poolings=tuple(poolings),
    )


def _layer(name: str, part: Weights, arriving: Map, leaving: Map) -> Layer:
    weights = part.weights
    if part.is_linear:  # inputs of a flat map are (c, h, w) in C order
        weights = weights.reshape(len(weights), *arriving.shape)
    return Layer(
        name=name,
        neuron_name="",
        weights=weights,
        bias=part.bias,
        stride=part.stride,
        padding=part.padding,
        dilation=part.dilation,
        groups=part.groups,
        is_linear=part.is_linear,
        input_shape=arriving.shape,
        output_shape=leaving.shape,
    )


def _with_neurons(layer: Layer, name: str, part: Neurons) -> Layer:
    return replace(
        layer,
        neuron_name=name,
        threshold=part.threshold,
        threshold_range=part.threshold_range,
        r_range=part.r_range,
    )


def _is_fatal(finding: Finding) -> bool:
    return finding.severity is Severity.ERROR and finding.reason not in _HARMLESS


def _with_layers(nodes: Sequence[NirNode], findings: Sequence[Finding]) -> list[Finding]:
    """Number the layers that findings about nodes are about."""
    layers: dict[str, int] = {}
    layer = -1
    for node in nodes:
        layer += _ROLE_OF.get(node.kind) == WEIGHTS
        if layer >= 0 and node.kind != "Output":
            layers[node.name] = layer
    return [replace(f, layer=layers.get(f.metadata.get("node", ""), f.layer)) for f in findings]


def _limited(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    if len(findings) <= MAX_FINDINGS:
        return tuple(findings)
    more = len(findings) - MAX_FINDINGS
    text = f"{more} more findings are not listed; correct these {MAX_FINDINGS} first"
    return (*findings[:MAX_FINDINGS], problem("MORE_FINDINGS", text, found=more))
