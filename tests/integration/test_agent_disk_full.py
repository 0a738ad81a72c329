"""The agent's disk is full: reading stops at the sources, the agent lives, and with space all of it arrives."""

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.codec import open_sealed
from crossdock.retry import Backoff
from crossdock_agent import health, pump, pumps, streams
from crossdock_agent.outbox import groupcommit, schema
from support import sources
from support.agents import RunningAgent, eventually, helpers_in_process, site_config
from support.controller import FakeController
from support.sources import config, reel
from support.sources import lines_that_do_not_compress as lines

QUICK = Backoff(first_seconds=0.05, max_seconds=0.2)


class Disk:
    """How large SQLite believes that the outbox may grow, and whether small files can be written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._connections: list[sqlite3.Connection] = []
        connect, write = schema.connect, health.write_atomic

        def limited(path: Path) -> sqlite3.Connection:
            connection = connect(path)
            self._connections.append(connection)
            if self.full:
                self._limit(connection)
            return connection

        def refuse(path: Path, data: bytes, **more: bool) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            write(path, data, **more)

        monkeypatch.setattr(schema, "connect", limited)
        monkeypatch.setattr(health, "write_atomic", refuse)

    def fill(self) -> None:
        """Not a page more than there is now."""
        self.full = True
        for connection in self._connections:
            self._limit(connection)

    def free(self) -> None:
        self.full = False
        for connection in self._connections:
            self._do(connection, "PRAGMA max_page_count = 1000000")

    def _limit(self, connection: sqlite3.Connection) -> None:
        self._do(connection, "PRAGMA max_page_count = 1")  # SQLite takes what there is for the least

    @staticmethod
    def _do(connection: sqlite3.Connection, pragma: str) -> None:
        try:
            connection.execute(pragma).fetchall()
        except sqlite3.ProgrammingError:  # closed since
            return


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeController]:
    monkeypatch.setattr(pump, "RETRY", QUICK)
    monkeypatch.setattr(health, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(pumps, "HOLD_SECONDS", 1.0)
    monkeypatch.setattr(groupcommit, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(streams.Stream.__init__, "__defaults__", (QUICK,))
    helpers_in_process(monkeypatch)
    sources.install()
    fake = FakeController().start()
    yield fake
    fake.stop()


def received(controller: FakeController, source: str) -> list[bytes]:
    batches = [b for (name, _), kept in controller.stored.items() if name == source for b in kept]
    return [line for batch in batches for line in open_sealed(batch.sealed)[1].split(b"\n")]


def test_a_full_disk_stops_reading_and_not_the_agent_and_nothing_is_lost(
    controller: FakeController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    state = tmp_path / "state"
    controller.identity(state)
    tape = lines(40)
    reel("wms").lines = tape[:5]
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 5, "the first ones arrived")
        controller.acknowledging.clear()
        disk.fill()
        reel("wms").lines = list(tape)

        def told() -> bool:
            beats = [r.heartbeat for r in controller.reports if r.WhichOneof("kind") == "heartbeat"]
            last = beats[-1] if beats else None
            return (
                last is not None
                and any("free disk space" in s.hint and s.state == "failing" for s in last.sources)
                and any("cannot be written, 'crossdock-agent status' shows an old state" in p for p in last.problems)
            )

        controller.wait(told, "the centre hears of it, though this machine can write nothing")
        assert len(received(controller, "wms")) < 40
        disk.free()
        controller.acknowledging.set()
        controller.wait(lambda: len(received(controller, "wms")) >= 40, "everything arrived")
        assert received(controller, "wms") == tape, "once, in order"
        eventually(lambda: (s := agent.status()) and not s.problems and s.outbox_records == 0, "and all is well")
