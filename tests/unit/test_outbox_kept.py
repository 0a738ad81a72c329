"""Acknowledged batches stay for a while, never in the way of anything, and can be sent again."""

import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock.errors import BufferFull, Retryable
from crossdock.siteconfig import OutboxConfig
from crossdock_agent.outbox import Append, Missing, Outbox, groupcommit, kept, outbox, schema, store, trim

ROOMY = OutboxConfig(min_free_disk_bytes=0)


def batch(source: str = "wms", payload: bytes = b"x" * 100, *, on_ack: bytes | None = None, at: int = 7) -> Append:
    return Append(
        source=source, lane="standard", sealed=payload, crc32=zlib.crc32(payload), records=2, raw_bytes=10,
        read_at_us=at, checkpoint=b"c", on_ack=on_ack,
    )  # fmt: skip


def opened(directory: Path, limits: OutboxConfig = ROOMY) -> Outbox:
    return Outbox(directory / "outbox.db", limits)


def append(box: Outbox, *batches: Append) -> None:
    writer = box.writer(batches[0].source)
    for one in batches:
        writer.append(one)
    writer.flush()


def acknowledge(box: Outbox, source: str, sequence: int) -> None:
    box.acknowledge(source, box.epoch, sequence)
    settle(box)


def settle(box: Outbox) -> None:
    """Whatever was queued is committed."""
    box.finish_releases([])


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "condition not met in 60 s"
        time.sleep(0.005)


def numbers(box: Outbox, source: str = "wms") -> list[int]:
    return [b.sequence for b in box.page(source, 0, 1_000_000)]


def test_what_is_acknowledged_stays_is_not_sent_and_does_not_count(tmp_path: Path) -> None:
    with opened(tmp_path) as box:
        append(box, *[batch(at=i) for i in range(1, 6)])
        acknowledge(box, "wms", 3)
        assert numbers(box) == [4, 5]
        stats, at = box.stats(), box.positions()["wms"]
        assert (stats.batches, stats.records, stats.bytes, stats.oldest_us) == (2, 4, 200, 4)
        assert (at.acked_sequence, at.kept_batches, at.kept_bytes) == (3, 3, 300)
        acknowledge(box, "wms", 5)
        assert box.stats().oldest_us == 0
    with opened(tmp_path) as box:
        assert box.quarantined is None
        assert box.positions()["wms"].kept_batches == 5


