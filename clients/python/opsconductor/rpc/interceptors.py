"""What happens around every call on the server: who may make it, and how its errors leave."""

from __future__ import annotations

import inspect
import logging
import secrets
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc

from opsconductor.rpc.authorization import ALLOWED, authorize
from opsconductor.rpc.errors import Internal, OpsConductorError
from opsconductor.rpc.identity import identity_of
from opsconductor.rpc.status import to_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]

logger = logging.getLogger(__name__)

_KINDS: Mapping[tuple[bool, bool], tuple[str, Callable[..., Any]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class _Around(grpc.aio.ServerInterceptor):
    """Runs ``before`` ahead of a call's behaviour and ``failed`` when it raises."""

    def __init__(self) -> None:
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Returns the method's handler with its behaviour wrapped; kept for the next call."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(handler, method))
        return known[1]

    async def before(self, context: Context, method: str) -> None:
        """Runs ahead of the call; whatever it raises, the call fails with."""

    async def failed(self, context: Context, method: str, error: Exception) -> None:
        """Runs when the call raised; the error is raised on unless this aborts the call."""

    def _wrap(self, handler: Handler, method: str) -> Handler:
        attribute, build = _KINDS[handler.request_streaming, handler.response_streaming]
        behaviour = getattr(handler, attribute)
        wrap = self._generator if inspect.isasyncgenfunction(behaviour) else self._coroutine
        wrapped: Handler = build(
            wrap(behaviour, method), handler.request_deserializer, handler.response_serializer
        )
        return wrapped

    def _coroutine(self, behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
        async def call(request: object, context: Context) -> Any:
            try:
                await self.before(context, method)
                result = behaviour(request, context)
                return await result if inspect.isawaitable(result) else result
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await self.failed(context, method, error)
                raise

        return call

    def _generator(self, behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
        async def call(request: object, context: Context) -> AsyncIterator[Any]:
            try:
                await self.before(context, method)
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await self.failed(context, method, error)
                raise

        return call


class ErrorInterceptor(_Around):
    """Turns raised errors into statuses with details; must be the first interceptor.

    An error nobody foresaw is logged under an id and leaves as INTERNAL with that id only: its text
    may hold what the caller must not see.
    """

    async def failed(self, context: Context, method: str, error: Exception) -> None:
        """Aborts the call with the status of the error."""
        if not isinstance(error, OpsConductorError):
            error = _logged(error, method)
        code, message, metadata = to_status(error)
        await context.abort(code, message, metadata)


class AuthorizationInterceptor(_Around):
    """Lets a call through when the role in the caller's certificate may make it."""

    def __init__(self, allowed: Mapping[str, frozenset[str]] = ALLOWED) -> None:
        super().__init__()
        self._allowed = allowed

    async def before(self, context: Context, method: str) -> None:
        """Raises PermissionDenied for callers without identity, unknown methods and wrong roles."""
        authorize(identity_of(context), method, self._allowed)


def server_interceptors() -> list[grpc.aio.ServerInterceptor]:
    """Returns the interceptors of every server, in their order."""
    return [ErrorInterceptor(), AuthorizationInterceptor()]


def _logged(error: Exception, method: str) -> Internal:
    error_id = f"err_{secrets.token_hex(8)}"
    logger.error("unexpected failure %s in %s", error_id, method, exc_info=error)
    return Internal(
        f"the server failed in a way it did not foresee; its log tells more under {error_id}",
        metadata={"error_id": error_id},
    )
