"""A board that hides what it knows: a twin of other constants that tells no causes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import ECHO, PackedEvents
from speckfarm_server.boards.board import Chunk, RunReport, Tell, quietly
from speckfarm_server.configuration import Configuration, DvsConfiguration
from speckfarm_server.job_result import Ending, LayerActivity
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions
from speckfarm_server.twin.twin import Twin
from tests.twin_builders import chip, core, to


def hidden(rate: float, **changes: object) -> Assumptions:
    """A chip whose cores do `rate` times what the table of chips says."""
    return replace(ASSUMPTIONS, rate_factors=(rate,) * 9, **changes)  # type: ignore[arg-type]


class HiddenBoard:
    """Its clock is `offset_us` ahead, stamps are whole us and scatter; some outputs are lost."""

    method = "estimated"
    assumptions = ""
    device = None

    def __init__(
        self, assumptions: Assumptions, *, offset_us: float = 321.0, lost: float = 0.05
    ) -> None:
        self._assumptions = assumptions
        self._offset_us = offset_us
        self._lost = lost
        self._rng, self._echo_rng = np.random.default_rng(7), np.random.default_rng(8)
        self._twin: Twin | None = None
        self.held_back_us: list[float] = []  # of each recording: the truth
        self.lags_us: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []

    def configure(self, configuration: Configuration, tell: Tell = quietly) -> None:
        self._twin = Twin(configuration, assumptions=self._assumptions)

    def reset_state(self, tell: Tell = quietly) -> None:
        assert self._twin is not None
        self._twin.reset_state()

    def run(self, packed: PackedEvents) -> Iterator[Chunk]:
        assert self._twin is not None
        self._twin.start_recording()
        outputs = self._twin.run(packed)
        outputs = outputs[self._drawn(outputs, 0, 1) >= self._lost]
        t_us = outputs["t_ns"] / 1000
        lags_us = t_us - (packed >> np.uint64(28)).astype(float)[outputs["cause"]]
        self.lags_us.append(lags_us[outputs["layer"] != ECHO])
        self.held_back_us.append(self._twin.activity.held_back_us)
        yield Chunk(
            t_us=np.floor(t_us + self._offset_us + self._drawn(outputs, -3, 3)),
            cause=np.full(len(outputs), -1),
            layer=outputs["layer"],
            feature=outputs["feature"],
            y=outputs["y"],
            x=outputs["x"],
        )

    def _drawn(self, outputs: NDArray[np.void], low: float, high: float) -> NDArray[np.float64]:
        """A number for each; those of other outputs do not depend on whether there is an echo."""
        drawn = np.empty(len(outputs))
        is_echo = outputs["layer"] == ECHO
        for mine, rng in ((is_echo, self._echo_rng), (~is_echo, self._rng)):
            drawn[mine] = rng.uniform(low, high, np.count_nonzero(mine))
        return drawn

    def report(self) -> RunReport:
        """A real board cannot tell what its layers did."""
        assert self._twin is not None
        activity = tuple(
            LayerActivity(layer=layer, input_spikes=None, output_spikes=None, synops=None)
            for layer in range(len(self._twin.activity.synops))
        )
        return RunReport(activity=activity, ending=Ending.QUIET)

    def health(self) -> str:
        return ""

    def close(self) -> None:
        pass


def two_layers(*, monitor: bool = False) -> Configuration:
    """16 x 16 pixels, then 8 features and 4: the first core has eight times as much to do."""
    rng = np.random.default_rng(3)
    first = core(
        rng.integers(-40, 100, (8, 1, 5, 5)), (16, 16), core=3, padding=(2, 2),
        threshold_high=3000, threshold_low=-3000, destinations=to(4), monitor_enable=monitor,
    )  # fmt: skip
    second = core(
        rng.integers(-40, 100, (4, 8, 3, 3)), (16, 16), core=4, layer=1, padding=(1, 1),
        threshold_high=600, threshold_low=-600,
    )  # fmt: skip
    return chip(first, second)


def behind_camera(*, echo: bool) -> Configuration:
    """The same behind the camera layer, which lets these events pass as they are."""
    camera = DvsConfiguration(merge=True, cut=(15, 15), monitor_enable=echo, destinations=to(3))
    return replace(two_layers(), input_shape=(2, 128, 128), inputs=(), dvs=camera)


def events_at(t_us: np.ndarray[tuple[int], np.dtype[np.int64]]) -> PackedEvents:
    """Events at these times, anywhere on 16 x 16 pixels."""
    rng = np.random.default_rng(5)
    y, x = rng.integers(0, 16, (2, len(t_us))).astype(np.uint64)
    packed: PackedEvents = t_us.astype(np.uint64) << np.uint64(28) | y << np.uint64(7) | x
    return packed


def steady(count: int, duration_us: int) -> PackedEvents:
    """Events at random times."""
    times = np.random.default_rng(4).integers(0, duration_us, count)
    return events_at(np.sort(times))
