"""Cells: how one field of a document is made from the values of its columns, thousands at a time.

A cell turns whole columns into a list of values (`column`), raising Rejected at the first bad value; the caller then
asks record by record (`value`) to charge each error to its record. In a text file equal texts give equal values, so
conversions are remembered by text: a repeated value costs one dictionary lookup. In tables and JSON, where 1, 1.0 and
True are equal but do not mean the same, only texts are remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import repeat
from typing import Any, Protocol

import msgspec

from crossdock.errors import Rejected
from crossdock_controller.documents.base import Money, Quantity
from crossdock_controller.formats.base import BLANK
from crossdock_controller.mappings.cleaning import Clean
from crossdock_controller.mappings.codes import UnknownCode
from crossdock_controller.mappings.converters import Convert, Warned, as_text
from crossdock_controller.mappings.decoding import Decode
from crossdock_controller.mappings.derived import Columns, Failed, Settled

_REMEMBERED = 16384  # conversions a cell keeps, some 4 MB of them at most; beyond, it starts anew

Row = dict[str, object]


class Cell(Protocol):
    columns: tuple[str, ...]  # what it reads

    def column(self, source: Columns, n: int, *, text_only: bool) -> list[Any]:
        """*n* values. Raises Rejected when any value is bad, without saying in which record."""

    def value(self, row: Row) -> object:
        """The value of one record. Raises Rejected."""

    def warnings(self, row: Row) -> list[str]:
        """What the conversion of this record's values warned of."""

    def has_warnings(self) -> bool:
        """Whether any value remembered so far warned; the cheap question before the dear one."""


class Constant:
    columns: tuple[str, ...] = ()

    def __init__(self, value: object) -> None:
        self.constant = value

    def column(self, source: Columns, n: int, *, text_only: bool) -> list[Any]:  # noqa: ARG002
        return [self.constant] * n

    def value(self, row: Row) -> object:  # noqa: ARG002
        return self.constant

    def warnings(self, row: Row) -> list[str]:  # noqa: ARG002
        return []

    def has_warnings(self) -> bool:
        return False


class Scalar(dict[str, object]):
    """One column through trim, blanks, codes and a converter; itself the memory of what it converted."""

    __slots__ = (
        "blank",
        "clean",
        "codes",
        "columns",
        "convert",
        "empty",
        "is_plain_text",
        "label",
        "name",
        "required",
        "target",
        "trim",
        "warned",
    )

    def __init__(
        self,
        target: str,
        name: str,
        convert: Convert,
        *,
        empty: object,
        required: bool,
        trim: bool = True,
        blank: tuple[str, ...] = (),
        codes: Decode | None = None,
        clean: Clean | None = None,
        label: str = "",
    ) -> None:
        """*label* is what a person reads for the column *name*."""
        super().__init__()
        self.target, self.name, self.convert = target, name, convert
        self.label = label or name
        self.columns: tuple[str, ...] = (name,)
        self.empty, self.required, self.trim = empty, required, trim
        self.blank, self.codes, self.clean = frozenset(blank), codes, clean
        self.warned: dict[object, str] = {}
        # Text that is only trimmed needs neither converter nor memory.
        self.is_plain_text = convert is as_text and trim and not blank and codes is None and clean is None

    def __missing__(self, raw: str) -> object:
        value = self[raw] = self.read(raw)
        return value

    def forget(self) -> None:
        self.clear()
        self.warned.clear()

    def column(self, source: Columns, n: int, *, text_only: bool) -> list[Any]:  # noqa: ARG002
        raws = source[self.name]
        if len(self) + len(self.warned) > _REMEMBERED:
            self.forget()
        if self.is_plain_text and (text_only or _all_texts(raws)):
            texts: list[Any] = [raw.strip(BLANK) for raw in raws]
            if (self.required or self.empty != "") and "" in texts:
                texts = [text or self._when_blank() for text in texts]
            return texts
        if text_only:
            return list(map(self.__getitem__, raws))
        return list(map(self.recall, raws))

    def recall(self, raw: object) -> Any:
        """As `read`, remembering texts: 1, 1.0 and True are equal, but do not mean the same."""
        return self[raw] if type(raw) is str else self.read(raw)

    def value(self, row: Row) -> object:
        return self.read(row[self.name])

    def warnings(self, row: Row) -> list[str]:
        raw = row[self.name]
        text = self.warned.get(raw) if isinstance(raw, str | int | float) else None
        return [text] if text else []

    def has_warnings(self) -> bool:
        return bool(self.warned)

    def read(self, raw: object) -> object:
        """The value of *raw*, as it stands in the record. Raises Rejected."""
        value = raw.strip(BLANK) if isinstance(raw, str) else raw
        if value is None or value == "" or (self.blank and isinstance(value, str) and value in self.blank):
            return self._when_blank()
        try:
            if self.clean is not None:
                value = self.clean(value)
                if value == "" or value in self.blank:
                    return self._when_blank()
            if self.codes is not None:
                value = self.codes(value)
            untouched = not self.trim and self.codes is None and self.clean is None
            made = self.convert(raw if untouched else value)
        except UnknownCode as error:
            raise error.at(self.label, self.target) from error
        except Rejected as error:
            raise Rejected(error.code, f"{self.label}: {error.message}", field=self.target, hint=error.hint) from error
        return self._noted(raw, made) if type(made) is Warned else made

    def _noted(self, raw: object, warned: Warned) -> object:
        if warned.text and isinstance(raw, str | int | float):
            self.warned[raw] = f"{self.target}: {warned.text}"
        return self._when_blank() if warned.value is None else warned.value

    def _when_blank(self) -> object:
        if self.required:
            raise Rejected("required", f"{self.label}: is blank, {self.target} is required", field=self.target)
        return self.empty


