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
from typing import Any

import grpc
import grpc.aio
from loguru import logger

from crossdock.complaints import Complaints
from crossdock.disk import keep_private
from crossdock.errors import ConfigError, CrossdockError, Refused
from crossdock.lifecycle import Stop
from crossdock.lock import SingleInstance
from crossdock.retry import Backoff
from crossdock.service import running
from crossdock.tls import ENROLLMENT_OPTIONS, SERVER_OPTIONS
from crossdock.v1 import enrollment_pb2_grpc, link_pb2_grpc
from crossdock_controller import exits, presence
from crossdock_controller.apisettings import ApiSettings
from crossdock_controller.authority import SERVER_LIFE, Authority, ServerPair
from crossdock_controller.commanding import LOOK_SECONDS
from crossdock_controller.committer import Committer
from crossdock_controller.downlinks import Downlinks
from crossdock_controller.enrolling import EnrollmentService
from crossdock_controller.fleet import Fleet
from crossdock_controller.gateway import LinkService
from crossdock_controller.guarding import AT_ONCE, PortGuard
from crossdock_controller.holding import BEAT_SECONDS, Holding, clear_way, in_use, look
from crossdock_controller.limits import OpenFiles, raise_open_files
from crossdock_controller.paths import Addresses, DataDirectory, write_addresses
from crossdock_controller.reconciling import LOOK_SECONDS as RECONCILE_SECONDS
from crossdock_controller.reconciling import Reconciler
from crossdock_controller.retention import Retention
from crossdock_controller.rollouts.conductor import Conductor
from crossdock_controller.store import faults, migrate
from crossdock_controller.store.checkup import check_at_start
from crossdock_controller.store.holder import HolderLost
from crossdock_controller.store.intake import IntakeReader, IntakeWriter
from crossdock_controller.store.room import MIN_FREE_DISK_BYTES, Room
from crossdock_controller.store.wake import Waker
from crossdock_controller.trusting import Trusting

REFRESH_SECONDS = 0.5  # how soon a revocation cuts a live stream, and a new revision is offered
GRACE_SECONDS = 3.0
HEAD_SECONDS = 20.0  # between two looks whether the audit log has a new head
SETTLE_SECONDS = 0.2  # many times what gRPC needs between asking for the certificate and using it
WORKER_ROLES = ("normalize", "dispatch")


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """*listen* and *enroll_listen*: "host:port" (port 0: any free one); *advertise*: the host agents use for both;
    *take_over*: go on although another controller may hold the data; *round_seconds*: as long as mapping a few batches
    may take before their worker is ended; *grace_days*: so long after its certificate ended an agent may come back;
    *approve_enrolments*: a person agrees to each, whatever its token says; *api*: None for no API."""

    data: Path
    listen: str = "0.0.0.0:7443"
    enroll_listen: str = "0.0.0.0:7444"
    advertise: str = ""
    certificate_hours: float = 24.0
    workers: bool = True
    retention_days: float = 14.0
    min_free_disk_bytes: int = MIN_FREE_DISK_BYTES
    take_over: bool = False
    round_seconds: float = 60.0
    grace_days: float = 30.0
    approve_enrolments: bool = False
    api: ApiSettings | None = None


class Ending:
    """Why this controller may not go on. Any thread may say so, and the first who does is heard."""

    def __init__(self, stop: Stop) -> None:
        self.error: CrossdockError | None = None
        self._stop = stop

    def because(self, error: CrossdockError) -> None:
        if self.error is None:
            self.error = error
            logger.error("the controller stops: {}", error)
        self._stop.set()


def run_controller(settings: ControllerSettings, stop: Stop) -> None:
    """Blocks until *stop*. Raises Refused when another controller holds the data, ConfigError on a bad address,
    StoreDamaged and HolderLost when it had to end by itself."""
    data = DataDirectory(settings.data)
    data.prepare()
    ending = Ending(stop)
    with ExitStack() as stack:
        _lock(stack, data, take_over=settings.take_over)
        manager = stack.enter_context(running(stop, "opening the stores"))  # from here on it may take its time
        seen = clear_way(data, take_over=settings.take_over, wait=stop.wait)
        if stop.is_set():
            return
        if data.restoring.exists():
            raise ConfigError(f"a restore of {data.root} was interrupted", hint="give it again: crossdock restore DIR")
        check_at_start(data.state, data.intake)
        with faults.told(data.state):
            migrate(data.state)
        with faults.told(data.intake):
            writer = IntakeWriter(data.intake)
        keep_private(data.state)
        keep_private(data.intake)
        open_files = OpenFiles(raise_open_files())
        holding = Holding(data, seen, settings.min_free_disk_bytes)
        stack.callback(holding.release)
        writer.held_by(holding.id)
        held = DataDirectory(data.root, holding.id)
        stack.enter_context(presence.noted(held, {"link": settings.listen, "enrollment": settings.enroll_listen}))
        if settings.workers:
            for role in WORKER_ROLES:
                stack.enter_context(Worker(role, held, settings, stop, ending))
        data.api.unlink(missing_ok=True)  # of the life before
        if settings.api is not None:
            stack.enter_context(web_worker(settings.api, held, settings, stop, ending))
        manager.status("runs")
        asyncio.run(_serve(settings, held, writer, open_files, holding, stop, ending))
    if ending.error is not None:
        raise ending.error


