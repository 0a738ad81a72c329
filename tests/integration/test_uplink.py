"""The uplink over real mutual TLS: nothing is forgotten before it is acknowledged, and order per source is kept."""

import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crossdock.lifecycle import Stop, Supervisor
from crossdock.retry import Backoff
from crossdock.siteconfig import OutboxConfig
from crossdock.v1 import link_pb2
from crossdock_agent import transfer
from crossdock_agent.outbox import Append, Outbox
from crossdock_agent.problems import Problems
from crossdock_agent.uplink import Uplink
from support.controller import FakeController

QUICK = Backoff(first_seconds=0.02, max_seconds=0.1)


@dataclass
class Site:
    outbox: Outbox
    uplink: Uplink
    problems: Problems
    supervisor: Supervisor

    def append(self, source: str, count: int = 1, lane: str = "standard", size: int = 10) -> None:
        writer = self.outbox.writer(source)
        for _ in range(count):
            payload = random.randbytes(size)
            writer.append(Append(source, lane, payload, zlib.crc32(payload), 1, size, 1, b"c"))
        writer.flush()


def eventually(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(0.005)


@pytest.fixture
def controller() -> Iterator[FakeController]:
    fake = FakeController().start()
    yield fake
    fake.stop()


@pytest.fixture
def site(controller: FakeController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(transfer, "PAUSE", Backoff(first_seconds=0.2, max_seconds=0.2))
    problems = Problems()
    with Outbox(tmp_path / "outbox.db", OutboxConfig(min_free_disk_bytes=0)) as outbox:
        uplink = Uplink(outbox, controller.identity(tmp_path), problems, random.Random(1))
        uplink.stream._backoff = QUICK
        supervisor = Supervisor(Stop())
        yield Site(outbox, uplink, problems, supervisor)
        supervisor.stop.set()
        assert supervisor.join(10) == []


def start(site: Site) -> None:
    site.uplink.welcomed()
    site.supervisor.start("uplink", site.uplink.run)


def empty(site: Site) -> bool:
    return site.outbox.stats().batches == 0


def test_everything_arrives_in_order_and_leaves_the_outbox(controller: FakeController, site: Site) -> None:
    start(site)
    for _ in range(5):
        site.append("wms", 20)
        site.append("erp", 10)
    eventually(lambda: empty(site), "the outbox is empty")
    assert controller.sequences("wms") == list(range(1, 101))
    assert controller.sequences("erp") == list(range(1, 51))
    assert len(controller.received) == 150  # none twice


def test_nothing_is_sent_before_the_welcome(controller: FakeController, site: Site) -> None:
    site.append("wms", 3)
    site.supervisor.start("uplink", site.uplink.run)
    assert not threading.Event().wait(0.3)
    assert controller.received == []
    site.uplink.welcomed()
    eventually(lambda: empty(site), "the outbox is empty")


def test_a_batch_appended_while_idle_is_sent_at_once(controller: FakeController, site: Site) -> None:
    start(site)
    site.append("wms")
    eventually(lambda: empty(site), "the stream is up")
    waits = []
    for _ in range(20):
        began = time.monotonic()
        site.append("wms")
        eventually(lambda: empty(site), "the batch is acknowledged")
        waits.append(time.monotonic() - began)
    assert sorted(waits)[10] < 0.1


def test_unacknowledged_batches_are_resent_after_a_reconnect_and_stored_once(
    controller: FakeController, site: Site
) -> None:
    controller.acknowledging.clear()
    start(site)
    site.append("wms", 30)
    controller.wait(lambda: len(controller.received) >= 1, "the first batches came")
    assert site.outbox.stats().batches == 30
    controller.cut()
    controller.wait(lambda: controller.received[-1].sequence == 1 and len(controller.received) > 1, "they come again")
    controller.acknowledging.set()
    eventually(lambda: empty(site), "the outbox is empty")
    assert controller.sequences("wms") == list(range(1, 31))
    assert len(controller.received) > 30


def test_the_backlog_of_an_outage_drains_when_the_controller_returns(controller: FakeController, site: Site) -> None:
    start(site)
    site.append("wms", 5)
    eventually(lambda: empty(site), "the first are through")
    controller.stop()
    site.append("wms", 50)
    eventually(lambda: site.uplink.stream.error, "the outage is noticed")
    controller.start()
    eventually(lambda: empty(site), "the backlog is through")
    assert controller.sequences("wms") == list(range(1, 56))


def test_streams_cut_at_random_moments_lose_and_double_nothing(controller: FakeController, site: Site) -> None:
    start(site)
    rng = random.Random(7)
    for _ in range(12):
        site.append("wms", 15, size=5000)
        site.append("erp", 5)
        threading.Event().wait(rng.random() * 0.05)  # the moment of the cut is what varies
        controller.cut()
    eventually(lambda: empty(site), "the outbox is empty")
    assert controller.sequences("wms") == list(range(1, 181))
    assert controller.sequences("erp") == list(range(1, 61))


def test_no_more_than_the_window_is_under_way(controller: FakeController, site: Site) -> None:
    talks: list[transfer.Transfer] = []
    make = site.uplink.stream._make_session
    site.uplink.stream._make_session = lambda: talks.append(make()) or talks[-1]  # type: ignore[func-returns-value]
    controller.acknowledging.clear()
    site.append("wms", 60, size=200_000)
    start(site)
    window = 2 * 1024 * 1024
    eventually(lambda: talks and talks[0]._window.bytes >= window, "the window is full")
    assert talks[0]._window.bytes <= window + 200_000
    assert talks[0]._flows["wms"].sent <= window // 200_000 + 1
    controller.acknowledging.set()
    eventually(lambda: empty(site), "the outbox is empty")


def test_fresh_critical_batches_do_not_wait_behind_a_backlog(controller: FakeController, site: Site) -> None:
    def hold(_batch: link_pb2.Batch) -> None:
        if len(controller.received) == 5:  # in the middle of the backlog, however fast it goes
            controller.acknowledging.clear()

    controller.answer = hold
    site.append("history", 60, "bulk", size=300_000)  # 18 MB: far more than a window
    start(site)
    controller.wait(lambda: len(controller.received) >= 5, "the backlog is being sent")
    site.append("orders", 3, "critical")
    controller.acknowledging.set()
    eventually(lambda: empty(site), "all is through", seconds=60)
    sources = [b.source for b in controller.received]
    assert len(sources) == 63
    assert (sources.index("orders") - 5) * 300_000 < 10 * 1024 * 1024
    assert sources[-1] == "history"  # the last of them came before the end of the backlog


def test_after_a_gap_the_uplink_goes_back_to_what_is_expected(controller: FakeController, site: Site) -> None:
    dropped: list[int] = []

    def drop_once(batch: link_pb2.Batch) -> link_pb2.Ack | None:
        if batch.sequence == 4 and not dropped:
            dropped.append(4)
            return link_pb2.Ack()  # as if it had never come
        return None

    controller.answer = drop_once
    site.append("wms", 20)
    start(site)
    eventually(lambda: empty(site), "the outbox is empty")
    assert controller.sequences("wms") == list(range(1, 21))
    assert site.problems.sentences() == []


def test_a_batch_that_arrived_damaged_is_resent_once_without_a_word(controller: FakeController, site: Site) -> None:
    damaged: list[int] = []

    def damage_once(batch: link_pb2.Batch) -> link_pb2.Ack | None:
        if batch.sequence == 2 and not damaged:
            damaged.append(2)
            return refusal(batch, "checksum")
        return None

    controller.answer = damage_once
    site.append("wms", 6)
    start(site)
    eventually(lambda: empty(site), "the outbox is empty")
    assert controller.sequences("wms") == [1, 2, 3, 4, 5, 6]
    assert site.problems.sentences() == []


def test_a_batch_damaged_twice_is_a_problem_and_other_sources_go_on(controller: FakeController, site: Site) -> None:
    broken = threading.Event()
    broken.set()
    controller.answer = lambda batch: refusal(batch, "checksum") if batch.source == "wms" and broken.is_set() else None
    site.append("wms", 2)
    site.append("erp", 5)
    start(site)
    eventually(lambda: any("damaged twice" in s for s in site.problems.sentences()), "the problem is reported")
    site.append("erp", 5)
    eventually(lambda: controller.sequences("erp") == list(range(1, 11)), "the other source went on")
    assert site.outbox.positions()["wms"].batches == 2
    broken.clear()
    eventually(lambda: empty(site), "it is tried again and gets through")
    eventually(lambda: not site.problems.sentences(), "the problem is gone")


def test_a_refused_source_pauses_is_reported_and_resumes(controller: FakeController, site: Site) -> None:
    unknown = threading.Event()
    unknown.set()
    controller.answer = lambda batch: (
        refusal(batch, "unknown_source") if batch.source == "wms" and unknown.is_set() else None
    )
    site.append("wms", 10)
    start(site)
    eventually(lambda: any("unknown_source" in s for s in site.problems.sentences()), "the problem is reported")
    site.append("erp", 3)
    eventually(lambda: controller.sequences("erp") == [1, 2, 3], "the other source goes on")
    unknown.clear()
    eventually(lambda: empty(site), "the source resumed")
    assert controller.sequences("wms") == list(range(1, 11))


def test_a_controller_that_expects_what_it_had_acknowledged_gets_it_again(
    controller: FakeController, site: Site
) -> None:
    start(site)
    site.append("wms", 5)
    eventually(lambda: empty(site), "the first are through")
    first = [b.sealed for b in controller.received]
    with controller.changed:
        controller.stored.clear()  # restored from an old backup, and no welcome came between
    site.append("wms", 2)
    eventually(lambda: empty(site), "all is through again")
    assert controller.sequences("wms") == [1, 2, 3, 4, 5, 6, 7]
    assert [b.sealed for b in next(iter(controller.stored.values()))[:5]] == first
    assert site.problems.sentences() == []


def test_a_controller_that_expects_what_is_not_kept_any_more_is_a_loud_problem_and_nothing_is_deleted(
    controller: FakeController, site: Site
) -> None:
    site.outbox.set_limits(OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_hours=0))
    start(site)
    site.append("wms", 5)
    eventually(lambda: empty(site), "the first are through")
    with controller.changed:
        controller.stored.clear()
    site.append("wms", 2)
    eventually(lambda: any("expects batch 1" in s for s in site.problems.sentences()), "it is reported")
    assert site.outbox.stats().batches == 2


def test_a_damaged_batch_in_the_outbox_ends_the_uplink_and_tells_the_owner(
    controller: FakeController, tmp_path: Path
) -> None:
    told: list[Exception] = []
    path = tmp_path / "damaged.db"
    payload = b"A" * 50_000
    with Outbox(path, OutboxConfig(min_free_disk_bytes=0)) as outbox:
        writer = outbox.writer("wms")
        writer.append(Append("wms", "standard", payload, zlib.crc32(payload), 1, 1, 1, b"c"))
        writer.flush()
    data = path.read_bytes()
    place = data.index(b"A" * 4000) + 2000
    path.write_bytes(data[:place] + b"B" + data[place + 1 :])
    with Outbox(path, OutboxConfig(min_free_disk_bytes=0), on_corrupt=told.append) as outbox:
        uplink = Uplink(outbox, controller.identity(tmp_path), Problems(), random.Random(1))
        supervisor = Supervisor(Stop())
        uplink.welcomed()
        supervisor.start("uplink", uplink.run)
        eventually(lambda: told, "the damage is reported")
        supervisor.stop.set()
        assert supervisor.join(10) == []
    assert controller.received == []


def test_a_conflict_ends_the_outbox_because_it_is_not_the_one_that_was_sent_from(
    controller: FakeController, tmp_path: Path
) -> None:
    told: list[Exception] = []
    controller.answer = lambda batch: refusal(batch, "conflict")
    with Outbox(tmp_path / "old.db", OutboxConfig(min_free_disk_bytes=0), on_corrupt=told.append) as outbox:
        supervisor = Supervisor(Stop())
        site = Site(
            outbox, Uplink(outbox, controller.identity(tmp_path), Problems(), random.Random(1)), Problems(), supervisor
        )
        site.append("wms", 3)
        start(site)
        eventually(lambda: told, "the owner is told")
        supervisor.stop.set()
        assert supervisor.join(10) == []
    assert "source wms: the controller has batch 1 with other content" in str(told[0])


def refusal(batch: link_pb2.Batch, code: str) -> link_pb2.Ack:
    refused = link_pb2.Refused(
        source=batch.source, epoch=batch.epoch, sequence=batch.sequence, code=code, reason="as the test wants"
    )
    return link_pb2.Ack(refused=[refused])
