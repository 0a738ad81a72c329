"""Tables and queries in a tree: what plan knows of their records, and what a mapping may make of them."""

from __future__ import annotations

import pytest

from crossdock_controller.config.load import inspect
from support.trees import small_tree

TABLE = """\
source: wms-shipments
on: {}
kind: sql_table
connection: {sqlite: D:/erp.db}
table: shipments
key: [SHIPMENT_NO, LINE]
columns: [SHIPMENT_NO, LINE, ITEM, QTY]
"""
BY_TIME = "mode: timestamp\ncolumn: CHANGED\n"
EACH_ROW = """\
mapping: wms-shipments
document: Shipment
deletes: ignore
where:
  - {column: $op, equals: upsert}
  - {column: CHANGED, not_equals: x}
fields:
  number: SHIPMENT_NO
  lines: {sku: ITEM, quantity: QTY}
"""


def errors(source: str, mapping: str | None = None) -> list[str]:
    tree = small_tree(sources__shipments=source, **({} if mapping is None else {"mappings__shipments": mapping}))
    return [problem.text() for problem in inspect(tree)[1] if problem.severity == "error"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("mode: snapshot\n", "with mode snapshot a row comes when it has changed"),
        ("mode: change_log\n", "with mode change_log a row comes when it has changed"),
        (BY_TIME + "reconcile: {}\n", "'reconcile' sends a row that was missed without the others"),
        (BY_TIME + "initial_load: key\n", "'initial_load: key' reads page by page"),
    ],
)
def test_rows_that_do_not_come_together_are_not_grouped_to_documents_that_lack_some(more: str, why: str) -> None:
    (said,) = errors(TABLE + more)
    assert said.startswith("mappings/shipments.yaml:3: each: source wms-shipments does not send the rows of a group")
    assert why in said
    assert "aggregate" in said


def test_rows_of_one_time_travel_together_and_are_grouped() -> None:
    assert errors(TABLE + BY_TIME) == []


def test_columns_about_the_record_are_known_beside_those_that_are_listed() -> None:
    assert errors(TABLE + BY_TIME + "reconcile: {deletes: true}\n", EACH_ROW) == []