def test_what_a_restored_controller_lacks_is_unacknowledged_again_and_its_tokens_are_due_only_once(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as box:
        append(box, batch(on_ack=b"1"), batch(on_ack=b"2"), batch(on_ack=b"3"), batch(on_ack=b"4"))
        acknowledge(box, "wms", 3)
        assert [token for _, token in box.releases("wms")] == [b"1", b"2", b"3"]
        box.finish_releases([i for i, _ in box.releases("wms")])
        assert box.rewind("wms", 1) == 2
        assert numbers(box) == [2, 3, 4]
        assert (box.stats().batches, box.stats().records, box.stats().bytes) == (3, 6, 300)
        assert box.unreleased("wms") == [b"4"]
    with opened(tmp_path) as box:
        assert box.quarantined is None
        assert numbers(box) == [2, 3, 4]
        acknowledge(box, "wms", 4)
        assert [token for _, token in box.releases("wms")] == [b"4"]
        assert box.positions()["wms"].kept_batches == 4


def test_a_controller_that_lacks_nothing_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as box:
        append(box, batch(), batch())
        acknowledge(box, "wms", 1)
        assert box.rewind("wms", 1) == 0
        assert box.rewind("wms", 9) == 0
        assert box.rewind("nobody", 0) == 0
        assert numbers(box) == [2]


def test_an_acknowledgement_of_before_does_not_undo_a_rewind(tmp_path: Path) -> None:
    with opened(tmp_path) as box:
        append(box, batch(), batch())
        acknowledge(box, "wms", 2)
        before = box.generation
        assert box.rewind("wms", 0) == 2
        box.acknowledge("wms", box.epoch, 2, before)
        settle(box)
        assert numbers(box) == [1, 2]
        box.acknowledge("wms", box.epoch, 2, box.generation)
        settle(box)
        assert numbers(box) == []


def test_where_some_are_gone_a_new_epoch_begins_with_what_is_left_and_the_rest_is_named(tmp_path: Path) -> None:
    with opened(tmp_path, OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_bytes=500)) as box:
        append(box, *[batch("wms", b"%03d" % i + b"w" * 97, at=i) for i in range(1, 10)])
        append(box, *[batch("erp", b"%03d" % i + b"e" * 17) for i in range(1, 4)])
        acknowledge(box, "erp", 2)
        acknowledge(box, "wms", 7)
        at = box.positions()
        assert at["wms"].kept_bytes + at["erp"].kept_bytes <= 500
        kept_from = 8 - at["wms"].kept_batches
        epoch = box.epoch
        assert box.rewind("wms", 1) is None
        assert box.epoch == epoch
        assert numbers(box) == [8, 9]
        assert box.renew({"wms": 1, "erp": 2}) == [Missing("wms", 2, kept_from - 1, kept_from)]
        assert box.epoch != epoch
        page = box.page("wms", 0, 1_000_000)
        assert [b.sequence for b in page] == list(range(1, 11 - kept_from))
        assert [int(b.sealed[:3]) for b in page] == list(range(kept_from, 10))
        assert [(b.sequence, b.sealed[:3]) for b in box.page("erp", 0, 10_000)] == [(1, b"003")]
        append(box, batch("wms"))
        acknowledge(box, "wms", 2)
        assert numbers(box)[0] == 3
        assert box.rewind("wms", 0) == 2
    with opened(tmp_path) as box:
        assert box.quarantined is None
        assert box.epoch != epoch
        assert numbers(box) == list(range(1, 12 - kept_from))


def test_the_oldest_go_first_whatever_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minute = [100]
    monkeypatch.setattr(store, "minute_now", lambda: minute[0])
    limits = OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_bytes=600)
    with opened(tmp_path, limits) as box:
        for source in ("a", "b", "c"):
            append(box, *[batch(source) for _ in range(3)])
            acknowledge(box, source, 3)
            minute[0] += 1
        settle(box)
        assert {s: p.kept_batches for s, p in box.positions().items()} == {"a": 0, "b": 3, "c": 3}
        append(box, batch("a"), batch("a"))
        acknowledge(box, "a", 5)
        assert {s: p.kept_batches for s, p in box.positions().items()} == {"a": 2, "b": 1, "c": 3}


def test_they_go_when_they_are_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minute = [1_000_000]
    for module in (store, trim):
        monkeypatch.setattr(module, "minute_now", lambda: minute[0])
    monkeypatch.setattr(trim, "EXPIRY_SECONDS", 0.0)
    with opened(tmp_path, OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_hours=2)) as box:
        append(box, batch(), batch(), batch())
        acknowledge(box, "wms", 2)
        minute[0] += 60
        acknowledge(box, "wms", 3)
        minute[0] += 60
        settle(box)
        assert box.positions()["wms"].kept_batches == 3
        minute[0] += 1
        settle(box)
        assert box.positions()["wms"].kept_batches == 1
        file = sqlite3.connect(tmp_path / "outbox.db")
        assert file.execute("SELECT sequence FROM batches").fetchall() == [(3,)]
        file.close()


def test_none_are_kept_where_the_site_wants_none(tmp_path: Path) -> None:
    with opened(tmp_path, OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_hours=0)) as box:
        append(box, batch(), batch(), batch())
        acknowledge(box, "wms", 2)
        assert box.positions()["wms"].kept_batches == 0
        assert numbers(box) == [3]


def test_new_limits_hold_for_what_is_kept_already(tmp_path: Path) -> None:
    with opened(tmp_path) as box:
        append(box, *[batch() for _ in range(9)])
        acknowledge(box, "wms", 9)
        box.set_limits(OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_bytes=250))
        eventually(lambda: box.positions()["wms"].kept_batches == 2)


