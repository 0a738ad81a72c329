"""SupplierConfirmation: what a supplier says to a purchase order, line by line."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Line, Money, Party, Quantity, join_key, register


class ConfirmationLine(Line, frozen=True, gc=False):
    """What becomes of one line of the order."""

    number: str
    status: str
    sku: str = ""
    quantity: Quantity | None = None
    backordered: Quantity | None = None
    promised_on: date | None = None
    price: Money | None = None
    price_quantity: Quantity | None = None
    reason: str = ""

    ABOUT: ClassVar[About] = {
        "number": "of the order's line | PO101 | LIN 1082 | LineItem/ID",
        "status": "`accepted`, `changed`, `rejected` or `backordered` | ACK01 | LIN 1229 | LineStatusCode",
        "sku": "| ACK07 | LIN 7140 | SellersItemIdentification",
        "quantity": "confirmed | ACK02, ACK03 | QTY+113 | Quantity",
        "backordered": "to come later | ACK02 (IB) | QTY+83 | MaximumBackorderQuantity",
        "promised_on": "| ACK05 | DTM+69 | PromisedDeliveryPeriod",
        "price": "for `price_quantity` units | PO104 | PRI+AAA | Price/PriceAmount",
        "price_quantity": "1 when absent | CTP05 | PRI 5284 | Price/BaseQuantity",
        "reason": "| | FTX | Note",
    }


@register
class SupplierConfirmation(Document, frozen=True, gc=False):
    """An answer to a purchase order."""

    order_number: str
    lines: tuple[ConfirmationLine, ...] = ()
    number: str = ""
    status: str = ""
    confirmed_on: date | None = None
    supplier: Party | None = None
    customer: Party | None = None
    supplier_number: str = ""
    currency: str = ""

    ABOUT: ClassVar[About] = {
        "order_number": "the purchase order | 855 BAK03 | ORDRSP RFF+ON | OrderReference/ID",
        "number": "of the answer | BAK08 | BGM 1004 | OrderResponse/ID",
        "status": "`accepted`, `changed` or `rejected` | BAK02 | BGM 4343 | OrderResponseCode",
        "confirmed_on": "| BAK09 | DTM+137 | IssueDate",
        "supplier": "| N1 SU | NAD+SU | SellerSupplierParty",
        "customer": "| N1 BY | NAD+BY | BuyerCustomerParty",
        "supplier_number": "the supplier's number for the order | REF VN | RFF+VN | SalesOrderID",
        "currency": "ISO 4217 | CUR02 | CUX 6345 | DocumentCurrencyCode",
    }

    def key(self) -> str:
        parts = (self.order_number, self.number)
        return join_key(self.issuer, *parts) if self.issuer else join_key(*parts)
