"""From a document to columns: `{NO: number, QTY: quantity.value}`, and one row a line for `each: lines`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from crossdock.errors import UNREADABLE, Rejected

Scalar = str | int | float | bool | None


def decoded(payload: bytes) -> dict[str, Any]:
    """Raises Rejected for what is no JSON object. Numbers with a point stay as they are written."""
    try:
        found = msgspec.json.decode(payload)
    except UNREADABLE as error:
        raise Rejected("not_json", f"the document cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise Rejected("not_json", "the document is no JSON object")
    return found


def values(document: Mapping[str, Any], columns: Mapping[str, str], parent: Mapping[str, Any] | None = None) -> list[
    Scalar
]:  # fmt: skip
    """One value a column, in their order; NULL where the document has none. `^.` leads to the header of a line."""
    return [_value(document, path, column, parent) for column, path in columns.items()]


def lines(document: Mapping[str, Any], each: str) -> list[Mapping[str, Any]]:
    """The list at *each*. Raises Rejected when there is something else."""
    found = _at(document, each.split("."))
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(line, dict) for line in found):
        raise Rejected("no_lines", f"{each!r} of the document is no list of lines", field=each)
    return found


def _value(document: Mapping[str, Any], path: str, column: str, parent: Mapping[str, Any] | None) -> Scalar:
    where, steps = document, path.split(".")
    if steps[0] == "^":
        where, steps = parent or {}, steps[1:]
    found = _at(where, steps)
    if isinstance(found, dict | list):
        raise Rejected("no_value", f"{path!r} for {column} is no single value", field=path)
    return found  # type: ignore[no-any-return]


def _at(value: Any, steps: list[str]) -> Any:
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
