"""Totals: what each layer did in all recordings of a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from speckfarm_server.advice import synops_per_event
from speckfarm_server.chip import Chip, find_chip
from speckfarm_server.configuration import Configuration, CoreConfiguration
from speckfarm_server.job_result import LayerActivity, RailPower, RecordingResult

SHORTEST_RATED_S = 0.01  # a rate over less says nothing about what a core sustains


def add_up(
    activity: list[tuple[LayerActivity, ...]],
    recordings: list[RecordingResult],
    configuration: Configuration,
) -> tuple[LayerActivity, ...]:
    """Each layer's counts over all recordings, and its synaptic operations per second."""
    chip = find_chip(configuration.chip)
    cores = {core.layer: core for core in configuration.cores}
    seconds = [recording.duration_us / 1e6 for recording in recordings]
    return tuple(
        _summed(items, seconds, cores[items[0].layer], chip)
        for items in zip(*activity, strict=True)
    )


def average(power: Sequence[tuple[RailPower, ...]]) -> tuple[RailPower, ...]:
    """Each rail over all recordings, by its samples."""
    rails: dict[str, list[RailPower]] = {}
    for each in chain.from_iterable(power):
        rails.setdefault(each.rail, []).append(each)
    return tuple(_averaged(rail, found) for rail, found in rails.items())


def _averaged(rail: str, found: Sequence[RailPower]) -> RailPower:
    samples = sum(each.samples for each in found)
    total_w = sum(each.mean_w * each.samples for each in found)
    return RailPower(rail=rail, mean_w=total_w / samples, samples=samples)


def _summed(
    items: Sequence[LayerActivity], seconds: Sequence[float], core: CoreConfiguration, chip: Chip
) -> LayerActivity:
    arrived = _sum([item.input_spikes for item in items])
    total = LayerActivity(
        layer=core.layer,
        input_spikes=arrived,
        output_spikes=_sum([item.output_spikes for item in items]),
        synops=None,
        synops_limit=chip.cores[core.core].synops_per_s,
        saturated=_sum([item.saturated for item in items]),
    )
    if items[0].synops is None or arrived is None:
        return total
    synops = [item.synops or 0 for item in items]
    rates = [
        ops / time_s
        for ops, time_s in zip(synops, seconds, strict=True)
        if time_s >= SHORTEST_RATED_S
    ]
    return replace(
        total,
        synops=sum(synops),
        synops_formula=arrived * synops_per_event(core),
        synops_per_s=sum(synops) / sum(seconds) if sum(seconds) > 0 else None,
        peak_synops_per_s=max(rates, default=None),
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    """None if one is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
