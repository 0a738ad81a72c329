"""Logs as they really are: growing, half a line at the end, renamed, copied and emptied, dated, packed, gone."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from crossdock.errors import ConfigError, Corrupt, SourceUnavailable
from crossdock_agent.drops.listing import Listing
from crossdock_agent.sources import file_tail
from crossdock_agent.tails import opening
from support.log_site import HEADER, LogSite, assert_true_to, lines, records, rejects, units
from support.memory import allocated_at_most

LONG = b"".join(b"%d;%s\n" % (i, b"x" * 60) for i in range(1000, 1010))  # beyond where equal content may be chance


@pytest.fixture
def logs(tmp_path: Path) -> LogSite:
    return LogSite(tmp_path)


# --- growing


def test_lines_come_as_they_are_written_each_with_its_place_in_the_file(logs: LogSite) -> None:
    logs.write(b"1;a\n2;b\n")
    logs.read()
    logs.write(b"3;c\n")
    logs.read()
    logs.restart()
    logs.write(b"4;d\n5;e\n")
    logs.read()
    assert [line for _, line in records(logs.seen)] == [b"1;a\n", b"2;b\n", b"3;c\n", b"4;d\n", b"5;e\n"]
    (unit,) = units(logs.seen)
    assert_true_to(logs.seen, {unit: logs.path().read_bytes()})
    assert [ordinal for (_, ordinal), _ in records(logs.seen)] == [0, 1, 2, 3, 4]
    assert {draft.header.prefix for draft in logs.seen} == {HEADER}
    assert not any(draft.header.closes for draft in logs.seen)


def test_a_last_line_without_newline_waits_and_is_never_torn(logs: LogSite) -> None:
    logs.write(b"1;a\n2;ha")
    assert lines(logs.read(advance=1e6)) == [b"1;a"]
    assert logs.counter("partial_lines_waiting") == 1
    logs.restart()
    assert logs.read(advance=1e6) == []
    logs.write(b"lf\n3")
    assert lines(logs.read()) == [b"2;half"]
    logs.write(b";c\n")
    logs.read()
    assert [(ordinal, line) for (_, ordinal), line in records(logs.seen)] == [
        (0, b"1;a\n"), (1, b"2;half\n"), (2, b"3;c\n"),
    ]  # fmt: skip


def test_a_quoted_field_that_is_still_open_waits_like_any_half_line(logs: LogSite) -> None:
    logs.write(b'1;a\n2;"first\nsecond')
    assert lines(logs.read(advance=1e6)) == [b"1;a"]
    logs.write(b' line"\n3;c\n')
    (draft,) = logs.read()
    assert (draft.payload, draft.header.records, draft.header.origin.first_line) == (
        b'2;"first\nsecond line"\n3;c\n', 2, 3,
    )  # fmt: skip
    assert not rejects(logs.seen)


def test_a_half_line_is_taken_after_its_time_by_setting_and_comes_again_whole_when_it_grows(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, unfinished_line="take", partial_seconds=30)
    logs.write(b"1;a\n2;ha")
    assert lines(logs.read()) == [b"1;a"]
    assert lines(logs.read(passes=1, advance=29)) == []
    assert lines(logs.read(passes=3, advance=31)) == [b"2;ha"]
    logs.restart()
    assert logs.read(passes=3, advance=31) == []
    logs.write(b"lf\n3;c\n")
    assert [(ordinal, line) for (_, ordinal), line in records(logs.read())] == [(1, b"2;half\n"), (2, b"3;c\n")]
    assert len(units(logs.seen)) == 1


def test_a_first_line_taken_half_is_the_same_file_when_it_has_grown_and_was_renamed(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, unfinished_line="take", partial_seconds=30, format={"kind": "jsonl"})
    logs.path().write_bytes(b'{"a"')
    assert lines(logs.read(passes=3, advance=31)) == [b'{"a"']
    with logs.path().open("ab") as file:
        file.write(b": 1}\n")
    logs.read()
    logs.rename()
    logs.read(passes=3)
    logs.restart()
    assert logs.read(passes=3) == []
    assert [ordinal for (_, ordinal), _ in records(logs.seen)] == [0, 0]
    assert len(units(logs.seen)) == 1


def test_an_idle_file_closes_its_open_groups_once_and_goes_on_later(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, idle_closes_seconds=60)
    logs.write(b"1;a\n")
    assert [draft.header.closes for draft in logs.read(advance=10)] == [False]
    logs.restart()
    (close,) = logs.read(passes=5, advance=30)
    assert (close.header.closes, close.header.records, close.header.prefix) == (True, 0, HEADER)
    assert close.header.origin.first_record == 1
    assert logs.read(passes=3, advance=100) == []
    logs.write(b"2;b\n")
    first, then = logs.read(passes=4, advance=30)
    assert (first.header.closes, first.header.origin.first_record, then.header.closes) == (False, 1, True)
    assert len(units(logs.seen)) == 1


def test_a_header_alone_is_no_record_and_the_file_is_begun_with_its_first_line(logs: LogSite) -> None:
    logs.write(b"")
    assert logs.read(passes=3, advance=100) == []
    logs.write(b"1;a\n")
    assert lines(logs.read()) == [b"1;a"]


def test_a_record_over_the_limit_is_set_aside_when_its_end_has_come(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, max_record_bytes=64 * 1024)
    logs.write(b"1;a\n2;" + b"y" * 100_000)
    assert lines(logs.read()) == [b"1;a"]
    assert logs.read(advance=1e6) == []
    logs.write(b"yyy\n3;c\n")
    drafts = logs.read()
    (reject,) = rejects(drafts)
    assert (reject.code, reject.record, reject.line, reject.bytes) == ("too_long", 1, 3, 100_006)
    assert [ordinal for (_, ordinal), _ in records(logs.seen)] == [0, 2]


def test_a_line_that_never_ends_is_not_read_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = LogSite(tmp_path, max_record_bytes=64 * 1024)
    logs.write(b"1;a\n")
    bytes_read = 0
    real = opening.open_shared

    def counting(path: Path) -> Any:
        file = real(path)

        class Counted:
            def read(self, n: int = -1) -> bytes:
                nonlocal bytes_read
                data = bytes(file.read(n))
                bytes_read += len(data)
                return data

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

        return Counted()

    monkeypatch.setattr(opening, "open_shared", counting)
    for _ in range(60):
        logs.write(b"y" * 100_000)
        logs.read(passes=1, advance=1)
    assert bytes_read < 4 * 6_000_000
    logs.write(b"\n2;b\n")
    drafts = logs.read(passes=3, advance=100)
    assert [reject.code for reject in rejects(drafts)] == ["too_long"]
    assert lines(drafts) == [b"2;b"]


def test_fixed_records_without_newlines_are_taken_whole(tmp_path: Path) -> None:
    form = {"kind": "fixed", "fields": [{"name": "a", "start": 1, "length": 4}], "newline": False, "record_bytes": 4}
    logs = LogSite(tmp_path, format=form)
    logs.path().write_bytes(b"aaaabb")
    (draft,) = logs.read()
    assert draft.payload == b"aaaa"
    with logs.path().open("ab") as file:
        file.write(b"bbccccd")
    (draft,) = logs.read()
    assert (draft.payload, draft.header.origin.first_record) == (b"bbbbcccc", 1)


def test_marks_and_newlines_of_every_kind_pass_through_as_they_are(tmp_path: Path) -> None:
    logs = LogSite(tmp_path)
    logs.path().write_bytes(b"")
    assert logs.read(passes=3) == []
    header = b"\xef\xbb\xbf\r\nNO;TEXT\r\n"
    parts = [b"1;a\r\n2;b\n", b"\n3;\xc2\x85\r4\n", b"5;e\x1a\r\n"]
    logs.path().write_bytes(header + parts[0])
    logs.read()
    for part in parts[1:]:
        logs.restart()
        with logs.path().open("ab") as file:
            file.write(part)
        logs.read()
    assert [draft.payload for draft in logs.seen] == parts
    assert {draft.header.prefix for draft in logs.seen} == {header}
    assert [draft.header.origin.first_line for draft in logs.seen] == [3, 5, 7]


# --- rotation by renaming


def test_what_was_written_before_the_renaming_is_read_before_the_new_file(logs: LogSite) -> None:
    logs.write(b"1;a\n")
    logs.read()
    logs.write(b"2;b\n")
    logs.rename()
    logs.write(b"3;c\n")
    logs.read()
    assert lines(logs.seen) == [b"1;a", b"2;b", b"3;c"]
    old, _new = units(logs.seen)
    assert {draft.header.origin.name for draft in logs.seen} == {"x.log"}
    assert [d.header.closes for d in logs.seen if d.header.origin.unit == old] == [False, True]
    logs.rename("x.log.1", "x.log.2")
    logs.restart()
    assert logs.read(passes=3) == []


def test_a_writer_that_keeps_its_handle_after_the_renaming_loses_nothing(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, rotated_seconds=5)
    logs.write(b"1;a\n")
    logs.read()
    with logs.path().open("ab") as late:
        logs.rename()
        logs.write(b"3;c\n")
        assert logs.read(advance=1) == []
        late.write(b"2;b\n")
        late.flush()
        assert lines(logs.read(advance=1)) == [b"2;b"]
        drafts = logs.read(passes=3, advance=3)
        assert lines(drafts) == [b"3;c"]
        assert drafts[0].header.closes
        late.write(b"2;too late\n")
        late.flush()
        drafts = logs.read(passes=4, advance=6)
        assert lines(drafts) == [b"2;too late"]
    assert drafts[0].header.origin.unit == units(logs.seen)[0]
    assert drafts[0].header.origin.first_record == 2
    assert logs.read(passes=4, advance=6) == [], "and it is finished again"


def test_a_finished_file_that_is_written_to_again_is_finished_again_once(logs: LogSite) -> None:
    logs.write(b"1;a\n")
    logs.rename()
    logs.write(b"9;z\n")
    logs.read()
    logs.write(b"2;late\n", "x.log.1")
    (draft,) = logs.read(passes=1)
    assert (lines([draft]), draft.header.closes, draft.header.origin.first_record) == ([b"2;late"], True, 1)
    assert logs.read(passes=4) == []
    assert len(units(logs.seen)) == 2


def test_a_successor_does_not_wait_for_ever_for_a_file_that_never_falls_quiet(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, rotated_seconds=5, pattern="x*.log")
    logs.write(b"1;a\n", "x-20261125.log")
    logs.read()
    logs.write(b"9;z\n", "x-20261126.log")
    for i in range(12):
        logs.write(b"%d;a\n" % (i + 2), "x-20261125.log")
        logs.write(b"%d;z\n" % i, "x-20261126.log")
        logs.read(passes=1, advance=4)
    assert b"9;z" in lines(logs.seen)
    assert len(lines(logs.seen)) == 26


def test_several_rotations_while_the_agent_was_down_are_read_oldest_first(logs: LogSite) -> None:
    logs.write(b"1;a\n")
    logs.read()
    logs.write(b"2;b\n")
    logs.rename("x.log", "x.log.3")
    logs.write(b"3;c\n", "x.log.2")
    logs.write(b"4;d\n", "x.log.1")
    logs.write(b"5;e\n")
    logs.restart()
    logs.read(passes=4)
    assert [line for _, line in records(logs.seen)] == [b"1;a\n", b"2;b\n", b"3;c\n", b"4;d\n", b"5;e\n"]
    assert len(units(logs.seen)) == 4
    assert sum(draft.header.closes for draft in logs.seen) == 3


def test_the_last_line_of_a_rotated_file_is_complete_without_its_newline(logs: LogSite) -> None:
    logs.write(b"1;a\n2;b")
    logs.read()
    logs.rename()
    logs.write(b"3;c\n")
    logs.read(passes=3)
    assert lines(logs.seen) == [b"1;a", b"2;b", b"3;c"]
    logs.restart()
    assert logs.read(passes=3) == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("pattern", ["x.log", "x.log*"])
def test_a_file_is_rotated_by_its_new_name_though_no_successor_is_there_yet(
    tmp_path: Path, pattern: str, *, known: bool
) -> None:
    logs = LogSite(tmp_path, pattern=pattern)
    logs.write(b"1;a\n2;b")
    if known:
        logs.read()
    logs.rename()
    logs.read(passes=3)
    told = pattern == "x.log" or known  # else x.log.1 may be a name like any other
    assert lines(logs.seen) == [b"1;a", b"2;b"][: 1 + told]
    assert logs.seen[-1].header.closes == told


def test_dated_names_are_generations_that_share_their_header_and_nothing_else(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, pattern="x-*.log")
    logs.write(b"1;open\n", "x-20261125.log")
    logs.read()
    logs.write(b"2;b\n", "x-20261125.log")
    logs.write(b"1;open\n3;c\n", "x-20261126.log")
    logs.read()
    assert [line for _, line in records(logs.seen)] == [b"1;open\n", b"2;b\n", b"1;open\n", b"3;c\n"]
    first, second = units(logs.seen)
    closed = [draft.header.origin.unit for draft in logs.seen if draft.header.closes]
    assert closed == [first]
    logs.restart()
    logs.write(b"4;d\n", "x-20261126.log")
    (draft,) = logs.read()
    assert (draft.header.origin.unit, draft.header.origin.first_record) == (second, 2)


def test_a_header_that_changed_travels_with_its_own_generation(logs: LogSite) -> None:
    logs.write(b"1;a\n")
    logs.read()
    logs.rename()
    logs.path().write_bytes(b"NUMBER;TEXT;MORE\n2;b;c\n")
    logs.read(passes=3)
    logs.restart()
    logs.write(b"3;d;e\n")
    logs.read()
    assert [draft.header.prefix for draft in logs.seen if draft.header.records] == [
        HEADER, b"NUMBER;TEXT;MORE\n", b"NUMBER;TEXT;MORE\n",
    ]  # fmt: skip


# --- emptied in place


def test_copying_and_emptying_loses_nothing_that_was_copied(logs: LogSite) -> None:
    logs.write(LONG)
    logs.read()
    logs.write(b"2;b\n")
    logs.copy_truncate()
    logs.write(b"3;c\n")
    logs.read(passes=4)
    assert lines(logs.seen) == [*LONG.splitlines(), b"2;b", b"3;c"]
    assert len(records(logs.seen)) == 12
    assert len(units(logs.seen)) == 2
    logs.restart()
    assert logs.read(passes=3) == []


def test_a_short_log_that_is_copied_and_emptied_is_known_by_its_rotated_name(logs: LogSite) -> None:
    logs.write(b"1;a\n")
    logs.read()
    logs.write(b"2;b\n")
    logs.copy_truncate()
    logs.read(passes=3)
    assert [line for _, line in records(logs.seen)] == [b"1;a\n", b"2;b\n"]


def test_a_copy_being_made_or_complete_is_no_file_of_its_own_until_the_original_is_emptied(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, rotated_seconds=5)
    logs.write(LONG)
    logs.read()
    content = logs.path().read_bytes()
    for size in (100, 400, len(content)):
        logs.path("x.log.1").write_bytes(content[:size])
        assert logs.read(advance=1) == []
    logs.restart()
    assert logs.read(passes=3, advance=6) == []
    logs.write(b"2;only in the original\n")
    assert lines(logs.read()) == [b"2;only in the original"]
    logs.path("x.log.1").write_bytes(logs.path().read_bytes() + b"3;last\n")
    os.truncate(logs.path(), 0)
    logs.write(b"4;new\n")
    assert lines(logs.read(passes=4, advance=6)) == [b"3;last", b"4;new"]


def test_emptied_and_grown_beyond_the_old_offset_between_two_looks_is_a_new_generation(logs: LogSite) -> None:
    logs.write(b"1;a\n")
    logs.read()
    inode = logs.path().stat().st_ino
    with logs.path().open("r+b") as file:
        file.truncate(0)
        file.write(HEADER + b"7;new\n8;new\n9;new\n")
    assert logs.path().stat().st_ino == inode
    drafts = logs.read(passes=3)
    assert lines(drafts) == [b"7;new", b"8;new", b"9;new"]
    assert len(units(logs.seen)) == 2
    assert logs.counter("truncations") == 1
    assert not rejects(drafts)


def test_a_new_generation_with_the_same_long_beginning_is_told_by_where_reading_stopped(logs: LogSite) -> None:
    """Every start of the program writes the same page of settings first."""
    preamble = b"".join(b"%d;setting %s\n" % (i, b"s" * 90) for i in range(100))
    logs.write(preamble + b"101;monday\n")
    logs.read()
    logs.path().write_bytes(HEADER + preamble + b"101;tuesday\n102;more\n")
    drafts = logs.read(passes=3)
    assert lines(drafts) == [*preamble.splitlines(), b"101;tuesday", b"102;more"]
    assert len(units(logs.seen)) == 2


def test_what_was_seen_and_not_read_before_the_file_was_emptied_is_reported(logs: LogSite) -> None:
    logs.write(b"1;a\n2;half")
    logs.read()
    os.truncate(logs.path(), 0)
    logs.write(b"3;c\n")
    drafts = logs.read(passes=3)
    (reject,) = rejects(drafts)
    assert (reject.code, reject.record, reject.line, reject.bytes) == ("truncated", 1, 3, 6)
    assert "never seen" in reject.reason
    assert lines(drafts) == [b"3;c"]
    assert logs.counter("bytes_lost") == 6


def test_a_file_emptied_while_it_is_read_gives_no_bytes_of_two_generations(
    logs: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.write(b"".join(b"%08d;%s\n" % (i, b"o" * 90) for i in range(10_000)))
    path = logs.path()

    def emptied(real: Any) -> Any:
        def open_it(where: Path) -> BinaryIO:
            file = real(where)
            read, blocks = file.read, 0

            class Racing:
                def read(self, n: int = -1) -> bytes:
                    nonlocal blocks
                    blocks += n > 100_000
                    if blocks == 3:
                        blocks += 1
                        os.truncate(path, 0)
                        path.write_bytes(HEADER + b"".join(b"%08d;new\n" % i for i in range(200_000)))
                    return bytes(read(n))

                def __getattr__(self, name: str) -> Any:
                    return getattr(file, name)

                def __enter__(self) -> Any:
                    return self

                def __exit__(self, *_: object) -> None:
                    file.close()

            return Racing()  # type: ignore[return-value]

        return open_it

    with monkeypatch.context() as patch:
        patch.setattr(opening, "open_shared", emptied(opening.open_shared))
        first = logs.read(passes=1)
    rest = logs.read(passes=4)
    assert first
    assert all(line.endswith(b"o") for line in lines(first))
    assert lines(rest) == [b"%08d;new" % i for i in range(200_000)]
    (reject,) = rejects(rest)
    assert reject.code == "truncated"


def test_a_file_replaced_between_the_look_and_its_turn_is_not_read_as_what_it_was(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, pattern="*.log")
    logs.write(b"1;a\n", "a.log")
    logs.write(b"1;b\n", "b.log")
    logs.read()
    logs.write(b"2;a\n", "a.log")
    logs.write(b"2;b\n", "b.log")
    for draft in logs.site.reading():
        logs.seen.append(draft)
        if draft.header.origin.name == "a.log":
            logs.path("b.log").write_bytes(HEADER + b"7;new\n8;new\n9;new\n")
    logs.read(passes=3)
    assert lines(logs.seen) == [b"1;a", b"1;b", b"2;a", b"7;new", b"8;new", b"9;new"]
    assert [reject.code for reject in rejects(logs.seen)] == ["truncated"]


# --- which file is which


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


# --- packed


def test_a_packed_file_that_was_read_is_left_alone(logs: LogSite) -> None:
    logs.write(LONG)
    logs.rename()
    logs.write(b"1;a\n")
    logs.read(passes=3)
    logs.pack()
    assert logs.read(passes=3) == []
    logs.restart()
    assert logs.read(passes=3) == []
    assert not rejects(logs.seen)


@pytest.mark.parametrize("down", [True, False])
def test_the_rest_of_a_file_that_was_packed_is_read_from_the_packed_one(logs: LogSite, *, down: bool) -> None:
    logs.write(LONG)
    logs.read()
    logs.write(b"2;b\n3;c")
    logs.rename()
    logs.pack()
    logs.write(b"4;d\n")
    if down:
        logs.restart()
    drafts = logs.read(passes=4)
    assert lines(drafts) == [b"2;b", b"3;c", b"4;d"]
    assert drafts[0].header.closes
    assert len(units(logs.seen)) == 2
    logs.restart()
    assert logs.read(passes=3) == []


def test_a_file_packed_before_it_was_ever_seen_is_read_from_its_beginning(logs: LogSite) -> None:
    logs.write(LONG)
    logs.rename()
    logs.pack()
    drafts = logs.read(passes=3)
    assert lines(drafts) == LONG.splitlines()
    logs.restart()
    assert logs.read(passes=3) == []


def test_a_packed_file_is_read_in_little_memory(logs: LogSite) -> None:
    logs.write(b"".join(b"%08d;%s\n" % (i, b"x" * 190) for i in range(150_000)))
    logs.rename()
    logs.pack()
    with allocated_at_most(12 * 1024 * 1024):
        count = sum(draft.header.records for draft in logs.site.reading())
    assert count == 150_000


def test_a_file_that_is_still_being_packed_waits_and_a_damaged_one_is_reported(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, partial_seconds=60)
    logs.write(LONG)
    logs.read()
    logs.write(b"2;b\n")
    logs.rename()
    packed = logs.pack()
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-9])
    assert logs.read(passes=3) == []
    packed.write_bytes(whole)
    assert lines(logs.read(passes=3)) == [b"2;b"]
    logs.write(LONG + b"3;c\n")
    logs.read()
    logs.write(b"4;d\n")
    logs.rename("x.log", "x.log.2")
    packed = logs.pack("x.log.2")
    packed.write_bytes(packed.read_bytes()[:-9])
    (reject,) = rejects(logs.read(passes=4, advance=40))
    assert reject.code == "damaged"
    assert logs.read(passes=4, advance=40) == []


def test_what_stands_before_the_damage_of_a_packed_file_is_read_and_the_rest_is_reported(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, partial_seconds=60)
    rows = b"".join(b"%08d;%s\n" % (i, os.urandom(40).hex().encode()) for i in range(20_000))
    logs.write(rows)
    logs.rename()
    packed = logs.pack()
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    drafts = logs.read(passes=6, advance=40)
    found = lines(drafts)
    assert 5_000 < len(found) < 20_000
    assert found == rows.splitlines()[: len(found)]
    (reject,) = rejects(drafts)
    assert (reject.code, reject.record) == ("damaged", len(found))
    assert len(records(drafts)) == len(found)
    logs.restart()
    assert rejects(logs.read(passes=3, advance=1)) == []


# --- the first look


def test_reading_may_begin_at_the_end_with_the_header_and_true_ordinals(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, start="end")
    logs.write(b"1;old\n2;old\n3;ha")
    logs.write(LONG, "x.log.1")
    (begin,) = logs.read()
    assert (begin.header.records, begin.payload) == (0, b"")
    logs.restart()
    assert logs.read(passes=3) == []
    logs.write(b"lf\n4;new\n")
    (draft,) = logs.read()
    assert lines([draft]) == [b"3;half", b"4;new"]
    origin = draft.header.origin
    assert (draft.header.prefix, origin.first_record, origin.first_line) == (HEADER, 2, 4)
    logs.rename("x.log.1", "x.log.2")
    logs.rename()
    logs.write(b"5;e\n")
    assert lines(logs.read(passes=3)) == [b"5;e"]


def test_a_file_that_comes_after_the_first_look_is_read_from_its_beginning_even_with_start_end(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, start="end")
    (begin,) = logs.read()
    assert begin.header.records == 0
    logs.restart()
    logs.write(b"1;a\n")
    assert lines(logs.read()) == [b"1;a"]


def test_a_first_look_that_was_not_kept_is_made_again(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, start="end")
    logs.write(b"1;a\n")
    refused = logs.site.source.read(None)
    next(refused)
    refused.close()  # type: ignore[attr-defined]
    logs.write(b"2;b\n")
    logs.read()
    logs.write(b"3;c\n")
    assert lines(logs.read()) == [b"3;c"]


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


# --- many files


def test_three_hundred_growing_files_keep_a_small_checkpoint_and_one_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogSite(tmp_path, pattern="till*.log")
    held, most = 0, 0
    real = opening.open_shared

    def counted(path: Path) -> Any:
        nonlocal held, most
        file = real(path)
        held, most = held + 1, max(most, held + 1)
        close = file.close

        class Counted:
            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                nonlocal held
                held -= 1
                close()

        return Counted()

    monkeypatch.setattr(opening, "open_shared", counted)
    for turn in range(3):
        for i in range(300):
            logs.write(b"%d;%d\n" % (turn, i), f"till{i:03d}a.log")
        logs.read()
        logs.restart()
    assert len(records(logs.seen)) == len(set(records(logs.seen))) == 900
    assert len(units(logs.seen)) == 300
    assert max(len(draft.header.checkpoint) for draft in logs.seen) < 4096
    assert (held, most) == (0, 1)
    assert logs.counter("files_open") == 300


def test_after_the_ledger_was_lost_the_same_records_have_the_same_identities(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, pattern="till*.log")
    for i in range(60):
        logs.write(b"1;%d\n" % i, f"till{i:03d}a.log")
    logs.read()
    logs.site.ledger.clear()
    logs.restart()
    for i in range(60):
        logs.write(b"2;%d\n" % i, f"till{i:03d}a.log")
    again = logs.read()
    assert len(records(again)) < 120, "those in the checkpoint go on"
    assert len(set(records(logs.seen))) == 120
    for _ in range(2):
        logs.restart()
        assert logs.read() == []


def test_a_folder_of_old_logs_costs_nothing_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogSite(tmp_path, pattern="x*.log", start="end")
    for i in range(600):
        logs.path(f"x-2020{i:06d}.log").write_bytes(b"")
        logs.path(f"x-2020{i:06d}.log").write_bytes(HEADER + b"%d;old\n" % i)
    logs.read()
    logs.write(b"1;a\n", "x-now.log")
    logs.read(passes=3, advance=1)
    listings, opens = 0, 0
    real_files, real_open = Listing.files, opening.open_shared

    def files(self: Listing) -> Any:
        nonlocal listings
        listings += 1
        return real_files(self)

    def opened(path: Path) -> Any:
        nonlocal opens
        opens += 1
        return real_open(path)

    monkeypatch.setattr(Listing, "files", files)
    monkeypatch.setattr(opening, "open_shared", opened)
    logs.read(passes=8, advance=1)
    assert listings <= 1
    assert opens == 0
    logs.write(b"2;b\n", "x-now.log")
    logs.read(passes=1)
    assert lines(logs.seen) == [b"1;a", b"2;b"]
    assert listings <= 1
    assert opens <= 2
    logs.restart()
    logs.write(b"3;c\n", "x-2020000007.log")
    logs.read()
    assert lines(logs.seen)[-1] == b"3;c"


def test_a_change_that_the_directorys_time_does_not_show_is_seen_soon(tmp_path: Path) -> None:
    """Its clock is coarse, and that of some shares stands still."""
    logs = LogSite(tmp_path, pattern="*.log")
    logs.write(b"1;a\n", "a.log")
    logs.read()
    for n, name in enumerate(("b.log", "c.log")):
        before = logs.directory.stat().st_mtime_ns
        logs.write(b"2;%d\n" % n, name)
        os.utime(logs.directory, ns=(before, before))
        assert len(lines(logs.read(passes=1, advance=2.5 if n == 0 else 11))) == 1
        logs.read(passes=4, advance=2)


def test_files_take_turns_and_one_that_grows_all_the_time_starves_none(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, pattern="*.log", turn_bytes=1024 * 1024)
    big = b"".join(b"%08d;%s\n" % (i, b"x" * 90) for i in range(30_000))
    logs.write(big, "a.log")
    logs.write(b"1;b\n", "b.log")
    order = []
    behind = 0
    for draft in logs.site.reading():
        behind = max(behind, logs.counter("bytes_behind"))
        order.append(draft.header.origin.name)
        if draft.header.origin.name == "a.log":
            logs.write(big[:1_000_000], "a.log")
        assert len(order) < 100
    assert "b.log" in order[:8]
    assert order[-1] == "a.log"
    assert behind > 2_900_000


def test_several_files_come_by_name_or_by_time(tmp_path: Path) -> None:
    for order, expected in (("name", ["a.log", "b.log"]), ("time", ["b.log", "a.log"])):
        base = tmp_path / order
        base.mkdir()
        logs = LogSite(base, pattern="*.log", order=order)
        logs.write(b"1;a\n", "a.log")
        logs.write(b"2;b\n", "b.log")
        os.utime(logs.path("b.log"), ns=(10**18, 10**18))
        assert [draft.header.origin.name for draft in logs.read()] == expected


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


# --- the rest


def test_a_file_that_cannot_be_opened_now_is_counted_and_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogSite(tmp_path, pattern="*.log")
    logs.write(b"1;a\n", "a.log")
    logs.write(b"2;b\n", "b.log")
    real = opening.open_shared

    def locked(path: Path) -> Any:
        if path.name == "a.log":
            raise PermissionError(13, "the process cannot access the file")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(opening, "open_shared", locked)
        assert lines(logs.read()) == [b"2;b"]
        assert logs.counter("files_unreadable") == 1
    assert lines(logs.read()) == [b"1;a"]
    assert logs.counter("files_unreadable") == 0
    with monkeypatch.context() as patch:
        patch.setattr(opening, "open_shared", locked)
        logs.write(b"3;c\n", "a.log")
        assert logs.read(passes=4, advance=100) == []
    drafts = logs.read()
    assert lines(drafts) == [b"3;c"]
    assert not any(draft.header.closes for draft in drafts)


def test_a_read_only_directory_is_enough(logs: LogSite) -> None:
    logs.write(b"1;a\n")
    logs.path().chmod(0o444)
    logs.directory.chmod(0o555)
    try:
        before = sorted(logs.directory.iterdir())
        logs.read(passes=3)
        assert all(finding.ok for finding in logs.site.source.check())
        assert sorted(logs.directory.iterdir()) == before
    finally:
        logs.directory.chmod(0o755)
    assert lines(logs.seen) == [b"1;a"]


def test_a_name_that_is_no_text_is_followed_through_its_renaming(tmp_path: Path) -> None:
    name = "töpfe.log" if sys.platform == "win32" else os.fsdecode(b"\xff.log")
    logs = LogSite(tmp_path, pattern="*.log")
    logs.write(LONG, name)
    logs.read()
    logs.rename(name, name + ".1")
    logs.write(b"2;b\n", name + ".1")
    logs.restart()
    assert lines(logs.read(passes=3)) == [b"2;b"]


def test_a_checkpoint_of_another_kind_is_refused_with_the_next_step(logs: LogSite) -> None:
    for checkpoint in (b"\x92\x01\x90", b"nonsense", b"\x94\xa4tail\x09\x01\x90"):
        logs.site.checkpoint = checkpoint
        with pytest.raises(Corrupt) as caught:
            logs.read()
        assert caught.value.hint


@pytest.mark.parametrize("settings", [{"pattern": "a/b"}, {"unknown": 1}, {"start": "middle"}])
def test_wrong_settings_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LogSite(tmp_path, **settings)


def test_a_format_whose_records_end_only_with_the_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tail, "TAILED", ("jsonl",))
    with pytest.raises(ConfigError, match=r"format 'csv' cannot be tailed.*; jsonl can, for others use kind file_drop"):
        LogSite(tmp_path)


def test_check_says_what_it_saw_and_what_to_do(logs: LogSite) -> None:
    logs.write(b"1;\xff\n")
    failed = [finding for finding in logs.site.source.check() if not finding.ok]
    assert [finding.name for finding in failed] == ["sample"]
    assert "encoding" in failed[0].hint


def test_check_takes_no_packed_file_for_a_sample_and_counts_rotated_ones(logs: LogSite) -> None:
    logs.write(b"1;a\n")
    logs.write(b"2;b\n", "x.log.1")
    logs.write(b"3;c\n", "x.log.2")
    logs.write(b"4;d\n", "y.log")
    logs.pack("x.log.2")
    findings = {finding.name: finding for finding in logs.site.source.check()}
    assert findings["pattern"].detail == "2 files match 'x.log'"
    assert findings["sample"].ok
