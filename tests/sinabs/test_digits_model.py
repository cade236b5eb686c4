"""Check examples/digits/digits.nir and digits.npz against sinabs and scikit-learn."""

import sys
from pathlib import Path

import nir
import numpy as np
import pytest
import sinabs.nir
import torch
from nir import NIRGraph
from sinabs.layers import IAFSqueeze
from torch import nn

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
sys.path.insert(0, str(DIGITS))

import record  # noqa: E402
import train  # noqa: E402

# sinabs 3.1.3 still calls it.
pytestmark = pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated")


@pytest.fixture(scope="module")
def graph() -> NIRGraph:
    return nir.read(DIGITS / "digits.nir")


@pytest.fixture(scope="module")
def recordings() -> record.Recordings:
    with np.load(DIGITS / "digits.npz") as arrays:
        return record.Recordings(**arrays)


def network_of(graph: NIRGraph) -> nn.Sequential:
    """Return sinabs' modules in order, with one threshold per layer, as the chip has it."""
    executor = sinabs.nir.from_nir(graph, num_timesteps=train.STEPS)
    modules = dict(executor.named_children())
    following = dict(graph.edges)
    names = ["input"]
    while names[-1] in following:
        names.append(following[names[-1]])
    for layer in modules.values():
        if isinstance(layer, IAFSqueeze):
            layer.spike_threshold = nn.Parameter(layer.spike_threshold.flatten()[0])
            layer.min_v_mem = nn.Parameter(layer.min_v_mem.flatten()[0])
    return nn.Sequential(*(modules[name] for name in names))


def test_the_committed_recordings_are_the_first_100_held_out_digits(recordings) -> None:
    made = record.record_digits(record.FIRST_HELD_OUT, 100)

    for name, expected, found in zip(made._fields, made, recordings, strict=True):
        assert np.array_equal(expected, found), name


def test_the_network_has_only_nodes_that_speck_can_run(graph: NIRGraph) -> None:
    kinds = {type(node).__name__ for node in graph.nodes.values()}

    assert kinds == {"Input", "Conv2d", "IF", "SumPool2d", "Flatten", "Affine", "Output"}


def test_no_weight_reaches_the_threshold(graph: NIRGraph) -> None:
    quantised = train.quantised(network_of(graph))

    weights = [layer for layer in quantised if isinstance(layer, nn.Conv2d | nn.Linear)]
    spiking = [layer for layer in quantised if isinstance(layer, IAFSqueeze)]
    for layer, spikes in zip(weights, spiking, strict=True):
        assert layer.weight.max() < spikes.spike_threshold


def test_the_quantised_network_reads_94_of_100_digits(graph: NIRGraph, recordings) -> None:
    quantised = train.quantised(network_of(graph))
    labels = torch.from_numpy(recordings.labels).long()

    accuracy = train.accuracy(quantised, train.frames_of(recordings), labels)

    assert accuracy >= 0.94
