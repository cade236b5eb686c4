"""Camera recordings through a real server: what the layer does equals numpy on the host."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import speckfarm
from speckfarm.cli import main
from tests.farm_process import FarmProcess
from tests.nir_files import affine, chain_nir, conv, flatten, neurons, sum_pool

EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
SPECK2B = """
[[boards]]
id = "old"
chip = "speck2b"
"""
REJECTED = 3  # exit code


def network(path: Path, features: int, size: int) -> Path:
    """Sees where in its input something happens: two convolutions by their stride, a read-out."""
    rng = np.random.default_rng(7)
    step = size // 16
    first = rng.normal(0.2, 0.2, (4, features, step, step)).astype(np.float32)
    last = rng.normal(0.1, 0.4, (10, 4 * 8 * 8)).astype(np.float32)
    return chain_nir(
        path,
        conv(first, stride=np.array([step, step])),
        neurons(),
        sum_pool(2),
        flatten(input_type=np.array([4, 8, 8])),
        affine(last),
        neurons(),
        input_shape=(features, size, size),
    )


def scene(seed: int) -> NDArray[Any]:
    """A bright corner on a noisy full sensor; far enough apart to keep their order in the twin."""
    rng = np.random.default_rng(seed)
    events = np.empty(3000, EVENT)
    events["t"] = np.arange(len(events)) * 100
    events["x"] = rng.integers(0, 128, len(events)) // rng.integers(1, 3, len(events))
    events["y"] = rng.integers(0, 128, len(events)) // rng.integers(1, 4, len(events))
    events["p"] = rng.random(len(events)) < 0.7
    return events


SCENES = [scene(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def farm(server: FarmProcess) -> Iterator[speckfarm.Farm]:
    with server.connect() as connected:
        yield connected


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    folder = tmp_path_factory.mktemp("models")

    def model(features: int, size: int) -> Path:
        return network(folder / f"{features}x{size}.nir", features, size)

    return model


def measured(
    farm: speckfarm.Farm, model: Path, scenes: list[NDArray[Any]], **settings: Any
) -> tuple[list[int], list[dict[int, int]], list[tuple[int, ...]]]:
    """Predictions, counts by feature and exit spikes without their times."""
    result = farm.run(model, *scenes, **settings).wait(timeout=60)
    names = ["layer", "feature", "y", "x"]
    counts = [list(each.counts) for each in result.recordings]
    spikes = [tuple(spike) for spike in result.spikes[names].tolist()]
    return result.predictions.tolist(), counts, spikes


def test_a_full_sensor_recording_needs_input_pooling_on_a_smaller_network(
    farm: speckfarm.Farm, models: Callable[[int, int], Path]
) -> None:
    with pytest.raises(speckfarm.BadRequest) as refused:
        farm.run(models(2, 64), *SCENES)

    assert refused.value.reason == "RECORDING_OUTSIDE_INPUT"
    assert "input_pooling=2 or crop=(32, 32, 64, 64)" in refused.value.message


def pooled(events: NDArray[Any], size: int = 2) -> NDArray[Any]:
    events = events.copy()
    events["x"] //= size
    events["y"] //= size
    return events


def cropped(events: NDArray[Any], left: int, top: int, side: int) -> NDArray[Any]:
    events = events.copy()
    events["x"] -= left
    events["y"] -= top
    inside = (events["x"] >= 0) & (events["x"] < side) & (events["y"] >= 0) & (events["y"] < side)
    return events[inside]


def mirrored(events: NDArray[Any], axes: str, side: int) -> NDArray[Any]:
    events = events.copy()
    for axis in axes:
        events[axis] = side - 1 - events[axis]
    return events


def swapped(events: NDArray[Any]) -> NDArray[Any]:
    events = events.copy()
    events["x"], events["y"] = events["y"].copy(), events["x"].copy()
    return events


CASES: list[tuple[int, int, dict[str, Any], Callable[[NDArray[Any]], NDArray[Any]]]] = [
    (2, 64, {"input_pooling": 2}, pooled),
    (2, 32, {"input_pooling": 4}, lambda events: pooled(events, 4)),
    (2, 64, {"crop": (32, 16, 64, 64)}, lambda events: cropped(events, 32, 16, 64)),
    (
        2,
        32,
        {"input_pooling": 2, "crop": (32, 16, 64, 64)},
        lambda events: pooled(cropped(events, 32, 16, 64)),
    ),
    (
        2,
        64,
        {"input_pooling": 2, "mirror": "x"},
        lambda events: mirrored(pooled(events), "x", 64),
    ),
    (
        2,
        64,
        {"crop": (0, 8, 64, 64), "mirror": "xy", "swap_xy": True},
        lambda events: swapped(mirrored(cropped(events, 0, 8, 64), "xy", 64)),
    ),
    (
        2,
        64,
        {"input_pooling": 2, "mirror": "y", "swap_xy": True},
        lambda events: swapped(mirrored(pooled(events), "y", 64)),
    ),
]


@pytest.mark.parametrize(
    ("features", "size", "settings", "on_host"), CASES, ids=[str(each[2]) for each in CASES]
)
def test_the_layer_does_what_numpy_does_on_the_host(
    farm: speckfarm.Farm,
    models: Callable[[int, int], Path],
    features: int,
    size: int,
    settings: dict[str, Any],
    on_host: Callable[[NDArray[Any]], NDArray[Any]],
) -> None:
    model = models(features, size)

    through_layer = measured(farm, model, SCENES, **settings)
    as_spikes = measured(farm, model, [on_host(events) for events in SCENES])

    assert through_layer == as_spikes
    assert len(through_layer[2]) > 100


@pytest.mark.parametrize("polarity", ["merge", "on", "off"])
def test_polarity_is_the_same_on_the_host_and_in_the_layer(
    farm: speckfarm.Farm, models: Callable[[int, int], Path], polarity: str
) -> None:
    model = models(1, 64)

    through_layer = measured(farm, model, SCENES, polarity=polarity, input_pooling=2)
    on_host = measured(farm, model, [pooled(events) for events in SCENES], polarity=polarity)

    assert through_layer == on_host
    assert len(through_layer[2]) > 100


def test_the_settings_change_what_the_network_sees(
    farm: speckfarm.Farm, models: Callable[[int, int], Path]
) -> None:
    model = models(2, 64)

    settings: list[dict[str, Any]] = [
        {"input_pooling": 2},
        {"crop": (32, 32, 64, 64)},
        {"input_pooling": 2, "mirror": "x"},
        {"input_pooling": 2, "swap_xy": True},
    ]
    counts = [measured(farm, model, SCENES, **each)[1] for each in settings]

    assert all(one != other for i, one in enumerate(counts) for other in counts[:i])


def test_a_chip_that_crops_first_takes_an_odd_corner(
    make_server: Callable[..., FarmProcess], models: Callable[[int, int], Path]
) -> None:
    settings: dict[str, Any] = {"input_pooling": 2, "crop": (31, 17, 64, 64), "chip": "speck2b"}
    on_host = [pooled(cropped(events, 31, 17, 64)) for events in SCENES]

    with make_server(SPECK2B).connect() as old:
        through_layer = measured(old, models(2, 32), SCENES, **settings)
        as_spikes = measured(old, models(2, 32), on_host, chip="speck2b")

    assert through_layer == as_spikes


def test_recordings_that_the_crop_leaves_empty_are_refused(
    farm: speckfarm.Farm, models: Callable[[int, int], Path]
) -> None:
    corner = SCENES[0][(SCENES[0]["x"] < 32) & (SCENES[0]["y"] < 32)]

    with pytest.raises(speckfarm.BadRequest, match="x = 64 to 127") as refused:
        farm.run(models(2, 64), SCENES[0], corner, crop=(64, 0, 64, 64))

    assert refused.value.reason == "RECORDING_EMPTY"
    assert refused.value.metadata["recording"] == "1"


def test_a_benchmark_sweeps_camera_settings(
    farm: speckfarm.Farm, models: Callable[[int, int], Path], tmp_path: Path
) -> None:
    sweep: dict[str, list[object]] = {
        "input_pooling": [2, (2, 2)],
        "mirror": ["off", "x"],
        "swap_xy": [False, True],
    }

    table = farm.benchmark(models(2, 64), SCENES[0], sweep=sweep).wait(timeout=60).table()

    assert [row["state"] for row in table] == ["SUCCEEDED"] * 8
    assert [row["input_pooling"] for row in table] == ["2"] * 4 + ["2+2"] * 4
    assert {row["swap_xy"] for row in table} == {"on", "off"}
    spikes = [row["output_spikes"] for row in table]
    assert spikes[:4] == spikes[4:]  # one pooling is for both axes
    assert len(set(spikes)) > 1


@pytest.fixture
def cli(
    server: FarmProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("SPECKFARM_SERVER", server.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", server.token)

    def run(*arguments: str | Path) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        return code, capsys.readouterr().out

    return run


def test_the_command_line_runs_a_camera_network(
    cli: Callable[..., tuple[int, str]], models: Callable[[int, int], Path], tmp_path: Path
) -> None:
    path = tmp_path / "scene.npy"
    np.save(path, SCENES[0])
    flags = ["--input-pooling", "2", "--crop", "0,64,64,64", "--mirror", "x", "--swap-xy"]

    code, out = cli("run", models(2, 32), path, *flags, "-o", "json")

    plain = json.loads(out)
    assert (code, plain["state"]) == (0, "SUCCEEDED")
    settings = plain["settings"]
    assert settings["input_pooling"] == [2, 2]
    assert settings["crop"] == [0, 64, 64, 64]
    assert (settings["mirror"], settings["swap_xy"]) == ("x", True)


def test_the_command_line_sweeps_a_crop(
    cli: Callable[..., tuple[int, str]], models: Callable[[int, int], Path], tmp_path: Path
) -> None:
    path, table = tmp_path / "scene.npy", tmp_path / "table.csv"
    np.save(path, SCENES[0])

    code, _ = cli(
        "bench", models(2, 64), path, "--csv", table, "--sweep", "crop=0+0+64+64,64+64+64+64"
    )

    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert code == 0
    assert [row["crop"] for row in rows] == ["0+0+64+64", "64+64+64+64"]
    assert rows[0]["output_spikes"] != rows[1]["output_spikes"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--input-pooling", "4"], "CAMERA_SIZE_MISMATCH"),
        (["--input-pooling", "2", "--polarity", "on"], "CAMERA_FEATURES_MISMATCH"),
        (["--input-pooling", "2", "--crop", "1,0,126,128"], "CROP_NOT_ALIGNED"),
        (["--crop", "0,0,64,32", "--swap-xy"], "SWAP_NOT_SQUARE"),
    ],
)
def test_settings_that_do_not_fit_the_network_are_one_finding_each(
    cli: Callable[..., tuple[int, str]],
    models: Callable[[int, int], Path],
    flags: list[str],
    reason: str,
) -> None:
    code, out = cli("check", models(2, 64), *flags, "-o", "json")

    errors = [each for each in json.loads(out)["findings"] if each["severity"] == "error"]
    assert code == REJECTED
    assert reason in {each["reason"] for each in errors}
    assert {each["reason"] for each in errors} <= {reason, "CAMERA_SIZE_MISMATCH"}
    assert len(errors) == len({each["reason"] for each in errors})
