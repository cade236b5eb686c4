"""The server: puts store, farm and services together, listens, and stops in good order."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from speckfarm.v1 import (
    benchmarks_pb2_grpc,
    blobs_pb2_grpc,
    boards_pb2_grpc,
    info_pb2_grpc,
    jobs_pb2_grpc,
    models_pb2_grpc,
    recordings_pb2_grpc,
    usage_pb2_grpc,
)
from speckfarm_server.blobs import Blobs
from speckfarm_server.config import FarmConfig
from speckfarm_server.errors import BadInput, WrongState
from speckfarm_server.farm import Farm
from speckfarm_server.library import Library
from speckfarm_server.parse_host import ParseHost
from speckfarm_server.service.authentication import Authentication
from speckfarm_server.service.benchmarks import BenchmarkService
from speckfarm_server.service.blobs import BlobService
from speckfarm_server.service.boards import BoardService, InfoService
from speckfarm_server.service.jobs import JobService
from speckfarm_server.service.models import ModelService, RecordingService
from speckfarm_server.service.usage import UsageService
from speckfarm_server.store import users
from speckfarm_server.store.store import Store
from speckfarm_server.tls import NAME, Certificate, load_certificate
from speckfarm_server.users import Tokens

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 8 * 1024 * 1024
MAX_ANSWER_BYTES = 64 * 1024 * 1024  # a result with 100,000 recordings; bytes travel in chunks
STOP_GRACE_S = 2.0
LOCAL_USER = "local"
OPTIONS = [
    ("grpc.so_reuseport", 0),  # a second server on the port is refused, not mixed in
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # clients ask every 30 s,
]
# service, what registers it, its name
_SERVICES: tuple[tuple[Callable[[Farm], Any], Callable[[Any, Any], None], str], ...] = (
    (BlobService, blobs_pb2_grpc.add_BlobServiceServicer_to_server, "Blob"),
    (ModelService, models_pb2_grpc.add_ModelServiceServicer_to_server, "Model"),
    (RecordingService, recordings_pb2_grpc.add_RecordingServiceServicer_to_server, "Recording"),
    (JobService, jobs_pb2_grpc.add_JobServiceServicer_to_server, "Job"),
    (BenchmarkService, benchmarks_pb2_grpc.add_BenchmarkServiceServicer_to_server, "Benchmark"),
    (BoardService, boards_pb2_grpc.add_BoardServiceServicer_to_server, "Board"),
    (UsageService, usage_pb2_grpc.add_UsageServiceServicer_to_server, "Usage"),
    (InfoService, info_pb2_grpc.add_InfoServiceServicer_to_server, "Info"),
)


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where a started server can be reached."""

    address: str
    token: str  # of the local user; empty if there are only named users
    certificate: Certificate | None


