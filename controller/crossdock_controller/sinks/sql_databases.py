"""What differs between SQLite and PostgreSQL. An error leaves here as one of two: the row is at fault, or no verdict.

`RowFault`: the database looked at the data and said no; the connection is as good as before. `SinkUnavailable`:
anything else (unreachable, locked, full, wrong table); nothing is known about the data, so nothing is rejected for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from crossdock.errors import ConfigError, SinkUnavailable
from crossdock_controller.sinks.sql_quick import Row
from crossdock_controller.sinks.sql_statements import Style, TableMapping
from crossdock_controller.sinks.sql_values import double_quoted, text_of

if TYPE_CHECKING:
    import psycopg

_REASON_CHARACTERS = 500
_LOCK_SECONDS = 5.0  # SQLite waits no longer than this for another writer before the run is put off
_CONNECT_SECONDS = 10
SAVEPOINT = ("SAVEPOINT part", "ROLLBACK TO SAVEPOINT part", "RELEASE SAVEPOINT part")


class RowFault(Exception):  # noqa: N818 - names the verdict, and never leaves the sink
    """The database refused the data itself. *code* is "constraint" or "bad_value"."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason[:_REASON_CHARACTERS]


class Database(Protocol):
    """One connection, opened by `open`, used by one thread at a time. `run` and `command` raise as the module says."""

    style: Style
    begin: str  # the command that starts a transaction meant for writing
    savepoint: tuple[str, str, str]  # make it, go back to it, forget it; the last may be empty

    def open(self) -> None: ...

    def run(self, statement: str, rows: Sequence[Row]) -> None: ...

    def command(self, text: str) -> None: ...

    def probe(self, statement: str) -> None:
        """Have the database compile *statement*, whose parameters are NULL, without running it. Raises ConfigError."""

    def examine(self, mapping: TableMapping) -> None:
        """Whatever of *mapping* compiling its statements does not show. Raises ConfigError."""

    def version(self) -> str: ...

    def close(self) -> None: ...


def connect(name: str, url: str, password: str | None, base: Path, timeout_seconds: float, *, create: bool) -> Database:
    """A database without ODBC, not yet opened, for *url*, which the settings have validated."""
    if url.startswith("sqlite:///"):
        return SqliteDatabase(name, base / url.removeprefix("sqlite:///"), timeout_seconds, create=create)
    return PostgresDatabase(name, url, password, timeout_seconds)


def create_statements(mapping: TableMapping, style: Style) -> Iterator[str]:
    """Tables for a demo or a test: text columns, the key as primary key, an index for the children."""
    q = style.quote
    columns = [f"{q(name)} {_column_type(path)}" for name, path in mapping.columns.items()]
    keys = ", ".join(q(name) for name in mapping.key)
    yield f"CREATE TABLE IF NOT EXISTS {q(mapping.table)} ({', '.join(columns)}, PRIMARY KEY ({keys}))"
    for child in mapping.children:
        paths = {name: mapping.columns[parent] for name, parent in child.parent.items()} | child.columns
        columns = [f"{q(name)} {_column_type(path)}" for name, path in paths.items()]
        yield f"CREATE TABLE IF NOT EXISTS {q(child.table)} ({', '.join(columns)})"
        parent = ", ".join(q(name) for name in child.parent)
        index = q(child.table.rpartition(".")[2] + "_by_parent")
        yield f"CREATE INDEX IF NOT EXISTS {index} ON {q(child.table)} ({parent})"


def _column_type(path: str) -> str:
    return "BIGINT" if path in ("$sequence", "$index") else "TEXT"


def _native(value: object) -> object:
    """SQLite binds numbers and truth itself; lists and objects become JSON text."""
    return msgspec.json.encode(value).decode() if isinstance(value, (list, dict)) else value


