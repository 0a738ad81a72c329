"""One rig for each kind of source: it puts records where they come from, names them, breaks the way there and mends it.

A record's identity is what its event id is made of: unit and ordinal for a file, key for a table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from crossdock_agent.sources.base import Draft

Record = tuple[Hashable, bytes]  # identity, content


class SourceRig(Protocol):
    kind: str
    settings: dict[str, Any]

    def put(self, n: int, *, bytes_each: int = 40) -> None:
        """*n* more records, complete."""

    def put_hostile(self) -> int:
        """Records with all that is awkward in them; how many."""

    def records(self, draft: Draft) -> list[Record]:
        """The records of *draft*, in order."""

    def state(self) -> object:
        """All there is at the source, to see that nothing was touched."""

    def break_off(self) -> None: ...

    def mend(self) -> None: ...


class FileRig:
    """A directory of delimited files."""

    kind = "file_drop"

    def __init__(self, base: Path, afterwards: str = "leave", **format_: Any) -> None:
        self.directory = base / "drop"
        self.directory.mkdir(parents=True)
        self._away = base / "away"
        self._files = self._put = 0
        self.settings: dict[str, Any] = {
            "directory": str(self.directory),
            "pattern": "*.dat",
            "settle_seconds": 0,
            "afterwards": afterwards,
            "format": format_ or {"kind": "csv", "delimiter": ";"},
        }

    def put(self, n: int, *, bytes_each: int = 40) -> None:
        rows = range(self._put, self._put + n)
        self._put += n
        if self.settings["format"]["kind"] == "csv":
            body = b"NO;TEXT\n" + b"".join(b"%09d;%s\n" % (i, b"x" * (bytes_each - 11)) for i in rows)
        else:
            body = b"".join(b'{"NO": %09d, "T": "%s"}\n' % (i, b"x" * (bytes_each - 26)) for i in rows)
        self._write(body)

    def put_hostile(self) -> int:
        if self.settings["format"]["kind"] == "csv":
            rows = [
                b'1;"a\nb"',
                b'2;"say ""hi"""',
                b"3;\x00\xff\x1a",
                b'4;5" pipe',
                b"",
                b'6;"";";"',
                b"7;" + b"y" * 300_000,
            ]
            self._write(b"\xef\xbb\xbfNO;TEXT\r\n" + b"\r\n".join(rows))
        else:
            rows = [b'{"NO": 1, "T": "\\u0000\\n"}', b"not json", b"", b"\xff\xfe", b'"', b"z" * 300_000]
            self._write(b"\n".join(rows))
        return len(rows)

    def _write(self, body: bytes) -> None:
        self._files += 1
        (self.directory / f"f{self._files:03d}.dat").write_bytes(body)

    def records(self, draft: Draft) -> list[Record]:
        origin = draft.header.origin
        return [((origin.unit, origin.first_record + i), row) for i, row in enumerate(_split(draft))]

    def state(self) -> object:
        return {path.name: path.read_bytes() for path in sorted(self.directory.iterdir()) if path.is_file()}

    def break_off(self) -> None:
        self.directory.rename(self._away)

    def mend(self) -> None:
        self._away.rename(self.directory)


class TableRig:
    """A SQLite table with a growing key, and a time of change that many rows share."""

    kind = "sql_table"

    def __init__(self, base: Path, mode: str = "incrementing") -> None:
        base.mkdir(parents=True, exist_ok=True)
        self._path = base / "erp.db"
        self._away = base / "away.db"
        self._execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, text, at TEXT DEFAULT '2024-06-01 11:59:59')")
        self._execute("CREATE INDEX orders_at ON orders (at, id)")
        self.settings: dict[str, Any] = {
            "connection": {"sqlite": str(self._path)},
            "table": "orders",
            "mode": mode,
            "column": "id" if mode == "incrementing" else "at",
            "key": ["id"],
        }

    def put(self, n: int, *, bytes_each: int = 40) -> None:
        self._execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?)"
            " INSERT INTO orders (text) SELECT printf('%.*c', ?, 'x') FROM n",
            (n, bytes_each),
        )

    def put_hostile(self) -> int:
        values: list[object] = [None, "", "\x00", "a\nb;\"c'", b"\xff\x00", 1.5, 2**62, "y" * 300_000, "\U0001f4e6"]
        for value in values:
            self._execute("INSERT INTO orders (text) VALUES (?)", (value,))
        return len(values)

    def _execute(self, sql: str, values: tuple[object, ...] = ()) -> None:
        db = sqlite3.connect(self._path)
        try:
            with db:
                db.execute(sql, values)
        finally:
            db.close()

    def records(self, draft: Draft) -> list[Record]:
        count = draft.header.records
        rows: list[list[Any]] = msgspec.msgpack.decode(b"\xdd" + count.to_bytes(4, "big") + draft.payload)
        at = [column.name for column in draft.header.columns].index("id") if rows else 0
        return [(row[at], msgspec.msgpack.encode(row)) for row in rows]

    def state(self) -> object:
        db = sqlite3.connect(self._path)
        try:
            return db.execute("SELECT id, text FROM orders ORDER BY id").fetchall()
        finally:
            db.close()

    def break_off(self) -> None:
        self._path.rename(self._away)

    def mend(self) -> None:
        self._away.rename(self._path)


def _split(draft: Draft) -> list[bytes]:
    """Records of a payload by the plainest means: quotes are counted, so every quote in the rig's rows is paired."""
    rows: list[bytes] = []
    for line in _by_newline(draft.payload):
        if draft.header.format == "csv" and rows and _is_open(rows[-1]):
            rows[-1] += line
        else:
            rows.append(line)
    return rows


def _by_newline(payload: bytes) -> list[bytes]:
    lines = payload.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _is_open(row: bytes) -> bool:
    return b';"' in row and row.count(b'"') % 2 == 1


class SnapshotRig(TableRig):
    """The same table, read by its key and compared with what was read before."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.settings = {
            "connection": self.settings["connection"], "table": "orders", "mode": "snapshot", "key": ["id"],
        }  # fmt: skip


class BesideRig(TableRig):
    """A table read by its time of change, with a reading by key beside it."""

    def __init__(self, base: Path, **settings: Any) -> None:
        super().__init__(base, "timestamp")
        self.settings.update(settings)
