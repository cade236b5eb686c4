"""Networks to export, and what the farm and h5py read of the files."""

from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import sinabs
import torch
from sinabs.layers import IAFSqueeze
from torch import nn

from speckfarm_server.network import Network
from speckfarm_server.parse import parse_network

SHAPE = (2, 12, 12)
STEPS = 6


def neurons(*, low: float | None = -1.0, threshold: float = 1.0, **options: object) -> IAFSqueeze:
    return IAFSqueeze(
        num_timesteps=STEPS,
        spike_threshold=torch.tensor(threshold),
        min_v_mem=None if low is None else torch.tensor(low),
        **options,
    )


def small(*middle: nn.Module) -> nn.Sequential:
    """Two layers; `middle` stands between the first neurons and the flatten."""
    torch.manual_seed(1)
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
        spike1=neurons(low=-0.5, threshold=2.0),
    )
    layers |= {f"middle{number}": layer for number, layer in enumerate(middle)}
    layers |= {"flatten": nn.Flatten(), "readout": nn.LazyLinear(5), "spike2": neurons()}
    network = nn.Sequential(layers)
    with torch.no_grad():
        network(torch.zeros(STEPS, *SHAPE))
    sinabs.reset_states(network)
    return network


def parsed(path: Path) -> Network:
    """The network as the farm's own parser reads it."""
    found = parse_network(path.read_bytes())
    assert [finding.message for finding in found.findings] == []
    assert found.network is not None
    return found.network


def metadata(path: Path, node: str) -> dict[str, object]:
    """What stands at the place that the docs name, read with h5py alone."""
    with h5py.File(path) as file:
        group = file[f"node/nodes/{node}/metadata"]
        return {name: each[()] for name, each in group.items()}


def frames(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).poisson(0.6, (STEPS, *SHAPE))).float()
