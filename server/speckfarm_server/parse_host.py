"""Parses untrusted files in helper processes that can be killed: the server's side.

The server hands an open upload and an empty temporary file to `parse_child`, which forks for each
file: one that hangs, eats memory or crashes the HDF5 library costs nothing but that fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
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
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from speckfarm_server import network
from speckfarm_server.errors import BadInput, Finding, Severity, Unavailable
from speckfarm_server.parse import Parsed
from speckfarm_server.parse_child import LIMITS, MESSAGE_BYTES, MODEL, RECORDING
from speckfarm_server.recordings import Recordings, from_open_file

PROCESSES = 2  # files parsed at once
GRACE_S = 5.0  # beyond its limit for a helper to report; one that stays silent is replaced
MAX_NAME_LENGTH = 255  # of a file, as file systems have it

_START = "import sys; from speckfarm_server.parse_child import main; main(int(sys.argv[1]))"
_DAMAGED = (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, OverflowError)
_log = logging.getLogger(__name__)


class ParseHost:
    """Parses files in child processes. Owned by the server; call `close` at the end."""

    def __init__(self, *, processes: int = PROCESSES, time_limit_s: float | None = None) -> None:
        self._helpers = tuple(_Helper(time_limit_s) for _ in range(processes))
        self._turn = itertools.cycle(self._helpers)

    async def parse_model(self, path: Path) -> Parsed:
        """Parse a NIR file.

        Raises BadInput (what `parse_network` raises, PARSE_LIMIT_EXCEEDED, PARSE_CRASHED), OSError
        if the file cannot be opened, Unavailable after `close`.
        """
        return await asyncio.to_thread(self._parse_model, path)

    async def parse_recording(self, path: Path, name: str) -> Recordings:
        """Parse a recording file; its arrays are read-only and mapped from a temporary file.

        Raises BadInput (what `read_recordings` raises, PARSE_LIMIT_EXCEEDED, PARSE_CRASHED),
        OSError if the file cannot be opened, Unavailable after `close`.
        """
        return await asyncio.to_thread(self._parse_recording, path, name)

    def start(self) -> None:
        """Start the processes now, so that the first files need not wait for them."""
        for helper in self._helpers:
            helper.start()

    def process_ids(self) -> tuple[int, ...]:
        """Ids of the processes that run."""
        return tuple(helper.process.pid for helper in self._helpers if helper.process)

    def close(self) -> None:
        """Stop the processes; files that are being parsed end as Unavailable."""
        for helper in self._helpers:
            helper.close()

    def _parse_model(self, path: Path) -> Parsed:
        with self._free_helper().run(MODEL, path, "") as answer:
            try:
                return _decode_parsed(answer.read())
            except _DAMAGED as error:
                raise _crashed(f"its answer was damaged ({error})") from error

    def _parse_recording(self, path: Path, name: str) -> Recordings:
        with self._free_helper().run(RECORDING, path, name[-MAX_NAME_LENGTH:]) as answer:
            if answer.read(1) == b"{":
                _decode_head(b"{" + answer.readline())
            return from_open_file(answer)

    def _free_helper(self) -> _Helper:
        idle = (helper for helper in self._helpers if not helper.is_busy)
        return next(idle, None) or next(self._turn)


class _Helper:
    """One helper process and the socket to it; one request at a time."""

    def __init__(self, time_limit_s: float | None) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._time_limit_s = time_limit_s
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def is_busy(self) -> bool:
        """Whether a request would have to wait."""
        return self._lock.locked()

    def start(self) -> None:
        """Start the process unless it runs."""
        with self._lock:
            self._connect()

    def run(self, kind: str, path: Path, name: str) -> BinaryIO:
        """Parse a file; returns the answer, a temporary file at its beginning."""
        time_s = self._time_limit_s or LIMITS[kind].time_s
        request = json.dumps({"kind": kind, "name": name, "time_s": time_s}).encode()
        with self._lock, path.open("rb") as upload, contextlib.ExitStack() as closing:
            answer = cast("BinaryIO", closing.enter_context(tempfile.TemporaryFile()))
            end = self._ask(request, [upload.fileno(), answer.fileno()], time_s + GRACE_S)
            answer.seek(0)
            _check_end(end, answer, time_s)
            if os.fstat(answer.fileno()).st_size > LIMITS[kind].answer_bytes:
                raise _crashed("its answer was too large")
            closing.pop_all()  # the caller closes it
            return answer

    def close(self) -> None:
        """End the process: its socket closes."""
        self._is_closed = True
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for an answer
        with self._lock:
            self._disconnect()

    def _ask(self, request: bytes, files: list[int], timeout_s: float) -> dict[str, Any]:
        for _ in range(2):  # a helper that died since its last request is replaced
            connection = self._connect()
            connection.settimeout(timeout_s)
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
        found = f"{signal.Signals(-code).name}"
        raise _crashed(f"the library that reads it was stopped by {found}")
    if code > 0:
        line = answer.readline(MESSAGE_BYTES)
        _log.error("unforeseen error in the parser: %s", line.decode(errors="replace"))
        raise _crashed("the parser met something that nobody foresaw")


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


def _decode_parsed(data: bytes) -> Parsed:
    line, _, body = data.partition(b"\n")
    head = _decode_head(line)
    findings = tuple(_decode_finding(plain) for plain in head["findings"])
    if not body:
        return Parsed(network=None, findings=findings)
    with zipfile.ZipFile(BytesIO(body)) as archive:  # stored only: nothing unpacks to more
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("compressed")
    return Parsed(network=network.from_bytes(body), findings=findings)


def _decode_finding(plain: dict[str, Any]) -> Finding:
    return Finding(
        reason=str(plain["reason"]),
        severity=Severity(plain["severity"]),
        message=str(plain["message"]),
        layer=None if plain["layer"] is None else int(plain["layer"]),
        metadata={str(key): str(value) for key, value in plain["metadata"].items()},
    )
