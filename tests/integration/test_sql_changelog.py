"""Mode change_log on SQLite, PostgreSQL and MariaDB: what triggers log arrives, version by version, deletes too."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock.errors import ConfigError
from crossdock_agent.sources.base import SourceContext
from crossdock_agent.sql import installing, taking
from crossdock_agent.sql import rows as rows_module
from crossdock_agent.sql.settings import SqlTableSettings
from support.table_site import Sqlite, TableSite, rows_of

LOG = {"table": "t", "mode": "change_log", "key": ["id"]}


class Machine:
    """A database of any of the three, with a table `t`, and a test's own way to it."""

    def __init__(self, dialect: str, server: Any, directory: Path) -> None:
        self.dialect, self.server = dialect, server
        if server is None:
            self.path = directory / "erp.db"
            self.own: Any = Sqlite(self.path)
            self.connection: dict[str, Any] = self.own.connection
        else:
            self.own = server.connect()
            self.connection = {"odbc": server.odbc(), "dialect": dialect}
        self._open: list[Any] = [self.own]

    def connect(self) -> Any:
        """A second writer, in transactions; on a server only."""
        made = self.server.connect()
        made.autocommit = False
        self._open.append(made)
        return made

    def execute(self, sql: str, *values: object) -> None:
        self.own.execute(sql, list(values)) if self.server is None else self.own.execute(sql, *values)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = self.own._writer.execute(sql) if self.server is None else self.own.execute(sql)
        return [tuple(row) for row in cursor.fetchall()]

    def log_rows(self) -> int:
        return int(self.rows("SELECT COUNT(*) FROM crossdock_log_t")[0][0])

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    def typed(self, **more: Any) -> tuple[SqlTableSettings, SourceContext]:
        site = TableSite(connection=self.connection, **{**LOG, **more})
        return msgspec.convert(site.settings, type=SqlTableSettings), site.source._context  # type: ignore[attr-defined]

    def install(self, **more: Any) -> installing.State:
        settings, context = self.typed(**more)
        with contextlib.closing(installing.connect_installer(settings, context)) as database:
            return installing.install(database, settings)

    def remove(self, *, discard: bool = False) -> int:
        settings, context = self.typed()
        with contextlib.closing(installing.connect_installer(settings, context)) as database:
            return installing.remove(database, settings, discard=discard)

    @contextlib.contextmanager
    def site(self, **more: Any) -> Iterator[TableSite]:
        site = TableSite(connection=self.connection, **{**LOG, **more})
        try:
            yield site
        finally:
            site.source.close()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    fixture = {"postgresql": "postgres", "mariadb": "mariadb"}.get(request.param)
    made = Machine(request.param, request.getfixturevalue(fixture) if fixture else None, tmp_path)
    made.execute("CREATE TABLE t (id integer PRIMARY KEY, x varchar(40), n numeric(12, 3))")
    yield made
    made.close()


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    fixture = {"postgresql": "postgres", "mariadb": "mariadb"}[request.param]
    made = Machine(request.param, request.getfixturevalue(fixture), tmp_path)
    made.execute("CREATE TABLE t (id integer PRIMARY KEY, x varchar(40), n numeric(12, 3))")
    yield made
    made.close()


def short(rows: list[list[Any]]) -> list[tuple[Any, ...]]:
    """(id, x, op) of each row."""
    return [(row[0], row[1], row[-2]) for row in rows]


def test_every_version_arrives_in_order_and_a_delete_with_its_last_image(machine: Machine) -> None:
    machine.install()
    with machine.site() as site:
        site.poll()
        machine.execute("INSERT INTO t VALUES (1, 'a', 1.5), (2, 'b', NULL)")
        machine.execute("UPDATE t SET x = 'c' WHERE id = 1")
        machine.execute("UPDATE t SET x = 'a' WHERE id = 1")
        machine.execute("DELETE FROM t WHERE id = 2")
        rows = site.poll(advance=1)
        assert short(rows) == [
            (1, "a", "upsert"), (2, "b", "upsert"), (1, "c", "upsert"), (1, "a", "upsert"), (2, "b", "delete"),
        ]  # fmt: skip
        versions = [row[-1] for row in rows]
        assert versions == sorted(set(versions))
        header = site.committed[-1].header
        assert [c.name for c in header.columns] == ["id", "x", "n", "$op", "$version"]
        assert [c.type for c in header.columns][-2:] == ["text", "integer"]
        assert list(header.key_columns) == ["id"]
        assert header.origin.name == "t"
        assert machine.log_rows() == 5
        site.acknowledge()
        assert machine.log_rows() == 0
        assert site.poll(advance=1) == []