def test_kept_batches_never_fill_the_outbox(tmp_path: Path) -> None:
    limits = OutboxConfig(max_bytes=10_600, min_free_disk_bytes=0, keep_acknowledged_bytes=9_000)
    with opened(tmp_path, limits) as box:
        append(box, *[batch(payload=bytes(1000)) for _ in range(9)])
        acknowledge(box, "wms", 9)
        assert box.positions()["wms"].kept_batches == 9
        append(box, *[batch(payload=bytes(1000)) for _ in range(10)])  # as many as without any kept
        assert box.positions()["wms"].kept_batches == 0
        with pytest.raises(BufferFull, match="10000 of 10070"):
            box.writer("wms").append(batch(payload=bytes(1000)))
        assert numbers(box) == list(range(10, 20))


def test_a_disk_under_its_floor_takes_kept_batches_before_it_stops_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [10**9]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(outbox.shutil, "disk_usage", lambda _path: usage._replace(free=free[0]))
    monkeypatch.setattr(outbox, "DISK_SECONDS", 0.0)
    size = 40 * schema.PAGE_BYTES
    limits = OutboxConfig(min_free_disk_bytes=10**6, keep_acknowledged_bytes=10**8)
    with opened(tmp_path, limits) as box:
        append(box, *[batch(payload=bytes(size)) for _ in range(20)])
        acknowledge(box, "wms", 20)
        free[0] = 10**6  # something else took the rest
        append(box, batch(payload=bytes(size)))
        assert 0 < box.positions()["wms"].kept_batches < 20
        for _ in range(30):
            try:
                append(box, batch(payload=bytes(size)))
            except BufferFull:
                break
        else:
            pytest.fail("the floor was never respected")
        assert box.positions()["wms"].kept_batches == 0
        pages = sqlite3.connect(tmp_path / "outbox.db")
        assert pages.execute("PRAGMA page_count").fetchone()[0] * schema.PAGE_BYTES < 22 * size + 2**21
        pages.close()


def test_a_damaged_count_of_kept_batches_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path) as box:
        append(box, batch(), batch(), batch())
        acknowledge(box, "wms", 3)
    file = sqlite3.connect(tmp_path / "outbox.db")
    file.execute("DELETE FROM batches WHERE sequence = 2")
    file.commit()
    file.close()
    with opened(tmp_path) as box:
        assert box.quarantined is not None
        assert "do not add up" in box.quarantined.reason


def test_appends_and_acknowledgements_go_on_while_much_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trim, "STEP_BYTES", 3_000)
    limits = OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_bytes=5_000)
    with opened(tmp_path, limits) as box:
        done = threading.Event()

        def acknowledging() -> None:
            while not done.is_set():
                at = box.positions().get("wms")
                if at is not None:
                    box.acknowledge("wms", box.epoch, at.last_sequence)

        thread = threading.Thread(target=acknowledging)
        thread.start()
        writer = box.writer("wms")
        for i in range(400):
            writer.append(batch(payload=b"%d" % i + bytes(500)))
        writer.flush()
        eventually(lambda: box.stats().batches == 0)
        done.set()
        thread.join()
        eventually(lambda: box.positions()["wms"].kept_bytes <= 5_000)
    with opened(tmp_path) as box:
        assert box.quarantined is None
        assert kept.STEP_BATCHES > box.positions()["wms"].kept_batches > 0


def test_a_full_disk_on_which_nothing_can_be_given_up_is_not_tried_again_and_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trim, "EXPIRY_SECONDS", 0.0)
    with opened(tmp_path) as box:
        append(box, batch(), batch())
        acknowledge(box, "wms", 2)
        attempts = []

        def full(_kept: object, need_bytes: int, _before: int = 0) -> int:
            attempts.append(need_bytes)
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode, error.sqlite_errorname = 13, "SQLITE_FULL"
            raise error

        with monkeypatch.context() as disk:
            disk.setattr(kept.Kept, "give_up", full)
            for _ in range(3):
                with pytest.raises(Retryable, match="disk is full"):
                    settle(box)
            threading.Event().wait(0.3)  # nobody asks for anything
            assert len(attempts) <= 3 * 3, "each failed commit may try to give up some, and once more to commit"
        settle(box)
        append(box, batch())
        assert numbers(box) == [3]


