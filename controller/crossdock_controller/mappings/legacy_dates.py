"""Dates as old systems and spreadsheets keep them in numbers.

AS/400 and JD Edwards count centuries from 1900 in front of the year:

`cyymmdd` (IBM i, *CYMD): 1140101 is 2014-01-01, 991231 (the 0 of the century lost in a number) is 1999-12-31.
`jde` (JD Edwards, CYYDDD): 114001 is 2014-01-01, 99365 is 1999-12-31. Oracle's conversion table goes on to day 731, for
dates that were counted on from the beginning of a year, so days beyond its end are those of the following ones.

`yyddd`, `yyyyddd` (ordinal dates, often called Julian): 26031 and 2026031 are 2026-01-31. `excel` counts days from 1900
(with the 29th of February that 1900 did not have), `excel1904` from 1904, both with the time of day as a fraction.
`epoch` and `epoch_ms` are seconds and milliseconds from 1970 in UTC: they need no zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

_NUMBER = re.compile(r"([0-9]{1,7})(?:\.0*)?")
_LAST_DAY = 731


def _digits(text: str, width: int) -> str:
    match = _NUMBER.fullmatch(text)
    if match is None or len(match.group(1)) > width:
        raise ValueError(f"not a number of {width} digits")
    return match.group(1).zfill(width)


def _cyymmdd(text: str) -> datetime:
    digits = _digits(text, 7)
    return datetime(1900 + int(digits[:3]), int(digits[3:5]), int(digits[5:]))  # noqa: DTZ001 - zone: see dates


def _jde(text: str) -> datetime:
    digits = _digits(text, 6)
    day = int(digits[3:])
    if not 1 <= day <= _LAST_DAY:
        raise ValueError(f"day {day} of a year")
    return datetime(1900 + int(digits[:3]), 1, 1) + timedelta(days=day - 1)  # noqa: DTZ001 - zone: see dates


def _ordinal(width: int) -> Callable[[str], datetime]:
    """Of five digits (or less, zeros were lost) with a year of two, or of seven."""

    def parse(text: str) -> datetime:
        digits = _digits(text, width)
        year, day = int(digits[:-3]), int(digits[-3:])
        if width == 5:
            year += 1900 if year >= 69 else 2000
        moment = datetime(year, 1, 1) + timedelta(days=day - 1)  # noqa: DTZ001 - zone: see dates
        if not day or moment.year != year:
            raise ValueError(f"day {day} of a year")
        return moment

    return parse


_SERIAL = re.compile(r"([0-9]{1,7})(?:\.([0-9]{1,15}))?")
_MILLISECONDS = Decimal(86_400_000)


def _excel(first: datetime, gap: int) -> Callable[[str], datetime]:
    """Serials counted from *first*; those up to *gap* are refused: what they mean depends on who wrote them."""

    def parse(text: str) -> datetime:
        match = _SERIAL.fullmatch(text)
        if match is None or int(match[1]) <= gap:
            raise ValueError("no serial number of a day")
        fraction = Decimal(f"0.{match[2] or 0}")
        thousandths = int((fraction * _MILLISECONDS).to_integral_value())
        return first + timedelta(days=int(match[1]), milliseconds=thousandths)

    return parse


_INSTANT = re.compile(r"-?([0-9]{1,17})(?:\.([0-9]{1,9}))?")


def _epoch(per_second: int) -> Callable[[str], datetime]:
    def parse(text: str) -> datetime:
        if _INSTANT.fullmatch(text) is None:
            raise ValueError("no number of seconds")
        microseconds = int(Decimal(text) * (1_000_000 // per_second))
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)

    return parse


INSTANTS = frozenset({"epoch", "epoch_ms"})  # that are in UTC by themselves

PARSERS: dict[str, Callable[[str], datetime]] = {
    "cyymmdd": _cyymmdd,
    "jde": _jde,
    "yyddd": _ordinal(5),
    "yyyyddd": _ordinal(7),
    "excel": _excel(datetime(1899, 12, 30), 60),  # noqa: DTZ001 - zone: see dates
    "excel1904": _excel(datetime(1904, 1, 1), -1),  # noqa: DTZ001 - as above
    "epoch": _epoch(1),
    "epoch_ms": _epoch(1000),
}
