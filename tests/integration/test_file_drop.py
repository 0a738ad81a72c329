"""Files as they really come: half written, replaced, growing, sent twice, far too long, on a share that is away."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError, Corrupt, SourceUnavailable
from crossdock_agent.drops import releasing
from crossdock_agent.drops.identity import fingerprint
from crossdock_agent.drops.settle import Settling
from crossdock_agent.framing import Framer, Run
from crossdock_agent.sources.base import Draft
from support.source_site import SourceSite

CSV = {"kind": "csv", "delimiter": ";"}
HEADER = b"NO;TEXT\n"
FIELDS = [{"name": "a", "start": 1, "length": 1}]


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    directory = tmp_path / "drop"
    directory.mkdir()
    return directory


def site_of(directory: Path, **settings: Any) -> SourceSite:
    return SourceSite("file_drop", {"directory": str(directory), "settle_seconds": 0, "format": CSV, **settings})


def rows(start: int, stop: int, width: int = 200) -> bytes:
    return b"".join(b"%09d;%s\n" % (i, b"x" * (width - 11)) for i in range(start, stop))


def payloads(drafts: list[Draft]) -> bytes:
    return b"".join(draft.payload for draft in drafts)


def units(drafts: list[Draft]) -> list[bytes]:
    return list(dict.fromkeys(draft.header.origin.unit for draft in drafts))


def rejects(drafts: list[Draft]) -> list[Any]:
    return [reject for draft in drafts for reject in draft.header.rejects]


def assert_gapless(drafts: list[Draft]) -> None:
    """Ordinals, offsets and lines of one unit follow one another."""
    (_,) = units(drafts)
    at = 0
    for draft in drafts:
        assert draft.header.origin.first_record == at
        at += draft.header.records + len(draft.header.rejects)


def rewrite(path: Path, data: bytes) -> None:
    """In place, with a time that differs also where the file system's clock is coarse."""
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(data)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


# --- content


def test_a_truncated_row_passes_through_as_it_is(drop: Path) -> None:
    (drop / "a.csv").write_bytes(HEADER + b"1;whole\n2;cu")
    (draft,) = site_of(drop).drafts()
    assert (draft.payload, draft.header.records, draft.header.closes) == (b"1;whole\n2;cu", 2, True)


def test_a_header_that_changed_travels_with_its_own_file(drop: Path) -> None:
    (drop / "a.csv").write_bytes(HEADER + b"1;x\n")
    (drop / "b.csv").write_bytes(b"\r\n" + b"NUMBER;TEXT;MORE\r\n1;x;y\r\n")
    drafts = site_of(drop).drafts()
    assert [draft.header.prefix for draft in drafts] == [HEADER, b"\r\nNUMBER;TEXT;MORE\r\n"]
    assert [draft.header.origin.first_line for draft in drafts] == [2, 3]


@pytest.mark.parametrize("content", [b"", HEADER, b"NO;TEXT", b"\xef\xbb\xbf"])
def test_a_file_without_records_is_on_the_account_each_time_it_comes(drop: Path, content: bytes) -> None:
    site = site_of(drop, afterwards="archive")
    for _ in range(2):
        (drop / "a.csv").write_bytes(content)
        (draft,) = site.drafts()
        header = draft.header
        assert (header.records, header.closes, header.prefix, draft.payload) == (0, True, content, b"")
        assert site.drafts() == []
        site.acknowledge()
    assert len(list((drop / "archive").iterdir())) == 2
    assert "duplicates_skipped" not in site.counters.snapshot()


def test_mixed_newlines_a_next_line_character_and_a_control_z_pass_through_as_they_are(drop: Path) -> None:
    content = b"1;x\r\n2;y\n3;\x85z\r4;\r\n\x1a"
    (drop / "a.csv").write_bytes(b"NO;TEXT\r\n" + content)
    (draft,) = site_of(drop).drafts()
    assert (draft.payload, draft.header.records, draft.header.prefix) == (content, 4, b"NO;TEXT\r\n")


def test_an_unclosed_quote_costs_its_line_and_is_reported_with_its_place(drop: Path) -> None:
    (drop / "a.csv").write_bytes(HEADER + b'1;x\n2;"open\n' + rows(3, 2000))
    drafts = site_of(drop).drafts()
    (reject,) = rejects(drafts)
    assert (reject.code, reject.line, reject.record, reject.sample) == ("unclosed_quote", 3, 1, b'2;"open\n')
    assert sum(draft.header.records for draft in drafts) == 1998
    assert_gapless(drafts)


