"""When a source's next pass is due. Waking is all that happens here: the pass runs on the source's own thread."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from crossdock_agent.timetable import SPREAD, STEP_SECONDS, CronTimes, Timetable


class Schedule:
    """One timer thread for all sources. APScheduler goes by the wall clock, so a pump also has a limit of its own."""

    def __init__(self) -> None:
        # the jobs only set a flag: run in the timer thread, they need no pool
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": DebugExecutor()},
            job_defaults={"coalesce": True, "misfire_grace_time": None},
        )

    def __enter__(self) -> Self:
        self._scheduler.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._scheduler.shutdown(wait=False)

    def follow(self, name: str, timetable: Timetable, wake: Callable[[], None]) -> None:
        """Call *wake* whenever *timetable* says so. Replaces what *name* had."""
        if timetable.cron is None:
            self._every(name, timetable.every_seconds, timetable.jitter_seconds, wake)
            return
        trigger = TimesTrigger(timetable.cron, timetable.jitter_seconds or 0.0, random.Random())  # noqa: S311 - spread
        self._scheduler.add_job(wake, trigger, id=name, replace_existing=True)

    def forget(self, name: str) -> None:
        if self._scheduler.get_job(name) is not None:
            self._scheduler.remove_job(name)

    def _every(self, name: str, seconds: float, jitter: float | None, wake: Callable[[], None]) -> None:
        """About every *seconds*: give or take *jitter*, or else never later than that apart."""
        spread = seconds * SPREAD
        first = datetime.now(UTC) + timedelta(seconds=random.uniform(0, seconds))  # noqa: S311 - spread, not secrecy
        trigger = (
            IntervalTrigger(seconds=seconds - spread, jitter=spread, timezone=UTC)
            if jitter is None
            else IntervalTrigger(seconds=seconds, jitter=jitter or None, timezone=UTC)
        )
        self._scheduler.add_job(wake, trigger, id=name, next_run_time=first, replace_existing=True)


class TimesTrigger(BaseTrigger):  # type: ignore[misc]
    """Times of day, each up to *jitter* seconds late and never early: what it waits for may not be there before."""

    def __init__(self, times: CronTimes, jitter: float, rng: random.Random) -> None:
        self._times, self._jitter, self._rng = times, jitter, rng
        self._given: dict[datetime, datetime] = {}  # times given out lately, with jitter, and the times they stand for

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """The next one after now. Those that went by meanwhile (the machine slept) have come as one. Asked several
        times after one firing, as the scheduler does, it says the same but for the jitter."""
        now = now.astimezone(UTC)
        served = self._given.get(previous) if previous is not None else None
        if served is not None and timedelta() < served - now < timedelta(seconds=STEP_SECONDS):
            now = served  # the clock was corrected by a moment: this time has come
        due = self._times.after(now)
        fire = due + timedelta(seconds=self._rng.uniform(0, self._jitter))
        self._given = {**dict(list(self._given.items())[-3:]), fire: due}
        return fire
