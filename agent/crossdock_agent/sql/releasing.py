"""After the acknowledgement: exactly the rows of one batch are deleted or marked, by key, never by range.

In between, others write to the same table. So each row is compared, by the hash of its content, with what was read: one
that changed since, or another that got the key of a row deleted before, is left alone and read anew. Both the look and
the deed are in one short transaction of at most `CHUNK_VALUES` keys, and doing it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import msgspec
from loguru import logger

from crossdock.errors import ConfigError, CrossdockError, SourceUnavailable
from crossdock_agent.sources.base import Finding, SourceContext
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.reading import Reading
from crossdock_agent.sql.settings import Mark, SqlTableSettings
from crossdock_agent.sql.statements import TableColumn, resolve
from crossdock_agent.sql.taken import Key, Token, bindable
from crossdock_agent.sql.window import row_hash
from crossdock_agent.sql.writing import RULES, Writable, connect_writable

CHUNK_VALUES = 500  # bound in one statement, texts twice: SQL Server allows 2,100, Oracle 1,000 in a list
IDLE_SECONDS = 30.0  # an idle writable connection is given back

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Taking:
    """A table that rows are taken from. *cursor* are the columns of a row's key, in the order of `Reading.shape`."""

    reading: Reading
    cursor: tuple[TableColumn, ...]
    names: tuple[str, ...]  # of the physical columns, which a token repeats


@dataclass(frozen=True, slots=True)
class Deed:
    """What is done to released rows that are still what was read. Of a token without hashes: to rows that *exempt*, a
    condition, is true of."""

    mark: Mark | None = None
    exempt: str = "1 = 0"

    @property
    def word(self) -> str:
        return "marked" if self.mark is not None else "deleted"


