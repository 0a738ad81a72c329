"""A watermark is compared in the database's own representation; here it is only moved back by some seconds.

`parse` recognises how a table writes time, `render` writes the same way and always rounds down, so that a bound made
here is never later than it was meant to be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:([ T])(\d\d):(\d\d)(?::(\d\d)(?:([.,])(\d{1,9}))?)?( ?(?:Z|[+-]\d\d(?::?\d\d)?))?)?"
)
_COMPACT = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_COMPACT_UNIT_US = {8: DAY_US, 12: 60 * SECOND_US, 14: SECOND_US}
_EPOCH_UNITS = ((10**11, SECOND_US), (10**14, 1_000), (10**17, 1))  # below this magnitude: so many microseconds
_JULIAN_UNIX = 2440587.5  # the Julian day of 1970-01-01
_JULIAN_DAYS = (1721060, 5373484)  # years 0 to 9999, the range of SQLite's date functions


@dataclass(frozen=True, slots=True)
class Style:
    """One way to write time. *kind*: "text", "compact", "epoch" or "julian"; *unit_us*: what the last digit means."""

    kind: str
    unit_us: int
    is_text: bool = False  # of "compact": text rather than a number
    is_real: bool = False  # of "epoch": a float rather than an integer
    separator: str = " "
    fraction: str = ""  # "." or ",", when there are decimals of a second
    digits: int = 0
    zone: str = ""

    @property
    def aware(self) -> bool:
        """True when the value says its own zone (an epoch is UTC)."""
        return self.kind == "epoch" or bool(self.zone)

    @property
    def granularity_us(self) -> int:
        """A moment written this way may stand for any later one within this; never less than a second is assumed."""
        return max(self.unit_us, SECOND_US)


@dataclass(frozen=True, slots=True)
class Moment:
    us: int  # since 1970-01-01 in UTC if `style.aware`, else in the wall clock the table was written by
    style: Style


def parse(value: object) -> Moment | None:
    """None when *value* is no time this module knows, or one that is far away (`infinity`, 44 BC)."""
    try:
        if isinstance(value, str):
            return _parse_text(value.strip())
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return _parse_number(value)
    except (ValueError, OverflowError):
        return None


def render(us: int, style: Style) -> str | int | float | None:
    """The latest value in *style* that is not after *us*. None outside the years 1 to 9999."""
    try:
        moment = _EPOCH + timedelta(microseconds=us - us % style.unit_us if style.kind != "julian" else us)
    except OverflowError:
        return None
    if style.kind == "epoch":
        return us / SECOND_US if style.is_real else us // style.unit_us
    if style.kind == "julian":
        return us / DAY_US + _JULIAN_UNIX
    if style.kind == "compact":
        digits = next(n for n, unit in _COMPACT_UNIT_US.items() if unit == style.unit_us)
        text = f"{moment.year:04}{moment.month:02}{moment.day:02}{moment.hour:02}{moment.minute:02}{moment.second:02}"
        return text[:digits] if style.is_text else int(text[:digits])
    return _render_text(moment, style)


def _parse_text(text: str) -> Moment | None:
    if text.isascii() and text.isdigit() and len(text) in _COMPACT:
        at = datetime.strptime(text, _COMPACT[len(text)]).replace(tzinfo=UTC)
        return Moment(_us(at), Style("compact", _COMPACT_UNIT_US[len(text)], is_text=True))
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    year, month, day, separator, hour, minute, second, fraction, decimals, zone = match.groups()
    at = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC)
    digits = min(len(decimals or ""), 6)
    us = _us(at) + int((decimals or "0").ljust(6, "0")[:6]) - _offset_us(zone or "")
    unit = DAY_US if hour is None else 60 * SECOND_US if second is None else 10 ** (6 - digits)
    style = Style("text", unit, separator=separator or "", fraction=fraction or "", digits=digits, zone=zone or "")
    return Moment(us, style)


def _parse_number(value: float) -> Moment | None:
    if isinstance(value, float) and _JULIAN_DAYS[0] <= value <= _JULIAN_DAYS[1]:
        return Moment(int((value - _JULIAN_UNIX) * DAY_US), Style("julian", 1))
    whole = int(value)
    if isinstance(value, int) and len(str(whole)) in _COMPACT and 1900 <= int(str(whole)[:4]) <= 2200:
        length = len(str(whole))
        try:
            at = datetime.strptime(str(whole), _COMPACT[length]).replace(tzinfo=UTC)
            return Moment(_us(at), Style("compact", _COMPACT_UNIT_US[length]))
        except ValueError:
            pass  # an epoch that only looks like a date
    for limit, unit in _EPOCH_UNITS:
        if abs(value) < limit:
            is_real = isinstance(value, float)
            return Moment(int(value * unit), Style("epoch", 1 if is_real else unit, is_real=is_real))
    return None


def _render_text(moment: datetime, style: Style) -> str:
    at = moment + timedelta(microseconds=_offset_us(style.zone))
    text = f"{at.year:04}-{at.month:02}-{at.day:02}"
    if style.unit_us >= DAY_US:
        return text
    text += f"{style.separator}{at.hour:02}:{at.minute:02}"
    if style.unit_us < 60 * SECOND_US:
        text += f":{at.second:02}"
    if style.fraction:
        text += f"{style.fraction}{at.microsecond:06}"[: style.digits + 1]
    return text + style.zone


def _offset_us(zone: str) -> int:
    digits = zone.strip().replace(":", "")
    if digits in ("", "Z"):
        return 0
    offset = timezone(timedelta(hours=int(digits[1:3]), minutes=int(digits[3:5] or 0)))
    seconds = int((offset.utcoffset(None) or timedelta()).total_seconds())
    return (-seconds if digits[0] == "-" else seconds) * SECOND_US


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
