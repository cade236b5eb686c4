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
from speckfarm_server.twin.assumptions import Assumptions
from speckfarm_server.twin.twin import Twin
from tests.reference_twin import Event
from tests.twin_builders import chip, chips, core, pack_events, recordings, run_recording

# No queue is ever full, as in the C kernel: then a chain's times follow from the delay model alone.
ENDLESS = Assumptions(fifo_depth=1 << 16)

every_vector = pytest.mark.parametrize("vectors", VECTORS)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Configuration, list[list[Event]]]:
    """A chain and recordings for it."""
    configuration = draw(chips())
    one_recording = recordings(configuration.input_shape)
    return configuration, draw(st.lists(one_recording, min_size=1, max_size=3))


def assert_equal_to_twin(
    configuration: Configuration, recorded: list[list[Event]], vectors: str
) -> int:
    """Compare recording after recording; return how many spikes left."""
    twin = Twin(configuration, assumptions=ENDLESS)
    c_twin = CTwin(configuration, vectors)
    spikes = 0
    for events in recorded:
        expected = run_recording(twin, events)
        found = c_twin.run(pack_events(events))
        assert found[np.lexsort((found["layer"], found["t_ns"]))].tolist() == expected
        for name in ("input_spikes", "output_spikes", "synops"):
            ours, theirs = (getattr(each.activity, name).tolist() for each in (c_twin, twin))
            assert ours == theirs
        for layer in range(len(configuration.cores)):
            assert (c_twin.neurons(layer) == twin.neurons(layer)).all()
        spikes += len(expected)
    return spikes


@every_vector
@settings(max_examples=60)
@given(case=cases())
def test_spikes_counts_and_states_equal_the_twins(vectors, case):
    assert_equal_to_twin(*case, vectors)


@every_vector
@pytest.mark.parametrize("features", [1, 10, 16, 17, 20, 31, 32, 33, 48, 64, 100])
def test_runs_of_every_length_equal_the_twins(vectors, features):
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

    spikes = assert_equal_to_twin(chip(first, second), [events, events], vectors)

    assert spikes > 100


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