class Releaser:
    def __init__(
        self,
        settings: SqlTableSettings,
        context: SourceContext,
        deed: Deed,
        prepare: Callable[[Database, Sequence[str] | None], Taking],
    ) -> None:
        self._settings, self._context, self._deed, self._prepare = settings, context, deed, prepare
        self._database: Writable | None = None
        self._taking: Taking | None = None
        self._used = 0.0
        self._log = logger.bind(source=context.name, table=settings.table)

    def release(self, due: Token) -> None:
        """Raises SourceUnavailable when it cannot be done now; what was done by then stays done."""
        self._used = self._context.monotonic()
        try:
            self._release(due)
        except CrossdockError as error:
            self.close()
            raise SourceUnavailable(
                f"rows of {self._settings.table} arrived, but are not yet {self._deed.word}: {error.message}",
                hint=_grant(self._deed) if "ermission" in error.message or "denied" in error.message else error.hint,
            ) from error

    def check(self) -> Iterator[Finding]:
        """Proves the right to delete or mark, on no row at all and in a transaction that is undone."""
        try:
            with closing(self._connect()) as database, database.transaction():
                taking = self._prepare(database, None)
                sql, values = self._select(database, taking, [])
                database.rows(sql, values)
                database.execute(*self._change(database, taking, []))
                database.rollback()
        except CrossdockError as error:
            hint = error.hint if isinstance(error, ConfigError) else ""  # then it is not about rights
            yield Finding("right to release", ok=False, detail=error.message, hint=hint or _grant(self._deed))
        else:
            yield Finding("right to release", ok=True, detail=f"rows can be {self._deed.word} once they arrived")

    def rest(self) -> None:
        """Give an idle connection back."""
        if self._database is not None and self._context.monotonic() - self._used > IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = self._taking = None

    def _connect(self) -> Writable:
        settings = self._settings
        return connect_writable(
            settings.connection, settings.table, settings.statement_timeout_seconds,
            self._context.secret, self._context.wall_us,
        )  # fmt: skip

    def _release(self, due: Token) -> None:
        if self._database is not None and not self._database.is_current():
            self.close()
        if self._database is None:
            self._database = self._connect()
        taking = self._as_read(self._database, due)
        if taking is None:
            return
        keys, hashes = due.all_keys(), due.all_hashes()
        step = max(1, CHUNK_VALUES // len(taking.cursor))
        left = 0
        for start in range(0, len(keys), step):
            if self._context.stop.is_set():
                raise SourceUnavailable("the agent stops")
            end = start + step
            left += self._chunk(self._database, taking, keys[start:end], hashes[start:end])
        if left:
            self._context.counters.add("rows_changed_in_flight", left)
            self._log.warning("{} rows changed after they were read; they are read anew", left)

    def _as_read(self, database: Writable, due: Token) -> Taking | None:
        """The table as *due* was read from it; None when a column is gone, and so no row can be what it was."""
        if self._taking is None or (due.columns and list(self._taking.names) != due.columns):
            try:
                self._taking = self._prepare(database, due.columns or None)
            except ConfigError as error:
                self._log.warning("rows read before a column was dropped are read anew: {}", error.message)
                return None
        return self._taking

    def _chunk(self, database: Writable, taking: Taking, keys: list[Key], hashes: Sequence[int]) -> int:
        """How many of the rows are there, but are not what was read."""
        with database.transaction():
            if not hashes:
                database.execute(*self._change(database, taking, keys, self._deed.exempt))
                return 0
            expected = {_encode(list(key)): value for key, value in zip(keys, hashes, strict=True)}
            rows = database.rows(*self._select(database, taking, keys))
            shape = taking.reading.shape
            found = [[row[i] for i in shape.position] for row in rows]
            packed = shape.pack(rows)
            same = [
                key for key, data in zip(found, packed, strict=True) if expected.get(_encode(key)) == row_hash(data)
            ]
            if same:
                database.execute(*self._change(database, taking, same))
        return len(rows) - len(same)

    # --- statements

    def _select(self, database: Writable, taking: Taking, keys: Sequence[Key]) -> tuple[str, list[object]]:
        rules = RULES[database.dialect.name]
        condition, values = _among(database, taking.cursor, keys, "s.")
        return (
            f"SELECT {', '.join(taking.reading.statements.select)}\nFROM {_table(database, taking)} s{rules.hint}\n"
            f"WHERE {condition}{rules.suffix}",
            values,
        )

    def _change(
        self, database: Writable, taking: Taking, keys: Sequence[Key], also: str = ""
    ) -> tuple[str, list[object]]:
        condition, values = _among(database, taking.cursor, keys, "")
        if also:
            condition = f"({condition}) AND {also}"
        table, mark = _table(database, taking), self._deed.mark
        if mark is None:
            return f"DELETE FROM {table}\nWHERE {condition}", values
        found = taking.reading.table.find(mark.column)
        if found is None:
            raise ConfigError(f"table {self._settings.table} has no column {mark.column}", hint="correct 'mark.column'")
        column = resolve(database.dialect, found, mark.column)
        name = database.dialect.quoted(found.name)
        if mark.value == "now":
            value, bound = RULES[database.dialect.name].now, []
        else:
            value, bound = column.rule.bind.format(t=column.declared), [mark.value]
        return (
            f"UPDATE {table} SET {name} = {value}\nWHERE ({condition}) AND {unread(mark, name)}",
            [*bound, *values],
        )


def unread(mark: Mark, quoted: str) -> str:
    """The condition of rows without *mark*, whose column is *quoted*. The settings allow no quote in its value."""
    return f"{quoted} IS NULL" if mark.value == "now" else f"({quoted} IS NULL OR {quoted} <> '{mark.value}')"


def _table(database: Database, taking: Taking) -> str:
    table = taking.reading.table
    return ".".join(database.dialect.quoted(name) for name in (table.schema, table.name) if name)


def _among(
    database: Database, cursor: Sequence[TableColumn], keys: Sequence[Key], prefix: str
) -> tuple[str, list[object]]:
    """Rows with one of *keys*; no row for none. Text is found by the index first, and then compared to the letter: most
    databases take some texts for equal that are not."""
    if not keys:
        return "1 = 0", []
    exact = RULES[database.dialect.name].exact
    names = [prefix + column.quoted.removeprefix("s.") for column in cursor]
    binds = [column.rule.bind.format(t=column.declared) for column in cursor]
    if len(cursor) == 1:
        values = [bindable(key[0]) for key in keys]
        listed = f"{names[0]} IN ({', '.join([binds[0]] * len(keys))})"
        if exact == "{c}" or cursor[0].kind != "text":
            return listed, values
        same = ", ".join([exact.format(c=binds[0])] * len(keys))
        return f"{listed} AND {exact.format(c=names[0])} IN ({same})", values * 2
    terms, values = [], []
    for key in keys:
        equal = []
        for column, name, bind, value in zip(cursor, names, binds, key, strict=True):
            if value is None:
                equal.append(f"{name} IS NULL")
                continue
            equal.append(f"{name} = {bind}")
            values.append(bindable(value))
            if column.kind == "text" and exact != "{c}":
                equal.append(f"{exact.format(c=name)} = {exact.format(c=bind)}")
                values.append(value)
        terms.append(f"({' AND '.join(equal)})")
    return " OR ".join(terms), values


def _grant(deed: Deed) -> str:
    right = f"UPDATE ({deed.mark.column})" if deed.mark is not None else "DELETE"
    return f"grant {right} on the table to the login; a SQLite file and its folder must be writable"
