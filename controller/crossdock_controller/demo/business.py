"""A small distributor at work: its WMS drops files, its ERP commits rows, and it remembers by itself what it gave.

The ledger is the demo's own truth: it is filled where the data is made and never asks crossdock anything. Files look as
those of a German WMS of 2004 do: cp1252 and cp850, decimal commas, CRLF, quotes in quotes.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import random
import sqlite3
import threading
import zoneinfo
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from crossdock_controller.demo.catalogue import CARRIERS, CUSTOMERS, PRODUCTS, Product

SHIPMENT_COLUMNS = "SHIPMENT_NO;ORDER_NO;SHIP_TS;CARRIER;TRACKING;CUSTOMER_NO;CUSTOMER;LINE_NO;ITEM;TEXT;QTY;UNIT;LOT"
ZONES = {"atl1": "America/New_York", "rtm1": "Europe/Amsterdam"}  # as in the example's sites/*.yaml
SITES = tuple(ZONES)
ERP_SITE = "rtm1"
FAMOUS_ORDER = "4711"  # the one whose way is told at the end
BAD_SHIPMENT = "S-0815"
BAD_QUANTITY = "zwölf"  # what a person typed over the number
GOOD_QUANTITY = "12"
_CENT = Decimal("0.01")
_WMS_UNIT = {"H87": "ST", "KGM": "KG", "MTR": "M"}


@dataclass(slots=True)
class Ledger:
    """What was given. *records* by (site, source); quantities and totals as exact decimals."""

    records: Counter[tuple[str, str]] = field(default_factory=Counter)
    products: set[str] = field(default_factory=set)
    orders: dict[str, Decimal] = field(default_factory=dict)  # number: total
    order_lines: int = 0
    invoices: dict[str, Decimal] = field(default_factory=dict)  # number: total
    shipments: dict[tuple[str, str], Decimal] = field(default_factory=dict)  # (site, number): pieces, kilos, metres
    shipment_lines: int = 0
    stock: int = 0  # bins reported, of all snapshots
    stock_available: int = 0
    files: int = 0

    @property
    def total(self) -> int:
        return sum(self.records.values())

    @property
    def documents(self) -> int:
        """Versions of documents that must come out of it."""
        return len(self.products) + len(self.orders) + len(self.invoices) + len(self.shipments) + self.stock


class Business:
    """Works in *directory* (one folder a site); each `tick` is a moment of its day. Ticks come from one thread."""

    def __init__(self, directory: Path, schema: str, seed: int = 4711) -> None:
        self.ledger = Ledger()
        self.erp_file = directory / ERP_SITE / "erp.sqlite"
        self._rng = random.Random(seed)  # noqa: S311 - the same day every time
        self._roots = {site: directory / site / "wms" for site in SITES}
        self._numbers = dict.fromkeys(SITES, 1000)
        self._order_number = 5000
        self._ticks = 0
        self._open: list[tuple[str, str]] = []  # (order, customer) waiting to be shipped
        for root in self._roots.values():
            (root / "out").mkdir(parents=True)
            (root / "stock").mkdir(parents=True)
        self._prepare_erp(schema)

    def wms_root(self, site: str) -> Path:
        return self._roots[site]

    def add_products(self) -> None:
        """The catalogue is entered into the ERP, in one commit."""
        now = _utc_now()
        rows = [(p.sku, p.text, p.gtin, p.unit, p.category, str(p.weight), 1, now) for p in PRODUCTS]
        with self._erp() as erp:
            erp.executemany("INSERT INTO PRODUCTS VALUES (?,?,?,?,?,?,?,?)", rows)
        self.ledger.products |= {p.sku for p in PRODUCTS}
        self.ledger.records[ERP_SITE, "erp-products"] += len(rows)

    def tick(self, orders: int = 12, shipments: int = 14, bins: int = 24) -> None:
        """New orders with their invoices, a file of shipments at each site, and now and then a stock snapshot."""
        self._ticks += 1
        self.place_orders([self._next_order() for _ in range(orders)])
        for site in SITES:
            self._ship(site, shipments)
            if self._ticks % 4 == 1:
                self._count_stock(site, bins)

    def place_orders(self, numbers: Iterable[str]) -> None:
        """One commit of orders, each with its lines and its invoice."""
        with self._erp() as erp:
            for number in numbers:
                self._place(erp, number)

    def plant_bad_record(self) -> None:
        """A shipment of one line at Rotterdam, with a word where a number belongs."""
        product = PRODUCTS[0]
        self._drop_shipments("rtm1", self._rows("rtm1", BAD_SHIPMENT, "", [(product, BAD_QUANTITY)]))
        self.ledger.shipments["rtm1", BAD_SHIPMENT] = Decimal(GOOD_QUANTITY)

    def repeat_a_file(self, site: str) -> None:
        """The WMS sends a file again under a new name, as they do: the same records must not count twice."""
        folder = self._roots[site] / "out"
        oldest = min(folder.glob("SHP*.csv"))
        temporary = folder / "again.tmp"
        temporary.write_bytes(oldest.read_bytes())
        temporary.rename(folder / f"SHP-again-{oldest.name}")

    def _place(self, erp: sqlite3.Connection, number: str) -> None:
        customer = self._rng.choice(CUSTOMERS)
        lines = [(p, self._quantity(p)) for p in self._rng.sample(PRODUCTS, self._rng.randint(1, 4))]
        amounts = [(quantity * product.price).quantize(_CENT) for product, quantity in lines]
        total = sum(amounts, Decimal(0))
        now = _utc_now()
        head = (number, customer.number, "20", now, None, customer.currency, str(total), now)
        erp.execute("INSERT INTO ORDERS VALUES (?,?,?,?,?,?,?,?)", head)
        rows = [
            (number, i, product.sku, str(quantity), product.unit, str(product.price), str(amount))
            for i, ((product, quantity), amount) in enumerate(zip(lines, amounts, strict=True), 1)
        ]
        erp.executemany("INSERT INTO ORDER_LINES VALUES (?,?,?,?,?,?,?)", rows)
        tax = (total * Decimal("0.19")).quantize(_CENT)
        today = dt.datetime.now(dt.UTC).date()
        invoice = (f"R-{number}", number, customer.number, customer.name, str(today), str(today + dt.timedelta(30)),
                   customer.currency, str(total), str(tax), str(total + tax))  # fmt: skip
        erp.execute(
            "INSERT INTO INVOICES(INVOICE_NO, ORDER_NO, CUSTOMER_NO, CUSTOMER, ISSUED_ON, DUE_ON, CURRENCY, NET, TAX,"
            " TOTAL) VALUES (?,?,?,?,?,?,?,?,?,?)",
            invoice,
        )
        self.ledger.orders[number] = total
        self.ledger.order_lines += len(rows)
        self.ledger.invoices[f"R-{number}"] = total + tax
        self.ledger.records[ERP_SITE, "erp-orders"] += len(rows)
        self.ledger.records[ERP_SITE, "erp-invoices"] += 1
        self._open.append((number, customer.number))

    def _ship(self, site: str, n: int) -> None:
        rows = []
        for _ in range(n):
            self._numbers[site] += 1
            number = f"S-{self._numbers[site]}"
            order = self._open.pop(0)[0] if self._open else ""
            items = [(p, self._quantity(p)) for p in self._rng.sample(PRODUCTS, self._rng.randint(1, 3))]
            rows += self._rows(site, number, order, [(product, _german(quantity)) for product, quantity in items])
            self.ledger.shipments[site, number] = sum((quantity for _, quantity in items), Decimal(0))
        self._drop_shipments(site, rows)

    def _rows(self, site: str, number: str, order: str, items: list[tuple[Product, str]]) -> list[list[str]]:
        """The lines of one shipment, one an item."""
        customer, carrier = self._rng.choice(CUSTOMERS), self._rng.choice(CARRIERS)
        tracking = "-" if carrier == "Abholung" else f"{self._rng.randrange(10**11, 10**12)}"
        head = [number, order, f"{_local(site):%d.%m.%Y %H:%M}", carrier, tracking, customer.number, customer.name]
        return [
            [*head, str(line), product.sku, product.text, quantity, _WMS_UNIT[product.unit], f"L-{line + 10}"]
            for line, (product, quantity) in enumerate(items, 1)
        ]

    def _drop_shipments(self, site: str, rows: list[list[str]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=";", lineterminator="\r\n")
        writer.writerow(SHIPMENT_COLUMNS.split(";"))
        writer.writerows(rows)
        self.ledger.files += 1
        self._drop(self._roots[site] / "out", f"SHP-{self.ledger.files:05d}.csv", text.getvalue(), "cp1252")
        self.ledger.shipment_lines += len(rows)
        self.ledger.records[site, "wms-shipments"] += len(rows)

    def _count_stock(self, site: str, bins: int) -> None:
        as_of = f"{_local(site):%Y%m%d%H%M%S}"
        lines = [f"BESTAND {site.upper()} {as_of}"]
        for i in range(bins):
            product = PRODUCTS[i % len(PRODUCTS)]
            status = self._rng.choice("FFFFFFQS")
            thousandths = int(self._quantity(product) * 1000)
            lot = f"L-{10 + i}"
            lines.append(
                f"{f'{i // 12:02d}-{i % 12:03d}':<8}{product.sku:<12}{lot:<8}{status}{thousandths:010d} "
                f"{_WMS_UNIT[product.unit]:<2}{as_of}"
            )
            self.ledger.stock += 1
            self.ledger.stock_available += status == "F"
        self.ledger.files += 1
        self._drop(
            self._roots[site] / "stock", f"STK-{self.ledger.files:05d}.txt", "\r\n".join(lines) + "\r\n", "cp850"
        )
        self.ledger.records[site, "wms-stock"] += bins

    def _drop(self, folder: Path, name: str, text: str, encoding: str) -> None:
        """As a careful WMS does it: written beside, then renamed."""
        temporary = folder / f"{name}.tmp"
        temporary.write_bytes(text.encode(encoding))
        temporary.rename(folder / name)

    def _quantity(self, product: Product) -> Decimal:
        if product.unit == "H87":
            return Decimal(self._rng.choice((1, 2, 4, 6, 8, 10, 12, 20, 40, 60, 120, 1200)))
        return Decimal(self._rng.randint(2, 240)) / 4

    def _next_order(self) -> str:
        self._order_number += 1
        return str(self._order_number)

    def _prepare_erp(self, schema: str) -> None:
        with self._erp() as erp:
            erp.execute("PRAGMA journal_mode=WAL")
            erp.executescript(schema)
            customers = [(c.number, c.name, c.city, c.country) for c in CUSTOMERS]
            erp.executemany("INSERT INTO CUSTOMERS VALUES (?,?,?,?)", customers)

    def _erp(self) -> _Commit:
        return _Commit(self.erp_file)


class _Commit:
    """One connection for one commit, as a client of an old ERP works."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, timeout=30)

    def __enter__(self) -> sqlite3.Connection:
        return self._db

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._db.commit()
        self._db.close()


class Day:
    """Lets the business tick on a thread of its own, every *seconds*, until it is closed. A failure is kept."""

    def __init__(self, business: Business, seconds: float) -> None:
        self._business = business
        self._seconds = seconds
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="business", daemon=True)
        self.failure: Exception | None = None
        self._thread.start()

    def close(self) -> None:
        """Stop after the tick under way. Raises what a tick raised."""
        self._closed.set()
        self._thread.join(30)
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._business.tick()
            except Exception as error:  # noqa: BLE001 - raised again where the story waits for it
                self.failure = error
                return
            self._closed.wait(self._seconds)


def _german(quantity: Decimal) -> str:
    """ "1.200" and "12,5": a dot between thousands, a comma before decimals, no zeros at the end."""
    text = f"{quantity:,.3f}".replace(",", " ").replace(".", ",").replace(" ", ".")
    return text.rstrip("0").rstrip(",")


def _local(site: str) -> dt.datetime:
    """Now, as the clock on the wall of *site* shows it: that is what a WMS writes."""
    return dt.datetime.now(zoneinfo.ZoneInfo(ZONES[site]))


def _utc_now() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S.%f}"
