"""Whole networks, new at every run, become the integers of sinabs run here and now."""

import contextlib
import io
import itertools
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nir
import numpy as np
import pytest
import sinabs.nir
import torch
from tests.sinabs.backend import convert, read_by_sinabs
from tests.sinabs.record_networks import Module, result_of, written_layers
from tests.sinabs_cases import cases
from tests.sinabs_comparison import farm_result, result_of_network
from tests.sinabs_networks import NetworkPlan, Pools
from tests.sinabs_random import random_plan

from speckfarm.export import export
from speckfarm_server.network import Network
from speckfarm_server.parse import parse_network

# New networks at every run; the seed is in the name of a failed test.
SEEDS = [secrets.randbelow(2**31) for _ in range(60)]
CHOSEN = {plan.name: plan for plan in cases()}
UNEQUAL = CHOSEN["fork and merge, unequal factors"]

# sinabs 3.1.3 calls what nirtorch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.mark.parametrize("seed", SEEDS)
def test_new_random_networks_become_the_integers_of_sinabs(seed: int) -> None:
    plan = random_plan(seed)
    expected = result_of(plan)

    farm = farm_result(plan)

    assert farm.layers == expected["layers"]
    assert farm.maps == expected["maps"]
    assert not farm.maps or not farm.errors


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_a_file_written_by_sinabs_becomes_its_integers(seed: int, tmp_path: Path) -> None:
    plan = random_chain(seed)
    expected = result_of(plan)

    network = parsed(write(plan, tmp_path))

    assert result_of_network(network).layers == expected["layers"]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("seed", SEEDS[20:40])
def test_a_file_that_sinabs_reads_becomes_its_integers(
    seed: int, bits: int, tmp_path: Path
) -> None:
    plan = random_chain(seed)
    file = write(plan, tmp_path, as_width(f"float{bits}"))
    expected = written_layers(convert(read_by_sinabs(file), plan.input_shape), by_reset=False)

    network = parsed(file)

    assert {layer.threshold_bits for layer in network.layers} == {bits}
    assert result_of_network(network).layers == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_a_file_of_our_own_export_becomes_the_integers_of_sinabs(seed: int, tmp_path: Path) -> None:
    """Forks, merges, average pooling and lower clips too, which sinabs does not write."""
    drawn = random_small(seed)  # export refuses a clip at 0 and warns of none
    clipped = (replace(layer, low=layer.low or -layer.threshold) for layer in drawn.layers)
    plan = replace(drawn, layers=tuple(clipped))
    expected = result_of(plan)

    export(Module(plan), tmp_path / "network.nir", input_shape=plan.input_shape)
    network = parsed(tmp_path / "network.nir")

    assert result_of_network(network).layers == expected["layers"]


@pytest.mark.parametrize("seed", SEEDS[40:50])
def test_state_that_neurons_still_hold_does_not_change_the_integers(seed: int) -> None:
    """sinabs takes v_mem into the scale too, but thresholds bound it and bind before it."""
    plan = random_chain(seed)
    module = Module(plan)
    module(torch.rand(1, *plan.input_shape))

    held = convert(module, plan.input_shape)

    assert farm_result(plan).layers == written_layers(held)


@pytest.mark.parametrize(
    "name",
    [
        "fork and merge, average 4 and average 4",
        "fork and merge, average 4 and average 2 twice",
        "fork and merge, sum 2 average 2 and average 2 sum 2",
    ],
)
def test_branches_of_equal_factors_scale_by_exactly_that_factor(name: str) -> None:
    plan = CHOSEN[name]
    factor = 1.0
    for kind, size in plan.layers[3].links[0].pools:
        factor /= size * size if kind == "average" else 1

    network = convert(Module(plan), plan.input_shape, weight_rescaling_fn=None)

    scales = {layer.rescale_weights for layer in network.dynapcnn_layers.values()}
    assert scales == {1, factor}
    assert farm_result(plan).layers == written_layers(network)


def test_branches_of_unequal_factors_are_refused_by_sinabs_only_without_a_rescaling() -> None:
    by_default = result_of(UNEQUAL)

    strictly = result_of(UNEQUAL, weight_rescaling_fn=None)

    assert "conflicting sizes" in strictly["error"]
    assert "error" not in by_default  # factor 0.31 in the place of 1 and 1/4
    assert farm_result(UNEQUAL).errors == {"MERGE_SCALES_DIFFER"}


def random_small(seed: int) -> NetworkPlan:
    """The next random network whose file the farm takes: at most 16 MiB, 20 chips' weights."""
    return next(found for found in map(random_plan, itertools.count(seed)) if is_small(found))


def is_small(plan: NetworkPlan) -> bool:
    return sum(plan.floats(number)[0].size for number in range(len(plan.layers))) < 3_000_000


def random_chain(seed: int) -> NetworkPlan:
    """The next random network without forks, as NIR can hold it: no average, clip at -threshold."""
    drawn = map(random_plan, itertools.count(seed))
    plan = next(found for found in drawn if is_chain(found) and is_small(found))
    layers = tuple(
        replace(
            layer,
            links=tuple(replace(link, pools=summed(link.pools)) for link in layer.links),
            threshold=float(np.float32(layer.threshold)),
            low=-float(np.float32(layer.threshold)),
            threshold_bits=32,
        )
        for layer in plan.layers
    )
    return replace(plan, layers=layers, exit_pools=summed(plan.exit_pools))


def is_chain(plan: NetworkPlan) -> bool:
    sources = [[link.layer for link in layer.links] for layer in plan.layers]
    return sources == [[number - 1] for number in range(len(sources))]


def summed(pools: Pools) -> Pools:
    return tuple(("sum", size) for _, size in pools)


def as_width(dtype: str) -> Callable[[nir.NIRGraph], None]:
    """Thresholds of every IF node in that width; in float64 one that float32 has not."""

    def change(graph: nir.NIRGraph) -> None:
        for node in graph.nodes.values():
            if isinstance(node, nir.IF):
                values = np.asarray(node.v_threshold, dtype)
                node.v_threshold = values * (1 + 1e-9) if dtype == "float64" else values

    return change


def write(
    plan: NetworkPlan, folder: Path, change: Callable[[nir.NIRGraph], None] = lambda _: None
) -> Path:
    """What a sinabs user does to get a file."""
    graph = sinabs.nir.to_nir(Module(plan), torch.zeros(1, *plan.input_shape))
    graph.edges.sort()  # their order differs from run to run
    with contextlib.redirect_stdout(io.StringIO()):  # nir prints a line for each node it fills in
        graph.infer_types()
    change(graph)
    file = folder / "network.nir"
    nir.write(file, graph)
    return file


def parsed(file: Path) -> Network:
    """The network as the farm reads it."""
    found = parse_network(file.read_bytes())
    assert [finding.message for finding in found.findings] == []
    assert found.network is not None
    return found.network
