"""The body that a receiver wants, declared as a table: its fields, and where in the document each comes from.

body:
  orderNo: number                                        # a path in the document
  total: {from: total.amount, as: number}
  channel: {value: web}
  customer: {fields: {id: customer.id, name: customer.name}}
  positions: {each: lines, fields: {article: sku, pieces: {from: quantity.value, as: integer}}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from crossdock.errors import Rejected

MAX_DEPTH = 8
_MISSING = object()

Make = Callable[[Mapping[str, Any]], Any]  # of the document, or of an element of a list in it


class BodyField(BaseModel):
    """One of: `from`, `value`, `fields` (an object), or `each` with `fields` (a list of objects)."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: str | None = Field(default=None, alias="from")
    as_: Literal["same", "text", "number", "integer", "boolean"] = Field(default="same", alias="as")
    value: str | int | float | bool | None = None
    default: str | int | float | bool | None = None
    each: str | None = None
    fields: dict[str, FieldOrPath] | None = None

    @model_validator(mode="after")
    def _one(self) -> BodyField:
        given = [n for n, v in (("from", self.from_), ("value", self.value), ("fields", self.fields)) if v is not None]
        if len(given) != 1:
            raise ValueError(f"a field of a body has one of from, value, fields; this has {', '.join(given) or 'none'}")
        if self.each is not None and self.fields is None:
            raise ValueError("'each' goes with 'fields': what an element of the list becomes")
        return self


def _short(value: object) -> object:
    return {"from": value} if isinstance(value, str) else value


FieldOrPath = Annotated[BodyField, BeforeValidator(_short)]
BodyField.model_rebuild()
Body = dict[str, FieldOrPath]


def depth(body: Mapping[str, BodyField]) -> int:
    """Objects inside one another."""
    return 1 + max((depth(field.fields) for field in body.values() if field.fields), default=0)


class BodyMaker:
    """Makes bodies of documents. A field whose path leads nowhere is left out."""

    def __init__(self, body: Mapping[str, BodyField]) -> None:
        self._make = _object(body)
        self._encode = msgspec.json.Encoder(decimal_format="number").encode
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode

    def value(self, document: bytes) -> dict[str, Any]:
        """Raises Rejected for a value that is not what the table says."""
        made: dict[str, Any] = self._make(self._decode(document))
        return made

    def __call__(self, document: bytes) -> bytes:
        """As JSON; numbers have all the digits of the document."""
        return self._encode(self.value(document))


def _object(body: Mapping[str, BodyField]) -> Make:
    makers = [(name, _field(name, field)) for name, field in body.items()]

    def make(source: Mapping[str, Any]) -> dict[str, Any]:
        values = ((name, maker(source)) for name, maker in makers)
        return {name: value for name, value in values if value is not _MISSING}

    return make


def _field(name: str, field: BodyField) -> Make:
    if field.fields is not None:
        inner = _object(field.fields)
        return inner if field.each is None else _list(field.each, inner)
    if field.value is not None:
        constant = field.value
        return lambda _source: constant
    path, convert, default = str(field.from_).split("."), _CONVERT[field.as_], field.default

    def make(source: Mapping[str, Any]) -> Any:
        found = _reach(source, path)
        if found is _MISSING or found is None:
            return _MISSING if default is None else default
        try:
            return convert(found)
        except (ValueError, InvalidOperation, TypeError) as error:
            raise Rejected("bad_value", f"{name}: {found!r} is not to be had as {field.as_}", field=name) from error

    return make


def _list(each: str, inner: Make) -> Make:
    path = each.split(".")

    def make(source: Mapping[str, Any]) -> Any:
        found = _reach(source, path)
        return [inner(element) for element in found] if isinstance(found, list) else []

    return make


def _reach(source: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(source, Mapping) or name not in source:
            return _MISSING
        source = source[name]
    return source


def _number(value: Any) -> Decimal:
    number = Decimal(value if isinstance(value, str | int) and not isinstance(value, bool) else str(value))
    if not number.is_finite():
        raise ValueError("no number")
    return number


def _integer(value: Any) -> int:
    number = _number(value)
    if number != number.to_integral_value() or abs(number) >= 10**18:
        raise ValueError("no integer")
    return int(number)


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        raise ValueError("no text")  # noqa: TRY004 - one error for all that does not fit
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("no boolean")  # noqa: TRY004
    return value


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "same": lambda value: value, "text": _text, "number": _number, "integer": _integer, "boolean": _boolean,
}  # fmt: skip
