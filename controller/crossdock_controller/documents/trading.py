"""What a Customer and a Supplier have in common: a party in the list of whoever numbers it."""

from __future__ import annotations

from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Party, numbered_key


class Trader(Document, frozen=True, gc=False):
    """Someone we buy from or sell to."""

    number: str
    name: str = ""
    status: str = ""
    active: bool | None = None
    gln: str = ""
    duns: str = ""
    vat: str = ""
    address: Party | None = None
    email: str = ""
    phone: str = ""
    currency: str = ""
    terms: str = ""
    group: str = ""

    ABOUT: ClassVar[About] = {
        "number": "the owner's number | N104 (92) | NAD 3039 | PartyIdentification",
        "name": "| N102 | NAD 3036 | PartyName",
        "status": "in the owner's words | | |",
        "active": "whether it may be used | | |",
        "gln": "| N104 (UL) | NAD 3039 (9) | EndpointID",
        "duns": "| N104 (1) | NAD 3039 (16) | PartyIdentification",
        "vat": "| REF VX | RFF+VA | PartyTaxScheme/CompanyID",
        "address": "| N3, N4 | NAD | PostalAddress",
        "email": "| PER04 | COM | ElectronicMail",
        "phone": "| PER04 | COM | Telephone",
        "currency": "ISO 4217 | CUR02 | CUX 6345 |",
        "terms": "of payment | ITD12 | PAT | PaymentTerms",
        "group": "| | |",
    }

    def key(self) -> str:
        return numbered_key(self.issuer, self.number)
