"""How fast a recording gets to the farm: `python benchmarks/upload.py`.

One 64 MiB recording file goes through the client's upload to a farm that hashes it and makes it
durable. Beside it, in the same run, the same messages go to a gRPC server that throws them away.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from bare_grpc import DISCARD, BareServer
from farm_under_test import FarmUnderTest, cpu_seconds, simulated
from figures import say

from speckfarm.connection import Connection
from speckfarm.profile import find_endpoint
from speckfarm.upload import CHUNK_BYTES, Source, file_source, send_missing

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Round:
    """One file, to the farm and to nobody."""

    hashed_mib_s: float
    uploaded_mib_s: float
    discarded_mib_s: float
    cpu_ratio: float  # processor time of the farm's server by the bare one's


def main() -> None:
    """Upload fresh bytes again and again, to the farm and to nobody by turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with (
        FarmUnderTest(simulated(1)) as farm,
        BareServer() as bare,
        tempfile.TemporaryDirectory() as folder,
    ):
        files = (
            _recording(Path(folder), options.mib, seed=seed) for seed in range(options.repeats + 1)
        )
        _, *rounds = [_upload(path, farm, bare) for path in files]  # the first one warms up
    print(f"\nupload of a {options.mib} MiB recording in chunks of {CHUNK_BYTES // 1024} KiB")
    say("to the farm, hashed and durable", [each.uploaded_mib_s for each in rounds], "MiB/s")
    say("to a server that throws it away", [each.discarded_mib_s for each in rounds], "MiB/s")
    ratios = [each.uploaded_mib_s / each.discarded_mib_s for each in rounds]
    say("RATIO", ratios, "x", goal=">= 0.8")
    say("RATIO of the servers' processor time", [each.cpu_ratio for each in rounds], "x")
    say("hashing the file before, on the client", [each.hashed_mib_s for each in rounds], "MiB/s")


def _upload(path: Path, farm: FarmUnderTest, bare: BareServer) -> Round:
    connection = Connection(find_endpoint(farm.address, farm.token))
    began = time.perf_counter()
    source = file_source(path)
    before = [cpu_seconds(pid) for pid in (farm.process.pid, bare.process_id)]
    hashed = time.perf_counter()
    send_missing(connection, [source])
    sent = time.perf_counter()
    _discard(bare.address, source)
    discarded = time.perf_counter()
    connection.close()
    after = [cpu_seconds(pid) for pid in (farm.process.pid, bare.process_id)]
    mib = path.stat().st_size / MIB
    path.unlink()
    return Round(
        hashed_mib_s=mib / (hashed - began),
        uploaded_mib_s=mib / (sent - hashed),
        discarded_mib_s=mib / (discarded - sent),
        cpu_ratio=(after[0] - before[0]) / (after[1] - before[1]),
    )


def _recording(folder: Path, mib: int, *, seed: int) -> Path:
    """A valid recording with random events, 64-bit columns, not compressed."""
    events = mib * MIB // 32
    random = np.random.default_rng(seed)
    path = folder / f"recording{seed}.npz"
    columns = {axis: random.integers(0, 28, events) for axis in "xy"}
    np.savez(path, t=np.arange(events), p=np.zeros(events, np.int64), **columns)
    return path


def _discard(address: str, source: Source) -> None:
    """The same bytes in the same chunks, read from the same file."""

    def chunks() -> Iterator[bytes]:
        with source.open() as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    with grpc.insecure_channel(address) as channel:
        size = channel.stream_unary(DISCARD)(chunks())
    if int(size) != source.size:
        raise SystemExit(f"{source.size} bytes were sent, {size!r} arrived")


if __name__ == "__main__":
    main()
