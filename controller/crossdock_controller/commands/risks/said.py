"""Times and counts inside the sentences of risks. Pure."""

from __future__ import annotations

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 20 min", "9 d 4 h": two units at most, rounded down; seconds alone below two minutes."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    for i, (size, unit) in enumerate(_STEPS):
        if whole >= size:
            smaller = _STEPS[i + 1 : i + 2]
            rest = whole % size // smaller[0][0] if smaller else 0
            return f"{whole // size} {unit} {rest} {smaller[0][1]}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def ago(then_us: int, now_us: int) -> str:
    """ "12 min ago", "just now" within a second."""
    seconds = (now_us - then_us) / 1e6
    return f"{duration(seconds)} ago" if seconds >= 1 else "just now"


def plural(n: int, one: str) -> str:
    """ "1 use", "1,200 uses"."""
    return f"{n:,} {one if n == 1 else one + 's'}"
