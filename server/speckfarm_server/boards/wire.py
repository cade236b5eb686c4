"""Messages between the server and a board's process: JSON with bytes behind it, no pickles."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

_HEAD = struct.Struct("<II")  # length of the JSON, length of the bytes


class Message(dict[str, Any]):
    """A message; `op` says what it is, `data` is what does not fit JSON."""

    data: bytes = b""


def encode(message: dict[str, Any], data: bytes = b"") -> bytes:
    """Frame a message. Values in it travel as their fields, bytes among them as hex."""
    body = _ENCODER.encode(message).encode()
    return _HEAD.pack(len(body), len(data)) + body + data


def receive(connection: socket.socket) -> Message | None:
    """Read one message (blocking); None when the other end has closed."""
    head = _read(connection, _HEAD.size)
    if head is None:
        return None
    json_bytes, data_bytes = _HEAD.unpack(head)
    body = _read(connection, json_bytes)
    data = _read(connection, data_bytes)
    return None if body is None or data is None else _message(body, data)


def is_waiting(connection: socket.socket) -> bool:
    """Whether a message, or the end, can be read at once."""
    return bool(select.select([connection], [], [], 0)[0])


class Inbox(asyncio.Protocol):
    """The event loop's end of a connection: messages as they arrive, and `lost` at its end."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self.heard_s = self._loop.time()  # when something arrived last, on the loop's clock
        self._buffer = bytearray()
        self._missing = _HEAD.size  # bytes until there is something to do
        self._messages: deque[Message] = deque()
        self._is_closed = False
        self._reader: asyncio.Future[None] | None = None

    async def receive(self) -> Message | None:
        """The next message; None when the other end has closed. One reader at a time."""
        while not self._messages:
            if self._is_closed:
                return None
            self._reader = self._loop.create_future()
            await self._reader
        return self._messages.popleft()

    def data_received(self, data: bytes) -> None:
        """Take apart what is here whole."""
        self.heard_s = self._loop.time()
        self._buffer += data
        while len(self._buffer) >= self._missing:
            json_bytes, data_bytes = _HEAD.unpack_from(self._buffer)
            start = _HEAD.size + json_bytes
            self._missing = start + data_bytes
            if len(self._buffer) < self._missing:
                return
            body, rest = self._buffer[_HEAD.size : start], self._buffer[start : self._missing]
            del self._buffer[: self._missing]
            self._missing = _HEAD.size
            self._messages.append(_message(body, bytes(rest)))
        self._wake()

    def connection_lost(self, _error: Exception | None) -> None:
        """The end."""
        self._is_closed = True
        self._wake()
        self._lost()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else vars(value)


_ENCODER = json.JSONEncoder(default=_plain)


def _read(connection: socket.socket, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _message(body: bytes | bytearray, data: bytes) -> Message:
    message = Message(json.loads(body.decode()))
    message.data = data
    return message
