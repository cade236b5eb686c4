"""Step 2 of the road: bytes become a Network, with every reason why they do not.

Untrusted bytes are parsed in a child process: see `parse_host`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Network
from speckfarm_server.nir.file import read_nir
from speckfarm_server.nir.graph import Road, find_road, problem
from speckfarm_server.nir.layers import Known, build_network, check_exit
from speckfarm_server.nir.nodes import read_part
from speckfarm_server.nir.order import check_order, number_layers
from speckfarm_server.nir.parts import Part
from speckfarm_server.nir.shapes import infer_maps
from speckfarm_server.nir.ways import find_ways
from speckfarm_server.parsed import Parsed

MAX_FINDINGS = 200  # in one answer; the rest is counted

# Errors with which the network is still whole, so that the check can go on and add its own.
_HARMLESS = ("NON_UNIFORM_THRESHOLD", "V_RESET")
# The network keeps what these are about, and the check names them: not twice.
_LEFT_TO_CHECK = ("NON_UNIFORM_THRESHOLD",)


def parse_network(data: bytes) -> Parsed:
    """Parse a NIR file. Every node is used, passes events on, or is named in a finding.

    Raises BadInput for a file that is not NIR or not safe to read: MODEL_UNREADABLE,
    MODEL_TOO_LARGE, UNSAFE_LINK, UNSAFE_STORAGE. What is wrong with the graph or its nodes becomes
    findings, all of them: those of `find_road`, `read_part`, `check_order`, `infer_maps`,
    `find_ways`, `check_exit` and `build_network`.
    """
    road = find_road(read_nir(data))
    read = [(node.name, *read_part(node)) for node in road.nodes]
    findings = [*road.findings, *(finding for _, _, found in read for finding in found)]
    network = None
    if road.is_whole:
        parts = {name: part for name, part, _ in read}
        network, more = _build(road, parts, findings)
        findings = _with_layers(number_layers(road), [*findings, *more])
    if any(_is_fatal(finding) for finding in findings):
        network = None
    if network is not None:
        findings = [f for f in findings if f.reason not in _LEFT_TO_CHECK]
    return Parsed(network=network, findings=_limited(findings))


def _build(
    road: Road, parts: Mapping[str, Part | None], read: Sequence[Finding]
) -> tuple[Network | None, list[Finding]]:
    """Judge the nodes together; None if they make no network."""
    arriving, leaving, findings = infer_maps(road, parts)
    findings = check_order(road) + findings
    ways, found = find_ways(road, parts, arriving)
    known = Known(road=road, parts=parts, arriving=arriving, leaving=leaving, ways=ways)
    findings += found + check_exit(known)
    faulty = {f.metadata.get("node", "") for f in [*read, *findings] if _is_fatal(f)}
    network, found = build_network(known, faulty)
    return network, findings + found


def _is_fatal(finding: Finding) -> bool:
    return finding.severity is Severity.ERROR and finding.reason not in _HARMLESS


def _with_layers(numbers: Mapping[str, int], findings: Sequence[Finding]) -> list[Finding]:
    """Number the layers that findings about nodes are about."""
    return [replace(f, layer=numbers.get(f.metadata.get("node", ""), f.layer)) for f in findings]


def _limited(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    if len(findings) <= MAX_FINDINGS:
        return tuple(findings)
    more = len(findings) - MAX_FINDINGS
    text = f"{more} more findings are not listed; correct these {MAX_FINDINGS} first"
    return (*findings[:MAX_FINDINGS], problem("MORE_FINDINGS", text, found=more))
