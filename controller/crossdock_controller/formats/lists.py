"""A list inside a record (the lines of an order that was read with its table of lines), as columns over all records.

Elements of all records stand behind each other, so that a line's fields are converted column by column like a flat
file's. A cell that is no list of records spoils its own record only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any


@dataclass(slots=True)
class Elements:
    """*counts* says how many elements each record has. *names* are the columns of an element where it is an array of
    values; None where it is an object by name. *faults*: why a record's cell cannot be read, by record."""

    counts: list[int]
    flat: list[Any]
    names: tuple[str, ...] | None
    faults: dict[int, str] = field(default_factory=dict)

    def column(self, name: str) -> Sequence[Any]:
        """The values of one column, an element each; what an object lacks reads as nothing."""
        if self.names is not None:
            at = self.names.index(name)
            return [element[at] for element in self.flat]
        if "." in name:
            return [_reach(element, name) for element in self.flat]
        return [element.get(name) for element in self.flat]

    def spread(self, values: Sequence[Any]) -> list[Any]:
        """*values*, one a record, repeated for each of its elements."""
        return list(chain.from_iterable(map(repeat, values, self.counts)))


def elements_of(cells: Sequence[Any], names: tuple[str, ...] | None) -> Elements:
    """*cells* hold a list each, or nothing, which is a list without elements."""
    faults: dict[int, str] = {}
    lists: list[Any] = [cell or () for cell in cells]
    if not set(map(type, lists)) <= {list, tuple}:
        for i, cell in enumerate(lists):
            if not isinstance(cell, list | tuple):
                faults[i], lists[i] = f"{cell!r:.60} is no list of records", ()
    flat = list(chain.from_iterable(lists))
    if not _all_sound(flat, names):
        for i, cell in enumerate(lists):
            bad = next((k for k, element in enumerate(cell, start=1) if not _all_sound([element], names)), None)
            if bad is not None:
                faults[i], lists[i] = f"element {bad} is no record: {cell[bad - 1]!r:.60}", ()
        flat = list(chain.from_iterable(lists))
    return Elements(list(map(len, lists)), flat, names, faults)


def named(cell: Any, names: tuple[str, ...]) -> Any:
    """Elements as a dead letter shows and corrects them: by column name."""
    if not isinstance(cell, list):
        return cell
    return [dict(zip(names, element, strict=False)) if isinstance(element, list) else element for element in cell]


def _all_sound(flat: Sequence[Any], names: tuple[str, ...] | None) -> bool:
    if names is None:
        return set(map(type, flat)) <= {dict}
    return set(map(type, flat)) <= {list} and set(map(len, flat)) <= {len(names)}


def _reach(element: dict[str, Any], name: str) -> Any:
    """`item.sku` of an object inside the element, or of a field that is called so."""
    if name in element:
        return element[name]
    value: Any = element
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
