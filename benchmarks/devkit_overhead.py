"""What the farm's own code costs on a devkit: `python benchmarks/devkit_overhead.py`.

It drives the double of samna (tests/samna_double), so nothing here says how fast a devkit is: what
the double computes and what samna and USB take are other things. The references are the fixed waits
of sinabs 3.1.3, which do not depend on the machine: 1 s after each configuration and each state
reset, and at least one empty poll of 0.1 s after a recording (`dynapcnn_network.py`).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from figures import say
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.double_world import World, options  # noqa: E402

from speckfarm.events import TIME_SHIFT, PackedEvents  # noqa: E402
from speckfarm_server.boards.samna.board import SamnaBoard, open_samna_board  # noqa: E402
from speckfarm_server.boards.samna.events import EventForms  # noqa: E402
from speckfarm_server.boards.samna.library import import_library  # noqa: E402
from speckfarm_server.check import check  # noqa: E402
from speckfarm_server.chip import find_chip  # noqa: E402
from speckfarm_server.configuration import Configuration  # noqa: E402
from speckfarm_server.parse import parse_network  # noqa: E402
from speckfarm_server.recording_file import read_recordings  # noqa: E402
from speckfarm_server.recordings import Recordings  # noqa: E402
from speckfarm_server.settings import Settings  # noqa: E402

DIGITS = ROOT / "examples" / "digits"
SINABS_WAIT_S = 1.0  # after apply_configuration, also when it resets states
EVENTS = 100_000


def main() -> None:
    """Configure, reset, run and convert, each several times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.plug()
        os.environ.update(world.env)
        sys.path.insert(0, str(ROOT / "tests" / "samna_double"))
        board = open_samna_board(options(world))
        measure_waits(board, digits(), recordings(), rounds)
        board.close()
        measure_events(digits(), rounds)


def measure_waits(
    board: SamnaBoard, configuration: Configuration, recorded: Recordings, rounds: int
) -> None:
    """Seconds of each step, and beside sinabs' fixed waits."""
    steps: dict[str, list[float]] = {"configure": [], "reset": [], "beyond": []}
    for number in range(rounds):
        steps["configure"].append(seconds(lambda: board.configure(configuration)))
        steps["reset"].append(seconds(board.reset_state))
        packed = recorded.packed[recorded.offsets[number] : recorded.offsets[number + 1]]
        length_s = float(np.ptp((packed >> np.uint64(TIME_SHIFT)).astype(np.int64))) / 1e6
        steps["beyond"].append(seconds(partial(exhaust, board, packed)) - length_s)
    neurons = sum(int(np.prod(core.output_shape)) for core in configuration.cores)
    say("configure until neurons answer", steps["configure"], "s")
    say("  sinabs' wait / that", [SINABS_WAIT_S / each for each in steps["configure"]], "x")
    say(f"state reset of {neurons:,} neurons until they answer", steps["reset"], "s")
    say("  sinabs' wait / that", [SINABS_WAIT_S / each for each in steps["reset"]], "x")
    say("run of a recording, beyond its length", steps["beyond"], "s")


def measure_events(configuration: Configuration, rounds: int) -> None:
    """Events made into samna's objects, and spikes told apart, per second."""
    forms = EventForms(import_library(), configuration.chip)
    packed = np.arange(EVENTS, dtype=np.uint64) << np.uint64(TIME_SHIFT)
    stamps: NDArray[np.int64] = np.arange(EVENTS)
    made = forms.inputs(packed, stamps, configuration)
    for name, step in (
        ("events made into objects", partial(forms.inputs, packed, stamps, configuration)),
        ("spikes told apart", partial(forms.sort_out, made)),
    ):
        say(name, [EVENTS / 1e3 / seconds(step) for _ in range(rounds)], "k/s")


def exhaust(board: SamnaBoard, packed: PackedEvents) -> None:
    """Run a recording to its end."""
    for _ in board.run(packed):
        pass


def seconds(step: Callable[[], object]) -> float:
    """How long a step takes by the clock."""
    began_s = time.perf_counter()
    step()
    return time.perf_counter() - began_s


def digits() -> Configuration:
    """The example network on speck2f."""
    network = parse_network((DIGITS / "digits.nir").read_bytes()).network
    if network is None:
        raise SystemExit("examples/digits/digits.nir cannot be read")
    found = check(network, find_chip("speck2f"), Settings()).configuration
    if found is None:
        raise SystemExit("examples/digits/digits.nir does not pass the check")
    return found


def recordings() -> Recordings:
    """The example recordings."""
    path = DIGITS / "digits.npz"
    return read_recordings(path.read_bytes(), path.name)


if __name__ == "__main__":
    main()
