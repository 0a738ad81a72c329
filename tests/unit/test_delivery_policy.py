"""What a sink's policy does to what is due: lanes, rate, supersede, time to live, versions, pause and drain."""

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.errors import Refused, SinkUnavailable
from crossdock_controller.commands import sinks as commands
from crossdock_controller.judging import Policy
from crossdock_controller.line import Line
from crossdock_controller.sinks.base import DONE, Outgoing, Verdict
from crossdock_controller.store import connection, dead_letters, sinks
from support.pipeline import Box, FakeRuntime, FakeSink

HOUR_US = 3_600_000_000
NOW_US = 4_000_000_000_000_000  # later than anything the box receives


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


class At:
    """A line whose clock a test moves."""

    def __init__(self, box: Box, sink: FakeSink, policy: Policy | None = None, size: int = 10) -> None:
        self.now_us = NOW_US
        number = sinks.sink_id(box.db, "finance")
        cursor = sinks.claim(box.db, number, "me", self.now_us)
        assert cursor is not None
        self.line = Line(
            box.db, number, "finance", sink, size, "me", cursor, policy or Policy(), rng=random.Random(1),
            clock_us=lambda: self.now_us,
        )  # fmt: skip
        self.number = number

    def drain(self) -> None:
        while self.line.step():
            pass

    def later(self, seconds: float) -> None:
        self.now_us += int(seconds * 1_000_000)
        self.drain()


def send(box: Box, *records: str, lane: str = "standard", source: str = "wms") -> None:
    box.send(*records, lane=lane, source=source, unit=source.encode())
    box.normalize(FakeRuntime("finance"))


def test_what_is_critical_goes_before_a_backlog_and_bulk_goes_on_beside_it(box: Box) -> None:
    send(box, *[f"bulk{i};t" for i in range(300)], lane="bulk", source="history")
    send(box, *[f"now{i};t" for i in range(15)], lane="critical", source="orders")
    sink = FakeSink()
    at = At(box, sink)
    at.line.step()
    at.line.step()
    keys = sink.keys()
    assert [key for key in keys if key.startswith("now")] == [f"now{i}" for i in range(15)]
    assert len(keys) < 40, "and bulk had its turns"
    assert any(key.startswith("bulk") for key in keys)
    at.drain()
    assert len(sink.keys()) == 315
    assert box.account("history").balanced
    assert box.account("orders").delivered == 15


def test_a_critical_version_takes_the_earlier_ones_of_its_key_with_it_and_in_order(box: Box) -> None:
    send(box, *[f"bulk{i};t" for i in range(200)], "K;1", "K;2", *[f"tail{i};t" for i in range(100)], source="history")
    send(box, "K;3", lane="critical", source="orders")
    send(box, "K;4", source="history")
    sink = FakeSink()
    at = At(box, sink)
    at.line.step()
    assert [(d.key, d.body) for d in sink.applied[:3]] == [("K", b'{"number":"K","text":"%d"}' % n) for n in (1, 2, 3)]
    at.drain()
    assert [d.body[-3:-2] for d in sink.applied if d.key == "K"] == [b"1", b"2", b"3", b"4"]


def test_what_was_sent_and_is_not_persisted_may_become_urgent_meanwhile(box: Box) -> None:
    send(box, *[f"bulk{i};t" for i in range(8)], "K;1", source="history")
    sink = FakeSink()
    at = At(box, sink, size=9)
    with closing(connection.connect(box.data.state)) as other:
        other.execute("BEGIN IMMEDIATE")  # somebody writes: the line persists what it sent when that is over
        at.line.step()
        other.execute("ROLLBACK")
    assert len(sink.applied) == 9
    assert box.account("history").delivered == 0
    send(box, *[f"tail{i};t" for i in range(200)], source="history")
    send(box, "K;2", lane="critical", source="orders")
    at.drain()
    assert [d.body[-3:-2] for d in sink.applied if d.key == "K"] == [b"1", b"2"]
    assert box.account("history").delivered == 209


