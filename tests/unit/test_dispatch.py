"""From events to sinks: only a sink's own word closes a delivery, whoever dies, hangs or answers badly."""

import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.errors import ConfigError, Refused, SinkUnavailable
from crossdock.lifecycle import Stop
from crossdock_controller import letters
from crossdock_controller.dispatch import Dispatcher, SinkDef
from crossdock_controller.judging import Policy
from crossdock_controller.line import Line
from crossdock_controller.sinks.base import DONE, Outgoing, Sink, Verdict
from crossdock_controller.store import connection, dead_letters, leases, sinks
from crossdock_controller.store.trace import trace
from support.dispatch_process import Definition, Runtime
from support.pipeline import Box, FakeRuntime, FakeSink, wait_for

TESTS = Path(__file__).parents[1]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


def line(
    box: Box, sink: Sink, *, size: int = 100, clock: list[int] | None = None, policy: Policy | None = None
) -> Line:
    number = sinks.sink_id(box.db, "finance")
    now = clock if clock is not None else [2_000_000_000_000_000]
    cursor = sinks.claim(box.db, number, "me", now[0])
    assert cursor is not None
    ready = Line(box.db, number, "finance", sink, size, "me", cursor, policy or Policy(), rng=random.Random(1))
    ready.clock_us = lambda: now[0]
    return ready


def drain(ready: Line) -> None:
    while ready.step():
        pass


def filled(box: Box, n: int, *sinks_: str) -> None:
    for start in range(0, n, 500):
        box.send(*[f"{i};t" for i in range(start, min(n, start + 500))])
    box.normalize(FakeRuntime(*sinks_))


class Running:
    """A Dispatcher on a thread, with sinks by name."""

    def __init__(self, box: Box, made: dict[str, FakeSink], *, size: int = 50) -> None:
        self.stop = Stop()
        self.runtime = Runtime(*made)
        self.started = threading.Event()

        def open_sink(name: str, _definition: SinkDef) -> tuple[Sink, int]:
            return made[name], size

        def work() -> None:
            dispatcher = Dispatcher(box.data, lambda _tree, _number: self.runtime, open_sink)
            self.started.set()
            dispatcher.run(self.stop)
            dispatcher.close()

        self._thread = threading.Thread(target=work)

    def __enter__(self) -> "Running":
        self._thread.start()
        assert self.started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_everything_that_is_due_is_delivered_in_order_to_every_sink(box: Box) -> None:
    filled(box, 1200, "finance", "webshop")
    made = {"finance": FakeSink(), "webshop": FakeSink()}
    with Running(box, made):
        wait_for(lambda: box.account().delivered == 1200, "all is delivered")
    assert made["finance"].keys() == made["webshop"].keys() == [str(i) for i in range(1200)]
    assert box.account().balanced
    assert made["finance"].closed


def test_a_delivery_says_which_site_its_records_came_from(box: Box) -> None:
    filled(box, 3, "finance")
    sink = FakeSink()
    drain(line(box, sink))
    assert [d.site for d in sink.applied] == ["atl1"] * 3


def test_a_sink_that_hangs_slows_no_other_and_nobody_else_may_send_to_it(box: Box) -> None:
    filled(box, 100, "finance", "webshop")
    hang, released = threading.Event(), threading.Event()

    def stuck(_delivery: Outgoing) -> Verdict:
        hang.set()
        assert released.wait(30)
        return DONE

    finance, webshop = FakeSink(stuck), FakeSink()
    with Running(box, {"finance": finance, "webshop": webshop}):
        assert hang.wait(10)
        wait_for(lambda: len(webshop.applied) == 100, "the other sink is served")
        number = sinks.sink_id(box.db, "finance")
        assert sinks.claim(box.db, number, "another", int(2e9)) is None
        released.set()
        wait_for(lambda: box.account().delivered == 100, "it is served at last")


def test_two_dispatchers_deliver_to_one_sink_once(box: Box) -> None:
    filled(box, 1000)
    sink = FakeSink()
    with Running(box, {"finance": sink}), Running(box, {"finance": sink}):
        wait_for(lambda: box.account().delivered == 1000, "all is delivered")
    assert Counter(d.event_id for d in sink.applied).most_common(1)[0][1] == 1
    assert sink.keys() == [str(i) for i in range(1000)]


