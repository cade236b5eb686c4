"""The one table from the farm's errors to gRPC status codes, and the wrapper that applies it."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from speckfarm_server.convert import finding_message
from speckfarm_server.errors import (
    AlreadyExists,
    BadInput,
    Exhausted,
    FarmError,
    InternalError,
    ModelRejected,
    NotAllowed,
    NotFound,
    Unauthenticated,
    Unavailable,
    WrongState,
)

logger = logging.getLogger(__name__)

DOMAIN = "speckfarm"
# A status travels in trailing metadata, which gRPC limits to 8 KiB; `check` has no such limit.
MAX_MESSAGE_CHARS = 1200
MAX_METADATA_CHARS = 200
MAX_DETAIL_BYTES = 3500
RETRY_S = 1

CODES: dict[type[FarmError], int] = {
    BadInput: code_pb2.INVALID_ARGUMENT,
    NotFound: code_pb2.NOT_FOUND,
    ModelRejected: code_pb2.FAILED_PRECONDITION,
    WrongState: code_pb2.FAILED_PRECONDITION,
    AlreadyExists: code_pb2.ALREADY_EXISTS,
    Unauthenticated: code_pb2.UNAUTHENTICATED,
    NotAllowed: code_pb2.PERMISSION_DENIED,
    Exhausted: code_pb2.RESOURCE_EXHAUSTED,
    Unavailable: code_pb2.UNAVAILABLE,
    InternalError: code_pb2.INTERNAL,
}

T = TypeVar("T", bound=type)


def translated(servicer: T) -> T:
    """Class decorator: every rpc of the servicer ends in a rich status instead of an exception."""
    for name, method in list(vars(servicer).items()):
        if name.startswith("_"):
            continue
        if inspect.isasyncgenfunction(method):
            setattr(servicer, name, _stream(method))
        elif inspect.iscoroutinefunction(method):
            setattr(servicer, name, _unary(method))
    return servicer


def status_of(error: FarmError) -> Any:
    """The status to abort with: a message, exactly one ErrorInfo, and details by kind of error."""
    details: list[Any] = [
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=DOMAIN,
            metadata={key: value[:MAX_METADATA_CHARS] for key, value in error.metadata.items()},
        )
    ]
    if error.fields:
        violation = error_details_pb2.BadRequest.FieldViolation
        found = [violation(field=path, description=text[:200]) for path, text in error.fields[:9]]
        details.append(error_details_pb2.BadRequest(field_violations=found))
    if isinstance(error, Unavailable):
        details.append(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=RETRY_S)))
    if isinstance(error, ModelRejected):
        details += [finding_message(finding) for finding in error.findings]
    status = status_pb2.Status(code=_code(error), message=_cut(error.message))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        if status.ByteSize() + packed.ByteSize() > MAX_MESSAGE_CHARS + MAX_DETAIL_BYTES:
            break
        status.details.append(packed)
    return rpc_status.to_status(status)


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"


def _code(error: FarmError) -> int:
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def _unary(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def call(self: object, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(self, request, context)
        except FarmError as error:
            await context.abort_with_status(status_of(error))
        except Exception as error:  # a bug of ours: the client gets a reason, the log the trace
            await _abort_internal(context, method.__name__, error)

    return call


def _stream(method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(method)
    async def call(
        self: object, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        try:
            async for response in method(self, request, context):
                yield response
        except FarmError as error:
            await context.abort_with_status(status_of(error))
        except Exception as error:  # a bug of ours: the client gets a reason, the log the trace
            await _abort_internal(context, method.__name__, error)

    return call


async def _abort_internal(
    context: grpc.aio.ServicerContext[Any, Any], rpc: str, error: Exception
) -> None:
    if isinstance(error, grpc.aio.AbortError):  # an abort on its way out
        raise error
    logger.exception("%s failed", rpc)
    text = f"The farm failed in {rpc}: {type(error).__name__}; the server's log has the details"
    await context.abort_with_status(status_of(InternalError("INTERNAL_ERROR", text, rpc=rpc)))
