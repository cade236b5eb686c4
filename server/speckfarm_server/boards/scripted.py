"""The scripted board: waits, fails, hangs or crashes on command. For tests and benchmarks only.

Its script is JSON, e.g. {"run_ms": 50, "fail": {"3": "crash"}}:

- `configure_ms`, `reset_ms`, `run_ms` (per recording), `collect_ms`: how long each stage takes;
- `fail`: what happens in which configure-or-run step (numbered from 1 over the life of the process,
  or "*" for all): "crash" (the process dies), "hang" (it never answers again), "fault"
  (INFRASTRUCTURE), "stall" (DEVICE_STALL), "job" (JOB);
- `marker`: a file; faults happen only while it does not exist, and make it: a board that can fail
  once over all its processes;
- `open`: "fault" (there is a board, but it cannot be opened);
- `device`: a file with the fields of a Device as JSON; while there is no such file, the board is
  not there (DEVICE_NOT_FOUND);
- `known_answer`: "pass", "fail", or a factor on the spikes of every class. The farm then tests the
  board as a real one;
- `ping`: "" (all is well), "hang" (it never answers again), or words on what is wrong. The farm
  then pings the board as a real one.

The words of `open`, `known_answer` and `ping` may stand in a file that is named instead, so that a
test can change them.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from speckfarm.events import TIME_SHIFT, PackedEvents
from speckfarm_server.boards import known_answer
from speckfarm_server.boards.board import Chunk, RunReport, Tell, quietly
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.job_result import Device, Ending, LayerActivity

SLICE_MS = 20.0
_CLASSES = {
    "fault": ErrorClass.INFRASTRUCTURE,
    "stall": ErrorClass.DEVICE_STALL,
    "job": ErrorClass.JOB,
}


class ScriptedBoard:
    """Answers each recording with one spike of feature 0 at its first event, after `run_ms`."""

    method = "exact"

    def __init__(self, script: str) -> None:
        plain = json.loads(script)
        self._clock = threading.Event()  # never set: waiting on it is a wait with a time limit
        self.device = _device(plain)
        self._ping = str(plain.get("ping", ""))
        self._factor = _factor(_word(plain.get("known_answer", "fail")))
        self._known: list[tuple[int, ...]] = []  # what is left of the known answer
        if _word(plain.get("open", "")) == "fault":
            raise _fault("fault")
        self._run_ms = float(plain.get("run_ms", 0))
        self._configure_ms = float(plain.get("configure_ms", 0))
        self._reset_ms = float(plain.get("reset_ms", 0))
        self._collect_ms = float(plain.get("collect_ms", 0))
        self._fail: dict[str, str] = plain.get("fail", {})
        self._marker = Path(plain["marker"]) if "marker" in plain else None
        self._step = 0
        self._layers = 0
        self._exit_layer = 0

    @property
    def assumptions(self) -> str:
        """None; what is asked for last, so that the wait of collecting is here."""
        self._wait(self._collect_ms)
        return ""

    def configure(self, configuration: Configuration, tell: Tell = quietly) -> None:
        """Wait, or fail."""
        self._next_step()
        self._layers = len(configuration.cores)
        self._exit_layer = configuration.cores[-1].layer
        is_known = configuration.digest == known_answer.network(configuration.chip).digest
        self._known = list(known_answer.COUNTS) if is_known and self._factor > 0 else []
        self._wait(self._configure_ms)

    def reset_state(self, tell: Tell = quietly) -> None:
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
        if self._known:
            yield self._answer(packed[:1], self._known.pop(0))
        else:
            yield _chunk(packed[:1], self._exit_layer)

    def report(self) -> RunReport:
        """No layer does anything."""
        layers = tuple(
            LayerActivity(layer=layer, input_spikes=0, output_spikes=0, synops=None)
            for layer in range(self._layers)
        )
        return RunReport(activity=layers, ending=Ending.SERVED)

    def health(self) -> str:
        """What the script says."""
        word = _word(self._ping)
        if word == "hang":
            self._clock.wait()
        return word

    def close(self) -> None:
        """Nothing to let go of."""

    def _answer(self, first: PackedEvents, counts: tuple[int, ...]) -> Chunk:
        features = np.repeat(np.arange(len(counts)), [round(n * self._factor) for n in counts])
        spikes = _chunk(np.repeat(first, len(features)), self._exit_layer)
        return replace(spikes, feature=features.astype(np.uint16))

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
        raise _fault(what)

    def _may_fail(self) -> bool:
        if self._marker is None:
            return True
        if self._marker.exists():
            return False
        self._marker.touch()
        return True


def _fault(what: str) -> BoardFault:
    return BoardFault(f"SCRIPTED_{what.upper()}", f"The script says {what}", _CLASSES[what])


def _word(value: object) -> str:
    """A word of the script, or what stands in the file of that name."""
    path = Path(str(value))
    return path.read_text() if path.is_file() else str(value)


def _factor(word: str) -> float:
    words = {"pass": 1.0, "fail": 0.0}
    return words[word] if word in words else float(word)


def _device(plain: dict[str, Any]) -> Device | None:
    if "device" not in plain:
        return None
    path = Path(plain["device"])
    if not path.is_file():
        text = f"The script says that there is no devkit: {path} is missing"
        raise BoardFault("DEVICE_NOT_FOUND", text, ErrorClass.INFRASTRUCTURE, found="none")
    return Device(**json.loads(path.read_text()))


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
