"""The channel to one farm, and the calls made on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc

from speckfarm.certificate import fetch_certificate
from speckfarm.errors import FarmUnavailable, Unauthenticated
from speckfarm.profile import certificate_changed, certificate_unknown
from speckfarm.status import farm_errors
from speckfarm.v1.benchmarks_pb2_grpc import BenchmarkServiceStub
from speckfarm.v1.blobs_pb2_grpc import BlobServiceStub
from speckfarm.v1.boards_pb2_grpc import BoardServiceStub
from speckfarm.v1.info_pb2_grpc import InfoServiceStub
from speckfarm.v1.jobs_pb2_grpc import JobServiceStub
from speckfarm.v1.models_pb2_grpc import ModelServiceStub
from speckfarm.v1.recordings_pb2_grpc import RecordingServiceStub
from speckfarm.v1.usage_pb2_grpc import UsageServiceStub

if TYPE_CHECKING:
    from speckfarm.profile import Endpoint

Request = TypeVar("Request")
Response = TypeVar("Response")


class _PagedRequest(Protocol):
    page_size: int
    page_token: str


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


PagedRequest = TypeVar("PagedRequest", bound=_PagedRequest)
Page = TypeVar("Page", bound=_Page)

CALL_TIMEOUT_S = 120.0  # a unary call; a check of the largest model takes seconds
MAX_PAGE_SIZE = 1000
MAX_MESSAGE_BYTES = 64 << 20  # a result with 100,000 recordings; bytes never travel this way


class Connection:
    """One channel, its stubs, and the token sent with every call."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.metadata = (("authorization", f"Bearer {endpoint.token}"),)
        self.channel = open_channel(endpoint)
        self.benchmarks = BenchmarkServiceStub(self.channel)
        self.blobs = BlobServiceStub(self.channel)
        self.boards = BoardServiceStub(self.channel)
        self.info = InfoServiceStub(self.channel)
        self.jobs = JobServiceStub(self.channel)
        self.models = ModelServiceStub(self.channel)
        self.recordings = RecordingServiceStub(self.channel)
        self.usage = UsageServiceStub(self.channel)

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Response:
        """One unary call. Raises the errors of speckfarm.errors, never gRPC's."""
        with self.errors():
            return method(request, timeout=timeout_s, metadata=self.metadata)

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        *,
        timeout_s: float | None = None,
    ) -> Iterator[Response]:
        """One server stream; leaving the iterator ends the call."""
        with self.errors():
            call = method(request, timeout=timeout_s, metadata=self.metadata)
            try:
                yield from call
            finally:
                call.cancel()

    def pages(
        self, method: grpc.UnaryUnaryMultiCallable[PagedRequest, Page], request: PagedRequest
    ) -> Iterator[Page]:
        """Answers of a list call, one for each page."""
        while True:
            request.page_size = min(request.page_size, MAX_PAGE_SIZE)
            page = self.call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translate gRPC errors; a refused TLS handshake is looked into."""
        try:
            with farm_errors(self.endpoint.server):
                yield
        except FarmUnavailable as error:
            self._refuse_changed_certificate(error)
            raise
        except Unauthenticated as error:
            if source := self.endpoint.token_source:
                error.advice = f"{source} is set and comes before a login: correct it or unset it"
            raise

    def close(self) -> None:
        """Close the channel; running calls end."""
        self.channel.close()

    def _refuse_changed_certificate(self, error: FarmUnavailable) -> None:
        # gRPC says only UNAVAILABLE when the pinned certificate does not match, or none is pinned.
        pinned = self.endpoint.certificate
        if error.reason != "UNAVAILABLE":
            return
        try:
            shown = fetch_certificate(self.endpoint.server)
        except FarmUnavailable:
            return
        if pinned is None:
            if shown is not None:
                raise certificate_unknown(self.endpoint.server, found=shown.fingerprint) from None
            return
        found = shown.fingerprint if shown else "none (no TLS)"
        if found != pinned.fingerprint:
            expected = pinned.fingerprint
            raise certificate_changed(
                self.endpoint.server, expected=expected, found=found
            ) from None


def open_channel(endpoint: Endpoint) -> grpc.Channel:
    """A channel that believes the pinned certificate only; plaintext without one."""
    options = list(OPTIONS)
    if endpoint.certificate is None:
        return grpc.insecure_channel(endpoint.server, options)
    options.append(("grpc.ssl_target_name_override", endpoint.certificate.name))
    credentials = grpc.ssl_channel_credentials(endpoint.certificate.pem.encode())
    return grpc.secure_channel(endpoint.server, credentials, options)


_IDEMPOTENT = [
    {"service": f"speckfarm.v1.{name}"}
    for name in (
        # Creates carry a request id or a digest, so a second one is the first one.
        "BenchmarkService", "BoardService", "InfoService", "JobService", "ModelService",
        "RecordingService", "UsageService",
    )
]  # fmt: skip
_BLOB_READS = [
    {"service": "speckfarm.v1.BlobService", "method": method}
    for method in ("FindMissing", "Download")  # uploads are taken up again by upload.py
]
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [*_IDEMPOTENT, *_BLOB_READS],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    ("grpc.enable_http_proxy", 0),  # `login` goes there directly, so do all calls
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A laptop that slept leaves dead connections behind; a ping finds them.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),  # no limit: a watch may be silent for hours
)
