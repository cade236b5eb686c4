"""The one writer: a thread that commits whatever waits, in one durable transaction."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql import ClauseElement

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0

T = TypeVar("T")
Row = Mapping[str, Any]


class Prepared:
    """A statement compiled once: the job path pays for SQL, not for building it."""

    def __init__(self, engine: Engine, statement: ClauseElement) -> None:
        compiled = statement.compile(engine)
        self._sql = str(compiled)
        names: Sequence[str] | None = getattr(compiled, "positiontup", None)
        self._values: Callable[[Row], Any] = dict if names is None else itemgetter(*names)

    def __call__(self, connection: Connection, *rows: Row) -> int:
        """Run with one or many rows; returns the number of rows touched."""
        # The driver's own cursor: SQLAlchemy's costs ten times as much as the statement itself.
        cursor = connection.connection.cursor()
        if len(rows) == 1:
            cursor.execute(self._sql, self._values(rows[0]))
        else:
            cursor.executemany(self._sql, list(map(self._values, rows)))
        touched: int = cursor.rowcount
        cursor.close()
        return touched


class Writer:
    """Runs changes in order; each is a function of a connection, run again after a rollback."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Prepared statements reach the driver itself, so its errors come as they are.
        driver: Any = engine.dialect.loaded_dbapi
        self._passing = (OperationalError, driver.OperationalError)
        self._waiting: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, change: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Queue a change; the future is done when it is durable. Call on the event loop."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put(_Item(change, future))
        return future

    def close(self) -> None:
        """Commit what waits and end the thread; a database that is locked then is given up."""
        self._waiting.put(None)
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        with self._engine.connect() as connection:
            while True:
                items, closing = self._take()
                if items:
                    self._batch(connection, items)
                if closing:
                    return

    def _take(self) -> tuple[list[_Item], bool]:
        item = self._waiting.get()
        items: list[_Item] = []
        while item is not None:
            items.append(item)
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return items, False
        return items, True

    def _batch(self, connection: Connection, items: list[_Item]) -> None:
        try:
            answers = self._patiently(connection, items)
        except Exception as error:  # whatever the database says belongs to the caller
            if len(items) == 1:
                _hand_back(items, [error])
                return
            logger.warning("a batch of %d changes failed; trying them one by one", len(items))
            for item in items:
                self._batch(connection, [item])
            return
        _hand_back(items, answers)

    def _patiently(self, connection: Connection, items: list[_Item]) -> list[Any]:
        """Commit; wait while the database is locked or its disk full, as nothing may be skipped.

        What was moved in memory relies on its change being stored before any later one.
        """
        wait_s = FIRST_WAIT_S
        while True:
            try:
                with connection.begin():
                    return [item.change(connection) for item in items]
            except self._passing as error:
                if self._closing.wait(wait_s):
                    raise
                logger.error("the database cannot be written, trying again: %s", error)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)


class _Item:
    __slots__ = ("change", "future", "loop")

    def __init__(self, change: Callable[[Connection], Any], future: asyncio.Future[Any]) -> None:
        self.change = change
        self.future = future
        self.loop = future.get_loop()


def _hand_back(items: list[_Item], answers: list[Any]) -> None:
    try:
        items[0].loop.call_soon_threadsafe(_resolve, items, answers)
    except RuntimeError:  # the loop has ended; what was committed stays committed
        logger.info("%d changes were committed after the event loop ended", len(items))


def _resolve(items: list[_Item], answers: list[Any]) -> None:
    for item, answer in zip(items, answers, strict=True):
        if item.future.done():  # its caller went away
            continue
        if isinstance(answer, Exception):
            item.future.set_exception(answer)
        else:
            item.future.set_result(answer)