class DerivedScalar(Scalar):
    """A cell of a column that is made of others: its values may be settled already, or be none."""

    __slots__ = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_plain_text = False

    def column(self, source: Columns, n: int, *, text_only: bool) -> list[Any]:  # noqa: ARG002
        """A number that was computed is not remembered: 1.0 and 1.00 are equal, but are not written the same."""
        return super().column(source, n, text_only=False)

    def read(self, raw: object) -> object:
        if type(raw) is Settled:
            return raw.value
        if type(raw) is Failed:
            error = raw.error
            raise Rejected(error.code, error.message, field=self.target, hint=error.hint) from error
        return super().read(raw)


class Amount(dict[Any, object]):
    """A Quantity or Money: a decimal and its unit or currency, each of a column or constant; remembered as a whole."""

    __slots__ = ("_by_text", "_convert", "_make", "_number", "_to", "_unit", "columns", "target")

    def __init__(
        self,
        target: str,
        number: Scalar,
        unit: Scalar | Constant,
        make: type[Quantity] | type[Money],
        convert: Callable[[Decimal, str], Decimal] | None = None,
        to: str = "",
    ) -> None:
        """*convert* gives the value of a quantity, and its unit, in the unit *to*."""
        super().__init__()
        self.target, self._number, self._unit = target, number, unit
        self._convert, self._to = convert, to
        self.columns: tuple[str, ...] = tuple(dict.fromkeys(number.columns + unit.columns))
        self._make: Any = make
        self._by_text = not isinstance(number, DerivedScalar) and not isinstance(unit, DerivedScalar)

    def __missing__(self, raws: Any) -> object:
        amount = self[raws] = self._of(*raws) if isinstance(self._unit, Scalar) else self._of(raws, None)
        return amount

    def column(self, source: Columns, n: int, *, text_only: bool) -> list[Any]:
        if len(self) > _REMEMBERED:
            self.clear()
            self._number.warned.clear()
        numbers = source[self._number.name]
        units = source[self._unit.name] if isinstance(self._unit, Scalar) else repeat(None, n)
        if not text_only or not self._by_text:
            return list(map(self._of, numbers, units))
        return list(map(self.__getitem__, numbers if isinstance(units, repeat) else zip(numbers, units, strict=True)))

    def value(self, row: Row) -> object:
        return self._of(row[self._number.name], row[self._unit.name] if isinstance(self._unit, Scalar) else None)

    def warnings(self, row: Row) -> list[str]:
        return self._number.warnings(row) + self._unit.warnings(row)

    def has_warnings(self) -> bool:
        return self._number.has_warnings() or self._unit.has_warnings()

    def _of(self, raw_number: object, raw_unit: object) -> object:
        number: Any = self._number.read(raw_number)
        if number is None:
            return None
        if self._convert is not None:
            return self._converted(number, raw_unit)
        if isinstance(self._unit, Constant):
            return self._make(number, self._unit.constant)
        unit = self._unit.recall(raw_unit)
        if self._make is Money:
            return self._make(number, unit)
        word = "" if raw_unit is None else as_text(raw_unit).strip(BLANK)  # what the source calls the unit
        return self._make(number, unit, "" if word == unit else word)

    def _converted(self, number: Decimal, raw_unit: object) -> object:
        """In the unit asked for; the source's own stays beside it."""
        assert self._convert is not None  # noqa: S101 - asked by the caller
        unit: Any = self._unit.constant if isinstance(self._unit, Constant) else self._unit.recall(raw_unit)
        word = unit if raw_unit is None else as_text(raw_unit).strip(BLANK)
        try:
            value = self._convert(number, unit)
        except Rejected as error:
            name = self._number.label
            raise Rejected(error.code, f"{name}: {error.message}", field=self.target, hint=error.hint) from error
        return self._make(value, self._to, "" if word == self._to else word)


