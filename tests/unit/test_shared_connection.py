"""Writes that wait together share a transaction; each asker hears of its own."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from crossdock_controller.store import connection
from crossdock_controller.store.shared import SharedConnection


def insert(value: int) -> Callable[[sqlite3.Connection], int]:
    def call(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO t VALUES(?)", (value,))
        return value

    return call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    db = connection.connect(tmp_path / "state.db")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY)")
    db.close()
    return tmp_path / "state.db"


def play(path: Path, story: Callable[[SharedConnection], Coroutine[Any, Any, None]]) -> list[int]:
    """What is stored after *story*."""

    async def run() -> None:
        shared = SharedConnection(path, "test")
        try:
            await story(shared)
        finally:
            shared.stop()
            shared.close()

    asyncio.run(run())
    db = connection.connect(path)
    stored = [n for (n,) in db.execute("SELECT n FROM t ORDER BY n")]
    db.close()
    return stored


def test_writes_that_wait_together_share_one_transaction(path: Path) -> None:
    commits = 0

    async def story(shared: SharedConnection) -> None:
        nonlocal commits
        gate = threading.Event()
        blocked = asyncio.create_task(shared.read(lambda _db: gate.wait(30)))
        await asyncio.sleep(0)  # it has the thread now, or will before the writes
        writes = [asyncio.create_task(shared.write(insert(n))) for n in range(300)]
        await asyncio.sleep(0)
        shared.db.set_trace_callback(count)
        gate.set()
        assert await asyncio.gather(*writes) == list(range(300))
        await blocked

    def count(sql: str) -> None:
        nonlocal commits
        commits += sql == "COMMIT"

    assert play(path, story) == list(range(300))
    assert commits == 1


def test_a_write_that_fails_takes_no_other_with_it(path: Path) -> None:
    async def story(shared: SharedConnection) -> None:
        gate = threading.Event()
        blocked = asyncio.create_task(shared.read(lambda _db: gate.wait(30)))
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(shared.write(insert(n))) for n in (1, 2, 2, 3)]
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(r) for r in results] == [int, int, sqlite3.IntegrityError, int]
        await blocked

    assert play(path, story) == [1, 2, 3]


def test_what_was_asked_for_before_the_stop_is_stored(path: Path) -> None:
    async def story(shared: SharedConnection) -> None:
        tasks = [asyncio.create_task(shared.write(insert(n))) for n in range(5)]
        await asyncio.sleep(0)
        shared.stop()
        await asyncio.gather(*tasks)

    assert play(path, story) == list(range(5))
