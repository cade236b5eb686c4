"""The reference beside every figure: a gRPC server that does nothing, in its own process.

It is grpc.aio on uvloop, as the farm is, without authentication, store or boards. `Echo` returns
its bytes; `Discard` takes a stream of bytes and returns how many they were.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from types import TracebackType

import grpc

ECHO = "/bare.Bare/Echo"
DISCARD = "/bare.Bare/Discard"
PAYLOAD = bytes(200)  # about as much as a CreateJob carries


class BareServer:
    """Starts the server; `address` is where it listens."""

    @property
    def process_id(self) -> int:
        """Id of its process."""
        return self._process.pid

    def __enter__(self) -> BareServer:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        port = self._process.stdout.readline().strip() if self._process.stdout else ""
        self.address = f"127.0.0.1:{port}"
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.communicate()


async def _echo(request: bytes, _context: object) -> bytes:
    return request


async def _discard(requests: AsyncIterator[bytes], _context: object) -> bytes:
    size = 0
    async for request in requests:
        size += len(request)
    return str(size).encode()


async def _serve() -> None:
    server = grpc.aio.server()
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo),
        "Discard": grpc.stream_unary_rpc_method_handler(_discard),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bare.Bare", handlers)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve())
