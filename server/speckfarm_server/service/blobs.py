"""BlobService: bytes in and out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from speckfarm.v1 import blobs_pb2 as pb
from speckfarm.v1 import blobs_pb2_grpc as pb_grpc
from speckfarm_server.blobs import CHUNK_BYTES, Upload
from speckfarm_server.errors import BadInput, NotFound
from speckfarm_server.farm import Farm
from speckfarm_server.service.status import translated
from speckfarm_server.store import queries

Context = grpc.aio.ServicerContext[Any, Any]
MAX_DIGESTS = 1000
WRITE_BYTES = 1024 * 1024  # chunks are gathered to this size for one trip to a thread


@translated
class BlobService(pb_grpc.BlobServiceServicer):
    """Stores and hands out blobs."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._blobs = farm.blobs

    async def FindMissing(
        self, request: pb.FindMissingRequest, context: Context
    ) -> pb.FindMissingResponse:
        """Tell which blobs are not here whole."""
        if len(request.digests) > MAX_DIGESTS:
            text = f"{len(request.digests)} digests were asked for; at most {MAX_DIGESTS} at once"
            raise BadInput("TOO_MANY_DIGESTS", text, found=len(request.digests))
        return pb.FindMissingResponse(
            missing=[
                pb.MissingBlob(digest=digest, committed_size=self._blobs.committed_size(digest))
                for digest in request.digests
                if not self._blobs.has(digest)
            ]
        )

    async def Upload(
        self, request_iterator: AsyncIterator[pb.UploadRequest], context: Context
    ) -> pb.UploadResponse:
        """Store one blob; what arrives before a break is kept."""
        header = await _header(request_iterator)
        limits = self._farm.config.limits
        if self._blobs.has(header.digest):
            return pb.UploadResponse(committed_size=self._blobs.path(header.digest).stat().st_size)
        opening = asyncio.ensure_future(
            asyncio.to_thread(
                self._blobs.upload,
                header.digest,
                size=header.size,
                offset=header.offset,
                max_bytes=max(limits.max_model_bytes, limits.max_recording_bytes),
            )
        )
        try:
            upload = await asyncio.shield(opening)
        except asyncio.CancelledError:  # the client left while what is here was read again
            opening.add_done_callback(_close)
            raise
        with upload:
            await _write_all(upload, request_iterator)
            await asyncio.to_thread(upload.finish)
        return pb.UploadResponse(committed_size=header.size)

    async def Download(
        self, request: pb.DownloadRequest, context: Context
    ) -> AsyncIterator[pb.DownloadResponse]:
        """Stream one blob."""
        if request.offset < 0:
            text = f"offset is {request.offset}; it must not be negative"
            raise BadInput("OFFSET_INVALID", text, found=request.offset)
        small = await self._farm.store.read(queries.small_blob, request.digest)
        if small is not None:
            for start in range(request.offset, len(small), CHUNK_BYTES):
                yield pb.DownloadResponse(chunk=small[start : start + CHUNK_BYTES])
            return
        if not self._blobs.has(request.digest):
            text = f"There is no blob {request.digest}"
            raise NotFound("BLOB_NOT_FOUND", text, digest=request.digest)
        chunks = self._blobs.read(request.digest, request.offset)
        while chunk := await asyncio.to_thread(next, chunks, b""):
            yield pb.DownloadResponse(chunk=chunk)


def _close(opening: asyncio.Future[Upload]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().__exit__()


async def _header(requests: AsyncIterator[pb.UploadRequest]) -> pb.UploadHeader:
    async for request in requests:
        if request.WhichOneof("content") == "header":
            return request.header
        break
    raise BadInput("UPLOAD_HEADER_MISSING", "The first message of an upload must be its header")


async def _write_all(upload: Upload, requests: AsyncIterator[pb.UploadRequest]) -> None:
    waiting: list[bytes] = []
    loop = asyncio.get_running_loop()
    writing: asyncio.Future[None] | None = None  # what came before, while more comes in
    size = 0
    try:
        async for request in requests:
            chunk = request.chunk  # every access copies it
            if len(chunk) > CHUNK_BYTES:
                text = f"A chunk has {len(chunk)} bytes; allowed are {CHUNK_BYTES}"
                raise BadInput("CHUNK_TOO_LARGE", text, found_bytes=len(chunk))
            waiting.append(chunk)
            size += len(chunk)
            if size >= WRITE_BYTES:
                if writing is not None:
                    await asyncio.shield(writing)  # a thread cannot be cancelled
                writing = loop.run_in_executor(None, upload.write, waiting)
                waiting, size = [], 0
    finally:  # also when the client is gone: it can go on from what is here
        if writing is not None:
            await writing
        upload.write(waiting)
