"""One record, or one group of them, that becomes several documents: all of them or none, and counted once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock_controller import letters
from crossdock_controller.config.load import inspect
from crossdock_controller.formats.base import kinds
from crossdock_controller.mappings.compile import Declared, problems
from crossdock_controller.mappings.engine import Engine
from crossdock_controller.mappings.model import Mapping, yaml_path
from crossdock_controller.outcomes import Mapped, Outcomes
from crossdock_controller.samples.trying import try_bytes
from crossdock_controller.store import dead_letters
from support.mapping import Known, engine, file_batches, table_batches
from support.pipeline import Box, FakeEngine, FakeRuntime
from support.trees import small_tree

CSV = {"kind": "csv", "delimiter": ";"}
PLAIN = {**CSV, "header": False, "columns": ["NO", "WHO", "SKU", "QTY"]}
CUSTOMER = {"document": "Customer", "fields": {"number": "WHO"}}
STOCK = {"document": "StockLevel", "where": {"column": "QTY", "not_equals": "0"},
         "fields": {"location": {"value": "L"}, "sku": "SKU", "on_hand": "QTY"}}  # fmt: skip
ORDER = {"mapping": "wms", "document": "SalesOrder", "fields": {"number": "NO"}, "also": [CUSTOMER, STOCK]}
LINES = {**ORDER, "each": "NO", "fields": {"number": "NO", "lines": {"sku": "SKU", "quantity": "QTY"}}}


def run(mapping: dict[str, Any], *records: str, at_once: int = 5000) -> list[Outcomes]:
    return engine(CSV, mapping).run(
        file_batches(CSV, "\n".join(("NO;WHO;SKU;QTY", *records, "")).encode(), records=at_once), Known()
    )


def told(outcomes: list[Outcomes]) -> list[list[tuple[str, str, int]]]:
    return [[(one.document, one.key, one.records) for one in m.all()] for out in outcomes for m in out.mapped]


def test_a_record_becomes_all_documents_that_its_mapping_names_and_the_first_counts_it() -> None:
    outcomes = run(ORDER, "1;C1;A;5", "2;C1;B;0")
    assert told(outcomes) == [
        [("SalesOrder", "1", 1), ("Customer", "C1", 0), ("StockLevel", "L:A", 0)],
        [("SalesOrder", "2", 1), ("Customer", "C1", 0)],
    ]
    assert outcomes[0].records() == 2
    ids = [one.event_id for m in outcomes[0].mapped for one in m.all()]
    assert len(set(ids)) == len(ids)
    assert {len(one) for one in ids} == {16}
    again = [one.event_id for m in run(ORDER, "1;C1;A;5", "2;C1;B;0", at_once=1)[0].mapped for one in m.all()]
    assert again == ids[:3], "the same record gives the same ids, however the file was cut"


def test_a_try_shows_every_document_with_the_columns_that_it_was_made_of() -> None:
    typed = kinds()["csv"].settings.model_validate(CSV)
    data = b"NO;WHO;SKU;QTY\n1;C1;A;5\n"
    tried = try_bytes(engine(CSV, ORDER), typed, data, name="in.csv", source="wms", site="atl1", limit=10, more=False)
    shown = [(one.document, [(field.field, field.columns) for field in one.fields]) for one in tried.documents]
    assert shown == [
        ("SalesOrder", [("number", {"NO": "1"})]),
        ("Customer", [("number", {"WHO": "C1"})]),
        ("StockLevel", [("location", {}), ("sku", {"SKU": "A"}), ("on_hand", {"QTY": "5"})]),
    ]


def test_the_ids_of_the_first_document_are_those_it_has_alone() -> None:
    alone = run({k: v for k, v in ORDER.items() if k != "also"}, "1;C1;A;5")
    assert run(ORDER, "1;C1;A;5")[0].mapped[0].event_id == alone[0].mapped[0].event_id


def test_a_record_whose_second_document_cannot_be_made_is_dead_as_a_whole() -> None:
    (out,) = run(ORDER, "1;C1;A;5", "2;C2;B;x", "3;;C;1", "4;C4;D;1")
    assert told([out]) == [
        [("SalesOrder", "1", 1), ("Customer", "C1", 0), ("StockLevel", "L:A", 0)],
        [("SalesOrder", "4", 1), ("Customer", "C4", 0), ("StockLevel", "L:D", 0)],
    ]
    assert [(dead.code, dead.field, dead.locator.line, dead.sample) for dead in out.dead] == [
        ("bad_decimal", "on_hand", 3, b"2;C2;B;x"),
        ("required", "number", 4, b"3;;C;1"),
    ]
    assert out.dead[0].reason == "StockLevel: QTY: 'x' is not a number"
    assert out.records() == 4


def test_a_group_becomes_several_documents_by_its_first_record() -> None:
    (out,) = run(LINES, "1;C1;A;5", "1;C1;B;0", "2;C2;C;0", "2;C2;D;1", "3;C3;E;x")
    assert told([out]) == [
        [("SalesOrder", "1", 2), ("Customer", "C1", 0), ("StockLevel", "L:A", 0)],
        [("SalesOrder", "2", 2), ("Customer", "C2", 0)],
    ]
    assert [dead.code for dead in out.dead] == ["bad_decimal"]
    assert out.records() == 5


def test_a_group_whose_second_document_cannot_be_made_is_dead_with_all_its_records() -> None:
    mapping = {**LINES, "also": [{"document": "Customer", "fields": {"number": "WHO"}}]}
    (out,) = run(mapping, "1;;A;5", "1;C1;B;1", "2;C2;C;2")
    assert [(dead.code, dead.records, dead.field) for dead in out.dead] == [("required", 2, "number")]
    assert told([out]) == [[("SalesOrder", "2", 1), ("Customer", "C2", 0)]]


def test_a_rule_of_a_second_document_rejects_the_record() -> None:
    ruled = {**STOCK, "rules": [{"range": {"field": "on_hand", "min": 0}}]}
    (out,) = run({**ORDER, "also": [CUSTOMER, ruled]}, "1;C1;A;-5", "2;C1;A;5")
    assert [(dead.code, dead.records) for dead in out.dead] == [("below_range", 1)]
    assert [m.key for m in out.mapped] == ["2"]


def test_rows_of_a_table_and_their_lists_become_several_documents_as_well() -> None:
    lines = {"each": "rows", "sku": "sku", "quantity": "qty"}
    mapping = {"mapping": "m", "document": "Customer", "fields": {"number": "who"},
               "also": [{"document": "SalesOrder", "fields": {"number": "no", "lines": lines}}]}  # fmt: skip
    made = engine({"kind": "jsonl"}, mapping)
    data = b'{"no":"1","who":"C","rows":[{"sku":"A","qty":1}]}\n{"no":"2","who":"C","rows":[{"sku":"A","qty":"x"}]}\n'
    (out,) = made.run(file_batches({"kind": "jsonl"}, data), Known())
    assert told([out]) == [[("Customer", "C", 1), ("SalesOrder", "1", 0)]]
    assert [dead.code for dead in out.dead] == ["bad_decimal"]
    rows = engine({"kind": "rows"}, ORDER).run(
        table_batches(["NO", "WHO", "SKU", "QTY"], [["1", "C", "A", 2]], key="NO"), Known()
    )
    assert told(rows) == [[("SalesOrder", "1", 1), ("Customer", "C", 0), ("StockLevel", "L:A", 0)]]


def test_a_column_that_only_a_second_document_reads_is_missed() -> None:
    (out,) = engine(CSV, ORDER).run(file_batches(CSV, b"NO;WHO;SKU\n1;C;A\n"), Known())
    assert [dead.code for dead in out.dead] == ["header_changed"]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


def runtime(mapping: dict[str, Any]) -> FakeRuntime:
    return FakeRuntime(engine=cast("FakeEngine", engine(PLAIN, mapping)))


def logged(box: Box) -> list[tuple[str, str, int]]:
    return box.db.execute("SELECT document, key, records FROM events ORDER BY seq").fetchall()


def test_every_document_is_an_event_with_its_deliveries_and_each_record_is_counted_once(box: Box) -> None:
    by = runtime(ORDER)
    box.send("1;C1;A;5", "2;C1;B;x", "3;C3;C;0", closes=True)
    box.normalize(by)
    assert logged(box) == [("SalesOrder", "1", 1), ("Customer", "C1", 0), ("StockLevel", "L:A", 0),
                           ("SalesOrder", "3", 1), ("Customer", "C3", 0)]  # fmt: skip
    assert box.db.execute("SELECT count(*) FROM deliveries").fetchone() == (5,)
    row = box.account()
    assert (row.received, row.pending, row.dead) == (3, 2, 1)
    assert row.balanced
    (letter,) = dead_letters.list_all(box.db)
    letters.retry(box.db, cast("Any", by), letter.id, {"QTY": "7"}, by="ann")
    assert logged(box)[5:] == [("SalesOrder", "2", 1), ("Customer", "C1", 0), ("StockLevel", "L:B", 0)]
    assert box.db.execute("SELECT count(*) FROM deliveries").fetchone() == (8,)
    row = box.account()
    assert (row.received, row.pending, row.dead) == (3, 3, 0)
    assert row.balanced


def test_a_document_beside_a_corrected_record_does_not_go_over_a_newer_one(box: Box) -> None:
    by = runtime(ORDER)
    box.send("1;C1;A;x", "2;C1;A;6", closes=True)
    box.normalize(by)
    (letter,) = dead_letters.list_all(box.db)
    letters.retry(box.db, cast("Any", by), letter.id, {"QTY": "7"}, by="ann")
    assert logged(box)[3:] == [("SalesOrder", "1", 1)], "customer and stock were told of by record 2 already"
    assert box.account().balanced


def test_nor_over_one_that_comes_while_the_record_is_corrected(box: Box) -> None:
    by = runtime(ORDER)
    box.send("1;C1;A;x")
    box.normalize(by)
    (letter,) = dead_letters.list_all(box.db)
    route = by.router.route

    def late(document: str, *given: Any) -> tuple[str, ...]:
        if document == "StockLevel":
            box.send("2;C1;A;6", first=1, closes=True)
            box.normalize(runtime(ORDER))
        return route(document, *given)

    by.router.route = late  # type: ignore[method-assign]
    letters.retry(box.db, cast("Any", by), letter.id, {"QTY": "7"}, by="ann")
    assert [entry[0] for entry in logged(box)] == ["SalesOrder", "Customer", "StockLevel", "SalesOrder"]
    assert box.account().balanced


def test_a_rule_may_hold_a_document_beside_another(box: Box) -> None:
    held = {**STOCK, "rules": [{"range": {"field": "on_hand", "min": 0}, "severity": "hold"}]}
    by = runtime({**ORDER, "also": [CUSTOMER, held]})
    box.send("1;C1;A;-5", "2;C1;A;5", closes=True)
    box.normalize(by)
    assert [entry[0] for entry in logged(box)] == ["SalesOrder", "Customer", "StockLevel"] * 2
    query = "SELECT e.document, e.key FROM holds h JOIN events e ON e.seq = h.event_seq"
    assert box.db.execute(query).fetchall() == [("StockLevel", "L:A")]
    assert box.account().balanced


def test_records_read_again_are_duplicates_in_all_their_documents(box: Box) -> None:
    box.send("1;C1;A;5", "2;C1;B;6", closes=True)
    box.normalize(runtime(ORDER))
    box.send("1;C1;A;5", "2;C1;B;6", epoch=b"x" * 16, first=0, closes=True)
    box.normalize(runtime(ORDER))
    assert len(logged(box)) == 6
    row = box.account()
    assert (row.received, row.duplicates, row.pending) == (4, 2, 2)
    assert row.balanced


def test_a_document_that_is_added_later_is_made_when_the_records_are_read_again(box: Box) -> None:
    box.send("1;C1;A;5", closes=True)
    box.normalize(runtime({**ORDER, "also": []}))
    box.send("1;C1;A;5", epoch=b"x" * 16, first=0, closes=True)
    box.normalize(runtime(ORDER))
    assert [entry[0] for entry in logged(box)] == ["SalesOrder", "Customer", "StockLevel"]
    row = box.account()
    assert (row.received, row.duplicates, row.pending) == (2, 1, 1)
    assert row.balanced


def test_a_customer_of_several_groups_of_a_file_is_no_scattered_group_and_goes_with_one_that_is(box: Box) -> None:
    by = runtime({**LINES, "also": [CUSTOMER]})
    box.send("1;C1;A;1", "2;C1;B;1", "3;C1;C;1")
    box.normalize(by)
    box.send("3;C1;D;1", "1;C1;E;1", "4;C1;F;1", closes=True)
    box.normalize(by)
    assert [key for _, key, _ in logged(box)] == ["1", "C1", "2", "C1", "3", "C1", "4", "C1"]
    (letter,) = dead_letters.list_all(box.db)
    assert (letter.code, letter.records) == ("group_scattered", 1)
    row = box.account()
    assert (row.received, row.pending, row.dead) == (6, 5, 1)
    assert row.balanced


@pytest.mark.parametrize(
    ("also", "path", "expected"),
    [
        ({**CUSTOMER, "document": "Custmer"}, ("also", 0, "document"), "unknown document 'Custmer'"),
        (
            {"document": "Customer", "fields": {"nummer": "WHO"}},
            ("also", 0, "fields", "nummer"),
            "has no field 'nummer'",
        ),
        (
            {"document": "Customer", "fields": {"number": "WHOM"}},
            ("also", 0, "fields", "number"),
            "has no column 'WHOM'",
        ),
        ({**CUSTOMER, "document": "SalesOrder"}, ("also", 0, "document"), "SalesOrder is made twice"),
        (
            {"document": "Shipment", "fields": {"number": "NO", "lines": {"skuu": "SKU", "quantity": "QTY"}}},
            ("also", 0, "fields", "lines", "skuu"),
            "has no field 'skuu'",
        ),
    ],
)
def test_problems_of_a_further_document_are_told_with_their_place(
    also: dict[str, Any], path: tuple[Any, ...], expected: str
) -> None:
    tree = {**ORDER, "also": [also]}
    found = problems(Mapping.model_validate(tree), Declared(["NO", "WHO", "SKU", "QTY"]))
    assert any(yaml_path(tree, one.path) == path and expected in one.message for one in found), found


def test_a_further_document_without_a_way_is_told_of_and_two_of_a_kind_have_names() -> None:
    mapping = """\
        mapping: wms-shipments
        document: Shipment
        each: SHIPMENT_NO
        fields:
          number: SHIPMENT_NO
          lines: {sku: ITEM, quantity: QTY}
        also:
          - {document: StockLevel, name: from, fields: {location: FROM, sku: ITEM, on_hand: QTY}}
          - {document: StockLevel, name: to, fields: {location: TO, sku: ITEM, on_hand: QTY}}
        """
    loaded, found = inspect(small_tree(mappings__shipments=mapping))
    assert loaded is not None
    assert any("no route takes its StockLevel documents" in problem.message for problem in found)
    made: Engine = engine(CSV, loaded.mappings["wms-shipments"].model_dump(by_alias=True, exclude_unset=True))
    (out,) = made.run(file_batches(CSV, b"SHIPMENT_NO;ITEM;QTY;FROM;TO\n1;A;1;X;Y\n"), Known())
    (whole,) = out.mapped
    assert [one.key for one in whole.all()] == ["1", "X:A", "Y:A"]
    assert len({one.event_id for one in whole.all()}) == 3


CELLS = st.text("01Cx;", max_size=3)


@settings(max_examples=40)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=12), st.booleans(), st.integers(1, 5))
def test_every_record_is_accounted_for_once_and_no_document_is_halved(
    rows: list[tuple[str, ...]], grouped: bool, at_once: int
) -> None:
    data = "\n".join(
        ("NO;WHO;SKU;QTY", *(";".join(cell.replace(";", "") for cell in row) for row in rows), "")
    ).encode()
    batches = file_batches(CSV, data, records=at_once)
    outcomes = engine(CSV, LINES if grouped else ORDER).run(batches, Known(), cap_reached=True)
    assert sum(out.records() for out in outcomes) == len(rows)
    for out in outcomes:
        for m in out.mapped:
            assert isinstance(m, Mapped)
            assert m.beside
            assert m.beside[0].document == "Customer"
            assert sum(one.records for one in m.all()) == m.records >= 1
