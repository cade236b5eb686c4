"""Uploads that break off, lie, collide or are too large; and downloads. Real gRPC throughout."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import speckfarm
from speckfarm.connection import Connection
from speckfarm.upload import bytes_source, download, send_missing
from speckfarm.v1 import blobs_pb2
from tests.farm_follow import faults, raw_calls
from tests.farm_process import TWINS, FarmProcess

CHUNK = 256 * 1024
LIMITS = "[limits]\nmax_model_bytes = 1000000\nmax_recording_bytes = 9000000\n"
SECONDS = 30


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    """A server that takes 9 MB."""
    process = FarmProcess(tmp_path_factory.mktemp("small") / "data", LIMITS + TWINS).start()
    yield process
    process.stop()


@pytest.fixture
def calls(small: FarmProcess) -> Iterator[Connection]:
    with raw_calls(small) as connection:
        yield connection


@pytest.fixture
def content() -> bytes:
    """8 MB that no other test has sent."""
    return random.Random().randbytes(8_000_000)


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def header(content: bytes, **changed: object) -> blobs_pb2.UploadRequest:
    fields = {"digest": digest_of(content), "size": len(content), **changed}
    return blobs_pb2.UploadRequest(header=blobs_pb2.UploadHeader(**fields))  # type: ignore[arg-type]


def chunks(content: bytes, size: int = CHUNK) -> Iterator[blobs_pb2.UploadRequest]:
    for start in range(0, len(content), size):
        yield blobs_pb2.UploadRequest(chunk=content[start : start + size])


def upload(calls: Connection, messages: Iterable[blobs_pb2.UploadRequest]) -> int:
    with calls.errors():
        answer = calls.blobs.Upload(iter(messages), metadata=calls.metadata, timeout=SECONDS)
        return answer.committed_size


def committed(calls: Connection, content: bytes) -> int | None:
    """Bytes of a broken upload; None if the blob is whole."""
    request = blobs_pb2.FindMissingRequest(digests=[digest_of(content)])
    missing = calls.call(calls.blobs.FindMissing, request).missing
    return missing[0].committed_size if missing else None


def break_off(small: FarmProcess, calls: Connection, content: bytes) -> int:
    """Send 5 MB, vanish, and return how much the server kept of it."""
    is_over = threading.Event()

    def messages() -> Iterator[blobs_pb2.UploadRequest]:
        yield header(content)
        yield from chunks(content[:5_000_000])
        is_over.wait(SECONDS)

    partial = small.data / "blobs" / "partial" / digest_of(content)
    call = calls.blobs.Upload.future(messages(), metadata=calls.metadata)
    until(lambda: partial.exists() and partial.stat().st_size > 4_000_000)
    call.cancel()
    is_over.set()
    until(lambda: committed(calls, content) != 0)  # 0 as long as the server thinks it goes on
    kept = committed(calls, content)
    assert kept is not None
    assert 4_000_000 < kept <= 5_000_000
    return kept


def until(is_so: Callable[[], bool]) -> None:
    """Look until something is so."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline


def test_a_broken_upload_goes_on_from_where_it_broke(
    small: FarmProcess, calls: Connection, content: bytes
) -> None:
    kept = break_off(small, calls, content)

    offset = upload(calls, [header(content, offset=kept), *chunks(content[kept:])])

    assert offset == len(content)
    assert committed(calls, content) is None
    assert download(calls, digest_of(content)) == content


def test_the_client_resumes_a_broken_upload_by_itself(
    small: FarmProcess, calls: Connection, content: bytes
) -> None:
    break_off(small, calls, content)

    send_missing(calls, [bytes_source(content, "content")])

    assert download(calls, digest_of(content)) == content


def test_an_upload_may_begin_again_before_where_it_broke(
    small: FarmProcess, calls: Connection, content: bytes
) -> None:
    break_off(small, calls, content)

    upload(calls, [header(content, offset=1000), *chunks(content[1000:])])

    assert download(calls, digest_of(content)) == content


def test_an_upload_that_skips_bytes_is_refused_and_told_where_to_go_on(
    small: FarmProcess, calls: Connection, content: bytes
) -> None:
    kept = break_off(small, calls, content)

    with pytest.raises(speckfarm.BadRequest) as caught:
        upload(calls, [header(content, offset=kept + 1), *chunks(content[kept + 1 :])])

    assert caught.value.reason == "UPLOAD_OFFSET_WRONG"
    assert caught.value.metadata["allowed"] == str(kept)
    assert committed(calls, content) == kept


def test_an_upload_that_ends_early_is_refused_and_kept(calls: Connection, content: bytes) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        upload(calls, [header(content), *chunks(content[:3_000_000])])

    assert caught.value.reason == "UPLOAD_INCOMPLETE"
    assert committed(calls, content) == 3_000_000


@pytest.mark.parametrize(
    "change",
    [lambda c: c[:-1] + bytes([c[-1] ^ 1]), lambda c: c + b"more", lambda c: bytes(len(c))],
)
def test_bytes_with_another_digest_are_refused_and_not_kept(
    calls: Connection, content: bytes, change: object
) -> None:
    sent = change(content)  # type: ignore[operator]

    with pytest.raises(speckfarm.BadRequest) as caught:
        upload(calls, [header(content), *chunks(sent)])

    assert caught.value.reason == "DIGEST_MISMATCH"
    assert committed(calls, content) == 0
    upload(calls, [header(content), *chunks(content)])
    assert download(calls, digest_of(content)) == content


