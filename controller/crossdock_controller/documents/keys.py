"""Which fields make the key of an entity: found by asking `key()` of a document whose every value can be told."""

from __future__ import annotations

import typing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from crossdock_controller.documents.base import Document, Money, Quantity


def key_fields(entity: type[Document]) -> list[str]:
    """Names, in the order in which they stand in the key."""
    values: dict[str, Any] = {}
    shown: dict[str, str] = {}  # in the key, by field
    for i, field in enumerate(msgspec.structs.fields(entity)):
        kind = next((part for part in typing.get_args(field.type) if part is not type(None)), field.type)
        told = _told(kind, i)
        if told is not None:
            values[field.name], shown[field.name] = told
    key = entity(**values).key()
    return sorted((name for name, text in shown.items() if text in key), key=lambda name: key.index(shown[name]))


def _told(kind: Any, number: int) -> tuple[Any, str] | None:
    """A value of *kind* that no other field has, and how it stands in a key."""
    year = 1901 + number
    if kind is str:
        return f"<{number}>", f"<{number}>"
    if kind is Quantity:
        return Quantity(Decimal(7001 + number)), str(7001 + number)
    if kind is Money:
        return Money(Decimal(1), f"<{number}>"), f"<{number}>"
    if kind is date:
        return date(year, 1, 1), f"{year}-01-01"
    if kind is datetime:
        return datetime(year, 1, 1, tzinfo=UTC), f"{year}0101T000000Z"
    return None
