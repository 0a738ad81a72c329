"""Rules as they are written in a mapping, beyond the first six of `model`; what each means is in
docs/guide/rules-and-codes.md."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) or value is None else [value]


Paths = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CheckDigitRule(_Model):
    """The number at *field* has the length and the check digit of its *kind* (GS1)."""

    field: str
    kind: Literal["gtin", "gln", "sscc"]


class UnitRule(_Model):
    """The quantity at *field* has a unit of UN/ECE Recommendation 20 as commonly used, or one of *also*."""

    field: str
    also: Paths = ()


class PlausibleRule(_Model):
    """The date or time at each of *fields* is not before *earliest* and not more than *years_ahead* from today."""

    fields: Paths
    earliest: date = date(1990, 1, 1)
    years_ahead: int = Field(default=5, ge=0, le=100)


class InOrderRule(_Model):
    """The date or time at *earlier* is not after the one at *later*."""

    earlier: str
    later: str


class LineTotalRule(_Model):
    """quantity x price / price_quantity is the amount of each line, within half a minor unit for each of quantity."""

    quantity: str = "quantity"
    price: str = "price"
    price_quantity: str = "price_quantity"
    amount: str = "amount"


class BalancedRule(_Model):
    """What is debited is what is credited; with one path, its amounts add up to nothing."""

    debit: str
    credit: str = ""


class WithinRule(_Model):
    """The quantities at *of*, added up by *by*, are within those at *limit* of the *document* that *key* names, and
    *tolerance_percent* of them. A document that is not known is for `known` to say."""

    document: str
    key: str
    of: str = "lines.quantity"
    by: str = "lines.sku"
    limit: str = "lines.quantity"
    tolerance_percent: Decimal = Field(default=Decimal(0), ge=0)
    issuer: str = ""


class AgreesRule(_Model):
    """The value at *field* of a line is that of the line with the same *by* in the *document* that *key* names."""

    document: str
    key: str
    field: str = "lines.price"
    by: str = "lines.sku"
    issuer: str = ""


class UnchangedRule(_Model):
    """A document of this number was not seen before with other content; *except_for* are fields that may differ."""

    except_for: Paths = ()


class ForwardRule(_Model):
    """The state at *field* does not go back in *states*, from what the version before said."""

    field: str
    states: Paths = Field(min_length=2)


class ShrinkRule(_Model):
    """The sum of *field* over the documents of one round does not fall by more than *percent* of what their versions
    before said; judged from *at_least* documents on."""

    field: str
    percent: Decimal = Field(gt=0, le=100)
    at_least: int = Field(default=10, ge=1)
