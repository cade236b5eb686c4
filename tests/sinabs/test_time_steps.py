"""Where sinabs has nothing to add up, its discretised network fires exactly as the twin does."""

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.sinabs_model import DiscretisedModel, steps_of
from benchmarks.twin_cases import DIGITS, load_model, load_recordings

from speckfarm_server.twin.twin import Twin

# sinabs 3.1.3 calls what nirtorch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def test_with_a_step_for_each_event_the_first_layer_fires_as_the_twins():
    model = load_model(DIGITS / "digits.nir")
    first, *others = model.configuration.cores
    monitored = (replace(first, monitor_enable=True), *others)
    twin = Twin(replace(model.configuration, cores=monitored))
    sinabs = DiscretisedModel(model.network, model.configuration)
    events = load_recordings(DIGITS / "digits.npz")[0][:1000]

    (spikes,) = sinabs.run([steps_of(events, 0)], [events])

    output = twin.run(events)
    fired = output["feature"][output["layer"] == 0]
    assert spikes[0, : first.output_shape[0]].tolist() == np.bincount(fired).tolist()
    assert len(fired) > 100


def test_recordings_run_side_by_side_fire_as_one_after_the_other():
    model = load_model(DIGITS / "digits.nir")
    sinabs = DiscretisedModel(model.network, model.configuration)
    recordings = [events[:500] for events in load_recordings(DIGITS / "digits.npz")[:3]]
    steps = [steps_of(events, 1000) for events in recordings]

    together = sinabs.run(steps, recordings)

    apart = [sinabs.run([at], [events]) for at, events in zip(steps, recordings, strict=True)]
    assert (together == np.concatenate(apart)).all()
    assert together[:, -1].any()


def test_integers_of_another_network_are_refused():
    model = load_model(DIGITS / "digits.nir")
    first, *others = model.configuration.cores
    other = replace(first, threshold_high=first.threshold_high + 1)

    with pytest.raises(SystemExit, match="layer 0: sinabs' integers are not those of the farm"):
        DiscretisedModel(model.network, replace(model.configuration, cores=(other, *others)))
