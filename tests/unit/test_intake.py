"""The intake log: gapless, idempotent, all or nothing."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock_controller.store.intake import Incoming, IntakeReader, IntakeWriter

EPOCH = b"e" * 16


def batch(sequence: int, *, source: str = "wms", epoch: bytes = EPOCH, records: int = 3) -> Incoming:
    return Incoming("a1", "atl1", source, epoch, sequence, "standard", records, b"cp%d" % sequence, b"sealed", 7)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[IntakeWriter]:
    writer = IntakeWriter(tmp_path / "intake.db")
    yield writer
    writer.close()


def test_what_was_committed_is_read_back_in_order_with_its_checkpoint(writer: IntakeWriter, tmp_path: Path) -> None:
    answers = writer.commit([batch(1), batch(2), batch(1, source="erp")], now_us=5)
    assert [a.state for a in answers] == ["stored"] * 3
    reader = IntakeReader(tmp_path / "intake.db")
    streams = reader.streams()
    assert [(s.source, s.last_sequence, s.records) for s in streams] == [("wms", 2, 6), ("erp", 1, 3)]
    assert [b.sequence for b in reader.batches(streams[0].id, 2, 10)] == [2]
    assert sorted(reader.checkpoints("a1")) == [("erp", EPOCH, 1, b"cp1"), ("wms", EPOCH, 2, b"cp2")]
    reader.close()


def test_a_known_batch_is_acknowledged_again_and_counted_once(writer: IntakeWriter, tmp_path: Path) -> None:
    writer.commit([batch(1), batch(2)], now_us=1)
    answers = writer.commit([batch(1), batch(2), batch(3)], now_us=2)
    assert [(a.state, a.last) for a in answers] == [("known", 2), ("known", 2), ("stored", 3)]
    reader = IntakeReader(tmp_path / "intake.db")
    assert reader.streams()[0].records == 9
    reader.close()


def test_a_gap_is_refused_and_names_what_is_held(writer: IntakeWriter) -> None:
    writer.commit([batch(1)], now_us=1)
    assert [(a.state, a.last) for a in writer.commit([batch(3), batch(2)], now_us=1)] == [("gap", 1), ("stored", 2)]


def test_a_known_sequence_with_other_content_is_a_conflict_and_not_acknowledged(writer: IntakeWriter) -> None:
    writer.commit([batch(1), batch(2)], now_us=1)
    other = Incoming("a1", "atl1", "wms", EPOCH, 2, "standard", 3, b"cp", b"other bytes", 8)
    assert [a.state for a in writer.commit([other, batch(2)], now_us=1)] == ["conflict", "known"]


def test_nothing_behind_a_conflict_is_stored_or_known_because_an_acknowledgement_speaks_for_all_before_it(
    writer: IntakeWriter,
) -> None:
    writer.commit([batch(1), batch(2), batch(3)], now_us=1)
    mine: dict[tuple[str, bytes], int] = {}
    other = replace(batch(2), crc32=8, conflicts=mine)
    states = [
        a.state
        for a in writer.commit([replace(batch(1), conflicts=mine), other, replace(batch(3), conflicts=mine)], now_us=1)
    ]
    assert states == ["known", "conflict", "conflict"]
    assert writer.commit([replace(batch(4), conflicts=mine)], now_us=1)[0].state == "conflict"
    assert writer.commit([replace(batch(2), conflicts=mine)], now_us=1)[0].state == "known"
    assert writer.commit([replace(batch(1, source="erp"), conflicts=mine)], now_us=1)[0].state == "stored"
    assert writer.commit([batch(4)], now_us=1)[0].state == "stored"  # another stream of the same agent


def test_a_new_epoch_starts_again_at_one_and_is_the_newest_checkpoint(writer: IntakeWriter, tmp_path: Path) -> None:
    writer.commit([batch(1), batch(2)], now_us=1)
    assert writer.commit([batch(1, epoch=b"f" * 16)], now_us=2)[0].state == "stored"
    reader = IntakeReader(tmp_path / "intake.db")
    assert reader.checkpoints("a1") == [("wms", b"f" * 16, 1, b"cp1")]
    reader.close()


def test_a_commit_that_fails_stores_nothing_and_forgets_what_it_counted(tmp_path: Path) -> None:
    writer = IntakeWriter(tmp_path / "intake.db")
    writer.commit([batch(1)], now_us=1)
    blocker = sqlite3.connect(tmp_path / "intake.db", isolation_level=None)
    blocker.execute(
        "CREATE TRIGGER full BEFORE INSERT ON batches WHEN NEW.sequence = 3 BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    )
    with pytest.raises(sqlite3.IntegrityError, match="disk full"):
        writer.commit([batch(2), batch(3)], now_us=1)
    blocker.execute("DROP TRIGGER full")
    blocker.close()
    assert [a.state for a in writer.commit([batch(2), batch(3)], now_us=1)] == ["stored", "stored"]
    writer.close()


def test_purge_takes_only_what_is_old_and_normalized_and_keeps_the_count(writer: IntakeWriter, tmp_path: Path) -> None:
    writer.commit([batch(1), batch(2)], now_us=10)
    writer.commit([batch(3)], now_us=99)
    stream = 1
    assert writer.purge(50, {stream: 1}) == 1
    assert writer.purge(50, {stream: 3}) == 1
    assert writer.purge(50, {stream: 3}) == 0
    reader = IntakeReader(tmp_path / "intake.db")
    assert reader.streams()[0].records == 9
    assert [b.sequence for b in reader.batches(stream, 1, 10)] == [3]
    reader.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["wms", "erp"]), st.integers(1, 8)), max_size=40), st.integers(1, 5))
def test_any_order_of_arrival_leaves_each_stream_gapless_and_each_batch_once(
    tmp_path_factory: pytest.TempPathFactory, arrivals: list[tuple[str, int]], group: int
) -> None:
    path = tmp_path_factory.mktemp("intake") / "intake.db"
    writer = IntakeWriter(path)
    model = {"wms": 0, "erp": 0}
    for start in range(0, len(arrivals), group):
        part = arrivals[start : start + group]
        answers = writer.commit([batch(n, source=s) for s, n in part], now_us=1)
        for (source, n), answer in zip(part, answers, strict=True):
            expected = "known" if n <= model[source] else "stored" if n == model[source] + 1 else "gap"
            assert answer.state == expected
            model[source] += expected == "stored"
    writer.close()
    reader = IntakeReader(path)
    for stream in reader.streams():
        assert [b.sequence for b in reader.batches(stream.id, 1, 100)] == list(range(1, model[stream.source] + 1))
    reader.close()
