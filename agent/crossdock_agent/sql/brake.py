"""Whether rows that a complete scan did not find may be taken for deleted. Losing sight of rows is not deleting them.

An empty table, a restored one, a view whose filter was changed, a login that sees less than before: all look as if rows
had been deleted. So a few may vanish between two scans, many stop the deletes until a person says how many it may be.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from crossdock.errors import Retryable


class VanishSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many rows may vanish between two complete scans before that is a fault and nothing is deleted."""

    max_vanished_percent: Annotated[
        float, msgspec.Meta(ge=0, le=100, description="of the rows known; 100 allows an empty table too")
    ] = 20.0
    max_vanished_rows: Annotated[int, msgspec.Meta(ge=0, description="so many may always vanish, but not all")] = 10
    accept_vanished: Annotated[
        int, msgspec.Meta(ge=0, description="at most so many may vanish now; counts once, another number counts again")
    ] = 0


class SnapshotSettings(VanishSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mode snapshot."""


class ReconcileSettings(VanishSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scan by key beside the reading by watermark, for rows it cannot see."""

    every_seconds: Annotated[float, msgspec.Meta(gt=0, description="from one scan's begin to the next one's")] = 86_400
    deletes: Annotated[bool, msgspec.Meta(description="send vanished rows as deletes, not only count them")] = False


def is_accepted(settings: VanishSettings, missing: int, used: int) -> bool:
    """True when a person allowed so many *missing* rows, in other words than the *used* ones."""
    return missing <= settings.accept_vanished != used


def is_usual(settings: VanishSettings, missing: int, found: int) -> bool:
    """True when *missing* rows beside *found* ones are nothing special."""
    if settings.max_vanished_percent >= 100 or not missing:
        return True
    share = (missing + found) * settings.max_vanished_percent / 100
    return found > 0 and missing <= max(settings.max_vanished_rows, share)


def held_back(table: str, missing: int, found: int, after_seconds: float) -> Retryable:
    """The fault to raise when neither is so."""
    saw = "found none of" if not found else f"did not find {missing:,} of"
    return Retryable(
        f"table {table}: a complete scan {saw} the {missing + found:,} rows known here; none was taken for deleted",
        hint="was it emptied, restored, or may the login see less than before? If the rows are deleted on purpose, set"
        f" 'accept_vanished: {missing}' once",
        after_seconds=after_seconds,
    )
