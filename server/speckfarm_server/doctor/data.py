"""The data folder: rights, room, speed, who holds it, and whether the database can be read."""

from __future__ import annotations

import fcntl
import math
import os
import pwd
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from speckfarm_server.doctor.line import Line, note, ok, wrong

GI = 1024**3
LEAST_FREE_BYTES = GI  # one recording may have as much (limits.max_recording_bytes)
FEW_FREE_BYTES = 10 * GI
SLOW_FSYNC_MS = 50.0  # a group of writes waits for two of them; above, jobs visibly do
FSYNCS = 9
_FSYNC_BYTES = 4096
# SQLite's WAL needs memory shared by all who open the database: https://www.sqlite.org/wal.html
NETWORK_FILESYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The data folder, or where it would be made."""

    path: Path
    exists: bool
    owner: str  # of it, or of the nearest folder that exists
    is_writable: bool  # of it, or of the nearest folder that exists
    is_private: bool  # nobody else may look into it
    filesystem: str  # as in /proc/mounts; empty if that cannot be told
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class Database:
    """farm.db."""

    exists: bool
    revision: str | None = None
    damage: str = ""


def user_name(number: int) -> str:
    """Of an OS user."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a user of another machine or container
        return f"uid {number}"


def find_folder(path: Path) -> Folder:
    """Look at the data folder; makes nothing."""
    place = next(each for each in (path, *path.absolute().parents) if os.path.exists(each))
    status = place.stat()
    return Folder(
        path=path,
        exists=path.is_dir(),
        owner=user_name(status.st_uid),
        is_writable=os.access(place, os.R_OK | os.W_OK | os.X_OK),
        is_private=not status.st_mode & 0o077,
        filesystem=filesystem_of(place, Path("/proc/self/mounts")),
        free_bytes=shutil.disk_usage(place).free,
    )


def find_fsync_ms(folder: Path) -> float:
    """Median time of a small durable write; makes a file and removes it. nan if it fails."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix="doctor-") as file:
            return statistics.median(_timed_writes(file.fileno()))
    except OSError:  # no room, a quota, or a disk that is broken
        return math.nan


def find_lock(folder: Path) -> bool:
    """Whether a running server holds the folder.

    Tries a shared lock for a moment; a server that starts in that very moment is refused.
    """
    path = folder / "lock"
    if not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def find_database(folder: Path) -> Database:
    """Open farm.db for reading and let SQLite check it; takes seconds per GiB."""
    from speckfarm_server.store.snapshot import look

    path = folder / "farm.db"
    if not path.is_file():
        return Database(exists=False)
    try:
        state = look(path)
    except sqlite3.Error as error:
        return Database(exists=True, damage=str(error))
    return Database(exists=True, revision=state.revision, damage=state.damage)


def judge_folder(found: Folder, user: str) -> list[Line]:
    """Rights, file system and room of the data folder, for this OS user."""
    if not found.is_writable and found.exists:
        text = f"{found.path} belongs to {found.owner} and {user} may not use it"
        return [wrong("data", text, f"Run this as {found.owner}, or give --data")]
    if not found.is_writable:
        text = f"{found.path} is not there and {user} may not make it"
        return [wrong("data", text, f"Make it for {user}, or give --data")]
    lines = [_judge_rights(found), _judge_room(found)]
    if found.filesystem in NETWORK_FILESYSTEMS:
        text = f"{found.path} lies on {found.filesystem}"
        advice = "SQLite loses data there: use a local disk"
        return [wrong("data", text, advice), lines[1]]
    return lines


def judge_fsync(milliseconds: float) -> Line:
    """Whether the disk is quick enough."""
    if math.isnan(milliseconds):
        advice = "Make room, look at quotas, and at the disk's health in the kernel's log"
        return wrong("fsync", "a file of 36 KiB cannot be written", advice)
    shown = f"a durable write takes {milliseconds:.1f} ms"
    if milliseconds > SLOW_FSYNC_MS:
        return note("fsync", shown, f"Above {SLOW_FSYNC_MS:g} ms jobs wait for it: use an SSD")
    return ok("fsync", shown)


def judge_lock(*, is_held: bool) -> Line:
    """Both are fine; the reader wants to know."""
    return ok("lock", f"{'a' if is_held else 'no'} server runs on this data folder")


def judge_database(found: Database, head: str) -> Line:
    """Whether this version, whose newest migration is `head`, can use the database."""
    if not found.exists:
        return note("database", "not there yet; the first start makes it")
    if found.damage:
        return wrong("database", f"damaged: {found.damage}", "Stop the server, restore a backup")
    if found.revision is None:
        return note("database", "without any tables; the next start makes them")
    if found.revision == head:
        return ok("database", f"sound, schema {head}")
    if found.revision < head:
        text = f"sound, schema {found.revision}; this version's is {head}"
        return note("database", text, "Make a backup; the next start migrates it")
    text = f"schema {found.revision} is of a newer version; this one knows up to {head}"
    return wrong("database", text, "Install that version again, or restore the backup before it")


def _judge_rights(found: Folder) -> Line:
    if not found.exists:
        return note("data", f"{found.path} is not there yet; the first start makes it")
    if not found.is_private:
        text = f"{found.path} can be looked into by other OS users"
        return note("data", text, f"It holds tokens and keys: chmod 700 {found.path}")
    return ok("data", f"{found.path}, of {found.owner}")


def _judge_room(found: Folder) -> Line:
    shown = f"{found.free_bytes / GI:.1f} GiB free"
    if found.free_bytes < LEAST_FREE_BYTES:
        return wrong("disk", shown, "Below 1 GiB the next upload may fail: make room")
    if found.free_bytes < FEW_FREE_BYTES:
        return note("disk", shown, "Nothing is ever removed by itself: make room in time")
    return ok("disk", shown)


def _timed_writes(file: int) -> Iterator[float]:
    for _ in range(FSYNCS):
        begin = time.perf_counter()
        os.write(file, bytes(_FSYNC_BYTES))
        os.fsync(file)
        yield (time.perf_counter() - begin) * 1e3


def filesystem_of(place: Path, mounts: Path) -> str:
    """Type of the longest mount point that `place` lies below."""
    if not mounts.is_file():
        return ""
    fields = [line.split() for line in mounts.read_text().splitlines()]
    real = place.resolve()
    points = [(Path(each[1].replace("\\040", " ")), each[2]) for each in fields]
    below = [(point, kind) for point, kind in points if point == real or point in real.parents]
    # The last of equals is mounted over the others.
    return max(enumerate(below), key=lambda each: (len(each[1][0].parts), each[0]))[1][1]
