"""Codes without a meaning are a worklist: said once, what waited goes on, never over a newer version."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from crossdock.codec import Sealer
from crossdock.errors import Refused
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller import letters, recoding
from crossdock_controller.cli.codes import as_rows
from crossdock_controller.commands import codes as commands
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.normalize import Normalizer
from crossdock_controller.store import bodies, codes, dead_letters, events
from support.estate import TREE as ESTATE
from support.pipeline import Box

MAPPING = """mapping: SOURCE
document: Shipment
fields:
  number: NO
  lines: {sku: ITEM, quantity: {from: QTY, uom: {from: UNIT, codes: units}}}
"""
SOURCE = ESTATE["sources/wms.yaml"]
TREE = {
    **ESTATE,
    "lists/units.csv": "from,to\nST,H87\n",
    "mappings/wms.yaml": MAPPING.replace("SOURCE", "wms"),
    "mappings/hot.yaml": MAPPING.replace("SOURCE", "hot"),
    "sources/hot.yaml": SOURCE.replace("source: wms", "source: hot").replace("${root}", "${root}/hot")
    + "lane: critical\n",
}


class Site:
    """Sends records `NO;ITEM;QTY;UNIT` in batches of one file."""

    def __init__(self, box: Box) -> None:
        self.box, self.sealer, self.ordinal = box, Sealer(), 0

    def send(self, *lines: str, source: str = "wms", lane: str = "standard") -> None:
        origin = Origin(kind="file", name="f.csv", unit=source.encode() * 4, first_record=self.ordinal, first_line=2)
        self.ordinal += len(lines)
        header = BatchHeader(format="csv", records=len(lines), prefix=b"NO;ITEM;QTY;UNIT\n", origin=origin)
        sealed = self.sealer.seal(header, "".join(f"{line}\n" for line in lines).encode())
        self.box.store(sealed.data, sealed.crc32, len(lines), source=source, lane=lane)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    box.apply(TREE)
    yield box
    box.close()


@pytest.fixture
def site(box: Box) -> Site:
    return Site(box)


def work(box: Box) -> None:
    worker = Normalizer(box.data, Runtime.from_tree)
    while worker.step():
        pass
    worker.close()


def say(box: Box, value: str, meaning: str, site: str = "") -> int:
    return commands.codes_set(box.data, "units", value, meaning, site, by="user:anna", now_us=5).letters


def shipments(box: Box, source: str = "wms") -> list[str]:
    """Number, quantity and unit of each event, in the order of the log."""
    found = []
    reader = bodies.Bodies(box.db)
    rows = box.db.execute(
        "SELECT e.body_id, e.body_start, e.body_length FROM events e JOIN inputs i ON i.id = e.input_id"
        " JOIN sources s ON s.id = i.source_id WHERE s.source = ? ORDER BY e.seq",
        (source,),
    ).fetchall()
    for place in rows:
        body = msgspec.json.decode(reader.get(*place))
        quantity = body["lines"][0]["quantity"]
        found.append(f"{body['number']} {quantity['value']} {quantity['uom']}")
    return found


def states(box: Box) -> list[tuple[str, str]]:
    return box.db.execute("SELECT state, resolved_by FROM dead_letters ORDER BY id").fetchall()


def test_what_waits_for_a_code_is_listed_once_for_each_source(box: Box, site: Site) -> None:
    site.send("1;A;5;PCE", "2;A;5;ST", "3;A;5;PCE", "4;A;5;KRT")
    work(box)
    found = commands.codes_list(box.data, by="me", now_us=1)
    assert [(w.list, w.value, w.site, w.source, w.records, w.said) for w in found] == [
        ("units", "PCE", "atl1", "wms", 2, ""),
        ("units", "KRT", "atl1", "wms", 1, ""),
    ]
    assert "'PCE' has no meaning in the list units" in found[0].sample


def test_said_once_everything_that_waited_goes_on_and_so_does_what_comes_after(box: Box, site: Site) -> None:
    site.send("1;A;5;PCE", "2;A;5;ST", "3;A;7;PCE", "4;A;5;KRT")
    work(box)
    assert say(box, "PCE", "H87") == 2
    work(box)
    assert shipments(box) == ["2 5 H87", "1 5 H87", "3 7 H87"]
    assert states(box) == [("retried", "user:anna"), ("retried", "user:anna"), ("open", "")]
    site.send("5;A;1;PCE")
    work(box)
    assert shipments(box)[-1] == "5 1 H87"
    assert [w.value for w in codes.waiting(box.db)] == ["KRT"]
    row = box.account()
    assert (row.received, row.pending, row.dead, row.balanced) == (5, 4, 1, True)
    box.apply({**TREE, "policy.yaml": "approvals: []\n"})
    site.send("6;A;1;PCE")
    work(box)
    assert shipments(box)[-1] == "6 1 H87", "what people said survives revisions"


def test_an_older_record_never_comes_after_a_newer_version_of_its_document(box: Box, site: Site) -> None:
    site.send("1;A;5;PCE", "1;A;6;ST", "2;A;5;PCE")
    site.send("3;A;1;PCE", "3;A;2;PCE")
    work(box)
    say(box, "PCE", "H87")
    work(box)
    assert shipments(box) == ["1 6 H87", "2 5 H87", "3 1 H87", "3 2 H87"]
    first = dead_letters.get(box.db, 1)
    assert (first.state, first.note) == ("superseded", "event 1 is a later version of 1")
    row = box.account()
    assert (row.superseded, row.pending, row.balanced) == (1, 4, True)


def test_a_retry_by_hand_is_refused_over_a_newer_version_unless_forced(box: Box, site: Site) -> None:
    site.send("1;A;5;PCE", "1;A;6;ST")
    work(box)
    runtime = Runtime.from_tree(TREE, 1)
    with pytest.raises(Refused, match="Shipment 1 has a later version of the same source, event 1"):
        letters.retry(box.db, runtime, 1, {"UNIT": "ST"}, by="me")
    assert states(box) == [("open", "")]
    assert letters.retry(box.db, runtime, 1, {"UNIT": "ST"}, by="me", force=True).state == "retried"
    assert shipments(box) == ["1 6 H87", "1 5 H87"]
    assert box.account().balanced


def test_a_meaning_at_one_site_is_for_that_site_and_goes_before_the_one_for_all(box: Box, site: Site) -> None:
    site.send("1;A;5;PCE")
    work(box)
    assert say(box, "PCE", "KGM", "rtm1") == 0
    work(box)
    assert shipments(box) == []
    say(box, "PCE", "MTR", "atl1")
    say(box, "PCE", "H87")
    work(box)
    assert shipments(box) == ["1 5 MTR"]


def test_a_list_of_the_configuration_goes_before_what_people_said(box: Box, site: Site) -> None:
    say(box, "ST", "KGM")
    site.send("1;A;5;ST")
    work(box)
    assert shipments(box) == ["1 5 H87"]


def test_a_better_answer_is_tried_after_one_that_did_not_help(box: Box, site: Site) -> None:
    tight = TREE["mappings/wms.yaml"] + "rules:\n  - one_of: {field: lines.quantity.uom, values: [H87]}\n"
    box.apply({**TREE, "mappings/wms.yaml": tight})
    site.send("1;A;5;PCE")
    work(box)
    say(box, "PCE", "PIECE")
    work(box)
    assert [letter.code for letter in dead_letters.list_all(box.db)] == ["not_allowed"]
    say(box, "PCE", "H87")
    work(box)
    assert shipments(box) == ["1 5 H87"]


def test_an_ignored_code_gives_up_what_waits_and_what_comes(box: Box, site: Site) -> None:
    site.send("1;A;5;JUNK", "2;A;5;ST")
    work(box)
    commands.codes_ignore(box.data, "units", "JUNK", note="samples", by="user:anna", now_us=5)
    work(box)
    site.send("3;A;5;JUNK")
    work(box)
    assert states(box) == [("discarded", "user:anna"), ("discarded", "user:anna")]
    assert dead_letters.get(box.db, 2).note == "the code 'JUNK' of units is ignored: samples"
    assert (box.account().discarded, box.account().balanced) == (2, True)


def test_a_code_ignored_at_one_site_is_not_what_it_means_elsewhere(box: Box, site: Site) -> None:
    say(box, "JUNK", "KGM")
    commands.codes_ignore(box.data, "units", "JUNK", "atl1", note="samples", by="user:anna", now_us=5)
    site.send("1;A;5;JUNK")
    work(box)
    assert shipments(box) == []
    assert states(box) == [("discarded", "user:anna")]


def test_critical_sources_go_first_and_portions_are_bounded(
    box: Box, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recoding, "PORTION", 2)
    site.send(*[f"{i};A;5;PCE" for i in range(5)], lane="bulk")
    site.send(*[f"h{i};A;5;PCE" for i in range(3)], source="hot", lane="critical")
    work(box)
    say(box, "PCE", "H87")
    recoder, runtime = recoding.Recoder(box.db), Runtime.from_tree(TREE, 1)
    runtime.asks(codes.Meanings(box.db))
    lanes = {("atl1", "wms"): "bulk", ("atl1", "hot"): "critical"}
    done = []
    while recoder.step(lambda _site: runtime, lambda: lanes):
        done.append((len(shipments(box, "hot")), len(shipments(box))))
    assert done == [(2, 0), (3, 0), (3, 2), (3, 4), (3, 5)]


def test_a_crash_while_mapping_again_repeats_nothing_and_loses_nothing(
    box: Box, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.send("1;A;5;PCE", "2;A;5;PCE", "3;A;5;PCE")
    work(box)
    say(box, "PCE", "H87")
    append, left = events.append, [1]

    def crash(db: sqlite3.Connection, rows: list[events.Row]) -> set[int]:
        found = append(db, rows)
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(events, "append", crash)
        worker = Normalizer(box.data, Runtime.from_tree)
        with pytest.raises(KeyboardInterrupt):
            worker.step()
        worker.close()
    assert [state for state, _ in states(box)] == ["retried", "open", "open"]
    work(box)
    assert shipments(box) == ["1 5 H87", "2 5 H87", "3 5 H87"]
    assert box.account().balanced


def test_a_mapping_that_fails_on_one_letter_leaves_it_and_goes_on_with_the_others(
    box: Box, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.send("1;A;5;PCE", "2;A;5;PCE")
    work(box)
    say(box, "PCE", "H87")
    remap = recoding.remap

    def failing(db, engine, letter, rows):  # type: ignore[no-untyped-def]
        if letter.id == 1:
            raise ZeroDivisionError
        return remap(db, engine, letter, rows)

    monkeypatch.setattr(recoding, "remap", failing)
    work(box)
    assert [state for state, _ in states(box)] == ["open", "retried"]
    assert shipments(box) == ["2 5 H87"]


def test_two_workers_at_the_same_letters_map_each_once(box: Box, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.send("1;A;5;PCE", "2;A;5;PCE")
    work(box)
    say(box, "PCE", "H87")
    commit, others = recoding.commit, [True]

    def overtaken(db, *args, **options):  # type: ignore[no-untyped-def]
        if others:
            others.clear()
            work(box)  # another worker, between this one's look at the letter and its transaction
        return commit(db, *args, **options)

    monkeypatch.setattr(recoding, "commit", overtaken)
    work(box)
    assert shipments(box) == ["1 5 H87", "2 5 H87"]
    assert box.account().balanced


def test_what_people_said_is_exported_as_rows_of_lists(box: Box) -> None:
    say(box, "PCE", "EA")
    say(box, "PCE", "H87")
    say(box, "a,b", "MTR", "atl1")
    rows = as_rows(commands.codes_export(box.data, by="me", now_us=1))
    assert rows == '# for lists/units.csv\nPCE,H87\n# at atl1 only: "a,b",MTR\n'
    with pytest.raises(Refused, match="stands in a table inside the mapping"):
        commands.codes_set(box.data, "", "X", "Y", by="me", now_us=1)
    actions = [a for (a,) in box.db.execute("SELECT action FROM audit WHERE action LIKE 'codes.%' ORDER BY seq")]
    assert actions == ["codes.set", "codes.set", "codes.set", "codes.export"]
