"""What a real MariaDB does to its reader: exact types, open transactions, locks, timeouts, refused logins, cuts."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from crossdock.errors import ConfigError, CrossdockError, SourceUnavailable
from crossdock_agent.sql.connections import OdbcDatabase
from crossdock_agent.sql.dialects import DIALECTS
from support.mariadb import Mariadb
from support.table_site import Server, TableSite, site_of
from support.waiting import until

BY_ID = {"table": "t", "mode": "incrementing", "column": "id"}


@pytest.fixture
def database(mariadb: Mariadb) -> Iterator[Server]:
    opened = Server(mariadb)
    yield opened
    opened.close()


def columns_of(site: TableSite) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in site.committed[0].header.columns]


def test_every_type_travels_exactly(database: Server) -> None:
    database.execute(
        "CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY, ti TINYINT, b BOOLEAN, n DECIMAL(65,30), m DECIMAL(12,2),"
        " f FLOAT, d DOUBLE, bi BIT(16), y YEAR, da DATE, tm TIME(6), dt DATETIME(6), ts TIMESTAMP(6) NULL,"
        " v VARCHAR(40), c CHAR(5), tx TEXT, bin BINARY(4), vb VARBINARY(40), bl LONGBLOB, j JSON, u UUID,"
        " e ENUM('new', 'done'), s SET('a', 'b'), g POINT, ip INET6)"
    )
    database.execute("SET time_zone = '+02:00'")
    database.execute(
        "INSERT INTO t VALUES (18446744073709551615, -128, TRUE,"
        " -12345678901234567890123456789012345.123456789012345678901234567890, 0.10, 0.1, 1e-300, b'1010101010101010',"
        " 2024, '9999-12-31', '-838:59:59.000001', '2024-01-31 12:00:00.123456', '2024-01-31 12:00:00.123456',"
        " 'Grüße 📦', 'ab', 'a\\0b', x'00ff', x'00ff00', x'00ff', '{\"a\": 1.10}',"
        " 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'done', 'a,b', ST_GeomFromText('POINT(1 2)'), '2001:db8::ff')"
    )
    database.execute("INSERT INTO t (id, v, tx, vb, da, dt) VALUES (1, '', '', '', '0001-01-01', '1753-01-01')")
    with site_of(database, **BY_ID) as site:
        odd, full = site.poll()
        assert full == [
            18446744073709551615, -128, 1, "-12345678901234567890123456789012345.123456789012345678901234567890",
            "0.10", pytest.approx(0.1, rel=1e-7), 1e-300, 0b1010101010101010, 2024, "9999-12-31", "-838:59:59.000001",
            "2024-01-31 12:00:00.123456", "2024-01-31 10:00:00.123456+00:00", "Grüße 📦", "ab", "a\0b",
            b"\x00\xff\x00\x00", b"\x00\xff\x00", b"\x00\xff", '{"a": 1.10}', "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "done", "a,b", "POINT(1 2)", "2001:db8::ff",
        ]  # fmt: skip
        shown = dict(zip([name for name, _ in columns_of(site)], odd, strict=True))
        assert (shown["v"], shown["tx"], shown["vb"], shown["da"]) == ("", "", b"", "0001-01-01")
        assert shown["dt"] == "1753-01-01 00:00:00.000000"
        assert [shown[name] for name in ("ti", "n", "f", "bi", "tm", "ts", "c", "bl", "j", "e")] == [None] * 10
        assert [kind for _, kind in columns_of(site)] == [
            "integer", "integer", "integer", "decimal", "decimal", "float", "float", "integer", "integer", "date",
            "time", "datetime", "datetimetz", "text", "text", "text", "binary", "binary", "binary", "text", "text",
            "text", "text", "text", "text",
        ]  # fmt: skip


def test_a_single_precision_float_is_read_as_the_number_it_is_and_no_other(database: Server) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, f FLOAT, d DOUBLE)")
    values = [0.1, 16777217.0, 1e-38, 3.4028234e38, 123456.789, -0.0]
    for number, value in enumerate(values):
        database.execute("INSERT INTO t VALUES (?, ?, ?)", [number, value, value])
    with site_of(database, **BY_ID) as site:
        for row, value in zip(site.poll(), values, strict=True):
            assert row[2] == value
            assert row[1] == struct.unpack("f", struct.pack("f", value))[0]


def test_dates_of_zero_are_text_as_they_are_and_count_as_a_watermark(database: Server) -> None:
    database.execute("SET sql_mode = ''")
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME(6) NOT NULL, d DATE NOT NULL)")
    database.execute("INSERT INTO t VALUES (1, '0000-00-00', '2024-00-00'), (2, '2024-01-31 10:00:00', '0000-00-00')")
    settings = {"table": "t", "mode": "timestamp", "column": "at", "key": ["id"], "clock": "utc"}
    with site_of(database, **settings) as site:
        assert site.poll() == [
            [1, "0000-00-00 00:00:00.000000", "2024-00-00"], [2, "2024-01-31 10:00:00.000000", "0000-00-00"],
        ]  # fmt: skip
        assert site.counters.snapshot()["rows_without_watermark"] == 0
        assert site.cycle() == []
        database.execute("INSERT INTO t VALUES (3, '2024-01-31 10:00:00', '2024-01-01')")
        assert [row[0] for row in site.cycle()] == [3]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DATETIME(6)", ["2024-03-31 02:30:00.000001", "2024-03-31 02:30:00.000002"]),
        ("TIMESTAMP(6)", ["2024-03-31 00:30:00.000001+00:00", "2024-03-31 00:30:00.000002+00:00"]),
        ("DATETIME", ["2024-03-31 02:30:00", "2024-03-31 02:30:01"]),
        ("DATE", ["2024-03-30", "2024-03-31"]),
        ("BIGINT", [1711845000000, 1711845000001]),
    ],
)
def test_a_watermark_is_compared_to_the_microsecond_in_its_own_type(
    database: Server, kind: str, values: list[Any]
) -> None:
    database.execute(f"CREATE TABLE t (no VARCHAR(10) PRIMARY KEY, at {kind} NOT NULL)")
    database.execute("SET time_zone = '+00:00'")
    bound = [value.removesuffix("+00:00") if isinstance(value, str) else value for value in values]
    database.executemany("INSERT INTO t (no, at) VALUES (?, ?)", [(f"A{i:04}", bound[0]) for i in range(300)])
    settings = {"table": "t", "mode": "timestamp", "column": "at", "key": ["no"], "page_rows": 60}
    with site_of(database, **settings) as site:
        assert len({row[0] for row in site.poll(crash_after=1) + site.poll()}) == 300
        site.cycle()
        database.execute("INSERT INTO t VALUES ('Z', ?)", [bound[1]])
        assert [row[1] for row in site.poll(advance=5)] == [values[1]]


def test_a_decimal_key_of_full_width_is_followed_digit_by_digit(database: Server) -> None:
    database.execute("CREATE TABLE `Or``ders` (`Id` DECIMAL(30) PRIMARY KEY, `no``te` TEXT)")
    rows = [(f"123456789012345678901234567{n:03}", str(n)) for n in range(211)]
    database.executemany("INSERT INTO `Or``ders` VALUES (?, ?)", rows)
    with site_of(database, table="Or`ders", mode="incrementing", column="ID", page_rows=50) as site:
        assert site.poll() == [list(row) for row in rows]
        assert [name for name, _ in columns_of(site)] == ["Id", "no`te"]
        site.restart()
        assert site.cycle(passes=5) == []


def test_a_row_of_a_transaction_still_open_when_later_ids_were_read_is_found(
    database: Server, mariadb: Mariadb
) -> None:
    database.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, at TIMESTAMP(6) DEFAULT current_timestamp(6))")
    for settings in (BY_ID, {**BY_ID, "mode": "timestamp", "column": "at", "key": ["id"]}):
        slow = mariadb.connect()
        slow.autocommit = False
        with site_of(database, **settings) as site:
            site.poll()
            slow.execute("INSERT INTO t VALUES ()")
            database.execute("INSERT INTO t VALUES ()")
            (later,) = site.poll(advance=5)
            slow.commit()
            (earlier,) = site.poll(advance=5)
            assert earlier[0] == later[0] - 1
            assert site.cycle() == []
        slow.close()


def test_a_statement_over_its_time_is_given_up_by_the_server(database: Server) -> None:
    database.execute("CREATE VIEW t AS SELECT 1 AS id, SLEEP(30) AS s")
    with site_of(database, **BY_ID, statement_timeout_seconds=0.2) as site:
        with pytest.raises(SourceUnavailable, match=r"took longer than 0\.2 s") as caught:
            site.poll()
        assert "statement_timeout_seconds" in caught.value.hint
    until(lambda: not sleeping(database))


def sleeping(database: Server) -> bool:
    return bool(database.scalar("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'"))


def test_a_stop_breaks_a_running_statement_off_without_an_error(database: Server) -> None:
    database.execute("CREATE VIEW t AS SELECT 1 AS id, SLEEP(30) AS s")
    with site_of(database, **BY_ID) as site:
        failed: list[BaseException] = []

        def read() -> None:
            try:
                site.poll()
            except BaseException as error:  # noqa: BLE001 - the thread's outcome is the test's subject
                failed.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        until(lambda: sleeping(database))
        site.stop.set()
        thread.join(10)
        assert not thread.is_alive()
        assert not failed
        until(lambda: not sleeping(database))


def test_a_statement_may_be_broken_off_in_the_very_moment_it_ends(mariadb: Mariadb) -> None:
    """The driver frees what it breaks off: unless one waits for the other, that ends the whole process."""
    for attempt in range(300):
        database = OdbcDatabase(DIALECTS["mariadb"], mariadb.odbc(), "table t", 20.0)

        def read(database: OdbcDatabase = database) -> None:
            with contextlib.suppress(CrossdockError):
                for _ in range(3):
                    database.rows("SELECT SLEEP(0.004)")
            database.close()

        thread = threading.Thread(target=read)
        thread.start()
        threading.Event().wait(attempt % 40 * 0.0004)  # no synchronisation: every moment of the statement is meant
        database.cancel()
        thread.join(20)
        assert not thread.is_alive()


def test_a_locked_table_is_given_up_on_and_the_writer_is_not_disturbed(database: Server, mariadb: Mariadb) -> None:
    database.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    writer = mariadb.connect()
    with site_of(database, **BY_ID, statement_timeout_seconds=0.2) as site:
        writer.execute("LOCK TABLES t WRITE")
        with pytest.raises(SourceUnavailable):
            site.poll()
        writer.execute("INSERT INTO t VALUES (2)")
        writer.execute("UNLOCK TABLES")
        assert site.poll() == [[1], [2]]
    writer.close()


def test_between_two_pages_no_transaction_is_open_and_the_session_can_only_read(database: Server) -> None:
    database.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, x TEXT)")
    database.executemany("INSERT INTO t VALUES (?, ?)", [(i, "x" * 300) for i in range(3000)])
    with site_of(database, **BY_ID, page_rows=1000) as site:
        reading = site.reading()
        next(reading)
        assert database.scalar("SELECT COUNT(*) FROM information_schema.INNODB_TRX") == 0
        reading.close()  # type: ignore[attr-defined]
        with pytest.raises(SourceUnavailable, match="READ ONLY transaction"):
            site.source._reading.database.rows("DELETE FROM t")  # type: ignore[attr-defined]


def test_a_connection_cut_by_the_server_is_an_error_once_and_then_made_anew(database: Server) -> None:
    database.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    with site_of(database, **BY_ID) as site:
        assert site.poll() == [[1]]
        own = database.scalar("SELECT CONNECTION_ID()")
        for (number,) in database.rows(
            f"SELECT ID FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> {own}"
        ):
            database.execute(f"KILL {number}")
        with pytest.raises(SourceUnavailable, match="cannot be reached"):
            site.poll()
        database.execute("INSERT INTO t VALUES (2)")
        assert site.poll() == [[2]]


def test_a_refused_login_waits_long_so_that_no_account_is_locked(database: Server, mariadb: Mariadb) -> None:
    database.execute("CREATE USER expired@'%' IDENTIFIED BY 'x' PASSWORD EXPIRE")
    database.execute("CREATE USER locked@'%' IDENTIFIED BY 'x' ACCOUNT LOCK")
    try:
        for login in ("UID=nobody;PWD=x", "UID=locked;PWD=x", "UID=expired;PWD=x"):
            odbc = mariadb.odbc().replace("UID=crossdock", login)
            site = TableSite(connection={"odbc": odbc, "dialect": "mariadb"}, **BY_ID)
            with pytest.raises(SourceUnavailable, match="refused the login") as caught:
                site.poll()
            assert caught.value.after_seconds == 300
            assert [(f.name, f.ok, bool(f.hint)) for f in site.source.check()] == [("login", False, True)]
    finally:
        database.execute("DROP USER expired@'%', locked@'%'")


def test_a_server_that_is_not_there_is_unavailable(mariadb: Mariadb) -> None:
    odbc = mariadb.odbc().replace(f"PORT={mariadb.port}", "PORT=1")
    site = TableSite(connection={"odbc": odbc, "dialect": "mariadb"}, **BY_ID)
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        site.poll()


def test_a_login_without_the_grant_names_the_table(database: Server, mariadb: Mariadb) -> None:
    database.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, secret TEXT)")
    database.execute("CREATE TABLE other (id BIGINT)")
    database.execute("CREATE USER guest@'%'")
    database.execute(f"GRANT SELECT ON `{mariadb.database}`.other TO guest@'%'")
    odbc = mariadb.odbc().replace("UID=crossdock", "UID=guest")
    site = TableSite(connection={"odbc": odbc, "dialect": "mariadb"}, **BY_ID)
    try:
        with pytest.raises(SourceUnavailable, match="table t") as caught:
            site.poll()
        assert "grants" in caught.value.hint  # the catalog does not show a table that may not be read
        database.execute(f"GRANT SELECT (id) ON `{mariadb.database}`.t TO guest@'%'")
        assert site.poll() == []  # the catalog shows the columns that may be
        database.execute(f"REVOKE SELECT (id) ON `{mariadb.database}`.t FROM guest@'%'")
        with pytest.raises(SourceUnavailable, match="denied") as caught:
            site.poll(advance=5)
        assert "grant SELECT" in caught.value.hint
    finally:
        site.source.close()
        database.execute("DROP USER guest@'%'")


def test_the_server_s_zone_frames_datetimes_and_not_timestamps(database: Server) -> None:
    database.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, at DATETIME(6), ts TIMESTAMP(6) NULL)")
    database.execute("SET GLOBAL time_zone = '-05:00'")
    try:
        database.execute("SET time_zone = '-05:00'")
        database.execute("INSERT INTO t VALUES (1, NOW(6), NOW(6))")
        for column in ("at", "ts"):
            settings = {"table": "t", "mode": "timestamp", "column": column, "key": ["id"]}
            with site_of(database, **settings) as site:
                site.poll()
                assert site.counters.snapshot()["newest_ahead_seconds"] == 0
                assert [f.ok for f in site.source.check() if f.name == "watermark"] == [True]
                if column == "ts":  # which is UTC, so the present is known in its own frame
                    assert site.source._cursor.style.aware  # type: ignore[attr-defined]
        database.execute("UPDATE t SET at = UTC_TIMESTAMP(6)")
        with site_of(database, table="t", mode="timestamp", column="at", key=["id"]) as site:
            (finding,) = [f for f in site.source.check() if f.name == "watermark"]
            assert (finding.ok, finding.hint) == (False, "set 'clock: utc'")
    finally:
        database.execute("SET GLOBAL time_zone = '+00:00'")


def test_a_name_that_differs_in_capitals_only_is_the_one_that_was_asked_for(database: Server) -> None:
    database.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    database.execute("CREATE TABLE T (id BIGINT PRIMARY KEY, other TEXT)")
    database.execute("INSERT INTO t VALUES (1)")
    with site_of(database, **BY_ID) as site:
        assert site.poll() == [[1]]


def test_an_isolation_the_dialect_lacks_is_refused_by_name(mariadb: Mariadb) -> None:
    connection = {"odbc": mariadb.odbc(), "dialect": "mariadb"}
    site = TableSite(connection={**connection, "dialect": "postgresql", "isolation": "snapshot"}, **BY_ID)
    with pytest.raises(ConfigError, match="postgresql has no isolation 'snapshot'"):
        site.poll()
    mariadb.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    chosen = TableSite(connection={**connection, "isolation": "read_uncommitted"}, **BY_ID)
    assert chosen.poll() == []
    reader = chosen.source._reading.database  # type: ignore[attr-defined]
    assert reader.rows("SELECT @@tx_isolation")[0][0] == "READ-UNCOMMITTED"
    chosen.source.close()
