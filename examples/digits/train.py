"""Train the digits network with sinabs, measure it in floats and in integers, write it as NIR."""

import argparse
import contextlib
import importlib.util
import io
import time
from collections import OrderedDict
from copy import deepcopy
from pathlib import Path
from types import ModuleType

import nir
import numpy as np
import sinabs
import sinabs.nir
import torch
from record import FIRST_HELD_OUT, SENSOR_PIXELS, Recordings, record_digits
from sinabs.activation import MembraneSubtract, MultiSpike, PeriodicExponential
from sinabs.layers import IAFSqueeze, SumPool2d
from torch import nn
from torch.nn import functional

STEP_US = 10_000
STEPS = 30
FIRST_VALIDATION = 1000  # with --validate, digits from here to 1,399 are not trained on
EPOCHS = 20
BATCH_SIZE = 28
LEARNING_RATE = 2e-3
INITIAL_GAIN = 3.0  # over torch's default weights, which leave the first spikes too rare to learn
LARGEST_WEIGHT = 0.9  # of the threshold: below 1, an event never adds more than a spike removes
LOGITS_PER_SPIKE = 0.25
# The chip clips a potential from below after every event, a training step only at its end. The
# fewer spikes fall into a step, the less the two differ, so spikes cost: loss per inner spike.
LOSS_PER_SPIKE = 2e-5
LARGEST_ROTATION = 0.17  # rad; training recordings are turned, stretched and moved at random
LARGEST_STRETCH = 0.1
LARGEST_SHIFT_PIXELS = 2


def build_network() -> nn.Sequential:
    """Return the untrained network; every layer fits any of Speck's nine cores."""
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(2, 16, kernel_size=5, stride=2, padding=1, bias=False),  # 34 to 16 pixels
        spike1=_spiking(),
        conv2=nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1, bias=False),  # to 8
        spike2=_spiking(),
        conv3=nn.Conv2d(32, 32, kernel_size=3, padding=1, bias=False),
        spike3=_spiking(),
        pool3=SumPool2d(2),  # to 4
        flatten=nn.Flatten(),
        readout=nn.Linear(32 * 4 * 4, 10, bias=False),
        spike4=_spiking(),
    )
    network = nn.Sequential(layers)
    for weights in _weights(network):
        weights.data *= INITIAL_GAIN
    return network


def _spiking() -> IAFSqueeze:
    return IAFSqueeze(
        num_timesteps=STEPS,
        spike_threshold=torch.tensor(1.0),
        min_v_mem=torch.tensor(-1.0),
        spike_fn=MultiSpike,
        reset_fn=MembraneSubtract(),
        surrogate_grad_fn=PeriodicExponential(),
    )


def _weights(network: nn.Sequential) -> list[nn.Parameter]:
    return [weights for weights in network.parameters() if weights.requires_grad]


