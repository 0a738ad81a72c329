"""Rules against a real log: what was decided before is what they look at, and what comes lets go what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.codec import Sealer
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.normalize import Normalizer
from crossdock_controller.store import connection, holds
from support.estate import TREE as ESTATE
from support.pipeline import Box

SOURCE = ESTATE["sources/wms.yaml"]
MAPPINGS = {
    "products": """document: Product
fields: {sku: A}
""",
    "orders": """document: SalesOrder
each: A
fields: {number: A, lines: {sku: B, quantity: C, price: {from: D, currency: {value: EUR}}}}
rules:
  - known: {field: lines.sku, document: Product}
""",
    "shipments": """document: Shipment
fields: {number: A, order_number: B, lines: {sku: C, quantity: D}}
rules:
  - known: {field: order_number, document: SalesOrder}
  - within: {document: SalesOrder, key: order_number, tolerance_percent: 10}
""",
    "invoices": """document: Invoice
fields:
  number: A
  shipment_number: B
  order_number: {value: O1}
  lines: {sku: {value: SKU1}, quantity: C, price: {from: D, currency: {value: EUR}}}
rules:
  - unchanged: {}
  - within: {document: Shipment, key: shipment_number}
  - agrees: {document: SalesOrder, key: order_number}
""",
    "stock": """document: StockLevel
fields: {location: A, sku: B, on_hand: C}
rules:
  - shrink: {field: on_hand, percent: 50, at_least: 3}
""",
}
TREE = {
    **{name: text for name, text in ESTATE.items() if not name.startswith(("sources/", "mappings/"))},
    "routes/files.yaml": 'when: site == "atl1"\nto: [files]\n',
    **{f"mappings/{name}.yaml": f"mapping: {name}\n{text}" for name, text in MAPPINGS.items()},
    **{
        f"sources/{name}.yaml": SOURCE.replace("source: wms", f"source: {name}").replace("${root}", f"${{root}}/{name}")
        for name in MAPPINGS
    },
}


class Site:
    def __init__(self, box: Box) -> None:
        self.box, self.sealer, self.ordinal = box, Sealer(), 0

    def send(self, source: str, *lines: str) -> None:
        """A whole file of *source*, and all that follows of it."""
        unit = f"{source}-{self.ordinal}".encode()
        self.ordinal += 1
        header = BatchHeader(
            format="csv", records=len(lines), prefix=b"A;B;C;D\n", closes=True,
            origin=Origin(kind="file", name="f.csv", unit=unit, first_record=0, first_line=2),
        )  # fmt: skip
        sealed = self.sealer.seal(header, "".join(f"{line}\n" for line in lines).encode())
        self.box.store(sealed.data, sealed.crc32, len(lines), source=source)
        worker = Normalizer(self.box.data, Runtime.from_tree)
        while worker.step():
            pass
        worker.close()

    def held(self) -> list[tuple[str, str]]:
        """(key, code) of what is held now."""
        return [(h.key, r.code) for h in holds.list_all(self.box.db) for r in h.reasons]

    def discard(self, seq: int) -> None:
        with connection.transaction(self.box.db):
            holds.discard(self.box.db, seq, by="me", note="", now_us=1)

    def warnings(self, key: str) -> str | None:
        found: tuple[str | None] = self.box.db.execute(
            "SELECT warnings FROM events WHERE key = ? ORDER BY seq DESC LIMIT 1", (key,)
        ).fetchone()
        return found[0]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    box = Box(tmp_path)
    box.apply(TREE)
    yield Site(box)
    box.close()


def test_a_chain_of_references_is_let_go_link_by_link(site: Site) -> None:
    site.send("shipments", "S1;O1;SKU1;5;")
    site.send("orders", "O1;SKU1;10;2.00", "O1;SKU2;1;1.00")
    assert site.held() == [("O1", "unknown_product")], "the order came, held or not: the shipment goes on"
    site.send("products", "SKU1;;;")
    assert site.held() == [("O1", "unknown_product")], "one of two is not enough"
    site.send("products", "SKU2;;;")
    assert site.held() == []
    assert all(site.box.account(name).balanced for name in ("orders", "shipments", "products"))


def test_what_was_ordered_bounds_what_is_shipped_and_that_what_is_billed(site: Site) -> None:
    site.send("products", "SKU1;;;")
    site.send("orders", "O1;SKU1;10;2.00")
    site.send("shipments", "S1;O1;SKU1;11;", "S2;O1;SKU1;11.5;")
    assert site.held() == [("S2", "over_salesorder")]
    site.send("invoices", "I1;S1;11;2.00", "I2;S1;12;2.00", "I3;S1;1;2.10")
    assert site.held() == [("S2", "over_salesorder"), ("I2", "over_shipment")]
    assert site.warnings("I3") == "price of line 1 is 2.10, SalesOrder O1 has 2.00"


def test_the_same_invoice_number_with_other_content_is_held_and_what_was_discarded_is_no_version(site: Site) -> None:
    site.send("invoices", "I1;;5;2.00")
    site.send("invoices", "I1;;5;2.00")  # the same again, of another file
    assert site.held() == []
    site.send("invoices", "I1;;6;2.00")
    assert site.held() == [("I1", "changed")]
    (held,) = holds.list_all(site.box.db)
    site.discard(held.seq)
    site.send("invoices", "I1;;5;2.00")
    assert site.held() == [], "it is as the last version that counts"
    row = site.box.account("invoices")
    assert (row.received, row.discarded, row.balanced) == (4, 1, True)


def test_a_stock_file_that_lost_its_second_half_is_asked_about(site: Site) -> None:
    site.send("stock", *[f"L1;{sku};10;" for sku in "ABCD"])
    site.send("stock", "L1;A;9;", "L1;B;0;", "L1;C;0;", "L1;D;0;")
    assert len(site.held()) == 4
    assert {code for _, code in site.held()} == {"shrunk"}
    assert site.box.account("stock").held == 4
    causes = site.box.db.execute("SELECT DISTINCT cause FROM exceptions WHERE state = 'open'").fetchall()
    assert causes == [("shrunk:StockLevel:on_hand",)], "one piece of work"
