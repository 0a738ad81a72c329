"""Converters for dates and times. A time is an instant: local text needs a zone, and leaves as UTC.

A local time that the autumn clock change makes ambiguous is read as the first of the two, one that the spring change
skips is read by the offset before it; both with a warning. Sentinels such as 1900-01-01 mean "no date" and are read as
blank, with a warning; so are zeros and nines alone. Without `format` the text is ISO 8601; what old systems and
spreadsheets write in numbers (`cyymmdd`, `excel`, `epoch` ...) is told in `legacy_dates`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from crossdock.errors import ConfigError, Rejected
from crossdock_controller.mappings import legacy_dates
from crossdock_controller.mappings.converters import Convert, Warned, as_text, converter, shown
from crossdock_controller.mappings.model import FieldSpec

SENTINELS = frozenset({date(1, 1, 1), date(1753, 1, 1), date(1900, 1, 1), date(9999, 12, 31)})
_PROBE = datetime(2021, 12, 31, 23, 58, 59, tzinfo=UTC)  # every part of it differs from the others

Parse = Callable[[str], datetime]


@converter("date", returns=date, options=("format", "pivot"))
def _date(spec: FieldSpec, _zone: ZoneInfo | None) -> Convert:
    parse = _first_of(spec.format, spec.pivot) if spec.format else None

    def convert(value: object) -> object:
        text = as_text(value)
        if _is_zero(text):
            return Warned(None, f"{shown(value)} is read as no date")
        try:
            day = parse(text).date() if parse else _iso_date(text)
        except (ValueError, OverflowError) as error:
            raise Rejected("bad_date", f"{shown(value)} is not a date{_expected(spec, error)}") from error
        return Warned(None, f"{shown(value)} is read as no date") if day in SENTINELS else day

    return convert


@converter("datetime", returns=datetime, options=("format", "zone", "pivot"))
def _datetime(spec: FieldSpec, zone: ZoneInfo | None) -> Convert:
    parse = _first_of(spec.format, spec.pivot) if spec.format else datetime.fromisoformat
    if spec.format and zone is None and not all(_has_zone(text) for text in spec.format):
        raise ConfigError("a local time needs a zone", hint="add 'zone: site', or an IANA name such as Europe/Berlin")
    local = Localizer(zone) if zone else None

    def convert(value: object) -> object:
        text = as_text(value)
        if _is_zero(text):
            return Warned(None, f"{shown(value)} is read as no time")
        try:
            moment = parse(text)
            if moment.date() in SENTINELS:
                return Warned(None, f"{shown(value)} is read as no time")
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
            if local is not None:
                return local(moment)
        except (ValueError, OverflowError) as error:
            raise Rejected("bad_datetime", f"{shown(value)} is not a time{_expected(spec, error)}") from error
        raise Rejected(
            "no_zone", f"{shown(value)} is a local time without a zone", hint="add 'zone: site' to the mapping"
        )

    return convert


def _has_zone(text: str) -> bool:
    return "%z" in text or text in legacy_dates.INSTANTS


class Localizer:
    """Local times of one zone into UTC. Remembers the offset of days on which the clocks do not change."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._offsets: dict[date, timedelta | None] = {}

    def __call__(self, local: datetime) -> datetime | Warned:
        day = local.date()
        if day not in self._offsets:
            if len(self._offsets) > 4096:
                self._offsets.clear()
            self._offsets[day] = self._steady_offset(day)
        offset = self._offsets[day]
        if offset is not None:
            return (local - offset).replace(tzinfo=UTC)
        return self._by_rule(local)

    def _steady_offset(self, day: date) -> timedelta | None:
        """The day's offset, or None when it changes between the evening before and the morning after."""
        start = datetime(day.year, day.month, day.day, tzinfo=self._zone) - timedelta(hours=3)
        offsets = {(start + timedelta(hours=hour)).utcoffset() for hour in range(31)}
        return offsets.pop() if len(offsets) == 1 else None

    def _by_rule(self, local: datetime) -> datetime | Warned:
        first = local.replace(tzinfo=self._zone, fold=0)
        instant = first.astimezone(UTC)
        if instant.astimezone(self._zone).replace(tzinfo=None) != local:
            return Warned(instant, f"{local} does not exist in {self._zone.key}: the clocks go forward over it")
        if first.utcoffset() != first.replace(fold=1).utcoffset():
            return Warned(instant, f"{local} happens twice in {self._zone.key}: read as the first")
        return instant


