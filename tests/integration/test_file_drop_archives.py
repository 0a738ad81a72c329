"""gzip files and zip archives, sound and hostile: each is its content or one reject, and costs no other file."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from crossdock_agent.drops import zipped
from crossdock_agent.sources.base import Draft
from support.memory import allocated_at_most
from support.source_site import SourceSite

CSV = {"kind": "csv", "delimiter": ";"}
HEADER = b"NO;TEXT\n"


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    directory = tmp_path / "drop"
    directory.mkdir()
    return directory


def site_of(directory: Path, unpack: str, **settings: Any) -> SourceSite:
    return SourceSite(
        "file_drop",
        {"directory": str(directory), "settle_seconds": 0, "format": CSV, "unpack": unpack, **settings},
    )


def rows(start: int, stop: int) -> bytes:
    return b"".join(b"%09d;%s\n" % (i, b"x" * 100) for i in range(start, stop))


def csv(start: int, stop: int) -> bytes:
    return HEADER + rows(start, stop)


def zip_of(**members: bytes) -> bytes:
    """Named by keyword, `_csv` for `.csv`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_csv", ".csv"), data)
    return buffer.getvalue()


def named_zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def payloads(drafts: list[Draft]) -> bytes:
    return b"".join(draft.payload for draft in drafts)


def names(drafts: list[Draft]) -> list[str]:
    return list(dict.fromkeys(draft.header.origin.name for draft in drafts))


def codes(drafts: list[Draft]) -> list[str]:
    return [reject.code for draft in drafts for reject in draft.header.rejects]


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


# --- sound ones


def test_a_gzip_file_is_its_content_and_members_behind_one_another_are_one(drop: Path) -> None:
    content = csv(0, 5000)
    (drop / "a.csv.gz").write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]) + b"\0" * 100)
    drafts = site_of(drop, "gzip").drafts()
    assert payloads(drafts) == rows(0, 5000)
    assert names(drafts) == ["a.csv.gz"]
    assert [draft.header.closes for draft in drafts] == [False] * (len(drafts) - 1) + [True]


def test_by_suffix_each_file_is_unpacked_or_not(drop: Path) -> None:
    (drop / "a.csv").write_bytes(csv(0, 1))
    (drop / "b.csv.GZ").write_bytes(gzip.compress(csv(1, 2)))
    (drop / "c.zip").write_bytes(zip_of(d_csv=csv(2, 3)))
    drafts = site_of(drop, "suffix").drafts()
    assert payloads(drafts) == rows(0, 3)
    assert names(drafts) == ["a.csv", "b.csv.GZ", "c.zip!d.csv"]


def test_each_matching_member_of_a_zip_is_a_unit_of_its_own_in_order_of_names(drop: Path) -> None:
    members = {"x/c.csv": csv(20, 25), "b.csv": csv(10, 12), "a.csv": csv(0, 5000), "readme.txt": b"no", "x/": b""}
    (drop / "a.zip").write_bytes(named_zip(members))
    drafts = site_of(drop, "zip", members="*.csv").drafts()
    assert names(drafts) == ["a.zip!a.csv", "a.zip!b.csv", "a.zip!x/c.csv"]
    assert payloads(drafts) == rows(0, 5000) + rows(10, 12) + rows(20, 25)
    assert len({draft.header.origin.unit for draft in drafts}) == 3
    assert sum(draft.header.closes for draft in drafts) == 3
    flat = site_of(drop, "zip", members="x/*.csv").drafts()
    assert names(flat) == ["a.zip!x/c.csv"]


def test_a_zip_with_nothing_to_read_is_on_the_account(drop: Path) -> None:
    (drop / "a.zip").write_bytes(zip_of(readme=b"no"))
    site = site_of(drop, "zip", members="*.csv", afterwards="delete")
    (draft,) = site.drafts()
    assert (draft.header.records, draft.header.closes, draft.header.origin.name) == (0, True, "a.zip")
    site.acknowledge()
    assert list(drop.iterdir()) == []


def test_a_zip64_archive_is_read(drop: Path) -> None:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.csv", "w", force_zip64=True) as member,
    ):
        member.write(csv(0, 10))
    data = buffer.getvalue()
    # the directory's end as a writer of more than 65,535 members or 4 GiB makes it
    end = data.rindex(b"PK\x05\x06")
    _, _, _, _, count, size, offset, _ = struct.unpack_from("<4s4H2LH", data, end)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    (drop / "a.zip").write_bytes(data[:end] + end64 + locator + tail)
    assert payloads(site_of(drop, "zip").drafts()) == rows(0, 10)