def test_after_kill_9_another_dispatcher_takes_over_at_once_and_repeats_with_the_same_keys(
    box: Box, tmp_path: Path
) -> None:
    filled(box, 600)
    out = tmp_path / "out.txt"
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}

    def start(seconds: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "support.dispatch_process", str(box.data.root), str(out), seconds]
        return subprocess.Popen(command, env=environment)

    def lines() -> list[str]:
        return out.read_text("utf-8").splitlines() if out.exists() else []

    seen = 0
    for _ in range(3):
        process = start("0.002")
        wait_for(lambda before=seen: len(lines()) > before + 50, "the dispatcher sends")  # type: ignore[misc]
        process.kill()
        process.wait(10)
        seen = len(lines())
    process = start("0")
    wait_for(lambda: box.account().delivered == 600, "the last one finishes", 10)  # far below the 30 s of a lease
    process.terminate()
    process.wait(10)
    ids: dict[str, str] = {}
    first_seen: list[str] = []
    for text in lines():
        event_id, key, _attempt = text.split(" ")
        assert ids.setdefault(key, event_id) == event_id
        if key not in first_seen:
            first_seen.append(key)
    assert first_seen == [str(i) for i in range(600)]
    repeated = len(lines()) - 600
    assert 0 <= repeated <= 3 * 20 * 17  # at most what was not persisted yet at each kill
    assert box.account().balanced


def test_a_lease_of_a_living_process_is_not_taken_and_a_stranger_without_proof_waits_for_its_end(box: Box) -> None:
    filled(box, 1)
    number = sinks.sink_id(box.db, "finance")
    alive = leases.Owner(box.data.state, "dispatch")
    assert sinks.claim(box.db, number, alive.name, 1_000) is not None
    assert leases.reap(box.db, box.data.state) == []
    assert sinks.claim(box.db, number, "other", 2_000) is None
    assert sinks.claim(box.db, number, "other", 1_000 + leases.LEASE_US + 1) is not None
    alive.close()


def test_a_failing_document_holds_its_own_later_versions_and_nobody_elses(box: Box) -> None:
    box.send("a;1", "b;1", "a;2", "c;1", "a;3", "b;2")
    box.normalize()
    sink = FakeSink(lambda d: Verdict("rejected", "http_400", "no") if d.key == "a" else DONE)
    ready = line(box, sink)
    drain(ready)
    assert sink.keys() == ["b", "c", "b"]
    row = box.account()
    assert (row.delivered, row.dead, row.held) == (3, 1, 2)
    assert row.balanced
    box.send("a;4", "d;1")
    box.normalize()
    drain(ready)
    assert sink.keys() == ["b", "c", "b", "d"]
    assert box.account().held == 3
    sink.decide = lambda _delivery: DONE
    letter = dead_letters.list_all(box.db)[0]
    after = letters.retry(box.db, FakeRuntime(), letter.id, {}, by="me")
    assert (after.state, after.kind, after.sink, after.key) == ("retried", "delivery", "finance", "a")
    drain(ready)
    assert sink.texts()[4:] == ["1", "2", "3", "4"]
    assert box.account().delivered == 8
    assert box.account().balanced


def test_discarding_a_dead_delivery_frees_the_versions_behind_it(box: Box) -> None:
    box.send("a;1", "a;2", "a;3")
    box.normalize()
    sink = FakeSink(lambda d: Verdict("rejected", "http_400", "no") if d.sequence == 1 else DONE)
    ready = line(box, sink)
    drain(ready)
    letter = dead_letters.list_all(box.db)[0]
    gone = letters.discard(box.db, letter.id, by="ann", note="ordered twice")
    assert (gone.state, gone.resolved_by, gone.note) == ("discarded", "ann", "ordered twice")
    drain(ready)
    assert sink.texts() == ["2", "3"]
    row = box.account()
    assert (row.delivered, row.discarded) == (2, 1)
    assert row.balanced
    with pytest.raises(Refused, match="not open"):
        letters.discard(box.db, letter.id, by="ann", note="again")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_is_set_back_does_not_put_off_what_waits(box: Box, *, restarted: bool) -> None:
    box.send("a;1", "b;1", "a;2")
    box.normalize()
    sink = FakeSink(lambda d: Verdict("retry", "http_429", "slow down", 120.0) if d.key == "a" else DONE)
    right = 2_000_000_000_000_000
    clock = [right + 3 * 3600 * 1_000_000]  # three hours ahead
    ready = line(box, sink, clock=clock)
    drain(ready)
    assert sink.keys() == ["b"]
    sink.decide = lambda _delivery: DONE
    clock[0] = right
    if restarted:
        sinks.release(box.db, ready.sink_id, "me")
        ready = line(box, sink, clock=clock)
    drain(ready)
    assert sink.keys() == ["b"]  # the sink asked for two minutes
    clock[0] += 120_000_000
    drain(ready)
    assert sink.keys() == ["b", "a", "a"]


