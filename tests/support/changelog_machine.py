"""A database of SQLite, PostgreSQL or MariaDB with a table `t` that is to have a change log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock_agent.sources.base import SourceContext
from crossdock_agent.sql import installing
from crossdock_agent.sql.settings import SqlTableSettings
from support.table_site import Sqlite, TableSite

LOG = {"table": "t", "mode": "change_log", "key": ["id"]}


class Machine:
    """A database of any of the three, with a table `t`, and a test's own way to it."""

    def __init__(self, dialect: str, server: Any, directory: Path) -> None:
        self.dialect, self.server = dialect, server
        if server is None:
            self.path = directory / "erp.db"
            self.own: Any = Sqlite(self.path)
            self.connection: dict[str, Any] = self.own.connection
        else:
            self.own = server.connect()
            self.connection = {"odbc": server.odbc(), "dialect": dialect}
        self._open: list[Any] = [self.own]

    def connect(self) -> Any:
        """A second writer, in transactions; on a server only."""
        made = self.server.connect()
        made.autocommit = False
        self._open.append(made)
        return made

    def execute(self, sql: str, *values: object) -> None:
        self.own.execute(sql, list(values)) if self.server is None else self.own.execute(sql, *values)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = self.own._writer.execute(sql) if self.server is None else self.own.execute(sql)
        return [tuple(row) for row in cursor.fetchall()]

    def log_rows(self) -> int:
        return int(self.rows("SELECT COUNT(*) FROM crossdock_log_t")[0][0])

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    def typed(self, **more: Any) -> tuple[SqlTableSettings, SourceContext]:
        site = TableSite(connection=self.connection, **{**LOG, **more})
        return msgspec.convert(site.settings, type=SqlTableSettings), site.source._context  # type: ignore[attr-defined]

    def install(self, **more: Any) -> installing.State:
        settings, context = self.typed(**more)
        with contextlib.closing(installing.connect_installer(settings, context)) as database:
            return installing.install(database, settings)

    def remove(self, *, discard: bool = False) -> int:
        settings, context = self.typed()
        with contextlib.closing(installing.connect_installer(settings, context)) as database:
            return installing.remove(database, settings, discard=discard)

    @contextlib.contextmanager
    def site(self, **more: Any) -> Iterator[TableSite]:
        site = TableSite(connection=self.connection, **{**LOG, **more})
        try:
            yield site
        finally:
            site.source.close()


@contextlib.contextmanager
def machine_of(dialect: str, request: pytest.FixtureRequest, directory: Path) -> Iterator[Machine]:
    """With the table; of a server, a database of its own."""
    fixture = {"postgresql": "postgres", "mariadb": "mariadb"}.get(dialect)
    made = Machine(dialect, request.getfixturevalue(fixture) if fixture else None, directory)
    made.execute("CREATE TABLE t (id integer PRIMARY KEY, x varchar(40), n numeric(12, 3))")
    yield made
    made.close()


def short(rows: list[list[Any]]) -> list[tuple[Any, ...]]:
    """(id, x, op) of each row."""
    return [(row[0], row[1], row[-2]) for row in rows]
