"""Networks for the sweep of overruns: drawn from a generator of random numbers, and the digits."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from speckfarm_server.check import check
from speckfarm_server.chip import find_chip, output_size
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
from speckfarm_server.parse import parse_network
from speckfarm_server.settings import Settings

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
CHIP = find_chip("speck2f")


def draw_network(rng: np.random.Generator) -> Configuration:
    """A chain of up to five cores, or two branches that fork and merge."""
    size = int(rng.choice([8, 12, 16, 24, 32]))
    shape = (int(rng.choice([1, 2])), size, size)
    numbers = [int(n) for n in rng.permutation(9)]
    count = int(rng.integers(1, 6))
    is_forked = count >= 4 and rng.random() < 0.6
    cores: list[CoreConfiguration] = []
    taken = shape
    for layer in range(count):
        if is_forked and layer == 2:
            taken = cores[1].input_shape  # the other branch
        is_exit = layer == count - 1
        core = _core(rng, taken, number=numbers[layer], layer=layer, is_exit=is_exit)
        if is_forked and layer in (1, 2):  # both branches keep the map
            core = _core(rng, taken, number=numbers[layer], layer=layer, is_exit=False, same=True)
            core = core if layer == 1 else _like(rng, core, cores[1])
        pooling = 2 if core.output_shape[1] >= 8 and rng.random() < 0.4 else 1
        pooling = 1 if is_exit or (is_forked and layer in (1, 2)) else pooling
        ways = [layer + 1] if not is_exit else []
        if is_forked:
            ways = {0: [1, 2], 1: [3], 2: [3]}.get(layer, ways)
        targets = tuple(Destination(core=numbers[to], pooling=pooling) for to in ways)
        cores.append(replace(core, destinations=targets))
        features, height, width = core.output_shape
        taken = (features, height // pooling, width // pooling)
    return Configuration(
        chip=CHIP.name,
        input_shape=shape,
        cores=tuple(cores),
        inputs=(Destination(core=numbers[0]),),
    )


def _like(
    rng: np.random.Generator, core: CoreConfiguration, other: CoreConfiguration
) -> CoreConfiguration:
    """The second branch gives as many features as the first."""
    features = other.output_shape[0]
    return _core_of(
        rng, core.input_shape, features, core.kernel_size, core.padding[0],
        number=core.core, layer=core.layer,
    )  # fmt: skip


def _core(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    *,
    number: int,
    layer: int,
    is_exit: bool,
    same: bool = False,
) -> CoreConfiguration:
    features = int(2 ** rng.uniform(1.5, 5.3))
    kernel = int(rng.choice([1, 3, 3, 5]))
    padding = kernel // 2
    if is_exit and rng.random() < 0.6 and shape[1] <= 16:  # a linear layer
        features, kernel, padding = int(rng.integers(2, 13)), shape[1], 0
    if not same and kernel == 3 and rng.random() < 0.3:
        padding = 0 if shape[1] > 4 else 1
    return _core_of(rng, shape, features, kernel, padding, number=number, layer=layer)


def _core_of(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    features: int,
    kernel: int,
    padding: int,
    *,
    number: int,
    layer: int,
) -> CoreConfiguration:
    weights = rng.integers(-60, 121, (features, shape[0], kernel, kernel)).astype(np.int8)
    size = output_size(shape[1], kernel, 1, padding)
    gain = 2 ** rng.uniform(-1.7, 1)  # spikes out for each one in
    reached = features * min(kernel, size) ** 2
    threshold = int(np.clip(reached * 30 / gain, 130, 32000))
    return CoreConfiguration(
        core=number,
        layer=layer,
        input_shape=shape,
        output_shape=(features, size, size),
        kernel_size=kernel,
        stride=(1, 1),
        padding=(padding, padding),
        weights=weights,
        biases=np.zeros(features, np.int16),
        threshold_high=threshold,
        threshold_low=-threshold,
        return_to_zero=bool(rng.random() < 0.2),
        monitor_enable=True,
        decimator=int(rng.choice([2, 4, 8])) if rng.random() < 0.15 else None,
    )


@lru_cache(maxsize=1)
def digits_network() -> Configuration:
    """The network of the example."""
    network = parse_network((DIGITS / "digits.nir").read_bytes()).network
    report = check(network, CHIP, Settings()) if network else None
    if report is None or report.configuration is None:
        raise SystemExit("the digits example does not fit its chip")
    return report.configuration
