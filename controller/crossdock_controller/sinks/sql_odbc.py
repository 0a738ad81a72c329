"""A database behind ODBC, by its dialect. pyodbc is an extra ("odbc"), imported when first opened.

After an error that is not of the data the connection is thrown away by the sink: drivers do not say when it is broken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from crossdock.errors import ConfigError, SinkUnavailable
from crossdock_controller.sinks.sql_databases import RowFault, mismatch
from crossdock_controller.sinks.sql_dialects import DIALECTS, ROW_CLASSES, Dialect
from crossdock_controller.sinks.sql_quick import Row
from crossdock_controller.sinks.sql_statements import TableMapping

if TYPE_CHECKING:
    import pyodbc

_CONNECT_SECONDS = 10
_PIECE_BYTES = 1 << 28  # in pieces, some drivers make another value of a long text
_NATIVE_CODE = re.compile(r"\((\d+)\) \(SQL\w+\)|\[(\d+)\]\s*$")

_UNIQUE = (
    "SELECT index_name, column_name FROM information_schema.statistics"
    " WHERE table_schema = DATABASE() AND table_name = ? AND non_unique = 0"
)


class OdbcDatabase:
    def __init__(self, name: str, connection: str, dialect: str, password: str | None, timeout_seconds: float) -> None:
        self._name, self._dialect_name = name, dialect
        self._dialect: Dialect = DIALECTS[dialect]
        self.style, self.begin, self.savepoint = self._dialect.style, self._dialect.begin, self._dialect.savepoint
        self._seconds = max(1, math.ceil(timeout_seconds))
        self._password = password
        self._string = ";".join(part for part in (connection.rstrip("; "), self._dialect.connection) if part)
        self._connection: pyodbc.Connection | None = None

    def open(self) -> None:
        if self._connection is not None:
            return
        try:
            import pyodbc
        except ImportError as error:
            raise ConfigError(
                f"sink {self._name}: pyodbc is not installed", hint="pip install 'crossdock[odbc]'"
            ) from error
        login = "" if self._password is None else f";PWD={{{self._password.replace('}', '}}')}}}"
        with self._errors():
            connection = pyodbc.connect(self._string + login, autocommit=True, timeout=_CONNECT_SECONDS)
            self._connection = connection
            connection.maxwrite = _PIECE_BYTES
            for command in self._dialect.session(self._seconds):
                connection.execute(command).close()

    def run(self, statement: str, rows: Sequence[Row]) -> None:
        with self._errors():
            cursor = self._opened().cursor()
            try:
                for row in rows:
                    cursor.execute(statement, row)
                    self._look(cursor)
                    while cursor.nextset():  # a procedure's error may stand behind its first result
                        self._look(cursor)
            finally:
                cursor.close()

    def _look(self, cursor: pyodbc.Cursor) -> None:
        """Raises RowFault for a row that was refused by a message."""
        if self._dialect.messages_refuse and cursor.messages:
            raise RowFault("bad_value", " ".join(str(cursor.messages[0][-1]).split()))

    def command(self, text: str) -> None:
        with self._errors():
            self._opened().execute(text).close()

    def probe(self, statement: str) -> None:
        import pyodbc

        if not self._dialect.explain:
            return
        try:
            self._opened().execute(self._dialect.explain + statement).close()
        except pyodbc.Error as error:
            raise mismatch(self._name, self._said(error)) from error

    def examine(self, mapping: TableMapping) -> None:
        """Reads no row of each table, and looks for a second unique index where an upsert would take it for the key."""
        import pyodbc

        q = self.style.quote
        tables = [(mapping.table, list(mapping.columns))]
        tables += [(child.table, [*child.parent, *child.columns]) for child in mapping.children]
        try:
            for table, columns in tables:
                names = ", ".join(q(column) for column in columns)
                self._opened().execute(f"SELECT {names} FROM {q(table)} WHERE 1 = 0").close()
        except pyodbc.Error as error:
            raise mismatch(self._name, self._said(error)) from error
        if self._dialect.sole_unique:
            self._sole_unique(mapping)

    def version(self) -> str:
        with self._errors():
            row = self._opened().execute(self._dialect.version).fetchone()
        return f"{self._dialect_name} {row[0] if row else 'of unknown version'}"

    def close(self) -> None:
        import pyodbc

        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except pyodbc.Error:
                return  # it was broken already, and is gone either way

    def _sole_unique(self, mapping: TableMapping) -> None:
        indexes: dict[str, set[str]] = {}
        with self._errors():
            table = mapping.table.rpartition(".")[2]
            for index, column in self._opened().execute(_UNIQUE, table).fetchall():
                indexes.setdefault(index, set()).add(column)
        if set(mapping.key) not in indexes.values():
            raise mismatch(self._name, f"table {mapping.table} has no unique index over exactly {mapping.key}")
        for index, columns in indexes.items():
            if columns != set(mapping.key) and columns & set(mapping.columns):
                raise ConfigError(
                    f"sink {self._name}: table {mapping.table} has a second unique index, {index};"
                    " a document that meets it would overwrite another one",
                    hint="make it an ordinary index, or write by a procedure",
                )

    def _opened(self) -> pyodbc.Connection:
        self.open()
        assert self._connection is not None  # noqa: S101 - `open` has set it or raised
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import pyodbc

        try:
            yield
        except pyodbc.Error as error:
            state, text = str(error.args[0]) if error.args else "", self._said(error)
            native = _NATIVE_CODE.search(text)
            code = int(next(filter(None, native.groups()))) if native else 0
            # Some drivers report the loss of a connection with a state of class 08, or none that they know.
            if state.startswith(ROW_CLASSES) or code in self._dialect.row_codes:
                raise RowFault("constraint" if state.startswith(("23", "44")) else "bad_value", text) from error
            hint = "is the server up, the login allowed, and every table and column of the sink's settings there?"
            raise SinkUnavailable(f"sink {self._name}: {text} [{state}]", hint=hint) from error

    def _said(self, error: Exception) -> str:
        text = " ".join(str(error.args[-1] if error.args else error).split())
        return text.replace(self._password, "***") if self._password else text
