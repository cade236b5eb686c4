"""One process of a board, from its start to its end: what it is sent, what it says, its silence."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from speckfarm_server.boards.wire import Inbox, Message, encode
from speckfarm_server.errors import BoardFault, ErrorClass

logger = logging.getLogger(__name__)

REAP_S = 0.5  # a killed process ends within milliseconds
ENDS = ("done", "failed", "cancelled")  # what ends a task


def fault_of(message: Message) -> BoardFault:
    """What a process says of its failure."""
    error_class = ErrorClass(message["error_class"])
    return BoardFault(message["reason"], message["message"], error_class, **message["metadata"])


class Child:
    """The server's end of a running process. It is killed when it is silent for too long."""

    def __init__(self, board: str, process: subprocess.Popen[bytes]) -> None:
        self.sent = ""  # digest of the configuration that it was sent last
        self.loaded = ""  # digest of the configuration that its board holds
        self._board = board
        self._process = process
        self._inbox: Inbox | None = None
        self._outbox: asyncio.Transport | None = None
        self._why: BoardFault | None = None  # it was killed
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        self._owes_answer = False
        self._limit_s = 0.0
        self._asked_s = 0.0  # since when it owes an answer, on the loop's clock

    async def connect(self, ours: socket.socket, lost: Callable[[Child], None]) -> None:
        """Listen to it; `lost` is called when it is gone."""
        self._outbox, self._inbox = await self._loop.create_unix_connection(
            lambda: Inbox(lambda: lost(self)), sock=ours
        )

    def send(self, message: dict[str, Any], data: bytes = b"") -> None:
        """Put a message on its way."""
        if self._outbox is not None:
            self._outbox.write(encode(message, data))

    async def receive(self) -> Message:
        """The next message. Raises BoardFault BOARD_HUNG, BOARD_PROCESS_DIED, or why it was closed.

        One reader at a time.
        """
        message = None if self._inbox is None else await self._inbox.receive()
        if message is None:
            raise self.fault
        return message

    @property
    def fault(self) -> BoardFault:
        """Why it ended, if it has."""
        return self._why or died(self._board)

    def expect(self, limit_s: float) -> None:
        """From now on it must not be silent for so long. Costs no timer if a shorter one runs."""
        self._owes_answer = True
        self._asked_s = self._loop.time()
        if self._alarm is not None and limit_s < self._limit_s:
            self._alarm.cancel()
            self._alarm = None
        self._limit_s = limit_s
        if self._alarm is None:
            self._alarm = self._loop.call_later(limit_s, self._look)

    def relax(self) -> None:
        """It has answered and owes nothing."""
        self._owes_answer = False

    async def end(self, limit_s: float) -> None:
        """Let it give its board back and end by itself, for so long; then kill it."""
        self._owes_answer = False
        if self._outbox is not None:
            self._outbox.close()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, limit_s)
        self.close()

    def close(self, why: BoardFault | None = None) -> None:
        """Kill it; a `receive` that waits raises `why`."""
        self._why = self._why or why
        self.sent = self.loaded = ""
        self._owes_answer = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._outbox is not None:
            self._outbox.abort()
            self._outbox = None
        self._process.kill()
        _reap(self._process)

    def _look(self) -> None:
        self._alarm = None
        if not self._owes_answer or self._inbox is None:
            return
        heard_s = max(self._inbox.heard_s, self._asked_s)
        left_s = heard_s + self._limit_s - self._loop.time()
        if left_s > 0:
            self._alarm = self._loop.call_later(left_s, self._look)
        else:
            self.close(_hung(self._board, self._limit_s))


async def start(board: str, kind: str, options: str, lost: Callable[[Child], None]) -> Child:
    """Start a board's process, and listen to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        module = "speckfarm_server.boards.process"
        process = subprocess.Popen(  # noqa: ASYNC220 - vfork and exec, no waiting
            [sys.executable, "-m", module, str(theirs.fileno()), kind, options],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    child = Child(board, process)
    try:
        await child.connect(ours, lost)
    except BaseException:  # nobody else knows of the process
        child.close()
        raise
    return child


def died(board: str) -> BoardFault:
    """Its process is gone."""
    return BoardFault(
        "BOARD_PROCESS_DIED",
        f"The process of board {board} died; it is replaced",
        ErrorClass.INFRASTRUCTURE,
        board=board,
    )


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end; one that a driver holds in the kernel must not hold the server as well."""
    try:
        process.wait(REAP_S)
    except subprocess.TimeoutExpired:
        logger.warning("process %d does not end though it was killed", process.pid)
        threading.Thread(target=process.wait, name="reaper", daemon=True).start()


def _hung(board: str, silent_s: float) -> BoardFault:
    text = f"Board {board} was silent for {silent_s:g} s; its process is replaced"
    return BoardFault("BOARD_HUNG", text, ErrorClass.DEVICE_STALL, board=board, silent_s=silent_s)
