"""A table ready to be read: connected, every configured column found in the catalog, statements built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crossdock.errors import ConfigError
from crossdock.v1.batch_pb2 import BatchHeader, Column, Origin
from crossdock_agent.sql.connections import Database, OdbcDatabase, SqliteDatabase, require_encoding, with_secrets
from crossdock_agent.sql.dialects import DIALECTS
from crossdock_agent.sql.faults import table_missing
from crossdock_agent.sql.keyrange import KeyStatements
from crossdock_agent.sql.queries import checked
from crossdock_agent.sql.rows import RowShape
from crossdock_agent.sql.settings import SqlQuerySettings, SqlTableSettings
from crossdock_agent.sql.statements import CatalogTable, Statements, TableColumn, resolve
from crossdock_agent.sql.times import Style, parse

_STYLES = {
    "datetime": "2000-01-01 00:00:00.000000",
    "datetimetz": "2000-01-01 00:00:00.000000+00",
    "date": "2000-01-01",
}
_TIMES = {*_STYLES, "integer", "float"}
_NUMBERS = {"integer", "decimal"}


@dataclass(frozen=True, slots=True)
class Reading:
    database: Database
    table: CatalogTable
    columns: tuple[TableColumn, ...]
    key: tuple[str, ...]  # names, spelled as in *columns*, of those that identify a row
    statements: Statements
    shape: RowShape
    style: Style | None  # how the watermark writes time, where its column's type settles that
    detects_changes: bool  # the database says when nothing was committed, and only a commit can change the answer

    def header(self, name: str) -> BatchHeader:
        return BatchHeader(
            format="rows",
            origin=Origin(kind="table", name=name),
            columns=[Column(name=c.name, type=c.kind) for c in self.columns],
            key_columns=self.key,
        )


def connect(settings: SqlTableSettings, secret: Callable[[str], str], wall_us: Callable[[], int]) -> Database:
    """Raises SourceUnavailable, ConfigError or Corrupt, each with the operator's next step."""
    to, timeout = settings.connection, settings.statement_timeout_seconds
    if to.sqlite is not None:
        return SqliteDatabase(to.sqlite, settings.subject, timeout, require_encoding(to.encoding), wall_us)
    dialect = DIALECTS[to.dialect or ""]
    return OdbcDatabase(dialect, with_secrets(to.odbc or "", secret), settings.subject, timeout, to.isolation)


def prepare(database: Database, settings: SqlTableSettings) -> Reading:
    """Raises SourceUnavailable when the table is missing, ConfigError naming each column that is."""
    _require_versions(database, settings)
    table = _find(database, settings)
    listed = settings.columns if settings.columns is not None else [c.name for c in table.columns]
    found = _resolve_all(database, table, settings, [*listed, *settings.watermark, *settings.key])
    columns = _distinct([found[name] for name in (*listed, *settings.watermark, *settings.key)])
    shown = {column.quoted: column.name for column in columns}
    watermark, key = [found[name] for name in settings.watermark], [found[name] for name in settings.key]
    _check_kinds(database, settings, watermark)
    statements = Statements(database.dialect, table, columns, watermark, key, settings.where, settings.max_lob_bytes)
    is_sqlite = database.dialect.name == "sqlite"
    shape = RowShape(
        payload=statements.payload,
        position=statements.position,
        group=1 if settings.mode == "incrementing" else 1 + max(1, len(statements.position) - 2),
        cap=settings.max_lob_bytes,
        folds=database.dialect.folds and any(c.kind == "text" for c in key),
        names=tuple(c.name for c in columns),
        flags=tuple(i for i, c in enumerate(columns) if is_sqlite and c.kind == "boolean"),
    )
    sample = None if is_sqlite or settings.mode != "timestamp" else parse(_STYLES.get(watermark[0].kind))
    return Reading(
        database, table, tuple(columns), tuple(shown[c.quoted] for c in key or watermark), statements, shape,
        sample.style if sample else None, detects_changes=not table.is_view and settings.where is None,
    )  # fmt: skip


