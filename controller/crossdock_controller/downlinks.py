"""Takes deliveries to agents and their receipts into state.db. What waits is read from the store, in order, and sent
over the agent's Downlink stream; a new stream begins again with the oldest that has no receipt, and the agent knows
what it has. A receipt is stored before the agent is told that it may forget it.

One thread waits for the wake-ups of sinks and looks at the store itself a little later; streams are the event loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock.retry import Backoff
from crossdock.v1 import link_pb2
from crossdock_controller.fleet import Caller, Fleet
from crossdock_controller.paths import DataDirectory
from crossdock_controller.reports import one_line
from crossdock_controller.station import Station
from crossdock_controller.store import site_deliveries, site_links
from crossdock_controller.store.connection import transaction
from crossdock_controller.store.site_deliveries import Settled, Waiting
from crossdock_controller.store.wake import Waker

ROLE = "downlink"
LOOK_SECONDS = 1.0
PAGE = 200
WINDOW = 20_000  # sent and without a receipt, per stream: one writer that is down must not stop the others
UNREAD_SECONDS = 0.1
GROUP = 500  # receipts that are stored together
KEEP_DAYS = 30.0
PURGE_SECONDS = 600.0
ID_BYTES = 16
TEXT = 500  # characters of what an agent says that are kept
VERDICTS = ("applied", "rejected", "retry")


@dataclass(slots=True, eq=False)
class _Stream:
    """One agent's downlink: how far it was sent, what of it has no receipt, and what the agent may forget."""

    caller: Caller
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0
    under_way: set[tuple[bytes, int]] = field(default_factory=set)
    acknowledged: list[bytes] = field(default_factory=list)
    ended: bool = False
    failure: BaseException | None = None  # why receipts could not be stored: the agent tells them to the next stream

    def end(self, failure: BaseException | None = None) -> None:
        self.failure = self.failure or failure
        self.ended = True
        self.changed.set()

    def stored(self, task: asyncio.Task[None]) -> None:
        """*task* stored receipts, or failed: nobody else may look at it before the agent says more."""
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.end(failure)


