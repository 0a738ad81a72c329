"""Writer "sql": a document becomes a row of a table, and its lines rows of another; or the call of a procedure.

Each is one transaction with its receipt in the same database (see `receipts`), and only the columns that the settings
name are written. What a row was before is kept there for an undo. A row that somebody changed since this writer wrote
it is not overwritten unless the settings say so. After writing it is read back: what the database made of it is what
the next look compares with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from crossdock.errors import ConfigError, Corrupt, CrossdockError, Rejected, Retryable
from crossdock_agent.sources.base import Finding
from crossdock_agent.sql.settings import Connection
from crossdock_agent.sql.writing import Writable, connect_writable
from crossdock_agent.writers import columns as documents
from crossdock_agent.writers.base import (
    Job,
    Verdict,
    Writer,
    WriterContext,
    WriterUnavailable,
    conflict,
    register,
    rejected,
)
from crossdock_agent.writers.receipts import NAME, Image, Kept, Receipts, same, target_of
from crossdock_agent.writers.refusals import refusal_of
from crossdock_agent.writers.tables import Target

_NOTE = b"sql"
_CALLS = ("postgresql", "mariadb", "mysql", "db2")  # others by ODBC's escape, which psqlodbc makes a SELECT of
_ONLY_NAMES = re.compile(r"[A-Za-z_][A-Za-z0-9_$#]*(\.[A-Za-z_][A-Za-z0-9_$#]*){0,2}")
_Name = Annotated[str, msgspec.Meta(pattern=rf"^{_ONLY_NAMES.pattern}$")]
_Columns = Annotated[dict[str, str], msgspec.Meta(min_length=1)]
_Constants = dict[str, str | int | float | bool | None]


class LinesSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lines of a document: all rows of *table* whose *parent* columns (column to place in the document) fit are
    replaced by one row for each element of *each*; `^.number` is of the header."""

    table: _Name
    parent: _Columns
    columns: _Columns
    each: str = "lines"


class ProcedureSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """*name* is called with the document's values at these places, in order; `$json` is the whole document."""

    name: _Name
    arguments: list[str] = []


class SqlWriterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either *table* with *key* and *columns* (column to place in the document), or *procedure*. *set* are columns with
    a fixed value, such as a mark of origin. *on_change*: what becomes of a row that was changed since it was written
    here; *on_existing*: of one that was there before."""

    connection: Connection
    table: _Name | None = None
    key: list[str] = []
    columns: dict[str, str] = {}
    set: _Constants = {}
    lines: LinesSettings | None = None
    procedure: ProcedureSettings | None = None
    on_change: Literal["conflict", "overwrite"] = "conflict"
    on_existing: Literal["update", "conflict"] = "update"
    receipts: _Name = NAME
    statement_timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0

    def __post_init__(self) -> None:
        if (self.table is None) == (self.procedure is None):
            raise ValueError("a writer needs either 'table' or 'procedure'")
        if self.table is not None and (not self.key or not set_of(self.key) <= self.columns.keys()):
            raise ValueError("'table' needs 'key', whose columns are all in 'columns'")
        if self.procedure is not None and (self.columns or self.set or self.lines is not None):
            raise ValueError("'columns', 'set' and 'lines' are for 'table'")
        if self.procedure is not None and self.connection.sqlite is not None:
            raise ValueError("SQLite has no procedures")
        if self.columns.keys() & self.set.keys():
            raise ValueError("a column is in 'columns' or in 'set', not in both")


def set_of(names: Sequence[str]) -> frozenset[str]:
    return frozenset(names)


class SqlWriter:
    def __init__(self, settings: SqlWriterSettings, context: WriterContext) -> None:
        self._settings, self._context = settings, context
        self._db: Writable | None = None
        self._target: Target | None = None

    def prepare(self, jobs: Sequence[Job]) -> list[bytes | Verdict]:
        """Nothing to prepare: the receipt decides after a crash."""
        if self._settings.procedure is not None:
            reason = f"what {self._settings.procedure.name} did cannot be taken back from here"
            return [rejected("no_undo", reason) if job.undo is not None else _NOTE for job in jobs]
        return [_NOTE] * len(jobs)

    def apply(self, jobs: Sequence[Job]) -> list[Verdict]:
        """All in one transaction; when the database refuses one of them, each in its own."""
        try:
            return self._transaction(jobs)
        except Rejected as error:
            if len(jobs) == 1:
                return [rejected(error.code, str(error))]
            return [verdict for job in jobs for verdict in self.apply([job])]

    def _transaction(self, jobs: Sequence[Job]) -> list[Verdict]:
        try:
            db = self._opened()
            with db.transaction():
                return [self._one(db, job) for job in jobs]
        except Rejected:
            self.close()
            raise
        except CrossdockError as error:
            self.close()
            refusal = refusal_of(error)
            if refusal is not None:
                raise refusal from error
            raise self._unavailable(error) from error

    def _one(self, db: Writable, job: Job) -> Verdict:
        receipts = Receipts(db, self._settings.receipts, self._context.name)
        known = receipts.get(job.id.hex())
        if known is not None and known.state != "undone":
            return Verdict("applied", place="applied before, by its receipt", note=_NOTE)
        if job.undo is not None:
            return self._undo(receipts, job)
        document = documents.decoded(job.payload)
        if self._settings.procedure is not None:
            return self._call(db, receipts, job, document)
        return self._upsert(receipts, job, document)

    def _upsert(self, receipts: Receipts, job: Job, document: dict[str, object]) -> Verdict:
        target, settings = self._its_target(), self._settings
        new, lines = target.rows_of(document)
        key = target_of(job.document, job.key)
        last, now = receipts.latest(key), target.read(new)
        if last is not None and last.version > job.version:
            return Verdict("applied", place="a later version of it is there", note=_NOTE)
        if last is None and now.row is not None and settings.on_existing == "conflict":
            return conflict(f"{target.said(new)} is there already, and was not written here")
        if last is not None and settings.on_change == "conflict" and not _stands(last, now):
            return conflict(f"{target.said(new)} was changed since it was written here")
        target.write(new, lines, exists=now.row is not None)
        written = target.read(new)
        kept = Kept(job.id.hex(), key, job.version, "applied", True, now, written)
        receipts.add(kept, job.document, job.key, self._now())
        counted = f", {len(lines)} of {settings.lines.table}" if settings.lines is not None else ""
        return Verdict("applied", place=f"1 row of {settings.table}{counted}", note=_NOTE)

    def _undo(self, receipts: Receipts, job: Job) -> Verdict:
        of = receipts.get((job.undoes or b"").hex())
        if of is None or of.state != "applied":
            return rejected("no_undo", "it has no receipt in the database, or was taken back before")
        if not of.latest:
            return conflict("a later version of it was written since")
        target = self._its_target()
        shown = of.written.row or {}
        now = target.read(shown)
        if not _stands(of, now):
            return conflict(f"{target.said(shown)} was changed since it was written here")
        target.restore(shown, of.before)
        receipts.undone(of)
        kept = Kept(job.id.hex(), of.target, job.version, "undo", False, now, of.before)
        receipts.add(kept, job.document, job.key, self._now())
        what = "removed" if of.before.row is None else "as it was before"
        return Verdict("applied", place=f"{target.said(shown)} {what}", note=_NOTE)

    def _call(self, db: Writable, receipts: Receipts, job: Job, document: dict[str, object]) -> Verdict:
        procedure = self._settings.procedure
        assert procedure is not None  # noqa: S101 - the caller looked
        whole = job.payload.decode("utf-8", "replace")
        places = {f"{i}": place for i, place in enumerate(procedure.arguments) if place != "$json"}
        found = dict(zip(places, documents.values(document, places), strict=True))
        values = [found.get(str(i), whole) for i in range(len(procedure.arguments))]
        call = f"CALL {procedure.name}({', '.join('?' * len(values))})"
        db.execute(call if db.dialect.name in _CALLS else f"{{{call}}}", values)
        nothing = Image(None)
        key = target_of(job.document, job.key)
        kept = Kept(job.id.hex(), key, job.version, "applied", True, nothing, nothing)
        receipts.add(kept, job.document, job.key, self._now())
        return Verdict("applied", place=f"called {procedure.name}", note=_NOTE)

    # --- the rest

    def check(self) -> Iterator[Finding]:
        settings = self._settings
        try:
            db = self._opened()
            for table in filter(None, (settings.table, settings.lines.table if settings.lines else None)):
                yield Finding("table", ok=db.catalog(table) is not None, detail=table, hint="does it exist?")
            there = db.catalog(settings.receipts) is not None
            hint = f"look at the SQL with 'crossdock-agent receipts {self._context.name}', then --install"
            yield Finding("receipts", ok=there, detail=settings.receipts, hint="" if there else hint)
            self._its_target()
        except CrossdockError as error:
            yield Finding("database", ok=False, detail=error.message, hint=error.hint)

    def connect(self) -> Writable:
        """A connection of one's own. Raises CrossdockError."""
        settings = self._settings
        return connect_writable(
            settings.connection, settings.table or settings.receipts, settings.statement_timeout_seconds,
            self._context.secret, self._context.wall_us,
        )  # fmt: skip

    @property
    def settings(self) -> SqlWriterSettings:
        return self._settings

    def close(self) -> None:
        db, self._db, self._target = self._db, None, None
        if db is not None:
            with closing(db):
                pass

    def _opened(self) -> Writable:
        if self._db is None:
            self._db = self.connect()
        return self._db

    def _its_target(self) -> Target:
        if self._target is None:
            settings = self._settings
            assert settings.table is not None  # noqa: S101 - a procedure has no target
            lines = settings.lines
            self._target = Target(
                self._opened(), settings.table, settings.key, settings.columns, settings.set,
                (lines.table, lines.parent, lines.columns, lines.each) if lines is not None else None,
            )  # fmt: skip
        return self._target

    def _now(self) -> str:
        return datetime.fromtimestamp(self._context.wall_us() / 1e6, UTC).isoformat(timespec="milliseconds")

    def _unavailable(self, error: CrossdockError) -> WriterUnavailable:
        """Also what a person has to mend in the settings or the database: nothing is given up for it."""
        hint = error.hint
        if self._settings.receipts in error.message or isinstance(error, Corrupt | ConfigError):
            hint = f"'crossdock-agent check' at the site; is {self._settings.receipts} installed? {hint}".rstrip()
        after = error.after_seconds if isinstance(error, Retryable) else 10.0
        return WriterUnavailable(f"writer {self._context.name}: {error.message}", hint=hint, after_seconds=after)


def _stands(last: Kept, now: Image) -> bool:
    """Whether what was written is still there as it was."""
    lines, wrote = now.lines, last.written.lines
    return (
        same(last.written.row, now.row)
        and len(lines) == len(wrote)
        and all(same(one, other) for one, other in zip(wrote, lines, strict=True))
    )


def _create(settings: SqlWriterSettings, context: WriterContext) -> Writer:
    return SqlWriter(settings, context)


register("sql", SqlWriterSettings, _create)
