"""When spikes leave a core: the delay model.

A core serves what arrives one after the other, in order of arrival. For an arrival that updates
`ops` neurons, and for the spike of the neuron that is the `done`-th of them (from 1):

    start  = max(arrival, busy)
    output = start + fixed + done * ns_per_op + pipe
    busy   = start + fixed + ops * ns_per_op

`busy` is when the core is free again. `output` is the time at the monitor and that of arrival at
the next core. Times are whole ns; done * ns_per_op is floor(done * 10^9 / synops_per_s), so that
no rounding adds up within an event. kernel.py repeats these lines; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

from speckfarm_server.chip import find_chip
from speckfarm_server.twin.assumptions import Assumptions

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class DelayModel:
    """The delays of one core."""

    fixed_ns: int
    pipe_ns: int
    synops_per_s: int

    def start_ns(self, arrival_ns: int, busy_ns: int) -> int:
        """When service begins."""
        return max(arrival_ns, busy_ns)

    def output_ns(self, start_ns: int, done: int) -> int:
        """When the spike of the `done`-th updated neuron has left."""
        return start_ns + self.fixed_ns + done * SECOND_NS // self.synops_per_s + self.pipe_ns

    def busy_ns(self, start_ns: int, ops: int) -> int:
        """When the core is free again."""
        return start_ns + self.fixed_ns + ops * SECOND_NS // self.synops_per_s


def delay_model(chip: str, core: int, assumptions: Assumptions) -> DelayModel:
    """The delays of core `core` of a chip; the service rate is that of the table of chips."""
    return DelayModel(
        fixed_ns=assumptions.fixed_ns,
        pipe_ns=assumptions.pipe_ns,
        synops_per_s=round(find_chip(chip).cores[core].synops_per_s),
    )
