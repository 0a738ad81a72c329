"""One connection to the source's database: read only, short statements, a deadline on each, discarded on any error.

Every statement runs in a transaction of its own (autocommit), so a page is one snapshot and nothing is held between
pages. A connection is used by one thread at a time; only `cancel` may be called from another.
"""

from __future__ import annotations

import codecs
import contextlib
import math
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from crossdock.errors import ConfigError, SourceUnavailable
from crossdock_agent.sql.dialects import SQLITE, Dialect
from crossdock_agent.sql.faults import odbc_fault, sqlite_fault
from crossdock_agent.sql.patience import PatientThread
from crossdock_agent.sql.queries import as_table
from crossdock_agent.sql.statements import CatalogColumn, CatalogTable
from crossdock_agent.sql.times import SECOND_US, parse

Row = Sequence[Any]
T = TypeVar("T")

LOGIN_SECONDS = 10
BUSY_SECONDS = 5.0  # how long we wait for a writer of a SQLite file; a writer waits for one page at most
LOCK_SECONDS = 2.0  # how long a statement waits for a lock of somebody else before it gives way
_BOUND_BYTES = 1 << 28  # a bound value is handed over whole: in pieces, MariaDB's driver makes another of it
GRACE_SECONDS = 5.0  # how much longer than agreed a driver may take before it is left behind
_PROBE = "crossdock_query"
_PROGRESS_STEPS = 20_000  # SQLite instructions between two looks at the deadline: some 100 µs
_SECRET = re.compile(r"\{(secret:[^{}]+)\}")