class Downlinks:
    """A context manager, within the event loop. `serve` is one stream."""

    def __init__(self, fleet: Fleet, data: DataDirectory) -> None:
        self._fleet, self._data = fleet, data
        self._streams: dict[str, _Stream] = {}
        self._newest: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._station: Station | None = None
        self._waker = Waker(data.state)
        self._purge_at = 0.0  # monotonic

    async def __aenter__(self) -> Downlinks:
        await self._fleet.do(site_links.unlink_all)
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._watch, args=(loop,), name="downlinks", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._stop.set()
        station = self._station
        if station is not None:
            station.bell.ring()
        if self._thread is not None:
            self._thread.join(5.0)
        self._waker.close()

    async def serve(
        self, caller: Caller, requests: AsyncIterator[link_pb2.Receipt]
    ) -> AsyncIterator[link_pb2.Delivery]:
        """Until the agent ends it, or a newer stream of the same agent begins. Raises StoreUnavailable."""
        stream = _Stream(caller)
        before = self._streams.get(caller.agent)
        if before is not None:
            before.end()
        self._streams[caller.agent] = stream
        await self._note(caller.agent, connected=True)
        reader = asyncio.create_task(self._hear(stream, requests))
        try:
            yield link_pb2.Delivery()  # the stream stands
            while not stream.ended:
                async for delivery in self._next(stream):
                    yield delivery
            if stream.failure is not None:
                raise stream.failure
            if reader.done():
                await reader
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, CrossdockError):
                await reader
            if self._streams.get(caller.agent) is stream:
                del self._streams[caller.agent]
                await self._note(caller.agent, connected=False)

    # --- down

    async def _next(self, stream: _Stream) -> AsyncIterator[link_pb2.Delivery]:
        """What may be sent now; waits when that is nothing."""
        stream.changed.clear()
        if stream.acknowledged:
            done, stream.acknowledged = stream.acknowledged, []
            yield link_pb2.Delivery(acknowledged=done)
        room = min(PAGE, WINDOW - len(stream.under_way))
        agent = stream.caller.agent
        page: list[Waiting] = []
        if room > 0:
            after = stream.sent
            page = await self._fleet.read(lambda db: site_deliveries.waiting(db, agent, after, room))
        for row in page:
            stream.sent = row.sequence
            stream.under_way.add((row.id, row.attempt))
            yield _delivery(row)
        if not page and not stream.acknowledged and not stream.ended:
            await stream.changed.wait()

    # --- up

    async def _hear(self, stream: _Stream, requests: AsyncIterator[link_pb2.Receipt]) -> None:
        waiting: list[link_pb2.Receipt] = []
        storing: asyncio.Task[None] | None = None
        try:
            async for receipt in requests:
                if not self._fleet.allows(stream.caller.agent):  # it is being cut
                    return
                if len(receipt.id) != ID_BYTES or receipt.verdict not in VERDICTS:
                    logger.bind(agent=stream.caller.agent).warning("a receipt that is none was ignored")
                    continue
                while len(stream.acknowledged) >= WINDOW and not stream.ended:  # who does not read is not read either
                    await asyncio.sleep(UNREAD_SECONDS)
                waiting.append(receipt)
                if len(waiting) >= GROUP and storing is not None:
                    await storing
                if storing is None or storing.done():
                    if storing is not None:
                        storing.result()
                    storing = asyncio.create_task(self._store(stream, waiting))
                    storing.add_done_callback(stream.stored)
            if storing is not None:
                await storing
            await self._store(stream, waiting)
        finally:
            if storing is not None:
                storing.cancel()
            stream.end()

    async def _store(self, stream: _Stream, waiting: list[link_pb2.Receipt]) -> None:
        """All of *waiting*, in groups, also what comes meanwhile."""
        agent = stream.caller.agent
        while waiting:
            await asyncio.sleep(0)  # those that arrived together are stored together
            group, waiting[:] = waiting[:GROUP], waiting[GROUP:]
            settled = [_settled(receipt) for receipt in group]
            now_us = time.time_ns() // 1000

            def store(db: sqlite3.Connection, settled: list[Settled] = settled, now_us: int = now_us) -> None:
                site_deliveries.settle(db, agent, settled, now_us)

            await self._fleet.do(store)
            for one in settled:
                if one.verdict != "retry":
                    stream.under_way.discard((one.id, one.attempt))
            stream.acknowledged += [one.id for one in settled if one.verdict != "retry"]
            stream.changed.set()
            await asyncio.to_thread(self._waker.wake, "receipts")

    async def _note(self, agent: str, *, connected: bool) -> None:
        now_us = time.time_ns() // 1000
        await self._fleet.note(lambda db: site_links.linked(db, agent, connected=connected, now_us=now_us))

    # --- wake-ups

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """On a thread: until `close`. A store that cannot be read now is looked at again."""
        failures, backoff, rng = 0, Backoff(LOOK_SECONDS, 2.0, 30.0), random.Random()  # noqa: S311 - jitter
        while not self._stop.is_set():
            try:
                self._look(loop)
            except (sqlite3.Error, CrossdockError, OSError) as error:
                failures += 1
                logger.warning("what waits for sites cannot be read now: {}", error)
                self._stop.wait(backoff.delay(failures, rng))
            else:
                failures = 0

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        with closing(Station(self._data, ROLE, cache_mib=1)) as station:
            self._station = station
            try:
                while not self._stop.is_set():
                    newest = site_deliveries.newest_waiting(station.db)
                    with contextlib.suppress(RuntimeError):  # the loop has ended
                        loop.call_soon_threadsafe(self._tell, newest)
                    self._purge(station)
                    station.bell.wait(LOOK_SECONDS)
            finally:
                self._station = None

    def _tell(self, newest: dict[str, int]) -> None:
        for agent, stream in self._streams.items():
            if newest.get(agent, 0) > stream.sent:
                stream.changed.set()

    def _purge(self, station: Station) -> None:
        if time.monotonic() < self._purge_at:
            return
        self._purge_at = time.monotonic() + PURGE_SECONDS
        before_us = time.time_ns() // 1000 - int(KEEP_DAYS * 86_400e6)
        with transaction(station.db):
            site_deliveries.purge(station.db, before_us)


def _delivery(row: Waiting) -> link_pb2.Delivery:
    return link_pb2.Delivery(
        id=row.id, writer=row.writer, sequence=row.sequence, payload=row.payload, crc32=zlib.crc32(row.payload),
        attempt=row.attempt, document=row.document, key=row.key, version=row.event_seq, undo=row.undo_of or b"",
    )  # fmt: skip


def _settled(receipt: link_pb2.Receipt) -> Settled:
    return Settled(
        receipt.id, receipt.attempt, receipt.verdict, one_line(receipt.code, 50), one_line(receipt.reason, TEXT),
        one_line(receipt.place, TEXT),
    )  # fmt: skip
