"""What the farm costs while nothing happens: `python benchmarks/footprint.py`.

Start of the server to its first answer, resident memory of its processes after the example
recordings have run, and what importing the client costs beside its two big dependencies.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from farm_under_test import RECORDINGS, FarmUnderTest, resident_mib, simulated
from figures import say

IMPORTS = {
    "reference": "import grpc, numpy",
    "client": "from speckfarm import Farm, Job, Result, connect",
    "lazy": "import speckfarm",
}


def main() -> None:
    """Measure starts, memory and imports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--imports", type=int, default=15)
    options = parser.parse_args()
    _measure_server(options.repeats)
    _measure_imports(options.imports)


def _measure_server(repeats: int) -> None:
    first_answers, servers, boards, parsers = [], [], [], []
    for _ in range(repeats):
        began = time.perf_counter()
        with FarmUnderTest(simulated(2)) as farm:
            with farm.connect() as client:
                client.info()
            first_answers.append(time.perf_counter() - began)
            farm.warm_up(RECORDINGS)
            servers.append(resident_mib(farm.process.pid))
            children = farm.child_ids()
            boards.append(max(map(resident_mib, children["board"])))
            parsers.append(max(map(resident_mib, children["parser"])))
    print("\nserver with two simulated boards, memory after the example recordings")
    say("start of the process to its first answer", first_answers, "s", goal="<= 1")
    say("resident memory of the server", servers, "MiB", goal="<= 100 MB (95 MiB)")
    say("resident memory of a board's process", boards, "MiB")
    say("resident memory of a parser process", parsers, "MiB")


def _measure_imports(pairs: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    start: list[float] = []
    for repeat in range(pairs + 1):
        bare = _seconds("pass")
        for name, code in IMPORTS.items():
            seconds = _seconds(code) - bare
            if repeat:  # the first one fills the file cache
                times[name].append(seconds)
        start.append(bare)
    print(f"\nimports in fresh processes, {pairs} pairs, start of the interpreter taken off")
    for name, code in IMPORTS.items():
        _say_quartiles(code, [seconds * 1e3 for seconds in times[name]], "ms")
    for name in ("client", "lazy"):
        shares = zip(times[name], times["reference"], strict=True)
        goal = "<= 1.7" if name == "client" else ""
        ratios = [seconds / reference for seconds, reference in shares]
        _say_quartiles(f"RATIO of `{IMPORTS[name]}`", ratios, "x", goal=goal)


def _say_quartiles(name: str, values: list[float], unit: str, *, goal: str = "") -> None:
    ascending = sorted(values)
    quartiles = [ascending[len(values) * part // 4] for part in (1, 2, 3)]
    say(name, quartiles, unit, goal=goal)


def _seconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
