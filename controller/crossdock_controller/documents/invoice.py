"""Invoice: what is owed for what was delivered. A credit note is an Invoice of the kind "credit"."""

from __future__ import annotations

from datetime import date

from crossdock_controller.documents.base import Document, Line, Money, Party, Quantity, numbered_key, register


class InvoiceLine(Line, frozen=True, gc=False):
    """A charge such as freight has a description and an amount, and no SKU."""

    sku: str = ""
    quantity: Quantity | None = None
    number: str = ""
    description: str = ""
    order_number: str = ""
    order_line: str = ""
    price: Money | None = None  # for `price_quantity` units
    price_quantity: Quantity | None = None  # 1 when absent
    amount: Money | None = None
    tax: Money | None = None


@register
class Invoice(Document, frozen=True, gc=False):
    number: str
    lines: tuple[InvoiceLine, ...] = ()
    kind: str = ""  # "invoice" or "credit"
    status: str = ""
    issued_on: date | None = None
    due_on: date | None = None
    order_number: str = ""
    shipment_number: str = ""
    customer: Party | None = None
    supplier: Party | None = None
    currency: str = ""
    net: Money | None = None
    tax: Money | None = None
    total: Money | None = None

    def key(self) -> str:
        return numbered_key(self.issuer, self.number)
