"""Logs rotated in every way: renamed, dated, copied and emptied, packed; by writers that keep their handle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from crossdock_agent.tails import opening
from support.log_site import HEADER, LONG, LogSite, lines, records, rejects, units
from support.memory import allocated_at_most


@pytest.fixture
def logs(tmp_path: Path) -> LogSite:
    return LogSite(tmp_path)


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


def test_a_packed_file_that_must_be_quiet_first_is_read_before_its_successor(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, rotated_seconds=5)
    logs.write(b"1;a\n")
    logs.rename()
    logs.pack()
    logs.write(b"2;b\n")
    assert logs.read(advance=1) == []
    assert [line for _, line in records(logs.read(passes=4, advance=3))] == [b"1;a\n", b"2;b\n"]


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
