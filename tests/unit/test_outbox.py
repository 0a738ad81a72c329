"""The outbox keeps what was committed, in order, once, and says no rather than lose."""

import errno
import os
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock.errors import BufferCorrupt, BufferFull, ConfigError, CrossdockError, Retryable
from crossdock.siteconfig import OutboxConfig
from crossdock_agent.outbox import Append, Outbox, Position, Store, groupcommit, inspect, quarantine, schema

ROOMY = OutboxConfig(min_free_disk_bytes=0)


def batch(source: str = "wms", payload: bytes = b"x" * 100, *, checkpoint: bytes = b"c", **more: object) -> Append:
    values = {"lane": "standard", "records": 2, "raw_bytes": 10, "read_at_us": 7, **more}
    return Append(source=source, sealed=payload, crc32=zlib.crc32(payload), checkpoint=checkpoint, **values)  # type: ignore[arg-type]


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "condition not met in 60 s"
        time.sleep(0.005)


def opened(directory: Path, limits: OutboxConfig = ROOMY) -> Outbox:
    return Outbox(directory / "outbox.db", limits)


def append(outbox: Outbox, *batches: Append) -> None:
    writer = outbox.writer(batches[0].source)
    for one in batches:
        writer.append(one)
    writer.flush()


def test_batch_checkpoint_ledger_and_token_are_there_after_reopening(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        append(outbox, batch(checkpoint=b"after-1", remember=(("file", b"1"),), on_ack=b"archive"))
        epoch = outbox.epoch
    with opened(tmp_path) as outbox:
        assert outbox.epoch == epoch
        assert outbox.checkpoint("wms") == b"after-1"
        assert outbox.recall("wms", "file") == b"1"
        assert outbox.recall("wms", "other") is None
        assert [b.sequence for b in outbox.page("wms", 0, 1_000_000)] == [1]
        assert outbox.releases("wms") == []  # not before the acknowledgement


def test_the_file_is_wal_and_gives_space_back_in_steps(tmp_path: Path) -> None:
    limits = OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_bytes=1_000_000)
    with opened(tmp_path, limits) as outbox:
        payload = os.urandom(200_000)
        append(outbox, *[batch(payload=payload) for _ in range(150)])
        file = sqlite3.connect(tmp_path / "outbox.db")
        assert file.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert file.execute("PRAGMA page_count").fetchone()[0] > 3600
        outbox.acknowledge("wms", outbox.epoch, 150)
        eventually(lambda: file.execute("PRAGMA page_count").fetchone()[0] < 2200)
        file.close()


def test_the_file_shrinks_while_a_backlog_drains_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "BUSY_SPARE_PAGES", 300)
    monkeypatch.setattr(groupcommit.GroupCommit, "_vacuum", lambda _self: False)  # never idle
    with opened(tmp_path, OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_hours=0)) as outbox:
        append(outbox, *[batch(payload=os.urandom(80_000)) for _ in range(200)])
        full = outbox._group.call(Store.pages)
        for sequence in range(5, 201, 5):
            outbox.acknowledge("wms", outbox.epoch, sequence)
            eventually(lambda at=sequence: outbox.positions()["wms"].acked_sequence == at)
        eventually(lambda: outbox._group.call(lambda store: store.free_pages()) <= 300)
        assert outbox._group.call(Store.pages) < 0.3 * full


def test_a_backlog_that_is_acknowledged_at_once_is_forgotten_in_parts_and_appends_go_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "ACK_BATCHES", 10)
    with opened(tmp_path) as outbox:
        append(outbox, *[batch() for _ in range(95)])
        steps: list[tuple[int, int]] = []

        def note() -> None:
            at = outbox.positions()
            steps.append((at["wms"].acked_sequence, at["erp"].last_sequence if "erp" in at else 0))
            if steps[-1][0] == 30 and len(steps) == 3:
                writer.append(batch("erp"))

        writer = outbox.writer("erp")
        outbox.subscribe(note)
        outbox.acknowledge("wms", outbox.epoch, 95)
        eventually(lambda: outbox.positions()["wms"].acked_sequence == 95)
        assert [done for done, _ in steps] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 95]
        assert steps[3] == (40, 1), "the append was in the very next transaction"
        outbox.acknowledge("wms", outbox.epoch, 500)  # more than there is: done with, not tried for ever
        outbox.acknowledge("erp", outbox.epoch, 1)
        eventually(lambda: outbox.positions()["erp"].acked_sequence == 1)
        assert outbox._group._acks == {}


