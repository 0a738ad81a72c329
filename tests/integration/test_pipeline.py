"""From sealed batches in the intake to rows in a SQLite sink: the real engine, router, sink and worker processes."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.codec import Sealer
from crossdock.errors import Refused, Rejected
from crossdock.v1.batch_pb2 import BatchHeader, Origin, Reject
from crossdock_controller import letters
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.dispatch import Dispatcher
from crossdock_controller.normalize import Normalizer
from crossdock_controller.store import connection, dead_letters, normalizer
from crossdock_controller.store.account import AccountRow
from crossdock_controller.store.trace import trace
from support.pipeline import Box, wait_for

HEADER = b"SHIPMENT_NO;ITEM;QTY\n"
SOURCE = """
source: wms-shipments
on: {}
kind: file_drop
directory: ${root}
pattern: "*.csv"
format: {kind: csv, delimiter: ";"}
"""
TREE = {
    "sites/atl1.yaml": "site: atl1\nlabels: {region: us}\nvariables: {root: drop}\n",
    "sources/wms-shipments.yaml": SOURCE,
    "mappings/wms-shipments.yaml": """
mapping: wms-shipments
document: Shipment
each: SHIPMENT_NO
fields:
  number: SHIPMENT_NO
  lines: {sku: ITEM, quantity: {from: QTY, decimal: ","}}
""",
    "routes/finance.yaml": 'when: document == "Shipment"\nto: [finance]\n',
    "sinks/finance.yaml": """
sink: finance
kind: sql
url: sqlite:///finance.db
create_tables: true
tables:
  Shipment:
    table: shipment
    key: [number]
    columns: {number: number, sequence: $sequence}
    children:
      - each: lines
        table: line
        parent: {number: number}
        columns: {position: $index, sku: sku, quantity: quantity.value}
""",
}


class Site:
    """Sends lines of a shipment file as an agent would."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._sealer = Sealer()
        self.ordinal = 0

    def send(self, *lines: str, closes: bool = False, unit: bytes = b"u" * 16, rejects: int = 0) -> None:
        origin = Origin(kind="file", name="SHP1.csv", unit=unit, first_record=self.ordinal, first_line=self.ordinal + 2)
        header = BatchHeader(format="csv", records=len(lines), prefix=HEADER, origin=origin, closes=closes)
        for i in range(rejects):
            record = self.ordinal + len(lines) + i
            header.rejects.append(Reject(record=record, line=record + 2, code="too_long", reason="a line of 200 MB"))
        self.ordinal = 0 if closes else self.ordinal + len(lines) + rejects
        sealed = self._sealer.seal(header, "".join(f"{line}\n" for line in lines).encode())
        self.box.store(sealed.data, sealed.crc32, len(lines) + rejects, source="wms-shipments")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    box.apply(TREE)
    yield box
    box.close()


def work(box: Box) -> None:
    """Normalize what there is, and deliver it."""
    worker = Normalizer(box.data, Runtime.from_tree)
    while worker.step():
        pass
    worker.close()


def deliver(box: Box, rows: int) -> None:
    dispatcher = Dispatcher(box.data, Runtime.from_tree)
    dispatcher.tick()
    wait_for(lambda: account(box).pending == 0, "everything is delivered")
    dispatcher.close()
    assert len(shipped(box)) == rows


def account(box: Box) -> AccountRow:
    row = box.account("wms-shipments")
    assert row.balanced, row
    return row


def shipped(box: Box) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(box.data.root / "finance.db")) as db:
        return db.execute("SELECT number, sku, quantity FROM line ORDER BY number, position").fetchall()


def test_groups_across_batches_arrive_whole_and_once(box: Box) -> None:
    site = Site(box)
    site.send("S1;A;1,5", "S1;B;2", "S2;A;3")
    site.send("S2;B;4", "S2;C;5")
    work(box)
    assert account(box).waiting == 3  # S2 is still open
    assert normalizer.checkpoints(box.db)[1].at == normalizer.Position(1, 2)
    site.send("S2;D;6", "S3;A;7", closes=True)
    work(box)
    deliver(box, 7)
    assert shipped(box) == [
        ("S1", "A", "1.5"), ("S1", "B", "2"), ("S2", "A", "3"), ("S2", "B", "4"), ("S2", "C", "5"), ("S2", "D", "6"),
        ("S3", "A", "7"),
    ]  # fmt: skip
    assert account(box).delivered == 7


def test_a_group_larger_than_a_round_is_waited_for_and_mapped_whole(box: Box) -> None:
    site = Site(box)
    for i in range(40):
        site.send(*[f"S1;I{i}-{j};1" for j in range(3)])
    site.send("S2;A;1", closes=True)
    work(box)
    deliver(box, 121)
    assert account(box).delivered == 121


def test_a_group_that_goes_on_later_in_the_file_is_set_aside_and_does_not_replace_the_first(box: Box) -> None:
    site = Site(box)
    site.send("S1;A;1", "S2;A;1", "S3;A;1")
    work(box)
    site.send("S1;B;9", "S4;A;1", closes=True)
    work(box)
    deliver(box, 4)
    assert ("S1", "A", "1") in shipped(box)
    (letter,) = dead_letters.list_all(box.db)
    assert (letter.code, letter.records) == ("group_scattered", 1)
    assert (account(box).delivered, account(box).dead) == (4, 1)
    site.send("S1;A;1", "S2;A;1", "S3;A;1", closes=True)  # read again from the beginning
    work(box)
    assert account(box).duplicates == 3
    site.send("S1;Z;5", closes=True, unit=b"v" * 16)  # another file: a new version
    work(box)
    deliver(box, 4)
    assert ("S1", "Z", "5") in shipped(box)


