"""What an agent remembers of commands: enough that none is run twice, and never more than has its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossdock_agent.remote import journal
from crossdock_agent.remote.journal import KEEP_US, Entry, Journal

HOUR_US = 3_600_000_000


def entry(id_: str, begun_us: int = 0, expires_us: int = HOUR_US, ended_us: int = 0) -> Entry:
    return Entry(
        id=id_, name="check", by="me", begun_us=begun_us, expires_us=expires_us, process="p", ended_us=ended_us
    )  # fmt: skip


@pytest.fixture
def kept(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "commands")


def run(kept: Journal, id_: str, begun_us: int, output: bytes = b"", expires_us: int = 0) -> None:
    kept.begin(entry(id_, begun_us, expires_us))
    kept.end(entry(id_, begun_us, expires_us, begun_us + 1), output)


def test_a_command_is_known_from_before_it_begins(kept: Journal) -> None:
    assert kept.find("one") is None
    kept.begin(entry("one"))
    assert kept.find("one") == entry("one")
    assert kept.begun() == [entry("one")]
    kept.end(entry("one", ended_us=5), b"said")
    found = kept.find("one")
    assert found is not None
    assert (found.ended_us, kept.output(found), kept.begun()) == (5, b"said", [])


def test_a_command_is_forgotten_once_it_could_only_be_refused_as_expired(kept: Journal) -> None:
    run(kept, "short", 0, expires_us=HOUR_US)
    run(kept, "long", 0, expires_us=7 * 24 * HOUR_US)
    kept.begin(entry("next", HOUR_US + KEEP_US - 1))
    assert kept.find("short") is not None
    kept.begin(entry("later", HOUR_US + KEEP_US + 1))
    assert kept.find("short") is None
    assert kept.find("long") is not None


def test_one_that_never_ended_is_never_forgotten(kept: Journal) -> None:
    kept.begin(entry("hangs"))
    kept.begin(entry("much later", 1000 * KEEP_US))
    assert kept.find("hangs") is not None


def test_answers_go_by_their_size_the_newest_stay_and_every_id_is_remembered(
    kept: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "OUTPUT_BYTES", 250)
    for number in range(5):
        run(kept, f"c{number}", number, b"x" * 100, expires_us=HOUR_US)
    kept.begin(entry("next", 10))
    found = {name: kept.find(name) for name in ("c0", "c1", "c2", "c3", "c4")}
    assert [e is not None and kept.output(e) for e in found.values()] == [None, None, None, b"x" * 100, b"x" * 100]


def test_when_too_many_may_not_be_forgotten_no_other_is_begun(kept: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "ENTRIES", 3)
    for number in range(3):
        run(kept, f"c{number}", number, expires_us=HOUR_US)
    kept.begin(entry("c3", 3))
    with pytest.raises(OSError, match="none of them may be forgotten yet"):
        kept.begin(entry("c4", 4))
    assert kept.find("c4") is None


def test_an_answer_that_has_no_room_is_left_out_and_the_end_is_kept(
    kept: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.begin(entry("one"))
    real = journal.write_atomic

    def full(path: Path, data: bytes, **options: bool) -> None:
        if path.suffix == ".out":
            raise OSError(28, "No space left on device")
        real(path, data, **options)

    monkeypatch.setattr(journal, "write_atomic", full)
    kept.end(entry("one", ended_us=5), b"said")
    found = kept.find("one")
    assert found is not None
    assert (found.ended_us, found.has_output, kept.output(found)) == (5, False, b"")


@pytest.mark.parametrize("id_", ["../../x", "/etc/passwd", "a" * 10_000, "\0", "con", "ü", "\ud800"])
def test_no_id_leaves_the_folder(id_: str, kept: Journal, tmp_path: Path) -> None:
    kept.begin(entry("plain"))
    kept.end(entry(id_.replace("\ud800", "?"), ended_us=1), b"said")
    assert kept.find(id_) is None or "\ud800" not in id_
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / "commands"}
    assert all(len(path.stem) == 32 for path in (tmp_path / "commands").iterdir())
