"""Rows on the wire: one msgpack array a row, cut into batches only between units.

A *unit* is what must stay together: rows that agree in the cursor up to its last key column (the lines of one order
under one header timestamp). A unit larger than a page, or than a quarter of a batch's limit, is sent row by row.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, compress
from operator import itemgetter, ne
from typing import Any

import msgspec

from crossdock.codec import MAX_RAW_BYTES, TARGET_RAW_BYTES, TARGET_RECORDS
from crossdock.v1.batch_pb2 import Reject
from crossdock_agent.sql.collation import collated
from crossdock_agent.sql.cursor import Position

MAX_ROW_BYTES = 8 * 1024 * 1024
MAX_UNIT_BYTES = MAX_RAW_BYTES // 4
SAMPLE_BYTES = 256

_encode = msgspec.msgpack.Encoder().encode
_BYTES = (bytes, bytearray)
_Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class RowShape:
    """How to take a driver's row apart: *payload* columns first, *position* the cursor's columns, the first *group* of
    which make a unit. *flags* are payload columns that SQLite holds as 0 and 1 and that mean no and yes. A value over
    *cap* bytes is not taken, and its row with it; *names* are those of the payload's columns, to say which.
    *folds*: this database takes texts for equal that differ in capitals, accents or blanks at their end."""

    payload: int
    position: tuple[int, ...]
    group: int
    flags: tuple[int, ...] = ()
    cap: int = MAX_ROW_BYTES
    names: tuple[str, ...] = ()
    folds: bool = False

    def oversize(self, row: Sequence[Any]) -> str | None:
        """The first column whose value is over *cap*; None when none is."""
        for index, cell in enumerate(row[: self.payload]):
            size = len(cell.encode()) if isinstance(cell, str) else len(cell) if isinstance(cell, _BYTES) else 0
            if size > self.cap:
                return self.names[index] if self.names else str(index)
        return None

    def pack(self, rows: _Rows) -> list[bytes]:
        if not rows or len(rows[0]) != self.payload or self.flags:
            return [_encode(self._payload_of(row)) for row in rows]
        return [_encode(row) for row in rows] if type(rows[0]) is tuple else [_encode(tuple(row)) for row in rows]

    def _payload_of(self, row: Sequence[Any]) -> list[Any]:
        cells = list(row[: self.payload])
        for index in self.flags:
            if isinstance(cells[index], int) and cells[index] in (0, 1):
                cells[index] = bool(cells[index])
        return cells


class Page:
    """One page of rows, packed, and where its units end. Rows are named by their index in the page.

    Of a *full* page the last unit is left out: the next page repeats it from its first row. A full page that is a
    single unit has none, unless it *may_split*; even then none when its rows agree in the whole cursor, and no key
    tells them apart.
    """

    def __init__(self, shape: RowShape, rows: _Rows, *, full: bool, may_split: bool) -> None:
        self._shape, self._rows = shape, rows
        self.packed = shape.pack(rows)
        self._before = list(accumulate(map(len, self.packed), initial=0))  # bytes before each row
        self._split: set[int] = set()  # ends of units that were taken apart: their position is the whole cursor
        self.ends = self._ends(0, len(rows), shape.group, full=full)
        if not self.ends and full and may_split:
            self.ends = self._ends(0, len(rows), len(shape.position), full=True)
            self._split.update(self.ends)
        if self.bytes > MAX_UNIT_BYTES:
            self._limit_units()
        self._oversize: dict[int, str] = {}  # why a row is not taken
        if self.packed and max(map(len, self.packed)) > shape.cap:
            self._find_oversize()

    @property
    def bytes(self) -> int:
        return self._before[-1]

    def position(self, end: int) -> tuple[Any, ...]:
        """Where the cursor stands behind the unit that ends at *end*."""
        columns = self._shape.position if end in self._split else self._shape.position[: self._shape.group]
        return tuple(self._rows[end - 1][i] for i in columns)

    def positions(self) -> list[tuple[Any, ...]]:
        """The whole cursor of each row."""
        if len(self._shape.position) == 1:
            column = self._shape.position[0]
            return [(row[column],) for row in self._rows]
        get = itemgetter(*self._shape.position)
        return [get(row) for row in self._rows]

    def key(self, row: int) -> str:
        return ", ".join(str(self._rows[row][i]) for i in self._shape.position)

    def cells(self, row: int, at: Sequence[int]) -> tuple[Any, ...]:
        """Values of *row* at the indexes *at*."""
        return tuple(self._rows[row][i] for i in at)

    def fit(self, start: int, end: int, size: int, records: int) -> int:
        """The end of the last unit before *end* up to which the rows from *start* have at most *size* bytes and
        *records* rows, and none is over a limit; *start* when not even the first unit does."""
        last = min(bisect_right(self._before, self._before[start] + size) - 1, start + records, end)
        if self._oversize:
            last = min(last, next((row for row in sorted(self._oversize) if row >= start), last))
        index = bisect_right(self.ends, last)
        return max(start, self.ends[index - 1]) if index else start

    def unit_end(self, start: int) -> int:
        return self.ends[bisect_right(self.ends, start)]

    def size(self, start: int, end: int) -> int:
        return self._before[end] - self._before[start]

    def is_long(self, start: int, end: int) -> bool:
        """True when a row from *start* to *end* is over a limit."""
        return bool(self._oversize) and any(row in self._oversize for row in range(start, end))

    def why_long(self, row: int) -> str | None:
        """None when *row* is within the limits."""
        return self._oversize.get(row)

    def _find_oversize(self) -> None:
        for row, data in enumerate(self.packed):
            column = self._shape.oversize(self._rows[row]) if len(data) > self._shape.cap else None
            if column is not None:
                self._oversize[row] = f"column {column} has more than {self._shape.cap} bytes"
            elif len(data) > MAX_ROW_BYTES:
                self._oversize[row] = f"it has {len(data)} bytes, the limit is {MAX_ROW_BYTES}"

    def _ends(self, start: int, end: int, length: int, *, full: bool) -> list[int]:
        get = itemgetter(*self._shape.position[:length])
        groups = [get(row) for row in self._rows[start:end]]
        ends = list(compress(range(start + 1, end), map(ne, groups, groups[1:])))
        if self._shape.folds:
            ends = [e for e in ends if collated(groups[e - start - 1]) != collated(groups[e - start])]
        if not full and end > start:
            ends.append(end)
        return ends

    def _limit_units(self) -> None:
        kept, start = [], 0
        for end in self.ends:
            parts = [end]
            if end - start > 1 and self.size(start, end) > MAX_UNIT_BYTES:
                parts = self._ends(start, end, len(self._shape.position), full=False)
                self._split.update(parts)
            kept += parts
            start = end
        self.ends = kept


@dataclass(slots=True)
class Batch:
    """Units gathered for one batch, in cursor order."""

    rows: list[bytes] = field(default_factory=list)
    size: int = 0
    hashes: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    position: Position = ()

    @property
    def is_empty(self) -> bool:
        return not self.rows and not self.rejects

    def take(self, page: Page, start: int, end: int) -> int:
        """Take units of *page* from row *start* on, at most up to *end*. The row after the last one taken: less than
        *end* when the rest belongs to the next batch."""
        if self.rejects:
            return start
        stop, unit = start, page.unit_end(start)
        if not page.is_long(start, unit):
            stop = page.fit(start, end, TARGET_RAW_BYTES - self.size, TARGET_RECORDS - len(self.rows))
            if stop == start and not self.rows:
                stop = unit
            self.rows += page.packed[start:stop]
            self.size += page.size(start, stop)
        if stop < end and page.is_long(stop, unit := page.unit_end(stop)):
            self._reject(page, stop, unit)
            stop = unit
        if stop > start:
            self.position = page.position(stop)
        return stop

    def _reject(self, page: Page, start: int, end: int) -> None:
        """Set a whole unit aside: without its too long row, it would arrive as a document that lacks a line."""
        for row in range(start, end):
            data = page.packed[row]
            why = page.why_long(row)
            self.rejects.append(
                Reject(
                    record=len(self.rows) + len(self.rejects),
                    bytes=len(data),
                    code="too_long" if why else "incomplete_unit",
                    reason=f"row {page.key(row)}: {why or 'it belongs together with a row that is too long'}",
                    sample=data[:SAMPLE_BYTES],
                )
            )