_LONG_LINE = """
import sys, psutil
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.source_site import SourceSite
site = SourceSite("file_drop", {"directory": sys.argv[2], "settle_seconds": 0, "format": {"kind": "csv"}})
def peak():
    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):
        return info.peak_wset
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
drafts = site.drafts()
(reject,) = [r for d in drafts for r in d.header.rejects]
records = sum(d.header.records for d in drafts)
print(peak() - before, records, reject.bytes, reject.code, reject.line, len(reject.sample))
"""


def test_a_line_of_200_mb_is_set_aside_in_little_memory(drop: Path) -> None:
    with (drop / "a.csv").open("wb") as file:
        file.write(b"NO,TEXT\n1,x\n")
        for _ in range(200):
            file.write(b"y" * 1_000_000)
        file.write(b"\n2,x\n")
    tests = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", _LONG_LINE, str(tests), str(drop)], capture_output=True, text=True, check=True
    )
    grown, records, size, code, line, sample = done.stdout.split()
    assert int(grown) < 48 * 1024 * 1024
    assert (records, size, code, line, sample) == ("2", "200000001", "too_long", "3", "4096")


def test_a_name_that_is_no_text_is_read_and_archived(drop: Path) -> None:
    if sys.platform == "win32":  # names are text there
        name = "bestellung €.csv"
        (drop / name).write_bytes(HEADER + b"1;x\n")
        shown = name
    else:
        shown = "\\xff\\n.csv".replace("\\n", "\n")
        name = os.fsdecode(b"\xff\n.csv")
        (drop / name).write_bytes(HEADER + b"1;x\n")
    site = site_of(drop, afterwards="archive")
    (draft,) = site.drafts()
    assert draft.header.origin.name == shown
    site.restart()
    site.acknowledge()
    assert (drop / "archive" / name).exists()


# --- complete or not


def test_a_file_is_taken_after_it_looked_the_same_for_the_settle_time_whatever_its_timestamp(drop: Path) -> None:
    path = drop / "a.csv"
    site = site_of(drop, settle_seconds=2.0)
    for i in range(4):  # a copy that keeps the original's time, and pauses between pieces
        append(path, HEADER if i == 0 else rows(i, i + 1))
        os.utime(path, ns=(10**18, 10**18))
        assert site.drafts(passes=2, advance=0.9) == []
        assert site.counters.snapshot()["files_waiting"] == 1
    assert site.drafts(advance=0.9) == []
    (draft,) = site.drafts(advance=0.9)
    assert draft.header.records == 3
    assert site.counters.snapshot()["files_waiting"] == 0


def test_same_size_and_time_but_another_beginning_is_not_settled(drop: Path) -> None:
    path = drop / "a.csv"
    site = site_of(drop, settle_seconds=2.0)
    path.write_bytes(HEADER + b"1;x\n")
    os.utime(path, ns=(10**18, 10**18))
    assert site.drafts() == []
    with path.open("r+b") as file:
        file.write(b"KO")
    os.utime(path, ns=(10**18, 10**18))
    assert site.drafts(advance=2.1) == []
    (draft,) = site.drafts(advance=2.1)
    assert draft.header.prefix == b"KO;TEXT\n"


def test_only_matching_names_are_taken_and_directories_below_on_request(drop: Path) -> None:
    for name in ("a.csv", "a.csv.tmp", "b.csv.part", ".hidden.csv", "c.txt"):
        (drop / name).write_bytes(HEADER + b"%s;x\n" % name.encode())
    for below in ("sub", "archive", ".git"):
        (drop / below).mkdir()
        (drop / below / "d.csv").write_bytes(HEADER + b"%s;x\n" % below.encode())
    flat = site_of(drop, pattern="*.csv").drafts()
    assert [draft.header.origin.name for draft in flat] == ["a.csv"]
    site = site_of(drop, pattern="*.csv", recursive=True, afterwards="archive")
    assert [draft.header.origin.name for draft in site.drafts()] == ["a.csv", "sub/d.csv"]
    site.acknowledge()
    assert (drop / "archive" / "sub" / "d.csv").exists()
    assert site.drafts() == []


@pytest.mark.parametrize(("order", "expected"), [("name", ["a", "b", "c"]), ("time", ["c", "a", "b"])])
def test_complete_files_come_in_the_order_asked_for(drop: Path, order: str, expected: list[str]) -> None:
    for name, time in (("b", 3), ("a", 2), ("c", 1)):
        (drop / name).write_bytes(HEADER + name.encode())
        os.utime(drop / name, (time, time))
    assert [draft.header.origin.name for draft in site_of(drop, order=order).drafts()] == expected


