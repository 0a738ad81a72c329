"""What a source remembers is answered from what is on its way, and costs no sync."""

from __future__ import annotations

from pathlib import Path

from crossdock.siteconfig import OutboxConfig
from crossdock_agent.outbox import Append, Outbox
from crossdock_agent.outbox.groupcommit import QUEUE_BATCHES, QUEUE_BYTES
from crossdock_agent.pump import _Memory

LIMITS = OutboxConfig(min_free_disk_bytes=0)


def batch(n: int, *remember: tuple[str, bytes | None]) -> Append:
    return Append("drop", "standard", b"sealed", 0, 1, 6, n, b"%d" % n, remember)


def hand_over(memory: _Memory, append: Append) -> None:
    memory.open_writer().append(append)
    memory.appended(append)


def test_a_row_on_its_way_is_recalled_without_waiting_for_its_commit(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", LIMITS)  # its commit thread does not run: waiting for one would not end
    memory = _Memory("drop", outbox)
    hand_over(memory, batch(1, ("a", b"1"), ("b", b"1")))
    hand_over(memory, batch(2, ("a", b"2"), ("b", None)))
    assert memory.recall("a") == b"2"
    assert memory.recall("b") is None
    assert memory.recall("c") is None
    with outbox:
        memory.open_writer().flush()
        assert outbox.recall("drop", "a") == b"2"
        assert outbox.recall("drop", "b") is None


def test_rows_that_are_committed_are_held_no_longer_and_newer_ones_still_count(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", LIMITS) as outbox:
        memory = _Memory("drop", outbox)
        for n in range(2000):
            hand_over(memory, batch(n, (f"key{n:04}", b"%d" % n)))
            assert len(memory._queued) <= QUEUE_BATCHES
        memory.open_writer().flush()
        assert memory.recall("key0007") == b"7"
        assert memory._queued == {}
        assert [key for key, _ in memory.rows("key0995", 3)] == ["key0996", "key0997", "key0998"]
        memory._queued["key0996"] = (10_000, None)  # removed by a batch that waits
        memory._queued["key0997"] = (10_000, b"new")
        assert memory.rows("key0995", 3) == [("key0997", b"new"), ("key0998", b"998")]


def test_what_a_failed_writer_had_queued_is_not_remembered(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", LIMITS) as outbox:
        memory = _Memory("drop", outbox)
        hand_over(memory, batch(1, ("a", b"1")))
        memory.open_writer().flush()
        lost = batch(2, ("a", b"2"))
        memory.appended(lost)  # as if its commit had failed: the row is nowhere
        first = memory.open_writer()
        first.error = OSError("disk")  # type: ignore[assignment]
        assert memory.open_writer() is not first
        assert memory.recall("a") == b"1"


def test_ledger_rows_count_towards_what_a_writer_may_queue() -> None:
    rows = tuple((f"{n:032}", b"x" * 68) for n in range(QUEUE_BYTES // 100))
    assert batch(1, *rows).size >= QUEUE_BYTES - 100
