"""Lags and the overrun verdict of a board that knows what caused each output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from speckfarm.events import PackedEvents
from speckfarm_server.boards.board import Board, Chunk
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Finding
from speckfarm_server.histogram import Int64Array
from speckfarm_server.latency import Measured, measure
from speckfarm_server.overrun import Overrun, Verdict, judge_exactly


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """What the times of one recording say."""

    layers: dict[int, Measured]  # of each monitored layer; the exit layer comes first
    overrun: Overrun | None  # None: the board cannot tell


class Lags(Protocol):
    """From a board's output to lags. One of them goes with one attempt."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What there is to say of how they are known."""
        ...

    def reset_state(self) -> None:
        """The board's neurons were given their initial state."""
        ...

    def prepare(self, packed: PackedEvents) -> Iterator[None]:
        """Do what takes long for the recording that was run; comes back every 0.1 s or so."""
        ...

    def measure(
        self, input_t_us: Int64Array, output: Chunk, progress: Callable[[], None]
    ) -> Measurement:
        """Measure it; `output` in order of arrival, `progress` is called between layers."""
        ...


class ExactLags:
    """Of a simulated board."""

    findings: tuple[Finding, ...] = ()

    def __init__(self, board: Board, configuration: Configuration) -> None:
        self._board = board
        self._configuration = configuration

    def reset_state(self) -> None:
        """Nothing to do."""

    def prepare(self, packed: PackedEvents) -> Iterator[None]:
        """Nothing to do."""
        return iter(())

    def measure(
        self, input_t_us: Int64Array, output: Chunk, progress: Callable[[], None]
    ) -> Measurement:
        """Lags by their causes; the verdict by how late the input came in."""
        layers: dict[int, Measured] = {}
        for layer in monitored(self._configuration):
            at = np.flatnonzero(output.layer == layer)
            at = at[np.argsort(output.t_us[at], kind="stable")]
            layers[layer] = measure(
                input_t_us=input_t_us,
                output_t_us=output.t_us[at],
                cause=output.cause[at],
                method=self._board.method,
            )
            progress()
        return Measurement(layers=layers, overrun=self._overrun(input_t_us, layers))

    def _overrun(self, input_t_us: Int64Array, layers: dict[int, Measured]) -> Overrun | None:
        report = self._board.report()
        held_back = report.held_back
        if held_back is None:
            return None
        duration_us = float(input_t_us[-1] - input_t_us[0])
        core = next(c for c in self._configuration.cores if c.layer == held_back.busiest)
        synops = next(a.synops for a in report.activity if a.layer == held_back.busiest)
        exit_layer = self._configuration.cores[-1].layer
        suspect = Overrun(
            verdict=Verdict.EXCEEDED,
            confidence=1.0,
            why="the input was held back",
            layer=core.layer,
            core=core.core,
            drift_us_per_s=layers[exit_layer].latency.drift_us_per_s,
            synops_per_s=(synops or 0) / max(duration_us, 1.0) * 1e6,
            synops_limit_per_s=find_chip(self._configuration.chip).cores[core.core].synops_per_s,
        )
        return judge_exactly(held_back.latest_us, duration_us, suspect)


def monitored(configuration: Configuration) -> list[int]:
    """Layers that are monitored, the exit layer first."""
    exit_layer = configuration.cores[-1].layer
    layers = [core.layer for core in configuration.cores if core.monitor_enable]
    return sorted(layers, key=lambda layer: layer != exit_layer)
