"""Real networks and recordings, from the folder `shared` beside the checkout, through the CLI."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speckfarm.cli import main
from tests.farm_process import FarmProcess

SHARED = Path(__file__).parents[2] / "shared" / "data"
NMNIST = SHARED / "events" / "sample_nmnist.bin"
REJECTED = 3  # exit code


@pytest.fixture
def cli(
    server: FarmProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    monkeypatch.setenv("SPECKFARM_SERVER", server.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", server.token)

    def run(*arguments: str | Path) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        return code, capsys.readouterr().out

    return run


def test_the_nmnist_network_sees_the_sample_as_a_four(cli: Any) -> None:
    code, out = cli("run", SHARED / "nir" / "scnn_mnist.nir", NMNIST, "-o", "json")

    [recording] = json.loads(out)["recordings"]
    assert code == 0
    assert recording["prediction"] == 4


def test_the_gesture_network_fills_the_chip_and_runs(cli: Any) -> None:
    code, out = cli("run", SHARED / "nir" / "dvs_gesture.nir", NMNIST, "-o", "json")

    result = json.loads(out)
    assert code == 0
    assert result["recordings"][0]["input_events"] == 4325


def test_the_mnist_network_reads_rate_coded_digits(cli: Any, tmp_path: Path) -> None:
    path = rate_coded_digits(tmp_path / "digits.npz", count=20)

    code, out = cli("run", SHARED / "nir" / "mnist_28x28.nir", path, "-o", "json")

    assert code == 0
    assert json.loads(out)["accuracy"] >= 0.85


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("01_lif_debug_spike_representation_two_lif_neurons", "UNSUPPORTED_NODE"),
        ("01_lif_lif_norse", "UNSUPPORTED_NODE"),
        ("01_lif_lif_rockpool", "UNSUPPORTED_NODE"),
        ("03_rnn_braille_noDelay_bias_zero", "GRAPH_CYCLE"),
        ("03_rnn_braille_noDelay_noBias_subtract", "GRAPH_CYCLE"),
        ("03_rnn_extras_braille_noDelay_bias_zero_subgraph", "EDGE_TO_MISSING_NODE"),
        ("03_rnn_extras_braille_noDelay_noBias_subtract_subgraph", "EDGE_TO_MISSING_NODE"),
    ],
)
def test_networks_that_fit_no_speck_are_refused_by_check_and_run(
    name: str, reason: str, cli: Any
) -> None:
    model = SHARED / "nir" / f"{name}.nir"

    checked, out = cli("check", model, "-o", "json")
    ran, _ = cli("run", model, NMNIST)

    report = json.loads(out)
    assert (checked, ran) == (REJECTED, REJECTED)
    assert not report["deployable"]
    assert reason in {finding["reason"] for finding in report["findings"]}


def rate_coded_digits(path: Path, *, count: int) -> Path:
    """MNIST test images as events: each ms a pixel spikes with probability value / 255; 100 ms."""
    images = _idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:count]
    labels = _idx("t10k-labels-idx1-ubyte.gz", 8)[:count]
    random = np.random.default_rng(0)
    columns: dict[str, list[np.ndarray]] = {"t": [], "y": [], "x": []}
    offsets = [0]
    for image in images:
        spikes = random.random((100, 28, 28)) < image / 255
        for axis, found in zip("tyx", np.nonzero(spikes), strict=True):
            columns[axis].append(found * 1000 if axis == "t" else found)
        offsets.append(offsets[-1] + int(spikes.sum()))
    events = {axis: np.concatenate(parts) for axis, parts in columns.items()}
    np.savez(path, **events, p=np.zeros(offsets[-1], int), offsets=offsets, labels=labels)
    return path


def _idx(name: str, header_bytes: int) -> np.ndarray:
    data = gzip.decompress((SHARED / "mnist" / name).read_bytes())
    return np.frombuffer(data, np.uint8, offset=header_bytes)