class Database(Protocol):
    dialect: Dialect

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of *sql*. Raises SourceUnavailable, ConfigError or Corrupt; the connection is then gone."""

    def snapshot(self) -> contextlib.AbstractContextManager[None]:
        """All statements inside see one state of the database; keep it short. Raises as `rows`."""

    def changes(self) -> object:
        """A value that differs once anything was committed; None when this database cannot tell."""

    def catalog(self, table: str) -> CatalogTable | None:
        """The table or view called *table* (optionally `schema.table`), None when there is none."""

    def described(self, query: str, name: str) -> CatalogTable:
        """The result of *query* as a table called *name*, found without running it; a column may always be NULL."""

    def indexed(self, table: CatalogTable) -> set[str]:
        """Lower-case names of the columns that begin an index."""

    def clock(self) -> tuple[int, int]:
        """The database's clock: microseconds since 1970 in UTC, and in the server's own zone."""

    def is_current(self) -> bool:
        """False when the connection no longer shows what its name points to (a file was replaced)."""

    def cancel(self) -> None:
        """Break off a running statement, from any thread."""

    def close(self) -> None: ...


class SqliteDatabase:
    """A SQLite file, opened read-only. Text that is not valid in *encoding* is given as bytes, never guessed."""

    dialect: Dialect = SQLITE
    mode = "ro"

    def __init__(
        self, path: str, subject: str, timeout_seconds: float, encoding: str, wall_us: Callable[[], int]
    ) -> None:
        self._path, self._subject, self._timeout = Path(path), subject, timeout_seconds
        self._encoding, self._wall_us = encoding, wall_us
        self.undecodable = 0  # texts given as bytes, counted each time they are read
        self._deadline = float("inf")
        self._cancelled = False  # for good: the stop may come just before a statement begins
        self._identity = self._identify()
        with self._faults():
            self._connection = sqlite3.connect(
                f"{sqlite_uri(self._path.absolute())}?mode={self.mode}", uri=True, isolation_level=None,
                check_same_thread=False, timeout=min(BUSY_SECONDS, timeout_seconds),
            )  # fmt: skip
        self._connection.set_progress_handler(
            lambda: self._cancelled or time.monotonic() > self._deadline, _PROGRESS_STEPS
        )
        if codecs.lookup(encoding).name != "utf-8":
            self._connection.text_factory = self._lenient
        try:
            self.rows("SELECT COUNT(*) FROM sqlite_master")  # the file is only opened by its first statement
        except BaseException:
            self._connection.close()
            raise

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        self._deadline = time.monotonic() + self._timeout
        with self._faults():
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if not str(error).startswith("Could not decode"):
                    raise
            strict = self._connection.text_factory
            self._connection.text_factory = self._lenient
            try:
                return self._connection.execute(sql, values).fetchall()
            finally:
                self._connection.text_factory = strict

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        for statement in SQLITE.snapshot:
            self.rows(statement)
        yield  # after an error the connection is discarded, and the transaction with it
        self.rows("COMMIT")

    def changes(self) -> object:
        return self.rows(SQLITE.changes)[0][0]

    def catalog(self, table: str) -> CatalogTable | None:
        for name in (table, table.removeprefix("main.")):
            found = self.rows(
                "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
                [name],
            )
            if found:
                break
        else:
            return None
        real, kind = str(found[0][0]), str(found[0][1])
        return CatalogTable("", real, kind == "view", self._columns(real))

    def described(self, query: str, name: str) -> CatalogTable:
        """By a view of it that only this connection sees: SQLite then tells which types its columns declare."""
        self.rows(f"CREATE TEMP VIEW {_PROBE} AS\n{query}")
        try:
            columns = self._columns(_PROBE)
        finally:
            self.rows(f"DROP VIEW temp.{_PROBE}")
        names = {c.name for c in columns}
        shown = [  # of two columns called `id`, the view calls the second one `id:1`
            replace(c, nullable=True, name=stem if (stem := c.name.rpartition(":")[0]) in names else c.name)
            for c in columns
        ]
        return CatalogTable("", name, True, tuple(shown), query)

    def _columns(self, real: str) -> tuple[CatalogColumn, ...]:
        info = self.rows(
            'SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid', [real]
        )
        keys = sum(1 for _, _, _, pk in info if pk)
        return tuple(  # only INTEGER PRIMARY KEY is the rowid; other primary keys may hold NULL in SQLite
            CatalogColumn(
                str(name), str(declared), not notnull and not (pk and keys == 1 and declared.upper() == "INTEGER")
            )
            for name, declared, notnull, pk in info
        )

    def indexed(self, table: CatalogTable) -> set[str]:
        found = self.rows(
            "SELECT i.name FROM pragma_index_list(?) l JOIN pragma_index_info(l.name) i ON i.seqno = 0", [table.name]
        )
        rowid = self.rows(
            "SELECT name FROM pragma_table_xinfo(?) WHERE pk = 1 AND upper(type) = 'INTEGER'", [table.name]
        )
        return {str(name).lower() for (name,) in (*found, *rowid) if name is not None}

    def clock(self) -> tuple[int, int]:
        now = self._wall_us()
        offset = datetime.fromtimestamp(now / SECOND_US).astimezone().utcoffset()
        return now, now + int(offset.total_seconds() if offset else 0) * SECOND_US

    def is_current(self) -> bool:
        return self._identify() == self._identity

    def cancel(self) -> None:
        self._cancelled = True
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()

    def _identify(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise SourceUnavailable(
                f"database {self._path} cannot be opened: {error.strerror or error}",
                hint="check 'sqlite' in 'connection'",
            ) from error
        return status.st_dev, status.st_ino

    def _lenient(self, raw: bytes) -> str | bytes:
        try:
            return raw.decode(self._encoding)
        except UnicodeDecodeError:
            self.undecodable += 1
            return raw

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise sqlite_fault(error, str(self._path), self._subject, self._timeout) from error


class OdbcDatabase:
    """A server behind an ODBC driver."""

    def __init__(
        self,
        dialect: Dialect,
        connection_string: str,
        subject: str,
        timeout_seconds: float,
        isolation: str | None = None,
    ) -> None:
        import pyodbc

        if isolation is not None and isolation not in dialect.isolations:
            known = ", ".join(dialect.isolations) or "none: leave it out"
            raise ConfigError(f"{dialect.name} has no isolation {isolation!r}", hint=f"it has {known}")

        pyodbc.pooling = False  # a pool hands back connections whose server is gone
        self.dialect, self._subject, self._timeout = dialect, subject, timeout_seconds
        self._error: type[Exception] = pyodbc.Error
        self._running: Any = None
        self._cancelling = threading.Lock()  # while a driver breaks a statement off, nothing of it may be freed
        self._thread = PatientThread(subject)
        self._connection: Any = None
        self._cursors: dict[str, Any] = {}
        text = f"{connection_string.rstrip(';')};{dialect.options}"
        try:
            with self._faults():
                self._call(lambda: self._login(text, isolation), LOGIN_SECONDS)
        except BaseException:
            self.close()
            raise

    def _login(self, connection_string: str, isolation: str | None) -> None:
        import pyodbc

        dialect = self.dialect
        self._connection = pyodbc.connect(connection_string, autocommit=True, timeout=LOGIN_SECONDS)
        if dialect.text_as_bytes:
            self._connection.setdecoding(pyodbc.SQL_WCHAR, encoding="utf-8", ctype=pyodbc.SQL_CHAR)
            self._connection.maxwrite = _BOUND_BYTES
        if dialect.driver_timeout:
            self._connection.timeout = math.ceil(self._timeout)
        for statement in dialect.session:
            self._connection.execute(statement.format(**session_limits(self._timeout)))
        if isolation is not None:
            self._connection.execute(dialect.isolations[isolation])

    def _call(self, function: Callable[[], T], seconds: float) -> T:
        return self._thread.call(function, seconds + GRACE_SECONDS)

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        with self._faults():
            return self._call(lambda: self._fetch(sql, values), self._timeout)

    def _fetch(self, sql: str, values: Sequence[object]) -> list[Row]:
        cursor = self._cursors.get(sql)  # a cursor keeps its statement prepared while the text stays the same
        if cursor is None:
            if len(self._cursors) >= 8:
                self._cursors.pop(next(iter(self._cursors))).close()
            cursor = self._cursors[sql] = self._connection.cursor()
        return self._run(cursor, sql, values).fetchall()  # type: ignore[no-any-return]

    def _run(self, cursor: Any, sql: str, values: Sequence[object]) -> Any:
        self._running = cursor
        try:
            return cursor.execute(sql, *values)
        finally:
            with self._cancelling:
                self._running = None

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        self._plainly(*self.dialect.snapshot)
        yield  # after an error the connection is discarded, and the transaction with it
        self._plainly("COMMIT")

    def _plainly(self, *statements: str) -> None:
        """Statements without rows."""
        with self._faults():
            self._call(lambda: [self._connection.execute(sql).close() for sql in statements], self._timeout)

    def _result_of(self, sql: str) -> list[tuple[str, str]]:
        """Names of the columns of *sql*'s result, and of the Python types the driver gives them."""
        cursor = self._connection.cursor()
        self._run(cursor, sql, ())
        told = [(str(column[0]), str(column[1].__name__)) for column in cursor.description]
        cursor.close()
        return told

    def changes(self) -> object:
        return self.rows(self.dialect.changes)[0][0] if self.dialect.changes else None

    def catalog(self, table: str) -> CatalogTable | None:
        found = self.rows(self.dialect.catalog, [table] * self.dialect.catalog.count("?"))
        if not found:
            return None
        names = {(str(r[0]), str(r[1])) for r in found}
        if len(names) > 1:  # they differ in capitals: the one meant is spelled as asked for
            names = {name for name in names if name[1] == table.rpartition(".")[2]}
        if len(names) != 1:
            raise ConfigError(f"{self._subject}: several are called so", hint="write its name with its capitals")
        ((schema, real),) = names
        rows = [r for r in found if (r[0], r[1]) == (schema, real)]
        columns = tuple(CatalogColumn(str(r[3]), str(r[4]), bool(r[5])) for r in rows)
        return CatalogTable(schema, real, bool(rows[0][2]), columns)

    def described(self, query: str, name: str) -> CatalogTable:
        dialect = self.dialect
        if dialect.describe:
            told = [(str(r[0]), str(r[1])) for r in self.rows(dialect.describe, [query])]
        else:
            source = f"{as_table(query)}{dialect.alias}"
            with self._faults():
                found = self._call(lambda: self._result_of(f"SELECT *\nFROM {source}\nWHERE 1 = 0"), self._timeout)
            told = [(column, dialect.described.get(kind, "")) for column, kind in found]
            if dialect.typeof:
                types = [dialect.typeof.format(c=f"s.{dialect.quoted(column)}") for column, _ in told]
                joined = f"FROM (SELECT 1) AS one LEFT JOIN {source} ON false"
                row = self.rows(f"SELECT {', '.join(types)}\n{joined}")[0]
                told = [(column, str(declared)) for (column, _), declared in zip(told, row, strict=True)]
        columns = tuple(CatalogColumn(column, declared, True) for column, declared in told)
        return CatalogTable("", name, True, columns, query)

    def indexed(self, table: CatalogTable) -> set[str]:
        return {str(name).lower() for (name,) in self.rows(self.dialect.indexed, [table.schema, table.name])}

    def clock(self) -> tuple[int, int]:
        moments = [parse(text) for text in self.rows(self.dialect.clock)[0]]
        utc = moments[0]
        if utc is None:
            raise SourceUnavailable(
                "the database does not say what time it is", hint="run 'crossdock-agent check' at the site"
            )
        return utc.us, moments[1].us if moments[1] is not None else utc.us

    def is_current(self) -> bool:
        return True

    def cancel(self) -> None:
        """From a thread of its own: drivers cancel by a second connection, which a frozen server does not answer."""
        cursor = self._running
        if cursor is not None:
            canceller = threading.Thread(target=self._cancel, args=(cursor,), name="sql cancel", daemon=True)
            canceller.start()
            canceller.join(GRACE_SECONDS)

    def _cancel(self, cursor: Any) -> None:
        with self._cancelling, contextlib.suppress(self._error):
            if self._running is cursor:  # else it has ended meanwhile
                cursor.cancel()

    def close(self) -> None:
        if not self._thread.is_lost and self._connection is not None:
            with contextlib.suppress(self._error, SourceUnavailable):  # the server may be gone already
                self._thread.call(self._connection.close, GRACE_SECONDS)
        self._thread.stop()

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise odbc_fault(error, self._subject, self._timeout) from error
        except UnicodeDecodeError as error:
            raise SourceUnavailable(
                f"{self._subject}: the driver handed out a text that cannot be decoded: {error}",
                hint="read that column as binary, by a view or a query",
            ) from error


