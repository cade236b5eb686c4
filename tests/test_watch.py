"""WatchJob: replay after a sequence number, following to the end, and the result with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import speckfarm
from speckfarm.connection import Connection
from speckfarm.v1 import jobs_pb2
from tests.farm_follow import end_of, follow_to, raw_calls, watch_messages
from tests.farm_process import FarmProcess, scripted

SLOW = {"configure_ms": 50, "reset_ms": 20, "run_ms": 300, "collect_ms": 50}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    process = FarmProcess(tmp_path_factory.mktemp("watch") / "data", scripted(SLOW)).start()
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
def finished(farm: speckfarm.Farm, digits_model: Path, one_digit: Path) -> str:
    """A job that has succeeded."""
    job = farm.run(digits_model, one_digit)
    job.wait(timeout=40)
    return job.id


def numbered(messages: list[jobs_pb2.WatchJobResponse]) -> list[jobs_pb2.WatchJobResponse]:
    """Without progress messages, which repeat the number of the latest event."""
    last, kept = 0, []
    for message in messages:
        if message.sequence > last:
            last = message.sequence
            kept.append(message)
    return kept


def states(messages: list[jobs_pb2.WatchJobResponse]) -> list[str]:
    return [jobs_pb2.JobState.Name(m.state).removeprefix("JOB_STATE_") for m in messages]


def test_a_stream_from_the_start_tells_every_state_once(calls: Connection, finished: str) -> None:
    messages = numbered(watch_messages(calls, finished))

    assert states(messages) == [
        "QUEUED", "ASSIGNED", "CONFIGURING", "RUNNING", "COLLECTING", "SUCCEEDED",
    ]  # fmt: skip
    assert [message.sequence for message in messages] == [1, 2, 3, 4, 5, 6]
    times = [message.time.ToMicroseconds() for message in messages]
    assert times == sorted(times)


@pytest.mark.parametrize("after", range(7))
def test_a_stream_after_a_number_tells_the_rest(
    calls: Connection, finished: str, after: int
) -> None:
    messages = watch_messages(calls, finished, after=after)

    assert [message.sequence for message in messages] == list(range(after + 1, 7))


@pytest.mark.parametrize("after", [-1, 99, 2**62, -(2**62)])
def test_a_number_that_no_event_has_harms_nothing(
    calls: Connection, finished: str, after: int
) -> None:
    messages = watch_messages(calls, finished, after=after)

    assert [message.sequence for message in messages] == ([] if after > 0 else [1, 2, 3, 4, 5, 6])


def test_the_first_and_the_last_message_carry_the_job(calls: Connection, finished: str) -> None:
    messages = watch_messages(calls, finished)

    assert [message.HasField("job") for message in messages] == [True, *[False] * 4, True]
    assert messages[-1].job.state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert not any(message.HasField("result") for message in messages)


def test_the_result_comes_with_the_end_if_asked_for(calls: Connection, finished: str) -> None:
    messages = watch_messages(calls, finished, with_result=True)

    answer = calls.call(calls.jobs.GetResult, jobs_pb2.GetResultRequest(job=finished))
    assert [message.HasField("result") for message in messages] == [*[False] * 5, True]
    assert messages[-1].result == answer.result


def test_a_stream_that_is_left_and_taken_up_again_misses_and_doubles_nothing(
    farm: speckfarm.Farm, calls: Connection, digits_model: Path, one_digit: Path
) -> None:
    job = farm.run(digits_model, one_digit)
    seen: list[int] = []
    while True:  # one message from each stream
        after = seen[-1] if seen else 0
        request = jobs_pb2.WatchJobRequest(job=job.id, after_sequence=after)
        stream = calls.stream(calls.jobs.WatchJob, request, timeout_s=20)
        message = next(m for m in stream if m.sequence > after)
        stream.close()  # type: ignore[attr-defined]
        seen.append(message.sequence)
        if message.state == jobs_pb2.JOB_STATE_SUCCEEDED:
            break

    assert seen == list(range(1, seen[-1] + 1))


def test_many_watch_one_job_and_all_see_its_end(
    own: FarmProcess, farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    job = farm.run(digits_model, one_digit)
    streams = []
    with raw_calls(own) as other:
        request = jobs_pb2.WatchJobRequest(job=job.id)
        for _ in range(20):
            streams.append(other.stream(other.jobs.WatchJob, request, timeout_s=30))

        told = [states(numbered(list(stream))) for stream in streams]

    assert {each[-1] for each in told} == {"SUCCEEDED"}
    assert {each[0] for each in told} == {"QUEUED"}


def test_a_watch_outlives_a_restart_of_the_server(
    tmp_path: Path, digits_model: Path, one_digit: Path
) -> None:
    listen = "127.0.0.1:0"
    server = FarmProcess(tmp_path / "data", scripted({"run_ms": 1500}), listen=listen).start()
    with server.connect() as farm:
        job = farm.run(digits_model, one_digit)
        follow_to(job, "RUNNING")
        server.kill()
        server.start(listen=server.address)

        ended = end_of(job)

    server.stop()
    assert ended == "SUCCEEDED"


def test_a_job_that_is_not_there_is_not_found(calls: Connection) -> None:
    with pytest.raises(speckfarm.NotFound) as caught:
        watch_messages(calls, "job-that-is-not")

    assert caught.value.reason == "JOB_NOT_FOUND"


def test_the_result_of_a_job_that_has_none_yet_is_refused(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    job = farm.run(digits_model, one_digit)

    with pytest.raises(speckfarm.WrongState) as early:
        job.result()
    job.cancel()
    ended = end_of(job)
    with pytest.raises(speckfarm.JobCancelled):
        job.result()

    assert early.value.reason == "RESULT_NOT_READY"
    assert ended == "CANCELLED"
    assert json.loads(json.dumps(job.to_dict()))["state"] == "CANCELLED"
