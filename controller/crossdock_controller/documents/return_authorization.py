"""ReturnAuthorization: goods that a customer may send back (RMA)."""

from __future__ import annotations

from datetime import date, datetime
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Line, Money, Party, Quantity, numbered_key, register


class ReturnLine(Line, frozen=True, gc=False):
    """What comes back."""

    sku: str
    quantity: Quantity
    number: str = ""
    order_line: str = ""
    reason: str = ""
    disposition: str = ""
    lot: str = ""
    serial: str = ""
    condition: str = ""

    ABOUT: ClassVar[About] = {
        "sku": "| BLI02 | LIN 7140 | line_item.sku",
        "quantity": "| BLI03 | QTY+61 | quantity",
        "number": "of the line | | LIN 1082 | line_item_id",
        "order_line": "| | RFF+LI |",
        "reason": "| RDR02 | | return_reason",
        "disposition": "`restock`, `scrap`, `repair` ... | RDR01 | | disposition",
        "lot": "| | GIN+BX |",
        "serial": "| | GIN+BN |",
        "condition": "as received | | |",
    }


@register
class ReturnAuthorization(Document, frozen=True, gc=False):
    """A return, asked for or allowed."""

    number: str
    lines: tuple[ReturnLine, ...] = ()
    status: str = ""
    requested_at: datetime | None = None
    expires_on: date | None = None
    order_number: str = ""
    invoice_number: str = ""
    customer: Party | None = None
    return_to: Party | None = None
    refund: Money | None = None

    ABOUT: ClassVar[About] = {
        "number": "| 180 BGN02 | RETANN BGM 1004 | return.name",
        "status": "`requested`, `approved`, `rejected`, `received` ... | BGN08 | BGM 1225 | return.status",
        "requested_at": "| BGN03 | DTM+137 | created_at",
        "expires_on": "| DTM 036 | DTM+36 |",
        "order_number": "| PRF01 | RFF+ON | order_id",
        "invoice_number": "| REF IV | RFF+IV | BillingReference",
        "customer": "| N1 BY | NAD+BY | BuyerCustomerParty",
        "return_to": "| N1 ST | NAD+ST | DeliveryLocation",
        "refund": "to be paid back | AMT | MOA | refund.amount",
    }

    def key(self) -> str:
        return numbered_key(self.issuer, self.number)
