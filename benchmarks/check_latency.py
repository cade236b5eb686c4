"""How long `check` takes: `python benchmarks/check_latency.py`.

The example network, and one that fills all nine cores, are checked through gRPC, one call after
the other: with settings that the farm has not seen, so that no report is remembered, and as files
that it has not seen, so that each is parsed in the helper process too. Files are uploaded before
the clock starts. Beside it, in the same run, a unary call to a gRPC server that does nothing.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import h5py
import numpy as np
from bare_grpc import ECHO, PAYLOAD, BareServer
from farm_under_test import MODEL, FarmUnderTest, simulated
from figures import percentile, say

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.nir_files import Fields, chain_bytes, conv, neurons, sum_pool

from speckfarm.connection import Connection
from speckfarm.profile import find_endpoint
from speckfarm.upload import bytes_source, send_missing
from speckfarm.v1 import models_pb2, settings_pb2


def main() -> None:
    """Measure repeats of each kind by turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with FarmUnderTest(simulated(1)) as farm, BareServer() as bare:
        farm.warm_up()
        connection = Connection(find_endpoint(farm.address, farm.token))
        with grpc.insecure_channel(bare.address) as channel:
            echo = channel.unary_unary(ECHO)
            for name, data in ((MODEL.name, MODEL.read_bytes()), ("nine full cores", _largest())):
                _measure(name, data, connection, lambda: echo(PAYLOAD), options)
        connection.close()


def _measure(
    name: str,
    data: bytes,
    connection: Connection,
    echo: Callable[[], object],
    options: argparse.Namespace,
) -> None:
    numbers = itertools.count(1)
    known, fresh, echoes = [], [], []
    count = options.calls
    for _ in range(options.repeats):
        echoes.append(_times([echo] * count))
        known.append(_times([_with_new_settings(data, connection, numbers) for _ in range(count)]))
        fresh.append(_times([_with_new_file(data, connection, numbers) for _ in range(count)]))
    print(f"\ncheck of {name}, {options.repeats} x {count} calls, one by one")
    for kind, times in (("known file, new settings", known), ("new file", fresh)):
        say(f"{kind}, p50", [percentile(t, 50) for t in times], "ms", goal="<= 25")
        say(f"{kind}, p99", [percentile(t, 99) for t in times], "ms")
    say("bare unary call, p50", [percentile(t, 50) for t in echoes], "ms")
    say("bare unary call, p99", [percentile(t, 99) for t in echoes], "ms")
    for kind, times in (("known file", known), ("new file", fresh)):
        pairs = zip(times, echoes, strict=True)
        ratios = [percentile(t, 50) / percentile(e, 50) for t, e in pairs]
        say(f"RATIO of the p50, {kind} to bare call", ratios, "x")


def _largest() -> bytes:
    """A network that fills both memories of all nine cores, as the one of check_vs_sinabs.py."""
    rng = np.random.default_rng(0)

    def layer(features: int, channels: int, size: int, padding: int) -> list[Fields]:
        weights = rng.normal(0, 0.05, (features, channels, size, size)).astype(np.float32)
        return [conv(weights, padding=np.array([padding, padding])), neurons()]

    nodes = [
        *layer(16, 16, 7, 3), *layer(16, 16, 7, 3), *layer(16, 16, 7, 3), sum_pool(2),
        *layer(32, 16, 7, 3), *layer(32, 32, 5, 2), sum_pool(2), *layer(64, 32, 5, 2),
        *layer(64, 64, 3, 1), *layer(64, 64, 2, 0), *layer(64, 64, 2, 0),
    ]  # fmt: skip
    return chain_bytes(*nodes, input_shape=(16, 64, 64))


def _times(calls: list[Callable[[], object]]) -> list[float]:
    times: list[float] = []
    for call in calls:
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e3)
    return times


def _with_new_settings(
    data: bytes, connection: Connection, numbers: itertools.count[int]
) -> Callable[[], None]:
    source = bytes_source(data, "known.nir")
    send_missing(connection, [source])
    settings = settings_pb2.Settings(lower_clip=-1 - next(numbers) / 1000)
    request = models_pb2.CheckModelRequest(digest=source.digest, settings=settings)
    return lambda: _check(connection, request)


def _with_new_file(
    data: bytes, connection: Connection, numbers: itertools.count[int]
) -> Callable[[], None]:
    source = bytes_source(_variant(data, next(numbers)), "variant.nir")
    send_missing(connection, [source])
    request = models_pb2.CheckModelRequest(digest=source.digest)
    return lambda: _check(connection, request)


def _check(connection: Connection, request: models_pb2.CheckModelRequest) -> None:
    if not connection.call(connection.models.CheckModel, request).deployable:
        raise SystemExit("the network is not deployable")


def _variant(data: bytes, number: int) -> bytes:
    """The network with one weight changed in its last digits."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        nodes = file["node/nodes"]
        weights = next(node["weight"] for node in nodes.values() if "weight" in node)
        first = (0,) * weights.ndim
        weights[first] *= 1 + number * 1e-6
    return buffer.getvalue()


if __name__ == "__main__":
    main()
