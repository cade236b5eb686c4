"""All experiments, in the order in which they run.

Stamps come before whatever is read off them; the risky one is the last.
"""

from __future__ import annotations

from speckfarm_server.prove import (
    arithmetic,
    decimators,
    delays,
    echo,
    known,
    order,
    queues,
    senses,
    states,
)

EXPERIMENTS = (
    *known.EXPERIMENTS,
    *senses.EXPERIMENTS,
    *states.EXPERIMENTS,
    *arithmetic.EXPERIMENTS,
    *decimators.EXPERIMENTS,
    *order.EXPERIMENTS,
    *delays.EXPERIMENTS,
    *echo.EXPERIMENTS,
    *queues.EXPERIMENTS,
    arithmetic.RISKY,
)
