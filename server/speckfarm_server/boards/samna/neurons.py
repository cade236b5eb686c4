"""Neurons of a configured chip as words of memory: their addresses, states, and marks.

A mark is a state that one neuron of each core in use is given, to see that a configuration or a
series of writes has arrived: reads are repeated until all marks answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.boards.samna.assumptions import FIRST_MARK, LAST_MARK
from speckfarm_server.configuration import Configuration, CoreConfiguration

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A neuron that is read to see what arrived."""

    core: int
    place: tuple[int, int, int]  # feature, y, x
    address: int
    initial: int  # its state after a reset


@dataclass(frozen=True, kw_only=True, eq=False)
class CoreStates:
    """Initial states of a core's neurons, but killed ones: to write them would revive them."""

    core: int
    addresses: Int64Array  # (n,)
    states: Int64Array  # (n,)


def neuron_addresses(core: CoreConfiguration) -> Int64Array:
    """Address of each neuron, (f, h, w).

    (y << bits(w) | x) << bits(f) | f: measured with the vendor's own translation of configurations
    (samna 0.7.1, speck2b, 22,561 positions). sinabs shifts y by bits(h), which is the same for
    square maps; on others one of the two is wrong for speck2e and speck2f.
    """
    features, height, width = core.output_shape
    f, y, x = np.ogrid[:features, :height, :width]
    addresses: Int64Array = (y << _bits(width) | x) << _bits(features) | f
    return addresses


def states_of(configuration: Configuration) -> tuple[CoreStates, ...]:
    """What a state reset has to write."""
    return tuple(_states(core) for core in configuration.cores)


def marks_of(configuration: Configuration) -> tuple[Mark, ...]:
    """One neuron of each core in use that is not killed; none of a core where all are."""
    return tuple(_marks(configuration))


def marked(configuration: Configuration, marks: tuple[Mark, ...], state: int) -> Configuration:
    """The configuration with `state` as the initial state of its marks."""
    by_core = {mark.core: mark for mark in marks}
    cores = tuple(
        _with_state(core, by_core[core.core], state) if core.core in by_core else core
        for core in configuration.cores
    )
    return replace(configuration, cores=cores)


def next_mark(state: int) -> int:
    """Another mark than the last, so that an answer to it is not an old one."""
    return state + 1 if FIRST_MARK <= state < LAST_MARK else FIRST_MARK


def _states(core: CoreConfiguration) -> CoreStates:
    alive = np.ones(core.output_shape, np.bool_)
    if core.neurons_kill is not None:
        alive = ~core.neurons_kill
    return CoreStates(
        core=core.core,
        addresses=neuron_addresses(core)[alive],
        states=_initial(core)[alive].astype(np.int64),
    )


def _marks(configuration: Configuration) -> Iterator[Mark]:
    for core in configuration.cores:
        killed = core.neurons_kill
        alive = np.argwhere(np.ones(core.output_shape, np.bool_) if killed is None else ~killed)
        if len(alive):
            place = tuple(map(int, alive[0]))
            feature, y, x = place
            yield Mark(
                core=core.core,
                place=(feature, y, x),
                address=int(neuron_addresses(core)[feature, y, x]),
                initial=int(_initial(core)[feature, y, x]),
            )


def _with_state(core: CoreConfiguration, mark: Mark, state: int) -> CoreConfiguration:
    states = _initial(core).copy()
    states[mark.place] = state
    return replace(core, initial_state=states)


def _initial(core: CoreConfiguration) -> NDArray[np.int16]:
    if core.initial_state is not None:
        return core.initial_state
    return np.zeros(core.output_shape, np.int16)


def _bits(size: int) -> int:
    return (size - 1).bit_length()
