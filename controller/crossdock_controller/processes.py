"""The controller's processes: the gateway here, a normalizer and a dispatcher beside it, on cores of their own.

A worker that dies is started again; workers end when our end of their standard input closes, however we died.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from loguru import logger

from crossdock.errors import ConfigError
from crossdock.lifecycle import Stop
from crossdock.lock import SingleInstance
from crossdock.retry import Backoff
from crossdock.tls import SERVER_OPTIONS
from crossdock.v1 import enrollment_pb2_grpc, link_pb2_grpc
from crossdock_controller.authority import SERVER_LIFE, Authority, ServerPair
from crossdock_controller.committer import Committer
from crossdock_controller.fleet import Fleet
from crossdock_controller.gateway import EnrollmentService, LinkService
from crossdock_controller.limits import OpenFiles, raise_open_files
from crossdock_controller.paths import Addresses, DataDirectory, write_addresses
from crossdock_controller.retention import Retention
from crossdock_controller.store import migrate
from crossdock_controller.store.intake import IntakeReader, IntakeWriter
from crossdock_controller.store.wake import Waker

REFRESH_SECONDS = 0.5  # how soon a revocation cuts a live stream, and a new revision is offered
GRACE_SECONDS = 3.0
SETTLE_SECONDS = 0.2  # many times what gRPC needs between asking for the certificate and using it
WORKER_ROLES = ("normalize", "dispatch")


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """*listen* and *enroll_listen*: "host:port" (port 0: any free one); *advertise*: the host agents use for both."""

    data: Path
    listen: str = "0.0.0.0:7443"
    enroll_listen: str = "0.0.0.0:7444"
    advertise: str = ""
    certificate_hours: float = 24.0
    workers: bool = True
    retention_days: float = 14.0


def run_controller(settings: ControllerSettings, stop: Stop) -> None:
    """Blocks until *stop*. Raises Refused when another controller holds the data, ConfigError on a bad address."""
    data = DataDirectory(settings.data)
    data.prepare()
    with ExitStack() as stack:
        stack.enter_context(SingleInstance(data.lock))
        if data.restoring.exists():
            raise ConfigError(f"a restore of {data.root} was interrupted", hint="give it again: crossdock restore DIR")
        migrate(data.state)
        open_files = OpenFiles(raise_open_files())
        writer = IntakeWriter(data.intake)
        if settings.workers:
            for role in WORKER_ROLES:
                stack.enter_context(Worker(role, data, stop))
        asyncio.run(_serve(settings, data, writer, open_files, stop))


async def _serve(
    settings: ControllerSettings, data: DataDirectory, writer: IntakeWriter, open_files: OpenFiles, stop: Stop
) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(stopped.set)

    stop.on_set(wake)
    async with AsyncExitStack() as stack:
        stack.callback(stop.forget, wake)
        waker = Waker(data.state)
        stack.callback(waker.close)
        authority = Authority.open(data.authority)
        fleet = Fleet(data.state, authority, dt.timedelta(hours=settings.certificate_hours))
        stack.callback(fleet.close)
        committer = Committer(writer, lambda: waker.wake("normalize"))
        stack.callback(committer.close)
        reader = IntakeReader(data.intake)
        stack.callback(reader.close)
        credentials = ServerCredentials(authority, _names(settings))
        link, link_port = await _listen(settings.listen, credentials.mutual())
        enrollment, enroll_port = await _listen(settings.enroll_listen, credentials.server_only())
        host = settings.advertise or _host_of(settings.listen)
        addresses = Addresses(f"{host}:{link_port}", f"{host}:{enroll_port}")
        link_pb2_grpc.add_LinkServicer_to_server(LinkService(fleet, committer, reader), link)  # type: ignore[no-untyped-call]
        service = EnrollmentService(fleet, addresses.link)
        enrollment_pb2_grpc.add_EnrollmentServicer_to_server(service, enrollment)  # type: ignore[no-untyped-call]

        async def refresh() -> None:
            await fleet.refresh()
            open_files.check(fleet.size)

        await refresh()
        retention = Retention(data, dt.timedelta(days=settings.retention_days))
        tasks = [
            asyncio.create_task(_forever("intake", committer.run)),
            asyncio.create_task(_every(REFRESH_SECONDS, "fleet", refresh)),
            asyncio.create_task(_every(60.0, "retention", lambda: retention.step(writer, committer.in_thread))),
        ]
        await link.start()
        await enrollment.start()
        write_addresses(data, addresses)
        logger.bind(link=addresses.link, enrollment=addresses.enrollment).info("controller is up")
        await stopped.wait()
        logger.info("controller is stopping")
        await asyncio.gather(link.stop(GRACE_SECONDS), enrollment.stop(GRACE_SECONDS))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ServerCredentials:
    """The controller's own certificate, made anew at two thirds of its life, and when the clock turns out to have
    been ahead as it was made; gRPC asks for it at every handshake.

    gRPC is told only of a change. A configuration that it takes for new replaces the one that other threads are just
    making handshakes with, and the process ends (grpc/grpc#36693): seen within a second when a fleet connected. Where
    there is a change, we wait before we tell: gRPC holds new handshakes back meanwhile, and the ones under way finish.
    """

    def __init__(self, authority: Authority, names: list[str]) -> None:
        self._authority = authority
        self._names = names
        self._lock = threading.Lock()  # each port asks from threads of its own
        self._pair = self._issue()

    def mutual(self) -> grpc.ServerCredentials:
        return self._dynamic(require_client_authentication=True)

    def server_only(self) -> grpc.ServerCredentials:
        return self._dynamic(require_client_authentication=False)

    def watch(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """For one port: each call gives what changed since the last one, None when nothing did."""
        told = self._pair

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            current = self._current()
            if current is told:
                return None
            time.sleep(SETTLE_SECONDS)
            told = current
            return self._configuration(current)

        return changed

    def _dynamic(self, *, require_client_authentication: bool) -> grpc.ServerCredentials:
        changed = self.watch()
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(self._pair), changed, require_client_authentication=require_client_authentication
        )

    def _current(self) -> ServerPair:
        with self._lock:
            life_us = SERVER_LIFE.total_seconds() * 1_000_000
            left_us = self._pair.expires_us - time.time_ns() // 1000
            if left_us < life_us / 3 or left_us > life_us:
                self._pair = self._issue()
            return self._pair

    def _configuration(self, pair: ServerPair) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(pair.key, pair.certificate)], root_certificates=self._authority.bundle
        )

    def _issue(self) -> ServerPair:
        return self._authority.issue_server(self._names, dt.datetime.now(dt.UTC))


class Worker:
    """One worker process, kept alive by a thread of ours; a context manager that ends it."""

    def __init__(self, role: str, data: DataDirectory, stop: Stop) -> None:
        self._role = role
        self._command = [sys.executable, "-m", "crossdock_controller.worker", "--role", role, "--data", str(data.root)]
        if getattr(sys, "frozen", False):
            self._command = [sys.executable, "worker", "--role", role, "--data", str(data.root)]
        self._stop = stop
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        self._thread = threading.Thread(target=self._keep, name=f"worker-{self._role}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15.0)

    def _keep(self) -> None:
        backoff, rng, failures = Backoff(0.5, 2.0, 30.0), random.Random(), 0  # noqa: S311 - jitter
        while not self._stop.is_set():
            started = time.monotonic()
            # The pipe is the leash: when we die, however, its end closes and the worker leaves.
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE)  # noqa: S603 - our own executable
            self._process = process
            self._stop.on_set(lambda p=process: p.stdin.close() if p.stdin else None)  # type: ignore[misc]
            code = process.wait()
            if self._stop.is_set():
                return
            failures = 1 if time.monotonic() - started > 60 else failures + 1
            logger.bind(role=self._role, code=code).error("worker ended unexpectedly and is started again")
            self._stop.wait(backoff.delay(failures, rng))


async def _listen(address: str, credentials: grpc.ServerCredentials) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address}: {error}", hint="is the port taken? choose another") from error
    return server, port


async def _every(seconds: float, name: str, call: Callable[[], Awaitable[object]]) -> None:
    """Run *call* (a coroutine function) every *seconds*; a failure is logged and the next turn comes all the same."""

    async def once() -> None:
        await asyncio.sleep(seconds)
        await call()

    while True:
        await _guard(name, once)


async def _forever(name: str, call: Callable[[], Awaitable[object]]) -> None:
    while True:
        await _guard(name, call)


async def _guard(name: str, call: Callable[[], Awaitable[object]]) -> None:
    try:
        await call()
    except Exception as error:  # noqa: BLE001 - a background part that fails is reported and goes on
        logger.opt(exception=error).error("{} failed and goes on", name)
        await asyncio.sleep(1.0)


def _host_of(address: str) -> str:
    host = address.rsplit(":", 1)[0].strip("[]")
    return socket.gethostname() if host in {"0.0.0.0", "::", ""} else host  # noqa: S104 - compared, not bound


def _names(settings: ControllerSettings) -> list[str]:
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname(), _host_of(settings.listen)]
    return [n for n in (*names, settings.advertise) if n]
