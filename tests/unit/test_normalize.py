"""From the intake to events: every record once, in one transaction with its checkpoint, whoever works and dies."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.lifecycle import Stop
from crossdock_controller import normalize, rounds
from crossdock_controller.store import events, inputs, normalizer
from crossdock_controller.store.intake import IntakeReader
from crossdock_controller.store.leases import LeaseLost
from crossdock_controller.store.wake import Bell, Waker
from support.pipeline import Box, FakeEngine, FakeRuntime, wait_for


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


def keys(box: Box) -> list[str]:
    return [key for (key,) in box.db.execute("SELECT key FROM events ORDER BY seq")]


def test_records_become_events_deliveries_dead_letters_and_counts(box: Box) -> None:
    box.send("1;a", "2;bad", "# comment", "3;c")
    box.send("4;d")
    box.normalize()
    assert keys(box) == ["1", "3", "4"]
    assert box.db.execute("SELECT count(*) FROM deliveries").fetchone() == (3,)
    assert box.db.execute("SELECT code, records, state FROM dead_letters").fetchall() == [("bad_text", 1, "open")]
    counts = box.db.execute("SELECT sequence, records, mapped, dead, ignored, duplicates FROM inputs").fetchall()
    assert counts == [(1, 4, 2, 1, 1, 0), (2, 1, 1, 0, 0, 0)]
    assert normalizer.finished(box.db) == {1: 2}
    row = box.account()
    assert (row.received, row.pending, row.dead, row.ignored) == (5, 3, 1, 1)
    assert row.balanced


def test_records_read_twice_are_one_event_and_counted_as_duplicates(box: Box) -> None:
    box.send("1;a", "2;b")
    box.normalize()
    box.send("1;a", "2;b", "3;c", epoch=b"x" * 16, first=0)  # the agent lost its disk and reads the file again
    box.send("1;a", epoch=b"x" * 16, first=0)
    box.normalize()
    assert keys(box) == ["1", "2", "3"]
    assert box.db.execute("SELECT count(*) FROM deliveries").fetchone() == (3,)
    row = box.account()
    assert (row.received, row.duplicates, row.pending) == (6, 3, 3)
    assert row.balanced


def test_a_source_without_a_mapping_waits_with_its_problem_on_view_until_a_revision_brings_one(box: Box) -> None:
    box.send("1;a", source="new")
    box.send("2;b")
    engines = {"wms": FakeEngine()}
    worker = box.normalizer(FakeRuntime(engines=engines))
    while worker.step():
        pass
    assert keys(box) == ["2"]
    assert [p.source for p in normalizer.problems(box.db)] == ["new"]
    assert "no mapping for source new" in normalizer.problems(box.db)[0].problem
    assert box.account("new").pending == box.account("new").waiting == 1
    engines["new"] = FakeEngine()
    box.apply()
    wait_for(worker.step, "the new revision is seen")
    assert keys(box) == ["2", "1"]
    assert normalizer.problems(box.db) == []
    worker.close()


def test_a_mapping_that_fails_stops_its_own_source_only_and_loses_nothing(box: Box) -> None:
    box.send("1;a", source="broken")
    box.send("2;b")
    runtime = FakeRuntime(engines={"broken": FakeEngine(fault=ZeroDivisionError("oops")), "wms": FakeEngine()})
    box.normalize(runtime)
    assert keys(box) == ["2"]
    assert "oops" in normalizer.problems(box.db)[0].problem
    assert box.account("broken").balanced
    assert box.account("broken").pending == 1


def test_an_engine_that_does_not_account_for_every_record_commits_nothing(box: Box) -> None:
    box.send("1;a", "2;b")
    box.normalize(FakeRuntime(engine=FakeEngine(lose=1)))
    assert keys(box) == []
    assert "accounted for 1 of 2" in normalizer.problems(box.db)[0].problem
    assert box.account().pending == 2


@pytest.mark.parametrize("damage", ["bytes", "count", "header"])
def test_a_damaged_batch_is_one_dead_letter_with_all_its_records_and_the_stream_goes_on(box: Box, damage: str) -> None:
    box.send("1;a")
    box.send("2;b", "3;c")
    box.send("4;d")
    with sqlite3.connect(box.data.intake) as intake:
        if damage == "bytes":
            intake.execute("UPDATE batches SET sealed = zeroblob(40) WHERE sequence = 2")
        elif damage == "header":
            intake.execute("UPDATE batches SET sealed = substr(sealed, 1, 9) WHERE sequence = 2")
        else:
            intake.execute("UPDATE batches SET records = 3 WHERE sequence = 2")
            intake.execute("UPDATE streams SET records = records + 1")
    intake.close()
    box.normalize()
    assert keys(box) == ["1", "4"]
    letters = box.db.execute("SELECT code, records FROM dead_letters").fetchall()
    assert letters == [("batch_corrupt", 3 if damage == "count" else 2)]
    assert box.account().balanced
    assert box.account().dead == letters[0][1]


def test_a_second_normalizer_that_lost_its_lease_cannot_commit_what_it_decided(box: Box) -> None:
    box.send("1;a", "2;b")
    reader = IntakeReader(box.data.intake)
    stream = reader.streams()[0]
    reader.close()
    source = inputs.source_id(box.db, "atl1", "a1", "wms")
    first = normalizer.claim(box.db, stream.id, source, "first", 1_000)
    assert first is not None
    assert normalizer.claim(box.db, stream.id, source, "second", 2_000) is None
    second = normalizer.claim(box.db, stream.id, source, "second", 40_000_000)  # the first hung, its time is over
    assert second is not None
    done = rounds.Round(to=normalizer.Position(2, 0))
    rounds.commit(box.db, done, second, {}, 1, 0)
    late = rounds.Round([inputs.InputRow(b"e", 1, 0, "file", "f")], [], [], normalizer.Position(2, 0), 2)
    with pytest.raises(LeaseLost):
        rounds.commit(box.db, late, first, {}, 1, 0)
    assert box.db.execute("SELECT count(*) FROM inputs").fetchone() == (0,)


def test_two_normalizers_at_once_decide_every_record_once(box: Box) -> None:
    for source in ("s1", "s2", "s3"):
        for i in range(30):
            box.send(*[f"{source}-{i}-{j};t" for j in range(5)], source=source, unit=source.encode())
    stop = Stop()

    def work() -> None:
        worker = box.normalizer()
        worker.run(stop)
        worker.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_for(lambda: sum(normalizer.finished(box.db).values()) == 90, "all is normalized")
    stop.set()
    for thread in threads:
        thread.join(10)
    assert len(keys(box)) == len(set(keys(box))) == 450
    assert all(box.account(s).balanced for s in ("s1", "s2", "s3"))


def test_a_crash_in_the_middle_of_a_commit_leaves_checkpoint_and_events_together(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.send("1;a", "2;bad")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    for place in (events.append.__name__, "add_counts"):
        target = events if place == "append" else inputs
        with monkeypatch.context() as patch:
            patch.setattr(target, place, crash)
            worker = box.normalizer()
            with pytest.raises(KeyboardInterrupt):
                worker.step()
            worker.close()
        assert keys(box) == []
        assert normalizer.checkpoints(box.db)[1].at == normalizer.BEGINNING
        assert box.db.execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)
    box.normalize()
    assert keys(box) == ["1"]


def test_fresh_critical_records_do_not_wait_behind_a_backlog(box: Box) -> None:
    engine = FakeEngine()
    for i in range(200):
        box.send(f"{i};t", source="bulky", lane="bulk", unit=b"bulky")
    worker = box.normalizer(FakeRuntime(engine=engine))
    worker.step()
    worker.step()
    box.send("now;t", source="urgent", lane="critical", unit=b"urgent")
    before = len(engine.calls)
    worker.step()
    assert engine.calls[before] == "urgent.csv"
    while worker.step():
        pass
    assert len(keys(box)) == 201
    worker.close()


@pytest.mark.parametrize("turn_seconds", [0.0, 3600.0])
def test_an_older_epoch_of_a_source_is_decided_before_a_later_one(
    box: Box, monkeypatch: pytest.MonkeyPatch, turn_seconds: float
) -> None:
    """After the loss of an outbox, what its epoch left in the intake stands before what was read again."""
    monkeypatch.setattr(normalize, "TURN_SECONDS", turn_seconds)
    old = [str(i) for i in range(100)]
    for key in old:
        box.send(f"{key};t", lane="bulk")
    box.send("100;t", lane="bulk", epoch=b"f" * 16)
    box.normalize()
    assert keys(box) == [*old, "100"]


def test_a_later_epoch_goes_on_when_another_worker_has_finished_the_older(box: Box) -> None:
    box.send("1;t")
    box.send("2;t", epoch=b"f" * 16)
    late = box.normalizer()
    late._look()  # it has seen both epochs, and nothing of them is decided
    with closing(box.normalizer()) as quick:
        while quick.step():
            pass
        assert keys(box) == ["1", "2"]
        box.send("3;t", epoch=b"f" * 16)
        while quick.step():
            pass
    while late.step():
        pass
    box.send("4;t", epoch=b"f" * 16)
    while late.step():
        pass
    assert keys(box) == ["1", "2", "3", "4"]
    late.close()


def test_every_source_gets_its_turn_by_the_weight_of_its_lane(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "TURN_SECONDS", 0.0)  # as if each round took that long
    engine = FakeEngine()
    for source, lane in (("std", "standard"), ("blk", "bulk")):
        for _ in range(16 * 8):
            box.send("1;t", source=source, lane=lane, unit=source.encode())
    worker = box.normalizer(FakeRuntime(engine=engine))
    for _ in range(8):
        worker.step()
    rounds_of = [engine.calls.count(f"{name}.csv") // 16 for name in ("std", "blk")]
    assert rounds_of[0] > rounds_of[1] >= 2
    worker.close()


def test_short_rounds_of_many_streams_share_a_step_by_weight_too(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "TURN_SECONDS", 3600.0)
    engine = FakeEngine()
    for source, lane in (("std", "standard"), ("blk", "bulk")):
        for _ in range(16 * 8):
            box.send("1;t", source=source, lane=lane, unit=source.encode())
    worker = box.normalizer(FakeRuntime(engine=engine))
    assert worker.step()  # new streams are looked at as if they were critical: a round each
    assert worker.step()
    assert not worker.step()
    first_half = engine.calls[2 * 16 : 2 * 16 + 7 * 16]
    assert first_half.count("std.csv") > first_half.count("blk.csv") >= 16
    assert [engine.calls.count(f"{name}.csv") for name in ("std", "blk")] == [16 * 8] * 2
    worker.close()


def test_a_step_looks_at_what_came_and_not_at_every_stream(box: Box) -> None:
    for number in range(50):
        box.send(f"{number};t", source=f"s{number:02}")
    worker = box.normalizer(FakeRuntime(engine=FakeEngine()))
    while worker.step():
        pass
    worker._intake.streams = lambda: pytest.fail("all streams were read")  # type: ignore[method-assign]
    box.send("new;t", source="s07")
    assert worker.step()
    assert not worker.step()
    assert box.account("s07").pending == 2
    worker.close()


@pytest.mark.parametrize("at_start", [True, False])
def test_a_look_that_fails_halfway_forgets_no_stream(box: Box, monkeypatch: pytest.MonkeyPatch, at_start: bool) -> None:
    worker = box.normalizer()
    if not at_start:
        worker.step()
    box.send("1;a", source="s1")
    box.send("2;b", source="s2")
    with monkeypatch.context() as failing:
        failing.setattr(normalizer, "checkpoints", _fails)
        with pytest.raises(sqlite3.OperationalError):
            worker.step()
    while worker.step():
        pass
    worker.close()
    assert [box.account(source).waiting for source in ("s1", "s2")] == [0, 0]


def _fails(*_: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_a_lookup_knows_documents_that_are_in_the_log(box: Box) -> None:
    box.send("1;a", "odd'\"key;b")
    box.normalize()
    lookup = rounds.LogLookup(box.db)
    assert lookup.known("SalesOrder", {"1", "2", "odd'\"key"}) == {"1", "odd'\"key"}
    assert lookup.known("Product", {"1"}) == set()
    assert lookup.known("SalesOrder", set()) == set()


def test_a_new_batch_wakes_the_normalizer_without_waiting_for_its_poll(box: Box) -> None:
    bell = Bell(box.db, "normalize", "me")
    waker = Waker(box.data.state)
    waker.wake("dispatch")
    assert not bell.wait(0.01)
    waker.wake("normalize")
    waker.wake("normalize")
    assert bell.wait(5)
    assert not bell.wait(0.01)  # both were one
    bell.close()
    waker.wake("normalize")  # nobody listens: nothing happens
    waker.close()
    assert box.db.execute("SELECT count(*) FROM wakers").fetchone() == (0,)
