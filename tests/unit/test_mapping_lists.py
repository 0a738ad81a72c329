"""Lines from a list inside the record: one record is one document, whatever format it came in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from crossdock_controller.mappings.compile import Declared, problems
from crossdock_controller.mappings.model import Mapping, yaml_path
from crossdock_controller.outcomes import Dead, Locator, Mapped
from support.mapping import Known, all_dead, all_mapped, engine, file_batches, run, table_batches

ROWS = {"kind": "rows"}
JSON = {"kind": "jsonl"}
ORDERS: dict[str, Any] = {
    "mapping": "orders",
    "document": "SalesOrder",
    "fields": {
        "number": "NO",
        "currency": "CUR",
        "lines": {
            "each": "lines",
            "sku": "ITEM",
            "quantity": {"from": "QTY", "uom": {"from": "UNIT"}},
            "amount": {"from": "AMOUNT", "currency": "^CUR"},
        },
    },
}
LINE = ["NO", "POS", "ITEM", "QTY", "UNIT", "AMOUNT"]
COLUMNS = ["NO", "CUR", "lines"]


def line(position: int, item: str = "A", quantity: Any = "1", amount: Any = None) -> list[Any]:
    return ["x", position, item, quantity, "H87", amount]


def batches(*rows: list[Any]) -> list[Any]:
    return table_batches(COLUMNS, rows, key="NO", nested={"lines": LINE})


def objects(*rows: list[Any]) -> list[Any]:
    """The same records as JSON lines."""
    lines = [{**dict(zip(COLUMNS, row, strict=True)), "lines": [dict(zip(LINE, e, strict=True)) for e in row[2]]}
             for row in rows]  # fmt: skip
    return file_batches(JSON, b"".join(msgspec.json.encode(entry) + b"\n" for entry in lines))


def documents(made: list[Mapped]) -> list[tuple[str, list[Any]]]:
    return [(m.key, [(x.sku, x.quantity.value, x.amount) for x in m.fields.lines]) for m in made]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("settings", "made"), [(ROWS, batches), (JSON, objects)])
def test_one_record_is_one_document_with_all_its_lines_or_none(settings: dict[str, Any], made: Any) -> None:
    found = all_mapped(
        run(
            engine(settings, ORDERS),
            made(["1", "EUR", [line(1), line(2, "B", "2.5", "10.00")]], ["2", "USD", []], ["3", "USD", [line(1)]]),
        )
    )
    assert [(m.key, m.records, len(m.fields.lines)) for m in found] == [("1", 1, 2), ("2", 1, 0), ("3", 1, 1)]  # type: ignore[attr-defined]
    second = found[0].fields.lines[1]  # type: ignore[attr-defined]
    assert (second.sku, str(second.quantity.value), second.quantity.uom) == ("B", "2.5", "H87")
    assert (str(second.amount.amount), second.amount.currency) == ("10.00", "EUR")  # the currency is the record's


def test_xml_elements_that_are_lists_are_lines_even_one_of_them() -> None:
    fields = {
        "number": "@no",
        "lines": {"each": "Lines/Line", "sku": "Sku", "quantity": {"from": "Qty", "uom": "@uom"}},
    }
    text = "<Orders>" + "".join(
        f'<Order no="{n}"><Lines>' + f'<Line uom="H87"><Sku>A</Sku><Qty>{n}</Qty></Line>' * n + "</Lines></Order>"
        for n in (1, 2)
    )
    settings = {"kind": "xml", "element": "Order", "lists": ["Lines/Line"]}
    made = run(engine(settings, {**ORDERS, "fields": fields}), file_batches(settings, f"{text}</Orders>".encode()))
    assert [(m.key, len(m.fields.lines)) for m in all_mapped(made)] == [("1", 1), ("2", 2)]  # type: ignore[attr-defined]


def test_a_null_in_place_of_the_list_is_a_document_without_lines() -> None:
    (found,) = all_mapped(run(engine(ROWS, ORDERS), batches(["1", "EUR", None])))
    assert found.fields.lines == ()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("settings", "made"), [(ROWS, batches), (JSON, objects)])
def test_a_bad_line_fails_its_whole_document_with_all_errors_each_under_its_line(
    settings: dict[str, Any], made: Any
) -> None:
    outcomes = run(
        engine(settings, ORDERS),
        made(["", "EUR", [line(1), line(2, "", "five"), line(3, "C", "x")]], ["2", "USD", [line(1)]]),
    )
    (dead,) = all_dead(outcomes)
    assert dead.reason.split("; ")[0].startswith("NO: is blank")
    assert "lines.2.ITEM: is blank, lines.sku is required" in dead.reason
    assert "lines.2.QTY: 'five' is not a number" in dead.reason
    assert "lines.3.QTY: 'x' is not a number" in dead.reason
    assert dead.rows[0]["lines"][1] == dict(zip(LINE, line(2, "", "five"), strict=True))  # type: ignore[index]
    assert [m.key for m in all_mapped(outcomes)] == ["2"]


def test_an_error_of_a_column_around_the_list_names_that_column() -> None:
    (dead,) = all_dead(run(engine(ROWS, ORDERS), batches(["1", "", [line(1, amount="5.00")]])))
    assert dead.reason.startswith("CUR: is blank")


def test_a_warning_names_its_line() -> None:
    mapping = {**ORDERS, "fields": {**ORDERS["fields"], "lines": {**ORDERS["fields"]["lines"], "requested_on": "UNIT"}}}
    rows = batches(["1", "EUR", [[*line(1)[:4], "2026-01-01", None], [*line(2)[:4], "1900-01-01", None]]])
    (found,) = all_mapped(run(engine(ROWS, mapping), rows))
    assert found.warnings == ("lines.2: lines.requested_on: '1900-01-01' is read as no date",)


@pytest.mark.parametrize("cell", ["text", 7, [1, 2], ["NO"], [["too", "short"]]])
def test_a_cell_that_is_no_list_of_records_spoils_its_own_record_only(cell: Any) -> None:
    outcomes = run(engine(ROWS, ORDERS), batches(["1", "EUR", cell], ["2", "EUR", [line(1)]]))
    (dead,) = all_dead(outcomes)
    assert (dead.code, dead.field) == ("bad_list", "lines")
    assert [m.key for m in all_mapped(outcomes)] == ["2"]


def test_json_elements_may_lack_a_field_and_hold_objects() -> None:
    mapping = {
        "mapping": "m",
        "document": "SalesOrder",
        "fields": {
            "number": "no",
            "lines": {"each": "rows", "sku": "item.sku", "quantity": "n", "description": "text"},
        },
    }
    data = b'{"no": "1", "rows": [{"item": {"sku": "A"}, "n": 1}, {"item": {"sku": "B"}, "n": 2, "text": "t"}]}\n'
    (found,) = all_mapped(run(engine(JSON, mapping), file_batches(JSON, data)))
    assert [(x.sku, x.description) for x in found.fields.lines] == [("A", ""), ("B", "t")]  # type: ignore[attr-defined]


def test_an_object_in_place_of_the_list_is_no_order_without_lines() -> None:
    """As some writers leave out the brackets around a single element."""
    data = b'{"NO": "1", "CUR": "EUR", "lines": {"ITEM": "A", "QTY": 1}}\n{"NO": "2", "CUR": "EUR"}\n'
    outcomes = run(engine(JSON, ORDERS), file_batches(JSON, data))
    assert [d.code for d in all_dead(outcomes)] == ["bad_list"]
    assert [m.key for m in all_mapped(outcomes)] == ["2"]


def test_rules_see_the_lines() -> None:
    mapping = {**ORDERS, "rules": [{"range": {"field": "lines.quantity", "min": 1}}]}
    (dead,) = all_dead(run(engine(ROWS, mapping), batches(["1", "EUR", [line(1), line(2, quantity="0")]])))
    assert dead.reason.startswith("quantity of line 2 is 0")


def test_the_list_or_its_columns_missing_from_the_data_is_told_as_a_changed_header() -> None:
    flat = table_batches(["NO", "CUR"], [["1", "EUR"]])
    (dead,) = all_dead(run(engine(ROWS, ORDERS), flat))
    assert (dead.code, dead.field) == ("header_changed", "lines")
    shorter = table_batches(COLUMNS, [["1", "EUR", [["x", 1, "A"]]]], nested={"lines": LINE[:3]})
    (dead,) = all_dead(run(engine(ROWS, ORDERS), shorter))
    assert dead.code == "header_changed"
    assert dead.reason.startswith("column QTY, UNIT, AMOUNT of lines is missing; columns seen there: NO, POS, ITEM")


def test_of_a_damaged_payload_the_records_before_the_damage_are_mapped_whole() -> None:
    ((header, payload, skip),) = batches(["1", "EUR", [line(1), line(2)]], ["2", "EUR", [line(1), line(2)]])
    outcomes = run(engine(ROWS, ORDERS), [(header, payload[:-3], skip)])
    assert [(m.key, len(m.fields.lines)) for m in all_mapped(outcomes)] == [("1", 2)]  # type: ignore[attr-defined]
    assert [d.code for d in all_dead(outcomes)] == ["count_mismatch"]


def test_ids_follow_the_content_with_its_lines_and_nothing_else() -> None:
    made = engine(ROWS, ORDERS)

    def ids(*rows: list[Any], records: int = 5000) -> list[bytes]:
        cut = table_batches(COLUMNS, rows, key="NO", nested={"lines": LINE}, records=records)
        return [m.event_id for m in all_mapped(run(made, cut))]

    one, other = ["1", "EUR", [line(1), line(2)]], ["2", "EUR", [line(1)]]
    assert ids(one, other) == ids(one, other, records=1)
    assert ids(one)[0] != ids(["1", "EUR", [line(1)]])[0]
    assert ids(one)[0] != ids(["1", "EUR", [line(2), line(1)]])[0]
    assert ids(one)[0] != ids(["1", "EUR", [line(1), line(2, "B")]])[0]


def test_a_dead_letter_is_mapped_again_from_its_rows_and_unchanged_ones_give_the_same_id() -> None:
    (dead,) = all_dead(run(engine(ROWS, ORDERS), batches(["1", "EUR", [line(1), line(2, quantity="five")]])))
    rows = msgspec.json.decode(msgspec.json.encode(dead.rows), type=list[dict[str, Any]])
    still = engine(ROWS, ORDERS).remap(rows, dead.locator, Known())
    assert isinstance(still, Dead)
    assert still.reason == dead.reason
    tolerant = {**ORDERS["fields"]["lines"], "quantity": {"from": "POS"}}
    mapping = {**ORDERS, "fields": {**ORDERS["fields"], "lines": tolerant}}
    (straight,) = all_mapped(run(engine(ROWS, mapping), batches(["1", "EUR", [line(1), line(2, quantity="five")]])))
    again = engine(ROWS, mapping).remap(rows, dead.locator, Known())
    assert isinstance(again, Mapped)
    assert (again.event_id, again.body) == (straight.event_id, straight.body)
    rows[0]["lines"][1]["QTY"] = "5"
    corrected = engine(ROWS, ORDERS).remap(rows, Locator("table", "ORDERS", 0), Known())
    assert isinstance(corrected, Mapped)
    assert [str(x.quantity.value) for x in corrected.fields.lines] == ["1", "5"]  # type: ignore[attr-defined]
    assert corrected.event_id != straight.event_id


def found(mapping: dict[str, Any], declared: Declared) -> list[tuple[Any, ...]]:
    model = Mapping.model_validate(mapping)
    return [(yaml_path(mapping, p.path), p.message, p.hint) for p in problems(model, declared)]


def with_lines(**fields: Any) -> dict[str, Any]:
    return {**ORDERS, "fields": {**ORDERS["fields"], "lines": {**ORDERS["fields"]["lines"], **fields}}}


def test_what_cannot_work_is_found_at_plan_with_its_place_in_the_file() -> None:
    declared = Declared(COLUMNS, {"lines": LINE})
    assert found(ORDERS, declared) == []
    assert found(with_lines(sku="ITM"), declared) == [
        (("fields", "lines", "sku"), "the list has no column 'ITM'", "did you mean 'ITEM'?")
    ]
    assert found(with_lines(description="^CURR"), declared) == [
        (("fields", "lines", "description"), "the source has no column 'CURR'", "did you mean 'CUR'?")
    ]
    assert found(with_lines(each="line"), declared) == [
        (("fields", "lines", "each"), "the source has no list 'line' in its records", "did you mean 'lines'?")
    ]
    assert found(ORDERS, Declared(COLUMNS, {}))[0][2] == "a record here is flat; group records with 'each'"
    assert found({**ORDERS, "each": "NO"}, declared)[0][0] == ("fields", "lines", "each")
    assert found({**ORDERS, "fields": {"number": "^NO"}}, declared)[0][1].startswith("'^NO' is a column around a list")
    assert found(ORDERS, Declared()) == []  # only the data tells
    missing = {**ORDERS, "fields": {"number": "NO", "lines": {"each": "lines", "sku": "ITEM"}}}
    assert found(missing, declared)[0][1] == "OrderLine needs the field 'quantity'"


def test_the_name_of_the_list_is_a_text() -> None:
    with pytest.raises(ValidationError) as caught:
        Mapping.model_validate(with_lines(each=["a", "b"]))
    (error,) = caught.value.errors()
    assert yaml_path({}, tuple(error["loc"])) == ("fields", "lines", "each")
