"""Replay of records: a corrected mapping makes new versions, heals dead letters, never goes behind what is newer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock.codec import Sealer
from crossdock.errors import Refused
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller import letters
from crossdock_controller.commands import remap as commands
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.normalize import Normalizer
from crossdock_controller.store import connection, dead_letters, remaps, revisions
from crossdock_controller.store.account import account
from crossdock_controller.store.bodies import Bodies
from crossdock_controller.store.intake import Incoming, IntakeWriter
from crossdock_controller.store.remaps import Remap
from support.estate import TREE, US, Estate
from support.operations import entries

MAPPING = TREE["mappings/wms.yaml"]
IN_KG = MAPPING.replace('decimal: ","', 'decimal: ",", uom: {value: KGM}')
HEALS = MAPPING.replace('{from: QTY, decimal: ","}', '{from: QTY, decimal: ",", codes: {"x": "7", "1": "1", "2": "2"}}')


class World(Estate):
    """US has the shipments U1 (sound) and U2 (dead), of the file atl1.csv."""

    def normalize(self, *, steps: int = 10_000) -> None:
        with closing(Normalizer(self.data, Runtime.from_tree)) as normalizer:
            for _ in range(steps):
                if not normalizer.step():
                    return

    def send(self, sequence: int, *lines: str, name: str = "more.csv", first: int = 0, closes: bool = True) -> None:
        unit = name.encode().ljust(16, b"-")
        origin = Origin(kind="file", name=name, unit=unit, first_record=first, first_line=first + 2)
        prefix = b"SHIPMENT_NO;ITEM;QTY\n"
        header = BatchHeader(format="csv", records=len(lines), prefix=prefix, origin=origin, closes=closes)
        sealed = Sealer().seal(header, "".join(f"{line}\n" for line in lines).encode())
        batch = Incoming(US, US, "wms", b"e" * 16, sequence, "standard", len(lines), b"", sealed.data, sealed.crc32)
        with closing(IntakeWriter(self.data.intake)) as writer:
            assert [a.state for a in writer.commit([batch], 10**18)] == ["stored"]
        self.normalize()

    def change(self, mapping: str) -> None:
        self.apply({**TREE, "mappings/wms.yaml": mapping})

    def replay(self, **options: Any) -> Remap:
        given: dict[str, Any] = {"site": US, "by": "local:anna", "now_us": 9, **options}
        made = commands.replay_records(self.data, "wms", "a test", **given)
        self.normalize()
        return remaps.get(self.db, made.id)

    def versions(self, key: str) -> list[dict[str, Any]]:
        bodies = Bodies(self.db)
        rows = self.db.execute(
            "SELECT body_id, body_start, body_length FROM events WHERE key = ? ORDER BY seq", (key,)
        ).fetchall()
        return [msgspec.json.decode(bodies.get(*row)) for row in rows]

    def balanced(self) -> bool:
        rows = account(self.data.state, self.data.intake)
        return all(row.balanced for row in rows)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "data")
    yield world
    assert world.balanced(), account(world.data.state, world.data.intake)
    world.close()


def made(found: Remap) -> dict[str, int]:
    assert (found.state, found.problem) == ("done", "")
    return {name: n for name in remaps.COUNTS if (n := getattr(found.counts, name))}


def test_the_same_mapping_makes_nothing(world: World) -> None:
    before = world.db.execute("SELECT count(*) FROM events").fetchone()
    assert made(world.replay()) == {"records": 2, "unchanged": 1, "dead": 1}
    assert world.db.execute("SELECT count(*) FROM events").fetchone() == before


def test_a_document_that_comes_out_otherwise_is_a_new_version_with_a_delivery_and_only_once(world: World) -> None:
    world.change(IN_KG)
    assert made(world.replay()) == {"records": 2, "changed": 1, "dead": 1}
    first, second = world.versions("U1")
    assert (first["lines"][0]["quantity"].get("uom"), second["lines"][0]["quantity"]["uom"]) == (None, "KGM") or (
        first != second and second["lines"][0]["quantity"]["uom"] == "KGM"
    )
    due = world.db.execute(
        "SELECT count(*) FROM deliveries d JOIN events e ON e.seq = d.event_seq WHERE e.key = 'U1'"
    ).fetchone()
    assert due == (2,)
    assert made(world.replay()) == {"records": 2, "unchanged": 1, "dead": 1}
    assert len(world.versions("U1")) == 2


def test_there_and_back_again_ends_where_it_began(world: World) -> None:
    for mapping in (IN_KG, MAPPING, IN_KG):
        world.change(mapping)
        assert made(world.replay())["changed"] == 1
    versions = world.versions("U1")
    assert (versions[0], versions[1]) == (versions[2], versions[3])
    assert versions[0] != versions[1]


def test_a_later_record_of_the_document_is_never_gone_behind(world: World) -> None:
    world.send(2, "U1;A;2")
    world.change(IN_KG)
    assert made(world.replay()) == {"records": 3, "changed": 1, "superseded": 1, "dead": 1}
    assert [v["lines"][0]["quantity"]["value"] for v in world.versions("U1")] == ["1", "2", "2"]


def test_a_dead_letter_that_maps_now_is_retried_and_its_record_counted_once(world: World) -> None:
    world.change(MAPPING.replace('{from: QTY, decimal: ","}', "{value: 7}"))
    letter = world.letter(US)
    found = made(world.replay())
    assert (found["healed"], found["changed"]) == (1, 1)
    row = world.db.execute("SELECT state, resolved_by, note FROM dead_letters WHERE id = ?", (letter,)).fetchone()
    assert row[:2] == ("retried", "local:anna")
    assert "replay" in row[2]
    assert [v["number"] for v in world.versions("U2")] == ["U2"]


def test_what_a_person_corrected_or_gave_up_stays(world: World) -> None:
    runtime = Runtime.from_tree(revisions.StoredTree(TREE), 1)
    letters.retry(world.db, runtime, world.letter(US), {"QTY": "5"}, by="local:ben")
    world.change(MAPPING.replace('{from: QTY, decimal: ","}', "{value: 7}"))
    assert made(world.replay()) == {"records": 2, "changed": 1, "kept": 1}
    assert [v["lines"][0]["quantity"]["value"] for v in world.versions("U2")] == ["5"]


def test_another_key_is_another_document(world: World) -> None:
    world.change(MAPPING.replace("number: SHIPMENT_NO", "issuer: {value: acme}\n  number: SHIPMENT_NO"))
    assert made(world.replay()) == {"records": 2, "added": 1, "dead": 1}
    assert len(world.versions("acme:U1")) == 1


def test_one_file_alone_and_what_came_lately(world: World) -> None:
    world.send(2, "U5;A;1", name="two.csv")
    world.send(3, "U6;A;1", name="three.csv")
    world.change(IN_KG)
    assert made(world.replay(unit="two.csv")) == {"records": 1, "changed": 1}
    assert made(world.replay(since_us=10**17)) == {"records": 2, "changed": 1, "unchanged": 1}
    with pytest.raises(Refused, match="keeps no normalized records"):
        world.replay(unit="four.csv")


def test_a_group_over_many_batches_is_replayed_whole_from_where_its_file_begins(world: World) -> None:
    world.send(2, "U7;A0;1", closes=False)
    for i in range(1, 40):
        world.send(2 + i, f"U7;A{i};1", first=i, closes=i == 39)
    world.change(IN_KG)
    assert made(world.replay(since_us=10**17)) == {"records": 40, "changed": 1}
    assert [len(v["lines"]) for v in world.versions("U7")] == [40, 40]


def test_a_dry_run_counts_the_same_and_writes_nothing(world: World) -> None:
    world.send(2, "U1;A;2", "U3;A;1")
    world.change(IN_KG)
    before = [world.db.execute(f"SELECT count(*) FROM {t}").fetchone() for t in ("events", "remaps", "deliveries")]
    dry = commands.dry_run(world.data, "wms", site=US)
    after = [world.db.execute(f"SELECT count(*) FROM {t}").fetchone() for t in ("events", "remaps", "deliveries")]
    assert (before, dry.left) == (after, 0)
    assert world.replay().counts == dry.counts


def test_a_crash_at_any_commit_repeats_the_window_and_doubles_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossdock_controller.remapping import working

    world.change(IN_KG)
    commands.replay_records(world.data, "wms", "a test", site=US, by="x", now_us=9)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(working.inputs, "add_counts", dies)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                world.normalize()
    assert len(world.versions("U1")) == 1
    world.normalize()
    assert len(world.versions("U1")) == 2
    assert remaps.list_all(world.db, 1)[0].state == "done"


def test_a_window_at_which_workers_die_fails_the_replay_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossdock_controller.remapping import deciding

    commands.replay_records(world.data, "wms", "a test", site=US, by="x", now_us=9)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deciding, "decide", dies)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            world.normalize()
    world.normalize()
    found = remaps.list_all(world.db, 1)[0]
    assert (found.state, "died 3 times" in found.problem) == ("failed", True)


def test_it_can_be_cancelled_once_and_only_one_runs_a_source(world: World) -> None:
    first = commands.replay_records(world.data, "wms", "a test", site=US, by="local:anna", now_us=9, rate=1.0)
    with pytest.raises(Refused, match="runs already"):
        commands.replay_records(world.data, "wms", "again", site=US, by="local:anna", now_us=9)
    assert commands.cancel(world.data, first.id, by="local:ben", now_us=10).state == "cancelled"
    with pytest.raises(Refused, match="does not run"):
        commands.cancel(world.data, first.id, by="local:ben", now_us=10)
    world.normalize()
    assert remaps.get(world.db, first.id).counts.records == 0
    actions = [(actor, action) for actor, action, _ in entries(world)]
    assert ("local:anna", "mapping.replay") in actions
    assert ("local:ben", "mapping.replay-cancel") in actions


def test_a_replay_without_a_reason_or_a_mapping_is_refused(world: World) -> None:
    with pytest.raises(Refused, match="needs a reason"):
        commands.replay_records(world.data, "wms", " ", by="x", now_us=9)
    with pytest.raises(Refused, match="keeps no normalized"):
        commands.replay_records(world.data, "nosuch", "why", by="x", now_us=9)
    with closing(connection.connect(world.data.state)) as db:
        assert remaps.list_all(db, 10) == []


SEVENS = MAPPING.replace('{from: QTY, decimal: ","}', "{value: 7}")
BESIDE = "also: [{document: Customer, fields: {number: SHIPMENT_NO, name: ITEM}}]\n"


def test_a_letter_that_heals_with_documents_beside_it_is_settled_once(world: World) -> None:
    world.change(SEVENS + BESIDE)
    assert made(world.replay()) == {"records": 2, "changed": 1, "added": 2, "healed": 1}
    assert [sorted(version) != [] for version in world.versions("U2")] == [True, True]


def test_what_is_beside_a_record_that_a_person_gave_up_stays_away(world: World) -> None:
    letters.discard(world.db, world.letter(US), by="local:ben", note="a test")
    world.change(SEVENS + BESIDE)
    world.replay()
    assert world.versions("U2") == []


def test_what_is_beside_a_record_that_a_person_corrected_stays_corrected(world: World) -> None:
    flat = "mapping: wms\ndocument: Shipment\nfields: {number: SHIPMENT_NO}\n" + BESIDE
    runtime = Runtime.from_tree(revisions.StoredTree({**TREE, "mappings/wms.yaml": flat}), 1)
    letters.retry(world.db, runtime, world.letter(US), {"QTY": "5", "ITEM": "right"}, by="local:ben")
    world.change(flat)
    world.replay()
    assert [version.get("name") for version in world.versions("U2")] == [None, "right"]


def test_a_person_who_settles_a_letter_while_it_is_mapped_again_is_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossdock_controller.remapping import deciding

    decide = deciding.decide

    def late(*given: Any) -> deciding.Window:
        window = decide(*given)
        if window.healed:
            letters.discard(world.db, window.healed[0].id, by="local:ben", note="a test")
        return window

    world.change(SEVENS)
    monkeypatch.setattr(deciding, "decide", late)
    assert made(world.replay()) == {"records": 2, "changed": 1, "kept": 1}
    assert world.versions("U2") == []


def test_a_document_with_a_new_key_is_mapped_again_and_read_again(world: World) -> None:
    acme = MAPPING.replace("number: SHIPMENT_NO", "issuer: {value: acme}\n  number: SHIPMENT_NO")
    world.send(2, "U5;A;1", name="two.csv")
    world.change(acme)
    assert made(world.replay(unit="two.csv")) == {"records": 1, "added": 1}
    world.change(acme.replace('decimal: ","', 'decimal: ",", uom: {value: KGM}'))
    assert made(world.replay(unit="two.csv")) == {"records": 1, "changed": 1}
    world.send(3, "U5;A;1", name="two.csv")
    assert [letter.code for letter in dead_letters.list_all(world.db) if letter.code == "group_scattered"] == []


def test_a_later_version_that_comes_while_a_window_is_decided_is_not_gone_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossdock_controller.remapping import deciding

    decide, letter = deciding.decide, world.letter(US)
    runtime = Runtime.from_tree(revisions.StoredTree(TREE), 1)

    def late(*given: Any) -> deciding.Window:
        window = decide(*given)
        if window.counts.changed:
            letters.retry(world.db, runtime, letter, {"SHIPMENT_NO": "U1", "QTY": "5"}, by="local:ben")
        return window

    world.change(IN_KG)
    monkeypatch.setattr(deciding, "decide", late)
    assert made(world.replay()) == {"records": 2, "superseded": 1, "kept": 1}
    assert [v["lines"][0]["quantity"]["value"] for v in world.versions("U1")] == ["1", "5"]
