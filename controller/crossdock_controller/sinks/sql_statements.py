"""From a table mapping to the text of its statements. Values are always bound; only quoted identifiers become SQL.

With a `$sequence` column, an older event never overwrites a newer one: the upsert and the statements of the children
all carry the guard. Children are replaced as a set, found by the parent's key columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from crossdock_controller.sinks.base import SinkSettings

SEQUENCE = "$sequence"
ENVELOPE = ("$event_id", "$document", "$key", SEQUENCE, "$body")
INDEX = "$index"  # position of a child in its list, from 1


def _checked_path(path: str, extra: tuple[str, ...] = ()) -> str:
    if path.startswith("$"):
        if path not in ENVELOPE and path not in extra:
            raise ValueError(
                f"unknown path {path!r}; known: {', '.join((*ENVELOPE, *extra))}, or a field such as on_hand.value"
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


class ProcedureMapping(SinkSettings):
    """One call for each document; what it raises about the data is the document's verdict."""

    procedure: str = Field(min_length=1, description="its name, with a schema where needed")
    parameters: list[str] = Field(min_length=1, description="paths within the document, in the procedure's order")

    @field_validator("parameters")
    @classmethod
    def _parameters(cls, value: list[str]) -> list[str]:
        return [_checked_path(path) for path in value]


@dataclass(frozen=True, slots=True)
class Style:
    """What differs between databases in the text of a statement and in a bound value."""

    placeholder: str
    integer: str  # type to which sequences are cast for comparison
    quote: Callable[[str], str]
    adapt: Callable[[object], object]
    plain: tuple[type, ...]  # types of values that `adapt` leaves as they are
    form: Literal["on_conflict", "on_duplicate", "merge"] = "on_conflict"  # of the upsert
    nowhere: str = ""  # what a SELECT of parameters alone reads from
    call: str = "CALL {name}({marks})"


@dataclass(frozen=True, slots=True)
class ChildTable:
    name: str
    delete: str
    insert: str


def key_in_order(mapping: TableMapping) -> list[str]:
    """The key columns, those of the envelope before those of the document."""
    return sorted(mapping.key, key=lambda name: not _of_envelope(mapping, name))


def columns_in_order(mapping: TableMapping) -> list[str]:
    """Columns in the order in which they are bound: the key first, so that a slice of the row is the key, and all that
    come from the document side by side."""
    rest = sorted((c for c in mapping.columns if c not in mapping.key), key=lambda name: _of_envelope(mapping, name))
    return [*key_in_order(mapping), *rest]


def _of_envelope(mapping: TableMapping, column: str) -> bool:
    return mapping.columns[column].startswith("$")


def sequence_column(mapping: TableMapping) -> str | None:
    return next((column for column, path in mapping.columns.items() if path == SEQUENCE), None)


def upsert(mapping: TableMapping, style: Style) -> str:
    if style.form == "on_duplicate":
        return _on_duplicate(mapping, style)
    return _merge(mapping, style) if style.form == "merge" else _on_conflict(mapping, style)


def _on_duplicate(mapping: TableMapping, style: Style) -> str:
    """MariaDB and MySQL. Assignments act from left to right, so the sequence, which guards the others, comes last."""
    q, sequence = style.quote, sequence_column(mapping)
    rest = sorted((c for c in mapping.columns if c not in mapping.key), key=lambda name: name == sequence)
    names = ", ".join(q(c) for c in columns_in_order(mapping))
    marks = ", ".join([style.placeholder] * len(mapping.columns))
    insert = f"INSERT INTO {q(mapping.table)} ({names}) VALUES ({marks}) ON DUPLICATE KEY UPDATE "
    if not rest:
        return insert + f"{q(mapping.key[0])} = {q(mapping.key[0])}"
    if sequence is None or sequence not in rest:
        return insert + ", ".join(f"{q(c)} = VALUES({q(c)})" for c in rest)
    new, old = (f"CAST({text} AS {style.integer})" for text in (f"VALUES({q(sequence)})", q(sequence)))
    newer = f"{q(sequence)} IS NULL OR {new} >= {old}"
    return insert + ", ".join(f"{q(c)} = IF({newer}, VALUES({q(c)}), {q(c)})" for c in rest)


