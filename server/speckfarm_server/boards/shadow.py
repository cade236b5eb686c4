"""Lags and the overrun verdict of a board that does not know what caused an output.

A twin whose cores take no time runs each recording beside the board; estimate.py and overrun.py
compare. No such board has been tried yet; tests use a twin whose constants are hidden, and devkits
on the double of samna.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from speckfarm.events import ECHO, PackedEvents
from speckfarm_server.align import Outputs, address
from speckfarm_server.boards.board import Board, Chunk
from speckfarm_server.boards.lags import Measurement, monitored
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.estimate import Offset, Track, read_clock, track
from speckfarm_server.histogram import Int64Array
from speckfarm_server.latency import Measured, measure
from speckfarm_server.overrun import judge
from speckfarm_server.unloaded import Unloaded, UnloadedTwin


class EstimatedLags:
    """Of a real board."""

    def __init__(self, board: Board, configuration: Configuration) -> None:
        self._method = board.method
        self._configuration = configuration
        self._twin: UnloadedTwin | None = None
        self.findings: tuple[Finding, ...] = ()
        try:
            self._twin = UnloadedTwin(configuration)
        except ValueError as error:  # the board runs it all the same
            self.findings = (_unknown(error),)

    def reset_state(self) -> None:
        """Keep in step with the board."""
        if self._twin is not None:
            self._twin.reset_state()

    def prepare(self, packed: PackedEvents) -> Iterator[None]:
        """Run the recording without the time that cores take."""
        return iter(()) if self._twin is None else self._twin.run(packed)

    def measure(
        self, input_t_us: Int64Array, output: Chunk, progress: Callable[[], None]
    ) -> Measurement:
        """Lags by the prediction, and the verdict on how they grow."""
        layers: dict[int, Measured] = {}
        tracks: list[Track] = []
        if self._twin is None:
            for layer in monitored(self._configuration):
                layers[layer] = self._measured(
                    input_t_us, _outputs(output, layer), cause=_NO_CAUSE, found=None
                )
            return Measurement(layers=layers, overrun=None)
        unloaded = self._twin.result
        clock = self._clock(output, unloaded)
        progress()
        for layer in monitored(self._configuration):
            outputs = _outputs(output, layer)
            predicted, cause = unloaded.of(layer)
            found = track(layer, outputs, predicted, cause, unloaded.demand)
            if found is not None and clock is not None:
                found = replace(found, clock=clock)
            layers[layer] = self._measured(
                input_t_us, outputs, cause=cause, found=found, clock=clock
            )
            tracks += [] if found is None else [found]
            progress()
        return Measurement(layers=layers, overrun=judge(tracks, unloaded.demand))

    def _clock(self, output: Chunk, unloaded: Unloaded) -> Offset | None:
        """What the echo of the input tells of the board's clock, if there is one."""
        if not self._configuration.echoes_input:
            return None
        return read_clock(_outputs(output, ECHO), *unloaded.of(ECHO), unloaded.demand)

    def _measured(
        self,
        input_t_us: Int64Array,
        outputs: Outputs,
        *,
        cause: Int64Array,
        found: Track | None,
        clock: Offset | None = None,
    ) -> Measured:
        in_time = np.argsort(outputs.t_us, kind="stable")  # the order in which spikes are kept
        output_t_us, causes = outputs.t_us[in_time], np.full(len(in_time), -1)
        if clock is not None:
            output_t_us = output_t_us - clock.ahead_us
        if found is not None:
            causes = cause[found.places[in_time]]
            on_clock_us = input_t_us[causes] + found.lags_us[in_time]
            output_t_us = np.where(causes >= 0, on_clock_us, output_t_us)
        return measure(
            input_t_us=input_t_us,
            output_t_us=output_t_us,
            cause=causes,
            method=self._method,
            error_us=None if found is None else found.error_us,
        )


_NO_CAUSE = np.empty(0, np.int64)


def _outputs(output: Chunk, layer: int) -> Outputs:
    mine = output.layer == layer
    return Outputs(
        t_us=output.t_us[mine],
        address=address(output.feature[mine], output.y[mine], output.x[mine]),
    )


def _unknown(error: ValueError) -> Finding:
    text = (
        f"Lags are not known: the twin that predicts outputs cannot run this model ({error}). "
        "All outputs count as uncaused; predictions, counts and times are those of the board"
    )
    return Finding(
        reason="LAGS_UNKNOWN", severity=Severity.INFO, message=text, metadata={"found": str(error)}
    )