def test_a_changed_key_is_a_delete_of_the_old_and_an_upsert_of_the_new(machine: Machine) -> None:
    machine.execute("CREATE TABLE k (a varchar(10), b integer, x varchar(10), PRIMARY KEY (a, b))")
    machine.install(table="k", key=["a", "b"])
    with machine.site(table="k", key=["a", "b"]) as site:
        site.poll()
        machine.execute("INSERT INTO k VALUES ('sku', 1, 'x')")
        machine.execute("UPDATE k SET a = 'SKU'")
        machine.execute("UPDATE k SET b = 2, x = 'y'")
        machine.execute("UPDATE k SET x = 'z'")
        assert [row[:4] for row in site.poll(advance=1)] == [
            ["sku", 1, "x", "upsert"],
            ["sku", 1, "x", "delete"], ["SKU", 1, "x", "upsert"],
            ["SKU", 1, "x", "delete"], ["SKU", 2, "y", "upsert"],
            ["SKU", 2, "z", "upsert"],
        ]  # fmt: skip


def test_the_table_is_read_first_and_a_row_changed_meanwhile_ends_in_its_last_version(machine: Machine) -> None:
    for number in range(1, 301):
        machine.execute("INSERT INTO t VALUES (?, 'old', 1)", number)
    machine.install()
    with machine.site(page_rows=20) as site:
        reading = site.reading()
        found: list[list[Any]] = []
        changed = iter([5, 290, 150, 291])
        expected = dict.fromkeys(range(1, 301), "old")
        for draft in reading:
            found += rows_of(draft)
            number = next(changed, None)
            if number is not None:
                machine.execute("UPDATE t SET x = 'new' WHERE id = ?", number)
                machine.execute("DELETE FROM t WHERE id = ?", number + 3)
                expected[number] = "new"
                expected.pop(number + 3)
        found += site.poll(advance=1)
        last = {row[0]: (row[1], row[-2]) for row in found}
        assert {number: x for number, (x, op) in last.items() if op == "upsert"} == expected
        assert {row[-1] for row in found if row[1] == "old" and row[-2] == "upsert"} == {0}


def test_a_restart_in_the_middle_of_the_first_reading_goes_on_where_it_was(machine: Machine) -> None:
    for number in range(1, 201):
        machine.execute("INSERT INTO t VALUES (?, 'old', 1)", number)
    machine.install()
    with machine.site(page_rows=20) as site:
        sent: Counter[int] = Counter()
        for _ in range(8):
            sent.update(row[0] for row in site.poll(crash_after=2))
        sent.update(row[0] for row in site.poll())
        assert sent == Counter(dict.fromkeys(range(1, 201), 1))
        machine.execute("DELETE FROM t WHERE id = 1")
        assert short(site.poll(advance=1)) == [(1, "old", "delete")]


def test_start_now_reads_what_changes_from_then_on(machine: Machine) -> None:
    machine.execute("INSERT INTO t VALUES (1, 'old', 1)")
    machine.install()
    with machine.site(start="now") as site:
        assert site.poll() == []
        machine.execute("UPDATE t SET x = 'new'")
        site.restart()
        assert short(site.poll()) == [(1, "new", "upsert")]


def test_without_its_triggers_nothing_is_read_as_if_nothing_had_changed(machine: Machine) -> None:
    with machine.site() as site:
        with pytest.raises(ConfigError, match="no change log") as caught:
            site.poll()
        assert "--install" in caught.value.hint
        assert any(not finding.ok and "--install" in finding.hint for finding in site.source.check())
        machine.install()
        assert all(finding.ok for finding in site.source.check())
        site.poll()
        machine.execute("INSERT INTO t VALUES (1, 'a', 1)")
        assert machine.remove() == 1  # the row is not yet delivered, so the log stays
        with pytest.raises(ConfigError, match="triggers"):
            site.poll(advance=61)
        assert len(site.tokens) == 1  # what was logged before was read nevertheless
        site.acknowledge()
        assert machine.remove() == 0
        assert not installing.look(*machine.typed()).exists


def test_installing_twice_changes_nothing_and_removing_leaves_nothing(machine: Machine) -> None:
    assert machine.install().is_current
    machine.execute("INSERT INTO t VALUES (1, 'a', 1)")
    assert machine.install().is_current
    assert machine.log_rows() == 1
    assert machine.remove(discard=True) == 0
    assert machine.remove() == 0
    state = installing.look(*machine.typed())
    assert not state.exists
    assert not state.installed
    machine.execute("INSERT INTO t VALUES (2, 'b', 1)")


