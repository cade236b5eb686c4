"""What the benchmarks of the twin run: networks with their configuration, and recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speckfarm.events import EVENT_DTYPE, PackedEvents, pack, unpack
from speckfarm_server.check import check
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.network import Network
from speckfarm_server.parse import parse_network
from speckfarm_server.recording_file import read_recordings
from speckfarm_server.settings import Settings

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A network that fits the chip, with default settings."""

    name: str
    network: Network
    configuration: Configuration


def load_model(path: Path) -> Model:
    """Parse, check and place a NIR file."""
    network = parse_network(path.read_bytes()).network
    report = check(network, find_chip("speck2f"), Settings()) if network else None
    if network is None or report is None or report.configuration is None:
        raise SystemExit(f"{path} does not fit the chip: see speckfarm check")
    return Model(name=path.stem, network=network, configuration=report.configuration)


def load_recordings(path: Path) -> list[PackedEvents]:
    """All recordings of a file."""
    recordings = read_recordings(path.read_bytes(), path.name)
    return [recordings.recording(number) for number in range(len(recordings))]


def circling_blob(
    shape: tuple[int, int, int], rate_hz: float, seconds: float, seed: int = 0
) -> PackedEvents:
    """Events around a point that circles twice a second, all features alike."""
    rng = np.random.default_rng(seed)
    events = np.empty(int(rate_hz * seconds), EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, int(seconds * 1e6), len(events)))
    events["layer"] = 0
    events["feature"] = rng.integers(0, shape[0], len(events))
    turn = events["t"] * (2e-6 * 2 * np.pi) + 2 * np.pi * seed / 10
    for axis, size, phase in (("y", shape[1], np.sin(turn)), ("x", shape[2], np.cos(turn))):
        at = size / 2 + size / 4 * phase + rng.normal(0, size / 12, len(events))
        events[axis] = np.clip(at, 0, size - 1)
    return pack(events)


def chip_seconds(recordings: list[PackedEvents]) -> float:
    """From first to last event, of all recordings together."""
    return sum(float(np.ptp(unpack(events)["t"])) for events in recordings) * 1e-6
