"""What a SalesOrder and a PurchaseOrder have in common: the same document, from its two sides."""

from __future__ import annotations

from datetime import date, datetime
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Line, Money, Party, Quantity, numbered_key


class OrderLine(Line, frozen=True, gc=False):
    """What is asked for."""

    sku: str
    quantity: Quantity
    number: str = ""
    description: str = ""
    gtin: str = ""
    price: Money | None = None
    price_quantity: Quantity | None = None
    amount: Money | None = None
    requested_on: date | None = None
    status: str = ""
    vendor_sku: str = ""
    customer_sku: str = ""
    tax: Money | None = None

    ABOUT: ClassVar[About] = {
        "sku": "the issuer's item number | PO107 (VP, BP) | LIN C212/7140 | Item/SellersItemIdentification",
        "quantity": "ordered | PO102, PO103 | QTY+21 | LineItem/Quantity",
        "number": "of the line | PO101 | LIN 1082 | LineItem/ID",
        "description": "as the document says | PID05 | IMD | Item/Name",
        "gtin": "GTIN-14 | PO107 (UK, UP, EN) | LIN 7140 (SRV) | StandardItemIdentification",
        "price": "for `price_quantity` units | PO104 | PRI+AAA | Price/PriceAmount",
        "price_quantity": "1 when absent | CTP05 | PRI 5284 | Price/BaseQuantity",
        "amount": "of the line, after its discounts | | MOA+203 | LineExtensionAmount",
        "requested_on": "asked for by | DTM 002 | DTM+2 | RequestedDeliveryPeriod",
        "status": "of the line, in the issuer's words | ACK01 | |",
        "vendor_sku": "the supplier's item number | PO107 (VN) | PIA 7140 (SA) | SellersItemIdentification",
        "customer_sku": "the customer's item number | PO107 (IN) | PIA 7140 (IN) | BuyersItemIdentification",
        "tax": "on the line | TXI02 | MOA+124 | TaxTotal/TaxAmount",
    }


class Order(Document, frozen=True, gc=False):
    number: str
    lines: tuple[OrderLine, ...] = ()
    status: str = ""
    revision: str = ""
    ordered_at: datetime | None = None
    ordered_on: date | None = None
    requested_on: date | None = None
    promised_on: date | None = None
    customer: Party | None = None
    supplier: Party | None = None
    ship_from: Party | None = None
    ship_to: Party | None = None
    reference: str = ""
    currency: str = ""
    total: Money | None = None
    net: Money | None = None
    tax: Money | None = None
    terms: str = ""
    delivery_terms: str = ""

    ABOUT: ClassVar[About] = {
        "number": "given by its issuer | 850 BEG03 | ORDERS BGM 1004 | Order/ID",
        "status": "in the issuer's words | BEG01 | BGM 1225 |",
        "revision": "of the order, where its source counts them | 860 BCH | ORDCHG | Order/UUID",
        "ordered_at": "when, to the second | | DTM+137 | IssueDate, IssueTime",
        "ordered_on": "the day, where no time is known | BEG05 | DTM+137 | IssueDate",
        "requested_on": "asked for by | DTM 002, 010 | DTM+2 | RequestedDeliveryPeriod",
        "promised_on": "confirmed for | DTM 068 | DTM+69 | PromisedDeliveryPeriod",
        "customer": "who buys | N1 BY | NAD+BY | BuyerCustomerParty",
        "supplier": "who sells | N1 SU | NAD+SU | SellerSupplierParty",
        "ship_from": "where the goods leave | N1 SF | NAD+SF | DespatchAddress",
        "ship_to": "where the goods go | N1 ST | NAD+DP | DeliveryLocation",
        "reference": "the other side's number for it | REF CO | RFF+CO | OrderReference/SalesOrderID",
        "currency": "ISO 4217 | CUR02 | CUX 6345 | DocumentCurrencyCode",
        "total": "to pay | AMT | MOA+86 | PayableAmount",
        "net": "without tax | | MOA+79 | LineExtensionAmount",
        "tax": "in all | TXI02 | MOA+124 | TaxTotal/TaxAmount",
        "terms": "of payment | ITD12 | PAT | PaymentTerms/Note",
        "delivery_terms": "Incoterm | FOB05 | TOD 4053 | DeliveryTerms/ID",
    }

    def key(self) -> str:
        return numbered_key(self.issuer, self.number)
