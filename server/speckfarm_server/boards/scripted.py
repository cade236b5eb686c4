"""The scripted board: waits, fails, hangs or crashes on command. For tests and benchmarks only.

Its script is JSON, e.g. {"run_ms": 50, "fail": {"3": "crash"}}:

- `configure_ms`, `reset_ms`, `run_ms` (per recording), `collect_ms`: how long each stage takes;
- `fail`: what happens in which configure-or-run step (numbered from 1 over the life of the process,
  or "*" for all): "crash" (the process dies), "hang" (it never answers again), "fault"
  (INFRASTRUCTURE), "stall" (DEVICE_STALL), "job" (JOB);
- `marker`: a file; faults happen only while it does not exist, and make it: a board that can fail
  once over all its processes.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from speckfarm.events import TIME_SHIFT, PackedEvents
from speckfarm_server.boards.board import Chunk, RunReport
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.job_result import Ending, LayerActivity

SLICE_MS = 20.0
_CLASSES = {
    "fault": ErrorClass.INFRASTRUCTURE,
    "stall": ErrorClass.DEVICE_STALL,
    "job": ErrorClass.JOB,
}


class ScriptedBoard:
    """Answers each recording with one spike of feature 0 at its first event, after `run_ms`."""

    method = "exact"
    device = None

    def __init__(self, script: str) -> None:
        plain = json.loads(script)
        self._run_ms = float(plain.get("run_ms", 0))
        self._configure_ms = float(plain.get("configure_ms", 0))
        self._reset_ms = float(plain.get("reset_ms", 0))
        self._collect_ms = float(plain.get("collect_ms", 0))
        self._fail: dict[str, str] = plain.get("fail", {})
        self._marker = Path(plain["marker"]) if "marker" in plain else None
        self._step = 0
        self._layers = 0
        self._exit_layer = 0
        self._clock = threading.Event()  # never set: waiting on it is a wait with a time limit

    @property
    def assumptions(self) -> str:
        """None; what is asked for last, so that the wait of collecting is here."""
        self._wait(self._collect_ms)
        return ""

    def configure(self, configuration: Configuration) -> None:
        """Wait, or fail."""
        self._next_step()
        self._layers = len(configuration.cores)
        self._exit_layer = configuration.cores[-1].layer
        self._wait(self._configure_ms)

    def reset_state(self) -> None:
        """Wait."""
        self._wait(self._reset_ms)

    def run(self, packed: PackedEvents) -> Iterator[Chunk]:
        """Wait in slices, then answer."""
        self._next_step()
        left_ms = self._run_ms
        while left_ms > 0:
            self._wait(min(left_ms, SLICE_MS))
            left_ms -= SLICE_MS
            yield _chunk(np.empty(0, np.uint64), self._exit_layer)
        yield _chunk(packed[:1], self._exit_layer)

    def report(self) -> RunReport:
        """No layer does anything."""
        layers = tuple(
            LayerActivity(layer=layer, input_spikes=0, output_spikes=0, synops=None)
            for layer in range(self._layers)
        )
        return RunReport(activity=layers, ending=Ending.SERVED)

    def health(self) -> str:
        """Always well."""
        return ""

    def close(self) -> None:
        """Nothing to let go of."""

    def _wait(self, milliseconds: float) -> None:
        if milliseconds > 0:
            self._clock.wait(milliseconds / 1000)

    def _next_step(self) -> None:
        self._step += 1
        what = self._fail.get(str(self._step)) or self._fail.get("*")
        if what is None or not self._may_fail():
            return
        if what == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "hang":
            self._clock.wait()
        raise BoardFault(f"SCRIPTED_{what.upper()}", f"The script says {what}", _CLASSES[what])

    def _may_fail(self) -> bool:
        if self._marker is None:
            return True
        if self._marker.exists():
            return False
        self._marker.touch()
        return True


def _chunk(packed: PackedEvents, layer: int) -> Chunk:
    zeros = np.zeros(len(packed), np.uint8)
    return Chunk(
        t_us=(packed >> np.uint64(TIME_SHIFT)).astype(np.float64),
        cause=np.zeros(len(packed), np.int64),
        layer=zeros + np.uint8(layer),
        feature=zeros.astype(np.uint16),
        y=zeros,
        x=zeros,
    )