def _iso_date(text: str) -> date:
    """A date, also when a time of midnight follows it, as databases show dates."""
    return date.fromisoformat(re.sub(r"[ T]00:00(:00(\.0+)?)?$", "", text))


def _is_zero(text: str) -> bool:
    """All zeros, with whatever stands between them; or all nines, which are no date either."""
    return not text.strip("0./-: T") or text in ("999999", "9999999", "99999999")


def _expected(spec: FieldSpec, error: Exception) -> str:
    if spec.format:
        return f" written as {' or '.join(spec.format)}"
    return f": {error}"


def _first_of(formats: tuple[str, ...], pivot: int | None) -> Parse:
    """Reads by the first format that fits. Raises ConfigError for a format that cannot be read back."""
    if pivot is not None and not any("%y" in text for text in formats):
        raise ConfigError("'pivot' is about years of two digits, and no format has %y", hint="leave it out")
    parsers = [_parser(text, pivot) for text in formats]
    if len(parsers) == 1:
        return parsers[0]

    def parse(text: str) -> datetime:
        for attempt in parsers:
            try:
                return attempt(text)
            except (ValueError, OverflowError):
                continue
        raise ValueError("fits none of the formats")

    return parse


_PARTS = {"Y": "[0-9]{4}", "y": "[0-9]{2}", "m": "[0-9]{1,2}", "d": "[0-9]{1,2}", "H": "[0-9]{1,2}", "M": "[0-9]{1,2}",
          "S": "[0-9]{1,2}", "f": "[0-9]{1,6}"}  # fmt: skip


def _parser(text: str, pivot: int | None = None) -> Parse:
    """strptime for *text*; purely numeric formats by one regular expression, four times as fast.

    Numbers without anything between them have all their digits ("%d%m%Y" takes 01012026, never 112026). A legacy date
    may have a time behind it: "jde %H%M%S" reads "114001 091500".
    """
    legacy, _, rest = text.partition(" ")
    if legacy in legacy_dates.PARSERS:
        return _and_time(legacy_dates.PARSERS[legacy], _parser(rest)) if rest else legacy_dates.PARSERS[legacy]
    try:
        datetime.strptime(_PROBE.strftime(text), text)  # noqa: DTZ007 - proves the format, makes no time
    except (ValueError, re.error) as error:
        raise ConfigError(f"date format {text!r} cannot be read: {error}", hint="see strptime's directives") from error
    pieces = re.split(r"(%.)", text)
    names = [piece[1] for piece in pieces[1::2]]
    if not set(names) <= set(_PARTS) or len(set(names)) != len(names) or ("Y" in names) == ("y" in names):
        if pivot is not None:
            raise ConfigError(f"'pivot' does not go with the format {text!r}", hint="of %d %m %y %H %M %S only")
        return lambda value: datetime.strptime(value, text)  # noqa: DTZ007 - the zone is added by the caller
    pattern = ""
    for i, name in enumerate(names):
        literal, following = pieces[2 * i], pieces[2 * i + 2]
        touching = (i and not literal) or (i + 1 < len(names) and not following)
        part = _PARTS[name].replace("{1,2}", "{2}") if touching else _PARTS[name]
        pattern += f"{re.escape(literal)}(?P<{name}>{part})"
    match = re.compile(pattern + re.escape(pieces[-1])).fullmatch
    first = 69 if pivot is None else pivot
    return lambda value: _assemble(match(value), first)


def _and_time(date_of: Parse, time_of: Parse) -> Parse:
    def parse(value: str) -> datetime:
        day, _, rest = value.partition(" ")
        return datetime.combine(date_of(day), time_of(rest.strip()).time())

    return parse


def _assemble(match: re.Match[str] | None, pivot: int) -> datetime:
    if match is None:
        raise ValueError("does not fit")
    part = match.groupdict()
    year = int(part["Y"]) if "Y" in part else _century(int(part["y"]), pivot)
    return datetime(  # noqa: DTZ001 - the zone is added by the caller
        year,
        int(part.get("m", 1)),
        int(part.get("d", 1)),
        int(part.get("H", 0)),
        int(part.get("M", 0)),
        int(part.get("S", 0)),
        int(part["f"].ljust(6, "0")) if "f" in part else 0,
    )


def _century(two_digits: int, pivot: int) -> int:
    """POSIX strptime, without another *pivot*: 69-99 are 1969-1999."""
    return two_digits + (1900 if two_digits >= pivot else 2000)
