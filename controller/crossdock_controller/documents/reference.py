"""The catalogue for people and other programs: a page and a JSON Schema for each entity, made of the types."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

import msgspec

from crossdock_controller.documents import versions
from crossdock_controller.documents.base import Document, Line, Money, Party, Quantity, entities
from crossdock_controller.documents.keys import key_fields

_ORIGINS = ("X12", "EDIFACT", "UBL, web")
_WORDS: Mapping[Any, str] = {
    str: "text", int: "integer", bool: "true or false", date: "date", datetime: "time, UTC", Quantity: "quantity",
    Money: "money", Party: "party",
}  # fmt: skip
_COMMON = {
    "issuer": "tells apart two parties that number alike",
    "zone": "IANA zone in which the source wrote its local times",
    "extensions": 'what no canonical field holds, by namespace: `{"acme": {"dock": "7"}}`',
    "lines": "see below",
}
_TOP = """# Documents

What records become, whatever system they come from. This page is made from the types (`make stubs`); each entity's JSON
Schema stands in [schemas/](schemas/).

- **Decimals** are JSON strings (`"12.500"`), exact. A **quantity** is `{value, uom, raw_uom}`: `uom` a UN/ECE
  Recommendation 20 code, `raw_uom` the source's own where it differs. **Money** is `{amount, currency}`, ISO 4217.
- **Times** are UTC with `Z`; `zone` says where they were written. **Dates** have no invented time.
- A **party** is `{id, name, street, postal_code, city, region, country, gln}`; `id` is the number under which the
  issuer knows it.
- A blank field is not there. What no field holds goes to `extensions`.
- The **key** is the same for every version of one document, and unique for its entity.
- Within a **version** of an entity, fields are only added. A sink that pins an earlier one
  (`versions: {SalesOrder: 1}`) gets what it always got. Documents stored by an earlier release are brought up to the
  present version when they are read.
- Where a field comes from: segments and elements as commonly used, from the published standards; partners differ.
"""


def schema(entity: type[Document]) -> dict[str, Any]:
    """JSON Schema of *entity*, with what its fields mean."""
    (found,), components = msgspec.json.schema_components([entity], ref_template="#/$defs/{name}")
    definitions: dict[str, Any] = dict(components)
    for struct in (entity, *_lines(entity)):
        properties = definitions[struct.__name__]["properties"]
        for name, (meaning, *_) in _about(struct).items():
            if meaning:
                properties[name] = {**properties[name], "description": meaning}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{entity.__name__} version {entity.VERSION}",
        **found,
        "$defs": definitions,
    }


def page() -> str:
    """The reference page of the whole catalogue, Markdown."""
    known = sorted(entities().items())
    index = ["| entity | is | key |", "| --- | --- | --- |"]
    index += [f"| [{name}](#{name.lower()}) | {_first(entity)} | `{_key(entity)}` |" for name, entity in known]
    return "\n".join([_TOP, *index, "", *("\n".join(_entity(entity)) for _, entity in known)])


def _entity(entity: type[Document]) -> Iterator[str]:
    yield f"## {entity.__name__}\n"
    yield f"{_first(entity)} Version {entity.VERSION}{_earlier(entity)}. Key: `{_key(entity)}`.\n"
    yield from _table(entity)
    for line in _lines(entity):
        yield f"\n`lines`, each: {_first(line)}\n"
        yield from _table(line)
    yield ""


def _table(struct: type[msgspec.Struct]) -> Iterator[str]:
    yield "| field | type | meaning | " + " | ".join(_ORIGINS) + " |"
    yield "| --- | --- | --- | " + " | ".join("---" for _ in _ORIGINS) + " |"
    about = _about(struct)
    for field in msgspec.structs.fields(struct):
        meaning, *origins = about.get(field.name, (_COMMON.get(field.name, ""), "", "", ""))
        needed = " **required**" if field.required else ""
        yield f"| `{field.name}` | {_type(field.type)}{needed} | {meaning} | " + " | ".join(origins) + " |"


def _about(struct: type[Any]) -> dict[str, tuple[str, str, str, str]]:
    """Meaning and origins of each field that *struct* tells of."""
    found: dict[str, tuple[str, str, str, str]] = {}
    for name, text in struct.ABOUT.items():
        meaning, x12, edifact, web = (part.strip() for part in (*text.split("|"), "", "", "")[:4])
        found[name] = (meaning, x12, edifact, web)
    return found


def _lines(entity: type[Document]) -> list[type[Line]]:
    kinds = {field.name: field.type for field in msgspec.structs.fields(entity)}
    return [typing.get_args(kinds["lines"])[0]] if "lines" in kinds else []


def _type(kind: Any) -> str:
    plain = [part for part in typing.get_args(kind) if part is not type(None)] or [kind]
    return _WORDS.get(plain[0], "list" if typing.get_origin(kind) is tuple else "object")


def _first(struct: type[Any]) -> str:
    return (inspect.getdoc(struct) or "").split("\n", maxsplit=1)[0]


def _earlier(entity: type[Document]) -> str:
    earlier = [str(n) for n in versions.known(entity.__name__, entity.VERSION) if n != entity.VERSION]
    return f" ({', '.join(earlier)} may be pinned)" if earlier else ""


def _key(entity: type[Document]) -> str:
    return ":".join(key_fields(entity))
