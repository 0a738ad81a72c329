"""What a database says of its tables, and what a small sample of one shows. Only looks; every question is short.

Rows are estimated where counting would read a large table: by the database's statistics, or as "more than".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct

from crossdock.errors import ConfigError, SourceUnavailable
from crossdock_agent.sql.catalogs import CATALOGS, Catalog
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.reading import connect
from crossdock_agent.sql.settings import Connection, SqlTableSettings
from crossdock_agent.sql.statements import CatalogColumn, CatalogTable, resolve
from crossdock_agent.sql.times import parse

SAMPLE_ROWS = 1_000
SAMPLE_VALUE = 256  # characters or bytes of a value that are looked at, where it may be large
COUNTED_ROWS = 100_000  # a server's table is counted up to here; a SQLite file's as far as the time goes
TIMES = {"date", "datetime", "datetimetz"}
NUMBERS = {"integer", "decimal"}


class Listed(Struct, frozen=True):
    """*rows* with what it is: "exact", "estimate", "at least" or "" when nobody knows without reading all of it."""

    schema: str
    name: str
    is_view: bool
    rows: int | None = None
    rows_are: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name

    @property
    def rows_text(self) -> str:
        words = {"exact": "{}", "estimate": "about {}", "at least": "over {}"}
        return words[self.rows_are].format(f"{self.rows:,}") if self.rows_are else "?"


class Index(Struct, frozen=True):
    name: str
    columns: list[str]  # an expression is ""
    unique: bool
    primary: bool


class ColumnSurvey(Struct, frozen=True):
    """*nulls* is their share in the sample; *rises*: in the order of the key, no value is under the one before."""

    name: str
    declared: str
    kind: str
    nullable: bool
    indexed: bool  # begins an index
    nulls: float | None = None
    rises: bool | None = None
    is_time: bool = False  # also for text that holds times


class TableSurvey(Struct, frozen=True):
    table: Listed
    columns: list[ColumnSurvey]
    indexes: list[Index]
    keys: list[list[str]]  # primary first, then unique ones without NULL
    sampled: int = 0


def connection_of(given: object) -> Connection:
    """Raises ConfigError naming the key at fault."""
    import msgspec

    try:
        return msgspec.convert(given, type=Connection)
    except msgspec.ValidationError as error:
        raise ConfigError(f"connection: {error}") from error


def opened(
    connection: Connection, secret: Callable[[str], str], wall_us: Callable[[], int], seconds: float
) -> Database:
    """A read-only connection whose statements take *seconds* at most."""
    stand_in = SqlTableSettings(
        connection=connection, table="its tables", mode="incrementing", column="-", statement_timeout_seconds=seconds
    )
    return connect(stand_in, secret, wall_us)


def tables(database: Database) -> list[Listed]:
    """Every table and view, with what the database itself thinks of their rows."""
    if database.dialect.name == "sqlite":
        found = database.rows(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%'"
            " ESCAPE '\\' ORDER BY name"
        )
        return [Listed("", str(name), kind == "view") for name, kind in found]
    listed = []
    for schema, name, is_view, rows in database.rows(_catalog(database).tables):
        known = rows is not None and not is_view
        listed.append(
            Listed(str(schema), str(name), bool(is_view), int(rows) if known else None, "estimate" if known else "")
        )
    return listed


def counted(database: Database, table: Listed) -> Listed:
    """*table* with its rows counted, if that is cheap. Raises SourceUnavailable when the time is up."""
    quoted = _quoted(database, table.schema, table.name)
    if database.dialect.name == "sqlite":
        sql = f"SELECT COUNT(*) FROM {quoted}"
        return Listed(table.schema, table.name, table.is_view, int(database.rows(sql)[0][0]), "exact")
    if table.is_view or (table.rows or 0) > COUNTED_ROWS:
        return table  # a view may be a join of everything
    inner = _first(database, "1 AS one", quoted, COUNTED_ROWS + 1)
    rows = int(database.rows(f"SELECT COUNT(*) FROM ({inner}) t")[0][0])
    over = rows > COUNTED_ROWS
    return Listed(table.schema, table.name, False, min(rows, COUNTED_ROWS), "at least" if over else "exact")


def survey(database: Database, name: str) -> TableSurvey:
    """Columns, indexes and keys of the table or view *name*, and what its first rows show. Raises ConfigError when
    there is none."""
    described = database.catalog(name)
    if described is None:
        raise ConfigError(f"there is no table or view {name}", hint="'crossdock-agent discover' lists them")
    indexes = list(_indexes(database, described))
    keys = _keys(described, indexes)
    listed = Listed(described.schema, described.name, described.is_view)
    columns, sampled = _sampled(database, described, indexes, keys)
    return TableSurvey(listed, columns, indexes, keys, sampled)


def _indexes(database: Database, table: CatalogTable) -> Iterator[Index]:
    if database.dialect.name == "sqlite":
        yield from _sqlite_indexes(database, table)
        return
    by_name: dict[str, list[Sequence[Any]]] = {}
    for row in database.rows(_catalog(database).indexes, [table.schema, table.name]):
        by_name.setdefault(str(row[0]), []).append(row)
    for name, rows in by_name.items():
        yield Index(name, [str(row[3] or "") for row in rows], bool(rows[0][1]), bool(rows[0][2]))


def _sqlite_indexes(database: Database, table: CatalogTable) -> Iterator[Index]:
    rowid = database.rows("SELECT name, pk, type FROM pragma_table_xinfo(?) WHERE pk > 0 ORDER BY pk", [table.name])
    if len(rowid) == 1 and str(rowid[0][2]).upper() == "INTEGER":
        yield Index("rowid", [str(rowid[0][0])], unique=True, primary=True)
    found = database.rows(
        'SELECT l.name, l."unique", l.origin, i.name FROM pragma_index_list(?) l JOIN pragma_index_info(l.name) i'
        ' WHERE l.partial = 0 ORDER BY l.seq, i.seqno', [table.name]
    )  # fmt: skip
    by_name: dict[str, list[Sequence[Any]]] = {}
    for row in found:
        by_name.setdefault(str(row[0]), []).append(row)
    for name, rows in by_name.items():
        yield Index(name, [str(row[3] or "") for row in rows], bool(rows[0][1]), rows[0][2] == "pk")


def _keys(table: CatalogTable, indexes: list[Index]) -> list[list[str]]:
    filled = {column.name for column in table.columns if not column.nullable}
    found = [index.columns for index in indexes if index.primary]
    found += [i.columns for i in indexes if i.unique and not i.primary and filled.issuperset(i.columns)]
    return [key for i, key in enumerate(found) if all(key) and key not in found[:i]]


def _sampled(
    database: Database, table: CatalogTable, indexes: list[Index], keys: list[list[str]]
) -> tuple[list[ColumnSurvey], int]:
    dialect = database.dialect
    resolved = [resolve(dialect, column, column.name) for column in table.columns]
    order = ", ".join(f"s.{dialect.quoted(name)}" for name in keys[0]) if keys else ""
    sql = _first(
        database, ", ".join(column.capped(SAMPLE_VALUE) for column in resolved),
        _quoted(database, table.schema, table.name), SAMPLE_ROWS, order,
    )  # fmt: skip
    try:
        rows = database.rows(sql)
    except SourceUnavailable:  # a view that takes its time; what the catalog says is there without it
        rows = []
    begun = {index.columns[0] for index in indexes}
    found = []
    for i, (column, shown) in enumerate(zip(table.columns, resolved, strict=True)):
        values = [row[i] for row in rows]
        found.append(_column(column, shown.kind, column.name in begun, values, ordered=bool(order)))
    return found, len(rows)


def _column(
    column: CatalogColumn, kind: str, indexed: bool, values: list[Any], *, ordered: bool
) -> ColumnSurvey:  # fmt: skip
    filled = [value for value in values if value is not None]
    moments = [parse(v) for v in filled[:50]] if kind == "text" and _may_be_times(filled) else []
    is_time = kind in TIMES or (bool(moments) and all(m is not None for m in moments))
    nulls = 1 - len(filled) / len(values) if values else None
    rises: bool | None = None
    if ordered and len(filled) > 1 and (is_time or kind in NUMBERS):
        rises = _rises(filled, is_time=is_time)
    return ColumnSurvey(column.name, column.declared, kind, column.nullable, indexed, nulls, rises, is_time)


def _may_be_times(filled: list[Any]) -> bool:
    return bool(filled) and all(isinstance(v, str) and len(v) >= 10 and v[:4].isdigit() for v in filled[:50])


def _rises(values: list[Any], *, is_time: bool) -> bool | None:
    try:
        order = [m.us if (m := parse(v)) is not None else None for v in values] if is_time else [int(v) for v in values]
    except (TypeError, ValueError):
        return None
    if None in order:
        return None
    return all(a <= b for a, b in pairwise(order))  # type: ignore[operator]


def _catalog(database: Database) -> Catalog:
    return CATALOGS.get(database.dialect.name, Catalog())


def _first(database: Database, columns: str, table: str, count: int, order: str = "") -> str:
    ordered = f" ORDER BY {order}" if order else ""
    return _catalog(database).first.format(columns=columns, table=table, order=ordered, n=count)


def _quoted(database: Database, schema: str, name: str) -> str:
    return ".".join(database.dialect.quoted(part) for part in (schema, name) if part)
