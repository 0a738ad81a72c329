"""Parents with all their children, as one state of the database shows them: a bounded list of keys, a short read.

Children are matched to their parent by the database (a join), not here: it alone knows that `A1` and `a1`, or the
number 7 and the text 7, are the same key to it. They are asked for by the keys that
the parents were found to have, and stand in the order of the child's key; rows that it does not tell apart are ordered
by their bytes, so that the same state always gives the same record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from crossdock.errors import ConfigError
from crossdock.v1.batch_pb2 import Column
from crossdock_agent.sql.children import Child
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.faults import table_missing
from crossdock_agent.sql.reading import Reading
from crossdock_agent.sql.rows import RowShape
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.statements import CatalogTable, Statements, TableColumn, resolve

_List = tuple[Sequence[str], Sequence[str]]
Key = tuple[Any, ...]  # values of the parent's key columns, as the cursor reads them

KEYS_AT_ONCE = (1, 8, 40, 200)  # lengths of a list of keys; fixed ones, so that a statement stays prepared
ROWS_AT_ONCE = 20_000  # more child rows in one answer: fewer keys are asked for
MAX_VALUES = 900  # bound in one statement: SQLite before 3.32 takes 999, SQL Server 2,100
MAX_CHILD_ROWS = 200_000  # of one parent; more is no record of a size that can travel
COMFORTABLE_BYTES = 1024 * 1024  # an answer below it: more keys may be asked for next time
MAX_ANSWER_BYTES = 4 * COMFORTABLE_BYTES


@dataclass(frozen=True, slots=True)
class Member:
    """One table of an aggregate: how its rows are read and packed. *stamp* is the watermark's index in a row, *order*
    those of the columns by which a child's rows stand."""

    name: str
    table: CatalogTable
    columns: tuple[TableColumn, ...]
    statements: Statements
    shape: RowShape
    stamp: int | None
    order: tuple[int, ...] = ()
    parent_at: tuple[int, ...] = ()  # where a child's row holds its parent's key

    def header(self) -> list[Column]:
        return [Column(name=c.name, type=c.kind) for c in self.columns]


@dataclass(slots=True)
class Part:
    """The rows of one member that belong to one parent: packed, and their watermarks."""

    packed: list[bytes]
    stamps: list[object]
    oversize: str | None = None  # a column with a value over the limit: it was read cut, and may not travel


@dataclass(slots=True)
class Family:
    """One parent and its children at one moment. *parts* has the parent's row first, then a Part for each child."""

    key: Key
    parts: list[Part]
    expected: list[object]  # beside the children: how many rows the parent says there are; None: it says nothing
    overflow: bool = False  # a child has more than MAX_CHILD_ROWS; its rows are not all here

    def encode(self, width: int) -> bytes:
        """One msgpack array: the parent's *width* values, then the rows of each child as an array of arrays."""
        parent = self.parts[0].packed[0]
        pieces = [_head(width + len(self.parts) - 1), parent[len(_head(width)) :]]
        for part in self.parts[1:]:
            pieces.append(_head(len(part.packed)))
            pieces += part.packed
        return b"".join(pieces)

    def state(self) -> int:
        """The same for the same content, within this process."""
        return hash(tuple(row for part in self.parts for row in part.packed))

    @property
    def bytes(self) -> int:
        return sum(len(row) for part in self.parts for row in part.packed)

    def oversize(self, members: Sequence[Member]) -> str | None:
        """`lines.note`, a column with a value over the limit; None when there is none."""
        for member, part in zip(members, self.parts, strict=True):
            if part.oversize is not None:
                return f"{member.name}.{part.oversize}" if member.name else part.oversize
        return None


