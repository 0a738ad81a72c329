"""The parts of reading by key that need no table: versions, marks, the brake, statements, what was taken."""

from __future__ import annotations

import msgspec
import pytest

from crossdock_agent.sql import overlay as overlay_module
from crossdock_agent.sql.brake import SnapshotSettings, held_back, is_accepted, is_usual
from crossdock_agent.sql.dialects import DIALECTS
from crossdock_agent.sql.keychunks import GONE, MAX_GONE, forget_gone, joined_seed, next_version
from crossdock_agent.sql.keyrange import KeyStatements
from crossdock_agent.sql.keyreading import content_hash, marked
from crossdock_agent.sql.overlay import Overlay, OverlayState
from crossdock_agent.sql.statements import CatalogColumn, CatalogTable, resolve


def test_versions_tell_every_step_of_a_history_apart_and_fit_a_signed_integer() -> None:
    a, b = content_hash(b"A"), content_hash(b"B")
    versions = [0]
    for content in (a, b, a, GONE, a, GONE, a, b):
        versions.append(next_version(versions[-1], content))
    assert len(set(versions)) == len(versions)
    assert all(0 <= version < 2**63 for version in versions)
    assert versions[1] == next_version(0, a)


def test_a_forgotten_key_cannot_begin_again_with_a_number_it_had() -> None:
    absent = {b"%d" % i: (GONE, next_version(0, content_hash(b"%d" % i))) for i in range(MAX_GONE)}
    assert forget_gone(absent, 0) == 0
    absent[b"missing"] = (content_hash(b"x"), 0)
    absent[b"one more"] = (GONE, 5)
    had = {version for _, version in absent.values()}
    seed = forget_gone(absent, 0)
    assert set(absent) == {b"missing"}
    assert seed not in {0, *had}
    assert joined_seed(0, seed) == joined_seed(seed, 0) == joined_seed(seed, seed) == seed
    assert joined_seed(seed, 7) not in {0, 7, seed}


@pytest.mark.parametrize("cells", [1, 13, 14, 15, 16, 17, 65533, 65534, 65535, 65536])
def test_marks_stand_behind_the_columns_however_many_there_are(cells: int) -> None:
    row = list(range(cells))
    packed = msgspec.msgpack.encode(row)
    assert msgspec.msgpack.decode(marked(packed, cells, "upsert", 2**62)) == [*row, "upsert", 2**62]


@pytest.mark.parametrize(
    ("missing", "found", "usual"),
    [(0, 0, True), (1, 0, False), (10, 1, True), (11, 1, False), (20, 80, True), (21, 79, False), (10, 0, False)],
)
def test_few_may_vanish_many_may_not_and_never_all(missing: int, found: int, usual: bool) -> None:
    assert is_usual(SnapshotSettings(), missing, found) is usual
    assert is_usual(SnapshotSettings(max_vanished_percent=100), missing, found)
    assert is_usual(SnapshotSettings(max_vanished_percent=0, max_vanished_rows=0), missing, found) is (missing == 0)


def test_an_acceptance_is_for_so_many_rows_and_not_for_more_nor_again() -> None:
    settings = SnapshotSettings(accept_vanished=50)
    assert is_accepted(settings, 50, 0)
    assert not is_accepted(settings, 51, 0)
    assert not is_accepted(settings, 10, 50)
    assert "'accept_vanished: 51'" in held_back("t", 51, 49, 5.0).hint


def statements(dialect: str, *, nullable: bool) -> KeyStatements:
    known = DIALECTS[dialect]
    table = CatalogTable("", "t", False, (CatalogColumn("a", "int", nullable), CatalogColumn("b", "int", nullable)))
    columns = [resolve(known, column, column.name) for column in table.columns]
    return KeyStatements(known, table, columns, columns, where="x = 1 -- only those")


def conditions(dialect: str, after: list[object] | None, upto: list[object] | None, *, nullable: bool) -> list[str]:
    found = statements(dialect, nullable=nullable).ranges(after, upto, 9)
    return [sql.split("\n)")[1].split("\nORDER")[0].strip().removeprefix("AND ") for sql, _ in found]


def test_a_range_is_one_statement_and_two_only_where_null_may_come_first_in_the_key() -> None:
    a, b = "s.`a`", "s.`b`"
    assert conditions("mariadb", [1, 2], [3, 4], nullable=False) == [
        f"{a} >= ? AND ({a} > ? OR ({a} = ? AND {b} > ?))"
        f" AND {a} <= ? AND ({a} < ? OR ({a} = ? AND ({b} < ? OR {b} = ?)))"
    ]
    assert conditions("sqlite", [1, 2], [3, 4], nullable=False) == [
        '(s."a", s."b") > (?, ?) AND (s."a", s."b") <= (?, ?)'
    ]
    assert conditions("sqlite", None, None, nullable=True) == ['s."a" IS NULL', 's."a" IS NOT NULL']
    assert conditions("sqlite", [1, None], None, nullable=True) == [
        's."a" >= ? AND (s."a" > ? OR (s."a" = ? AND s."b" IS NOT NULL))'
    ]
    assert conditions("sqlite", None, [None, 2], nullable=True) == [
        's."a" IS NULL AND ((s."b" < ? OR s."b" IS NULL) OR s."b" = ?)'
    ]


def test_what_was_taken_is_known_until_the_reconciliation_after_it_has_ended() -> None:
    ledger: dict[str, bytes] = {}
    taken = Overlay(OverlayState(), ledger.get)
    first, second = content_hash(b"1"), content_hash(b"2")
    ledger.update(taken.add([first], [b"k1"]))
    taken.turn()
    ledger.update(taken.add([second]))
    for known in (taken, Overlay(taken.state, ledger.get)):
        assert first in known
        assert second in known
        assert list(known.before()) == [[(b"k1", first)]]
    taken.forget()
    for known in (taken, Overlay(taken.state, ledger.get)):
        assert first not in known
        assert second in known


def test_what_was_taken_is_bounded_and_says_when_it_forgot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay_module, "MAX_SEGMENTS", 4)
    monkeypatch.setattr(overlay_module, "SEGMENT_HASHES", 10)
    ledger: dict[str, bytes] = {}
    taken = Overlay(OverlayState(), ledger.get)
    hashes = [content_hash(b"%d" % i) for i in range(200)]
    for content in hashes:
        ledger.update(taken.add([content]))
    assert taken.state.overflowed
    assert len(taken) <= 40
    assert len(ledger) <= 5
    again = Overlay(taken.state, ledger.get)
    assert len(again) == len(taken)
    assert hashes[-1] in again
    assert hashes[0] not in again


def test_a_ledger_of_another_disk_only_makes_rows_unknown() -> None:
    assert content_hash(b"x") not in Overlay(OverlayState(3, 3, 9), {}.get)
