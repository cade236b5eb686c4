"""When spikes leave a core: the delay model.

A core serves what arrives one after the other, in order of arrival. For an arrival that updates
`ops` neurons, and for the spike of the neuron that is the `done`-th of them (from 1):

    start  = max(arrival, busy)
    leaves = start + fixed + done * ns_per_op
    output = leaves + pipe
    busy   = start + fixed + ops * ns_per_op

`busy` is when the core is free again. `output` is the time at the monitor and that of arrival at
the next core. A spike that finds no room there leaves later, and so does all that comes after it.
Times are whole ns; ns_per_op is rounded up to a multiple of 2^-20 ns, done * ns_per_op down, so no
rounding adds up within an event. service.py repeats these lines; a test holds the two together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from speckfarm_server.chip import find_chip
from speckfarm_server.twin.assumptions import Assumptions

SECOND_NS = 1_000_000_000
Q20 = 20


@dataclass(frozen=True, kw_only=True)
class DelayModel:
    """The delays of one core."""

    fixed_ns: int
    pipe_ns: int
    op_ns_q20: int  # ns per synaptic operation, times 2^20

    def start_ns(self, arrival_ns: int, busy_ns: int) -> int:
        """When service begins."""
        return max(arrival_ns, busy_ns)

    def output_ns(self, start_ns: int, done: int) -> int:
        """When the spike of the `done`-th updated neuron has left."""
        return start_ns + self.fixed_ns + (done * self.op_ns_q20 >> Q20) + self.pipe_ns

    def busy_ns(self, start_ns: int, ops: int) -> int:
        """When the core is free again."""
        return start_ns + self.fixed_ns + (ops * self.op_ns_q20 >> Q20)


def delay_model(chip: str, core: int, assumptions: Assumptions) -> DelayModel:
    """The delays of core `core` of a chip: the rate of the table of chips, times its factor."""
    synops_per_s = find_chip(chip).cores[core].synops_per_s * assumptions.rate_factors[core]
    return DelayModel(
        fixed_ns=assumptions.fixed_ns,
        pipe_ns=assumptions.pipe_ns,
        op_ns_q20=math.ceil((SECOND_NS << Q20) / synops_per_s),
    )