def _all_texts(values: Sequence[object]) -> bool:
    return set(map(type, values)) <= {str}


class _Composite:
    """Several cells made into one value."""

    def __init__(self, parts: Sequence[Cell]) -> None:
        self._parts = parts
        self.columns = tuple(dict.fromkeys(column for part in parts for column in part.columns))

    def column(self, source: Columns, n: int, *, text_only: bool) -> list[Any]:
        columns = [part.column(source, n, text_only=text_only) for part in self._parts]
        return [self._built(values) for values in zip(*columns, strict=True)]

    def value(self, row: Row) -> object:
        return self._built([part.value(row) for part in self._parts])

    def warnings(self, row: Row) -> list[str]:
        return [text for part in self._parts for text in part.warnings(row)]

    def has_warnings(self) -> bool:
        return any(part.has_warnings() for part in self._parts)

    def _built(self, values: Sequence[object]) -> object:
        raise NotImplementedError


class Nested(_Composite):
    """A struct inside a document (`ship_to.city`): absent when every part is blank."""

    def __init__(self, make: type[msgspec.Struct], parts: dict[str, Cell]) -> None:
        super().__init__(list(parts.values()))
        self._make, self._names = make, tuple(parts)

    def _built(self, values: Sequence[object]) -> object:
        return (
            self._make(**dict(zip(self._names, values, strict=True)))
            if any(v not in ("", None) for v in values)
            else None
        )


class Extensions(_Composite):
    """`extensions.NAMESPACE.NAME` fields, as one dict a document; blank ones are left out. Equal ones share a dict."""

    def __init__(self, parts: dict[tuple[str, str], Cell]) -> None:
        super().__init__(list(parts.values()))
        self._names = tuple(parts)

    def column(self, source: Columns, n: int, *, text_only: bool) -> list[Any]:
        columns = [part.column(source, n, text_only=text_only) for part in self._parts]
        rows = list(zip(*columns, strict=True))
        if not all(map(_all_texts, columns)):  # equal numbers may differ in their text: 1.0 and 1.00
            return [self._built(values) for values in rows]
        made = {values: self._built(values) for values in set(rows)}
        return [made[values] for values in rows]

    def _built(self, values: Sequence[object]) -> object:
        built: dict[str, dict[str, object]] = {}
        for (namespace, name), value in zip(self._names, values, strict=True):
            if value not in ("", None):
                built.setdefault(namespace, {})[name] = value
        return built or None
