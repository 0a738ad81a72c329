"""The catalogue of documents: every field is explained, every schema is true, every version leads to the present."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from crossdock.errors import ConfigError
from crossdock_controller.documents import reference, versions
from crossdock_controller.documents.base import Document, Quantity, decode, encode, entities
from crossdock_controller.documents.keys import key_fields
from crossdock_controller.documents.sales_order import SalesOrder
from crossdock_controller.documents.stock_level import StockLevel

EXPECTED = {
    "Product", "StockLevel", "StockAdjustment", "SalesOrder", "PurchaseOrder", "SupplierConfirmation", "Shipment",
    "ShipmentMilestone", "Receipt", "Invoice", "Payment", "FinancialPosting", "Customer", "Supplier", "Price",
    "ReturnAuthorization",
}  # fmt: skip
PAGES = Path(__file__).parents[2] / "docs" / "reference"


@pytest.fixture(params=sorted(EXPECTED))
def entity(request: pytest.FixtureRequest) -> type[Document]:
    return entities()[request.param]


def test_these_are_the_documents() -> None:
    assert set(entities()) == EXPECTED


def test_every_field_is_explained_and_nothing_else(entity: type[Document]) -> None:
    common = {f.name for f in msgspec.structs.fields(Document)} | {"lines"}
    for struct in (entity, *reference._lines(entity)):
        assert set(struct.ABOUT) == {f.name for f in msgspec.structs.fields(struct)} - common


def test_the_key_is_made_of_the_fields_that_the_page_names(entity: type[Document]) -> None:
    shown = key_fields(entity)
    assert shown[0] == "issuer"
    assert f"`{':'.join(shown)}`" in reference.page()
    required = {f.name for f in msgspec.structs.fields(entity) if f.required}
    assert required & set(shown)


def test_a_document_is_valid_by_its_schema_and_a_wrong_one_is_not(entity: type[Document]) -> None:
    checker = jsonschema.Draft202012Validator(reference.schema(entity))
    checker.check_schema(reference.schema(entity))
    required = {f.name: SAMPLES[f.type] for f in msgspec.structs.fields(entity) if f.required}
    body: dict[str, Any] = json.loads(encode(entity(**required)))
    checker.validate(body)
    for wrong in ({**body, "unheard_of": 1}, {**body, "issuer": 7}):
        assert not checker.is_valid(wrong)
    for name in required:
        assert not checker.is_valid({k: v for k, v in body.items() if k != name})


SAMPLES: dict[Any, Any] = {
    str: "1", Quantity: Quantity(Decimal(1)),
    **{kind: msgspec.convert(value, kind, str_keys=True) for kind, value in (
        (reference.Money, {"amount": "1", "currency": "EUR"}),
        (reference.datetime, "2026-01-30T08:15:00Z"),
    )},
}  # fmt: skip


def test_an_order_of_version_1_reads_back_as_the_present_one() -> None:
    old = b'{"number":"4711","kind":"sales","status":"open"}'
    assert decode("SalesOrder", old, 1) == SalesOrder("4711", status="open")
    with pytest.raises(msgspec.ValidationError):
        decode("SalesOrder", old)


def test_a_consumer_that_pinned_version_1_gets_its_kind() -> None:
    body = encode(SalesOrder("4711"))
    assert json.loads(versions.at("SalesOrder", body, 2, 1)) == {"number": "4711", "kind": "sales"}
    assert json.loads(versions.at("PurchaseOrder", body, 2, 1)) == {"number": "4711", "kind": "purchase"}
    assert versions.at("SalesOrder", versions.at("SalesOrder", body, 2, 1), 1, 2) == body
    assert versions.at("SalesOrder", body, 2, 2) is body


def test_decimals_of_another_version_stay_exact() -> None:
    body = b'{"number":"1","lines":[{"sku":"A","quantity":{"value":"12.5000"}}],"kind":"sales"}'
    assert b'"12.5000"' in versions.at("SalesOrder", body, 1, 2)


def test_a_version_that_no_step_leads_to_is_refused() -> None:
    assert list(versions.known("SalesOrder", 2)) == [1, 2]
    assert list(versions.known("StockLevel", 1)) == [1]
    body = encode(StockLevel("W1", "A", Quantity(Decimal(-1))))
    for have, want in ((1, 2), (1, 0)):
        with pytest.raises(ConfigError, match="StockLevel has no step"):
            versions.at("StockLevel", body, have, want)


def test_the_page_and_the_schemas_are_those_of_the_types() -> None:
    assert (PAGES / "documents.md").read_text("utf-8") == reference.page()
    assert {p.stem for p in (PAGES / "schemas").glob("*.json")} == EXPECTED