def test_a_column_added_disturbs_no_write_and_is_logged_after_it_was_amended(machine: Machine) -> None:
    machine.install()
    with machine.site() as site:
        site.poll()
        machine.execute("ALTER TABLE t ADD COLUMN y varchar(10)")
        machine.execute("INSERT INTO t VALUES (1, 'a', 1, 'lost')")
        assert [row[0] for row in site.poll(advance=61)] == [1]
        assert site.counters.snapshot()["columns_not_logged"] == 1
        (finding,) = [finding for finding in site.source.check() if not finding.ok]
        assert "y" in finding.detail
        assert "ADD COLUMN" in installing.look(*machine.typed()).script()
        assert machine.install().is_current
        machine.execute("UPDATE t SET y = 'kept'")
        site.poll(advance=61)
        assert [c.name for c in site.committed[-1].header.columns][:4] == ["id", "x", "n", "$op"]
        machine.execute("UPDATE t SET y = 'seen'")
        rows = site.poll(advance=1)
        assert [c.name for c in site.committed[-1].header.columns] == ["id", "x", "n", "y", "$op", "$version"]
        assert rows[-1][3] == "seen"


def test_a_column_dropped_never_makes_the_application_s_write_fail(machine: Machine) -> None:
    machine.install()
    with machine.site() as site:
        machine.execute("INSERT INTO t VALUES (1, 'a', 1)")
        site.poll()
        if machine.dialect == "sqlite":  # there, the column cannot be dropped while a trigger names it
            import sqlite3

            with pytest.raises(sqlite3.OperationalError, match="trigger"):
                machine.execute("ALTER TABLE t DROP COLUMN n")
            machine.execute("INSERT INTO t VALUES (2, 'b', 1)")
            assert short(site.poll(advance=61)) == [(2, "b", "upsert")]
            return
        machine.execute("ALTER TABLE t DROP COLUMN n")
        machine.execute("INSERT INTO t VALUES (2, 'b')")
        machine.execute("UPDATE t SET x = 'c' WHERE id = 1")
        assert machine.rows("SELECT id, x FROM t ORDER BY id") == [(1, "c"), (2, "b")]
        site.poll(advance=61)
        assert site.counters.snapshot()["log_gaps"] == 2
        gaps = [finding for finding in site.source.check() if finding.name == "gaps"]
        assert [finding.ok for finding in gaps] == [False]
        assert machine.install().is_current
        found = site.poll(advance=61) + site.poll(advance=61)
        assert sorted(short(found)) == [(1, "c", "upsert"), (2, "b", "upsert")]  # read anew, once
        assert {row[-1] > 0 for row in found} == {True}
        machine.execute("UPDATE t SET x = 'd' WHERE id = 1")
        assert short(site.poll(advance=61)) == [(1, "d", "upsert")]


def test_a_log_dropped_by_someone_never_makes_a_write_fail_on_a_server(server: Machine) -> None:
    server.install()
    with server.site() as site:
        site.poll()
        server.execute("DROP TABLE crossdock_log_t")
        server.execute("INSERT INTO t VALUES (1, 'a', 1)")
        assert server.rows("SELECT id FROM t") == [(1,)]
        with pytest.raises(Exception, match="crossdock_log_t"):
            site.poll(advance=61)


def test_a_log_that_grew_while_the_agent_was_away_is_an_alarm_and_nothing_of_it_is_dropped(machine: Machine) -> None:
    machine.install()
    for number in range(50):
        machine.execute("INSERT INTO t VALUES (?, 'a', 1)", number)
        machine.execute("UPDATE t SET x = 'b' WHERE id = ?", number)
    with machine.site(start="now", change_log={"alarm_rows": 60, "max_in_flight": 40}, page_rows=10) as site:
        sent: Counter[tuple[Any, ...]] = Counter()
        sent.update(short(site.poll()))
        assert site.counters.snapshot()["log_rows"] == 100
        assert site.counters.snapshot()["log_rows_alarm"] == 1
        for _ in range(6):
            site.acknowledge()
            sent.update(short(site.poll(advance=61)))
        assert len(sent) == 100
        assert set(sent.values()) == {1}
        site.acknowledge()
        site.poll(advance=61)
        assert site.counters.snapshot()["log_rows"] == 0
        assert site.counters.snapshot()["log_rows_alarm"] == 0


def test_an_agent_that_lost_its_disk_reads_what_is_in_the_log_again_with_the_same_content(machine: Machine) -> None:
    machine.install()
    with machine.site() as site:
        site.poll()
        machine.execute("INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1)")
        machine.execute("DELETE FROM t WHERE id = 1")
        before = site.poll(advance=1)
        site.ledger.clear()
        site.tokens.clear()
        site.restart()
        assert site.poll() == before
        site.acknowledge()
        assert machine.log_rows() == 0


