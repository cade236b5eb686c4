"""One table from gRPC errors to speckfarm's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from speckfarm.errors import (
    AlreadyExists,
    BadRequest,
    Exhausted,
    FarmFault,
    FarmUnavailable,
    ModelRejected,
    NotAllowed,
    NotFound,
    SpeckfarmError,
    Unauthenticated,
    WrongState,
)

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as AnyMessage

    from speckfarm.findings import Finding

_CLASSES: dict[grpc.StatusCode, type[SpeckfarmError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: BadRequest,
    grpc.StatusCode.OUT_OF_RANGE: BadRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: WrongState,
    grpc.StatusCode.ABORTED: WrongState,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Exhausted,
    grpc.StatusCode.UNAVAILABLE: FarmUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: FarmUnavailable,
    grpc.StatusCode.CANCELLED: FarmUnavailable,  # a server that stops cancels its calls
}


_WHY_NOBODY = (
    "Connection refused", "Network is unreachable", "No route to host", "Timeout occurred",
    "DNS resolution failed", "Connection reset",
)  # fmt: skip


@contextmanager
def farm_errors(server: str) -> Iterator[None]:
    """Turn gRPC errors of the block into speckfarm's; `server` is named where nobody answers."""
    try:
        yield
    except grpc.RpcError as error:
        found = read_error(error, server)
        # A bug may need all there is; otherwise gRPC's own words add nothing.
        raise found from (error if isinstance(found, FarmFault) else None)


def read_error(error: grpc.RpcError, server: str) -> SpeckfarmError:
    """The speckfarm error that a gRPC error stands for."""
    code = error.code()
    kind = _CLASSES.get(code, FarmFault)
    details = _Details(error)
    if details.reason == "MODEL_REJECTED":
        rejected = ModelRejected(details.reason, error.details() or "", metadata=details.metadata)
        rejected.findings = tuple(details.findings)
        return rejected
    message = error.details() or code.name
    if kind is FarmUnavailable and not details.reason:
        details.metadata |= {"server": server, "detail": message}
        message = _unanswered(server, message)
    return kind(
        details.reason or code.name, message, metadata=details.metadata, fields=details.fields
    )


def _unanswered(server: str, detail: str) -> str:
    """gRPC's sentence without the addresses and endpoints it tried."""
    if "failed to connect" not in detail and "DNS resolution" not in detail:
        return f"No answer from {server}: {detail}"
    known = (why for why in _WHY_NOBODY if why.lower() in detail.lower())
    return f"Nobody answers at {server} ({next(known, detail).lower()})"


class _Details:
    """What stands in the google.rpc.Status that came with an error."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.fields: list[tuple[str, str]] = []
        self.findings: list[Finding] = []
        for detail in _packed(error):
            self._read(detail)

    def _read(self, detail: AnyMessage) -> None:
        # Imported here: most programs never see an error, and these cost 20 ms.
        from google.rpc import error_details_pb2

        from speckfarm.findings import read_finding
        from speckfarm.v1 import findings_pb2

        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        finding, unmet = findings_pb2.Finding(), error_details_pb2.PreconditionFailure()
        if detail.Unpack(info):
            self.reason = info.reason
            self.metadata.update(sorted(info.metadata.items()))
        elif detail.Unpack(bad):
            self.fields += [(each.field, each.description) for each in bad.field_violations]
        elif detail.Unpack(finding):
            self.findings.append(read_finding(finding))
        elif detail.Unpack(unmet):
            self.fields += [(each.subject, each.description) for each in unmet.violations]


def _packed(error: grpc.RpcError) -> list[AnyMessage]:
    from grpc_status import rpc_status

    try:
        status = rpc_status.from_call(error)
    except ValueError:  # a proxy's status that contradicts its details
        return []
    return [] if status is None else list(status.details)