class Families:
    """Fetches families by key. *members*[0] is the parent, the children follow in the order of the settings."""

    def __init__(
        self, database: Database, settings: SqlTableSettings, parent: Reading, readings: Mapping[str, Reading]
    ) -> None:
        """*readings* of the children that have a watermark, by name. Raises SourceUnavailable for a missing table,
        ConfigError for a missing column or a database that cannot."""
        aggregate = settings.aggregate
        assert aggregate is not None  # noqa: S101 - who reads families has children
        if not database.dialect.snapshot:
            raise ConfigError(
                f"aggregates cannot be read from {database.dialect.name} yet",
                hint="read the child table as a source of its own",
            )
        self._database, self._settings = database, settings
        shape, statements = parent.shape, parent.statements
        self.members = [Member("", parent.table, parent.columns, statements, shape, shape.position[0])]
        self.key = [_found(database, parent.table, settings.table, name) for name in settings.key]
        self.key_at = tuple(parent.statements.select.index(_position(c)) for c in self.key)
        self.keys_at_once = KEYS_AT_ONCE[1]
        names = [c.quoted for c in self.key]
        self._fetches = [_Fetch(statements.source, statements, [(names, _binds(self.key))], [], names)]
        for child in aggregate.children:
            member, foreign = _member(database, settings, child, readings.get(child.name))
            self.members.append(member)
            self._fetches.append(self._joined(child, member, foreign))
        self._expect = [self._expected_at(aggregate.expect.get(child.name)) for child in aggregate.children]

    def of(self, keys: Sequence[Key]) -> Iterator[Family]:
        """The families of those *keys* that have a parent; fewer keys at a time where their answers are large."""
        keys = list(dict.fromkeys(keys))
        at = 0
        while at < len(keys):
            some = keys[at : at + self.keys_at_once]
            found = self._fetch(some)
            if found is None:
                self.keys_at_once = max(n for n in KEYS_AT_ONCE if n < len(some))
                continue
            at += len(some)
            size = sum(family.bytes for family in found)
            self._adapt(size, full=len(some) == self.keys_at_once)
            yield from found

    def _adapt(self, size: int, *, full: bool) -> None:
        index = KEYS_AT_ONCE.index(self.keys_at_once)
        if size > MAX_ANSWER_BYTES:
            self.keys_at_once = KEYS_AT_ONCE[max(0, index - 1)]
        elif full and size < COMFORTABLE_BYTES:
            more = KEYS_AT_ONCE[min(len(KEYS_AT_ONCE) - 1, index + 1)]
            if 2 * more * len(self.key) <= MAX_VALUES:
                self.keys_at_once = more

    def _fetch(self, keys: Sequence[Key]) -> list[Family] | None:
        """None when there are too many child rows and fewer keys can be asked for."""
        limit = ROWS_AT_ONCE if len(keys) > 1 else MAX_CHILD_ROWS
        with self._database.snapshot():
            answers = [self._database.rows(*self._fetches[0].statement(keys, None))]
            there = list(dict.fromkeys(tuple(row[i] for i in self.key_at) for row in answers[0]))
            for fetch in self._fetches[1:]:
                answers.append(self._database.rows(*fetch.statement(there, limit + 1)) if there else [])
                if len(answers[-1]) > limit and len(keys) > 1:
                    break
        if len(answers) < len(self._fetches) or (len(keys) > 1 and any(len(rows) > limit for rows in answers[1:])):
            return None
        children = [self._grouped(i, rows) for i, rows in enumerate(answers[1:], start=1)]
        families = []
        for row in answers[0]:
            key = tuple(row[i] for i in self.key_at)
            parts = [self._part(0, [row]), *(rows.get(key) or Part([], []) for rows in children)]
            overflow = any(len(part.packed) > MAX_CHILD_ROWS for part in parts[1:])
            expected = [None if i is None else row[i] for i in self._expect]
            families.append(Family(key, parts, expected, overflow))
        return families

    def _part(self, index: int, rows: Sequence[Sequence[Any]]) -> Part:
        member = self.members[index]
        stamps = [None] * len(rows) if member.stamp is None else [row[member.stamp] for row in rows]
        packed = member.shape.pack(rows)
        suspects = (row for row, data in zip(rows, packed, strict=True) if len(data) > member.shape.cap)
        return Part(packed, stamps, next(filter(None, map(member.shape.oversize, suspects)), None))

    def _grouped(self, index: int, rows: Sequence[Sequence[Any]]) -> dict[Key, Part]:
        """The rows of a child by their parent's key, which stands behind their own columns."""
        member, width = self.members[index], len(self.members[index].statements.select)
        found: dict[Key, Part] = {}
        for key, group in groupby(rows, lambda row: tuple(row[width:])):
            part = self._part(index, _settled(member, [tuple(row[:width]) for row in group]))
            if key in found:  # keys that the database orders as equal may stand mixed
                found[key].packed += part.packed
                found[key].stamps += part.stamps
                found[key].oversize = found[key].oversize or part.oversize
            else:
                found[key] = part
        return found

    def _joined(self, child: Child, member: Member, foreign: Sequence[TableColumn]) -> _Fetch:
        """The rows of *child* joined to their parent. The keys are asked of both sides, so that no planner reads a
        whole table; of the parent's only where the child's columns are of another type, and a join still finds them."""
        parent = f"{self._fetches[0].statements.source[:-1]}p"  # it ends with the alias, s
        keys = [_of_parent(k.quoted) for k in self.key]
        pairs = [f"{k} = {f.quoted}" for k, f in zip(keys, foreign, strict=True)]
        source = f"{member.statements.source} JOIN {parent} ON {' AND '.join(pairs)}"
        alike = all((k.kind, k.rule) == (f.kind, f.rule) for k, f in zip(self.key, foreign, strict=True))
        lists = [(keys, _binds(self.key)), *([([f.quoted for f in foreign], _binds(foreign))] if alike else [])]
        own = [_found(self._database, member.table, child.table, name).quoted for name in child.key]
        reads = [_read(k, name) for k, name in zip(self.key, keys, strict=True)]
        return _Fetch(source, member.statements, lists, reads, [*keys, *own])

    def _expected_at(self, name: str | None) -> int | None:
        if name is None:
            return None
        names = [c.name.lower() for c in self.members[0].columns]
        if name.lower() not in names:
            raise ConfigError(
                f"table {self._settings.table}: 'expect' names {name!r}, which is not read",
                hint=f"add it to 'columns'; these are read: {', '.join(c.name for c in self.members[0].columns)}",
            )
        return names.index(name.lower())


