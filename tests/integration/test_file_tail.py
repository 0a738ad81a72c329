"""Logs as they grow: half a line at the end, half a field, a first look at the end, names, locks and settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError, Corrupt
from crossdock_agent.sources import file_tail
from crossdock_agent.tails import opening
from support.log_site import HEADER, LONG, LogSite, assert_true_to, lines, records, rejects, units


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


def test_a_quoted_field_taken_half_by_setting_comes_again_whole_when_it_grows(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, unfinished_line="take", partial_seconds=30)
    logs.write(b'1;a\n2;"one\ntwo')
    assert lines(logs.read(advance=31, passes=3)) == [b"1;a", b"two"]
    assert [reject.code for reject in rejects(logs.seen)] == ["unclosed_quote"]
    logs.restart()
    assert logs.read(passes=3, advance=31) == []
    logs.write(b'"\n3;c\n')
    later = logs.read()
    assert (later[0].payload, later[0].header.origin.first_record) == (b'2;"one\ntwo"\n3;c\n', 1)
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


def test_paths_are_given_to_windows_to_the_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be longer than 260 characters then; only watching for events takes no such path."""
    monkeypatch.setattr(file_tail, "verbatim", lambda path: str(tmp_path / "logs") if path == "as written" else path)
    logs = LogSite(tmp_path, directory="as written")
    logs.write(b"1;a\n")
    assert lines(logs.read()) == [b"1;a"]
    assert logs.site.source.watch() == [Path("as written")]


@pytest.mark.parametrize("pattern", ["*", "x*", "x-{yyyy}{mm}{dd}.log"])
@pytest.mark.parametrize("recursive", [False, True])
def test_a_pattern_may_take_every_file_and_may_name_dates(tmp_path: Path, pattern: str, recursive: bool) -> None:
    logs = LogSite(tmp_path, pattern=pattern, recursive=recursive)
    logs.write(b"1;a\n", "x-20261126.log")
    logs.write(b"2;b\n", "x-20261127.log")
    assert lines(logs.read()) == [b"1;a", b"2;b"]


@pytest.mark.parametrize(
    "settings", [{"pattern": "a/b"}, {"pattern": "{day}.log"}, {"unknown": 1}, {"start": "middle"}]
)
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