@pytest.mark.parametrize("unpack", ["gzip", "zip"])
def test_a_restart_after_any_batch_goes_on_in_the_middle_of_an_archive(drop: Path, unpack: str) -> None:
    if unpack == "gzip":
        (drop / "a.gz").write_bytes(gzip.compress(csv(0, 9000)))
    else:
        (drop / "a.zip").write_bytes(zip_of(a_csv=csv(0, 4000), b_csv=csv(4000, 4001), c_csv=csv(5000, 9000)))
    (drop / "z.gz").write_bytes(gzip.compress(csv(0, 1)))

    def seen(drafts: list[Draft]) -> list[tuple[Any, ...]]:
        return [(d.header.origin.unit, d.header.origin.first_record, d.payload, d.header.prefix) for d in drafts]

    expected = site_of(drop, unpack, pattern="a*").drafts()
    assert len(expected) >= 4
    for broken_after in range(1, len(expected)):
        site = site_of(drop, unpack, pattern="a*")
        before = site.drafts(after=broken_after)
        site.restart()
        assert seen(before + site.drafts()) == seen(expected)
        assert site.drafts() == []


@pytest.mark.parametrize("unpack", ["gzip", "zip"])
def test_an_archive_is_read_in_constant_memory(drop: Path, unpack: str) -> None:
    content = csv(0, 400_000)
    data = gzip.compress(content, 1) if unpack == "gzip" else zip_of(a_csv=content)
    (drop / "a").write_bytes(data)
    del data, content
    site = site_of(drop, unpack)
    with allocated_at_most(12 * 1024 * 1024):
        assert sum(draft.header.records for draft in site.reading()) == 400_000


@pytest.mark.parametrize("unpack", ["gzip", "zip"])
def test_the_same_archive_again_is_a_duplicate_and_a_longer_one_is_another_file(drop: Path, unpack: str) -> None:
    data = gzip.compress(csv(0, 3), mtime=1) if unpack == "gzip" else zip_of(a_csv=csv(0, 3))
    more = data + gzip.compress(rows(3, 4)) if unpack == "gzip" else zip_of(a_csv=csv(0, 3), b_csv=csv(3, 4))
    site = site_of(drop, unpack)
    (drop / "a").write_bytes(data)
    first = site.drafts()
    (drop / "b").write_bytes(data)
    (draft,) = site.drafts()
    assert (draft.header.records, site.counters.snapshot()["duplicates_skipped"]) == (0, 1)
    with (drop / "a").open("r+b") as file:  # the same inode, grown: still no continuation
        file.write(more)
    later = site.drafts()
    assert payloads(later) == rows(0, 4)
    assert later[0].header.origin.unit != first[0].header.origin.unit


@pytest.mark.parametrize(("before", "after"), [("gzip", "none"), ("none", "gzip"), ("zip", "none"), ("none", "zip")])
def test_a_half_read_file_under_another_packing_is_read_from_its_beginning(drop: Path, before: str, after: str) -> None:
    """A position in what a file unpacks to is none in the file."""
    content = csv(0, 9000)
    data = gzip.compress(content, 0) if "gzip" in (before, after) else named_zip({"a.csv": content}, zipfile.ZIP_STORED)
    (drop / "a").write_bytes(data)
    site = site_of(drop, before)
    first = site.drafts(after=2)
    site.settings["unpack"] = after
    site.restart()
    drafts = site.drafts()
    assert codes(drafts) == ["replaced"]
    assert drafts[0].header.origin.unit == first[0].header.origin.unit
    assert len({draft.header.origin.unit for draft in drafts}) == 2
    read = b"".join(draft.header.prefix + draft.payload for draft in drafts[1:2]) + payloads(drafts[2:])
    assert read == (data if after == "none" else content)
    assert site.drafts() == []


# --- hostile ones

