"""The agent as a whole inside its limits: measured on the line, on the disk and in CPU time, changed while it runs."""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from crossdock import limits, siteconfig
from crossdock.errors import ConfigError
from crossdock.siteconfig import OutboxConfig, SourceConfig
from crossdock.v1 import link_pb2
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_agent import health
from crossdock_agent.identity import IdentityStore
from crossdock_agent.limits import Governor, Machine, rules_of
from crossdock_agent.limits.bucket import BURST_SECONDS
from crossdock_agent.limits.governor import on_the_wire
from crossdock_agent.limits.resources import WRITE_FACTOR
from crossdock_agent.outbox import Append, Outbox, Writer
from crossdock_agent.pump import Pump
from crossdock_agent.pumps import build_source
from crossdock_agent.sources import base
from crossdock_agent.status import LimitStatus
from support import sources
from support.agents import RunningAgent, eventually, helpers_in_process, site_config
from support.controller import FakeController
from support.relay import Relay
from support.sources import config, reel

LINE = 20_000  # bytes
KB, MB = 1000, 10**6


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WRITE_SECONDS", 0.05)
    helpers_in_process(monkeypatch)
    sources.install()


@pytest.fixture
def controller() -> Iterator[FakeController]:
    fake = FakeController().start()
    yield fake
    fake.stop()


def noise(count: int, size: int = LINE) -> list[bytes]:
    """Lines that no compression makes smaller."""
    rng = random.Random(3)
    return [rng.randbytes(size).replace(b"\n", b" ") for _ in range(count)]


def bandwidth(rate: int | None, *windows: tuple[str, int | None]) -> limits.Limits:
    found = tuple(limits.BandwidthWindow(hours=hours, limit=limit) for hours, limit in windows)
    return limits.Limits(bandwidth=limits.Bandwidth(default=rate, windows=found))


@contextmanager
def behind_a_relay(controller: FakeController, state: Path) -> Iterator[Relay]:
    """The agent's way to the controller leads over a relay that counts."""
    store = controller.identity(state)
    identity = store.current()
    with Relay(identity.link_address) as relay:
        key = IdentityStore(state).key()
        store.save(msgspec.structs.replace(identity, link_address=f"127.0.0.1:{relay.port}"), key)
        yield relay


def limit_of(agent: RunningAgent, resource: str) -> LimitStatus | None:
    status = agent.status()
    return next((limit for limit in status.limits if limit.resource == resource), None) if status else None


def arrived(controller: FakeController, source: str) -> int:
    return sum(len(kept) for (name, _), kept in controller.stored.items() if name == source)


def heartbeats(controller: FakeController) -> list[link_pb2.Heartbeat]:
    return [r.heartbeat for r in controller.reports if r.WhichOneof("kind") == "heartbeat"]


def test_the_line_carries_no_more_than_the_bandwidth_and_a_new_revision_changes_it_on_the_same_streams(
    controller: FakeController, tmp_path: Path
) -> None:
    rate, half, whole = 100 * KB, 20, 800
    reel("wms").lines = noise(whole)  # 16 MB: two minutes and a half at this rate
    controller.offer(site_config(1, config("wms"), limits=bandwidth(rate)), 1)
    with behind_a_relay(controller, tmp_path / "state") as relay, RunningAgent(tmp_path / "state") as agent:
        controller.wait(lambda: arrived(controller, "wms") >= 1, "it flows")
        began, before = time.monotonic(), relay.sent()
        controller.wait(lambda: arrived(controller, "wms") >= half, "a part of it is through")
        seconds, sent = time.monotonic() - began, relay.sent() - before
        assert sent >= half * LINE / 2  # some were on their way before
        assert sent <= 1.1 * rate * seconds + BURST_SECONDS * rate + 4 * LINE
        assert seconds <= 40  # 4 s with nothing else to do: it is not slowed more than asked
        eventually(lambda: (told := limit_of(agent, "bandwidth")) and told.throttling, "the status says so")
        told = limit_of(agent, "bandwidth")
        assert told is not None
        assert told.limit == "100 KB/s"
        assert told.waiting_bytes >= LINE
        controller.wait(lambda: any(b.limits and b.limits[0].throttling for b in heartbeats(controller)), "a heartbeat")

        streams = relay.connections
        controller.offer(site_config(2, config("wms")), 2)
        controller.wait(lambda: arrived(controller, "wms") == whole, "the rest is through, at more than the rate")
        assert relay.connections == streams
        assert len(controller.received) == whole  # and nothing was sent again
        counted = sum(on_the_wire(len(batch.sealed)) for batch in controller.received)
        assert relay.sent() == pytest.approx(counted, rel=0.01)  # what is counted is what the line carries
        eventually(lambda: limit_of(agent, "bandwidth") is None, "the status no longer speaks of it")


