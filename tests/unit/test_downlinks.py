"""The gateway's side of write-back: a receipt is stored before it is acknowledged, and only its own agent's counts."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from crossdock.v1 import link_pb2
from crossdock_controller import downlinks as module
from crossdock_controller.downlinks import Downlinks
from crossdock_controller.fleet import Caller
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import agents, connection, site_deliveries, site_links
from crossdock_controller.store.faults import StoreUnavailable
from crossdock_controller.store.shared import SharedConnection
from crossdock_controller.store.site_deliveries import Addressed
from support.pipeline import template


class FakeFleet:
    def __init__(self, state: Path) -> None:
        self.shared = SharedConnection(state, "fleet")

    def allows(self, _agent: str) -> bool:
        return True

    async def do(self, call: Callable[[sqlite3.Connection], Any]) -> Any:
        return await self.shared.write(call)

    async def read(self, call: Callable[[sqlite3.Connection], Any]) -> Any:
        return await self.shared.read(call)

    async def note(self, call: Callable[[sqlite3.Connection], Any]) -> bool:
        await self.do(call)
        return True


class Peer:
    """An agent's end of a stream, by hand."""

    def __init__(self) -> None:
        self.outgoing: asyncio.Queue[link_pb2.Receipt | None] = asyncio.Queue()

    async def receipts(self) -> AsyncIterator[link_pb2.Receipt]:
        while (receipt := await self.outgoing.get()) is not None:
            yield receipt

    def say(self, id_: bytes, verdict: str = "applied", attempt: int = 1) -> None:
        self.outgoing.put_nowait(link_pb2.Receipt(id=id_, verdict=verdict, attempt=attempt, place="there"))


def one(number: int) -> Addressed:
    return Addressed(number.to_bytes(16, "big"), number, "Order", f"K{number}", b"{}", 1)


def run(base: Path, scene: Callable[[Downlinks, sqlite3.Connection], Awaitable[None]]) -> None:
    shutil.copy(template(), base / "state.db")

    async def play() -> None:
        fleet = FakeFleet(base / "state.db")
        with closing(connection.connect(base / "state.db")) as db:
            for agent in ("a1", "a2"):
                agents.record_enrolled(db, agent, agent, host="", platform="", version="", expires_us=1, now_us=1)
            async with Downlinks(fleet, DataDirectory(base)) as made:  # type: ignore[arg-type]
                await asyncio.wait_for(scene(made, db), 60)
        fleet.shared.stop()
        fleet.shared.close()

    asyncio.run(play())


def put(db: sqlite3.Connection, agent: str, *numbers: int) -> None:
    with connection.transaction(db):
        site_deliveries.put(
            db, [one(n) for n in numbers], sink="back", site=agent, agent=agent, writer="w", now_us=1
        )  # fmt: skip


def test_deliveries_come_in_order_and_a_receipt_is_stored_before_it_is_acknowledged(tmp_path: Path) -> None:
    async def scene(made: Downlinks, db: sqlite3.Connection) -> None:
        put(db, "a1", 1, 2)
        put(db, "a2", 3)
        peer = Peer()
        stream = made.serve(Caller("a1", "a1"), peer.receipts())
        assert not (await anext(stream)).id
        link = site_links.get(db, "a1")
        assert link is not None
        assert link.connected
        got = [await anext(stream), await anext(stream)]
        assert [(d.key, d.version, d.attempt) for d in got] == [("K1", 1, 1), ("K2", 2, 1)]
        peer.say(b"short")
        peer.say(got[0].id, "perhaps")
        peer.say(one(3).id)  # of another agent
        peer.say(got[1].id)
        known: list[bytes] = []
        while got[1].id not in known:
            known += (await anext(stream)).acknowledged
        states = {row.key: row.state for row in site_deliveries.listed(
            db, sink=None, document=None, key=None, state=None, limit=9
        )}  # fmt: skip
        assert states == {"K1": "waiting", "K2": "applied", "K3": "waiting"}
        put(db, "a1", 4)  # without a wake-up: it is looked for
        assert (await anext(stream)).key == "K4"
        peer.outgoing.put_nowait(None)
        assert [delivery.id async for delivery in stream] == []
        link = site_links.get(db, "a1")
        assert link is not None
        assert not link.connected

    run(tmp_path, scene)


def test_a_new_stream_of_an_agent_ends_the_old_one_and_begins_with_what_has_no_receipt(tmp_path: Path) -> None:
    async def scene(made: Downlinks, db: sqlite3.Connection) -> None:
        put(db, "a1", 1)
        old, new = Peer(), Peer()
        first = made.serve(Caller("a1", "a1"), old.receipts())
        assert [(await anext(first)).key, (await anext(first)).key] == ["", "K1"]
        second = made.serve(Caller("a1", "a1"), new.receipts())
        assert [(await anext(second)).key, (await anext(second)).key] == ["", "K1"]
        with pytest.raises(StopAsyncIteration):
            await anext(first)
        link = site_links.get(db, "a1")
        assert link is not None
        assert link.connected
        await second.aclose()

    run(tmp_path, scene)


def test_what_an_agent_that_reads_nothing_is_owed_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 50)

    async def scene(made: Downlinks, _db: sqlite3.Connection) -> None:
        peer = Peer()
        stream = made.serve(Caller("a1", "a1"), peer.receipts())
        await anext(stream)
        for number in range(5000):
            peer.say(number.to_bytes(16, "big"))
        (served,) = made._streams.values()
        while len(served.acknowledged) < 50:
            await asyncio.sleep(0.01)
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert len(served.acknowledged) <= 50 + 2 * module.GROUP
        await stream.aclose()

    run(tmp_path, scene)


def test_a_receipt_that_could_not_be_stored_ends_the_stream_though_the_agent_says_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("the disk is full")

    async def talk(made: Downlinks) -> None:
        """Until the agent may forget what it told."""
        peer = Peer()
        async with aclosing(made.serve(Caller("a1", "a1"), peer.receipts())) as stream:
            async for delivery in stream:
                if delivery.id:
                    peer.say(delivery.id)
                if delivery.acknowledged:
                    return

    async def scene(made: Downlinks, db: sqlite3.Connection) -> None:
        put(db, "a1", 1)
        with monkeypatch.context() as patch:
            patch.setattr(site_deliveries, "settle", refuses)
            with pytest.raises(StoreUnavailable):
                await talk(made)
        await talk(made)  # it has no receipt, so the agent is asked again
        assert site_deliveries.newest_waiting(db) == {}

    run(tmp_path, scene)
