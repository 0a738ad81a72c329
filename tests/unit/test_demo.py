"""The demo's own proof is worth something: each thing that can go wrong makes it fail, and it says what differed."""

import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from crossdock_controller.commands.account import Account, AccountLine
from crossdock_controller.config import diff
from crossdock_controller.config import tree as trees
from crossdock_controller.demo.business import BAD_QUANTITY, FAMOUS_ORDER, Business
from crossdock_controller.demo.catalogue import PRODUCTS
from crossdock_controller.demo.distributor import example, write_tree
from crossdock_controller.demo.verify import Check, check_all
from crossdock_controller.demo.webshop import Webshop


@pytest.fixture
def business(tmp_path: Path) -> Business:
    made = Business(tmp_path / "sites", (example() / "erp_schema.sql").read_text("utf-8"))
    made.add_products()
    for _ in range(3):
        made.tick(orders=4, shipments=5, bins=6)
    made.plant_bad_record()
    made.place_orders([FAMOUS_ORDER])
    return made


class Systems:
    """Finance, web shop, archive and account exactly as they must be for what *business* made (bad record and all)."""

    def __init__(self, directory: Path, business: Business, webshop: Webshop) -> None:
        self.ledger, self.webshop = business.ledger, webshop
        self.finance, self.archive = directory / "finance.db", directory / "archive"
        with closing(sqlite3.connect(self.finance)) as db:
            db.executescript(
                "CREATE TABLE sales_order(order_no, total); CREATE TABLE sales_order_line(order_no);"
                "CREATE TABLE invoice(invoice_no, total); CREATE TABLE shipment(warehouse, shipment_no);"
                "CREATE TABLE shipment_line(warehouse, shipment_no, quantity)"
            )
            ledger = self.ledger
            db.executemany("INSERT INTO sales_order VALUES(?,?)", [(k, str(v)) for k, v in ledger.orders.items()])
            db.executemany("INSERT INTO sales_order_line VALUES(?)", [("x",)] * ledger.order_lines)
            db.executemany("INSERT INTO invoice VALUES(?,?)", [(k, str(v)) for k, v in ledger.invoices.items()])
            db.executemany("INSERT INTO shipment VALUES(?,?)", list(ledger.shipments))
            rows = [(site, number, str(pieces)) for (site, number), pieces in ledger.shipments.items()]
            rows += [(*next(iter(ledger.shipments)), "0")] * (ledger.shipment_lines - len(rows))
            db.executemany("INSERT INTO shipment_line VALUES(?,?,?)", rows)
            db.commit()
        kinds = {
            "Product": len(ledger.products),
            "Shipment": len(ledger.shipments),
            "StockLevel": ledger.stock_available,
        }
        for kind, n in kinds.items():
            for i in range(n):
                assert webshop.receive(kind, f"{kind}-{i}", b"{}")[0] == 201
        self.archive.mkdir()
        lines = "".join(json.dumps({"event_id": i}) + "\n" for i in range(ledger.documents))
        (self.archive / "archive-1.jsonl").write_text(lines, "utf-8")
        sources = [line(site, source, n) for (site, source), n in ledger.records.items()]
        total = replace(line("", "", ledger.total))
        self.account = Account(0, sources, total, 0, 0, True, 0)

    def differing(self) -> list[Check]:
        checks = check_all(self.ledger, self.finance, self.archive, self.webshop, self.account, corrected=True)
        return [check for check in checks if check.differs]

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.finance)) as db:
            db.execute(statement)
            db.commit()


def line(site: str, source: str, n: int) -> AccountLine:
    return AccountLine(site, source, n, n, *([0] * 10), balanced=True)


@pytest.fixture
def systems(tmp_path: Path, business: Business) -> Iterator[Systems]:
    webshop = Webshop()
    yield Systems(tmp_path, business, webshop)
    webshop.close()


