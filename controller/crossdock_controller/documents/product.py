"""Product: an item of someone's catalogue; the master that other documents' SKUs refer to."""

from __future__ import annotations

from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Quantity, numbered_key, register


@register
class Product(Document, frozen=True, gc=False):
    """An item as its owner numbers it."""

    sku: str
    description: str = ""
    gtin: str = ""
    uom: str = ""
    category: str = ""
    status: str = ""
    active: bool | None = None
    lot_tracked: bool | None = None
    serial_tracked: bool | None = None
    weight: Quantity | None = None
    pack_quantity: Quantity | None = None
    pack_gtin: str = ""
    vendor_sku: str = ""
    supplier: str = ""
    country_of_origin: str = ""
    tariff_code: str = ""

    ABOUT: ClassVar[About] = {
        "sku": "the owner's number | 832 LIN03 (VP) | PRICAT LIN 7140 | SellersItemIdentification",
        "description": "| PID05 | IMD | Item/Name",
        "gtin": "GTIN-14 of the base unit | LIN03 (UK, UP, EN) | LIN 7140 (SRV) | StandardItemIdentification",
        "uom": "base unit, UN/ECE Recommendation 20 | CTP05 | MEA 6411 | variant.unit",
        "category": "| PID04 | PIA (GN) | CommodityClassification",
        "status": "in the owner's words | | ALI | product.status",
        "active": "whether it may be ordered | | | variant.available",
        "lot_tracked": "| | | Item/lot",
        "serial_tracked": "| | | Item/serial",
        "weight": "of the base unit | MEA03 | MEA+WT | NetWeightMeasure",
        "pack_quantity": "base units in one pack | PO401 | PAC 7224 | PackQuantity",
        "pack_gtin": "GTIN-14 of the pack | LIN03 (UK) | PIA 7140 | AdditionalItemIdentification",
        "vendor_sku": "the supplier's number | LIN03 (VN) | PIA 7140 (SA) | ManufacturersItemIdentification",
        "supplier": "number of its supplier | N104 | NAD+SU | ManufacturerParty",
        "country_of_origin": "ISO 3166-1 alpha-2 | | ALI 3239 | OriginCountry",
        "tariff_code": "HS or CN code | | PIA (HS) | CommodityCode",
    }

    def key(self) -> str:
        return numbered_key(self.issuer, self.sku)
