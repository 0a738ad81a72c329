"""What a SalesOrder and a PurchaseOrder have in common: the same document, from its two sides."""

from __future__ import annotations

from datetime import date, datetime

from crossdock_controller.documents.base import Document, Line, Money, Party, Quantity, numbered_key


class OrderLine(Line, frozen=True, gc=False):
    sku: str
    quantity: Quantity
    number: str = ""
    description: str = ""
    gtin: str = ""
    price: Money | None = None  # for `price_quantity` units
    price_quantity: Quantity | None = None  # 1 when absent
    amount: Money | None = None  # of the line, after its discounts
    requested_on: date | None = None
    status: str = ""


class Order(Document, frozen=True, gc=False):
    number: str
    lines: tuple[OrderLine, ...] = ()
    status: str = ""
    revision: str = ""
    ordered_at: datetime | None = None
    ordered_on: date | None = None
    requested_on: date | None = None
    promised_on: date | None = None
    customer: Party | None = None
    supplier: Party | None = None
    ship_from: Party | None = None
    ship_to: Party | None = None
    reference: str = ""  # the other side's number for it
    currency: str = ""
    total: Money | None = None

    def key(self) -> str:
        return numbered_key(self.issuer, self.number)
