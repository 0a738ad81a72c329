"""What a deleted record becomes is said by the mapping; a silent one gets a dead letter, never an upsert of blanks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from crossdock_controller.documents.base import entities
from crossdock_controller.documents.keys import key_fields
from crossdock_controller.documents.sales_order import SalesOrder
from crossdock_controller.documents.stock_level import StockLevel
from crossdock_controller.mappings.compile import Declared, problems
from crossdock_controller.mappings.model import Mapping
from crossdock_controller.outcomes import Dead, Mapped, Outcomes
from support.mapping import Known, all_dead, all_mapped, engine, run, summary, table_batches

ROWS = {"kind": "rows"}
COLUMNS = ["NO", "CUSTOMER", "TYPE", "AMOUNT", "$op", "$version"]
ORDERS: dict[str, Any] = {
    "mapping": "orders",
    "document": "SalesOrder",
    "fields": {
        "number": "NO",
        "customer.id": {"from": "CUSTOMER", "required": True},
        "status": {"from": "TYPE", "default": "open"},
        "total": {"from": "AMOUNT", "currency": {"value": "EUR"}, "required": True},
    },
}
DELETED = {**ORDERS, "deletes": {"status": "deleted"}}


def upsert(number: str, customer: str = "c", version: int = 1) -> list[Any]:
    return [number, customer, "B", "1.50", "upsert", version]


def delete(number: str, version: int = 2) -> list[Any]:
    return [number, None, None, None, "delete", version]


def mapped(mapping: dict[str, Any], *rows: Sequence[Any], **cut: Any) -> list[Outcomes]:
    return run(engine(ROWS, mapping), table_batches(COLUMNS, rows, key="NO", **cut))


def bodies(outcomes: list[Outcomes]) -> list[Any]:
    return [msgspec.json.decode(m.body) for m in all_mapped(outcomes)]


def test_a_delete_is_a_document_of_its_key_with_the_constants_over_it() -> None:
    outcomes = mapped(DELETED, upsert("1"), delete("1"))
    assert bodies(outcomes) == [
        {"number": "1", "status": "B", "customer": {"id": "c"},
         "total": {"amount": "1.50", "currency": "EUR"}},
        {"number": "1", "status": "deleted"},
    ]  # fmt: skip
    assert [m.key for m in all_mapped(outcomes)] == ["1", "1"]


def test_deletes_stand_in_their_place_among_the_others() -> None:
    rows = [delete("1"), upsert("1", version=3), upsert("2"), delete("2"), delete("3"), upsert("3", version=3)]
    for records in (1, 4, 100):
        outcomes = mapped(DELETED, *rows, records=records)
        assert [(b["number"], b["status"]) for b in bodies(outcomes)] == [
            ("1", "deleted"), ("1", "B"), ("2", "B"), ("2", "deleted"), ("3", "deleted"), ("3", "B"),
        ]  # fmt: skip


def test_an_old_image_fills_what_it_tells() -> None:
    (body,) = bodies(mapped(DELETED, ["1", "old customer", "B", "7.00", "delete", 2]))
    assert body == {
        "number": "1", "status": "deleted", "customer": {"id": "old customer"},
        "total": {"amount": "7.00", "currency": "EUR"},
    }  # fmt: skip


def test_a_silent_mapping_gives_a_dead_letter_that_can_be_retried_once_it_says_what_a_delete_means() -> None:
    outcomes = mapped(ORDERS, upsert("1"), delete("1"), upsert("2"))
    (dead,) = all_dead(outcomes)
    assert dead.code == "delete_unmapped"
    assert "add 'deletes' to the mapping" in dead.reason
    assert dead.locator.text() == "ORDERS NO=1"
    assert [m.key for m in all_mapped(outcomes)] == ["1", "2"]
    rows = [dict(row) for row in dead.rows]
    assert rows[0]["$op"] == "delete"
    still = engine(ROWS, ORDERS).remap(rows, dead.locator, Known())
    assert isinstance(still, Dead)
    assert still.code == "delete_unmapped"
    again = engine(ROWS, DELETED).remap(rows, dead.locator, Known())
    assert isinstance(again, Mapped)
    (straight,) = all_mapped(mapped(DELETED, delete("1")))
    assert (again.event_id, again.body) == (straight.event_id, straight.body)


def test_ignored_deletes_are_counted_with_their_reason_and_a_retry_says_so() -> None:
    ignoring = {**ORDERS, "deletes": "ignore"}
    outcomes = mapped(ignoring, upsert("1"), delete("1"), delete("2"))
    assert summary(outcomes)["ignored"] == {"deleted at its source; the mapping ignores deletes": 2}
    assert all_dead(outcomes) == []
    (dead,) = all_dead(mapped(ORDERS, delete("1")))
    left = engine(ROWS, ignoring).remap([dict(row) for row in dead.rows], dead.locator, Known())
    assert isinstance(left, Dead)
    assert left.code == "left_out"


def test_a_condition_on_a_column_that_a_delete_does_not_fill_does_not_lose_it() -> None:
    mapping = {**DELETED, "where": [{"column": "TYPE", "equals": "B"}, {"column": "NO", "not_equals": "9"}]}
    outcomes = mapped(mapping, upsert("1"), delete("1"), delete("9"), ["2", "c", "X", "1", "delete", 1])
    assert [b["status"] for b in bodies(outcomes)] == ["B", "deleted"]
    assert len(summary(outcomes)["ignored"]) == 2  # by its key, and by its old image


@pytest.mark.parametrize(("wanted", "kept"), [("upsert", ["B"]), ("delete", ["deleted"])])
def test_where_may_ask_for_the_operation(wanted: str, kept: list[str]) -> None:
    mapping = {**DELETED, "where": {"column": "$op", "equals": wanted}}
    assert [b["status"] for b in bodies(mapped(mapping, upsert("1"), delete("1")))] == kept


def test_where_may_ask_for_the_operation_of_a_source_that_never_deletes() -> None:
    plain = table_batches(COLUMNS[:4], [upsert("1")[:4]])
    for wanted, expected in (("upsert", 1), ("delete", 0)):
        mapping = {**ORDERS, "where": {"column": "$op", "equals": wanted}}
        assert len(all_mapped(run(engine(ROWS, mapping), plain))) == expected
        assert problems(Mapping.model_validate(mapping), COLUMNS[:4]) == []


def test_columns_about_the_record_make_versions_and_are_otherwise_not_seen() -> None:
    made = all_mapped(mapped(ORDERS, upsert("1", version=1), upsert("1", version=2)))
    assert made[0].body == made[1].body
    assert made[0].event_id != made[1].event_id
    assert set(engine(ROWS, DELETED).columns) == {"NO", "CUSTOMER", "TYPE", "AMOUNT"}


def test_what_a_document_needs_and_a_delete_does_not_tell_is_a_dead_letter_with_its_reason() -> None:
    stock = {
        "mapping": "s", "document": "StockLevel", "deletes": {"extensions.acme.state": "deleted"},
        "fields": {"location": {"value": "A"}, "sku": "NO", "on_hand": "AMOUNT"},
    }  # fmt: skip
    (dead,) = all_dead(mapped(stock, delete("1")))
    assert (dead.code, dead.field) == ("required", "on_hand")
    assert dead.reason.startswith("the record was deleted at its source: AMOUNT: is blank")
    (body,) = bodies(mapped({**stock, "deletes": {"on_hand": 0}}, delete("1")))
    assert body == {"location": "A", "sku": "1", "on_hand": {"value": "0"}}


def test_rules_are_about_what_a_document_holds_and_are_not_asked_of_a_delete() -> None:
    mapping = {**DELETED, "rules": [{"required": ["customer.id"]}]}
    assert [b["status"] for b in bodies(mapped(mapping, delete("1")))] == ["deleted"]


def test_deleted_rows_of_grouped_records_neither_join_nor_disturb_a_group() -> None:
    columns = ["NO", "ITEM", "QTY", "$op"]
    fields = {"number": "NO", "lines": {"sku": "ITEM", "quantity": "QTY"}}
    grouped = {"mapping": "g", "document": "SalesOrder", "each": "NO", "fields": fields}
    rows = [
        ["1", "a", "1", "upsert"],
        ["1", None, None, "delete"],
        ["1", "b", "2", "upsert"],
        ["2", "c", "1", "upsert"],
    ]
    for records in (1, 2, 100):
        outcomes = run(engine(ROWS, grouped), table_batches(columns, rows, records=records))
        assert [(m.key, len(m.fields.lines)) for m in all_mapped(outcomes)] == [("1", 2), ("2", 1)]  # type: ignore[attr-defined]
        assert [d.code for d in all_dead(outcomes)] == ["delete_unmapped"]
        outcomes = run(engine(ROWS, {**grouped, "deletes": "ignore"}), table_batches(columns, rows, records=records))
        assert [m.key for m in all_mapped(outcomes)] == ["1", "2"]
        assert all_dead(outcomes) == []


def test_the_lines_of_a_deleted_aggregate_are_not_asked_for() -> None:
    fields = {"number": "NO", "lines": {"each": "lines", "sku": "ITEM", "quantity": "QTY"}}
    mapping = {"mapping": "a", "document": "SalesOrder", "fields": fields, "deletes": {"status": "deleted"}}
    rows = [["1", [["a", "1"]], "upsert"], ["1", None, "delete"]]
    made = table_batches(["NO", "lines", "$op"], rows, nested={"lines": ["ITEM", "QTY"]})
    assert bodies(run(engine(ROWS, mapping), made)) == [
        {"number": "1", "lines": [{"sku": "a", "quantity": {"value": "1"}}]},
        {"number": "1", "status": "deleted"},
    ]


def found(mapping: dict[str, Any], *, delete: list[str] | None) -> list[tuple[Any, ...]]:
    return [tuple(p) for p in problems(Mapping.model_validate(mapping), Declared(None, None, delete))]


STOCK: dict[str, Any] = {
    "mapping": "s",
    "document": "StockLevel",
    "fields": {"location": "LOC", "sku": "SKU", "lot": "LOT", "on_hand": "QTY", "description": "TEXT"},
}


def test_a_document_that_a_delete_cannot_fill_is_refused_at_plan() -> None:
    key = ["LOC", "SKU", "LOT"]
    assert found({**STOCK, "deletes": {"on_hand": 0}}, delete=key) == []
    assert found({**STOCK, "deletes": {"description": "gone"}}, delete=key) == [
        (
            ("deletes",),
            "StockLevel needs on_hand, which is made of QTY; a deleted record has only LOC, SKU, LOT",
            "give it a constant: deletes: {on_hand: VALUE}",
        )
    ]
    assert found({**STOCK, "deletes": {"description": "gone"}}, delete=None) == []  # the whole old row, or not known


def test_a_delete_that_would_name_another_document_is_refused_at_plan() -> None:
    assert found({**STOCK, "deletes": {"on_hand": 0}}, delete=["LOC", "SKU"])[0][1:] == (
        "the key of a StockLevel has lot, which is made of LOT; a deleted record has only LOC, SKU",
        "name the column in 'key' of the source, or write 'deletes: ignore'",
    )
    assert found({**STOCK, "deletes": {"on_hand": 0, "status": "deleted"}}, delete=None)[0][:2] == (
        ("deletes", "status"),
        "status is part of the key of a StockLevel: this would delete another one",
    )


def test_overrides_are_checked_as_fields_are() -> None:
    assert [p[0] for p in found({**ORDERS, "deletes": {"sttus": "x", "ordered_on": "soon"}}, delete=None)] == [
        ("deletes", "sttus"),
        ("deletes", "ordered_on", "value"),
    ]
    grouped = {**ORDERS, "each": "NO", "deletes": {"status": "x"}}
    grouped["fields"] = {**ORDERS["fields"], "lines": {"sku": "NO", "quantity": "NO"}}
    assert found(grouped, delete=None)[0][2] == "write 'deletes: ignore'"


@pytest.mark.parametrize("name", sorted(entities()))
def test_the_fields_of_a_key_are_found_for_every_document(name: str) -> None:
    assert key_fields(entities()[name])


def test_the_fields_of_a_key_are_those_it_is_made_of() -> None:
    assert key_fields(SalesOrder) == ["issuer", "number"]
    assert key_fields(StockLevel) == ["issuer", "location", "sku", "lot", "status"]


def test_a_row_seen_for_the_first_time_is_the_event_it_was_before_its_source_marked_its_records() -> None:
    """When `reconcile` is added to a source, its first scan may send what was delivered long ago."""
    plain = run(engine(ROWS, ORDERS), table_batches(COLUMNS[:-2], [upsert("1")[:-2]], key="NO"))
    (before,) = [m.event_id for m in all_mapped(plain)]
    marked = all_mapped(mapped(DELETED, upsert("1", version=0), upsert("1", version=1), delete("1", version=0)))
    assert [m.event_id == before for m in marked] == [True, False, False]
    assert len({m.event_id for m in marked}) == 3
    row = dict(zip(COLUMNS, upsert("1", version=0), strict=True))
    again = engine(ROWS, DELETED).remap([row], marked[0].locator, Known())
    assert isinstance(again, Mapped)
    assert again.event_id == before
