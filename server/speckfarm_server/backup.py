"""Backups of a data folder while its server runs: database, blobs, certificate, farm.toml.

Each is a folder of its own that can be put in the place of a data folder. The database goes first:
blobs are only ever added, so every blob that the copied database names is there to be copied.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from speckfarm_server.errors import BadInput, WrongState
from speckfarm_server.store.snapshot import copy_database

logger = logging.getLogger(__name__)

DESCRIPTION = "backup.json"  # the last file that a backup gets
_NAME = re.compile(r"speckfarm-\d{8}T\d{6}Z")
_BLOB = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Backup:
    """What was made; everything but the folder stands in its backup.json."""

    folder: Path
    speckfarm: str  # version that made it
    made_at: str  # UTC, ISO 8601
    revision: str | None  # of the database
    blobs: int  # all that the backup has
    new_blobs: int  # copied now; the others are hard links into the backup before
    damaged_blobs: tuple[str, ...] = ()  # digests left out, because their bytes do not fit


def back_up(data: Path, target: Path, *, config: Path | None, keep: int) -> Backup:
    """Make a new backup in a folder of its own below `target`, then remove all but the newest.

    `config` is farm.toml. Nothing is overwritten, and nothing removed unless the new backup is
    whole. Raises BadInput BACKUP_NOTHING_THERE, BACKUP_KEEP_INVALID; WrongState BACKUP_RUNNING,
    BACKUP_EXISTS, BACKUP_FAILED, and BACKUP_DAMAGED for one that is there but not whole.
    """
    if keep < 1:
        raise BadInput("BACKUP_KEEP_INVALID", f"--keep is {keep}; it must be 1 or more", found=keep)
    if not (data / "farm.db").is_file():
        text = f"{data} has no farm.db, so there is nothing to back up; give the server's --data"
        raise BadInput("BACKUP_NOTHING_THERE", text, folder=data)
    try:
        with _held(target):
            backup = _make(data, target, config)
            if not backup.damaged_blobs:
                _remove_old(target, keep)
    except (OSError, sqlite3.Error) as error:
        text = f"The backup in {target} failed, and nothing was removed: {error}"
        raise WrongState("BACKUP_FAILED", text, folder=target) from error
    if backup.damaged_blobs:
        raise _damaged(backup)
    return backup


def backups(target: Path) -> list[Path]:
    """All whole backups in a folder, oldest first."""
    found = (each for each in target.iterdir() if _NAME.fullmatch(each.name))
    return sorted(each for each in found if (each / DESCRIPTION).is_file())


@contextmanager
def _held(target: Path) -> Iterator[None]:
    """Make the folder and hold it against a second backup; clear what a killed one left."""
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (target / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = f"Another backup is being made in {target}; wait until it is done"
            raise WrongState("BACKUP_RUNNING", text, folder=target) from error
        for left in target.glob(".partial-*"):
            shutil.rmtree(left)
        yield


def _make(data: Path, target: Path, config: Path | None) -> Backup:
    now = datetime.now(timezone.utc)
    folder = target / f"speckfarm-{now:%Y%m%dT%H%M%SZ}"
    if folder.exists():
        text = f"{folder} is there already, and a backup is never overwritten; try again"
        raise WrongState("BACKUP_EXISTS", text, folder=folder)
    partial = target / f".partial-{folder.name}"
    partial.mkdir(mode=0o700)
    try:
        backup = _fill(partial, data, config, before=_newest(target), now=now)
        os.rename(partial, folder)
        _sync(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Backup(**{**vars(backup), "folder": folder})


def _newest(target: Path) -> Path | None:
    found = backups(target)
    return found[-1] if found else None


def _fill(
    folder: Path, data: Path, config: Path | None, *, before: Path | None, now: datetime
) -> Backup:
    state = copy_database(data / "farm.db", folder / "farm.db")
    if state.damage:
        raise sqlite3.DatabaseError(f"farm.db is damaged: {state.damage}; restore a backup")
    copied, linked, damaged = _copy_blobs(data, folder, before)
    if (data / "tls").is_dir():
        shutil.copytree(data / "tls", folder / "tls")
    if config is not None:
        shutil.copyfile(config, folder / "farm.toml")
    backup = Backup(
        folder=folder,
        speckfarm=version("speckfarm"),
        made_at=now.isoformat(timespec="seconds"),
        revision=state.revision,
        blobs=copied + linked,
        new_blobs=copied,
        damaged_blobs=tuple(damaged),
    )
    plain = {name: value for name, value in asdict(backup).items() if name != "folder"}
    (folder / DESCRIPTION).write_text(json.dumps(plain, indent=2) + "\n")
    for path in [*folder.iterdir(), *(folder / "tls").glob("*"), folder]:
        _sync(path)
    return backup


def _copy_blobs(data: Path, folder: Path, before: Path | None) -> tuple[int, int, list[str]]:
    """Copy or link every blob; how many were copied, how many linked, which are damaged."""
    copied, linked, damaged = 0, 0, list[str]()
    (folder / "blobs" / "complete").mkdir(parents=True)
    for blob in sorted((data / "blobs" / "complete").glob("??/*")):
        if not _BLOB.fullmatch(blob.name):
            continue
        place = Path("blobs", "complete", blob.parent.name, blob.name)
        (folder / place.parent).mkdir(exist_ok=True)
        if before is not None and _link(before / place, folder / place, blob.stat().st_size):
            linked += 1
        elif _copy(blob, folder / place) == blob.name:
            copied += 1
        else:
            (folder / place).unlink()
            damaged.append(blob.name)
    for each, _, _ in os.walk(folder / "blobs"):
        _sync(Path(each))
    return copied, linked, damaged


def _link(old: Path, new: Path, size: int) -> bool:
    """Share an unchanging file with the backup before; False if it is not there or cannot be."""
    try:
        if old.stat().st_size != size:
            return False
        os.link(old, new)
    except OSError:  # not there, another disk, or a file system without hard links
        return False
    return True


def _copy(source: Path, target: Path) -> str:
    """Copy durably; the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as old, target.open("xb") as new:
        while chunk := old.read(_CHUNK_BYTES):
            digest.update(chunk)
            new.write(chunk)
        new.flush()
        os.fsync(new.fileno())
    return digest.hexdigest()


def _remove_old(target: Path, keep: int) -> None:
    for old in backups(target)[:-keep]:
        shutil.rmtree(old.rename(target / f".partial-{old.name}"))  # never half of one by its name
        logger.info("removed %s", old)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(backup: Backup) -> WrongState:
    named = ", ".join(backup.damaged_blobs[:3])
    text = (
        f"{len(backup.damaged_blobs)} blobs no longer have the bytes of their names and are not in "
        f"{backup.folder}: {named}. Older backups were kept: copy these blobs from there, or "
        "upload them again"
    )
    return WrongState("BACKUP_DAMAGED", text, damaged=len(backup.damaged_blobs))
