"""The server's end of one board: its state, its jobs, and what operators and USB do to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from speckfarm_server.boards.child import ENDS, died
from speckfarm_server.boards.identity import Identity
from speckfarm_server.boards.keeper import Keeper
from speckfarm_server.boards.kinds import kind_of
from speckfarm_server.boards.news import BoardNews
from speckfarm_server.boards.state import BoardState, RuntimeState
from speckfarm_server.boards.uevents import UsbEvent
from speckfarm_server.boards.wire import Message
from speckfarm_server.config import BoardConfig, FarmConfig


class BoardHost(BoardState):
    """One board as the farm sees it. `on_change` is called after every change of state, `on_news`
    with what must be stored."""

    def __init__(
        self,
        config: BoardConfig,
        farm: FarmConfig,
        on_change: Callable[[BoardHost], None],
        on_news: Callable[[BoardHost, BoardNews], None],
    ) -> None:
        super().__init__(
            config.id,
            chip=config.chip,
            kind=kind_of(config),
            on_change=lambda: on_change(self),
        )
        self._usb = config.usb
        self._lease_s = farm.limits.lease_s
        self._keeper = Keeper(self, config, farm, tell=lambda news: on_news(self, news))

    @property
    def loaded(self) -> str:
        """Digest of the configuration that the board holds; empty if none."""
        child = self._keeper.child
        return "" if child is None else child.loaded

    def start(self, accepted: Identity | None = None) -> None:
        """Bring the process up in the background, and again whenever it is gone.

        `accepted` is the devkit that was this board last.
        """
        self._keeper.recognition.accepted = accepted
        self._keeper.start()

    async def run(self, task: dict[str, Any], configuration: bytes) -> AsyncIterator[Message]:
        """Hand the process a task and yield its messages up to the last one.

        Raises BoardFault BOARD_PROCESS_DIED, BOARD_UNPLUGGED (INFRASTRUCTURE) or BOARD_HUNG
        (DEVICE_STALL).
        """
        child = self._keeper.child
        if child is None or self.runtime_state is not RuntimeState.IDLE:
            raise died(self.id)  # since the job was given to it
        self._keeper.stop_watch()
        self.turn(RuntimeState.BUSY)
        data = b"" if task["configuration"] == child.sent else configuration
        child.sent, child.loaded = task["configuration"], ""
        child.send({"op": "run", **task}, data)
        child.expect(self._lease_s)
        op = ""
        while op not in ENDS:
            message = await child.receive()
            if child is not self._keeper.child:  # it was replaced while this was on its way
                raise child.fault
            op = message["op"]
            if op == "done":
                child.loaded = task["configuration"]
                self.budget.clear()
            if op in ENDS:
                child.relax()
                self._keeper.watch()
                self.turn(RuntimeState.IDLE)
            if op != "pong":  # of a ping that the job overtook
                yield message

    def cancel(self) -> None:
        """Ask the process to end its task; its answer comes out of `run`."""
        if self._keeper.child is not None:
            self._keeper.child.send({"op": "cancel"})

    def replace(self, why: str) -> None:
        """Count a fault and bring the board up again: it failed, or would not be cancelled."""
        self._keeper.replace(why)

    def usb_changed(self, event: UsbEvent) -> None:
        """A USB device came or went; it may be this board."""
        if event.action == "add" and self._usb in ("", event.usb_path):
            self._keeper.plug()
        is_mine = self.device is not None and self.device.usb_path == event.usb_path
        if event.action == "remove" and is_mine:
            self._keeper.unplug()

    def set_enabled(self, enabled: bool) -> None:
        """Take the board out of service after its current job, or put it back.

        Whoever puts it back accepts the devkit that is there as this board.
        """
        self.enabled = enabled
        if enabled:
            self._keeper.accept()
        self.tell()

    async def close(self) -> None:
        """End the process."""
        await self._keeper.close()