# --- changed while or after it was read


def test_a_file_renamed_over_while_it_is_read_is_read_to_its_end_and_the_new_one_after_it(drop: Path) -> None:
    old, new = HEADER + rows(0, 5000), HEADER + rows(9000, 9010)
    (drop / "a.csv").write_bytes(old)
    site = site_of(drop, afterwards="delete")
    drafts = []
    for draft in site.reading():
        if not drafts:
            (drop / "b.tmp").write_bytes(new)
            (drop / "b.tmp").replace(drop / "a.csv")
        drafts.append(draft)
    assert payloads(drafts) == old[len(HEADER) :]
    assert drafts[-1].header.closes
    site.acknowledge()
    assert (drop / "a.csv").read_bytes() == new  # what was not read was not deleted
    later = site.drafts()
    assert payloads(later) == new[len(HEADER) :]
    assert units(later) != units(drafts)
    site.acknowledge()
    assert not (drop / "a.csv").exists()


def test_a_file_rewritten_in_place_while_it_is_read_ends_with_a_reject_and_is_read_anew(drop: Path) -> None:
    path, new = drop / "a.csv", HEADER + rows(9000, 9500)
    path.write_bytes(HEADER + rows(0, 5000))
    site = site_of(drop)
    drafts = []
    for draft in site.reading():
        if not drafts:
            rewrite(path, new)
        drafts.append(draft)
    (reject,) = rejects(drafts)
    assert (reject.code, drafts[-1].header.closes) == ("replaced", True)
    assert_gapless(drafts)
    assert rows(0, 5000).startswith(payloads(drafts))
    assert reject.offset == len(HEADER) + len(payloads(drafts))
    later = site.drafts(passes=2)
    assert payloads(later) == new[len(HEADER) :]
    assert_gapless(later)
    assert site.drafts() == []


def test_a_file_rewritten_before_anything_of_it_was_sent_is_simply_read_anew(drop: Path, monkeypatch: Any) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + rows(0, 10))
    site = site_of(drop)
    from crossdock_agent.drops import judge

    judged = judge.Judge.judge

    def then_rewrite(*arguments: Any) -> Any:
        verdict = judged(*arguments)
        rewrite(path, HEADER + rows(50, 60))
        return verdict

    monkeypatch.setattr(judge.Judge, "judge", then_rewrite)
    assert site.drafts() == []
    monkeypatch.undo()
    drafts = site.drafts()
    assert payloads(drafts) == rows(50, 60)
    assert rejects(drafts) == []


def test_a_file_rewritten_while_its_first_batch_waits_for_the_second_is_simply_read_anew(
    drop: Path, monkeypatch: Any
) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + rows(0, 5000))
    feed = Framer.feed

    def then_rewrite(framer: Framer, block: bytes) -> Iterator[Run]:
        runs = list(feed(framer, block))
        yield from runs
        if runs:
            rewrite(path, HEADER + rows(50, 60))

    monkeypatch.setattr(Framer, "feed", then_rewrite)
    site = site_of(drop)
    assert site.drafts() == []
    monkeypatch.undo()
    drafts = site.drafts()
    assert payloads(drafts) == rows(50, 60)
    assert rejects(drafts) == []


def test_a_file_written_to_between_the_last_look_and_the_reading_settles_again(drop: Path, monkeypatch: Any) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + b"1;x\n")
    site = site_of(drop, settle_seconds=2.0)
    assert site.drafts() == []
    settled = Settling.settled

    def then_append(*arguments: Any) -> bool:
        ready = settled(*arguments)
        append(path, b"2;x\n")
        return ready

    monkeypatch.setattr(Settling, "settled", then_append)
    assert site.drafts(advance=2.0) == []
    monkeypatch.undo()
    assert site.drafts(advance=2.0) == []
    assert payloads(site.drafts(advance=2.0)) == b"1;x\n2;x\n"