def test_a_clock_that_is_set_back_does_not_leave_a_sink_alone_that_was_down(box: Box) -> None:
    box.send("a;1", "b;1")
    box.normalize()
    sink = FakeSink()
    sink.down = SinkUnavailable("nobody answers")
    right = 2_000_000_000_000_000
    clock = [right + 3 * 3600 * 1_000_000]
    ready = line(box, sink, clock=clock)
    drain(ready)
    sink.down, clock[0] = None, right
    drain(ready)
    assert ready.seconds_to_wait(1.0) <= 60.0
    clock[0] += 60_000_000
    drain(ready)
    assert sink.keys() == ["a", "b"]


def test_a_retry_waits_as_long_as_the_sink_asked_and_dies_with_its_age(box: Box) -> None:
    box.send("a;1", "b;1")
    box.normalize()
    sink = FakeSink(lambda d: Verdict("retry", "http_429", "slow down", 120.0) if d.key == "a" else DONE)
    clock = [1_000_000]
    ready = line(box, sink, clock=clock, policy=Policy(max_age_us=600_000_000))
    drain(ready)
    assert (box.account().retrying, box.account().pending, box.account().delivered) == (1, 1, 1)
    clock[0] += 119_000_000
    drain(ready)
    assert len(sink.calls) == 1
    clock[0] += 2_000_000
    drain(ready)
    assert [d.attempt for call in sink.calls for d in call if d.key == "a"] == [1, 2]
    clock[0] += 600_000_000
    drain(ready)
    letter = dead_letters.list_all(box.db)[0]
    assert (letter.kind, letter.code) == ("delivery", "http_429")
    assert letter.reason == "given up after 3 attempts: slow down"
    assert box.account().balanced


def test_a_sink_that_gives_no_verdict_is_backed_off_as_a_whole_and_its_deliveries_stay_fresh(box: Box) -> None:
    filled(box, 300)
    sink = FakeSink()
    sink.down = SinkUnavailable("no route to host", after_seconds=90.0)
    clock = [1_000_000]
    ready = line(box, sink, clock=clock)
    drain(ready)
    assert len(sink.calls) == 1
    assert box.db.execute("SELECT count(*) FROM deliveries WHERE chain IS NOT NULL").fetchone() == (0,)
    (state,) = sinks.states(box.db)
    assert (state.problem, state.next_try_us, state.failures) == ("no route to host", 91_000_000, 1)
    clock[0] = 92_000_000
    drain(ready)
    assert len(sink.calls[1]) == 1  # one to try
    sink.down = None
    clock[0] += 1_000_000_000
    drain(ready)
    assert [len(call) for call in sink.calls] == [100, 1, 1, 100, 100, 99]
    assert sink.keys() == [str(i) for i in range(300)]
    assert sinks.states(box.db)[0].problem == ""


def test_a_document_on_which_the_sink_always_breaks_does_not_block_the_others(box: Box) -> None:
    filled(box, 50)

    def breaks(delivery: Outgoing) -> Verdict:
        if delivery.key == "7":
            raise ValueError("cannot print this")
        return DONE

    sink = FakeSink(breaks)
    clock = [1_000_000]
    ready = line(box, sink, clock=clock)
    for _ in range(200):
        drain(ready)
        clock[0] += 1_000_000
    assert {d.key for d in sink.applied} == {str(i) for i in range(50)} - {"7"}
    row = box.account()
    assert (row.delivered, row.retrying) == (49, 1)
    assert row.balanced


def test_a_run_that_is_wholly_put_off_backs_the_sink_off_instead_of_each_delivery(box: Box) -> None:
    filled(box, 300)
    busy = True
    sink = FakeSink(lambda _d: Verdict("retry", "http_503", "busy") if busy else DONE)
    clock = [1_000_000]
    ready = line(box, sink, clock=clock)
    for _ in range(20):
        drain(ready)
        clock[0] += 60_000_000
    assert box.account().retrying < 25  # probes only
    busy = False
    for _ in range(10):
        clock[0] += 600_000_000
        drain(ready)
    assert box.account().delivered == 300


def test_a_sink_with_a_wrong_number_of_verdicts_has_given_none(box: Box) -> None:
    filled(box, 10)
    sink = FakeSink()
    write = sink.write
    sink.write = lambda run: write(run)[:-1]  # type: ignore[method-assign]
    ready = line(box, sink)
    ready.step()
    assert box.account().pending == 10
    assert "9 verdicts for 10" in sinks.states(box.db)[0].problem


