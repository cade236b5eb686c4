"""The server's end of one board: starts its process, talks to it, replaces it when it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Any

from speckfarm_server.boards.wire import Inbox, Message, encode
from speckfarm_server.config import BoardConfig, FarmConfig, UsbConfig
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.job import BoardKind
from speckfarm_server.job_result import Device, device_from_plain

logger = logging.getLogger(__name__)

FIRST_BACK_OFF_S = 0.5
LONGEST_BACK_OFF_S = 30.0
FAULTS_UNTIL_BAD = 2  # starts in a row that failed


class RuntimeState(str, Enum):
    """What a board is doing."""

    OFFLINE = "OFFLINE"
    STARTING = "STARTING"
    IDLE = "IDLE"
    BUSY = "BUSY"
    RECOVERING = "RECOVERING"


class Health(str, Enum):
    """Whether a board can be trusted."""

    UNKNOWN = "UNKNOWN"
    GOOD = "GOOD"
    BAD = "BAD"


def kind_of(config: BoardConfig) -> BoardKind:
    """Real or simulated; scripted boards count as simulated."""
    return BoardKind.REAL if config.kind == "real" else BoardKind.SIMULATED


def options_of(config: BoardConfig, usb: UsbConfig) -> str:
    """What its process is told of a board, as JSON; of a scripted one its script."""
    if config.kind == "scripted":
        return config.script
    return json.dumps({**vars(config), "sysfs": usb.sysfs, "nodes": usb.nodes})


def fault_of(message: Message) -> BoardFault:
    """What a process says of its failure."""
    error_class = ErrorClass(message["error_class"])
    return BoardFault(message["reason"], message["message"], error_class, **message["metadata"])


class BoardHost:
    """One board as the farm sees it. `on_change` is called after every change of state."""

    def __init__(
        self, config: BoardConfig, farm: FarmConfig, on_change: Callable[[BoardHost], None]
    ) -> None:
        self.id = config.id
        self.chip = config.chip
        self.kind = kind_of(config)
        self.device: Device | None = None  # which devkit it is, once one was found
        self.swap_hint = ""  # why it may be another devkit than before
        self.faults = 0  # in a row
        self.runtime_state = RuntimeState.OFFLINE
        self.health = Health.UNKNOWN
        self.enabled = True
        self.message = ""
        self.since = time.time()
        self.loaded = ""  # digest of the configuration that the board holds
        self._sent = ""  # digest of the configuration that its process was sent last
        self._config = config
        self._limits = farm.limits
        self._usb = farm.usb
        self._on_change = on_change
        self._process: subprocess.Popen[bytes] | None = None
        self._inbox: Inbox | None = None
        self._outbox: asyncio.Transport | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._asked_s = 0.0  # since when the process owes an answer, on the loop's clock
        self._is_hung = False
        self._failed_starts = 0
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Bring the process up in the background, and again whenever it is gone."""
        self._keeper = asyncio.create_task(self._bring_up(RuntimeState.STARTING))

    async def run(self, task: dict[str, Any], configuration: bytes) -> AsyncIterator[Message]:
        """Hand the process a task and yield its messages up to the last one.

        Raises BoardFault BOARD_PROCESS_DIED (INFRASTRUCTURE) or BOARD_HUNG (DEVICE_STALL).
        """
        if self.runtime_state is not RuntimeState.IDLE:  # it died since the job was given to it
            raise self._died()
        self._turn(RuntimeState.BUSY)
        data = b"" if task["configuration"] == self._sent else configuration
        self._sent, self.loaded = task["configuration"], ""
        self._send({"op": "run", **task}, data)
        self._expect_answer()
        op = ""
        while op not in ("done", "failed", "cancelled"):
            message = await self._receive()
            op = message["op"]
            if op == "done":
                self.loaded = task["configuration"]
            if op in ("done", "failed", "cancelled"):
                self._turn(RuntimeState.IDLE)
            yield message

    def cancel(self) -> None:
        """Ask the process to end its task; its answer comes out of `run`."""
        self._send({"op": "cancel"})

    def replace(self) -> None:
        """Kill the process and start another: it died, hung, or would not be cancelled."""
        if self._closing or (self._keeper is not None and not self._keeper.done()):
            return  # it is being brought up already
        self._drop()
        self._keeper = asyncio.create_task(self._bring_up(RuntimeState.RECOVERING))

    def set_enabled(self, enabled: bool) -> None:
        """Take the board out of service after its current job, or put it back."""
        self.enabled = enabled
        self._on_change(self)

    async def close(self) -> None:
        """End the process."""
        self._closing = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._drop()
        self._turn(RuntimeState.OFFLINE)

    async def _bring_up(self, state: RuntimeState) -> None:
        self._turn(state)
        while True:
            try:
                await self._spawn()
            except (BoardFault, OSError) as error:
                self._drop()
                self._failed_starts += 1
                if self._failed_starts >= FAULTS_UNTIL_BAD:
                    self.health = Health.BAD
                self._turn(state, f"does not start: {error}")
                logger.warning("board %s does not start: %s", self.id, error)
                wait_s = FIRST_BACK_OFF_S * 2 ** min(self._failed_starts, 10)
                await asyncio.sleep(min(wait_s, LONGEST_BACK_OFF_S))
                continue
            self._failed_starts = 0
            self.health = Health.GOOD
            self._turn(RuntimeState.IDLE)
            return

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "speckfarm_server.boards.process"]
            command += [
                str(theirs.fileno()),
                self._config.kind,
                options_of(self._config, self._usb),
            ]
            self._process = subprocess.Popen(  # noqa: ASYNC220 - vfork and exec, no waiting
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._outbox, self._inbox = await asyncio.get_running_loop().create_unix_connection(
            lambda: Inbox(self._lost), sock=ours
        )
        self._expect_answer()
        while True:
            message = await self._receive()
            if message["op"] == "ready":
                self.device = device_from_plain(message["device"])
                self._cancel_alarm()  # it was set for a start, which may take longer
                return
            if message["op"] == "failed":
                raise fault_of(message)
            self._turn(self.runtime_state, message.get("message", ""))

    async def _receive(self) -> Message:
        """The next message; a process that is silent for too long was dropped by the alarm."""
        message = None if self._inbox is None else await self._inbox.receive()
        if message is not None:
            return message
        if not self._is_hung:
            raise self._died()
        silent_s = self._silent_s
        text = f"Board {self.id} was silent for {silent_s:g} s; its process is replaced"
        raise BoardFault(
            "BOARD_HUNG", text, ErrorClass.DEVICE_STALL, board=self.id, silent_s=silent_s
        )

    def _expect_answer(self) -> None:
        """From now on the process must not be silent. Costs no timer if one is set already."""
        self._is_hung = False
        self._asked_s = asyncio.get_running_loop().time()
        if self._alarm is None:
            self._look_after(self._silent_s)

    def _look_after(self, delay_s: float) -> None:
        self._alarm = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        self._alarm = None
        if self._inbox is None or self.runtime_state is RuntimeState.IDLE:
            return
        heard_s = max(self._inbox.heard_s, self._asked_s)
        left_s = heard_s + self._silent_s - asyncio.get_running_loop().time()
        if left_s > 0:
            self._look_after(left_s)
            return
        self._is_hung = True
        self._drop()  # ends the `receive` that is waiting

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    @property
    def _silent_s(self) -> float:
        is_at_work = self.runtime_state is RuntimeState.BUSY
        return self._limits.lease_s if is_at_work else self._limits.start_s

    def _send(self, message: dict[str, Any], data: bytes = b"") -> None:
        if self._outbox is not None:
            self._outbox.write(encode(message, data))

    def _lost(self) -> None:
        """The process is gone. While it starts or works `_receive` sees that, here it is idle."""
        is_gone = self._outbox is not None and self._outbox.is_closing()
        if is_gone and self.runtime_state is RuntimeState.IDLE:
            logger.warning("the process of board %s died while it was idle", self.id)
            self.replace()

    def _died(self) -> BoardFault:
        return BoardFault(
            "BOARD_PROCESS_DIED",
            f"The process of board {self.id} died; it is replaced",
            ErrorClass.INFRASTRUCTURE,
            board=self.id,
        )

    def _drop(self) -> None:
        self.loaded = self._sent = ""
        self._cancel_alarm()
        if self._outbox is not None:
            self._outbox.abort()
        self._outbox = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _turn(self, state: RuntimeState, message: str = "") -> None:
        self.runtime_state = state
        self.message = message
        self.since = time.time()
        self._on_change(self)
