"""An exported file holds the network that was trained, and what NIR has no field for."""

import warnings
from collections import OrderedDict
from pathlib import Path

import nir
import numpy as np
import pytest
import sinabs.nir
import torch
from exported_networks import SHAPE, STEPS, frames, metadata, neurons, parsed, small
from hypothesis import given
from hypothesis import strategies as st
from sinabs.activation import MembraneReset, SingleSpike
from sinabs.from_torch import from_model
from sinabs.layers import IAF, FlattenTime, Merge, Repeat, SumPool2d, UnflattenTime
from torch import nn

from speckfarm.export import ExportWarning, export, node_name


def test_the_farm_reads_the_weights_thresholds_and_shapes_of_the_network(tmp_path: Path) -> None:
    network = small(SumPool2d(2), nn.AvgPool2d(3, 1))

    export(network, tmp_path / "a.nir", input_shape=SHAPE)

    found = parsed(tmp_path / "a.nir")
    first, last = found.layers
    assert found.input_shape == SHAPE
    assert (first.name, first.neuron_name) == ("conv1", "spike1")
    assert (last.name, last.neuron_name) == ("readout", "spike2")
    np.testing.assert_array_equal(first.weights, network.conv1.weight.detach().numpy())
    np.testing.assert_array_equal(
        last.weights.reshape(5, -1), network.readout.weight.detach().numpy()
    )
    np.testing.assert_array_equal(last.bias, network.readout.bias.detach().numpy())
    assert first.bias is None or not first.bias.any()
    assert (first.threshold_range, last.threshold_range) == ((2.0, 2.0), (1.0, 1.0))
    assert (first.stride, first.padding) == ((2, 2), (1, 1))
    assert (first.output_shape, last.input_shape) == ((4, 6, 6), (4, 1, 1))
    pools = [(pool.kind, pool.kernel_size, pool.stride) for pool in last.sources[0].poolings]
    assert pools == [("sum", (2, 2), (2, 2)), ("average", (3, 3), (1, 1))]


