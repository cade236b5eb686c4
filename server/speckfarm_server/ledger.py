"""The ledger of the boards: what of them outlives the server."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from speckfarm_server.boards.host import BoardHost
from speckfarm_server.boards.identity import Identity
from speckfarm_server.boards.news import BoardNews
from speckfarm_server.live import now_us
from speckfarm_server.store import queries
from speckfarm_server.store.steps import event_row
from speckfarm_server.store.store import Store
from speckfarm_server.store.writer import Row

logger = logging.getLogger(__name__)


class Ledger:
    """Stores news of boards, and reads what a former server knew."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def accepted(self) -> dict[str, Identity]:
        """The devkit that each board was last."""
        devices = await self._store.read(queries.board_devices)
        return {board: Identity(**row) for board, row in devices.items()}

    async def disabled(self) -> set[str]:
        """Boards that are out of service."""
        return await self._store.read(queries.disabled_boards)

    def note(self, host: BoardHost, news: BoardNews) -> None:
        """Store news; nobody waits for it, but its order is kept."""
        if news.identity is not None:
            self._written(self._store.set_device(host.id, vars(news.identity)))
        if not news.event:
            return
        events = [_row(host, news)]
        if news.is_drained:
            self._written(self._store.set_enabled(host.id, enabled=False, events=events))
        else:
            self._written(self._store.write(self._store.steps.log(events)))

    def _written(self, future: asyncio.Future[Any]) -> None:
        future.add_done_callback(_complain)


def _complain(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.error("news of a board could not be stored: %s", error)


def _row(host: BoardHost, news: BoardNews) -> Row:
    return event_row(
        None,
        time_us=now_us(),
        event=news.event,
        board=host.id,
        board_kind=host.kind.value,
        message=news.message[:1000],
    )
