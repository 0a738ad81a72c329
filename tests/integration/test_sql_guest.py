"""Writers never wait for us: a writer changes, locks and alters the very rows being read, and the server itself says
that it waits for nobody.

Each test makes the reader hang inside a page (a condition that sleeps at the server, or a trace in SQLite) or stand
between two pages, and then looks at the server's own list of waits while the writer works.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import SourceUnavailable
from crossdock_agent.sql import connections
from support.mariadb import Mariadb
from support.postgres import Postgres
from support.table_site import Server, Sqlite, TableSite, rows_of, site_of
from support.waiting import until

BY_TIME = {"table": "orders", "mode": "timestamp", "column": "at", "key": ["id"], "clock": "utc"}
SLEEPING = {  # a condition true for every row that keeps the page open at the server on row 40
    "postgresql": "(s.id <> 40 OR pg_sleep(30) IS NOT NULL)",
    "mariadb": "(s.id <> 40 OR SLEEP(30) >= 0)",
}
READS = {
    "postgresql": "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
    "mariadb": "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'",
}
WAITS = {
    "postgresql": "SELECT COUNT(*) FROM pg_locks WHERE NOT granted",
    "mariadb": "SELECT (SELECT COUNT(*) FROM information_schema.INNODB_LOCK_WAITS)"
    " + (SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE '%lock%')",
}

EXCLUSIVE = {"postgresql": "LOCK TABLE orders IN ACCESS EXCLUSIVE MODE", "mariadb": "LOCK TABLES orders WRITE"}


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Postgres | Mariadb:
    found: Postgres | Mariadb = request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb")
    return found


@pytest.fixture
def database(server: Postgres | Mariadb) -> Iterator[Server]:
    opened = Server(server)
    opened.execute(f"CREATE TABLE orders (id BIGINT PRIMARY KEY, text VARCHAR(99), at {opened.timestamp})")
    opened.execute("CREATE INDEX orders_at ON orders (at, id)")
    opened.executemany("INSERT INTO orders VALUES (?, 'old', ?)", [(i, "2024-05-01 08:00:00") for i in range(1, 2001)])
    yield opened
    opened.close()


class Reader:
    """One pass in a thread of its own, stopped at the end whatever comes."""

    def __init__(self, site: TableSite) -> None:
        self.rows: list[list[Any]] = []
        self.failure: BaseException | None = None
        self._site = site
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            self.rows = self._site.poll()
        except BaseException as error:  # noqa: BLE001 - the thread's outcome is the test's subject
            self.failure = error

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._site.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


def busy_writer(server: Postgres | Mariadb, watch: Callable[[], None]) -> None:
    """Updates the rows under the reader, in one transaction after another, and looks for waits in the middle of each.
    A lock held against it makes its statement fail at once."""
    writer = server.connect()
    if server.dialect == "postgresql":
        writer.execute("SET lock_timeout = '1ms'")
    else:
        writer.execute("SET SESSION innodb_lock_wait_timeout = 0")
        writer.execute("SET SESSION lock_wait_timeout = 0")
    writer.autocommit = False
    for id_range in ("id BETWEEN 1 AND 100", "id = 40", "id > 0"):
        writer.execute(f"UPDATE orders SET text = 'new', at = '2024-05-01 08:00:01' WHERE {id_range}")
        watch()
        writer.commit()
    writer.execute("DELETE FROM orders WHERE id = 41")
    writer.execute("INSERT INTO orders VALUES (5000, 'new', '2024-05-01 08:00:02')")
    watch()
    writer.commit()
    writer.close()


def test_a_writer_of_the_rows_being_read_waits_for_nothing_while_the_page_is_open(
    database: Server, server: Postgres | Mariadb
) -> None:
    def no_one_waits() -> None:
        assert database.scalar(READS[server.dialect]) == 1  # the page is still open
        assert database.scalar(WAITS[server.dialect]) == 0

    with site_of(database, **BY_TIME, where=SLEEPING[server.dialect], statement_timeout_seconds=60) as site:
        with Reader(site) as reader:
            until(lambda: database.scalar(READS[server.dialect]) == 1)
            busy_writer(server, no_one_waits)
        assert reader.failure is None
    with site_of(database, **BY_TIME) as site:
        latest = {row[0]: row[1] for row in site.poll()}
        assert len(latest) == 2000
        assert set(latest.values()) == {"new"}


def test_between_two_pages_even_the_table_s_definition_may_change_without_waiting(
    database: Server, server: Postgres | Mariadb
) -> None:
    writer = server.connect()
    if server.dialect == "postgresql":
        writer.execute("SET lock_timeout = '1ms'")
    else:
        writer.execute("SET SESSION lock_wait_timeout = 5")  # InnoDB's own purge may hold the table for a moment
    with site_of(database, **BY_TIME, page_rows=50) as site:
        pages = iter_pages(site)
        next(pages)
        busy_writer(server, lambda: None)
        writer.execute("ALTER TABLE orders ADD COLUMN note VARCHAR(10)")
        writer.execute("CREATE INDEX orders_text ON orders (text)")
        assert database.scalar(WAITS[server.dialect]) == 0
        rest = [row for page in pages for row in page] + site.poll(advance=5)
        assert {row[0] for row in rest if row[1] == "new"} == {*range(1, 2001), 5000} - {41}
    writer.close()


def iter_pages(site: TableSite) -> Iterator[list[list[Any]]]:
    """The rows of one pass, broken off after each page that was fetched: the generator stands between two pages."""
    source: Any = site.source
    fetched: list[int] = []
    ask = source._pager.pages

    def pages(*arguments: Any) -> Iterator[Any]:
        for page in ask(*arguments):
            fetched.append(len(page.packed))
            yield page

    source._pager.pages = pages
    reading = site.reading()
    first = next(reading)
    assert fetched
    yield rows_of(first)
    for draft in reading:
        yield rows_of(draft)


def test_a_page_that_meets_a_lock_gives_way_soon_and_is_read_again_from_the_same_place(
    database: Server, server: Postgres | Mariadb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both databases only lock readers out of a table as a whole."""
    monkeypatch.setattr(connections, "LOCK_SECONDS", 0.1)
    database.executemany(
        "INSERT INTO orders VALUES (?, 'old', ?)", [(i, "2024-05-01 08:00:00") for i in range(2001, 12_001)]
    )
    writer = server.connect()
    with site_of(database, **BY_TIME, page_rows=1000, statement_timeout_seconds=30) as site:
        kept = site.poll(crash_after=1)
        writer.autocommit = False
        writer.execute(EXCLUSIVE[server.dialect])
        with pytest.raises(SourceUnavailable, match="gave way") as caught:
            site.poll()
        assert caught.value.after_seconds == 1
        writer.commit()
        if server.dialect == "mariadb":
            writer.execute("UNLOCK TABLES")
        rows = kept + site.poll()
        assert len(rows) == len({row[0] for row in rows}) == 12_000
    writer.close()


