"""The echo of the input through a whole farm: a devkit (samna's double), its twin, pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import speckfarm
from speckfarm.cli import main
from speckfarm.plot_data import images, raster
from speckfarm.recorded import Events
from tests.double_world import World
from tests.farm_process import FarmProcess

pytestmark = pytest.mark.system

ECHO = 13
ASKED: dict[str, Any] = {"crop": (0, 0, 34, 34), "monitor": ["input", 2]}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    """A devkit and a twin."""
    world = World(tmp_path_factory.mktemp("usb"))
    world.plug()
    toml = world.farm_toml({"devkit": "2-1.3"}) + '[[boards]]\nid = "twin"\n'
    with pytest.MonkeyPatch.context() as patched:
        for name, value in world.env.items():
            patched.setenv(name, value)
        process = FarmProcess(tmp_path_factory.mktemp("farm") / "data", toml).start()
        yield process
        process.stop()


@pytest.fixture(scope="module")
def farm(own: FarmProcess) -> Iterator[speckfarm.Farm]:
    with own.connect() as connected:
        yield connected


def recorded(path: Path) -> Events:
    """The events of a file, as spikes are."""
    with np.load(path) as file:
        columns = [file[name] for name in ("t", "p", "y", "x")]
    events = np.zeros(len(columns[0]), [(name, "i8") for name in ("t", "feature", "y", "x")])
    for name, column in zip(("t", "feature", "y", "x"), columns, strict=True):
        events[name] = column
    return events


@pytest.mark.parametrize("kind", ["real", "simulated"])
def test_the_input_comes_back_as_layer_13_on_boards_of_both_kinds(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path, kind: Any
) -> None:
    result = farm.run(digits_model, one_digit, kind=kind, **ASKED).wait(timeout=60)

    echo, sent = result.spikes_of(0, layer=ECHO), recorded(one_digit)
    places = ["feature", "y", "x"]
    assert result.board_kind == kind
    assert len(echo) == result.recordings[0].input_events > 100
    assert sorted(echo[["t", *places]].tolist()) == sorted(sent.tolist())
    assert sorted(result.recordings[0].layer_latency) == [2]
    assert [each.layer for each in result.layers] == [0, 1, 2, 3]
    assert result.recordings[0].output_spikes == len(result.spikes_of(0, layer=3)) > 0


def test_an_echo_changes_no_prediction_and_no_count(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    plain = farm.run(digits_model, one_digit, kind="simulated").wait(timeout=60)
    result = farm.run(digits_model, one_digit, kind="simulated", **ASKED).wait(timeout=60)

    assert result.recordings[0].counts == plain.recordings[0].counts
    assert result.recordings[0].latency == plain.recordings[0].latency


def test_a_comparison_lists_layers_and_no_echo(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    found = farm.compare(digits_model, one_digit, repeats=2, timeout=100, **ASKED)

    assert [each.number for each in found.layers] == [2, 3]
    assert found.differences == ()
    assert found.lags.error_us is not None


def test_pictures_show_layers_and_no_echo(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    result = farm.run(digits_model, one_digit, kind="simulated", **ASKED).wait(timeout=60)

    assert [band.layer for band in raster(result, 0).bands] == [2, 3]
    assert images(result, 0, [recorded(one_digit)], window_us=None).layer == 2


def test_the_command_line_takes_the_echo_by_name_and_says_what_it_needs(
    own: FarmProcess,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    digits_model: Path,
    one_digit: Path,
) -> None:
    monkeypatch.setenv("SPECKFARM_SERVER", own.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", own.token)
    words = [str(digits_model), "--monitor", "0,input", "-o", "json"]

    assert main(["run", *words, str(one_digit), "--crop", "0,0,34,34", "--sim"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert main(["check", *words]) == 3
    report = json.loads(capsys.readouterr().out)

    [recording] = result["recordings"]
    assert result["settings"]["monitor"] == [0, ECHO]
    assert list(recording["layers"]) == ["0"]
    assert recording["output_events"] > recording["input_events"] + recording["output_spikes"]
    errors = [each["reason"] for each in report["findings"] if each["severity"] == "error"]
    assert errors == ["ECHO_NEEDS_CAMERA"]


def test_a_sweep_runs_with_and_without_an_echo(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    sweep = {"monitor": [None, (2, ECHO)]}

    bench = farm.benchmark(
        digits_model, one_digit, kind="simulated", sweep=sweep, crop=(0, 0, 34, 34)
    )

    bench.wait(timeout=60)
    without, with_echo = bench.table()
    assert without["output_spikes"] == with_echo["output_spikes"]
