"""Shipment: goods that left, or are announced to leave, with what is in them."""

from __future__ import annotations

from datetime import datetime

from crossdock_controller.documents.base import Document, Line, Party, Quantity, numbered_key, register


class ShipmentLine(Line, frozen=True, gc=False):
    sku: str
    quantity: Quantity
    number: str = ""
    description: str = ""
    gtin: str = ""
    order_number: str = ""
    order_line: str = ""
    ordered: Quantity | None = None
    lot: str = ""
    serial: str = ""
    sscc: str = ""  # the pallet or carton it is packed in


@register
class Shipment(Document, frozen=True, gc=False):
    number: str
    lines: tuple[ShipmentLine, ...] = ()
    status: str = ""
    shipped_at: datetime | None = None
    expected_at: datetime | None = None
    order_number: str = ""
    customer: Party | None = None
    ship_from: Party | None = None
    ship_to: Party | None = None
    carrier: str = ""
    service: str = ""
    tracking: str = ""
    bill_of_lading: str = ""
    packages: int | None = None
    weight: Quantity | None = None

    def key(self) -> str:
        return numbered_key(self.issuer, self.number)
