"""Which file is which: inodes, names and beginnings that are alike, copies, links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.log_site import HEADER, LONG, LogSite, lines, records, units


@pytest.fixture
def logs(tmp_path: Path) -> LogSite:
    return LogSite(tmp_path)


def test_the_inode_of_another_file_is_no_identity(logs: LogSite) -> None:
    """A new file under an old inode: longer than what was read of the old one, and read from its beginning."""
    logs.write(LONG)
    logs.read()
    inode = logs.path().stat().st_ino
    logs.path().write_bytes(HEADER + b"1;new\n" + LONG)
    assert logs.path().stat().st_ino == inode
    drafts = logs.read(passes=3)
    assert lines(drafts)[0] == b"1;new"
    assert len(lines(drafts)) == 11


def test_another_inode_with_the_same_content_is_the_same_file(logs: LogSite) -> None:
    """As when a share is mounted again, or an editor writes a copy and renames it."""
    logs.write(LONG)
    logs.read()
    other = logs.path("copy.tmp")
    other.write_bytes(logs.path().read_bytes() + b"2;b\n")
    other.replace(logs.path())
    assert lines(logs.read(passes=3)) == [b"2;b"]
    assert len(units(logs.seen)) == 1


def test_the_same_header_and_first_line_in_each_days_file_are_no_identity(logs: LogSite) -> None:
    logs.write(b"0;OPEN\n")
    logs.read()
    logs.rename()
    logs.write(b"0;OPEN\n")
    logs.read(passes=3)
    logs.restart()
    logs.rename("x.log.1", "x.log.2")
    logs.rename()
    logs.write(b"0;OPEN\n1;a\n")
    logs.read(passes=3)
    assert [line for _, line in records(logs.seen)] == [b"0;OPEN\n"] * 3 + [b"1;a\n"]
    assert len(units(logs.seen)) == 3


@pytest.mark.parametrize("rest", [b"", b"%d;x\n"])
@pytest.mark.parametrize("start", ["beginning", "end"])
def test_hundreds_of_days_that_begin_alike_are_each_known_after_a_restart(
    tmp_path: Path, rest: bytes, start: str
) -> None:
    logs = LogSite(tmp_path, pattern="x-*.log", start=start)
    days = [f"x-2025{month:02d}{day:02d}.log" for month in range(1, 11) for day in range(1, 21)]
    for i, name in enumerate(days):
        logs.write(b"0;OPEN\n" + (rest % i if rest else b""), name)
    logs.read(passes=3)
    if start == "beginning":
        assert len(records(logs.seen)) == len(days) * (2 if rest else 1)
        assert len(units(logs.seen)) == len(days)
    asked = len(logs.site.flushed)
    logs.restart()
    assert not records(logs.read(passes=3))
    assert len(logs.site.flushed) - asked < 256 + 6 * len(days)


@pytest.mark.parametrize("down", [True, False])
def test_two_short_days_that_are_alike_are_both_read_when_they_were_rotated_at_once(
    logs: LogSite, *, down: bool
) -> None:
    logs.write(b"0;OPEN\n")
    logs.read()
    logs.rename("x.log", "x.log.2")
    logs.write(b"0;OPEN\n", "x.log.1")
    logs.write(b"0;OPEN\n")
    if down:
        logs.restart()
    logs.read(passes=4)
    assert len(units(logs.seen)) == 3
    assert [line for _, line in records(logs.seen)] == [b"0;OPEN\n"] * 3


def test_a_short_day_that_began_like_today_is_read_once_it_is_clear_that_nobody_copies(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, rotated_seconds=5)
    logs.write(b"0;OPEN\n", "x.log.1")
    logs.write(b"0;OPEN\n1;a\n")
    logs.read(passes=4, advance=3)
    assert sorted(line for _, line in records(logs.seen)) == [b"0;OPEN\n", b"0;OPEN\n", b"1;a\n"]
    assert len(units(logs.seen)) == 2


def test_files_that_share_a_long_beginning_are_told_apart_where_they_part(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, pattern="*.log")
    logs.write(LONG + b"1;a\n", "a.log")
    logs.read()
    logs.write(LONG + b"2;b\n", "b.log")
    logs.read()
    logs.write(b"3;c\n", "a.log")
    logs.write(b"4;d\n", "b.log")
    logs.read()
    assert len(records(logs.seen)) == 24
    assert len(units(logs.seen)) == 2
    assert set(lines(logs.seen[-2:])) == {b"3;c", b"4;d"}


def test_files_that_part_only_behind_what_was_read_are_told_apart_too(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, pattern="*.log")
    logs.write(LONG, "b.log")
    logs.read()
    logs.write(b"1;b\n", "b.log")
    logs.write(LONG + b"2;a\n3;a\n", "a.log")
    logs.read(passes=3)
    old, _ = units(logs.seen)
    assert [line for (unit, _), line in records(logs.seen) if unit == old] == [*LONG.splitlines(True), b"1;b\n"]
    assert len(records(logs.seen)) == 23


def test_a_file_under_two_names_is_read_once(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, pattern="*.log")
    logs.write(b"1;a\n", "today.log")
    os.link(logs.path("today.log"), logs.path("current.log"))
    logs.read()
    logs.write(b"2;b\n", "today.log")
    logs.read()
    logs.path("current.log").unlink()
    logs.write(b"1;c\n", "tomorrow.log")
    os.link(logs.path("tomorrow.log"), logs.path("current.log"))
    logs.read(passes=3)
    assert sorted(line for _, line in records(logs.seen)) == [b"1;a\n", b"1;c\n", b"2;b\n"]


def test_rotated_files_need_not_match_the_pattern_by_their_ending(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, pattern="*.log")
    logs.write(b"1;a\n", "a.log")
    logs.read()
    logs.write(b"2;b\n", "a.log")
    logs.rename("a.log", "a.log.1")
    logs.write(b"9;no\n", "a.log.swp")
    assert lines(logs.read(passes=3)) == [b"2;b"]


@pytest.mark.parametrize("dated", ["app-2026-11-26.log", "app.2026-11-26.log.gz", "app.log-20261126", "app.log.1"])
@pytest.mark.parametrize("pattern", ["app.log", "*.log", "a*.log"])
def test_a_log_is_followed_to_whatever_name_it_is_rotated(tmp_path: Path, pattern: str, dated: str) -> None:
    logs = LogSite(tmp_path, pattern=pattern)
    logs.write(b"1;a\n", "app.log")
    logs.read()
    logs.write(b"2;b\n", "app.log")
    logs.rename("app.log", dated.removesuffix(".gz"))
    if dated.endswith(".gz"):
        logs.pack(dated.removesuffix(".gz"))
    logs.write(b"3;c\n", "app.log")
    logs.write(b"9;no\n", "apple.txt")
    logs.read(passes=3)
    assert lines(logs.seen) == [b"1;a", b"2;b", b"3;c"]
    assert len(records(logs.seen)) == 3
