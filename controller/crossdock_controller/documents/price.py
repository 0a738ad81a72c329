"""Price: what an item costs from a quantity and a day on."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Money, Quantity, join_key, register


@register
class Price(Document, frozen=True, gc=False):
    """One line of a price list."""

    price_list: str
    sku: str
    price: Money
    uom: str = ""
    price_quantity: Quantity | None = None
    break_quantity: Quantity | None = None
    valid_from: date | None = None
    valid_to: date | None = None
    kind: str = ""
    customer: str = ""

    ABOUT: ClassVar[About] = {
        "price_list": "| 832 BCT02 | PRICAT BGM 1004 | Catalogue/ID",
        "sku": "| LIN03 | LIN 7140 | SellersItemIdentification",
        "price": "for `price_quantity` units | CTP03 | PRI 5118 | Price/PriceAmount",
        "uom": "UN/ECE Recommendation 20 | CTP05 | PRI 6411 | BaseQuantity@unitCode",
        "price_quantity": "1 when absent | CTP05 | PRI 5284 | Price/BaseQuantity",
        "break_quantity": "from this quantity on | CTP04 | QTY+53 | MinimumQuantity",
        "valid_from": "| DTM 007 | DTM+7 | ValidityPeriod/StartDate",
        "valid_to": "| DTM 036 | DTM+36 | ValidityPeriod/EndDate",
        "kind": "`net`, `list`, `promotion` ... | CTP02 | PRI 5125 | PriceTypeCode",
        "customer": "number of the one customer it is for | N104 | NAD+BY |",
    }

    def key(self) -> str:
        start = self.valid_from.isoformat() if self.valid_from else ""
        from_quantity = f"{self.break_quantity.value.normalize():f}" if self.break_quantity else ""
        parts = (self.price_list, self.sku, self.uom, self.price.currency, start, from_quantity, self.customer)
        return join_key(self.issuer, *parts) if self.issuer else join_key(*parts)
