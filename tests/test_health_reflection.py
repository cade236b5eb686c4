"""What any gRPC tool finds without our files: health by service, and the whole contract."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from speckfarm.v1 import jobs_pb2
from tests.farm_process import FarmProcess

SERVICES = [
    f"speckfarm.v1.{name}Service"
    for name in ("Benchmark", "Blob", "Board", "Info", "Job", "Model", "Recording", "Usage")
]
SERVING = health_pb2.HealthCheckResponse.SERVING
SECONDS = 20


@pytest.fixture(scope="module")
def channel(server: FarmProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_every_service_is_serving(channel: grpc.Channel, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(channel)

    checked = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)
    watched = next(stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS))

    assert (checked.status, watched.status) == (SERVING, SERVING)


def test_an_unknown_service_is_not_found(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)

    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=SECONDS)

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_gives_the_whole_contract(server: FarmProcess, channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="speckfarm.v1.JobService"),
    ]
    metadata = [("authorization", f"Bearer {server.token}")]

    listed, found = stub.ServerReflectionInfo(iter(requests), metadata=metadata, timeout=SECONDS)

    names = {service.name for service in listed.list_services_response.service}
    assert set(SERVICES) <= names
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(each)
        for each in found.file_descriptor_response.file_descriptor_proto
    ]
    expected = descriptor_pb2.FileDescriptorProto()
    jobs_pb2.DESCRIPTOR.CopyToProto(expected)
    assert expected in files
