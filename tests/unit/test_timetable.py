"""Times of day across summer time, quiet hours, and clocks that are moved: pure, with the time coming in."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock import cron, quiet
from crossdock.errors import ConfigError
from crossdock.siteconfig import Schedule, SourceConfig
from crossdock_agent.schedule import TimesTrigger
from crossdock_agent.timetable import CronTimes, Guard, Timetable

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0
MINUTE = timedelta(minutes=1)


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


def us(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6)


def times(line: str, start: datetime, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """The next *count* times after *start*, as the wall shows them, with the zone's offset."""
    found, cron_times = [], CronTimes(cron.parse(line), zone)
    for _ in range(count):
        start = cron_times.after(start)
        found.append(start.astimezone(zone).strftime("%d %H:%M %z"))
    return found


def table(zone: str = "Europe/Berlin", hours: tuple[str, ...] = (), **schedule: object) -> Timetable:
    wanted = Schedule(**schedule) if schedule else None  # type: ignore[arg-type]
    return Timetable(SourceConfig(name="x", kind="tape", schedule=wanted, quiet=hours), zone, 5.0)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("30 2 * * *", ["28 02:30 +0100", "29 03:30 +0200", "30 02:30 +0200"]),  # 02:30 does not exist on the 29th
        ("30 2,3 * * *", ["28 02:30 +0100", "28 03:30 +0100", "29 03:30 +0200", "30 02:30 +0200"]),
        ("0 1 * * *", ["28 01:00 +0100", "29 01:00 +0100", "30 01:00 +0200"]),
    ],
)
def test_a_time_in_the_hour_that_is_skipped_comes_once_when_the_gap_is_over(line: str, expected: list[str]) -> None:
    assert times(line, berlin("2026-03-28 00:30"), len(expected)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("30 2 * * *", ["24 02:30 +0200", "25 02:30 +0200", "26 02:30 +0100"]),  # 02:30 is there twice on the 25th
        ("0,30 2 * * *", ["24 02:00 +0200", "24 02:30 +0200", "25 02:00 +0200", "25 02:30 +0200", "26 02:00 +0100"]),
    ],
)
def test_a_time_that_is_there_twice_comes_once(line: str, expected: list[str]) -> None:
    assert times(line, berlin("2026-10-24 00:30"), len(expected)) == expected


def test_a_start_in_the_repeated_hour_does_not_bring_its_times_a_second_time() -> None:
    assert times("30 2 * * *", berlin("2026-10-25 02:10", fold=1), 1) == ["26 02:30 +0100"]


@pytest.mark.parametrize("start", ["2026-03-28 23:50", "2026-10-24 23:50"])
def test_a_line_for_every_hour_goes_on_evenly_through_both_changes(start: str) -> None:
    cron_times, at = CronTimes(cron.parse("*/15 * * * *"), BERLIN), berlin(start)
    at = cron_times.after(at)
    for _ in range(30):
        following = cron_times.after(at)
        assert following - at == timedelta(minutes=15)
        at = following


def test_weekdays_are_counted_as_cron_does() -> None:
    assert times("0 6 * * 1-5", berlin("2026-11-27 07:00"), 2) == ["30 06:00 +0100", "01 06:00 +0100"]  # a Friday
    assert times("0 6 * * 0", berlin("2026-11-27 07:00"), 1) == ["29 06:00 +0100"]
    assert times("0 6 * * 7", berlin("2026-11-27 07:00"), 1) == ["29 06:00 +0100"]


def test_a_rare_time_is_found_across_years() -> None:
    assert times("0 0 29 2 *", berlin("2026-11-27 07:00"), 1)[0].startswith("29 00:00")


def test_jitter_only_comes_late_and_no_time_comes_twice_or_is_left_out() -> None:
    times_ = CronTimes(cron.parse("*/5 * * * *"), ZoneInfo("UTC"))
    trigger = TimesTrigger(times_, 60.0, random.Random(7))
    now, late = datetime(2026, 11, 26, 12, tzinfo=UTC), []
    for i in range(1, 50):
        now = trigger.get_next_fire_time(None, now)
        late.append((now - datetime(2026, 11, 26, 12, tzinfo=UTC) - timedelta(minutes=5 * i)).total_seconds())
    assert min(late) >= 0
    assert max(late) <= 60
    assert max(late) - min(late) > 30