GZ = gzip.compress(csv(0, 3000), mtime=1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "truncated"),
        (GZ[:5], "truncated"),
        (GZ[: len(GZ) // 2], "truncated"),
        (GZ[:-1], "truncated"),
        (flip(GZ, len(GZ) - 6), "damaged"),  # of the checksum
        (flip(GZ, len(GZ) // 2), "damaged"),
        (GZ + b"more", "damaged"),
        (csv(0, 3), "no_gzip"),
        (gzip.compress(b"x" * 2_000_000), "too_large"),
        (gzip.compress(GZ), "nested"),
    ],
)
def test_a_damaged_gzip_file_is_one_reject_and_nothing_of_it_is_sent(drop: Path, data: bytes, code: str) -> None:
    (drop / "a.gz").write_bytes(data)
    (drop / "b.gz").write_bytes(gzip.compress(csv(7, 8)))
    site = site_of(drop, "gzip", max_unpacked_bytes=1_000_000, afterwards="archive")
    drafts = site.drafts()
    assert codes(drafts) == [code]
    assert payloads(drafts) == rows(7, 8)
    assert [draft.header.closes for draft in drafts] == [True, True]
    (reject,) = drafts[0].header.rejects
    assert "a.gz" in reject.reason
    assert site.drafts() == []
    site.acknowledge()
    assert sorted(path.name for path in (drop / "archive").iterdir()) == ["a.gz", "b.gz"]


def test_a_bomb_costs_no_more_than_its_limit(drop: Path) -> None:
    chunk = b"\0" * 1_000_000
    with gzip.open(drop / "a.gz", "wb") as file:
        for _ in range(300):
            file.write(chunk)
    site = site_of(drop, "gzip", max_unpacked_bytes=50_000_000)
    with allocated_at_most(4 * 1024 * 1024):
        drafts = site.drafts()
    assert codes(drafts) == ["too_large"]
    assert "max_unpacked_bytes, 50000000" in drafts[0].header.rejects[0].reason


def patched(data: bytes, name: bytes, at: int, value: bytes) -> bytes:
    """Bytes of the directory entry of *name*, and as far as they have one of its local header, replaced."""
    local, entry = data.index(name) - 30, data.rindex(name) - 46
    data = data[: entry + at] + value + data[entry + at + len(value) :]
    return data[: local + at - 2] + value + data[local + at - 2 + len(value) :]


THREE = named_zip({"a.csv": csv(0, 3), "b.csv": csv(3, 6), "c.csv": csv(6, 9)}, zipfile.ZIP_STORED)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (flip(THREE, THREE.index(rows(3, 4))), "damaged"),  # the checksum differs
        (patched(THREE, b"b.csv", 8, b"\x01\x00"), "encrypted"),
        (patched(THREE, b"b.csv", 10, b"\x0e\x00"), "compression"),  # LZMA
        (patched(THREE, b"b.csv", 10, b"\x63\x00"), "compression"),
        (flip(THREE, THREE.index(b"b.csv")), "damaged"),  # its own header names another
        (flip(THREE, THREE.index(b"b.csv") - 30), "damaged"),  # it has no header
    ],
)
def test_a_bad_member_is_one_reject_and_the_others_are_read(drop: Path, data: bytes, code: str) -> None:
    (drop / "a.zip").write_bytes(data)
    site = site_of(drop, "zip", afterwards="delete")
    drafts = site.drafts()
    assert codes(drafts) == [code]
    assert names(drafts) == ["a.zip!a.csv", "a.zip!b.csv", "a.zip!c.csv"]
    assert payloads(drafts) == rows(0, 3) + rows(6, 9)
    assert "b.csv" in drafts[1].header.rejects[0].reason
    site.restart()
    site.acknowledge()
    assert (drop / "a.zip").exists()  # what could not be read is not deleted
    assert site.drafts() == []


def test_after_a_restart_an_archive_with_a_bad_member_is_still_not_deleted(drop: Path) -> None:
    (drop / "a.zip").write_bytes(flip(THREE, THREE.index(rows(3, 4))))
    site = site_of(drop, "zip", afterwards="delete")
    before = site.drafts(after=2)
    site.restart()
    drafts = before + site.drafts()
    assert codes(drafts) == ["damaged"]
    site.acknowledge()
    assert (drop / "a.zip").exists()


@pytest.mark.parametrize(
    "name", ["../b.csv", "x/../../b.csv", "/etc/b.csv", "..\\b.csv", "C:/b.csv", "\\\\host\\b.csv"]
)
def test_a_member_whose_name_climbs_out_is_a_reject(drop: Path, name: str) -> None:
    (drop / "a.zip").write_bytes(named_zip({"a.csv": csv(0, 1), name: csv(1, 2)}))
    drafts = site_of(drop, "zip").drafts()
    assert codes(drafts) == ["unsafe_name"]
    assert payloads(drafts) == rows(0, 1)


