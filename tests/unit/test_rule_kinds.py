"""Each kind of rule: what breaks it, what does not, what it says, and its severity unless told otherwise."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock_controller.documents.base import Money, Quantity
from crossdock_controller.documents.financial_posting import FinancialPosting, PostingLine
from crossdock_controller.documents.invoice import Invoice, InvoiceLine
from crossdock_controller.documents.ordering import OrderLine
from crossdock_controller.documents.product import Product
from crossdock_controller.documents.sales_order import SalesOrder
from crossdock_controller.documents.shipment import Shipment, ShipmentLine
from crossdock_controller.documents.stock_level import StockLevel
from crossdock_controller.mappings.compile import problems
from crossdock_controller.mappings.model import RULES, Mapping, Rule
from crossdock_controller.mappings.rules import Broken, KnownKeys, compile_rule, default_severity

TODAY = date(2026, 3, 1)


class Log:
    """A Lookup with a history: documents by key."""

    def __init__(self, *documents: Any) -> None:
        self.documents = {(type(d).__name__, d.key()): d for d in documents}
        self.asked = 0

    def known(self, document: str, keys: set[str]) -> set[str]:
        return {key for key in keys if (document, key) in self.documents}

    def latest(self, document: str, keys: set[str]) -> dict[str, Any]:
        self.asked += 1
        return {key: self.documents[document, key] for key in keys if (document, key) in self.documents}

    def today(self) -> date:
        return TODAY


def broken(rule: dict[str, Any], *documents: Any, log: Log | None = None) -> list[Broken]:
    return compile_rule(Rule.model_validate(rule)).run(documents, KnownKeys(log or Log()))


def reasons(rule: dict[str, Any], *documents: Any, log: Log | None = None) -> list[str]:
    return [entry.reason for entry in broken(rule, *documents, log=log)]


def qty(value: str, uom: str = "H87") -> Quantity:
    return Quantity(Decimal(value), uom)


def eur(amount: str, currency: str = "EUR") -> Money:
    return Money(Decimal(amount), currency)


def stock(sku: str, on_hand: str) -> StockLevel:
    return StockLevel("L1", sku, qty(on_hand))


def shipment(number: str, *lines: tuple[str, str], order: str = "O1", **more: Any) -> Shipment:
    return Shipment(number, tuple(ShipmentLine(sku, qty(n)) for sku, n in lines), order_number=order, **more)


ORDER = SalesOrder("O1", (OrderLine("A", qty("10"), price=eur("2.00")), OrderLine("A", qty("5"), price=eur("1.90"))))


@pytest.mark.parametrize(
    ("gtin", "reason"),
    [
        ("4006381333931", None),
        ("96385074", None),
        ("4006381333930", "gtin is '4006381333930', its check digit would be 1"),
        ("400638133393", "gtin is '400638133393', its check digit would be 0"),
        ("123", "gtin is '123', a GTIN has 8 or 12 or 13 or 14 digits"),
        ("٤٠٠٦٣٨١٣٣٣٩٣١", "gtin is '٤٠٠٦٣٨١٣٣٣٩٣١', a GTIN has 8 or 12 or 13 or 14 digits"),
        ("", None),
    ],
)
def test_check_digit(gtin: str, reason: str | None) -> None:
    found = reasons({"check_digit": {"field": "gtin", "kind": "gtin"}}, Product("A", gtin=gtin))
    assert found == ([reason] if reason else [])


def test_currency_unit_minor_units_and_whole_pieces() -> None:
    def order(quantity: Quantity, price: Money) -> SalesOrder:
        return SalesOrder("O1", (OrderLine("A", quantity, price=price),), currency="XYZ")

    assert reasons({"currency": ["lines.price", "currency"]}, order(qty("1"), eur("1", "EURO"))) == [
        "price of line 1: 'EURO' is no currency of ISO 4217",
        "currency: 'XYZ' is no currency of ISO 4217",
    ]
    assert reasons({"currency": "lines.price"}, order(qty("1"), eur("1", "JPY"))) == []
    assert reasons({"minor_units": "lines.price"}, order(qty("1"), eur("1.005"))) == [
        "price of line 1 is 1.005 EUR, which has 2 decimals"
    ]
    assert reasons({"minor_units": "lines.price"}, order(qty("1"), eur("1.50", "JPY"))) != []
    assert reasons({"minor_units": "lines.price"}, order(qty("1"), eur("1.0000"))) == []
    assert reasons({"minor_units": "lines.price"}, order(qty("1"), eur("1.234", "KWD"))) == []
    assert reasons({"unit": {"field": "lines.quantity"}}, order(qty("1", "STK"), eur("1"))) == [
        "quantity of line 1: 'STK' is no unit that is known"
    ]
    assert reasons({"unit": {"field": "lines.quantity", "also": "STK"}}, order(qty("1", "STK"), eur("1"))) == []
    assert reasons({"whole": "lines.quantity"}, order(qty("1.5"), eur("1"))) == [
        "quantity of line 1 is 1.5 H87, which is counted whole"
    ]
    assert reasons({"whole": "lines.quantity"}, order(qty("2.000"), eur("1")), order(qty("1.5", "KGM"), eur("1"))) == []


def test_plausible_dates() -> None:
    rule = {"plausible": {"fields": ["ordered_on", "ordered_at"]}}
    late = datetime(2031, 3, 2, tzinfo=UTC)
    assert reasons(rule, SalesOrder("1", ordered_on=date(1900, 1, 1), ordered_at=late)) == [
        "ordered_on is 1900-01-01, before 1990-01-01",
        "ordered_at is 2031-03-02, more than 5 years from now",
    ]
    assert reasons(rule, SalesOrder("1", ordered_on=date(2031, 3, 1)), SalesOrder("2")) == []
    assert reasons(rule, SalesOrder("1", ordered_on=date(9999, 12, 31))) != []
    assert broken({"plausible": {"fields": "ordered_on", "years_ahead": 100}}, SalesOrder("1", ordered_on=TODAY)) == []


def test_dates_in_order() -> None:
    rule = {"in_order": {"earlier": "ordered_on", "later": "requested_on"}}
    assert reasons(rule, SalesOrder("1", ordered_on=date(2026, 2, 2), requested_on=date(2026, 2, 1))) == [
        "requested_on is 2026-02-01, before ordered_on, 2026-02-02"
    ]
    assert reasons(rule, SalesOrder("1", ordered_on=date(2026, 2, 2), requested_on=date(2026, 2, 2))) == []
    mixed = {"in_order": {"earlier": "ordered_at", "later": "requested_on"}}
    noon = datetime(2026, 2, 2, 12, tzinfo=UTC)
    assert reasons(mixed, SalesOrder("1", ordered_at=noon, requested_on=date(2026, 2, 2)), SalesOrder("2")) == []
    assert reasons(mixed, SalesOrder("1", ordered_at=noon, requested_on=date(2026, 2, 1))) != []


@pytest.mark.parametrize(
    ("quantity", "price", "per", "amount", "breaks"),
    [
        ("3", "1.10", None, "3.30", False),
        ("3", "1.10", None, "3.31", False),  # half a cent for each of three pieces
        ("3", "1.10", None, "3.32", True),
        ("250", "12.50", "100", "31.25", False),
        ("250", "12.50", "100", "3125.00", True),
        ("-2", "5.00", None, "-10.00", False),
        ("0", "5.00", None, "0.00", False),
        ("1", "0.333333333333", None, "0.33", False),
    ],
)
def test_line_totals_within_half_a_minor_unit_for_each_piece(
    quantity: str, price: str, per: str | None, amount: str, breaks: bool
) -> None:
    line = InvoiceLine(
        "A", qty(quantity), price=eur(price), price_quantity=qty(per) if per else None, amount=eur(amount)
    )
    invoice = Invoice("I1", (line, InvoiceLine(description="freight", amount=eur("9.00"))))
    assert bool(broken({"line_total": {}}, invoice)) is breaks


def test_a_line_total_says_what_it_should_be() -> None:
    line = InvoiceLine("A", qty("250"), price=eur("12.50"), price_quantity=qty("100"), amount=eur("40.00"))
    assert reasons({"line_total": {}}, Invoice("I1", (line,))) == [
        "amount of line 1 is 40.00, but 250 at 12.50 for 100 are 31.250"
    ]


def test_a_journal_balances_to_the_last_digit() -> None:
    rule = {"balanced": {"debit": "lines.debit", "credit": "lines.credit"}}
    lines = (PostingLine("4000", debit=eur("10.00")), PostingLine("1200", credit=eur("10.00")))
    assert reasons(rule, FinancialPosting("L", "1", lines)) == []
    (entry,) = broken(rule, FinancialPosting("L", "1", (*lines, PostingLine("1", debit=eur("0.01")))))
    assert (entry.severity, entry.reason) == ("reject", "lines.debit add up to 10.01, lines.credit to 10.00")


def test_no_more_is_shipped_than_ordered_beyond_the_tolerance() -> None:
    rule = {"within": {"document": "SalesOrder", "key": "order_number", "tolerance_percent": 10}}
    log = Log(ORDER)
    sound = [shipment("1", ("A", "16.5")), shipment("2", ("A", "99"), order="O9"), shipment("3", ("A", "1"), order="")]
    assert broken(rule, *sound, log=log) == []
    (one, two) = broken(rule, shipment("4", ("A", "10"), ("A", "7")), shipment("5", ("B", "1")), log=log)
    assert (one.severity, one.code, one.reason) == (
        "hold",
        "over_salesorder",
        "lines.quantity of A is 17, SalesOrder O1 has 15",
    )
    assert two.reason == "lines.quantity of B is 1, SalesOrder O1 has 0"
    assert log.asked == 2, "one question a run"


def test_no_more_is_billed_than_shipped_and_at_the_price_that_was_agreed() -> None:
    def invoice(n: str, price: str) -> Invoice:
        return Invoice("I1", (InvoiceLine("A", qty(n), price=eur(price)),), order_number="O1", shipment_number="S1")

    log = Log(ORDER, shipment("S1", ("A", "4")))
    billed = {"within": {"document": "Shipment", "key": "shipment_number"}}
    assert reasons(billed, invoice("5", "2.00"), log=log) == ["lines.quantity of A is 5, Shipment S1 has 4"]
    assert reasons(billed, invoice("4", "2.00"), log=log) == []
    priced = {"agrees": {"document": "SalesOrder", "key": "order_number"}}
    assert broken(priced, invoice("1", "1.9"), invoice("1", "2.0000"), log=log) == []
    (entry,) = broken(priced, invoice("1", "2.10"), log=log)
    assert (entry.severity, entry.reason) == ("warn", "price of line 1 is 2.10, SalesOrder O1 has 2.00")


def test_an_invoice_number_with_other_content_is_held() -> None:
    def invoice(total: str, **more: Any) -> Invoice:
        return Invoice("I1", total=eur(total), **more)

    log = Log(invoice("5.00"))
    (entry,) = broken({"unchanged": {}}, invoice("6.00"), log=log)
    assert (entry.severity, entry.reason) == ("hold", "Invoice I1 was sent before with other content: total")
    assert broken({"unchanged": {}}, invoice("5.0"), log=log) == []
    assert broken({"unchanged": {"except_for": "status"}}, invoice("5.00", status="paid"), log=log) == []
    assert len(broken({"unchanged": {}}, invoice("5.00"), invoice("7.00"))) == 1, "also inside one file"


def test_a_state_goes_forward() -> None:
    rule = {"forward": {"field": "status", "states": ["open", "picked", "shipped"]}}
    log = Log(SalesOrder("1", status="picked"))
    assert reasons(rule, SalesOrder("1", status="open"), log=log) == ["status is 'open', and was 'picked' before"]
    assert broken(rule, SalesOrder("1", status="shipped"), SalesOrder("1", status="lost"), log=log) == []
    assert len(broken(rule, SalesOrder("1", status="shipped"), SalesOrder("1", status="picked"), log=log)) == 1


def test_stock_that_vanishes_as_a_whole_is_held_as_a_whole() -> None:
    rule = {"shrink": {"field": "on_hand", "percent": 50, "at_least": 3}}
    log = Log(*(stock(sku, "10") for sku in "ABCD"))
    zeroed = [stock("A", "10"), stock("B", "0"), stock("C", "0"), stock("NEW", "1")]
    found = broken(rule, *zeroed, log=log)
    assert [entry.document for entry in found] == [0, 1, 2], "one that was not there before is in no doubt"
    assert {entry.reason for entry in found} == {"on_hand of 3 documents is 10 in all, and was 30 before"}
    assert broken(rule, stock("A", "10"), stock("B", "5"), stock("C", "0"), log=log) == []
    assert broken(rule, stock("A", "0"), stock("B", "0"), log=log) == [], "too few to say"
    assert reasons({"not_negative": "on_hand"}, stock("A", "-3")) == ["on_hand is -3"]


def test_a_mapping_that_is_only_tried_knows_no_history() -> None:
    class Known:
        def known(self, document: str, keys: set[str]) -> set[str]:
            return set()

    keys = KnownKeys(Known())
    assert (keys.latest("SalesOrder", {"1"}), keys.today()) == ({}, None)


SEVERITIES = {
    "reject": ["required", "range", "pattern", "one_of", "balanced"],
    "hold": ["known", "check_digit", "currency", "unit", "plausible", "within", "unchanged", "shrink"],
    "warn": ["sum", "minor_units", "whole", "not_negative", "in_order", "line_total", "agrees", "forward"],
}


def test_severities_by_default_are_those_of_the_guide() -> None:
    assert {kind: default_severity(kind) for kind in RULES} == {
        kind: severity for severity, kinds in SEVERITIES.items() for kind in kinds
    }


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"within": {"document": "SalesOrdr", "key": "order_number"}}, "unknown document 'SalesOrdr'"),
        ({"within": {"document": "SalesOrder", "key": "order_no"}}, "Shipment has no field 'order_no'"),
        (
            {"within": {"document": "SalesOrder", "key": "order_number", "limit": "lines.qty"}},
            "SalesOrder has no 'lines.qty' in its lines",
        ),
        (
            {"within": {"document": "SalesOrder", "key": "order_number", "of": "lines.lot"}},
            "lines.lot is not a number",
        ),
        (
            {"agrees": {"document": "SalesOrder", "key": "order_number", "field": "number"}},
            "number is not of a line",
        ),
        ({"plausible": {"fields": ["shipped_at", "carrier"]}}, "carrier is neither a date nor a time"),
        ({"not_negative": "carrier"}, "carrier is not a number"),
        ({"unchanged": {"except_for": "colour"}}, "Shipment has no field 'colour'"),
    ],
)
def test_a_rule_about_what_is_not_there_is_found_before_it_runs(rule: dict[str, Any], message: str) -> None:
    fields = {"number": "NO", "lines": {"sku": "SKU", "quantity": "QTY"}}
    mapping = Mapping.model_validate({"mapping": "m", "document": "Shipment", "fields": fields, "rules": [rule]})
    assert message in [problem.message for problem in problems(mapping)]


_numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=12)
_ANY_INVOICE: list[dict[str, Any]] = [
    {"line_total": {}},
    {"minor_units": ["lines.price", "lines.amount"]},
    {"currency": ["lines.price", "currency"]},
    {"unit": {"field": "lines.quantity"}},
    {"whole": "lines.quantity"},
    {"not_negative": "lines.quantity"},
    {"plausible": {"fields": ["issued_on", "due_on"]}},
    {"in_order": {"earlier": "issued_on", "later": "due_on"}},
    {"unchanged": {}},
    {"within": {"document": "SalesOrder", "key": "order_number", "tolerance_percent": "33.3"}},
    {"agrees": {"document": "SalesOrder", "key": "order_number"}},
    {"balanced": {"debit": "lines.amount"}},
    {"check_digit": {"field": "number", "kind": "sscc"}},
]


@given(
    numbers=st.lists(_numbers, min_size=4, max_size=4),
    words=st.lists(st.text(max_size=4), min_size=3, max_size=3),
    days=st.lists(st.dates(), min_size=2, max_size=2),
)
def test_no_rule_fails_on_any_document(numbers: list[Decimal], words: list[str], days: list[date]) -> None:
    quantity, price, per, amount = numbers
    line = InvoiceLine(
        words[0], Quantity(quantity, words[1]), price=Money(price, words[1]), price_quantity=Quantity(per),
        amount=Money(amount, words[2]),
    )  # fmt: skip
    invoice = Invoice(words[0], (line, InvoiceLine()), issued_on=days[0], due_on=days[1], order_number="O1")
    log = Log(ORDER, Invoice(words[0]))
    for rule in _ANY_INVOICE:
        for entry in broken(rule, invoice, invoice, log=log):
            assert entry.reason
