"""A builder makes structs of one type from columns: all at once, and record by record only where something is wrong."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from crossdock.errors import Rejected
from crossdock_controller.mappings.cells import Cell, Constant
from crossdock_controller.mappings.derived import Columns, Derived


@dataclass(slots=True)
class Built:
    """*structs* stand in record order; one with errors is not to be used (its bad fields are None)."""

    structs: list[Any]
    errors: dict[int, list[Rejected]] = field(default_factory=dict)
    warnings: dict[int, list[str]] = field(default_factory=dict)


class Builder:
    def __init__(
        self,
        struct: type[msgspec.Struct],
        cells: dict[str, Cell],
        derived: Mapping[str, Derived] = MappingProxyType({}),
    ) -> None:
        """*cells* by field name; fields without one keep their default. *derived* are columns made of others."""
        self._struct, self._cells = struct, cells
        asked = dict.fromkeys(column for cell in cells.values() for column in cell.columns)
        self._derived = {name: derived[name] for name in asked if name in derived}
        self._inputs = {name: column.columns for name, column in self._derived.items()}
        self.columns = self._real(asked)
        parameters = inspect.signature(struct).parameters.values()
        self._positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        self._defaults = {f.name: f.default for f in msgspec.structs.fields(struct)}

    @property
    def reads(self) -> dict[str, tuple[str, ...]]:
        """By field: the columns that its value is made of."""
        return {name: self._real(cell.columns) for name, cell in self._cells.items()}

    def _real(self, columns: Iterable[str]) -> tuple[str, ...]:
        """*columns* with those that a derived one is made of in its place."""
        found = (name for column in columns for name in self._inputs.get(column, (column,)))
        return tuple(dict.fromkeys(found))

    def build(
        self, source: Columns, n: int, *, text_only: bool, given: Mapping[str, Sequence[Any]] | None = None
    ) -> Built:
        """*n* structs from *source*; *given* are fields made elsewhere (the lines), each *n* long."""
        if self._derived:
            source = source | {name: derived.values(source, n) for name, derived in self._derived.items()}
        built = Built([])
        fields: dict[str, Sequence[Any]] = dict(given or {})
        for name, cell in self._cells.items():
            if not (isinstance(cell, Constant) and name not in self._positional):
                fields[name] = self._field(built, cell, source, n, text_only=text_only)
        built.structs = self._made(fields, n)
        self._warn(built, source, n)
        return built

    def _field(self, built: Built, cell: Cell, source: Columns, n: int, *, text_only: bool) -> Sequence[Any]:
        try:
            return cell.column(source, n, text_only=text_only)
        except Rejected:
            pass  # at least one is bad: find out which
        values: list[object] = []
        for i in range(n):
            try:
                values.append(cell.value({name: source[name][i] for name in cell.columns}))
            except Rejected as error:
                values.append(None)
                built.errors.setdefault(i, []).append(error)
        return values

    def _made(self, fields: dict[str, Sequence[Any]], n: int) -> list[Any]:
        """By position where possible: five times faster than by keyword."""
        constants = {
            name: cell.constant
            for name, cell in self._cells.items()
            if isinstance(cell, Constant) and name not in self._positional
        }
        make: Any = partial(self._struct, **constants) if constants else self._struct
        names = self._positional
        while names and names[-1] not in fields:
            names = names[:-1]
        columns = [fields[name] if name in fields else repeat(self._defaults[name], n) for name in names]
        structs = list(map(make, *columns))
        for name, values in fields.items():
            if name not in self._positional:  # keyword-only ones (issuer, zone, extensions) all have defaults
                deque(map(force_setattr, structs, repeat(name), values), maxlen=0)  # nobody has seen them yet
        return structs

    def _warn(self, built: Built, source: Columns, n: int) -> None:
        for cell in self._cells.values():
            if not cell.has_warnings():
                continue
            for i in range(n):
                found = cell.warnings({name: source[name][i] for name in cell.columns})
                if found:
                    built.warnings.setdefault(i, []).extend(found)
