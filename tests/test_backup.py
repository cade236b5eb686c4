"""`speckfarm-server backup`: a copy made while the server runs can take its place."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from speckfarm_server.backup import back_up, backups
from speckfarm_server.blobs import Blobs
from speckfarm_server.errors import FarmError
from speckfarm_server.store.database import HEAD, migrate, open_engine
from speckfarm_server.store.snapshot import copy_database, look
from tests.farm_process import TWINS, FarmProcess


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of a farm that is stopped: an empty database and one blob."""
    folder = tmp_path / "data"
    folder.mkdir()
    engine = open_engine(folder / "farm.db", writes=True)
    migrate(engine)
    engine.dispose()
    Blobs(folder / "blobs").put(b"spikes")
    return folder


def make_older(backup: Path, name: str) -> Path:
    """As if it had been made at another time; names have whole seconds."""
    return backup.rename(backup.with_name(name))


def refusal(*arguments: object, **options: object) -> FarmError:
    with pytest.raises(FarmError) as error:
        back_up(*arguments, **options)  # type: ignore[arg-type]
    return error.value


def test_a_backup_of_a_running_server_starts_as_a_farm_with_all_jobs_and_users(
    make_server: Callable[..., FarmProcess], tmp_path: Path, digits_model: Path, one_digit: Path
) -> None:
    server = make_server()
    alice = server.server_command("user", "add", "alice")
    with server.connect() as farm:
        job = farm.run(digits_model, one_digit)
        measured = job.wait().recordings[0]
    server.server_command("backup", "--to", str(tmp_path / "backups"))
    server.stop()

    [backup] = backups(tmp_path / "backups")
    shutil.copytree(backup, tmp_path / "restored")
    restored = FarmProcess(tmp_path / "restored", TWINS).start()

    try:
        with restored.connect() as farm:
            kept = farm.job(job.id).wait().recordings[0]
            assert list(kept.counts) == list(measured.counts)
            again = farm.run(digits_model, one_digit).wait().recordings[0]
            assert list(again.counts) == list(measured.counts)
        assert "alice" in restored.server_command("user", "list")
        restored.token = alice
        with restored.connect() as farm:
            digest = hashlib.sha256(digits_model.read_bytes()).hexdigest()
            assert [row.model for row in farm.models()] == [digest]
    finally:
        restored.stop()


def test_a_copy_made_under_steady_writes_is_of_one_moment(tmp_path: Path) -> None:
    path = tmp_path / "farm.db"
    with closing(sqlite3.connect(path)) as setup:
        setup.execute("PRAGMA journal_mode=WAL")
        setup.execute("CREATE TABLE a (n INTEGER)")
        setup.execute("CREATE TABLE b (n INTEGER)")
        setup.commit()
    begun, stop = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path)) as connection:
            n = 0
            while not stop.is_set():
                with connection:  # both or none
                    connection.execute("INSERT INTO a VALUES (?)", [n])
                    connection.execute("INSERT INTO b VALUES (?)", [n])
                n += 1
                if n == 50:
                    begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait(30)
    try:
        for number in range(5):
            copy_database(path, tmp_path / f"copy{number}.db")
    finally:
        stop.set()
        writer.join()

    for number in range(5):
        with closing(sqlite3.connect(tmp_path / f"copy{number}.db")) as copy:
            counts = copy.execute("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)")
            left, right = counts.fetchone()
        assert left == right >= 50


def test_what_is_only_in_the_wal_is_in_the_copy(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "farm.db")) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE alembic_version (version_num TEXT)")
        writer.execute("INSERT INTO alembic_version VALUES ('0001')")
        writer.commit()

        state = copy_database(tmp_path / "farm.db", tmp_path / "copy.db")

    assert state.revision == "0001"
    assert sorted(each.name for each in tmp_path.glob("copy*")) == ["copy.db"]


def test_a_backup_has_database_blobs_certificate_configuration_and_a_description(
    data: Path, tmp_path: Path
) -> None:
    (data / "tls").mkdir()
    (data / "tls" / "key.pem").write_text("key")
    (data / "tls" / "key.pem").chmod(0o600)
    (data / "local.json").write_text("{}")
    config = tmp_path / "farm.toml"
    config.write_text(TWINS)

    made = back_up(data, tmp_path / "to", config=config, keep=1)

    files = {str(each.relative_to(made.folder)) for each in made.folder.rglob("*")}
    assert files > {"farm.db", "farm.toml", "backup.json", "tls/key.pem"}
    assert "local.json" not in files
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((made.folder / "tls" / "key.pem").stat().st_mode) == 0o600
    described = json.loads((made.folder / "backup.json").read_text())
    assert (described["revision"], described["blobs"], described["new_blobs"]) == (HEAD, 1, 1)
    assert look(made.folder / "farm.db").damage == ""


