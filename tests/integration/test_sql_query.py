"""Kind sql_query on SQLite, PostgreSQL and MariaDB: a join read as a table is, its types found without running it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError, CrossdockError, SourceUnavailable
from support.table_site import Server, Sqlite, TableSite

JOIN = """\
-- orders with what was ordered; one row a line
SELECT o.id AS order_id, l.line, l.qty, o.at, o.customer -- of whom
FROM orders o JOIN items l ON l.order_id = o.id /* all; of them */
WHERE o.customer <> ';' ; -- that is all
"""
SETTINGS = {"query": JOIN, "mode": "timestamp", "column": "at", "key": ["order_id", "line"], "clock": "utc"}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sqlite | Server]:
    fixture = {"postgresql": "postgres", "mariadb": "mariadb"}.get(request.param)
    opened = Sqlite(tmp_path / "erp.db") if fixture is None else Server(request.getfixturevalue(fixture))
    opened.execute(f"CREATE TABLE orders (id BIGINT PRIMARY KEY, customer VARCHAR(20), at {opened.timestamp})")
    opened.execute(
        "CREATE TABLE items (order_id BIGINT, line INTEGER, qty NUMERIC(12,3), PRIMARY KEY (order_id, line))"
    )
    for order in range(1, 61):
        opened.execute("INSERT INTO orders VALUES (?, ?, ?)", [order, f"C{order}", "2024-05-01 08:00:00"])
    opened.executemany(
        "INSERT INTO items VALUES (?, ?, ?)", [(o, n, "1.500") for o in range(1, 61) for n in range(1, 4)]
    )
    yield opened
    opened.close()


def site_of(database: Sqlite | Server, **settings: Any) -> TableSite:
    return TableSite("sql_query", connection=database.connection, **settings)


def test_a_join_is_read_like_a_table_with_pages_crashes_and_what_comes_later(database: Sqlite | Server) -> None:
    site = site_of(database, **SETTINGS, page_rows=17)
    rows = site.poll(crash_after=1) + site.poll()
    assert [(row[0], row[1]) for row in rows] == [(o, n) for o in range(1, 61) for n in range(1, 4)]
    assert site.cycle() == []
    database.execute("INSERT INTO orders VALUES (61, 'C61', '2024-06-01 11:59:50')")
    database.execute("INSERT INTO items VALUES (61, 1, 2)")
    assert [row[0] for row in site.poll(advance=5)] == [61]
    header = site.committed[0].header
    assert (header.origin.kind, header.origin.name) == ("table", "query")
    assert list(header.key_columns) == ["order_id", "line"]
    site.source.close()


def test_its_columns_have_the_types_of_what_they_show(database: Sqlite | Server) -> None:
    site = site_of(database, **SETTINGS)
    first = site.poll()[0]
    kinds = [(column.name, column.type) for column in site.committed[0].header.columns]
    assert kinds == [
        ("order_id", "integer"), ("line", "integer"), ("qty", "decimal"),
        ("at", "text" if isinstance(database, Sqlite) and kinds[3][1] == "text" else "datetime"), ("customer", "text"),
    ]  # fmt: skip
    assert first[2] == (1.5 if isinstance(database, Sqlite) else "1.500")
    site.source.close()


def test_a_query_that_begins_with_with_may_stand_in_from(database: Sqlite | Server) -> None:
    query = "WITH late AS (SELECT id, at FROM orders WHERE id > 50)\nSELECT * FROM late"
    site = site_of(database, query=query, mode="incrementing", column="id", table="late orders")
    assert [row[0] for row in site.poll()] == list(range(51, 61))
    assert site.committed[0].header.origin.name == "late orders"
    site.source.close()


def test_the_types_are_found_without_running_the_query(database: Sqlite | Server) -> None:
    """Run, it would divide by zero or never end; a page is asked for afterwards only."""
    endless = {
        "sqlite": "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n)",
        "postgresql": "(SELECT pg_sleep(id)::text FROM orders LIMIT 1)",
        "mariadb": "(SELECT SLEEP(id) FROM orders LIMIT 1)",
    }["sqlite" if isinstance(database, Sqlite) else database.dialect]
    site = site_of(
        database, query=f"SELECT id, at, {endless} AS slow FROM orders", mode="incrementing", column="nothing",
        statement_timeout_seconds=1,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="query query has no column nothing") as caught:
        site.poll()
    assert caught.value.hint == "it has id, at, slow"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT id FROM orders; SELECT 1", "more than one statement"),
        ("DELETE FROM orders", "begins with 'DELETE'"),
        ("-- nothing", "begins with 'nothing'"),
        ("SELECT id FROM orders WHERE id > ?", "holds a '?'"),
        ("SELECT id, id FROM orders", "id"),
        ("SELECT id FROM orders) s; --", "parentheses"),
    ],
)
def test_what_cannot_be_read_as_a_table_is_refused_by_name_before_it_is_sent(
    database: Sqlite | Server, query: str, says: str
) -> None:
    site = site_of(database, query=query, mode="incrementing", column="id", table="open orders")
    with pytest.raises(ConfigError, match="query open orders") as caught:
        site.poll()
    assert says in caught.value.message
    assert caught.value.hint
    assert [finding.ok for finding in site.source.check()][-1] is False


def test_an_error_of_the_database_names_the_query(database: Sqlite | Server) -> None:
    for query in ("SELECT id FROM gone", "SELECT nonsense, id FROM orders", "SELECT id FROM FROM orders"):
        site = site_of(database, query=query, mode="incrementing", column="id", table="open orders")
        with pytest.raises(CrossdockError, match="query open orders"):
            site.poll()


def test_check_finds_a_sound_query_sound_and_says_that_its_index_is_not_known(database: Sqlite | Server) -> None:
    site = site_of(database, **SETTINGS)
    findings = {finding.name: finding for finding in site.source.check() if finding.name != "clock"}
    assert all(finding.ok for finding in findings.values())
    assert "query query, 5 columns" in findings["table and columns"].detail
    assert "not known for a query" in findings["index"].detail


def test_a_table_beneath_that_vanishes_is_unavailable_and_found_once_it_is_there(database: Sqlite | Server) -> None:
    site = site_of(database, **SETTINGS)
    assert len(site.poll()) == 180
    database.execute("ALTER TABLE items RENAME TO gone")
    with pytest.raises(SourceUnavailable, match=r"query query: .*items"):
        site.poll(advance=5)
    database.execute("ALTER TABLE gone RENAME TO items")
    database.execute("UPDATE orders SET at = '2024-06-01 11:59:50' WHERE id = 7")
    assert [row[0] for row in site.poll(advance=5)] == [7, 7, 7]
    site.source.close()


def test_a_rule_of_postgresql_s_domains_and_zones_holds_in_a_query_too(postgres: Any) -> None:
    database = Server(postgres)
    database.execute("CREATE DOMAIN amount AS numeric(30, 15)")
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, a amount, z timestamptz, j jsonb, b boolean, y bytea)")
    database.execute(
        "INSERT INTO t VALUES (1, 0.000000000000001, '2024-01-31 12:00:00.5+02', '{\"a\": 1}', true, '\\x00')"
    )
    site = site_of(database, query="SELECT t.*, a * 2 AS twice FROM t", mode="incrementing", column="id")
    assert site.poll() == [
        [1, "0.000000000000001", "2024-01-31 10:00:00.5+00", '{"a": 1}', True, b"\0", "0.000000000000002"]
    ]
    assert [column.type for column in site.committed[0].header.columns] == [
        "integer", "decimal", "datetimetz", "text", "boolean", "binary", "decimal",
    ]  # fmt: skip
    site.source.close()
    database.close()
