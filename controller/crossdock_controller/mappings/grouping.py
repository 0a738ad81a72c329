"""Groups: consecutive records of one key that make one document, also across batches.

A document that lacks a line is a wrong document, so a group is mapped whole or not at all. A record that cannot be read
belongs to the group its key names; without a readable key it may belong to the group before or after it, and neither is
mapped. The last group of a stream stays open until a record of another key, the end of its unit, or the cap.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter

from crossdock_controller.formats.base import Decoded, Fault
from crossdock_controller.mappings.reading import Piece, Stray
from crossdock_controller.mappings.where import trimmed

Key = tuple[str, ...]


@dataclass(slots=True)
class Segment:
    """Consecutive pieces of one unit under one list of columns. Positions here count through all of them."""

    pieces: list[Piece]
    bases: list[int]  # position of each piece's record 0
    ends: bool  # nothing more of this unit follows

    def piece_at(self, position: int) -> tuple[Piece, int]:
        """The piece that holds the record at *position*, and the record's position within it."""
        i = bisect_right(self.bases, position) - 1
        return self.pieces[i], position - self.bases[i]

    def ordinal(self, position: int) -> int:
        """Of the record at *position*, within its unit."""
        piece, local = self.piece_at(position)
        return piece.header.origin.first_record + local


@dataclass(slots=True)
class Group:
    key: Key
    start: int  # position of its first record
    first: int  # its rows are [first, last) of the segment's rows
    last: int
    waits_from: int  # while it is open: its start, or that of the unreadable records before it that may belong to it
    strays: list[tuple[int, Stray]] = field(
        default_factory=list
    )  # records of its key that cannot be read, with positions
    neighbour: Stray | None = None  # an unreadable record beside it that may belong to it
    scattered: bool = False  # its key stood earlier in the unit, with another between

    @property
    def records(self) -> int:
        return self.last - self.first + sum(stray.records for _, stray in self.strays)


@dataclass(slots=True)
class Groups:
    rows: Decoded  # of all pieces, by position in the segment; only those with a key
    closed: list[Group]
    loners: list[tuple[int, Stray]]  # of no known group, with their position in the segment
    open_from: int | None  # position from which records wait for the rest of their group
    open_group: Group | None = None


def segments(pieces: Sequence[Piece], *, grouped: bool) -> Iterator[Segment]:
    """Pieces that can be grouped together; one each without grouping."""
    run: list[Piece] = []
    for piece in pieces:
        if run and (not grouped or not _continues(run[-1], piece)):
            yield _segment(run, ends=True)
            run = []
        run.append(piece)
        if piece.header.closes:
            yield _segment(run, ends=True)
            run = []
    if run:
        yield _segment(run, ends=False)


def _continues(before: Piece, piece: Piece) -> bool:
    a, b = before.header.origin, piece.header.origin
    same_unit = (a.kind, a.name, a.unit) == (b.kind, b.name, b.unit)
    return same_unit and before.decoded.columns == piece.decoded.columns


def _segment(pieces: list[Piece], *, ends: bool) -> Segment:
    bases = [0]
    for piece in pieces[:-1]:
        bases.append(bases[-1] + piece.total)
    return Segment(pieces, bases, ends)


def merged(segment: Segment) -> Decoded:
    """The rows of all pieces, by position in the segment."""
    if len(segment.pieces) == 1:
        return segment.pieces[0].decoded
    parts = [piece.decoded for piece in segment.pieces]

    def sample(position: int) -> bytes:
        piece, local = segment.piece_at(position)
        return piece.decoded.sample(local)

    return Decoded(
        columns=parts[0].columns,
        rows=list(chain.from_iterable(part.rows for part in parts)),
        positions=[base + p for base, part in zip(segment.bases, parts, strict=True) for p in part.positions],
        lines=list(chain.from_iterable(part.lines for part in parts)),
        count=sum(part.count for part in parts),
        sample=sample,
        header_seen=parts[0].header_seen,
        objects=list(chain.from_iterable(part.objects or () for part in parts))
        if parts[0].objects is not None
        else None,
        nested=parts[0].nested,
    )


