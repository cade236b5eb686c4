"""Where the twin's time goes, on cores that do one thing: `python benchmarks/twin_micro.py`.

Each arriving spike reaches the same number of neurons, of which none, one or all fire; events come
slowly, so that nothing waits. The twin stands beside the C kernel with the same queues and with
queues without end, all with the widest vectors, in ns of processor time per arriving spike, the
least of all rounds. What chains of two and three cores take more than one core does is what it
costs that a spike goes from core to core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from c_twin import CTwin
from twin_cases import circling_blob
from twin_speed import run_c, run_twin

from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from speckfarm_server.twin.twin import Twin

SIZE = 32  # of the map
RATE_HZ = 20_000
SILENT, FIRES = 0, 1  # weights, beside a threshold of 1


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=5.0, help="of chip time")
    options = parser.parse_args()
    print("ns per arriving spike\n")
    print("| cores | twin | C | C, no end | twin - C |")
    print("|---|---|---|---|---|")
    for name, configuration in cases().items():
        spent = measure(configuration, options.rounds, options.seconds)
        cells = [f"{ns:.1f}" for ns in (*spent, spent[0] - spent[1])]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


def cases() -> dict[str, Configuration]:
    """Configurations by what they are."""
    silent = {
        f"{kernel} x {kernel}, {features} features, silent": chain([core(kernel, features, fire=0)])
        for kernel, features in [(1, 1), (3, 8), (3, 16), (3, 32), (3, 64)]
    }
    firing = {
        f"1 x 1, 1 feature, fires, {length} in a row": chain([core(1, 1, fire=1)] * length)
        for length in (1, 2, 3)
    }
    several = {
        f"1 x 1, {fire} of 16 features fire, and a silent core": chain([
            core(1, 16, fire=fire),
            core(1, 1, fire=0, channels=16),
        ])
        for fire in (0, 1, 4, 16)
    }
    return silent | firing | several


def core(kernel: int, features: int, *, fire: int, channels: int = 1) -> CoreConfiguration:
    """A core of which as many features fire at each spike that reaches them."""
    weights = np.full((features, channels, kernel, kernel), SILENT, np.int8)
    weights[:fire] = FIRES
    return CoreConfiguration(
        core=0, layer=0, weights=weights, kernel_size=kernel, stride=(1, 1),
        padding=(kernel // 2, kernel // 2), input_shape=(channels, SIZE, SIZE),
        output_shape=(features, SIZE, SIZE), threshold_high=1, threshold_low=-1,
        return_to_zero=False, monitor_enable=False, biases=np.zeros(features, np.int16),
    )  # fmt: skip


def chain(cores: list[CoreConfiguration]) -> Configuration:
    """A chip on which each core feeds the next."""
    last = len(cores) - 1
    placed = [
        replace(
            each,
            core=place,
            layer=place,
            destinations=(Destination(core=place + 1),) if place < last else (),
            monitor_enable=place == last,
        )
        for place, each in enumerate(cores)
    ]
    return Configuration(
        chip="speck2f",
        input_shape=cores[0].input_shape,
        cores=tuple(placed),
        inputs=(Destination(core=0),),
    )


def measure(configuration: Configuration, rounds: int, seconds: float) -> list[float]:
    """Ns per arriving spike: of the twin, of C with the same queues, of C without end."""
    recordings = [circling_blob(configuration.input_shape, RATE_HZ, seconds)]
    twin = Twin(configuration)
    runs: list[Callable[[], int]] = [partial(run_twin, twin, recordings)]
    for depth in (ASSUMPTIONS.fifo_depth, 0):
        runs.append(partial(run_c, CTwin(configuration, fifo_depth=depth), recordings))
    spent_ns = [[_cpu_ns(run) for run in runs] for _ in range(rounds)]
    arrived = int(twin.activity.input_spikes.sum())
    return [min(turns) / arrived for turns in zip(*spent_ns, strict=True)]


def _cpu_ns(run: Callable[[], int]) -> int:
    began_ns = time.process_time_ns()
    run()
    return time.process_time_ns() - began_ns


if __name__ == "__main__":
    main()
