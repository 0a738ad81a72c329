"""Events sent again on purpose: exactly those that were chosen and counted, never an older version over a newer one."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.errors import Refused, SinkUnavailable
from crossdock_controller.commands import replay as commands
from crossdock_controller.judging import Policy
from crossdock_controller.line import Line
from crossdock_controller.replaying import AHEAD
from crossdock_controller.sinks.base import DONE, Outgoing, Verdict
from crossdock_controller.store import connection, dead_letters, replays, sinks
from crossdock_controller.store.replays import Chosen, Counts
from support.pipeline import Box, FakeRuntime, FakeSink, wait_for

NOW_US = 4_000_000_000_000_000
TESTS = Path(__file__).parents[1]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


class Served:
    """A sink and its line."""

    def __init__(self, box: Box, sink: FakeSink, name: str = "finance", policy: Policy | None = None) -> None:
        self.box, self.sink, self.name = box, sink, name
        self.number = sinks.sink_id(box.db, name)
        self.policy = policy or Policy()
        self.now_us = NOW_US
        self.begin()

    def begin(self) -> None:
        cursor = sinks.claim(self.box.db, self.number, "me", self.now_us)
        assert cursor is not None
        self.line = Line(
            self.box.db, self.number, self.name, self.sink, 100, "me", cursor, self.policy, rng=random.Random(1),
            clock_us=lambda: self.now_us,
        )  # fmt: skip

    def drain(self) -> None:
        while self.line.step():
            pass

    def sent(self) -> list[tuple[str, str]]:
        """(key, text) of what was applied since the last call."""
        found = [(d.key, d.body.split(b'"')[-2].decode()) for d in self.sink.applied]
        self.sink.applied.clear()
        return found


def send(box: Box, *records: str, to: str = "finance", source: str = "wms") -> None:
    box.send(*records, source=source, unit=source.encode())
    box.normalize(FakeRuntime(to))


def begin(box: Box, sink: str = "finance", *, dry_run: bool = False, rate: float = 0.0, **chosen: object) -> Counts:
    found = commands.replay_events(
        box.data,
        sink,
        Chosen(**chosen),
        "a test",
        by="local:anna",
        now_us=NOW_US,
        rate=rate,
        dry_run=dry_run,  # type: ignore[arg-type]
    )
    assert (found.replay is None) == (dry_run or not found.counts.send)
    return found.counts


def test_what_the_sink_has_is_left_out_unless_it_is_asked_for_again(box: Box) -> None:
    send(box, "A;1", "B;1", "A;2")
    served = Served(box, FakeSink())
    served.drain()
    served.sent()
    assert begin(box) == Counts(has_it=3)
    assert begin(box, again=True, dry_run=True) == Counts(send=2, older=1)
    served.drain()
    assert served.sent() == [], "a dry run sends nothing"
    assert begin(box, again=True) == Counts(send=2, older=1)
    assert box.account().delivered == 3
    served.drain()
    assert served.sent() == [("B", "1"), ("A", "2")], "the newest version of each key"
    found = commands.replay_show(box.data, 1)
    assert (found.state, found.queued, found.sent, found.open, found.older) == ("done", 2, 2, 0, 1)
    assert box.account().balanced
    assert box.account().delivered == 3


def test_every_version_is_sent_in_order_to_a_sink_that_keeps_history(box: Box) -> None:
    send(box, "A;1", "A;2", "B;1", "A;3")
    served = Served(box, FakeSink())
    served.drain()
    served.sent()
    assert begin(box, key="A", again=True, all_versions=True) == Counts(send=3)
    served.drain()
    assert served.sent() == [("A", "1"), ("A", "2"), ("A", "3")]


def test_an_old_window_never_takes_the_sink_back_behind_a_newer_version(box: Box) -> None:
    send(box, "A;1", "B;1")
    (until,) = box.db.execute("SELECT max(received_us) + 1 FROM inputs").fetchone()
    send(box, "A;2")
    box.db.execute("UPDATE inputs SET received_us = received_us + 5000000 WHERE id = 2")
    served = Served(box, FakeSink())
    served.drain()
    served.sent()
    assert begin(box, until_us=until, again=True) == Counts(send=1, older=1)
    served.drain()
    assert served.sent() == [("B", "1")]


def test_a_new_sink_gets_what_was_before_it_in_order_beside_what_comes(box: Box) -> None:
    send(box, "A;1", "A;2", "B;1", to="webshop")
    send(box, "A;3")
    served = Served(box, FakeSink())
    assert begin(box) == Counts(waiting=1), "no route ever sent the others here"
    assert begin(box, unrouted=True) == Counts(send=3, waiting=1)
    served.drain()
    keys = served.sent()
    assert [text for key, text in keys if key == "A"] == ["1", "2", "3"]
    assert sorted(keys) == [("A", "1"), ("A", "2"), ("A", "3"), ("B", "1")]


def test_dead_deliveries_of_one_cause_go_again_with_their_letters_settled(box: Box) -> None:
    send(box, "A;1", "B;1", "A;2", "C;1")
    refuse = {"A": Verdict("rejected", "http_400", "no"), "C": Verdict("rejected", "http_413", "too large")}
    sink = FakeSink(lambda d: refuse.get(d.key, DONE))
    served = Served(box, sink)
    served.drain()
    served.sent()
    assert begin(box, cause="http_400") == Counts(send=1)
    refuse.clear()
    served.drain()
    assert served.sent() == [("A", "1"), ("A", "2")], "what it held follows"
    (open_,) = dead_letters.list_all(box.db)
    assert open_.code == "http_413"
    retried = next(letter for letter in dead_letters.list_all(box.db, state=None) if letter.code == "http_400")
    assert (retried.state, retried.resolved_by, retried.note) == ("retried", "local:anna", "replay 1: a test")


def test_site_source_document_and_key_all_have_to_match(box: Box) -> None:
    send(box, "A;1", "B;1")
    send(box, "A;9", source="other")
    served = Served(box, FakeSink())
    served.drain()
    served.sent()
    for chosen, wanted in (
        ({"source": "other"}, 1), ({"key": "A"}, 1), ({"site": "atl1"}, 2), ({"site": "rtm1"}, 0),
        ({"document": "Shipment"}, 0), ({"document": "SalesOrder", "key": "B"}, 1),
        ({"key": "B", "source": "other"}, 0), ({"since_us": NOW_US}, 0),
    ):  # fmt: skip
        assert begin(box, again=True, dry_run=True, **chosen).send == wanted, chosen


def test_what_was_done_before_has_an_idempotency_key_of_the_replay_and_what_was_not_keeps_its_own(box: Box) -> None:
    send(box, "A;1")
    send(box, "B;1", to="webshop")
    seen: list[Outgoing] = []
    served = Served(box, FakeSink(lambda d: seen.append(d) or DONE))  # type: ignore[func-returns-value]
    served.drain()
    begin(box, again=True, unrouted=True)
    served.drain()
    assert [(d.key, d.replay) for d in seen] == [("A", 0), ("A", 1), ("B", 0)]


def test_a_replay_keeps_its_rate_and_is_cancelled_with_the_rest_as_it_was(box: Box) -> None:
    send(box, *[f"{i};1" for i in range(60)])
    served = Served(box, FakeSink())
    served.drain()
    served.sent()
    begin(box, again=True, rate=20.0)
    served.drain()
    assert len(served.sent()) == 20
    served.now_us += 1_000_000
    served.drain()
    assert len(served.sent()) == 20
    served.sink.down = SinkUnavailable("no route to host")
    served.now_us += 500_000
    served.drain()
    assert commands.replay_show(box.data, 1).open == 10
    cancelled = commands.replay_cancel(box.data, 1, by="local:ben", now_us=served.now_us)
    assert (cancelled.state, cancelled.ended_by, cancelled.open) == ("cancelled", "local:ben", 0)
    served.sink.down = None
    served.now_us += 60_000_000
    served.drain()
    assert served.sent() == []
    assert box.account().delivered == 60
    assert box.account().balanced
    with pytest.raises(Refused, match="is over: cancelled"):
        commands.replay_cancel(box.data, 1, by="local:ben", now_us=served.now_us)


def test_no_more_than_a_page_ahead_is_due_while_the_sink_takes_nothing(box: Box) -> None:
    for start in range(0, 2500, 500):
        box.send(*[f"{i};1" for i in range(start, start + 500)])
    box.normalize(FakeRuntime("finance"))
    served = Served(box, FakeSink())
    served.drain()
    served.sink.decide = lambda _d: Verdict("retry", "http_503", "later")
    begin(box, again=True)
    for _ in range(12):
        served.line.step()
        served.now_us += 40_000_000
    found = commands.replay_show(box.data, 1)
    assert found.state == "running"
    assert found.open <= AHEAD + replays.PAGE


def test_after_a_crash_between_any_two_steps_nothing_is_queued_twice_or_left_out(box: Box) -> None:
    send(box, *[f"{i};1" for i in range(500)])
    send(box, *[f"{i};2" for i in range(500)])
    served = Served(box, FakeSink())
    served.drain()
    served.sent()
    begin(box, again=True, rate=150.0)
    for _ in range(1000):
        if commands.replay_show(box.data, 1).state == "done" and not commands.replay_show(box.data, 1).open:
            break
        served.line.step()
        served.now_us += 300_000
        served.begin()  # as after kill -9: what was in memory is gone
    assert sorted(set(served.sent())) == sorted((str(i), "2") for i in range(500))
    found = commands.replay_show(box.data, 1)
    assert (found.queued, found.older, found.sent) == (500, 500, 500)


def test_a_replay_survives_the_death_of_its_dispatcher(box: Box, tmp_path: Path) -> None:
    send(box, *[f"{i};1" for i in range(400)])
    out = tmp_path / "out.txt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "support.dispatch_process", str(box.data.root), str(out), "0.001"]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    def lines() -> int:
        return out.read_bytes().count(b"\n") if out.exists() else 0

    process = start()
    wait_for(lambda: box.account().delivered == 400, "all is delivered")
    before = lines()
    begin(box, again=True)
    wait_for(lambda: lines() > before + 50, "the replay is under way")
    process.kill()
    process.wait(30)
    process = start()
    try:
        wait_for(lambda: commands.replay_show(box.data, 1).sent == 400, "it goes on by itself")
    finally:
        process.kill()
        process.wait(30)
    assert commands.replay_show(box.data, 1).state == "done"
    assert box.account().balanced


def test_what_cannot_be_meant_is_refused(box: Box) -> None:
    send(box, "A;1")
    with pytest.raises(Refused, match="needs a reason"):
        commands.replay_events(box.data, "finance", Chosen(), " ", by="me", now_us=1)
    with pytest.raises(Refused, match="no sink 'nobody'"):
        commands.replay_events(box.data, "nobody", Chosen(), "x", by="me", now_us=1)
    with pytest.raises(Refused, match="only again"):
        commands.replay_events(box.data, "finance", Chosen(all_versions=True), "x", by="me", now_us=1)
    with pytest.raises(Refused, match="there is no replay 7"):
        commands.replay_show(box.data, 7)
    with connection.snapshot(box.db):
        assert replays.newest(box.db, 10) == []
