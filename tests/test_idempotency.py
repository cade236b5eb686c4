"""Same request id and body: the same object, also after a restart; another body: refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import speckfarm
from tests.farm_follow import rows
from tests.farm_process import FarmProcess, scripted


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    process = FarmProcess(tmp_path_factory.mktemp("requests") / "data", scripted({})).start()
    yield process
    process.stop()


@pytest.fixture
def farm(own: FarmProcess) -> Iterator[speckfarm.Farm]:
    with own.connect() as connected:
        yield connected


@pytest.fixture(scope="module")
def digests(own: FarmProcess, digits_model: Path, one_digit: Path) -> tuple[str, str]:
    with own.connect() as connected:
        job = connected.run(digits_model, one_digit)
        job.wait(timeout=40)
    plain = json.loads(json.dumps(job.to_dict()))
    return plain["model"], plain["recordings"][0]


def count(own: FarmProcess, table: str = "jobs") -> int:
    [(number,)] = rows(own, f"SELECT count(*) FROM {table}")
    return int(str(number))


def test_the_same_request_is_the_same_job(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    before = count(own)

    jobs = [farm.run(*digests, decimator={0: 4}, request_id="same") for _ in range(3)]

    assert len({job.id for job in jobs}) == 1
    assert count(own) == before + 1
    assert jobs[0].wait(timeout=40).to_dict()["job"] == jobs[2].id


def test_the_same_request_from_many_at_once_is_one_job(
    own: FarmProcess, digests: tuple[str, str]
) -> None:
    before = count(own)

    def run(_: int) -> str:
        with own.connect() as farm:
            return farm.run(*digests, request_id="at-once").id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(run, range(8)))

    assert len(ids) == 1
    assert count(own) == before + 1


@pytest.mark.parametrize("change", [{"reset": "zero"}, {"keep_lags": True}, {"run_timeout_s": 9}])
def test_another_body_with_a_used_id_is_refused_and_names_the_job(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str], change: dict[str, object]
) -> None:
    job = farm.run(*digests, request_id="used")
    before = count(own)

    with pytest.raises(speckfarm.AlreadyExists) as caught:
        farm.run(*digests, request_id="used", **change)

    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert caught.value.metadata["object"] == job.id
    assert count(own) == before


def test_without_a_request_id_every_call_is_a_job_of_its_own(
    farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    jobs = {farm.run(*digests).id for _ in range(3)}

    assert len(jobs) == 3


def test_request_ids_of_two_users_are_two(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    token = own.server_command("user", "add", "ada")
    with speckfarm.connect(own.address, token) as other:
        theirs = other.run(*digests, request_id="mine")

        ours = farm.run(*digests, request_id="mine")

        assert ours.id != theirs.id


def test_the_same_benchmark_request_is_the_same_benchmark(
    own: FarmProcess, farm: speckfarm.Farm, digests: tuple[str, str]
) -> None:
    model, recording = digests
    sweep = {"decimator.0": [None, 2]}
    before = count(own), count(own, "benchmarks")

    benches = [farm.benchmark(model, recording, sweep=sweep, request_id="bench") for _ in range(2)]

    assert benches[0].id == benches[1].id
    assert (count(own), count(own, "benchmarks")) == (before[0] + 2, before[1] + 1)
    with pytest.raises(speckfarm.AlreadyExists):
        farm.benchmark(model, recording, request_id="bench")


def test_a_request_is_remembered_over_a_kill_of_the_server(
    own: FarmProcess, digests: tuple[str, str]
) -> None:
    with own.connect() as farm:
        job_id = farm.run(*digests, request_id="before").id
    own.kill()
    own.start()

    with own.connect() as farm:
        again = farm.run(*digests, request_id="before")
        with pytest.raises(speckfarm.AlreadyExists) as caught:
            farm.run(*digests, request_id="before", reset="zero")

        assert again.id == job_id
        assert again.wait(timeout=40).to_dict()["job"] == job_id
    assert caught.value.reason == "REQUEST_ID_REUSED"
