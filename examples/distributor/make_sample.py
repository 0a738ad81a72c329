"""Writes sample/: what the warehouses' WMS and the ERP of the example would have left there. The same bytes every time.

    python examples/distributor/make_sample.py [DIRECTORY]

The ERP is a SQLite file; files of the WMS are those of a German product: cp1252 and cp850, decimal commas, CRLF.
"""

from __future__ import annotations

import sqlite3
import sys
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).parent

PRODUCTS = [
    # sku, description, gtin, unit, category, weight, price
    ("A-1001", "Rillenkugellager 6204", "04012345600016", "H87", "bearings", "0.106", "4.20"),
    ("A-1002", "Rillenkugellager 6205 – größer", "04012345600023", "H87", "bearings", "0.128", "5.10"),
    ("B-2001", "Keilriemen SPZ 1250", "04012345600030", "H87", "belts", "0.180", "11.95"),
    ("C-3001", "Schmierfett Typ 2", "04012345600047", "KGM", "grease", "1.000", "8.60"),
    ("D-4001", "Hydraulikschlauch DN12", "04012345600054", "MTR", "hoses", "0.390", "6.75"),
]
CUSTOMERS = [
    ("K-1001", "Müller & Söhne GmbH", "Köln", "DE"),
    ("K-1002", "Peachtree Bearings Inc.", "Atlanta", "US"),
    ("K-1003", "Van Dijk Techniek B.V.", "Rotterdam", "NL"),
]
ORDERS = [
    # an order, its customer, status and times, its currency, and its lines: sku and quantity
    ("4711", "K-1001", "30", "2026-01-29 08:12:00", "2026-02-02", "EUR", [("A-1001", "120"), ("C-3001", "12.5")]),
    ("4712", "K-1002", "20", "2026-01-29 15:40:00", "2026-02-04", "USD", [("A-1002", "40")]),
    (
        "4713",
        "K-1003",
        "10",
        "2026-01-30 07:05:00",
        None,
        "EUR",
        [("B-2001", "6"), ("D-4001", "2.75"), ("A-1001", "8")],
    ),
]
SHIPMENT_HEADER = "SHIPMENT_NO;ORDER_NO;SHIP_TS;CARRIER;TRACKING;CUSTOMER_NO;CUSTOMER;LINE_NO;ITEM;TEXT;QTY;UNIT;LOT"
SHIPMENTS = {
    "atl1": [
        "S-1001;4712;30.01.2026 09:15;UPS;1Z999AA10123456784;K-1002;Peachtree Bearings Inc.;"
        "1;A-1002;Rillenkugellager 6205 – größer;40;ST;L-77",
    ],
    "rtm1": [
        "S-1001;4711;30.01.2026 14:05;DHL;003404341234567;K-1001;Müller & Söhne GmbH;"
        "1;A-1001;Rillenkugellager 6204;120;ST;L-12",
        "S-1001;4711;30.01.2026 14:05;DHL;003404341234567;K-1001;Müller & Söhne GmbH;"
        '2;C-3001;"Schmierfett ""Typ 2""; Eimer";12,5;KG;',
        "S-1002;;30.01.2026 16:40;Abholung;-;K-1003;Van Dijk Techniek B.V.;"
        "1;A-1001;Rillenkugellager 6204;1.200;ST;L-13",
    ],
}
STOCK = {
    # bin, item, lot, status, quantity in thousandths, unit
    "atl1": [("A01-02", "A-1002", "L-77", "F", 2_460_000, "ST"), ("A01-03", "A-1001", "L-12", "Q", 50_000, "ST")],
    "rtm1": [
        ("01-001", "A-1001", "L-12", "F", 880_000, "ST"),
        ("01-002", "A-1001", "L-13", "F", -1_200_000, "ST"),
        ("02-010", "C-3001", "", "F", 87_500, "KG"),
        ("02-011", "D-4001", "", "S", 312_250, "M"),
    ],
}


def stock_record(bin_: str, item: str, lot: str, status: str, thousandths: int, unit: str, as_of: str) -> str:
    """One line of the snapshot, 56 characters; the layout is in config/sources/wms-stock.yaml."""
    sign = "-" if thousandths < 0 else " "
    return f"{bin_:<8}{item:<12}{lot:<8}{status}{abs(thousandths):010d}{sign}{unit:<2}{as_of}"


def write_wms(site: Path, name: str) -> None:
    (site / "out").mkdir(parents=True, exist_ok=True)
    (site / "stock").mkdir(parents=True, exist_ok=True)
    shipments = "\r\n".join([SHIPMENT_HEADER, *SHIPMENTS[name]]) + "\r\n"
    (site / "out" / "SHP20260130-01.csv").write_bytes(shipments.encode("cp1252"))
    records = [stock_record(*row, as_of="20260130180000") for row in STOCK[name]]
    stock = "\r\n".join([f"BESTAND {name.upper()} 30.01.2026", *records]) + "\r\n"
    (site / "stock" / "STK20260130.txt").write_bytes(stock.encode("cp850"))


def write_erp(file: Path) -> None:
    file.unlink(missing_ok=True)
    prices = {row[0]: Decimal(row[6]) for row in PRODUCTS}
    units = {row[0]: row[3] for row in PRODUCTS}
    with sqlite3.connect(file) as erp:
        erp.executescript((HERE / "erp_schema.sql").read_text("utf-8"))
        erp.executemany("INSERT INTO CUSTOMERS VALUES (?, ?, ?, ?)", CUSTOMERS)
        erp.executemany(
            "INSERT INTO PRODUCTS VALUES (?, ?, ?, ?, ?, ?, 1, '2026-01-05 06:00:00')", [row[:6] for row in PRODUCTS]
        )
        for number, (order, customer, status, ordered, requested, currency, lines) in enumerate(ORDERS, start=1):
            amounts = [(Decimal(quantity) * prices[sku]).quantize(Decimal("0.01")) for sku, quantity in lines]
            net = sum(amounts, Decimal(0))
            head = (order, customer, status, ordered, requested, currency, str(net), f"2026-01-30 0{number}:00:00")
            erp.execute("INSERT INTO ORDERS VALUES (?, ?, ?, ?, ?, ?, ?, ?)", head)
            for line, ((sku, quantity), amount) in enumerate(zip(lines, amounts, strict=True), start=1):
                row = (order, line, sku, quantity, units[sku], str(prices[sku]), str(amount))
                erp.execute("INSERT INTO ORDER_LINES VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            if status == "30":
                write_invoice(erp, order, customer, currency, net)
    erp.close()


def write_invoice(erp: sqlite3.Connection, order: str, customer: str, currency: str, net: Decimal) -> None:
    tax = (net * Decimal("0.19")).quantize(Decimal("0.01"))
    name = next(row[1] for row in CUSTOMERS if row[0] == customer)
    row = (f"R-{order}", order, customer, name, currency, str(net), str(tax), str(net + tax))
    erp.execute(
        "INSERT INTO INVOICES"
        " (INVOICE_NO, ORDER_NO, CUSTOMER_NO, CUSTOMER, ISSUED_ON, DUE_ON, CURRENCY, NET, TAX, TOTAL)"
        " VALUES (?, ?, ?, ?, '2026-01-30', '2026-03-01', ?, ?, ?, ?)",
        row,
    )


def main(target: Path) -> None:
    for name in SHIPMENTS:
        write_wms(target / name / "wms", name)
    write_erp(target / "rtm1" / "erp.sqlite")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "sample")
