"""What the distributor of the demo sells, to whom, and who carries it: made up, with the letters that hurt."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Product:
    """*unit* is a code of UN/ECE Recommendation 20; *weight* in kilograms, *price* for one unit."""

    sku: str
    text: str
    gtin: str
    unit: str
    category: str
    weight: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class Customer:
    number: str
    name: str
    city: str
    country: str
    currency: str


CARRIERS = ("DHL", "UPS", "DB Schenker", "Abholung")

CUSTOMERS = (
    Customer("K-1001", "Müller & Söhne GmbH", "Köln", "DE", "EUR"),
    Customer("K-1002", "Peachtree Bearings Inc.", "Atlanta", "US", "USD"),
    Customer("K-1003", "Van Dijk Techniek B.V.", "Rotterdam", "NL", "EUR"),
    Customer("K-1004", "Ångström Mekanik AB", "Malmö", "SE", "EUR"),
    Customer("K-1005", 'Garage "Chez François"', "Besançon", "FR", "EUR"),
)

_FAMILIES = (
    # prefix, text, unit, category, weight, price; eight sizes each
    ("A-10", "Rillenkugellager 62{:02d}", "H87", "bearings", "0.106", "4.20"),
    ("B-20", "Keilriemen SPZ 12{:02d} – verstärkt", "H87", "belts", "0.180", "11.95"),
    ("C-30", 'Schmierfett "Typ {}"; Eimer', "KGM", "grease", "1.000", "8.60"),
    ("D-40", "Hydraulikschlauch DN{}", "MTR", "hoses", "0.390", "6.75"),
    ("E-50", "Wellendichtring Ø {}0 mm", "H87", "seals", "0.012", "1.15"),
    ("F-60", "Zahnrad Modul {}, gehärtet", "H87", "gears", "2.250", "37.40"),
)


def _check_digit(twelve: str) -> str:
    """GS1 General Specifications, section 7.9."""
    total = sum(int(digit) * (3 if i % 2 else 1) for i, digit in enumerate(twelve))
    return str(-total % 10)


def _products() -> tuple[Product, ...]:
    found = []
    for family, (prefix, text, unit, category, weight, price) in enumerate(_FAMILIES):
        for size in range(1, 9):
            twelve = f"4012345{family:02d}{size:03d}"
            gtin = "0" + twelve + _check_digit(twelve)
            worth = (Decimal(price) * (10 + size) / 10).quantize(Decimal("0.01"))
            product = Product(
                f"{prefix}{size:02d}", text.format(size), gtin, unit, category, Decimal(weight) * size, worth
            )
            found.append(product)
    return tuple(found)


PRODUCTS = _products()