def test_a_page_deep_inside_one_timestamp_reads_no_more_of_the_index_than_it_hands_out(mariadb: Mariadb) -> None:
    """A month-end batch gives 20,000 rows one time. MariaDB counts what a statement read."""
    database = Server(mariadb)
    database.execute("CREATE TABLE orders (id BIGINT PRIMARY KEY, text TEXT, at DATETIME(6))")
    database.execute("CREATE INDEX orders_at ON orders (at, id)")
    database.execute("INSERT INTO orders SELECT seq, 'x', '2024-05-01 08:00:00' FROM seq_1_to_20000")
    database.execute("ANALYZE TABLE orders")
    with site_of(database, **BY_TIME) as site:
        reading = site.source._open()  # type: ignore[attr-defined]
        ask = "SHOW SESSION STATUS LIKE 'Handler_read_%'"
        before = sum(int(value) for _, value in reading.database.rows(ask))
        rows = reading.database.rows(*reading.statements.page(["2024-05-01 08:00:00.000000", 15_000], 500))
        assert [rows[0][0], rows[-1][0]] == [15_001, 15_500]
        after = {name: int(value) for name, value in reading.database.rows(ask)}
        assert sum(after.values()) - before <= 500 + 50  # and what the question itself reads
    database.close()


def test_a_writer_of_a_sqlite_file_commits_while_a_page_of_it_is_open(tmp_path: Path) -> None:
    """In WAL mode; the writer is told to wait for nobody. SQLite itself says that a reader is inside: a checkpoint that
    wants to be alone is refused. There must be something to write back for that: a reader who came when all was written
    back is in nobody's way."""
    database = Sqlite(tmp_path / "erp.db")
    database.execute("PRAGMA busy_timeout = 0")
    database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, text TEXT, at TEXT)")
    database.executemany("INSERT INTO orders VALUES (?, 'old', '2024-05-01 08:00:00')", [(i,) for i in range(1, 2001)])
    database.execute("CREATE TABLE looks AS SELECT 0 AS n")
    endless = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n) > 0"

    def reader_is_inside() -> bool:
        database.execute("UPDATE looks SET n = n + 1")
        return database.scalar("PRAGMA wal_checkpoint(RESTART)") == 1

    with site_of(database, **BY_TIME, where=f"(s.id <> 40 OR {endless})", statement_timeout_seconds=60) as site:
        with Reader(site) as reader:
            until(reader_is_inside)
            database.execute("UPDATE orders SET text = 'new' WHERE id BETWEEN 1 AND 100")
            database.execute("DELETE FROM orders WHERE id = 41")
            database.execute("ALTER TABLE orders ADD COLUMN note TEXT")
            assert reader_is_inside()
        assert reader.failure is None
        assert not reader_is_inside()
    with site_of(database, **BY_TIME) as site:
        assert {row[0]: row[1] for row in site.poll()}[40] == "new"
    database.close()
