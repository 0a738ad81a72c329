"""Code lists: files of the tree, fields that ask for them, and meanings that come to be known later."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock_controller.config import lists
from crossdock_controller.config.diff import plan
from crossdock_controller.config.errors import errors_of
from crossdock_controller.config.load import inspect
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.config.tree import check, read
from crossdock_controller.mappings.codes import CodeList, ListCodes
from crossdock_controller.outcomes import Outcomes
from support.mapping import Known, engine, file_batches, table_batches
from support.trees import small_tree

CSV = {"kind": "csv", "delimiter": ";"}
UOM = "from,to\nST,H87\nKG,KGM\n"
MAPPING = """\
    mapping: wms-shipments
    document: Shipment
    each: SHIPMENT_NO
    fields:
      number: SHIPMENT_NO
      lines: {sku: ITEM, quantity: {from: QTY, uom: {from: UNIT, codes: CODES}}}
    """


def tree(codes: str, **files: str) -> dict[str, str]:
    named = {name.replace("__", "/").replace("_csv", ".csv").replace("_yaml", ".yaml"): t for name, t in files.items()}
    return small_tree(mappings__shipments=MAPPING.replace("CODES", codes)) | named


def told(found: dict[str, str]) -> list[str]:
    return [problem.text() for problem in inspect(found)[1] if "list" in problem.text()]


def mapped(codes: Any, data: bytes, asked: Any = None, **more: Any) -> tuple[Any, Outcomes]:
    """An engine over records `NO;UNIT`, and what became of *data*."""
    uom = {"from": "UNIT", "codes": codes, **more}
    fields = {"number": "NO", "lines": {"sku": "NO", "quantity": {"from": "NO", "uom": uom}}}
    made = engine(CSV, {"mapping": "wms", "document": "Shipment", "fields": fields})
    if asked is not None:
        made.codes = asked
    return made, made.run(file_batches(CSV, b"NO;UNIT\n" + data), Known())[0]


def units(out: Outcomes) -> list[str]:
    return [entry.fields.lines[0].quantity.uom for entry in out.mapped]  # type: ignore[attr-defined]


@pytest.mark.parametrize("codes", ["uom", "{list: uom}", "{list: uom, from: from, to: to}"])
def test_a_field_asks_a_list_of_the_tree(codes: str) -> None:
    found = tree(codes, lists__uom_csv=UOM)
    assert told(found) == []
    runtime = Runtime.from_tree(found, 3)
    made = runtime.engine("atl1", "wms-shipments")
    assert made is not None
    batches = file_batches(CSV, b"SHIPMENT_NO;ITEM;QTY;UNIT\n1;A;2;ST\n2;A;2;XX\n")
    (out,) = made.run(batches, Known())
    assert units(out) == ["H87"]
    (dead,) = out.dead
    assert (dead.code, dead.list, dead.value, dead.field) == (
        "unknown_code",
        "uom" if "from" not in codes else "uom/from/to",
        "XX",
        "lines.quantity.uom",
    )
    assert dead.reason.startswith("line 3: UNIT: 'XX' has no meaning in the list uom")


def test_a_yaml_table_is_a_list_as_well_and_codes_of_digits_stay_texts() -> None:
    found = tree("uom", lists__uom_yaml="list: uom\ncodes: {01: H87, 7: KGM}\n")
    assert told(found) == []
    runtime = Runtime.from_tree(found, 3)
    assert [runtime.codes.meaning("uom", code) for code in ("01", "7", "1")] == ["H87", "KGM", None]


def test_a_list_of_several_columns_gives_any_two_of_them() -> None:
    items = CodeList(("ours", "wms", "erp"), (("A", "1", "X"), ("B", "", "Y")))
    codes = ListCodes({"items": items})
    assert codes.meaning("items", "A") == "1"
    assert codes.meaning("items", "B") is None
    assert codes.meaning("items/erp/ours", "Y") == "B"
    assert codes.meaning("nothing", "A") is None


@pytest.mark.parametrize(
    ("more", "expected", "dead"),
    [
        ({}, ["H87"], 2),
        ({"otherwise": "keep"}, ["H87", "XX", "XX"], 0),
        ({"otherwise": "C62"}, ["H87", "C62", "C62"], 0),
    ],
)
def test_an_unknown_code_is_refused_kept_or_replaced(more: dict[str, str], expected: list[str], dead: int) -> None:
    asked = ListCodes({"uom": CodeList(("from", "to"), (("ST", "H87"),))})
    for codes in ("uom", {"ST": "H87"}):
        _, out = mapped(codes, b"1;ST\n2;XX\n3;XX\n", asked, **more)
        assert units(out) == expected
        assert [(letter.list, letter.value) for letter in out.dead] == [("uom" if codes == "uom" else "", "XX")] * dead


class Told:
    """Meanings that a person gives while an engine lives."""

    def __init__(self) -> None:
        self.meanings: dict[tuple[str, str], str] = {}
        self.generation = 0
        self.asked = 0

    def meaning(self, name: str, value: str, /) -> str | None:
        self.asked += 1
        return self.meanings.get((name, value))


@pytest.mark.parametrize("otherwise", ["reject", "keep"])
def test_a_meaning_given_later_holds_from_the_next_run_on(otherwise: str) -> None:
    asked = Told()
    made, out = mapped("uom", b"1;XX\n", asked, otherwise=otherwise)
    assert units(out) == ([] if otherwise == "reject" else ["XX"])
    asked.meanings["uom", "XX"] = "H87"
    batches = file_batches(CSV, b"NO;UNIT\n1;XX\n")
    assert units(made.run(batches, Known())[0]) == ["H87"]
    before = asked.asked
    assert units(made.run(batches, Known())[0]) == ["H87"]
    assert asked.asked == before, "what has a meaning is not asked again"
    asked.meanings["uom", "XX"] = "KGM"
    asked.generation += 1
    assert units(made.run(batches, Known())[0]) == ["KGM"]


def test_a_retried_letter_asks_anew() -> None:
    asked = Told()
    made, out = mapped("uom", b"1;XX\n", asked)
    (dead,) = out.dead
    again = made.remap(list(dead.rows), dead.locator, Known())
    assert (again.code, again.list, again.value) == ("unknown_code", "uom", "XX")
    asked.meanings["uom", "XX"] = "H87"
    assert made.remap(list(dead.rows), dead.locator, Known()).document == "Shipment"


def test_the_code_of_a_line_in_a_list_is_named_on_the_letter() -> None:
    lines = {"each": "rows", "sku": {"from": "sku", "codes": {"list": "items"}}, "quantity": "qty"}
    made = engine(
        {"kind": "jsonl"}, {"mapping": "wms", "document": "Shipment", "fields": {"number": "no", "lines": lines}}
    )
    (out,) = made.run(file_batches({"kind": "jsonl"}, b'{"no":"1","rows":[{"sku":"A","qty":1}]}\n'), Known())
    assert [(d.code, d.list, d.value) for d in out.dead] == [("unknown_code", "items", "A")]


def test_the_code_of_a_deleted_record_is_named_on_the_letter() -> None:
    fields = {"sku": {"from": "SKU", "codes": "items"}, "on_hand": "QTY"}
    mapping = {"mapping": "wms", "document": "StockLevel", "fields": {"location": {"value": "L"}, **fields},
               "deletes": {"on_hand": 0}}  # fmt: skip
    made = engine({"kind": "rows"}, mapping)
    batches = table_batches(["SKU", "QTY", "$op", "$version"], [["A", None, "delete", "1"]], key="SKU")
    (out,) = made.run(batches, Known())
    assert [(d.list, d.value) for d in out.dead] == [("items", "A")]


@pytest.mark.parametrize(
    ("codes", "files", "expected"),
    [
        ("uon", {"lists__uom_csv": UOM}, "quantity.uom.codes: there is no list 'uon' (did you mean 'uom'?)"),
        ("uom", {}, "there is no list 'uom' (add lists/uom.csv with the columns from,to)"),
        ("{list: uom, form: A}", {"lists__uom_csv": UOM}, "unknown key 'form' (did you mean 'from'?)"),
        ("{list: uom, from: fron, to: to}", {"lists__uom_csv": UOM}, "has no column 'fron' (did you mean 'from'?)"),
        ("uom", {"lists__uom_csv": UOM, "lists__uom_yaml": "list: uom\ncodes: {A: B}\n"}, "is declared in lists/uom"),
        ("uom", {"lists__uom_csv": UOM, "lists__x_csv": UOM}, "lists/x.csv:1: list: no mapping asks for it"),
        ("uom", {"lists__uom_csv": "from\nA\n"}, "lists/uom.csv:1: the header line names fewer than two columns"),
        ("uom", {"lists__uom_csv": ""}, "lists/uom.csv:1: the header line names fewer than two columns"),
        ("uom", {"lists__uom_csv": "a,a\nA,B\n"}, "lists/uom.csv:1: the names of columns are not all different"),
        ("uom", {"lists__uom_csv": UOM + "X\n"}, "lists/uom.csv:4: has 1 cells, the header has 2"),
        ("uom", {"lists__uom_csv": UOM + "\nST,KGM\n"}, "lists/uom.csv:5: from 'ST' stands above already"),
        ("uom", {"lists__uom_csv": UOM + ",KGM\n"}, "lists/uom.csv:4: the column 'from' is blank"),
        ("uom", {"lists__uom_csv": UOM + 'A,"B\nC\n'}, "lists/uom.csv:5: is not CSV: unexpected end of data"),
        ("uom", {"lists__uom_csv": UOM + 'A,"B\nC"\n'}, "lists/uom.csv:5: a cell has a line break"),
        ("uom", {"lists__uom_csv": UOM + "A," + "x" * 501 + "\n"}, "lists/uom.csv:4: a cell has 501 characters"),
        ("uom", {"lists__Uom_csv": UOM}, "lists/Uom.csv: 'Uom' is no name for a list"),
        ("uom", {"lists__uom_yaml": "list: uom\nkodes: {A: B}\n"}, "lists/uom.yaml:2: kodes: unknown key 'kodes'"),
        ("{list: uom, from: b, to: a}", {"lists__uom_csv": "a,b\n1,X\n2,X\n"}, "code 'X' has more than one meaning"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_lists_is_told_with_its_place(codes: str, files: dict[str, str], expected: str) -> None:
    problems = [problem.text() for problem in inspect(tree(codes, **files))[1]]
    assert any(expected in text for text in problems), problems


def test_a_broken_list_is_one_problem_and_not_one_for_each_mapping_that_asks_for_it() -> None:
    found = tree("uom", lists__uom_csv="from\n")
    assert len(errors_of(inspect(found)[1])) == 1


def test_a_list_saved_by_a_spreadsheet_is_read(tmp_path: Any) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "uom.csv").write_bytes('\ufefffrom;to\r\nST;H87\r\n"K;G";KGM\r\n'.encode())
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "x.csv").write_bytes(b"a,b\n")
    found, problems = read(tmp_path)
    assert [problem.message for problem in problems] == ["is not read: only .yaml files are"]
    assert check(found) == []
    (part,) = lists.tables(found)
    assert part.model == CodeList(("from", "to"), (("ST", "H87"), ("K;G", "KGM")))


def test_a_plan_names_the_codes_that_change_and_the_mapping_that_takes_them() -> None:
    before = tree("uom", lists__uom_csv=UOM)
    found = plan(before, before | {"lists/uom.csv": UOM.replace("KGM", "GRM") + "L,LTR\n"})
    assert [change.text() for change in found.changes] == ["list uom changed: KG KGM → GRM; L set to LTR"]
    assert found.touched == ("lists/uom.csv", "mappings/shipments.yaml")
    many = "from,to\n" + "".join(f"{i},X\n" for i in range(1000))
    (change,) = plan(before, before | {"lists/uom.csv": many}).changes
    assert len(change.text()) < 1000
    assert change.text().endswith("982 more codes  → changed")


@given(st.text(max_size=200))
def test_any_text_is_a_list_or_problems(text: str) -> None:
    (part,) = lists.tables({"lists/any.csv": text})
    assert (part.model is None) == bool(part.problems)
    if part.model is not None:
        assert all(len(row) == len(part.model.columns) for row in part.model.rows)
