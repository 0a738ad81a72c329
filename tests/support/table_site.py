"""A `SourceSite` around one table: passes give rows, and databases are asked the same way whatever they are."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_agent.sources.base import Draft
from support.mariadb import Mariadb
from support.postgres import Postgres
from support.source_site import SourceSite

CHUNK_ROWS = 250


def rows_of(draft: Draft) -> list[list[Any]]:
    return values_of(draft.header, draft.payload)


def values_of(header: BatchHeader, payload: bytes) -> list[list[Any]]:
    """The rows of a batch: put under one array head, the concatenated arrays are one msgpack value."""
    rows: list[list[Any]] = msgspec.msgpack.decode(b"\xdd" + header.records.to_bytes(4, "big") + payload)
    return rows


def decoded(header: BatchHeader, payload: bytes) -> list[dict[str, Any]]:
    """The rows of a batch by column name."""
    names = [column.name for column in header.columns]
    return [dict(zip(names, values, strict=True)) for values in values_of(header, payload)]


class TableSite(SourceSite):
    """`poll` is one pass, and `crash_after` a process killed when so many of its batches were committed."""

    def __init__(self, kind: str = "sql_table", **settings: Any) -> None:
        super().__init__(kind, settings, name="erp")
        self.committed: list[Draft] = []

    def poll(self, *, advance: float = 0.0, crash_after: int | None = None) -> list[list[Any]]:
        drafts = self.drafts(after=crash_after, advance=advance)
        if crash_after is not None:
            self.restart()
        self.committed += drafts
        return [row for draft in drafts for row in rows_of(draft)]

    def cycle(self, *, passes: int = 150, advance: float = 1.0) -> list[list[Any]]:
        """So many passes that the whole look-back window was read, and again when all in it had settled."""
        return [row for _ in range(passes) for row in self.poll(advance=advance)]


class Sqlite:
    """A SQLite file in WAL mode, and a test's own way to it beside the source: autocommit, `?` for values."""

    timestamp = "TEXT"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = {"sqlite": str(path)}
        self._writer = sqlite3.connect(path, isolation_level=None)
        self._writer.execute("PRAGMA journal_mode = WAL").fetchall()

    def execute(self, sql: str, values: Sequence[object] = ()) -> None:
        self._writer.execute(sql, values).fetchall()

    def scalar(self, sql: str) -> object:
        return self._writer.execute(sql).fetchone()[0]

    def executemany(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        self._writer.execute("BEGIN")
        self._writer.executemany(sql, rows)
        self._writer.execute("COMMIT")

    def now(self, site: SourceSite) -> str:
        """SQL for what this database takes for the present: here the agent's clock, moved by the test."""
        return f"strftime('%Y-%m-%d %H:%M:%f', 1717243200.0 + {site.seconds}, 'unixepoch')"

    def close(self) -> None:
        self._writer.close()


class Server:
    """The same for a database of a real server."""

    def __init__(self, server: Postgres | Mariadb) -> None:
        self.connection = {"odbc": server.odbc(), "dialect": server.dialect}
        self.dialect, self.timestamp, self._now = server.dialect, server.timestamp, server.now
        self._writer = server.connect()

    def execute(self, sql: str, values: Sequence[object] = ()) -> None:
        self._writer.execute(sql, *values)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self._writer.execute(sql).fetchall()]

    def scalar(self, sql: str) -> object:
        return self.rows(sql)[0][0]

    def executemany(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """In one transaction; many rows a statement, which is ten times as fast as one."""
        head, values = sql.rsplit("VALUES", 1)
        self._writer.autocommit = False
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            self._writer.execute(f"{head}VALUES {','.join([values] * len(chunk))}", [v for row in chunk for v in row])
        self._writer.commit()
        self._writer.autocommit = True

    def now(self, site: SourceSite) -> str:
        return self._now

    def close(self) -> None:
        self._writer.close()


@contextlib.contextmanager
def site_of(database: Sqlite | Server, **settings: Any) -> Iterator[TableSite]:
    site = TableSite(connection=database.connection, **settings)
    try:
        yield site
    finally:
        site.source.close()
