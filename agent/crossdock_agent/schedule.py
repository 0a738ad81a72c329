"""When a source's next pass is due. Waking is all that happens here: the pass runs on the source's own thread."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

SPREAD = 0.05  # a pass comes up to this part of its interval early: sources with one interval drift apart


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

    def every(self, name: str, seconds: float, wake: Callable[[], None]) -> None:
        """Call *wake* about every *seconds*, never later than that apart. Replaces what *name* had."""
        spread = seconds * SPREAD
        first = datetime.now(UTC) + timedelta(seconds=random.uniform(0, seconds))  # noqa: S311 - spread, not secrecy
        trigger = IntervalTrigger(seconds=seconds - spread, jitter=spread, timezone=UTC)
        self._scheduler.add_job(wake, trigger, id=name, next_run_time=first, replace_existing=True)

    def forget(self, name: str) -> None:
        if self._scheduler.get_job(name) is not None:
            self._scheduler.remove_job(name)
