"""When the outbox fills and drains: by what was watched, and "not known" where that was too little."""

from pathlib import Path

import pytest

from crossdock.siteconfig import OutboxConfig
from crossdock_agent.outbox.forecast import DAY_SECONDS, Forecast, Linked, Reading, forecast
from crossdock_agent.outlook import PROBLEM, Outlook, moment, sentence, size
from crossdock_agent.problems import Problems

MB = 1_000_000
HOUR = 3600


def read(*hours: int) -> Reading:
    """So many MB in each hour, one sample every 5 s."""
    reading = Reading()
    for mb in hours:
        for _ in range(720):
            reading.add(5.0, mb * MB // 720)
    return reading


def test_nothing_is_foretold_from_a_few_minutes() -> None:
    reading = Reading()
    reading.add(300.0, 50 * MB)
    assert forecast(reading, None, 50 * MB, 100 * MB) == Forecast(None, 0.0, None, None)
    reading.add(299.0, 50 * MB)
    assert reading.per_hour() is None
    reading.add(1.0, 0)
    assert reading.per_hour() == pytest.approx(600 * MB)


def test_without_a_link_the_room_divided_by_the_rate_is_the_time_left() -> None:
    ahead = forecast(read(10, 10), None, 20 * MB, 980 * MB)
    assert ahead.in_per_hour == pytest.approx(10 * MB, rel=0.01)
    assert ahead.fills_in == pytest.approx(98 * HOUR, rel=0.01)
    assert ahead.drains_in is None


def test_a_quiet_night_does_not_hide_what_the_day_brings() -> None:
    assert read(*[100] * 12, *[0] * 8).per_hour() == pytest.approx(60 * MB, rel=0.01)
    assert read(*[0] * 20, 100).per_hour() == pytest.approx(100 * MB, rel=0.01), "and a busy hour counts at once"


def test_only_the_last_day_is_kept_and_a_restart_continues_it() -> None:
    reading = read(*[500] * 10, *[20] * 24)
    assert reading.per_hour() == pytest.approx(20 * MB, rel=0.02)
    assert len(reading.spans) <= DAY_SECONDS / 300 + 1
    again = Reading.of(reading.pairs())
    assert again.per_hour() == pytest.approx(reading.per_hour(), rel=0.001)


def test_an_idle_site_has_no_day_on_which_it_is_full() -> None:
    assert forecast(read(0, 0), None, 5, 100).fills_in is None
    assert forecast(read(1), None, 5, 10**15).fills_in is None, "what is years off is no forecast"


def test_with_a_link_the_outbox_itself_tells_how_it_moves() -> None:
    linked = Linked()
    for second in range(0, 61, 3):  # 1 MB/s in, 5 MB/s out
        linked.add(1000.0 + second, 7 * MB + second * MB, 600 * MB - second * 4 * MB)
    ahead = forecast(Reading(), linked, 360 * MB, 10**10)
    assert ahead.drains_in == pytest.approx(90)
    assert ahead.out_per_hour == pytest.approx(5 * MB * HOUR)
    assert ahead.fills_in is None


def test_a_link_too_thin_for_what_comes_in_fills_the_outbox() -> None:
    linked = Linked()
    for minute in range(60):
        linked.add(minute * 60.0, minute * 3 * MB, minute * 2 * MB)
    ahead = forecast(Reading(), linked, 118 * MB, 240 * MB)
    assert ahead.fills_in == pytest.approx(2 * HOUR)
    assert ahead.drains_in is None
    assert len(linked.points) <= 12, "no more than its window is held"


def test_a_link_that_just_came_is_not_judged() -> None:
    linked = Linked()
    linked.add(0.0, 0, 500)
    linked.add(14.0, 0, 400)
    assert forecast(Reading(), linked, 400, 100) == Forecast()


class _Outbox:
    """What an Outlook asks of an outbox."""

    def __init__(self) -> None:
        self.limits = OutboxConfig(max_bytes=1000 * MB, min_free_disk_bytes=0)
        self.appended_bytes = 0
        self.held = 0
        self.full = False

    def held_bytes(self) -> int:
        return self.held

    def room_bytes(self) -> int:
        return self.limits.max_bytes - self.held

    def takes(self, _lane: str) -> bool:
        return not self.full


class _World:
    def __init__(self, directory: Path) -> None:
        self.outbox, self.problems = _Outbox(), Problems()
        self.now, self.linked, self.path = 0.0, True, directory / "rates.json"
        self.outlook = self.start()

    def start(self) -> Outlook:
        return Outlook(
            self.outbox, self.path, self.problems, lambda: self.linked,  # type: ignore[arg-type]
            lambda: self.now, lambda: 1_800_000_000_000_000 + int(self.now * 1e6),
        )  # fmt: skip

    def live(self, hours: float, come: int = 0, go: int = 0) -> None:
        """*come* and *go* in bytes an hour."""
        for _ in range(round(hours * 360)):
            self.now += 10.0
            self.outbox.appended_bytes += come // 360
            self.outbox.held = max(0, self.outbox.held + (come - go) // 360)
            self.outlook.sample()


def test_an_outage_is_told_with_the_day_on_which_the_outbox_is_full_and_unsaid_once_it_drains(tmp_path: Path) -> None:
    world = _World(tmp_path)
    world.live(3, come=20 * MB, go=20 * MB)
    assert world.problems.sentences() == []
    world.linked = False
    world.live(0.05, come=20 * MB)
    assert world.problems.sentences() == [], "a short break is no outage"
    world.live(1, come=20 * MB)
    (said,) = world.problems.sentences()
    assert "less than 5% of its 1.0 GB and is full at about " in said
    assert "the sources keep their data; bring the controller or the link back" in said
    foretold = world.now + (world.outlook.forecast.fills_in or 0)
    world.live(40, come=20 * MB)
    assert world.now + (world.outlook.forecast.fills_in or 0) == pytest.approx(foretold, abs=600)
    assert "80% of its 1.0 GB" in world.problems.sentences()[0]
    world.linked = True
    world.live(0.1, come=20 * MB, go=400 * MB)
    assert world.problems.sentences() == []
    assert (world.outlook.forecast.drains_in or 0) == pytest.approx(world.outbox.held / (380 * MB) * HOUR, rel=0.05)


def test_hours_in_which_a_full_outbox_held_the_reading_back_do_not_count_as_quiet(tmp_path: Path) -> None:
    world = _World(tmp_path)
    world.linked = False
    world.live(2, come=20 * MB)
    world.outbox.full = True
    world.live(30)
    assert world.outlook.forecast.in_per_hour == pytest.approx(20 * MB, rel=0.01)


def test_rates_outlive_a_restart_but_not_a_week_and_a_broken_file_is_no_harm(tmp_path: Path) -> None:
    world = _World(tmp_path)
    world.live(5, come=20 * MB, go=20 * MB)
    assert world.path.stat().st_size < 4096
    world.outlook = world.start()
    world.live(0.01)
    assert world.outlook.forecast.in_per_hour == pytest.approx(20 * MB, rel=0.05)
    world.now += 8 * DAY_SECONDS
    world.outlook = world.start()
    world.live(0.01)
    assert world.outlook.forecast.in_per_hour is None
    world.path.write_bytes(b"{nonsense")
    world.outlook = world.start()
    world.live(0.01)


def test_a_disk_that_takes_no_file_does_not_end_the_watching(tmp_path: Path) -> None:
    world = _World(tmp_path)
    world.path = tmp_path / "gone" / "rates.json"
    world.outlook = world.start()
    world.live(1, come=20 * MB)
    assert world.outlook.forecast.in_per_hour == pytest.approx(20 * MB, rel=0.01)


def test_a_machine_that_slept_was_not_watched_meanwhile(tmp_path: Path) -> None:
    world = _World(tmp_path)
    world.live(1, come=20 * MB)
    world.now += 9 * HOUR
    world.live(0.1, come=20 * MB)
    assert world.outlook.forecast.in_per_hour == pytest.approx(20 * MB, rel=0.05)


def test_sentences_are_rounded_so_that_they_do_not_change_with_every_look() -> None:
    now = 1_800_000_000_000_000  # Fri 15 Jan 2027 08:00 UTC
    said = {sentence(Forecast(fills_in=86_400.0 + s), 410, 1000, now + s * 10**6, linked=False) for s in range(600)}
    assert len(said) == 1
    assert "full at about Sat 16 Jan 08:00 UTC" in said.pop()
    assert moment(now, 8000.0) == "Fri 15 Jan 10:10 UTC"
    assert moment(now, 61.0) == "Fri 15 Jan 08:05 UTC", "not before now"
    assert "takes no more" in sentence(Forecast(fills_in=0.0), 1000, 1000, now, linked=False)
    assert "not known when" in sentence(Forecast(), 900, 1000, now, linked=True)
    assert PROBLEM == "forecast"
    assert [size(n) for n in (12, 9_400, 820_000, 1_400_000_000)] == ["12 bytes", "9.4 KB", "820 KB", "1.4 GB"]
