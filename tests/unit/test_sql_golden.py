"""The SQL by which each dialect is read, as files: tests/golden/sql/<dialect>.sql. Most have met readers, no server.

`CROSSDOCK_GOLDEN=write pytest tests/unit/test_sql_golden.py` writes them anew; the diff is then the review.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossdock_agent.sql.connections import session_limits
from crossdock_agent.sql.dialects import DIALECTS, Dialect
from crossdock_agent.sql.keyrange import KeyStatements
from crossdock_agent.sql.queries import checked
from crossdock_agent.sql.statements import CatalogColumn, CatalogTable, Statements, resolve

GOLDEN = Path(__file__).parents[1] / "golden" / "sql"

COLUMNS = {  # id, order no, line, change time, quantity, rowversion, scan, note
    "sqlite": "INTEGER VARCHAR(20) INTEGER DATETIME NUMERIC INTEGER BLOB CLOB",
    "postgresql": "bigint|character varying|integer|timestamp with time zone|numeric|bigint|bytea|jsonb",
    "mariadb": "bigint varchar int timestamp decimal bigint longblob longtext",
    "mysql": "bigint varchar int datetime decimal bigint longblob longtext",
    "sqlserver": "bigint varchar int datetime decimal(12,3) timestamp varbinary(max) nvarchar(max)",
    "oracle": "NUMBER VARCHAR2 NUMBER DATE NUMBER NUMBER BLOB CLOB",
    "db2": "BIGINT VARCHAR INTEGER TIMESTAMP DECIMAL BIGINT BLOB CLOB",
    "firebird": "bigint|varchar|integer|timestamp|numeric|bigint|blob|blob text",
}
NAMES = ["ID", "ORDER_NO", "LINE", "CHANGED", "QTY", "VERSION", "SCAN", "NOTE"]


def table(dialect: Dialect, query: str | None = None) -> CatalogTable:
    text = COLUMNS[dialect.name]
    declared = text.split("|" if "|" in text else " ")
    columns = tuple(
        CatalogColumn(name, kind, name in ("QTY", "SCAN", "NOTE")) for name, kind in zip(NAMES, declared, strict=True)
    )
    return CatalogTable("" if dialect.name in ("sqlite", "firebird") else "ERP", "ORDER_LINES", False, columns, query)


def statements(dialect: Dialect, watermark: str, key: list[str], query: str | None = None) -> Statements:
    catalog = table(dialect, query)
    found = {c.name: resolve(dialect, c, c.name) for c in catalog.columns}
    return Statements(
        dialect, catalog, list(found.values()), [found[watermark]], [found[k] for k in key], "s.LINE > 0", 4096
    )


def ranges_by_key(dialect: Dialect) -> str:
    """A range that begins behind one key and ends with another, as modes snapshot and reconcile read."""
    catalog = table(dialect)
    found = {c.name: resolve(dialect, c, c.name) for c in catalog.columns}
    key = [found["ORDER_NO"], found["LINE"]]
    by_key = KeyStatements(dialect, catalog, list(found.values()), key, [found["CHANGED"]], "s.LINE > 0", 4096)
    whole, part = by_key.ranges(None, None, 500), by_key.ranges(["A-1", 7], ["B-2", 1], 500)
    return "\n;\n".join(sql for sql, _ in [*whole, *part, by_key.exact([["A-1", 7], ["A-1", 8]])])


def every_type(dialect: Dialect) -> str:
    lines = []
    for declared in dialect.types:
        column = resolve(dialect, CatalogColumn("C", declared, True), "C")
        bind = column.rule.bind.format(c=column.quoted, t=declared)
        lines.append(f"-- {declared}: {column.kind}\n--   {column.capped(4096)}\n--   {bind}")
    return "\n".join(lines)


def all_sql(dialect: Dialect) -> str:
    by_time, by_id = statements(dialect, "CHANGED", ["ORDER_NO", "LINE"]), statements(dialect, "ID", [])
    by_version = statements(dialect, "VERSION", ["ORDER_NO", "LINE"])
    inner = "SELECT * FROM ERP.ORDER_LINES -- all"
    over_query = statements(dialect, "ID", [], checked(f"{inner}\n;", dialect))
    at = ["2024-01-31 12:00:00", "A-1", 7]
    sizes = by_id.sizes([41], 500)
    parts = {
        "session": ";\n".join(s.format(**session_limits(30.0)) for s in dialect.session),
        "isolations": "\n".join(f"-- {name}\n{sql}" for name, sql in dialect.isolations.items()),
        "connection options": dialect.options,
        "version": dialect.version,
        "clock": dialect.clock,
        "catalog": dialect.catalog,
        "first columns of indexes": dialect.indexed,
        "lowest open version": dialect.min_active or "",
        "columns of a query": dialect.describe or dialect.typeof,
        "first page by time": by_time.page(None, 500)[0],
        "next page by time": by_time.page(at[:1], 500)[0],
        "next page by time and key": by_time.page(at, 500)[0],
        "next page by id": by_id.page([41], 500)[0],
        "sizes before a page": sizes[0] if sizes else "",
        "next page by version, below the lowest open one": by_version.page([41, "A-1", 7], 500, 99)[0],
        "next page of a query": over_query.page([41], 500)[0],
        "ranges by key, and rows by their exact keys": ranges_by_key(dialect),
        "newest": by_time.newest(),
        "unmarked": by_time.unmarked("x"),
        "types: kind, read, bound": every_type(dialect),
    }
    return "\n".join(f"-- == {name}\n\n{sql or '-- (none)'}\n" for name, sql in parts.items())


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_every_statement_of_a_dialect_is_the_one_that_was_reviewed(name: str) -> None:
    sql, path = all_sql(DIALECTS[name]), GOLDEN / f"{name}.sql"
    if os.environ.get("CROSSDOCK_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sql, "utf-8", newline="\n")
    assert path.read_text("utf-8") == sql


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_no_dialect_reads_uncommitted_rows_unless_it_is_told_to(name: str) -> None:
    """NOLOCK and its kin skip committed rows and read others twice."""
    dialect = DIALECTS[name]
    sent = "\n".join([*dialect.session, all_sql(dialect).partition("-- == version")[2]]).upper()
    assert "NOLOCK" not in sent
    assert "UNCOMMITTED" not in sent
    assert "WITH UR" not in sent


def test_sql_server_binds_each_value_in_the_type_of_its_column_so_that_an_index_serves() -> None:
    dialect = DIALECTS["sqlserver"]
    sql, _ = statements(dialect, "CHANGED", ["ORDER_NO", "LINE"]).page(["t", "A", 1], 5)
    assert "s.[CHANGED] >= CONVERT(datetime, LEFT(?, 23), 121)" in sql
    assert "s.[ORDER_NO] > CAST(? AS varchar(8000))" in sql
    version, _ = statements(dialect, "VERSION", ["ID"]).page([1, 2], 5, 9)
    assert "s.[VERSION] < CONVERT(binary(8), CAST(? AS bigint))" in version


def test_a_bracket_in_a_name_of_sql_server_ends_nothing() -> None:
    assert DIALECTS["sqlserver"].quoted("a]b[c") == "[a]]b[c]"