def test_a_file_that_grows_while_it_is_read_goes_on_under_its_unit_when_it_has_settled(drop: Path) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + rows(0, 5000) + b"torn")
    (drop / "b.csv").write_bytes(HEADER + b"other;x\n")
    site = site_of(drop, settle_seconds=2.0)
    assert site.drafts() == []
    site.seconds += 2
    drafts = []
    for draft in site.reading():
        if not drafts:
            append(path, b" and whole;x\n" + rows(5000, 5100))
        drafts.append(draft)
    assert [draft.header.origin.name for draft in drafts][-1] == "b.csv"  # nobody waits for it
    assert not any(draft.header.closes for draft in drafts[:-1])
    site.restart()
    assert site.drafts() == []
    later = site.drafts(advance=2.0)
    mine = [draft for draft in drafts + later if draft.header.origin.name == "a.csv"]
    assert payloads(mine) == rows(0, 5000) + b"torn and whole;x\n" + rows(5000, 5100)
    assert_gapless(mine)
    assert mine[-1].header.closes
    assert site.drafts(passes=2, advance=2.0) == []


def test_a_file_that_grows_after_its_end_goes_on_and_its_torn_last_row_comes_again_whole(drop: Path) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + b"1;x\n2;to")
    site = site_of(drop, afterwards="archive")
    first = site.drafts()
    append(path, b"rn\n3;x\n")
    site.acknowledge()
    assert path.exists()  # it is not what was read
    site.restart()
    later = site.drafts()
    assert payloads(later) == b"2;torn\n3;x\n"
    assert units(later) == units(first)
    origin = later[0].header.origin
    assert (origin.first_record, origin.offset, origin.first_line) == (1, len(HEADER) + 4, 3)
    assert later[0].header.prefix == HEADER
    site.acknowledge()
    assert not path.exists()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ({"kind": "xml", "element": "R/O"}, b"<?xml version='1.0'?>\n<R><O><a>1</a></O>\n<O>2</O><O>3</O></R>\n"),
        ({"kind": "json", "path": "d.o"}, b'{"n": {"o": [7]}, "d": {"o": [{"a": 1},\n{"a": 2}, {"a": 3}]}}\n'),
        ({"kind": "json"}, b'[{"a": {"b": 1}},\n{"a": 2}, {"a": 3}]\n'),
        ({"kind": "edifact"}, b"UNB+UNOC:3+S+R+1:2+9'\nUNH+1+ORDERS'UNT+2+1'\nUNZ+1+9'\nUNB+UNOC:3+S+R+1:2+8'UNZ+0+8'"),
    ],
)  # fmt: skip
def test_a_document_taken_before_it_was_written_whole_gives_all_its_records_once_it_is(
    tmp_path: Path, kind: dict[str, Any], content: bytes
) -> None:
    expected: list[bytes] = []
    for length in range(len(content), 0, -1):
        drop = tmp_path / str(length)
        drop.mkdir()
        (drop / "a.doc").write_bytes(content[:length])
        site = site_of(drop, format=kind)
        drafts = site.drafts()
        append(drop / "a.doc", content[length:])
        site.restart()
        later = site.drafts()
        assert not rejects(later)
        unit = (drafts + later)[-1].header.origin.unit
        found: dict[int, bytes] = {}  # by ordinal, as they were sent last
        for draft in drafts + later:
            ends = accumulate(draft.header.record_bytes, initial=0)
            for i, (begin, end) in enumerate(pairwise(ends), start=draft.header.origin.first_record):
                if draft.header.origin.unit == unit:
                    found[i] = draft.payload[begin:end]
        expected = expected or list(found.values())
        assert list(found.values()) == expected, length
        assert site.drafts() == []
    assert len(expected) > 1


def test_a_file_of_which_a_part_cannot_be_read_keeps_no_other_from_being_read(drop: Path, monkeypatch: Any) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        (drop / name).write_bytes(HEADER + name.encode() + b";x\n")
    site = site_of(drop)
    feed = Framer.feed

    def bad_sector(framer: Framer, block: bytes) -> Iterator[Run]:
        if b"a.csv" in block:
            raise OSError(errno.EIO, "Input/output error")
        return feed(framer, block)

    monkeypatch.setattr(Framer, "feed", bad_sector)
    seen: list[Draft] = []
    for _ in range(3):
        with pytest.raises(SourceUnavailable, match=r"a\.csv cannot be reached"):
            seen.extend(site.reading())
    assert [draft.header.origin.name for draft in seen] == ["b.csv", "c.csv"]
    monkeypatch.undo()
    assert payloads(site.drafts()) == b"a.csv;x\n"


def test_a_quoted_field_in_which_a_file_ended_comes_again_whole_when_the_file_has_grown(drop: Path) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + b'1;x\n2;"one\ntwo\nth')
    site = site_of(drop)
    assert [reject.code for reject in rejects(site.drafts())] == ["unclosed_quote"]
    append(path, b'ree"\n3;x\n')
    site.restart()
    later = site.drafts()
    assert payloads(later) == b'2;"one\ntwo\nthree"\n3;x\n'
    origin = later[0].header.origin
    assert (origin.first_record, origin.first_line, later[0].header.prefix) == (1, 3, HEADER)
    assert not rejects(later)


