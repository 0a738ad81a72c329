"""The settings of an aggregate: a parent table whose rows are read together with those of its child tables."""

from __future__ import annotations

from typing import Annotated

import msgspec

_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Child(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table whose rows belong to rows of the parent, as the lines of an order do. It has no children of its own."""

    table: Annotated[str, msgspec.Meta(description="table or view; may be schema.table")]
    name: Annotated[str, msgspec.Meta(description="the record's column that holds these rows", min_length=1)] = (
        msgspec.field(name="as")
    )
    on: Annotated[dict[str, str], msgspec.Meta(description="column here: the key column of the parent it repeats")]
    key: Annotated[list[str], msgspec.Meta(description="columns that tell the rows of one parent apart", min_length=1)]
    column: Annotated[
        str | list[str] | None,
        msgspec.Meta(description="time of the last change; without it only a touched parent shows a change"),
    ] = None
    columns: Annotated[list[str] | None, msgspec.Meta(description="columns to read; null: all")] = None
    where: Annotated[str | None, msgspec.Meta(description="SQL condition as it stands; the table is s")] = None

    @property
    def watermark(self) -> list[str]:
        return [self.column] if isinstance(self.column, str) else self.column or []


class Aggregate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record for each parent, with the rows of each child in a column of its own."""

    children: Annotated[list[Child], msgspec.Meta(min_length=1)]
    settle_seconds: Annotated[
        _Seconds, msgspec.Meta(description="read once its newest change is this old by the database's clock")
    ] = 0.0
    expect: Annotated[
        dict[str, str], msgspec.Meta(description="child, by its 'as': the parent's column that says how many rows")
    ] = {}
    incomplete_seconds: Annotated[
        _Seconds, msgspec.Meta(description="how long one with another number of rows is waited for")
    ] = 300.0

    def check(self, key: list[str], *, incrementing: bool) -> None:
        """Raises ValueError when this does not fit a parent with *key*."""
        names = [child.name for child in self.children]
        if len(set(names)) < len(names):
            raise ValueError(f"two children are called {next(n for n in names if names.count(n) > 1)!r}: 'as' differs")
        if not key:
            raise ValueError("an aggregate needs 'key': the columns by which children name their parent")
        wanted = sorted(name.lower() for name in key)
        for child in self.children:
            if sorted(name.lower() for name in child.on.values()) != wanted:
                raise ValueError(f"'on' of {child.table} must lead to each column of 'key': {', '.join(key)}")
            if child.columns is not None and not child.columns:
                raise ValueError(f"'columns' of {child.table} is empty; leave it out to read all")
            if incrementing and child.watermark:
                raise ValueError(f"'column' of {child.table} needs mode timestamp; with incrementing leave it out")
        for name in self.expect:
            if name not in names:
                raise ValueError(f"'expect' names {name!r}; children are called {', '.join(names)}")
