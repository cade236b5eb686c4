"""gRPC takes an option of any name in silence: a misspelt one is no option."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from speckfarm import connection
from speckfarm_server import server

LIBRARY = Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize(
    "name", sorted({name for name, _ in (*server.OPTIONS, *connection.OPTIONS)})
)
def test_every_option_is_one_that_grpc_knows(name: str) -> None:
    assert f"{name}\0".encode() in LIBRARY


def test_a_name_that_grpc_does_not_know_would_be_noticed() -> None:
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in LIBRARY
