"""Dates as AS/400 and JD Edwards keep them in numbers; both count centuries from 1900 in front of the year.

`cyymmdd` (IBM i, *CYMD): 1140101 is 2014-01-01, 991231 (the 0 of the century lost in a number) is 1999-12-31.
`jde` (JD Edwards, CYYDDD): 114001 is 2014-01-01, 99365 is 1999-12-31. Oracle's conversion table goes on to day 731, for
dates that were counted on from the beginning of a year, so days beyond its end are those of the following ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta

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


PARSERS: dict[str, Callable[[str], datetime]] = {"cyymmdd": _cyymmdd, "jde": _jde}
