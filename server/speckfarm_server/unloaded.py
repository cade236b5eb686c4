"""The unloaded run: what a recording would give, and ask of each core, if no core took time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import TIME_SHIFT, PackedEvents
from speckfarm_server.align import Outputs, address
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.demand import Demand
from speckfarm_server.histogram import FloatArray, Int64Array
from speckfarm_server.twin.arrivals import NS_PER_US
from speckfarm_server.twin.assumptions import ASSUMPTIONS, UNLOADED
from speckfarm_server.twin.twin import NO_OUTPUT, Twin

SLICES = 256  # at most; the demand is known after each
LEAST_SLICE = 16  # events


@dataclass(frozen=True, kw_only=True, eq=False)
class Unloaded:
    """What one recording gives on a chip whose cores take no time."""

    demand: Demand
    outputs: NDArray[np.void]  # of monitored layers, in order of time; OUTPUT_DTYPE

    def of(self, layer: int) -> tuple[Outputs, Int64Array]:
        """Outputs of one layer at the times of their causes, and the causes; -1: a leak tick."""
        mine = self.outputs[self.outputs["layer"] == layer]
        outputs = Outputs(t_us=mine["t_ns"] / NS_PER_US, address=addresses_of(mine))
        return outputs, mine["cause"].astype(np.int64)


class UnloadedTwin:
    """A second twin beside a board, whose cores take no time."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._twin = Twin(configuration, assumptions=UNLOADED)
        self._result: Unloaded | None = None

    def reset_state(self) -> None:
        """As on the board."""
        self._twin.reset_state()

    def run(self, packed: PackedEvents) -> Iterator[None]:
        """Run a recording; comes back at least every 0.1 s, so that a cancel takes no longer."""
        self._twin.start_recording()
        size = max(LEAST_SLICE, -(-len(packed) // SLICES))
        events = [0]
        sums = [np.zeros((2, len(self._configuration.cores)))]
        pieces = [NO_OUTPUT]
        for first in range(0, len(packed), size):
            for piece in self._twin.stream(packed[first : first + size]):
                pieces += [piece] if len(piece) else []
                yield
            events.append(min(first + size, len(packed)))
            activity = self._twin.activity
            sums.append(np.array([activity.input_spikes, activity.synops], np.float64))
        for piece in self._twin.finish():
            pieces += [piece] if len(piece) else []
            yield
        activity = self._twin.activity
        sums[-1] = np.array([activity.input_spikes, activity.synops], np.float64)
        t_us = (packed >> np.uint64(TIME_SHIFT)).astype(np.float64)
        self._result = Unloaded(
            demand=_demand(self._configuration, np.array(events), t_us, np.array(sums)),
            outputs=np.concatenate(pieces),
        )

    @property
    def result(self) -> Unloaded:
        """Of the last run that was exhausted; ValueError before."""
        if self._result is None:
            raise ValueError("the unloaded twin has not run yet")
        return self._result


def addresses_of(outputs: NDArray[np.void]) -> Int64Array:
    """Feature, y and x in one number."""
    return address(outputs["feature"], outputs["y"], outputs["x"])


def _demand(
    configuration: Configuration, events: Int64Array, t_us: FloatArray, sums: FloatArray
) -> Demand:
    limits = find_chip(configuration.chip).cores
    cores = configuration.cores
    limit = np.array([limits[core.core].synops_per_s for core in cores])
    arrivals, synops = sums[:, 0].T, sums[:, 1].T
    return Demand(
        event=events,
        t_us=t_us[np.maximum(events - 1, 0)],
        arrivals=arrivals,
        synops=synops,
        synops_limit=limit,
        fixed_us=ASSUMPTIONS.fixed_ns / 1e3,
        core=np.array([core.core for core in cores]),
        before=_before(configuration),
    )


def _before(configuration: Configuration) -> tuple[tuple[int, ...], ...]:
    """For each layer all layers whose spikes may reach it, itself among them."""
    layers = {core.core: core.layer for core in configuration.cores}
    before = {core.layer: {core.layer} for core in configuration.cores}
    for _ in configuration.cores:
        for core in configuration.cores:
            for way in core.destinations:
                if way.enable and way.core in layers:
                    before[layers[way.core]] |= before[core.layer]
    return tuple(tuple(sorted(before[layer])) for layer in sorted(before))
