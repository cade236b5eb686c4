"""Parses untrusted files in helper processes that can be killed: the server's side.

The server hands an open upload and an empty temporary file to `parse_child`, which forks for each
file: one that hangs, eats memory or crashes the HDF5 library costs nothing but that fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, TypeVar, cast

from speckfarm_server import configuration, network
from speckfarm_server.errors import BadInput, Finding, Severity, Unavailable
from speckfarm_server.parse_limits import CONFIGURATION, LIMITS, MESSAGE_BYTES, MODEL, RECORDING
from speckfarm_server.parsed import Parsed
from speckfarm_server.recordings import Recordings, from_open_file

PROCESSES = 2  # models parsed at once
GRACE_S = 5.0  # beyond its limit for a helper to report; one that stays silent is replaced
MAX_NAME_LENGTH = 255  # of a file, as file systems have it

_START = "import sys; from speckfarm_server.parse_child import main; main(int(sys.argv[1]))"
_DAMAGED = (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, OverflowError)
Answer = TypeVar("Answer")
_log = logging.getLogger(__name__)


class ParseHost:
    """Parses files in child processes. Owned by the server; call `close` at the end.

    Models, which people wait for, have their own processes: no recording holds them up.
    """

    def __init__(self, *, processes: int = PROCESSES, time_limit_s: float | None = None) -> None:
        self._models = _Pool(MODEL, processes, time_limit_s)
        self._recordings = _Pool(RECORDING, 1, time_limit_s)

    async def parse_model(self, path: Path) -> Parsed:
        """Parse a NIR file or a vendor's configuration.

        Raises BadInput (what `parse_network` and `read_vendor_json` raise, PARSE_LIMIT_EXCEEDED,
        PARSE_CRASHED), OSError if the file cannot be opened, Unavailable after `close`.
        """
        return await self._models.run(path, "", _decode_parsed)

    async def parse_recording(self, path: Path, name: str) -> Recordings:
        """Parse a recording file; its arrays are read-only and mapped from a temporary file.

        Raises BadInput (what `read_recordings` raises, PARSE_LIMIT_EXCEEDED, PARSE_CRASHED),
        OSError if the file cannot be opened, Unavailable after `close`.
        """
        return await self._recordings.run(path, name[-MAX_NAME_LENGTH:], _decode_recordings)

    def start(self) -> None:
        """Start the processes for models now, so that the first file need not wait for them."""
        for helper in self._models.helpers:
            helper.start()

    def process_ids(self) -> tuple[int, ...]:
        """Ids of the processes that run."""
        helpers = (*self._models.helpers, *self._recordings.helpers)
        return tuple(helper.process.pid for helper in helpers if helper.process)

    def close(self) -> None:
        """Stop the processes; files that are being parsed or wait for it end as Unavailable."""
        self._models.close()
        self._recordings.close()


class _Pool:
    """Helper processes for one kind of file, and as many threads that talk to them.

    The threads are its own: files that wait for their turn hold up nobody else's work.
    """

    def __init__(self, kind: str, processes: int, time_limit_s: float | None) -> None:
        self.helpers = tuple(_Helper(kind, time_limit_s) for _ in range(processes))
        self._idle: SimpleQueue[_Helper] = SimpleQueue()
        for helper in self.helpers:
            self._idle.put(helper)
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix=f"parse-{kind}")
        self._is_closed = False

    async def run(self, path: Path, name: str, decode: Callable[[BinaryIO], Answer]) -> Answer:
        """Parse a file in its turn."""
        if self._is_closed:
            raise _stopping()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._parse, path, name, decode)

    def close(self) -> None:
        """Stop the processes and the threads."""
        self._is_closed = True
        for helper in self.helpers:
            helper.close()
        self._threads.shutdown()

    def _parse(self, path: Path, name: str, decode: Callable[[BinaryIO], Answer]) -> Answer:
        helper = self._idle.get()  # at once: there are as many helpers as threads
        try:
            answer = helper.run(path, name)
        finally:
            self._idle.put(helper)
        try:
            with answer:
                return decode(answer)
        except _DAMAGED as error:
            raise _crashed(f"its answer was damaged ({error})") from error


class _Helper:
    """One helper process and the socket to it; one request at a time."""

    def __init__(self, kind: str, time_limit_s: float | None) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._kind = kind
        self._time_limit_s = time_limit_s or LIMITS[kind].time_s
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self) -> None:
        """Start the process unless it runs."""
        with self._lock:
            self._connect()

    def run(self, path: Path, name: str) -> BinaryIO:
        """Parse a file; returns the answer, a temporary file at its beginning."""
        time_s = self._time_limit_s
        request = json.dumps({"kind": self._kind, "name": name, "time_s": time_s}).encode()
        with self._lock, path.open("rb") as upload, contextlib.ExitStack() as closing:
            answer = cast("BinaryIO", closing.enter_context(tempfile.TemporaryFile()))
            end = self._ask(request, [upload.fileno(), answer.fileno()])
            answer.seek(0)
            _check_end(end, answer, time_s)
            if os.fstat(answer.fileno()).st_size > LIMITS[self._kind].answer_bytes:
                raise _crashed("its answer was too large")
            closing.pop_all()  # the caller closes it
            return answer

    def close(self) -> None:
        """End the process: its socket closes."""
        self._is_closed = True
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):  # closed by the very thread that is to be woken
                connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for an answer
        with self._lock:
            self._disconnect()

    def _ask(self, request: bytes, files: list[int]) -> dict[str, Any]:
        for _ in range(2):  # a helper that died since its last request is replaced
            connection = self._connect()
            connection.settimeout(self._time_limit_s + GRACE_S)
            try:
                socket.send_fds(connection, [request], files)
                message = connection.recv(MESSAGE_BYTES)
            except TimeoutError:
                self._disconnect()
                return {"code": 0, "late": True}
            except OSError:
                message = b""
            if message:
                answer: dict[str, Any] = json.loads(message)
                return answer
            self._disconnect()
        raise _crashed("its process was killed twice")

    def _connect(self) -> socket.socket:
        if self._is_closed:
            raise Unavailable("STOPPING", "The server is stopping; try again in a while")
        if self._socket is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _START, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    cwd="/",
                    env=_environment(),
                    start_new_session=True,  # a Ctrl-C in the server's terminal is the server's
                )
            self._socket = ours
        return self._socket

    def _disconnect(self) -> None:
        if self._socket is None or self.process is None:
            return
        self._socket.close()
        try:
            self.process.wait(timeout=GRACE_S / 5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._socket = self.process = None


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(threads, "1"),  # one thread, or forking would not be safe
        "HDF5_PLUGIN_PRELOAD": "::",  # HDF5 then loads no plugins
        "PYTHONPATH": paths,  # it imports what the server imports
    }


def _check_end(end: dict[str, Any], answer: BinaryIO, time_s: float) -> None:
    """Raise BadInput unless the fork ended well."""
    if end["late"]:
        raise BadInput(
            "PARSE_LIMIT_EXCEEDED",
            f"Reading this file took more than {time_s:g} s, so it was stopped; a sound file takes "
            "well below one second. Write it again, or split it",
            limit_s=time_s,
        )
    code = int(end["code"])
    if code < 0:
        raise _crashed(f"the library that reads it was stopped by {_signal_name(-code)}")
    if code > 0:
        line = answer.readline(MESSAGE_BYTES)
        _log.error("unforeseen error in the parser: %s", line.decode(errors="replace"))
        raise _crashed("the parser met something that nobody foresaw")


def _signal_name(number: int) -> str:
    known = {member.value: member.name for member in signal.Signals}
    return known.get(number, f"signal {number}")


def _stopping() -> Unavailable:
    return Unavailable("SERVER_STOPPING", "The server is stopping; try again in a while")


def _crashed(text: str) -> BadInput:
    return BadInput(
        "PARSE_CRASHED",
        f"Reading this file failed: {text}. The file is probably damaged; write it again",
        found=text,
    )


def _decode_head(line: bytes) -> dict[str, Any]:
    head: dict[str, Any] = json.loads(line)
    error = head.get("error")
    if error is not None:
        raise BadInput(str(error["reason"]), str(error["message"]), **error["metadata"])
    return head


def _decode_recordings(answer: BinaryIO) -> Recordings:
    if answer.read(1) == b"{":
        _decode_head(b"{" + answer.readline())
    return from_open_file(answer)


def _decode_parsed(answer: BinaryIO) -> Parsed:
    head = _decode_head(answer.readline())
    body = answer.read()
    findings = tuple(_decode_finding(plain) for plain in head["findings"])
    if not body:
        return Parsed(network=None, findings=findings)
    with zipfile.ZipFile(BytesIO(body)) as archive:  # stored only: nothing unpacks to more
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("compressed")
    if head["body"] == CONFIGURATION:
        made = configuration.from_bytes(body)
        return Parsed(network=None, findings=findings, configuration=made)
    return Parsed(network=network.from_bytes(body), findings=findings)


def _decode_finding(plain: dict[str, Any]) -> Finding:
    return Finding(
        reason=str(plain["reason"]),
        severity=Severity(plain["severity"]),
        message=str(plain["message"]),
        layer=None if plain["layer"] is None else int(plain["layer"]),
        metadata={str(key): str(value) for key, value in plain["metadata"].items()},
    )