def _merge(mapping: TableMapping, style: Style) -> str:
    """SQL Server; HOLDLOCK, or two writers would both find no row and both insert it."""
    q, sequence = style.quote, sequence_column(mapping)
    rest = [c for c in mapping.columns if c not in mapping.key]
    names = ", ".join(q(c) for c in columns_in_order(mapping))
    marks = ", ".join([style.placeholder] * len(mapping.columns))
    same = " AND ".join(f"target.{q(c)} = source.{q(c)}" for c in mapping.key)
    source = f"(VALUES ({marks})) AS source ({names})"
    text = f"MERGE INTO {q(mapping.table)} WITH (HOLDLOCK) AS target USING {source} ON {same}"
    if rest:
        guard = ""
        if sequence is not None and sequence in rest:
            new, old = (f"CAST({side}.{q(sequence)} AS {style.integer})" for side in ("source", "target"))
            guard = f" AND (target.{q(sequence)} IS NULL OR {new} >= {old})"
        changes = ", ".join(f"{q(c)} = source.{q(c)}" for c in rest)
        text += f" WHEN MATCHED{guard} THEN UPDATE SET {changes}"
    values = ", ".join(f"source.{q(c)}" for c in columns_in_order(mapping))
    return text + f" WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values});"


def call(procedure: str, parameters: int, style: Style) -> str:
    marks = ", ".join([style.placeholder] * parameters)
    return style.call.replace("{marks}", marks).replace("{name}", style.quote(procedure))


def _on_conflict(mapping: TableMapping, style: Style) -> str:
    q = style.quote
    table, rest = q(mapping.table), [c for c in mapping.columns if c not in mapping.key]
    action = "DO UPDATE SET " + ", ".join(f"{q(c)} = excluded.{q(c)}" for c in rest) if rest else "DO NOTHING"
    sequence = sequence_column(mapping)
    if rest and sequence in rest:
        old, new = f"target.{q(sequence)}", f"excluded.{q(sequence)}"
        action += f" WHERE {old} IS NULL OR CAST({new} AS {style.integer}) >= CAST({old} AS {style.integer})"
    names = ", ".join(q(c) for c in columns_in_order(mapping))
    marks = ", ".join([style.placeholder] * len(mapping.columns))
    keys = ", ".join(q(c) for c in mapping.key)
    return f"INSERT INTO {table} AS target ({names}) VALUES ({marks}) ON CONFLICT ({keys}) {action}"


def child_table(mapping: TableMapping, child: ChildMapping, style: Style) -> ChildTable:
    q, mark = style.quote, style.placeholder
    guard = _guard(mapping, style)
    where = " AND ".join(f"{q(column)} = {mark}" for column in child.parent)
    names = [*child.parent, *child.columns]
    delete = f"DELETE FROM {q(child.table)} WHERE {where}" + (f" AND {guard}" if guard else "")
    marks = ", ".join([mark] * len(names))
    values = f"SELECT {marks}{style.nowhere} WHERE {guard}" if guard else f"VALUES ({marks})"
    insert = f"INSERT INTO {q(child.table)} ({', '.join(q(n) for n in names)}) {values}"
    return ChildTable(child.table, delete, insert)


def _guard(mapping: TableMapping, style: Style) -> str:
    """True while the parent's row is the one this delivery wrote; empty when the parent keeps no sequence."""
    sequence = sequence_column(mapping)
    if sequence is None:
        return ""
    q, mark = style.quote, style.placeholder
    same = [f"{q(name)} = {mark}" for name in key_in_order(mapping)]
    same.append(f"CAST({q(sequence)} AS {style.integer}) = CAST({mark} AS {style.integer})")
    return f"EXISTS (SELECT 1 FROM {q(mapping.table)} WHERE {' AND '.join(same)})"
