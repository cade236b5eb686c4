"""What cannot be exported is refused with its name and what to do."""

import math
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from exported_networks import SHAPE, neurons, small
from sinabs.activation import MembraneReset, MembraneSubtract
from sinabs.layers import ExpLeakSqueeze, IAFSqueeze, LIFSqueeze
from torch import nn

from speckfarm.errors import BadRequest
from speckfarm.export import export


def refusals() -> Iterator[object]:
    conv = nn.Conv2d(2, 3, 3, padding=1)
    no_statistics = nn.BatchNorm2d(3, track_running_stats=False)
    subtracting = MembraneSubtract(subtract_value=0.5)

    def case(name: str, words: str, *layers: nn.Module) -> object:
        return pytest.param(nn.Sequential(conv, *layers), words, id=name)

    yield case("lif", "no leak", LIFSqueeze(tau_mem=20.0, batch_size=1))
    yield case("exp-leak", "no leak", ExpLeakSqueeze(tau_mem=20.0, batch_size=1))
    yield case("synapse", "tau_syn = ", IAFSqueeze(tau_syn=10.0, batch_size=1))
    yield case("relu", "from_model", nn.ReLU())
    yield case("max-pool", "SumPool2d", neurons(), nn.MaxPool2d(2))
    yield case("sigmoid", "use Conv2d, Linear", nn.Sigmoid())
    yield case("instance-norm", "use Conv2d, Linear", nn.InstanceNorm2d(3))
    yield case("norm-after-spikes", "right after its Conv2d", neurons(), nn.BatchNorm2d(3))
    yield case("norm-without-statistics", "track_running_stats", no_statistics)
    yield case("reset-to-a-value", "MembraneReset", neurons(reset_fn=MembraneReset(0.1)))
    yield case("subtracts-a-value", "MembraneSubtract", neurons(reset_fn=subtracting))
    yield case("clip-at-0", "below 0", neurons(low=0.0))
    yield case("ceil", "rounds down", neurons(), nn.AvgPool2d(5, ceil_mode=True))
    yield case("divisor", "divides by 3", neurons(), nn.AvgPool2d(2, divisor_override=3))
    yield case("flattens-a-part", "whole sample", neurons(), nn.Flatten(2))
    yield case("reflects", "pads with zeros", nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect"))
    yield case("same-with-even-kernel", "odd kernel", nn.Conv2d(3, 2, 2, padding="same"))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("network", "words"), list(refusals()))
def test_what_no_core_runs_is_refused_with_the_layer_and_what_to_do(
    tmp_path: Path, network: nn.Module, words: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        export(network, tmp_path / "a.nir", input_shape=SHAPE)

    assert caught.value.reason == "LAYER_NOT_EXPORTABLE"
    assert words in caught.value.message
    name = caught.value.metadata["layer"]
    assert type(network.get_submodule(name)).__name__ == caught.value.metadata["kind"]
    assert f"Layer {name!r}" in caught.value.message
    assert not (tmp_path / "a.nir").exists()


class Odd(nn.Conv2d):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return super().forward(values) * 2


class Around(nn.Module):
    """A layer between functions of one's own."""

    def __init__(self, before: object = None, after: object = None) -> None:
        super().__init__()
        self.conv, self.spike = nn.Conv2d(2, 3, 3), neurons()
        self.before, self.after = before, after

    def forward(self, values: torch.Tensor) -> object:
        spikes = self.spike(self.conv(self.before(values) if self.before else values))
        return self.after(spikes) if self.after else spikes


def test_a_convolution_with_a_forward_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="something else than Conv2d"):
        export(nn.Sequential(Odd(2, 3, 3), neurons()), tmp_path / "a.nir", input_shape=SHAPE)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(2, 2, 3, padding=1), neurons(), neurons()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.two(self.conv(self.one(self.conv(values))))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        pytest.param(Around(before=lambda x: x * 2), "outside of a layer", id="arithmetic"),
        pytest.param(Around(after=lambda x: x.sum(0)), "Return the spikes", id="counts"),
        pytest.param(Around(after=lambda x: (x, x)), "Return the spikes", id="tuple"),
        pytest.param(Twice(), "used 2 times", id="twice"),
        pytest.param(nn.Conv2d(2, 3, 3), "nn.Sequential", id="alone"),
        pytest.param(nn.Sequential(), "Sequential", id="nothing"),
        pytest.param(
            nn.Sequential(OrderedDict(a_b=neurons(), a=nn.Sequential(OrderedDict(b=neurons())))),
            "both become the node 'a_b'", id="names",
        ),
    ],
)  # fmt: skip
def test_graphs_that_cannot_be_seen_are_refused(
    tmp_path: Path, network: nn.Module, words: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        export(network, tmp_path / "a.nir", input_shape=SHAPE)

    assert caught.value.reason == "GRAPH_NOT_EXPORTABLE"
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_shape": (2, 12)}, "without batch and time"),
        ({"input_shape": (2, 0, 12)}, "from 1"),
        ({"input_shape": (3, 12, 12)}, "does not pass through"),
        ({"input_shape": SHAPE, "reset": "soft"}, "subtract, zero"),
        ({"input_shape": SHAPE, "lower_clip": 0.0}, "below 0"),
        ({"input_shape": SHAPE, "lower_clip": math.nan}, "below 0"),
    ],
)
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        export(small(), tmp_path / "a.nir", **options)

    assert caught.value.reason == "BAD_ARGUMENT"
    assert words in caught.value.message


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"there is no folder .*nowhere") as caught:
        export(small(), tmp_path / "nowhere" / "a.nir", input_shape=SHAPE)

    assert caught.value.metadata["argument"] == "path"
