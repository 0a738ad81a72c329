"""Tests of mappings in the tree: they pass, fail field by field with their line, and stand in the way of a plan."""

from __future__ import annotations

from typing import Any

import pytest

from crossdock_controller.config import diff, mapping_tests
from crossdock_controller.config.errors import errors_of
from crossdock_controller.config.load import inspect
from crossdock_controller.store.revisions import StoredTree
from support.estate import TREE

INPUT = "input: |\n  SHIPMENT_NO;ITEM;QTY\n  U1;A;1,5\n  U2;B;x\n"
PASSES = f"""test: ships
mapping: wms
{INPUT}expected:
  documents:
    - key: U1
      fields: {{number: U1, lines: [{{sku: A, quantity: {{value: 1.5}}}}]}}
  dead: [{{code: bad_decimal, field: lines.quantity}}]
  counts: {{records: 2, documents: 1, dead: 1, ignored: 0}}
"""


def ran(text: str, tree: dict[str, str] | None = None, **options: Any) -> list[mapping_tests.Tested]:
    loaded, problems = inspect({**(tree or TREE), "tests/ships.yaml": text})
    assert loaded is not None, problems
    return mapping_tests.run(loaded, loaded.tests, **options)


def told(text: str, tree: dict[str, str] | None = None) -> list[str]:
    return [problem.text() for tested in ran(text, tree) for problem in tested.problems]


def test_a_test_that_names_what_comes_passes() -> None:
    assert told(PASSES) == []


def test_a_wrong_field_is_told_with_its_line_what_was_expected_and_what_was_found() -> None:
    (problem,) = told(PASSES.replace("sku: A", "sku: Z"))
    assert problem.startswith("tests/ships.yaml:10: ")
    assert "document 1 (U1), lines[0].sku: expected 'Z', found 'A'" in problem


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("key: U1", "key: U9", "its key: expected 'U9', found 'U1'"),
        ("value: 1.5", "value: 1.6", "lines[0].quantity.value: expected 1.6, found '1.5'"),
        ("value: 1.5", "value: '1.50'", "expected '1.50', found '1.5'"),
        ("number: U1,", "number: U1, carrier: DHL,", "carrier: expected 'DHL', found nothing"),
        ("code: bad_decimal", "code: required", "dead letter 1, its code: expected required, found bad_decimal"),
        ("field: lines.quantity", "field: number", "its field: expected number, found lines.quantity"),
        ("ignored: 0", "ignored: 2", "ignored: expected 2, found 0"),
        ("[{code: bad_decimal, field: lines.quantity}]", "[]", "dead letters: expected 0, found 1; sample line 3"),
        ("  dead: [{code: bad_decimal, field: lines.quantity}]\n", "", "dead letter 1, sample line 3: expected n"),
        ("U1;A;1,5", "U1;A;?", "documents: expected 1, found 0; sample line 2 is dead: bad_decimal"),
        ("mapping: wms", "mapping: wsm", "there is no mapping 'wsm' (did you mean 'wms'?)"),
        ("mapping: wms", "mapping: wms\nsite: lon9", "wms does not run at 'lon9'"),
    ],
)  # fmt: skip
def test_every_kind_of_difference_is_told(was: str, becomes: str, said: str) -> None:
    assert was in PASSES
    assert any(said in problem for problem in told(PASSES.replace(was, becomes, 1)))


def test_an_exact_test_names_everything() -> None:
    text = PASSES.replace("number: U1, ", "")
    assert told(text) == []
    assert any("number: expected nothing, found 'U1'" in p for p in told("exact: true\n" + text))


def test_rows_of_a_table_are_tested_as_an_agent_sends_them() -> None:
    tree = {
        **TREE,
        "sources/wms.yaml": "source: wms\non: {}\nkind: sql_table\nconnection: {sqlite: w.db}\ntable: S\nkey: [NO]\n"
        "mode: snapshot\n",
        "mappings/wms.yaml": "mapping: wms\ndocument: StockLevel\nfields: {location: $site, sku: SKU, on_hand: QTY}\n",
    }
    text = (
        "test: ships\nsource: wms\nrows: [{NO: 1, SKU: A, QTY: 2.5}, {NO: 2, SKU: '', QTY: 1}]\n"
        "columns: {NO: integer, QTY: decimal}\n"
        "expected: {documents: [{fields: {sku: A, on_hand: {value: 2.5}}}], dead: [{code: required, field: sku}]}\n"
    )
    assert told(text, tree) == []
    file = "test: ships\nsource: wms\ninput: x\nexpected: {counts: {documents: 1}}\n"
    assert any("the source reads rows of a table" in problem for problem in told(file, tree))


def test_a_failing_test_stands_in_the_way_of_a_plan_and_a_stored_tree_is_not_tested_again() -> None:
    bad = {**TREE, "tests/ships.yaml": PASSES.replace("sku: A", "sku: Z")}
    planned = diff.plan(TREE, bad)
    assert not planned.applicable
    assert [(p.file, p.line) for p in errors_of(planned.problems)] == [("tests/ships.yaml", 10)]
    assert diff.plan(TREE, {**TREE, "tests/ships.yaml": PASSES}).applicable
    assert diff.plan(TREE, StoredTree(bad)).applicable


def test_tests_that_get_no_turn_in_time_are_errors() -> None:
    loaded, _ = inspect({**TREE, "tests/a.yaml": PASSES.replace("ships", "a"), "tests/b.yaml": PASSES})
    assert loaded is not None
    ticks = iter(range(0, 1000, 15))
    found = mapping_tests.run(loaded, loaded.tests, seconds=20.0, clock=lambda: float(next(ticks)))
    assert [bool(tested.problems) for tested in found] == [False, True]
    assert "was not run" in found[1].problems[0].message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mapping: wms\ninput: x\n", "expected"),
        ("mapping: wms\nsource: wms\ninput: x\nexpected: {counts: {records: 1}}\n", "one of both"),
        ("mapping: wms\nexpected: {counts: {records: 1}}\n", "one of 'input'"),
        ("mapping: wms\ninput_base64: '*'\nexpected: {counts: {records: 1}}\n", "is no base64"),
        ("mapping: wms\ninput: x\nexpected: {}\n", "says nothing"),
        ("mapping: wms\ninput: x\nexpekted: {}\n", "expekted"),
    ],
)
def test_a_file_that_is_no_test_says_why(text: str, said: str) -> None:
    loaded, problems = inspect({**TREE, "tests/t.yaml": text})
    assert loaded is None
    assert any(said in problem.text() for problem in problems)


def test_a_character_that_the_encoding_lacks_and_what_cannot_be_cut_are_differences() -> None:
    tree = {**TREE, "sources/wms.yaml": TREE["sources/wms.yaml"].replace('";"', '";", encoding: cp1252')}
    assert any("cannot be written in cp1252" in problem for problem in told(PASSES.replace("U1;A", "U1;Ж"), tree))