def test_no_more_than_the_rate_is_sent(box: Box) -> None:
    send(box, *[f"{i};t" for i in range(100)])
    sink = FakeSink()
    at = At(box, sink, Policy(rate=20.0), size=100)
    at.drain()
    assert len(sink.applied) == 20
    assert 0 < at.line.seconds_to_wait(10.0) <= 10.0
    at.later(1.0)
    assert len(sink.applied) == 40
    at.later(0.5)
    assert len(sink.applied) == 50


def test_of_stock_only_the_newest_version_is_sent_and_the_others_count_as_superseded(box: Box) -> None:
    send(box, *[f"K{i % 3};{i}" for i in range(30)])
    sink = FakeSink()
    At(box, sink, Policy(supersede=frozenset({"SalesOrder"})), size=100).drain()
    assert [d.body for d in sink.applied] == [b'{"number":"K%d","text":"%d"}' % (i % 3, i) for i in (27, 28, 29)]
    account = box.account()
    assert (account.delivered, account.superseded, account.pending) == (3, 27, 0)
    assert account.balanced


def test_a_newer_version_takes_the_place_of_one_that_failed_or_died_and_of_those_held_behind_it(box: Box) -> None:
    refuse = {b"1": Verdict("retry", "http_500", "later"), b"3": Verdict("rejected", "http_400", "no")}
    sink = FakeSink(lambda d: refuse.get(d.body[-3:-2], DONE))
    at = At(box, sink, Policy(supersede=frozenset({"SalesOrder"})), size=1)
    send(box, "K;1")
    at.drain()
    send(box, "K;2")
    send(box, "K;3")
    at.later(10.0)
    (letter,) = dead_letters.list_all(box.db)
    assert letter.code == "http_400"
    send(box, "K;4")
    at.later(10.0)
    assert [d.body[-3:-2] for d in sink.applied] == [b"4"]
    assert dead_letters.list_all(box.db) == []
    settled = dead_letters.get(box.db, letter.id)
    assert (settled.resolved_by, settled.note) == ("crossdock", "superseded by a newer version of its key")
    assert (box.account().delivered, box.account().superseded, box.account().dead) == (1, 3, 0)


def test_the_newest_that_is_refused_is_a_dead_letter_though_older_ones_were_superseded(box: Box) -> None:
    send(box, "K;1", "K;2")
    sink = FakeSink(lambda _d: Verdict("rejected", "http_400", "no"))
    At(box, sink, Policy(supersede=frozenset({"SalesOrder"}))).drain()
    assert (box.account().superseded, box.account().dead) == (1, 1)


def test_what_is_too_old_becomes_a_dead_letter_and_holds_nobody(box: Box) -> None:
    send(box, "K;1", "L;1")
    sink = FakeSink()
    at = At(box, sink, Policy(ttl_us={"SalesOrder": 4 * HOUR_US}))
    at.now_us = _received_us(box) + 5 * HOUR_US
    at.drain()
    assert sink.applied == []
    first, second = sorted(dead_letters.list_all(box.db), key=lambda letter: letter.id)
    assert first.code == second.code == "expired"
    assert "received 5.0 h ago" in first.reason
    assert box.account().dead == 2
    at.now_us = _received_us(box) + HOUR_US
    send(box, "K;2")
    at.drain()
    assert [d.body[-3:-2] for d in sink.applied] == [b"2"]
    at.now_us += 5 * HOUR_US
    with pytest.raises(Refused, match="has a newer version"):
        dead_letters.retry_delivery(box.db, first, "me", "", at.now_us)
    dead_letters.discard(box.db, first, "me", "", at.now_us)
    dead_letters.retry_delivery(box.db, second, "me", "", at.now_us)  # late, on purpose: it does not expire again
    at.drain()
    assert [d.key for d in sink.applied] == ["K", "L"]
    assert box.account().balanced
    assert (box.account().delivered, box.account().discarded) == (2, 1)