def test_critical_records_pass_a_backlog_that_the_limit_holds_back(controller: FakeController, tmp_path: Path) -> None:
    reel("bulk").lines = noise(400)  # 8 MB: half an hour
    reel("alerts").lines = []
    both = [config("bulk", lane="bulk"), config("alerts", lane="critical", poll=0.02)]
    controller.identity(tmp_path / "state")
    controller.offer(site_config(1, *both, limits=bandwidth(5 * KB)), 1)
    with RunningAgent(tmp_path / "state") as agent:
        eventually(lambda: (told := limit_of(agent, "bandwidth")) and told.throttling, "the limit holds bulk back")
        began, at = time.monotonic(), arrived(controller, "bulk")
        for number in range(1, 7):  # 24 s of the whole rate: critical records borrow it
            reel("alerts").lines = [*reel("alerts").lines, noise(1)[0]]
            controller.wait(lambda n=number: arrived(controller, "alerts") == n, "the critical record is through")
        assert time.monotonic() - began < 15
        assert arrived(controller, "bulk") <= at + 1  # ... and bulk pays for it
        assert controller.sequences("alerts") == list(range(1, 7))


def test_a_window_that_holds_now_is_named_with_its_hours(controller: FakeController, tmp_path: Path) -> None:
    reel("wms").lines = noise(100)
    controller.identity(tmp_path / "state")
    all_day = ("mon-fri 00:00-24:00", 50 * KB), ("sat,sun 00:00-24:00", 50 * KB)
    controller.offer(site_config(1, config("wms"), zone="America/New_York", limits=bandwidth(None, *all_day)), 1)
    with RunningAgent(tmp_path / "state") as agent:
        eventually(lambda: (told := limit_of(agent, "bandwidth")) and told.throttling, "the limit holds it back")
        told = limit_of(agent, "bandwidth")
        assert told is not None
        assert told.limit in {"50 KB/s (mon-fri 00:00-24:00)", "50 KB/s (sat,sun 00:00-24:00)"}


def test_a_zone_that_the_machine_does_not_know_refuses_the_revision(controller: FakeController, tmp_path: Path) -> None:
    controller.identity(tmp_path / "state")
    wrong = site_config(1, config("wms"), zone="Mars/Olympus", limits=bandwidth(None, ("08:00-18:00", 5000)))
    controller.offer(wrong, 1)
    with RunningAgent(tmp_path / "state"):
        controller.wait(lambda: (1, "failed") in controller.statuses(), "it is refused")
    reasons = [r.config.reason for r in controller.reports if r.WhichOneof("kind") == "config"]
    assert "limits: this machine does not know the time zone 'Mars/Olympus'" in reasons[-1]


def test_limits_of_a_revision_that_fails_do_not_stay(controller: FakeController, tmp_path: Path) -> None:
    controller.identity(tmp_path / "state")
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(tmp_path / "state") as agent:
        controller.wait(lambda: (1, "applied") in controller.statuses(), "it runs")
        reel("late").failure = ConfigError("source late: its first pass shows that it is wrong")
        wrong = [config("wms"), config("late")]
        spent = limits.Limits(cpu_percent=0.001, bandwidth=limits.Bandwidth(default=5 * KB))  # in debt at once
        controller.offer(site_config(2, *wrong, limits=spent), 2)
        controller.wait(lambda: (2, "failed") in controller.statuses(), "it is refused")
        eventually(
            lambda: (status := agent.status()) and len(status.sources) == 1 and not status.limits, "it runs as before"
        )
        reel("wms").lines = noise(40)  # 800 KB: nearly three minutes under the limit
        controller.wait(lambda: arrived(controller, "wms") == 40, "and as fast")


@contextmanager
def reading(
    directory: Path, given: limits.Limits, source: SourceConfig, machine: Machine
) -> Iterator[tuple[Pump, Outbox]]:
    """A real pump and a real outbox under limits, and nothing that sends."""
    governor = Governor(machine)
    governor.use(rules_of(given, "UTC"))
    with Outbox(directory / "outbox.db", OutboxConfig(min_free_disk_bytes=0)) as outbox:
        pump = Pump(source, 1, outbox, lambda text: text, build_source, random.Random(1), gate=governor)
        pump.start()
        try:
            yield pump, outbox
        finally:
            assert pump.stop()


class Furnace(msgspec.Struct, frozen=True):
    """Settings of a source that needs a whole core, for ever."""


class FurnaceSource(sources.TapeSource):
    def __init__(self, _settings: Furnace, context: base.SourceContext) -> None:
        super().__init__(sources.Tape("furnace"), context)

    def read(self, checkpoint: bytes | None) -> Iterator[base.Draft]:
        at = int(checkpoint or b"0")
        while True:
            at += 1
            until = time.thread_time() + 0.01
            while time.thread_time() < until:
                zlib.crc32(b"x" * 10_000)
            yield base.Draft(BatchHeader(format="jsonl", records=1, checkpoint=b"%d" % at), b"line %d" % at)


