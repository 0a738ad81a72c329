"""What is installed for a change log: it logs what happened, and never makes a write of the application fail."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from crossdock_agent.sql import installing
from crossdock_agent.sql.writing import WritableOdbc
from support.changelog_machine import LOG, Machine, machine_of, short
from support.table_site import TableSite


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine_of(request.param, request, tmp_path) as made:
        yield made


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine_of(request.param, request, tmp_path) as made:
        yield made


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
        odbc = server.server.odbc().replace("UID=crossdock", "UID=app")
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


def test_what_a_foreign_key_cascades_to_is_logged_where_the_guide_says_so(machine: Machine) -> None:
    machine.execute("CREATE TABLE head (id integer PRIMARY KEY)")
    machine.execute("DROP TABLE t")
    machine.execute(
        "CREATE TABLE t (id integer PRIMARY KEY, x varchar(40), n integer,"
        " FOREIGN KEY (n) REFERENCES head (id) ON DELETE CASCADE)"
    )
    if machine.dialect == "sqlite":
        machine.execute("PRAGMA foreign_keys = ON")
    machine.install()
    with machine.site() as site:
        machine.execute("INSERT INTO head VALUES (1)")
        machine.execute("INSERT INTO t VALUES (1, 'a', 1)")
        site.poll()
        machine.execute("DELETE FROM head")
        assert machine.rows("SELECT COUNT(*) FROM t") == [(0,)]
        seen = short(site.poll(advance=1))
        assert seen == ([] if machine.dialect == "mariadb" else [(1, "a", "delete")])


def test_the_application_s_last_insert_id_is_its_own(machine: Machine) -> None:
    ask = {"sqlite": "SELECT last_insert_rowid()", "mariadb": "SELECT LAST_INSERT_ID()", "postgresql": None}
    machine.install()
    if machine.dialect == "mariadb":
        machine.execute("CREATE TABLE own (id integer PRIMARY KEY AUTO_INCREMENT, x varchar(40))")
        machine.execute("ALTER TABLE own AUTO_INCREMENT = 700")
        machine.install(table="own")
        machine.execute("INSERT INTO own (x) VALUES ('a')")
        assert machine.rows(str(ask["mariadb"])) == [(700,)]
    elif machine.dialect == "sqlite":
        machine.execute("INSERT INTO t VALUES (700, 'a', 1)")
        assert machine.rows(str(ask["sqlite"])) == [(700,)]
    else:
        machine.execute(
            "CREATE TABLE own (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (START 700), x varchar(40))"
        )
        machine.install(table="own")
        assert machine.rows("INSERT INTO own (x) VALUES ('a') RETURNING id") == [(700,)]
        assert machine.rows("SELECT currval('own_id_seq')") == [(700,)]  # lastval() is the log's: the guide says so


def test_the_reader_needs_no_more_than_the_grants_that_the_installation_gives_it(server: Machine) -> None:
    reader = "reader" if server.dialect == "postgresql" else "reader@'127.0.0.1'"
    server.execute("CREATE ROLE reader LOGIN" if server.dialect == "postgresql" else f"CREATE USER {reader}")
    odbc = server.server.odbc()
    odbc = odbc.replace("UID=crossdock", "UID=reader")
    connection = {"odbc": odbc, "dialect": server.dialect}
    change_log = {"connection": server.connection, "reader": reader}
    server.install(change_log=change_log)
    site = TableSite(connection=connection, **LOG, change_log=change_log)
    try:
        assert all(finding.ok for finding in site.source.check())
        server.execute("INSERT INTO t VALUES (1, 'a', 1)")
        assert (1, "a", "upsert") in short(site.poll())
        site.acknowledge()
        assert server.log_rows() == 0
    finally:
        site.source.close()
        if server.dialect == "postgresql":
            server.execute("DROP OWNED BY reader")
            server.execute("DROP ROLE reader")
        else:
            server.execute(f"DROP USER {reader}")


def test_a_key_without_an_index_is_found_before_it_makes_writes_slow(machine: Machine) -> None:
    settings, context = machine.typed(key=["x"])
    with contextlib.closing(installing.connect_installer(settings, context)) as database:
        found = {finding.name: finding for finding in installing.findings(database, settings)}
    assert not found["key"].ok
    assert "primary key" in found["key"].hint


def test_a_writer_never_waits_for_the_log_being_read_or_emptied(
    server: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.install()
    impatient = server.connect()
    impatient.autocommit = True
    impatient.execute(
        "SET lock_timeout = 100" if server.dialect == "postgresql" else "SET SESSION innodb_lock_wait_timeout = 1"
    )
    execute, written = WritableOdbc.execute, []

    def held(self: WritableOdbc, sql: str, values: Sequence[object] = ()) -> None:
        execute(self, sql, values)
        if sql.startswith("DELETE"):  # and not yet committed
            impatient.execute("UPDATE t SET x = 'b'")
            impatient.execute("INSERT INTO t VALUES (3, 'c', 1)")
            impatient.execute("DELETE FROM t WHERE id = 2")
            written.append(sql)

    monkeypatch.setattr(WritableOdbc, "execute", held)
    with server.site() as site:
        site.poll()
        server.execute("INSERT INTO t VALUES (1, 'a', 1), (2, 'a', 1)")
        site.poll(advance=1)
        site.acknowledge()
        assert len(written) == 1
        assert server.log_rows() == 4
        assert len(site.poll(advance=1)) == 4


TYPES = {
    "sqlite": (
        [
            "CREATE TABLE w (id INTEGER PRIMARY KEY, a, b BOOLEAN, c BLOB, d DECIMAL(9,2),"
            " e TEXT GENERATED ALWAYS AS (a))"
        ],
        "INSERT INTO w (id, a, b, c, d) VALUES (1, 'x', 1, x'00ff', 1.50), (2, 1.5, NULL, NULL, '1.50')",
    ),
    "postgresql": (
        [
            "CREATE DOMAIN amount AS numeric(30, 15) NOT NULL",
            "CREATE TYPE mood AS ENUM ('sad', 'ok')",
            "CREATE TABLE w (id bigint PRIMARY KEY, s smallint, a amount DEFAULT 0, r real, f double precision,"
            " b boolean, d date, tm time, ts timestamp, tz timestamptz, v varchar(20), c char(5), y bytea, u uuid,"
            " j jsonb, m mood, l integer[], i interval, g integer GENERATED ALWAYS AS (s * 2) STORED)",
        ],
        "INSERT INTO w VALUES (9223372036854775807, -32768, 0.000000000000001, 0.1, 1e-300, true, '0001-01-01',"
        " '23:59:59.000001', '2024-01-31 12:00:00.123456', '2024-01-31 12:00:00.123456+02', 'Grüße', 'ab', '\\x00ff',"
        " 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": 1.10}', 'ok', '{1,2}', '1 day 02:00'), (1)",
    ),
    "mariadb": (
        [
            "SET SESSION sql_mode = ''",
            "CREATE TABLE w (id bigint PRIMARY KEY, u bigint unsigned, y year, bt bit(9), n decimal(30,15), f float,"
            " d date, tm time(6), dt datetime(6), ts timestamp(6) NULL, c char(5) CHARACTER SET latin1, v varchar(20),"
            " b varbinary(9), e enum('sad', 'ok'), s set('a', 'b'), j json, g int AS (id * 2) STORED)",
        ],
        "INSERT INTO w (id, u, y, bt, n, f, d, tm, dt, ts, c, v, b, e, s, j) VALUES (7, 9223372036854775807, 1999,"
        " b'100000001', 0.000000000000001, 0.1, '0000-00-00', '23:59:59.000001', '2024-01-31 12:00:00.123456',"
        " '2024-01-31 12:00:00.123456', 'ab', 'Grüße', x'00ff', 'ok', 'a,b', '{\"a\": 1.10}'), (1, 0, NULL, NULL, NULL,"
        " NULL, NULL, NULL, NULL, NULL, NULL, '', NULL, NULL, NULL, NULL)",
    ),
}  # fmt: skip


def test_every_type_is_logged_as_it_stands_in_the_table(machine: Machine) -> None:
    tables, rows = TYPES[machine.dialect]
    for statement in tables:
        machine.execute(statement)
    machine.install(table="w")
    for statement in rows.replace(", (1)", "|INSERT INTO w (id) VALUES (1)").split("|"):
        machine.execute(statement)
    with machine.site(table="w") as site:
        found = site.poll()
        logged = sorted((row[:-1] for row in found if row[-1]), key=lambda row: row[0])
        read = sorted((row[:-1] for row in found if not row[-1]), key=lambda row: row[0])
        assert logged == read
        assert len(logged) == 2
        assert installing.look(*machine.typed(table="w")).is_current


def test_a_column_made_wider_leaves_gaps_and_no_failed_writes_until_the_log_is_amended(server: Machine) -> None:
    server.install()
    with server.site() as site:
        site.poll()
        wider = "ALTER COLUMN x TYPE varchar(80)" if server.dialect == "postgresql" else "MODIFY x varchar(80)"
        server.execute(f"ALTER TABLE t {wider}")
        server.execute("INSERT INTO t VALUES (1, ?, 1)", "x" * 60)
        site.poll(advance=61)
        assert any("columns" in finding.name for finding in site.source.check() if not finding.ok)
        assert server.install().is_current
        server.execute("INSERT INTO t VALUES (2, ?, 1)", "y" * 60)
        found = [row for _ in range(3) for row in site.poll(advance=61)]
        assert {(row[0], row[1]) for row in found} == {(1, "x" * 60), (2, "y" * 60)}


def test_a_lock_timeout_in_a_trigger_of_mariadb_is_the_application_s_to_know(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Like a deadlock, it undoes more than the trigger's own statement: hidden, half of the work would be committed."""
    with machine_of("mariadb", request, tmp_path) as machine:
        machine.install()
        machine.execute("INSERT INTO t VALUES (1, 'a', 1)")
        one, other = machine.connect(), machine.connect()
        one.execute("INSERT INTO t VALUES (2, 'half', 1)")
        other.execute("SELECT * FROM crossdock_log_t WHERE crossdock_seq > 100 FOR UPDATE")  # no number can be given
        one.execute("SET SESSION innodb_lock_wait_timeout = 1")
        with pytest.raises(Exception, match="1205"):
            one.execute("INSERT INTO t VALUES (3, 'b', 1)")
        other.rollback()
        one.rollback()
        assert machine.rows("SELECT id FROM t") == [(1,)]
        assert machine.rows("SELECT crossdock_op FROM crossdock_log_t") == [("I",)]
