"""Settings and other words of a request that make no sense: refused by name, nothing queued."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

import speckfarm
from speckfarm.connection import Connection
from speckfarm.v1 import benchmarks_pb2, blobs_pb2, jobs_pb2, models_pb2, settings_pb2, usage_pb2
from tests.farm_follow import faults, raw_calls
from tests.farm_process import FarmProcess

FAR = 2**62


@pytest.fixture(scope="module")
def farm(server: FarmProcess) -> Iterator[speckfarm.Farm]:
    with server.connect() as connected:
        yield connected


@pytest.fixture(scope="module")
def calls(server: FarmProcess) -> Iterator[Connection]:
    with raw_calls(server) as connection:
        yield connection


@pytest.fixture(scope="module")
def registered(farm: speckfarm.Farm, digits_model: Path, one_digit: Path) -> tuple[str, str]:
    """Digests of a model and a recording that the farm has."""
    job = farm.run(digits_model, one_digit)
    job.wait(timeout=40)
    plain: dict[str, Any] = job.to_dict()
    return plain["model"], plain["recordings"][0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"decimator": {0: 64}}, "decimator.0"),
        ({"decimator": {12: 4}}, "decimator.12"),
        ({"decimator": {-1: 4}}, "decimator.-1"),
        ({"cores": {0: 9}}, "cores.0"),
        ({"cores": {0: 3, 1: 3}}, "cores.1"),
        ({"monitor": [9]}, "monitor"),
        ({"lower_clip": 0.5}, "lower_clip"),
        ({"lower_clip": float("nan")}, "lower_clip"),
        ({"lower_clip": float("-inf")}, "lower_clip"),
        ({"input_dt_us": 0}, "input_dt_us"),
        ({"slow_clock_hz": 1e9}, "slow_clock_hz"),
        ({"reset": "sideways"}, "reset"),
        ({"reset": {1: "sideways"}}, "reset.1"),
        ({"polarity": "both"}, "polarity"),
        ({"state": "forget"}, "state"),
        ({"input_pooling": 0}, "input_pooling"),
        ({"input_pooling": 3}, "input_pooling"),
        ({"input_pooling": (2, -2)}, "input_pooling"),
        ({"crop": (64, 64, 65, 64)}, "crop"),
        ({"crop": (0, 0, 0, 0)}, "crop"),
        ({"mirror": "both"}, "mirror"),
        ({"swap_xy": "yes"}, "swap_xy"),
    ],
)
def test_a_setting_out_of_range_is_named_with_what_is_allowed(
    farm: speckfarm.Farm, digits_model: Path, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(speckfarm.BadRequest) as checked:
        farm.check(digits_model, **options)
    with pytest.raises(speckfarm.BadRequest) as flashed:
        farm.flash(digits_model, **options)

    assert (checked.value.reason, flashed.value.reason) == ("SETTING_OUT_OF_RANGE",) * 2
    assert named in dict(checked.value.fields)
    assert len(checked.value.message.split()) > 4


def test_all_settings_out_of_range_are_named_at_once(
    farm: speckfarm.Farm, digits_model: Path
) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.check(digits_model, decimator={0: 64, 1: 3}, lower_clip=1.0, cores={2: 11})

    assert {"decimator.0", "decimator.1", "lower_clip", "cores.2"} <= dict(
        caught.value.fields
    ).keys()


@pytest.mark.parametrize(
    "options",
    [{"decimator": {7: 2}}, {"cores": {8: 8}}, {"monitor": [5]}, {"reset": {6: "zero"}}],
)
def test_a_layer_that_the_network_does_not_have_is_a_finding(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path, options: dict[str, Any]
) -> None:
    report = farm.check(digits_model, **options)
    with pytest.raises(speckfarm.ModelRejected) as ran:
        farm.run(digits_model, one_digit, **options)

    assert [f.reason for f in report.findings if f.severity == "error"] == ["LAYER_NOT_FOUND"]
    assert "LAYER_NOT_FOUND" in {finding.reason for finding in ran.value.findings}


@pytest.mark.parametrize(
    ("option", "near"), [("decimater", "decimator"), ("resett", "reset"), ("wieghts", "")]
)
def test_an_unknown_setting_is_named_with_the_nearest(
    farm: speckfarm.Farm, digits_model: Path, option: str, near: str
) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.check(digits_model, **{option: 1})

    assert caught.value.reason == "UNKNOWN_SETTING"
    assert option in caught.value.message
    assert near in caught.value.message


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"reset": 99}, "reset"),
        ({"layer_reset": {0: 99}}, "reset.0"),
        ({"polarity": 99}, "polarity"),
        ({"state": -5}, "state"),
        ({"decimator": {0: -2147483648}}, "decimator.0"),
        ({"monitor": [2147483647]}, "monitor"),
        ({"input_pooling_y": -1}, "input_pooling"),
        ({"input_pooling_x": 2147483647}, "input_pooling"),
        ({"crop": settings_pb2.Crop()}, "crop"),
        ({"crop": settings_pb2.Crop(left=2147483647, width=1, height=1)}, "crop"),
        ({"crop": settings_pb2.Crop(width=-2147483648, height=1)}, "crop"),
    ],
)
def test_numbers_that_no_client_of_ours_would_send_are_refused_too(
    calls: Connection, registered: tuple[str, str], fields: dict[str, Any], named: str
) -> None:
    settings = settings_pb2.Settings(**fields)

    check = models_pb2.CheckModelRequest(digest=registered[0], settings=settings)
    job = jobs_pb2.CreateJobRequest(model=registered[0], settings=settings)

    with pytest.raises(speckfarm.BadRequest) as checked:
        calls.call(calls.models.CheckModel, check)
    with pytest.raises(speckfarm.BadRequest) as created:
        calls.call(calls.jobs.CreateJob, job)

    assert (checked.value.reason, created.value.reason) == ("SETTING_OUT_OF_RANGE",) * 2
    assert named in dict(created.value.fields)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"chip": "speck9"}, "UNKNOWN_CHIP"),
        pytest.param({"kind": "real"}, "NO_MATCHING_BOARD", marks=pytest.mark.simulated),
        ({"board": "no-such-board"}, "NO_MATCHING_BOARD"),
        ({"chip": "speck2e"}, "NO_MATCHING_BOARD"),
        ({"queue_timeout_s": 0}, "TIMEOUT_INVALID"),
        ({"run_timeout_s": -1}, "TIMEOUT_INVALID"),
        ({"run_timeout_s": float("nan")}, "TIMEOUT_INVALID"),
        ({"run_timeout_s": float("inf")}, "TIMEOUT_INVALID"),
        ({"queue_timeout_s": 1e30}, "TIMEOUT_INVALID"),
        ({"request_id": "x" * 65}, "REQUEST_ID_INVALID"),
    ],
)
def test_a_job_that_no_board_could_take_is_refused(
    farm: speckfarm.Farm, digits_model: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(speckfarm.SpeckfarmError) as caught:
        farm.flash(digits_model, **options)

    assert caught.value.reason == reason


@pytest.mark.parametrize("name", ["queue_timeout", "run_timeout"])
@pytest.mark.parametrize("seconds", [FAR, -FAR, 10**12, 0])
def test_a_duration_that_no_clock_can_count_is_refused(
    calls: Connection, registered: tuple[str, str], name: str, seconds: int
) -> None:
    request = jobs_pb2.CreateJobRequest(model=registered[0], **{name: Duration(seconds=seconds)})

    with pytest.raises(speckfarm.BadRequest) as caught:
        calls.call(calls.jobs.CreateJob, request)

    assert caught.value.reason == "TIMEOUT_INVALID"


@pytest.mark.parametrize("name", ["", "nothing", "00" * 32, "x" * 100_000, "'; DROP TABLE jobs --"])
def test_names_of_nothing_are_not_found(calls: Connection, name: str) -> None:
    requests = [
        (calls.jobs.GetJob, jobs_pb2.GetJobRequest(job=name)),
        (calls.jobs.CancelJob, jobs_pb2.CancelJobRequest(job=name)),
        (calls.jobs.GetResult, jobs_pb2.GetResultRequest(job=name)),
        (calls.jobs.CreateJob, jobs_pb2.CreateJobRequest(model=name)),
        (calls.models.GetModel, models_pb2.GetModelRequest(model=name)),
        (
            calls.benchmarks.GetBenchmark,
            benchmarks_pb2.GetBenchmarkRequest(benchmark=name),
        ),
    ]

    for method, request in requests:
        with pytest.raises(speckfarm.SpeckfarmError) as caught:
            calls.call(method, request)
        assert caught.value.reason in {
            "JOB_NOT_FOUND", "MODEL_NOT_FOUND", "BENCHMARK_NOT_FOUND", "INVALID_DIGEST",
        }  # fmt: skip


@pytest.mark.parametrize(
    "token",
    ["x", "%%%", "bm90IGpzb24=", "WzFlOTk5LCAieCJd", "WzFlMzAsICJ4Il0=", "9" * 30, "9" * 5000],
)
def test_a_page_token_of_ones_own_is_refused(calls: Connection, token: str) -> None:
    requests = [
        (calls.jobs.ListJobs, jobs_pb2.ListJobsRequest(page_token=token)),
        (calls.models.ListModels, models_pb2.ListModelsRequest(page_token=token)),
        (calls.usage.ListUsageEvents, usage_pb2.ListUsageEventsRequest(page_token=token)),
    ]

    for method, request in requests:
        with pytest.raises(speckfarm.BadRequest) as caught:
            calls.call(method, request)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1])
def test_a_page_size_out_of_range_is_refused(calls: Connection, size: int) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        calls.call(calls.jobs.ListJobs, jobs_pb2.ListJobsRequest(page_size=size))

    assert caught.value.reason == "PAGE_SIZE_INVALID"


def test_an_unknown_state_or_group_is_refused(calls: Connection) -> None:
    requests = [
        (calls.jobs.ListJobs, jobs_pb2.ListJobsRequest(states=[99])),  # type: ignore[list-item]
        (calls.usage.QueryUsage, usage_pb2.QueryUsageRequest(group_by=99)),  # type: ignore[arg-type]
        (calls.usage.QueryLatency, usage_pb2.QueryLatencyRequest(group_by=-3)),  # type: ignore[arg-type]
        (calls.jobs.CreateJob, jobs_pb2.CreateJobRequest(board_kind=99)),  # type: ignore[arg-type]
    ]

    for method, request in requests:
        with pytest.raises(speckfarm.SpeckfarmError) as caught:
            calls.call(method, request)
        assert caught.value.reason in {"UNKNOWN_STATE", "GROUP_UNKNOWN", "UNKNOWN_BOARD_KIND"}


@pytest.mark.parametrize("seconds", [FAR, -FAR, 10**15])
def test_a_time_that_no_calendar_knows_is_answered_or_refused(
    calls: Connection, seconds: int
) -> None:
    when = Timestamp(seconds=seconds)
    requests = [
        (calls.usage.QueryUsage, usage_pb2.QueryUsageRequest(since=when)),
        (calls.usage.QueryLatency, usage_pb2.QueryLatencyRequest(until=when)),
        (calls.usage.ListUsageEvents, usage_pb2.ListUsageEventsRequest(since=when)),
    ]

    for method, request in requests:
        with pytest.raises(speckfarm.BadRequest) as caught:
            calls.call(method, request)
        assert caught.value.reason == "TIME_INVALID"


def test_too_many_digests_at_once_are_refused(calls: Connection) -> None:
    request = blobs_pb2.FindMissingRequest(digests=["00" * 32] * 1001)

    with pytest.raises(speckfarm.BadRequest) as caught:
        calls.call(calls.blobs.FindMissing, request)

    assert caught.value.reason == "TOO_MANY_DIGESTS"


def test_bytes_that_are_no_message_are_refused_and_harm_nothing(calls: Connection) -> None:
    method = calls.channel.unary_unary("/speckfarm.v1.JobService/CreateJob")

    with pytest.raises(grpc.RpcError):
        method(b"\xff\xff\xff\xff", metadata=calls.metadata, timeout=20)

    calls.call(calls.jobs.ListJobs, jobs_pb2.ListJobsRequest())


def test_after_all_that_the_server_logged_no_fault(
    server: FarmProcess, farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    result = farm.run(digits_model, one_digit).wait(timeout=40)

    assert result.recordings[0].prediction == result.recordings[0].label
    assert faults(server) == []
