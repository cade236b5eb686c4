"""How fast the twin is beside the C kernel and sinabs: `python benchmarks/twin_speed.py`.

    python benchmarks/twin_speed.py [--rates 93000 200000] [--seconds 1] [NETWORK.nir ...]

The digits example and each network given run on a random blob that circles over the input map, at
two densities; the digits on their own recordings too. The twin as it is used, with the exit layer
monitored, with all layers monitored, and with a decimator on the second layer as well, stands
beside the hand-written C kernel (`c_twin.py`) on the same configuration and events, with the same
queues and with queues without end, as AVX2 and as the widest vectors of the processor; and beside
sinabs (torch, time steps of 1 ms, batch of one) if it is installed. One thread each, by turns, in
CPU time, so that neighbours on the machine count little; figures are medians over the rounds, and
medians of each round's ratio.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from c_twin import VECTORS, CTwin
from twin_cases import (
    DIGITS,
    Model,
    chip_seconds,
    circling_blob,
    load_model,
    load_recordings,
)

from speckfarm.events import PackedEvents
from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from speckfarm_server.twin.twin import Twin

try:
    import sinabs_model
    import torch
except ModuleNotFoundError:
    sinabs_model = None

DECIMATOR = 2
SINABS_ROUNDS = 3
TURN_S = 0.1  # at least
DEPTHS = {"": ASSUMPTIONS.fifo_depth, ", no end": 0}
KERNELS = {
    f"C {vectors}{queues}": (vectors, depth)
    for vectors in ("avx2", "native")
    for queues, depth in DEPTHS.items()
    if vectors in VECTORS
}


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """CPU seconds of each round by contender, and what was run."""

    seconds: dict[str, list[float]]
    synops: int
    chip_s: float

    def gsynops(self, name: str) -> float:
        """10^9 synaptic operations per second."""
        return self.synops / float(np.median(self.seconds[name])) / 1e9

    def ratio(self, name: str) -> float:
        """How many times faster the twin is."""
        pairs = zip(self.seconds[name], self.seconds["twin"], strict=False)
        return float(np.median([theirs / ours for theirs, ours in pairs]))


def main() -> None:
    """Print one table per network and input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", type=Path, metavar="NETWORK.nir")
    parser.add_argument("--rates", nargs="+", type=float, default=[93_000, 200_000])
    parser.add_argument("--seconds", type=float, default=1.0, help="of chip time")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    digits = load_model(DIGITS / "digits.nir")
    recorded = load_recordings(DIGITS / "digits.npz")
    measure(f"digits, its {len(recorded)} recordings", digits, recorded, options.rounds)
    for model in [digits, *map(load_model, options.networks)]:
        for rate in options.rates:
            name = f"{model.name}, {rate:,.0f} events/s"
            blob = circling_blob(model.network.input_shape, rate, options.seconds)
            measure(name, model, [blob], options.rounds)


def measure(name: str, model: Model, recordings: list[PackedEvents], rounds: int) -> None:
    """Print a table: each variant of the configuration is a row."""
    chip_s = chip_seconds(recordings)
    print(f"\n{name}: {sum(map(len, recordings)):,} events in {chip_s:.2f} s of chip time\n")
    columns = [*KERNELS, "sinabs"] if sinabs_model else list(KERNELS)
    print("GSynOp/s (sinabs: chip / CPU time), and how many times faster the twin is\n")
    print("| run | M SynOps | twin | chip / CPU time |", " | ".join(columns), "|")
    print("|---|---|---|---|" + "---|" * len(columns))
    for variant, configuration in variants(model.configuration).items():
        contenders = _contenders(configuration, recordings)
        if sinabs_model and variant == "exit monitored":
            contenders["sinabs"] = _sinabs(model, recordings)
        print(_row(variant, run_by_turns(contenders, rounds, chip_s)), flush=True)


def variants(configuration: Configuration) -> dict[str, Configuration]:
    """The configuration as given, with all monitors, and with a decimator besides."""
    monitored = [replace(core, monitor_enable=True) for core in configuration.cores]
    decimated = monitored.copy()
    decimated[1] = replace(monitored[1], decimator=DECIMATOR)
    return {
        "exit monitored": configuration,
        "all monitored": replace(configuration, cores=tuple(monitored)),
        f"and decimator {DECIMATOR} on layer 1": replace(configuration, cores=tuple(decimated)),
    }


def run_twin(twin: Twin, recordings: list[PackedEvents]) -> int:
    """Run each recording from rest, taking the output as it comes; return synaptic operations."""
    synops = 0
    for events in recordings:
        twin.reset_state()
        twin.start_recording()
        for _ in itertools.chain(twin.stream(events), twin.finish()):
            pass
        synops += int(twin.activity.synops.sum())
    return synops


def run_c(c_twin: CTwin, recordings: list[PackedEvents]) -> int:
    """The same in C."""
    synops = 0
    for events in recordings:
        c_twin.reset_state()
        c_twin.run_only(events)
        synops += int(c_twin.activity.synops.sum())
    return synops


def run_by_turns(contenders: dict[str, Callable[[], int]], rounds: int, chip_s: float) -> Speeds:
    """Run each once to warm up, then all in turn; SystemExit if their operations differ."""
    counts = {name: run() for name, run in contenders.items()}
    synops = counts["twin"]
    if any(count not in {synops, 0} for count in counts.values()):
        raise SystemExit(f"synaptic operations differ: {counts}; is tests/test_c_twin.py green?")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            if name != "sinabs" or number < SINABS_ROUNDS:
                seconds[name].append(_cpu_seconds(run))
    return Speeds(seconds=seconds, synops=synops, chip_s=chip_s)


def _contenders(
    configuration: Configuration, recordings: list[PackedEvents]
) -> dict[str, Callable[[], int]]:
    twin = Twin(configuration)
    in_c = {
        name: partial(run_c, CTwin(configuration, vectors, fifo_depth=depth), recordings)
        for name, (vectors, depth) in KERNELS.items()
    }
    return {"twin": partial(run_twin, twin, recordings), **in_c}


def _sinabs(model: Model, recordings: list[PackedEvents]) -> Callable[[], int]:
    torch.set_num_threads(1)
    layers = sinabs_model.float_network(model.network)

    def run() -> int:
        sinabs_model.run_float(layers, model.network, recordings)
        return 0  # it counts none

    return run


def _row(variant: str, speeds: Speeds) -> str:
    real_time = speeds.chip_s / float(np.median(speeds.seconds["twin"]))
    cells = [variant, f"{speeds.synops / 1e6:,.0f}", f"{speeds.gsynops('twin'):.2f}"]
    cells.append(f"{real_time:,.1f}")
    for name in KERNELS:
        cells.append(f"{speeds.gsynops(name):.2f}, {speeds.ratio(name):.2f}")
    if "sinabs" in speeds.seconds:
        theirs = speeds.chip_s / float(np.median(speeds.seconds["sinabs"]))
        cells.append(f"{theirs:.2f}, {speeds.ratio('sinabs'):,.0f}")
    elif sinabs_model:
        cells.append("")
    return "| " + " | ".join(cells) + " |"


def _cpu_seconds(run: Callable[[], object]) -> float:
    """Of one run; short ones are repeated, so that caches that others filled count little."""
    began_s, spent_s, runs = time.process_time(), 0.0, 0
    while spent_s < TURN_S:
        run()
        runs += 1
        spent_s = time.process_time() - began_s
    return spent_s / runs


if __name__ == "__main__":
    main()
