"""A mapping is checked whole when it is loaded: every problem, each with its path and a next step."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from crossdock.errors import ConfigError
from crossdock_controller.mappings.compile import problems
from crossdock_controller.mappings.model import Mapping, yaml_path
from support.mapping import engine

SOUND: dict[str, Any] = {
    "mapping": "wms-shipments",
    "document": "Shipment",
    "each": "NO",
    "fields": {
        "number": "NO",
        "shipped_at": {"from": "TS", "as": "datetime", "format": "%d.%m.%Y %H:%M", "zone": "site"},
        "ship_to.city": "CITY",
        "extensions.acme.dock": "DOCK",
        "lines": {"sku": "ITEM", "quantity": {"from": "QTY", "as": "decimal", "uom": {"value": "H87"}}},
    },
    "rules": [{"known": {"field": "lines.sku", "document": "Product"}}, {"required": ["ship_to.city"]}],
}


def found(mapping: dict[str, Any], columns: list[str] | None = None) -> list[tuple[tuple[Any, ...], str, str]]:
    return [tuple(problem) for problem in problems(Mapping.model_validate(mapping), columns)]


def changed(**fields: Any) -> dict[str, Any]:
    return {**SOUND, "fields": {**SOUND["fields"], **fields}}


def test_a_sound_mapping_has_no_problems() -> None:
    assert found(SOUND, ["NO", "TS", "CITY", "DOCK", "ITEM", "QTY"]) == []


def test_all_problems_come_at_once_each_with_its_path() -> None:
    broken = {
        "mapping": "broken",
        "document": "Invoice",
        "each": "NO",
        "where": [{"column": "TYPE", "matches": "("}],
        "fields": {
            "numbr": "NO",
            "issued_on": {"from": "DAY", "as": "day"},
            "total": {"from": "TOTAL"},
            "net": {"from": "NET", "as": "text", "currency": {"value": "EUR"}},
            "due_on": {"from": "DUE", "format": "%Q"},
            "status": {"from": "STATUS", "format": "%Y"},
            "customer": "CUSTOMER",
            "customer.nmae": "NAME",
            "lines": {"quantity": {"from": "QTY", "decimal": ",", "thousands": ","}, "price.amount": "PRICE"},
        },
        "rules": [
            {"range": {"field": "lines.sku", "min": 0}},
            {"known": {"field": "lines.item", "document": "Prodct"}},
            {"pattern": {"field": "number", "matches": "["}},
        ],
    }
    paths = [path for path, _, _ in found(broken)]
    assert paths == [
        ("fields", "numbr"),
        ("fields", "issued_on", "as"),
        ("fields", "total"),
        ("fields", "net", "as"),
        ("fields", "due_on"),
        ("fields", "status", "format"),
        ("fields", "customer"),
        ("fields", "customer.nmae"),
        ("fields",),
        ("lines", "quantity"),
        ("lines", "price.amount"),
        ("where", 0, "matches"),
        ("rules", 0, "range"),
        ("rules", 1, "known"),
        ("rules", 1, "known", "document"),
        ("rules", 2, "pattern", "matches"),
    ]


def test_a_near_miss_is_named() -> None:
    assert found(changed(shiped_at="X"))[0][2] == "did you mean 'shipped_at'?"
    assert found({**SOUND, "document": "Shipmnt"}) == [
        (("document",), "unknown document 'Shipmnt'", "did you mean 'Shipment'?")
    ]
    assert found(changed(carrier={"from": "C", "as": "txt"}))[0][2] == "did you mean 'text'?"


def test_a_column_that_the_source_does_not_have_is_a_problem_where_its_columns_are_declared() -> None:
    problem = found(SOUND, ["NO", "TS", "CITY", "DOCK", "ITEM", "QTTY"])
    assert problem == [(("lines", "quantity"), "the source has no column 'QTY'", "did you mean 'QTTY'?")]
    assert found({**SOUND, "each": "NR"}, ["NO", "NR", "TS", "CITY", "DOCK", "ITEM", "QTY"]) == []
    assert found({**SOUND, "each": "NR"}, ["NO", "TS", "CITY", "DOCK", "ITEM", "QTY"])[0][0] == ("each",)


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        (
            {"number": {"value": "1"}, "shipped_at": {"from": "TS", "format": "%H:%M"}},
            ("fields", "shipped_at"),
            "needs a zone",
        ),
        ({"shipped_at": {"from": "TS", "zone": "Mars/Base"}}, ("fields", "shipped_at", "zone"), "unknown time zone"),
        (
            {"shipped_at": {"from": "TS", "zone": "../etc/passwd"}},
            ("fields", "shipped_at", "zone"),
            "unknown time zone",
        ),
        ({"packages": {"from": "N", "default": "many"}}, ("fields", "packages", "default"), "not a whole number"),
        ({"packages": {"value": "two"}}, ("fields", "packages", "value"), "not a whole number"),
        ({"carrier": {"from": "C", "uom": "U"}}, ("fields", "carrier", "uom"), "means nothing to converter 'text'"),
        ({"carrier": "$agent"}, ("fields", "carrier"), r"\$agent is not known"),
        ({"extensions": "X"}, ("fields", "extensions"), "has no field"),
        ({"carrier.name": "X"}, ("fields", "carrier.name"), "carrier has no parts"),
    ],
)
def test_a_field_that_cannot_work_is_a_problem(change: dict[str, Any], path: tuple[str, ...], said: str) -> None:
    (problem,) = problems(Mapping.model_validate(changed(**change)))
    assert problem.path == path
    assert re.search(said, problem.message)


def test_grouping_without_lines_and_lines_without_a_place_are_problems() -> None:
    flat = {"mapping": "m", "document": "Shipment", "each": "NO", "fields": {"number": "NO"}}
    assert [p for p, _, _ in found(flat)] == [("each",)]
    stock = {"mapping": "m", "document": "Product", "fields": {"sku": "A", "lines": {"sku": "B"}}}
    assert found(stock) == [(("lines",), "Product has no lines", "")]


def test_the_engine_refuses_a_mapping_with_problems_and_names_them_all() -> None:
    with pytest.raises(ConfigError, match=r"fields\.carier.*fields\.packages\.as"):
        engine({"kind": "csv"}, changed(carier="C", packages={"from": "N", "as": "text"}))


@pytest.mark.parametrize(
    ("mapping", "loc"),
    [
        ({"fields": {"number": {"form": "A"}}}, ("fields", "number", "form")),
        ({"fields": {"number": {"from": "A", "value": "B"}}}, ("fields", "number")),
        ({"fields": {"number": {}}}, ("fields", "number")),
        ({"fields": {"number": "A"}, "where": {"column": "A"}}, ("where", 0)),
        ({"fields": {"number": "A"}, "rules": [{}]}, ("rules", 0)),
        (
            {"fields": {"number": "A"}, "rules": [{"required": "a", "pattern": {"field": "a", "matches": "b"}}]},
            ("rules", 0),
        ),
        ({"fields": {"number": "A"}, "filter": 1}, ("filter",)),
    ],
)
def test_a_mapping_of_another_shape_is_refused_with_its_path(mapping: dict[str, Any], loc: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        Mapping.model_validate({"mapping": "m", "document": "Shipment", **mapping})
    assert [error["loc"] for error in caught.value.errors()] == [loc]


def test_lines_stand_inside_the_fields_of_the_file() -> None:
    tree = {"mapping": "m", "document": "Shipment", "fields": {"number": "A", "lines": {"sku": "B"}}}
    model = Mapping.model_validate(tree)
    assert set(model.fields) == {"number"}
    assert yaml_path(tree, ("lines", "sku", "as")) == ("fields", "lines", "sku", "as")
    assert yaml_path(tree, ("fields", "number")) == ("fields", "number")
    with pytest.raises(ValidationError, match="stands twice"):
        Mapping.model_validate({**tree, "lines": {"sku": "B"}})


def test_a_code_that_yaml_reads_as_a_number_is_a_text() -> None:
    model = Mapping.model_validate(
        {
            "mapping": "m",
            "document": "Product",
            "fields": {"sku": "A", "status": {"from": "S", "codes": {1: "open", 2: 5}}},
        }
    )
    assert model.fields["status"].codes == {"1": "open", "2": "5"}