class SqliteDatabase:
    style = Style("?", "INTEGER", double_quoted, _native, (str, int, bool))
    begin = "BEGIN IMMEDIATE"
    savepoint = SAVEPOINT

    def __init__(self, name: str, path: Path, timeout_seconds: float, *, create: bool) -> None:
        self._name, self._path, self._create = name, path, create
        self._patience = min(timeout_seconds, _LOCK_SECONDS)
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Raises SinkUnavailable when the file is missing: a misspelt path must not become an empty database."""
        if self._connection is not None:
            return
        new = not self._path.is_file()
        if new and not self._create:
            raise SinkUnavailable(
                f"sink {self._name}: no database file {self._path}", hint="create it, or correct 'url'"
            )
        with self._errors():
            connection = sqlite3.connect(
                self._path, timeout=self._patience, isolation_level=None, check_same_thread=False
            )
            self._connection = connection
            if new:  # an existing file keeps the journal its owner chose
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")

    def run(self, statement: str, rows: Sequence[Row]) -> None:
        with self._errors():
            self._opened().executemany(statement, rows)

    def command(self, text: str) -> None:
        with self._errors():
            self._opened().execute(text)

    def probe(self, statement: str) -> None:
        try:
            self._opened().execute("EXPLAIN " + statement)
        except sqlite3.Error as error:
            raise mismatch(self._name, str(error)) from error

    def examine(self, mapping: TableMapping) -> None:
        """Compiling finds it all."""

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> sqlite3.Connection:
        self.open()
        assert self._connection is not None  # noqa: S101 - `open` has set it or raised
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise RowFault("constraint", str(error)) from error
        except (sqlite3.DataError, OverflowError) as error:  # over the length limit; over 64 bits
            raise RowFault("bad_value", str(error)) from error
        except sqlite3.Error as error:
            hint = f"is {self._path} locked, full, or without the tables that the sink's settings name?"
            raise SinkUnavailable(f"sink {self._name}: {error}", hint=hint) from error


# SQLSTATE classes by which PostgreSQL refuses data: cardinality, data exception, integrity constraint, check option,
# limit exceeded (a key too long for its index), and RAISE in a trigger (PostgreSQL manual, appendix A).
_ROW_CLASSES = ("21", "22", "23", "44", "54", "P0")


class PostgresDatabase:
    """psycopg 3, imported when first opened: it is an extra of its own ("postgresql")."""

    # "%" begins a placeholder in psycopg, in identifiers too.
    style = Style("%s", "bigint", lambda name: double_quoted(name).replace("%", "%%"), text_of, (str,))
    begin = "BEGIN"
    savepoint = SAVEPOINT

    def __init__(self, name: str, url: str, password: str | None, timeout_seconds: float) -> None:
        self._name, self._url, self._password, self._timeout = name, url, password, timeout_seconds
        self._connection: psycopg.Connection | None = None

    def open(self) -> None:
        if self._connection is not None:
            return
        try:
            import psycopg
        except ImportError as error:
            raise ConfigError(
                f"sink {self._name}: psycopg is not installed", hint="pip install 'crossdock[postgresql]'"
            ) from error
        milliseconds = int(self._timeout * 1000)
        with self._errors():
            self._connection = psycopg.connect(
                self._url, password=self._password, autocommit=True, connect_timeout=_CONNECT_SECONDS,
                application_name=f"crossdock {self._name}", client_encoding="utf8", tcp_user_timeout=milliseconds,
            )  # fmt: skip
            self._connection.execute(f"SET statement_timeout = {milliseconds}".encode())

    def run(self, statement: str, rows: Sequence[Row]) -> None:
        with self._errors(), self._opened().cursor() as cursor:
            cursor.executemany(statement.encode(), rows)

    def command(self, text: str) -> None:
        with self._errors():
            self._opened().execute(text.encode(), ())  # with parameters, "%%" is read as "%" here as everywhere else

    def probe(self, statement: str) -> None:
        import psycopg

        try:
            self._opened().execute(b"EXPLAIN " + statement.encode(), ())
        except psycopg.Error as error:
            raise mismatch(self._name, str(error)) from error

    def examine(self, mapping: TableMapping) -> None:
        """Compiling finds it all."""

    def version(self) -> str:
        return f"PostgreSQL {self._opened().info.parameter_status('server_version')}"

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> psycopg.Connection:
        self.open()
        assert self._connection is not None  # noqa: S101 - `open` has set it or raised
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            state = error.sqlstate or ""
            if state.startswith(_ROW_CLASSES) or (isinstance(error, psycopg.DataError) and not state):
                parts = (error.diag.message_primary, error.diag.message_detail)
                code = "constraint" if state.startswith(("23", "44")) else "bad_value"
                raise RowFault(code, ": ".join(p for p in parts if p) or str(error)) from error
            text = error.diag.message_primary or str(error).strip()
            hint = "is the server up, the login allowed, and every table and column of the sink's settings there?"
            raise SinkUnavailable(f"sink {self._name}: {text}{f' [{state}]' if state else ''}", hint=hint) from error


def mismatch(name: str, text: str) -> ConfigError:
    return ConfigError(
        f"sink {name}: {text.strip()}",
        hint="the sink needs these tables and columns, and a unique constraint over exactly the key columns",
    )