def frames_of(recordings: Recordings) -> torch.Tensor:
    """Count the events of each time step, pixel and polarity: (n, steps, 2, 34, 34), uint8."""
    count = len(recordings.labels)
    owner = np.repeat(np.arange(count), np.diff(recordings.offsets))
    frames = np.zeros((count, STEPS, 2, SENSOR_PIXELS, SENSOR_PIXELS), np.uint8)
    where = (owner, recordings.t // STEP_US, recordings.p, recordings.y, recordings.x)
    np.add.at(frames, where, 1)
    return torch.from_numpy(frames)


def run(network: nn.Sequential, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Run frames (n, steps, 2, 34, 34) from rest.

    Returns the output spikes of each recording (n, 10), and the spikes of all inner layers per
    recording, on average ().
    """
    sinabs.reset_states(network)
    values = frames.flatten(0, 1).float()
    spikes = []
    for layer in network:
        values = layer(values)
        if isinstance(layer, IAFSqueeze):
            spikes.append(values.sum() / len(frames))
    return values.unflatten(0, (-1, STEPS)).sum(1), torch.stack(spikes[:-1]).sum()


def accuracy(network: nn.Sequential, frames: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of recordings whose label has the most output spikes."""
    with torch.no_grad():
        counts = torch.cat([run(network, part)[0] for part in frames.split(100)])
    prediction = counts.numpy().argmax(1)  # ties: the lowest
    prediction[counts.sum(1) == 0] = -1
    return float((prediction == labels.numpy()).mean())


def train(network: nn.Sequential, frames: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Train in place by back-propagation through time, keeping weights below the threshold."""
    batches = -(-len(frames) // BATCH_SIZE)
    optimiser = torch.optim.Adam(_weights(network), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, epochs * batches)
    for epoch in range(epochs):
        figures = []
        for chosen in torch.randperm(len(frames)).split(BATCH_SIZE):
            counts, inner_spikes = run(network, _distorted(frames[chosen]))
            loss = functional.cross_entropy(LOGITS_PER_SPIKE * counts, labels[chosen])
            optimiser.zero_grad()
            (loss + LOSS_PER_SPIKE * inner_spikes).backward()
            optimiser.step()
            schedule.step()
            for weights in _weights(network):
                weights.data.clamp_(-LARGEST_WEIGHT, LARGEST_WEIGHT)
            figures.append((loss.item(), inner_spikes.item()))
        mean_loss, mean_spikes = np.mean(figures, axis=0)
        print(f"epoch {epoch + 1:2}: loss {mean_loss:.3f}, {mean_spikes:.0f} spikes", flush=True)


def _distorted(frames: torch.Tensor) -> torch.Tensor:
    """Return the frames, each recording turned, stretched and moved a little; counts stay whole."""
    count = len(frames)
    angle = _uniform(count) * LARGEST_ROTATION
    stretch_x, stretch_y = 1 + _uniform(2, count) * LARGEST_STRETCH
    # In units of half the sensor, as affine_grid has it.
    shift_x, shift_y = (_uniform(2, count) * LARGEST_SHIFT_PIXELS).round() / (SENSOR_PIXELS / 2)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack([
        cosine * stretch_x,
        -sine * stretch_x,
        shift_x,
        sine * stretch_y,
        cosine * stretch_y,
        shift_y,
    ]).T.unflatten(1, (2, 3))
    size = [count, 1, SENSOR_PIXELS, SENSOR_PIXELS]
    grid = functional.affine_grid(matrix, size, align_corners=False)
    moved = functional.grid_sample(
        frames.flatten(1, 2).float(), grid, mode="nearest", align_corners=False
    )
    return moved.unflatten(1, frames.shape[1:3])


def _uniform(*shape: int) -> torch.Tensor:
    return 2 * torch.rand(shape) - 1


def quantised(network: nn.Sequential) -> nn.Sequential:
    """Return a copy with the integers that sinabs would write to the chip, as floats."""
    discretize = _load_discretize()
    copy = deepcopy(network)
    sinabs.reset_states(copy)
    weighted = [layer for layer in copy if isinstance(layer, nn.Conv2d | nn.Linear)]
    spiking = [layer for layer in copy if isinstance(layer, IAFSqueeze)]
    for layer, spikes in zip(weighted, spiking, strict=True):
        kernel = layer.weight if layer.weight.dim() == 4 else layer.weight[..., None, None]
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:], bias=False)
        conv.weight.data = kernel.data
        neurons = IAFSqueeze(
            num_timesteps=STEPS,
            spike_threshold=spikes.spike_threshold.data,
            min_v_mem=spikes.min_v_mem.data,
        )
        discretize.discretize_conv_spike_(conv, neurons, to_int=False)
        layer.weight.data = conv.weight.data.reshape(layer.weight.shape)
        spikes.spike_threshold, spikes.min_v_mem = neurons.spike_threshold, neurons.min_v_mem
    return copy


def _load_discretize() -> ModuleType:
    """Load sinabs' discretize.py by itself, as its package cannot be imported without samna."""
    path = Path(sinabs.__file__).parent / "backend" / "dynapcnn" / "discretize.py"
    spec = importlib.util.spec_from_file_location("discretize", path)
    if spec is None or spec.loader is None:
        raise ImportError("this sinabs has no backend/dynapcnn/discretize.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_nir(network: nn.Sequential, frames: torch.Tensor, path: Path) -> None:
    """Write the network as sinabs exports it, with the shapes that sinabs leaves out filled in."""
    sinabs.reset_states(network)
    graph = sinabs.nir.to_nir(network, frames)
    graph.edges.sort()  # sinabs' order differs from run to run
    with contextlib.redirect_stdout(io.StringIO()):  # nir prints a line for each node it fills in
        graph.infer_types()
    nir.write(path, graph)


def main() -> None:
    """Train, measure on digits that were not trained on, and write the network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT.nir")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--validate",
        action="store_true",
        help="train on the first 1,000 digits and measure on the next 400, for making choices",
    )
    arguments = parser.parse_args()
    started = time.monotonic()
    torch.manual_seed(arguments.seed)
    trained, last = (
        (FIRST_VALIDATION, FIRST_HELD_OUT) if arguments.validate else (FIRST_HELD_OUT, 1797)
    )
    recordings = record_digits(0, last)
    frames, labels = frames_of(recordings), torch.from_numpy(recordings.labels).long()
    network = build_network()
    train(network, frames[:trained], labels[:trained], arguments.epochs)
    for name, variant in (("float", network), ("quantised", quantised(network))):
        figure = accuracy(variant, frames[trained:], labels[trained:])
        print(f"{name} accuracy {figure:.4f} on {last - trained} digits")
    write_nir(network, frames[0].float(), arguments.out)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