def session_limits(timeout_seconds: float) -> dict[str, object]:
    """What the statements of a session are filled with."""
    lock = min(timeout_seconds, LOCK_SECONDS)
    return {
        "ms": int(timeout_seconds * 1000), "seconds": math.ceil(timeout_seconds), "limit": f"{timeout_seconds:.3f}",
        "lock_ms": int(lock * 1000), "lock_seconds": math.ceil(lock),
    }  # fmt: skip


def sqlite_uri(path: PurePath) -> str:
    """*path*, absolute, as SQLite takes it: without an authority, so that a Windows share keeps its host."""
    text = path.as_posix()
    return f"file://{'' if text.startswith('/') else '/'}{quote(text, safe='/:')}"


def with_secrets(connection_string: str, secret: Callable[[str], str]) -> str:
    """*connection_string* with each `{secret:NAME}` replaced, quoted where ODBC's grammar needs it."""

    def quoted(match: re.Match[str]) -> str:
        value = secret(match[1])
        if any(c in value for c in ";{}[](),?*=!@ ") or not value:
            return "{" + value.replace("}", "}}") + "}"
        return value

    return _SECRET.sub(quoted, connection_string)


def require_encoding(name: str) -> str:
    """*name* when Python knows it. Raises ConfigError."""
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise ConfigError(f"encoding {name!r} is not known", hint="name one such as utf-8, cp1252 or cp850") from error
    return name
