"""The heartbeat of an idle board: its process is asked now and then how the board is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from speckfarm_server.boards.child import Child
from speckfarm_server.errors import BoardFault


class Heartbeat:
    """Pings one process at a time; `failed` is called with words, once, and then it has stopped."""

    def __init__(self, beat_s: float, failed: Callable[[str], None]) -> None:
        self._beat_s = beat_s
        self._failed = failed
        self._task: asyncio.Task[None] | None = None

    def start(self, child: Child) -> None:
        """Ping it every `beat_s`; it has as long to answer."""
        self._task = asyncio.create_task(self._run(child))

    def stop(self) -> None:
        """Leave it alone: it gets a job, and from then on its words are the job's."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, child: Child) -> None:
        wrong = ""
        while not wrong:
            await asyncio.sleep(self._beat_s)
            child.send({"op": "ping"})
            child.expect(self._beat_s)
            try:
                wrong = (await child.receive())["message"]
            except BoardFault as fault:
                wrong = fault.message
            child.relax()
        self._failed(wrong)
