"""The second, writable connection: opened for a release or an installation only, giving way to everyone else.

The session that reads stays read-only. Here a statement waits `LOCK_SECONDS` for a lock and then gives up, to be tried
again later: an application never queues behind us for longer.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

from crossdock.errors import SourceUnavailable
from crossdock_agent.sql.connections import Database, OdbcDatabase, SqliteDatabase, require_encoding, with_secrets
from crossdock_agent.sql.dialects import DIALECTS
from crossdock_agent.sql.settings import Connection

LOCK_SECONDS = 1


@dataclass(frozen=True, slots=True)
class WriteRules:
    """How a dialect locks the rows it is about to delete, so that none changes between the look and the deed.

    *options* stand in place of those of the connection that reads, *session* undoes the reading session's restrictions,
    *begin* is the first statement of a transaction, *hint* stands behind the table's name and *suffix* behind the
    SELECT. *now* is the time in UTC, *exact* a text in a form in which only the same letters are equal. Those of SQL
    Server, Oracle, Db2 and Firebird have met no server.
    """

    options: str | None = None  # None: as when reading
    session: tuple[str, ...] = ()
    begin: tuple[str, ...] = ()
    hint: str = ""
    suffix: str = ""
    now: str = "CURRENT_TIMESTAMP"
    exact: str = "{c}"


_MARIADB = WriteRules(
    session=(
        "SET SESSION TRANSACTION READ WRITE",
        f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}",
        f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}",
    ),
    suffix=" FOR UPDATE",
    now="CURRENT_TIMESTAMP(6)",
    exact="CAST(CONVERT({c} USING utf8mb4) AS BINARY)",
)

RULES: Mapping[str, WriteRules] = MappingProxyType(
    {
        "sqlite": WriteRules(now="strftime('%Y-%m-%d %H:%M:%f', 'now')", exact="{c} COLLATE BINARY"),
        # not FOR UPDATE, which would need the right to update: a row that changed meanwhile fails the DELETE (40001)
        "postgresql": WriteRules(
            session=("SET default_transaction_read_only = off", f"SET lock_timeout = {LOCK_SECONDS * 1000}"),
            begin=("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",),
        ),
        "mariadb": _MARIADB,
        "mysql": _MARIADB,
        "sqlserver": WriteRules(
            session=(f"SET LOCK_TIMEOUT {LOCK_SECONDS * 1000}",), hint=" WITH (UPDLOCK, ROWLOCK)",
            now="SYSUTCDATETIME()", exact="{c} COLLATE Latin1_General_BIN2",
        ),
        "db2": WriteRules(suffix="\nWITH RS USE AND KEEP UPDATE LOCKS", now="CURRENT TIMESTAMP - CURRENT TIMEZONE"),
        "firebird": WriteRules(
            options="NOWAIT=Y", suffix=" WITH LOCK", now="CAST(CURRENT_TIMESTAMP AT TIME ZONE 'UTC' AS TIMESTAMP)",
        ),
        "oracle": WriteRules(suffix=f" FOR UPDATE WAIT {LOCK_SECONDS}", now="SYS_EXTRACT_UTC(SYSTIMESTAMP)"),
    }
)  # fmt: skip


class Writable(Database, Protocol):
    def execute(self, sql: str, values: Sequence[object] = ()) -> None:
        """A statement without rows. Errors as of `rows`."""

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """All inside is committed at its end, or none of it."""

    def rollback(self) -> None:
        """Undo what the open transaction did; it may go on."""


class WritableSqlite(SqliteDatabase):
    mode = "rw"

    def execute(self, sql: str, values: Sequence[object] = ()) -> None:
        self.rows(sql, values)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            if self._connection.in_transaction:
                self.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # some errors have rolled back already
                self._connection.rollback()
            raise

    def rollback(self) -> None:
        self._connection.rollback()


class WritableOdbc(OdbcDatabase):
    """A driver that never returns holds up its own thread here as well: it is then not asked for anything more."""

    def execute(self, sql: str, values: Sequence[object] = ()) -> None:
        with self._faults():
            self._call(lambda: self._execute(sql, values), self._timeout)

    def _execute(self, sql: str, values: Sequence[object]) -> None:
        cursor = self._connection.cursor()
        try:
            self._run(cursor, sql, values)
        finally:
            cursor.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._faults():
            self._call(lambda: self._commit_each(now=False), self._timeout)
        try:
            for statement in RULES[self.dialect.name].begin:
                self.execute(statement)
            yield
            with self._faults():
                self._call(self._connection.commit, self._timeout)
        except BaseException:
            self._leave(self._connection.rollback)
            raise
        finally:
            self._leave(lambda: self._commit_each(now=True))

    def rollback(self) -> None:
        with self._faults():
            self._call(self._connection.rollback, self._timeout)

    def _commit_each(self, *, now: bool) -> None:
        self._connection.autocommit = now

    def _leave(self, step: Callable[[], None]) -> None:
        """The connection may be gone, and its transaction with it."""
        if not self._thread.is_lost:
            with contextlib.suppress(self._error, SourceUnavailable):
                self._call(step, self._timeout)


def connect_writable(
    to: Connection, table: str, timeout_seconds: float, secret: Callable[[str], str], wall_us: Callable[[], int]
) -> Writable:
    """Raises as `reading.connect` does."""
    if to.sqlite is not None:
        return WritableSqlite(to.sqlite, table, timeout_seconds, require_encoding(to.encoding), wall_us)
    dialect = DIALECTS[to.dialect or ""]
    rules = RULES[dialect.name]
    if rules.options is not None:
        dialect = replace(dialect, options=rules.options)
    database = WritableOdbc(dialect, with_secrets(to.odbc or "", secret), table, timeout_seconds)
    try:
        for statement in rules.session:
            database.execute(statement)
    except BaseException:
        database.close()
        raise
    return database
