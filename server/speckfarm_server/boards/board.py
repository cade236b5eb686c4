"""The board seam: what every board can do, real, simulated or scripted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import PackedEvents
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Finding
from speckfarm_server.job_result import Device, Ending, LayerActivity, RailPower


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


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What there is to say of the last recording that `run` was exhausted for."""

    activity: tuple[LayerActivity, ...]  # of each layer, in order
    ending: Ending
    held_back: HeldBack | None = None  # None: the board cannot tell
    power: tuple[RailPower, ...] = ()
    findings: tuple[Finding, ...] = ()  # about the board itself, each reason once


Tell: TypeAlias = Callable[[], None]


def quietly() -> None:
    """Nobody has to be told that work goes on."""


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

    @property
    def device(self) -> Device | None:
        """Which devkit it is; None on a simulated board."""
        ...

    def configure(self, configuration: Configuration, tell: Tell = quietly) -> None:
        """Write a configuration; neurons hold their initial state afterwards.

        `tell` is called while that takes long; it may raise to end it.
        """
        ...

    def reset_state(self, tell: Tell = quietly) -> None:
        """Give every neuron its initial state."""
        ...

    def run(self, packed: PackedEvents) -> Iterator[Chunk]:
        """Put one recording in; yield what comes out until the input is done and all is quiet."""
        ...

    def report(self) -> RunReport:
        """About the last recording that `run` was exhausted for."""
        ...

    def health(self) -> str:
        """Words on what is wrong; empty if nothing is."""
        ...

    def close(self) -> None:
        """Let go of the hardware."""
        ...