def test_systems_that_hold_exactly_what_was_made_pass(systems: Systems) -> None:
    assert systems.differing() == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM sales_order WHERE order_no = '4711'", "1 missing (such as 4711)"),
        ("INSERT INTO sales_order SELECT * FROM sales_order LIMIT 1", "1 doubled"),
        ("UPDATE invoice SET total = '0.01' WHERE invoice_no = 'R-4711'", "1 with other values (such as R-4711)"),
        ("INSERT INTO invoice VALUES('R-1', '1')", "1 that nobody made (such as R-1)"),
        ("DELETE FROM shipment WHERE shipment_no = 'S-0815'", "doubled"),
        ("UPDATE shipment_line SET quantity = '13' WHERE shipment_no = 'S-0815'", "1 with other values"),
        ("INSERT INTO sales_order_line VALUES('x')", "order lines: expected"),
        ("DELETE FROM shipment_line WHERE shipment_no = 'S-0815'", "missing"),
    ],
)
def test_any_row_lost_doubled_or_changed_in_finance_is_named(systems: Systems, statement: str, said: str) -> None:
    systems.sql(statement)
    assert said in "; ".join(check.differs for check in systems.differing())


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s.webshop.receive("Shipment", "one-too-many", b"{}"),
        lambda s: (s.archive / "archive-2.jsonl").write_text('{"event_id": 0}\n', "utf-8"),
        lambda s: setattr(s, "account", replace(s.account, balanced=False)),
        lambda s: setattr(s, "account", replace(s.account, sources=s.account.sources[1:])),
        lambda s: setattr(s, "account", replace(s.account, total=replace(s.account.total, dead=1))),
        lambda s: s.ledger.records.update({("atl1", "wms-stock"): 1}),
    ],
)
def test_a_surplus_elsewhere_or_an_account_that_disagrees_is_noticed(
    systems: Systems, damage: Callable[[Systems], object]
) -> None:
    damage(systems)
    assert len(systems.differing()) == 1


def test_the_business_writes_what_its_ledger_says(business: Business) -> None:
    counted: Counter[tuple[str, str]] = Counter()
    quantities: list[str] = []
    for site in ("atl1", "rtm1"):
        for file in business.wms_root(site).glob("out/SHP*.csv"):
            with file.open(encoding="cp1252", newline="") as stream:
                rows = list(csv.DictReader(stream, delimiter=";"))
            counted[site, "wms-shipments"] += len(rows)
            quantities += [row["QTY"] for row in rows]
        for file in business.wms_root(site).glob("stock/STK*.txt"):
            lines = file.read_bytes().decode("cp850").splitlines()
            assert {len(text) for text in lines[1:]} == {56}
            counted[site, "wms-stock"] += len(lines) - 1
    with closing(sqlite3.connect(business.erp_file)) as erp:
        for source, table in (
            ("erp-orders", "ORDER_EXPORT"),
            ("erp-invoices", "INVOICES"),
            ("erp-products", "PRODUCTS"),
        ):
            counted["rtm1", source] = erp.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    assert counted == business.ledger.records
    assert [q for q in quantities if not set(q) <= set("0123456789.,")] == [BAD_QUANTITY]


def test_the_same_file_again_is_no_record_of_the_ledger(business: Business) -> None:
    before = business.ledger.total
    business.repeat_a_file("atl1")
    assert business.ledger.total == before
    contents = Counter(f.read_bytes() for f in business.wms_root("atl1").glob("out/SHP*.csv"))
    assert sorted(contents.values())[-2:] == [1, 2]


def test_the_catalogue_has_valid_article_numbers_and_letters_that_hurt() -> None:
    for product in PRODUCTS:
        digits = [int(d) for d in product.gtin]
        assert len(digits) == 14
        assert sum(d * (1 if i % 2 else 3) for i, d in enumerate(digits)) % 10 == 0
    assert len({p.sku for p in PRODUCTS}) == len(PRODUCTS)
    texts = "".join(p.text for p in PRODUCTS)
    assert set('äØ–"') <= set(texts)
    assert all(p.price > Decimal(0) for p in PRODUCTS)


def test_the_example_takes_the_folders_of_this_run_and_stays_valid(tmp_path: Path, business: Business) -> None:
    target = write_tree(tmp_path / "config", business, "http://127.0.0.1:9")
    tree, problems = trees.read(target)
    assert problems == []
    plan = diff.plan(None, tree)
    assert plan.applicable, plan.problems
    assert business.erp_file.as_posix() in tree["sites/rtm1.yaml"]
    assert "http://127.0.0.1:9/" in tree["sinks/webshop.yaml"]


def test_the_web_shop_applies_a_key_once_and_a_closed_shop_applies_nothing() -> None:
    shop = Webshop()
    try:
        shop.close_shop()
        assert shop.receive("Product", "k", b"{}") == (503, {"Retry-After": "1"})
        shop.reopen()
        assert shop.receive("Product", "k", b"{}")[0] == 201
        assert shop.receive("Product", "k", b"{}")[0] == 200
        assert shop.receive("Product", "", b"{}")[0] == 400
        assert (shop.effects_by_kind(), shop.repeats, shop.refused) == (Counter({"Product": 1}), 1, 1)
    finally:
        shop.close()
