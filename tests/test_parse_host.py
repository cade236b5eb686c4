"""Parsing in a child that can be killed: answers, limits, crashes, restarts."""

from __future__ import annotations

import asyncio
import io
import os
import random
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
import pytest

from speckfarm_server.errors import BadInput, Unavailable
from speckfarm_server.network import to_bytes
from speckfarm_server.parse import Parsed, parse_network
from speckfarm_server.parse_host import ParseHost
from speckfarm_server.recording_file import REASONS, read_recordings
from speckfarm_server.recordings import Recordings
from tests.nir_files import chain, chain_bytes, linear, neurons, small_chain, write_graph

Answer = TypeVar("Answer")


@pytest.fixture(scope="module")
def host() -> Iterator[ParseHost]:
    with_two = ParseHost()
    yield with_two
    with_two.close()


@pytest.fixture
def make_host() -> Iterator[Callable[..., ParseHost]]:
    made: list[ParseHost] = []

    def make(**more: float) -> ParseHost:
        made.append(ParseHost(processes=1, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


def parse_model(host: ParseHost, path: Path) -> Parsed:
    return asyncio.run(host.parse_model(path))


def parse_recording(host: ParseHost, path: Path, name: str = "a.npz") -> Recordings:
    return asyncio.run(host.parse_recording(path, name))


def written(tmp_path: Path, data: bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def slow_recording() -> bytes:
    """An .npz that takes seconds to unpack: 1 GiB of zeros."""
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (33554432, 4), }"
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("events.npy", "w") as member,
    ):
        member.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        for _ in range(64):
            member.write(bytes(16 << 20))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("slow"), slow_recording())


def refused(call: Callable[[], object]) -> BadInput:
    with pytest.raises(BadInput) as caught:
        call()
    return caught.value


def test_a_model_comes_back_as_if_parsed_here(host: ParseHost, tmp_path: Path):
    data = small_chain()

    parsed = parse_model(host, written(tmp_path, data))

    here = parse_network(data)
    assert parsed.network is not None
    assert here.network is not None
    assert to_bytes(parsed.network) == to_bytes(here.network)


def test_findings_come_back_as_if_parsed_here(host: ParseHost, tmp_path: Path):
    data = chain_bytes(linear((2, 3)), {"type": "LIF"}, input_shape=(4,))

    parsed = parse_model(host, written(tmp_path, data))

    assert parsed.network is None
    assert parsed.findings == parse_network(data).findings


def test_recordings_come_back_as_if_read_here(host: ParseHost, tmp_path: Path):
    buffer = io.BytesIO()
    zeros = np.zeros(4, np.int64)
    np.savez(buffer, t=np.arange(4), x=zeros, y=zeros, p=zeros, offsets=[0, 1, 4], labels=[1, 2])

    recordings = parse_recording(host, written(tmp_path, buffer.getvalue()), "b.npz")

    here = read_recordings(buffer.getvalue(), "b.npz")
    for name in Recordings.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(recordings, name), getattr(here, name))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x04."])
def test_a_file_that_is_refused_here_is_refused_there(data: bytes, host: ParseHost, tmp_path: Path):
    here = refused(lambda: parse_network(data))

    there = refused(lambda: parse_model(host, written(tmp_path, data)))

    assert (there.reason, there.message, there.metadata) == (
        here.reason, here.message, here.metadata
    )  # fmt: skip


def test_a_recording_that_is_refused_keeps_its_figures(host: ParseHost, tmp_path: Path):
    error = refused(
        lambda: parse_recording(host, written(tmp_path, bytes([200, 0, 0, 0, 0])), "a.bin")
    )

    assert error.reason == "COORDINATE_OUT_OF_RANGE"
    assert (error.metadata["event"], error.metadata["found"]) == ("0", "200")


def test_a_file_over_the_limit_is_refused_without_reading_it_all(host: ParseHost, tmp_path: Path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)

    assert refused(lambda: parse_model(host, path)).reason == "MODEL_TOO_LARGE"