@pytest.mark.parametrize("jitter", [0.0, 20.0])
def test_a_line_for_every_minute_comes_every_minute_though_the_scheduler_asks_twice(jitter: float) -> None:
    trigger = TimesTrigger(CronTimes(cron.parse("* * * * *"), ZoneInfo("UTC")), jitter, random.Random(7))
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC)
    fire, minutes = trigger.get_next_fire_time(None, noon), []
    for _ in range(10):
        minutes.append((fire - noon) // MINUTE)
        now = fire + timedelta(milliseconds=3)
        trigger.get_next_fire_time(fire, now)
        fire = trigger.get_next_fire_time(fire, now)
    assert minutes == list(range(1, 11))


def test_times_that_went_by_meanwhile_come_as_one() -> None:
    trigger = TimesTrigger(CronTimes(cron.parse("*/5 * * * *"), ZoneInfo("UTC")), 0, random.Random(7))
    trigger.get_next_fire_time(None, datetime(2026, 11, 26, 12, 1, tzinfo=UTC))
    slept = datetime(2026, 11, 28, 9, 2, tzinfo=UTC)
    assert trigger.get_next_fire_time(None, slept) == datetime(2026, 11, 28, 9, 5, tzinfo=UTC)


def test_a_clock_corrected_by_a_moment_does_not_bring_a_time_twice() -> None:
    trigger = TimesTrigger(CronTimes(cron.parse("0 6 * * *"), ZoneInfo("UTC")), 0, random.Random(7))
    six = trigger.get_next_fire_time(None, datetime(2026, 11, 26, 5, tzinfo=UTC))
    assert trigger.get_next_fire_time(six, six - timedelta(seconds=0.7)) == six + timedelta(days=1)
    guard = Guard(table("UTC", cron="0 6 * * *"), 0.0, us(six - timedelta(hours=1)))
    guard.restart(HOUR, us(six))
    assert guard.wait(HOUR + 1, us(six - timedelta(seconds=0.7))) > 0
    assert guard.wait(HOUR + 90, us(six + timedelta(seconds=88))) > 0


@pytest.mark.parametrize(
    ("hours", "at", "minutes"),
    [
        ("12:00-13:30", "2026-11-26 12:00", 90),
        ("12:00-13:30", "2026-11-26 13:29", 1),
        ("12:00-13:30", "2026-11-26 13:30", 0),
        ("mon-fri 06:00-09:00", "2026-11-26 07:00", 120),  # a Thursday
        ("mon-fri 06:00-09:00", "2026-11-28 07:00", 0),
        ("22:00-06:00", "2026-11-26 23:00", 420),
        ("22:00-06:00", "2026-11-27 01:00", 300),
        ("fri 22:00-06:00", "2026-11-28 01:00", 300),
        ("fri 22:00-06:00", "2026-11-27 01:00", 0),
        ("sat,sun 00:00-24:00", "2026-11-29 12:00", 720),
        ("sat-mon 00:00-01:00", "2026-11-30 00:30", 30),
        ("00:00-04:00", "2026-03-29 01:30", 90),  # an hour of it is skipped
        ("00:00-04:00", "2026-10-25 01:30", 210),  # an hour of it is there twice
    ],
)
def test_quiet_hours_are_those_on_the_wall_of_the_site(hours: str, at: str, minutes: int) -> None:
    assert table(hours=(hours,)).quiet_seconds(us(berlin(at))) == minutes * 60


def test_hours_that_are_no_hours_are_refused_with_what_to_write() -> None:
    wrong = ["noon", "12-13", "25:00-26:00", "12:60-13:00", "12:00-12:00", "mo 12:00-13:00", "24:00-01:00", "mon", ""]
    for text in wrong:
        with pytest.raises(ValueError, match="; "):
            quiet.parse(text)
    with pytest.raises(ValueError, match="every minute of the week"):
        quiet.parse_all(["mon-fri 00:00-24:00", "fri 22:00-00:00", "sat,sun 00:00-12:00", "sat,sun 12:00-24:00"])


def test_crontab_lines_that_would_surprise_are_refused_with_what_to_write() -> None:
    wrong = {
        "* * * *": "4 fields", "60 * * * *": "minute '60'", "* 24 * * *": "hour '24'", "0 0 31 2,4 *": "never comes",
        "0 0 1 * mon": "both day and weekday", "*/0 * * * *": "step", "5-1 * * * *": "backward", "@daily": "1 fields",
        "* * * foo *": "month 'foo'", "1, * * * *": "minute ''", "-1 * * * *": "minute ''", "*/ * * * *": "step",
    }  # fmt: skip
    for text, said in wrong.items():
        with pytest.raises(ValueError, match=said) as caught:
            cron.parse(text)
        assert "; " in str(caught.value) or "write" in str(caught.value)


def test_a_zone_that_the_machine_does_not_know_is_refused_only_where_it_matters() -> None:
    with pytest.raises(
        ConfigError, match="source x: this machine does not know the time zone 'Mars/Olympus'"
    ) as caught:
        table("Mars/Olympus", ("12:00-13:00",))
    assert "tzdata" in caught.value.hint
    assert table("Mars/Olympus", every_seconds=5).quiet_seconds(0) == 0


def test_an_interval_is_overdue_by_a_clock_that_nobody_can_set() -> None:
    guard = Guard(table(every_seconds=30, jitter_seconds=5), 1000.0, us(berlin("2026-11-26 12:00")))
    for wall in ("1999-01-01 00:00", "2050-01-01 00:00"):
        assert guard.wait(1040.0, us(berlin(wall))) == pytest.approx(26.0)
        assert guard.wait(1066.0, us(berlin(wall))) == 0


def test_a_clock_set_back_or_forward_does_not_keep_a_time_of_day_from_coming() -> None:
    timetable = table("UTC", cron="0 6 * * *")
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC)
    guard = Guard(timetable, 0.0, us(noon))
    back = noon - timedelta(days=30, hours=7)  # 05:00 a month ago
    assert 0 < guard.wait(60.0, us(back)) <= 60
    assert guard.wait(HOUR, us(back + timedelta(hours=1, seconds=2))) == 0
    guard.restart(HOUR + 10, us(back + timedelta(hours=1, seconds=10)))
    assert guard.wait(HOUR + 60, us(back + timedelta(hours=1, seconds=60))) > 0
    assert guard.wait(HOUR + 120, us(noon)) == 0  # forward again, over a month of mornings
    guard.restart(HOUR + 130, us(noon))
    assert guard.wait(HOUR + 190, us(noon)) > 0


