"""Fields made of several columns: joined, computed, the first that is there, by cases."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock.errors import ConfigError
from crossdock_controller.mappings.compile import Declared, problems
from crossdock_controller.mappings.expressions import MAX_CHARACTERS, parse
from crossdock_controller.mappings.model import Mapping
from crossdock_controller.outcomes import Mapped, Outcomes
from support.mapping import Known, engine, file_batches, table_batches

CSV = {"kind": "csv", "delimiter": ";"}


def run(fields: dict[str, Any], data: str, document: str = "Product", **more: Any) -> Outcomes:
    fields = {"sku": "SKU", **fields} if document == "Product" else fields
    made = engine(CSV, {"mapping": "wms", "document": document, "fields": fields, **more})
    return made.run(file_batches(CSV, data.encode()), Known())[0]


def values(out: Outcomes, name: str) -> list[object]:
    return [getattr(entry.fields, name) for entry in out.mapped]


def of(expression: str, **columns: str) -> Decimal:
    return parse(expression).of({name: Decimal(text) for name, text in columns.items()})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("8 / 4 / 2", "1"),
        ("10 - 4 - 3", "3"),
        ("-A", "-5"),
        ("--A", "5"),
        ("A*-B", "-10"),
        ("2 - -A", "7"),
        ("[NET AMOUNT] / 100", "0.5"),
        ("1 / 3", "0.333333333333333333"),
        ("A_1.5 + ^UP", "7"),
        ("0.1 + 0.2", "0.3"),
        ("100 / 3 * 3", "100"),
    ],
)
def test_an_expression_is_exact_and_binds_as_at_school(expression: str, expected: str) -> None:
    found = parse(expression).of(
        {"A": Decimal(5), "B": Decimal(2), "NET AMOUNT": Decimal(50), "A_1.5": Decimal(3), "^UP": Decimal(4)}
    )
    assert found == Decimal(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 +",
        "(1",
        "1)",
        "1 2",
        "A B",
        "A ** B",
        "A // B",
        "__import__('os')",
        "A.b()",
        "[]",
        "[A",
        "A % B",
        "1 if A else 2",
        "(" * 500,
        "-" * 499 + "1",
        "1" * (MAX_CHARACTERS + 1),
        "A[0]",
        "lambda: 1",
        "1e5",
        "\x00",
        "A = 1",
        "*",
        "1 + * 2",
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


@given(st.text(max_size=60) | st.text("AB12+-*/() .[]^$", max_size=60))
def test_any_text_is_an_expression_or_a_config_error(text: str) -> None:
    try:
        expression = parse(text)
    except ConfigError:
        return
    assert all(name in text for name in expression.columns)


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_sums_and_products_are_those_of_exact_numbers(a: Decimal, b: Decimal, c: Decimal) -> None:
    found = parse("A * (B - C) + A").of({"A": a, "B": b, "C": c})
    exact = (int(a * 1000) * (int(b * 1000) - int(c * 1000)), int(a * 1000))
    assert found == Decimal(exact[0]).scaleb(-6) + Decimal(exact[1]).scaleb(-3)


def test_a_join_is_the_texts_of_its_columns_and_what_stands_between() -> None:
    fields = {"description": {"join": ["A", " - ", {"from": "B", "case": "upper"}, {"value": "x"}]}}
    out = run(fields, "SKU;A;B\n1; left ;right\n2;left;\n3;;\n")
    assert values(out, "description") == ["left - RIGHTx", "left - x", ""]


def test_date_and_time_of_two_columns_are_one_time_in_the_zone_of_the_site() -> None:
    joined = {"join": ["DAY", " ", {"from": "TIME", "pad": 6}], "format": "%Y%m%d %H%M%S", "zone": "site"}
    fields = {"number": "NO", "shipped_at": joined}
    out = run(fields, "NO;DAY;TIME\n1;20260131;91500\n2;20260131;x\n3;;\n", "Shipment")
    assert [m.body for m in out.mapped] == [
        b'{"number":"1","shipped_at":"2026-01-31T08:15:00Z","zone":"Europe/Berlin"}',
        b'{"number":"3","zone":"Europe/Berlin"}',
    ]
    (dead,) = out.dead
    assert (dead.code, dead.field) == ("bad_datetime", "shipped_at")
    assert dead.reason.startswith("DAY, TIME: '20260131 00000x' is not a time")


def test_the_first_column_that_is_there_is_taken() -> None:
    fields = {"description": {"first_of": ["A", "B", "C"], "blank": "-", "default": "none"}}
    out = run(fields, "SKU;A;B;C\n1;a;b;c\n2;;b;c\n3;-; ;c\n4;;-;\n")
    assert values(out, "description") == ["a", "b", "c", "none"]


def test_cases_are_tried_in_order() -> None:
    kind = {"cases": [
        {"when": {"column": "T", "equals": ["D", "E"]}, "from": "A"},
        {"when": [{"column": "T", "equals": "X"}, {"column": "B", "blank": False}], "join": ["B", "/", "A"]},
        {"when": {"column": "T", "matches": "[0-9]+"}, "first_of": ["B", "A"]},
        {"value": "other"},
    ]}  # fmt: skip
    out = run({"description": kind}, "SKU;T;A;B\n1;D;a;b\n2;X;a;b\n3;X;a;\n4;7;a;\n5;?;a;b\n6;E;a;b\n")
    assert values(out, "description") == ["a", "b/a", "other", "a", "other", "a"]


def test_a_case_gives_a_constant_as_it_is_and_a_column_through_the_options() -> None:
    weight = {"cases": [{"when": {"column": "T", "blank": True}, "value": "1.5"}, {"from": "W"}], "decimal": ",",
              "implied": 1, "uom": {"value": "KGM"}}  # fmt: skip
    out = run({"weight": weight}, "SKU;T;W\n1;;9\n2;x;25\n3;x;2,5\n")
    assert [entry.fields.weight.value for entry in out.mapped] == [Decimal("1.5"), Decimal("2.5")]  # type: ignore[attr-defined]
    assert [dead.code for dead in out.dead] == ["bad_decimal"]


def test_without_a_case_that_holds_a_field_is_blank() -> None:
    out = run({"description": {"cases": [{"when": {"column": "T", "equals": "D"}, "from": "A"}], "required": True}},
              "SKU;T;A\n1;D;a\n2;X;a\n")  # fmt: skip
    assert values(out, "description") == ["a"]
    assert [(dead.code, dead.field) for dead in out.dead] == [("required", "description")]


def test_a_number_is_computed_of_columns_written_as_the_source_writes_them() -> None:
    weight = {
        "compute": "GROSS - TARE * 2 / 10",
        "decimal": ",",
        "thousands": ".",
        "uom": {"value": "KGM"},
        "digits": 2,
    }
    out = run({"weight": weight}, "SKU;GROSS;TARE\n1;1.000,50;2\n2;;2\n3;1;x\n4;10,00;0\n5;10;0\n6;7;1\n")
    found = [str(w.value) if (w := entry.fields.weight) else "" for entry in out.mapped]  # type: ignore[attr-defined]
    assert found == ["1000.10", "", "10.00", "10", "6.8"]
    (dead,) = out.dead
    assert dead.reason.startswith("TARE: 'x' is not a number")


def test_equal_numbers_that_are_written_otherwise_do_not_take_one_anothers_place() -> None:
    weight = {"compute": "A * 1", "uom": {"from": "U", "default": "KGM"}}
    for order in ("1.0", "1.00"), ("1.00", "1.0"):
        out = run({"weight": weight}, "SKU;A;U\n" + "".join(f"{text};{text};\n" for text in order))
        assert [str(entry.fields.weight.value) for entry in out.mapped] == list(order)  # type: ignore[attr-defined]


def test_implied_decimals_are_those_of_the_columns() -> None:
    weight = {"compute": "A * B", "implied": 2}
    out = run({"weight": weight}, "SKU;A;B\n1;150;200\n")
    assert out.mapped[0].body == b'{"sku":"1","weight":{"value":"3.0000"}}'


def test_a_division_by_zero_is_the_dead_letter_of_its_record_alone() -> None:
    out = run({"weight": {"compute": "A / B"}}, "SKU;A;B\n1;1;0\n2;0;0\n3;1;4\n")
    assert [(dead.code, dead.field) for dead in out.dead] == [("bad_compute", "weight")] * 2
    assert "a division by zero" in out.dead[0].reason
    assert [entry.key for entry in out.mapped] == ["3"]


def test_a_corrected_letter_gives_what_its_batch_gives() -> None:
    fields = {"sku": {"join": ["A", "-", "B"]}, "weight": {"compute": "A * B"}}
    made = engine(CSV, {"mapping": "m", "document": "Product", "fields": fields})
    (out,) = made.run(file_batches(CSV, b"A;B\n2;x\n"), Known())
    (dead,) = out.dead
    again = made.remap([{**dead.rows[0], "B": "3"}], dead.locator, Known())
    assert isinstance(again, Mapped)
    assert again.body == b'{"sku":"2-3","weight":{"value":"6"}}'
    assert made.columns == ("A", "B")
    assert made.reads == {"sku": ("A", "B"), "weight": ("A", "B")}


def test_lines_compute_of_their_own_columns_and_of_those_around() -> None:
    lines = {"each": "rows", "sku": {"join": ["^no", "-", "sku"]}, "quantity": {"compute": "qty * [^per case]"}}
    fields = {"number": "no", "lines": lines}
    made = engine({"kind": "jsonl"}, {"mapping": "m", "document": "SalesOrder", "fields": fields})
    data = b'{"no":"7","per case":12,"rows":[{"sku":"A","qty":1.50},{"sku":"B","qty":"2"}]}\n'
    (out,) = made.run(file_batches({"kind": "jsonl"}, data), Known())
    found = [(line.sku, line.quantity.value) for line in out.mapped[0].fields.lines]  # type: ignore[attr-defined]
    assert found == [("7-A", Decimal(18)), ("7-B", Decimal(24))]


def test_grouped_records_have_derived_fields_in_header_and_lines() -> None:
    fields = {"number": {"join": ["Y", "/", "NO"]}, "lines": {"sku": "SKU", "quantity": {"compute": "Q * 2"}}}
    out = run(fields, "Y;NO;SKU;Q\n26;1;A;1\n26;1;B;2\n26;2;A;3\n", "Shipment", each=["Y", "NO"])
    assert [entry.key for entry in out.mapped] == ["26/1", "26/2"]
    assert [str(line.quantity.value) for entry in out.mapped for line in entry.fields.lines] == ["2", "4", "6"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("field", "path", "expected"),
    [
        ({"compute": "QTX * 2"}, ("compute",), "the source has no column 'QTX'"),
        ({"compute": "QTY *"}, ("compute",), "ends where a number or a column is missing, at character 5"),
        ({"compute": "QTY", "pad": 3}, ("compute",), "pad is about texts"),
        ({"join": ["QTY", "-", "QTX"]}, ("join", 2), "the source has no column 'QTX'"),
        ({"join": [{"from": "QTY", "extract": "("}]}, ("join", 0), "bad pattern"),
        ({"first_of": ["QTX"]}, ("first_of", 0), "the source has no column 'QTX'"),
        ({"cases": [{"value": "1"}, {"from": "QTY"}]}, ("cases", 0), "only the last case may have no 'when'"),
        (
            {"cases": [{"when": {"column": "QTX", "blank": True}, "value": "1"}]},
            ("cases", 0, "when", 0, "column"),
            "no column",
        ),
        (
            {"cases": [{"when": {"column": "QTY", "matches": "("}, "value": "1"}]},
            ("cases", 0, "when", 0, "matches"),
            "bad",
        ),
        ({"cases": [{"value": "much"}]}, ("cases", 0, "value"), "'much' is not a number"),
    ],
)
def test_what_cannot_be_made_is_told_at_plan(field: dict[str, Any], path: tuple[Any, ...], expected: str) -> None:
    model = Mapping.model_validate({"mapping": "m", "document": "Product", "fields": {"sku": "QTY", "weight": field}})
    (found,) = problems(model, Declared(["QTY"]))
    assert found.path == ("fields", "weight", *path)
    assert expected in found.message


def test_the_key_of_a_deleted_record_is_made_of_columns_that_it_has() -> None:
    fields = {"location": "L", "sku": {"join": ["A", "-", "B"]}, "on_hand": "Q"}
    model = Mapping.model_validate(
        {"mapping": "m", "document": "StockLevel", "fields": fields, "deletes": {"on_hand": 0}}
    )
    (found,) = problems(model, Declared(["L", "A", "B", "Q"], None, ["L", "A"]))
    assert "the key of a StockLevel has sku" in found.message or "needs sku" in found.message
    assert problems(model, Declared(["L", "A", "B", "Q"], None, ["L", "A", "B"])) == []


CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=20), st.binary(max_size=9)
) | st.text("0123456789.,-", max_size=12)


@settings(max_examples=80)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12))
def test_any_row_is_a_document_or_a_letter(rows: list[tuple[object, object]]) -> None:
    fields = {
        "sku": {"join": ["A", "/", {"from": "B", "pad": 4, "substring": [1, 6]}], "default": "none"},
        "description": {"cases": [{"when": {"column": "A", "matches": ".*1"}, "first_of": ["B", "A"]}, {"from": "A"}]},
        "weight": {"compute": "A * B / (A - 1)", "implied": 2, "negative": "parentheses", "blank": "0"},
    }
    made = engine({"kind": "rows"}, {"mapping": "m", "document": "Product", "fields": fields})
    (out,) = made.run(table_batches(["A", "B"], [list(row) for row in rows]), Known())
    assert out.records() == len(rows)
