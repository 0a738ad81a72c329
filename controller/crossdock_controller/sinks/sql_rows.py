"""From documents to rows, as a table mapping says. Pure; whatever cannot be a row is Rejected, and is so alone.

A number with a fraction stays the text it was, so that no decimal ever becomes a float. A path that the document does
not have is null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from crossdock.errors import Rejected
from crossdock_controller.sinks.base import Outgoing
from crossdock_controller.sinks.sql_quick import Row, quick_reader
from crossdock_controller.sinks.sql_statements import (
    INDEX,
    SEQUENCE,
    ChildMapping,
    ChildTable,
    ProcedureMapping,
    Style,
    TableMapping,
    call,
    child_table,
    columns_in_order,
    key_in_order,
    sequence_column,
    upsert,
)

_Value = Callable[[Outgoing, dict[str, Any]], object]

_ENVELOPE: dict[str, Callable[[Outgoing], object]] = {
    "$event_id": lambda delivery: delivery.event_id.hex(),
    "$document": lambda delivery: delivery.document,
    "$key": lambda delivery: delivery.key,
    SEQUENCE: lambda delivery: delivery.sequence,
    "$body": lambda delivery: delivery.body.decode(),
}


class Entry(NamedTuple):
    """One delivery as rows, ready to be written; *position* is its place in the run."""

    position: int
    delivery: Outgoing
    table: Table | Procedure
    row: Row
    key: Row
    children: tuple[tuple[Row, list[Row]], ...]  # for each child table: parameters of its delete, of its inserts


class Table:
    """A compiled `TableMapping`."""

    def __init__(self, mapping: TableMapping, style: Style) -> None:
        self.mapping = mapping
        self.upsert = upsert(mapping, style)
        self.children = tuple(child_table(mapping, child, style) for child in mapping.children)
        columns = columns_in_order(mapping)
        self._values = [_value(mapping.columns[name], style.adapt) for name in columns]
        for name, default in mapping.defaults.items():
            position = columns.index(name)
            self._values[position] = _or_default(self._values[position], style.adapt(default))
        self._key_length = len(mapping.key)
        self._guard = [columns.index(name) for name in (sequence_column(mapping),) if name is not None]
        self._quick = quick_reader(mapping, style, _ENVELOPE)
        self._children = [_ChildRows(mapping, child, style.adapt) for child in mapping.children]

    def entry(self, position: int, delivery: Outgoing) -> Entry:
        """Raises Rejected when a key column would be null (a null key never conflicts, so it would double)."""
        body: dict[str, Any] = {}
        row = self._quick(delivery) if self._quick is not None else None
        if row is None:
            body = decode(delivery.body)
            row = tuple([value(delivery, body) for value in self._values])
        key = row[: self._key_length]
        if None in key:
            column = key_in_order(self.mapping)[key.index(None)]
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


class Procedure:
    """A compiled `ProcedureMapping`: its call is run where a table has its upsert. It has no rows of its own."""

    children: tuple[ChildTable, ...] = ()

    def __init__(self, mapping: ProcedureMapping, style: Style) -> None:
        self.upsert = call(mapping.procedure, len(mapping.parameters), style)
        self._values = [_value(path, style.adapt) for path in mapping.parameters]

    def entry(self, position: int, delivery: Outgoing) -> Entry:
        """Raises Rejected for a document that is none; what it does not have is null."""
        body = decode(delivery.body)
        return Entry(position, delivery, self, tuple([value(delivery, body) for value in self._values]), (), ())


class _ChildRows:
    def __init__(self, mapping: TableMapping, child: ChildMapping, adapt: Callable[[object], object]) -> None:
        self._each = _field(child.each, lambda value: value)
        self._path = child.each
        self._parent = [key_in_order(mapping).index(name) for name in child.parent.values()]
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
    read = _ENVELOPE.get(path)
    if read is None:
        return _field(path, adapt)
    return lambda delivery, _body: adapt(read(delivery))


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


def last_of_each_key(entries: Sequence[Entry]) -> list[Entry]:
    """The entries whose children count: of several versions of one key, the last one."""
    return list({entry.key: entry for entry in entries}.values())
