"""How values are said to people: durations in words, local times with their zone, sizes in binary units. Pure."""

from __future__ import annotations

import datetime as dt

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def duration(seconds: float) -> str:
    """ "340 ms", "4.2 s", "3 min 20 s", "2 h 5 min", "9 d 4 h": two units at most, rounded down but for the first."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{round(seconds * 1000)} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{round(seconds)} s"
    whole = round(seconds)
    for i, (size, unit) in enumerate(_STEPS):
        if whole >= size:
            smaller, small_unit = _STEPS[i + 1] if i + 1 < len(_STEPS) else (1, "s")
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {small_unit}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def ago(then_us: int, now_us: int) -> str:
    """ "4.2 s ago"; "never" for 0; "just now" under a second or for a clock that runs ahead of ours."""
    if then_us <= 0:
        return "never"
    seconds = (now_us - then_us) / 1_000_000
    return f"{duration(seconds)} ago" if seconds >= 1 else "just now"


def ahead(then_us: int, now_us: int) -> str:
    """ "in 23 h 59 min", or "4 min ago" when it has passed."""
    seconds = (then_us - now_us) / 1_000_000
    return f"in {duration(seconds)}" if seconds > 0 else ago(then_us, now_us)


def moment(at_us: int, zone: dt.tzinfo | None = None) -> str:
    """ "2026-03-01 13:04:05.123 CET", in the operator's own zone (or *zone*); "-" for 0."""
    if at_us <= 0:
        return "-"
    at = dt.datetime.fromtimestamp(at_us / 1_000_000, dt.UTC).astimezone(zone)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} {_zone_of(at)}"


def minute(at_us: int, zone: dt.tzinfo | None = None) -> str:
    """ "2026-03-01 13:04 CET": where seconds do not matter."""
    at = dt.datetime.fromtimestamp(at_us / 1_000_000, dt.UTC).astimezone(zone)
    return f"{at:%Y-%m-%d %H:%M} {_zone_of(at)}"


def clock(at_us: int, zone: dt.tzinfo | None = None) -> str:
    """The time of day alone, "13:04:05.123": for the lines of one timeline whose date and zone stand above it."""
    at = dt.datetime.fromtimestamp(at_us / 1_000_000, dt.UTC).astimezone(zone)
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


def _zone_of(at: dt.datetime) -> str:
    """ "CET"; the offset where the system's name is a sentence (Windows: "W. Europe Standard Time")."""
    name = at.tzname() or ""
    return name if name and " " not in name else f"{at:%z}"


def size(n_bytes: int) -> str:
    """ "0 B", "820 KiB", "1.4 GiB"."""
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1023.95:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def count(n: int) -> str:
    """ "1,234,567"."""
    return f"{n:,}"


def rate(per_second: float) -> str:
    """ "1,234/s", "3.4/s", "0/s"."""
    if 0 < per_second < 9.95:
        return f"{per_second:.1f}/s"
    return f"{round(per_second):,}/s"


def plural(n: int, one: str, many: str = "") -> str:
    """ "1 record", "2 records", "3 batches" (*many* where an "s" would be wrong)."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def shortened(text: str, characters: int) -> str:
    """*text* on one line, cut with "…" when it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1] + "…"


def seconds_of(text: str) -> float:
    """ "90s", "15m", "1h", "7d" as seconds. Raises ValueError naming the forms that are understood."""
    units = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
    digits = text.strip().lower()
    unit = digits.lstrip("0123456789.")
    number = digits[: len(digits) - len(unit)] if unit else digits
    try:
        value = float(number) * units[unit.strip() or "s"]
    except (ValueError, KeyError):
        raise ValueError(f"{text!r} is not a time: write 90s, 15m, 1h or 7d") from None
    if value <= 0:
        raise ValueError(f"{text!r} is not a time ahead: write 90s, 15m, 1h or 7d")
    return value
