"""What conditions can speak of, taken from the documents' own types: a mistyped field is found at `plan`."""

from __future__ import annotations

import datetime as dt
import functools
import types
import typing
from decimal import Decimal
from typing import Any

import msgspec

from crossdock_controller.documents.base import entities

_WORDS: dict[type, str] = {
    str: "text",
    int: "number",
    float: "number",
    Decimal: "number",
    bool: "bool",
    dt.datetime: "time",
    dt.date: "text",  # bound as ISO text
    dict: "map",
}


@functools.cache
def document_fields() -> dict[str, dict[str, str]]:
    """Document name to dotted field path to type word. A list's own fields stand below its path ("lines.sku")."""
    return {name: _fields(entity, "") for name, entity in sorted(entities().items())}


def _fields(struct: type[msgspec.Struct], prefix: str) -> dict[str, str]:
    hints = typing.get_type_hints(struct)
    found: dict[str, str] = {}
    for name in struct.__struct_fields__:
        word, inner = _word(hints[name])
        found[prefix + name] = word
        if inner is not None:
            found.update(_fields(inner, f"{prefix}{name}."))
    return found


def _word(annotation: Any) -> tuple[str, type[msgspec.Struct] | None]:
    """The type word of *annotation*, and the struct inside it, if one is."""
    origin = typing.get_origin(annotation)
    arguments = [a for a in typing.get_args(annotation) if a not in (type(None), Ellipsis)]
    if origin in (typing.Union, types.UnionType) and arguments:
        return _word(arguments[0])
    if origin in (list, tuple, set, frozenset):
        return "list", _word(arguments[0])[1] if arguments else None
    plain = origin or annotation
    if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
        return "map", plain
    return _WORDS.get(plain, "any"), None
