"""Which bandwidth holds when: by the wall of the site, through summer time, and when somebody sets the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from crossdock import limits
from crossdock.errors import ConfigError
from crossdock_agent.limits.resources import BandwidthLimit
from crossdock_agent.limits.windows import Windows

DAY, NIGHT, ELSE = 256_000, 8_000_000, 2_000_000


def windows(*pairs: tuple[str, int | None], default: int | None = ELSE, zone: str = "Europe/Berlin") -> Windows:
    found = tuple(limits.BandwidthWindow(hours=hours, limit=limit) for hours, limit in pairs)
    return Windows(limits.Bandwidth(default=default, windows=found), zone)


def us(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1e6)


OFFICE = windows(("mon-fri 08:00-18:00", DAY), ("22:00-04:00", None))


@pytest.mark.parametrize(
    ("local", "rate", "hours"),
    [
        ("2026-11-26T07:59:59", ELSE, ""),  # a Thursday
        ("2026-11-26T08:00:00", DAY, "mon-fri 08:00-18:00"),
        ("2026-11-26T17:59:59", DAY, "mon-fri 08:00-18:00"),
        ("2026-11-26T18:00:00", ELSE, ""),
        ("2026-11-28T12:00:00", ELSE, ""),  # a Saturday
        ("2026-11-28T23:00:00", None, "22:00-04:00"),
        ("2026-11-29T03:59:59", None, "22:00-04:00"),
        ("2026-11-29T04:00:00", ELSE, ""),
    ],
)
def test_the_window_that_lasts_counts_and_else_the_default(local: str, rate: int | None, hours: str) -> None:
    ruling = OFFICE.at(us(local))
    assert (ruling.rate, ruling.hours) == (rate, hours)


def test_of_two_windows_that_last_the_first_counts() -> None:
    both = windows(("mon 00:00-24:00", NIGHT), ("08:00-18:00", DAY))
    assert both.at(us("2026-11-23T09:00:00")).rate == NIGHT
    assert both.at(us("2026-11-24T09:00:00")).rate == DAY


def test_hours_are_those_of_the_wall_of_the_site_in_summer_and_in_winter() -> None:
    new_york = windows(("08:00-18:00", DAY), zone="America/New_York")
    for day in ("2026-01-15", "2026-07-15"):
        begins = us(f"{day}T08:00:00", "America/New_York")
        assert new_york.at(begins - 1).rate == ELSE
        assert new_york.at(begins).rate == DAY
    assert us("2026-01-15T08:00:00", "America/New_York") % 86_400_000_000 != (
        us("2026-07-15T08:00:00", "America/New_York") % 86_400_000_000
    )


def lasting(ruled: Windows, begin: str, hours: int, rate: int) -> int:
    """Minutes of so many *hours* from *begin* in which *rate* holds."""
    start = us(begin)
    return sum(ruled.at(start + minute * 60_000_000).rate == rate for minute in range(hours * 60))


def test_a_window_in_the_doubled_hour_lasts_through_both() -> None:
    ruled = windows(("02:00-03:00", DAY))
    assert lasting(ruled, "2026-10-24T00:00:00", 12, DAY) == 60
    assert lasting(ruled, "2026-10-25T00:00:00", 12, DAY) == 120


def test_a_window_in_the_skipped_hour_does_not_come_and_one_around_it_is_an_hour_shorter() -> None:
    assert lasting(windows(("02:00-03:00", DAY)), "2026-03-29T00:00:00", 12, DAY) == 0
    assert lasting(windows(("01:00-05:00", DAY)), "2026-03-29T00:00:00", 12, DAY) == 180


def test_without_windows_no_zone_is_asked_for_and_an_unknown_one_is_a_fault_of_the_configuration() -> None:
    assert windows(zone="Mars/Olympus").at(0).rate == ELSE
    with pytest.raises(ConfigError, match="does not know the time zone 'Mars/Olympus'"):
        windows(("08:00-18:00", DAY), zone="Mars/Olympus")


def sent_in(limit: BandwidthLimit, seconds: float, wall: datetime, jumps: dict[float, timedelta]) -> int:
    """Bytes that pass in *seconds* of the monotonic clock while the wall clock jumps at given moments."""
    now, sent, offset = 0.0, 0, timedelta()
    for _ in range(100_000):
        for moment in [m for m in jumps if m <= now]:
            offset += jumps.pop(moment)
        if now > seconds:
            return sent
        limit.look(now, int((wall + offset).timestamp() * 1e6 + now * 1e6))
        wait = limit.wait("bulk", now)
        now += wait
        if not wait:
            limit.take("bulk", 50_000, now)
            sent += 50_000
    raise AssertionError("the flow is not limited at all")


@pytest.mark.parametrize("hours", [-9, -1, 1, 9])
def test_a_wall_clock_set_by_hours_neither_stops_the_flow_nor_opens_the_gates(hours: int) -> None:
    noon = datetime(2026, 11, 26, 11, 0, tzinfo=UTC)  # 12:00 in Berlin: the window of the day holds
    ruled = windows(("08:00-18:00", DAY), default=2 * DAY)
    limit = BandwidthLimit(ruled, 0.0, int(noon.timestamp() * 1e6))
    sent = sent_in(limit, 60.0, noon, {20.0: timedelta(hours=hours), 40.0: timedelta(hours=-hours)})
    other = 2 * DAY if abs(hours) == 9 else DAY  # what the jump leads to
    expected = DAY * 40 + other * 20
    assert sent == pytest.approx(expected, rel=0.05)


def test_a_wall_clock_that_jumps_every_second_gives_at_most_the_higher_rate() -> None:
    noon = datetime(2026, 11, 26, 11, 0, tzinfo=UTC)
    limit = BandwidthLimit(windows(("08:00-18:00", DAY), default=2 * DAY), 0.0, int(noon.timestamp() * 1e6))
    jumps = {second + 0.5: timedelta(hours=9 if second % 2 else -9) for second in range(60)}
    sent = sent_in(limit, 60.0, noon, dict(jumps))
    assert DAY * 60 * 0.95 <= sent <= 2 * DAY * 61
