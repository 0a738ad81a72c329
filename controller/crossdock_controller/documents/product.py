"""Product: an item of someone's catalogue; the master that other documents' SKUs refer to."""

from __future__ import annotations

from crossdock_controller.documents.base import Document, Quantity, numbered_key, register


@register
class Product(Document, frozen=True, gc=False):
    sku: str
    description: str = ""
    gtin: str = ""
    uom: str = ""  # base unit, UN/ECE Recommendation 20
    category: str = ""
    status: str = ""
    active: bool | None = None
    lot_tracked: bool | None = None
    serial_tracked: bool | None = None
    weight: Quantity | None = None

    def key(self) -> str:
        return numbered_key(self.issuer, self.sku)
