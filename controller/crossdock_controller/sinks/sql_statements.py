"""From a table mapping to statements and rows. Pure: values are always bound, only quoted identifiers become SQL text.

With a `$sequence` column, an older event never overwrites a newer one: the upsert and the statements of the children
all carry the guard. Children are replaced as a set, keyed by the parent's key columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from pydantic import Field, field_validator, model_validator

from crossdock.errors import Rejected
from crossdock_controller.sinks.base import Outgoing, SinkSettings

Row = tuple[object, ...]
_Value = Callable[[Outgoing, dict[str, Any]], object]

SEQUENCE = "$sequence"
_ENVELOPE: dict[str, _Value] = {
    "$event_id": lambda delivery, _: delivery.event_id.hex(),
    "$document": lambda delivery, _: delivery.document,
    "$key": lambda delivery, _: delivery.key,
    SEQUENCE: lambda delivery, _: delivery.sequence,
    "$body": lambda delivery, _: delivery.body.decode(),
}
INDEX = "$index"  # position of a child in its list, from 1


def _checked_path(path: str, extra: tuple[str, ...] = ()) -> str:
    if path.startswith("$"):
        if path not in _ENVELOPE and path not in extra:
            raise ValueError(
                f"unknown path {path!r}; known: {', '.join((*_ENVELOPE, *extra))}, or a field such as on_hand.value"
            )
    elif not path or not all(path.split(".")):
        raise ValueError(f"path {path!r} has an empty part; write it as on_hand.value")
    return path


class ChildMapping(SinkSettings):
    """One row for each element of the list *each*; replaced as a set whenever the parent is written."""

    each: str
    table: str = Field(min_length=1)
    columns: dict[str, str] = Field(min_length=1)  # column: path within the element, `$index`, or an envelope name
    parent: dict[str, str] = Field(min_length=1)  # column: the parent's key column that it repeats

    @field_validator("each")
    @classmethod
    def _each(cls, value: str) -> str:
        return _checked_path(value)

    @field_validator("columns")
    @classmethod
    def _columns(cls, value: dict[str, str]) -> dict[str, str]:
        return {column: _checked_path(path, (INDEX,)) for column, path in value.items()}


class TableMapping(SinkSettings):
    """One row for each document, found again by *key*; the table needs a unique constraint over exactly these."""

    table: str = Field(min_length=1)
    key: list[str] = Field(min_length=1)
    columns: dict[str, str] = Field(min_length=1)  # column: path within the document, or an envelope name
    defaults: dict[str, str | int] = {}  # noqa: RUF012 - pydantic copies it; column: value where the document has none
    children: tuple[ChildMapping, ...] = ()

    @field_validator("columns")
    @classmethod
    def _columns(cls, value: dict[str, str]) -> dict[str, str]:
        return {column: _checked_path(path) for column, path in value.items()}

    def table_names(self) -> list[str]:
        return [self.table, *(child.table for child in self.children)]

    @model_validator(mode="after")
    def _keys_are_columns(self) -> TableMapping:
        for name in self.key:
            if name not in self.columns:
                raise ValueError(f"key column {name!r} is not among the columns of table {self.table}")
        for name in self.defaults:
            if name not in self.columns:
                raise ValueError(f"'defaults' names {name!r}, which is not among the columns of table {self.table}")
        for child in self.children:
            if sorted(child.parent.values()) != sorted(self.key):
                raise ValueError(
                    f"children table {child.table}: 'parent' must name each key column of {self.table} once"
                    f" ({', '.join(self.key)}), or one document would replace another's children"
                )
            if doubled := sorted(set(child.parent) & set(child.columns)):
                raise ValueError(f"children table {child.table}: column {doubled[0]!r} is in 'parent' and in 'columns'")
        return self


@dataclass(frozen=True, slots=True)
class Style:
    """What differs between databases in the text of a statement and in a bound value."""

    placeholder: str
    integer: str  # type to which sequences are cast for comparison
    quote: Callable[[str], str]
    adapt: Callable[[object], object]


@dataclass(frozen=True, slots=True)
class ChildTable:
    name: str
    delete: str
    insert: str


class Entry(NamedTuple):
    """One delivery as rows, ready to be written; *position* is its place in the run."""

    position: int
    delivery: Outgoing
    table: Table
    row: Row
    key: Row
    children: tuple[tuple[Row, list[Row]], ...]  # for each child table: parameters of its delete, of its inserts


class Table:
    """A compiled `TableMapping`."""

    def __init__(self, mapping: TableMapping, style: Style) -> None:
        self.mapping = mapping
        self.upsert = _upsert(mapping, style)
        self.children = tuple(_child(mapping, child, style) for child in mapping.children)
        columns = _ordered(mapping)
        self._values = [_value(mapping.columns[name], style.adapt) for name in columns]
        for name, default in mapping.defaults.items():
            position = columns.index(name)
            self._values[position] = _or_default(self._values[position], style.adapt(default))
        self._key_length = len(mapping.key)
        self._guard = [columns.index(name) for name in (_sequence_column(mapping),) if name is not None]
        self._children = [_ChildRows(mapping, child, style.adapt) for child in mapping.children]

    def entry(self, position: int, delivery: Outgoing, body: dict[str, Any]) -> Entry:
        """Raises Rejected when a key column would be null (a null key never conflicts, so it would double)."""
        row = tuple([value(delivery, body) for value in self._values])
        key = row[: self._key_length]
        if None in key:
            column = self.mapping.key[key.index(None)]
            path = self.mapping.columns[column]
            raise Rejected(
                "key_missing",
                f"document has no {path}, which is key column {column} of table {self.mapping.table}",
                field=path,
                hint=f"where a blank {path} is right, say so: defaults: {{{column}: ''}}",
            )
        if not self._children:
            return Entry(position, delivery, self, row, key, ())
        guard = (*key, row[self._guard[0]]) if self._guard else ()
        return Entry(
            position, delivery, self, row, key, tuple([c.rows(delivery, body, key, guard) for c in self._children])
        )


class _ChildRows:
    def __init__(self, mapping: TableMapping, child: ChildMapping, adapt: Callable[[object], object]) -> None:
        self._each = _field(child.each, lambda value: value)
        self._path = child.each
        self._parent = [mapping.key.index(name) for name in child.parent.values()]
        self._columns = [(path, _value(path, adapt)) for path in child.columns.values()]
        self._adapt = adapt

    def rows(self, delivery: Outgoing, body: dict[str, Any], key: Row, guard: Row) -> tuple[Row, list[Row]]:
        parent = tuple([key[i] for i in self._parent])
        elements = self._each(delivery, body)
        if elements is None:
            elements = []
        if not isinstance(elements, list):
            raise Rejected(
                "not_a_list", f"{self._path} is not a list, and its elements were to be rows", field=self._path
            )
        return (*parent, *guard), [
            (*parent, *self._row(delivery, e, i), *guard) for i, e in enumerate(elements, start=1)
        ]

    def _row(self, delivery: Outgoing, element: object, index: int) -> Row:
        fields = element if isinstance(element, dict) else {}
        return tuple(
            [self._adapt(index) if path == INDEX else value(delivery, fields) for path, value in self._columns]
        )


def decode(body: bytes) -> dict[str, Any]:
    """The document; numbers with a fraction stay text, so that no decimal ever becomes a float. Raises Rejected."""
    try:
        document = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected("bad_body", f"document is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Rejected("bad_body", f"document is a JSON {type(document).__name__}, not an object")
    return document


_decoder = msgspec.json.Decoder(float_hook=str)


def _value(path: str, adapt: Callable[[object], object]) -> _Value:
    if path == SEQUENCE:
        return lambda delivery, _body: adapt(delivery.sequence)
    return _ENVELOPE.get(path) or _field(path, adapt)


def _or_default(value: _Value, default: object) -> _Value:
    def read(delivery: Outgoing, body: dict[str, Any]) -> object:
        found = value(delivery, body)
        return default if found is None else found

    return read


def _field(path: str, adapt: Callable[[object], object]) -> _Value:
    """The value at a dotted path; None where any part is absent. Text, the common case, skips *adapt*."""
    first, *rest = path.split(".")

    def top(_delivery: Outgoing, body: dict[str, Any]) -> object:
        value = body.get(first)
        return value if value.__class__ is str or value is None else adapt(value)

    def deep(_delivery: Outgoing, body: dict[str, Any]) -> object:
        value = body.get(first)
        for part in rest:
            if value.__class__ is not dict:
                return None
            value = value.get(part)
        return value if value.__class__ is str or value is None else adapt(value)

    return deep if rest else top


def _ordered(mapping: TableMapping) -> list[str]:
    """Columns in the order in which they are bound: the key first, so that a slice of the row is the key."""
    return [*mapping.key, *(name for name in mapping.columns if name not in mapping.key)]


def _sequence_column(mapping: TableMapping) -> str | None:
    return next((column for column, path in mapping.columns.items() if path == SEQUENCE), None)


def _upsert(mapping: TableMapping, style: Style) -> str:
    q = style.quote
    table, rest = q(mapping.table), [c for c in mapping.columns if c not in mapping.key]
    action = "DO UPDATE SET " + ", ".join(f"{q(c)} = excluded.{q(c)}" for c in rest) if rest else "DO NOTHING"
    sequence = _sequence_column(mapping)
    if rest and sequence in rest:
        old, new = f"target.{q(sequence)}", f"excluded.{q(sequence)}"
        action += f" WHERE {old} IS NULL OR CAST({new} AS {style.integer}) >= CAST({old} AS {style.integer})"
    names = ", ".join(q(c) for c in _ordered(mapping))
    marks = ", ".join([style.placeholder] * len(mapping.columns))
    keys = ", ".join(q(c) for c in mapping.key)
    return f"INSERT INTO {table} AS target ({names}) VALUES ({marks}) ON CONFLICT ({keys}) {action}"


def _child(mapping: TableMapping, child: ChildMapping, style: Style) -> ChildTable:
    q, mark = style.quote, style.placeholder
    guard = _guard(mapping, style)
    where = " AND ".join(f"{q(column)} = {mark}" for column in child.parent)
    names = [*child.parent, *child.columns]
    delete = f"DELETE FROM {q(child.table)} WHERE {where}" + (f" AND {guard}" if guard else "")
    marks = ", ".join([mark] * len(names))
    values = f"SELECT {marks} WHERE {guard}" if guard else f"VALUES ({marks})"
    insert = f"INSERT INTO {q(child.table)} ({', '.join(q(n) for n in names)}) {values}"
    return ChildTable(child.table, delete, insert)


def _guard(mapping: TableMapping, style: Style) -> str:
    """True while the parent's row is the one this delivery wrote; empty when the parent keeps no sequence."""
    sequence = _sequence_column(mapping)
    if sequence is None:
        return ""
    q, mark = style.quote, style.placeholder
    same = [f"{q(name)} = {mark}" for name in mapping.key]
    same.append(f"CAST({q(sequence)} AS {style.integer}) = CAST({mark} AS {style.integer})")
    return f"EXISTS (SELECT 1 FROM {q(mapping.table)} WHERE {' AND '.join(same)})"


def last_of_each_key(entries: Sequence[Entry]) -> list[Entry]:
    """The entries whose children count: of several versions of one key, the last one."""
    return list({entry.key: entry for entry in entries}.values())
