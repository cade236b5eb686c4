"""Record what sinabs' own conversion makes of chosen and random networks.

Run `python -m tests.sinabs.record_networks tests/data/sinabs_networks.json.gz` in the environment
of `make test-sinabs`. The file is JSON: `{"sinabs": version, "networks": [{"plan", "result"}]}`. A
plan is a `NetworkPlan` of tests/sinabs_networks.py, a result is what `result_of` returns.
"""

from __future__ import annotations

import argparse
import gzip
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sinabs.activation import MembraneSubtract
from sinabs.layers import IAFSqueeze, Merge, SumPool2d
from tests.sinabs.backend import DynapcnnNetwork, configuration_of, convert, map_to_cores
from tests.sinabs_cases import cases
from tests.sinabs_networks import INPUT, LayerPlan, NetworkPlan, Pools, digest
from tests.sinabs_random import random_plan
from torch import nn

RANDOM_NETWORKS = 330
_FLOATS = {32: torch.float32, 64: torch.float64}


class Module(nn.Module):
    """A plan as sinabs' user would write it: nn and sinabs layers, called one after the other."""

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.plan = plan
        shapes = plan.shapes()
        for number, layer in enumerate(plan.layers):
            weights, bias = plan.floats(number)
            self.add_module(f"weights{number}", _weights(layer, shapes[number][0], weights, bias))
            self.add_module(f"neurons{number}", _neurons(layer, number))
            if self._is_flattened(number):
                self.add_module(f"flatten{number}", nn.Flatten())
            if len(layer.links) > 1:
                self.add_module(f"merge{number}", Merge())
            for way, link in enumerate(layer.links):
                self._add_pools(f"pool{number}_{way}_", link.pools)
        self._add_pools("exit_pool", plan.exit_pools)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Run it; sinabs finds the graph by this, nirtorch by the id of each tensor."""
        self._alive: list[torch.Tensor] = []  # an id of a tensor that is gone is used again
        spikes = {INPUT: frames}
        for number, layer in enumerate(self.plan.layers):
            arriving = [
                self._pooled(f"pool{number}_{way}_", link.pools, spikes[link.layer])
                for way, link in enumerate(layer.links)
            ]
            joined = self._call(f"merge{number}", *arriving) if len(arriving) > 1 else arriving[0]
            if self._is_flattened(number):
                joined = self._call(f"flatten{number}", joined)
            current = self._call(f"weights{number}", joined)
            spikes[number] = self._call(f"neurons{number}", current)
        return self._pooled("exit_pool", self.plan.exit_pools, spikes[len(self.plan.layers) - 1])

    def _is_flattened(self, number: int) -> bool:
        """Whether a map arrives at a linear layer; flattening twice would be a cycle to sinabs."""
        before = self.plan.layers[number].links[0].layer
        is_map = before == INPUT or self.plan.layers[before].kernel is not None
        return self.plan.layers[number].kernel is None and is_map

    def _add_pools(self, prefix: str, pools: Pools) -> None:
        kinds = {"sum": SumPool2d, "average": nn.AvgPool2d}
        for number, (kind, size) in enumerate(pools):
            self.add_module(f"{prefix}{number}", kinds[kind](size))

    def _pooled(self, prefix: str, pools: Pools, spikes: torch.Tensor) -> torch.Tensor:
        for number in range(len(pools)):
            spikes = self._call(f"{prefix}{number}", spikes)
        return spikes

    def _call(self, name: str, *inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.get_submodule(name)(*inputs)
        self._alive.append(result)
        return result


def _weights(
    layer: LayerPlan, arriving: tuple[int, int, int], weights: Any, bias: Any
) -> nn.Conv2d | nn.Linear:
    made: nn.Conv2d | nn.Linear
    if layer.kernel is None:
        made = nn.Linear(int(np.prod(arriving)), layer.features, bias=bias is not None)
    else:
        made = nn.Conv2d(
            arriving[0], layer.features, layer.kernel,
            stride=layer.stride, padding=layer.padding, bias=bias is not None,
        )  # fmt: skip
    made.weight.data = torch.from_numpy(weights.reshape(made.weight.shape))
    if made.bias is not None:
        made.bias.data = torch.from_numpy(bias)
    return made


def _neurons(layer: LayerPlan, number: int) -> IAFSqueeze:
    floats = _FLOATS[layer.threshold_bits]
    reset = MembraneSubtract()
    reset.layer_number = number  # sinabs renumbers layers; this object survives its copies
    return IAFSqueeze(
        batch_size=1,
        spike_threshold=torch.tensor(layer.threshold, dtype=floats),
        min_v_mem=None if layer.low is None else torch.tensor(layer.low, dtype=floats),
        reset_fn=reset,
    )


def result_of(plan: NetworkPlan, **options: Any) -> dict[str, Any]:
    """What sinabs makes of a plan.

    `{"error": "ValueError: ..."}`, or `{"maps", "layers"}`: whether its mapping finds a core for
    every layer, and by our layer numbers what it would write to samna, as `_written` says.
    """
    torch.manual_seed(plan.seed)
    try:
        network = convert(Module(plan), plan.input_shape, **options)
    except Exception as error:  # whatever sinabs raises is what is recorded
        return {"error": f"{type(error).__name__}: {error}"}
    mapping = map_to_cores(network)
    return {"maps": mapping is not None, "layers": written_layers(network)}


def written_layers(network: DynapcnnNetwork, *, by_reset: bool = True) -> list[dict[str, Any]]:
    """What sinabs would write to samna, layer by layer in our order, or else in its own."""
    number_of = {
        index: layer.spk_layer.reset_fn.layer_number if by_reset else index
        for index, layer in network.dynapcnn_layers.items()
    }
    layers = {
        number: _written(configuration_of(network, index), number_of)
        for index, number in number_of.items()
    }
    return [layers[number] for number in sorted(layers)]


def _written(configuration: dict[str, Any], number_of: dict[int, int]) -> dict[str, Any]:
    """One layer in our order of axes; a digest stands for all weights, with the first 16 beside."""
    sizes = configuration["dimensions"]
    weights = np.array(configuration["weights"]).swapaxes(2, 3)
    shapes = [sizes["input_shape"], sizes["output_shape"]]
    return {
        "weights": {"shape": list(weights.shape), **digest(weights)},
        "biases": digest(np.array(configuration["biases"])),
        "threshold_high": configuration["threshold_high"],
        "threshold_low": configuration["threshold_low"],
        "leak_enable": bool(configuration["leak_enable"]),
        "kernel_size": sizes["kernel_size"],
        "stride": _y_x(sizes["stride"]),
        "padding": _y_x(sizes["padding"]),
        "shapes": [[shape["feature_count"], *_y_x(shape["size"])] for shape in shapes],
        "destinations": sorted(
            [number_of[way["layer"]], int(way["pooling"])] for way in configuration["destinations"]
        ),
    }


def _y_x(pair: dict[str, int]) -> list[int]:
    return [int(pair["y"]), int(pair["x"])]


def plans() -> Iterator[NetworkPlan]:
    """Every network to record."""
    yield from cases()
    for seed in range(RANDOM_NETWORKS):
        yield random_plan(seed)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, metavar="OUT.json.gz")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    networks = [{"plan": asdict(plan), "result": result_of(plan)} for plan in plans()]
    text = json.dumps({"sinabs": version("sinabs"), "networks": networks})
    arguments.out.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