def test_a_torn_record_of_fixed_length_that_holds_newlines_comes_again_whole(drop: Path) -> None:
    path = drop / "a.dat"
    path.write_bytes(b"abcdef\n\n\n")
    site = site_of(drop, format={"kind": "fixed", "newline": False, "record_bytes": 6, "fields": FIELDS})
    drafts = site.drafts()
    append(path, b"\n\n\nuvwxyz")
    drafts += site.drafts()
    assert payloads(drafts) == b"abcdef\n\n\n" + b"\n\n\n\n\n\nuvwxyz"
    assert [draft.header.origin.first_record for draft in drafts] == [0, 1]


def test_after_a_crash_a_replaced_file_ends_its_old_unit_and_starts_anew(drop: Path) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + rows(0, 5000))
    site = site_of(drop)
    before = site.drafts(after=2)
    site.restart()
    path.unlink()
    path.write_bytes(HEADER + rows(7000, 7010))
    drafts = site.drafts()
    (reject,) = rejects(drafts)
    assert (reject.code, drafts[0].header.closes) == ("replaced", True)
    assert drafts[0].header.origin.unit == before[0].header.origin.unit
    assert_gapless([*before, drafts[0]])
    assert payloads(drafts[1:]) == rows(7000, 7010)
    assert_gapless(drafts[1:])
    assert site.drafts() == []


def test_after_a_crash_a_large_file_that_was_written_between_the_samples_is_read_from_its_beginning(drop: Path) -> None:
    path, middle = drop / "a.csv", 1024 * 1024 + 80_000
    content = HEADER + rows(0, 60_000)
    path.write_bytes(content)
    site = site_of(drop)
    site.drafts(after=20)
    site.restart()
    other = content[:middle] + b"Z" + content[middle + 1 :]
    rewrite(path, other)
    drafts = site.drafts()
    assert [reject.code for reject in rejects(drafts)] == ["replaced"]
    assert payloads(drafts) == other[len(HEADER) :]


def test_a_file_that_is_what_it_once_was_goes_on_there_and_ends_what_it_was_meanwhile(drop: Path) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + rows(0, 10))
    site = site_of(drop)
    first = site.drafts()
    rewrite(path, HEADER + rows(5000, 9000))
    meanwhile = site.drafts(after=2)
    site.restart()
    rewrite(path, HEADER + rows(0, 20))
    drafts = site.drafts()
    assert units(drafts) == [*units(meanwhile), *units(first)]
    assert_gapless([*meanwhile, drafts[0]])
    assert_gapless([*first, *drafts[1:]])
    assert payloads(drafts) == rows(10, 20)


def test_after_a_crash_a_vanished_file_ends_its_unit_with_a_reject(drop: Path) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + rows(0, 5000))
    site = site_of(drop)
    before = site.drafts(after=2)
    site.restart()
    path.unlink()
    (last,) = site.drafts()
    (reject,) = last.header.rejects
    assert (reject.code, last.header.closes) == ("gone", True)
    assert reject.record == sum(draft.header.records for draft in before)
    assert site.drafts() == []


def test_a_large_file_is_read_on_after_a_crash_and_its_copy_is_still_known(drop: Path) -> None:
    content = HEADER + rows(0, 40_000)
    (drop / "a.csv").write_bytes(content)
    site = site_of(drop)
    before = site.drafts(after=7)
    site.restart()
    drafts = before + site.drafts()
    assert payloads(drafts) == content[len(HEADER) :]
    assert_gapless(drafts)
    (drop / "b.csv").write_bytes(content)
    (draft,) = site.drafts()
    assert (draft.header.records, draft.header.origin.name) == (0, "b.csv")
    assert site.counters.snapshot()["duplicates_skipped"] == 1


# --- the same again


@pytest.mark.parametrize("size", [10, 50_000])  # one the fingerprint covers whole, one that it samples
@pytest.mark.parametrize("afterwards", ["archive", "delete"])
def test_the_same_content_again_under_any_name_is_skipped_counted_and_released(
    drop: Path, afterwards: str, size: int
) -> None:
    site = site_of(drop, afterwards=afterwards)
    for name in ("a.csv", "a.csv", "b.csv"):
        (drop / name).write_bytes(HEADER + rows(0, size))
        drafts = site.drafts()
        assert drafts[-1].header.closes
        site.acknowledge()
        site.restart()
        assert not (drop / name).exists()
    assert len(drafts) == 1
    assert site.counters.snapshot()["duplicates_skipped"] == 2
    if afterwards == "archive":
        names = sorted(path.name for path in (drop / "archive").iterdir())
        assert names == ["a.20240601T120000.csv", "a.csv", "b.csv"]


