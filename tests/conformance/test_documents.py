"""What every document must be: readable back from its JSON, exact, keyed, and buildable by position."""

from __future__ import annotations

import inspect
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, get_args

import msgspec
import pytest

from crossdock_controller.documents.base import Document, Line, Money, Party, Quantity, decode, encode, entities
from crossdock_controller.mappings.fields import plain_type

SAMPLES: dict[Any, Any] = {
    str: "text",
    int: 3,
    bool: True,
    date: date(2026, 1, 30),
    datetime: datetime(2026, 1, 30, 8, 15, tzinfo=UTC),
    Quantity: Quantity(Decimal("12.500"), "H87", "ST"),
    Money: Money(Decimal("0.10"), "EUR"),
    Party: Party("K-1", "Acme", city="Köln"),
}


def full(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """A value for every field."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        kind = plain_type(field.type)
        if field.name == "lines":
            line = get_args(field.type)[0]
            values["lines"] = (line(**full(line)),)
        elif field.name == "extensions":
            values["extensions"] = {"acme": {"dock": "7"}}
        else:
            values[field.name] = SAMPLES[kind]
    return values


@pytest.fixture(params=sorted(entities()))
def entity(request: pytest.FixtureRequest) -> type[Document]:
    return entities()[request.param]


def test_the_json_of_a_document_reads_back_as_the_same_document(entity: type[Document]) -> None:
    document = entity(**full(entity))
    assert decode(entity.__name__, encode(document)) == document


def test_decimals_are_json_strings_and_times_are_utc_with_z(entity: type[Document]) -> None:
    def walk(value: Any) -> None:
        assert not isinstance(value, float)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(item)
        if isinstance(value, dict) and "amount" in value:
            assert value["amount"] == "0.10" or isinstance(value["amount"], dict)

    body = encode(entity(**full(entity)))
    walk(msgspec.json.decode(body))
    if b"2026-01-30T" in body:
        assert b'"2026-01-30T08:15:00Z"' in body


def test_blank_fields_are_left_out_of_the_json(entity: type[Document]) -> None:
    required = {f.name: full(entity)[f.name] for f in msgspec.structs.fields(entity) if f.required}
    assert set(msgspec.json.decode(encode(entity(**required)))) == set(required)


def test_an_unknown_field_is_refused(entity: type[Document]) -> None:
    body = msgspec.json.decode(encode(entity(**full(entity))))
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        decode(entity.__name__, msgspec.json.encode(body | {"surprise": 1}))


def test_a_document_cannot_be_changed(entity: type[Document]) -> None:
    document = entity(**full(entity))
    with pytest.raises(AttributeError):
        document.issuer = "someone else"  # type: ignore[misc]


def test_the_key_is_text_and_the_issuer_tells_two_parties_apart(entity: type[Document]) -> None:
    values = full(entity)
    keys = {entity(**values | {"issuer": issuer}).key() for issuer in ("", "acme", "other")}
    assert len(keys) == 3
    assert all(keys)


def test_a_colon_in_a_part_never_makes_the_key_of_another_document(entity: type[Document]) -> None:
    values = full(entity)
    own = next(f.name for f in msgspec.structs.fields(entity) if f.required and f.type is str)
    with_colon = entity(**values | {"issuer": "", own: "acme:text"})
    with_issuer = entity(**values | {"issuer": "acme", own: "text"})
    assert with_colon.key() != with_issuer.key()


def test_own_fields_are_positional_and_shared_ones_by_keyword(entity: type[Document]) -> None:
    """The engine builds by `map(cls, *columns)`."""
    for struct in (entity, *(get_args(f.type)[0] for f in msgspec.structs.fields(entity) if f.name == "lines")):
        kinds = {name: p.kind for name, p in inspect.signature(struct).parameters.items()}
        shared = {"extensions", "issuer", "zone"} & kinds.keys()
        assert {kinds[name] for name in shared} == {inspect.Parameter.KEYWORD_ONLY}
        assert {kinds[name] for name in kinds.keys() - shared} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
        assert issubclass(struct, Document | Line)
