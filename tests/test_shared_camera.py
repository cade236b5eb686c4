"""A real network for the whole sensor, from the folder `shared` beside the checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import speckfarm
from tests.farm_process import FarmProcess

GESTURE = Path(__file__).parents[2] / "shared" / "data" / "nir" / "dvs_gesture.nir"


@pytest.fixture(scope="module")
def farm(server: FarmProcess) -> Iterator[speckfarm.Farm]:
    with server.connect() as connected:
        yield connected


def moving_disc() -> NDArray[Any]:
    """20,000 events of a disc that circles over the whole sensor in half a second."""
    rng = np.random.default_rng(0)
    events = np.empty(20_000, [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
    events["t"] = np.sort(rng.integers(0, 500_000, len(events)))
    angle = events["t"] / 500_000 * 2 * np.pi
    spread = rng.normal(0, 8, (2, len(events)))
    events["x"] = np.clip(64 + 44 * np.cos(angle) + spread[0], 0, 127)
    events["y"] = np.clip(64 + 44 * np.sin(angle) + spread[1], 0, 127)
    events["p"] = spread[0] > 0
    events[-1]["x"] = events[-2]["y"] = 127
    return events


def counts(farm: speckfarm.Farm, events: NDArray[Any], **settings: Any) -> list[list[int]]:
    result = farm.run(GESTURE, events, monitor=[0], **settings).wait(timeout=60)
    first = result.spikes[result.spikes["layer"] == 0]
    return np.bincount(first["feature"], minlength=16).tolist()


def test_the_gesture_network_sees_the_same_through_the_layer_and_as_spikes(
    farm: speckfarm.Farm,
) -> None:
    events = moving_disc()
    turned = events.copy()
    turned["x"] = 127 - turned["x"]

    as_spikes = counts(farm, events)

    assert counts(farm, events, crop=(0, 0, 128, 128)) == as_spikes
    assert counts(farm, events, mirror="x") == counts(farm, turned) != as_spikes
    assert sum(as_spikes) > 1000


def test_the_gesture_network_takes_the_whole_sensor_only(farm: speckfarm.Farm) -> None:
    with pytest.raises(speckfarm.ModelRejected) as rejected:
        farm.run(GESTURE, moving_disc(), input_pooling=2)

    [found] = [each for each in rejected.value.findings if each.severity == "error"]
    assert found.reason == "CAMERA_SIZE_MISMATCH"
    assert "neither input_pooling nor crop" in found.message
