"""What a real PostgreSQL does to its reader: exact types, open transactions, locks, timeouts, refused logins, cuts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crossdock.errors import ConfigError, SourceUnavailable
from support.postgres import Postgres
from support.table_site import Server, TableSite, site_of

BY_ID = {"table": "t", "mode": "incrementing", "column": "id"}


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Server]:
    opened = Server(postgres)
    yield opened
    opened.close()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def test_every_type_travels_exactly(database: Server) -> None:
    database.execute("CREATE DOMAIN money_amount AS numeric(30, 15)")
    database.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, s smallint, n numeric, a money_amount, r real, f double precision,"
        " b boolean, d date, tm time, ts timestamp, tz timestamptz, x text, v varchar(20), c char(5), y bytea, u uuid,"
        " j jsonb, m money, l integer[], i interval)"
    )
    database.execute(
        "INSERT INTO t VALUES (9223372036854775807, -32768, 12345678901234567890.123456789012345, 0.000000000000001,"
        " 0.1, 1e-300, true, '0001-01-01', '23:59:59.000001', '2024-01-31 12:00:00.123456',"
        " '2024-01-31 12:00:00.123456+02', 'Grüße 📦', '007', 'ab', '\\x00ff', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',"
        " '{\"a\": 1.10}', 12.34, '{1,2}', '1 day 02:00'),"
        " (1, NULL, 'NaN', NULL, 'NaN', '-Infinity', false, '0044-03-15 BC', NULL, 'infinity',"
        " '0001-01-01 00:00:00+00', '', NULL, '', '', NULL, NULL, NULL, NULL, NULL)"
    )
    with site_of(database, **BY_ID) as site:
        odd, full = site.poll()
        assert full == [
            9223372036854775807, -32768, "12345678901234567890.123456789012345", "0.000000000000001", 0.1, 1e-300, True,
            "0001-01-01", "23:59:59.000001", "2024-01-31 12:00:00.123456", "2024-01-31 10:00:00.123456+00", "Grüße 📦",
            "007", "ab   ", b"\x00\xff", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", '{"a": 1.10}', "12.34", "{1,2}",
            "1 day 02:00:00",
        ]  # fmt: skip
        assert odd[:3] == [1, None, "NaN"]
        assert odd[4] != odd[4]
        assert odd[5:13] == [
            float("-inf"), False, "0044-03-15 BC", None, "infinity", "0001-01-01 00:00:00+00", "", None,
        ]  # fmt: skip
        assert [column.type for column in site.committed[0].header.columns] == [
            "integer", "integer", "decimal", "decimal", "float", "float", "boolean", "date", "time", "datetime",
            "datetimetz", "text", "text", "text", "binary", "text", "text", "decimal", "text", "text",
        ]  # fmt: skip


def test_a_row_of_a_transaction_still_open_when_later_ids_were_read_is_found(
    database: Server, postgres: Postgres
) -> None:
    database.execute("CREATE TABLE t (id serial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())")
    for settings in (BY_ID, {**BY_ID, "mode": "timestamp", "column": "at", "key": ["id"]}):
        slow = postgres.connect()
        slow.autocommit = False
        with site_of(database, **settings) as site:
            site.poll()
            slow.execute("INSERT INTO t DEFAULT VALUES")
            database.execute("INSERT INTO t DEFAULT VALUES")
            (later,) = site.poll(advance=5)
            slow.commit()
            (earlier,) = site.poll(advance=5)
            assert earlier[0] == later[0] - 1
            assert earlier[1] < later[1]
            assert site.cycle() == []
        slow.close()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("timestamptz", ["2024-03-31 00:30:00.000001+00", "2024-03-31 00:30:00.000002+00"]),
        ("timestamp", ["2024-03-31 02:30:00.000001", "2024-03-31 02:30:00.000002"]),
        ("date", ["2024-03-30", "2024-03-31"]),
        ("bigint", [1711845000000, 1711845000001]),
    ],
)
def test_a_watermark_is_compared_to_the_microsecond_in_its_own_type(
    database: Server, kind: str, values: list[object]
) -> None:
    database.execute(f"CREATE TABLE t (no uuid DEFAULT gen_random_uuid(), at {kind})")
    database.execute("INSERT INTO t (at) SELECT ? FROM generate_series(1, 300)", [values[0]])
    settings = {"table": "t", "mode": "timestamp", "column": "at", "key": ["no"], "page_rows": 60}
    with site_of(database, **settings) as site:
        assert len({row[0] for row in site.poll(crash_after=1) + site.poll()}) == 300
        site.cycle()
        database.execute("INSERT INTO t (at) VALUES (?)", [values[1]])
        assert [row[1] for row in site.poll(advance=5)] == [values[1]]


def test_ids_may_be_whole_decimals_and_names_may_be_spelled_otherwise(database: Server) -> None:
    database.execute('CREATE SCHEMA "Erp"')
    database.execute('CREATE TABLE "Erp"."Orders" ("Id" numeric(20) PRIMARY KEY, "no""te" text)')
    ids = "generate_series(12345678901234567890, 12345678901234568100)"
    database.execute(f'INSERT INTO "Erp"."Orders" SELECT i, i FROM {ids} i')
    with site_of(database, table='"Erp"."Orders"', mode="incrementing", column="ID", page_rows=50) as site:
        rows = site.poll()
        assert len(rows) == 211
        assert rows[0] == ["12345678901234567890", "12345678901234567890"]
        assert [column.name for column in site.committed[0].header.columns] == ["Id", 'no"te']
        assert list(site.committed[0].header.key_columns) == ["Id"]
        site.restart()
        assert site.cycle(passes=5) == []


def test_a_statement_over_its_time_is_given_up_by_the_server(database: Server) -> None:
    database.execute("CREATE VIEW t AS SELECT 1 AS id, pg_sleep(30)::text AS s")
    with site_of(database, **BY_ID, statement_timeout_seconds=0.2) as site:
        with pytest.raises(SourceUnavailable, match=r"took longer than 0\.2 s") as caught:
            site.poll()
        assert "statement_timeout_seconds" in caught.value.hint


def test_a_stop_breaks_a_running_statement_off_without_an_error(database: Server) -> None:
    database.execute("CREATE VIEW t AS SELECT 1 AS id, pg_sleep(30)::text AS s")
    with site_of(database, **BY_ID) as site:
        failed: list[BaseException] = []

        def read() -> None:
            try:
                site.poll()
            except BaseException as error:  # noqa: BLE001 - the thread's outcome is the test's subject
                failed.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        until(lambda: _sleeping(database))
        site.stop.set()
        thread.join(10)
        assert not thread.is_alive()
        assert not failed
        until(lambda: not _sleeping(database))


def _sleeping(database: Server) -> bool:
    return bool(database.scalar("SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))


def test_a_table_under_an_exclusive_lock_is_given_up_on_and_the_writer_is_not_disturbed(
    database: Server,
    postgres: Postgres,
) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    writer = postgres.connect()
    writer.autocommit = False
    with site_of(database, **BY_ID, statement_timeout_seconds=0.2) as site:
        writer.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceUnavailable):
            site.poll()
        writer.execute("INSERT INTO t VALUES (2)")
        writer.commit()
        assert site.poll() == [[1], [2]]
    writer.close()


def test_between_two_pages_no_transaction_is_open_and_the_session_can_only_read(database: Server) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, x text)")
    database.execute("INSERT INTO t SELECT i, repeat('x', 300) FROM generate_series(1, 5000) i")
    with site_of(database, **BY_ID, page_rows=1000) as site:
        reading = site.reading()
        next(reading)
        assert database.rows(
            "SELECT state, backend_xmin FROM pg_stat_activity WHERE application_name = 'crossdock-agent'"
        ) == [("idle", None)]
        reading.close()  # type: ignore[attr-defined]
        with pytest.raises(SourceUnavailable, match="read-only transaction"):
            site.source._reading.database.rows("DELETE FROM t")  # type: ignore[attr-defined]


def test_a_connection_cut_by_the_server_is_an_error_once_and_then_made_anew(database: Server) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    with site_of(database, **BY_ID) as site:
        assert site.poll() == [[1]]
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crossdock-agent'"
        )
        with pytest.raises(SourceUnavailable):
            site.poll()
        database.execute("INSERT INTO t VALUES (2)")
        assert site.poll() == [[2]]


def test_a_refused_login_waits_long_so_that_no_account_is_locked(database: Server) -> None:
    for change in ("UID=nobody", "DATABASE=t;UID=nobody"):
        odbc = database.connection["odbc"].replace("UID=crossdock", change)
        site = TableSite(connection={"odbc": odbc, "dialect": "postgresql"}, **BY_ID)
        with pytest.raises(SourceUnavailable, match="refused the login") as caught:
            site.poll()
        assert caught.value.after_seconds == 300
        assert [(f.name, f.ok, bool(f.hint)) for f in site.source.check()] == [("login", False, True)]


def test_a_server_that_is_not_there_is_unavailable(database: Server) -> None:
    odbc = database.connection["odbc"].replace("PORT=", "PORT=1;OLD=")
    site = TableSite(connection={"odbc": odbc, "dialect": "postgresql"}, **BY_ID)
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        site.poll()


def test_a_driver_that_is_not_installed_is_a_configuration_error() -> None:
    site = TableSite(connection={"odbc": "DRIVER={No such driver};SERVER=x", "dialect": "postgresql"}, **BY_ID)
    with pytest.raises(ConfigError, match="driver"):
        site.poll()


def test_a_login_without_the_grant_names_the_table(database: Server) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY)")
    database.execute("CREATE ROLE guest LOGIN")
    odbc = database.connection["odbc"].replace("UID=crossdock", "UID=guest")
    site = TableSite(connection={"odbc": odbc, "dialect": "postgresql"}, **BY_ID)
    try:
        with pytest.raises(SourceUnavailable, match="permission denied for table t") as caught:
            site.poll()
        assert "grant SELECT" in caught.value.hint
    finally:
        site.source.close()
        database.execute("DROP ROLE guest")


def test_nothing_is_read_while_no_transaction_has_changed_anything(database: Server) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    with site_of(database, **BY_ID) as site:
        site.poll()
        site.cycle(passes=40)
        asked: list[str] = []
        reader: Any = site.source._reading.database  # type: ignore[attr-defined]
        ask = reader.rows
        reader.rows = lambda sql, values=(): (asked.append(sql), ask(sql, values))[1]
        assert site.cycle(passes=5) == []
        assert asked == ["SELECT CAST(txid_current_snapshot() AS text)"] * 5
        database.execute("INSERT INTO t VALUES (2)")
        assert site.poll(advance=5) == [[2]]


def test_an_order_without_lines_does_not_end_the_reading_of_a_left_join(database: Server) -> None:
    database.execute("CREATE TABLE o (id bigint PRIMARY KEY, at timestamp DEFAULT '2024-01-01')")
    database.execute("CREATE TABLE l (o bigint, line int)")
    database.execute("INSERT INTO o SELECT i FROM generate_series(1, 400) i")
    database.execute("INSERT INTO l SELECT i, n FROM generate_series(1, 400, 2) i, generate_series(1, 3) n")
    database.execute("CREATE VIEW t AS SELECT o.id, l.line, o.at FROM o LEFT JOIN l ON l.o = o.id")
    for page_rows in (2, 3, 7, 5000):
        settings = {"mode": "timestamp", "column": "at", "key": ["id", "line"], "page_rows": page_rows}
        with site_of(database, table="t", **settings) as site:
            assert len(site.poll()) == 800


def test_the_server_s_zone_frames_timestamps_that_have_none(database: Server, postgres: Postgres) -> None:
    database.execute(f"ALTER DATABASE \"{postgres.database}\" SET TimeZone = 'America/New_York'")
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, at timestamp)")
    database.execute("INSERT INTO t VALUES (1, now() AT TIME ZONE 'America/New_York')")
    settings = {"table": "t", "mode": "timestamp", "column": "at", "key": ["id"]}
    with site_of(database, **settings) as site:
        site.poll()
        assert site.counters.snapshot()["newest_ahead_seconds"] == 0
        assert [f.ok for f in site.source.check() if f.name == "watermark"] == [True]
    database.execute("UPDATE t SET at = now() AT TIME ZONE 'UTC'")
    with site_of(database, **settings) as site:
        site.poll()
        assert site.counters.snapshot()["newest_ahead_seconds"] > 3600
        (finding,) = [f for f in site.source.check() if f.name == "watermark"]
        assert (finding.ok, finding.hint) == (False, "set 'clock: utc'")