def group(segment: Segment, each: Sequence[str]) -> Groups:
    """Walks all records in order. Ignored ones neither end a group nor belong to it."""
    everything = merged(segment)
    keys, rows, keyless = _keyed(everything, each)
    strays: list[tuple[int, Stray, Key | None]] = [(stray.position, stray, None) for stray in keyless]
    for base, piece in zip(segment.bases, segment.pieces, strict=True):
        strays.extend((base + s.position, s, key_in(s.rows[0] if s.rows else {}, each)) for s in piece.strays)
    strays.sort(key=itemgetter(0))
    walk = _Walk(rows)
    i = 0
    for position, stray, stray_key in strays:
        while i < len(keys) and rows.positions[i] < position:
            walk.row(i, keys[i])
            i += 1
        walk.stray(i, position, stray, stray_key)
    for j in range(i, len(keys)):
        walk.row(j, keys[j])
    return walk.result(segment)


def _keyed(rows: Decoded, each: Sequence[str]) -> tuple[list[Key], Decoded, list[Stray]]:
    """The rows that name a group, with their keys; the others as strays (with their positions in the segment)."""
    if all(name in rows.columns for name in each):
        keys = list(zip(*(map(trimmed, rows.column(name)) for name in each), strict=True))
    else:
        keys = [("",)] * len(rows.rows)
    if all(map(any, keys)):
        return keys, rows, []
    keep = [i for i, key in enumerate(keys) if any(key)]
    strays = [_keyless(rows, i) for i, key in enumerate(keys) if not any(key)]
    return [keys[i] for i in keep], rows.select(keep), strays


def _keyless(rows: Decoded, i: int) -> Stray:
    position = rows.positions[i]
    reason = "the record names no group"
    fault = Fault(position, rows.lines[i], "group_key_blank", reason, sample=rows.sample(position))
    return Stray(fault, rows=(rows.fields(i),))


def key_in(row: dict[str, object], each: Sequence[str]) -> Key | None:
    """The group *row* belongs to; None when a part of the key is not there, or all of it is blank."""
    if any(name not in row for name in each):
        return None
    key = tuple(trimmed(row[name]) for name in each)
    return key if any(key) else None


class _Walk:
    def __init__(self, rows: Decoded) -> None:
        self._rows = rows
        self._groups = Groups(rows, [], [], None)
        self._current: Group | None = None
        self._seen: set[Key] = set()
        self._loner: tuple[int, Stray] | None = None  # first of those after the last record with a key

    def row(self, i: int, key: Key) -> None:
        current = self._current
        if current is None or key != current.key:
            current = self._begin(key, self._rows.positions[i], i)
        current.last = i + 1
        self._loner = None

    def stray(self, i: int, position: int, stray: Stray, key: Key | None) -> None:
        current = self._current
        if key is None:
            # It may be a line of the group before it or of the one after it.
            self._groups.loners.append((position, stray))
            self._loner = self._loner or (position, stray)
            if current is not None:
                current.neighbour = current.neighbour or stray
            return
        if current is None or current.key != key:
            current = self._begin(key, position, i)
        current.strays.append((position, stray))
        self._loner = None

    def _begin(self, key: Key, position: int, i: int) -> Group:
        if self._current is not None:
            self._groups.closed.append(self._current)
        waits_from, before = self._loner or (position, None)
        self._current = Group(key, position, i, i, waits_from, neighbour=before, scattered=key in self._seen)
        self._seen.add(key)
        return self._current

    def result(self, segment: Segment) -> Groups:
        groups = self._groups
        if segment.ends:
            if self._current is not None:
                groups.closed.append(self._current)
        elif self._current is not None:
            groups.open_group, groups.open_from = self._current, self._current.waits_from
        elif groups.loners:
            groups.open_from = groups.loners[0][0]
        return groups
