"""The store, on a real SQLite file: moves are compare-and-swap; what is written is read back."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from speckfarm_server.errors import AlreadyExists, BadInput, NotFound, WrongState
from speckfarm_server.job import BoardKind, JobSpec, JobState, JobStatus
from speckfarm_server.live import LiveJob, first_event, first_row
from speckfarm_server.settings import Settings
from speckfarm_server.store import database, queries, users
from speckfarm_server.store.database import HEAD, open_engine, upgrade
from speckfarm_server.store.rows import Page
from speckfarm_server.store.schema import METADATA
from speckfarm_server.store.steps import Request
from speckfarm_server.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "farm.db")
    yield opened
    opened.close()


def spec(number: int = 0) -> JobSpec:
    return JobSpec(
        id=f"job-{number}",
        user="ada",
        model="m" * 64,
        recordings=("r" * 64,),
        settings=Settings(decimator={0: 4}, reset="zero"),
        chip="speck2f",
        board_kind=BoardKind.SIMULATED,
        configuration="c" * 64,
        created_us=1_000 + number,
        queue_deadline_us=2_000,
        run_timeout_us=3_000,
        recordings_total=1,
    )


def live(of: JobSpec) -> LiveJob:
    status = JobStatus(spec=of, state=JobState.QUEUED, sequence=1, attempt=0, faults=0)
    return LiveJob(status, [first_event(of)])


def accept(store: Store, *specs: JobSpec, request: Request | None = None) -> str | None:
    async def write() -> str | None:
        rows = [first_row(item) for item in specs]
        return await store.write(store.steps.accept(specs, rows, request=request))

    return asyncio.run(write())


def store_step(store: Store, job: LiveJob) -> None:
    async def write() -> None:
        await store.write(store.steps.move(job.take_step()))

    asyncio.run(write())


def test_an_accepted_job_is_read_back_as_it_was(store: Store) -> None:
    accept(store, spec())

    status = store.read_now(queries.find_job, "job-0")

    assert status.spec == spec()
    assert status.state is JobState.QUEUED


def test_several_steps_between_two_commits_are_stored_as_one_move_with_all_events(
    store: Store,
) -> None:
    accept(store, spec())
    job = live(spec())
    job.lease("twin-0", "idle")
    job.move(JobState.CONFIGURING)
    job.move(JobState.RUNNING)

    store_step(store, job)

    events = store.read_now(queries.job_events, "job-0", 0)
    assert [e.state.value for e in events] == ["QUEUED", "ASSIGNED", "CONFIGURING", "RUNNING"]
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert store.read_now(queries.find_job, "job-0").attempt == 1


def test_a_report_of_a_lost_lease_is_refused_and_leaves_no_trace(store: Store) -> None:
    accept(store, spec())
    mine, other = live(spec()), live(spec())
    mine.lease("twin-0", "idle")
    store_step(store, mine)
    other.lease("twin-1", "idle")
    other.move(JobState.FAILED)

    with pytest.raises(WrongState) as refusal:
        store_step(store, other)

    assert refusal.value.reason == "LEASE_EXPIRED"
    assert store.read_now(queries.find_job, "job-0").board == "twin-0"
    assert len(store.read_now(queries.job_events, "job-0", 0)) == 2


def test_a_failing_change_does_not_take_its_batch_along(store: Store) -> None:
    accept(store, spec(0), spec(1))
    stale, good = live(spec(0)), live(spec(1))
    stale.lease("twin-0", "idle")
    stale.take_step()  # lost on its way
    stale.move(JobState.RUNNING)
    good.lease("twin-1", "idle")

    async def write_both() -> list[object]:
        writes = [store.write(store.steps.move(job.take_step())) for job in (stale, good)]
        return await asyncio.gather(*writes, return_exceptions=True)

    first, second = asyncio.run(write_both())

    assert isinstance(first, WrongState)
    assert second is None
    assert store.read_now(queries.find_job, "job-1").state is JobState.ASSIGNED


def test_the_same_request_id_and_body_give_the_first_job_and_another_body_is_refused(
    store: Store,
) -> None:
    request = Request(user="ada", method="CreateJob", request_id="r1", body="b1", object="job-0")
    first = accept(store, spec(0), request=request)
    again = accept(store, spec(1), request=replace(request, object="job-1"))

    with pytest.raises(AlreadyExists) as refusal:
        accept(store, spec(2), request=replace(request, body="b2", object="job-2"))

    assert (first, again) == (None, "job-0")
    assert refusal.value.reason == "REQUEST_ID_REUSED"
    assert len(store.read_now(queries.unfinished_jobs)) == 1


def test_a_change_waits_while_the_database_is_locked_and_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    store = Store(tmp_path / "farm.db")
    said = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: said.set()  # type: ignore[method-assign]
    logging.getLogger("speckfarm_server.store.writer").addHandler(handler)

    async def write_while_locked() -> None:
        with closing(sqlite3.connect(tmp_path / "farm.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            written = store.write(store.steps.accept([spec()], [first_row(spec())]))
            assert await asyncio.to_thread(said.wait, 20)
            other.execute("ROLLBACK")
        await written

    asyncio.run(write_while_locked())
    logging.getLogger("speckfarm_server.store.writer").removeHandler(handler)

    assert store.read_now(queries.find_job, "job-0").state is JobState.QUEUED
    store.close()


def test_pages_follow_each_other_without_gap_or_overlap(store: Store) -> None:
    accept(store, *[replace(spec(n), created_us=1_000 + n // 3) for n in range(10)])

    seen: list[str] = []
    page = Page(size=4)
    while rows := store.read_now(queries.list_jobs, page):
        seen += [row.spec.id for row in rows]
        last = rows[-1].spec
        page = Page(size=4, before_us=last.created_us, before_id=last.id)

    assert seen == sorted(seen, key=lambda job: int(job[4:]), reverse=True)
    assert len(seen) == 10


def test_the_migrations_make_exactly_the_tables_that_a_new_farm_gets(
    store: Store, tmp_path: Path
) -> None:
    made, migrated = (tmp_path / "farm.db", tmp_path / "migrated.db")
    engine = open_engine(migrated, writes=True)
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()

    differences = [differences_to_schema(path) for path in (made, migrated)]

    assert differences == [[], []]
    assert statements_of(made) == statements_of(migrated)


def differences_to_schema(path: Path) -> list[object]:
    engine = open_engine(path, writes=False)
    with engine.connect() as connection:
        found: list[object] = compare_metadata(MigrationContext.configure(connection), METADATA)
        versions = MigrationContext.configure(connection).get_current_heads()
    engine.dispose()
    return [*found, *(version for version in versions if version != HEAD)]


def statements_of(path: Path) -> dict[str, str]:
    """What SQLite was told to make, by name."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: "".join(sql.split()) for name, sql in rows}


def test_every_commit_is_durable(store: Store, tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "farm.db", writes=True)

    with engine.connect() as connection:
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    engine.dispose()

    assert (journal, synchronous) == ("wal", 2)


def test_a_token_is_stored_as_its_digest_only(store: Store, tmp_path: Path) -> None:
    async def add() -> str:
        return await store.write(lambda connection: users.add_user(connection, "ada"))

    token = asyncio.run(add())
    store.close()

    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert not any(token.encode() in data for data in files)
    assert any(users.digest_of(token).encode() in data for data in files)


@pytest.mark.parametrize("name", ["", "Ada", "a" * 33, "a b", "1a", "a/b"])
def test_a_user_name_that_is_none_is_refused(name: str, store: Store) -> None:
    async def add() -> str:
        return await store.write(lambda connection: users.add_user(connection, name))

    with pytest.raises(BadInput) as refusal:
        asyncio.run(add())

    assert refusal.value.reason == "USER_NAME_INVALID"


def test_revoking_an_unknown_user_is_an_error(store: Store) -> None:
    async def revoke() -> None:
        await store.write(lambda connection: users.revoke_user(connection, "nobody"))

    with pytest.raises(NotFound):
        asyncio.run(revoke())
