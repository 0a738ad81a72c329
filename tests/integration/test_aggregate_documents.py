"""From two tables to one document at a sink: the real source, intake, engine, router, dispatcher and dead letters."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest

from crossdock.codec import Sealer
from crossdock.errors import Refused, Rejected
from crossdock_controller import letters
from crossdock_controller.cli.dead import cells_of, steps
from crossdock_controller.config.errors import ConfigInvalid
from crossdock_controller.config.load import load
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.dispatch import Dispatcher
from crossdock_controller.formats.lists import elements_of
from crossdock_controller.normalize import Normalizer
from crossdock_controller.outcomes import Locator
from crossdock_controller.store import dead_letters
from crossdock_controller.store.account import AccountRow
from crossdock_controller.store.dead_letters import DeadLetter
from support.aggregate_site import LINES, ORDERS, OrderSite, create, order_site
from support.pipeline import Box, wait_for
from support.table_site import Sqlite

MAPPING = """\
    mapping: erp-orders
    document: SalesOrder
    fields:
      number: order_no
      customer.id: customer
      lines:
        each: lines
        number: line_no
        sku: {from: item, codes: {a: SKU-A, b: SKU-B}}
        quantity: line_no
        description: ^customer
"""
SINK = """\
    sink: finance
    kind: sql
    url: sqlite:///finance.db
    create_tables: true
    tables:
      SalesOrder:
        table: orders
        key: [number]
        columns: {number: number, customer: customer.id, sequence: $sequence}
        children:
          - each: lines
            table: line
            parent: {number: number}
            columns: {position: $index, sku: sku}