def test_the_newest_stay_and_older_ones_go(data: Path, tmp_path: Path) -> None:
    names = [f"speckfarm-2020010{day}T000000Z" for day in range(1, 4)]
    for name in names:
        make_older(back_up(data, tmp_path / "to", config=None, keep=9).folder, name)
    (tmp_path / "to" / "speckfarm-notes").mkdir()  # not ours, although it sounds so

    made = back_up(data, tmp_path / "to", config=None, keep=2)

    assert backups(tmp_path / "to") == [tmp_path / "to" / names[-1], made.folder]
    left = {each.name for each in (tmp_path / "to").iterdir()}
    assert left == {".lock", "speckfarm-notes", names[-1], made.folder.name}


def test_blobs_that_the_backup_before_has_take_no_more_room(data: Path, tmp_path: Path) -> None:
    first = back_up(data, tmp_path / "to", config=None, keep=9).folder
    first = make_older(first, "speckfarm-20200101T000000Z")
    new = Blobs(data / "blobs").put(b"more spikes")

    second = back_up(data, tmp_path / "to", config=None, keep=9)

    assert (second.blobs, second.new_blobs) == (2, 1)
    files = sorted((second.folder / "blobs").rglob("?" * 64))
    assert {each.name: each.stat().st_nlink for each in files}[new] == 1
    assert sorted(each.stat().st_nlink for each in files) == [1, 2]
    shutil.rmtree(first)
    assert all(each.read_bytes() in (b"spikes", b"more spikes") for each in files)


def test_a_damaged_blob_is_named_and_costs_no_older_backup(data: Path, tmp_path: Path) -> None:
    make_older(
        back_up(data, tmp_path / "to", config=None, keep=1).folder, "speckfarm-20200101T000000Z"
    )
    digest = Blobs(data / "blobs").put(b"soon damaged")
    Blobs(data / "blobs").path(digest).write_bytes(b"soon DAMAGED")

    error = refusal(data, tmp_path / "to", config=None, keep=1)

    assert error.reason == "BACKUP_DAMAGED"
    assert digest in error.message
    _, new = backups(tmp_path / "to")
    assert json.loads((new / "backup.json").read_text())["damaged_blobs"] == [digest]
    assert not list((new / "blobs").rglob(digest))


def test_a_damaged_database_is_no_backup(data: Path, tmp_path: Path) -> None:
    whole = (data / "farm.db").read_bytes()
    (data / "farm.db").write_bytes(whole[:4096] + b"\xff" * 4096 + whole[8192:])

    error = refusal(data, tmp_path / "to", config=None, keep=1)

    assert error.reason == "BACKUP_FAILED"
    assert backups(tmp_path / "to") == []
    assert [each.name for each in (tmp_path / "to").iterdir()] == [".lock"]


def test_nothing_is_overwritten(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = back_up(data, tmp_path / "to", config=None, keep=9)
    stamp = json.loads((made.folder / "backup.json").read_text())["made_at"]
    before = (made.folder / "farm.db").stat().st_mtime_ns

    class Standing:
        """A clock that shows the second of the first backup."""

        @staticmethod
        def now(_zone: object) -> datetime:
            return datetime.fromisoformat(stamp)

    monkeypatch.setattr("speckfarm_server.backup.datetime", Standing)
    error = refusal(data, tmp_path / "to", config=None, keep=9)

    assert error.reason == "BACKUP_EXISTS"
    assert (made.folder / "farm.db").stat().st_mtime_ns == before


def test_a_second_backup_at_the_same_time_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    with (tmp_path / "to" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        error = refusal(data, tmp_path / "to", config=None, keep=9)

    assert error.reason == "BACKUP_RUNNING"


def test_what_a_killed_backup_left_is_cleared(data: Path, tmp_path: Path) -> None:
    (tmp_path / "to" / ".partial-speckfarm-20200101T000000Z" / "blobs").mkdir(parents=True)

    made = back_up(data, tmp_path / "to", config=None, keep=9)

    assert {each.name for each in (tmp_path / "to").iterdir()} == {".lock", made.folder.name}


@pytest.mark.parametrize(
    ("make", "keep", "reason"),
    [
        (lambda folder: folder.mkdir(), 0, "BACKUP_KEEP_INVALID"),
        (lambda folder: folder.write_text("a file"), 1, "BACKUP_FAILED"),
    ],
)
def test_wrong_requests_are_refused(
    make: Callable[[Path], object], keep: int, reason: str, data: Path, tmp_path: Path
) -> None:
    make(tmp_path / "to")

    assert refusal(data, tmp_path / "to", config=None, keep=keep).reason == reason


def test_a_folder_without_a_farm_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    error = refusal(tmp_path, tmp_path / "to", config=None, keep=1)

    assert error.reason == "BACKUP_NOTHING_THERE"
    assert not (tmp_path / "to").exists()


def test_without_to_backups_lie_in_the_data_folder_and_not_in_each_other(data: Path) -> None:
    command = [sys.executable, "-m", "speckfarm_server", "backup", "--data", str(data)]

    first = subprocess.run(command, capture_output=True, text=True, check=True)
    [backup] = backups(data / "backups")
    make_older(backup, "speckfarm-20200101T000000Z")
    subprocess.run(command, capture_output=True, text=True, check=True)

    assert f"{backup}: database, 1 blobs (1 of them new)" in first.stdout
    assert len(backups(data / "backups")) == 2
    assert not list((data / "backups").glob("speckfarm-*/backups"))
