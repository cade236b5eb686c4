"""How fast the twin is: synaptic operations per second, and chip time over wall time.

    python benchmarks/twin_speed.py [--rate 93000] [--seconds 1] [NETWORK.nir ...]

The digits example runs on its own recordings, other networks on a random blob that circles over
the input map. sinabs (torch, time steps of 1 ms, batch of one) runs beside it if it is installed.
One thread, best of several runs, in CPU time, so that neighbours on the machine count little.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from speckfarm.events import EVENT_DTYPE, PackedEvents, pack, unpack
from speckfarm_server.check import check
from speckfarm_server.chip import find_chip
from speckfarm_server.network import Network
from speckfarm_server.parse import parse_network
from speckfarm_server.recording_file import read_recordings
from speckfarm_server.settings import Settings
from speckfarm_server.twin.compilation import compile_kernels
from speckfarm_server.twin.twin import Twin

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
STEP_US = 1000
RUNS = 7

try:
    import sinabs
    import torch
    from sinabs.layers import IAFSqueeze, SumPool2d
except ImportError:
    sinabs = None


def main() -> None:
    """Print one block per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", type=Path, metavar="NETWORK.nir")
    parser.add_argument("--rate", type=float, default=93_000, help="events per second")
    parser.add_argument("--seconds", type=float, default=1.0, help="of chip time")
    arguments = parser.parse_args()
    began_s = time.perf_counter()
    compile_kernels()
    print(f"kernel ready after {time.perf_counter() - began_s:.2f} s")
    digits = read_recordings((DIGITS / "digits.npz").read_bytes(), "digits.npz")
    recorded = [digits.recording(number) for number in range(len(digits))]
    measure("digits, its 100 recordings", DIGITS / "digits.nir", lambda _: recorded)
    for path in arguments.networks:
        name = f"{path.stem}, {arguments.rate:,.0f} events/s"
        measure(name, path, lambda shape: [circling_blob(shape, arguments.rate, arguments.seconds)])


def measure(
    name: str, path: Path, record: Callable[[tuple[int, int, int]], list[PackedEvents]]
) -> None:
    """Run one network in the twin and, if it is there, in sinabs."""
    network = parse_network(path.read_bytes()).network
    report = check(network, find_chip("speck2f"), Settings()) if network else None
    if report is None or report.configuration is None:
        raise SystemExit(f"{path} does not fit the chip: see speckfarm check")
    recordings = record(network.input_shape)
    chip_s = sum(float(np.ptp(unpack(events)["t"])) for events in recordings) * 1e-6
    twin = Twin(report.configuration)
    wall_s = min(_seconds(lambda: run_twin(twin, recordings)) for _ in range(RUNS))
    events = sum(map(len, recordings))
    synops = run_twin(twin, recordings)
    print(f"{name}: {events:,} events, {chip_s:.2f} s of chip time, {synops / 1e6:,.0f} M SynOps")
    _print_line(f"twin    {synops / wall_s / 1e9:5.2f} GSynOp/s", wall_s, chip_s)
    if sinabs is not None:
        torch.set_num_threads(1)
        layers = _as_torch(network)
        wall_s = min(_seconds(lambda: run_sinabs(layers, network, recordings)) for _ in range(2))
        _print_line("sinabs", wall_s, chip_s)


def _print_line(what: str, wall_s: float, chip_s: float) -> None:
    factor = chip_s / wall_s
    print(f"  {what:24} {wall_s * 1e3:9.1f} ms   chip time / wall time {factor:7.2f}")


def run_twin(twin: Twin, recordings: list[PackedEvents]) -> int:
    """Run each recording from rest; return the synaptic operations."""
    synops = 0
    for events in recordings:
        twin.reset_state()
        twin.start_recording()
        for _ in itertools.chain(twin.stream(events), twin.finish()):
            pass
        synops += int(twin.activity.synops.sum())
    return synops


def run_sinabs(
    layers: torch.nn.Sequential, network: Network, recordings: list[PackedEvents]
) -> None:
    """Run each recording from rest, one after the other, in time steps."""
    for packed in recordings:
        sinabs.reset_states(layers)
        events = unpack(packed)
        steps = (events["t"] - events["t"][0]) // STEP_US
        frames = torch.zeros(int(steps[-1]) + 1, *network.input_shape)
        places = (torch.from_numpy(events[axis].astype(np.int64)) for axis in ("feature", "y", "x"))
        frames.index_put_(
            (torch.from_numpy(steps), *places), torch.ones(len(events)), accumulate=True
        )
        with torch.no_grad():
            layers(frames)


def circling_blob(shape: tuple[int, int, int], rate_hz: float, seconds: float) -> PackedEvents:
    """Events around a point that circles twice a second, both features alike; seeded."""
    rng = np.random.default_rng(0)
    events = np.empty(int(rate_hz * seconds), EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, int(seconds * 1e6), len(events)))
    events["layer"] = 0
    events["feature"] = rng.integers(0, shape[0], len(events))
    turn = events["t"] * (2e-6 * 2 * np.pi)
    for axis, size, phase in (("y", shape[1], np.sin(turn)), ("x", shape[2], np.cos(turn))):
        at = size / 2 + size / 4 * phase + rng.normal(0, size / 12, len(events))
        events[axis] = np.clip(at, 0, size - 1)
    return pack(events)


def _as_torch(network: Network) -> torch.nn.Sequential:
    modules: list[torch.nn.Module] = []
    for number, layer in enumerate(network.layers):
        f, c, *kernel = layer.weights.shape
        weights = torch.nn.Conv2d(c, f, kernel, layer.stride, layer.padding, bias=False)
        weights.weight.data = torch.from_numpy(layer.weights)
        neurons = IAFSqueeze(
            batch_size=1, spike_threshold=layer.threshold, min_v_mem=-layer.threshold
        )
        modules += [weights, neurons]
        after = [link.poolings for _, link in network.targets(number)] or [network.exit_poolings]
        for pooling in after[0]:
            kind = torch.nn.AvgPool2d if pooling.kind == "average" else SumPool2d
            modules.append(kind(pooling.kernel_size))
    return torch.nn.Sequential(*modules)


def _seconds(call: Callable[[], object]) -> float:
    began_s = time.thread_time()
    call()
    return time.thread_time() - began_s


if __name__ == "__main__":
    main()
