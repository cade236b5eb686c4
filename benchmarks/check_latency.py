"""How long `check` takes: `python benchmarks/check_latency.py`.

The example network is checked through gRPC, one call after the other: with settings that the farm
has not seen, so that no report is remembered, and as files that it has not seen, so that each is
parsed in the helper process too. Files are uploaded before the clock starts. Beside it, in the same
run, a unary call to a gRPC server that does nothing.
"""

from __future__ import annotations

import argparse
import io
import itertools
import time
from collections.abc import Callable

import grpc
import h5py
from bare_grpc import ECHO, PAYLOAD, BareServer
from farm_under_test import MODEL, FarmUnderTest, digest_of, simulated
from figures import percentile, say

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
    numbers = itertools.count(1)
    known, fresh, echoes = [], [], []
    with FarmUnderTest(simulated(1)) as farm, BareServer() as bare:
        farm.warm_up()
        connection = Connection(find_endpoint(farm.address, farm.token))
        with grpc.insecure_channel(bare.address) as channel:
            echo = channel.unary_unary(ECHO)
            for _ in range(options.repeats):
                count = options.calls
                echoes.append(_times([lambda: echo(PAYLOAD)] * count))
                known.append(
                    _times([_with_new_settings(connection, numbers) for _ in range(count)])
                )
                fresh.append(_times([_with_new_file(connection, numbers) for _ in range(count)]))
        connection.close()
    print(f"\ncheck of {MODEL.name}, {options.repeats} x {options.calls} calls, one by one")
    for name, times in (("known file, new settings", known), ("new file", fresh)):
        say(f"{name}, p50", [percentile(t, 50) for t in times], "ms", goal="<= 25")
        say(f"{name}, p99", [percentile(t, 99) for t in times], "ms")
    say("bare unary call, p50", [percentile(t, 50) for t in echoes], "ms")
    say("bare unary call, p99", [percentile(t, 99) for t in echoes], "ms")
    for name, times in (("known file", known), ("new file", fresh)):
        pairs = zip(times, echoes, strict=True)
        ratios = [percentile(t, 50) / percentile(e, 50) for t, e in pairs]
        say(f"RATIO of the p50, {name} to bare call", ratios, "x")


def _times(calls: list[Callable[[], object]]) -> list[float]:
    times: list[float] = []
    for call in calls:
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e3)
    return times


def _with_new_settings(connection: Connection, numbers: itertools.count[int]) -> Callable[[], None]:
    settings = settings_pb2.Settings(lower_clip=-1 - next(numbers) / 1000)
    request = models_pb2.CheckModelRequest(digest=digest_of(MODEL), settings=settings)
    return lambda: _check(connection, request)


def _with_new_file(connection: Connection, numbers: itertools.count[int]) -> Callable[[], None]:
    source = bytes_source(_variant(next(numbers)), "variant.nir")
    send_missing(connection, [source])
    request = models_pb2.CheckModelRequest(digest=source.digest)
    return lambda: _check(connection, request)


def _check(connection: Connection, request: models_pb2.CheckModelRequest) -> None:
    if not connection.call(connection.models.CheckModel, request).deployable:
        raise SystemExit("the example network is not deployable")


def _variant(number: int) -> bytes:
    """The example network with one weight changed in its last digits."""
    buffer = io.BytesIO(MODEL.read_bytes())
    with h5py.File(buffer, "r+") as file:
        nodes = file["node/nodes"]
        weights = next(node["weight"] for node in nodes.values() if "weight" in node)
        first = (0,) * weights.ndim
        weights[first] *= 1 + number * 1e-6
    return buffer.getvalue()


if __name__ == "__main__":
    main()
