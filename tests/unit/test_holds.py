"""What a rule holds is in the log, goes nowhere, keeps its place among the versions of its key, and in the account."""

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.errors import Refused
from crossdock.retry import Backoff
from crossdock_controller import letters, rounds
from crossdock_controller.judging import Policy
from crossdock_controller.line import Line
from crossdock_controller.outcomes import Dead, Hold, Ignored, Locator, Mapped
from crossdock_controller.sinks.base import DONE, Verdict
from crossdock_controller.store import connection, dead_letters, deliveries, holds, replays, sinks, trace, urgent, views
from support.pipeline import Box, FakeEngine, FakeRuntime, FakeSink, wait_for


class HoldingEngine(FakeEngine):
    """ "KEY;hold..." is held for a person, "KEY;wait A" for the master A, "KEY;both A" for both."""

    def _batch(self, header, payload, skip):  # type: ignore[no-untyped-def]
        outcomes = super()._batch(header, payload, skip)
        outcomes.holding = any(m.holds for m in outcomes.mapped)
        return outcomes

    def _record(self, locator: Locator, unit: bytes, line: str) -> Mapped | Dead | Ignored:
        found = super()._record(locator, unit, line)
        if not isinstance(found, Mapped):
            return found
        word, _, master = line.partition(";")[2].partition(" ")
        by_hand = Hold("shrunk", "text", "much less than before")
        waits = Hold("unknown_product", "text", f"no Product {master} is known", (("SalesOrder", master),))
        reasons = {"hold": (by_hand,), "wait": (waits,), "both": (by_hand, waits)}.get(word, ())
        return Mapped(
            found.event_id,
            found.document,
            found.key,
            found.body,
            found.records,
            found.locator,
            found.fields,
            holds=reasons,
        )


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


def normalize(box: Box, *sinks: str) -> None:
    box.normalize(FakeRuntime(*sinks, engine=HoldingEngine()))


def deliver(box: Box, name: str = "finance") -> list[str]:
    """What the sink takes when it takes everything, as KEY;TEXT."""
    sink = FakeSink()
    number = sinks.sink_id(box.db, name)
    cursor = sinks.claim(box.db, number, "me", 1)
    assert cursor is not None
    line = Line(box.db, number, name, sink, 100, "me", cursor, Policy(Backoff(0.001, 1.0, 0.001)))
    while line.step():
        pass
    line.save()
    sinks.release(box.db, number, "me")
    return [f"{d.key};{text}" for d, text in zip(sink.applied, sink.texts(), strict=True)]


def opened(box: Box) -> list[int]:
    return [held.seq for held in holds.list_all(box.db)]


def exceptions(box: Box) -> list[tuple[str, str, str]]:
    return box.db.execute("SELECT cause, state, outcome FROM exceptions ORDER BY id").fetchall()


def test_a_held_document_goes_nowhere_and_holds_its_own_later_versions_only(box: Box) -> None:
    box.send("1;a", "1;hold", "1;c", "2;x")
    normalize(box)
    assert deliver(box) == ["1;a", "2;x"]
    row = box.account()
    assert (row.delivered, row.held, row.balanced) == (2, 2, True)
    (view,) = views.sinks(box.db)
    assert (view.stopped, view.held, view.waiting) == (1, 1, 1)
    assert exceptions(box) == [("shrunk:SalesOrder:text", "open", "")]