class Server:
    """One server on one data folder."""

    def __init__(self, config: FarmConfig) -> None:
        self._config = config
        self._folder = config.data_folder
        _make_folder(self._folder)
        self._lock = _lock(self._folder)
        self._store = Store(self._folder / "farm.db")
        self._parser = ParseHost()
        blobs = Blobs(self._folder / "blobs")
        library = Library(
            self._folder / "cache", store=self._store, blobs=blobs, parser=self._parser
        )
        self.farm = Farm(config, store=self._store, blobs=blobs, library=library)
        self._tokens = Tokens(self._store)
        self._grpc: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()

    async def start(self) -> Listening:
        """Listen, then bring the farm up. Raises WrongState ADDRESS_IN_USE."""
        self._grpc = grpc.aio.server(interceptors=[Authentication(self._tokens)], options=OPTIONS)
        generic = _GenericOnly(self._grpc)
        for service, register, _ in _SERVICES:
            register(service(self.farm), generic)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, generic)
        names = [f"speckfarm.v1.{name}Service" for _, _, name in _SERVICES]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], generic)
        address, certificate = self._bind(self._grpc)
        token = await self._local_token(address, certificate)
        await self._tokens.start()
        await self.farm.dispatcher.start()
        await self._grpc.start()
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await asyncio.to_thread(self._parser.start)
        return Listening(address=address, token=token, certificate=certificate)

    async def stop(self) -> None:
        """Stop taking calls, stop the boards, commit what waits. Jobs stay as stored."""
        self.farm.is_stopping = True
        await self._health.enter_graceful_shutdown()
        if self._grpc is not None:
            await self._grpc.stop(STOP_GRACE_S)
        await self.farm.dispatcher.stop()
        await self._tokens.stop()
        await asyncio.to_thread(self._parser.close)
        await asyncio.to_thread(self._store.close)
        self._lock.close()

    def _bind(self, server: grpc.aio.Server) -> tuple[str, Certificate | None]:
        host, _ = self._config.address
        certificate = None
        if self._config.uses_tls:
            certificate = load_certificate(self._config.tls, self._folder / "tls")
        try:
            if certificate is None:
                bound = server.add_insecure_port(self._config.listen)
            else:
                pair = (certificate.key, certificate.certificate)
                bound = server.add_secure_port(
                    self._config.listen, grpc.ssl_server_credentials([pair])
                )
        except RuntimeError as error:
            text = f"{self._config.listen} cannot be listened on; is another server running there?"
            raise WrongState("ADDRESS_IN_USE", text, listen=self._config.listen) from error
        return f"{host}:{bound}", certificate

    async def _local_token(self, address: str, certificate: Certificate | None) -> str:
        """Give the OS user who runs the server a token that the CLI finds by itself."""
        path = self._folder / "local.json"
        owners = await self._store.read(users.token_owners)
        token = json.loads(path.read_text())["token"] if path.exists() else ""
        if owners.get(users.digest_of(token)) != (LOCAL_USER, True):  # none, or it was revoked
            token = await self._store.write(_new_local_token)
        local = {
            "server": address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]"),
            "token": token,
            "certificate": None if certificate is None else certificate.certificate.decode(),
            "name": None if certificate is None else NAME,
        }
        _write_private(path, json.dumps(local))
        return token


class _GenericOnly:
    """Takes the handlers that generated code adds, by name only.

    grpc.aio waits for each registered method with a future of its own, for all of them anew at
    every call; see docs/decisions/0008.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Pass them on."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, _service: str, _handlers: object) -> None:
        """The generic handlers know these methods too."""


async def serve(config: FarmConfig) -> None:
    """Run until SIGTERM or SIGINT."""
    server = Server(config)
    listening = await server.start()
    _announce(config, listening)
    gc.freeze()  # imported modules: looked through for nothing at every full collection
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    logger.info("stopping")
    await server.stop()


def _announce(config: FarmConfig, listening: Listening) -> None:
    boards = ", ".join(f"{b.id} ({b.kind} {b.chip})" for b in config.boards)
    logger.info("listening on %s with boards %s", listening.address, boards)
    logger.info("data in %s", config.data_folder)
    if listening.certificate is not None:
        logger.info("certificate fingerprint (SHA-256) %s", listening.certificate.fingerprint)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        text = f"The data folder {folder} cannot be made: {error.strerror}; give another --data"
        raise BadInput("DATA_FOLDER_UNUSABLE", text, folder=folder) from error


def _new_local_token(connection: Any) -> str:
    known = {user.name for user in users.list_users(connection) if user.revoked_us is None}
    if LOCAL_USER in known:
        return users.issue_token(connection, LOCAL_USER)
    return users.add_user(connection, LOCAL_USER)


def _write_private(path: Path, text: str) -> None:
    scratch = path.with_suffix(".new")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(scratch, path)


def _lock(folder: Path) -> IO[str]:
    """Hold the data folder; WrongState DATA_FOLDER_IN_USE if another server does."""
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        text = f"Another server uses the data folder {folder}; stop it, or give another --data"
        raise WrongState("DATA_FOLDER_IN_USE", text, folder=folder) from error
    return file
