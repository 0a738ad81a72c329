"""What a code of a source means to us: the lists of a revision, and whatever else may be asked for a meaning.

A meaning may come to be known, or change, while an engine lives: a person fills in what a code means, and everything
that waited goes on. So an engine forgets what it made of codes once the *generation* of its Codes is another one, and
after every run in which a code had no meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from crossdock.errors import Rejected

UNKNOWN_CODE = "unknown_code"  # the stable code of dead letters; `list` and `value` of the letter say which


class Codes(Protocol):
    """Asked from the thread of the engine that holds it, once for each new text of a run."""

    @property
    def generation(self) -> int:
        """Another number whenever an answer may be another one than before."""

    def meaning(self, name: str, value: str, /) -> str | None:
        """What *value* stands for by the list of that *name*; None when nobody has said so."""


class UnknownCode(Rejected):
    """*value* has no meaning in the list *name*, which is "" for codes that are written in the field itself."""

    def __init__(self, name: str, value: str, message: str, *, field: str = "", hint: str = "") -> None:
        super().__init__(UNKNOWN_CODE, message, field=field, hint=hint)
        self.list, self.value = name, value

    def at(self, column: str, field: str) -> UnknownCode:
        """The same of a *column*, for the document's *field*."""
        return UnknownCode(self.list, self.value, f"{column}: {self.message}", field=field, hint=self.hint)


@dataclass(frozen=True, slots=True)
class CodeList:
    """*rows* have a cell for each of *columns*; the first two are the code and its meaning unless others are named."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def pairs(self, column: str = "", to: str = "") -> Iterator[tuple[str, str]]:
        """Code and meaning of each row that has both. Raises ValueError for a column that is not there."""
        i = self.columns.index(column) if column else 0
        j = self.columns.index(to) if to else 1
        return ((row[i], row[j]) for row in self.rows if row[i] and row[j])

    def ambiguous(self, column: str, to: str) -> str:
        """A code that has two meanings; empty when none has."""
        found: dict[str, str] = {}
        return next(
            (code for code, meaning in self.pairs(column, to) if found.setdefault(code, meaning) != meaning), ""
        )


def list_key(name: str, column: str, to: str) -> str:
    """What a list is asked by: its name, with the columns where they are not its first two."""
    return f"{name}/{column}/{to}" if column or to else name


class ListCodes:
    """The lists of one revision. They never change."""

    generation = 0

    def __init__(self, lists: Mapping[str, CodeList] = MappingProxyType({})) -> None:
        self._lists = lists
        self._tables: dict[str, dict[str, str]] = {}

    def meaning(self, name: str, value: str, /) -> str | None:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = self._table(name)
        return table.get(value)

    def _table(self, key: str) -> dict[str, str]:
        name, _, columns = key.partition("/")
        column, _, to = columns.partition("/")
        found = self._lists.get(name)
        return dict(found.pairs(column, to)) if found is not None else {}


class Coding:
    """The Codes of one engine, which may be replaced, and the cells that remember what they were told by them."""

    def __init__(self, codes: Codes | None = None) -> None:
        self._codes: Codes = codes if codes is not None else ListCodes()
        self._generation = self._codes.generation
        self._memories: list[Callable[[], None]] = []
        self._unanswered = False

    @property
    def codes(self) -> Codes:
        return self._codes

    @codes.setter
    def codes(self, codes: Codes) -> None:
        self._codes = codes
        self._forget()

    def remembers(self, forget: Callable[[], None]) -> None:
        """*forget* is called when what it remembers may not be so any more."""
        self._memories.append(forget)

    def begin(self) -> None:
        """Before a run."""
        if self._memories and (self._unanswered or self._codes.generation != self._generation):
            self._forget()

    def meaning(self, name: str, value: str, /) -> str | None:
        found = self._codes.meaning(name, value)
        if found is None:
            self._unanswered = True
        return found

    def _forget(self) -> None:
        self._generation, self._unanswered = self._codes.generation, False
        for forget in self._memories:
            forget()
