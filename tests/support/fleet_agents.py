"""Many simulated agents in one process: the real wire, nothing behind it.

Each has an identity of its own from the real Enroll RPC, its own key, certificate and outbox (a list), two channels as
the real agent has (one a stream, same options, newest credentials), the same back-off, the same hello, heartbeats as
the welcome asks, and batches sealed by the real codec. Only sources, disk and threads are missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import blake2b

import grpc
import grpc.aio

from crossdock import codec
from crossdock.tls import CLIENT_OPTIONS, mutual_credentials
from crossdock.v1 import link_pb2, link_pb2_grpc
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_agent.control import hello
from crossdock_agent.streams import RECONNECT
from support.gateway import Identity

SOURCE = "stock"
PREFIX = b"LOC;SKU;QTY;TEXT\n"
_TEXT = "Rillenkugellager verzinkt, nach Werksnorm, Kaefig aus Stahl, beidseitig abgedichtet, " * 2


@dataclass(slots=True)
class Pending:
    """A batch from its making to its acknowledgement; times are `time.monotonic`."""

    batch: link_pb2.Batch
    made: float
    sent: float = 0.0  # last sent
    acked: float = 0.0


@dataclass(slots=True)
class Tally:
    """What all agents of a process count together."""

    acked: list[Pending] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    made: int = 0
    heartbeats: int = 0
    opened: list[float] = field(default_factory=list)  # moment of each stream's first answer
    failures: int = 0  # attempts that ended without one
    resent: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


class SimulatedAgent:
    """`run` until cancelled. `make_batch` puts one batch into the outbox; it is kept and sent until acknowledged."""

    def __init__(self, name: str, identity: Identity, address: str, tally: Tally, records: int = 10) -> None:
        self.name = name
        self.outbox: deque[Pending] = deque()
        self.welcomed_at = 0.0  # last time
        self.confirmed = 0.0  # when the last acknowledged batch was sent
        self.resting = False  # makes no more batches by itself
        self.heartbeat_seconds = 15.0
        self._identity, self._address, self._tally, self.records = identity, address, tally, records
        self._rng = random.Random(name)
        self._instance, self._epoch = os.urandom(16), os.urandom(16)
        self._sequence = 0
        self._revision, self._hash = 0, ""
        self._sealer = codec.Sealer()
        self._welcomed, self._changed = asyncio.Event(), asyncio.Event()
        self._stream: object = None  # the present uplink stream: an older one's generator may linger

    def recovered(self, since: float) -> bool:
        """Both streams stand, and a batch sent after *since* was acknowledged."""
        return self.welcomed_at > since and self.confirmed > since

    async def run(self, batch_seconds: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._again(self._control))
            tasks.create_task(self._again(self._uplink))
            if batch_seconds:
                tasks.create_task(self._work(batch_seconds))

    def make_batch(self) -> None:
        self._sequence += 1
        lines = b"".join(
            f"{self.name};{self.name}-{self._sequence:05}-{i:03};{i},5;{_TEXT}\n".encode() for i in range(self.records)
        )
        name = f"stock{self._sequence:05}.csv"
        unit = blake2b(f"{self.name}/{name}".encode(), digest_size=16).digest()
        header = BatchHeader(
            format="csv", records=self.records, prefix=PREFIX, checkpoint=b"%d" % self._sequence, closes=True,
            origin=Origin(kind="file", name=name, unit=unit, offset=len(PREFIX), first_line=2),
            read_at_us=time.time_ns() // 1000, revision=self._revision,
        )  # fmt: skip
        sealed = self._sealer.seal(header, lines)
        batch = link_pb2.Batch(
            source=SOURCE, epoch=self._epoch, sequence=self._sequence, lane="standard", sealed=sealed.data,
            crc32=sealed.crc32,
        )  # fmt: skip
        self.outbox.append(Pending(batch, time.monotonic()))
        self._tally.made += 1
        self._changed.set()

    async def _work(self, seconds: float) -> None:
        await asyncio.sleep(self._rng.random() * seconds)  # a fleet's clocks are not in step
        due = time.monotonic()
        while not self.resting:
            self.make_batch()
            due += seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _again(self, talk: Callable[[link_pb2_grpc.LinkStub], AsyncIterator[None]]) -> None:
        """As `crossdock_agent.streams.Stream.run`: a channel for each attempt, back-off after each failure."""
        failures = 0
        while True:
            answered = False
            credentials = mutual_credentials(self._identity.bundle, self._identity.certificate, self._identity.key)
            options = [*CLIENT_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.secure_channel(self._address, credentials, options=options) as channel:
                try:
                    async for _ in talk(link_pb2_grpc.LinkStub(channel)):  # type: ignore[no-untyped-call]
                        if not answered:
                            answered = True
                            self._tally.opened.append(time.monotonic())
                except grpc.aio.AioRpcError as error:
                    reason = f"{error.code().name}: {(error.details() or '')[-90:]}"
                    self._tally.reasons[reason] = self._tally.reasons.get(reason, 0) + 1
            failures = 1 if answered else failures + 1
            self._tally.failures += not answered
            await asyncio.sleep(RECONNECT.delay(failures, self._rng))

    # --- control

    async def _control(self, stub: link_pb2_grpc.LinkStub) -> AsyncIterator[None]:
        outgoing: asyncio.Queue[link_pb2.Report | None] = asyncio.Queue()
        try:
            async for directive in stub.Control(self._reports(outgoing)):
                yield
                for report in self._heard(directive):
                    outgoing.put_nowait(report)
        finally:
            outgoing.put_nowait(None)

    def _heard(self, directive: link_pb2.Directive) -> list[link_pb2.Report]:
        kind = directive.WhichOneof("kind")
        if kind == "welcome":
            self.heartbeat_seconds = float(directive.welcome.heartbeat_seconds)
            self.welcomed_at = time.monotonic()
            self._welcomed.set()
            return [self._heartbeat()]
        if kind != "config":
            return []
        self._revision, self._hash = directive.config.revision, directive.config.hash
        statuses = [
            link_pb2.ConfigStatus(revision=self._revision, hash=self._hash, state=state)
            for state in ("applying", "applied")
        ]
        return [*(link_pb2.Report(config=status) for status in statuses), self._heartbeat()]

    async def _reports(self, outgoing: asyncio.Queue[link_pb2.Report | None]) -> AsyncIterator[link_pb2.Report]:
        ask = not self._welcomed.is_set()
        yield link_pb2.Report(hello=hello(self._instance, self._epoch, self._revision, self._hash, ask=ask))
        while True:
            try:
                async with asyncio.timeout(self.heartbeat_seconds):
                    report = await outgoing.get()
            except TimeoutError:
                report = self._heartbeat()
            if report is None:
                return
            yield report

    def _heartbeat(self) -> link_pb2.Report:
        self._tally.heartbeats += 1
        beat = link_pb2.Heartbeat(
            clock_us=time.time_ns() // 1000, outbox_batches=len(self.outbox),
            outbox_records=len(self.outbox) * self.records, outbox_limit_bytes=2**34, disk_free_bytes=2**36,
            oldest_us=0, certificate_expires_us=time.time_ns() // 1000 + 86_400_000_000,
        )  # fmt: skip
        beat.sources.add(
            source=SOURCE, state="running", records=self._sequence * self.records, batches=self._sequence,
            pending_records=len(self.outbox) * self.records, last_read_us=time.time_ns() // 1000,
        )  # fmt: skip
        return link_pb2.Report(heartbeat=beat)

    # --- uplink

    async def _uplink(self, stub: link_pb2_grpc.LinkStub) -> AsyncIterator[None]:
        await self._welcomed.wait()
        self._stream = stream = object()
        async for ack in stub.Uplink(self._batches(stream)):
            yield
            now = time.monotonic()
            for refusal in ack.refused:
                self._tally.refused.append(f"{self.name}: batch {refusal.sequence}: {refusal.code} {refusal.reason}")
            for done in ack.acknowledged:
                while self.outbox and self.outbox[0].batch.sequence <= done.sequence:
                    pending = self.outbox.popleft()
                    pending.acked = now
                    self.confirmed = max(self.confirmed, pending.sent)
                    self._tally.acked.append(pending)

    async def _batches(self, stream: object) -> AsyncIterator[link_pb2.Batch]:
        sent = 0
        while self._stream is stream:
            self._changed.clear()
            for pending in [p for p in self.outbox if p.batch.sequence > sent]:
                self._tally.resent += pending.sent > 0
                pending.sent = time.monotonic()
                sent = pending.batch.sequence
                yield pending.batch
                if self._stream is not stream:
                    return
            if not self.outbox or self.outbox[-1].batch.sequence <= sent:
                await self._changed.wait()


@contextlib.asynccontextmanager
async def running(agents: list[SimulatedAgent], batch_seconds: float) -> AsyncIterator[None]:
    """All of *agents* at work; a fault in one of them is raised at the end."""
    tasks = [asyncio.create_task(agent.run(batch_seconds)) for agent in agents]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    faults = [e for e in ended if isinstance(e, Exception)]
    if faults:
        raise faults[0]
