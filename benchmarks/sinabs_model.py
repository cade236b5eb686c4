"""A network as sinabs runs it: in time steps, as floats or as sinabs' own discretised integers.

Runs in the environment of `make test-sinabs`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

# sinabs' backend is imported there only, for importing it must not install samna.
import sinabs
from sinabs.activation import MultiSpike, SingleSpike
from sinabs.layers import IAFSqueeze, SumPool2d
from tests.sinabs.backend import DynapcnnNetwork, convert

from speckfarm.events import PackedEvents, unpack
from speckfarm_server.configuration import Configuration
from speckfarm_server.network import Network

CHUNK_STEPS = 250  # run together; neurons keep their state from chunk to chunk


def float_network(network: Network) -> nn.Sequential:
    """The chain of layers that sinabs' users would write, lower clip at -threshold."""
    modules: list[nn.Module] = []
    for number, layer in enumerate(network.layers):
        f, c, *kernel = layer.weights.shape
        weights = nn.Conv2d(c, f, kernel, layer.stride, layer.padding, bias=False)
        weights.weight.data = torch.from_numpy(layer.weights)
        neurons = IAFSqueeze(
            batch_size=1, spike_threshold=layer.threshold, min_v_mem=-layer.threshold
        )
        modules += [weights, neurons]
        after = [link.poolings for _, link in network.targets(number)] or [network.exit_poolings]
        for pooling in after[0]:
            kind = nn.AvgPool2d if pooling.kind == "average" else SumPool2d
            modules.append(kind(pooling.kernel_size))
    return nn.Sequential(*modules)


class DiscretisedModel:
    """sinabs' discretised network; SystemExit if its integers are not those of `configuration`."""

    def __init__(self, network: Network, configuration: Configuration) -> None:
        converted = convert(float_network(network), network.input_shape)
        self._layers = [converted.dynapcnn_layers[n] for n in range(len(network.layers))]
        self._exit_shape = configuration.cores[-1].output_shape
        self._input_shape = network.input_shape
        _check_integers(converted, configuration)

    def set_rules(self, configuration: Configuration, *, many_spikes: bool = True) -> None:
        """Take its lower clips; tell whether a neuron may fire many times a step."""
        for layer, core in zip(self._layers, configuration.cores, strict=True):
            layer.spk.min_v_mem = nn.Parameter(torch.tensor(float(core.threshold_low)), False)
            layer.spk.spike_fn = MultiSpike if many_spikes else SingleSpike

    def run(self, steps: list[NDArray[np.int64]], batch: list[PackedEvents]) -> NDArray[np.int64]:
        """Run recordings side by side, each event in the step given for it.

        Returns spikes before pooling, (recording, layer, feature), as many features as the widest
        layer has.
        """
        for layer in self._layers:
            sinabs.reset_states(layer)
            layer.spk.batch_size = len(batch)
        widest = max(layer.conv.out_channels for layer in self._layers)
        spikes = np.zeros((len(batch), len(self._layers), widest), np.int64)
        with torch.no_grad():
            for frames in _chunks(steps, batch, self._input_shape):
                for number, layer in enumerate(self._layers):
                    fired = layer.spk(layer.conv(frames))
                    counts = fired.unflatten(0, (len(batch), -1)).sum((1, 3, 4))
                    spikes[:, number, : counts.shape[1]] += counts.numpy().astype(np.int64)
                    frames = _pooled(fired, layer.pool)
        return spikes


def steps_of(packed: PackedEvents, step_us: int) -> NDArray[np.int64]:
    """The time step of each event, the first one's is 0; with 0 us, each has a step of its own."""
    if step_us == 0:
        return np.arange(len(packed))
    steps: NDArray[np.int64] = unpack(packed)["t"] // step_us
    return steps - steps[0]


def run_float(layers: nn.Sequential, network: Network, recordings: list[PackedEvents]) -> None:
    """Run each recording from rest, one after the other, in steps of 1 ms, as users do."""
    for packed in recordings:
        sinabs.reset_states(layers)
        steps = steps_of(packed, 1000)
        with torch.no_grad():
            layers(_frames(steps, packed, network.input_shape, range(int(steps[-1]) + 1)))


def _check_integers(converted: DynapcnnNetwork, configuration: Configuration) -> None:
    for number, core in enumerate(configuration.cores):
        layer = converted.dynapcnn_layers[number]
        same = np.array_equal(layer.conv.weight.detach().numpy(), core.weights)
        thresholds = (int(layer.spk.spike_threshold), int(layer.spk.min_v_mem))
        if not same or thresholds != (core.threshold_high, core.threshold_low):
            raise SystemExit(f"layer {number}: sinabs' integers are not those of the farm")


def _pooled(fired: torch.Tensor, pool: list[object]) -> torch.Tensor:
    size = int(np.ravel(pool[0])[0])
    return fired if size == 1 else SumPool2d(size)(fired)


def _chunks(
    steps: list[NDArray[np.int64]], batch: list[PackedEvents], shape: tuple[int, int, int]
) -> Iterator[torch.Tensor]:
    """Frames (recording and step, c, h, w), a chunk of steps at a time."""
    end = 1 + max(int(each[-1]) for each in steps)
    for first in range(0, end, CHUNK_STEPS):
        chunk = range(first, min(first + CHUNK_STEPS, end))
        frames = [_frames(*each, shape, chunk) for each in zip(steps, batch, strict=True)]
        yield torch.cat(frames)


def _frames(
    steps: NDArray[np.int64], packed: PackedEvents, shape: tuple[int, int, int], chunk: range
) -> torch.Tensor:
    """Counts of events (step, c, h, w)."""
    first, last = np.searchsorted(steps, (chunk.start, chunk.stop))
    events = unpack(packed[first:last])
    at = [torch.from_numpy(steps[first:last] - chunk.start)]
    at += [torch.from_numpy(events[axis].astype(np.int64)) for axis in ("feature", "y", "x")]
    frames = torch.zeros(len(chunk), *shape)
    return frames.index_put_(tuple(at), torch.ones(len(events)), accumulate=True)