class _Fetch:
    """The statement for one member: its rows, and behind them the parent's key when they are a child's."""

    def __init__(
        self, source: str, statements: Statements, lists: Sequence[_List], reads: Sequence[str], order: Sequence[str]
    ) -> None:
        """*lists*: columns that are to be in the list of keys, and how each is bound; *reads* stand behind the
        member's own columns."""
        self._source, self.statements, self._lists = source, statements, lists
        self._select, self._order = ", ".join([*statements.select, *reads]), ", ".join(order)

    def statement(self, keys: Sequence[Key], limit: int | None) -> tuple[str, list[object]]:
        conditions, values = [self.statements.where] if self.statements.where else [], list[object]()
        for columns, binds in self._lists:
            condition, bound = _among(columns, binds, keys)
            conditions.append(condition)
            values += bound
        where, last = " AND ".join(conditions), f"\nLIMIT {limit}" if limit is not None else ""
        return f"SELECT {self._select}\nFROM {self._source}\nWHERE {where}\nORDER BY {self._order}{last}", values


def _among(columns: Sequence[str], binds: Sequence[str], keys: Sequence[Key]) -> tuple[str, list[object]]:
    """A list for one column; for several, what every database can use an index for: ORs of ANDs."""
    whole = [key for key in keys if None not in key]
    length = next((n for n in KEYS_AT_ONCE if n >= len(whole)), len(whole)) if whole else 0
    padded = [*whole, *whole[-1:] * (length - len(whole))]
    if len(columns) == 1:
        parts = [f"{columns[0]} IN ({', '.join([*binds] * length)})"] if padded else []
    else:
        one = " AND ".join(f"{c} = {b}" for c, b in zip(columns, binds, strict=True))
        parts = [f"({one})"] * length
    values: list[object] = [value for key in padded for value in key]
    for key in keys:
        if None in key:
            tests = [
                f"{c} IS NULL" if value is None else f"{c} = {b}"
                for c, b, value in zip(columns, binds, key, strict=True)
            ]
            parts.append(f"({' AND '.join(tests)})")
            values += [value for value in key if value is not None]
    return (parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"), values


def look(families: Families, keys: Sequence[Key]) -> tuple[dict[Key, list[Family]], int]:
    """The families of *keys*, by the key that was asked for; how many keys have none.

    The database may know a key in another spelling than ours; a family of no spelling we know goes to the first.
    """
    found: dict[Key, list[Family]] = {}
    for family in families.of(keys) if keys else ():
        found.setdefault(family.key, []).append(family)
    if all(key in found for key in keys):
        return found, 0
    wanted = dict.fromkeys(keys)
    spelled = {_spelling(key): key for key in reversed(keys) if key not in found}
    for strange in [key for key in found if key not in wanted]:
        found.setdefault(spelled.get(_spelling(strange), keys[0]), []).extend(found.pop(strange))
    return found, sum(1 for key in keys if key not in found)


def _spelling(key: Key) -> tuple[str, ...]:
    """What databases may take for the same key: other capitals, padding, a number for its text."""
    return tuple(str(value).rstrip(" \x00").casefold() for value in key)


def child_settings(settings: SqlTableSettings, child: Child) -> SqlTableSettings:
    """*child* as a table that is read by its own watermark: its newest rows may be deleted with their parent."""
    foreign = {parent.lower(): column for column, parent in child.on.items()}
    return msgspec.structs.replace(
        settings, table=child.table, column=child.watermark, columns=child.columns, where=child.where, purged=True,
        key=[*(foreign[name.lower()] for name in settings.key), *child.key], aggregate=None,
    )  # fmt: skip


def _member(
    database: Database, settings: SqlTableSettings, child: Child, reading: Reading | None
) -> tuple[Member, list[TableColumn]]:
    """How *child* is read, by its *reading* where it has a watermark; and its columns that repeat the parent's key, in
    the key's order."""
    table = reading.table if reading is not None else database.catalog(child.table)
    if table is None:
        raise table_missing(child.table)
    of_parent = {parent.lower(): column for column, parent in child.on.items()}
    foreign = [_found(database, table, child.table, of_parent[name.lower()]) for name in settings.key]
    own = [_found(database, table, child.table, name) for name in child.key]
    if reading is not None:
        columns, statements = reading.columns, reading.statements
        shape, stamp = reading.shape, reading.shape.position[0]
    else:
        columns, statements, shape = _unmarked(database, table, child, foreign, own, settings.max_lob_bytes)
        stamp = None
    order = tuple(statements.select.index(_position(c)) for c in own)
    parent_at = tuple(statements.select.index(_position(c)) for c in foreign)
    return Member(child.name, table, columns, statements, shape, stamp, order, parent_at), foreign


def _unmarked(
    database: Database, table: CatalogTable, child: Child, foreign: list[TableColumn], own: list[TableColumn], cap: int
) -> tuple[tuple[TableColumn, ...], Statements, RowShape]:
    """A child without a watermark: only ever read by its parent's key."""
    listed = child.columns if child.columns is not None else [c.name for c in table.columns]
    distinct: dict[str, TableColumn] = {}
    for column in (*(_found(database, table, child.table, name) for name in listed), *foreign, *own):
        distinct.setdefault(column.quoted, column)
    columns = tuple(distinct.values())
    statements = Statements(database.dialect, table, columns, foreign[:1], [*foreign, *own], child.where, cap)
    is_sqlite = database.dialect.name == "sqlite"
    flags = tuple(i for i, c in enumerate(columns) if is_sqlite and c.kind == "boolean")
    names = tuple(c.name for c in columns)
    shape = RowShape(statements.payload, statements.position, len(statements.position), flags, cap, names)
    return columns, statements, shape


def _found(database: Database, table: CatalogTable, shown: str, name: str) -> TableColumn:
    column = table.find(name)
    if column is None:
        raise ConfigError(
            f"table {shown} has no column {name}", hint=f"it has {', '.join(c.name for c in table.columns)}"
        )
    return resolve(database.dialect, column, name)


def _binds(columns: Sequence[TableColumn]) -> list[str]:
    return [c.rule.bind.format(t=c.declared) for c in columns]


def _position(column: TableColumn) -> str:
    return _read(column, column.quoted)


def _read(column: TableColumn, quoted: str) -> str:
    return (column.rule.position or column.rule.read).format(c=quoted, t=column.declared)


def _of_parent(quoted: str) -> str:
    """`s."no"` as `p."no"`."""
    return f"p{quoted[1:]}"


def _settled(member: Member, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """*rows* of one parent in an order that does not depend on how the database came by them."""
    keys = [tuple(row[i] for i in member.order) for row in rows]
    if len(set(keys)) == len(keys):
        return rows
    runs = groupby(zip(keys, rows, strict=True), lambda pair: pair[0])
    return [row for _, run in runs for row in sorted((r for _, r in run), key=lambda r: member.shape.pack([r]))]


def _head(count: int) -> bytes:
    """The msgpack head of an array (the format's specification, "Formats")."""
    if count < 16:
        return bytes([0x90 | count])
    return b"\xdc" + count.to_bytes(2, "big") if count < 65536 else b"\xdd" + count.to_bytes(4, "big")
