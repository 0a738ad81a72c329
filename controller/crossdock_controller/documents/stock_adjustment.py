"""StockAdjustment: a movement of stock that no order explains: counted, damaged, found, expired."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Quantity, join_key, register


@register
class StockAdjustment(Document, frozen=True, gc=False):
    """One correction of a position."""

    location: str
    number: str
    sku: str
    quantity: Quantity
    line: str = ""
    reason: str = ""
    lot: str = ""
    status: str = ""
    before: Quantity | None = None
    after: Quantity | None = None
    adjusted_at: datetime | None = None
    user: str = ""
    reference: str = ""

    ABOUT: ClassVar[About] = {
        "location": "| 947 W0603 | INVRPT LOC | InventoryLocation",
        "number": "of the adjustment | W1502 | BGM 1004 | EPCIS eventID",
        "sku": "| W1906 | LIN 7140 | epcList",
        "quantity": "signed: what was added | W1902, W1903 | QTY+156 | quantityList",
        "line": "of the adjustment | | LIN 1082 |",
        "reason": "in canonical words or the warehouse's | W1901 | INV 4503 | disposition",
        "lot": "| W1906 (LT) | GIN+BX | LotIdentification",
        "status": "of the stock | W1916 | INV 4501 |",
        "before": "what was there | | |",
        "after": "what is there | | QTY+145 |",
        "adjusted_at": "| W1501 | DTM+366 | eventTime",
        "user": "who counted | | |",
        "reference": "| N901 | RFF | bizTransaction",
    }

    def key(self) -> str:
        base = join_key(self.location, self.number, self.line)
        return join_key(self.issuer, self.location, self.number, self.line) if self.issuer else base
