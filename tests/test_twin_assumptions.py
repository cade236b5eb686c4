"""What the twin assumes can be varied where it says so, and is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions
from speckfarm_server.twin.twin import Twin
from tests.twin_builders import chip, core, pulses, run_recording

EXPLANATION = Path(__file__).parents[1] / "docs" / "explanation" / "twin.md"


def test_firing_above_the_threshold_only_is_an_option():
    configuration = chip(core([[[[100]]]], (1, 1)))

    at, above = Twin(configuration), Twin(configuration, assumptions=Assumptions(fires=">"))

    assert [len(run_recording(twin, pulses(2))) for twin in (at, above)] == [2, 1]


def test_passing_the_first_spike_of_n_is_an_option():
    configuration = chip(core([[[[100]]]], (1, 1), decimator=4))
    twin = Twin(configuration, assumptions=Assumptions(decimator_passes="first"))

    spikes = run_recording(twin, pulses(9))

    assert [spike[1] for spike in spikes] == [0, 4, 8]


def test_an_assumption_that_the_twin_is_not_built_on_is_refused():
    with pytest.raises(ValueError, match="saturation: found 'wraps'"):
        Assumptions(saturation="wraps")


def test_the_digest_tells_assumptions_apart():
    assert ASSUMPTIONS.digest() == Assumptions().digest()
    assert ASSUMPTIONS.digest() != Assumptions(fixed_ns=301).digest()


def test_every_assumption_is_explained():
    explained = EXPLANATION.read_text("utf-8")

    assert [name for name in Assumptions.__dataclass_fields__ if f"`{name}`" not in explained] == []
