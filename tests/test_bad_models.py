"""Hostile, damaged and mistaken models: a reason each from check and run, the server unharmed."""

from __future__ import annotations

import io
import os
import pickle
import signal
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import speckfarm
from tests.farm_follow import child_processes, faults
from tests.farm_process import FarmProcess
from tests.nir_files import (
    affine,
    chain,
    chain_bytes,
    conv,
    flatten,
    linear,
    neurons,
    nir_bytes,
    small_chain,
    sum_pool,
    write_graph,
)

Change = Callable[[h5py.File], None]


@pytest.fixture(scope="module")
def farm(server: FarmProcess) -> Iterator[speckfarm.Farm]:
    with server.connect() as connected:
        yield connected


def altered(change: Change) -> bytes:
    """A legal file with something done to it; node "0" is Linear with `weight`."""
    nodes, edges = chain(linear((2, 3)), neurons(), input_shape=(3,))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_graph(file.create_group("node"), nodes, edges)
        change(file)
    return buffer.getvalue()


def with_weight(**how: object) -> bytes:
    def change(file: h5py.File) -> None:
        del file["node/nodes/0/weight"]
        file["node/nodes/0"].create_dataset("weight", **how)

    return altered(change)


def with_link(name: str, link: object) -> bytes:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return altered(change)


def torch_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": [1.0]}))
    return buffer.getvalue()


def link_cycle(file: h5py.File) -> None:
    nested = file["node/nodes"].create_group("nested")
    nested["type"] = "NIRGraph"
    nested["edges"] = np.array([[b"a", b"b"]])
    nested["nodes"] = file["node/nodes"]


def double_links(file: h5py.File, levels: int) -> None:
    """Each level holds the next one twice: 2^levels ways to the last."""
    parent = file["node/nodes"]
    for _ in range(levels):
        child = parent.create_group("left")
        child["type"] = "NIRGraph"
        child["edges"] = np.array([[b"a", b"b"]])
        parent["right"] = child
        parent = child.create_group("nodes")


def one_conv(**fields: Any) -> bytes:
    shape = fields.pop("shape", (2, 2, 3, 3))
    size = np.array([8, 8])
    node = conv(shape, **{"padding": np.array([1, 1]), "input_shape": size, **fields})
    return chain_bytes(node, neurons(), input_shape=(2, 8, 8))


def dense(weight: Any, threshold: Any = 1.0) -> bytes:
    return chain_bytes(flatten(), affine(weight), neurons(threshold), input_shape=(2, 4, 4))


def rewired(*more: tuple[str, str], **nodes: Any) -> bytes:
    """A legal chain (input, 0, 1, 2, 3, output) with nodes and edges added."""
    named, edges = chain(linear((2, 3)), neurons(), linear((2, 2)), neurons(), input_shape=(3,))
    return nir_bytes({**named, **nodes}, [*edges, *more])


NOT_FINITE = np.full((10, 32), 0.1, np.float32)
NOT_FINITE[3, 3] = np.nan
INFINITE = np.where(np.isnan(NOT_FINITE), np.float32(np.inf), NOT_FINITE)
SECOND_INPUT = {"type": "Input", "shape": np.array([3])}
HUGE = {"shape": (1 << 17, 1 << 17), "dtype": "f4", "chunks": (1024, 1024), "compression": "gzip"}
OUTSIDE = {"shape": (2, 3), "dtype": "f8", "external": [("/etc/passwd", 0, 48)]}

# Files that cannot be read at all: the call fails with this reason.
UNREADABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "MODEL_UNREADABLE"),
    "truncated": (lambda: small_chain()[:2000], "MODEL_UNREADABLE"),
    "garbage": (lambda: small_chain()[:8] + bytes(range(256)) * 8, "MODEL_UNREADABLE"),
    "text": (lambda: b"import torch\n", "MODEL_UNREADABLE"),
    "pickle": (lambda: pickle.dumps({"weight": [1.0]}), "MODEL_UNREADABLE"),
    "torch file": (torch_file, "MODEL_UNREADABLE"),
    "64 GiB declared": (lambda: with_weight(**HUGE), "MODEL_TOO_LARGE"),
    "external storage": (lambda: with_weight(**OUTSIDE), "UNSAFE_STORAGE"),
    "external link": (
        lambda: with_link("node/nodes/0/weight", h5py.ExternalLink("/etc/passwd", "/w")),
        "UNSAFE_LINK",
    ),
    "soft link": (
        lambda: with_link("node/nodes/0/weight", h5py.SoftLink("/node/nodes/1/r")),
        "UNSAFE_LINK",
    ),
    "cyclic links": (lambda: altered(link_cycle), "UNSAFE_LINK"),
    "doubling links": (lambda: altered(lambda file: double_links(file, 2)), "UNSAFE_LINK"),
    "2^60 ways": (lambda: altered(lambda file: double_links(file, 60)), "MODEL_TOO_LARGE"),
}
# Files that are NIR but cannot run: the report has an error with this reason.
REJECTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "NaN weights": (lambda: dense(NOT_FINITE), "NOT_FINITE"),
    "infinite weights": (lambda: dense(INFINITE), "NOT_FINITE"),
    "unsupported node": (
        lambda: chain_bytes(linear((2, 3)), {"type": "LIF"}, input_shape=(3,)),
        "UNSUPPORTED_NODE",
    ),
    "cycle": (lambda: rewired(("3", "2")), "GRAPH_CYCLE"),
    "second input": (lambda: rewired(("more", "2"), more=SECOND_INPUT), "SECOND_INPUT"),
    "dangling node": (lambda: rewired(lonely=neurons()), "DANGLING_NODE"),
    "edge to a missing node": (lambda: rewired(("3", "ghost")), "EDGE_TO_MISSING_NODE"),
    "non-square kernel": (lambda: one_conv(shape=(2, 2, 3, 1)), "NON_SQUARE_KERNEL"),
    "dilation": (lambda: one_conv(dilation=np.array([2, 2])), "DILATION_UNSUPPORTED"),
    "groups": (lambda: one_conv(shape=(3, 1, 3, 3), groups=2), "VALUE_OUT_OF_RANGE"),
    "stride 0": (lambda: one_conv(stride=np.array([0, 0])), "VALUE_OUT_OF_RANGE"),
    "stride 3": (lambda: one_conv(stride=np.array([3, 3])), "STRIDE_UNSUPPORTED"),
    "padding 2^62": (lambda: one_conv(padding=np.array([2**62, 2**62])), "VALUE_OUT_OF_RANGE"),
    "non-uniform threshold": (
        lambda: chain_bytes(
            conv((2, 2, 1, 1)),
            neurons(np.linspace(1, 2, 32).reshape(2, 4, 4)),
            input_shape=(2, 4, 4),
        ),
        "NON_UNIFORM_THRESHOLD",
    ),
    "pooling by 3": (
        lambda: chain_bytes(
            conv((2, 2, 1, 1)), neurons(), sum_pool(3), conv((2, 2, 1, 1)), neurons(),
            input_shape=(2, 9, 9),
        ),
        "POOLING_UNSUPPORTED",
    ),
}  # fmt: skip


