"""What rules have in common: the values at a path, what they may ask of the log, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, runtime_checkable

from crossdock_controller.documents.base import Money, Quantity
from crossdock_controller.mappings.converters import plain, shown


class Lookup(Protocol):
    def known(self, document: str, keys: set[str]) -> set[str]:
        """Those of *keys* under which an event of *document* exists."""


@runtime_checkable
class History(Protocol):
    """A Lookup that can also tell what documents said. Where there is none (a mapping that is only tried), every
    document is the first of its key."""

    def latest(self, document: str, keys: set[str]) -> dict[str, Any]:
        """The last version of *document* by key, for those of *keys* that have one which was not discarded."""

    def today(self) -> date:
        """By the controller's clock."""


class KnownKeys:
    """Asks a Lookup for each key once. One per run: what a run does not know, the next may."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._history = lookup if isinstance(lookup, History) else None
        self._known: dict[str, dict[str, bool]] = {}
        self._latest: dict[str, dict[str, Any]] = {}

    def known(self, document: str, keys: set[str]) -> set[str]:
        answers = self._known.setdefault(document, {})
        new = keys - answers.keys()
        if new:
            found = self._lookup.known(document, new)
            answers.update((key, key in found) for key in new)
        return {key for key in keys if answers[key]}

    def latest(self, document: str, keys: set[str]) -> dict[str, Any]:
        """As `History.latest`."""
        if self._history is None:
            return {}
        answers = self._latest.setdefault(document, {})
        new = keys - answers.keys()
        if new:
            found = self._history.latest(document, new)
            answers.update((key, found.get(key)) for key in new)
        return {key: answers[key] for key in keys if answers[key] is not None}

    def today(self) -> date | None:
        """None where nobody knows."""
        return self._history.today() if self._history is not None else None


Break = tuple[int, str, str, str] | tuple[int, str, str, str, tuple[tuple[str, str], ...]]
"""Index of the document, code, field, reason, and the masters that it waits for, if any."""

Breaks = Callable[[Sequence[Any], KnownKeys], Iterator[Break]]
Compiled = tuple[tuple[str, ...], Breaks]
"""The fields that a rule reads, and the rule."""


class Found(NamedTuple):
    place: str  # "sku of line 3", for the reason
    value: Any  # scalars: a Quantity is its value, Money its amount


def found(document: Any, path: str) -> list[Found]:
    """The values at *path* in *document* (`lines.sku`: one a line); blanks are left out."""
    return [entry for entry in walk(document, path) if entry.value not in ("", None)]


def walk(document: Any, path: str) -> Iterator[Found]:
    """As `found`, with the blanks."""
    for place, value in walk_whole(document, path):
        yield Found(place, scalar(value))


def walk_whole(document: Any, path: str) -> Iterator[Found]:
    """As `walk`, with quantities and money as they are."""
    head, _, rest = path.partition(".")
    if head == "lines" and rest:
        for number, line in enumerate(document.lines, start=1):
            yield Found(f"{rest} of line {number}", reach(line, rest))
    else:
        yield Found(path, reach(document, path))


def reach(value: Any, path: str) -> Any:
    for name in path.split("."):
        if value is None:
            return None
        value = value.get(name) if isinstance(value, dict) else getattr(value, name)
    return value


def scalar(value: Any) -> Any:
    if isinstance(value, Quantity):
        return value.value
    return value.amount if isinstance(value, Money) else value


def said(value: Any) -> str:
    """*value* for a reason."""
    return plain(value) if isinstance(value, Decimal) else shown(value)
