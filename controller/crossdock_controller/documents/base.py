"""Shared types of canonical documents. A document always has a business key, exact decimals and UTC times.

Decimals travel as JSON strings (`"12.500"`), times as RFC 3339 in UTC with `Z`, dates without an invented time, blank
fields not at all. Whoever adds an entity adds one file in this folder: the struct, `key()`, and `@register`.

Fields of an entity are positional on purpose, required ones first: the mapping engine builds thousands of documents by
`map(cls, *columns)`, five times faster than by keyword. Everyone else writes keywords.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

import msgspec


class Quantity(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """*uom* is a UN/ECE Recommendation 20 code where the mapping knows it; *raw_uom* the source's own, if different."""

    value: Decimal
    uom: str = ""
    raw_uom: str = ""


class Money(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    amount: Decimal
    currency: str  # ISO 4217


class Party(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A customer, supplier or address. *id* is the number under which the document's issuer knows it."""

    id: str = ""
    name: str = ""
    street: str = ""
    postal_code: str = ""
    city: str = ""
    region: str = ""
    country: str = ""  # ISO 3166-1 alpha-2
    gln: str = ""


About = Mapping[str, str]
"""What each field means, and where it comes from: "meaning | X12 | EDIFACT | UBL or web"."""


class Extensible(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What no canonical field holds, by namespace: `{"acme": {"dock": "7"}}`."""

    extensions: dict[str, dict[str, Any]] | None = None


class Line(Extensible, frozen=True, kw_only=True, gc=False):
    """Base of the lines of a document. The fields of a line are declared as those of an entity."""

    ABOUT: ClassVar[About] = {}


class Document(Extensible, frozen=True, kw_only=True, gc=False):
    """Base of every entity.

    *issuer* tells apart two parties that number alike; *zone* is the IANA zone in which the source wrote its local
    times, by which a reader gets them back.
    """

    issuer: str = ""
    zone: str = ""

    VERSION: ClassVar[int] = 1  # see `versions`
    ABOUT: ClassVar[About] = {}

    def key(self) -> str:
        """The business key: unique per entity, the same for every version of one document, readable."""
        raise NotImplementedError(f"{type(self).__name__} declares no key()")


def join_key(*parts: str) -> str:
    """Parts joined by ":", trailing blank ones left out; a ":" or "%" inside a part is percent-encoded, so that two
    different tuples never make one key."""
    key = ":".join(parts)
    if "%" in key or key.count(":") >= len(parts):
        key = ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)
    return key.rstrip(":")


def numbered_key(issuer: str, number: str) -> str:
    """`4711`, or `acme:4711` with an issuer."""
    return join_key(issuer, number) if issuer else join_key(number)


_ENTITIES: dict[str, type[Document]] = {}

D = TypeVar("D", bound=type[Document])


def register(entity: D) -> D:
    """Class decorator: the entity is known under the name of its class."""
    _ENTITIES[entity.__name__] = entity
    return entity


def entities() -> dict[str, type[Document]]:
    """Every entity in this folder, by name."""
    import crossdock_controller.documents as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(_ENTITIES)


encode = msgspec.json.Encoder().encode
"""A document as JSON bytes. The same document always encodes to the same bytes."""


def decode(name: str, body: bytes, version: int | None = None) -> Document:
    """The inverse of `encode`; a *body* of an earlier *version* is brought up to the present one.

    Raises KeyError for an unknown entity, msgspec.DecodeError for another body.
    """
    from crossdock_controller.documents import versions

    entity = entities()[name]
    return msgspec.json.decode(versions.at(name, body, version or entity.VERSION, entity.VERSION), type=entity)
