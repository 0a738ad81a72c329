"""StockLevel: how much of one item lies at one location, by lot and status. A later one replaces an earlier one."""

from __future__ import annotations

from datetime import date, datetime

from crossdock_controller.documents.base import Document, Quantity, join_key, register


@register
class StockLevel(Document, frozen=True, gc=False):
    location: str
    sku: str
    on_hand: Quantity  # may be negative: real warehouses allow it
    lot: str = ""
    status: str = ""
    available: Quantity | None = None
    allocated: Quantity | None = None
    on_order: Quantity | None = None
    as_of: datetime | None = None
    expires_on: date | None = None
    gtin: str = ""
    description: str = ""

    def key(self) -> str:
        if self.issuer:
            return join_key(self.issuer, self.location, self.sku, self.lot, self.status)
        return join_key(self.location, self.sku, self.lot, self.status)
