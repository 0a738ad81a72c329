"""Mode outbox: rows that are written for us are taken and, once the controller has them, deleted or marked.

Here is the table as it is found in the database, and what `check` says of it; `sql.taking` makes the passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from crossdock.errors import ConfigError, CrossdockError
from crossdock_agent.sources.base import Draft, Finding, SourceContext
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.faults import table_missing
from crossdock_agent.sql.reading import Reading, connect
from crossdock_agent.sql.releasing import Deed, Taking, unread
from crossdock_agent.sql.rows import RowShape
from crossdock_agent.sql.settings import OutboxSettings, SqlTableSettings
from crossdock_agent.sql.statements import CatalogTable, Statements, TableColumn, resolve
from crossdock_agent.sql.taking import Plan, Taker, guarded

SAMPLE_ROWS = 1_000


class OutboxTable:
    """The source of mode outbox."""

    def __init__(self, settings: SqlTableSettings, context: SourceContext) -> None:
        self._settings, self._context = settings, context
        how = settings_of(settings)
        plan = Plan(
            settings.table, settings.basis, lambda database, columns: prepare(database, settings, columns),
            Deed(how.mark), False, how.max_in_flight, how.rescan_seconds,
        )  # fmt: skip
        self._taker = Taker(settings, context, plan)

    def read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        yield from guarded(self._taker, self._context, self._read(checkpoint))

    def _read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        self._taker.open()
        self._taker.load(checkpoint)
        yield from self._taker.passing()

    def release(self, token: bytes) -> None:
        """Delete or mark the rows the token names that are still what was read. Raises SourceUnavailable."""
        self._taker.release(token)

    def check(self) -> Iterator[Finding]:
        yield from examine(self._settings, self._context)
        yield from self._taker.check()

    def watch(self) -> list[Path]:
        return []

    def poll_seconds(self) -> float:
        return self._settings.poll_seconds

    def close(self) -> None:
        self._taker.close()


def settings_of(settings: SqlTableSettings) -> OutboxSettings:
    return settings.outbox or OutboxSettings()


def prepare(database: Database, settings: SqlTableSettings, columns: Sequence[str] | None) -> Taking:
    """*columns* instead of the configured ones: those a token names. Raises ConfigError for a missing one."""
    table = database.catalog(settings.table)
    if table is None:
        raise table_missing(settings.table)
    mark, condition = settings_of(settings).mark, []
    if mark is not None:
        condition.append(unread(mark, find(database, table, settings.table, mark.column).quoted))
    if settings.where:
        condition.append(f"(\n{settings.where}\n)")
    listed = columns or settings.columns or [column.name for column in table.columns]
    cursor = distinct([find(database, table, settings.table, n) for n in (*settings.watermark, *settings.key)])
    payload = distinct([*(find(database, table, settings.table, name) for name in listed), *cursor])
    key, where = settings.key or settings.watermark, " AND ".join(condition)
    return assemble(database, table, payload, cursor, key, where, settings.max_lob_bytes)


def assemble(
    database: Database,
    table: CatalogTable,
    payload: Sequence[TableColumn],
    cursor: Sequence[TableColumn],
    key: Sequence[str],
    where: str,
    cap: int,
) -> Taking:
    """Each row a unit of its own; *key* are the names of what identifies a record, *cap* limits each value."""
    statements = Statements(database.dialect, table, payload, cursor[:1], cursor[1:], where or None, cap)
    is_sqlite = database.dialect.name == "sqlite"
    shape = RowShape(
        payload=statements.payload, position=statements.position, group=len(statements.position),
        cap=cap, names=tuple(c.name for c in payload),
        flags=tuple(i for i, c in enumerate(payload) if is_sqlite and c.kind == "boolean"),
    )  # fmt: skip
    folded = {column.name.lower(): column.name for column in payload}
    names = tuple(folded.get(name.lower(), name) for name in key)
    reading = Reading(database, table, tuple(payload), names, statements, shape, None, detects_changes=not where)
    return Taking(reading, tuple(cursor), tuple(column.name for column in payload))


def find(database: Database, table: CatalogTable, name: str, column: str) -> TableColumn:
    found = table.find(column)
    if found is None:
        raise ConfigError(
            f"table {name} has no column {column}", hint=f"it has {', '.join(c.name for c in table.columns)}"
        )
    return resolve(database.dialect, found, column)


def distinct(columns: Sequence[TableColumn]) -> list[TableColumn]:
    """Without the second mention of a column, which may be spelled otherwise."""
    first: dict[str, TableColumn] = {}
    for column in columns:
        first.setdefault(column.quoted, column)
    return list(first.values())


def examine(settings: SqlTableSettings, context: SourceContext) -> Iterator[Finding]:
    """Findings in order; the first that fails for want of a connection or a table is the last."""
    stage = "login"
    try:
        with closing(connect(settings, context.secret, context.wall_us)) as database:
            yield Finding("login", ok=True, detail=str(database.rows(database.dialect.version)[0][0]))
            stage = "table and columns"
            taking = prepare(database, settings, None)
            yield Finding(stage, ok=True, detail=f"{settings.table}, {len(taking.names)} columns")
            stage = "read"
            yield from _key(taking, settings)
            yield from _marked(taking, settings)
            yield from _reuse(taking, settings)
    except CrossdockError as error:
        yield Finding(stage, ok=False, detail=error.message, hint=error.hint)


def _key(taking: Taking, settings: SqlTableSettings) -> Iterator[Finding]:
    reading, names = taking.reading, ", ".join(column.name for column in taking.cursor)
    rows = reading.database.rows(*reading.statements.page(None, min(SAMPLE_ROWS, settings.page_rows)))
    yield Finding("read", ok=True, detail=f"{len(rows)} rows as a sample" if rows else "no row yet")
    keys = [tuple(row[i] for i in reading.shape.position) for row in rows]
    twice = len(keys) - len(set(keys))
    yield Finding(
        "key", ok=not twice, detail=f"{twice} of {len(keys)} rows share their ({names})" if twice else
        f"({names}) is unique", hint="name columns in 'key' until each row has its own" if twice else "",
    )  # fmt: skip
    lost = int(reading.database.rows(reading.statements.unmarked())[0][0])
    if lost:
        yield Finding(
            "id", ok=False, detail=f"{lost} rows have no {taking.cursor[0].name} and are never read",
            hint="make the column NOT NULL",
        )  # fmt: skip
    first = taking.cursor[0].quoted.removeprefix("s.").strip(reading.database.dialect.quote).lower()
    if reading.table.is_view or first in reading.database.indexed(reading.table):
        yield Finding("index", ok=True, detail=f"{settings.watermark[0]} is indexed or not known to be")
    else:
        yield Finding(
            "index", ok=True, detail=f"{settings.watermark[0]} is not indexed: each poll and release reads the table",
            hint=f"create an index on {settings.watermark[0]}",
        )  # fmt: skip


def _marked(taking: Taking, settings: SqlTableSettings) -> Iterator[Finding]:
    """A table that is marked keeps its rows: without an index each poll reads past all that were ever marked."""
    mark, reading = settings_of(settings).mark, taking.reading
    if mark is None or reading.table.is_view:
        return
    names = f"({mark.column}, {settings.watermark[0]})"
    if mark.column.lower() in reading.database.indexed(reading.table):
        yield Finding("mark index", ok=True, detail=f"{mark.column} is indexed")
    else:
        yield Finding(
            "mark index", ok=True, detail=f"{mark.column} is not indexed: each poll reads past all rows ever marked",
            hint=f"create an index on {names}",
        )  # fmt: skip


def _reuse(taking: Taking, settings: SqlTableSettings) -> Iterator[Finding]:
    """Of a SQLite table that is emptied: without AUTOINCREMENT its ids begin at 1 again (sqlite.org/autoinc.html)."""
    reading = taking.reading
    if reading.database.dialect.name != "sqlite" or settings_of(settings).mark is not None:
        return
    made = reading.database.rows("SELECT sql FROM sqlite_master WHERE name = ?", [reading.table.name])
    if taking.cursor[0].declared.upper() == "INTEGER" and "AUTOINCREMENT" not in str(made[0][0]).upper():
        yield Finding(
            "ids", ok=False, detail=f"{taking.cursor[0].name} begins anew once the table is empty",
            hint="declare it INTEGER PRIMARY KEY AUTOINCREMENT: a new row like a delivered one would not be delivered",
        )  # fmt: skip
