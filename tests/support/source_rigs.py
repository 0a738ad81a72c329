"""One rig for each kind of source: it puts records where they come from, names them, breaks the way there and mends it.

A record's identity is what its event id is made of: unit and ordinal for a file, key for a table.
"""

from __future__ import annotations

import gzip
import io
import sqlite3
import zipfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from crossdock_agent.sources.base import Draft
from crossdock_agent.sql.installing import install
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.writing import WritableSqlite

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


class PackedRig(FileRig):
    """The same, each file packed: `gzip`, or `zip` with its rows in two members."""

    def __init__(self, base: Path, unpack: str, afterwards: str = "leave") -> None:
        super().__init__(base, afterwards)
        self.settings |= {"unpack": unpack}

    def _write(self, body: bytes) -> None:
        if self.settings["unpack"] == "gzip":
            super()._write(gzip.compress(body, 1))
            return
        header, newline, rest = body.partition(b"\n")
        middle = rest.find(b"\n", len(rest) // 2) + 1 if b'"' not in rest else 0
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, part in (("a.csv", rest[:middle]), ("b.csv", rest[middle:])):
                archive.writestr(name, header + newline + part)
        super()._write(packed.getvalue())


class MarkedRig(FileRig):
    """The same, each file with a marker that comes after it."""

    def __init__(self, base: Path, afterwards: str = "move") -> None:
        super().__init__(base, afterwards)
        self.settings |= {"marker": "{stem}.ok", "move_directory": str(base / "moved" / "{yyyy}")}

    def _write(self, body: bytes) -> None:
        super()._write(body)
        (self.directory / f"f{self._files:03d}.ok").write_bytes(b"")


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


class RowversionRig(TableRig):
    """The same table read by a number that grows with each change."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.settings["mode"] = "rowversion"


class QueryRig(TableRig):
    """The same table read through a query, with what people put around one."""

    kind = "sql_query"

    def __init__(self, base: Path, mode: str = "incrementing") -> None:
        super().__init__(base, mode)
        del self.settings["table"]
        if mode == "snapshot":
            del self.settings["column"]
        self.settings["query"] = (
            "-- orders; with their notes\nWITH o AS (SELECT id, text, at FROM orders)\n"
            "SELECT o.id, o.text, o.at, n.note FROM o LEFT JOIN notes n ON n.id = o.id; -- ';'\n"
        )
        self._execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT)")


class AggregateRig(TableRig):
    """A table of orders with a table of their lines: one each, and none for every third."""

    large = 50_000  # aggregates that count as a large input: each is read from two tables

    def __init__(self, base: Path) -> None:
        super().__init__(base, "timestamp")
        self._execute(
            "CREATE TABLE lines (order_id INTEGER, no INTEGER, at TEXT DEFAULT '2024-06-01 11:59:59',"
            " PRIMARY KEY (order_id, no)) WITHOUT ROWID"
        )
        self._execute("CREATE INDEX lines_at ON lines (at, order_id, no)")
        on = {"order_id": "id"}
        child = {"table": "lines", "as": "lines", "on": on, "key": ["no"], "column": "at", "columns": ["no"]}
        self.settings["aggregate"] = {"children": [child]}

    def put(self, n: int, *, bytes_each: int = 40) -> None:
        super().put(n, bytes_each=bytes_each)
        self._put_lines()

    def put_hostile(self) -> int:
        count = super().put_hostile()
        self._put_lines()
        return count

    def _put_lines(self) -> None:
        self._execute(
            "INSERT INTO lines (order_id, no) SELECT id, 1 FROM orders"
            " WHERE id % 3 AND id > (SELECT COALESCE(MAX(order_id), 0) FROM lines)"
        )


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


class OutboxRig(TableRig):
    """A SQLite table whose rows are taken, and deleted or marked once they arrived."""

    def __init__(self, base: Path, **outbox: Any) -> None:
        super().__init__(base)
        self._execute("DROP TABLE orders")
        self._execute("CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, text, done_at TEXT)")
        self.settings.update(mode="outbox", column="id", outbox=outbox)


class ChangeLogRig(TableRig):
    """A SQLite table with the triggers and the log of its change log."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        del self.settings["column"]
        self.settings.update(mode="change_log", start="now")
        settings = msgspec.convert(self.settings, type=SqlTableSettings)
        db = WritableSqlite(str(self._path), "orders", 30.0, "utf-8", lambda: 0)
        try:
            install(db, settings)
        finally:
            db.close()

    def state(self) -> object:
        db = sqlite3.connect(self._path)
        try:
            return super().state(), db.execute("SELECT * FROM crossdock_log_orders").fetchall()
        finally:
            db.close()


class FileTailRig(FileRig):
    """One log that grows; with *rotates*, a new one by renaming before each further put."""

    kind = "file_tail"

    def __init__(self, base: Path, *, rotates: bool = False, **format_: Any) -> None:
        super().__init__(base, **format_)
        self._rotates = rotates
        del self.settings["settle_seconds"], self.settings["afterwards"]
        self.settings |= {"pattern": "x.log", "idle_closes_seconds": 0, "rotated_seconds": 0}

    def _write(self, body: bytes) -> None:
        log = self.directory / "x.log"
        if self._rotates and log.exists():
            for n in range(self._files, 0, -1):
                older = self.directory / (f"x.log.{n - 1}" if n > 1 else "x.log")
                older.rename(self.directory / f"x.log.{n}")
        if log.exists() and self.settings["format"]["kind"] == "csv":
            body = body.partition(b"\n")[2]
        self._files += 1
        with log.open("ab") as file:
            file.write(body if body.endswith(b"\n") else body + b"\n")


class StructureRig(FileRig):
    """A directory of documents, whose records are elements: a JSON array at a path, or XML."""

    def __init__(self, base: Path, kind: str) -> None:
        more = {"path": "data.rows"} if kind == "json" else {"element": "Rows/Row"}
        super().__init__(base, kind=kind, **more)
        self._kind = kind

    def put(self, n: int, *, bytes_each: int = 40) -> None:
        rows = range(self._put, self._put + n)
        self._put += n
        if self._kind == "json":
            self._document([b'{"NO": "%09d", "T": "%s"}' % (i, b"x" * (bytes_each - 28)) for i in rows])
        else:
            self._document([b'<Row no="%09d">%s</Row>' % (i, b"x" * (bytes_each - 26)) for i in rows])

    def put_hostile(self) -> int:
        if self._kind == "json":
            rows = [b'{"a": "}]\\"\\\\"}', b"[[]]", b"\xff", b'"a,b"', b'{"a": nope}', b'{"z":"%s"}' % (b"z" * 300_000)]
        else:
            rows = [
                b"<Row a='/>'/>",
                b"<n:Row><!-- </n:Row> --><![CDATA[</n:Row>]]><n:Row/></n:Row>",
                b"<Row><b></Row>",
                b"<Row>\xff&nope;</Row>",
                b'<Row a="</Row>',
                b"<Row>%s</Row>" % (b"z" * 300_000),
            ]
        self._document(rows)
        return len(rows)

    def _document(self, rows: list[bytes]) -> None:
        if self._kind == "json":
            self._write(b'{"rows": [1], "data": {"n": "]", "rows": [\n' + b",\n".join(rows) + b'\n]}, "more": [{}]}')
        else:
            self._write(b'<?xml version="1.0"?>\n<Rows><!-- <Row/> -->\n' + b"\n".join(rows) + b"<Rowe/></Rows>\n")

    def records(self, draft: Draft) -> list[Record]:
        origin, found, at = draft.header.origin, [], 0
        for i, length in enumerate(draft.header.record_bytes):
            found.append(((origin.unit, origin.first_record + i), draft.payload[at : at + length]))
            at += length
        assert at == len(draft.payload)
        return list(found)


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
