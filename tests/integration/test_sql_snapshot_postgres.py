"""Reading by key on a real PostgreSQL: its collations, NULLs and types in keys, and writers that do not stop for us."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from crossdock_agent.sql.keychunks import CHUNK_ROWS
from crossdock_agent.sql.keyreading import KeyReading
from crossdock_agent.sql.reading import connect
from crossdock_agent.sql.settings import Connection, SqlTableSettings
from support.postgres import Postgres
from support.table_site import Server, TableSite, rows_of, site_of

Row = list[Any]


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Server]:
    opened = Server(postgres)
    yield opened
    opened.close()


def replayed(held: dict[tuple[Any, ...], Row], rows: list[Row], keys: int) -> None:
    """The rows of a table, its key first, as the controller ends up with them."""
    for row in rows:
        if row[-2] == "delete":
            held.pop(tuple(row[:keys]))
        else:
            held[tuple(row[:keys])] = row[:-2]


@pytest.mark.parametrize("collation", ['"C"', '"und-x-icu"', '"en-US-x-icu"'])
def test_text_keys_in_any_collation_with_nulls_and_padding_are_read_once_each(database: Server, collation: str) -> None:
    database.execute(f"CREATE TABLE t (a text COLLATE {collation}, b char(6), c numeric(12, 2), x text)")
    database.execute("CREATE UNIQUE INDEX ON t (a, b, c)")
    texts = ["a", "B", "b", "Ä", "ae", "z", "Z", "_", "", " a", "a ", "é", "E", "ß", "ss", "10", "9", None]
    rows = [(a, b, c, "x") for a in texts for b in ("ab", "AB", None) for c in ("1.10", "-2.00", None)]
    database.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
    settings = {"table": "t", "mode": "snapshot", "key": ["a", "b", "c"]}
    expected = {
        (a, None if b is None else b.ljust(6), c): [a, None if b is None else b.ljust(6), c, "x"] for a, b, c, _ in rows
    }
    for page_rows in (2, 7, 5000):
        with site_of(database, **settings, page_rows=page_rows) as site:
            held: dict[tuple[Any, ...], Row] = {}
            sent = site.poll()
            assert len(sent) == len(rows)
            replayed(held, sent, 3)
            assert held == expected
            assert site.poll() == []


@pytest.mark.parametrize("nullable", ["", "NOT NULL"])
def test_every_range_holds_what_lies_between_its_ends_in_the_database_s_order(database: Server, nullable: str) -> None:
    database.execute(f'CREATE TABLE t (a text COLLATE "und-x-icu" {nullable}, b integer {nullable})')
    texts = ["a", "B", "Ä", "z", *([] if nullable else [None])]
    numbers = [1, 2, *([] if nullable else [None])]
    rows = list(itertools.product(texts, numbers))
    database.executemany("INSERT INTO t VALUES (?, ?)", rows)
    in_order = [list(row) for row in database.rows("SELECT a, b FROM t ORDER BY a, b")]
    settings = SqlTableSettings(
        connection=Connection(**database.connection), table="t", mode="snapshot", key=["a", "b"], page_rows=3
    )
    opened = connect(settings, lambda text: text, lambda: 0)
    try:
        with site_of(database, table="t", mode="snapshot", key=["a", "b"], page_rows=3) as site:
            reading = KeyReading(opened, settings, site.stop)
            keys = [reading.key(row) for row in in_order]
            ends = [None, *range(len(keys))]
            for low, high in itertools.product(ends, [*range(len(keys)), None]):
                after, upto = None if low is None else keys[low], None if high is None else keys[high]
                found = [list(row) for page in reading.pages(after, upto) for row in page.rows]
                begin, end = (0 if low is None else low + 1), (len(keys) if high is None else high + 1)
                assert found == in_order[begin:end], (after, upto)
            for i, j in itertools.product(range(len(keys)), repeat=2):
                assert reading.is_upto(keys[i], keys[j]) == (i <= j)
            assert reading.existing(keys) == set(keys)
    finally:
        opened.close()


def test_keys_of_every_type_that_is_read_otherwise_than_bound_are_deleted_by_their_shown_value(
    database: Server,
) -> None:
    database.execute(
        "CREATE TABLE t (flag boolean, at timestamptz, day date, no numeric, id uuid, raw bytea, x text,"
        " PRIMARY KEY (flag, at, day, no, id, raw))"
    )
    database.execute(
        "INSERT INTO t SELECT i % 2 = 0, '2024-03-31 00:30:00.000001+00'::timestamptz + i * interval '1 microsecond',"
        " date '0001-01-01' + i, i / 10.0, md5(i::text)::uuid, decode(md5(i::text), 'hex'), 'x'"
        " FROM generate_series(1, 30) i"
    )
    key = ["flag", "at", "day", "no", "id", "raw"]
    with site_of(database, table="t", mode="snapshot", key=key, page_rows=4) as site:
        rows = site.poll()
        assert len({repr(row) for row in rows}) == 30
        assert site.poll() == []
        database.execute("DELETE FROM t WHERE no < 0.5")
        gone = site.poll()
        assert sorted(repr(row[:6]) for row in gone) == sorted(repr(r[:6]) for r in rows if float(r[3]) < 0.5)
        assert {tuple(row[6:8]) for row in gone} == {(None, "delete")}


def test_a_key_that_only_changes_its_letters_is_a_new_row_and_a_deleted_one(database: Server) -> None:
    database.execute("CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    database.execute("CREATE TABLE t (k text COLLATE nocase PRIMARY KEY, x integer)")
    database.execute("INSERT INTO t SELECT 'key' || i, 1 FROM generate_series(1, 50) i")
    with site_of(database, table="t", mode="snapshot", key=["k"], page_rows=7) as site:
        assert len(site.poll()) == 50
        database.execute("UPDATE t SET k = 'KEY7' WHERE k = 'key7'")
        assert [row[:3] for row in site.poll()] == [["KEY7", 1, "upsert"], ["key7", None, "delete"]]
        database.execute("UPDATE t SET k = 'key7' WHERE k = 'key7'")
        back = site.poll()
        assert [row[:3] for row in back] == [["key7", 1, "upsert"], ["KEY7", None, "delete"]]
        assert back[0][3] != 0
        assert site.poll() == []


def test_pages_are_read_by_the_key_s_index_also_when_it_may_be_null(database: Server) -> None:
    database.execute("CREATE TABLE t (a bigint, b bigint, x text)")
    database.execute("CREATE UNIQUE INDEX ON t (a, b)")
    database.execute("INSERT INTO t SELECT i / 10, i % 10, repeat('x', 200) FROM generate_series(1, 40000) i")
    database.execute("ANALYZE t")
    with site_of(database, table="t", mode="snapshot", key=["a", "b"]) as site:
        source: Any = site.source
        reading = source._open()
        writer: Any = database._writer
        for after, upto in (([5, 5], [100, 1]), ([3000, 5], None), (None, [5, 5])):
            for sql, values in reading.statements.ranges(after, upto, 1000):
                plan = "\n".join(row[0] for row in writer.execute(f"EXPLAIN {sql}", *values).fetchall())
                assert "Index Scan" in plan
                assert "Seq Scan" not in plan


def test_between_two_ranges_nothing_is_open_and_writers_change_the_rows_that_are_being_read(database: Server) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, x text)")
    database.execute("INSERT INTO t SELECT i, repeat('x', 300) FROM generate_series(1, 9000) i")
    with site_of(database, table="t", mode="snapshot", key=["id"], page_rows=1000) as site:
        rows = 0
        for draft in site.reading():
            rows += draft.header.records
            assert database.rows(
                "SELECT state, backend_xmin FROM pg_stat_activity WHERE application_name = 'crossdock-agent'"
            ) == [("idle", None)]
            database.execute("SET lock_timeout = 1")  # ms: nobody waits for us
            database.execute("UPDATE t SET x = 'y' WHERE id % 3 = 0")
        assert rows == 9000


def test_what_writers_commit_while_scans_go_by_and_the_agent_is_killed_is_what_arrives(
    database: Server, postgres: Postgres
) -> None:
    database.execute("CREATE TABLE t (a text, b integer, x integer, PRIMARY KEY (a, b))")
    database.execute("INSERT INTO t SELECT 'k' || i % 90, i, 0 FROM generate_series(1, 6000) i")
    stop = threading.Event()

    def write(seed: int) -> None:
        rng, connection = random.Random(seed), postgres.connect()
        connection.autocommit = False
        number = 10_000 * seed
        while not stop.is_set():
            for _ in range(rng.randrange(1, 40)):
                number += 1
                at = rng.randrange(1, 6000)
                for sql, values in (
                    ("INSERT INTO t VALUES (?, ?, 1)", (f"k{number % 90}", number)),
                    ("UPDATE t SET x = x + 1 WHERE b = ?", (at,)),
                    ("DELETE FROM t WHERE b = ?", (number - 37,)),
                    ("UPDATE t SET a = 'k' || (b + x) % 90, x = x + 1 WHERE b = ?", (number - 20,)),
                )[rng.randrange(4) :][:1]:
                    connection.execute(sql, *values)
            if rng.random() < 0.2:
                connection.rollback()
            else:
                connection.commit()
        connection.rollback()
        connection.close()

    settings = {"table": "t", "mode": "snapshot", "key": ["a", "b"], "page_rows": 700}
    with site_of(database, **settings, snapshot={"max_vanished_percent": 100}) as site:
        held: dict[tuple[Any, ...], Row] = {}
        seen: set[str] = set()

        def take(rows: list[Row]) -> None:
            for row in rows:
                assert repr(row) not in seen, "an event came twice"
                seen.add(repr(row))
            replayed(held, rows, 2)

        writers = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2, 3)]
        for writer in writers:
            writer.start()
        try:
            rng = random.Random(7)
            for _ in range(12):
                take(site.poll(crash_after=rng.choice([None, None, 1, 2, 3])))
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        take(site.poll() + site.poll() + site.poll())
        assert held == {tuple(row[:2]): list(row) for row in database.rows("SELECT a, b, x FROM t")}
        assert len(seen) > 6000 + CHUNK_ROWS // 4


def test_a_table_is_loaded_by_key_while_changes_are_read_beside_it(database: Server) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, x text, at timestamptz DEFAULT clock_timestamp())")
    database.execute("CREATE INDEX ON t (at, id)")
    database.execute("INSERT INTO t SELECT i, 'old', '2020-01-01' FROM generate_series(1, 9000) i")
    settings = {"table": "t", "mode": "timestamp", "column": "at", "key": ["id"], "page_rows": 1000}
    with site_of(database, **settings, initial_load="key", poll_seconds=0.5) as site:
        ids: list[int] = []
        changed = False
        for draft in site.reading():
            if ids and not changed:
                changed = True
                database.execute("INSERT INTO t VALUES (0, 'fresh')")
                database.execute("UPDATE t SET x = 'changed', at = clock_timestamp() WHERE id = 8999")
            ids += [row[0] for row in rows_of(draft)]
            site.seconds += 1.0
        ids += [row[0] for row in site.poll(advance=5)]
        assert set(ids) == set(range(9001))
        assert ids.index(0) < 3000
        assert ids.index(8999) < 3000


def test_what_the_watermark_cannot_see_is_found_on_the_server_too(database: Server) -> None:
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, x text, write_date timestamp, create_date timestamp)")
    database.execute(
        "INSERT INTO t SELECT i, 'x', NULL, timestamp '2024-01-01' + i * interval '1 minute'"
        " FROM generate_series(1, 3000) i"
    )
    settings = {
        "table": "t", "mode": "timestamp", "column": ["write_date", "create_date"], "key": ["id"],
        "reconcile": {"deletes": True},
    }  # fmt: skip
    with site_of(database, **settings) as site:
        assert len(_settled(site)) == 3000
        database.execute("UPDATE t SET x = 'silent' WHERE id = 10")
        database.execute("DELETE FROM t WHERE id BETWEEN 20 AND 30")
        database.execute("INSERT INTO t VALUES (5000, 'unstamped', NULL, NULL)")
        site.seconds += 86_400
        found = _settled(site)
        assert sorted((row[0], row[-2]) for row in found) == [
            (10, "upsert"), *((i, "delete") for i in range(20, 31)), (5000, "upsert"),
        ]  # fmt: skip
        assert site.counters.snapshot()["reconcile_missed"] == 2
        assert site.counters.snapshot()["reconcile_vanished"] == 11


def _settled(site: TableSite) -> list[Row]:
    return [row for _ in range(34) for row in site.poll(advance=5.0)]
