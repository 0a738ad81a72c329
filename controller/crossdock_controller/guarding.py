"""In front of the enrollment port, which anyone may reach: whoever fails too often waits, and is told for how long.

It judges by what the service answers, so that every call of that port is under it: a refusal or a request that makes no
sense is a failure; what the store or this machine is at fault for is not. A failure is held against the token or the
certificate that was shown, and against the address where that was a guess. So a site that goes on with an old token, or
an agent that was away for too long, keeps nobody out who comes by the same address.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from loguru import logger

from crossdock_controller.refusing import Refusals
from crossdock_controller.throttle import Proving, Throttle, address_of

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
        self._addresses = throttle or Throttle()
        self._shown = Throttle(paced=False)  # by digest of the token or the certificate
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
            address, shown = address_of(str(context.peer())), _shown(request)
            now = time.monotonic()
            wait, who = self._addresses.wait(address, now), "from this address"
            if not wait:
                wait, who = self._shown.wait(shown, now), "with this token or certificate"
            if wait > 0:
                await self._hold_off(address, wait, who, context)
            watched = _Watched(context)
            try:
                answer = await serve(request, watched)
            except BaseException:
                if watched.code in _FAILURES:
                    self._shown.failed(shown, time.monotonic())
                    if not watched.proved:
                        self._addresses.failed(address, time.monotonic())
                    if again:
                        self._refusals.add("reenrol", "", address, watched.details)
                raise
            self._addresses.passed(address, time.monotonic())
            self._shown.passed(shown, time.monotonic())
            return answer

        return guarded

    async def _hold_off(self, address: str, wait: float, who: str, context: _Context) -> None:
        seconds = math.ceil(wait)
        self._refusals.add("flood", "", address, f"too many attempts; told to wait {seconds} s")
        if time.monotonic() - self._said_at > 60:  # a line a minute, whatever the flood
            self._said_at = time.monotonic()
            logger.bind(peer=address, wait_seconds=seconds).warning("too many attempts to enrol {}", who)
        await context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"too many attempts to enrol came {who}: try again in {seconds} s",
            ((RETRY_AFTER, str(seconds)),),
        )


def _shown(request: Any) -> str:
    """A digest of what the request shows of its right to come in."""
    words = getattr(request, "token", "").encode() or getattr(request, "certificate", b"")
    return hashlib.sha256(words).hexdigest()


class _Watched(Proving):
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
