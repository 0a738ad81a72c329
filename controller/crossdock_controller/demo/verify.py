"""The demo's own proof: what the business gave, against what finance, web shop and archive hold. It trusts no counter
of crossdock; only at the end does it ask whether crossdock's account says the same."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from crossdock_controller.cli.words import count
from crossdock_controller.commands.account import Account
from crossdock_controller.demo.business import BAD_SHIPMENT, ERP_SITE, Ledger
from crossdock_controller.demo.webshop import Webshop

_SHOWN = 3
_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. *text* says what agreed; *differs* what did not, empty when it did."""

    text: str
    differs: str = ""


def check_all(
    ledger: Ledger, finance: Path, archive: Path, webshop: Webshop, account: Account, *, corrected: bool
) -> list[Check]:
    """*corrected*: whether the planted bad record was mended; until then its shipment must be nowhere."""
    shipments = dict(ledger.shipments)
    bad = (ERP_SITE, BAD_SHIPMENT)
    planted = bad in shipments
    if planted and not corrected:
        del shipments[bad]
    dead = int(planted and not corrected)
    return [
        *_finance(ledger, shipments, dead, finance),
        _webshop(ledger, shipments, webshop),
        _archive(ledger.documents - dead, archive),
        _account(ledger, dead, account),
    ]


def _finance(ledger: Ledger, shipments: dict[tuple[str, str], Decimal], dead: int, finance: Path) -> list[Check]:
    with closing(sqlite3.connect(finance)) as db:
        orders = _rows(db.execute("SELECT order_no, total FROM sales_order"))
        invoices = _rows(db.execute("SELECT invoice_no, total FROM invoice"))
        order_lines = db.execute("SELECT count(*) FROM sales_order_line").fetchone()[0]
        lines = db.execute("SELECT warehouse, shipment_no, quantity FROM shipment_line").fetchall()
        headers = db.execute("SELECT warehouse, shipment_no FROM shipment").fetchall()
    pieces: dict[tuple[str, str], Decimal] = {}
    for warehouse, number, quantity in lines:
        pieces[warehouse, number] = pieces.get((warehouse, number), Decimal(0)) + Decimal(str(quantity))
    return [
        _same(f"finance: {count(len(orders))} orders, totals to the cent", ledger.orders, dict(orders), len(orders)),
        _equal("finance: order lines", ledger.order_lines, order_lines),
        _same(f"finance: {count(len(invoices))} invoices", ledger.invoices, dict(invoices), len(invoices)),
        _same(f"finance: {count(len(headers))} shipments, quantities exact", shipments, pieces, len(headers)),
        _equal("finance: shipment lines", ledger.shipment_lines - dead, len(lines)),
    ]


def _webshop(ledger: Ledger, shipments: dict[tuple[str, str], Decimal], webshop: Webshop) -> Check:
    expected = {"Product": len(ledger.products), "Shipment": len(shipments), "StockLevel": ledger.stock_available}
    found = dict(webshop.effects_by_kind())
    text = f"web shop: {count(sum(found.values()))} documents, each took effect once"
    return Check(text, "" if expected == found else f"expected {expected}, found {found}")


def _archive(documents: int, archive: Path) -> Check:
    events: list[str] = []
    for file in sorted(archive.glob("*.jsonl")):
        events += [json.loads(line)["event_id"] for line in file.read_text("utf-8").splitlines()]
    text = f"archive: {count(len(events))} events in JSON lines, every id once"
    if len(events) != documents or len(set(events)) != documents:
        return Check(text, f"expected {documents}, found {len(events)} lines with {len(set(events))} ids")
    return Check(text)


def _account(ledger: Ledger, dead: int, account: Account) -> Check:
    text = f"crossdock account: {count(account.total.in_)} records in, as many as were made"
    found = {(line.site, line.source): line.in_ for line in account.sources}
    wrong = {key: (made, found.get(key, 0)) for key, made in ledger.records.items() if found.get(key, 0) != made}
    if wrong:
        shown = ", ".join(f"{source}@{site}: made {made}, in {n}" for (site, source), (made, n) in wrong.items())
        return Check(text, shown)
    if not account.balanced or account.total.dead != dead or account.total.delivered != account.total.in_ - dead:
        return Check(text, f"delivered {account.total.delivered}, dead {account.total.dead}, expected {dead} dead")
    return Check(text)


def _rows(cursor: Iterable[tuple[str, object]]) -> list[tuple[str, Decimal]]:
    return [(number, Decimal(str(total))) for number, total in cursor]


def _same(text: str, expected: Mapping[_K, Decimal], found: Mapping[_K, Decimal], rows: int) -> Check:
    """Equal keys, equal values, and no key in two rows."""
    missing = [k for k in expected if k not in found]
    surplus = [k for k in found if k not in expected]
    other = [k for k, value in expected.items() if k in found and found[k] != value]
    problems = [
        f"{len(keys)} {word} (such as {', '.join(str(k) for k in keys[:_SHOWN])})"
        for word, keys in (("missing", missing), ("that nobody made", surplus), ("with other values", other))
        if keys
    ]
    if rows != len(found):
        problems.append(f"{rows - len(found)} doubled")
    return Check(text, "; ".join(problems))


def _equal(what: str, expected: int, found: int) -> Check:
    return Check(f"{what}: {count(found)}", "" if expected == found else f"{what}: expected {expected}, found {found}")