@pytest.mark.parametrize("held_in", ["queue", "parts"])
def test_an_acknowledgement_that_waits_does_not_count_once_another_store_welcomed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_in: str
) -> None:
    monkeypatch.setattr(groupcommit, "ACK_BATCHES", 1)
    held, go = threading.Event(), threading.Event()
    with opened(tmp_path) as box:
        append(box, *[batch() for _ in range(6)])

        def hold() -> None:
            if held_in == "queue" or box.positions()["wms"].acked_sequence:
                held.set()
                go.wait(60)

        box.subscribe(hold)
        if held_in == "queue":
            box.set_limits(ROOMY)  # something to commit
            assert held.wait(60)
        box.acknowledge("wms", box.epoch, 6)  # by the store of before
        assert held.wait(60)
        before = box.generation
        welcomed = threading.Thread(target=box.remember_store, args=(b"another",))
        welcomed.start()
        eventually(lambda: box.generation > before)
        go.set()
        welcomed.join(60)
        settle(box)
        assert box.positions()["wms"].acked_sequence == (0 if held_in == "queue" else 1)
        box.acknowledge("wms", box.epoch, 6)
        eventually(lambda: box.positions()["wms"].acked_sequence == 6)


def test_nobody_sends_new_numbers_under_the_old_epoch_and_its_answers_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_hours=0)) as box:
        append(box, batch(), batch(), batch())
        acknowledge(box, "wms", 1)
        old, read = box.epoch, []
        call = box._group.call

        def send() -> None:
            epoch, generation = box.epoch, box.generation  # a stream begins, and looks before it sends
            page = [b.sequence for b in box.page("wms", 0, 10_000)]
            read.append((epoch, page, generation == box.generation))

        threads = [threading.Thread(target=send)]

        def committed(run: Callable[[store.Store], object]) -> object:
            result = call(run)
            threads[0].start()
            threads[0].join(1)  # where it may read already
            box.acknowledge("wms", old, 2, box.generation)  # an answer to a batch of before
            return result

        monkeypatch.setattr(box._group, "call", committed)
        assert box.renew({}) == [Missing("wms", 1, 1, 7)]
        monkeypatch.undo()
        threads[0].join(60)
        assert [sent for sent in read if sent[2] and sent[0] != box.epoch] == []
        settle(box)
        assert numbers(box) == [1, 2]
        box.acknowledge("wms", box.epoch, 2, box.generation)
        settle(box)
        assert numbers(box) == []


@pytest.mark.parametrize("where", ["in the transaction", "after the commit"])
def test_the_commit_thread_outlives_whatever_happens_and_whoever_waits_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with opened(tmp_path) as box:
        append(box, batch())

        def fail(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error") if where == "after the commit" else ValueError("no JSON")

        told: list[str] = []

        def ask() -> None:
            with pytest.raises(Retryable) as caught:
                box.opening()
            told.append(caught.value.message)

        with monkeypatch.context() as fault:
            fault.setattr(store.Store, "opening" if where == "in the transaction" else "positions", fail)
            asking = threading.Thread(target=ask, daemon=True)
            asking.start()
            asking.join(20)
        assert len(told) == 1, "whoever asked waits for ever"
        append(box, batch())
        assert numbers(box) == [1, 2]
        assert box.opening() == {"wms": (1, 0) if where == "after the commit" else (2, 0)}


def test_a_new_epoch_is_known_even_if_its_commit_was_the_last_thing_that_worked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_hours=0)) as box:
        append(box, batch(), batch())
        acknowledge(box, "wms", 1)
        old = box.epoch

        def fail(_store: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as fault:
            fault.setattr(store.Store, "positions", fail)
            with pytest.raises(Retryable, match="disk I/O error"):
                box.renew({})
        assert box.epoch != old
        assert numbers(box) == [1]
