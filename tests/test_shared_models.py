"""The real networks and recordings in the folder `shared` beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from speckfarm_server.errors import BadInput
from speckfarm_server.network import Network
from speckfarm_server.parse import parse_network
from speckfarm_server.recording_file import read_recordings

SHARED = Path(__file__).parents[2] / "shared" / "data"


def parsed(name: str) -> tuple[Network | None, set[str]]:
    result = parse_network((SHARED / "nir" / f"{name}.nir").read_bytes())
    return result.network, {finding.reason for finding in result.findings}


@pytest.mark.parametrize(
    ("name", "input_shape", "outputs"),
    [
        ("scnn_mnist", (2, 34, 34),
         [(16, 16, 16), (16, 16, 16), (8, 8, 8), (256, 1, 1), (10, 1, 1)]),
        ("mnist_28x28", (1, 28, 28),
         [(20, 24, 24), (32, 8, 8), (128, 2, 2), (500, 1, 1), (10, 1, 1)]),
        ("dvs_gesture", (2, 128, 128),
         [(16, 64, 64), (16, 64, 64), (32, 32, 32), (32, 16, 16), (64, 8, 8), (64, 4, 4),
          (256, 1, 1), (128, 1, 1), (11, 1, 1)]),
    ],
)  # fmt: skip
def test_trained_networks_parse_without_a_finding(
    name: str, input_shape: tuple[int, int, int], outputs: list[tuple[int, int, int]]
):
    network, reasons = parsed(name)

    assert reasons == set()
    assert network is not None
    assert network.input_shape == input_shape
    assert [layer.output_shape for layer in network.layers] == outputs


def test_kinds_of_pooling_are_told_apart():
    kinds = {}
    for name in ("scnn_mnist", "mnist_28x28"):
        network, _ = parsed(name)
        assert network is not None
        kinds[name] = {
            pool.kind
            for layer in network.layers
            for source in layer.sources
            for pool in source.poolings
        }

    assert kinds == {"scnn_mnist": {"sum"}, "mnist_28x28": {"average"}}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("01_lif_debug_spike_representation_two_lif_neurons", {"UNSUPPORTED_NODE"}),
        ("01_lif_lif_norse", {"UNSUPPORTED_NODE"}),
        ("01_lif_lif_rockpool", {"UNSUPPORTED_NODE"}),
        ("03_rnn_braille_noDelay_bias_zero", {"UNSUPPORTED_NODE", "GRAPH_CYCLE"}),
        ("03_rnn_braille_noDelay_noBias_subtract", {"UNSUPPORTED_NODE", "GRAPH_CYCLE"}),
        ("03_rnn_extras_braille_noDelay_bias_zero_subgraph",
         {"UNSUPPORTED_NODE", "GRAPH_CYCLE", "EDGE_TO_MISSING_NODE", "DANGLING_NODE"}),
        ("03_rnn_extras_braille_noDelay_noBias_subtract_subgraph",
         {"UNSUPPORTED_NODE", "GRAPH_CYCLE", "EDGE_TO_MISSING_NODE", "DANGLING_NODE"}),
    ],
)  # fmt: skip
def test_networks_that_fit_no_speck_are_refused_with_the_reason(name: str, expected: set[str]):
    network, reasons = parsed(name)

    assert network is None
    assert reasons == expected


def test_the_nmnist_sample_is_read_whole():
    data = (SHARED / "events" / "sample_nmnist.bin").read_bytes()

    recordings = read_recordings(data, "sample_nmnist.bin")

    assert len(recordings.packed) == 4325
    assert (recordings.max_x, recordings.max_y, recordings.features) == (33, 33, (0, 1))


@pytest.mark.parametrize(
    ("name", "found"),
    [("dvxplorer_320x240.aedat4", "AEDAT 4"), ("sample_ncars.dat", "Prophesee .dat")],
)
def test_recordings_of_other_formats_are_named(name: str, found: str):
    with pytest.raises(BadInput) as caught:
        read_recordings((SHARED / "events" / name).read_bytes(), name)

    assert caught.value.reason == "UNSUPPORTED_RECORDING"
    assert found in caught.value.message
