"""Schedule, quiet hours and budget where they are kept: in the pump. Fake source, fake clock, real outbox."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock.codec import TARGET_RAW_BYTES
from crossdock.siteconfig import Budget, OutboxConfig, Schedule, SiteConfig, SourceConfig
from crossdock_agent import pump, pumps, releases
from crossdock_agent.hints import Hints
from crossdock_agent.outbox import Outbox
from crossdock_agent.problems import Problems
from crossdock_agent.schedule import Schedule as Timer
from support import sources
from support.agents import eventually
from support.pumping import FakeClock, Pumping, each, idle, pumping, steps
from support.source_rigs import FileRig, SourceRig, TableRig
from support.sources import config, reel

NAME = "wms"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "BUSY_GAP_SECONDS", 0.0)
    sources.install()


def polite(batch: int = 1, poll: float = 10.0, origin: str = "file", **more: Any) -> SourceConfig:
    return msgspec.structs.replace(config(NAME, batch=batch, poll=poll, origin=origin), **more)


def fill(count: int, size: int = 10) -> None:
    reel(NAME).lines = [b"%0*d" % (size, i) for i in range(count)]


def lines(site: Pumping) -> list[bytes]:
    return [line for _, payload in site.batches() for line in payload.split(b"\n")]


def test_over_any_time_no_more_is_read_than_the_budget_and_one_batch(tmp_path: Path) -> None:
    size, rate = 100_000, 0.5e6
    fill(40, size)
    clock = FakeClock()
    with pumping(tmp_path, polite(budget=Budget(max_mb_per_second=0.5)), clock) as site:
        site.run(idle(60))
        read = [header.read_at_us / 1e6 for header, _ in site.batches()]
        assert len(read) == 40
        for i in range(40):
            for j in range(i, 40):
                assert (j - i + 1) * size <= rate * (read[j] - read[i]) + TARGET_RAW_BYTES + 1
        assert 40 * size / rate - 1 < read[-1] - read[0] < 40 * size / rate + 1  # and no slower than asked
        assert site.pump.counters.snapshot()["throttled_seconds"] in {6, 7}
        assert lines(site) == reel(NAME).lines


def test_releases_go_on_while_the_budget_is_used_up(tmp_path: Path) -> None:
    fill(10, 200_000)
    clock = FakeClock()
    with pumping(tmp_path, polite(budget=Budget(max_mb_per_second=0.1)), clock) as site:
        seen: list[tuple[int, list[bytes]]] = []

        def acknowledge() -> None:
            acknowledge_up_to(site, 1)

        def look() -> None:
            seen.append((site.pump.progress.batches, list(reel(NAME).released)))

        site.run(steps(acknowledge, look))
        assert seen[0][0] < 10
        assert seen[0][1] == [b"1"]


def test_a_row_is_not_released_in_the_middle_of_a_pass_over_its_table(tmp_path: Path) -> None:
    """The page in hand was read before: a row deleted from the table meanwhile would be taken for a new one."""
    fill(10, 200_000)
    clock = FakeClock()
    with pumping(tmp_path, polite(origin="table", budget=Budget(max_mb_per_second=0.1)), clock) as site:
        seen: list[int] = []

        def look() -> None:
            if not seen:
                acknowledge_up_to(site, 1)
            seen.append(len(reel(NAME).released) if site.pump.progress.batches < 10 else -1)

        site.run(each(40, look))
        assert seen.count(0) >= 5
        assert set(seen) == {0, -1}
        assert reel(NAME).released == [b"1"]


def acknowledge_up_to(site: Pumping, sequence: int) -> None:
    def on_disk() -> bool:
        position = site.outbox.positions().get(NAME)
        return position is not None and position.batches >= sequence

    eventually(on_disk, "the batches are on disk")
    site.outbox.acknowledge(NAME, site.outbox.epoch, sequence)
    eventually(lambda: site.outbox.releases(NAME), "the acknowledgement is committed")


def test_a_stop_ends_the_waiting_at_once_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    fill(10, 200_000)
    clock = FakeClock()
    with pumping(tmp_path, polite(budget=Budget(max_mb_per_second=0.001)), clock) as site:
        states: list[str] = []
        site.run(steps(lambda: states.append(site.pump.progress.state), clock.end))
        assert states == ["throttled"]
        assert len(clock.waits) == 2
        assert 0 < len(lines(site)) < 10
        site.run(idle(20), restart=True)
        assert lines(site) == reel(NAME).lines


def test_cpu_time_is_made_up_for_by_waiting(tmp_path: Path) -> None:
    fill(30)
    clock = FakeClock()

    class Busy(list[bytes]):
        def __getitem__(self, at: Any) -> Any:
            if isinstance(at, slice) and at.start < len(self):
                clock.cpu += 0.5
                clock.seconds += 0.5
            return super().__getitem__(at)

    reel(NAME).lines = Busy(reel(NAME).lines)
    with pumping(tmp_path, polite(budget=Budget(cpu_percent=20)), clock) as site:
        site.run(idle(40))
        assert lines(site) == list(reel(NAME).lines)
        read = [header.read_at_us / 1e6 for header, _ in site.batches()]
        assert 14 / 0.2 <= read[-1] - read[0] <= 15 / 0.2  # and no longer than that: 30 times half a second


def test_a_pass_ends_after_so_many_rows_and_the_next_poll_goes_on_from_there(tmp_path: Path) -> None:
    fill(25)
    clock = FakeClock()
    with pumping(tmp_path, polite(2, origin="table", budget=Budget(max_rows_per_poll=10)), clock) as site:
        after: list[int] = []
        site.run(each(4, lambda: after.append(site.pump.progress.records)))
        assert after[:3] == [10, 20, 25]
        assert lines(site) == reel(NAME).lines
        assert site.pump.counters.snapshot()["polls_cut_short"] == 2


@pytest.mark.parametrize("kind", ["file_drop", "incrementing", "timestamp"])
def test_every_source_goes_on_where_a_poll_was_cut_short(tmp_path: Path, kind: str) -> None:
    rig: SourceRig = FileRig(tmp_path) if kind == "file_drop" else TableRig(tmp_path, kind)
    rig.put(12_000)
    rig.put(9_000)
    source = SourceConfig(
        name=NAME, kind=rig.kind, settings={**rig.settings, "poll_seconds": 5}, budget=Budget(max_rows_per_poll=1)
    )
    with pumping(tmp_path, source, FakeClock()) as site:
        site.run(idle(12))
        records = [r for header, payload in site.batches() for r in rig.records(_Batch(header, payload))]  # type: ignore[arg-type]
        assert len(records) == 21_000
        assert len({identity for identity, _ in records}) == 21_000
        cut_short = site.pump.counters.snapshot()["polls_cut_short"]
        assert cut_short == 2 if kind == "file_drop" else cut_short >= 4  # a file is read to its end


class _Batch(msgspec.Struct):
    header: Any
    payload: bytes


QUIET = {"quiet": ("12:00-13:30",)}


def test_no_pass_begins_in_quiet_hours_not_even_by_a_hint_and_it_begins_when_they_end(tmp_path: Path) -> None:
    fill(3)
    clock = FakeClock("2026-11-26 11:30:00+00:00")
    with pumping(tmp_path, polite(**QUIET), clock, zone="Europe/Berlin") as site:
        states: list[tuple[str, int]] = []

        def hint() -> None:
            site.pump.wake()
            states.append((site.pump.progress.state, reel(NAME).passes))

        def until_over() -> Iterator[object]:
            while not reel(NAME).passes:
                yield hint()

        site.run(until_over())  # 12:30 at the site
        assert set(states) == {("quiet", 0)}
        began = site.batches()[0][0].read_at_us / 1e6
        assert 0 <= began - FakeClock("2026-11-26 12:30:00+00:00").wall.timestamp() <= 2
        assert site.pump.settled.is_set()
        assert len(clock.waits) < 80  # hints did not wake it
        assert lines(site) == reel(NAME).lines


def test_a_pass_under_way_ends_at_the_next_batch_when_quiet_hours_begin_and_goes_on_after_them(tmp_path: Path) -> None:
    fill(10)
    clock = FakeClock("2026-11-26 11:59:58+00:00")

    class Slow(list[bytes]):
        def __getitem__(self, at: Any) -> Any:
            clock.seconds += 1
            return super().__getitem__(at)

    reel(NAME).lines = Slow(reel(NAME).lines)
    with pumping(tmp_path, polite(**QUIET), clock) as site:
        site.run(idle(3))
        assert lines(site) == list(reel(NAME).lines)[:2]
        assert site.pump.progress.state == "stopped"
        site.run(idle(100), restart=True)
        hours = {header.read_at_us // 1_000_000 for header, _ in site.batches()[2:]}
        assert min(hours) >= FakeClock("2026-11-26 13:30:00+00:00").wall.timestamp()
        assert lines(site) == list(reel(NAME).lines)


def test_what_was_acknowledged_is_released_in_quiet_hours(tmp_path: Path) -> None:
    fill(3)
    clock = FakeClock("2026-11-26 11:59:00+00:00")
    with pumping(tmp_path, polite(poll=60.0, **QUIET), clock) as site:

        def acknowledge() -> None:
            site.pump.wake()
            acknowledge_up_to(site, 2)

        site.run(steps(lambda: None, acknowledge, lambda: None, lambda: None))
        assert reel(NAME).passes == 1
        assert reel(NAME).released == [b"1", b"2"]


def test_a_source_with_times_of_day_is_read_at_them_only_and_without_the_schedule_too(tmp_path: Path) -> None:
    clock = FakeClock("2026-11-26 12:00:00+00:00")
    fill(1)
    with pumping(tmp_path, polite(schedule=Schedule(cron="0 14 * * *")), clock, zone="Europe/Berlin") as site:
        passes: list[tuple[float, int]] = []
        site.run(each(65, lambda: passes.append((clock.seconds, reel(NAME).passes))))
        assert site.pump.settled.is_set()
        assert {count for at, count in passes if at < 3600} == {0}
        assert reel(NAME).passes == 1


@pytest.mark.parametrize("moved_to", ["2026-11-20 13:55:00+00:00", "2026-12-24 13:55:00+00:00"])
def test_a_clock_that_is_set_does_not_stop_the_reading_by_time_of_day(tmp_path: Path, moved_to: str) -> None:
    clock = FakeClock("2026-11-26 15:00:00+00:00")
    with pumping(tmp_path, polite(schedule=Schedule(cron="0 14 * * *")), clock) as site:
        set_it = steps(lambda: None, lambda: clock.set_wall(moved_to), *[lambda: None] * 8)
        site.run(set_it)
        assert reel(NAME).passes >= 1


def test_a_clock_set_back_by_years_does_not_stop_the_reading_by_interval(tmp_path: Path) -> None:
    clock = FakeClock()
    with pumping(tmp_path, polite(schedule=Schedule(every_seconds=30)), clock) as site:
        site.run(steps(lambda: clock.set_wall("1999-01-01 00:00:00+00:00"), *[lambda: None] * 6))
        assert reel(NAME).passes >= 3
        assert max(clock.waits) <= 61


def test_sites_that_start_together_do_not_read_together_when_jitter_is_asked_for(tmp_path: Path) -> None:
    fill(1)
    clock = FakeClock()
    with pumping(tmp_path, polite(schedule=Schedule(every_seconds=300, jitter_seconds=100)), clock) as site:
        site.run(steps(lambda: None, lambda: None))
        first = site.batches()[0][0].read_at_us / 1e6 - FakeClock().wall.timestamp()
        assert 0 < first <= 100


def test_a_failing_release_is_tried_again_while_the_source_waits_for_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases.Releases, "seconds_to_retry", lambda _self: 1.0)
    clock = FakeClock()
    with pumping(tmp_path, polite(schedule=Schedule(cron="0 14 * * *")), clock) as site:
        site.run(idle(3))
        assert clock.waits == [1.0] * 4


def test_a_month_end_batch_under_a_budget_holds_up_no_other_source_and_is_given_up_at_once(tmp_path: Path) -> None:
    large, small = TableRig(tmp_path / "large"), TableRig(tmp_path / "small")
    large.put(60_000)
    config = SiteConfig(site="atl1", revision=1, sources=[
        SourceConfig(name="large", kind="sql_table", settings=large.settings, budget=Budget(max_mb_per_second=0.01)),
        SourceConfig(name="small", kind="sql_table", settings={**small.settings, "poll_seconds": 0.05}),
    ])  # fmt: skip
    problems = Problems()
    with (
        Outbox(tmp_path / "outbox.db", OutboxConfig(min_free_disk_bytes=0)) as outbox,
        Timer() as timer,
        Hints() as hints,
    ):
        running = pumps.Pumps(outbox, timer, hints, problems, lambda text: text, random.Random(3))
        running.resume(config)

        def health(name: str) -> Any:
            return next(health for health in running.health() if health.source == name)

        eventually(lambda: health("large").records, "the large table is being read")
        for i in range(3):
            small.put(1)
            eventually(lambda i=i: health("small").records == i + 1, "the fresh row is in the outbox")
        assert health("large").pending_records <= health("large").records < 60_000  # how far it is can be seen
        assert problems.sentences() == []
        threads = list(running._pumps.values())
        running.stop()  # in the middle of a wait of half a minute
        assert all(pump.stop(0.0) for pump in threads)
