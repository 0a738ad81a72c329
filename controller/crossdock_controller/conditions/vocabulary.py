"""The names a condition may use, and what may stand behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

EXACT_DIGITS = 15  # two decimals of at most 15 significant digits never share a double (IEEE 754 binary64, DBL_DIG)

VARIABLES = {
    "document": "text",
    "key": "text",
    "site": "text",
    "source": "text",
    "lane": "text",
    "labels": "map",
    "doc": "map",
}
STATIC = frozenset({"document", "site", "source", "lane", "labels"})


class Finding(NamedTuple):
    """One thing wrong with a condition; *column* counts from 1 within its text."""

    column: int
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a condition can speak of in one tree. An empty part is not checked.

    *fields*: document name to dotted field path to type word (text, number, bool, time, list, map).
    *values*: variable name to all the texts it can have.  *labels*: every label that some site carries.
    """

    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()

    def field_type(self, path: str) -> str | None:
        """The one type *path* has in all documents that have it; None when they differ or none has it."""
        types = {fields[path] for fields in self.fields.values() if path in fields}
        return types.pop() if len(types) == 1 else None