def test_the_rest_of_a_group_that_was_too_long_does_not_become_a_document(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock_controller.normalize.BATCHES", 2)
    monkeypatch.setattr("crossdock_controller.normalize.MAX_BATCHES", 4)
    site = Site(box)
    for i in range(6):
        site.send(f"S1;I{i};1")
    site.send("S1;LAST;1", "S2;A;1", closes=True)
    work(box)
    deliver(box, 1)
    assert shipped(box) == [("S2", "A", "1")]
    letters = dead_letters.list_all(box.db)
    assert [(x.code, x.records) for x in sorted(letters, key=lambda x: x.id)] == [
        ("group_too_long", 4), ("group_too_long", 3),
    ]  # fmt: skip
    assert (account(box).delivered, account(box).dead) == (1, 7)


def test_a_bad_record_is_corrected_by_hand_retried_and_delivered(box: Box) -> None:
    site = Site(box)
    site.send("S1;A;1", "S2;A;many", "S2;B;2", "S3;A;1", closes=True, rejects=1)
    work(box)
    deliver(box, 1)
    found = {letter.code: letter for letter in dead_letters.list_all(box.db)}
    assert (account(box).dead, account(box).delivered) == (4, 1)  # S3 may have gone on in the line of 200 MB
    letter = next(x for x in found.values() if x.records == 2)
    assert letter.locator.text() == "SHP1.csv line 3"
    runtime = Runtime.from_tree(TREE, 9)
    with pytest.raises(Rejected, match="still refused"):
        letters.retry(box.db, runtime, letter.id, {"1.QTY": "lots"}, by="ann")
    with pytest.raises(Refused, match="no column 'QTYY'"):
        letters.retry(box.db, runtime, letter.id, {"QTYY": "1"}, by="ann")
    with pytest.raises(Refused, match="2 rows, not 3"):
        letters.retry(box.db, runtime, letter.id, {"3.QTY": "1"}, by="ann")
    after = letters.retry(box.db, runtime, letter.id, {"1.QTY": "12,5"}, by="ann", note="phoned the site")
    assert (after.state, after.resolved_by, after.note) == ("retried", "ann", "phoned the site")
    assert (account(box).dead, account(box).pending) == (2, 2)
    deliver(box, 3)
    assert ("S2", "A", "12.5") in shipped(box)
    with pytest.raises(Refused, match="not open"):
        letters.retry(box.db, runtime, letter.id, {}, by="ann")
    for code in ("too_long", "group_uncertain"):
        letters.discard(box.db, found[code].id, by="ann", note="a test of the site")
    assert (account(box).delivered, account(box).discarded, account(box).dead) == (3, 2, 0)
    told = [e.facts["place"] for e in trace(box.data.state, "S2", "Shipment") if e.what == "received"]
    assert told == ["SHP1.csv line 3"]


def test_what_died_by_the_mapping_lives_by_the_next_revision_as_the_same_event(box: Box) -> None:
    mapping = TREE["mappings/wms-shipments.yaml"].replace('decimal: ","', 'decimal: "."')
    strict = {**TREE, "mappings/wms-shipments.yaml": mapping}
    box.apply(strict)
    site = Site(box)
    site.send("S1;A;1,5", closes=True)
    work(box)
    (letter,) = dead_letters.list_all(box.db)
    box.apply(TREE)
    letters.retry(box.db, Runtime.from_tree(TREE, 3), letter.id, {}, by="ann")
    deliver(box, 1)
    site.send("S1;A;1,5", closes=True)
    work(box)
    assert (account(box).delivered, account(box).duplicates) == (1, 1)


@pytest.mark.parametrize("kills", [4])
def test_worker_processes_that_are_killed_again_and_again_lose_and_double_nothing(box: Box, kills: int) -> None:
    def start(role: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "crossdock_controller.worker", "--role", role, "--data", str(box.data.root)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ.copy())

    site = Site(box)
    for i in range(40):
        site.send(*[f"S{i:03}-{j // 5:03};I{j};{j}" for j in range(1000)], closes=i == 39)

    def progress() -> tuple[int, int]:
        events = box.db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
        return events, box.db.execute("SELECT coalesce(max(event_seq), 0) FROM sink_cursors").fetchone()[0]

    workers: dict[str, subprocess.Popen[bytes]] = {}
    for kill in range(kills + 1):
        for role in ("normalize", "dispatch"):
            if role not in workers or workers[role].poll() is not None:
                workers[role] = start(role)
        goal = 8000 * (kill + 1) // (kills + 1)
        wait_for(lambda goal=goal, of=kill % 2: progress()[of] >= goal, f"{goal} are through", 60)  # type: ignore[misc]
        if kill < kills:
            victim = workers["normalize" if kill % 2 == 0 else "dispatch"]
            victim.kill()
            victim.communicate()
    wait_for(lambda: box.account("wms-shipments").delivered == 40_000, "all is delivered", 60)
    assert account(box).delivered == 40_000
    assert len(shipped(box)) == 40_000
    for process in workers.values():
        assert process.stdin is not None
        process.stdin.close()  # the leash
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert b"ERROR" not in process.stderr.read()
        process.stderr.close()
    assert list((box.data.root / "workers").iterdir()) == []
    with closing(connection.connect(box.data.state)) as db:
        assert db.execute("SELECT count(*) FROM wakers").fetchone() == (0,)