def test_every_committed_version_of_four_writers_arrives_once_and_in_order_while_the_agent_is_killed_at_random(
    server: Machine,
) -> None:
    for number in range(1, 21):
        server.execute("INSERT INTO t VALUES (?, 'v0', 0)", number)
    server.install()
    lock = threading.Lock()
    history: dict[int, list[str | None]] = {number: ["v0"] for number in range(1, 21)}  # None: deleted
    begin = threading.Event()

    def write(writer: int) -> None:
        rng = random.Random(writer)
        connection = server.connect()
        begin.wait()
        for turn in range(30):
            numbers = sorted(rng.sample(range(1, 21), rng.randint(1, 4)))  # sorted: no deadlocks among the writers
            mine: list[tuple[int, str | None]] = []
            for number in numbers:
                there = connection.execute(f"SELECT x FROM t WHERE id = {number} FOR UPDATE").fetchone()
                version = f"w{writer}.{turn}.{number}"
                if there is None:
                    continue
                if rng.random() < 0.2:
                    connection.execute("DELETE FROM t WHERE id = ?", number)
                    mine.append((number, None))
                    if rng.random() < 0.7:
                        connection.execute("INSERT INTO t VALUES (?, ?, 1)", number, version)
                        mine.append((number, version))
                else:
                    connection.execute("UPDATE t SET x = ? WHERE id = ?", version, number)
                    mine.append((number, version))
                if rng.random() < 0.3:
                    time.sleep(rng.random() * 0.005)
            if rng.random() < 0.15:
                connection.rollback()
                continue
            with lock:  # held over the commit, so that the history is in the order of commits
                connection.commit()
                for number, version in mine:
                    history[number].append(version)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    rng = random.Random(11)
    sent: list[list[Any]] = []
    with server.site(page_rows=5) as site:
        begin.set()
        while any(thread.is_alive() for thread in threads):
            what = rng.randrange(4)
            if what == 0:
                sent += site.poll(crash_after=rng.randrange(4))
            elif what == 1 and site.tokens:
                site.source.release(site.tokens[0])
                if rng.random() < 0.5:
                    site.tokens.pop(0)
                else:
                    site.restart()
            else:
                sent += site.poll(advance=1)
        for _ in range(4):
            sent += site.poll(advance=1)
            site.acknowledge()
    logged = [row for row in sent if row[-1] > 0]
    versions = Counter(row[-1] for row in logged)
    assert max(versions.values()) == 1
    for number, versions_of in history.items():
        seen = [row[1] if row[-2] == "upsert" else None for row in logged if row[0] == number]
        assert seen == versions_of[1:], f"row {number}"
        last = [row for row in sent if row[0] == number][-1]
        assert (last[1] if last[-2] == "upsert" else None) == versions_of[-1]
    assert server.log_rows() == 0


def test_truncate_is_logged_row_by_row_in_postgresql(postgres: Any, tmp_path: Path) -> None:
    machine = Machine("postgresql", postgres, tmp_path)
    machine.execute("CREATE TABLE t (id integer PRIMARY KEY, x varchar(40), n numeric(12, 3))")
    machine.install()
    with machine.site() as site:
        machine.execute("INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1)")
        site.poll()
        machine.execute("TRUNCATE t")
        assert short(site.poll(advance=1)) == [(1, "a", "delete"), (2, "b", "delete")]
    machine.close()


def test_an_application_needs_no_right_on_the_log(server: Machine) -> None:
    server.install()
    if server.dialect == "postgresql":
        server.execute("CREATE ROLE app LOGIN")
        server.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON t TO app")
        odbc = server.server.odbc().replace("UID=crossdock", "UID=app")
    else:
        server.execute("CREATE USER app@'127.0.0.1'")
        server.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON t TO app@'127.0.0.1'")
        odbc = server.server.odbc("app")
    import pyodbc

    application = pyodbc.connect(odbc, autocommit=True)
    try:
        application.execute("INSERT INTO t VALUES (1, 'a', 1)")
        application.execute("UPDATE t SET x = 'b'")
        application.execute("DELETE FROM t")
        with pytest.raises(pyodbc.Error):
            application.execute("SELECT * FROM crossdock_log_t")
        assert server.rows("SELECT crossdock_op FROM crossdock_log_t ORDER BY crossdock_seq") == [
            ("I",),
            ("U",),
            ("D",),
        ]
    finally:
        application.close()
        if server.dialect == "postgresql":
            server.execute("DROP OWNED BY app")
            server.execute("DROP ROLE app")
        else:
            server.execute("DROP USER app@'127.0.0.1'")