def test_acknowledging_deletes_only_that_source_up_to_the_sequence_and_makes_tokens_due(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        due: list[str] = []
        outbox.on_release("wms", lambda: due.append("wms"))
        append(outbox, batch(on_ack=b"t1"), batch(), batch(on_ack=b"t3"))
        append(outbox, batch("erp", on_ack=b"e1"))
        outbox.acknowledge("wms", outbox.epoch, 2)
        eventually(lambda: due)
        assert [b.sequence for b in outbox.page("wms", 0, 1_000_000)] == [3]
        assert [b.sequence for b in outbox.page("erp", 0, 1_000_000)] == [1]
        assert [token for _, token in outbox.releases("wms")] == [b"t1"]
        assert outbox.stats().batches == 2
        assert outbox.stats().records == 4
        outbox.finish_releases([i for i, _ in outbox.releases("wms")])
        assert outbox.releases("wms") == []


def test_a_token_is_unreleased_from_its_commit_until_its_release_is_finished(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        append(outbox, batch(on_ack=b"one"), batch(), batch(on_ack=b"two"), batch("erp", on_ack=b"other"))
        assert outbox.unreleased("wms") == [b"one", b"two"]
        outbox.acknowledge("wms", outbox.epoch, 1)
        eventually(lambda: outbox.releases("wms"))
        assert outbox.unreleased("wms") == [b"one", b"two"]
    with opened(tmp_path) as outbox:
        assert outbox.unreleased("wms") == [b"one", b"two"]
        outbox.finish_releases([i for i, _ in outbox.releases("wms")])
        assert outbox.unreleased("wms") == [b"two"]
        assert outbox.unreleased("nobody") == []


def test_an_acknowledgement_of_another_epoch_or_an_unknown_source_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        append(outbox, batch())
        outbox.acknowledge("wms", b"x" * 16, 1)
        outbox.acknowledge("nobody", outbox.epoch, 1)
        append(outbox, batch("erp"))  # a later commit: whatever was queued is through
        assert outbox.positions()["wms"].batches == 1
        assert "nobody" not in outbox.positions()


def test_a_page_has_at_least_one_batch_and_else_keeps_to_its_limit(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        append(outbox, *[batch(payload=bytes(1000)) for _ in range(5)])
        assert [b.sequence for b in outbox.page("wms", 0, 10)] == [1]
        assert [b.sequence for b in outbox.page("wms", 1, 2500)] == [2, 3]
        assert [b.sequence for b in outbox.page("wms", 3, 99_999, 1)] == [4]
        assert outbox.page("wms", 5, 10) == []


def test_a_full_outbox_refuses_keeps_what_it_has_and_takes_again_when_there_is_space(tmp_path: Path) -> None:
    with opened(tmp_path, OutboxConfig(max_bytes=10_000, min_free_disk_bytes=0)) as outbox:
        writer = outbox.writer("wms")
        for _ in range(10):
            writer.append(batch(payload=bytes(1000), lane="critical"))
        with pytest.raises(BufferFull, match="10000 of 10000"):
            writer.append(batch(payload=bytes(1000), lane="critical"))
        writer.flush()
        assert outbox.stats().batches == 10
        assert not outbox.wait_for_space(1000, 0.05)
        released = threading.Thread(target=lambda: outbox.acknowledge("wms", outbox.epoch, 4))
        released.start()
        assert outbox.wait_for_space(1000, 10)
        released.join()
        writer.append(batch(payload=bytes(1000), lane="critical"))
        writer.flush()
        assert [b.sequence for b in outbox.page("wms", 0, 1_000_000)] == [5, 6, 7, 8, 9, 10, 11]


def test_the_last_places_are_kept_for_the_lanes_above(tmp_path: Path) -> None:
    with opened(tmp_path, OutboxConfig(max_bytes=100_000, min_free_disk_bytes=0)) as outbox:
        taken = {}
        for lane in ("bulk", "standard", "critical"):
            writer, taken[lane] = outbox.writer(lane), 0
            while outbox.takes(lane):
                try:
                    writer.append(batch(lane, bytes(1000), lane=lane))
                except BufferFull:
                    break
                taken[lane] += 1
            writer.flush()
        assert taken == {"bulk": 90, "standard": 5, "critical": 5}
        outbox.acknowledge("bulk", outbox.epoch, 5)  # the room belongs to critical first
        eventually(lambda: outbox.takes("critical"))
        assert not outbox.takes("standard")
        assert not outbox.takes("bulk")


def test_reading_stops_at_the_free_disk_floor(tmp_path: Path) -> None:
    with opened(tmp_path, OutboxConfig(min_free_disk_bytes=2**60)) as outbox:
        with pytest.raises(BufferFull, match="bytes are free on the disk"):
            outbox.writer("wms").append(batch())
        outbox.set_limits(ROOMY)
        append(outbox, batch())


def test_a_batch_larger_than_the_limit_is_taken_when_the_outbox_is_empty(tmp_path: Path) -> None:
    with opened(tmp_path, OutboxConfig(max_bytes=100, min_free_disk_bytes=0)) as outbox:
        append(outbox, batch(payload=bytes(5000)))
        assert outbox.stats().bytes == 5000


@pytest.mark.parametrize("damage", ["not a database", "header", "middle"])
def test_a_damaged_file_is_set_aside_and_a_new_epoch_begins(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "outbox.db"
    with opened(tmp_path) as outbox:
        append(outbox, *[batch(payload=os.urandom(3000)) for _ in range(50)])
        epoch = outbox.epoch
    data = bytearray(path.read_bytes())
    if damage == "not a database":
        data[:] = b"this was an outbox" * 1000
    elif damage == "header":
        data[0:16] = os.urandom(16)
    else:  # every b-tree page after the first
        for page in range(1, len(data) // schema.PAGE_BYTES):
            data[page * schema.PAGE_BYTES : page * schema.PAGE_BYTES + 64] = os.urandom(64)
    path.write_bytes(data)
    with opened(tmp_path) as outbox:
        assert outbox.quarantined is not None
        assert outbox.quarantined.path.name.startswith("outbox.db.corrupt-")
        assert outbox.quarantined.path.read_bytes() == bytes(data)  # nothing was written to it
        assert outbox.fresh
        assert outbox.epoch != epoch
        append(outbox, batch())
        assert [b.sequence for b in outbox.page("wms", 0, 10)] == [1]


def test_a_damaged_file_that_a_full_disk_does_not_rename_is_left_and_the_next_step_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"this was an outbox" * 1000)

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(self), None, str(target))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(Retryable, match=r"outbox\.db is damaged and cannot be set aside: No space left") as told:
            schema.open_checked(path)
        assert "free disk space" in str(told.value.hint)
    assert path.read_bytes() == b"this was an outbox" * 1000
    with opened(tmp_path) as outbox:
        assert outbox.quarantined is not None


def test_a_flipped_byte_in_a_stored_batch_is_noticed_when_it_is_read_and_finishes_the_outbox(tmp_path: Path) -> None:
    payload = b"A" * 50_000
    with opened(tmp_path) as outbox:
        append(outbox, batch(payload=payload))
    path = tmp_path / "outbox.db"
    data = path.read_bytes()
    place = data.index(b"A" * 4000) + 2000
    path.write_bytes(data[:place] + b"B" + data[place + 1 :])
    told: list[BufferCorrupt] = []
    with Outbox(path, ROOMY, on_corrupt=told.append) as outbox:
        with pytest.raises(BufferCorrupt, match="wms/1 differs"):
            outbox.page("wms", 0, 10)
        assert len(told) == 1
        with pytest.raises(BufferCorrupt):
            outbox.writer("wms").append(batch())
        with pytest.raises(BufferCorrupt):
            outbox.checkpoint("wms")
    aside = quarantine(path, told[0].message)
    assert aside.path.exists()
    assert not path.exists()


def test_batches_that_do_not_add_up_are_damage(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        append(outbox, batch(), batch(), batch())
    file = sqlite3.connect(tmp_path / "outbox.db")
    file.execute("DELETE FROM batches WHERE sequence = 2")
    file.commit()
    file.close()
    with pytest.raises(BufferCorrupt, match="source wms: the batches do not add up"):
        inspect(tmp_path / "outbox.db")
    with opened(tmp_path) as outbox:
        assert outbox.quarantined is not None


def test_a_large_file_is_checked_without_walking_its_payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "FULL_CHECK_BYTES", 0)
    with opened(tmp_path) as outbox:
        append(outbox, batch(), batch())
    assert inspect(tmp_path / "outbox.db") == (2, 200)


def test_an_outbox_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    file = sqlite3.connect(tmp_path / "outbox.db")
    file.execute("PRAGMA user_version = 99")
    file.close()
    with pytest.raises(ConfigError, match="schema 99"):
        opened(tmp_path)


def test_a_current_outbox_opens_without_sqlite_utils(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    code = (
        "import sys; from pathlib import Path; from crossdock_agent.outbox import Outbox;"
        "from crossdock.siteconfig import OutboxConfig\n"
        f"with Outbox(Path({str(tmp_path / 'outbox.db')!r}), OutboxConfig()): assert 'sqlite_utils' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_fresh_outbox_adopts_the_controllers_checkpoints_and_numbers_from_one(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        assert outbox.fresh
        outbox.adopt({"wms": b"far", "erp": b""})
        assert not outbox.fresh
        assert outbox.checkpoint("wms") == b"far"
        assert outbox.checkpoint("erp") is None
        append(outbox, batch(checkpoint=b"further"))
        assert [b.sequence for b in outbox.page("wms", 0, 10)] == [1]
    with opened(tmp_path) as outbox:
        assert not outbox.fresh


def test_where_it_stood_before_anything_unseen_by_the_controller_is_remembered_until_it_was_compared(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as outbox:
        append(outbox, batch(), batch())
        outbox.acknowledge("wms", outbox.epoch, 1)
        outbox.adopt({})
        assert outbox.opening() == {"wms": (2, 1)}
        append(outbox, batch())
    with opened(tmp_path) as outbox:
        assert outbox.opening() == {"wms": (2, 1)}  # that process never reached the controller
        append(outbox, batch("erp"))
        outbox.compared()
    with opened(tmp_path) as outbox:
        assert outbox.opening() == {"wms": (3, 1), "erp": (1, 0)}
        assert outbox.bind("atl1") is False
        assert outbox.bind("rtm1") is True  # a new epoch: sequences of before mean nothing
        assert outbox.opening() == {"wms": (2, 0), "erp": (1, 0)}


def test_batches_of_an_earlier_identity_are_renumbered_in_a_new_epoch(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        assert not outbox.bind("atl1")
        append(outbox, *[batch(checkpoint=b"%d" % i) for i in range(1, 6)])
        outbox.acknowledge("wms", outbox.epoch, 3)
        eventually(lambda: outbox.stats().batches == 2)
        epoch = outbox.epoch
        assert not outbox.bind("atl1")
        assert outbox.epoch == epoch
        assert outbox.bind("atl2")
        assert outbox.epoch != epoch
        assert [b.sequence for b in outbox.page("wms", 0, 1_000_000)] == [1, 2]
        assert outbox.checkpoint("wms") == b"5"
        append(outbox, batch())
        assert [b.sequence for b in outbox.page("wms", 0, 1_000_000)] == [1, 2, 3]
    with opened(tmp_path) as outbox:
        assert outbox.quarantined is None


def test_a_reader_that_did_not_stop_cannot_append_once_its_successor_began(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        late = outbox.writer("wms")
        late.append(batch(checkpoint=b"1"))
        append(outbox, batch(checkpoint=b"2"))
        with pytest.raises(CrossdockError, match="was stopped"):
            late.append(batch(checkpoint=b"3"))
        assert outbox.checkpoint("wms") == b"2"
        assert [b.sequence for b in outbox.page("wms", 0, 1_000_000)] == [1, 2]


def test_a_failed_commit_fails_the_later_appends_too_and_leaves_no_gap(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        append(outbox, batch(checkpoint=b"1"))
        blocker = sqlite3.connect(tmp_path / "outbox.db")
        blocker.execute(
            "CREATE TRIGGER no BEFORE INSERT ON batches WHEN new.read_at_us = 13 BEGIN SELECT RAISE(ABORT, 'disk'); END"
        )
        blocker.close()
        writer = outbox.writer("wms")
        writer.append(batch(checkpoint=b"bad", read_at_us=13))
        with pytest.raises(CrossdockError, match="cannot be used now"):
            writer.flush()
        with pytest.raises(CrossdockError, match="cannot be used now"):
            writer.append(batch(checkpoint=b"later"))
        writer = outbox.writer("wms")  # waits for what was under way
        at = outbox.positions()["wms"].last_sequence
        assert [b.sequence for b in outbox.page("wms", 0, 1_000_000)] == list(range(1, at + 1))
        writer.append(batch(checkpoint=b"again"))
        writer.flush()
        assert outbox.positions()["wms"].last_sequence == at + 1


def test_an_acknowledgement_holds_from_the_moment_at_which_a_batch_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as outbox:
        positions = outbox._store.positions

        def at_once() -> dict[str, Position]:  # committed, and the outbox does not know its first batch yet
            if outbox.page("wms", 0, 1):
                outbox.acknowledge("wms", outbox.epoch, 1)
            return positions()

        monkeypatch.setattr(outbox._store, "positions", at_once)
        writer = outbox.writer("wms")
        writer.append(batch("wms"))
        writer.flush()
        eventually(lambda: outbox.stats().batches == 0)


def test_many_threads_append_read_and_acknowledge_at_once(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        failures: list[BaseException] = []

        def pump(source: str) -> None:
            try:
                writer = outbox.writer(source)
                for i in range(200):
                    writer.append(batch(source, b"%d" % i, checkpoint=b"%d" % i))
                writer.flush()
            except BaseException as error:  # noqa: BLE001 - handed to the test
                failures.append(error)

        threads = [threading.Thread(target=pump, args=(f"s{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        seen = dict.fromkeys((f"s{n}" for n in range(4)), 0)
        deadline = time.monotonic() + 100  # a sync may take long on a busy disk
        while sum(seen.values()) < 800:
            assert not failures
            assert time.monotonic() < deadline
            for source in seen:
                for stored in outbox.page(source, seen[source], 10_000):
                    assert stored.sequence == seen[source] + 1
                    seen[source] = stored.sequence
                    outbox.acknowledge(source, outbox.epoch, stored.sequence)
        for thread in threads:
            thread.join()
        assert not failures
        eventually(lambda: outbox.stats().batches == 0)


_CHILD = """
import sys, zlib, random
from pathlib import Path
from crossdock_agent.outbox import Append, Outbox
from crossdock.siteconfig import OutboxConfig
with Outbox(Path(sys.argv[1]), OutboxConfig(min_free_disk_bytes=0)) as outbox:
    at = int(outbox.checkpoint("wms") or b"0")
    print("open", flush=True)
    writer = outbox.writer("wms")
    while True:
        at += 1
        payload = (b"%d;" % at) * random.randint(1, 4000)
        writer.append(Append("wms", "standard", payload, zlib.crc32(payload), 1, len(payload), 1, b"%d" % at,
                             (("k%d" % at, b"%d" % at),), b"%d" % at))
        if at % 7 == 0:
            outbox.acknowledge("wms", outbox.epoch, at - 5)
"""


def test_batches_and_checkpoint_agree_after_kill_9_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with opened(tmp_path):
        pass
    for round_number in range(8):
        child = subprocess.Popen([sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"open"
        time.sleep(0.01 + 0.03 * round_number)  # the moment of the kill is what varies
        child.kill()
        child.wait()
        child.stdout.close()
        with opened(tmp_path) as outbox:
            assert outbox.quarantined is None
            at = int(outbox.checkpoint("wms") or b"0")
            position = outbox.positions().get("wms")
            assert (position.last_sequence if position else 0) == at
            first = position.acked_sequence if position else 0
            stored = outbox.page("wms", 0, 2**40, 100_000)
            assert [b.sequence for b in stored] == list(range(first + 1, at + 1))
            assert all(b.sealed.startswith(b"%d;" % b.sequence) for b in stored)
            assert not at or outbox.recall("wms", f"k{at}") == b"%d" % at
            assert outbox.recall("wms", f"k{at + 1}") is None
            assert [t for _, t in outbox.releases("wms")] == [b"%d" % i for i in range(1, first + 1)]
    assert at > 0
