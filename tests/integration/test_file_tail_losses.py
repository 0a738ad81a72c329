"""What is gone, and what is killed or refused: nothing ends in silence, nothing comes twice."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import SourceUnavailable
from crossdock_agent.tails import opening
from support.log_site import LONG, LogSite, lines, records, rejects, units


@pytest.fixture
def logs(tmp_path: Path) -> LogSite:
    return LogSite(tmp_path)


# --- gone


def test_a_file_that_vanished_half_read_is_a_reject_also_when_the_agent_was_down(logs: LogSite) -> None:
    logs.write(b"".join(b"%08d;%s\n" % (i, b"x" * 90) for i in range(10_000)))
    logs.read(passes=1, after=1)
    read = logs.seen[0].header.records
    logs.restart()
    size = logs.path().stat().st_size
    logs.path().unlink()
    (draft,) = logs.read(passes=3)
    (reject,) = draft.header.rejects
    assert (reject.code, reject.record, draft.header.closes) == ("gone", read, True)
    assert reject.offset + reject.bytes == size
    logs.restart()
    assert logs.read(passes=3) == []


def test_a_file_that_vanished_before_anything_of_it_was_read_is_a_reject(logs: LogSite) -> None:
    logs.write(b"1;half")
    assert logs.read() == []
    logs.path().unlink()
    (draft,) = logs.read(passes=3)
    (reject,) = draft.header.rejects
    assert (reject.code, reject.record, reject.bytes) == ("gone", 0, 14)
    assert logs.read(passes=3) == []


def test_a_header_that_vanished_is_no_loss(logs: LogSite) -> None:
    logs.write(b"")
    logs.read()
    logs.path().unlink()
    assert logs.read(passes=3) == []


def test_a_file_that_was_read_to_its_end_and_deleted_ends_its_unit_and_is_counted(logs: LogSite) -> None:
    logs.write(b"1;a\n")
    logs.read()
    logs.path().unlink()
    (draft,) = logs.read(passes=3)
    assert (draft.header.closes, len(draft.header.rejects)) == (True, 0)
    assert logs.counter("files_gone") == 1


def test_a_file_missing_in_one_look_is_not_gone(tmp_path: Path) -> None:
    """A listing that was made while the file was renamed."""
    logs = LogSite(tmp_path, rotated_seconds=5)
    logs.write(b"1;a\n2;half")
    logs.read()
    away = tmp_path / "elsewhere"
    logs.path().rename(away)
    assert logs.read(passes=3, advance=2) == []
    away.rename(logs.path("x.log.1"))
    assert lines(logs.read(passes=4, advance=3)) == [b"2;half"]
    assert not rejects(logs.seen)


def test_an_empty_mount_point_loses_and_doubles_nothing_when_the_share_is_back(logs: LogSite, tmp_path: Path) -> None:
    logs.write(LONG)
    logs.read()
    away = tmp_path / "share"
    logs.directory.rename(away)
    logs.directory.mkdir()
    logs.read(passes=3)
    logs.directory.rmdir()
    away.rename(logs.directory)
    logs.write(b"2;b\n")
    assert lines(logs.read(passes=3)) == [b"2;b"]
    assert len(units(logs.seen)) == 1
    assert not rejects(logs.seen)


def test_a_directory_that_is_away_is_an_error_each_time_also_between_two_listings(
    logs: LogSite, tmp_path: Path
) -> None:
    logs.write(b"1;a\n")
    for _ in range(4):
        logs.read(advance=3)
    logs.directory.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match="cannot be reached"):
            logs.read(advance=0.1)


def test_a_share_that_lists_its_files_and_gives_none_of_them_is_unavailable_and_one_bad_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogSite(tmp_path, pattern="*.log")
    logs.write(b"1;a\n", "a.log")
    logs.read()
    logs.write(b"2;a\n", "a.log")
    logs.write(b"1;b\n", "b.log")
    real = opening.open_shared
    bad = {"a.log", "b.log"}

    def failing(path: Path) -> Any:
        if path.name in bad:
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(opening, "open_shared", failing)
    for _ in range(3):
        with pytest.raises(SourceUnavailable, match="cannot be reached"):
            logs.read(advance=100)
    bad.remove("b.log")
    assert lines(logs.read(passes=1)) == [b"1;b"]
    assert logs.read() == [], "one bad file stops nobody"
    assert logs.counter("files_unreadable") == 1
    bad.clear()
    assert lines(logs.read()) == [b"2;a"]
    assert not any(draft.header.closes for draft in logs.seen)


# --- killed


WIDE = b"".join(b"%08d;%s\n" % (i, b"w" * 90) for i in range(3_000))  # two batches


def lived(base: Path, killed_at: int, *, kept: bool) -> LogSite:
    """A life of a log with an agent that dies at draft *killed_at*, which the outbox *kept* or not."""
    base.mkdir()
    logs = LogSite(base, pattern="*.log", idle_closes_seconds=0, unfinished_line="take", partial_seconds=1)
    count = 0
    life = [
        lambda: logs.write(WIDE + b"1;ha"),
        lambda: logs.write(b"lf\n2;b\n"),
        lambda: logs.write(b"0;other\n", "b.log"),
        lambda: (logs.write(WIDE), logs.rename(), logs.write(LONG + b"3;c")),
        lambda: (logs.copy_truncate(to="x.log.3"), logs.write(b"4;d\n")),
        lambda: (logs.pack(), logs.write(b"5;e\n6;half"), logs.path("b.log").unlink()),
        lambda: (logs.path().unlink(), logs.write(WIDE[:500], "y.log")),
    ]
    for event in life:
        event()
        for _ in range(4):
            logs.site.seconds += 2
            reading = logs.site.source.read(logs.site.checkpoint)
            for draft in reading:
                count += 1
                if count != killed_at or kept:
                    logs.site.commit(draft)
                    logs.seen.append(draft)
                if count == killed_at:
                    logs.restart()
                    break
    return logs


def told(logs: LogSite) -> list[Any]:
    return [*records(logs.seen), *[(r.code, r.record, r.offset, r.bytes) for r in rejects(logs.seen)]]


def test_killed_at_any_draft_the_same_records_come_under_the_same_identities(tmp_path: Path) -> None:
    straight = lived(tmp_path / "straight", 0, kept=True)
    drafts = len(straight.seen)
    assert drafts >= 14
    assert {reject.code for reject in rejects(straight.seen)} == set()
    for killed_at in range(1, drafts + 1):
        for kept in (True, False):
            logs = lived(tmp_path / f"{killed_at}-{kept}", killed_at, kept=kept)
            assert [*dict.fromkeys(told(logs))] == [*dict.fromkeys(told(straight))], f"killed at {killed_at}, {kept=}"
            assert units(logs.seen) == units(straight.seen)


def refuse(logs: LogSite) -> None:
    reading = logs.site.source.read(logs.site.checkpoint)
    assert next(reading, None) is not None
    reading.close()  # type: ignore[attr-defined]


def test_a_full_outbox_that_refuses_again_and_again_does_not_make_every_file_be_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogSite(tmp_path, pattern="*.log")
    for i in range(100):
        logs.write(b"1;%d\n" % i, f"{i:03d}a.log")
    logs.read()
    logs.write(b"2;a\n", "000a.log")
    logs.write(b"1;new\n", "new.log")
    opens = 0
    real = opening.open_shared

    def opened(path: Path) -> Any:
        nonlocal opens
        opens += 1
        return real(path)

    monkeypatch.setattr(opening, "open_shared", opened)
    for _ in range(10):
        refuse(logs)
    assert opens < 50
    assert sorted(lines(logs.read())) == [b"1;new", b"2;a"]
    logs.restart()
    assert logs.read() == []


@pytest.mark.parametrize("begun", [True, False])
def test_a_loss_that_a_full_outbox_refused_is_told_later_and_counted_once(logs: LogSite, *, begun: bool) -> None:
    logs.write(b"1;a\n2;half" if begun else b"1;half")
    logs.read()
    logs.path().unlink()
    assert logs.read(passes=1) == []
    refuse(logs)
    assert logs.counter("files_gone") == 0
    (reject,) = rejects(logs.read(passes=3))
    assert reject.code == "gone"
    assert logs.counter("files_gone") == 1
