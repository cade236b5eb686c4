"""What simulated boards cost: `python benchmarks/twin_boards.py [NETWORK.nir ...]`.

How long the first twin takes to be there, compiled anew and from the cache; memory of a board's
process of a real farm; and how much two boards on two cores do together beside one alone, each in a
process of its own: by the clock, where other work on the machine counts too, and by the processor
time of each run, where only what they take from each other counts. Networks besides the digits
example run on the blob of twin_speed.py.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from farm_under_test import FarmUnderTest, resident_mib, simulated
from figures import median, say
from twin_cases import DIGITS, circling_blob, load_model
from twin_speed import run_twin

from speckfarm.events import PackedEvents, unpack
from speckfarm_server.twin.twin import Twin

RATE_HZ = 200_000
FIRST_TWIN = """
import time
from twin_cases import DIGITS, load_model
from speckfarm_server.twin.twin import Twin
configuration = load_model(DIGITS / "digits.nir").configuration
began_s = time.process_time()
Twin(configuration)
print(time.process_time() - began_s)
"""


def main() -> None:
    """Measure starts, memory and two boards at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", type=Path, metavar="NETWORK.nir")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of chip time")
    options = parser.parse_args()
    paths = [DIGITS / "digits.nir", *options.networks]
    measure_starts(options.rounds)
    for path in paths:
        measure_memory(path, options.seconds)
    for path in paths:
        measure_two(path, options.seconds, options.rounds)


def measure_starts(rounds: int) -> None:
    """CPU time of the first twin of a process, with an empty cache and with a full one."""
    compiled, cached = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            compiled.append(_first_twin_s(folder))
            cached.append(_first_twin_s(folder))
    say("first twin, compiled, CPU time", compiled, "s")
    say("first twin, from the cache, CPU time", cached, "s")


def measure_memory(path: Path, seconds: float) -> None:
    """Resident memory of a board's process after a job, and the most there ever was."""
    events = unpack(_recording(path, seconds))
    with tempfile.TemporaryDirectory() as folder, FarmUnderTest(simulated(1)) as farm:
        recording = Path(folder) / "blob.npz"
        np.savez(recording, t=events["t"], x=events["x"], y=events["y"], p=events["feature"])
        with farm.connect() as client:
            client.run(path, recording).wait()
        (board,) = farm.child_ids()["board"]
        after, peak = resident_mib(board), _peak_mib(board)
    say(f"board's process, {path.stem}: after it", [after], "MiB")
    say(f"board's process, {path.stem}: at most", [peak], "MiB")


def measure_two(path: Path, seconds: float, rounds: int) -> None:
    """One process alone and two at once, by turns."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    work = partial(_work, path, seconds)
    processes = [context.Process(target=work, args=(theirs,)) for _, theirs in pipes]
    for process in processes:
        process.start()
    workers = [ours for ours, _ in pipes]
    for worker in workers:
        worker.recv()  # ready
    walls, cpus = [], []
    for _ in range(rounds):
        alone_wall_s, alone_cpu_s = _run_together(workers[:1])
        both_wall_s, both_cpu_s = _run_together(workers)
        walls.append(2 * alone_wall_s / both_wall_s)
        cpus.append(2 * alone_cpu_s / both_cpu_s)
    for worker, process in zip(workers, processes, strict=True):
        worker.send(False)
        process.join()
    say(f"two boards by one, {path.stem}, by the clock", walls, "x")
    say(f"two boards by one, {path.stem}, by processor time", cpus, "x")


def _first_twin_s(cache: str) -> float:
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", FIRST_TWIN]
    here = Path(__file__).parent
    done = subprocess.run(
        command, env=environment, cwd=here, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def _recording(path: Path, seconds: float) -> PackedEvents:
    return circling_blob(load_model(path).network.input_shape, RATE_HZ, seconds)


def _peak_mib(process_id: int) -> float:
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) / 1024


def _work(path: Path, seconds: float, connection: Connection) -> None:
    """Be a board: run the recording whenever told to, answer with clock and CPU time in s."""
    os.setsid()  # Linux may share processor time out by session, not by process
    events = _recording(path, seconds)
    twin = Twin(load_model(path).configuration)
    run_twin(twin, [events])
    connection.send(True)
    while connection.recv():
        began = time.perf_counter(), time.process_time()
        run_twin(twin, [events])
        connection.send((time.perf_counter() - began[0], time.process_time() - began[1]))


def _run_together(workers: list[Connection]) -> tuple[float, float]:
    """Seconds of the slowest by the clock, and the median CPU seconds."""
    for worker in workers:
        worker.send(True)
    walls, cpus = zip(*[worker.recv() for worker in workers], strict=True)
    return max(walls), median(cpus)


if __name__ == "__main__":
    main()
