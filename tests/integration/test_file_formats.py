"""Files of each format through the whole source: read, broken off, read on, and decoded batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crossdock_agent.sources.base import Draft
from crossdock_controller.formats.base import Decoded, create, kinds
from support.memory import allocated_at_most
from support.source_site import SourceSite

FIELDS = [{"name": "A", "start": 1, "length": 2}]
FORMATS: dict[str, dict[str, Any]] = {
    "csv": {"kind": "csv"},
    "csv utf-16": {"kind": "csv", "encoding": "utf-16-le"},
    "lines": {"kind": "lines"},
    "jsonl": {"kind": "jsonl"},
    "json": {"kind": "json"},
    "json at a path": {"kind": "json", "path": "a.b"},
    "xml": {"kind": "xml", "element": "Order"},
    "x12": {"kind": "x12"},
    "edifact": {"kind": "edifact"},
    "fixed": {"kind": "fixed", "fields": FIELDS},
    "fixed ebcdic": {"kind": "fixed", "fields": FIELDS, "encoding": "cp037", "newline": False, "record_bytes": 2},
    "fixed rdw": {"kind": "fixed", "fields": FIELDS, "encoding": "cp037", "rdw": True},
    "binary": {"kind": "binary"},
}


def site_of(drop: Path, settings: dict[str, Any], **more: Any) -> SourceSite:
    return SourceSite("file_drop", {"directory": str(drop), "settle_seconds": 0, "format": settings, **more})


def decode(settings: dict[str, Any], draft: Draft) -> Decoded:
    form = create(kinds()[settings["kind"]].settings.model_validate(settings))
    return form.decode(draft.header, draft.payload, ["A"])


def isa(number: int = 1) -> str:
    return f"ISA*00*{'':10}*00*{'':10}*ZZ*{'ACME':15}*ZZ*{'WMS':15}*260131*1200*U*00401*{number:09}*0*P*>~"


def interchange(number: int, groups: int, sets: int) -> bytes:
    text = isa(number)
    for g in range(groups):
        text += f"GS*PO*ACME*WMS*20260131*1200*{g + 1}*X*004010~\r\n"
        text += "".join(f"ST*850*{s:06}~BEG*00*SA*{g}-{s}~{'N1*' + 'x' * 60}~SE*4*{s:06}~\r\n" for s in range(sets))
        text += f"GE*{sets}*{g + 1}~"
    return f"{text}IEA*{groups}*{number:09}~\r\n".encode()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b"\x1a", b"A,B\r\n", b"[]", b"<R/>"])
def test_a_file_with_nothing_in_it_is_taken_without_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "empty.dat").write_bytes(content)
    site = site_of(tmp_path, FORMATS[name])
    drafts = site.drafts()
    assert drafts[-1].header.closes
    for draft in drafts:
        assert decode(FORMATS[name], draft).count == draft.header.records or not draft.header.records
    assert sum(draft.header.records + len(draft.header.rejects) for draft in drafts) <= len(content)
    assert content or not any(draft.header.records or draft.header.rejects for draft in drafts)
    assert site.drafts() == []


def test_parts_of_a_long_interchange_carry_its_envelope_and_come_once_however_often_they_are_broken_off(
    tmp_path: Path,
) -> None:
    settings = {"kind": "x12", "part_bytes": 16 * 1024}
    content = interchange(1, 1, 3) + interchange(2, 3, 600) + b"\r\n" + interchange(3, 1, 2)
    (tmp_path / "orders.edi").write_bytes(content)
    drafts = site_of(tmp_path, settings).drafts()
    assert len(drafts) > 5
    rows = [row for draft in drafts for row in decode(settings, draft).rows]
    columns = decode(settings, drafts[0]).columns
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [row["part"] for row in found] == ["whole", *["part"] * (len(found) - 3), "last", "whole"]
    assert {row["control_number"] for row in found} == {"000000001", "000000002", "000000003"}
    assert sum(int(row["messages"]) for row in found) == 3 + 1800 + 2
    assert [row["findings"] for row in found] == [""] * len(found)
    middle = "".join(row["content"] for row in found[1:-1])
    assert isa(2) + middle == interchange(2, 3, 600).decode().rstrip()
    for after in range(1, len(drafts)):
        site = site_of(tmp_path, settings)
        again = site.drafts(after=after)
        site.restart()
        again += site.drafts(passes=2)
        assert [(d.header.prefix, d.payload) for d in again] == [(d.header.prefix, d.payload) for d in drafts]


def test_a_hundred_megabytes_of_one_interchange_are_read_in_little_memory(tmp_path: Path) -> None:
    one = "".join(f"ST*850*{s:06}~{'N1*' + 'x' * 5000}~SE*3*{s:06}~\r\n" for s in range(20_000)).encode()
    head = (isa() + "GS*PO*ACME*WMS*20260131*1200*1*X*004010~").encode()
    with (tmp_path / "big.edi").open("wb") as file:
        file.write(head + one + b"GE*20000*1~IEA*1*000000001~")
    del one
    assert (tmp_path / "big.edi").stat().st_size > 100_000_000
    site = site_of(tmp_path, {"kind": "x12"})
    sets = parts = 0
    with allocated_at_most(16 * 1024 * 1024):
        for draft in site.reading():
            sets += draft.payload.count(b"ST*850*")
            parts += draft.header.records
            assert not draft.header.rejects
            assert draft.header.prefix.startswith(b"ISA*00*")
    assert sets == 20_000
    assert 95 < parts < 120


HOSTILE: dict[str, tuple[dict[str, Any], bytes, bytes, bytes]] = {
    "json text that never ends": ({"kind": "json"}, b'[{"a": "', b"x", b'"}, {"b": 1}]'),
    "json nested for ever": ({"kind": "json"}, b"[", b"[", b""),
    "json brackets that close nothing": ({"kind": "json"}, b"", b"}", b""),
    "json white space": ({"kind": "json"}, b"", b" ", b'{"b": 1}'),
    "json before the path": ({"kind": "json", "path": "b"}, b'{"a": "', b"x", b'", "b": [1]}'),
    "json a name that never ends": ({"kind": "json", "path": "b"}, b'{"', b"x", b'": 1, "b": [1]}'),
    "xml an element that never ends": ({"kind": "xml", "element": "O"}, b"<R><O>", b"x", b"</O><O/></R>"),
    "xml elements in each other": ({"kind": "xml", "element": "O"}, b"<R>", b"<O>", b"</R>"),
    "xml elements inside one": ({"kind": "xml", "element": "O"}, b"<R><O>", b"<O/>", b"</O></R>"),
    "xml a comment that never ends": ({"kind": "xml", "element": "O"}, b"<R><!--", b"<O>", b"--><O/></R>"),
    "xml a name that never ends": ({"kind": "xml", "element": "O"}, b"<R><", b"x", b"><O/></R>"),
    "xml a value that never ends": ({"kind": "xml", "element": "O"}, b"<R><O a='", b"x", b"'/><O/></R>"),
    "xml a tag between that never ends": ({"kind": "xml", "element": "R/O"}, b"<R><P a='", b"x", b"'/><O/></R>"),
    "xml a prolog that never ends": ({"kind": "xml", "element": "O"}, b"<!DOCTYPE R [", b"<!ENTITY a 'b'>", b"]><R/>"),
    "x12 no interchange": ({"kind": "x12"}, b"", b"ISAAC ", b""),
    "x12 a message that never ends": ({"kind": "x12"}, isa().encode() + b"GS*PO~ST*850*1~", b"N1*x~", b"SE*1*1~"),
    "x12 a segment that never ends": ({"kind": "x12"}, isa().encode() + b"GS*", b"x", b"~IEA*1*1~"),
    "edifact released for ever": ({"kind": "edifact"}, b"UNB+A", b"?", b"'UNZ+0+1'"),
    "a line of utf-16": ({"kind": "lines", "encoding": "utf-16-le"}, b"", b"x\0", b"\n\0b\0\n\0"),
    "a whole file": ({"kind": "binary"}, b"", b"\0\n", b""),
    "descriptors of nothing": ({"kind": "fixed", "rdw": True, "fields": FIELDS}, b"", b"\0", b""),
}


TOLERATED = (  # what stands between records costs nothing but time
    "json white space",
    "json before the path",
    "json a name that never ends",
    "xml a comment that never ends",
    "xml a name that never ends",
    "xml a tag between that never ends",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_never_ends_is_read_in_little_memory_and_set_aside(tmp_path: Path, name: str) -> None:
    settings, before, again, behind = HOSTILE[name]
    with (tmp_path / "x.dat").open("wb") as file:
        file.write(before)
        file.write(again * ((160 if "elements" in name else 2400) * 1024 // len(again)))
        file.write(behind)
    site = site_of(tmp_path, settings, max_record_bytes=128 * 1024)
    with allocated_at_most(9 * 1024 * 1024):
        drafts = [(d.header.records, [r.code for r in d.header.rejects], d.payload[-20:]) for d in site.reading()]
    assert any(codes for _, codes, _ in drafts) == (name not in TOLERATED)
    if b"<O/>" in behind or b'"b": 1' in behind:
        assert any(records and (payload.endswith((b"<O/>", b'{"b": 1}'))) for records, _, payload in drafts)


@pytest.mark.parametrize("name", FORMATS)
def test_check_reads_a_sample_of_any_format(tmp_path: Path, name: str) -> None:
    samples: dict[str, bytes] = {
        "csv": b"A,B\n1,2\n", "csv utf-16": "A,B\r\n1,2\r\n".encode("utf-16"), "lines": b"one\ntwo\n",
        "jsonl": b'{"a":1}\n', "json": b'[{"a":1},{"a":2}]', "json at a path": b'{"a":{"b":[1,2]}}',
        "xml": b"<R><Order/></R>", "x12": interchange(1, 1, 900), "edifact": b"UNB+UNOC:3+A+B+1:2+9'UNZ+0+9'",
        "fixed": b"ab\ncd\n", "fixed ebcdic": "abcd".encode("cp037"), "fixed rdw": b"\0\x06\0\0" + "ab".encode("cp037"),
        "binary": b"\0\1" * 500_000,
    }  # fmt: skip
    (tmp_path / "a.dat").write_bytes(samples[name])
    findings = list(site_of(tmp_path, FORMATS[name]).source.check())
    assert [finding.detail for finding in findings if not finding.ok] == []
    (tmp_path / "a.dat").write_bytes(b"\xfe\xff" + "A,B\n".encode("utf-16-be") * 3)
    findings = list(site_of(tmp_path, FORMATS[name]).source.check())
    told = [finding.hint for finding in findings if not finding.ok]
    assert bool(told) == (name != "binary")
