"""Bytes to the farm and back: hashed, sent only if missing, taken up again where they broke."""

from __future__ import annotations

import hashlib
import io
import logging
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from speckfarm.errors import BadRequest, FarmUnavailable, SpeckfarmError, about
from speckfarm.patience import Patience
from speckfarm.v1 import blobs_pb2

if TYPE_CHECKING:
    from speckfarm.connection import Connection

CHUNK_BYTES = 256 * 1024
NOTABLE_BYTES = 4 << 20  # an upload that somebody may wonder about
FIND_AT_ONCE = 1000  # digests in one FindMissing
PATIENCE_S = 60.0  # without any progress; a server restarts in seconds


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Bytes on this machine, by digest."""

    name: str
    digest: str  # SHA-256 in lower-case hex
    size: int  # bytes
    open: Callable[[], BinaryIO]


def file_source(path: Path) -> Source:
    """A file, hashed without being held in memory. Raises BadRequest FILE_UNREADABLE."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a directory has its own error
            raise OSError("it is a device, a pipe or a socket, and no regular file")
        with path.open("rb") as file:
            digest, size = _hash(file)
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror or error}"
        raise BadRequest("FILE_UNREADABLE", text, metadata={"path": str(path)}) from None
    return Source(name=path.name, digest=digest, size=size, open=lambda: path.open("rb"))


def bytes_source(content: bytes, name: str) -> Source:
    """Bytes in memory."""
    digest, size = _hash(io.BytesIO(content))
    return Source(name=name, digest=digest, size=size, open=lambda: io.BytesIO(content))


def send_missing(connection: Connection, sources: Sequence[Source]) -> None:
    """Upload those sources that the farm does not have; all are there when this returns."""
    by_digest = {source.digest: source for source in sources}
    digests = list(by_digest)
    for start in range(0, len(digests), FIND_AT_ONCE):
        for digest, committed in _missing(connection, digests[start : start + FIND_AT_ONCE]):
            with about(by_digest[digest].name):
                _send(connection, by_digest[digest], committed)


def download(connection: Connection, digest: str) -> bytes:
    """A whole blob, checked against its digest; a broken download goes on where it broke."""
    content, patience = bytearray(), Patience(PATIENCE_S)
    while True:
        request = blobs_pb2.DownloadRequest(digest=digest, offset=len(content))
        try:
            for piece in connection.stream(connection.blobs.Download, request):
                content += piece.chunk
                patience.renew()
            break
        except FarmUnavailable as error:
            patience.pause(error)
    if hashlib.sha256(content).hexdigest() != digest:
        text = f"Blob {digest[:12]} arrived damaged ({len(content)} bytes); try again"
        raise FarmUnavailable("DIGEST_MISMATCH", text, metadata={"digest": digest})
    return bytes(content)


def _missing(connection: Connection, digests: Sequence[str]) -> list[tuple[str, int]]:
    request = blobs_pb2.FindMissingRequest(digests=digests)
    answer = connection.call(connection.blobs.FindMissing, request)
    return [(blob.digest, blob.committed_size) for blob in answer.missing]


def _send(connection: Connection, source: Source, offset: int) -> None:
    level = logging.INFO if source.size > NOTABLE_BYTES else logging.DEBUG
    logger.log(level, "uploading %s, %.1f MB", source.name, (source.size - offset) / 1e6)
    patience, is_broken, told = Patience(PATIENCE_S), False, ""
    while True:
        try:
            if is_broken:
                missing = _missing(connection, [source.digest])
                if not missing:
                    return  # the last byte arrived, its confirmation did not
                if missing[0][1] > offset:
                    patience.renew()
                offset = missing[0][1]
            _send_from(connection, source, offset)
            return
        except SpeckfarmError as error:
            if not _is_passing(error):
                raise
            if error.message != told:  # once, not at every try
                logger.info("upload of %s broke (%s); still trying", source.name, error.message)
                told = error.message
            is_broken = True
            patience.pause(error)


def _send_from(connection: Connection, source: Source, offset: int) -> None:
    messages = _messages(source, offset)
    with connection.errors():
        connection.blobs.Upload(messages, metadata=connection.metadata)


def _messages(source: Source, offset: int) -> Iterator[blobs_pb2.UploadRequest]:
    header = blobs_pb2.UploadHeader(digest=source.digest, size=source.size, offset=offset)
    yield blobs_pb2.UploadRequest(header=header)
    with source.open() as file:
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES):
            yield blobs_pb2.UploadRequest(chunk=chunk)


def _is_passing(error: SpeckfarmError) -> bool:
    # UPLOAD_OFFSET_WRONG: what was there has been lost meanwhile; ask again.
    return isinstance(error, FarmUnavailable) or error.reason == "UPLOAD_OFFSET_WRONG"


def _hash(file: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
