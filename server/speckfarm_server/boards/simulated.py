"""The simulated board: the twin behind the board seam."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from speckfarm.events import PackedEvents
from speckfarm_server.boards.board import Chunk, HeldBack, RunReport, Tell, quietly
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.job_result import Ending, LayerActivity
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions
from speckfarm_server.twin.twin import Twin

NS_PER_US = 1000.0


class SimulatedBoard:
    """A Speck that is computed; cancel, state and order of steps are those of a real one."""

    method = "exact"
    device = None

    def __init__(self, assumptions: Assumptions = ASSUMPTIONS) -> None:
        self._twin: Twin | None = None
        self._constants = assumptions
        self._assumptions = assumptions.digest()

    @property
    def assumptions(self) -> str:
        """Digest of everything that nobody has published about the silicon."""
        return self._assumptions

    def configure(self, configuration: Configuration, tell: Tell = quietly) -> None:
        """Build the twin of one configuration; BoardFault TWIN_REFUSED if it cannot run it."""
        self._twin = None
        try:
            self._twin = Twin(configuration, assumptions=self._constants)
        except ValueError as error:
            message = f"The simulated board cannot run this configuration: {error}"
            raise BoardFault("TWIN_REFUSED", message, ErrorClass.JOB, found=error) from error

    def reset_state(self, tell: Tell = quietly) -> None:
        """Give every neuron its initial state; decimator counters stay, as assumed of the chip."""
        self._configured().reset_state()

    def run(self, packed: PackedEvents) -> Iterator[Chunk]:
        """Simulate one recording piece by piece."""
        twin = self._configured()
        twin.start_recording()
        for output in chain(twin.stream(packed), twin.finish()):
            yield Chunk(
                t_us=output["t_ns"] / NS_PER_US,
                cause=output["cause"],
                layer=output["layer"],
                feature=output["feature"],
                y=output["y"],
                x=output["x"],
            )

    def report(self) -> RunReport:
        """Exact, of the last recording."""
        activity = self._configured().activity
        layers = tuple(
            LayerActivity(
                layer=layer,
                input_spikes=int(activity.input_spikes[layer]),
                output_spikes=int(activity.output_spikes[layer]),
                synops=int(activity.synops[layer]),
                saturated=int(activity.saturated[layer]),
            )
            for layer in range(len(activity.synops))
        )
        busiest = int(np.argmax(activity.served_us))
        held_back = HeldBack(latest_us=activity.held_back_us, busiest=busiest)
        return RunReport(activity=layers, ending=Ending.SERVED, held_back=held_back)

    def health(self) -> str:
        """A computed board has nothing that breaks."""
        return ""

    def close(self) -> None:
        """Forget the twin."""
        self._twin = None

    def _configured(self) -> Twin:
        if self._twin is None:
            message = "The simulated board was asked to run before it was configured"
            raise BoardFault("BOARD_NOT_CONFIGURED", message, ErrorClass.INTERNAL)
        return self._twin
