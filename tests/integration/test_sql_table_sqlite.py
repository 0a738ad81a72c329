"""What only a SQLite file can do to its reader: cells of any type, a file that is locked, replaced, damaged or gone."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError, Corrupt, SourceUnavailable
from crossdock_agent.sql.connections import SqliteDatabase
from crossdock_agent.sql.rows import MAX_ROW_BYTES
from support.table_site import Sqlite, TableSite, rows_of, site_of

BY_ID = {"table": "t", "mode": "incrementing", "column": "id"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Sqlite]:
    opened = Sqlite(tmp_path / "erp.db")
    yield opened
    opened.close()


def header(site: TableSite) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in site.committed[-1].header.columns]


def test_cells_travel_exactly_as_they_are_stored_under_the_type_their_column_declares(database: Sqlite) -> None:
    database.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, made DATETIME, day DATE, qty DECIMAL(12,4), done BOOLEAN, data BLOB,"
        " ratio REAL, note)"
    )
    rows: list[list[Any]] = [
        [1, "0001-01-01 00:00:00.000001", "0001-01-01", "n/a", 1, b"\x00\xff", 0.1, "Grüße 📦"],
        [2, 1717243200, "9999-12-31", 12.5, 0, None, 1e300, 42],
        [3, None, "31.12.2024", 3, 7, "text in a blob", None, b"\x80"],
        [2**63 - 1, "", "", -1, None, b"", -0.0, ""],
    ]
    database.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    with site_of(database, **BY_ID) as site:
        found = site.poll()
        rows[0][4], rows[1][4] = True, False
        assert found == rows
        assert [list(map(type, row)) for row in found] == [list(map(type, row)) for row in rows]
        assert header(site) == [
            ("id", "integer"), ("made", "datetime"), ("day", "date"), ("qty", "decimal"), ("done", "boolean"),
            ("data", "binary"), ("ratio", "float"), ("note", "text"),
        ]  # fmt: skip
        first = site.committed[0].header
        assert (first.format, first.origin.kind, first.origin.name, first.origin.unit) == ("rows", "table", "t", b"")
        assert list(first.key_columns) == ["id"]


def test_text_that_is_not_utf8_travels_as_its_bytes_and_is_counted(database: Sqlite) -> None:
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT)")
    database.execute("INSERT INTO t VALUES (1, 'fine'), (2, CAST(x'4772fcdf65' AS TEXT)), (3, 'fine')")
    with site_of(database, **BY_ID) as site:
        assert site.poll() == [[1, "fine"], [2, b"Gr\xfc\xdfe"], [3, "fine"]]
        assert site.counters.snapshot()["undecodable_texts"] == 1
    site = TableSite(connection={**database.connection, "encoding": "cp1252"}, **BY_ID)
    assert site.poll() == [[1, "fine"], [2, "Grüße"], [3, "fine"]]
    site.source.close()


def test_only_listed_columns_are_read_and_the_cursor_s_own_behind_them(database: Sqlite) -> None:
    database.execute("CREATE TABLE t (a, b, at TEXT, id INTEGER PRIMARY KEY, c)")
    database.execute("INSERT INTO t VALUES ('a', 'b', '2024-01-01', 1, 'c')")
    with site_of(database, table="T", mode="timestamp", column="AT", key=["Id"], columns=["c", "A"]) as site:
        assert site.poll() == [["c", "a", "2024-01-01", 1]]
        assert [name for name, _ in header(site)] == ["c", "A", "AT", "Id"]


def test_a_row_over_the_limit_is_a_reject_that_names_its_key_and_the_rest_goes_on(database: Sqlite) -> None:
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, scan BLOB)")
    database.execute("INSERT INTO t VALUES (1, x'01'), (2, zeroblob(?)), (3, x'03')", [MAX_ROW_BYTES + 1])
    with site_of(database, **BY_ID) as site:
        assert [row[0] for row in site.poll()] == [1, 3]
        first, second = site.committed
        reject = first.header.rejects[0]
        assert (reject.code, reject.record, first.header.records, first.header.closes) == ("too_long", 1, 1, False)
        assert reject.reason == f"row 2: column scan has more than {MAX_ROW_BYTES} bytes"
        assert (second.header.records, second.header.closes) == (1, True)
        site.restart()
        assert site.poll() == []


@pytest.mark.parametrize(
    ("early", "late", "new"),
    [
        ("2024-06-01 11:59:50", "2024-06-01 11:59:40", "2024-06-01 11:59:55"),
        ("2024-06-01T11:59:50.500Z", "2024-06-01T11:59:50.250Z", "2024-06-01T11:59:51.000Z"),
        ("20240601115950", "20240601115940", "20240601115955"),
        (1717243190, 1717243180, 1717243195),
        (1717243190123, 1717243190122, 1717243190124),
        (1717243190.5, 1717243190.25, 1717243191.0),
        (2460462.99988, 2460462.99987, 2460462.99989),
        ("2024-06-01", "2024-06-01", "2024-06-01"),
    ],
)
def test_however_a_file_stores_time_late_rows_are_found_and_nothing_is_sent_twice(
    database: Sqlite, early: object, late: object, new: object
) -> None:
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at)")
    database.execute("INSERT INTO t VALUES (5, ?)", [early])
    with site_of(database, table="t", mode="timestamp", column="at", key=["id"]) as site:
        assert site.poll() == [[5, early]]
        database.execute("INSERT INTO t VALUES (1, ?)", [late])
        assert site.cycle(passes=60, advance=0.5) == [[1, late]]
        database.execute("INSERT INTO t VALUES (9, ?)", [new])
        assert site.cycle(passes=20) == [[9, new]]
        site.restart()
        assert site.cycle() == []


@pytest.mark.parametrize("value", ["01.06.2024", "soon", b"\x01"])
def test_a_watermark_that_is_no_time_is_refused_rather_than_sorted_as_text(database: Sqlite, value: object) -> None:
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at)")
    database.execute("INSERT INTO t VALUES (1, ?)", [value])
    with site_of(database, table="t", mode="timestamp", column="at", key=["id"]) as site:
        with pytest.raises(ConfigError, match="no time known here"):
            site.poll()
        assert any("no time known here" in finding.detail for finding in site.source.check())


def test_times_stored_as_another_type_than_the_rest_are_counted_since_they_sort_apart(database: Sqlite) -> None:
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at)")
    database.execute("INSERT INTO t VALUES (1, '2024-06-01 11:59:50'), (2, 1717243190)")
    with site_of(database, table="t", mode="timestamp", column="at", key=["id"]) as site:
        site.poll()
        assert site.counters.snapshot()["rows_without_watermark"] == 1


def test_a_text_among_the_ids_is_an_error_not_an_end(database: Sqlite) -> None:
    database.execute("CREATE TABLE t (id, note)")
    database.execute("INSERT INTO t VALUES (1, ''), ('zz', '')")
    with site_of(database, **BY_ID) as site, pytest.raises(ConfigError, match="id holds 'zz'"):
        site.poll()


def test_a_dropped_column_does_not_turn_into_its_own_name(database: Sqlite) -> None:
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, price)")
    database.execute("INSERT INTO t VALUES (1, 5)")
    with site_of(database, **BY_ID) as site:
        assert site.poll() == [[1, 5]]
        database.execute("ALTER TABLE t DROP COLUMN price")
        database.execute("INSERT INTO t VALUES (2)")
        with pytest.raises(ConfigError, match="price") as caught:
            site.poll(advance=5)
        assert "'columns'" in caught.value.hint
        assert site.poll() == [[1], [2]]  # all columns were asked for: rows in the window come again in their new shape


def test_an_idle_pass_asks_one_question_only(database: Sqlite) -> None:
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    with site_of(database, **BY_ID) as site:
        site.poll()
        site.cycle()
        asked: list[str] = []
        reader = site.source._reading.database._connection  # type: ignore[attr-defined]
        reader.set_trace_callback(asked.append)
        assert site.cycle(passes=10) == []
        assert asked == ["PRAGMA data_version"] * 10
        started = time.process_time()
        site.cycle(passes=200)
        assert (time.process_time() - started) / 200 < 0.001


def test_a_file_that_appears_later_is_read_and_its_absence_is_no_empty_table(tmp_path: Path) -> None:
    site = TableSite(connection={"sqlite": str(tmp_path / "later.db")}, **BY_ID)
    with pytest.raises(SourceUnavailable, match=r"later\.db"):
        site.poll()
    assert not (tmp_path / "later.db").exists()
    database = Sqlite(tmp_path / "later.db")
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    assert site.poll() == [[1]]
    site.source.close()
    database.close()


def test_a_file_put_in_the_place_of_another_is_read_from_then_on(tmp_path: Path) -> None:
    def make(name: str, count: int) -> Path:
        path = tmp_path / name
        with sqlite3.connect(path) as made:
            made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
            made.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(count)])
        made.close()
        return path

    path = make("erp.db", 3)
    site = TableSite(connection={"sqlite": str(path)}, **BY_ID)
    assert len(site.poll()) == 3
    site.source.close()  # Windows lets nobody replace an open file
    make("copy.db", 5).replace(path)
    assert site.poll(advance=5) == [[3], [4]]
    site.source.close()


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be looked at" * 100, b"SQLite format 3\0garbage" * 50]
)
def test_a_damaged_file_is_an_error_with_a_next_step(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "erp.db").write_bytes(content)
    site = TableSite(connection={"sqlite": str(tmp_path / "erp.db")}, **BY_ID)
    with pytest.raises(Corrupt) as caught:
        site.poll()
    assert caught.value.hint


def test_the_file_is_never_written_not_even_by_a_trusted_condition(database: Sqlite) -> None:
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    with site_of(database, **BY_ID) as site:
        site.poll()
        reader = site.source._reading.database  # type: ignore[attr-defined]
        with pytest.raises((SourceUnavailable, ConfigError)):
            reader.rows("INSERT INTO t VALUES (2)")


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_a_writer_is_never_locked_out_between_pages(tmp_path: Path, journal: str) -> None:
    database = Sqlite(tmp_path / "erp.db")
    database.execute(f"PRAGMA journal_mode = {journal}")
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT)")
    database.executemany("INSERT INTO t VALUES (?, ?)", [(i, "x" * 200) for i in range(10_000)])
    database.execute("PRAGMA busy_timeout = 0")
    with site_of(database, **BY_ID, page_rows=500) as site:
        rows = []
        for draft in site.reading():
            rows += rows_of(draft)
            database.execute("INSERT INTO t (note) VALUES ('meanwhile')")  # raises at once if a lock were held
        rows += site.poll(advance=5)
        assert len(rows) == database.scalar("SELECT COUNT(*) FROM t")
    database.close()


def test_a_writer_that_holds_the_file_is_waited_for_and_then_reported(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "erp.db")
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    database.execute("BEGIN EXCLUSIVE")
    with site_of(database, **BY_ID, statement_timeout_seconds=0.1) as site:
        with pytest.raises(SourceUnavailable, match="locked by a writer") as caught:
            site.poll()
        assert caught.value.after_seconds == 1.0
        database.execute("INSERT INTO t VALUES (1)")
        database.execute("COMMIT")
        assert site.poll() == [[1]]
    database.close()


SLOW_VIEW = (
    "CREATE VIEW slow AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000000)"
    " SELECT i AS id FROM n WHERE i < 0"
)


def test_a_statement_over_its_time_is_broken_off_and_says_what_helps(database: Sqlite) -> None:
    database.execute(SLOW_VIEW)
    with site_of(database, **{**BY_ID, "table": "slow"}, statement_timeout_seconds=0.1) as site:
        with pytest.raises(SourceUnavailable, match=r"took longer than 0\.1 s") as caught:
            site.poll()
        assert "index the watermark" in caught.value.hint


def test_a_stop_that_comes_just_before_a_statement_breaks_it_off_too(tmp_path: Path) -> None:
    Sqlite(tmp_path / "erp.db").close()
    database = SqliteDatabase(str(tmp_path / "erp.db"), "t", 5.0, "utf-8", lambda: 0)
    ticks: list[int] = []
    database._connection.create_function("tick", 0, lambda: ticks.append(1) or 1)  # type: ignore[func-returns-value]
    database.cancel()
    with pytest.raises(SourceUnavailable):
        database.rows("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + tick() FROM n) SELECT COUNT(*) FROM n")
    assert len(ticks) < 20_000
    database.close()


def test_a_stop_breaks_a_running_statement_off_without_an_error(database: Sqlite) -> None:
    database.execute(SLOW_VIEW)
    with site_of(database, **{**BY_ID, "table": "slow"}) as site:
        done = threading.Event()
        failed: list[BaseException] = []

        def read() -> None:
            try:
                site.poll()
            except BaseException as error:  # noqa: BLE001 - the thread's outcome is the test's subject
                failed.append(error)
            done.set()

        thread = threading.Thread(target=read)
        thread.start()
        deadline = time.monotonic() + 60
        while site.source._reading is None and time.monotonic() < deadline:  # type: ignore[attr-defined]
            os.sched_yield() if hasattr(os, "sched_yield") else time.sleep(0.001)
        site.stop.set()
        assert done.wait(60)
        thread.join()
        assert not failed
