"""All experiments, in the order in which they run: the risky one last."""

from __future__ import annotations

from speckfarm_server.prove import (
    arithmetic,
    decimators,
    delays,
    known,
    order,
    queues,
    senses,
    states,
)

EXPERIMENTS = (
    *known.EXPERIMENTS,
    *states.EXPERIMENTS,
    *senses.EXPERIMENTS,
    *arithmetic.EXPERIMENTS,
    *decimators.EXPERIMENTS,
    *order.EXPERIMENTS,
    *delays.EXPERIMENTS,
    *queues.EXPERIMENTS,
    arithmetic.RISKY,
)
