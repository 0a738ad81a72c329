"""Values made of several columns, or of one or another: joined, computed, the first that is not blank, by cases.

Each is a column that the records do not have, made before the cells look at theirs; then it goes through the same
options and converter as any. What cannot be made is a Failed in its place, and fails the record that needs it, alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, DecimalException
from typing import Any, Protocol

from crossdock.errors import Rejected
from crossdock_controller.formats.base import BLANK
from crossdock_controller.mappings.cleaning import Clean
from crossdock_controller.mappings.converters import Convert, as_text
from crossdock_controller.mappings.expressions import Expression, reason_of
from crossdock_controller.mappings.where import Test

_REMEMBERED = 16384

Columns = dict[str, Sequence[Any]]


class Failed:
    """In the place of a value that cannot be made."""

    def __init__(self, error: Rejected) -> None:
        self.error = error


class Settled:
    """In the place of a value: one of the document's already, which no converter touches."""

    def __init__(self, value: object) -> None:
        self.value = value


class Derived(Protocol):
    columns: tuple[str, ...]  # of the record, that it reads

    def values(self, source: Columns, n: int) -> Sequence[Any]:
        """*n* values as a record would have them, Settled or Failed. Raises nothing."""


class Column:
    def __init__(self, name: str) -> None:
        self._name = name
        self.columns: tuple[str, ...] = (name,)

    def values(self, source: Columns, n: int) -> Sequence[Any]:  # noqa: ARG002
        return source[self._name]


class Fixed:
    columns: tuple[str, ...] = ()

    def __init__(self, value: object) -> None:
        self._value = value

    def values(self, source: Columns, n: int) -> Sequence[Any]:  # noqa: ARG002
        return [self._value] * n


class Part:
    """One part of a join: the text of a column, made fit."""

    def __init__(self, of: Derived, name: str, clean: Clean | None) -> None:
        self._of, self._name, self._clean = of, name, clean
        self.columns = of.columns
        self.is_text = isinstance(of, Fixed) and not name.startswith("$")

    def values(self, source: Columns, n: int) -> Sequence[Any]:
        values = self._of.values(source, n)
        return values if self.is_text else [self._made(value) for value in values]

    def _made(self, value: object) -> object:
        try:
            text = "" if value is None else as_text(value).strip(BLANK)
            return self._clean(text) if self._clean is not None and text else text
        except Rejected as error:
            return Failed(Rejected(error.code, f"{self._name}: {error.message}", hint=error.hint))


class Join:
    """The texts of its parts behind one another; blank where all columns among them are."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._of_columns = [i for i, part in enumerate(parts) if not part.is_text]
        self.columns = tuple(dict.fromkeys(name for part in parts for name in part.columns))

    def values(self, source: Columns, n: int) -> Sequence[Any]:
        return [self._joined(row) for row in zip(*(part.values(source, n) for part in self._parts), strict=True)]

    def _joined(self, row: Sequence[Any]) -> object:
        failed = next((value for value in row if type(value) is Failed), None)
        if failed is not None:
            return failed
        return "".join(row) if any(row[i] for i in self._of_columns) else None


class FirstOf:
    def __init__(self, choices: Sequence[Derived], blank: frozenset[str]) -> None:
        self._choices, self._blank = choices, blank
        self.columns = tuple(dict.fromkeys(name for choice in choices for name in choice.columns))

    def values(self, source: Columns, n: int) -> Sequence[Any]:
        rows = zip(*(choice.values(source, n) for choice in self._choices), strict=True)
        return [next((value for value in row if not is_blank(value, self._blank)), None) for row in rows]


class Cases:
    """The value of the first case whose conditions all hold; blank when none does."""

    def __init__(self, cases: Sequence[tuple[tuple[Test, ...], Derived]]) -> None:
        self._cases = cases
        tested = [test.column for tests, _ in cases for test in tests]
        self.columns = tuple(dict.fromkeys([*tested, *(name for _, of in cases for name in of.columns)]))

    def values(self, source: Columns, n: int) -> Sequence[Any]:
        chosen: list[Any] = [None] * n
        left = list(range(n))
        for tests, of in self._cases:
            if not left:
                break
            taken = left
            for test in tests:
                column = source[test.column]
                holds = test.holds([column[i] for i in taken])
                taken = [i for i, held in zip(taken, holds, strict=True) if held]
            if taken:
                made = of.values({name: [source[name][i] for i in taken] for name in of.columns}, len(taken))
                for i, value in zip(taken, made, strict=True):
                    chosen[i] = value
                gone = set(taken)
                left = [i for i in left if i not in gone]
        return chosen


class Compute:
    """An expression over columns that hold numbers; blank where one of them is."""

    def __init__(self, expression: Expression, number: Convert, blank: frozenset[str], implied: int) -> None:
        """*number* reads a column. The converter that follows takes *implied* decimals off again."""
        self._expression, self._number, self._blank, self._implied = expression, number, blank, implied
        self._read: dict[str, Decimal] = {}
        self.columns = expression.columns

    def values(self, source: Columns, n: int) -> Sequence[Any]:
        if not self.columns:
            return [self._of(())] * n
        return [self._of(row) for row in zip(*(source[name] for name in self.columns), strict=True)]

    def _of(self, row: Sequence[object]) -> object:
        if any(is_blank(value, self._blank) for value in row):
            return None
        name = ""
        numbers: dict[str, Decimal] = {}
        try:
            for name, value in zip(self.columns, row, strict=True):
                numbers[name] = self._as_number(value)
            return self._expression.of(numbers).scaleb(self._implied)
        except Rejected as error:
            return Failed(Rejected(error.code, f"{name}: {error.message}", hint=error.hint))
        except DecimalException as error:
            return Failed(Rejected("bad_compute", f"{', '.join(self.columns)}: {reason_of(error)}"))

    def _as_number(self, value: object) -> Decimal:
        text = value.strip(BLANK) if isinstance(value, str) else value
        if not isinstance(text, str):
            number: Any = self._number(text)
            return number  # type: ignore[no-any-return]
        if text not in self._read:
            if len(self._read) > _REMEMBERED:
                self._read.clear()
            read: Any = self._number(text)
            self._read[text] = read
        return self._read[text]


def is_blank(value: object, blank: frozenset[str] = frozenset()) -> bool:
    if isinstance(value, str):
        text = value.strip(BLANK)
        return not text or text in blank
    return value is None