def _lock(stack: ExitStack, data: DataDirectory, *, take_over: bool) -> None:
    """The lock of this machine: the quickest to tell. Raises Refused, naming who has it."""
    try:
        stack.enter_context(SingleInstance(data.lock))
    except Refused as error:
        found = look(data).any
        if not take_over:
            raise in_use(data, found) from error
        logger.warning("the lock of {} is held by another process; it is fenced off, end it: {}", data.root, error)


def _awaitable(stop: Stop, stack: AsyncExitStack) -> asyncio.Event:
    """Set once *stop* is, for the running loop."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(stopped.set)

    stop.on_set(wake)
    stack.callback(stop.forget, wake)
    return stopped


async def _serve(
    settings: ControllerSettings,
    data: DataDirectory,
    writer: IntakeWriter,
    open_files: OpenFiles,
    holding: Holding,
    stop: Stop,
    ending: Ending,
) -> None:
    async with AsyncExitStack() as stack:
        stopped = _awaitable(stop, stack)
        waker = Waker(data.state)
        stack.callback(waker.close)
        authority = Authority.open(data.authority)
        life = dt.timedelta(hours=settings.certificate_hours)
        fleet = Fleet(data.state, authority, life, fence=data.holder, fatal=ending.because)
        stack.callback(fleet.close)
        room = Room(settings.min_free_disk_bytes, data.intake, data.state)
        committer = Committer(writer, lambda: waker.wake("normalize"), room, ending.because)
        stack.callback(committer.close)
        reader = IntakeReader(data.intake)
        stack.callback(reader.close)
        credentials = ServerCredentials(authority, _names(settings))
        link, link_port = await _listen(settings.listen, credentials.mutual(), SERVER_OPTIONS)
        enrollment, enroll_port = await _listen(
            settings.enroll_listen, credentials.server_only(), ENROLLMENT_OPTIONS,
            interceptors=[PortGuard(fleet.refusals)], maximum_concurrent_rpcs=AT_ONCE,
        )  # fmt: skip
        host = settings.advertise or _host_of(settings.listen)
        addresses = Addresses(f"{host}:{link_port}", f"{host}:{enroll_port}")
        downlinks = await stack.enter_async_context(Downlinks(fleet, data))
        links = LinkService(fleet, committer, reader, addresses.enrollment, downlinks)
        link_pb2_grpc.add_LinkServicer_to_server(links, link)  # type: ignore[no-untyped-call]
        grace_us = int(settings.grace_days * 86400e6)
        service = EnrollmentService(fleet, addresses, grace_us, approve=settings.approve_enrolments)
        enrollment_pb2_grpc.add_EnrollmentServicer_to_server(service, enrollment)  # type: ignore[no-untyped-call]

        trusting = Trusting(fleet, authority, lambda: credentials.expires_us, grace_us)

        async def refresh() -> None:
            await fleet.refresh()
            open_files.check(fleet.size)

        await trusting.refresh()
        await refresh()
        conductor = Conductor(data.state, fence=data.holder)
        stack.push_async_callback(conductor.close)
        retention = Retention(data, dt.timedelta(days=settings.retention_days))
        reconciler = Reconciler(data)
        guard = Guard(ending)
        witness = presence.Witness(data, authority)

        tasks = [
            asyncio.create_task(guard.forever("intake", committer.run)),
            asyncio.create_task(guard.every(REFRESH_SECONDS, "fleet", refresh)),
            asyncio.create_task(guard.every(REFRESH_SECONDS, "authorities", trusting.refresh)),  # may fail by itself
            asyncio.create_task(guard.every(LOOK_SECONDS, "commands", links.commanding.look)),
            asyncio.create_task(guard.every(REFRESH_SECONDS, "rollout", conductor.step)),
            asyncio.create_task(guard.every(BEAT_SECONDS, "sign of life", lambda: asyncio.to_thread(holding.beat))),
            asyncio.create_task(guard.every(HEAD_SECONDS, "audit log", lambda: asyncio.to_thread(witness.step))),
            asyncio.create_task(
                guard.every(RECONCILE_SECONDS, "reconciliations", lambda: asyncio.to_thread(reconciler.step))
            ),
            asyncio.create_task(guard.every(60.0, "retention", lambda: retention.step(writer, committer.in_thread))),
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
        self._bundle, self._states = authority.bundle, authority.states
        self._pair = self._issue()

    @property
    def expires_us(self) -> int:
        """When the certificate that is shown now ends, microseconds UTC."""
        return self._pair.expires_us

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
            states = self._authority.states  # another CA serves, another one vouches for it, or others are trusted
            due = left_us < life_us / 3 and self._pair.expires_us < self._authority.serves_until_us
            if due or left_us > life_us or states != self._states:
                self._bundle, self._states = self._authority.bundle, states
                self._pair = self._issue()
            return self._pair

    def _configuration(self, pair: ServerPair) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)], root_certificates=self._bundle)

    def _issue(self) -> ServerPair:
        return self._authority.issue_server(self._names, dt.datetime.now(dt.UTC))


class Worker:
    """One worker process, kept alive by a thread of ours; a context manager that ends it."""

    def __init__(
        self, role: str, data: DataDirectory, settings: ControllerSettings, stop: Stop, ending: Ending
    ) -> None:
        self._role = role
        self._data = data
        start = ["worker"] if getattr(sys, "frozen", False) else ["-m", "crossdock_controller.worker"]
        self.command = [
            sys.executable, *start, "--role", role, "--data", str(data.root), "--holder", data.holder,
            "--min-free-disk", str(settings.min_free_disk_bytes), "--round-seconds", str(settings.round_seconds),
        ]  # fmt: skip
        self._stop = stop
        self._ending = ending
        self._complaints = Complaints()

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
            code: int | None = None
            try:
                code = self._run()
                said = f"ended unexpectedly (exit code {code})"
            except OSError as error:  # no memory or no process left now: whoever gave up here would never come back
                said = f"could not be started: {error}"
            if self._stop.is_set():
                return
            if code in _ENDINGS:
                self._ending.because(_ENDINGS[code](self._data))
                return
            failures = 1 if time.monotonic() - started > 60 else failures + 1
            delay = backoff.delay(failures, rng)
            said = f"{said} and is started again in {delay:.1f} s"
            self._complaints.make(f"{self._role} worker", said, role=self._role, code=code)
            self._stop.wait(delay)

    def _run(self) -> int:
        """One life of it: its exit code. Raises OSError."""
        # The pipe is the leash: when we die, however, its end closes and the worker leaves.
        process = subprocess.Popen(self.command, stdin=subprocess.PIPE)  # noqa: S603 - our own executable
        leash = process.stdin
        assert leash is not None  # noqa: S101 - a pipe was asked for
        self._stop.on_set(leash.close)
        code = process.wait()
        self._stop.forget(leash.close)
        leash.close()
        return code


def web_worker(
    api: ApiSettings, data: DataDirectory, settings: ControllerSettings, stop: Stop, ending: Ending
) -> Worker:
    """The process of the API. Whatever becomes of it, nothing else waits for it."""
    worker = Worker("web", data, settings, stop, ending)
    start = ["web"] if getattr(sys, "frozen", False) else ["-m", "crossdock_controller.web"]
    arguments = api.arguments(list(dict.fromkeys([*_names(settings), _host_of(api.listen)])))
    worker.command = [sys.executable, *start, "--data", str(data.root), "--holder", data.holder, *arguments]
    return worker


# What a worker says by its exit code of the store: nobody may go on with it. The worker's own line says more.
_ENDINGS: dict[int | None, Callable[[DataDirectory], CrossdockError]] = {
    exits.DAMAGED: lambda data: faults.damaged(data.state, "a worker found it so, see the lines before"),
    exits.TAKEN: lambda data: HolderLost(
        f"another controller has taken over {data.root}", hint="'crossdock status' names the one that holds it"
    ),
}


async def _listen(
    address: str, credentials: grpc.ServerCredentials, options: list[tuple[str, int | str]], **more: Any
) -> tuple[grpc.aio.Server, int]:
    """*more* as `grpc.aio.server` takes it."""
    server = grpc.aio.server(options=options, **more)
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address}: {error}", hint="is the port taken? choose another") from error
    return server, port


class Guard:
    """Keeps background parts going: a failure is reported, once and then once a minute, and the next turn comes all the
    same; but for what ends the controller."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._complaints = Complaints()

    async def every(self, seconds: float, name: str, call: Callable[[], Awaitable[object]]) -> None:
        """Run *call* (a coroutine function) every *seconds*."""
        while True:
            await asyncio.sleep(seconds)
            await self._once(name, call)

    async def forever(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._once(name, call)

    async def _once(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except (faults.StoreDamaged, HolderLost) as error:
            self._ending.because(error)
            await asyncio.sleep(1.0)
        except CrossdockError as error:
            self._complaints.make(name, f"failed and goes on: {error}")
            await asyncio.sleep(1.0)
        except Exception as error:  # noqa: BLE001 - a background part that fails is reported and goes on
            if self._complaints.make(name, f"failed and goes on: {error!r}"):
                logger.opt(exception=error).error("{} failed unexpectedly", name)
            await asyncio.sleep(1.0)
        else:
            self._complaints.over(name, "works again")


def _host_of(address: str) -> str:
    host = address.rsplit(":", 1)[0].strip("[]")
    return socket.gethostname() if host in {"0.0.0.0", "::", ""} else host  # noqa: S104 - compared, not bound


def _names(settings: ControllerSettings) -> list[str]:
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname(), _host_of(settings.listen)]
    return [n for n in (*names, settings.advertise) if n]
