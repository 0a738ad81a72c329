"""Tables written by four writers whose transactions commit out of order, while the agent is killed again and again.

Every mode must keep what it promises, to the row: `incrementing` and `outbox` each committed row once; `timestamp` and
`rowversion` the last version of each row; `snapshot` and `reconcile` the table's state, deletes included; `change_log`
each committed version and each delete, once and in the order of its key; an aggregate the last state of each order.
"""

from __future__ import annotations

import contextlib
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

import msgspec
import pyodbc
import pytest

from crossdock.lifecycle import Stop
from crossdock_agent.check import NoMemory
from crossdock_agent.pump import wall_us
from crossdock_agent.sources.base import Counters, SourceContext
from crossdock_agent.sql import installing
from crossdock_agent.sql.settings import SqlTableSettings
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
WITH_DELETES = ("repaired", "stock", "logged")
TABLES = ("journal", "message", "article", *WITH_DELETES, "versioned", "head", "head")
NO_BRAKE = {"max_vanished_percent": 100}  # writers delete a fifth of what they touch

Row = dict[str, Any]


@dataclass
class Ledger:
    """What was committed, as the writers know it: the independent account."""

    added: dict[str, list[int]] = field(default_factory=dict)  # by table: `val` of each version committed
    deleted: dict[str, list[int]] = field(default_factory=dict)  # by table: `val` of the version that was deleted
    lock: threading.Lock = field(default_factory=threading.Lock)
    commits: int = 0

    def changes(self, table: str) -> list[tuple[int, str]]:
        upserts = [(val, "upsert") for val in self.added.get(table, ())]
        return upserts + [(val, "delete") for val in self.deleted.get(table, ())]


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
        table = self._rng.choice(TABLES)
        if table in ("journal", "message"):
            connection.execute(f"INSERT INTO {table} (val) VALUES (?)", val)
        elif table == "head":
            self._order(connection, key, val)
        elif table in WITH_DELETES and self._rng.random() < 0.2:
            gone = connection.execute(f"DELETE FROM {table} WHERE id = ? RETURNING val", key).fetchall()
            deleted += [(table, int(row[0])) for row in gone]
            return
        else:
            self._upsert(connection, table, key, val)
        added.append((table, val))

    def _order(self, connection: Any, key: int, val: int) -> None:
        """A header, or a line, or a line that goes with only its header touched."""
        what = self._rng.randrange(4)
        number = self._rng.randint(1, 3)
        if what == 0:
            self._upsert(connection, "head", key, val)
        elif what == 1:
            connection.execute("DELETE FROM line WHERE head = ? AND number = ?", key, number)
            connection.execute(f"UPDATE head SET changed_at = {self._now} WHERE id = ?", key)
        else:
            done = connection.execute(
                f"UPDATE line SET val = ?, changed_at = {self._now} WHERE head = ? AND number = ?", val, key, number
            )
            if done.rowcount == 0:
                sql = f"INSERT INTO line (head, number, val, changed_at) VALUES (?, ?, ?, {self._now})"
                connection.execute(sql, key, number, val)

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
        row = f"(id BIGINT PRIMARY KEY, val BIGINT NOT NULL, changed_at {self.timestamp} NOT NULL"
        made = [f"CREATE TABLE {table} (id {self.serial}, val BIGINT NOT NULL)" for table in ("journal", "message")]
        made += [f"CREATE TABLE {table} {row})" for table in ("article", "repaired", "stock", "logged", "head")]
        made.append(f"CREATE TABLE versioned {row}, version BIGINT)")
        made.append(
            f"CREATE TABLE line (head BIGINT, number INT, val BIGINT, changed_at {self.timestamp} NOT NULL,"
            " PRIMARY KEY (head, number))"
        )
        made += [
            f"CREATE INDEX {table}_changed ON {table} (changed_at, id)" for table in ("article", "repaired", "head")
        ]
        made.append("CREATE INDEX line_changed ON line (changed_at, head, number)")
        if self.dialect == "postgresql":
            made += [
                "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN NEW.version := txid_current(); RETURN NEW; END $$",
                "CREATE TRIGGER stamped BEFORE INSERT OR UPDATE ON versioned FOR EACH ROW EXECUTE FUNCTION stamp()",
            ]
        return made

    def sources(self) -> list[Row]:
        common = {"connection": {"odbc": self.odbc, "dialect": self.dialect}, "poll_seconds": 0.3}
        by_time = {**common, "mode": "timestamp", "column": "changed_at", "key": ["id"], "look_back_seconds": 10.0}
        reconcile = {"every_seconds": 2.0, "deletes": True, "max_vanished_percent": 100}
        line = {"table": "line", "as": "lines", "on": {"head": "id"}, "key": ["number"], "column": "changed_at"}
        made = [
            _source("journal", table="journal", mode="incrementing", column="id", key=["id"], **common),
            _source("message", table="message", mode="outbox", column="id", **common),
            _source("article", table="article", **by_time),
            _source("repaired", table="repaired", **{**by_time, "look_back_seconds": 0.0}, reconcile=reconcile),
            _source("stock", table="stock", mode="snapshot", key=["id"], snapshot=NO_BRAKE, **common),
            _source("logged", table="logged", mode="change_log", key=["id"], **common),
            _source("head", table="head", aggregate={"children": [line]}, **by_time),
        ]
        if self.dialect == "postgresql":
            made.append(
                _source("versioned", table="versioned", mode="rowversion", column="version", key=["id"], **common)
            )
        return made

    def install_log(self) -> None:
        (settings,) = [source["settings"] for source in self.sources() if source["name"] == "logged"]
        typed = msgspec.convert(settings, type=SqlTableSettings)
        context = SourceContext("logged", NoMemory(), Counters(), Stop(), str, time.monotonic, wall_us)
        with contextlib.closing(installing.connect_installer(typed, context)) as database:
            installing.install(database, typed)

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
    server.install_log()
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
    versions, deletes = ({t: len(v) for t, v in what.items()} for what in (ledger.added, ledger.deleted))
    print(f"{ledger.commits} commits, {kills} kills, versions {versions}, deletes {deletes}")
    _exactly_once(server, ledger, tmp_path)


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
    for table in ("journal", "message"):
        lost = Counter(ledger.added[table]) - Counter(row["val"] for row in rows(state, table))
        if lost:
            found.append(f"{table}: {len(lost)} of {len(ledger.added[table])} rows have not come: {sorted(lost)[:5]}")
    if left := server.query("SELECT COUNT(*) FROM message")[0][0]:
        found.append(f"message: {left} rows are still in the table")
    for table in ("article", *WITH_DELETES, *(["versioned"] if server.dialect == "postgresql" else [])):
        now = {row[0]: row[1] for row in server.query(f"SELECT id, val FROM {table}")}
        replayed = _replayed(rows(state, table))
        if replayed != now:
            wrong = {key for key in now.keys() | replayed.keys() if now.get(key) != replayed.get(key)}
            found.append(f"{table}: {len(wrong)} of {len(now)} rows are not as in the table: {sorted(wrong)[:5]}")
    versions = [(row["val"], row["$op"]) for row in rows(state, "logged") if row["$version"]]
    due = ledger.changes("logged")
    if lost_versions := Counter(due) - Counter(versions):
        found.append(f"logged: {len(lost_versions)} of {len(due)} versions have not come")
    orders = {row["id"]: (row["val"], {line[1]: line[2] for line in row["lines"]}) for row in rows(state, "head")}
    if orders != _orders(server):
        found.append(f"head: orders are not as in the tables: {len(orders)} came")
    return found


