"""How long a check takes beside sinabs' conversion: `python benchmarks/check_vs_sinabs.py`.

Both judge the same network in the same process, by turns: the example network, and one that uses
every memory of all nine cores to the last word. *Known*: the farm checks a network that is parsed
already, sinabs converts a module that exists. *New*: both begin with the bytes of a NIR file. The
farm quantises, places, builds the configuration and applies every rule; sinabs traces the module,
quantises and maps, but its step to samna's configuration is left out. Runs in the environment of
`make test-sinabs`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from figures import median, say
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.sinabs.backend import convert, map_to_cores, read_by_sinabs
from tests.sinabs.record_networks import Module
from tests.sinabs_cases import nine_full_cores

from speckfarm.export import export
from speckfarm_server.check import check
from speckfarm_server.chip import find_chip
from speckfarm_server.network import Network
from speckfarm_server.parse import parse_network
from speckfarm_server.settings import Settings

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits.nir"
CHIP = find_chip("speck2f")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Times of the farm and of sinabs for one network, in ms, one per call."""

    known: tuple[list[float], list[float]]
    new: tuple[list[float], list[float]]


def main() -> None:
    """Measure both networks and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        for name, file in (
            ("digits", DIGITS),
            ("nine full cores", _write_nine_full_cores(Path(folder))),
        ):
            _measure(file, 2)  # imports and caches
            pairs = [_measure(file, options.calls) for _ in range(options.repeats)]
            print(f"\n{name}, {options.repeats} x {options.calls} calls by turns")
            _report("known network", [pair.known for pair in pairs])
            _report("new file", [pair.new for pair in pairs])


def _write_nine_full_cores(folder: Path) -> Path:
    plan = nine_full_cores()
    file = folder / "nine_full_cores.nir"
    export(Module(plan), file, input_shape=plan.input_shape)
    return file


def _measure(file: Path, calls: int) -> Pair:
    network = _parsed(file)
    module = read_by_sinabs(file)
    shape = network.input_shape
    known: tuple[list[float], list[float]] = ([], [])
    new: tuple[list[float], list[float]] = ([], [])
    for _ in range(calls):
        known[0].append(_time_ms(lambda: _check(network)))
        known[1].append(_time_ms(lambda: _convert(module, shape)))
        new[0].append(_time_ms(lambda: _check(_parsed(file))))
        new[1].append(_time_ms(lambda: _convert(read_by_sinabs(file), shape)))
    return Pair(known=known, new=new)


def _parsed(file: Path) -> Network:
    network = parse_network(file.read_bytes()).network
    if network is None:
        raise SystemExit(f"{file} is not a network that the farm takes")
    return network


def _check(network: Network) -> None:
    if not check(network, CHIP, Settings()).deployable:
        raise SystemExit("the farm refuses the network, so the times mean nothing")


def _convert(module: nn.Sequential, shape: tuple[int, int, int]) -> None:
    if map_to_cores(convert(module, shape)) is None:
        raise SystemExit("sinabs finds no cores for the network, so the times mean nothing")


def _time_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def _report(what: str, repeats: list[tuple[list[float], list[float]]]) -> None:
    farm = [median(times) for times, _ in repeats]
    sinabs = [median(times) for _, times in repeats]
    say(f"  {what}: the farm's check", farm, "ms")
    say(f"  {what}: sinabs' conversion", sinabs, "ms")
    ratios = [theirs / ours for ours, theirs in zip(farm, sinabs, strict=True)]
    say(f"  {what}: sinabs / farm", ratios, "times")


if __name__ == "__main__":
    main()
