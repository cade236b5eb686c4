"""SynOps of the twin, layer by layer, are those that sinabs counts on the same spikes.

sinabs counts a synapse whose weight is 0 like any other, and so does the twin: a core reads it too.
sinabs divides by a time step in milliseconds.
"""

import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sinabs.hooks import conv_layer_synops_hook
from sinabs.layers import IAFSqueeze, SumPool2d
from sinabs.synopcounter import SNNAnalyzer
from tests.networks import Plan, conv, network
from torch import nn

from speckfarm.events import PackedEvents
from speckfarm_server.advice import synops_per_event
from speckfarm_server.build import build_configuration, integers_of
from speckfarm_server.chip import CHIPS
from speckfarm_server.configuration import Configuration, CoreConfiguration
from speckfarm_server.network import Layer, Network, Source
from speckfarm_server.settings import Settings
from speckfarm_server.twin.twin import Activity, Twin

STEPS = 20  # of 1 ms
EVENTS = 2000
DT_MS = 1.0
# New networks at every run; the seed is in the name of a failed test.
SEEDS = [secrets.randbelow(2**31) for _ in range(40)]

pytestmark = pytest.mark.filterwarnings("ignore:SNNAnalyzer is deprecated")


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A network that ran on the twin, all layers monitored."""

    network: Network
    configuration: Configuration
    activity: Activity
    rasters: list[NDArray[np.float32]]  # (step, feature, y, x) before pooling; of input, layer 0, …

    def leaving(self, source: Source) -> torch.Tensor:
        """Spikes of what feeds a layer, before pooling."""
        return torch.from_numpy(self.rasters[source.layer + 1])


def run(made: Network, seed: int) -> Run:
    settings = Settings(monitor=tuple(range(len(made.layers))))
    integers = integers_of(made, settings)
    configuration = build_configuration(
        made, integers, range(len(made.layers)), chip=CHIPS["speck2f"], settings=settings
    )
    rng = np.random.default_rng(seed)
    times_us = np.sort(rng.integers(0, STEPS * 1000, EVENTS))
    places = [rng.integers(0, size, EVENTS) for size in made.input_shape]
    twin = Twin(configuration)
    outputs = twin.run(packed(times_us, *places))
    rasters = [raster(made.input_shape, times_us, places)]
    for number, layer in enumerate(made.layers):
        spikes = outputs[outputs["layer"] == number]
        axes = [spikes[name].astype(int) for name in ("feature", "y", "x")]
        rasters.append(raster(layer.output_shape, spikes["t_ns"] // 1000, axes))
    return Run(network=made, configuration=configuration, activity=twin.activity, rasters=rasters)


def packed(times_us: NDArray[np.int64], *places: NDArray[np.int64]) -> PackedEvents:
    feature, y, x = places
    return (times_us << 28 | feature << 14 | y << 7 | x).astype(np.uint64)


def raster(
    shape: tuple[int, int, int], times_us: NDArray[np.int64], places: list[NDArray[np.int64]]
) -> NDArray[np.float32]:
    """Counts per step; what comes after the last step is of it."""
    counts = np.zeros((STEPS, *shape), np.float32)
    np.add.at(counts, (np.minimum(times_us // 1000, STEPS - 1), *places), 1)
    return counts


def random_network(seed: int) -> Network:
    """One to three layers with borders, strides and poolings; half of the weights are 0."""
    rng = np.random.default_rng(seed)
    side = [int(size) for size in rng.integers(20, 28, 2)]
    shape = (int(rng.integers(1, 4)), side[0], side[1])
    plans = [random_layer(rng, smallest_padding=0)]
    plans += [random_layer(rng, smallest_padding=1) for _ in range(rng.integers(0, 3))]
    made = network(shape, *plans, seed=seed)
    for layer in made.layers:
        layer.weights[rng.random(layer.weights.shape) < 0.5] = 0
    return made


def random_layer(rng: np.random.Generator, *, smallest_padding: int) -> Plan:
    return conv(
        int(rng.integers(1, 6)),
        int(rng.integers(1, 4)),
        stride=(int(rng.choice([1, 1, 2])), int(rng.choice([1, 1, 2]))),
        padding=(int(rng.integers(smallest_padding, 3)), int(rng.integers(smallest_padding, 3))),
        pool=int(rng.choice([1, 1, 2])),
        average=bool(rng.random() < 0.5),
        threshold=float(rng.uniform(0.1, 0.4)),
    )


def branching_network(seed: int) -> Network:
    """Layer 0 feeds layers 1 and 2, and layer 2 also gets what layer 1 makes of it."""
    made = network(
        (2, 12, 12),
        conv(3, 3, padding=1, threshold=0.2),
        conv(3, 3, padding=1, threshold=0.2),
        conv(4, 2, threshold=0.2),
        seed=seed,
    )
    last = replace(made.layers[2], sources=(Source(layer=0), Source(layer=1)))
    return replace(made, layers=(*made.layers[:2], last))


def sinabs_layer(layer: Layer, source: Source) -> nn.Sequential:
    """Pooling, weights and neurons of one layer, for the spikes of one source."""
    pools = OrderedDict[str, nn.Module]()
    for pool in source.poolings:
        kind = nn.AvgPool2d if pool.kind == "average" else SumPool2d
        pools[f"pool{len(pools)}"] = kind(pool.kernel_size[0])
    features, channels, *kernel = layer.weights.shape
    weights = nn.Conv2d(
        channels, features, tuple(kernel), stride=layer.stride, padding=layer.padding, bias=False
    )
    weights.weight.data = torch.from_numpy(layer.weights.copy())
    return nn.Sequential(OrderedDict(**pools, weights=weights, neurons=IAFSqueeze(batch_size=1)))


def analysed(ran: Run, layer: Layer, count: str) -> float:
    """What sinabs' analyser counts for a layer; the sum over its sources."""
    total = 0.0
    for source in layer.sources:
        module = sinabs_layer(layer, source)
        analyser = SNNAnalyzer(module, dt=DT_MS)
        with torch.no_grad():
            module(ran.leaving(source))
        total += float(analyser.get_layer_statistics()["parameter"]["weights"][count])
    return total


