"""A written fake of the controller's two services on loopback mutual TLS, whose answers a test decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc

from crossdock import siteconfig
from crossdock.codec import verify
from crossdock.errors import Corrupt
from crossdock.tls import SERVER_OPTIONS
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc, link_pb2, link_pb2_grpc
from crossdock_agent.identity import Identity, IdentityStore
from support.pki import TestAuthority

AGENT = "atl1"
SITE = "atl1"

Answer = Callable[[link_pb2.Batch], link_pb2.Ack | None]


class FakeController(link_pb2_grpc.LinkServicer, enrollment_pb2_grpc.EnrollmentServicer):
    """Stores batches in order per (source, epoch) and acknowledges them, unless the test says otherwise.

    *answer* may return an Ack in place of the usual one; *acknowledging* cleared withholds all; `cut` ends every
    stream; `stop` and `start` make the whole controller go and come back on its port.
    """

    def __init__(self) -> None:
        self.authority = TestAuthority()
        self.received: list[link_pb2.Batch] = []  # as they came, repeats and all
        self.stored: dict[tuple[str, bytes], list[link_pb2.Batch]] = {}
        self.acknowledging = threading.Event()
        self.acknowledging.set()
        self.answer: Answer = lambda _batch: None
        self.reports: list[link_pb2.Report] = []
        self.welcome = link_pb2.Welcome(protocol=1, version="fake", heartbeat_seconds=1)
        self.gives_back = False  # says in each welcome how far it has the agent's epoch, as a controller of today does
        self.tokens = {"token-1"}
        self.changed = threading.Condition()
        self.port = 0
        self.enrollment_port = 0
        self._contexts: list[grpc.ServicerContext] = []
        self._offer: link_pb2.ConfigOffer | None = None  # made again to whoever greets with another hash
        self._outgoing: list[link_pb2.Directive] = []
        self._server: grpc.Server | None = None

    # --- for tests

    def start(self) -> FakeController:
        pair = self.authority.server()
        server = grpc.server(futures.ThreadPoolExecutor(16), options=SERVER_OPTIONS)
        self._add_link(server)
        enrollment_pb2_grpc.add_EnrollmentServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        credentials = grpc.ssl_server_credentials(
            [(pair.key, pair.certificate)], self.authority.bundle, require_client_auth=True
        )
        enrolling = grpc.ssl_server_credentials([(pair.key, pair.certificate)])
        self.port = server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        self.enrollment_port = server.add_secure_port(f"127.0.0.1:{self.enrollment_port}", enrolling)
        server.start()
        self._server = server
        return self

    def stop(self) -> None:
        if self._server is not None:
            self.cut()
            self._server.stop(0).wait(10)
            self._server = None

    def cut(self) -> None:
        """End every stream that is open now."""
        with self.changed:
            contexts, self._contexts = self._contexts, []
            self.changed.notify_all()
        for context in contexts:
            context.cancel()

    def identity(self, state: Path, agent: str = AGENT) -> IdentityStore:
        """An enrolled identity in *state*, as if the token had been exchanged."""
        pair = self.authority.agent(agent)
        store = IdentityStore(state)
        identity = Identity(
            agent=agent, site=SITE, link_address=f"127.0.0.1:{self.port}", certificate=pair.certificate,
            ca_bundle=self.authority.bundle, key_file="", issued_us=time.time_ns() // 1000, expires_us=pair.expires_us,
        )  # fmt: skip
        store.save(identity, pair.key)
        return store

    def send(self, directive: link_pb2.Directive) -> None:
        with self.changed:
            self._outgoing.append(directive)
            self.changed.notify_all()

    def restore(self, **lengths: int) -> None:
        """Come back with only the first so many batches of each source, as from a backup; on the same port."""
        self.stop()
        for source, length in lengths.items():
            for (name, _), kept in self.stored.items():
                if name == source:
                    del kept[length:]
        self.start()

    def offer(self, config: bytes, revision: int, signature: bytes | None = None, hold_seconds: int = 0) -> None:
        signed = self.authority.sign(config) if signature is None else signature
        offer = link_pb2.ConfigOffer(
            revision=revision, hash=siteconfig.digest(config), config=config, signature=signed,
            hold_seconds=hold_seconds,
        )  # fmt: skip
        self._offer = offer
        self.send(link_pb2.Directive(config=offer))

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: bool(condition()), seconds), f"waited {seconds} s in vain until {what}"

    def sequences(self, source: str) -> list[int]:
        """What is stored of *source*, over all epochs in order of arrival."""
        return [b.sequence for (name, _), batches in self.stored.items() if name == source for b in batches]

    def statuses(self) -> list[tuple[int, str]]:
        return [(r.config.revision, r.config.state) for r in self.reports if r.WhichOneof("kind") == "config"]

    # --- the services

    def _add_link(self, server: grpc.Server) -> None:
        link_pb2_grpc.add_LinkServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    def Uplink(  # noqa: N802
        self, requests: Iterator[link_pb2.Batch], context: grpc.ServicerContext
    ) -> Iterator[link_pb2.Ack]:
        self._opened(context)
        for batch in requests:
            with self.changed:
                self.received.append(batch)
                ack = self.answer(batch) or self._take(batch)
                self.changed.notify_all()
            while not self.acknowledging.wait(0.02):
                if not context.is_active():
                    return
            yield ack

    def Control(  # noqa: N802
        self, requests: Iterator[link_pb2.Report], context: grpc.ServicerContext
    ) -> Iterator[link_pb2.Directive]:
        self._opened(context)
        hello = next(requests)
        self._heard(hello)
        threading.Thread(target=self._hear, args=(requests,), daemon=True).start()
        welcome = link_pb2.Welcome()
        welcome.CopyFrom(self.welcome)
        welcome.clock_us = time.time_ns() // 1000
        if self.gives_back:
            welcome.capabilities.append("give-back")
            for (source, epoch), kept in self.stored.items():
                if epoch == hello.hello.epoch and kept:
                    welcome.yours.add(source=source, epoch=epoch, sequence=len(kept))
        yield link_pb2.Directive(welcome=welcome)
        if self._offer is not None and not self._outgoing and hello.hello.config_hash != self._offer.hash:
            yield link_pb2.Directive(config=self._offer)
        while context.is_active():
            with self.changed:
                self.changed.wait_for(lambda: self._outgoing, 0.1)
                if context not in self._contexts:  # it was cut: what is to be sent is for the next stream
                    return
                ready, self._outgoing = self._outgoing, []
            yield from ready

    def Enroll(  # noqa: N802
        self, request: enrollment_pb2.EnrollRequest, context: grpc.ServicerContext
    ) -> enrollment_pb2.EnrollResponse:
        if request.token not in self.tokens:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "this join token is unknown, already used or expired")
        self.tokens.remove(request.token)
        return enrollment_pb2.EnrollResponse(
            agent=AGENT, site=SITE, certificate=self.authority.for_request(request.csr, AGENT),
            ca_bundle=self.authority.bundle, link_address=f"127.0.0.1:{self.port}",
        )  # fmt: skip

    def _opened(self, context: grpc.ServicerContext) -> None:
        with self.changed:
            self._contexts.append(context)
            self.changed.notify_all()

    def _hear(self, requests: Iterator[link_pb2.Report]) -> None:
        try:
            for report in requests:
                self._heard(report)
        except Exception:  # noqa: BLE001 - grpc raises RpcError or a bare Exception when the stream is cut
            return

    def _heard(self, report: link_pb2.Report) -> None:
        with self.changed:
            self.reports.append(report)
            self.changed.notify_all()

    def _take(self, batch: link_pb2.Batch) -> link_pb2.Ack:
        name = {"source": batch.source, "epoch": batch.epoch, "sequence": batch.sequence}
        kept = self.stored.setdefault((batch.source, batch.epoch), [])
        try:
            verify(batch.sealed, batch.crc32)
        except Corrupt as error:
            return link_pb2.Ack(refused=[link_pb2.Refused(**name, code="checksum", reason=str(error))])
        if batch.sequence > len(kept) + 1:
            refused = link_pb2.Refused(**name, code="gap", reason="gap", expected=len(kept) + 1)
            return link_pb2.Ack(refused=[refused])
        if batch.sequence == len(kept) + 1:
            kept.append(batch)
        return link_pb2.Ack(acknowledged=[link_pb2.Acknowledged(**name)])
