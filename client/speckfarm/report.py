"""The report of a check: would this network run, and why not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from speckfarm.findings import Finding, read_finding

if TYPE_CHECKING:
    from speckfarm.v1 import models_pb2


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """What one layer needs and where it would go."""

    layer: int  # 0-based, topological order
    name: str  # of its weight node
    core: int | None  # None: could not be placed
    kernel_entries: int  # 8-bit words, as the chip rounds them up
    neuron_entries: int  # 16-bit words, as the chip rounds them up
    synops_per_event: float  # that one input event causes
    synops_limit: float  # per second, believed sustainable; soft
    sources: tuple[int, ...] = ()  # layers whose spikes enter; (): recorded events alone

    def to_dict(self) -> dict[str, object]:
        """The JSON contract's shape."""
        return asdict(self) | {"sources": list(self.sources)}


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything the farm noticed about a network, without running it."""

    model: str  # SHA-256
    chip: str
    deployable: bool  # no finding is an error
    findings: tuple[Finding, ...]  # errors first, then by layer
    layers: tuple[LayerReport, ...]  # empty if the graph could not be read as layers
    configuration: str | None = None  # SHA-256 of what would be written; None if not deployable

    def to_dict(self) -> dict[str, object]:
        """The JSON contract of `speckfarm check -o json`."""
        return {
            "model": self.model,
            "chip": self.chip,
            "deployable": self.deployable,
            "findings": [finding.to_dict() for finding in self.findings],
            "layers": [layer.to_dict() for layer in self.layers],
        }

    def __str__(self) -> str:
        verdict = "can run" if self.deployable else "cannot run"
        lines = [f"model {self.model[:12]} {verdict} on {self.chip}"]
        lines += [f"  {line}" for finding in self.findings for line in finding.lines()]
        lines += [f"  {_line(layer)}" for layer in self.layers]
        return "\n".join(lines)


def read_report(message: models_pb2.CheckModelResponse) -> Report:
    """From the wire."""
    return Report(
        model=message.model,
        chip=message.chip,
        deployable=message.deployable,
        findings=tuple(read_finding(finding) for finding in message.findings),
        layers=tuple(_read_layer(layer) for layer in message.layers),
        configuration=message.configuration or None,
    )


def _read_layer(message: models_pb2.LayerReport) -> LayerReport:
    return LayerReport(
        layer=message.layer,
        name=message.name,
        core=message.core if message.HasField("core") else None,
        kernel_entries=message.kernel_entries,
        neuron_entries=message.neuron_entries,
        synops_per_event=message.synops_per_event,
        synops_limit=message.synops_limit,
        sources=tuple(message.sources),
    )


def _line(layer: LayerReport) -> str:
    core = "no core" if layer.core is None else f"core {layer.core}"
    return (
        f"layer {layer.layer} ({layer.name}): {core}, {layer.kernel_entries} kernel and "
        f"{layer.neuron_entries} neuron entries, {layer.synops_per_event:g} synops per event"
    )
