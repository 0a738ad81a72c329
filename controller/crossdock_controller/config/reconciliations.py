"""Reconciliations: two systems' views of the same documents, compared on a schedule."""

from __future__ import annotations

import zoneinfo
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, field_validator, model_validator

from crossdock import cron
from crossdock_controller.config.models import StrictModel
from crossdock_controller.config.selection import Name, On

FieldPath = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", max_length=200)]


def _decimal(value: Any) -> Any:
    """0.5, 1 or "0.50" as a decimal; anything else is left for the model to refuse."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            found = Decimal(str(value))
        except ArithmeticError:
            raise ValueError("is not a number; write it like 0.5") from None
        if not found.is_finite() or found < 0:
            raise ValueError("is not a number from 0 up; write it like 0.5")
        return found
    return value


Tolerance = Annotated[Decimal, BeforeValidator(_decimal)]


def _sound_cron(text: str) -> str:
    cron.parse(text)
    return text


class Side(StrictModel):
    """One system's view: what it sent."""

    source: Name = Field(description="the source that reads it")
    on: On = Field(default={}, description="labels of the sites; `{}` is every site")


class Brake(StrictModel):
    """When a side is not to be believed: one exception about that, instead of thousands about its documents."""

    shrunk_percent: float = Field(
        default=30.0, gt=0, le=100, description="a side has so much fewer documents than at the last comparison"
    )
    differing_percent: float = Field(
        default=50.0, gt=0, le=100, description="so much of all documents differs or is missing on a side"
    )
    at_least: int = Field(default=20, ge=0, description="documents in all, below which the brake does not ask")


class Reconciliation(StrictModel):
    """Two systems that should agree: `reconciliations/*.yaml`."""

    reconciliation: Name = Field(description="its name, unique; the file's name without .yaml unless given")
    document: str = Field(min_length=1, description="the document that both send")
    left: Side = Field(description="one system")
    right: Side = Field(description="the other")
    match: list[FieldPath] = Field(
        default=[], description="fields that say which are the same; the business key without"
    )
    compare: list[FieldPath] = Field(min_length=1, description="fields that must agree")
    tolerance: dict[FieldPath, Tolerance] = Field(default={}, description="by how much a field may differ")
    schedule: Annotated[str, AfterValidator(_sound_cron)] = Field(
        description="minute, hour, day, month, weekday, as in a crontab"
    )
    zone: str = Field(default="UTC", description="IANA time zone of the schedule")
    younger_minutes: float = Field(
        default=30.0,
        ge=0,
        le=24 * 60 * 31,
        description="documents that changed since are not compared: still on the way",
    )
    brake: Brake = Field(default=Brake(), description="when a side is not to be believed")

    @field_validator("reconciliation")
    @classmethod
    def _no_command(cls, name: str) -> str:
        if name == "list":
            raise ValueError("'list' is a word of the command line; name it after what is compared")
        return name

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"{zone!r} is not a time zone of the IANA database; write it like 'Europe/Berlin'"
            ) from error
        return zone

    @model_validator(mode="after")
    def _two_sides(self) -> Reconciliation:
        if self.left == self.right:
            raise ValueError("left and right are the same: nothing would ever differ")
        unknown = sorted(set(self.tolerance) - set(self.compare))
        if unknown:
            raise ValueError(f"tolerance names {unknown[0]}, which is not compared; add it to 'compare'")
        return self
