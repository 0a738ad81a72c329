"""The audit log's chain, its signed heads, and what each of them finds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from crossdock_controller import heads, presence
from crossdock_controller.authority import Authority
from crossdock_controller.commands import backup
from crossdock_controller.commands.audit import Kept, audit_list, audit_verify
from crossdock_controller.store import audit, connection
from support.pipeline import Box

TRIGGERS = ("audit_no_update", "audit_no_delete", "audit_no_insert")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "data")
    Authority.open(box.data.authority)
    for i in range(1, 9):
        _append(box, i)
    yield box
    box.close()


def _append(box: Box, i: int, actor: str = "user:anna") -> None:
    with connection.transaction(box.db):
        audit.append(box.db, actor=actor, action="agents.revoke", target=f"a{i}", details={"n": i}, now_us=i * 1000)


def _checkpoint(box: Box) -> None:
    presence.Witness(box.data, Authority.open(box.data.authority)).step()


def _tampered(box: Box, *statements: str) -> None:
    """As somebody with the file and an editor would."""
    with closing(sqlite3.connect(box.data.state, isolation_level=None)) as db:
        for trigger in TRIGGERS:
            db.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            db.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'user:ben' WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 8",
        "REPLACE INTO audit SELECT 3, at_us, 'user:ben', action, target, details, hash FROM audit WHERE seq = 3",
        "INSERT INTO audit SELECT 0, at_us, actor, action, target, details, hash FROM audit WHERE seq = 3",
    ],
)  # fmt: skip
def test_sqlite_itself_refuses_to_change_remove_or_replace_an_entry(box: Box, statement: str) -> None:
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        box.db.execute(statement)
    assert audit_verify(box.data).sound
    _append(box, 9)
    assert audit_verify(box.data).entries == 9


@pytest.mark.parametrize(
    ("statements", "broken", "said"),
    [
        (["UPDATE audit SET actor = 'user:ben' WHERE seq = 3"], 3, "not what was written"),
        (["UPDATE audit SET details = '{}' WHERE seq = 8"], 8, "not what was written"),
        (["UPDATE audit SET at_us = at_us + 1 WHERE seq = 1"], 1, "not what was written"),
        (["UPDATE audit SET hash = x'00' WHERE seq = 5"], 5, "not what was written"),
        (["DELETE FROM audit WHERE seq = 4"], 4, "entry 4 is missing: the next one is 5"),
        (["DELETE FROM audit WHERE seq = 1"], 1, "entry 1 is missing"),
        (["DELETE FROM audit WHERE seq = 4", "UPDATE audit SET seq = seq - 1 WHERE seq > 4"], 4, "not in its place"),
        (
            ["UPDATE audit SET seq = 99 WHERE seq = 2", "UPDATE audit SET seq = 2 WHERE seq = 3",
             "UPDATE audit SET seq = 3 WHERE seq = 99"], 2, "not in its place",
        ),
        (["INSERT INTO audit SELECT 9, at_us, actor, action, target, details, hash FROM audit WHERE seq = 8"], 9, ""),
    ],
)  # fmt: skip
def test_the_first_entry_that_was_changed_removed_moved_or_added_is_named(
    box: Box, statements: list[str], broken: int, said: str
) -> None:
    assert audit_verify(box.data).sound
    _tampered(box, *statements)
    found = audit_verify(box.data)
    assert (found.sound, found.broken, found.entries) == (False, broken, broken - 1)
    assert said in found.problem


def test_an_end_that_was_cut_off_is_missed_by_a_signed_head(box: Box) -> None:
    _checkpoint(box)
    _append(box, 9)
    assert (audit_verify(box.data).covered, audit_verify(box.data).entries) == (8, 9)
    _tampered(box, "DELETE FROM audit WHERE seq > 6")
    found = audit_verify(box.data)
    assert (found.sound, found.broken) == (False, 8)
    assert "entry 8 was there and is gone: the log ends at 6" in found.problem


def test_what_was_never_witnessed_can_be_cut_off_unseen_and_the_answer_says_how_far_it_vouches(box: Box) -> None:
    _checkpoint(box)
    _append(box, 9)
    _tampered(box, "DELETE FROM audit WHERE seq = 9")
    found = audit_verify(box.data)
    assert (found.sound, found.covered, found.entries) == (True, 8, 8)


def test_a_chain_written_anew_with_right_digests_is_not_the_one_that_was_signed(box: Box) -> None:
    _checkpoint(box)
    _tampered(box, "DELETE FROM audit")
    for i in range(1, 12):
        _append(box, i, actor="user:ben")
    found = audit_verify(box.data)
    assert (found.sound, found.broken) == (False, 8)
    assert "written anew" in found.problem


def test_heads_of_another_authority_and_torn_lines_vouch_for_nothing(box: Box, tmp_path: Path) -> None:
    heads.append(box.data.audit_heads, Authority.open(tmp_path / "other"), 99, b"x" * 32, 1)
    with box.data.audit_heads.open("ab") as file:
        file.write(b'{"seq": 5, "ha')  # a power cut
    found = audit_verify(box.data)
    assert (found.sound, found.heads, found.foreign) == (True, 0, 1)
    _checkpoint(box)
    assert (audit_verify(box.data).heads, audit_verify(box.data).covered) == (1, 8)
    forged = heads.read(box.data.audit_heads)[-1]
    box.data.audit_heads.write_bytes(
        msgspec.json.encode(heads.Head(7, forged.hash, forged.at_us, forged.signature)) + b"\n"
    )
    assert (audit_verify(box.data).heads, audit_verify(box.data).foreign) == (0, 1)


def test_a_head_is_written_once_for_each_new_end_and_a_site_configuration_is_no_head(box: Box) -> None:
    witness = presence.Witness(box.data, Authority.open(box.data.authority))
    witness.step()
    witness.step()
    assert len(heads.read(box.data.audit_heads)) == 1
    _append(box, 9)
    witness.step()
    assert [head.seq for head in heads.read(box.data.audit_heads)] == [8, 9]
    text = heads._text(heads.Head(9, "00", 1))
    assert text.startswith(b"crossdock audit head\n"), "no JSON, which is what is signed for sites"


def test_a_backup_is_a_second_witness_of_what_was_cut_off(box: Box, tmp_path: Path) -> None:
    made = backup.create(box.data, tmp_path / "b", 5, lambda _w, _d, _o: None)
    assert made.audit is not None
    assert made.audit.seq == 8
    witness = Kept(made.audit.seq, made.audit.hash)
    assert audit_verify(box.data, witness).sound
    _tampered(box, "DELETE FROM audit WHERE seq > 5")
    assert audit_verify(box.data).sound, "no head stands beside it"
    assert audit_verify(box.data, witness).broken == 8


def test_entries_are_found_by_person_noun_and_target_and_paged_in_the_order_they_came(box: Box) -> None:
    _append(box, 9, actor="local:ben")
    assert [e.target for e in audit_list(box.data, actor="ben")] == ["a9"]
    assert [e.target for e in audit_list(box.data, actor="user:anna", limit=2)] == ["a8", "a7"]
    assert len(audit_list(box.data, action="agents")) == 9
    assert audit_list(box.data, action="agent") == []
    assert [e.seq for e in audit_list(box.data, after=6)] == [7, 8, 9]
    assert [e.seq for e in audit_list(box.data, since_us=8000)] == [9, 8]
    assert audit_list(box.data, target="a3")[0].details == {"n": 3}
