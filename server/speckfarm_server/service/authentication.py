"""Every call is authenticated before its servicer sees it; only health probes are not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc

from speckfarm_server.errors import Unauthenticated
from speckfarm_server.service.status import status_of
from speckfarm_server.users import Tokens

_OPEN = "/grpc.health.v1.Health/"
_USER: ContextVar[str] = ContextVar("user")


def calling_user() -> str:
    """Who makes the current call."""
    return _USER.get()


class Authentication(grpc.aio.ServerInterceptor):
    """Turns the token of a call into its user, or ends the call."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Let the call pass, or answer it with UNAUTHENTICATED."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_OPEN):
            return handler
        try:
            user = await self._tokens.authenticate(handler_call_details.invocation_metadata)
        except Unauthenticated as error:
            return _refusing(handler, error)
        _USER.set(user)
        return handler


def _refusing(handler: Any, error: Unauthenticated) -> Any:
    """A handler of the same shape that only aborts."""

    async def refuse(_request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await context.abort_with_status(status_of(error))

    async def refuse_stream(_request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await context.abort_with_status(status_of(error))
        yield  # makes this an async generator, as a streaming handler must be

    shapes = {
        (False, False): (grpc.unary_unary_rpc_method_handler, refuse),
        (False, True): (grpc.unary_stream_rpc_method_handler, refuse_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, refuse),
        (True, True): (grpc.stream_stream_rpc_method_handler, refuse_stream),
    }
    make, refusal = shapes[handler.request_streaming, handler.response_streaming]
    return make(
        refusal,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
