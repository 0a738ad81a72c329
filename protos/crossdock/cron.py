"""The five fields of a crontab line as sets of numbers: both sides refuse a wrong one by the same rules.

Only the text is understood here; when the next time is due is the agent's (`timetable`). Weekdays are counted as cron
does (0 and 7 are Sunday) and stored as Python does (0 is Monday).
"""

from __future__ import annotations

from dataclasses import dataclass

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}  # days of a month at most; 31 otherwise
_EXAMPLE = "five fields: minute hour day month weekday, for example '*/15 6-20 * * mon-fri'"


@dataclass(frozen=True, slots=True)
class Cron:
    """Values allowed in each field, sorted. *weekdays* counts from Monday = 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @property
    def every_hour(self) -> bool:
        return len(self.hours) == 24


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()
    first_word: int = 0  # number of the first of them

    def number(self, text: str) -> int:
        if text.lower() in self.words:
            return self.first_word + self.words.index(text.lower())
        if not (text.isascii() and text.isdigit()) or not self.low <= int(text) <= self.high:
            words = f", or {self.words[0]} to {self.words[-1]}" if self.words else ""
            raise ValueError(f"{self.name} {text!r} is not a number from {self.low} to {self.high}{words}; {_EXAMPLE}")
        return int(text)

    def values(self, text: str) -> set[int]:
        found: set[int] = set()
        for part in text.split(","):
            span, _, step_text = part.partition("/")
            step = 1
            if "/" in part:
                step = int(step_text) if step_text.isascii() and step_text.isdigit() else 0
                if not step:
                    raise ValueError(f"{self.name} {part!r} has no step after '/'; {_EXAMPLE}")
            found.update(range(*self._span(span, step_text != ""), step))
        return found

    def _span(self, text: str, stepped: bool) -> tuple[int, int]:
        """First value, and one after the last."""
        if text == "*":
            return self.low, self.high + 1
        first_text, dash, last_text = text.partition("-")
        first = self.number(first_text)
        last = self.number(last_text) if dash else self.high if stepped else first
        if self.words == WEEKDAYS and dash and last < first:
            last += 7  # sat-mon, or fri-0
        if last < first:
            raise ValueError(f"{self.name} {text!r} runs backward; {_EXAMPLE}")
        return first, last + 1


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("weekday", 0, 7, WEEKDAYS, 1),
)


def parse(text: str) -> Cron:
    """Raises ValueError "what is wrong; what to write instead"."""
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"{text!r} has {len(parts)} fields; write {_EXAMPLE}")
    minutes, hours, days, months, weekdays = (f.values(p) for f, p in zip(_FIELDS, parts, strict=True))
    weekdays = {(day - 1) % 7 for day in weekdays}
    if len(days) < 31 and len(weekdays) < 7:
        raise ValueError(
            f"{text!r} limits both day and weekday, which crons read in two ways; "
            "leave one of them '*', or limit the other by 'quiet'"
        )
    if not any(min(days) <= _LONGEST.get(month, 31) for month in months):
        raise ValueError(f"{text!r} never comes; no month named has a day {min(days)}")
    return Cron(*(tuple(sorted(values)) for values in (minutes, hours, days, months, weekdays)))
