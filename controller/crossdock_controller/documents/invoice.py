"""Invoice: what is owed for what was delivered. A credit note is an Invoice of the kind "credit"."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Line, Money, Party, Quantity, numbered_key, register


class InvoiceLine(Line, frozen=True, gc=False):
    """A charge such as freight has a description and an amount, and no SKU."""

    sku: str = ""
    quantity: Quantity | None = None
    number: str = ""
    description: str = ""
    order_number: str = ""
    order_line: str = ""
    price: Money | None = None
    price_quantity: Quantity | None = None
    amount: Money | None = None
    tax: Money | None = None
    gtin: str = ""
    shipment_number: str = ""
    allowance: Money | None = None

    ABOUT: ClassVar[About] = {
        "sku": "the issuer's item number | IT107 (VN) | LIN 7140 | SellersItemIdentification",
        "quantity": "billed | IT102, IT103 | QTY+47 | InvoicedQuantity",
        "number": "of the line | IT101 | LIN 1082 | InvoiceLine/ID",
        "description": "of goods or charge | PID05 | IMD | Item/Name",
        "order_number": "the order it is from | REF PO | RFF+ON | OrderLineReference",
        "order_line": "... and its line | REF LI | RFF+LI | OrderLineReference/LineID",
        "price": "for `price_quantity` units | IT104 | PRI+AAA | Price/PriceAmount",
        "price_quantity": "1 when absent | CTP05 | PRI 5284 | Price/BaseQuantity",
        "amount": "of the line, without tax | | MOA+203 | LineExtensionAmount",
        "tax": "on the line | TXI02 | MOA+124 | TaxTotal/TaxAmount",
        "gtin": "GTIN-14 | IT107 (UK, UP, EN) | LIN 7140 (SRV) | StandardItemIdentification",
        "shipment_number": "the shipment it is from | REF SI | RFF+AAK | DespatchLineReference",
        "allowance": "off (or, negative, on top of) quantity x price | SAC05 | MOA+204 | AllowanceCharge/Amount",
    }


@register
class Invoice(Document, frozen=True, gc=False):
    """What a supplier asks to be paid, or a customer to be paid back."""

    number: str
    lines: tuple[InvoiceLine, ...] = ()
    kind: str = ""
    status: str = ""
    issued_on: date | None = None
    due_on: date | None = None
    order_number: str = ""
    shipment_number: str = ""
    customer: Party | None = None
    supplier: Party | None = None
    currency: str = ""
    net: Money | None = None
    tax: Money | None = None
    total: Money | None = None
    allowances: Money | None = None
    charges: Money | None = None
    terms: str = ""
    references: str = ""

    ABOUT: ClassVar[About] = {
        "number": "given by its issuer | 810 BIG02 | INVOIC BGM 1004 | Invoice/ID",
        "kind": "`invoice` or `credit` | BIG07 | BGM 1001 (380, 381) | InvoiceTypeCode",
        "status": "in the issuer's words | | |",
        "issued_on": "| BIG01 | DTM+137 | IssueDate",
        "due_on": "| ITD06 | DTM+13 | DueDate",
        "order_number": "| BIG04 | RFF+ON | OrderReference/ID",
        "shipment_number": "| REF SI | RFF+AAK | DespatchDocumentReference",
        "customer": "who pays | N1 BT | NAD+IV | AccountingCustomerParty",
        "supplier": "who is paid | N1 RE | NAD+SU | AccountingSupplierParty",
        "currency": "ISO 4217 | CUR02 | CUX 6345 | DocumentCurrencyCode",
        "net": "without tax | | MOA+79 | LineExtensionAmount",
        "tax": "in all | TXI02 | MOA+124 | TaxTotal/TaxAmount",
        "total": "to pay | TDS01 (two implied decimals) | MOA+77, MOA+86 | PayableAmount",
        "allowances": "off the sum of the lines | SAC05 (two implied decimals) | MOA+131 | AllowanceTotalAmount",
        "charges": "on top of it | SAC05 (two implied decimals) | MOA+131 | ChargeTotalAmount",
        "terms": "of payment | ITD12 | PAT | PaymentTerms/Note",
        "references": "the invoice that a credit is for | REF IV | RFF+IV | BillingReference",
    }

    def key(self) -> str:
        return numbered_key(self.issuer, self.number)
