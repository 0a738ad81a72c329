"""Tables written by four writers whose transactions commit out of order, while the agent is killed again and again.

Every mode must keep what it promises: `incrementing` each committed row once; `timestamp` the last version of each row.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyodbc
import pytest

from support import collecting
from support.gateway import wait_until
from support.mariadb import Mariadb
from support.postgres import Postgres
from support.processes import Process
from support.table_site import decoded

SECONDS = float(os.environ.get("CROSSDOCK_FIRE_SECONDS", "60"))
SEED = int(os.environ.get("CROSSDOCK_FIRE_SEED", "4711"))  # a failing seed replays, as far as clocks allow
WRITERS = 4
KEYS = 200
PATIENCE_SECONDS = 90.0

Row = dict[str, Any]


@dataclass
class Ledger:
    """What was committed, as the writers know it: the independent account."""

    added: dict[str, list[int]] = field(default_factory=dict)  # by table: `val` of each version committed
    deleted: dict[str, list[int]] = field(default_factory=dict)  # by table: `val` of the version that was deleted
    lock: threading.Lock = field(default_factory=threading.Lock)
    commits: int = 0


class Writer(threading.Thread):
    """Writes in transactions that stay open for up to a second and a half; one in ten is rolled back."""

    def __init__(self, number: int, odbc: str, now: str, ledger: Ledger, rng: random.Random) -> None:
        super().__init__(name=f"writer-{number}")
        self._number, self._odbc, self._now, self._ledger, self._rng = number, odbc, now, ledger, rng
        self._next = number * 1_000_000
        self._end = threading.Event()

    def end(self) -> None:
        self._end.set()

    def run(self) -> None:
        connection = pyodbc.connect(self._odbc, autocommit=False)
        try:
            while not self._end.is_set():
                self._transaction(connection)
        finally:
            connection.close()

    def _transaction(self, connection: Any) -> None:
        added: list[tuple[str, int]] = []
        deleted: list[tuple[str, int]] = []
        try:
            for _ in range(self._rng.randint(1, 4)):
                self._write(connection, added, deleted)
                if self._rng.random() < 0.3:
                    self._end.wait(self._rng.uniform(0.0, 0.5))
            if self._rng.random() < 0.1:
                connection.rollback()
                return
            with self._ledger.lock:  # so that a reader of the ledger never sees less than was committed
                connection.commit()
                self._ledger.commits += 1
                for table, val in added:
                    self._ledger.added.setdefault(table, []).append(val)
                for table, val in deleted:
                    self._ledger.deleted.setdefault(table, []).append(val)
        except pyodbc.Error:  # a deadlock's victim, or a lock that took too long: the transaction never was
            connection.rollback()

    def _write(self, connection: Any, added: list[tuple[str, int]], deleted: list[tuple[str, int]]) -> None:
        self._next += 1
        val, key = self._next, self._rng.randint(1, KEYS)
        table = self._rng.choice(("journal", "article"))
        if table == "journal":
            connection.execute("INSERT INTO journal (val) VALUES (?)", val)
        else:
            self._upsert(connection, table, key, val)
        added.append((table, val))

    def _upsert(self, connection: Any, table: str, key: int, val: int) -> None:
        done = connection.execute(f"UPDATE {table} SET val = ?, changed_at = {self._now} WHERE id = ?", val, key)
        if done.rowcount == 0:
            connection.execute(f"INSERT INTO {table} (id, val, changed_at) VALUES (?, ?, {self._now})", key, val)


@dataclass
class Server:
    """A database under fire, however it is called."""

    odbc: str
    dialect: str
    now: str
    serial: str
    timestamp: str

    def tables(self) -> list[str]:
        return [
            f"CREATE TABLE journal (id {self.serial}, val BIGINT NOT NULL)",
            f"CREATE TABLE article (id BIGINT PRIMARY KEY, val BIGINT NOT NULL, changed_at {self.timestamp} NOT NULL)",
            "CREATE INDEX article_changed ON article (changed_at, id)",
        ]

    def sources(self) -> list[Row]:
        common = {
            "connection": {"odbc": self.odbc, "dialect": self.dialect},
            "poll_seconds": 0.2,
            "look_back_seconds": 10.0,
        }
        return [
            _source("journal", table="journal", mode="incrementing", column="id", key=["id"], **common),
            _source("article", table="article", mode="timestamp", column="changed_at", key=["id"], **common),
        ]

    def query(self, sql: str) -> list[Any]:
        connection = pyodbc.connect(self.odbc, autocommit=True)
        try:
            return list(connection.execute(sql).fetchall())
        finally:
            connection.close()

    def execute(self, *statements: str) -> None:
        connection = pyodbc.connect(self.odbc, autocommit=True)
        try:
            for statement in statements:
                connection.execute(statement)
        finally:
            connection.close()


def _source(name: str, **settings: Any) -> Row:
    return {"name": name, "kind": "sql_table", "lane": "standard", "settings": settings}


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    running: Postgres | Mariadb = request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb")
    if isinstance(running, Postgres):
        return Server(running.odbc(), "postgresql", "clock_timestamp()", "BIGSERIAL PRIMARY KEY", "TIMESTAMPTZ")
    serial = "BIGINT AUTO_INCREMENT PRIMARY KEY"
    return Server(running.odbc(), "mariadb", "UTC_TIMESTAMP(6)", serial, "DATETIME(6)")


@pytest.mark.slow
@pytest.mark.timeout(int(SECONDS + PATIENCE_SECONDS + 120))
def test_what_four_writers_commit_out_of_order_arrives_while_the_agent_is_killed(
    server: Server, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    server.execute(*server.tables())
    ledger = Ledger()
    writers = [Writer(n, server.odbc, server.now, ledger, random.Random(SEED + n)) for n in range(1, WRITERS + 1)]
    (tmp_path / "sources.json").write_text(json.dumps(server.sources()), "utf-8")
    script = str(Path(collecting.__file__))
    agent = Process("agent", [sys.executable, script, str(tmp_path), str(tmp_path / "sources.json")], tmp_path).start()
    kills = 0
    try:
        for writer in writers:
            writer.start()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            time.sleep(rng.uniform(0.5, 3.0))  # the moment itself is what is random here
            assert agent.alive(), agent.tail()
            agent.kill()
            agent.start()
            kills += 1
        for writer in writers:
            writer.end()
        for writer in writers:
            writer.join(30)
        assert ledger.commits > SECONDS
        _wait(agent, server, ledger, tmp_path)
    finally:
        for writer in writers:
            writer.end()
        agent.stop()
    print(f"{ledger.commits} commits, {kills} kills, { {t: len(v) for t, v in ledger.added.items()} } versions")
    _exactly_once(tmp_path)


def _wait(agent: Process, server: Server, ledger: Ledger, state: Path) -> None:
    """Until every promise is kept; what is still missing is in the failure."""
    missing: list[str] = []

    def kept() -> bool:
        missing[:] = _missing(server, ledger, state)
        return not missing

    try:
        wait_until(kept, "all promises are kept", PATIENCE_SECONDS)
    except AssertionError:
        raise AssertionError("\n".join([*missing, "the agent said:", agent.tail()])) from None


def _missing(server: Server, ledger: Ledger, state: Path) -> list[str]:
    """A sentence for each promise that is not kept yet."""
    found = []
    lost = Counter(ledger.added["journal"]) - Counter(row["val"] for row in rows(state, "journal"))
    if lost:
        found.append(f"journal: {len(lost)} of {len(ledger.added['journal'])} rows have not come: {sorted(lost)[:5]}")
    last = {row["id"]: row["val"] for row in rows(state, "article")}
    now = {row[0]: row[1] for row in server.query("SELECT id, val FROM article")}
    if last != now:
        found.append(f"article: {sum(last.get(k) != v for k, v in now.items())} of {len(now)} rows are not the last")
    return found


def _exactly_once(state: Path) -> None:
    for source in ("journal", "article"):
        contents = Counter(tuple(row.values()) for row in rows(state, source))
        assert contents
        assert not [c for c, n in contents.items() if n > 1], f"{source}: rows came twice"


def rows(state: Path, source: str) -> list[Row]:
    return [row for header, payload in collecting.received(state, source) for row in decoded(header, payload)]