@given(
    features=st.integers(1, 5),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.sampled_from([0, 1, "same"]),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_every_convolution_computes_in_the_file_what_it_did_in_torch(
    tmp_path_factory: pytest.TempPathFactory,
    features: int,
    kernel: int,
    stride: int,
    padding: int | str,
    dilation: int,
    groups: int,
    seed: int,
) -> None:
    if padding == "same":
        stride, kernel = 1, 3
    torch.manual_seed(seed)
    conv = nn.Conv2d(
        2, 2 * features, kernel, stride, padding, dilation, groups, bias=bool(seed % 2)
    )
    path = tmp_path_factory.mktemp("conv") / "a.nir"

    export(nn.Sequential(conv, neurons()), path, input_shape=SHAPE)

    node = nir.read(path).nodes["0"]
    sizes = [tuple(int(axis) for axis in each) for each in (node.stride, node.padding)]
    weights, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
    read = nn.functional.conv2d(
        frames(), weights, bias, *sizes, dilation=tuple(node.dilation.tolist()), groups=groups
    )
    torch.testing.assert_close(read, conv(frames()))
    assert tuple(node.input_shape) == SHAPE[1:]


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated")
def test_sinabs_reads_back_a_network_that_spikes_alike(tmp_path: Path) -> None:
    network = small(SumPool2d(2))
    network.spike1.min_v_mem.data.fill_(-2.0)  # sinabs reads min_v_mem as -threshold
    network.conv1.weight.data *= 8
    network.readout.weight.data *= 4
    with torch.no_grad():
        expected = network(frames())
    assert expected.sum() > 20
    sinabs.reset_states(network)

    export(network, tmp_path / "a.nir", input_shape=SHAPE)

    again = sinabs.nir.from_nir(nir.read(tmp_path / "a.nir"), num_timesteps=STEPS)
    with torch.no_grad():
        found = again(frames())
    found = found[0] if isinstance(found, tuple) else found
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph is being deprecated")
def test_nodes_and_edges_are_those_of_sinabs_own_exporter(tmp_path: Path) -> None:
    network = small(SumPool2d(2))

    export(network, tmp_path / "a.nir", input_shape=SHAPE)

    found = nir.read(tmp_path / "a.nir")
    theirs = sinabs.nir.to_nir(network, frames())
    assert sorted(found.edges) == sorted(theirs.edges)
    for name, node in theirs.nodes.items():
        assert type(found.nodes[name]) is type(node), name
    np.testing.assert_array_equal(found.nodes["conv1"].weight, theirs.nodes["conv1"].weight)
    np.testing.assert_array_equal(
        found.nodes["spike1"].v_threshold, theirs.nodes["spike1"].v_threshold
    )


def test_reset_and_lower_clip_stand_in_the_metadata_of_each_if_node(tmp_path: Path) -> None:
    network = small()
    network.spike2.reset_fn = MembraneReset()

    exported = export(network, tmp_path / "a.nir", input_shape=SHAPE)

    first, last = (metadata(tmp_path / "a.nir", name) for name in ("spike1", "spike2"))
    assert first == {
        "speckfarm_reset": b"subtract",
        "speckfarm_lower_clip": -0.25,
        "speckfarm_spike_fn": b"MultiSpike",
    }
    assert (last["speckfarm_reset"], last["speckfarm_lower_clip"]) == (b"zero", -1.0)
    assert np.asarray(last["speckfarm_lower_clip"]).dtype == np.float64
    assert [(each.name, each.reset, each.lower_clip) for each in exported.neurons] == [
        ("spike1", "subtract", -0.25),
        ("spike2", "zero", -1.0),
    ]


def test_what_the_caller_says_is_recorded_instead_of_what_the_layers_say(tmp_path: Path) -> None:
    network = small()
    network.spike1.reset_fn = MembraneReset(reset_value=0.3)  # refused otherwise
    network.spike2.min_v_mem = None

    with warnings.catch_warnings(action="error"):
        export(network, tmp_path / "a.nir", input_shape=SHAPE, reset="zero", lower_clip=-2.0)

    for name in ("spike1", "spike2"):
        found = metadata(tmp_path / "a.nir", name)
        assert (found["speckfarm_reset"], found["speckfarm_lower_clip"]) == (b"zero", -2.0)


def test_a_layer_without_a_lower_clip_is_warned_about_and_has_no_key(tmp_path: Path) -> None:
    network = small()
    network.spike1.min_v_mem = None

    with pytest.warns(ExportWarning, match=r"'spike1' has min_v_mem = None.* -1 x threshold"):
        exported = export(network, tmp_path / "a.nir", input_shape=SHAPE)

    assert "speckfarm_lower_clip" not in metadata(tmp_path / "a.nir", "spike1")
    assert [each.lower_clip for each in exported.neurons] == [None, -1.0]
    assert len(exported.warnings) == 1


def test_the_spike_function_is_told_by_name(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), neurons(spike_fn=SingleSpike))

    export(network, tmp_path / "a.nir", input_shape=SHAPE)

    assert metadata(tmp_path / "a.nir", "1")["speckfarm_spike_fn"] == b"SingleSpike"


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_batch_normalisation_is_folded_exactly_with_eps(
    tmp_path: Path, kind: str, bias: bool, affine: bool
) -> None:
    torch.manual_seed(3)
    if kind == "conv":
        weights, norm = nn.Conv2d(2, 4, 3, bias=bias), nn.BatchNorm2d(4, eps=0.1, affine=affine)
    else:
        weights, norm = nn.Linear(288, 4, bias=bias), nn.BatchNorm1d(4, eps=0.1, affine=affine)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.01, 0.2)  # where eps matters
    if affine:
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
    head = [nn.Flatten()] if kind == "linear" else []
    network = nn.Sequential(OrderedDict(
        [(f"head{n}", each) for n, each in enumerate(head)],
        weights=weights, norm=norm, spike=neurons(),
    ))  # fmt: skip

    exported = export(network, tmp_path / "a.nir", input_shape=SHAPE)

    node = nir.read(tmp_path / "a.nir").nodes["weights"]
    folded, shift = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
    values = nn.Sequential(*head)(frames())
    function = nn.functional.linear if kind == "linear" else nn.functional.conv2d
    network.eval()
    torch.testing.assert_close(function(values, folded, shift), norm(weights(values)))
    assert exported.dropped == ("norm",)
    assert weights.weight.shape == node.weight.shape


def test_dropout_and_identity_are_dropped(tmp_path: Path) -> None:
    network = small(nn.Dropout2d(0.5), nn.Identity(), nn.Dropout(0.9))

    exported = export(network, tmp_path / "a.nir", input_shape=SHAPE)

    assert exported.dropped == ("middle0", "middle1", "middle2")
    assert ("spike1", "flatten") in nir.read(tmp_path / "a.nir").edges
    parsed(tmp_path / "a.nir")


def test_average_pooling_stays_a_node_and_scales_no_weights(tmp_path: Path) -> None:
    network = small(nn.AvgPool2d(2))

    export(network, tmp_path / "a.nir", input_shape=SHAPE)

    node = nir.read(tmp_path / "a.nir").nodes["middle0"]
    assert isinstance(node, nir.AvgPool2d)
    assert (node.kernel_size.tolist(), node.stride.tolist()) == ([2, 2], [2, 2])
    last = parsed(tmp_path / "a.nir").layers[-1]
    np.testing.assert_array_equal(
        last.weights.reshape(5, -1), network.readout.weight.detach().numpy()
    )


