"""The check: can this network run on this chip, and if not, every reason why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from speckfarm_server import chip as chips
from speckfarm_server.advice import (
    ADVICE,
    advise,
    silent_features,
    synops_of_network,
    synops_per_event,
)
from speckfarm_server.build import Span, build_configuration, integers_of
from speckfarm_server.chip import Chip, CoreLimits
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Layer, Network
from speckfarm_server.network_rules import (
    CONSEQUENCES,
    LAYER_RULES,
    NETWORK_RULES,
    POOLING_RULES,
    check_network,
)
from speckfarm_server.place import Need, Placement, candidate_cores, find_contention, place
from speckfarm_server.quantise import QuantisedLayer
from speckfarm_server.rules import RULES, apply_rules, finding
from speckfarm_server.settings import Settings

# Every reason the check can give; docs/reference/checks.md explains each.
REASONS: Mapping[str, Severity] = {
    **dict.fromkeys(
        (*NETWORK_RULES, *LAYER_RULES, *POOLING_RULES, *RULES, "NO_PLACEMENT"), Severity.ERROR
    ),
    **{reason: severity for reason, (severity, _) in ADVICE.items()},
    "INPUT_FEATURES_SILENT": Severity.WARNING,
    "SYNOPS_PER_EVENT": Severity.INFO,
}
_MEMORIES = ("kernel", "neuron", "bias")
_LARGEST_INT32, _LARGEST_INT64 = 2**31 - 1, 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class LayerNeed:
    """What one layer takes. Figures of absurd layers saturate at the word length of the API."""

    layer: int
    name: str
    core: int | None  # None: not placed
    kernel_entries: int  # 8-bit words
    neuron_entries: int  # 16-bit words
    synops_per_event: float
    synops_limit: float  # per second, of its core or of the slowest one; soft
    output_shape: tuple[int, int, int]  # f, h, w before pooling


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything the check found out."""

    chip: str
    findings: tuple[Finding, ...]  # errors first, then by layer
    layers: tuple[LayerNeed, ...]
    configuration: Configuration | None  # None unless deployable

    @property
    def deployable(self) -> bool:
        """True if no finding is an error."""
        return all(f.severity is not Severity.ERROR for f in self.findings)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Draft:
    """A span of at most nine layers with a core each, placed or not."""

    span: Span
    needs: tuple[Need, ...]
    pins: Mapping[int, int]  # within the span
    placement: Placement
    candidates: list[tuple[int, ...]]
    configuration: Configuration


def check(network: Network, chip: Chip, settings: Settings) -> Report:
    """Quantise, place, build and apply every rule; all findings at once. No side effect."""
    integers = integers_of(network, settings)
    drafts = [
        _draft(network, integers, chip=chip, settings=settings, span=span)
        for span in _spans(len(network.layers), len(chip.cores))
    ]
    found = check_network(network, chip, settings)
    for draft in drafts:
        found += _rule_findings(draft, chip)
        found += advise(network, integers, draft.configuration, settings)
    if len(drafts) == 1:
        found += _placement_findings(drafts[0], chip)
        found += silent_features(drafts[0].configuration)
        found.append(synops_of_network(drafts[0].configuration, chip))
    found += _unusable_numbers(integers, found)
    needs = _layer_needs(drafts, network, chip)
    report = Report(
        chip=chip.name,
        findings=ordered(_without_drafts(_without_consequences(found), needs)),
        layers=needs,
        configuration=drafts[0].configuration if len(drafts) == 1 else None,
    )
    return report if report.deployable else replace(report, configuration=None)


def _spans(layers: int, cores: int) -> list[Span]:
    """All layers, or if too many, pieces that share a layer so that every link is looked at."""
    if layers == 0:
        return []
    starts = range(0, max(1, layers - 1), cores - 1) if layers > cores else (0,)
    return [Span(first=start, stop=min(layers, start + cores)) for start in starts]


def _draft(
    network: Network,
    integers: Sequence[QuantisedLayer | None],
    *,
    chip: Chip,
    settings: Settings,
    span: Span,
) -> _Draft:
    numbers = range(span.first, span.stop)
    needs = tuple(_need(network.layers[number], integers[number]) for number in numbers)
    # Pins of a network that is too long mean nothing.
    whole = len(needs) == len(network.layers)
    pins = {k: v for k, v in settings.cores.items() if k < span.stop} if whole else {}
    placement = place(needs, chip, pins)
    configuration = build_configuration(
        network, integers, placement.cores, chip=chip, settings=settings, span=span
    )
    return _Draft(
        span=span, needs=needs, pins=pins, placement=placement,
        candidates=candidate_cores(needs, chip, pins), configuration=configuration,
    )  # fmt: skip


def _need(layer: Layer, integers: QuantisedLayer | None) -> Need:
    features, channels = int(layer.output_shape[0]), int(layer.input_shape[0])
    side = max(map(int, layer.weights.shape[2:]))
    _, height, width = map(int, layer.output_shape)
    has_bias = integers is not None and integers.biases.any()
    return Need(
        kernel_entries=chips.kernel_entries(channels, features, side),
        neuron_entries=chips.neuron_entries(features, height, width),
        bias_entries=features if has_bias else 0,
    )