def test_an_archive_inside_an_archive_is_a_reject(drop: Path) -> None:
    (drop / "a.zip").write_bytes(named_zip({"a.csv": csv(0, 1), "b.zip": THREE, "c.gz": GZ}))
    drafts = site_of(drop, "zip").drafts()
    assert codes(drafts) == ["nested", "nested"]
    assert payloads(drafts) == rows(0, 1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "truncated"),
        (csv(0, 3), "truncated"),
        (THREE[:-30], "truncated"),
        (THREE[: len(THREE) // 2], "truncated"),
        (flip(THREE, THREE.index(b"PK\x01\x02")), "damaged"),
        (zip_of(a_csv=b"x" * 1_000_001), "too_large"),
        (zip_of(**{f"{i}_csv": b"x" * 300_000 for i in range(4)}), "too_large"),
    ],
)
def test_a_zip_without_a_sound_directory_is_one_reject(drop: Path, data: bytes, code: str) -> None:
    (drop / "a.zip").write_bytes(data)
    (drop / "b.zip").write_bytes(zip_of(a_csv=csv(7, 8)))
    site = site_of(drop, "zip", max_unpacked_bytes=1_000_000)
    drafts = site.drafts()
    assert codes(drafts) == [code]
    assert payloads(drafts) == rows(7, 8)
    assert site.drafts() == []


def test_a_member_that_unpacks_to_more_than_it_says_is_a_reject(drop: Path) -> None:
    data = zip_of(a_csv=csv(0, 1), b_csv=csv(1, 3000))
    short = struct.pack("<L", 50)
    (drop / "a.zip").write_bytes(patched(data, b"b.csv", 24, short))
    drafts = site_of(drop, "zip").drafts()
    assert codes(drafts) == ["damaged"]
    assert payloads(drafts) == rows(0, 1)


def test_a_directory_that_announces_too_much_is_refused_before_it_is_read(drop: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(zipped, "MAX_MEMBERS", 2)
    monkeypatch.setattr(zipfile, "ZipFile", None)  # it is not even asked
    (drop / "a.zip").write_bytes(THREE)
    drafts = site_of(drop, "zip").drafts()
    assert codes(drafts) == ["too_large"]
    assert "3 members" in drafts[0].header.rejects[0].reason


def test_the_directory_that_would_be_read_is_the_one_whose_announcement_counts(drop: Path) -> None:
    """Of two announcements in the 64-bit form, one is where the archive says it is and one where readers look."""
    size = 128 * 1024 * 1024
    benign, big = (struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, length, 0) for length in (46, size))
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, size, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with (drop / "a.zip").open("wb") as file:  # sparse
        file.seek(size)
        file.write(benign + big + locator + end)
    with allocated_at_most(8 * 1024 * 1024):
        drafts = site_of(drop, "zip").drafts()
    assert codes(drafts) == ["too_large"]


def test_members_are_counted_and_not_believed_to_be_as_few_as_announced(drop: Path) -> None:
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 16)
    directory = entry * 200_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 0, 0)
    (drop / "a.zip").write_bytes(directory + end)
    with allocated_at_most(16 * 1024 * 1024):
        drafts = site_of(drop, "zip").drafts()
    assert codes(drafts) == ["too_large"]


def test_a_member_may_have_a_name_that_the_file_system_here_has_no_letters_for(drop: Path, monkeypatch: Any) -> None:
    (drop / "a.zip").write_bytes(named_zip({"\u6ce8\u6587.csv": csv(0, 2)}))
    monkeypatch.setattr(os, "fsencode", lambda name: os.fspath(name).encode("latin-1", "surrogateescape"))
    monkeypatch.setattr(os, "fsdecode", lambda name: bytes(name).decode("latin-1", "surrogateescape"))
    drafts = site_of(drop, "zip").drafts()
    assert payloads(drafts) == rows(0, 2)
    assert drafts[0].header.origin.name == "a.zip!\u6ce8\u6587.csv"


