"""The table of receipts: a delivery's own line in the site's database, written in the transaction that applies it.

It makes "exactly once" hold when the agent is killed between that transaction and its inbox, and holds what a row was
before, for an undo. Nobody but a person creates it: `crossdock-agent receipts WRITER` shows the statements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from crossdock_agent.sql.writing import Writable

NAME = "crossdock_receipts"
_TEXT = {  # the type of a long text, and of a whole number of 18 digits, where they are not TEXT and BIGINT
    "sqlserver": ("nvarchar(max)", "bigint"),
    "oracle": ("CLOB", "NUMBER(19)"),
    "db2": ("CLOB(1M)", "bigint"),
    "firebird": ("BLOB SUB_TYPE TEXT", "bigint"),
    "mariadb": ("LONGTEXT", "bigint"),
    "mysql": ("LONGTEXT", "bigint"),
}


def statements(dialect: str, table: str = NAME) -> list[str]:
    """What creates the table and its index."""
    text, number = _TEXT.get(dialect, ("text", "bigint"))
    index = f"{table.rpartition('.')[2]}_target"
    return [
        f"""CREATE TABLE {table} (
  delivery_id char(32) NOT NULL PRIMARY KEY,
  writer_name varchar(100) NOT NULL,
  target_hash char(64) NOT NULL,
  document varchar(100) NOT NULL,
  document_key varchar(255) NOT NULL,
  document_version {number} NOT NULL,
  receipt_state varchar(10) NOT NULL,
  is_latest smallint NOT NULL,
  applied_at varchar(32) NOT NULL,
  before_image {text},
  written_image {text}
)""",
        f"CREATE INDEX {index} ON {table} (writer_name, target_hash, receipt_state)",
    ]


class Image(msgspec.Struct, frozen=True):
    """*row* is None where there is none; *lines* are the rows of the child table in the order they are read."""

    row: dict[str, Any] | None
    lines: list[dict[str, Any]] = []


@dataclass(frozen=True, slots=True)
class Kept:
    """A receipt as it is in the table."""

    id: str
    target: str
    version: int
    state: str
    latest: bool
    before: Image
    written: Image


def target_of(document: str, key: str) -> str:
    return hashlib.sha256(f"{document}\x00{key}".encode("utf-8", "surrogatepass")).hexdigest()


class Receipts:
    """Reads and writes receipts within the transaction of the caller."""

    def __init__(self, database: Writable, table: str, writer: str) -> None:
        self._db, self._table, self._writer = database, table, writer

    def get(self, id_: str) -> Kept | None:
        found = self._select("delivery_id = ?", [id_])
        return found[0] if found else None

    def latest(self, target: str) -> Kept | None:
        """Of what was written last under this key, and stands."""
        where = "writer_name = ? AND target_hash = ? AND receipt_state = 'applied' AND is_latest = 1"
        found = self._select(where, [self._writer, target])
        return max(found, key=lambda kept: kept.version, default=None)

    def add(self, kept: Kept, document: str, key: str, at: str) -> None:
        self._db.execute(f"DELETE FROM {self._table} WHERE delivery_id = ?", [kept.id])
        if kept.latest:
            self._db.execute(
                f"UPDATE {self._table} SET is_latest = 0 WHERE writer_name = ? AND target_hash = ?"
                " AND receipt_state = 'applied'",
                [self._writer, kept.target],
            )
        self._db.execute(
            f"INSERT INTO {self._table} (delivery_id, writer_name, target_hash, document, document_key,"
            " document_version, receipt_state, is_latest, applied_at, before_image, written_image)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [kept.id, self._writer, kept.target, document[:100], _plain(key)[:255], kept.version, kept.state,
             int(kept.latest), at, _text(kept.before), _text(kept.written)],
        )  # fmt: skip

    def undone(self, kept: Kept) -> None:
        """It does not stand any more; the one before it does again."""
        self._db.execute(
            f"UPDATE {self._table} SET receipt_state = 'undone', is_latest = 0 WHERE delivery_id = ?", [kept.id]
        )
        rows = self._db.rows(
            f"SELECT delivery_id, document_version FROM {self._table} WHERE writer_name = ? AND target_hash = ?"
            " AND receipt_state = 'applied'",
            [self._writer, kept.target],
        )
        if rows:
            before = max(rows, key=lambda row: int(row[1]))
            self._db.execute(f"UPDATE {self._table} SET is_latest = 1 WHERE delivery_id = ?", [str(before[0])])

    def _select(self, where: str, values: list[object]) -> list[Kept]:
        rows = self._db.rows(
            "SELECT delivery_id, target_hash, document_version, receipt_state, is_latest, before_image, written_image"
            f" FROM {self._table} WHERE {where}",
            values,
        )
        return [
            Kept(_str(i), _str(t), int(v), _str(s), bool(n), _image(b), _image(w)) for i, t, v, s, n, b, w in rows
        ]  # fmt: skip


def _str(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _text(image: Image) -> str:
    return msgspec.json.encode(image).decode()


def _image(value: object) -> Image:
    return msgspec.json.decode(value if isinstance(value, bytes) else str(value), type=Image)


def same(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two rows, as they were read, hold the same in the columns that both have."""
    if one is None or other is None:
        return one is other
    return all(one[name] == other[name] for name in one.keys() & other.keys())