def test_reading_stays_inside_its_share_of_a_core(tmp_path: Path) -> None:
    base.register("furnace", Furnace, FurnaceSource)
    furnace = SourceConfig(name="furnace", kind="furnace", settings={})
    spent, began = time.process_time(), time.monotonic()
    with reading(tmp_path, limits.Limits(cpu_percent=2), furnace, Machine()) as (pump, outbox):
        eventually(lambda: pump.progress.throttled_by == "cpu", "it is held back")
        assert not threading.Event().wait(3.0)  # not a synchronisation: the time over which is measured
        used, seconds = time.process_time() - spent, time.monotonic() - began
        assert pump.progress.state in {"throttled", "running"}
        eventually(lambda: outbox.stats().records >= 1, "and reads all the same")
    # the burst, one piece of work, and what the test itself needs
    assert used <= 0.02 * seconds + 0.02 * BURST_SECONDS + 0.35 + 0.02 * seconds


def test_reading_writes_no_more_to_the_disk_than_its_limit(tmp_path: Path) -> None:
    reel("scans").lines = noise(600)
    given, began = limits.Limits(disk=1 * MB), time.monotonic()
    with reading(tmp_path, given, config("scans"), Machine()) as (pump, outbox):
        eventually(lambda: outbox.stats().bytes > 1 * MB, "it goes on")
        seconds, stored = time.monotonic() - began, outbox.stats().bytes
        assert pump.progress.throttled_by == "disk"
        assert pump.counters.snapshot()["throttled_seconds"] >= 1
    assert stored * WRITE_FACTOR <= 1 * MB * (seconds + BURST_SECONDS) + 4 * LINE * WRITE_FACTOR


def test_under_a_limit_of_the_disk_the_outbox_writes_in_small_strokes(
    controller: FakeController, tmp_path: Path
) -> None:
    """The log, as far as SQLite let it grow, is what it then writes into the file at once."""
    controller.identity(tmp_path / "state")
    reel("scans").lines = noise(300)  # 6 MB
    controller.acknowledging.clear()
    controller.offer(site_config(1, config("scans"), limits=limits.Limits(disk=8 * MB)), 1)
    with RunningAgent(tmp_path / "state") as agent:
        eventually(lambda: (status := agent.status()) and status.outbox_batches == 300, "all is in the outbox")
        log = (tmp_path / "state" / "outbox.db-wal").stat().st_size
        assert log <= 7.5 * MB  # 4 MB and one commit; over 9 MB without
        controller.acknowledging.set()


def test_a_source_that_is_held_back_stops_at_once_and_loses_nothing(tmp_path: Path) -> None:
    reel("scans").lines = noise(200)
    with reading(tmp_path, limits.Limits(disk=300 * KB), config("scans"), Machine()) as (pump, outbox):
        eventually(lambda: outbox.stats().batches and pump.progress.state == "throttled", "it is held back")
        began = time.monotonic()
        assert pump.stop()
        assert time.monotonic() - began < 5
        kept = outbox.stats().batches
        assert outbox.checkpoint("scans") == b"%d" % kept
    with reading(tmp_path, limits.Limits(), config("scans"), Machine()) as (_, outbox):
        eventually(lambda: outbox.stats().batches == 200, "the rest is read")


def test_batches_of_all_sources_that_wait_for_their_commit_stay_inside_their_share_of_the_memory(
    tmp_path: Path,
) -> None:
    with Outbox(tmp_path / "outbox.db", OutboxConfig(min_free_disk_bytes=0)) as outbox:
        outbox.set_queue(100 * KB)
        held, go_on = threading.Event(), threading.Event()

        def slow_disk(_store: object) -> None:
            held.set()
            go_on.wait(30)

        threads = [threading.Thread(target=lambda: outbox._group.call(slow_disk))]
        writers = [outbox.writer(f"s{number}") for number in range(5)]
        threads += [threading.Thread(target=append, args=(writer,)) for writer in writers]
        threads[0].start()
        assert held.wait(30)
        for thread in threads[1:]:
            thread.start()
        eventually(lambda: all(writer.queued >= 1 for writer in writers), "each has one, and no more fit")
        assert outbox._group.queued_bytes <= 100 * KB + len(writers) * LINE
        go_on.set()
        for thread in threads:
            thread.join(30)
        eventually(lambda: outbox.stats().batches == 5 * 20, "all are committed")


def append(writer: Writer) -> None:
    for payload in noise(20):
        writer.append(Append(writer.source, "bulk", payload, zlib.crc32(payload), 1, len(payload), 1, b"c"))


def test_an_agent_without_limits_gets_a_part_that_an_older_one_reads() -> None:
    plain = msgspec.json.decode(site_config(1, config("wms")))
    assert "limits" not in plain
    limited = siteconfig.decode(site_config(1, config("wms"), limits=limits.Limits(cpu_percent=25)))
    assert limited.limits == limits.Limits(cpu_percent=25)