def test_a_missing_file_is_the_callers_fault(host: ParseHost, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        parse_model(host, tmp_path / "nowhere")


def test_a_file_that_takes_too_long_is_stopped(
    make_host: Callable[..., ParseHost], slow: Path, tmp_path: Path
):
    host = make_host(time_limit_s=0.2)

    error = refused(lambda: parse_recording(host, slow))

    assert error.reason == "PARSE_LIMIT_EXCEEDED"
    assert "0.2 s" in error.message
    assert parse_model(host, written(tmp_path, small_chain())).network is not None


def warm(host: ParseHost, tmp_path: Path) -> int:
    """Read a recording, so that the next child is one that parses; returns the process id."""
    parse_recording(host, written(tmp_path, bytes(5)), "a.bin")
    (pid,) = host.process_ids()
    return pid


def child_of(pid: int) -> int:
    """Wait until a process has a child."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = children.read_text().split()
        if found:
            return int(found[0])
    raise AssertionError("no child appeared")


def during(host: ParseHost, slow: Path, act: Callable[[], object]) -> BaseException | Recordings:
    """Parse the slow recording and act meanwhile in another thread."""

    async def both() -> BaseException | Recordings:
        parsing = host.parse_recording(slow, "a.npz")
        results = await asyncio.gather(parsing, asyncio.to_thread(act), return_exceptions=True)
        assert not isinstance(results[1], BaseException), results[1]
        return results[0]

    return asyncio.run(both())


def test_a_crash_by_a_signal_is_told_and_costs_only_the_child(
    make_host: Callable[..., ParseHost], slow: Path, tmp_path: Path
):
    host = make_host()
    pid = warm(host, tmp_path)

    ended = during(host, slow, lambda: os.kill(child_of(pid), signal.SIGSEGV))

    assert isinstance(ended, BadInput)
    assert ended.reason == "PARSE_CRASHED"
    assert "SIGSEGV" in ended.message
    assert len(parse_recording(host, written(tmp_path, bytes(5)), "a.bin")) == 1
    assert host.process_ids() == (pid,)


def test_a_killed_host_is_replaced_and_the_file_parsed_again(
    make_host: Callable[..., ParseHost], tmp_path: Path
):
    host = make_host()
    before = warm(host, tmp_path)
    os.kill(before, signal.SIGKILL)

    recordings = parse_recording(host, written(tmp_path, bytes(5)), "a.bin")

    assert len(recordings) == 1
    assert host.process_ids() != (before,)


def test_closing_while_a_file_is_parsed_ends_parsing_and_all_processes(
    make_host: Callable[..., ParseHost], slow: Path, tmp_path: Path
):
    host = make_host()
    pid = warm(host, tmp_path)
    children: list[int] = []

    def close() -> None:
        children.append(child_of(pid))
        host.close()

    ended = during(host, slow, close)

    assert isinstance(ended, Unavailable)
    assert host.process_ids() == ()
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{children[0]}").exists()


def test_a_closed_host_starts_nothing(make_host: Callable[..., ParseHost], tmp_path: Path):
    host = make_host()
    host.close()

    with pytest.raises(Unavailable):
        parse_model(host, written(tmp_path, small_chain()))

    assert host.process_ids() == ()


def test_many_files_at_once_all_get_their_own_answer(host: ParseHost, tmp_path: Path):
    paths = [
        written(
            tmp_path,
            chain_bytes(linear((size, 3)), neurons(), input_shape=(3,)),
            f"model{size}",
        )
        for size in range(1, 13)
    ]

    async def all_of_them() -> list[Parsed]:
        return await asyncio.gather(*(host.parse_model(path) for path in paths))

    networks = [parsed.network for parsed in asyncio.run(all_of_them())]
    assert [n.layers[0].output_shape[0] for n in networks if n] == list(range(1, 13))


def test_a_model_need_not_wait_for_recordings(
    make_host: Callable[..., ParseHost], slow: Path, tmp_path: Path
):
    host = make_host()
    path = written(tmp_path, small_chain())

    async def both() -> set[str]:
        slow_ones = [asyncio.create_task(host.parse_recording(slow, "a.npz")) for _ in range(3)]
        await host.parse_model(path)
        return {"waiting" for task in slow_ones if not task.done()}

    assert asyncio.run(both()) == {"waiting"}


def test_a_child_can_open_no_file_even_if_the_parser_would(host: ParseHost, tmp_path: Path):
    """Reading through an HDF5 external link fails for lack of descriptors, were it tried."""
    path = tmp_path / "links.h5"
    with h5py.File(path, "w") as file:
        file["node"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/node")

    assert refused(lambda: parse_model(host, path)).reason == "UNSAFE_LINK"


def test_texts_that_unfold_to_gigabytes_end_at_the_memory_limit(host: ParseHost, tmp_path: Path):
    """2,000 references to one text of 15 MiB: HDF5 copies it for each."""
    nodes, _ = chain(linear((2, 3)), neurons(), input_shape=(3,))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_graph(file.create_group("node"), nodes, [])
        del file["node/edges"]
        edges = file["node"].create_dataset("edges", (1000, 2), h5py.string_dtype())
        edges[0, 0] = "x" * (15 << 20)
        file.flush()
        start = edges.id.get_offset()
    data = bytearray(buffer.getvalue())
    data[start : start + 16 * 2000] = bytes(data[start : start + 16]) * 2000

    error = refused(lambda: parse_model(host, written(tmp_path, bytes(data))))

    assert error.reason == "MODEL_UNREADABLE"
    assert "memory" in error.message


FILE_REASONS = (
    "MODEL_UNREADABLE", "MODEL_TOO_LARGE", "UNSAFE_LINK", "UNSAFE_STORAGE", "PARSE_LIMIT_EXCEEDED",
    "PARSE_CRASHED",
)  # fmt: skip


def corrupted(data: bytes, seed: int) -> bytes:
    """A file with some bytes changed, more often among the structures than in the weights."""
    chance = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    return bytes(damaged)


def outcome(parse: Callable[[], object]) -> str:
    try:
        parse()
    except BadInput as error:
        return error.message if "nobody foresaw" in error.message else error.reason
    return "parsed"


def test_corrupted_models_are_parsed_or_refused(host: ParseHost, tmp_path: Path):
    data = small_chain(size=4)
    path = tmp_path / "model"

    outcomes = set()
    for seed in range(60):
        path.write_bytes(corrupted(data, seed))
        outcomes.add(outcome(lambda: parse_model(host, path)))

    assert outcomes <= {*FILE_REASONS, "parsed"}
    assert "MODEL_UNREADABLE" in outcomes


def test_corrupted_recordings_are_parsed_or_refused(host: ParseHost, tmp_path: Path):
    buffer = io.BytesIO()
    zeros = np.zeros(4, np.int64)
    np.savez_compressed(buffer, t=zeros, x=zeros, y=zeros, p=zeros, names=["a"], labels=[1])
    path = tmp_path / "recording"

    outcomes = set()
    for seed in range(40):
        path.write_bytes(corrupted(buffer.getvalue(), seed))
        outcomes.add(outcome(lambda: parse_recording(host, path)))

    assert outcomes <= {*REASONS, "PARSE_LIMIT_EXCEEDED", "PARSE_CRASHED", "parsed"}