def test_a_form_that_nothing_leads_to_is_a_dead_letter_with_its_reason(box: Box) -> None:
    send(box, "K;1", "L;1")
    box.db.execute("UPDATE events SET version = 9 WHERE key = 'K'")
    sink = FakeSink()
    At(box, sink, Policy(versions={"SalesOrder": 1})).drain()
    assert [(d.key, d.version) for d in sink.applied] == [("L", 1)]
    (letter,) = dead_letters.list_all(box.db)
    assert letter.code == "newer_version"
    assert "version 9, and nothing leads to 1" in letter.reason


@pytest.mark.parametrize(("stored", "pinned"), [(2, 1), (1, 2), (2, 2)])
def test_a_sink_gets_the_version_that_it_pinned(box: Box, stored: int, pinned: int) -> None:
    send(box, "K;1")
    box.db.execute("UPDATE events SET version = ?", (stored,))
    sink = FakeSink()
    At(box, sink, Policy(versions={"SalesOrder": pinned})).drain()
    (delivery,) = sink.applied
    assert delivery.version == pinned
    assert (b'"kind":"sales"' in delivery.body) == (pinned < stored)


def test_a_sink_is_drained_of_what_was_due_and_is_paused_then(box: Box) -> None:
    send(box, *[f"{i};t" for i in range(25)], "later;t")
    sink = FakeSink(lambda d: Verdict("retry", "http_500", "no") if d.key == "later" else DONE)
    at = At(box, sink)
    details = commands.drain(box.data, "finance", "moving house", by="local:anna", now_us=NOW_US)
    assert details.view.draining
    assert (details.drain_left, details.drain_total) == (26, 26)
    at.line.step()
    at.line.save()
    assert commands.sinks_show(box.data, "finance", now_us=NOW_US).drain_left == 16
    send(box, *[f"new{i};t" for i in range(5)])
    at.drain()
    view = commands.sinks_show(box.data, "finance", now_us=NOW_US).view
    assert (view.paused, view.draining) == (True, False)
    assert (view.said_by, view.said_because, view.said_us) == ("local:anna", "moving house", NOW_US)
    assert len(sink.applied) == 25
    assert (view.pending, view.retrying) == (5, 1), "what came later, and what was put off, waits"
    commands.resume(box.data, "finance", "", by="local:anna", now_us=NOW_US)
    at.drain()
    assert len(sink.applied) == 30


def test_a_sink_that_is_down_is_drained_once_it_is_back(box: Box) -> None:
    send(box, *[f"{i};t" for i in range(5)])
    sink = FakeSink()
    sink.down = SinkUnavailable("no route to host")
    at = At(box, sink)
    commands.drain(box.data, "finance", "", by="local:anna", now_us=NOW_US)
    at.drain()
    assert commands.sinks_show(box.data, "finance", now_us=NOW_US).circuit == "open"
    sink.down = None
    at.later(60.0)
    at.drain()
    assert commands.sinks_show(box.data, "finance", now_us=NOW_US).view.paused
    assert len(sink.applied) == 5


def test_a_sink_that_nobody_knows_is_refused_by_name(box: Box) -> None:
    with pytest.raises(Refused, match="there is no sink 'nobody'"):
        commands.pause(box.data, "nobody", "", by="local:anna", now_us=1)
    assert box.db.execute("SELECT count(*) FROM sinks").fetchone() == (0,)


def _received_us(box: Box) -> int:
    found: int = box.db.execute("SELECT max(received_us) FROM inputs").fetchone()[0]
    return found


def test_every_delivery_has_the_version_of_its_form(box: Box) -> None:
    seen: list[Outgoing] = []
    send(box, "K;1")
    At(box, FakeSink(lambda d: seen.append(d) or DONE)).drain()  # type: ignore[func-returns-value]
    assert [d.version for d in seen] == [1]