def errors_of_check(farm: speckfarm.Farm, path: Path) -> list[speckfarm.Finding]:
    return [f for f in farm.check(path).findings if f.severity == "error"]


def assert_still_runs(farm: speckfarm.Farm, model: Path, recording: Path) -> None:
    result = farm.run(model, recording).wait(timeout=40)

    assert result.recordings[0].prediction == result.recordings[0].label


def assert_explains(reason: str, message: str) -> None:
    """A message says something: it has words and more than its own code."""
    assert len(message.split()) > 6
    assert message != reason


def assert_nothing_came_of_it(farm: speckfarm.Farm, server: FarmProcess, jobs: list[str]) -> None:
    assert [job.id for job in farm.jobs()] == jobs
    assert faults(server) == []


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_that_cannot_be_read_is_refused_with_its_reason(
    kind: str,
    server: FarmProcess,
    farm: speckfarm.Farm,
    tmp_path: Path,
    digits_model: Path,
    one_digit: Path,
) -> None:
    make, reason = UNREADABLE[kind]
    path = tmp_path / "model.nir"
    path.write_bytes(make())
    jobs = [job.id for job in farm.jobs()]

    with pytest.raises(speckfarm.BadRequest) as checked:
        farm.check(path)
    with pytest.raises(speckfarm.BadRequest) as ran:
        farm.run(path, one_digit)

    assert (checked.value.reason, ran.value.reason) == (reason, reason)
    assert checked.value.message == ran.value.message
    assert_explains(reason, checked.value.message)
    assert_nothing_came_of_it(farm, server, jobs)
    assert "model.nir" not in {model.name for model in farm.models()}
    assert_still_runs(farm, digits_model, one_digit)


@pytest.mark.parametrize("kind", REJECTED)
def test_a_network_that_cannot_run_is_rejected_with_every_finding(
    kind: str,
    server: FarmProcess,
    farm: speckfarm.Farm,
    tmp_path: Path,
    digits_model: Path,
    one_digit: Path,
) -> None:
    make, reason = REJECTED[kind]
    path = tmp_path / "model.nir"
    path.write_bytes(make())
    jobs = [job.id for job in farm.jobs()]

    checked = errors_of_check(farm, path)
    with pytest.raises(speckfarm.ModelRejected) as ran:
        farm.run(path, one_digit)

    assert reason in {finding.reason for finding in checked}
    assert [f for f in ran.value.findings if f.severity == "error"] == checked
    for finding in checked:
        assert_explains(finding.reason, finding.message)
    assert_nothing_came_of_it(farm, server, jobs)
    assert_still_runs(farm, digits_model, one_digit)


def test_files_whose_readers_hang_hold_nobody_up(
    server: FarmProcess, farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    assert_still_runs(farm, digits_model, one_digit)  # so these have been read
    readers = child_processes(server, "parse_child")
    files = [small_chain(seed=100 + number) for number in range(12)]
    for reader in readers:
        os.kill(reader, signal.SIGSTOP)

    with ThreadPoolExecutor(len(files)) as pool:
        checks = [pool.submit(farm.check, file) for file in files]
        assert_still_runs(farm, digits_model, one_digit)
        assert not any(check.done() for check in checks)
        for reader in readers:
            os.kill(reader, signal.SIGCONT)

    assert len(readers) >= 1
    assert all(check.result().deployable for check in checks)


def test_the_file_that_declares_64_gib_is_small() -> None:
    assert len(UNREADABLE["64 GiB declared"][0]()) < 32_000


def test_a_model_over_the_limit_is_refused_as_too_large(
    farm: speckfarm.Farm, tmp_path: Path
) -> None:
    path = tmp_path / "model.nir"
    path.write_bytes(small_chain() + bytes(17 << 20))

    with pytest.raises(speckfarm.SpeckfarmError) as caught:
        farm.check(path)

    assert caught.value.reason == "MODEL_TOO_LARGE"
