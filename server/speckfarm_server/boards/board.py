"""The board seam: what every board can do, real, simulated or scripted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import PackedEvents
from speckfarm_server.configuration import Configuration
from speckfarm_server.job_result import LayerActivity


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Some output of one recording; chunks are short enough that a cancel takes at most 1 s."""

    t_us: NDArray[np.float64]  # (n,) output times in chip time
    cause: NDArray[np.int64]  # (n,) index of the causing input event, -1: none or unknown
    layer: NDArray[np.uint8]  # (n,) network layer
    feature: NDArray[np.uint16]  # (n,)
    y: NDArray[np.uint8]  # (n,) before pooling
    x: NDArray[np.uint8]  # (n,) before pooling


@dataclass(frozen=True, kw_only=True)
class HeldBack:
    """How late input came into the cores in one recording, because they had no room for it."""

    latest_us: float  # by which the latest input event was late
    busiest: int  # layer whose core spent most time on spikes, stalled time not counted


class Board(Protocol):
    """A board in its own process. Every method may raise BoardFault."""

    @property
    def method(self) -> str:
        """How its lags are known: "exact" or "estimated"."""
        ...

    @property
    def assumptions(self) -> str:
        """Digest of the simulator's assumptions; empty on a real board."""
        ...

    def configure(self, configuration: Configuration) -> None:
        """Write a configuration; neurons hold their initial state afterwards."""
        ...

    def reset_state(self) -> None:
        """Give every neuron its initial state."""
        ...

    def run(self, packed: PackedEvents) -> Iterator[Chunk]:
        """Put one recording in; yield what comes out until the input is done and all is quiet."""
        ...

    def activity(self) -> tuple[LayerActivity, ...]:
        """What each layer did in the last recording that `run` was exhausted for."""
        ...

    def held_back(self) -> HeldBack | None:
        """What became of the input of the last recording; None if the board cannot tell."""
        ...

    def health(self) -> str:
        """Words on what is wrong; empty if nothing is."""
        ...

    def close(self) -> None:
        """Let go of the hardware."""
        ...
