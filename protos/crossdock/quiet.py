"""Hours in which a source is left alone, by the clock on the wall of its site: `"mon-fri 06:00-09:00"`.

Hours that run over midnight (`"sat 22:00-04:00"`) belong to the day they begin on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from crossdock.cron import WEEKDAYS

DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
_HOURS = re.compile(r"(\d{1,2}):(\d\d) ?- ?(\d{1,2}):(\d\d)")
_EXAMPLE = "write it like '12:00-13:30' or 'mon-fri 06:00-09:00'"


@dataclass(frozen=True, slots=True)
class Quiet:
    """*days* count from Monday = 0; *start* is a minute of the day, *minutes* how long it lasts from there."""

    days: frozenset[int]
    start: int
    minutes: int

    def left(self, local: datetime) -> timedelta:
        """How long it still lasts at *local* (naive); zero when it is over or not yet begun."""
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        for ago in (0, 1):
            begin = midnight + timedelta(days=-ago, minutes=self.start)
            end = begin + timedelta(minutes=self.minutes)
            if begin.weekday() in self.days and begin <= local < end:
                return end - local
        return timedelta()

    def of_week(self) -> set[int]:
        """Minutes of the week, from Monday 00:00."""
        begins = (day * DAY_MINUTES + self.start for day in self.days)
        return {(begin + i) % WEEK_MINUTES for begin in begins for i in range(self.minutes)}


def parse(text: str) -> Quiet:
    """Raises ValueError "what is wrong; what to write instead"."""
    words = text.split(None, 1)
    days_text, hours_text = words if len(words) == 2 and words[0][:1].isalpha() else ("", text.strip())
    match = _HOURS.fullmatch(hours_text)
    if match is None:
        raise ValueError(f"{text!r} is not an hour to an hour; {_EXAMPLE}")
    start, end = (_minute(text, match[i], match[i + 1]) for i in (1, 3))
    if start in {end, DAY_MINUTES}:
        raise ValueError(f"{text!r} does not last; for a whole day write '00:00-24:00'")
    return Quiet(_days(text, days_text), start, (end - start) % DAY_MINUTES or DAY_MINUTES)


def parse_all(texts: Iterable[str]) -> tuple[Quiet, ...]:
    """Raises ValueError, also when nothing of the week is left to read in."""
    quiets = tuple(parse(text) for text in texts)
    covered: set[int] = set()
    for quiet in quiets:
        covered |= quiet.of_week()
    if len(covered) == WEEK_MINUTES:
        raise ValueError("every minute of the week is quiet; leave some to read in, or remove the source")
    return quiets


def left(quiets: Iterable[Quiet], local: datetime) -> timedelta:
    """How long it stays quiet from *local* on, by those that last now; zero when none does."""
    return max((quiet.left(local) for quiet in quiets), default=timedelta())


def _minute(text: str, hour: str, minute: str) -> int:
    at = int(hour) * 60 + int(minute)
    if int(minute) > 59 or at > DAY_MINUTES:
        raise ValueError(f"{text!r} has no time of day {hour}:{minute}; {_EXAMPLE}")
    return at


def _days(text: str, days: str) -> frozenset[int]:
    """Of `mon-fri`, `sat,sun`, `fri-mon`; all of them without."""
    if not days:
        return frozenset(range(7))
    found: set[int] = set()
    for part in days.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in WEEKDAYS or (dash and last not in WEEKDAYS):
            raise ValueError(f"{text!r} has no day {part!r}; days are {', '.join(WEEKDAYS)}, and mon-fri")
        begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        found.update((begin + i) % 7 for i in range((end - begin) % 7 + 1))
    return frozenset(found)
