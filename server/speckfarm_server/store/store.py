"""The store: the database behind the farm. Writes go through one thread, reads through a pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Table, delete, insert, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from speckfarm_server.store import schema
from speckfarm_server.store.database import migrate, open_engine
from speckfarm_server.store.rows import Model, Recording
from speckfarm_server.store.steps import Steps
from speckfarm_server.store.writer import Row, Writer

P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """Opens (and migrates) the database in `path`; use from one event loop."""

    def __init__(self, path: Path) -> None:
        self._writing = open_engine(path, writes=True)
        migrate(self._writing)
        self._reading = open_engine(path, writes=False)
        self._writer = Writer(self._writing)
        self.steps = Steps(self._writing)

    def write(self, change: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Queue a change now; await to know that it is durable."""
        return self._writer.submit(change)

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a query of store/queries.py, users.py or usage.py off the event loop."""
        return await asyncio.to_thread(partial(self.read_now, query, *args, **kwargs))

    def read_now(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a query in this thread."""
        with self._reading.connect() as connection:
            return query(connection, *args, **kwargs)

    async def add_model(self, model: Model, input_shape: str) -> None:
        """Register a model; a digest that is known keeps its first user and name."""
        row = {
            "digest": model.digest, "name": model.name, "user": model.user,
            "created_us": model.created_us, "size": model.size, "input_shape": input_shape,
            "layers": model.layers, "deleted_us": None,
        }  # fmt: skip
        await self.write(_add(schema.MODELS, row))

    async def add_recording(self, recording: Recording) -> None:
        """Register a recording file; a digest that is known keeps its first user and name."""
        names = Recording.__dataclass_fields__
        row: Row = {**{name: getattr(recording, name) for name in names}, "deleted_us": None}
        await self.write(_add(schema.RECORDINGS, row))

    async def delete_model(self, digest: str, now_us: int) -> None:
        """Take a model off the list."""
        models = schema.MODELS
        change = update(models).where(models.c.digest == digest).values(deleted_us=now_us)
        await self.write(lambda connection: connection.execute(change).rowcount)

    async def delete_recording(self, digest: str, now_us: int) -> None:
        """Take a recording file off the list."""
        table = schema.RECORDINGS
        change = update(table).where(table.c.digest == digest).values(deleted_us=now_us)
        await self.write(lambda connection: connection.execute(change).rowcount)

    def set_enabled(
        self, board: str, *, enabled: bool, events: Sequence[Row]
    ) -> asyncio.Future[None]:
        """Remember over restarts whether a board is in service."""
        row = {"id": board, "enabled": enabled}
        return self.write(_replacing(schema.BOARDS, row, self.steps.log(events)))

    def set_device(self, board: str, device: Row) -> asyncio.Future[None]:
        """Remember over restarts which devkit is a board."""
        row = {"id": board, **device}
        return self.write(_replacing(schema.BOARD_DEVICES, row, self.steps.log([])))

    def close(self) -> None:
        """Commit what waits and close the database."""
        self._writer.close()
        self._reading.dispose()
        self._writing.dispose()


def _replacing(
    table: Table, row: Row, log: Callable[[Connection], None]
) -> Callable[[Connection], None]:
    """Write what is known of a board anew."""

    def change(connection: Connection) -> None:
        connection.execute(delete(table).where(table.c.id == row["id"]))
        connection.execute(insert(table).values(**row))
        log(connection)

    return change


def _add(table: Table, row: Row) -> Callable[[Connection], int]:
    statement = sqlite_insert(table).values(row)
    revive = statement.on_conflict_do_update(index_elements=["digest"], set_={"deleted_us": None})
    return lambda connection: connection.execute(revive).rowcount
