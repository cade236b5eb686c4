"""The check: can this network run on this chip, and if not, every reason why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from speckfarm_server.advice import (
    ADVICE,
    advise,
    silent_features,
    synops_of_network,
    synops_per_event,
)
from speckfarm_server.build import integers_of
from speckfarm_server.changes.propose import kernels_only, stand_ins, with_changes
from speckfarm_server.chip import Chip, CoreLimits
from speckfarm_server.configuration import Configuration
from speckfarm_server.draft import Draft, drafts_of
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import INPUT, Network
from speckfarm_server.place import Need, find_contention
from speckfarm_server.quantise import QuantisedLayer
from speckfarm_server.rules.camera import (
    CAMERA_RULES,
    NO_CAMERA_RULES,
    check_camera,
    explained_by,
)
from speckfarm_server.rules.network import (
    CONSEQUENCES,
    LAYER_RULES,
    NETWORK_RULES,
    POOLING_RULES,
    check_network,
)
from speckfarm_server.rules.readout import READOUT_RULES, check_readout
from speckfarm_server.rules.simulated import TWIN_REFUSES, twin_refuses
from speckfarm_server.rules.state import MAY_SATURATE, may_saturate
from speckfarm_server.rules.tables import FARM_RULES, RULES, apply_farm_rules, apply_rules, finding
from speckfarm_server.settings import Settings

# Every reason the check can give; docs/reference/checks.md explains each.
REASONS: Mapping[str, Severity] = {
    **dict.fromkeys(
        (
            *NETWORK_RULES,
            *LAYER_RULES,
            *POOLING_RULES,
            *CAMERA_RULES,
            *NO_CAMERA_RULES,
            *RULES,
            *FARM_RULES,
            "NO_PLACEMENT",
        ),
        Severity.ERROR,
    ),
    **{reason: severity for reason, (severity, _) in ADVICE.items()},
    **{reason: severity for reason, (severity, _) in READOUT_RULES.items()},
    TWIN_REFUSES: Severity.WARNING,
    MAY_SATURATE: Severity.WARNING,
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
    sources: tuple[int, ...] = ()  # layers whose spikes enter, ascending; (): recorded events alone


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


def check(network: Network, chip: Chip, settings: Settings) -> Report:
    """Quantise, place, build and apply every rule; all findings at once. No side effect."""
    integers = integers_of(network, settings)
    drafts = drafts_of(network, integers, chip, settings)
    found = _structure_errors(network, drafts, chip, settings)
    for draft in drafts:
        found += advise(network, integers, draft.configuration, settings)
    if len(drafts) == 1:
        found += silent_features(drafts[0].configuration)
        found += check_readout(drafts[0].configuration, chip, settings)
        found += twin_refuses(drafts[0].configuration)
        found += may_saturate(drafts[0].configuration, chip)
        found.append(synops_of_network(drafts[0].configuration, chip))
    found += _unusable_numbers(integers, found)
    needs = _layer_needs(drafts, network, chip)
    report = Report(
        chip=chip.name,
        findings=ordered(_without_drafts(_without_consequences(found), needs)),
        layers=needs,
        configuration=drafts[0].configuration if len(drafts) == 1 else None,
    )
    if report.deployable:
        return report
    judge = partial(_judged, chip)
    advised = with_changes(report.findings, network, chip=chip, settings=settings, judge=judge)
    return replace(report, configuration=None, findings=advised)


def _structure_errors(
    network: Network, drafts: Sequence[Draft], chip: Chip, settings: Settings
) -> list[Finding]:
    """Every rule: on the network, its camera settings, its configuration and its placement."""
    camera = check_camera(network, chip, settings)
    found = check_network(network, chip, settings) + camera
    for draft in drafts:
        # A piece of a network that is too long lacks sources that lie in another one.
        is_piece = len(drafts) > 1
        found += [
            each
            for each in _rule_findings(draft, chip)
            if not (is_piece and each.reason.startswith("FAN_IN_"))
        ]
    if len(drafts) == 1:
        found += _placement_findings(drafts[0], chip)
    said = explained_by(camera, network)
    return [each for each in found if (each.layer, each.reason) not in said]


def _judged(chip: Chip, network: Network, settings: Settings) -> list[Finding]:
    """The errors that a check would find, but for arithmetic."""
    drafts = drafts_of(network, stand_ins(network), chip, settings)
    return _without_consequences(_structure_errors(kernels_only(network), drafts, chip, settings))


def _unusable_numbers(
    integers: Sequence[QuantisedLayer | None], findings: Sequence[Finding]
) -> Iterator[Finding]:
    """A layer without integers is never deployable, whatever the rules on its numbers missed."""
    faulty = {found.layer for found in findings if found.severity is Severity.ERROR}
    for layer, integer in enumerate(integers):
        if integer is None and layer not in faulty:
            text = "r times input_dt_us makes numbers beyond 32 bits. Correct input_dt_us."
            yield finding("WEIGHTS_NOT_FINITE", Severity.ERROR, layer, text, {})


def _rule_findings(draft: Draft, chip: Chip) -> Iterator[Finding]:
    """The rules, minus memory errors that only come from a draft core."""
    drafted = draft.placement.unplaced - set(draft.pins)
    yield from apply_farm_rules(draft.configuration, chip)
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


def _placement_findings(draft: Draft, chip: Chip) -> Iterator[Finding]:
    contention = find_contention(draft.candidates, draft.placement)
    if contention.layers:
        layers, cores = _listed(contention.layers), _listed(contention.cores)
        text = (
            f"Layers {layers} each fit a core, but not all at once: only cores {cores} are large "
            f"enough for any of them{' and not pinned to others' if draft.pins else ''}, "
            f"{len(contention.cores)} cores for {len(contention.layers)} layers. Shrink "
            f"{len(contention.layers) - len(contention.cores)} of the layers until they fit other "
            f"cores{', or pin fewer' if draft.pins else ''}."
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


def _layer_needs(drafts: Sequence[Draft], network: Network, chip: Chip) -> tuple[LayerNeed, ...]:
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
                sources=_sources(network, core.layer),
            )
    return tuple(needs[layer] for layer in sorted(needs))


def _sources(network: Network, layer: int) -> tuple[int, ...]:
    return tuple(sorted({source.layer for source in network.layers[layer].sources} - {INPUT}))


def _saturated(value: int, largest: int) -> int:
    return max(-largest, min(value, largest))