ZONES = {  # with the days around a change: Lord Howe moves by half an hour, Troll by two, Casablanca back for Ramadan
    "Europe/Berlin": ("2026-03-28", "2026-10-24"), "America/New_York": ("2026-03-07", "2026-10-31"),
    "Australia/Lord_Howe": ("2026-04-04", "2026-10-03"), "America/Sao_Paulo": ("2018-02-17", "2018-11-03"),
    "Antarctica/Troll": ("2026-03-28", "2026-10-24"), "Africa/Casablanca": ("2026-02-14", "2026-03-21"),
    "UTC": ("2026-03-28", "2026-10-24"),
}  # fmt: skip


def by_looking_at_every_minute(line: cron.Cron, begin: datetime, days: int, zone: ZoneInfo) -> list[datetime]:
    """The rule of the module, by the plainest means: each minute of the world, and each minute the wall skipped."""

    def fits(wall: datetime) -> bool:
        fields = (wall.minute, line.minutes), (wall.hour, line.hours), (wall.day, line.days), (wall.month, line.months)
        return all(value in allowed for value, allowed in (*fields, (wall.weekday(), line.weekdays)))

    found, at = set(), begin
    while at < begin + timedelta(days=days):
        local = at.astimezone(zone)
        if fits(local) and (not local.fold or line.every_hour):
            found.add(at)
        skipped = (local + MINUTE).replace(tzinfo=None)  # the wall a minute later, if it had not been moved
        reached, since = (at + MINUTE).astimezone(zone).replace(tzinfo=None), timedelta()
        while skipped < reached:
            if fits(skipped):
                found.add(at + MINUTE + since)
            skipped, since = skipped + MINUTE, since + MINUTE
        at += MINUTE
    return sorted(found)


_minutes = st.sampled_from(["*", "*/15", "0", "30", "0,30", "59", "7-50/9"])
_hours = st.sampled_from(["*", "*/2", "0", "1", "2", "3", "1-3", "0,23", "2,3", "6-20"])
_days = st.sampled_from([("*", "*"), ("*", "sun"), ("*", "mon-fri"), ("1,15,29", "*"), ("*/2", "*")])


@settings(max_examples=25, deadline=None)
@given(zone=st.sampled_from(sorted(ZONES)), change=st.integers(0, 1), minute=_minutes, hour=_hours, day=_days)
def test_the_times_are_those_that_looking_at_every_minute_finds(
    zone: str, change: int, minute: str, hour: str, day: tuple[str, str]
) -> None:
    line = cron.parse(f"{minute} {hour} {day[0]} * {day[1]}")
    begin = datetime.fromisoformat(ZONES[zone][change]).replace(tzinfo=UTC)
    expected = by_looking_at_every_minute(line, begin, 2, ZoneInfo(zone))
    cron_times, at, found = CronTimes(line, ZoneInfo(zone)), begin - timedelta(seconds=1), []
    while (at := cron_times.after(at)) < begin + timedelta(days=2):
        found.append(at)
    assert found == expected


def test_a_time_that_was_skipped_does_not_push_out_an_earlier_one() -> None:
    """Lord Howe skips 02:00 to 02:30: 02:07 comes at 02:37, after 02:34."""
    found = times("7-50/9 2 * * *", datetime(2026, 10, 3, 0, tzinfo=UTC), 6, ZoneInfo("Australia/Lord_Howe"))
    assert [text[3:8] for text in found] == ["02:34", "02:37", "02:43", "02:46", "02:55", "02:07"]
