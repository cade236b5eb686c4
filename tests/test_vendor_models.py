"""A vendor's configuration is a model like any other: uploaded, checked, run, and downloaded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import speckfarm
from speckfarm_server.errors import BadInput
from speckfarm_server.parse_host import ParseHost
from speckfarm_server.vendor.read import read_vendor_json
from tests.farm_process import FarmProcess
from tests.laptop import Laptop

BOARDS_2B = """
[[boards]]
id = "twin-0"
chip = "speck2b"
"""


@pytest.fixture
def farm(server: FarmProcess) -> Iterator[speckfarm.Farm]:
    with speckfarm.connect(server.address, server.token) as farm:
        yield farm


def spikes_of(farm: speckfarm.Farm, model: Any, recording: Path, **options: Any) -> Any:
    result = farm.run(model, recording, **options).wait(timeout=60)
    return result.spikes, result.to_dict()["configuration"], result.predictions


@pytest.mark.parametrize(
    "options", [{}, {"reset": "zero", "monitor": [0, 2]}, {"decimator": {0: 2}}]
)
def test_a_downloaded_configuration_gives_the_spikes_of_the_model_it_came_from(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path, options: dict[str, Any]
) -> None:
    spikes, digest, predictions = spikes_of(farm, digits_model, one_digit, **options)

    text = farm.configuration(digits_model, chip="speck2f", **options)

    again, _, same = spikes_of(farm, text, one_digit)
    assert len(spikes) > 0
    assert np.array_equal(again, spikes)
    assert np.array_equal(same, predictions)
    _, with_settings, _ = spikes_of(farm, text, one_digit, **options)
    assert with_settings == digest


def test_a_configuration_with_the_camera_layer_gives_the_same_spikes(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    camera = {"crop": (0, 0, 34, 34), "mirror": "x"}
    spikes, _, _ = spikes_of(farm, digits_model, one_digit, **camera)

    text = farm.configuration(digits_model, chip="speck2f", **camera)

    again, _, _ = spikes_of(farm, text, one_digit)
    assert len(spikes) > 0
    assert np.array_equal(again, spikes)
    assert read_vendor_json(text).configuration.dvs is not None
    report = farm.check(text, **camera)
    refused = {f.metadata["setting"] for f in report.findings if f.severity == "error"}
    assert refused == {"crop", "mirror"}


def test_a_configuration_of_speck2b_runs_on_a_board_of_speck2b(
    make_server: Callable[..., FarmProcess], digits_model: Path, one_digit: Path
) -> None:
    server = make_server(BOARDS_2B)
    with speckfarm.connect(server.address, server.token) as farm:
        spikes, digest, _ = spikes_of(farm, digits_model, one_digit)

        text = farm.configuration(digits_model)

        again, same, _ = spikes_of(farm, text, one_digit)
        assert np.array_equal(again, spikes)
        assert same == digest
        server.stop()
        server.start(listen=server.address)  # now from the cache on disk
        report = farm.check(text)
        assert (report.configuration, report.deployable) == (digest, True)
    assert read_vendor_json(text).configuration.chip == "speck2b"


def test_a_configuration_is_listed_and_checked_like_a_network(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    text = farm.configuration(digits_model, cores={0: 7})
    job = farm.flash(text).wait(timeout=60)

    report = farm.check(text)

    cores = [layer.core for layer in report.layers]
    assert cores[0] == 7
    assert [layer.name for layer in report.layers] == [f"core {core}" for core in cores]
    [listed] = [model for model in farm.models() if model.model == job.to_dict()["model"]]
    assert (listed.input_shape, listed.layers) == ((2, 34, 34), 4)


def test_unknown_keys_of_a_file_are_reported_and_kept(
    farm: speckfarm.Farm, digits_model: Path
) -> None:
    plain = json.loads(farm.configuration(digits_model, chip="speck2f"))
    plain["value0"]["factory_config"] = {"internal_slow_clk_divider": 3}

    text = farm.configuration(json.dumps(plain).encode(), chip="speck2f")

    report = farm.check(json.dumps(plain).encode())
    [found] = [each for each in report.findings if each.reason == "UNKNOWN_KEY"]
    assert found.metadata["paths"] == "value0.factory_config.internal_slow_clk_divider"
    assert report.deployable
    assert json.loads(text) == plain


def test_a_file_for_another_chip_cannot_run(farm: speckfarm.Farm, digits_model: Path) -> None:
    text = farm.configuration(digits_model, chip="speck2b")

    report = farm.check(text, chip="speck2f")

    assert [each.reason for each in report.findings] == ["CHIP_MISMATCH"]
    with pytest.raises(speckfarm.ModelRejected, match="speck2b"):
        farm.configuration(text, chip="speck2f")


def test_a_setting_without_a_key_is_refused(farm: speckfarm.Farm, digits_model: Path) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.configuration(digits_model, chip="speck2b", decimator={1: 4})

    assert caught.value.reason == "NOT_IN_VENDOR_JSON"
    assert caught.value.metadata == {"layer": "1", "decimator": "4", "chip": "speck2b"}


def test_a_value_that_would_wrap_is_refused_by_its_path(
    farm: speckfarm.Farm, digits_model: Path
) -> None:
    plain = json.loads(farm.configuration(digits_model, chip="speck2b", cores={0: 2}))
    plain["value0"]["cnnLayers"]["value2"]["thresholdHigh"] = 40000

    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.check(json.dumps(plain).encode())

    assert caught.value.reason == "VALUE_OUT_OF_RANGE"
    assert caught.value.metadata["path"] == "value0.cnnLayers.value2.thresholdHigh"


def test_the_command_writes_a_file_that_the_farm_takes_back(
    server: FarmProcess, tmp_path: Path, digits_model: Path
) -> None:
    laptop = Laptop(home=tmp_path / "home")
    known = ("--server", server.address, "--token", server.token)
    out = tmp_path / "digits.json"

    command = ("configuration", str(digits_model), "--reset", "zero")
    done = laptop.speckfarm(*command, "-O", str(out), *known)

    assert (done.returncode, done.stdout) == (0, f"wrote {out}, {out.stat().st_size:,} bytes\n")
    assert laptop.json("check", str(out), *known)["deployable"] is True
    printed = laptop.speckfarm(*command, *known)
    assert printed.stdout.encode() == out.read_bytes() + b"\n"


def test_the_command_shows_why_a_model_has_no_configuration(
    server: FarmProcess, tmp_path: Path, digits_model: Path
) -> None:
    laptop = Laptop(home=tmp_path / "home")
    known = ("--server", server.address, "--token", server.token)

    done = laptop.speckfarm("configuration", str(digits_model), "--monitor", "7", *known)

    assert done.returncode == 3
    assert "LAYER_NOT_FOUND" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("folder", [".", "missing"])
def test_the_command_names_a_file_that_cannot_be_written(
    server: FarmProcess, tmp_path: Path, digits_model: Path, folder: str
) -> None:
    laptop = Laptop(home=tmp_path / "home")
    known = ("--server", server.address, "--token", server.token)
    out = tmp_path / folder / ("" if folder == "." else "digits.json")

    done = laptop.speckfarm("configuration", str(digits_model), "-O", str(out), *known)

    assert done.returncode == 2
    assert "--out" in done.stderr


HOSTILE = {
    "empty lists": b'{"value0": {"cnnLayers": [' + b"[]," * (16 * 2**20 // 3 - 20) + b"[]]}}",
    "empty objects": b'{"value0": {"cnnLayers": [' + b"{}," * (16 * 2**20 // 3 - 20) + b"{}]}}",
    "numbers": b'{"value0": {"cnnLayers": [' + b"1," * (8 * 2**20 - 40) + b"1]}}",
    "long numbers": b'{"value0": {"cnnLayers": [' + (b"9" * 4000 + b",") * 4000 + b"1]}}",
    "keys": b'{"value0": {' + b",".join(b'"k%d":1' % n for n in range(10**6)) + b"}}",
    "wide text": b'{"value0": "' + "\U0001f600".encode() * (4 * 2**20 - 10) + b'"}',
    "depth": b'{"value0":' * 10**6,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_within_the_parsers_limits(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(data)
    host = ParseHost()

    with pytest.raises(BadInput) as caught:
        asyncio.run(host.parse_model(path))
    host.close()

    assert caught.value.reason in ("MODEL_UNREADABLE", "MODEL_TOO_LARGE")