def test_the_same_name_with_new_content_is_another_file(drop: Path) -> None:
    site = site_of(drop)
    seen = []
    for text in (b"1;x\n", b"2;y\n"):  # of one length
        (drop / "a.csv").unlink(missing_ok=True)
        (drop / "a.csv").write_bytes(HEADER + text)
        seen += site.drafts()
    assert payloads(seen) == b"1;x\n2;y\n"
    assert len(units(seen)) == 2


def test_with_duplicates_take_each_arrival_is_a_unit_of_its_own(drop: Path) -> None:
    site = site_of(drop, duplicates="take", afterwards="delete")
    seen = []
    for time in (1000, 2000):
        (drop / "a.csv").write_bytes(HEADER + b"1;x\n")
        os.utime(drop / "a.csv", (time, time))
        seen += site.drafts()
        assert site.drafts() == []
        site.acknowledge()
    assert payloads(seen) == b"1;x\n" * 2
    assert len(units(seen)) == 2


def test_large_files_that_differ_between_the_samples_only_are_both_read(drop: Path) -> None:
    content = HEADER + rows(0, 60_000)
    middle = 1024 * 1024 + 80_000  # behind the first probe, before the second
    other = content[:middle] + b"Z" + content[middle + 1 :]
    site = site_of(drop)
    seen = []
    for name, data in (("a.csv", content), ("b.csv", other), ("a2.csv", content), ("b2.csv", other)):
        (drop / name).write_bytes(data)
        drafts = site.drafts()
        seen.append((payloads(drafts), units(drafts)))
    assert [data for data, _ in seen] == [content[len(HEADER) :], other[len(HEADER) :], b"", b""]
    (drop / "a.csv").unlink()
    (drop / "a.csv").write_bytes(other)  # under the name, size and samples of the first, but known content
    (draft,) = site.drafts()
    assert draft.header.records == 0
    (drop / "a.csv").unlink()
    (drop / "a.csv").write_bytes(content[:middle] + b"Y" + content[middle + 1 :])
    assert units(site.drafts())[0] not in (seen[0][1][0], draft.header.origin.unit)


def test_a_touched_file_left_in_place_is_not_read_again_and_idle_passes_ask_nothing(drop: Path) -> None:
    (drop / "a.csv").write_bytes(HEADER + b"1;x\n")
    site = site_of(drop)
    site.drafts()
    os.utime(drop / "a.csv")
    assert site.drafts(passes=2) == []
    site.flushed.clear()
    assert site.drafts(passes=3) == []
    assert site.flushed == []  # asking the ledger writes out what is waiting to be written together
    site.restart()
    assert site.drafts(passes=2) == []
    assert "duplicates_skipped" not in site.counters.snapshot()


# --- afterwards


def test_a_file_is_archived_only_at_its_release_and_only_if_it_is_what_was_read(drop: Path) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + b"1;x\n")
    site = site_of(drop, afterwards="archive")
    site.drafts(passes=3)
    assert path.exists()
    (token,) = site.tokens
    rewrite(path, HEADER + b"2;y\n")
    site.acknowledge()
    assert path.exists()
    assert payloads(site.drafts()) == b"2;y\n"
    site.acknowledge()
    assert (drop / "archive" / "a.csv").read_bytes() == HEADER + b"2;y\n"
    site.source.release(token)
    assert [p.name for p in drop.iterdir()] == ["archive"]


@pytest.mark.parametrize("duplicates", ["skip", "take"])
def test_a_large_file_written_between_the_samples_since_it_was_read_is_not_deleted(drop: Path, duplicates: str) -> None:
    path, middle = drop / "a.csv", 1024 * 1024 + 80_000
    content = HEADER + rows(0, 60_000)
    other = content[:middle] + b"Z" + content[middle + 1 :]
    path.write_bytes(content)
    site = site_of(drop, afterwards="delete", duplicates=duplicates)
    site.drafts()
    rewrite(path, other)
    site.acknowledge()
    assert path.exists()
    assert payloads(site.drafts()) == other[len(HEADER) :]
    site.acknowledge()
    assert not path.exists()