def test_a_member_without_a_name_is_read(drop: Path) -> None:
    data = bytearray(named_zip({"x": csv(0, 2)}))
    central = data.index(b"PK\x01\x02")
    data[26:30] = data[central + 28 : central + 32] = struct.pack("<2H", 0, 1)  # its name became an extra field
    (drop / "a.zip").write_bytes(data)
    assert payloads(site_of(drop, "zip").drafts()) == rows(0, 2)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_whatever_byte_of_a_zip_is_wrong_it_ends_in_records_or_rejects(drop: Path, method: int) -> None:
    data = named_zip({"a.csv": csv(0, 2), "b.csv": csv(2, 4)}, method)
    for at in range(len(data)):
        (drop / f"{at:04}.zip").write_bytes(flip(data, at))
    (drop / "z.zip").write_bytes(zip_of(a_csv=csv(7, 8)))
    drafts = site_of(drop, "zip").drafts()
    by_file: dict[str, int] = {}
    for draft in drafts:
        name = draft.header.origin.name.partition("!")[0]
        by_file[name] = by_file.get(name, 0) + draft.header.records + len(draft.header.rejects)
        assert draft.payload in (b"", rows(0, 2), rows(2, 4), rows(7, 8))
    assert len(by_file) == len(data) + 1
    assert all(by_file.values())


# --- changing ones


def rewrite(path: Path, data: bytes) -> None:
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(data)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_an_archive_that_is_still_written_while_it_is_proved_waits(drop: Path, monkeypatch: Any) -> None:
    (drop / "a.gz").write_bytes(GZ[: len(GZ) // 2])
    site = site_of(drop, "gzip")
    from crossdock_agent.drops import taking

    prove = taking.prove

    def then_write(*arguments: Any, **more: Any) -> int:
        rewrite(drop / "a.gz", GZ)
        return prove(*arguments, **more)

    monkeypatch.setattr(taking, "prove", then_write)
    assert site.drafts() == []
    monkeypatch.undo()
    assert payloads(site.drafts()) == rows(0, 3000)


@pytest.mark.parametrize("unpack", ["gzip", "zip"])
def test_an_archive_replaced_while_it_is_read_ends_with_a_reject_and_is_read_anew(drop: Path, unpack: str) -> None:
    if unpack == "gzip":
        old, new = gzip.compress(csv(0, 9000)), gzip.compress(csv(20_000, 20_010))
    else:
        old = zip_of(a_csv=csv(0, 3000), b_csv=csv(3000, 9000), c_csv=csv(9000, 9001))
        new = zip_of(a_csv=csv(20_000, 20_010))
    path = drop / "a"
    path.write_bytes(old)
    site = site_of(drop, unpack)
    drafts = []
    for draft in site.reading():
        if len(drafts) == (1 if unpack == "gzip" else 2):
            rewrite(path, new)
        drafts.append(draft)
    assert codes(drafts) == ["replaced"]
    assert rows(0, 9000).startswith(payloads(drafts))
    later = site.drafts()
    assert payloads(later) == rows(20_000, 20_010)
    assert codes(later) == []
    assert site.drafts() == []


def test_a_zip_that_vanished_half_read_says_that_the_members_after_it_were_not_seen(drop: Path) -> None:
    path = drop / "a.zip"
    path.write_bytes(zip_of(a_csv=csv(0, 3000), b_csv=csv(3000, 9000), c_csv=csv(9000, 9001)))
    site = site_of(drop, "zip")
    before = site.drafts(after=3)
    site.restart()
    path.unlink()
    (last,) = site.drafts()
    (reject,) = last.header.rejects
    assert reject.code == "gone"
    assert "members after b.csv" in reject.reason
    assert last.header.origin.name == "a.zip!b.csv"
    assert last.header.origin.unit == before[-1].header.origin.unit


@pytest.mark.parametrize(("unpack", "data"), [("gzip", GZ), ("zip", THREE)])
def test_check_shows_the_first_records_of_an_archive(drop: Path, unpack: str, data: bytes) -> None:
    (drop / "a").write_bytes(data)
    findings = {finding.name: finding for finding in site_of(drop, unpack).source.check()}
    assert findings["sample"].ok
    assert "NO;TEXT" in findings["sample"].detail
    (drop / "a").write_bytes(csv(0, 3))
    wrong = {finding.name: finding for finding in site_of(drop, unpack).source.check()}
    assert not wrong["sample"].ok
    assert "unpack" in wrong["sample"].hint