def test_a_paused_sink_gets_nothing_until_it_is_resumed(box: Box) -> None:
    filled(box, 10)
    sink = FakeSink()
    ready = line(box, sink)
    with connection.transaction(box.db):
        sinks.order(box.db, ready.sink_id, sinks.Orders(paused=True))
    drain(ready)
    assert sink.calls == []
    with connection.transaction(box.db):
        sinks.order(box.db, ready.sink_id, sinks.Orders(paused=False))
    drain(ready)
    assert len(sink.applied) == 10
    assert sinks.known(box.db, "nobody") is None


def test_a_sink_that_cannot_be_made_is_reported_and_made_again(box: Box) -> None:
    filled(box, 10)
    sink = FakeSink()
    tries: list[int] = []
    problems: list[str] = []

    def open_sink(_name: str, _definition: SinkDef) -> tuple[Sink, int]:
        tries.append(1)
        if len(tries) == 1:
            raise ConfigError("secret 'db' is not known", hint="set CROSSDOCK_SECRET_DB")
        with closing(connection.connect(box.data.state)) as db:
            problems.append(sinks.states(db)[0].problem)
        return sink, 10

    dispatcher = Dispatcher(box.data, lambda _tree, _number: Runtime("finance"), open_sink)
    dispatcher.tick()
    wait_for(lambda: len(sink.applied) == 10, "the sink is made again")
    assert problems == ["secret 'db' is not known (set CROSSDOCK_SECRET_DB)"]
    assert sinks.states(box.db)[0].problem == ""
    dispatcher.close()


def test_a_changed_sink_is_made_anew_and_a_removed_one_is_left_alone(box: Box) -> None:
    filled(box, 10)
    first, second = FakeSink(), FakeSink()
    waiting = [first, second]
    runtimes = {1: Runtime("finance"), 2: Runtime("finance"), 3: Runtime()}

    def open_sink(_name: str, _definition: SinkDef) -> tuple[Sink, int]:
        return waiting.pop(0), 10

    dispatcher = Dispatcher(box.data, lambda _tree, number: runtimes[number], open_sink)
    dispatcher.tick()
    wait_for(lambda: len(first.applied) == 10, "the first is served")
    assert isinstance(runtimes[2].sinks["finance"], Definition)
    box.apply()
    box.send("x;1")
    box.normalize()

    def ticked(condition: bool) -> bool:
        dispatcher.tick()
        return condition

    wait_for(lambda: ticked(bool(second.applied)), "the second takes over")
    assert first.closed
    box.apply()
    wait_for(lambda: ticked(second.closed), "it ends")
    box.send("y;1")
    box.normalize()
    assert box.account().pending == 1
    dispatcher.close()


def test_the_trace_of_a_document_tells_its_whole_way(box: Box) -> None:
    box.send("4711;1", "4712;1", "acme:4713;1")
    box.send("4711;bad", "4711;2")
    box.normalize(FakeRuntime("finance", "webshop"))
    clock = [2_000_000_000_000_000]
    answers = [Verdict("retry", "http_500", "oops"), Verdict("rejected", "http_400", "no")]
    sink = FakeSink(lambda d: answers.pop(0) if d.key == "4711" and answers else DONE)
    ready = line(box, sink, clock=clock)
    drain(ready)
    clock[0] += 60_000_000
    drain(ready)
    found = trace(box.data.state, "4711")
    assert [e.what for e in found if e.what != "delivery"] == [
        "received", "received", "normalized", "normalized", "dead_letter", "attempt", "attempt", "dead_letter",
    ]  # fmt: skip
    assert found[0].facts["place"] == "file-1.csv line 1"
    assert found[0].facts["agent"] == "a1"
    assert [e.facts["code"] for e in found if e.what == "attempt"] == ["http_500", "http_400"]
    states = {(e.facts["sink"], e.facts["state"]) for e in found if e.what == "delivery"}
    assert states == {("finance", "dead"), ("finance", "held"), ("webshop", "pending")}
    assert [e.facts["key"] for e in trace(box.data.state, "4713", "order") if e.what == "normalized"] == ["acme:4713"]
    assert trace(box.data.state, "4713", "Invoice") == []
    assert trace(box.data.state, "471") == []


def test_a_sink_says_in_the_configuration_when_a_delivery_is_given_up(box: Box) -> None:
    box.send("a;1")
    box.normalize()
    sink = FakeSink(lambda _d: Verdict("retry", "http_500", "oops"))
    runtime = Runtime("finance")
    definition = runtime.sinks["finance"]
    assert isinstance(definition, Definition)
    definition.retry_attempts = 1
    dispatcher = Dispatcher(box.data, lambda _tree, _number: runtime, lambda _name, _definition: (sink, 10))
    dispatcher.tick()
    wait_for(lambda: box.account().dead == 1, "it is given up")
    dispatcher.close()
    assert len(sink.calls) == 1
