"""A board's own process: `python -m speckfarm_server.boards.process FD KIND OPTIONS`.

It owns one board and does what the server's messages say. It ends when the server's end of the
socket closes, so no orphan holds a board.

    server -> run {job, attempt, configuration, recordings, keep_lags} + configuration bytes
              cancel {}   ping {}
    board  -> starting {message, limit_s?}   ready {device}   progress {stage, done}
              done {...} + spikes   failed {reason, error_class, ...}   cancelled {}
              pong {message}   failed also instead of ready, if there is no board to own
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from speckfarm_server.boards.board import Board
from speckfarm_server.boards.execute import Attempt, Cancelled, Outcome, Task
from speckfarm_server.boards.wire import Message, encode, is_waiting, receive
from speckfarm_server.configuration import Configuration, from_bytes
from speckfarm_server.errors import BoardFault, ErrorClass, FarmError

logger = logging.getLogger(__name__)

PROGRESS_S = 0.25
OPEN_LIMIT_S = 15.0  # to find and open a devkit; a compiling simulator has the server's `start_s`


class BoardProcess:
    """The loop of the process."""

    def __init__(self, connection: socket.socket, board: Board) -> None:
        self._connection = connection
        self._board = board
        self._last_sent = 0.0
        self._stage = ""
        self._configuration: Configuration | None = None  # the last one received
        self._loaded = ""  # digest of what the board holds; empty after a fault

    def serve(self) -> None:
        """Handle messages until the server is gone."""
        self._send({"op": "ready", "device": self._board.device})
        try:
            while (message := receive(self._connection)) is not None:
                if message["op"] == "run":
                    self._run(message)
                elif message["op"] == "ping":
                    self._send({"op": "pong", "message": self._board.health()})
        except ConnectionError:
            logger.info("the server is gone")
        finally:
            self._board.close()

    def _run(self, message: Message) -> None:
        """Answer one run message with exactly one of done, failed, cancelled."""
        try:
            task = self._task(message)
            loaded, self._loaded = self._loaded, ""
            attempt = Attempt(self._board, task, self._progress, loaded=loaded)
            outcome = attempt.run()
            self._loaded = task.configuration.digest
            self._send(_done(outcome), outcome.spikes + outcome.lags)
        except Cancelled:
            self._send({"op": "cancelled"})
        except Exception as error:  # the one catch-all: whatever happens becomes the job's error
            logger.exception("the attempt failed")
            self._send(_failed(error))

    def _task(self, message: Message) -> Task:
        if message.data:
            self._configuration = from_bytes(message.data)
        if self._configuration is None or self._configuration.digest != message["configuration"]:
            text = "The board's process was not given the configuration it was told to use"
            raise BoardFault("CONFIGURATION_MISSING", text, ErrorClass.INTERNAL)
        recordings = tuple((digest, Path(path)) for digest, path in message["recordings"])
        return Task(
            configuration=self._configuration,
            recordings=recordings,
            keep_lags=message["keep_lags"],
        )

    def _progress(self, stage: str, done: int) -> None:
        """Tell the server, at most every PROGRESS_S unless the stage changes; look for a cancel."""
        now = time.monotonic()
        if stage != self._stage or now - self._last_sent > PROGRESS_S:
            self._stage = stage
            self._send({"op": "progress", "stage": stage, "done": done})
        if is_waiting(self._connection):
            message = receive(self._connection)
            if message is None or message["op"] == "cancel":
                raise Cancelled

    def _send(self, message: dict[str, Any], data: bytes = b"") -> None:
        self._last_sent = time.monotonic()
        try:
            self._connection.sendall(encode(message, data))
        except ConnectionError:  # the server is gone; `serve` ends at its next receive
            logger.info("the server is gone")


def open_board(kind: str, options: str, connection: socket.socket) -> Board:
    """Make the board that this process owns; says so while the simulator compiles."""
    if kind != "real" and hasattr(os, "SCHED_BATCH"):
        # What computes must not push the server off its core whenever a message wakes it.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if kind == "scripted":
        from speckfarm_server.boards.scripted import ScriptedBoard

        return ScriptedBoard(options)
    _compile(connection)  # a real board's outputs are predicted by a twin
    if kind == "real":
        from speckfarm_server.boards.samna.board import open_samna_board

        os.dup2(2, 1)  # the vendor's library prints, and what it says belongs into the log
        starting = {"op": "starting", "message": "opening the devkit", "limit_s": OPEN_LIMIT_S}
        connection.sendall(encode(starting))
        return open_samna_board(json.loads(options))
    from speckfarm_server.boards.proved import proved_assumptions
    from speckfarm_server.boards.simulated import SimulatedBoard

    told = json.loads(options)
    return SimulatedBoard(proved_assumptions(told.get("proof", ""), chip=told.get("chip")))


def _compile(connection: socket.socket) -> None:
    from speckfarm_server.twin.compilation import compile_kernels, is_compiled

    if not is_compiled():
        text = "compiling the simulator: once per machine and version, some seconds"
        connection.sendall(encode({"op": "starting", "message": text}))
    compile_kernels()


def main(arguments: list[str]) -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the server
    descriptor, kind, options = arguments
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    connection = socket.socket(fileno=int(descriptor))
    os.set_inheritable(connection.fileno(), False)
    try:
        board = open_board(kind, options, connection)
    except Exception as error:  # the server waits for an answer, whatever it is
        if not isinstance(error, FarmError):  # which the server logs, and may do so for hours
            logger.exception("there is no board")
        connection.sendall(encode(_failed(error)))
        return
    BoardProcess(connection, board).serve()


def _done(outcome: Outcome) -> dict[str, Any]:
    return {
        "op": "done",
        "recordings": outcome.recordings,
        "layers": outcome.layers,
        "spike_bytes": len(outcome.spikes),
        "exit_spikes": outcome.exit_spikes,
        "latency": outcome.latency,
        "histogram": outcome.histogram,
        "configure_ms": outcome.configure_ms,
        "reset_ms": outcome.reset_ms,
        "run_ms": outcome.run_ms,
        "collect_ms": outcome.collect_ms,
        "assumptions": outcome.assumptions,
        "device": outcome.device,
        "power": outcome.power,
        "findings": outcome.findings,
    }


def _failed(error: Exception) -> dict[str, Any]:
    error_class = ErrorClass.INTERNAL
    reason, message, metadata = "INTERNAL_ERROR", f"{type(error).__name__}: {error}", {}
    if isinstance(error, FarmError):
        reason, message, metadata = error.reason, error.message, error.metadata
        error_class = ErrorClass.JOB
    if isinstance(error, BoardFault):
        error_class = error.error_class
    return {
        "op": "failed",
        "reason": reason,
        "error_class": error_class.value,
        "message": message,
        "metadata": metadata,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
