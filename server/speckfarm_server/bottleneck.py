"""The bottleneck: which core set the pace while lags grew, and how much work waited for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speckfarm_server.demand import Demand
from speckfarm_server.histogram import FloatArray

FASTEST = 100.0  # times the table of chips; whoever needs more than the time there is
NEAR = 0.8  # cores of one chip differ by a tenth either way, by what is believed
SLOWEST = 0.4  # what a core may be as slow as, by what is believed of chips
FITS, FITS_CLOSELY = 0.2, 0.03  # misfits


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """The core that outputs waited for."""

    layer: int
    rate: float  # its synaptic operations per second, times those in the table of chips
    misfit: float  # how far the growth of lags strays from that of its backlog, as a share of it

    @property
    def fits(self) -> bool:
        """Whether its work explains the lags; a core slower than is believed must do so closely."""
        return self.misfit < (FITS if self.rate >= SLOWEST else FITS_CLOSELY)


def find_bottleneck(demand: Demand, event: FloatArray, at_us: FloatArray) -> Bottleneck:
    """Find it from outputs (n,) while lags grew: where they come from, and when they came.

    Chips differ in speed, and cores of one chip little. So it is the core that must be fastest,
    against the table of chips, to have done its work in that time. If it never rested, and lags
    grew for want of it, then outputs came as its work went on.
    """
    arrived, synops_us = demand.at(demand.arrivals, event), demand.at(demand.synops_us, event)
    spent_us = max(1.0, float(at_us[-1] - at_us[0]))
    left_us = spent_us - demand.fixed_us * (arrived[:, -1] - arrived[:, 0])
    needed_us = np.maximum(0, synops_us[:, -1] - synops_us[:, 0])  # causes may swap places
    rates = np.where(left_us > needed_us / FASTEST, needed_us / np.maximum(left_us, 1e-9), FASTEST)
    layer = _busiest(rates, demand)
    rate = max(float(rates[layer]), 1e-9)
    work_us = demand.fixed_us * arrived[layer] + synops_us[layer] / rate
    asked_us = np.interp(event[[0, -1]], demand.event, demand.t_us)
    grown_us = max(1.0, spent_us - float(asked_us[1] - asked_us[0]))
    strays_us = at_us - at_us[0] - (work_us - work_us[0])
    misfit = float(np.sqrt(np.mean(strays_us**2))) / grown_us
    return Bottleneck(layer=layer, rate=rate, misfit=misfit)


def _busiest(rates: FloatArray, demand: Demand) -> int:
    """Of the cores that must have been about as fast, the one with most to do in all."""
    near = np.flatnonzero(rates >= NEAR * rates.max())
    fastest = max(float(rates.max()), 1e-9)
    in_all_us = demand.fixed_us * demand.arrivals[near, -1] + demand.synops_us[near, -1] / fastest
    return int(near[np.argmax(in_all_us)])


def backlog(demand: Demand, layer: int, rate: float) -> FloatArray:
    """Time that work in front of a core takes at a rate, at the events of `demand`, (k,)."""
    work_us = demand.fixed_us * demand.arrivals[layer] + demand.synops_us[layer] / rate
    # What came in minus what could be done since; the queue was empty where that was lowest.
    excess_us = work_us - (demand.t_us - demand.t_us[0])
    waiting_us: FloatArray = excess_us - np.minimum.accumulate(excess_us)
    return waiting_us