@pytest.mark.parametrize("make", [random_network, branching_network])
@pytest.mark.parametrize("seed", SEEDS)
def test_synops_of_each_layer_equal_those_of_sinabs_analyser(
    seed: int, make: Callable[[int], Network]
) -> None:
    ran = run(make(seed), seed)

    for number, layer in enumerate(ran.network.layers):
        synops = int(ran.activity.synops[number])
        assert analysed(ran, layer, "synops") == synops, (number, layer)
        per_second = analysed(ran, layer, "SynOps/s")
        assert per_second == pytest.approx(synops / (STEPS * DT_MS / 1000)), (number, layer)


@pytest.mark.parametrize("seed", SEEDS[:10])
def test_synops_of_each_layer_equal_those_of_sinabs_hook(seed: int) -> None:
    ran = run(random_network(seed), seed)

    for number, layer in enumerate(ran.network.layers):
        (source,) = layer.sources
        module = sinabs_layer(layer, source)
        module.weights.register_forward_hook(conv_layer_synops_hook)
        with torch.no_grad():
            module(ran.leaving(source))
        per_step = float(module.weights.hook_data["layer_synops_per_timestep"])
        # The hook leaves it to its caller that average pooling divides spike counts.
        per_spike = 1 / source.weight_scale

        assert per_step * STEPS * per_spike == pytest.approx(ran.activity.synops[number], abs=0.5)


def test_spikes_reach_most_of_the_inner_layers_compared() -> None:
    runs = [run(random_network(seed), seed) for seed in range(20)]

    inner = [synops > 0 for ran in runs for synops in ran.activity.synops[1:]]

    assert len(inner) > 10
    assert np.mean(inner) > 0.5


def test_a_weight_of_zero_costs_as_much_as_any_other() -> None:
    dense, empty = (network((1, 9, 9), conv(3, 3, weights=value)) for value in (0.1, 0.0))

    runs = [run(made, seed=1) for made in (dense, empty)]

    counts = [int(ran.activity.synops[0]) for ran in runs]
    assert counts[0] == counts[1] > 0
    for ran in runs:
        assert analysed(ran, ran.network.layers[0], "synops") == counts[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_published_formula_bounds_synops_up_to_what_strides_round_up(seed: int) -> None:
    """Without strides it is a bound; with them a mean over pixels, that one event may exceed."""
    ran = run(random_network(seed), seed)

    for number, core in enumerate(ran.configuration.cores):
        spikes = int(ran.activity.input_spikes[number])
        assert ran.activity.synops[number] <= most_synops_per_event(core) * spikes
        if core.stride == (1, 1):
            assert synops_per_event(core) == most_synops_per_event(core)
        assert synops_per_event(core) <= most_synops_per_event(core)


def most_synops_per_event(core: CoreConfiguration) -> int:
    """Output pixels that one input pixel reaches at most, times features."""
    rows, columns = (math.ceil(core.kernel_size / stride) for stride in core.stride)
    return core.output_shape[0] * rows * columns
