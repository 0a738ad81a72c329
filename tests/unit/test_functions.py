"""Functions of an installed package as converters: by name, held to the type of a field, their errors dead letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crossdock_controller.mappings.compile import problems
from crossdock_controller.mappings.functions import installed
from crossdock_controller.mappings.model import Mapping
from crossdock_controller.outcomes import Outcomes
from support.mapping import Known, engine, file_batches

CSV = {"kind": "csv", "delimiter": ";"}
MODULE = """
import datetime, decimal

def lot(value, plant=""):
    if value == "none":
        return None
    return f"{plant}{value[::-1]}"

def fails(value):
    raise KeyError(value)

def leaves(value):
    raise SystemExit(3)

def half(value):
    return decimal.Decimal(value) / 2

def floats(value):
    return 0.5

def endless(value):
    return decimal.Decimal("NaN")

def day(value):
    return datetime.date(2026, 1, int(value))

def local(value):
    return datetime.datetime(2026, 1, 1)

NUMBER = 7
"""
NAMES = ("lot", "fails", "leaves", "half", "floats", "endless", "day", "local", "NUMBER", "missing")


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as an installer leaves it."""
    (tmp_path / "acme_functions_of_the_test.py").write_text(MODULE, "utf-8")
    info = tmp_path / "acme_functions_of_the_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-functions-of-the-test\nVersion: 1.0\n", "utf-8")
    lines = "".join(f"acme-{name.lower()} = acme_functions_of_the_test:{name}\n" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[crossdock.functions]\n{lines}", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def run(field: str, spec: dict[str, Any], data: str) -> Outcomes:
    fields = {"sku": "SKU", field: {"from": "V", "as": "python", **spec}}
    made = engine(CSV, {"mapping": "wms", "document": "Product", "fields": fields})
    return made.run(file_batches(CSV, ("SKU;V\n" + data).encode()), Known())[0]


def test_a_function_makes_a_field_of_the_column_and_its_options() -> None:
    assert {"acme-lot", "acme-half"} <= set(installed())
    out = run(
        "description", {"options": {"function": "acme-lot", "plant": "7/"}, "default": "-"}, "1;abc\n2;none\n3;\n"
    )
    assert [m.fields.description for m in out.mapped] == ["7/cba", "-", "-"]  # type: ignore[attr-defined]
    assert all(not m.warnings for m in out.mapped)


def test_a_number_of_a_function_is_an_exact_one_with_its_unit() -> None:
    out = run(
        "weight", {"options": {"function": "acme-half"}, "uom": {"value": "KGM"}, "digits": 1}, "1;5\n2;2.25\n3;x\n"
    )
    assert [m.body for m in out.mapped] == [
        b'{"sku":"1","weight":{"value":"2.5","uom":"KGM"}}',
        b'{"sku":"2","weight":{"value":"1.1","uom":"KGM"}}',
    ]
    (dead,) = out.dead
    assert (dead.code, dead.field, dead.records) == ("function_failed", "weight", 1)
    assert "the function acme-half failed with 'x': InvalidOperation" in dead.reason


@pytest.mark.parametrize(
    ("field", "function", "expected"),
    [
        ("description", "acme-fails", "KeyError"),
        ("description", "acme-leaves", "SystemExit"),
        ("description", "acme-half", "the function gave Decimal('2'), the field is a str"),
        ("weight", "acme-floats", "the function gave 0.5, the field is a Decimal or int"),
        ("active", "acme-lot", "the field is a bool"),
    ],
)
def test_what_a_function_does_wrong_is_the_dead_letter_of_its_record(field: str, function: str, expected: str) -> None:
    out = run(field, {"options": {"function": function}}, "1;4\n2;\n")
    assert [dead.code for dead in out.dead] == ["function_failed"]
    assert expected in out.dead[0].reason
    assert [m.key for m in out.mapped] == ["2"]


def test_a_number_that_is_none_is_refused() -> None:
    assert [dead.code for dead in run("weight", {"options": {"function": "acme-endless"}}, "1;4\n").dead] == [
        "bad_decimal"
    ]


def test_days_are_taken_and_times_need_a_zone() -> None:
    fields = {"number": "N", "issued_on": {"from": "V", "as": "python", "options": {"function": "acme-day"}}}
    made = engine(CSV, {"mapping": "m", "document": "Invoice", "fields": fields})
    (out,) = made.run(file_batches(CSV, b"N;V\n1;4\n"), Known())
    assert b'"issued_on":"2026-01-04"' in out.mapped[0].body
    fields = {"number": "N", "shipped_at": {"from": "V", "as": "python", "options": {"function": "acme-local"}}}
    made = engine(CSV, {"mapping": "m", "document": "Shipment", "fields": fields})
    (out,) = made.run(file_batches(CSV, b"N;V\n1;4\n"), Known())
    assert "the field is a datetime with a zone" in out.dead[0].reason


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({}, "'as: python' needs the name of a function", "options: {function: NAME}"),
        ({"function": "acme-lott"}, "no function 'acme-lott' is installed", "did you mean 'acme-lot'?"),
        ({"function": "os.system"}, "no function 'os.system' is installed", "known: "),
        (
            {"function": "acme-missing"},
            "the function 'acme-missing' cannot be loaded: AttributeError",
            "see the package",
        ),
        ({"function": "acme-number"}, "'acme-number' is no function but 7", "see the package"),
    ],
)
def test_a_function_that_is_not_there_is_told_at_plan(options: dict[str, Any], message: str, hint: str) -> None:
    fields = {"sku": "S", "weight": {"from": "V", "as": "python", "options": options}}
    (found,) = problems(Mapping.model_validate({"mapping": "m", "document": "Product", "fields": fields}))
    assert found.message.startswith(message)
    assert hint in found.hint
    assert found.path == ("fields", "weight")
