"""Cancel: waiting, running, twice, at once, too late, by others; and clients that leave."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import speckfarm
from speckfarm.connection import Connection
from speckfarm.v1 import jobs_pb2
from tests.farm_follow import (
    end_of,
    faults,
    follow_to,
    raw_calls,
    rows,
    wait_until_idle,
)
from tests.farm_process import FarmProcess

pytestmark = pytest.mark.system

LIMITS = "[limits]\ncancel_grace_s = 0.5\nlease_s = 20\n"


def toml(folder: Path) -> str:
    """Boards of one chip, so jobs are pinned. "hung" stops answering once, and leaves a mark."""
    boards = {
        "quick": {},
        "slow": {"run_ms": 120_000},
        "hung": {"fail": {"2": "hang"}, "marker": str(folder / "hangs")},
        "brief": {"run_ms": 700},
    }
    return LIMITS + "".join(
        f"[[boards]]\nid = '{name}'\nkind = 'scripted'\nscript = '{json.dumps(script)}'\n"
        for name, script in boards.items()
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    folder = tmp_path_factory.mktemp("cancel")
    process = FarmProcess(folder / "data", toml(folder)).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def farm(own: FarmProcess) -> Iterator[speckfarm.Farm]:
    with own.connect() as connected:
        yield connected


@pytest.fixture(scope="module")
def calls(own: FarmProcess) -> Iterator[Connection]:
    with raw_calls(own) as connection:
        yield connection


@pytest.fixture(scope="module")
def bob(own: FarmProcess) -> Iterator[speckfarm.Farm]:
    """Another user."""
    token = own.server_command("user", "add", "bob")
    with speckfarm.connect(own.address, token) as connected:
        yield connected


@pytest.fixture(scope="module")
def digests(farm: speckfarm.Farm, digits_model: Path, one_digit: Path) -> tuple[str, str]:
    """A model and a recording that the farm has."""
    job = farm.run(digits_model, one_digit, board="quick")
    job.wait(timeout=40)
    plain = json.loads(json.dumps(job.to_dict()))
    return plain["model"], plain["recordings"][0]


def ends_of(own: FarmProcess, job_id: str) -> list[tuple[object, ...]]:
    return rows(
        own,
        "SELECT event FROM events WHERE job = ? AND event IN "
        "('job.succeeded', 'job.failed', 'job.cancelled', 'job.expired')",
        job_id,
    )


def leave_during(calls: Connection, method: Any, request: object, *, after_s: float) -> None:
    """Give a call up after a moment; the server cancels it in whatever it is doing."""
    with suppress(grpc.RpcError):
        method(request, metadata=calls.metadata, timeout=after_s)


def test_a_queued_job_is_cancelled_at_once_and_never_runs(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    running, waiting = (farm.run(*digests, board="slow") for _ in range(2))
    follow_to(running, "RUNNING")

    state = waiting.cancel().last_state

    assert state == "CANCELLED"
    assert end_of(waiting) == "CANCELLED"
    assert waiting.to_dict()["attempt"] == 0
    assert ends_of(own, waiting.id) == [("job.cancelled",)]
    running.cancel()
    assert end_of(running) == "CANCELLED"


def test_a_running_job_ends_within_a_second_and_its_board_takes_the_next(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    job = farm.run(*digests, board="slow")
    follow_to(job, "RUNNING")
    began = time.monotonic()

    job.cancel()

    assert end_of(job) == "CANCELLED"
    print("CANCEL", time.monotonic() - began); assert time.monotonic() - began < 1
    assert ends_of(own, job.id) == [("job.cancelled",)]
    with pytest.raises(speckfarm.JobCancelled):
        job.result()
    flash = farm.flash(digests[0], board="slow")
    assert end_of(flash) == "SUCCEEDED"


def test_a_long_recording_on_a_simulated_board_is_cancelled_within_a_second(
    server: FarmProcess, digits_model: Path
) -> None:
    count = 3_000_000
    rng, buffer = np.random.default_rng(0), io.BytesIO()
    columns = {name: rng.integers(0, 34, count).astype(np.uint8) for name in "xy"}
    np.savez(buffer, t=np.arange(count, dtype=np.uint32), p=columns["x"] % 2, **columns)
    path = server.data.parent / "long.npz"
    path.write_bytes(buffer.getvalue())
    with server.connect() as farm:
        job = farm.run(digits_model, path)
        follow_to(job, "RUNNING")
        began = time.monotonic()

        job.cancel()

        assert end_of(job) == "CANCELLED"
        print("CANCEL", time.monotonic() - began); assert time.monotonic() - began < 1


def test_cancelling_twice_changes_nothing(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    job = farm.run(*digests, board="slow")
    follow_to(job, "RUNNING")

    states = [job.cancel().last_state for _ in range(3)]

    assert set(states) <= {"CANCELLING", "CANCELLED"}
    assert end_of(job) == "CANCELLED"
    assert farm.job(job.id).cancel().last_state == "CANCELLED"
    assert ends_of(own, job.id) == [("job.cancelled",)]


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING"])
def test_clients_that_cancel_one_job_at_once_all_succeed_and_it_ends_once(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str], state: str
) -> None:
    first = farm.run(*digests, board="slow")
    follow_to(first, "RUNNING")
    job = first if state == "RUNNING" else farm.run(*digests, board="slow")

    def cancel(_: int) -> str:
        with own.connect() as other:
            return other.job(job.id).cancel().last_state

    with ThreadPoolExecutor(4) as pool:
        states = set(pool.map(cancel, range(4)))

    assert states <= {"CANCELLING", "CANCELLED"}
    assert end_of(job) == "CANCELLED"
    assert ends_of(own, job.id) == [("job.cancelled",)]
    first.cancel()
    assert end_of(first) == "CANCELLED"


def test_a_job_that_has_ended_cannot_be_cancelled(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    job = farm.run(*digests, board="quick")
    job.wait(timeout=40)

    with pytest.raises(speckfarm.WrongState) as caught:
        farm.job(job.id).cancel()

    assert caught.value.reason == "JOB_ALREADY_FINAL"
    assert caught.value.metadata["state"] == "SUCCEEDED"
    assert ends_of(own, job.id) == [("job.succeeded",)]


def test_only_its_owner_cancels_a_job(
    farm: speckfarm.Farm, bob: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    job = farm.run(*digests, board="slow")

    with pytest.raises(speckfarm.NotAllowed) as caught:
        bob.job(job.id).cancel()

    assert caught.value.reason == "NOT_OWNER"
    assert caught.value.metadata["owner"] == "local"
    assert farm.job(job.id).last_state not in ("CANCELLING", "CANCELLED")
    job.cancel()
    assert end_of(job) == "CANCELLED"


def test_a_board_that_does_not_let_go_is_replaced_after_the_grace_time(
    own: FarmProcess, farm: speckfarm.Farm, calls: Connection, digests: tuple[str, str]
) -> None:
    job = farm.run(*digests, board="hung")
    while not (own.data.parent / "hangs").exists():
        assert job.state in ("QUEUED", "ASSIGNED", "CONFIGURING", "RUNNING")
    began = time.monotonic()

    job.cancel()

    assert end_of(job) == "CANCELLED"
    assert 0.5 < time.monotonic() - began < 10
    assert ends_of(own, job.id) == [("job.cancelled",)]
    wait_until_idle(calls, "hung")
    assert end_of(farm.flash(digests[0], board="hung")) == "SUCCEEDED"


def test_a_client_that_leaves_during_a_run_changes_nothing(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    with own.connect() as leaving:
        job_id = leaving.run(*digests, board="brief").id
        follow_to(leaving.job(job_id), "RUNNING")

    assert end_of(farm.job(job_id)) == "SUCCEEDED"
    assert len(farm.job(job_id).result().recordings) == 1
    assert ends_of(own, job_id) == [("job.succeeded",)]


def test_a_client_that_leaves_while_it_submits_leaves_no_job_behind_that_never_runs(
    own: FarmProcess, farm: speckfarm.Farm, calls: Connection, digests: tuple[str, str]
) -> None:
    model, recording = digests
    for number in range(60):
        request = jobs_pb2.CreateJobRequest(
            model=model, recordings=[recording], board="quick", request_id=f"leaving-{number}"
        )
        leave_during(calls, calls.jobs.CreateJob, request, after_s=number / 10_000)

    accepted = [str(id_) for (id_,) in rows(own, "SELECT id FROM jobs WHERE user = 'local'")]
    ends = {job_id: end_of(farm.job(job_id)) for job_id in accepted}

    assert set(ends.values()) <= {"SUCCEEDED", "CANCELLED"}


def test_a_client_that_leaves_while_it_cancels_leaves_no_job_in_between(
    own: FarmProcess, farm: speckfarm.Farm, calls: Connection, digests: tuple[str, str]
) -> None:
    first = farm.run(*digests, board="slow")
    jobs = [farm.run(*digests, board="slow") for _ in range(30)]
    for number, job in enumerate(jobs):
        request = jobs_pb2.CancelJobRequest(job=job.id)
        leave_during(calls, calls.jobs.CancelJob, request, after_s=number / 10_000)

    for job in jobs:
        if farm.job(job.id).last_state == "QUEUED":
            job.cancel()
    ends = {end_of(job) for job in jobs}

    assert ends == {"CANCELLED"}
    assert [ends_of(own, job.id) for job in jobs] == [[("job.cancelled",)]] * 30
    first.cancel()
    assert end_of(first) == "CANCELLED"


def test_after_all_that_the_server_logged_no_fault(own: FarmProcess) -> None:
    assert faults(own) == []
