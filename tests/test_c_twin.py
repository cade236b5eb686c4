"""The C kernel of the benchmarks computes what the twin computes, so their speeds may be compared.

It is compiled here, so these tests need gcc, and say so where there is none.
"""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.c_twin import VECTORS, CTwin
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.configuration import Configuration, Destination
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions
from speckfarm_server.twin.twin import Twin
from tests.reference_twin import Event
from tests.twin_builders import (
    chip,
    chips,
    core,
    pack_events,
    pulses,
    recordings,
    run_recording,
    to,
)

# Spikes that can wait in front of a core: without end, as the twin has it, and fewer.
DEPTHS = [0, ASSUMPTIONS.fifo_depth, 5, 2]
NEVER_FULL = 1 << 16  # what the twin takes for queues without end

every_vector = pytest.mark.parametrize("vectors", VECTORS)
every_depth = pytest.mark.parametrize("fifo_depth", DEPTHS)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Configuration, list[list[Event]]]:
    """A chain and recordings for it."""
    configuration = draw(chips())
    one_recording = recordings(configuration.input_shape)
    return configuration, draw(st.lists(one_recording, min_size=1, max_size=3))


def assert_equal_to_twin(
    configuration: Configuration, recorded: list[list[Event]], vectors: str, fifo_depth: int
) -> int:
    """Compare recording after recording, times too; return how many spikes left."""
    twin = Twin(configuration, assumptions=Assumptions(fifo_depth=fifo_depth or NEVER_FULL))
    c_twin = CTwin(configuration, vectors, fifo_depth=fifo_depth)
    spikes = 0
    for events in recorded:
        expected = run_recording(twin, events)
        found = c_twin.run(pack_events(events))
        assert found[np.lexsort((found["layer"], found["t_ns"]))].tolist() == expected
        assert_equal_counts(c_twin, twin)
        if fifo_depth:
            assert_equal_waiting(c_twin, twin)
        for layer in range(len(configuration.cores)):
            assert (c_twin.neurons(layer) == twin.neurons(layer)).all()
        spikes += len(expected)
    return spikes


def assert_equal_counts(c_twin: CTwin, twin: Twin) -> None:
    for name in ("input_spikes", "output_spikes", "synops"):
        ours, theirs = (getattr(each.activity, name).tolist() for each in (c_twin, twin))
        assert ours == theirs, name


def assert_equal_waiting(c_twin: CTwin, twin: Twin) -> None:
    """What is counted only where queues have an end."""
    ours, theirs = c_twin.activity, twin.activity
    assert ours.stalled_us.tolist() == theirs.stalled_us.tolist()
    assert ours.held_back_us == theirs.held_back_us
    assert ours.held_back_events == theirs.held_back_events
    assert ours.bin_us == theirs.bin_us
    bins = theirs.load.shape[1]
    assert (ours.load[:, :bins] == theirs.load).all()
    assert not ours.load[:, bins:].any()


@every_vector
@every_depth
@settings(max_examples=25)
@given(case=cases())
def test_spikes_counts_and_states_equal_the_twins(vectors, fifo_depth, case):
    assert_equal_to_twin(*case, vectors, fifo_depth)


@every_vector
@every_depth
@pytest.mark.parametrize("features", [1, 10, 16, 17, 20, 31, 32, 33, 48, 64, 100])
def test_runs_of_every_length_equal_the_twins(vectors, fifo_depth, features):
    rng = np.random.default_rng(features)
    first = core(
        rng.integers(-40, 60, (features, 2, 5, 5)), (12, 12), padding=(2, 2), stride=(2, 1),
        initial_state=rng.integers(-200, 200, (features, 6, 12)).astype(np.int16), decimator=2,
        destinations=(Destination(core=5, pooling=2),),
    )  # fmt: skip
    second = core(
        rng.integers(-60, 60, (features, features, 3, 3)), (3, 6), core=5, layer=1,
        return_to_zero=True,
    )  # fmt: skip
    events = [
        Event(int(t_us), *map(int, rng.integers(0, (2, 12, 12))))
        for t_us in np.sort(rng.integers(0, 3000, 400))
    ]

    spikes = assert_equal_to_twin(chip(first, second), [events, events], vectors, fifo_depth)

    assert spikes > 100


@pytest.mark.parametrize("fifo_depth", DEPTHS[1:])
def test_an_overrun_waits_as_long_as_the_twins(fifo_depth):
    wide, narrow = np.full((4, 1, 3, 3), 70), np.full((4, 4, 3, 3), 40)
    configuration = chip(
        core(wide, (5, 5), padding=(1, 1), destinations=to(3)),
        core(narrow, (5, 5), core=3, layer=1, padding=(1, 1), destinations=to(4)),
        core(narrow, (5, 5), core=4, layer=2),
    )
    events = [Event(n // 4, 0, n % 3, n % 5) for n in range(4000)]

    assert_equal_to_twin(configuration, [events], "native", fifo_depth)

    c_twin = CTwin(configuration, fifo_depth=fifo_depth)
    c_twin.run_only(pack_events(events))
    activity = c_twin.activity
    assert (activity.stalled_us[:-1] > 0).all()
    assert activity.held_back_us > 0


def test_bins_of_load_widen_as_the_twins():
    weights = np.full((1, 1, 1, 1), 60)
    configuration = chip(
        core(weights, (1, 1), destinations=to(3)), core(weights, (1, 1), core=3, layer=1)
    )

    assert_equal_to_twin(configuration, [pulses(5000)], "native", ASSUMPTIONS.fifo_depth)


def test_a_reset_gives_the_initial_state():
    weights, state = np.full((2, 1, 1, 1), 60), np.array([[[-7]], [[20]]], np.int16)
    c_twin = CTwin(chip(core(weights, (1, 1), initial_state=state)))

    c_twin.run(pack_events([Event(0, 0, 0, 0)]))
    c_twin.reset_state()

    assert (c_twin.neurons(0) == state).all()


@pytest.mark.parametrize(
    "configuration",
    [
        chip(core(np.ones((1, 1, 1, 1)), (1, 1)), slow_clock_hz=1000.0),
        chip(core(np.ones((1, 1, 1, 1)), (1, 1), layer=1)),
        chip(core(np.ones((1, 1, 1, 1)), (1, 1)), inputs=2 * (Destination(core=2),)),
    ],
)
def test_what_the_kernel_does_not_know_is_refused(configuration):
    with pytest.raises(ValueError, match="the C kernel"):
        CTwin(configuration)
