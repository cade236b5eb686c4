"""What tests of a devkit on the double share: a network, a recording, what the twin gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from speckfarm.events import PackedEvents
from speckfarm_server.boards.board import Chunk
from speckfarm_server.boards.chunks import in_time, join
from speckfarm_server.boards.samna.board import SamnaBoard
from speckfarm_server.boards.simulated import SimulatedBoard
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from tests.hidden_board import steady, two_layers
from tests.twin_builders import chip, core

CONFIGURATION = two_layers(monitor=True)
PACKED = steady(3000, 60_000)


def everything(board: SamnaBoard | SimulatedBoard, packed: PackedEvents = PACKED) -> Chunk:
    return in_time(join(list(board.run(packed))))


def from_twin(configuration: Configuration = CONFIGURATION, packed: PackedEvents = PACKED) -> Chunk:
    twin = SimulatedBoard()
    twin.configure(configuration)
    return everything(twin, packed)


def same(found: Chunk, expected: Chunk) -> bool:
    """Same spikes at the same whole us; equal stamps may come in another order."""
    return rows(found) == rows(expected)


def rows(chunk: Chunk) -> list[tuple[float, ...]]:
    columns = [np.floor(chunk.t_us), chunk.layer, chunk.feature, chunk.y, chunk.x]
    return sorted(map(tuple, np.stack(columns, axis=1).tolist()))


def camera_network() -> Configuration:
    """Camera events of 16 x 16 pixels enter one core through the camera layer."""
    rng = np.random.default_rng(3)
    only = core(
        rng.integers(-40, 100, (4, 2, 3, 3)), (16, 16), core=4, padding=(1, 1),
        threshold_high=300, threshold_low=-300,
    )  # fmt: skip
    dvs = DvsConfiguration(origin=(0, 0), cut=(15, 15), destinations=(Destination(core=4),))
    return replace(chip(only), input_shape=(2, 128, 128), inputs=(), dvs=dvs)
