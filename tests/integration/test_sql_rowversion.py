"""Mode rowversion against a real PostgreSQL: transactions commit out of order, nothing is skipped and nothing twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError, CrossdockError
from support.mariadb import Mariadb
from support.postgres import Postgres
from support.table_site import Server, Sqlite, TableSite, rows_of, site_of

BY_VERSION = {"table": "t", "mode": "rowversion", "column": "version", "key": ["id"]}


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Server]:
    opened = Server(postgres)
    opened.execute("CREATE TABLE t (id bigint PRIMARY KEY, text text, version bigint)")
    opened.execute("CREATE INDEX t_version ON t (version, id)")
    opened.execute(
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.version := txid_current(); RETURN NEW; END $$"
    )
    opened.execute("CREATE TRIGGER t_stamp BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp()")
    yield opened
    opened.close()


@pytest.fixture
def writers(postgres: Postgres) -> Iterator[list[Any]]:
    """Connections whose transactions stay open until they commit."""
    made = [postgres.connect() for _ in range(4)]
    for writer in made:
        writer.autocommit = False
    yield made
    for writer in made:
        writer.close()


def ids(rows: list[list[Any]]) -> list[Any]:
    return [row[0] for row in rows]


def test_what_an_open_transaction_may_undercut_waits_for_it_and_comes_in_order(
    database: Server, writers: list[Any]
) -> None:
    slow, quick = writers[:2]
    with site_of(database, **BY_VERSION) as site:
        slow.execute("INSERT INTO t VALUES (1, 'slow')")
        quick.execute("INSERT INTO t VALUES (2, 'quick')")
        quick.commit()
        assert site.poll() == []  # the quick one has the higher version: reading it would skip the slow one
        slow.commit()
        rows = site.poll()
        assert ids(rows) == [1, 2]
        assert rows[0][2] < rows[1][2]
        assert site.poll() == []


def test_a_transaction_that_was_rolled_back_holds_nothing_up_any_more(database: Server, writers: list[Any]) -> None:
    slow = writers[0]
    with site_of(database, **BY_VERSION) as site:
        slow.execute("INSERT INTO t VALUES (1, 'slow')")
        database.execute("INSERT INTO t VALUES (2, 'quick')")
        assert site.poll() == []
        slow.rollback()
        assert ids(site.poll()) == [2]


@pytest.mark.parametrize("seed", range(4))
def test_every_committed_version_comes_once_however_transactions_interleave(
    database: Server, writers: list[Any], seed: int
) -> None:
    """Rows are written by four open transactions at a time; the source is polled and restarted in between. What each
    commit left in a row must have been seen unless a later commit overwrote it before any poll could."""
    dice = random.Random(seed)
    seen: list[tuple[Any, ...]] = []
    number = 0
    free = {id(writer): list(range(k, 40, 4)) for k, writer in enumerate(writers)}  # no two lock one row
    with site_of(database, **BY_VERSION, page_rows=7) as site:
        for _ in range(120):
            writer = dice.choice(writers)
            match dice.randrange(6):
                case 0 | 1 | 2:
                    number += 1
                    writer.execute(
                        "INSERT INTO t VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET text = excluded.text",
                        [dice.choice(free[id(writer)]), f"v{number}"],
                    )
                case 3:
                    writer.commit()
                case 4:
                    writer.rollback()
                case _:
                    seen += [tuple(row) for row in site.poll(crash_after=dice.choice([None, 0, 1]))]
        for writer in writers:
            writer.commit()
        seen += [tuple(row) for row in site.poll()] + [tuple(row) for row in site.poll()]
        assert len(seen) == len(set(seen))
        assert [row[2] for row in seen] == sorted(row[2] for row in seen)  # in commit-safe order, never backwards
        latest = {row[0]: row for row in seen}
        assert sorted(latest.values()) == sorted(database.rows("SELECT id, text, version FROM t"))


def test_a_row_changed_while_its_table_is_paged_through_comes_in_its_new_version(database: Server) -> None:
    database.execute("INSERT INTO t SELECT i, 'old' FROM generate_series(1, 6000) i")
    with site_of(database, **BY_VERSION, page_rows=500) as site:
        seen = []
        for number, draft in enumerate(site.reading()):
            seen += rows_of(draft)
            if number == 0:
                database.execute("UPDATE t SET text = 'new' WHERE id IN (1, 5999)")
        assert len(seen) == len(set(ids(seen))) >= 5999
        again = site.poll()
        latest = {row[0]: row[1] for row in seen + again}
        assert (len(latest), latest[1], latest[5999]) == (6000, "new", "new")
        assert site.poll() == []


def test_the_rows_of_one_transaction_are_paged_by_key_and_survive_a_crash_at_every_batch(database: Server) -> None:
    database.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 12000) i")
    with site_of(database, **BY_VERSION, page_rows=700) as straight:
        expected = straight.poll()
        assert ids(expected) == list(range(1, 12_001))
    for crash_after in range(len(straight.committed) + 1):
        with site_of(database, **BY_VERSION, page_rows=700) as site:
            assert site.poll(crash_after=crash_after) + site.poll() == expected
            assert site.committed[-1].header.closes
            assert site.poll() == []


def test_starting_now_leaves_out_what_is_there_but_not_what_was_still_open(
    database: Server, writers: list[Any]
) -> None:
    slow = writers[0]
    slow.execute("INSERT INTO t VALUES (1, 'open')")
    with site_of(database, **BY_VERSION, start="now") as site:
        assert site.poll() == []
        site.restart()
        slow.commit()
        database.execute("INSERT INTO t VALUES (2, 'later')")
        assert ids(site.poll()) == [1, 2]


def test_a_restored_database_that_hands_versions_out_again_stops_the_source(database: Server) -> None:
    database.execute("INSERT INTO t VALUES (1, 'x')")
    database.execute("ALTER TABLE t DISABLE TRIGGER t_stamp")
    with site_of(database, **BY_VERSION) as site:
        site.poll()
        at = site.source._decoded(site.checkpoint).at[0]  # type: ignore[attr-defined]
        site.checkpoint = site.source._encoded([at + 10**9, 1], is_open=False)  # type: ignore[attr-defined]
        site.restart()
        with pytest.raises(CrossdockError, match="now hands out") as caught:
            site.poll()
        assert "new name" in caught.value.hint
        assert site.counters.snapshot()["steps_back"] == 1


def test_nothing_is_asked_of_the_table_while_nothing_was_committed(database: Server) -> None:
    database.execute("INSERT INTO t VALUES (1, 'x')")
    with site_of(database, **BY_VERSION) as site:
        site.poll()
        site.poll()
        asked: list[str] = []
        reader: Any = site.source._reading.database  # type: ignore[attr-defined]
        ask = reader.rows
        reader.rows = lambda sql, values=(): (asked.append(sql), ask(sql, values))[1]
        assert site.poll() == []
        assert asked == ["SELECT CAST(txid_current_snapshot() AS text)"]


def test_a_database_that_does_not_say_what_is_open_is_refused_with_the_other_modes(mariadb: Mariadb) -> None:
    mariadb.execute("CREATE TABLE t (id bigint PRIMARY KEY, version bigint)")
    site = TableSite(connection={"odbc": mariadb.odbc(), "dialect": "mariadb"}, **BY_VERSION)
    with pytest.raises(ConfigError, match="does not say which versions are still open") as caught:
        site.poll()
    assert "timestamp" in caught.value.hint
    assert not list(site.source.check())[-1].ok


def test_in_sqlite_one_writer_at_a_time_makes_any_growing_number_a_version(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "erp.db")
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT, version INTEGER)")
    database.executemany("INSERT INTO t VALUES (?, 'x', ?)", [(i, i) for i in range(1, 101)])
    with site_of(database, **BY_VERSION, page_rows=30) as site:
        assert len(site.poll()) == 100
        database.execute("UPDATE t SET text = 'y', version = 101 WHERE id = 5")
        assert site.poll() == [[5, "y", 101]]
        assert site.poll() == []
        assert all(finding.ok for finding in site.source.check())
    database.close()
