"""When a source may be read, by interval or by the clock on the wall of its site. Pure: the time comes in.

Across a change to or from summer time every local time counts once: one that is skipped comes when the gap is over,
one that is there twice comes the first time. A line for every hour of the day is an interval rather than a time of
day, and goes on through both.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crossdock import cron, quiet
from crossdock.errors import ConfigError
from crossdock.siteconfig import SourceConfig

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

SPREAD = 0.05  # without 'jitter_seconds' a pass comes up to this part of its interval early: sources drift apart
NEAR = timedelta(hours=3)  # no zone has moved its clocks by more
SLACK_SECONDS = 1.0
LOOK_SECONDS = 60.0  # how often the wall clock is looked at by a source that goes by it
STEP_SECONDS = 60.0  # a clock set back by less does not make a time of day come twice
_SECOND = timedelta(seconds=1)


class CronTimes:
    """The instants of a crontab line in a zone. APScheduler counts them on a wall that has no summer time."""

    def __init__(self, line: cron.Cron, zone: ZoneInfo) -> None:
        self._zone = zone
        self._every_hour = line.every_hour
        self._wall = _wall_trigger(line)

    def after(self, instant: datetime) -> datetime:
        """The first one later than *instant*, both in UTC."""
        local = instant.astimezone(self._zone).replace(tzinfo=None)
        if self._is_even(instant):
            wall = self._next(local)
            found = next(self._instants(wall))
            if self._is_even(found):
                return found
            return min(self._between(local, wall + NEAR))  # one that was skipped may come after later ones
        near = (found for found in self._between(local - NEAR, local + NEAR) if found > instant)
        return min(near, default=None) or self._later(local + NEAR, instant)

    def _between(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        at = self._next(begin)
        while at <= end:
            yield from self._instants(at)
            at = self._next(at)

    def _later(self, local: datetime, instant: datetime) -> datetime:
        while True:
            local = self._next(local)
            first = next(self._instants(local))
            if first > instant:
                return first

    def _next(self, wall: datetime) -> datetime:
        """The first time on the wall later than *wall*."""
        start = (wall.replace(microsecond=0) + _SECOND).replace(tzinfo=UTC)
        found: datetime = self._wall.get_next_fire_time(None, start)
        return found.replace(tzinfo=None)

    def _instants(self, wall: datetime) -> Iterator[datetime]:
        """When it is *wall*; a time in a gap is as long after the gap's beginning as it says."""
        first = wall.replace(tzinfo=self._zone)
        yield first.astimezone(UTC)
        second = first.replace(fold=1)
        is_doubled = second.utcoffset() != first.utcoffset() and _exists(first)
        if self._every_hour and is_doubled:
            yield second.astimezone(UTC)

    def _is_even(self, instant: datetime) -> bool:
        """Whether no clock is moved about then."""
        before, after = (at.astimezone(self._zone).utcoffset() for at in (instant - NEAR, instant + NEAR))
        return before == after


class Timetable:
    """What `schedule` and `quiet` of *config* mean at a site in *zone*; *poll_seconds* is the kind's own interval.

    Raises ConfigError when this machine does not know the zone.
    """

    def __init__(self, config: SourceConfig, zone: str, poll_seconds: float) -> None:
        schedule = config.schedule
        self._zone = zone_of(f"source {config.name}", zone) if config.goes_by_the_clock else None
        self._quiets = quiet.parse_all(config.quiet)
        self.cron: CronTimes | None = None
        if schedule is not None and schedule.cron is not None and self._zone is not None:
            self.cron = CronTimes(cron.parse(schedule.cron), self._zone)
        every = schedule.every_seconds if schedule is not None else None
        self.every_seconds = every if every is not None else poll_seconds
        # as the operator asked for; None: sources drift apart by themselves
        self.jitter_seconds = schedule.jitter_seconds if schedule is not None else None

    @property
    def first_at_once(self) -> bool:
        """Whether a source that starts is read right away: not when only certain times are right for it."""
        return self.cron is None

    @property
    def spread_seconds(self) -> float:
        """Up to how much later than all others a pass may begin that many sites would begin at one moment."""
        if self.jitter_seconds is not None:
            return self.jitter_seconds
        return 0.0 if self.cron is not None else self.every_seconds * SPREAD

    def quiet_seconds(self, wall_us: int) -> float:
        """How long no pass may begin from *wall_us* on; 0: one may begin now."""
        if not self._quiets or self._zone is None:
            return 0.0
        local = datetime.fromtimestamp(wall_us / 1e6, self._zone)
        lasts = quiet.left(self._quiets, local.replace(tzinfo=None))
        if not lasts:
            return 0.0
        end = (local.replace(tzinfo=None) + lasts).replace(tzinfo=self._zone)
        return max(SLACK_SECONDS, end.timestamp() - wall_us / 1e6)


class Guard:
    """Notices that a pass is due though the schedule said nothing: it goes by the wall clock, which people move.

    An interval is counted on the monotonic clock alone. A time of day has to be asked of the wall, so it is asked
    again every minute.
    """

    def __init__(self, timetable: Timetable, now: float, wall_us: int) -> None:
        self._timetable = timetable
        self._slack = (timetable.jitter_seconds or 0.0) + SLACK_SECONDS
        self._overdue = 0.0  # of an interval, monotonic
        self._due = self._served = datetime.min.replace(tzinfo=UTC)  # of a time of day: the next one, and the last
        self.restart(now, wall_us)

    def restart(self, now: float, wall_us: int) -> None:
        """A pass has ended, or the source begins: from here on the next one is waited for."""
        self._overdue = now + 2 * self._timetable.every_seconds + self._slack
        if self._timetable.cron is not None:
            at = _instant(wall_us)
            self._served = self._due if self._due <= at else self._served
            self._due = self._timetable.cron.after(at)

    def wait(self, now: float, wall_us: int) -> float:
        """Seconds until this is to be asked again; 0: a pass is due."""
        if self._timetable.cron is None:
            return max(0.0, self._overdue - now)
        at = _instant(wall_us)
        again = self._timetable.cron.after(at)
        just_served = again == self._served and again - at < timedelta(seconds=STEP_SECONDS)
        if again < self._due and not just_served:
            self._due = again  # the clock was set back
        return min(LOOK_SECONDS, max(0.0, (self._due - at).total_seconds() + self._slack))


def _instant(wall_us: int) -> datetime:
    return datetime.fromtimestamp(wall_us / 1e6, UTC)


def zone_of(whose: str, name: str) -> ZoneInfo:
    """The time zone *name* of the site, for *whose* hours. Raises ConfigError when this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"{whose}: this machine does not know the time zone {name!r} of its site",
            hint="install the package 'tzdata', or correct 'zone' of the site",
        ) from error


def _exists(aware: datetime) -> bool:
    """False for a time that the clocks skipped."""
    return aware.astimezone(UTC).astimezone(aware.tzinfo).replace(tzinfo=None) == aware.replace(tzinfo=None)


def _wall_trigger(line: cron.Cron) -> CronTrigger:
    from apscheduler.triggers.cron import CronTrigger

    def among(values: tuple[int, ...], all_of_them: int) -> str:
        return "*" if len(values) == all_of_them else ",".join(map(str, values))

    fields: dict[str, Any] = {
        "minute": among(line.minutes, 60),
        "hour": among(line.hours, 24),
        "day": among(line.days, 31),
        "month": among(line.months, 12),
        "day_of_week": among(line.weekdays, 7),
    }
    return CronTrigger(**fields, second="0", timezone=UTC)