def _unusable_numbers(
    integers: Sequence[QuantisedLayer | None], findings: Sequence[Finding]
) -> Iterator[Finding]:
    """A layer without integers is never deployable, whatever the rules on its numbers missed."""
    faulty = {found.layer for found in findings if found.severity is Severity.ERROR}
    for layer, integer in enumerate(integers):
        if integer is None and layer not in faulty:
            text = "r times input_dt_us makes numbers beyond 32 bits. Correct input_dt_us."
            yield finding("WEIGHTS_NOT_FINITE", Severity.ERROR, layer, text, {})


def _rule_findings(draft: _Draft, chip: Chip) -> Iterator[Finding]:
    """The rules, minus memory errors that only come from a draft core."""
    drafted = draft.placement.unplaced - set(draft.pins)
    for found in apply_rules(draft.configuration, chip):
        number = -1 if found.layer is None else found.layer - draft.span.first
        is_memory = found.reason.endswith("_MEMORY_EXCEEDED")
        if not (is_memory and number in drafted) or _is_hopeless(
            found.reason, draft.needs[number], chip
        ):
            yield found


def _is_hopeless(reason: str, need: Need, chip: Chip) -> bool:
    """Whether this memory keeps the layer off every core; if two together do, each of them."""
    if any(need.fits(core) for core in chip.cores):
        return False
    too_large = [
        memory
        for memory in _MEMORIES
        if _entries(need, memory) > max(_entries(core, memory) for core in chip.cores)
    ]
    return not too_large or any(reason == f"{m.upper()}_MEMORY_EXCEEDED" for m in too_large)


def _placement_findings(draft: _Draft, chip: Chip) -> Iterator[Finding]:
    contention = find_contention(draft.candidates, draft.placement)
    if contention.layers:
        layers, cores = _listed(contention.layers), _listed(contention.cores)
        text = (
            f"Layers {layers} each fit a core, but not all at once: only cores {cores} are large "
            f"enough for any of them{' and not pinned to others' if draft.pins else ''}, "
            f"{len(contention.cores)} cores for {len(contention.layers)} layers. Shrink one of the "
            f"layers until it fits another core{' or pin fewer' if draft.pins else ''}."
        )
        metadata = {"layers": layers, "cores": cores}
        yield finding("NO_PLACEMENT", Severity.ERROR, None, text, metadata)
    for layer in sorted(draft.placement.unplaced - set(draft.pins)):
        fitting = [core for core, size in enumerate(chip.cores) if draft.needs[layer].fits(size)]
        if fitting and not draft.candidates[layer]:
            cores = _listed(fitting)
            text = f"Fits core {cores} only, which other layers are pinned to. Pin fewer layers."
            yield finding("NO_PLACEMENT", Severity.ERROR, layer, text, {"cores": cores})


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _entries(of: Need | CoreLimits, memory: str) -> int:
    return int(getattr(of, f"{memory}_entries"))


def _without_consequences(findings: Sequence[Finding]) -> list[Finding]:
    """Drop what another finding about the same layer explains, and repetitions."""
    explained = {
        (found.layer, reason)
        for found in findings
        for reason in CONSEQUENCES.get(found.reason, frozenset())
    }
    kept = {
        (found.layer, found.reason, found.message): found
        for found in findings
        if (found.layer, found.reason) not in explained
    }
    return list(kept.values())


def _without_drafts(findings: Sequence[Finding], needs: Sequence[LayerNeed]) -> list[Finding]:
    """Drop what is said about a core that is only a draft."""
    drafted = {need.layer for need in needs if need.core is None}
    return [f for f in findings if f.reason != "CORE_NOT_REPRODUCIBLE" or f.layer not in drafted]


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Errors first, then by layer; the whole network's before the first layer's."""
    severities = list(Severity)
    return tuple(
        sorted(
            findings,
            key=lambda f: (severities.index(f.severity), -1 if f.layer is None else f.layer),
        )
    )


def _layer_needs(drafts: Sequence[_Draft], network: Network, chip: Chip) -> tuple[LayerNeed, ...]:
    needs: dict[int, LayerNeed] = {}
    for draft in drafts:
        for index, core in enumerate(draft.configuration.cores):
            is_placed = len(drafts) == 1 and index not in draft.placement.unplaced
            features, height, width = core.output_shape
            need = draft.needs[index]
            needs[core.layer] = LayerNeed(
                layer=core.layer,
                name=network.layers[core.layer].name,
                core=core.core if is_placed else None,
                kernel_entries=_saturated(need.kernel_entries, _LARGEST_INT64),
                neuron_entries=_saturated(need.neuron_entries, _LARGEST_INT64),
                synops_per_event=synops_per_event(core),
                synops_limit=chip.cores[core.core].synops_per_s
                if is_placed
                else min(limits.synops_per_s for limits in chip.cores),
                output_shape=(
                    _saturated(features, _LARGEST_INT32),
                    _saturated(height, _LARGEST_INT32),
                    _saturated(width, _LARGEST_INT32),
                ),
            )
    return tuple(needs[layer] for layer in sorted(needs))


def _saturated(value: int, largest: int) -> int:
    return max(-largest, min(value, largest))
