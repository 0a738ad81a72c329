"""The governor with a machine of the test's own: what waits, for what, for how long, and what a person is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from crossdock import limits
from crossdock_agent.limits import ENOUGH, Governor, Machine, describe, rules_of
from crossdock_agent.limits.resources import LOOK_SECONDS, MEMORY_BASE_BYTES, MIN_PART_BYTES, STEP_SECONDS

MB = 10**6


@dataclass
class Host:
    """A machine whose clocks and counters the test sets."""

    now: float = 1000.0
    wall: int = 0
    cpu: float = 5.0
    written: int | None = 0
    resident: int = 50 * MB
    freed: int = 0  # by each trim
    trims: int = 0
    idle: list[bool] = field(default_factory=list)

    def machine(self) -> Machine:
        return Machine(
            lambda: self.now, lambda: self.wall, lambda: self.cpu, lambda: self.written, lambda: self.resident,
            self.trim, self.idle.append,
        )  # fmt: skip

    def trim(self) -> None:
        self.trims += 1
        self.resident -= self.freed


def governed(host: Host, **given: object) -> Governor:
    governor = Governor(host.machine())
    governor.use(rules_of(limits.Limits(**given), "UTC"))  # type: ignore[arg-type]
    return governor


def test_without_limits_nothing_waits_nothing_is_measured_and_nothing_is_told() -> None:
    def never() -> float:
        raise AssertionError("measured")

    governor = Governor(Machine(never, never, never, never, never))  # type: ignore[arg-type]
    assert governor.send_wait("bulk", 10**9) == 0
    assert governor.send_room("bulk") == ENOUGH
    assert governor.read_wait("bulk") == (0.0, "")
    governor.sent("bulk", 10**9)
    governor.appended(10**9)
    assert governor.queue_bytes is None
    assert governor.health(10**9) == []
    assert governor.complaints() == []


def test_cpu_time_stays_in_its_share_and_the_source_is_told_what_it_waits_for() -> None:
    host = Host()
    governor = governed(host, cpu_percent=25)
    began, used = host.now, host.cpu
    while host.now < began + 60:
        seconds, resource = governor.read_wait("bulk")
        if seconds:
            assert resource == "cpu"
            assert seconds <= LOOK_SECONDS
            host.now += seconds
        else:
            host.now, host.cpu = host.now + 0.1, host.cpu + 0.1
    assert (host.cpu - used) / (host.now - began) == pytest.approx(0.25, rel=0.05)


def test_sending_waits_for_cpu_time_too() -> None:
    host = Host()
    governor = governed(host, cpu_percent=10)
    host.cpu += 1.0
    assert governor.read_wait("bulk")[0] == LOOK_SECONDS
    assert governor.send_wait("bulk", 0) == STEP_SECONDS  # it goes on in steps: what is read must be able to leave
    assert governor.send_wait("critical", 0) == 0


def test_a_critical_source_in_debt_goes_on_in_small_steps() -> None:
    host = Host()
    governor = governed(host, cpu_percent=10, disk=1 * MB)
    host.cpu += 1000.0
    assert governor.read_wait("critical") == (STEP_SECONDS, "cpu")
    assert governor.read_wait("bulk")[0] == LOOK_SECONDS


def test_what_is_appended_counts_against_the_disk_before_the_system_has_written_it() -> None:
    host = Host(written=None)
    governor = governed(host, disk=1 * MB)
    appended, began = 0, host.now
    while host.now < began + 60:
        seconds, _ = governor.read_wait("standard")
        host.now += seconds
        if not seconds:
            governor.appended(100_000)
            appended += 100_000
    assert appended * 2 / (host.now - began) == pytest.approx(1 * MB, rel=0.05)


def test_what_the_system_writes_beyond_that_counts_as_well_and_nothing_twice() -> None:
    host = Host()
    governor = governed(host, disk=1 * MB)
    began = host.now
    while host.now < began + 60:
        seconds, _ = governor.read_wait("standard")
        host.now += seconds
        if not seconds:
            governor.appended(100_000)
            assert host.written is not None
            host.written += 350_000  # logs, indexes, deletes
            host.now += 0.01
    assert host.written is not None
    assert host.written / (host.now - began) == pytest.approx(1 * MB, rel=0.05)


def test_what_is_written_in_two_steps_is_counted_once() -> None:
    """First a log, batch by batch; then, a hundred batches later, all of it into the file at once."""
    host = Host()
    governor = governed(host, disk=1 * MB)
    began, batches = host.now, 0
    while host.now < began + 300:
        seconds, _ = governor.read_wait("standard")
        host.now += seconds
        if not seconds:
            governor.appended(100_000)
            batches += 1
            assert host.written is not None
            host.written += 100_000 + (10_000_000 if batches % 100 == 0 else 0)
            host.now += 0.01
    assert host.written is not None
    assert host.written / (host.now - began) == pytest.approx(1 * MB, rel=0.08)


def test_what_was_counted_and_never_written_is_no_credit_for_ever() -> None:
    host = Host()
    governor = governed(host, disk=1000 * MB)
    for _ in range(1000):
        governor.appended(1 * MB)  # 2 GB counted, nothing written: the outbox lies in memory
    host.now += 60
    assert governor.read_wait("bulk") == (0.0, "")
    assert host.written is not None
    host.written += 2000 * MB
    host.now += 1
    assert governor.read_wait("bulk")[1] == "disk"


def test_a_bulk_batch_of_minutes_is_not_waited_for_by_a_critical_one() -> None:
    governor = governed(Host(), bandwidth=limits.Bandwidth(default=1000))
    governor.sent("bulk", 256_000)
    assert governor.send_wait("bulk", 0) == LOOK_SECONDS
    assert governor.send_wait("critical", 0) == 0
    assert governor.send_room("critical") > 30_000


def test_a_limit_of_the_disk_makes_strokes_small() -> None:
    assert governed(Host(), disk=4 * MB).stroke_bytes == 2 * MB
    assert governed(Host(), cpu_percent=5).stroke_bytes is None


def test_bandwidth_counts_what_was_sent_and_says_how_much_waits() -> None:
    host = Host()
    window = limits.BandwidthWindow(hours="00:00-12:00", limit=256_000)
    governor = governed(host, bandwidth=limits.Bandwidth(default=2 * MB, windows=(window,)))
    assert governor.health(7 * MB)[0].throttling is False
    sent, began = 0, host.now
    while host.now < began + 30:
        wait = governor.send_wait("bulk", 0)
        host.now += wait
        if not wait:
            assert governor.send_room("bulk") >= 1
            governor.sent("bulk", 50_000)
            sent += 50_000
    assert sent / 30 == pytest.approx(256_000, rel=0.05)
    (told,) = governor.health(7 * MB)
    assert (told.resource, told.limit, told.throttling) == ("bandwidth", "256 KB/s (00:00-12:00)", True)
    assert told.waiting_bytes == 7 * MB
    assert told.used.endswith(" KB/s")
    assert 25 <= told.throttled_seconds <= 31
    host.now += 60
    (told,) = governor.health(7 * MB)
    assert (told.throttling, told.waiting_bytes) == (False, 0)


def test_a_new_configuration_takes_effect_at_once_and_forgives_no_debt() -> None:
    host = Host()
    governor = governed(host, bandwidth=limits.Bandwidth(default=100_000))
    governor.sent("bulk", 500_000)
    assert governor.send_wait("bulk", 0) == LOOK_SECONDS
    governor.use(rules_of(limits.Limits(bandwidth=limits.Bandwidth(default=110_000)), "UTC"))
    host.now += 1
    assert governor.send_wait("bulk", 0) == LOOK_SECONDS  # 4.5 s of debt, and 1 s is paid
    governor.use(rules_of(None, "UTC"))
    assert governor.send_wait("bulk", 0) == 0
    assert governor.health(0) == []


def test_other_windows_in_another_zone_hold_at_once() -> None:
    host = Host(wall=13 * 3600 * MB)  # 13:00 UTC, 14:00 in Berlin
    window = limits.BandwidthWindow(hours="12:00-13:30", limit=5000)
    given = limits.Limits(bandwidth=limits.Bandwidth(default=9000, windows=(window,)))
    governor = Governor(host.machine())
    governor.use(rules_of(given, "UTC"))
    assert governor.health(0)[0].limit == "5 KB/s (12:00-13:30)"
    governor.use(rules_of(given, "Europe/Berlin"))
    assert governor.health(0)[0].limit == "9 KB/s"


def test_memory_over_the_ceiling_is_given_back_first_and_slows_what_is_not_critical_if_that_was_not_enough() -> None:
    host = Host(resident=90 * MB, freed=20 * MB)
    governor = governed(host, memory=80 * MB)
    assert governor.read_wait("bulk") == (0.0, "")
    assert host.trims == 1
    host.freed, host.resident, host.now = 0, 95 * MB, host.now + 10
    pauses = []
    for _ in range(8):
        pauses.append(governor.read_wait("bulk")[0])
        assert governor.read_wait("critical") == (0.0, "")
        host.now += LOOK_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[0] > 0
    assert pauses[-1] == LOOK_SECONDS  # and no longer: it goes on, in steps
    (told,) = governor.health(0)
    assert (told.resource, told.limit, told.used, told.throttling) == ("memory", "80 MB", "95 MB", True)
    assert governor.complaints() == []
    host.now += 60
    (complaint,) = governor.complaints()
    assert complaint.startswith("the agent needs 95 MB of memory and its limit is 80 MB")
    assert "raise limits.memory" in complaint
    host.resident = 70 * MB
    for _ in range(8):
        host.now += LOOK_SECONDS
        governor.read_wait("bulk")
    assert governor.read_wait("bulk") == (0.0, "")
    assert governor.complaints() == []


def test_a_ceiling_shrinks_what_is_queued_and_under_way() -> None:
    governor = governed(Host(), memory=MEMORY_BASE_BYTES + 8 * MB)
    assert governor.queue_bytes == 2 * MB
    assert governor.send_wait("bulk", 2 * MB) > 0
    assert governor.send_wait("critical", 2 * MB) == 0
    assert governor.send_wait("bulk", 2 * MB - 1) == 0
    assert governed(Host(), memory=64 * MB).queue_bytes == max(MIN_PART_BYTES, 2 * MB)


def test_what_limits_allow_at_a_moment_is_one_sentence() -> None:
    window = limits.BandwidthWindow(hours="00:00-12:00", limit=None)
    bandwidth = limits.Bandwidth(default=256_000, windows=(window,))
    rules = rules_of(limits.Limits(bandwidth=bandwidth, cpu_percent=25, disk=5 * MB, memory=200 * MB), "UTC")
    assert describe(rules, 13 * 3600 * MB) == ("bandwidth 256 KB/s now, cpu 25 % of a core, disk 5 MB/s, memory 200 MB")
    assert describe(rules, 0).startswith("bandwidth unlimited (00:00-12:00) now")
    assert describe(rules_of(limits.Limits(disk_idle=True), "UTC"), 0) == "disk when idle"


def test_the_disk_class_is_set_when_it_changes_and_given_back() -> None:
    host = Host()
    governor = governed(host, disk_idle=True)
    governor.use(rules_of(limits.Limits(disk_idle=True), "UTC"))
    governor.use(rules_of(None, "UTC"))
    assert host.idle == [True, False]
