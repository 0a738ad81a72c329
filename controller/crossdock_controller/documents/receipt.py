"""Receipt: what a warehouse received, and how it differs from what was announced."""

from __future__ import annotations

from datetime import date, datetime
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Line, Party, Quantity, join_key, register


class ReceiptLine(Line, frozen=True, gc=False):
    """What came of one item."""

    sku: str
    quantity: Quantity
    number: str = ""
    gtin: str = ""
    order_number: str = ""
    order_line: str = ""
    expected: Quantity | None = None
    damaged: Quantity | None = None
    short: Quantity | None = None
    over: Quantity | None = None
    lot: str = ""
    expires_on: date | None = None
    sscc: str = ""

    ABOUT: ClassVar[About] = {
        "sku": "| W0704 | LIN 7140 | SellersItemIdentification",
        "quantity": "received in good condition | W0701, W0702; RCD02 | QTY+48 | ReceivedQuantity",
        "number": "of the line | | LIN 1082 | ReceiptLine/ID",
        "gtin": "GTIN-14 | W0703 | LIN 7140 (SRV) | StandardItemIdentification",
        "order_number": "| N901 PO | RFF+ON | OrderLineReference",
        "order_line": "| | RFF+LI | OrderLineReference/LineID",
        "expected": "announced | W1301 | QTY+12 |",
        "damaged": "| W1302; RCD09 | QTY+124 | RejectedQuantity",
        "short": "announced and not there | RCD04 | QTY+119 | ShortQuantity",
        "over": "more than announced | RCD06 | QTY+121 | OversupplyQuantity",
        "lot": "| W0705 (LT) | GIN+BX | LotIdentification",
        "expires_on": "| DTM 036 | DTM+36 | ExpiryDate",
        "sscc": "| MAN02 (GM) | GIN+BJ | TransportHandlingUnit/ID",
    }


@register
class Receipt(Document, frozen=True, gc=False):
    """Goods that came."""

    warehouse: str
    number: str
    lines: tuple[ReceiptLine, ...] = ()
    received_at: datetime | None = None
    order_number: str = ""
    shipment_number: str = ""
    supplier: Party | None = None
    carrier: str = ""
    status: str = ""

    ABOUT: ClassVar[About] = {
        "warehouse": "| 944 N104 (WH) | RECADV NAD+DP | DeliveryCustomerParty",
        "number": "of the receipt | W1703 | BGM 1004 | ReceiptAdvice/ID",
        "received_at": "| W1702; 861 BRA02 | DTM+50 | ReceivedDate",
        "order_number": "the purchase order | W1704 | RFF+ON | OrderReference/ID",
        "shipment_number": "| W1705 | RFF+AAK | DespatchDocumentReference",
        "supplier": "| N1 SU | NAD+SU | SellerSupplierParty",
        "carrier": "| W2703 | TDT C040 | CarrierParty",
        "status": "| W1701 | BGM 1225 | StatusCode",
    }

    def key(self) -> str:
        parts = (self.warehouse, self.number)
        return join_key(self.issuer, *parts) if self.issuer else join_key(*parts)
