"""The twin beside the slow reference: spikes, counts, waiting and neurons must be equal."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from hypothesis import reject

from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from speckfarm_server.twin.twin import BUFFER_SPIKES, Twin
from tests.reference_twin import FIFO_DEPTH, Event, ReferenceTwin
from tests.twin_builders import pack_events

NS_PER_US = 1000
DRAWN = 200_000  # neuron updates of a drawn recording; the reference needs about a second for them


class Waiting(NamedTuple):
    """How long spikes of cores found no room, all together, and by how much input was late."""

    stalled_us: float
    held_back_us: float


def twin_of(configuration: Configuration, fifo_depth: int, buffer: int = BUFFER_SPIKES) -> Twin:
    """A twin in front of whose cores `fifo_depth` spikes can wait."""
    assumptions = replace(ASSUMPTIONS, fifo_depth=fifo_depth)
    return Twin(configuration, assumptions=assumptions, buffer=buffer)


def assert_equal_to_reference(
    configuration: Configuration,
    recorded: list[list[Event]],
    *,
    fifo_depth: int = FIFO_DEPTH,
    buffer: int = BUFFER_SPIKES,
    most_updates: int | None = None,
) -> Waiting:
    """Compare recording after recording; return how long anything waited.

    A drawn example with more neuron updates than `most_updates` is left out.
    """
    twin = twin_of(configuration, fifo_depth, buffer)
    reference = ReferenceTwin(configuration, fifo_depth)
    stalled_us = held_back_us = 0.0
    for events in recorded:
        twin.start_recording()
        found = twin.run(pack_events(events))
        if most_updates is not None and twin.activity.load.sum() > most_updates:
            reject()
        assert found.tolist() == reference.run_recording(events)
        assert_equal_activity(twin, reference)
        stalled_us += float(twin.activity.stalled_us.sum())
        held_back_us = max(held_back_us, twin.activity.held_back_us)
    return Waiting(stalled_us, held_back_us)


def assert_equal_activity(twin: Twin, reference: ReferenceTwin) -> None:
    """Compare what was counted in the last recording, and the neurons as it left them."""
    activity = twin.activity
    for name in ("input_spikes", "output_spikes", "synops", "saturated"):
        expected = [getattr(core, name) for core in reference.by_layer]
        assert getattr(activity, name).tolist() == expected, name
    stalled_us = [core.stalled_ns / NS_PER_US for core in reference.by_layer]
    assert activity.stalled_us.tolist() == stalled_us
    assert activity.held_back_us == reference.held_back_ns / NS_PER_US
    for layer, core in enumerate(reference.by_layer):
        nonzero = {place: v for place, v in np.ndenumerate(twin.neurons(layer)) if v}
        assert nonzero == {place: v for place, v in core.neurons.items() if v}