def _require_versions(database: Database, settings: SqlTableSettings) -> None:
    if settings.mode == "rowversion" and database.dialect.min_active is None:
        raise ConfigError(
            f"{settings.subject}: {database.dialect.name} does not say which versions are still open",
            hint="use mode incrementing or timestamp, which look back",
        )


def _find(database: Database, settings: SqlTableSettings) -> CatalogTable:
    if not isinstance(settings, SqlQuerySettings):
        table = database.catalog(settings.table)
        if table is None:
            raise table_missing(settings.table)
        return table
    try:
        result = database.described(checked(settings.query, database.dialect), settings.table)
    except ConfigError as error:
        raise ConfigError(f"{settings.subject}: {error.message}", hint=error.hint) from error
    names = [c.name for c in result.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"{settings.subject} has more than one column called {', '.join(twice)}",
            hint="give each a name of its own with AS",
        )
    return result


def _resolve_all(
    database: Database, table: CatalogTable, settings: SqlTableSettings, names: list[str]
) -> dict[str, TableColumn]:
    found, missing = {}, []
    for name in names:
        column = table.find(name)
        if column is None:
            missing.append(name)
        else:
            found[name] = resolve(database.dialect, column, name)
    if missing:
        raise ConfigError(
            f"{settings.subject} has no column {', '.join(dict.fromkeys(missing))}",
            hint=f"it has {', '.join(c.name for c in table.columns)}",
        )
    return found


def _distinct(columns: list[TableColumn]) -> list[TableColumn]:
    """Without the second mention of a column, which may be spelled otherwise."""
    first: dict[str, TableColumn] = {}
    for column in columns:
        first.setdefault(column.quoted, column)
    return list(first.values())


def _check_kinds(database: Database, settings: SqlTableSettings, watermark: list[TableColumn]) -> None:
    if database.dialect.name == "sqlite":
        return  # its columns declare no binding type; the values are judged as they come
    kinds = {c.kind for c in watermark}
    allowed = _TIMES if settings.mode == "timestamp" else _NUMBERS
    wrong = [f"{c.name} is {c.declared}" for c in watermark if c.kind not in allowed]
    if wrong or len(kinds) > 1:
        said = "; ".join(wrong or [f"{c.name} is {c.declared}" for c in watermark])
        wants = "times of one type" if settings.mode == "timestamp" else "a whole number"
        raise ConfigError(f"{settings.subject}: {said}", hint=f"mode {settings.mode} needs {wants} in 'column'")


def prepare_by_key(database: Database, settings: SqlTableSettings) -> tuple[Reading, KeyStatements]:
    """The same table in the order of its key alone. Raises as `prepare` does."""
    table = _find(database, settings)
    order = settings.key or settings.watermark
    listed = settings.columns if settings.columns is not None else [c.name for c in table.columns]
    found = _resolve_all(database, table, settings, [*listed, *settings.watermark, *order])
    columns = _distinct([found[name] for name in (*listed, *settings.watermark, *order)])
    key, mark = _distinct([found[name] for name in order]), [found[name] for name in settings.watermark]
    statements = KeyStatements(database.dialect, table, columns, key, mark, settings.where, settings.max_lob_bytes)
    is_sqlite = database.dialect.name == "sqlite"
    shape = RowShape(
        payload=statements.payload, position=statements.position, group=len(statements.position),
        cap=settings.max_lob_bytes, names=tuple(c.name for c in columns),
        flags=tuple(i for i, c in enumerate(columns) if is_sqlite and c.kind == "boolean"),
    )  # fmt: skip
    shown = {column.quoted: column.name for column in columns}
    return Reading(
        database, table, tuple(columns), tuple(shown[c.quoted] for c in key), statements, shape,
        None, detects_changes=not table.is_view and settings.where is None,
    ), statements  # fmt: skip
