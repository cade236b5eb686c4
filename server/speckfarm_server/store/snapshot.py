"""A copy of the database while a server writes to it, and what state a database file is in."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DatabaseState:
    """What a look into a database file found."""

    revision: str | None  # the migration that it is at; None: it has no tables of ours
    damage: str = ""  # what SQLite says is broken; empty if nothing is


def copy_database(source: Path, target: Path) -> DatabaseState:
    """Copy all that is committed, as of one moment, into a new file without a WAL beside it.

    Writers are not held up: they go on in the WAL. Raises sqlite3.Error.
    """
    with closing(_open(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")
    return look(target)


def look(path: Path) -> DatabaseState:
    """Read the revision of a database and let SQLite check it; changes nothing.

    Reads the whole file once. Raises sqlite3.Error if it cannot be opened at all.
    """
    with closing(_open(path)) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:  # no such table
            row = None
    return DatabaseState(
        revision=None if row is None else str(row[0]), damage="" if found == "ok" else str(found)
    )


def _open(path: Path) -> sqlite3.Connection:
    """Open for reading, and only if the file is there."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
