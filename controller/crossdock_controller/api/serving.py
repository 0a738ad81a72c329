"""The server: one socket, one event loop. It listens until it is told to stop, and keeps its certificate fresh."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import uvicorn
from loguru import logger
from uvicorn.protocols.http.h11_impl import H11Protocol

from crossdock.complaints import Complaints
from crossdock.errors import ConfigError, CrossdockError
from crossdock.lifecycle import Stop
from crossdock_controller.api.answers import HEADERS
from crossdock_controller.api.certificate import Renew

CONNECTIONS = 100
HEAD_BYTES = 64 * 1024
IDLE_SECONDS = 10.0  # as long as a connection may be without a whole request, twice over at most
GRACE_SECONDS = 3


class Patient(H11Protocol):
    """Ends a connection that sends no whole request: one byte a minute must not hold a place for ever."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._seen: object = self
        self._look = self.loop.call_later(IDLE_SECONDS, self._looked)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)

    def _looked(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and (self.cycle is None or self.cycle is self._seen):
            self.transport.close()
            return
        self._seen = self.cycle
        self._look = self.loop.call_later(IDLE_SECONDS, self._looked)


class _Server(uvicorn.Server):
    """Signals are the process's own to handle."""

    def capture_signals(self) -> Any:
        import contextlib

        return contextlib.nullcontext()


def listen(address: str) -> socket.socket:
    """Raises ConfigError when the address cannot be had."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let a second process take the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the API cannot listen on {address}: {error.strerror or error}",
            hint="is the port taken? crossdock controller run --api-listen HOST:PORT, or none",
        ) from error
    return listener


def serve(app: Any, listener: socket.socket, context: ssl.SSLContext, renew: Renew, stop: Stop) -> None:
    """Blocks until *stop*."""
    config = uvicorn.Config(
        app, http=Patient, ws="none", loop="asyncio", lifespan="on", log_config=None, access_log=False,
        proxy_headers=False,  # whoever calls from this machine could say to be anybody
        server_header=False, date_header=False, headers=list(HEADERS), limit_concurrency=CONNECTIONS,
        timeout_keep_alive=5, timeout_graceful_shutdown=GRACE_SECONDS, h11_max_incomplete_event_size=HEAD_BYTES,
        ssl_context_factory=lambda _config, _default: context,
    )  # fmt: skip
    server = _Server(config)

    def leave() -> None:
        server.should_exit = True

    stop.on_set(leave)
    asyncio.run(_serve(server, listener, renew))


async def _serve(server: uvicorn.Server, listener: socket.socket, renew: Renew) -> None:
    refreshing = asyncio.create_task(_refresh(renew))
    try:
        await server.serve([listener])
    finally:
        refreshing.cancel()


async def _refresh(renew: Renew, seconds: float = 20.0) -> None:
    complaints = Complaints()
    while True:
        await asyncio.sleep(seconds)
        try:
            if renew():
                logger.info("the API shows a new certificate")
        except (CrossdockError, OSError) as error:
            complaints.make("certificate", f"the API keeps the certificate it has: {error}")


def publish(path: Path, listener: socket.socket) -> str:
    """Write down where it listens, for people and tests; the address."""
    host, port = listener.getsockname()[:2]
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
    temporary.replace(path)
    return url
