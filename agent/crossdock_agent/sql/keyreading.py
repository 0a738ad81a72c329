"""A table ready to be read by key: pages of a range, keys as bytes, rows as they travel with their marks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import msgspec

from crossdock.errors import CrossdockError
from crossdock.lifecycle import Stop
from crossdock.v1.batch_pb2 import BatchHeader, Column
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.keyrange import LOOKUP_KEYS, KeyStatements
from crossdock_agent.sql.paging import FIRST_PAGE_ROWS, PAGE_BYTES, SMALLEST_PAGE_ROWS
from crossdock_agent.sql.reading import Reading, prepare_by_key
from crossdock_agent.sql.settings import SqlTableSettings

HASH_BYTES = 8

_pack = msgspec.msgpack.Encoder().encode
_unpack_key = msgspec.msgpack.Decoder(list[Any]).decode


def content_hash(packed: bytes) -> bytes:
    """What a row is compared by, 8 bytes."""
    return hashlib.blake2b(packed, digest_size=HASH_BYTES).digest()


def marked(packed: bytes, cells: int, op: str, version: int) -> bytes:
    """*packed*, an array of so many *cells*, with `$op` and `$version` behind them."""
    head = 1 if cells < 16 else 3 if cells < 1 << 16 else 5
    return _array_head(cells + 2) + packed[head:] + _pack(op) + _pack(version)


def mark_columns(header: BatchHeader) -> BatchHeader:
    header.columns.append(Column(name="$op", type="text"))
    header.columns.append(Column(name="$version", type="integer"))
    return header


def _array_head(cells: int) -> bytes:
    if cells < 16:
        return bytes((0x90 | cells,))
    return b"\xdc" + cells.to_bytes(2, "big") if cells < 1 << 16 else b"\xdd" + cells.to_bytes(4, "big")


@dataclass(slots=True)
class KeyPage:
    """Rows that follow one another by key, none of them twice."""

    rows: list[Sequence[Any]]
    packed: list[bytes]
    is_last: bool
    hashes: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.hashes = [content_hash(row) for row in self.packed]


class KeyReading:
    def __init__(self, database: Database, settings: SqlTableSettings, stop: Stop) -> None:
        self.reading: Reading
        self.statements: KeyStatements
        self.reading, self.statements = prepare_by_key(database, settings)
        self._settings, self._stop = settings, stop
        self._rows = min(FIRST_PAGE_ROWS, settings.page_rows)
        names = [c.name for c in self.reading.columns]
        self._cells = [names.index(name) for name in self.reading.key]  # where the key stands in the payload
        position = self.statements.position
        # a key is kept as the cursor binds it; where the payload shows it otherwise, in that form as well
        self._identity = tuple(dict.fromkeys((*position, *self._cells)))
        self._bound = len(position)
        flags = self.reading.shape.flags
        self._shown = all(i < self.reading.shape.payload and i not in flags for i in self._identity)
        self._folds = any(self.reading.columns[i].kind == "text" for i in self._cells)
        self.cells = self.reading.shape.payload

    @property
    def database(self) -> Database:
        return self.reading.database

    def header(self) -> BatchHeader:
        return self.reading.header(self._settings.table)

    def key(self, row: Sequence[Any]) -> bytes:
        return _pack([row[i] for i in self._identity])

    def key_of_packed(self, packed: bytes) -> bytes | None:
        """The key of a row as it travels; None where it travels otherwise than it is bound."""
        if not self._shown:
            return None
        cells = _unpack_key(packed)
        return _pack([cells[i] for i in self._identity])

    def bound(self, key: bytes | None) -> list[Any] | None:
        return None if key is None else _unpack_key(key)[: self._bound]

    def shown(self, key: bytes) -> str:
        return ", ".join(str(value) for value in _unpack_key(key)[: self._bound])

    def mark(self, row: Sequence[Any]) -> object:
        """The row's watermark; None in a reading without one."""
        return None if self.statements.mark is None else row[self.statements.mark]

    def only_key(self, key: bytes) -> bytes:
        """The row of *key* as a delete shows it: all but the key columns NULL."""
        values = dict(zip(self._identity, _unpack_key(key), strict=True))
        row = [values[i] if i in self._cells else None for i in range(self.cells)]
        return self.reading.shape.pack([row])[0]

    def why_long(self, packed: bytes) -> str | None:
        """Why a row, as it travels, may not; None when it may."""
        shape = self.reading.shape
        column = shape.oversize(_unpack_key(packed)) if len(packed) > shape.cap else None
        return None if column is None else f"column {column} has more than {shape.cap} bytes"

    def pages(self, after: bytes | None, upto: bytes | None) -> Iterator[KeyPage]:
        """Pages behind *after*, up to and with *upto*. Ends early at a stop.

        Raises CrossdockError when two rows have one key, and what `Database.rows` raises.
        """
        behind, end = self.bound(after), self.bound(upto)
        while not self._stop.is_set():
            asked = self._fitting(behind, end)
            rows: list[Sequence[Any]] = []
            full = False
            for sql, values in self.statements.ranges(behind, end, asked):
                found = self.database.rows(sql, values)
                rows += found
                full = len(found) >= asked
                if full:
                    break
            if full:  # whether more rows have the last one's key is only known from the next page
                last = self.key(rows.pop())
                if self.key(rows[-1]) == last or self._has_equals(rows[-1]):
                    raise self.not_unique(last)
            packed = self.reading.shape.pack(rows)
            large = sum(map(len, packed)) > PAGE_BYTES
            self._rows = max(SMALLEST_PAGE_ROWS, asked // 4) if large else min(self._settings.page_rows, asked * 10)
            if rows:
                behind = [rows[-1][i] for i in self.statements.position]
                yield KeyPage(rows, packed, not full)
            if not full:
                return
            del rows, packed  # before the next one is fetched

    def _fitting(self, behind: list[Any] | None, end: list[Any] | None) -> int:
        """How many rows to ask for: where some are large, no more than together fit a page in memory."""
        found: list[int] = []
        for sql, values in self.statements.ranges(behind, end, self._rows, sizes=True):
            found += [int(size) for (size,) in self.database.rows(sql, values)]
            if len(found) >= self._rows:
                break
        cap = self._settings.max_lob_bytes * len(self.reading.columns)
        fitting = sum(1 for total in accumulate(min(size, cap) for size in found) if total <= PAGE_BYTES)
        return min(self._rows, max(SMALLEST_PAGE_ROWS, fitting)) if found else self._rows

    def _has_equals(self, row: Sequence[Any]) -> bool:
        """True when to the database the key of *row* is that of others too (`a` and `Ä`, with a NULL beside them): the
        next page would begin behind all of them."""
        if not self._folds:
            return False
        return len(self.database.rows(*self.statements.exact([[row[i] for i in self.statements.position]]))) > 1

    def existing(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of *keys* of which the table has a row now, by exact equality."""
        found: set[bytes] = set()
        for start in range(0, len(keys), LOOKUP_KEYS):
            group = keys[start : start + LOOKUP_KEYS]
            bounds = [_unpack_key(key)[: self._bound] for key in group]
            rows = self.database.rows(*self.statements.exact(bounds))
            there = {_pack(list(row)) for row in rows}
            found.update(key for key, bound in zip(group, bounds, strict=True) if _pack(bound) in there)
        return found

    def exists(self, key: bytes) -> bool:
        return bool(self.existing([key]))

    def is_upto(self, key: bytes, last: bytes) -> bool:
        """See `revision.Places`."""
        bound, end = self.bound(key) or [], self.bound(last)
        if any(self.database.rows(sql, values) for sql, values in self.statements.ranges(bound, end, 1)):
            return True
        equal = self.database.rows(*self.statements.exact([bound]))  # other letters, to the database the same key
        return any(list(row) == end for row in equal)

    def not_unique(self, key: bytes) -> CrossdockError:
        return CrossdockError(
            f"table {self._settings.table}: several rows have the key ({self.shown(key)})",
            hint="name columns in 'key' that tell rows apart, or leave such rows out with 'where'",
        )
