"""A row and its lines in the tables of a site: read as they are compared and kept, written, put back as they were.

Values are read and bound as the dialect reads and binds positions (`sql.dialect`), so that what is read can be written
back without loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossdock.errors import ConfigError, Rejected
from crossdock_agent.sql.dialect import TypeRule
from crossdock_agent.sql.writing import Writable
from crossdock_agent.writers import columns as documents
from crossdock_agent.writers.receipts import Image

Row = Mapping[str, Any]
Lines = tuple[str, Mapping[str, str], Mapping[str, str], str]  # table, parent, columns, each


@dataclass(frozen=True, slots=True)
class _Column:
    name: str  # as in the settings
    quoted: str
    rule: TypeRule
    declared: str

    @property
    def read(self) -> str:
        form = self.rule.position or self.rule.read
        return form.format(c=self.quoted, t=self.declared)

    @property
    def bind(self) -> str:
        return self.rule.bind.format(t=self.declared)


class _Table:
    """The columns of one table that are written here."""

    def __init__(self, db: Writable, table: str, names: Sequence[str]) -> None:
        catalog = db.catalog(table)
        if catalog is None:
            raise ConfigError(f"table {table} is not there", hint="does it exist, and may the login see it?")
        there = {column.name.lower(): column for column in catalog.columns}
        missing = [name for name in names if name.lower() not in there]
        if missing:
            raise ConfigError(f"table {table} has no column {missing[0]}", hint=f"it has {', '.join(there)}")
        self._db, self.table = db, table
        quoted = db.dialect.quoted
        self.name = f"{quoted(catalog.schema)}.{quoted(catalog.name)}" if catalog.schema else quoted(catalog.name)
        self.columns = {
            name: _Column(name, quoted(there[name.lower()].name), db.dialect.rule(there[name.lower()].declared),
                          there[name.lower()].declared)
            for name in names
        }  # fmt: skip

    def select(self, where: Mapping[str, Any]) -> list[dict[str, Any]]:
        condition, values = self._condition(where)
        shown = ", ".join(column.read for column in self.columns.values())
        rows = self._db.rows(f"SELECT {shown} FROM {self.name} WHERE {condition}", values)
        return [dict(zip(self.columns, map(_plain, row), strict=True)) for row in rows]

    def insert(self, row: Row) -> None:
        given = [self.columns[name] for name in row]
        names, binds = ", ".join(c.quoted for c in given), ", ".join(c.bind for c in given)
        self._db.execute(f"INSERT INTO {self.name} ({names}) VALUES ({binds})", [_bound(row[c.name]) for c in given])

    def update(self, row: Row, where: Mapping[str, Any]) -> None:
        given = [self.columns[name] for name in row if name not in where]
        if not given:
            return
        condition, values = self._condition(where)
        changes = ", ".join(f"{c.quoted} = {c.bind}" for c in given)
        values = [*(_bound(row[c.name]) for c in given), *values]
        self._db.execute(f"UPDATE {self.name} SET {changes} WHERE {condition}", values)

    def delete(self, where: Mapping[str, Any]) -> None:
        condition, values = self._condition(where)
        self._db.execute(f"DELETE FROM {self.name} WHERE {condition}", values)

    def _condition(self, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
        terms = [
            f"{self.columns[name].quoted} = {self.columns[name].bind}" if value is not None
            else f"{self.columns[name].quoted} IS NULL"
            for name, value in where.items()
        ]  # fmt: skip
        return " AND ".join(terms), [_bound(value) for value in where.values() if value is not None]


class Target:
    """Raises ConfigError when the database has not what the settings name."""

    def __init__(
        self,
        db: Writable,
        table: str,
        key: Sequence[str],
        columns: Mapping[str, str],
        constants: Mapping[str, Any],
        lines: Lines | None,
    ) -> None:
        self._key, self._columns, self._constants, self._lines = key, columns, constants, lines
        self._table = _Table(db, table, [*columns, *constants])
        self._child = _Table(db, lines[0], [*lines[1], *lines[2]]) if lines is not None else None

    def rows_of(self, document: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The row, and the rows of its lines. Raises Rejected."""
        row = dict(zip(self._columns, documents.values(document, self._columns), strict=True))
        _must_be_there({name: row[name] for name in self._key}, self._columns, self._table.table)
        if self._lines is None:
            return {**row, **self._constants}, []
        _, parent, columns, each = self._lines
        above = dict(zip(parent, documents.values(document, parent), strict=True))
        _must_be_there(above, parent, self._lines[0])
        lines = [
            {**above, **dict(zip(columns, documents.values(line, columns, document), strict=True))}
            for line in documents.lines(document, each)
        ]
        return {**row, **self._constants, "": above}, lines

    def read(self, row: Row) -> Image:
        """What is there under the key of *row*. Raises ConfigError when the key names several rows."""
        found = self._table.select(self._where(row))
        if len(found) > 1:
            raise ConfigError(f"{self.said(row)} are {len(found)} rows", hint="name a unique key in 'key'")
        if self._child is None:
            return Image(found[0] if found else None)
        above = row.get("") or {}
        lines = self._child.select(above) if above else []
        lines.sort(key=lambda line: [str(value) for value in line.values()])
        return Image({**found[0], "": dict(above)} if found else None, lines)

    def write(self, row: Row, lines: Sequence[Row], *, exists: bool) -> None:
        own = {name: value for name, value in row.items() if name}
        if exists:
            self._table.update(own, self._where(row))
        else:
            self._table.insert(own)
        self._replace(row, lines)

    def restore(self, row: Row, before: Image) -> None:
        """Under the key of *row*, what *before* holds."""
        if before.row is None:
            self._replace(row, before.lines)
            self._table.delete(self._where(row))
        else:
            self.write({**before.row, "": row.get("")}, before.lines, exists=True)

    def said(self, row: Row) -> str:
        """ "ORDERS NO=4711"."""
        return f"{self._table.table} " + ", ".join(f"{name}={row.get(name)}" for name in self._key)

    def _replace(self, row: Row, lines: Sequence[Row]) -> None:
        above = row.get("") or {}
        if self._child is None or not above:
            return
        self._child.delete(above)
        for line in lines:
            self._child.insert(line)

    def _where(self, row: Row) -> dict[str, Any]:
        return {name: row.get(name) for name in self._key}


def _must_be_there(key: Row, columns: Mapping[str, str], table: str) -> None:
    """Raises Rejected: a key without a value would name the rows that have none, which are others'."""
    for name, value in key.items():
        if value is None:
            path = columns[name]
            reason = f"the document has no {path}, by which its rows in {table} are known (column {name})"
            raise Rejected("key_missing", reason, field=path)


def _plain(value: Any) -> Any:
    """As it goes into an image, which is JSON."""
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return {"$hex": bytes(value).hex()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def _bound(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"$hex"}:
        return bytes.fromhex(value["$hex"])
    return value
