"""The twin equals the slow reference, spike by spike, and does what the chip is documented to do."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_twin import Event, ReferenceTwin
from twin_builders import chip, chips, core, pack_events, recordings

from speckfarm_server.chip import DECIMATOR_CODES
from speckfarm_server.configuration import Configuration, Destination
from speckfarm_server.twin import twin as twin_module
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions
from speckfarm_server.twin.delay import delay_model
from speckfarm_server.twin.kernel import compile_kernels, is_compiled
from speckfarm_server.twin.twin import OUTPUT_DTYPE, Twin

slow_start = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def cases(draw: st.DrawFn, *, leak: bool = False) -> tuple[Configuration, list[list[Event]]]:
    """A chip and one to three recordings for it."""
    configuration = draw(chips(leak=leak))
    shape = configuration.input_shape
    return configuration, draw(st.lists(recordings(shape), min_size=1, max_size=3))


def run_whole(twin: Twin, events: list[Event]) -> list[tuple[int, ...]]:
    twin.start_recording()
    return twin.run(pack_events(events)).tolist()


@slow_start
@given(case=cases())
def test_every_spike_of_every_recording_equals_the_reference(case):
    configuration, recorded = case
    twin, reference = Twin(configuration), ReferenceTwin(configuration)

    for events in recorded:
        found = run_whole(twin, events)

        assert found == reference.run_recording(events)


@slow_start
@given(case=cases(leak=True))
def test_every_spike_equals_the_reference_with_leak_ticks(case):
    configuration, recorded = case
    twin, reference = Twin(configuration), ReferenceTwin(configuration)

    for events in recorded:
        found = run_whole(twin, events)

        assert found == reference.run_recording(events)