def test_a_file_that_was_only_touched_since_it_was_read_is_released_all_the_same(drop: Path) -> None:
    for name, content in (("a.csv", HEADER + b"1;x\n"), ("b.csv", HEADER + rows(0, 60_000))):
        (drop / name).write_bytes(content)
    site = site_of(drop, afterwards="delete")
    site.drafts()
    for name in ("a.csv", "b.csv"):
        os.utime(drop / name, (1000, 1000))
    site.acknowledge()
    assert list(drop.iterdir()) == []


def test_archiving_to_another_disk_copies_and_then_deletes(drop: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (drop / "a.csv").write_bytes(HEADER + b"1;x\n")
    archive = tmp_path / "other disk"
    site = site_of(drop, afterwards="archive", archive_directory=str(archive))
    site.drafts()
    rename = Path.replace

    def across(self: Path, target: Path) -> Path:
        if self.parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", across)
    site.acknowledge()
    assert [p.name for p in archive.iterdir()] == ["a.csv"]
    assert (archive / "a.csv").read_bytes() == HEADER + b"1;x\n"
    assert list(drop.iterdir()) == []


@pytest.mark.parametrize("afterwards", ["archive", "delete"])
def test_a_file_put_in_the_place_of_another_while_that_is_compared_is_read_and_not_taken_away(
    drop: Path, afterwards: str, monkeypatch: Any
) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + b"1;x\n")
    site = site_of(drop, afterwards=afterwards)
    site.drafts()

    def compared(file: Any, size: int) -> bytes:
        found = fingerprint(file, size)
        (drop / "new.tmp").write_bytes(HEADER + b"2;y\n")
        (drop / "new.tmp").replace(path)
        return found

    monkeypatch.setattr(releasing, "fingerprint", compared)
    site.acknowledge()
    monkeypatch.undo()
    assert payloads(site.drafts()) == b"2;y\n"
    site.acknowledge()
    assert not path.exists()


def test_a_file_that_has_another_number_where_it_was_moved_to_is_archived(drop: Path, monkeypatch: Any) -> None:
    (drop / "a.csv").write_bytes(HEADER + b"1;x\n")
    site = site_of(drop, afterwards="archive")
    site.drafts()

    def as_on_fat(self: Path, target: Path) -> Path:
        shutil.copy2(self, target)
        self.unlink()
        return Path(target)

    monkeypatch.setattr(Path, "replace", as_on_fat)
    site.acknowledge()
    assert [p.name for p in drop.iterdir()] == ["archive"]


def test_a_token_of_a_source_of_another_kind_is_refused_with_the_next_step(drop: Path) -> None:
    with pytest.raises(Corrupt) as caught:
        site_of(drop, afterwards="delete").source.release(b"another kind")
    assert "new name" in caught.value.hint


def test_a_release_fails_loudly_while_the_share_is_away_and_works_when_it_is_back(drop: Path, tmp_path: Path) -> None:
    (drop / "a.csv").write_bytes(HEADER + b"1;x\n")
    site = site_of(drop, afterwards="delete")
    site.drafts()
    drop.rename(tmp_path / "away")
    with pytest.raises(SourceUnavailable, match="cannot delete it"):
        site.acknowledge()
    (tmp_path / "away").rename(drop)
    site.acknowledge()
    assert list(drop.iterdir()) == []


def test_a_release_that_cannot_be_done_is_an_error_with_a_next_step(drop: Path, tmp_path: Path) -> None:
    (drop / "a.csv").write_bytes(HEADER + b"1;x\n")
    (tmp_path / "file").write_bytes(b"")
    site = site_of(drop, afterwards="archive", archive_directory=str(tmp_path / "file" / "archive"))
    site.drafts()
    with pytest.raises(SourceUnavailable) as caught:
        site.acknowledge()
    assert caught.value.hint
    assert (drop / "a.csv").exists()
    assert site.drafts() == []  # the ledger decides, not the file's place


# --- set-up


@contextmanager
def without_rights(directory: Path) -> Iterator[None]:
    """No process of ours may list *directory*: root stands aside as nobody."""
    directory.chmod(0)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o700)


def test_a_directory_that_cannot_be_read_is_unavailable_and_not_empty(drop: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        site_of(tmp_path / "missing").drafts()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceUnavailable) as caught:
        site_of(tmp_path / "file").drafts()
    assert caught.value.hint
    (drop / "a.csv").write_bytes(HEADER + b"1;x\n")
    site = site_of(drop)
    if sys.platform != "win32":  # Windows has no such modes
        with without_rights(drop), pytest.raises(SourceUnavailable, match="cannot be reached") as caught:
            site.drafts()
        assert "account" in caught.value.hint
    assert len(site.drafts()) == 1