@pytest.mark.parametrize("scattered", [False, True])
def test_a_later_change_of_a_row_never_arrives_before_an_earlier_one_that_committed_late(
    server: Machine, monkeypatch: pytest.MonkeyPatch, scattered: bool
) -> None:
    """Its number may lie below one that was read already: reading on from there would turn the two round."""
    monkeypatch.setattr(rows_module, "TARGET_RECORDS", 1)  # so that a pass can be held in its middle
    if scattered:
        monkeypatch.setattr(taking, "SCATTERED_RUNS", 0)
    server.execute("INSERT INTO t VALUES (1, 'v0', 1), (2, 'v0', 1)")
    server.install()
    with server.site(start="now", page_rows=2) as site:
        site.poll()
        slow = server.connect()
        slow.execute("UPDATE t SET x = 'v1' WHERE id = 1")
        for turn in range(6):
            server.execute("UPDATE t SET x = ? WHERE id = 2", f"b{turn}")
        reading = site.reading()
        rows = rows_of(next(reading))
        if scattered:
            rows += [row for draft in reading for row in rows_of(draft)]
        slow.commit()
        server.execute("UPDATE t SET x = 'v2' WHERE id = 1")
        rows += [row for draft in reading for row in rows_of(draft)]
        for advance in (1, 1, 31):
            rows += site.poll(advance=advance)
        assert [row[1] for row in rows if row[0] == 1] == ["v1", "v2"]
        assert [row[1] for row in rows if row[0] == 2] == [f"b{turn}" for turn in range(6)]


def test_a_trigger_of_the_application_that_changes_the_row_again_does_not_leave_the_older_image_last(
    machine: Machine,
) -> None:
    """A trigger that sets a time of change is common; which of two triggers runs first is not ours to say."""
    if machine.dialect == "mariadb":  # there, a trigger changes its own row before it is written, and never another
        machine.execute("CREATE TRIGGER a BEFORE UPDATE ON t FOR EACH ROW SET NEW.n = 7")
    elif machine.dialect == "postgresql":
        machine.execute(
            "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN IF NEW.n IS DISTINCT FROM 7 THEN UPDATE t SET n = 7; END IF; RETURN NULL; END'"
        )
        machine.execute("CREATE TRIGGER a AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION again()")
    machine.install()
    if machine.dialect == "sqlite":  # which runs the trigger made last before the others
        machine.execute("CREATE TRIGGER z AFTER UPDATE ON t WHEN NEW.n IS NOT 7 BEGIN UPDATE t SET n = 7; END")
    with machine.site() as site:
        machine.execute("INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0)")
        site.poll()
        machine.execute("UPDATE t SET x = 'c'")
        rows = site.poll(advance=1)
        for number in (1, 2):
            last = [row for row in rows if row[0] == number][-1]
            assert (last[1], float(last[2]), last[-2]) == ("c", 7.0, "upsert")


def test_keys_moved_onto_each_other_by_one_statement_end_where_they_are(postgres: Any, tmp_path: Path) -> None:
    machine = Machine("postgresql", postgres, tmp_path)
    machine.execute("CREATE TABLE t (id integer, x varchar(40), n numeric, PRIMARY KEY (id) DEFERRABLE)")
    machine.install()
    with machine.site() as site:
        machine.execute("INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1), (3, 'c', 1)")
        site.poll()
        machine.execute("UPDATE t SET id = id + 1")
        last = {row[0]: (row[1], row[-2]) for row in site.poll(advance=1)}
        assert last == {1: ("a", "delete"), 2: ("a", "upsert"), 3: ("b", "upsert"), 4: ("c", "upsert")}
    machine.close()


def test_the_rows_that_tell_of_a_gap_leave_the_log_once_the_table_was_read_anew_and_arrived(server: Machine) -> None:
    server.install()
    with server.site() as site:
        site.poll()
        server.execute("ALTER TABLE t DROP COLUMN n")
        for number in range(1, 31):
            server.execute("INSERT INTO t VALUES (?, 'a')", number)
        site.poll(advance=61)
        assert server.log_rows() == 30
        server.install()
        found = [row for _ in range(3) for row in site.poll(advance=61)]
        assert sorted(row[0] for row in found) == list(range(1, 31))
        assert server.log_rows() == 30
        site.acknowledge()
        assert server.log_rows() == 0
        assert site.poll(advance=61) == []
        assert site.counters.snapshot()["log_gaps"] == 0