def test_what_is_urgent_behind_a_held_document_is_not_due_and_keeps_no_line_busy(box: Box) -> None:
    box.send("1;hold", "1;c")
    normalize(box, "finance")
    number = sinks.sink_id(box.db, "finance")
    with connection.transaction(box.db):
        urgent.urge(box.db, number, {("SalesOrder", "1")}, time.time_ns() // 1000)
    assert deliveries.next_due_us(box.db, number) is None
    assert deliver(box) == []
    assert box.account().held == 2


def test_released_by_a_person_it_goes_and_what_waited_behind_it_after_it(box: Box) -> None:
    box.send("1;hold", "1;c", "2;x")
    normalize(box)
    assert deliver(box) == ["2;x"]
    with connection.transaction(box.db):
        holds.release(box.db, 1, by="user:anna", note="counted again", now_us=time.time_ns() // 1000)
    assert deliver(box) == ["1;hold", "1;c"]
    assert exceptions(box) == [("shrunk:SalesOrder:text", "resolved", "released")]
    assert (box.account().delivered, box.account().balanced) == (3, True)
    said = [e.text for e in trace.trace(box.data.state, "1") if e.what == "hold"]
    assert said == [
        "version 1 is held by a rule: shrunk: much less than before",
        "version 1 was released by user:anna: counted again",
    ]
    with pytest.raises(Refused, match="not held any more: released by user:anna"):
        holds.discard(box.db, 1, by="me", note="", now_us=time.time_ns() // 1000)


def test_discarded_it_never_goes_and_what_waited_behind_it_does(box: Box) -> None:
    box.send("1;hold", "1;c")
    normalize(box)
    assert deliver(box) == []
    with connection.transaction(box.db):
        holds.discard(box.db, 1, by="user:anna", note="wrong", now_us=time.time_ns() // 1000)
    assert deliver(box) == ["1;c"]
    row = box.account()
    assert (row.delivered, row.discarded, row.balanced) == (1, 1, True)
    actions = [action for (action,) in box.db.execute("SELECT action FROM audit WHERE target = '1'")]
    assert actions == ["holds.discard"]


def test_released_before_its_turn_has_come_it_overtakes_nobody(box: Box) -> None:
    """The sink has seen nothing yet: the version before the held one is still fresh."""
    box.send("1;a", "1;hold", "1;c")
    normalize(box)
    with connection.transaction(box.db):
        holds.release(box.db, 2, by="me", note="", now_us=time.time_ns() // 1000)
    assert deliver(box) == ["1;a", "1;hold", "1;c"]


def test_it_is_stopped_at_every_sink_and_released_at_every_one(box: Box) -> None:
    box.send("1;hold")
    normalize(box, "finance", "shop")
    assert deliver(box) == deliver(box, "shop") == []
    with connection.transaction(box.db):
        holds.release(box.db, 1, by="me", note="", now_us=time.time_ns() // 1000)
    assert deliver(box) == deliver(box, "shop") == ["1;hold"]


def test_what_waits_for_a_master_goes_on_in_the_transaction_that_brings_it(box: Box) -> None:
    box.send("1;wait A", "2;wait B", "3;both A")
    normalize(box)
    assert deliver(box) == []
    assert [held.waits for held in holds.list_all(box.db)] == [(("SalesOrder", k),) for k in ("A", "B", "A")]
    box.send("A;the master")
    normalize(box)
    assert sorted(deliver(box)) == ["1;wait A", "A;the master"]
    assert opened(box) == [2, 3]
    assert holds.get(box.db, 1).resolved_by == "controller"
    states = {cause: state for cause, state, _ in exceptions(box)[:2]}
    assert states == {"unknown_product:SalesOrder:A": "resolved", "unknown_product:SalesOrder:B": "open"}
    assert (holds.get(box.db, 3).waits, holds.get(box.db, 3).by_hand) == ((), True)


def test_a_master_in_the_same_round_is_no_reason_to_wait(box: Box) -> None:
    """The rule looked at the log before this round's own documents were in it."""
    box.send("1;wait A", "A;the master")
    normalize(box)
    assert opened(box) == []
    assert sorted(deliver(box)) == ["1;wait A", "A;the master"]


def test_a_master_that_came_between_the_look_and_the_commit_is_no_reason_to_wait(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.send("1;wait A")
    decide = rounds.decide

    def overtaken(*args, **options):  # type: ignore[no-untyped-def]
        decided = decide(*args, **options)
        monkeypatch.setattr(rounds, "decide", decide)
        box.send("A;the master", source="products")
        normalize(box)
        return decided

    monkeypatch.setattr(rounds, "decide", overtaken)
    worker = box.normalizer(FakeRuntime(engine=HoldingEngine()))
    assert worker.step()
    worker.close()
    assert opened(box) == []


def test_a_held_document_read_twice_is_one_event_and_one_hold(box: Box) -> None:
    box.send("1;hold")
    normalize(box)
    box.send("1;hold", epoch=b"x" * 16, first=0)
    normalize(box)
    assert opened(box) == [1]
    assert (box.account().duplicates, box.account().held, box.account().balanced) == (1, 1, True)


def test_a_corrected_dead_letter_that_a_rule_holds_is_held(box: Box) -> None:
    box.send("1;bad")
    normalize(box)
    runtime = FakeRuntime(engine=HoldingEngine())
    letters.retry(box.db, runtime, 1, {"TEXT": "hold"}, by="me")
    assert len(opened(box)) == 1
    assert deliver(box) == []
    assert (box.account().held, box.account().balanced) == (1, True)


def test_a_round_without_holds_looks_once_and_writes_nothing_about_them(box: Box) -> None:
    box.send(*[f"{i};a" for i in range(50)])
    asked: list[str] = []
    worker = box.normalizer(FakeRuntime(engine=HoldingEngine()))
    worker._db.set_trace_callback(asked.append)
    while worker.step():
        pass
    worker._db.set_trace_callback(None)
    worker.close()
    assert [sql for sql in asked if "hold" in sql] == ["SELECT 1 FROM hold_waits LIMIT 1"]


def test_one_between_two_that_became_free_at_different_times_is_not_left_behind(box: Box) -> None:
    box.send("1;hold 1", "1;a", "1;hold 2", "1;b")
    normalize(box)
    assert deliver(box) == []
    for seq in (1, 3):
        with connection.transaction(box.db):
            holds.release(box.db, seq, by="me", note="", now_us=time.time_ns() // 1000)
    assert deliver(box) == ["1;hold 1", "1;a", "1;hold 2", "1;b"]


@pytest.mark.parametrize("seed", range(6))
def test_order_per_key_and_the_account_stay_whatever_is_held_released_and_given_up(box: Box, seed: int) -> None:
    """From raw batches to two sinks, against what a sink may see of each key: its versions in order, but for those
    given up."""
    rng = random.Random(seed)
    applied: dict[str, list[tuple[str, int]]] = {"finance": [], "shop": []}
    discarded: set[int] = set()
    texts = ["a", "b", "c", "hold", "wait A", "wait B", "both A", "bad"]

    def work(name: str) -> None:
        sink = FakeSink(lambda _d: Verdict("retry", "http_500", "later") if rng.random() < 0.2 else DONE)
        number = sinks.sink_id(box.db, name)
        cursor = sinks.claim(box.db, number, "me", time.time_ns() // 1000)
        assert cursor is not None
        line = Line(
            box.db, number, name, sink, rng.randint(1, 5), "me", cursor, Policy(Backoff(0.001, 1.0, 0.001)),
            Backoff(0.001, 1.0, 0.001),
        )  # fmt: skip
        for _ in range(rng.randint(1, 8)):
            line.step()
        line.save()
        sinks.release(box.db, number, "me")
        applied[name] += [(d.key, d.sequence) for d in sink.applied]

    def decide() -> None:
        opened_ = holds.list_all(box.db)
        if opened_ and rng.random() < 0.7:
            held, give_up = rng.choice(opened_), rng.random() < 0.4
            with connection.transaction(box.db):
                way = holds.discard if give_up else holds.release
                way(box.db, held.seq, by="me", note="", now_us=time.time_ns() // 1000)
            if give_up:
                discarded.add(held.seq)
        for letter in dead_letters.list_all(box.db):
            if rng.random() < 0.3:
                with contextlib.suppress(Refused):  # a later version of its key came
                    letters.retry(box.db, FakeRuntime("finance", "shop", engine=HoldingEngine()), letter.id,
                                  {"TEXT": rng.choice(["a", "hold"])}, by="me")  # fmt: skip

    for _ in range(12):
        box.send(*[f"{rng.choice('123AB')};{rng.choice(texts)}" for _ in range(rng.randint(1, 6))])
        normalize(box, "finance", "shop")
        for name in rng.sample(["finance", "shop"], 2):
            work(name)
        decide()
        assert box.account().balanced
    with connection.transaction(box.db):
        for held in holds.list_all(box.db):
            holds.release(box.db, held.seq, by="me", note="", now_us=time.time_ns() // 1000)
    everything = dict(box.db.execute("SELECT seq, key FROM events").fetchall())
    wanted = {seq for seq in everything if seq not in discarded}
    for name, seen in applied.items():
        wait_for(lambda name=name, seen=seen: work(name) or {s for _, s in seen} == wanted, f"{name} has everything")
        assert len(seen) == len(wanted), "each once"
        for key in "123AB":
            order = [seq for k, seq in seen if k == key]
            assert order == sorted(order), f"{name} saw {key} out of order"
    assert box.account().balanced


def test_what_is_held_is_not_sent_to_a_new_sink_by_a_replay(box: Box) -> None:
    box.send("A;hold", "B;hold", "C;go")
    normalize(box, "s")
    first, second = (h.seq for h in holds.list_all(box.db))
    with connection.transaction(box.db):
        holds.discard(box.db, second, by="anna", note="", now_us=2)
    new = sinks.sink_id(box.db, "new")
    chosen = replays.Chosen(unrouted=True)
    assert replays.count(box.db, new, chosen, replays.last_seq(box.db)) == replays.Counts(send=1, has_it=1, waiting=1)
    with connection.transaction(box.db):
        holds.release(box.db, first, by="anna", note="", now_us=3)
    assert replays.count(box.db, new, chosen, replays.last_seq(box.db)) == replays.Counts(send=2, has_it=1)