"""


def tree(database: Sqlite, mapping: str = MAPPING) -> dict[str, str]:
    source = {"source": "erp-orders", "on": {}, "kind": "sql_table", "connection": database.connection, **ORDERS}
    files = {
        "sites/atl1.yaml": "site: atl1\n",
        "sources/erp-orders.yaml": msgspec.json.encode(source).decode(),  # JSON is YAML
        "mappings/erp-orders.yaml": mapping,
        "routes/all.yaml": "to: [finance]\n",
        "sinks/finance.yaml": SINK,
    }
    return {name: dedent(text) for name, text in files.items()}


class Line:
    """The way from the tables to the sink."""

    def __init__(self, root: Path, database: Sqlite, site: OrderSite) -> None:
        self.box, self.database, self.site = Box(root), database, site
        self.runtime = Runtime.from_tree(tree(database), self.box.apply(tree(database)))
        self._sealer = Sealer()

    def poll(self) -> None:
        for draft in self.site.drafts(advance=1.0):
            sealed = self._sealer.seal(draft.header, draft.payload)
            records = draft.header.records + len(draft.header.rejects)
            self.box.store(sealed.data, sealed.crc32, records, source="erp-orders")
        normalizer = Normalizer(self.box.data, Runtime.from_tree)
        while normalizer.step():
            pass
        normalizer.close()
        self.deliver()

    def deliver(self) -> None:
        dispatcher = Dispatcher(self.box.data, Runtime.from_tree)
        dispatcher.tick()
        wait_for(lambda: self.account().pending == 0, "everything is delivered")
        dispatcher.close()

    def account(self) -> AccountRow:
        row = self.box.account("erp-orders")
        assert row.balanced, row
        return row

    def delivered(self) -> dict[str, list[str]]:
        with closing(sqlite3.connect(self.box.data.root / "finance.db")) as db:
            found: dict[str, list[str]] = {number: [] for (number,) in db.execute("SELECT number FROM orders")}
            for number, sku in db.execute("SELECT number, sku FROM line ORDER BY number, position"):
                found[number].append(sku)
            return found


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    database = Sqlite(tmp_path / "erp.db")
    create(database)
    with order_site(database) as site:
        made = Line(tmp_path / "data", database, site)
        yield made
        made.box.close()
    database.close()


def test_an_order_and_its_lines_arrive_as_one_and_follow_every_change(line: Line) -> None:
    site = line.site
    site.put("A")
    site.line("A", 1, "a")
    site.line("A", 2, "b")
    site.put("B")
    line.poll()
    assert line.delivered() == {"A": ["SKU-A", "SKU-B"], "B": []}
    site.line("B", 1, "b")
    site.remove_line("A", 1)
    site.put("A", "new")
    line.poll()
    assert line.delivered() == {"A": ["SKU-B"], "B": ["SKU-B"]}
    row = line.account()
    assert (row.delivered, row.dead) == (4, 0)


def test_a_bad_line_is_a_dead_letter_that_is_corrected_where_it_stands(line: Line) -> None:
    site = line.site
    site.put("A")
    site.line("A", 1, "a")
    site.line("A", 2, "zzz")
    line.poll()
    (letter,) = dead_letters.list_all(line.box.db)
    assert letter.reason.startswith("lines.2.item: 'zzz' is not among the codes")
    assert letter.locator.text() == "orders order_no=A"
    shown = dict(cells_of(letter.rows[0]))
    assert (shown["order_no"], shown["lines.1.item"], shown["lines.2.item"]) == ("A", "a", "zzz")
    assert steps(letter)[0].endswith(f"crossdock dead retry {letter.id} --set lines.2.item=VALUE")
    for name, said in (("lines.3.item", "has 2 elements, not 3"), ("lines.2.itm", "has no column 'itm'")):
        with pytest.raises(Refused, match=said):
            letters.retry(line.box.db, line.runtime, letter.id, {name: "b"}, by="ann")
    with pytest.raises(Rejected, match=r"lines\.2\.item: 'yyy'"):
        letters.retry(line.box.db, line.runtime, letter.id, {"lines.2.item": "yyy"}, by="ann")
    letters.retry(line.box.db, line.runtime, letter.id, {"1.lines.2.item": "b"}, by="ann")
    line.deliver()
    assert line.delivered() == {"A": ["SKU-A", "SKU-B"]}
    row = line.account()
    assert (row.delivered, row.dead) == (1, 0)


def test_of_a_long_list_the_element_at_fault_is_shown_and_named(line: Line) -> None:
    site = line.site
    site.put("A")
    for number in range(1, 41):
        site.line("A", number, "zzz" if number == 37 else "a")
    line.poll()
    (letter,) = dead_letters.list_all(line.box.db)
    shown = dict(cells_of(letter.rows[0], letter.reason))
    assert (shown["lines.37.item"], shown["lines"]) == ("zzz", "40 in all: --json shows every one")
    assert "lines.36.item" not in shown
    assert steps(letter)[0].endswith("--set lines.37.item=VALUE")


def test_an_order_read_twice_is_one_event(line: Line) -> None:
    line.site.put("A")
    line.site.line("A", 1, "a")
    line.poll()
    line.site.checkpoint = None  # an agent that lost its disk
    line.site.ledger.clear()
    line.site.restart()
    line.poll()
    row = line.account()
    assert (row.delivered, row.duplicates) == (1, 1)


def problems_of(database: Sqlite, mapping: str = MAPPING, **settings: Any) -> list[str]:
    files = tree(database, mapping)
    source = msgspec.json.decode(files["sources/erp-orders.yaml"])
    files["sources/erp-orders.yaml"] = msgspec.json.encode({**source, **settings}).decode()
    try:
        load(files)
    except ConfigInvalid as error:
        return [f"{p.file}: {p.path}: {p.message}" for p in error.problems if p.severity == "error"]
    return []


def test_a_plan_knows_the_lists_and_columns_of_an_aggregate(line: Line) -> None:
    listed = {**LINES, "columns": ["item"]}
    known = {"columns": ["customer"], "aggregate": {"children": [listed]}}
    assert problems_of(line.database, **known) == []
    wrong = MAPPING.replace("each: lines", "each: positions")
    assert problems_of(line.database, wrong)[0].endswith(
        "fields.lines.each: the source has no list 'positions' in its records"
    )
    wrong = MAPPING.replace("from: item", "from: itm").replace("^customer", "^custmer")
    assert [p.split(": ", 2)[1:] for p in problems_of(line.database, wrong, **known)] == [
        ["fields.lines.sku", "the list has no column 'itm'"],
        ["fields.lines.description", "the source has no column 'custmer'"],
    ]
    wrong = MAPPING + "    deletes: {status: deleted}\n"
    assert problems_of(line.database, wrong) == []
    wrong = MAPPING.replace("number: order_no", "number: customer") + "    deletes: {status: deleted}\n"
    assert "SalesOrder needs number, which is made of customer" in problems_of(line.database, wrong)[0]
    settings = {"aggregate": {"children": [{**LINES, "kee": 1}]}}
    assert "unknown key 'kee'" in problems_of(line.database, **settings)[0]


def test_what_an_element_lacks_can_be_supplied(line: Line) -> None:
    letter = DeadLetter(
        1, "record", "atl1", "a1", "s", 1, "", None, "", "", "required", "", "", 1, Locator("file", "f", 0), b"",
        [{"no": "1", "positions": [{"qty": 1}]}], "open", 0, 0, "", "",
    )  # fmt: skip
    (row,) = letters.corrected(letter, {"positions.1.article.sku": "A"}, ["no"], ["article.sku", "qty"])
    assert row == {"no": "1", "positions": [{"qty": 1, "article.sku": "A"}]}
    assert elements_of([row["positions"]], None).column("article.sku") == ["A"]
