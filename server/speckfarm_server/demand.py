"""Demand: what a recording asks of each core, as it grows with the input events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speckfarm_server.histogram import FloatArray, Int64Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Demand:
    """Sums from the begin of a recording up to some of its input events, of a run unloaded."""

    event: Int64Array  # (k,) input events so far; from 0 to all
    t_us: FloatArray  # (k,) time of the latest of them; first that of the first
    arrivals: FloatArray  # (layers, k) spikes that reached the core
    synops: FloatArray  # (layers, k)
    synops_limit: FloatArray  # (layers,) per second, what the table of chips believes of its core
    fixed_us: float  # what a core needs for each arrival besides
    core: Int64Array  # (layers,) number of the core
    before: tuple[tuple[int, ...], ...]  # of each layer: those whose spikes reach it, and itself

    @property
    def synops_us(self) -> FloatArray:
        """Time that the synaptic operations take at those rates, (layers, k)."""
        return self.synops / self.synops_limit[:, None] * 1e6

    @property
    def busy_us(self) -> FloatArray:
        """Time that each core needs for all, (layers, k)."""
        return self.fixed_us * self.arrivals + self.synops_us

    @property
    def duration_us(self) -> float:
        """Last - first input event."""
        return float(self.t_us[-1] - self.t_us[0])

    def at(self, sums: FloatArray, event: FloatArray) -> FloatArray:
        """Sums (layers, k) at some input events (n,), between two that are known: (layers, n)."""
        return np.array([np.interp(event, self.event, row) for row in sums])
