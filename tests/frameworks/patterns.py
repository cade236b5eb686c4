"""Weights and events for networks whose integers on a chip equal their floats, times 128.

Every weight is an even multiple of 1/128 and one is -1, so that 8 bits scale by exactly 128. The
threshold is 127/128, which no sum of them meets: it does not matter whether neurons fire at the
threshold or above it. No weight reaches it, so one event makes a neuron fire at most once.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data" / "nir"
THRESHOLD = 127 / 128
MAX_BYTES = 30_000
INPUT_SHAPE = (2, 6, 6)
FloatArray = NDArray[np.float32]


def weights(*shape: int, seed: int) -> FloatArray:
    """Mostly positive, so that neurons fire."""
    drawn = np.random.default_rng(seed).integers(-20, 62, shape) * 2
    drawn.flat[0] = -128
    return (drawn / 128).astype(np.float32)


def relay(*, polarity: int) -> FloatArray:
    """(1, 2, 1, 1): sums one polarity only, so that two relays never fire at the same event."""
    values = np.full((1, 2, 1, 1), -128)
    values[0, polarity] = 96
    return (values / 128).astype(np.float32)


def events(*, count: int = 300, seed: int = 0) -> NDArray[np.int64]:
    """(count, 3): feature, y, x, on 2 x 6 x 6."""
    random = np.random.default_rng(seed)
    return np.stack([random.integers(0, size, count) for size in INPUT_SHAPE], axis=1)


def frames(seen: NDArray[np.int64]) -> FloatArray:
    """(count, 2, 6, 6): one event per time step."""
    made = np.zeros((len(seen), *INPUT_SHAPE), np.float32)
    made[np.arange(len(seen)), seen[:, 0], seen[:, 1], seen[:, 2]] = 1
    return made


class Recorder:
    """Writes <framework>_<what>.nir.gz, and into one JSON file what the framework counted."""

    def __init__(self, framework: str) -> None:
        self._framework = framework
        self._counts: dict[str, Any] = {}

    def write(self, what: str, graph: nir.NIRGraph) -> None:
        """Write the graph."""
        DATA.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.nir"
            nir.write(path, graph)
            packed = gzip.compress(path.read_bytes(), mtime=0)  # HDF5 files are mostly zeros
        if len(packed) > MAX_BYTES:
            raise ValueError(f"{what} has {len(packed):,} bytes; {MAX_BYTES:,} are kept at most")
        (DATA / f"{self._framework}_{what}.nir.gz").write_bytes(packed)

    def count(self, what: str, seen: NDArray[np.int64], outputs: Any) -> None:
        """Note the events and the spikes (time, f, y, x) that the framework's network made."""
        counts = np.asarray(outputs, np.int64).reshape(len(seen), *np.shape(outputs)[-3:]).sum(0)
        if not 0 < counts.sum() < counts.size * len(seen):
            raise ValueError(f"{what} shows nothing: {counts.sum()} spikes")
        self._counts[what] = {"events": seen.tolist(), "counts": counts.tolist()}

    def close(self) -> None:
        """Write the counts."""
        text = json.dumps(self._counts, separators=(",", ":"))
        (DATA / f"{self._framework}.json").write_text(text + "\n")
