"""Messages between the server and a board's process: JSON with bytes behind it, no pickles."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import struct
from typing import Any

_HEAD = struct.Struct("<II")  # length of the JSON, length of the bytes


class Message(dict[str, Any]):
    """A message; `op` says what it is, `data` is what does not fit JSON."""

    data: bytes = b""


def encode(message: dict[str, Any], data: bytes = b"") -> bytes:
    """Frame a message."""
    body = json.dumps(message).encode()
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


async def receive_async(reader: asyncio.StreamReader) -> Message | None:
    """Read one message on the event loop; None when the other end has closed."""
    try:
        json_bytes, data_bytes = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        body = await reader.readexactly(json_bytes)
        data = await reader.readexactly(data_bytes) if data_bytes else b""
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return _message(body, data)


def _read(connection: socket.socket, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _message(body: bytes, data: bytes) -> Message:
    message = Message(json.loads(body))
    message.data = data
    return message
