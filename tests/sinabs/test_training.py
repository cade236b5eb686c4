"""SynOps per second are counted as sinabs counts them, and the loss keeps them in limits."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import sinabs
import sinabs.hooks
import torch
from sinabs.activation import MembraneSubtract, MultiSpike, PeriodicExponential
from sinabs.from_torch import from_model
from sinabs.layers import IAFSqueeze, Merge, SumPool2d
from torch import nn

from speckfarm.errors import BadRequest, WrongState
from speckfarm.export import node_name
from speckfarm.report import LayerReport, Report
from speckfarm.training import SynopsCounter, SynopsLoss, synops_per_layer

torch.set_num_threads(1)  # on a busy machine, threads wait for each other longer than they work
STEPS = 10
STEP_S = 0.005
SHAPE = (2, 12, 12)


def neurons() -> IAFSqueeze:
    return IAFSqueeze(
        num_timesteps=STEPS,
        spike_threshold=torch.tensor(1.0),
        min_v_mem=torch.tensor(-1.0),
        spike_fn=MultiSpike,
        reset_fn=MembraneSubtract(),
        surrogate_grad_fn=PeriodicExponential(),
    )


def network_of(pool: nn.Module, *, gain: float = 4.0) -> nn.Sequential:
    torch.manual_seed(0)
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(2, 8, 3, stride=2, padding=1, bias=False),
        spike1=neurons(),
        pool=pool,
        conv2=nn.Conv2d(8, 8, 3, bias=False),
        spike2=neurons(),
        flatten=nn.Flatten(),
        readout=nn.Linear(8, 2, bias=False),
        spike3=neurons(),
    )
    network = nn.Sequential(layers)
    for name in ("conv1", "conv2", "readout"):
        getattr(network, name).weight.data *= gain
    return network


def samples(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Class 0 has its events in the left half, class 1 in the right: (n * steps, 2, 12, 12)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    rate = np.full((count, 1, 1, 1, 12), 0.1)
    rate[labels == 0, ..., :6] = 1.0
    rate[labels == 1, ..., 6:] = 1.0
    counts = generator.poisson(np.broadcast_to(rate, (count, STEPS, *SHAPE)))
    return torch.from_numpy(counts).float().flatten(0, 1), torch.from_numpy(labels)


def report_of(limits: dict[str, float]) -> Report:
    layers = tuple(
        LayerReport(
            layer=number, name=name, core=2 + number, kernel_entries=1, neuron_entries=1,
            synops_per_event=1.0, synops_limit=limit,
        )
        for number, (name, limit) in enumerate(limits.items())
    )  # fmt: skip
    return Report(model="0" * 64, chip="speck2f", deployable=True, findings=(), layers=layers)


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), SumPool2d(2)], ids=["average", "sum"])
def test_rates_are_those_of_sinabs_own_hooks(pool: nn.Module) -> None:
    network = network_of(pool)
    sinabs.hooks.register_synops_hooks(network, dt=STEP_S)
    frames, _ = samples(4)

    found = synops_per_layer(network, frames, step_s=STEP_S)

    theirs = network.hook_data["synops_per_second"]
    names = dict(enumerate(dict(network.named_children())))
    expected = {names[number]: float(rate) for number, rate in theirs.items()}
    assert min(expected.values()) > 0
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_spike_in_the_middle_and_one_in_the_corner_update_the_neurons_they_reach() -> None:
    network = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1, bias=False), neurons())
    frames = torch.zeros(STEPS, 1, 8, 8)
    frames[3, 0, 4, 4] = 2  # 9 neurons of 5 features, twice
    frames[7, 0, 0, 0] = 1  # 4 neurons

    found = synops_per_layer(network, frames, step_s=0.1)

    assert found == {"0": pytest.approx((2 * 9 * 5 + 4 * 5) / (STEPS * 0.1))}


@pytest.mark.parametrize("padding", [0, 1, "same"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_fan_out_is_what_a_kernel_of_ones_spreads(padding: int | str, groups: int) -> None:
    stride = 1 if padding == "same" else 2
    conv = nn.Conv2d(2, 4, 3, stride, padding, groups=groups, bias=False)
    frames, _ = samples(1)
    conv.weight.data.fill_(1.0)

    found = synops_per_layer(nn.Sequential(conv, neurons()), frames, step_s=1.0)

    assert found["0"] == pytest.approx(conv(frames).sum().item() / STEPS, rel=1e-5)


def test_average_pooling_counts_spikes_and_not_their_averages_in_nested_networks() -> None:
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(2, 3, 1, bias=False), nn.Linear(27, 4, bias=False)
    conv.weight.data.abs_()
    network = nn.Sequential(
        nn.Sequential(conv, neurons()),
        nn.Sequential(nn.AvgPool2d(2), nn.Sequential(nn.AvgPool2d((2, 2)), nn.Flatten())),
        nn.Sequential(linear, neurons()),
    )
    frames, _ = samples(2)
    with torch.no_grad():
        spikes = network[0](frames).sum()

    found = synops_per_layer(network, frames, step_s=STEP_S)

    assert spikes > 100
    assert found["2.0"] == pytest.approx(float(spikes) * 4 / (2 * STEPS * STEP_S), rel=1e-5)


class Added(nn.Module):
    """Two branches with average poolings of different sizes."""

    def __init__(self, *pools: nn.Module) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1, 2)
        self.spike1, self.spike2 = neurons(), neurons()
        self.pool1, self.pool2 = pools
        self.merge, self.last, self.exit = Merge(), nn.Conv2d(2, 2, 1), neurons()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        one = self.pool1(self.spike1(self.one(values)))
        return self.exit(self.last(self.merge(one, self.pool2(self.spike2(self.two(values))))))


def test_averages_of_different_sizes_cannot_be_added() -> None:
    frames, _ = samples(1)

    alike = synops_per_layer(Added(SumPool2d(2), nn.Identity()), frames, step_s=STEP_S)
    with pytest.raises(BadRequest, match="SumPool2d") as caught:
        synops_per_layer(Added(nn.AvgPool2d(2), nn.Identity()), frames, step_s=STEP_S)

    assert set(alike) == {"one", "two", "last"}
    assert caught.value.reason == "GRAPH_NOT_EXPORTABLE"


def test_a_network_under_its_limits_has_loss_0() -> None:
    network = network_of(SumPool2d(2))
    frames, _ = samples(4)
    rates = synops_per_layer(network, frames, step_s=STEP_S)
    loss = SynopsLoss(network, [rate * 1.01 for rate in rates.values()], step_s=STEP_S)

    sinabs.reset_states(network)
    network(frames)

    assert loss().item() == 0.0
    assert loss.rates == pytest.approx(rates)


def test_the_loss_is_the_sum_of_what_is_above_relative_to_the_limit() -> None:
    network = network_of(SumPool2d(2))
    frames, _ = samples(4)
    conv1, conv2, readout = synops_per_layer(network, frames, step_s=STEP_S).values()
    limits = report_of({"conv1": conv1 / 3, "conv2": conv2 / 1.5, "readout": 2 * readout})
    loss = SynopsLoss(network, limits, step_s=STEP_S, weight=10.0)

    sinabs.reset_states(network)
    network(frames)

    assert loss().item() == pytest.approx(10 * (2.0 + 0.5), rel=1e-4)
    assert loss.limits == {layer.name: layer.synops_limit for layer in limits.layers}


def test_the_gradient_reaches_the_weights_before_and_not_the_layer_itself() -> None:
    network = network_of(SumPool2d(2))
    loss = SynopsLoss(network, [math.inf, 1.0, math.inf], step_s=STEP_S)

    network(samples(2)[0])
    value = loss()
    value.backward()

    assert value.isfinite()
    assert network.conv1.weight.grad.any()
    assert not network.conv2.weight.grad.any()
    assert network.readout.weight.grad is None


def test_training_with_the_loss_brings_rates_below_the_limit_and_keeps_the_task() -> None:
    frames, labels = samples(32)
    free, limited = network_of(SumPool2d(2)), network_of(SumPool2d(2))
    free_right = trained(free, frames, labels, limit=math.inf)
    limit = 0.4 * synops_per_layer(free, frames, step_s=STEP_S)["conv2"]

    right = trained(limited, frames, labels, limit=limit)

    rates = synops_per_layer(limited, frames, step_s=STEP_S)
    assert rates["conv2"] < limit
    assert free_right == 1.0
    assert right >= 0.95


def trained(
    network: nn.Sequential, frames: torch.Tensor, labels: torch.Tensor, *, limit: float
) -> float:
    """Train; returns the share of right answers at the end."""
    loss = SynopsLoss(network, [math.inf, 0.9 * limit, math.inf], step_s=STEP_S)
    weights = [each for each in network.parameters() if each.requires_grad]
    optimiser = torch.optim.Adam(weights, 5e-3)
    for _ in range(40):
        sinabs.reset_states(network)
        counts = network(frames).unflatten(0, (-1, STEPS)).sum(1)
        total = nn.functional.cross_entropy(0.3 * counts, labels) + loss()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    loss.close()
    return float((counts.argmax(1) == labels).float().mean())


def test_limits_are_found_by_the_name_of_the_node_else_by_order() -> None:
    network = nn.Sequential(network_of(SumPool2d(2)))
    assert node_name("0.conv1") == "0_conv1"

    named = report_of({"0_readout": 3.0, "0_conv2": 2.0, "0_conv1": 1.0})
    ordered = report_of({"a": 1.0, "b": 2.0, "c": 3.0})

    expected = {"0.conv1": 1.0, "0.conv2": 2.0, "0.readout": 3.0}
    for report in (named, ordered):
        assert SynopsLoss(network, report, step_s=STEP_S).limits == expected


def test_layers_may_be_called_one_by_one() -> None:
    network = network_of(nn.AvgPool2d(2))
    frames, _ = samples(2)
    expected = synops_per_layer(network, frames, step_s=STEP_S)
    counter = SynopsCounter(network, step_s=STEP_S)

    for _ in range(2):
        sinabs.reset_states(network)
        values = frames
        for layer in network:
            values = layer(values)

    assert counter.rates() == pytest.approx(expected)


def test_a_sinabs_network_is_counted_in_its_spiking_model() -> None:
    ann = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 2), nn.ReLU())
    network = from_model(ann, num_timesteps=STEPS)

    found = synops_per_layer(network, samples(1)[0], step_s=STEP_S)

    assert list(found) == ["0", "3"]
    assert found["0"] > 0


def test_closing_takes_the_hooks_off() -> None:
    network = network_of(SumPool2d(2))
    loss = SynopsLoss(network, [1.0, 1.0, 1.0], step_s=STEP_S)
    synops_per_layer(network, samples(1)[0], step_s=STEP_S)

    loss.close()

    assert not any(layer._forward_hooks for layer in network.modules())


def test_before_a_forward_pass_there_is_no_loss() -> None:
    loss = SynopsLoss(network_of(SumPool2d(2)), [1.0, 1.0, 1.0], step_s=STEP_S)

    with pytest.raises(WrongState, match="'conv1' has not run yet") as caught:
        loss()

    assert caught.value.reason == "NO_FORWARD_PASS"


@pytest.mark.parametrize(
    ("limits", "step_s", "words"),
    [
        ([1.0, 1.0], STEP_S, "2 limits for 3 layers"),
        (report_of({"a": 1.0}), STEP_S, "1 limits for 3 layers"),
        ([1.0, 0.0, 1.0], STEP_S, "'conv2' has the limit 0.0"),
        ([1.0, math.nan, 1.0], STEP_S, "'conv2' has the limit nan"),
        ([1.0, 1.0, 1.0], 0.0, "step_s is 0.0"),
        ([1.0, 1.0, 1.0], math.inf, "step_s is inf"),
    ],
)
def test_limits_and_steps_that_mean_nothing_are_refused(
    limits: object, step_s: float, words: str
) -> None:
    network = network_of(SumPool2d(2))

    with pytest.raises(BadRequest) as caught:
        SynopsLoss(network, limits, step_s=step_s)

    assert caught.value.reason == "BAD_ARGUMENT"
    assert not any(layer._forward_hooks for layer in network.modules())
    assert words in caught.value.message
