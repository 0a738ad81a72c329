"""In front of the enrollment port, which anyone may reach: whoever fails too often waits, and is told for how long.

It judges by what the service answers, so that every call of that port is under it: a refusal or a request that makes no
sense is a failure of its address; what the store or this machine is at fault for is not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from loguru import logger

from crossdock_controller.refusing import Refusals
from crossdock_controller.throttle import Throttle, address_of

RETRY_AFTER = "retry-after-seconds"  # in the trailing metadata of a RESOURCE_EXHAUSTED
REENROLL = "/Reenroll"
AT_ONCE = 256  # calls of this port; more are told RESOURCE_EXHAUSTED by gRPC itself
_FAILURES = {
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
}

_Context = Any  # grpc.aio.ServicerContext; grpcio ships no types
_Handler = Callable[[Any, _Context], Awaitable[Any]]


class PortGuard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio ships no types
    """For the server of the enrollment port."""

    def __init__(self, refusals: Refusals, throttle: Throttle | None = None) -> None:
        self._refusals = refusals
        self._throttle = throttle or Throttle()
        self._said_at = float("-inf")

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            self._guarded(handler.unary_unary, details.method.endswith(REENROLL)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _guarded(self, serve: _Handler, again: bool) -> _Handler:
        """*again*: it is the call of an agent that wants to come back, whose service counts nothing itself."""

        async def guarded(request: Any, context: _Context) -> Any:
            address = address_of(str(context.peer()))
            wait = self._throttle.wait(address, time.monotonic())
            if wait > 0:
                await self._hold_off(address, wait, context)
            watched = _Watched(context)
            try:
                answer = await serve(request, watched)
            except BaseException:
                if watched.code in _FAILURES:
                    self._throttle.failed(address, time.monotonic())
                    if again:
                        self._refusals.add("reenrol", "", address, watched.details)
                raise
            self._throttle.passed(address, time.monotonic())
            return answer

        return guarded

    async def _hold_off(self, address: str, wait: float, context: _Context) -> None:
        seconds = math.ceil(wait)
        self._refusals.add("flood", "", address, f"too many attempts; told to wait {seconds} s")
        if time.monotonic() - self._said_at > 60:  # a line a minute, whatever the flood
            self._said_at = time.monotonic()
            logger.bind(peer=address, wait_seconds=seconds).warning("too many attempts to enrol from one address")
        await context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"too many attempts to enrol came from this address: try again in {seconds} s",
            ((RETRY_AFTER, str(seconds)),),
        )


class _Watched:
    """A call's context that remembers with which code it was ended, and what was said."""

    def __init__(self, context: _Context) -> None:
        self._context = context
        self.code: grpc.StatusCode | None = None
        self.details = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(self, code: grpc.StatusCode, details: str = "", *args: Any) -> None:
        self.code, self.details = code, details
        await self._context.abort(code, details, *args)
