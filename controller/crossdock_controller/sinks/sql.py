"""Sink "sql": documents as rows, upserted by key. One run is one transaction; its commit is the sink's verdict.

A resent document writes the same rows again. When the data of some documents is refused, the run is halved with
savepoints until exactly those are found (LESSONS 23): they are rejected with the constraint's text, the rest commits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from crossdock.errors import Rejected
from crossdock_controller.sinks.base import DONE, Outgoing, Sink, SinkContext, SinkSettings, Verdict, register
from crossdock_controller.sinks.sql_databases import Database, RowFault, connect, create_statements
from crossdock_controller.sinks.sql_rows import Entry, Procedure, Table, last_of_each_key
from crossdock_controller.sinks.sql_statements import ProcedureMapping, TableMapping

RUN_SIZE = 2_000  # one fsync a run: large enough that it does not show, small enough that a run takes milliseconds

_HELD = Verdict("retry", "held", "an earlier version of this document is not done")


class SqlSettings(SinkSettings):
    """`url` is sqlite:///relative/or/absolute.db or postgresql://user@host:port/database, without a password; or `odbc`
    is a connection string, without one too, and `dialect` says what is behind it."""

    url: str = ""
    odbc: str = ""
    dialect: Literal["postgresql", "mariadb", "sqlserver"] | None = None
    password: str | None = None  # a reference: secret:NAME
    tables: dict[str, TableMapping] = {}  # noqa: RUF012 - pydantic copies it; by document type
    procedures: dict[str, ProcedureMapping] = {}  # noqa: RUF012 - by document type, instead of a table
    create_tables: bool = False  # simple text columns, for a demo; a real database comes with its own tables
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)  # for one statement, and for a lock of another writer

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if not value:
            return value
        scheme, separator, rest = value.partition("://")
        if scheme == "sqlite" and separator and rest.startswith("/") and len(rest) > 1:
            return value
        if scheme in ("postgresql", "postgres") and rest:
            if ":" in rest.partition("/")[0].rpartition("@")[0] or "password=" in rest:
                raise ValueError("'url' holds a password; write 'password: secret:NAME' instead")
            return value
        raise ValueError("'url' must be sqlite:///path/to/file.db or postgresql://user@host:port/database")

    @field_validator("password")
    @classmethod
    def _password(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("secret:"):
            raise ValueError("'password' must be a reference such as secret:finance-db")
        return value

    @field_validator("odbc")
    @classmethod
    def _odbc(cls, value: str) -> str:
        if re.search(r"(?i)(^|;)\s*(pwd|password)\s*=", value):
            raise ValueError("'odbc' holds a password; write 'password: secret:NAME' instead")
        if not value.isprintable() or "\0" in value:
            raise ValueError("'odbc' must be one line")
        return value

    @model_validator(mode="after")
    def _one_database(self) -> SqlSettings:
        if bool(self.url) == bool(self.odbc):
            raise ValueError("write 'url' (SQLite, PostgreSQL) or 'odbc' (anything else), one of the two")
        if bool(self.odbc) != (self.dialect is not None):
            raise ValueError("'odbc' needs 'dialect', and 'dialect' needs 'odbc'")
        if not self.tables and not self.procedures:
            raise ValueError("write 'tables' or 'procedures': without them every document would be rejected")
        if both := sorted(set(self.tables) & set(self.procedures)):
            raise ValueError(f"document {both[0]!r} is in 'tables' and in 'procedures'")
        if self.procedures and self.url.startswith("sqlite"):
            raise ValueError("SQLite has no procedures")
        if self.odbc and self.create_tables:
            raise ValueError("'create_tables' is for SQLite and PostgreSQL by 'url'")
        return self


class SqlSink:
    def __init__(self, settings: SqlSettings, context: SinkContext) -> None:
        self._name = context.name
        self._mappings = settings.tables
        self._create = settings.create_tables
        password = context.secret(settings.password) if settings.password is not None else None
        base = Path(context.base_directory)
        self._database = _database(settings, context.name, password, base)
        style = self._database.style
        self._tables: dict[str, Table | Procedure] = {d: Table(m, style) for d, m in settings.tables.items()}
        self._tables |= {d: Procedure(m, style) for d, m in settings.procedures.items()}
        self._ready = False

    def write(self, run: Sequence[Outgoing]) -> Sequence[Verdict]:
        verdicts = [DONE] * len(run)
        blocked: set[tuple[str, str]] = set()
        entries = self._entries(run, verdicts, blocked)
        if entries:
            try:
                self._open()
                self._store(entries, verdicts, blocked)
            except BaseException:
                self.close()  # whatever is half done dies with the connection
                raise
        return verdicts

    def check(self) -> str:
        try:
            self._open()
            probe = replace(self._database.style, placeholder="NULL")
            for mapping in self._mappings.values():
                table = Table(mapping, probe)
                for statement in (table.upsert, *(s for child in table.children for s in (child.delete, child.insert))):
                    self._database.probe(statement)
                self._database.examine(mapping)
            names = sorted({name for mapping in self._mappings.values() for name in mapping.table_names()})
            return f"{self._database.version()}, found {', '.join(names)}" if names else self._database.version()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._ready = False
        self._database.close()

    def _open(self) -> None:
        if self._ready:
            return
        self._database.open()
        if self._create:
            for mapping in self._mappings.values():
                for statement in create_statements(mapping, self._database.style):
                    self._database.command(statement)
        self._ready = True

    def _entries(self, run: Sequence[Outgoing], verdicts: list[Verdict], blocked: set[tuple[str, str]]) -> list[Entry]:
        """Rows of every delivery that can become rows; the others get their verdict and block their key."""
        entries = []
        for position, delivery in enumerate(run):
            if blocked and (delivery.document, delivery.key) in blocked:
                verdicts[position] = _HELD
                continue
            try:
                entries.append(self._table(delivery.document).entry(position, delivery))
            except Rejected as error:
                verdicts[position] = Verdict("rejected", error.code, str(error))
                blocked.add((delivery.document, delivery.key))
        return entries

    def _table(self, document: str) -> Table | Procedure:
        table = self._tables.get(document)
        if table is None:
            raise Rejected(
                "no_table",
                f"sink {self._name} has no table for document {document}",
                hint="add it under 'tables' or 'procedures', or keep the document away by a route",
            )
        return table

    def _store(self, entries: list[Entry], verdicts: list[Verdict], blocked: set[tuple[str, str]]) -> None:
        if self._in_transaction(lambda: self._put(entries)) is None:
            return
        found: dict[int, Verdict] = {}
        halve = lambda: found.update(_halve(entries, blocked, self._in_savepoint))  # noqa: E731 - run inside a transaction
        if self._in_transaction(halve) is not None:
            # Each was accepted and the commit refused: a deferred constraint, which only a commit of its own shows.
            found = _halve(entries, blocked, lambda part: self._in_transaction(lambda: self._put(part)))
        for position, verdict in found.items():
            verdicts[position] = verdict

    def _put(self, entries: Sequence[Entry]) -> None:
        """Runs the statements in the order of the run; documents of one type that stand together share them."""
        for table, group in groupby(entries, key=attrgetter("table")):
            same = list(group)
            self._database.run(table.upsert, [entry.row for entry in same])
            if not table.children:
                continue
            last = last_of_each_key(same)
            for index, child in enumerate(table.children):
                self._database.run(child.delete, [entry.children[index][0] for entry in last])
                rows = [row for entry in last for row in entry.children[index][1]]
                if rows:
                    self._database.run(child.insert, rows)

    def _in_transaction(self, work: Callable[[], object]) -> RowFault | None:
        """The fault by which it was rolled back, or None once committed."""
        self._database.command(self._database.begin)
        try:
            work()
            self._database.command("COMMIT")
        except RowFault as fault:
            self._database.command("ROLLBACK")
            return fault
        return None

    def _in_savepoint(self, part: Sequence[Entry]) -> RowFault | None:
        make, back, forget = self._database.savepoint
        self._database.command(make)
        fault = None
        try:
            self._put(part)
        except RowFault as error:
            self._database.command(back)
            fault = error
        if forget:
            self._database.command(forget)
        return fault


def _halve(
    entries: Sequence[Entry], blocked: set[tuple[str, str]], attempt: Callable[[Sequence[Entry]], RowFault | None]
) -> dict[int, Verdict]:
    """Attempts ever smaller parts, in order, until each refused document stands alone; verdicts of those not done."""
    found: dict[int, Verdict] = {}
    blocked = set(blocked)
    parts = [list(entries)]
    while parts:
        part = []
        for entry in parts.pop():
            if (entry.delivery.document, entry.delivery.key) in blocked:
                found[entry.position] = _HELD
            else:
                part.append(entry)
        fault = attempt(part) if part else None
        if fault is None:
            continue
        if len(part) == 1:
            found[part[0].position] = Verdict("rejected", fault.code, fault.reason)
            blocked.add((part[0].delivery.document, part[0].delivery.key))
        else:
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]
    return found


def _database(settings: SqlSettings, name: str, password: str | None, base: Path) -> Database:
    if settings.dialect is not None:
        from crossdock_controller.sinks.sql_odbc import OdbcDatabase

        return OdbcDatabase(name, settings.odbc, settings.dialect, password, settings.timeout_seconds)
    return connect(name, settings.url, password, base, settings.timeout_seconds, create=settings.create_tables)


def _create(settings: SqlSettings, context: SinkContext) -> Sink:
    return SqlSink(settings, context)


register("sql", SqlSettings, _create, run_size=RUN_SIZE)
