"""StockLevel: how much of one item lies at one location, by lot and status. A later one replaces an earlier one."""

from __future__ import annotations

from datetime import date, datetime
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Quantity, join_key, register


@register
class StockLevel(Document, frozen=True, gc=False):
    """A position of stock, as one system counts it."""

    location: str
    sku: str
    on_hand: Quantity
    lot: str = ""
    status: str = ""
    available: Quantity | None = None
    allocated: Quantity | None = None
    on_order: Quantity | None = None
    as_of: datetime | None = None
    expires_on: date | None = None
    gtin: str = ""
    description: str = ""

    ABOUT: ClassVar[About] = {
        "location": "warehouse, or a place in it | 846 N104 (WH) | INVRPT LOC | InventoryLocation",
        "sku": "| LIN03 | LIN 7140 | inventory_item.sku",
        "on_hand": "may be negative: real warehouses allow it | QTY01 17 | QTY+145 | Quantity",
        "lot": "| LIN03 (LT) | GIN+BX | LotIdentification",
        "status": "usable, blocked ... in the warehouse's words | QTY01 | INV 4501 | InventoryTypeCode",
        "available": "to promise | QTY01 33 | QTY+17 | inventory_level.available",
        "allocated": "promised already | QTY01 14 | QTY+80 |",
        "on_order": "to come | QTY01 63 | QTY+21 | incoming",
        "as_of": "when it was counted | BIA04, DTM | DTM+366 | InventoryPeriod",
        "expires_on": "of the lot | DTM 036 | DTM+36 | ExpiryDate",
        "gtin": "GTIN-14 | LIN03 (UK, UP, EN) | LIN 7140 (SRV) | StandardItemIdentification",
        "description": "| PID05 | IMD | Item/Name",
    }

    def key(self) -> str:
        if self.issuer:
            return join_key(self.issuer, self.location, self.sku, self.lot, self.status)
        return join_key(self.location, self.sku, self.lot, self.status)
