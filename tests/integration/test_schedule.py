"""The timer thread wakes sources by interval and by time of day."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from crossdock.siteconfig import Schedule as Wanted
from crossdock.siteconfig import SourceConfig
from crossdock_agent.schedule import Schedule, TimesTrigger
from crossdock_agent.timetable import Timetable


def timetable(**schedule: Any) -> Timetable:
    return Timetable(SourceConfig(name="x", kind="tape", schedule=Wanted(**schedule)), "Europe/Berlin", 60.0)


def test_an_interval_of_its_own_wakes_instead_of_the_kinds_and_a_forgotten_source_is_not_woken() -> None:
    woken, other = threading.Semaphore(0), threading.Event()
    with Schedule() as schedule:
        schedule.follow("a", timetable(every_seconds=0.05, jitter_seconds=0.01), woken.release)
        schedule.follow("b", timetable(every_seconds=0.05), other.set)
        schedule.forget("b")
        other.clear()
        for _ in range(5):
            assert woken.acquire(timeout=60)
        schedule.forget("never known")
    assert not other.is_set()


def test_a_time_of_day_is_the_sites_and_the_scheduler_waits_for_it() -> None:
    with Schedule() as schedule:
        schedule.follow("a", timetable(cron="30 6 * * *", jitter_seconds=60), lambda: None)
        (job,) = schedule._scheduler.get_jobs()
        assert isinstance(job.trigger, TimesTrigger)
        local = job.next_run_time.astimezone(timetable(cron="* * * * *")._zone)
        assert (local.hour, local.minute) in {(6, 30), (6, 31)}
        assert job.next_run_time > datetime.now(UTC)
        assert job.coalesce
        assert job.misfire_grace_time is None


@pytest.mark.parametrize(
    ("before", "zone", "same"),
    [
        (SourceConfig(name="x", kind="tape"), "Europe/Berlin", True),
        (SourceConfig(name="x", kind="tape", quiet=("12:00-13:00",)), "Europe/Berlin", False),
        (SourceConfig(name="x", kind="tape", quiet=("12:00-13:00",)), "UTC", True),
    ],
)
def test_a_site_that_moves_to_another_zone_restarts_only_sources_that_go_by_it(
    before: SourceConfig, zone: str, same: bool
) -> None:
    from crossdock_agent.pumps import _is_same

    class Running(msgspec.Struct):
        config: SourceConfig
        zone: str

    assert _is_same(Running(before, "UTC"), before, zone) is same  # type: ignore[arg-type]
