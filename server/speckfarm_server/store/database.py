"""Opens the database: pragmas, migrations, one engine that writes and one that reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    select,
)

from speckfarm_server.store.schema import METADATA

BUSY_TIMEOUT_MS = 10_000
HEAD = "0002"  # the newest file of migrations/versions
_REVISION = Table(  # Alembic's own
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def open_engine(path: Path, *, writes: bool) -> Engine:
    """Open the SQLite file; the writing engine takes its lock at BEGIN and never upgrades one."""
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.connection.driver_connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def migrate(engine: Engine) -> None:
    """Bring the schema to this version's."""
    with engine.begin() as connection:
        found = _revision(connection)
        if found is None and not inspect(connection).has_table(METADATA.sorted_tables[0].name):
            _create(connection)
        elif found != HEAD:
            upgrade(connection)


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing."""
    # Imported when needed: Alembic is a third of the server's start, and 11 MiB.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    """The migration that the database is at; None if it knows of none."""
    if not inspect(connection).has_table(_REVISION.name):
        return None
    return connection.execute(select(_REVISION.c.version_num)).scalar()


def _create(connection: Connection) -> None:
    """Make the tables of an empty database at once; a test holds them against the migrations."""
    METADATA.create_all(connection)
    _REVISION.create(connection)
    connection.execute(insert(_REVISION).values(version_num=HEAD))
