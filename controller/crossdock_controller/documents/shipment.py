"""Shipment: goods that left, or are announced to leave, with what is in them (dispatch advice, ASN)."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Line, Party, Quantity, numbered_key, register


class ShipmentLine(Line, frozen=True, gc=False):
    """One item in one package. The tree of pallets and cartons is told by `sscc` and `parent_sscc`."""

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
    sscc: str = ""
    parent_sscc: str = ""

    ABOUT: ClassVar[About] = {
        "sku": "the shipper's item number | LIN03 (VN) | LIN 7140 | SellersItemIdentification",
        "quantity": "shipped | SN102, SN103; 945 W1203 | QTY+12 | DeliveredQuantity",
        "number": "of the line | SN101 | LIN 1082 | DespatchLine/ID",
        "description": "| PID05 | IMD | Item/Name",
        "gtin": "GTIN-14 | LIN03 (UK, UP, EN) | LIN 7140 (SRV) | StandardItemIdentification",
        "order_number": "| PRF01 | RFF+ON | OrderLineReference",
        "order_line": "| PRF05 | RFF+LI | OrderLineReference/LineID",
        "ordered": "what the order asked for | SN105; 945 W1202 | QTY+21 | OutstandingQuantity",
        "lot": "| LIN03 (LT) | GIN+BX | LotIdentification",
        "serial": "| LIN03 (SN) | GIN+BN | SerialID",
        "sscc": "the package it is in | MAN02 (GM) | GIN+BJ | TransportHandlingUnit/ID",
        "parent_sscc": "the pallet that package stands on | HL02 (T, P) | CPS 7166 | ParentTransportHandlingUnit",
    }


@register
class Shipment(Document, frozen=True, gc=False):
    """Goods on their way."""

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
    reference: str = ""

    ABOUT: ClassVar[About] = {
        "number": "given by the shipper | 856 BSN02; 945 W0602 | DESADV BGM 1004 | DespatchAdvice/ID",
        "status": "in the shipper's words | BSN01 | BGM 1225 | fulfillment.status",
        "shipped_at": "| DTM 011 | DTM+11 | ActualDespatchDate",
        "expected_at": "at the receiver | DTM 017 | DTM+17 | EstimatedDeliveryPeriod",
        "order_number": "where it is for one order | PRF01 | RFF+ON | OrderReference/ID",
        "customer": "who bought | N1 BY | NAD+BY | BuyerCustomerParty",
        "ship_from": "| N1 SF | NAD+SF | DespatchSupplierParty",
        "ship_to": "| N1 ST | NAD+DP | DeliveryCustomerParty",
        "carrier": "SCAC or name | TD503 | TDT C040 | CarrierParty",
        "service": "| TD512 | TDT 8067 | TransportServiceCode",
        "tracking": "the carrier's number | REF CN | RFF+CN | TrackingID",
        "bill_of_lading": "| REF BM | RFF+BM | TransportContract/ID",
        "packages": "how many | TD102 | PAC 7224 | TotalTransportHandlingUnitQuantity",
        "weight": "gross | TD107 | MEA+AAD | GrossWeightMeasure",
        "reference": "the receiver's number for it | REF | RFF+AAK |",
    }

    def key(self) -> str:
        return numbered_key(self.issuer, self.number)
