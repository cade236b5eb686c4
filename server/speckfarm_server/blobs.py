"""Blobs: files named by the SHA-256 of their bytes, and uploads that can go on after a break."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from speckfarm_server.errors import BadInput, Exhausted, NotFound

CHUNK_BYTES = 256 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """A folder of blobs. `complete` ones are durable; `partial` ones are what broke off."""

    def __init__(self, folder: Path) -> None:
        self._complete = folder / "complete"
        self._partial = folder / "partial"
        self._lock = threading.Lock()
        self._open: set[Path] = set()  # partial files that an upload is writing now
        self._complete.mkdir(parents=True, exist_ok=True)
        self._partial.mkdir(parents=True, exist_ok=True)

    def has(self, digest: str) -> bool:
        """Whether the blob is here, whole. Raises BadInput INVALID_DIGEST."""
        return self._path(digest).is_file()

    def committed_size(self, digest: str) -> int:
        """Bytes that a broken upload left, 0 if none (or if somebody is going on with it now)."""
        partial = self._partial_path(digest)
        if partial in self._open or not partial.is_file():
            return 0
        return partial.stat().st_size

    def path(self, digest: str) -> Path:
        """Where a whole blob lies. Raises NotFound BLOB_NOT_FOUND."""
        path = self._path(digest)
        if not path.is_file():
            raise NotFound("BLOB_NOT_FOUND", f"There is no blob {digest}", digest=digest)
        return path

    def upload(self, digest: str, *, size: int, offset: int, max_bytes: int) -> Upload:
        """Begin or go on with an upload.

        Raises Exhausted UPLOAD_TOO_LARGE, BadInput UPLOAD_OFFSET_WRONG or INVALID_DIGEST.
        """
        if not 0 <= size <= max_bytes:  # an empty one is the parser's to refuse, in its words
            message = f"The blob has {size} bytes; allowed are 0 to {max_bytes}"
            raise Exhausted("UPLOAD_TOO_LARGE", message, found_bytes=size, allowed_bytes=max_bytes)
        committed = self.committed_size(digest)
        if not 0 <= offset <= committed:
            message = f"Upload starts at byte {offset}, but {committed} bytes are here; go on there"
            raise BadInput("UPLOAD_OFFSET_WRONG", message, found=offset, allowed=committed)
        partial = self._partial_path(digest)
        with self._lock:
            if partial in self._open:  # two clients, one blob: the second writes beside the first
                partial = partial.with_suffix(f".{secrets.token_hex(4)}")
            self._open.add(partial)
        return Upload(self, partial, self._path(digest), size=size, offset=offset)

    def put(self, data: bytes) -> str:
        """Store bytes durably; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            upload = self.upload(digest, size=len(data), offset=0, max_bytes=len(data))
            with upload:
                upload.write([data])
                upload.finish()
        return digest

    def read(self, digest: str, offset: int) -> Iterator[bytes]:
        """Yield a blob from `offset` on in chunks; nothing if it is beyond the end."""
        path = self.path(digest)
        with path.open("rb") as file:
            file.seek(min(offset, path.stat().st_size))
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def released(self, partial: Path) -> None:
        """An upload ended; what it leaves can be gone on with, unless it was written beside."""
        self._open.discard(partial)
        if partial.suffix:
            partial.unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._complete / _checked(digest)[:2] / digest

    def _partial_path(self, digest: str) -> Path:
        return self._partial / _checked(digest)


class Upload:
    """One upload under way; use as a context manager. Blocking: call it off the event loop."""

    def __init__(
        self, blobs: Blobs, partial: Path, target: Path, *, size: int, offset: int
    ) -> None:
        self._blobs = blobs
        self._partial = partial
        self._target = target
        self._size = size
        self._sha = hashlib.sha256()
        self._file: IO[bytes] = partial.open("r+b" if partial.exists() else "w+b")
        self._hash_first(offset)

    @property
    def written(self) -> int:
        """Bytes that are here."""
        return self._file.tell()

    def write(self, chunks: Sequence[bytes]) -> None:
        """Append bytes. Raises BadInput DIGEST_MISMATCH if they are more than announced."""
        if self.written + sum(map(len, chunks)) > self._size:
            raise self._mismatch(f"more than the announced {self._size} bytes arrived")
        for chunk in chunks:
            self._sha.update(chunk)
            self._file.write(chunk)

    def finish(self) -> None:
        """Make the blob whole and durable. Raises BadInput DIGEST_MISMATCH, UPLOAD_INCOMPLETE."""
        if self.written != self._size:
            message = (
                f"The upload ended after {self.written} of {self._size} bytes; go on from there"
            )
            raise BadInput(
                "UPLOAD_INCOMPLETE", message, found_bytes=self.written, wanted_bytes=self._size
            )
        if self._sha.hexdigest() != self._target.name:
            raise self._mismatch(f"the bytes have digest {self._sha.hexdigest()}")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._target.parent.mkdir(exist_ok=True)
        os.replace(self._partial, self._target)
        _sync_folder(self._target.parent)

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._blobs.released(self._partial)

    def _hash_first(self, offset: int) -> None:
        left = offset
        while left and (chunk := self._file.read(min(left, CHUNK_BYTES))):
            self._sha.update(chunk)
            left -= len(chunk)
        self._file.truncate()

    def _mismatch(self, found: str) -> BadInput:
        self._partial.unlink(missing_ok=True)
        message = f"The upload was announced as {self._target.name}, but {found}; upload it again"
        return BadInput("DIGEST_MISMATCH", message, announced=self._target.name)


def _checked(digest: str) -> str:
    if _DIGEST.fullmatch(digest):
        return digest
    message = f"{digest[:80]!r} is no digest; SHA-256 in 64 lower-case hex digits is wanted"
    raise BadInput("INVALID_DIGEST", message, found=digest[:80])


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