def test_a_file_that_cannot_be_opened_waits_and_holds_up_no_other(drop: Path, monkeypatch: Any) -> None:
    for name in ("a.csv", "b.csv"):
        (drop / name).write_bytes(HEADER + name.encode())
    (drop / "c.csv").mkdir()
    if sys.platform != "win32":  # there links need a privilege
        (drop / "d.csv").symlink_to(drop / "d.csv")
    held = [drop / "a.csv"]  # by a writer that shares nothing

    def open_unless_held(path: Path) -> Any:
        if path in held:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        return path.open("rb", buffering=0)

    monkeypatch.setattr("crossdock_agent.sources.file_drop.open_shared", open_unless_held)
    site = site_of(drop)
    assert [draft.header.origin.name for draft in site.drafts()] == ["b.csv"]
    assert site.counters.snapshot()["files_unreadable"] == (1 if sys.platform == "win32" else 2)
    held.clear()
    assert [draft.header.origin.name for draft in site.drafts()] == ["a.csv"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pattern": "sub\\*.csv"}, "backslash"),
        ({"pattern": "../*.csv"}, "below"),
        ({"pattern": "/etc/*.csv"}, "below"),
        ({"pattern": "C:/x/*.csv"}, "below"),
        ({"pattern": "in/**"}, r"\*\*"),
        ({"pattern": "{year}/*.csv"}, "date token"),
        ({"archive_directory": "done/{month}"}, "date token"),
        ({"zone": "Middle/Earth"}, "zone"),
        ({"afterwards": "move"}, "move_directory"),
        ({"move_directory": "there"}, "move_directory"),
        ({"claim": True}, "claim"),
        ({"claim": True, "afterwards": "delete", "marker": "{name}.done"}, "claim"),
        ({"marker": "done"}, "marker"),
        ({"marker": "{name}"}, "marker"),
        ({"marker": "../{name}.done"}, "marker"),
        ({"max_record_bytes": 10}, "max_record_bytes"),
        ({"settle": 3}, "settle"),
        ({"format": {"kind": "fixed", "newline": False, "record_bytes": 10**8, "fields": FIELDS}}, "record_bytes"),
    ],
)
def test_wrong_settings_are_refused_by_name(drop: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        site_of(drop, **settings)


def test_the_archive_may_not_be_the_directory_itself(drop: Path) -> None:
    with pytest.raises(ConfigError, match="archive_directory"):
        site_of(drop, afterwards="archive", archive_directory=str(drop))


@pytest.mark.parametrize("checkpoint", [b"\x00not ours", b"\x92\x63\x90"])
def test_a_strange_checkpoint_is_corrupt_and_never_a_fresh_start(drop: Path, checkpoint: bytes) -> None:
    site = site_of(drop)
    site.checkpoint = checkpoint
    with pytest.raises(Corrupt) as caught:
        site.drafts()
    assert caught.value.hint


def test_check_proves_the_set_up_without_moving_anything(drop: Path) -> None:
    (drop / "a.csv").write_bytes(HEADER + "1;Käse\n".encode("cp1252"))
    good = site_of(drop, afterwards="archive", format={**CSV, "encoding": "cp1252"})
    findings = {finding.name: finding for finding in good.source.check()}
    assert all(finding.ok for finding in findings.values())
    assert "NO;TEXT" in findings["sample"].detail
    assert "1 files" in findings["pattern"].detail
    assert sorted(path.name for path in drop.iterdir()) == ["a.csv", "archive"]
    wrong = {finding.name: finding for finding in site_of(drop).source.check()}
    assert not wrong["sample"].ok
    assert "line 2" in wrong["sample"].detail
    assert "encoding" in wrong["sample"].hint


@pytest.mark.parametrize(
    ("content", "said"),
    [("\ufeffNO".encode("utf-16-le"), "UTF-16"), (b"\xef\xbb\xbfNO;T\n", "UTF-8"), (b'NO;T\n1;"open\n', "quote")],
)
def test_check_says_what_is_wrong_with_a_sample(drop: Path, content: bytes, said: str) -> None:
    (drop / "a.csv").write_bytes(content)
    site = site_of(drop, format={**CSV, "encoding": "cp1252"})
    (finding,) = [finding for finding in site.source.check() if not finding.ok]
    assert said in finding.detail
    assert finding.hint
