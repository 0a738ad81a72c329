"""The Link service. An acknowledgement leaves only after the commit that holds its batch.

One event loop; nothing on it blocks: the intake has a thread (committer), the fleet's rows another (fleet). A stream
is read only while its unacknowledged bytes are under a limit, so that a sender cannot fill our memory.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from loguru import logger

from crossdock import __version__, codec
from crossdock.errors import Corrupt, CrossdockError, Refused
from crossdock.siteconfig import LANES
from crossdock.v1 import link_pb2, link_pb2_grpc
from crossdock.wire import CAPABILITIES, GIVE_BACK, OLDEST_PROTOCOL, PROTOCOL, WRITE_BACK, common, misfit
from crossdock_controller import ledger
from crossdock_controller.commanding import Commanding
from crossdock_controller.committer import Committer
from crossdock_controller.downlinks import Downlinks
from crossdock_controller.fleet import Caller, Fleet, Session, cut
from crossdock_controller.identities import Identities, greeted
from crossdock_controller.pace import heartbeat_seconds
from crossdock_controller.reports import MAX_UNANSWERED, fault_of, one_line
from crossdock_controller.standing import Standing
from crossdock_controller.store import agents, certificates, sightings, site_links
from crossdock_controller.store.certificates import Certificate
from crossdock_controller.store.intake import Incoming, IntakeReader, Stored
from crossdock_controller.trusting import RETIRED, heard, tell

IN_FLIGHT_BYTES = 32 * 1024 * 1024  # per stream, read but not yet committed
ITEM_BYTES = 2048  # what a batch or a refusal that waits costs beside its sealed bytes
EPOCH_BYTES = 16
REFUSALS_SHOWN = 200  # characters of a hostile value that we are willing to repeat
REFUSALS_LOGGED = 20
HELLO_SECONDS = 60.0
UNREAD_SECONDS = 0.1  # between two looks whether directives were read
MAX_STREAMS = 16  # of one agent: it has two, and a few that it has not noticed the end of
MAX_UNUSED = 20  # certificates of one agent in an hour; one that is not answered asks for twelve
_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_Context = Any  # grpc.aio.ServicerContext; grpcio ships no types


@dataclass(frozen=True, slots=True)
class _InFlight:
    batch: link_pb2.Batch
    stored: asyncio.Future[Stored]


class LinkService(link_pb2_grpc.LinkServicer):
    """What enrolled agents call. Without *downlinks*, Downlink is answered UNIMPLEMENTED."""

    def __init__(
        self,
        fleet: Fleet,
        committer: Committer,
        intake: IntakeReader,
        enrollment_address: str = "",
        downlinks: Downlinks | None = None,
    ) -> None:
        self._downlinks = downlinks
        self._fleet = fleet
        self._enrollment_address = enrollment_address
        self._identities = Identities(fleet)
        self._unwritten: dict[str, Certificate] = {}  # by agent: issued while the store took nothing
        self._committer = committer
        self._intake = intake
        self.commanding = Commanding(fleet)
        self._reading = asyncio.Lock()  # a reader is for one thread at a time

    async def Uplink(  # noqa: N802 - the name of the RPC
        self, requests: AsyncIterator[link_pb2.Batch], context: _Context
    ) -> AsyncIterator[link_pb2.Ack]:
        caller = await self._authenticate(context)
        barred = self._identities.barred(caller, context)
        if barred:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, barred)
        refusal = self._committer.refusing()
        if refusal is not None:  # before its batches travel for nothing
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(refusal))
        self._fleet.opened(caller.agent, context)
        stream = _UplinkStream(caller, self._committer, self._fleet.allows)
        reader = asyncio.create_task(stream.receive(requests))
        try:
            async for ack in stream.acks():
                yield ack
            await reader
        except Refused as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except CrossdockError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            reader.cancel()
            self._fleet.closed(caller.agent, context)

    async def Downlink(  # noqa: N802
        self, requests: AsyncIterator[link_pb2.Receipt], context: _Context
    ) -> AsyncIterator[link_pb2.Delivery]:
        caller = await self._authenticate(context)
        if self._downlinks is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this controller writes nothing back")
            raise AssertionError("abort raises")
        barred = self._identities.barred(caller, context)
        if barred:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, barred)
        self._fleet.opened(caller.agent, context)
        try:
            async for delivery in self._downlinks.serve(caller, requests):
                yield delivery
        except CrossdockError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            self._fleet.closed(caller.agent, context)

    async def Control(  # noqa: N802
        self, requests: AsyncIterator[link_pb2.Report], context: _Context
    ) -> AsyncIterator[link_pb2.Directive]:
        caller = await self._authenticate(context)
        first = await self._first(caller, requests, context)
        try:
            session = await self._open_session(caller, first.hello, context)
        except CrossdockError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            raise AssertionError("abort raises") from error
        reader = asyncio.create_task(self._hear(session, requests, context))
        try:
            yield await self._welcome(caller, first.hello)
            tell(session, self._fleet.authority)
            session.offered = first.hello.config_hash
            await self._fleet.offer(session)
            while not reader.done() or not session.outgoing.empty():
                directive = await _either(session.outgoing, reader)
                if directive is not None:
                    yield directive
            await reader
        finally:
            reader.cancel()
            await self._close_session(session, context)

    async def _authenticate(self, context: _Context) -> Caller:
        caller = self._fleet.caller(context)
        if caller is None:
            await self._fleet.note_stranger(context)
            logger.bind(peer=context.peer()).warning("a certificate that is on no allow-list was refused")
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this agent is not enrolled, or was revoked")
            raise AssertionError("abort raises")
        shown = ledger.shown(context, caller.agent, self._fleet.authority)
        if shown is not None and not shown.authority:  # on a connection that was made before
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, RETIRED)
        try:
            refused = await self._identities.outdated(caller, shown, context)
        except CrossdockError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            raise AssertionError("abort raises") from error
        if refused:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, refused)
        if self._fleet.open_streams(caller.agent) >= MAX_STREAMS:  # the last thing: who waits here is not counted yet
            logger.bind(agent=caller.agent, peer=context.peer()).error("more than {} streams at once", MAX_STREAMS)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"agent {caller.agent} has too many streams open")
        return caller

    async def _first(
        self, caller: Caller, requests: AsyncIterator[link_pb2.Report], context: _Context
    ) -> link_pb2.Report:
        """The hello. Who does not say it in time, or was revoked before it was said, is not heard."""
        self._fleet.opened(caller.agent, context)
        try:
            first = await asyncio.wait_for(anext(aiter(requests), None), HELLO_SECONDS)
        except TimeoutError:
            first = None
        finally:
            self._fleet.closed(caller.agent, context)
        if first is None or first.WhichOneof("kind") != "hello":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the first report must be a hello")
        assert first is not None  # noqa: S101 - abort raised
        await self._authenticate(context)
        await self._check(caller, first, context)
        return first

    async def _check(self, caller: Caller, report: link_pb2.Report, context: _Context) -> None:
        fault = fault_of(report)
        if fault:
            logger.bind(agent=caller.agent, peer=context.peer()).error("control stream ended: {}", fault)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, fault)

    async def _open_session(self, caller: Caller, hello: link_pb2.Hello, context: _Context) -> Session:
        if hello.protocol < OLDEST_PROTOCOL:  # one that is newer reads in the welcome what we speak, and decides
            await self._refuse_protocol(caller, hello, context)
        refused = await self._identities.elsewhere(caller, hello, context)
        if refused:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, refused)
        live = self._fleet.sessions.get(caller.agent)
        if live is not None and live.instance != hello.instance:
            logger.bind(agent=caller.agent, peer=context.peer()).error(
                "a second process uses the identity of a connected agent and was refused: is the machine cloned?"
            )
            self._identities.twin(caller, hello, context)
            await context.abort(
                grpc.StatusCode.ALREADY_EXISTS, f"agent {caller.agent} is connected from another process"
            )
        shown = ledger.shown(context, caller.agent, self._fleet.authority)
        session = Session(
            caller, hello.instance, context, standing=Standing.of(caller.agent, hello, shown),
            version=one_line(hello.version, 50), capabilities=common(hello.capabilities),
        )  # fmt: skip
        self._fleet.sessions[caller.agent] = session
        self._fleet.opened(caller.agent, context)
        try:
            if live is not None:
                live.replaced = True
                await cut(live.context, grpc.StatusCode.ABORTED, "this agent connected again")
            await self._record_hello(session, hello)
        except BaseException:  # also who hung up meanwhile: a session that nobody ends would bar the next process
            await self._close_session(session, context)
            raise
        self._identities.welcomed(caller, shown, context)
        log = logger.bind(agent=caller.agent, site=caller.site, version=hello.version, revision=hello.revision)
        log.info("agent connected")
        if hello.store and hello.store != self._fleet.store:
            log.warning("this agent last spoke to another store: it gives back what this one lacks")
        return session

    async def _record_hello(self, session: Session, hello: link_pb2.Hello) -> None:
        caller = session.caller
        now_us = time.time_ns() // 1000
        instance, runs = hello.instance[:64], (hello.revision, hello.config_hash[:64])

        issued = self._unwritten.get(caller.agent)

        def record(db: Any) -> None:
            agents.record_hello(
                db, caller.agent, host=one_line(hello.host, 255), platform=one_line(hello.platform, 255),
                version=one_line(hello.version, 50),
                revision=hello.revision, now_us=now_us,
            )  # fmt: skip
            if issued is not None:  # before its use, which would else be that of one we never issued
                certificates.record(db, issued)
            takes = WRITE_BACK in session.capabilities
            site_links.greeted(db, caller.agent, takes=takes, version=one_line(hello.version, 50))
            session.standing.record(db, now_us)
            greeted(db, caller.agent, hello, session.standing.shown, now_us)
            sightings.greeted(db, caller.agent, instance, runs, now_us)

        if await self._fleet.note(record):
            self._unwritten.pop(caller.agent, None)

    async def _refuse_protocol(self, caller: Caller, hello: link_pb2.Hello, context: _Context) -> None:
        agent = f"agent {caller.agent}"
        reason = misfit("this controller", agent, hello.protocol, one_line(hello.version, 50), OLDEST_PROTOCOL)
        logger.bind(agent=caller.agent, version=one_line(hello.version, 50)).error("{}", reason)
        await self._fleet.note_misfit(caller, one_line(hello.version, 50), reason)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)  # what every release shows to a person

    async def _close_session(self, session: Session, context: _Context) -> None:
        agent = session.caller.agent
        self._fleet.closed(agent, context)
        if not session.replaced and self._fleet.sessions.get(agent) is session:
            del self._fleet.sessions[agent]
            await self._fleet.note(lambda db: agents.record_disconnected(db, agent))
            logger.bind(agent=agent).info("agent disconnected")

    async def _welcome(self, caller: Caller, hello: link_pb2.Hello) -> link_pb2.Directive:
        welcome = link_pb2.Welcome(
            protocol=min(hello.protocol, PROTOCOL), capabilities=CAPABILITIES, version=__version__,
            clock_us=time.time_ns() // 1000, heartbeat_seconds=heartbeat_seconds(self._fleet.size),
            store=self._fleet.store, enrollment_address=self._enrollment_address,
        )  # fmt: skip
        if GIVE_BACK in common(hello.capabilities):
            async with self._reading:
                mine = await asyncio.to_thread(self._intake.of_epoch, caller.agent, hello.epoch)
            for source, sequence in mine:
                welcome.yours.add(source=source, epoch=hello.epoch, sequence=sequence)
        if hello.wants_checkpoints:
            async with self._reading:
                known = await asyncio.to_thread(self._intake.checkpoints, caller.agent)
            for source, epoch, sequence, checkpoint in known:
                welcome.checkpoints.add(source=source, epoch=epoch, sequence=sequence, checkpoint=checkpoint)
        return link_pb2.Directive(welcome=welcome)

    async def _hear(self, session: Session, requests: AsyncIterator[link_pb2.Report], context: _Context) -> None:
        agent, unknown = session.caller.agent, 0
        async for report in requests:
            await self._check(session.caller, report, context)
            while session.outgoing.qsize() >= MAX_UNANSWERED:  # who does not read is not read either
                await asyncio.sleep(UNREAD_SECONDS)
            if not self._fleet.allows(agent):
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"agent {agent} is revoked")
            kind = report.WhichOneof("kind")
            if kind == "heartbeat":
                self._fleet.heartbeat(session.caller, report.heartbeat)
                await heard(session, report.heartbeat, self._fleet)
            elif kind == "config":
                await self._fleet.config_status(session.caller, report.config)
            elif kind == "certificate_request":
                await session.outgoing.put(await self._renew(agent, report.certificate_request.csr))
            elif kind == "command_result":
                await self.commanding.heard(session, report.command_result)
            elif kind is None:
                unknown += 1
                if unknown == 1:
                    logger.bind(agent=agent).info("a report that this release does not know was ignored")

    async def _renew(self, agent: str, csr: bytes) -> link_pb2.Directive:
        try:
            await self._refuse_hoarder(agent)
            issued = await asyncio.to_thread(self._fleet.issue, agent, csr)
        except CrossdockError as error:  # also a store that cannot be read now: it asks again
            return link_pb2.Directive(certificate=link_pb2.CertificateIssued(refused=str(error)))
        row = ledger.of_issued(issued, agent, "renewal", self._fleet.authority.bundle_fingerprints)

        def record(db: Any) -> None:
            agents.record_certificate(db, agent, issued.expires_us)
            certificates.record(db, row)

        if not await self._fleet.note(record):
            self._unwritten[agent] = row
        logger.bind(agent=agent).info("certificate renewed")
        issue = link_pb2.CertificateIssued(certificate=issued.certificate, ca_bundle=self._fleet.bundle)
        return link_pb2.Directive(certificate=issue)

    async def _refuse_hoarder(self, agent: str) -> None:
        """Raises Refused for an agent that asks again and again and uses nothing: each one is kept in the ledger for as
        long as it proves anything."""
        hour_ago_us = time.time_ns() // 1000 - 3_600_000_000
        if await self._fleet.read(lambda db: certificates.unused(db, agent, hour_ago_us)) >= MAX_UNUSED:
            raise Refused(
                f"agent {agent} asked for {MAX_UNUSED} certificates in an hour and used none of them",
                hint="why does it not take them up? see its log; it may ask again in an hour",
            )


class _UplinkStream:
    """One agent's stream of batches: checked, committed in order, acknowledged in groups."""

    def __init__(self, caller: Caller, committer: Committer, allows: Callable[[str], bool]) -> None:
        self._caller = caller
        self._allows = allows
        self._committer = committer
        self._items: deque[_InFlight | link_pb2.Refused] = deque()
        self._conflicts: dict[tuple[str, bytes], int] = {}  # see `Incoming`
        self._changed = asyncio.Event()
        self._ended = False
        self._bytes = 0
        self._refused = 0
        self._room = asyncio.Event()
        self._room.set()

    async def receive(self, requests: AsyncIterator[link_pb2.Batch]) -> None:
        try:
            async for batch in requests:
                await self._room.wait()
                if not self._allows(self._caller.agent):  # its stream is being cut; nothing more of it is stored
                    raise Refused(f"agent {self._caller.agent} is revoked")
                self._accept(batch)
                self._changed.set()
        finally:
            self._ended = True
            self._changed.set()

    async def acks(self) -> AsyncIterator[link_pb2.Ack]:
        """Acks until the sender is done; everything that became durable meanwhile travels in one."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._items:
                yield await self._next_ack()
            if self._ended:
                return

    async def _next_ack(self) -> link_pb2.Ack:
        """Waits for the oldest item, then takes along whatever is settled behind it."""
        ack = link_pb2.Ack()
        durable: dict[tuple[str, bytes], int] = {}
        while True:
            item = self._items.popleft()
            if isinstance(item, link_pb2.Refused):
                self._grow(-ITEM_BYTES)
                ack.refused.append(item)
            else:
                await self._settle(item, ack, durable)
            following = self._items[0] if self._items else None
            if following is None or (isinstance(following, _InFlight) and not following.stored.done()):
                break
        for (source, epoch), sequence in durable.items():
            ack.acknowledged.add(source=source, epoch=epoch, sequence=sequence)
        return ack

    def _accept(self, batch: link_pb2.Batch) -> None:
        problem = _fault_of(batch)
        if problem is None:
            try:
                codec.verify(batch.sealed, batch.crc32)
                header = codec.open_header(batch.sealed)
            except Corrupt as error:
                problem = ("checksum", str(error))
        if problem is not None:
            self._complain(batch, problem[1])
            self._grow(ITEM_BYTES)
            self._items.append(
                link_pb2.Refused(
                    source=batch.source[:REFUSALS_SHOWN],
                    epoch=batch.epoch[:REFUSALS_SHOWN],
                    sequence=batch.sequence,
                    code=problem[0],
                    reason=problem[1],
                )
            )
            return
        incoming = Incoming(
            self._caller.agent, self._caller.site, batch.source, batch.epoch, batch.sequence, batch.lane,
            header.records + len(header.rejects), header.checkpoint, batch.sealed, batch.crc32, self._conflicts,
        )  # fmt: skip
        self._grow(len(batch.sealed) + ITEM_BYTES)
        self._items.append(_InFlight(batch, self._committer.submit(incoming)))

    def _complain(self, batch: link_pb2.Batch, reason: str) -> None:
        """In the log: the first of a stream one by one, then each thousandth."""
        self._refused += 1
        if self._refused > REFUSALS_LOGGED and self._refused % 1000:
            return
        log = logger.bind(agent=self._caller.agent, source=batch.source[:REFUSALS_SHOWN], sequence=batch.sequence)
        log.warning("batch refused, the {}. of this stream: {}", self._refused, reason)

    async def _settle(self, item: _InFlight, ack: link_pb2.Ack, durable: dict[tuple[str, bytes], int]) -> None:
        batch = item.batch
        try:
            stored = await item.stored
        finally:
            self._grow(-len(batch.sealed) - ITEM_BYTES)
        if stored.state in {"gap", "conflict"}:
            ack.refused.append(_refusal(batch, stored))
        else:
            durable[batch.source, batch.epoch] = max(batch.sequence, durable.get((batch.source, batch.epoch), 0))

    def _grow(self, change: int) -> None:
        self._bytes += change
        if self._bytes < IN_FLIGHT_BYTES:
            self._room.set()
        else:
            self._room.clear()


def _refusal(batch: link_pb2.Batch, stored: Stored) -> link_pb2.Refused:
    reason = f"batch {batch.sequence} came, {stored.last + 1} was expected"
    if stored.state == "conflict":
        reason = (
            f"batch {batch.sequence}, or one before it, is stored already with other content: the agent's outbox is an"
            " old copy, or that of a cloned machine; the agent sets it aside and reads again from what is stored here"
        )
        logger.bind(source=batch.source, sequence=batch.sequence).error("{}", reason)
    return link_pb2.Refused(
        source=batch.source, epoch=batch.epoch, sequence=batch.sequence, code=stored.state, reason=reason,
        expected=stored.last + 1 if stored.state == "gap" else 0,
    )  # fmt: skip


def _fault_of(batch: link_pb2.Batch) -> tuple[str, str] | None:
    """(code, reason) when the envelope is wrong; values from a stranger are shortened before they are repeated."""
    if not _SOURCE_NAME.fullmatch(batch.source):
        return "malformed", f"source name {batch.source[:REFUSALS_SHOWN]!r} is not one"
    if len(batch.epoch) != EPOCH_BYTES or batch.sequence < 1:
        return "malformed", f"epoch of {len(batch.epoch)} bytes, sequence {batch.sequence}"
    if batch.lane not in LANES:
        return "malformed", f"lane {batch.lane[:REFUSALS_SHOWN]!r} is none of {', '.join(LANES)}"
    if len(batch.sealed) > codec.MAX_SEALED_BYTES:
        return "too_large", f"batch has {len(batch.sealed)} bytes, the limit is {codec.MAX_SEALED_BYTES}"
    return None


async def _either(queue: asyncio.Queue[link_pb2.Directive], task: asyncio.Task[None]) -> link_pb2.Directive | None:
    """The next directive, or None once *task* is done."""
    getter = asyncio.ensure_future(queue.get())
    try:
        await asyncio.wait({getter, task}, return_when=asyncio.FIRST_COMPLETED)
        return getter.result() if getter.done() else None
    finally:
        getter.cancel()