def test_an_upload_resumed_with_other_bytes_is_refused_and_not_kept(
    small: FarmProcess, calls: Connection, content: bytes
) -> None:
    kept = break_off(small, calls, content)

    with pytest.raises(speckfarm.BadRequest) as caught:
        upload(calls, [header(content, offset=kept), *chunks(bytes(len(content) - kept))])

    assert caught.value.reason == "DIGEST_MISMATCH"
    assert committed(calls, content) == 0


def test_two_clients_may_send_the_same_bytes_at_once(small: FarmProcess, content: bytes) -> None:
    both = threading.Barrier(4)

    def send(_: int) -> int:
        def messages() -> Iterator[blobs_pb2.UploadRequest]:
            yield header(content)
            for number, chunk in enumerate(chunks(content)):
                if number == 8:
                    both.wait(SECONDS)  # all are in the middle of it
                yield chunk

        with raw_calls(small) as calls:
            return upload(calls, messages())

    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(send, range(4)))

    assert sizes == [len(content)] * 4
    with raw_calls(small) as calls:
        assert committed(calls, content) is None
        assert download(calls, digest_of(content)) == content
    assert list((small.data / "blobs" / "partial").glob(f"{digest_of(content)}*")) == []


def test_bytes_that_are_here_need_not_be_sent_again(calls: Connection, content: bytes) -> None:
    upload(calls, [header(content), *chunks(content)])

    assert upload(calls, [header(content)]) == len(content)


@pytest.mark.parametrize("size", [9_000_001, 2**62, -1])
def test_an_upload_over_the_limit_is_refused_before_a_byte_is_sent(
    calls: Connection, content: bytes, size: int
) -> None:
    with pytest.raises(speckfarm.Exhausted) as caught:
        upload(calls, [header(content, size=size)])

    assert caught.value.reason == "UPLOAD_TOO_LARGE"
    assert caught.value.metadata["allowed_bytes"] == "9000000"


def test_a_chunk_over_256_kib_is_refused(calls: Connection, content: bytes) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        upload(calls, [header(content), *chunks(content, CHUNK + 1)])

    assert caught.value.reason == "CHUNK_TOO_LARGE"
    assert caught.value.metadata["found_bytes"] == str(CHUNK + 1)


def test_a_message_that_grpc_itself_finds_too_large_is_refused(
    calls: Connection, content: bytes
) -> None:
    with pytest.raises(speckfarm.Exhausted) as caught:
        upload(calls, [header(content), *chunks(content * 2, 16_000_000)])

    assert caught.value.reason == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("number", [0, 1])
def test_an_upload_without_a_header_is_refused(
    calls: Connection, content: bytes, number: int
) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        upload(calls, [*chunks(content)][:number])

    assert caught.value.reason == "UPLOAD_HEADER_MISSING"


@pytest.mark.parametrize("digest", ["", "x", "../../farm.db", "A" * 64, "g" * 64, "0" * 63])
def test_a_digest_that_is_none_is_refused_everywhere(calls: Connection, digest: str) -> None:
    find = blobs_pb2.FindMissingRequest(digests=[digest])
    fetch = blobs_pb2.DownloadRequest(digest=digest)

    with pytest.raises(speckfarm.BadRequest) as found:
        calls.call(calls.blobs.FindMissing, find)
    with pytest.raises(speckfarm.BadRequest) as uploaded:
        upload(calls, [header(b"x", digest=digest)])
    with pytest.raises(speckfarm.BadRequest) as fetched:
        list(calls.stream(calls.blobs.Download, fetch))

    reasons = {found.value.reason, uploaded.value.reason, fetched.value.reason}
    assert reasons == {"INVALID_DIGEST"}


def test_a_blob_that_is_not_here_is_not_found(calls: Connection) -> None:
    with pytest.raises(speckfarm.NotFound) as caught:
        download(calls, "0" * 64)

    assert caught.value.reason == "BLOB_NOT_FOUND"


@pytest.mark.parametrize(("offset", "size"), [(0, 300_000), (299_999, 1), (300_000, 0), (2**60, 0)])
def test_a_download_begins_where_it_is_asked_to(
    calls: Connection, content: bytes, offset: int, size: int
) -> None:
    upload(calls, [header(content[:300_000]), *chunks(content[:300_000])])
    request = blobs_pb2.DownloadRequest(digest=digest_of(content[:300_000]), offset=offset)

    pieces = [piece.chunk for piece in calls.stream(calls.blobs.Download, request)]

    assert b"".join(pieces) == content[offset : offset + size]
    assert max(map(len, pieces), default=0) <= CHUNK


def test_a_download_from_before_the_start_is_refused(calls: Connection) -> None:
    request = blobs_pb2.DownloadRequest(digest="0" * 64, offset=-1)

    with pytest.raises(speckfarm.BadRequest) as caught:
        list(calls.stream(calls.blobs.Download, request))

    assert caught.value.reason == "OFFSET_INVALID"


def test_after_all_that_the_server_logged_no_fault(small: FarmProcess) -> None:
    assert faults(small) == []
