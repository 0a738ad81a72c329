"""Preview on history: each way in which a document can differ, in figures and one by one, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.codec import Sealer
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller.commands import preview as commands
from crossdock_controller.config.errors import ConfigInvalid
from crossdock_controller.preview import asking
from crossdock_controller.preview.comparing import field_changes
from crossdock_controller.preview.model import FieldChange, Request, SourceCount
from crossdock_controller.store.intake import Incoming, IntakeWriter
from support.estate import TREE, US, Estate
from support.operations import entries

MAPPING = TREE["mappings/wms.yaml"]


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path / "data")
    yield estate
    estate.close()


def send(
    estate: Estate,
    sequence: int,
    *lines: str,
    unit: bytes = b"u",
    first: int = 0,
    closes: bool = True,
    at_us: int = 10**15,
) -> None:
    origin = Origin(kind="file", name="more.csv", unit=unit, first_record=first, first_line=first + 2)
    header = BatchHeader(
        format="csv", records=len(lines), prefix=b"SHIPMENT_NO;ITEM;QTY\n", origin=origin, closes=closes
    )
    sealed = Sealer().seal(header, "".join(f"{line}\n" for line in lines).encode())
    batch = Incoming(US, US, "wms", b"e" * 16, sequence, "standard", len(lines), b"", sealed.data, sealed.crc32)
    with closing(IntakeWriter(estate.data.intake)) as writer:
        assert [a.state for a in writer.commit([batch], at_us)] == ["stored"]


def looked(estate: Estate, mapping: str, *, since_us: int = 0, most: int = 100, processes: int = 0) -> asking.Looked:
    request = Request(tree={**TREE, "mappings/wms.yaml": mapping}, environment="", changes=most)
    return asking.look(estate.data, request, since_us, site=US, source="wms", seconds=60.0, processes=processes)


def counts(found: asking.Looked) -> SourceCount:
    (entry,) = found.result.sources
    return entry


def test_the_same_mapping_changes_nothing(estate: Estate) -> None:
    send(estate, 2, "U3;A;1", "U3;B;2", "U4;C;3")
    found = looked(estate, MAPPING)
    entry = counts(found)
    assert (entry.records, entry.before, entry.after, entry.unchanged) == (5, 3, 3, 3)
    assert (entry.dead_before, entry.dead_after) == (1, 1)
    assert (found.result.changes, found.result.fields, found.left) == ([], [], 0)


def test_changed_fields_are_told_and_counted_with_samples(estate: Estate) -> None:
    send(estate, 2, "U3;A;1", "U3;B;2", "U4;C;3")
    found = looked(estate, MAPPING.replace('decimal: ","', 'decimal: ",", uom: {value: KGM}'))
    assert counts(found).changed == 3
    (counted,) = [f for f in found.result.fields if f.field == "lines[].quantity.uom"]
    assert (counted.document, counted.count) == ("Shipment", 3)
    assert counted.samples[0].after == "KGM"
    (two,) = [c for c in found.result.changes if c.key == "U3"]
    changed = [f.field for f in two.fields if f.field.endswith("uom")]
    assert changed == ["lines[0].quantity.uom", "lines[1].quantity.uom"]


def test_newly_dead_healed_removed_and_added(estate: Estate) -> None:
    dead = looked(estate, MAPPING.replace('decimal: ","', 'decimal: ",", codes: {"2": "2"}'))
    assert (counts(dead).newly_dead, counts(dead).dead_after) == (1, 2)
    assert dead.result.changes[0].reason.startswith("unknown_code")
    healed = looked(estate, MAPPING.replace('{from: QTY, decimal: ","}', "{value: 1}"))
    assert (counts(healed).newly_healed, counts(healed).dead_after) == (1, 0)
    assert [c.kind for c in healed.result.changes] == ["changed", "newly healed"] or counts(healed).unchanged == 1
    removed = looked(estate, MAPPING + "where: {column: SHIPMENT_NO, not_equals: U1}\n")
    assert (counts(removed).removed, counts(removed).ignored_after) == (1, 1)
    assert [(c.kind, c.key) for c in removed.result.changes] == [("removed", "U1")]


def test_another_grouping_removes_and_adds(estate: Estate) -> None:
    send(estate, 2, "U3;A;1", "U3;B;2")
    found = looked(estate, MAPPING.replace("each: SHIPMENT_NO\n", "each: [SHIPMENT_NO, ITEM]\n"))
    assert (counts(found).removed, counts(found).added, counts(found).unchanged) == (1, 2, 1)


def test_groups_that_span_batches_and_an_open_one_are_seen_as_the_normalizer_sees_them(estate: Estate) -> None:
    send(estate, 2, "U3;A;1", closes=False)
    for i in range(40):
        send(estate, 3 + i, f"U3;B{i};2", first=1 + i, closes=False)
    send(estate, 43, "U4;C;3", first=41, closes=False)
    found = counts(looked(estate, MAPPING))
    assert (found.before, found.after, found.unchanged, found.open) == (2, 2, 2, 1)
    assert found.records == 2 + 41


def test_only_what_came_since_then(estate: Estate) -> None:
    send(estate, 2, "U3;A;1", at_us=10**18)
    assert counts(looked(estate, MAPPING, since_us=10**17)).records == 1
    assert looked(estate, MAPPING, since_us=10**18 + 1).result.sources == []


def test_so_many_are_told_and_the_others_counted(estate: Estate) -> None:
    send(estate, 2, *(f"N{i};A;1" for i in range(30)))
    found = looked(estate, MAPPING.replace('decimal: ","', 'decimal: ",", uom: {value: KGM}'), most=7)
    assert (len(found.result.changes), counts(found).changed) == (7, 31)


def test_processes_find_what_one_finds(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TASK_BATCHES", 2)
    for i in range(6):
        send(estate, 2 + i, f"N{i};A;1", f"M{i};B;x", unit=b"%d" % i)
    mapping = MAPPING.replace('decimal: ","', 'decimal: ",", uom: {value: KGM}')
    alone, beside = looked(estate, mapping), looked(estate, mapping, processes=2)
    assert (beside.result, beside.left) == (alone.result, 0)
    assert counts(beside).changed == 7


def test_what_the_time_does_not_suffice_for_is_said(estate: Estate) -> None:
    request = Request(tree=dict(TREE), environment="")
    found = asking.look(estate.data, request, 0, site=None, source=None, seconds=-1.0, processes=0)
    assert (found.left, found.result.sources) == (4, [])


def test_a_damaged_batch_is_counted_and_the_others_are_seen(estate: Estate) -> None:
    send(estate, 2, "U3;A;1")
    send(estate, 3, "U4;A;1", unit=b"v")
    with closing(IntakeWriter(estate.data.intake)) as writer:
        writer._db.execute("UPDATE batches SET crc32 = 1 WHERE sequence = 2")
    assert (counts(looked(estate, MAPPING)).unread, counts(looked(estate, MAPPING)).before) == (1, 2)


def test_the_command_is_on_record_writes_nothing_else_and_refuses_a_broken_tree(estate: Estate) -> None:
    before = {table: _rows(estate, table) for table in ("events", "dead_letters", "inputs", "normalizer_checkpoints")}
    found = commands.preview_tree(estate.data, TREE, 0, by="local:anna", now_us=5, seconds=60.0)
    assert [(s.site, s.unchanged) for s in found.sources] == [("atl1", 1), ("rtm1", 1)]
    assert {table: _rows(estate, table) for table in before} == before
    assert ("local:anna", "mapping.diff") in [(actor, action) for actor, action, _ in entries(estate)]
    with pytest.raises(ConfigInvalid):
        commands.preview_tree(estate.data, {**TREE, "sites/x.yaml": "sit: x"}, 0, by="local:anna", now_us=5)
    assert commands.preview_revision(estate.data, "1", 0, by="x", now_us=5).proposed == "revision 1"


def _rows(estate: Estate, table: str) -> list[tuple[object, ...]]:
    return estate.db.execute(f"SELECT * FROM {table}").fetchall()


def test_leaves_are_compared_with_their_types() -> None:
    before, after = {"a": [1, {"b": "x"}], "c": None}, {"a": [1, {"b": "y"}, 3], "c": "1"}
    assert list(field_changes(before, after)) == [
        FieldChange("a[1].b", "x", "y"), FieldChange("a[2]", None, "3"), FieldChange("c", None, "1"),
    ]  # fmt: skip
