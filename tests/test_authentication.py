"""No call passes without a token that counts; health probes are the one exception."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import speckfarm
from speckfarm.status import read_error
from speckfarm.v1 import (
    benchmarks_pb2,
    blobs_pb2,
    boards_pb2,
    info_pb2,
    jobs_pb2,
    models_pb2,
    recordings_pb2,
    usage_pb2,
)
from tests.farm_follow import faults
from tests.farm_process import FarmProcess, scripted

MODULES = (
    benchmarks_pb2, blobs_pb2, boards_pb2, info_pb2, jobs_pb2, models_pb2, recordings_pb2,
    usage_pb2,
)  # fmt: skip
METHODS: dict[str, MethodDescriptor] = {
    method.full_name: method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
REFLECTION = "grpc.reflection.v1alpha.ServerReflection.ServerReflectionInfo"
SECONDS = 20


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    process = FarmProcess(tmp_path_factory.mktemp("users") / "data", scripted({})).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def channel(own: FarmProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(own.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def revoked(own: FarmProcess) -> str:
    """A token that counted until a moment ago."""
    token = own.server_command("user", "add", "eve")
    with speckfarm.connect(own.address, token) as farm:
        assert farm.info().user == "eve"
        own.server_command("user", "revoke", "eve")
        wait_until_refused(farm)
    return token


def wait_until_refused(farm: speckfarm.Farm) -> None:
    """Ask until the server has read that a user was revoked; it does so every second."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            farm.info()
        except speckfarm.Unauthenticated:
            return
    raise AssertionError("a revoked token still counts")


def call(channel: grpc.Channel, name: str, metadata: list[tuple[str, str]]) -> None:
    """Make any call of the contract with an empty request, and read its answer to the end."""
    path = "/{}/{}".format(*name.rsplit(".", 1))
    streams = (True, True) if name == REFLECTION else _streams(METHODS[name])
    make: dict[tuple[bool, bool], Any] = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    request = iter([b""]) if streams[0] else b""
    answer = make[streams](path)(request, metadata=metadata, timeout=SECONDS)
    if streams[1]:
        list(answer)


def _streams(method: MethodDescriptor) -> tuple[bool, bool]:
    return bool(method.client_streaming), bool(method.server_streaming)


def refusal(channel: grpc.Channel, name: str, metadata: list[tuple[str, str]]) -> tuple[str, str]:
    """Status and reason of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, name, metadata)
    return caught.value.code().name, read_error(caught.value, "").reason


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def test_every_service_of_the_contract_is_tried() -> None:
    services = {name.split(".")[2] for name in METHODS}

    assert services == {
        "BenchmarkService", "BlobService", "BoardService", "InfoService", "JobService",
        "ModelService", "RecordingService", "UsageService",
    }  # fmt: skip
    assert len(METHODS) >= 30


@pytest.mark.parametrize("name", [*METHODS, REFLECTION])
def test_no_call_passes_without_a_token_that_counts(
    channel: grpc.Channel, revoked: str, name: str
) -> None:
    found = {
        "none": refusal(channel, name, []),
        "wrong": refusal(channel, name, bearer("sf_wrong")),
        "empty": refusal(channel, name, bearer("")),
        "scheme": refusal(channel, name, [("authorization", "Basic bG9jYWw6eA==")]),
        "revoked": refusal(channel, name, bearer(revoked)),
    }

    assert found == {
        "none": ("UNAUTHENTICATED", "TOKEN_MISSING"),
        "wrong": ("UNAUTHENTICATED", "TOKEN_UNKNOWN"),
        "empty": ("UNAUTHENTICATED", "TOKEN_UNKNOWN"),
        "scheme": ("UNAUTHENTICATED", "TOKEN_MISSING"),
        "revoked": ("UNAUTHENTICATED", "TOKEN_REVOKED"),
    }


def test_health_is_open(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)

    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_answers_who_has_a_token(own: FarmProcess, channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    [answer] = stub.ServerReflectionInfo(
        iter([request]), metadata=bearer(own.token), timeout=SECONDS
    )

    names = {service.name for service in answer.list_services_response.service}
    assert {name.rpartition(".")[0] for name in METHODS} <= names


def test_the_local_token_is_for_the_eyes_of_its_user_only(own: FarmProcess) -> None:
    path = own.data / "local.json"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.data.stat().st_mode) == 0o700
    assert json.loads(path.read_text())["token"] == own.token


def test_no_token_is_stored_or_logged(own: FarmProcess, revoked: str) -> None:
    token = own.server_command("user", "add", "ada")
    with speckfarm.connect(own.address, token) as farm:
        assert farm.info().user == "ada"

    files = [path for path in own.data.rglob("*") if path.is_file() and path.name != "local.json"]

    assert own.data / "farm.db" in files
    for secret in (token, revoked, own.token):
        assert not [path for path in files if secret.encode() in path.read_bytes()]
        assert not [line for line in own.log if secret in line]


def test_a_user_that_was_revoked_may_come_back_with_a_new_token_only(
    own: FarmProcess, channel: grpc.Channel
) -> None:
    old = own.server_command("user", "add", "zoe")
    own.server_command("user", "revoke", "zoe")
    new = own.server_command("user", "add", "zoe")

    with speckfarm.connect(own.address, new) as farm:
        assert farm.info().user == "zoe"
    info = "speckfarm.v1.InfoService.GetServerInfo"
    assert refusal(channel, info, bearer(old))[0] == "UNAUTHENTICATED"


def test_a_stream_that_runs_does_not_outlive_its_token_for_new_calls(own: FarmProcess) -> None:
    token = own.server_command("user", "add", "max")
    with speckfarm.connect(own.address, token) as farm:
        farm.info()
        own.server_command("user", "revoke", "max")

        wait_until_refused(farm)

        with pytest.raises(speckfarm.Unauthenticated) as caught:
            farm.jobs()
    assert caught.value.reason == "TOKEN_REVOKED"
    assert faults(own) == []