def _replayed(records: list[Row]) -> dict[int, int]:
    """What somebody knows of a table who was told *records* in order."""
    known: dict[int, int] = {}
    for record in records:
        if record.get("$op") == "delete":
            known.pop(record["id"], None)
        else:
            known[record["id"]] = record["val"]
    return known


def _orders(server: Server) -> dict[int, tuple[int, dict[int, int]]]:
    orders: dict[int, tuple[int, dict[int, int]]] = {
        row[0]: (row[1], {}) for row in server.query("SELECT id, val FROM head")
    }
    for head, number, val in server.query("SELECT head, number, val FROM line"):
        if head in orders:
            orders[head][1][number] = val
    return orders


def _exactly_once(server: Server, ledger: Ledger, state: Path) -> None:
    """Nothing twice, in what was taken in: not even by a repetition that the controller would drop by its event id."""
    for source in server.sources():
        name = source["name"]
        contents = Counter(msgspec.msgpack.encode(row) for row in rows(state, name))
        assert contents
        assert not [c for c, n in contents.items() if n > 1], f"{name}: rows came twice"
    # version 0 is the table's state at the first reading: what was committed before it is in the log as well
    versions = Counter((row["val"], row["$op"]) for row in rows(state, "logged") if row["$version"])
    due = ledger.changes("logged")
    assert versions == Counter(due), "logged: versions came that nobody committed"


def rows(state: Path, source: str) -> list[Row]:
    return [row for header, payload in collecting.received(state, source) for row in decoded(header, payload)]