def test_nested_sequentials_and_a_sinabs_network_give_the_same_layers(tmp_path: Path) -> None:
    ann = nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(400, 5), nn.ReLU()),
    )
    network = from_model(ann, batch_size=1)

    export(network, tmp_path / "a.nir", input_shape=SHAPE)
    export(network.spiking_model, tmp_path / "b.nir", input_shape=SHAPE)

    assert [layer.name for layer in parsed(tmp_path / "a.nir").layers] == ["0_0", "1_1"]
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()


def test_layers_with_separate_batch_and_time_axes_give_the_same_network(tmp_path: Path) -> None:
    conv, linear = nn.Conv2d(2, 3, 3), nn.Linear(300, 4)
    low = torch.tensor(-1.0)
    squeezed = nn.Sequential(conv, neurons(), nn.Flatten(), linear, neurons())
    repeated = nn.Sequential(
        Repeat(conv), IAF(min_v_mem=low), nn.Flatten(2), linear, IAF(min_v_mem=low)
    )
    mixed = nn.Sequential(
        FlattenTime(), conv, neurons(), nn.Flatten(), linear, UnflattenTime(1), IAF(min_v_mem=low)
    )
    shapes = []
    for number, network in enumerate((squeezed, repeated, mixed)):
        export(network, tmp_path / f"{number}.nir", input_shape=SHAPE)
        layers = parsed(tmp_path / f"{number}.nir").layers
        shapes.append([(each.input_shape, each.output_shape) for each in layers])

    assert shapes[0] == shapes[1] == shapes[2]


class Forked(nn.Module):
    """Two branches whose spikes are added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.spike = nn.Conv2d(2, 4, 3, padding=1), neurons()
        self.left, self.left_spike = nn.Conv2d(4, 3, 3, padding=1), neurons()
        self.right, self.right_spike = nn.Conv2d(4, 3, 1), neurons()
        self.merge = Merge()
        self.last, self.exit = nn.Conv2d(3, 2, 12), neurons()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        values = self.spike(self.first(values))
        left = self.left_spike(self.left(values))
        right = self.right_spike(self.right(values))
        return self.exit(self.last(self.merge(left, right)))


def test_branches_become_edges_and_merge_becomes_two_into_one(tmp_path: Path) -> None:
    exported = export(Forked(), tmp_path / "a.nir", input_shape=SHAPE)

    edges = nir.read(tmp_path / "a.nir").edges
    assert {("spike", "left"), ("spike", "right")} <= set(edges)
    assert {("left_spike", "last"), ("right_spike", "last")} <= set(edges)
    assert exported.dropped == ("merge",)


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    network = small(nn.Dropout(0.5))
    network.train()
    network.flatten.eval()
    with torch.no_grad():
        network(frames())
    before = {name: each.clone() for name, each in network.state_dict().items()}
    potentials = network.spike1.v_mem.clone()
    chance = torch.get_rng_state()

    export(network, tmp_path / "a.nir", input_shape=SHAPE)

    assert torch.equal(network.spike1.v_mem, potentials)
    assert potentials.any()
    assert torch.equal(torch.get_rng_state(), chance)
    assert (network.training, network.flatten.training, network.spike1.training) == (
        True, False, True,
    )  # fmt: skip
    assert network.spike1.num_timesteps == STEPS
    for name, each in network.state_dict().items():
        assert torch.equal(each, before[name]), name
    assert not network.conv1._forward_hooks


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    network = small(nn.AvgPool2d(2))

    for name in "ab":
        export(network, tmp_path / f"{name}.nir", input_shape=SHAPE)

    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()


def test_parametrised_weights_are_exported_as_they_act(tmp_path: Path) -> None:
    conv = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    conv.parametrizations.weight.original0.data *= 2

    export(nn.Sequential(conv, neurons()), tmp_path / "a.nir", input_shape=SHAPE)

    found = nir.read(tmp_path / "a.nir").nodes["0"].weight
    np.testing.assert_array_equal(found, conv.weight.detach().numpy())


def test_a_layer_called_as_an_end_of_nir_gets_another_name(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(input=nn.Conv2d(2, 3, 3), output=neurons()))

    export(network, tmp_path / "a.nir", input_shape=SHAPE)

    assert node_name("input") == "input_"
    assert parsed(tmp_path / "a.nir").layers[0].neuron_name == "output_"
