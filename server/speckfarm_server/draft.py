"""Layers with a core each, placed or not, so that rules have a configuration to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speckfarm_server import chip as chips
from speckfarm_server.build import Span, build_configuration
from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.network import Layer, Network
from speckfarm_server.place import Need, Placement, candidate_cores, place
from speckfarm_server.quantise import QuantisedLayer
from speckfarm_server.settings import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Draft:
    """A span of at most nine layers with a core each, placed or not."""

    span: Span
    needs: tuple[Need, ...]
    pins: Mapping[int, int]  # within the span
    placement: Placement
    candidates: list[tuple[int, ...]]
    configuration: Configuration


def drafts_of(
    network: Network, integers: Sequence[QuantisedLayer | None], chip: Chip, settings: Settings
) -> list[Draft]:
    """All layers, or if too many, pieces that share a layer so that every link is looked at."""
    layers, cores = len(network.layers), len(chip.cores)
    starts = range(0, layers - 1, cores - 1) if layers > cores else range(min(1, layers))
    spans = [Span(first=start, stop=min(layers, start + cores)) for start in starts]
    return [_draft(network, integers, chip=chip, settings=settings, span=each) for each in spans]


def _draft(
    network: Network,
    integers: Sequence[QuantisedLayer | None],
    *,
    chip: Chip,
    settings: Settings,
    span: Span,
) -> Draft:
    numbers = range(span.first, span.stop)
    needs = tuple(_need(network.layers[number], integers[number]) for number in numbers)
    # Pins of a network that is too long mean nothing.
    whole = len(needs) == len(network.layers)
    pins = {k: v for k, v in settings.cores.items() if k < span.stop} if whole else {}
    placement = place(needs, chip, pins)
    configuration = build_configuration(
        network, integers, placement.cores, chip=chip, settings=settings, span=span
    )
    return Draft(
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
