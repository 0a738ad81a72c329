"""Names and values as databases take them. Pure."""

from __future__ import annotations

import msgspec


def double_quoted(name: str) -> str:
    """A quoted identifier of the standard; a dot separates schema and table."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def text_of(value: object) -> object:
    """Untyped text, which the database parses as the column's own type, so no value is converted twice."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
