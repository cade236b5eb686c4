"""The known answer: a small network, four recordings, and what a sound board makes of them.

The network sees 16 x 16 pixels of two polarities and tells in which quadrant most events fall.
Nothing in it is drawn or fitted: each weight and each event follows from a formula below. Where the
twin only guesses at silicon (times, order, comparison at equality, which spike a decimator passes),
the guess moves no count by as much as is allowed. None of this has run on a chip.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np

from speckfarm.events import FEATURE_SHIFT, TIME_SHIFT, X_SHIFT, Y_SHIFT, PackedEvents
from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    Int8Array,
)
from speckfarm_server.recordings import Recordings, summarise, to_file

Counts: TypeAlias = Sequence[Sequence[int]]  # spikes for each recording and class

CLASSES = 4
SIZE = 16  # pixels along y and x
EVENTS = 800  # of one recording
PERIOD_US = 200  # between two events: 0.16 s for one recording, 0.64 s for all
# What the twin counts with its default assumptions; a test runs it.
COUNTS: tuple[tuple[int, ...], ...] = (
    (399, 31, 30, 14),
    (29, 406, 10, 29),
    (31, 12, 402, 33),
    (10, 32, 33, 405),
)
TOLERANCE = 0.2  # share of each count
LEAST_TOLERANCE = 5  # spikes; of small counts a share would be less than what a guess moves


@lru_cache(maxsize=4)
def network(chip: str) -> Configuration:
    """Three layers on cores 2, 3 and 5, as 0 and 1 are not reproducible; core 3 passes 1 in 2."""
    layers = (
        _core(0, core=2, weights=_first_weights(), size=SIZE, threshold=151),
        _core(1, core=3, weights=_second_weights(), size=SIZE // 2, threshold=601),
        _core(2, core=5, weights=_last_weights(), size=SIZE // 4, threshold=401),
    )
    return Configuration(
        chip=chip,
        input_shape=(2, SIZE, SIZE),
        cores=layers,
        inputs=(Destination(core=layers[0].core),),
    )


def recordings() -> Recordings:
    """Recording k: three of four events in quadrant k, the others in the other quadrants."""
    packed = np.concatenate([_recording(quadrant) for quadrant in range(CLASSES)])
    offsets = np.arange(CLASSES + 1, dtype=np.int64) * EVENTS
    names = tuple(f"quadrant-{quadrant}" for quadrant in range(CLASSES))
    return summarise(packed, offsets, np.arange(CLASSES, dtype=np.int64), names)


def write_recordings(folder: Path) -> Path:
    """Put the recordings where a board's process can read them, unless they are there."""
    made = recordings()
    digest = hashlib.sha256(made.packed.tobytes()).hexdigest()
    path = folder / f"known-answer-{digest[:12]}.events"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)  # a cache may be deleted at any time
        scratch = path.with_suffix(f".{secrets.token_hex(4)}")
        to_file(made, scratch)
        os.replace(scratch, path)
    return path


def judge(found: Counts, expected: Counts = COUNTS, tolerance: float = TOLERANCE) -> list[str]:
    """Say what is wrong with the counts of a board; [] if it passed.

    In each recording the same class must win, and each class must have its count within the
    tolerance, or within LEAST_TOLERANCE spikes where that is more.
    """
    if [len(counts) for counts in found] != [len(counts) for counts in expected]:
        sizes = [len(counts) for counts in found]
        return [f"it answered with {sizes} counts instead of {[len(c) for c in expected]}"]
    words: list[str] = []
    for number, (counts, right) in enumerate(zip(found, expected, strict=True)):
        winner, wanted = int(np.argmax(counts)), int(np.argmax(right))
        if winner != wanted:
            words.append(f"recording {number}: class {winner} won, not {wanted}")
        for feature, (count, known) in enumerate(zip(counts, right, strict=True)):
            allowed = max(tolerance * known, LEAST_TOLERANCE)
            if abs(count - known) > allowed:
                text = f"recording {number}, class {feature}: {count} spikes, "
                words.append(text + f"known are {known} +- {allowed:.0f}")
    return words


def _first_weights() -> Int8Array:
    f, c, y, x = np.indices((4, 2, 3, 3), np.int8)
    weights: Int8Array = 20 + (7 * f + 5 * c + 3 * y + 2 * x) % 11
    return weights


def _second_weights() -> Int8Array:
    f, c, y, x = np.indices((8, 4, 3, 3), np.int8)
    weights: Int8Array = 15 + (5 * f + 3 * c + 2 * y + x) % 13
    return weights


def _last_weights() -> Int8Array:
    """Class f counts what is in its quadrant of the 4 x 4 map, and a little against the rest."""
    f, c, y, x = np.indices((CLASSES, 8, 4, 4), np.int8)
    weights: Int8Array = np.where(2 * (y // 2) + x // 2 == f, 60 + (3 * c + y + x) % 7, -6)
    return weights.astype(np.int8)


def _core(
    layer: int, *, core: int, weights: Int8Array, size: int, threshold: int
) -> CoreConfiguration:
    """One layer; what differs from layer to layer beside its arrays is told by its number."""
    features, channels, kernel_size, _ = weights.shape
    is_last = layer == 2
    output = 1 if is_last else size
    following = () if is_last else (Destination(core=3 if layer == 0 else 5, pooling=2),)
    return CoreConfiguration(
        core=core,
        layer=layer,
        input_shape=(channels, size, size),
        output_shape=(features, output, output),
        kernel_size=kernel_size,
        stride=(1, 1),
        padding=(0, 0) if is_last else (1, 1),
        weights=weights,
        biases=np.zeros(features, np.int16),
        threshold_high=threshold,
        threshold_low=-threshold,
        return_to_zero=layer == 1,
        monitor_enable=is_last,
        decimator=2 if layer == 1 else None,
        destinations=following,
    )


def _recording(quadrant: int) -> PackedEvents:
    number = np.arange(EVENTS, dtype=np.uint64)
    other = (quadrant + 1 + number // 4 % 3) % CLASSES
    place = np.where(number % 4 == 3, other, np.uint64(quadrant))
    half = np.uint64(SIZE // 2)
    y = half * (place // 2) + (3 * number + number // 8) % half
    x = half * (place % 2) + (5 * number + number // 16) % half
    p = number // 2 % 2
    columns = ((number * PERIOD_US, TIME_SHIFT), (p, FEATURE_SHIFT), (y, Y_SHIFT), (x, X_SHIFT))
    packed: PackedEvents = np.bitwise_or.reduce([c << np.uint64(shift) for c, shift in columns])
    return packed
