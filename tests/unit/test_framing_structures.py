"""Records inside a structure: the same runs from any blocks and after any restart, within bounded memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock_agent.framing import Edifact, Format, Framer, Position, Run

EXAMPLES = int(os.environ.get("CROSSDOCK_EXAMPLES", "100"))
BLOCKS = st.lists(st.integers(1, 40), min_size=1, max_size=8)
KINDS: dict[str, dict[str, Any]] = {
    "json": {"kind": "json"},
    "json at a path": {"kind": "json", "path": "a.b"},
    "xml": {"kind": "xml", "element": "O"},
    "xml at a path": {"kind": "xml", "element": "R/S/O"},
    "x12": {"kind": "x12"},
    "edifact": {"kind": "edifact"},
    "lines, utf-16": {"kind": "lines", "encoding": "utf-16-le", "header_lines": 1},
    "csv, utf-16": {"kind": "csv", "encoding": "utf-16-be", "delimiter": ";"},
    "descriptors": {"kind": "fixed", "rdw": True, "fields": [{"name": "a", "start": 1, "length": 1}]},
    "binary": {"kind": "binary"},
}
JSON = [b"[", b"]", b"{", b"}", b'"', b'"a"', b":", b",", b"\n", b"\\", b'\\"', b"1", b'{"a":1}', b"null", b'{"a":{"b":[', b" ", b"\xe9", b'"b"', b"\xef\xbb\xbf"]  # fmt: skip  # noqa: E501
XML = [b"<O>", b"</O>", b"<O/>", b"<n:O a='>'>", b"</n:O>", b"<R>", b"</R>", b"<S>", b"</S>", b"<O a=\"", b"'", b'"', b">", b"<", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?", b"?>", b"/>", b"x", b"\n", b"<!DOCTYPE", b"[", b"]>", b"<Ox>", b"\xe9"]  # fmt: skip  # noqa: E501
ISA = b"ISA*00**00**ZZ*S*ZZ*R*260101*1200*U*00401*1*0*P*>~"
X12 = [ISA, b"IEA*1*1~", b"GS*PO~", b"GE*1~", b"ST*850*1~", b"SE*2*1~", b"~", b"\n", b"\r\n", b"ISA", b"IEA*", b"SE*", b"BEG*1~", b"x", b"*", b"GS*IN*2~"]  # fmt: skip  # noqa: E501
EDIFACT = [b"UNA:+.? '", b"UNB+UNOC:3+S+R+1:2+9'", b"UNZ+1+9'", b"UNH+1+ORDERS'", b"UNT+2+1'", b"?", b"'", b"?'", b"UNG+1'", b"UNB", b"UNZ+", b"UNT+", b"\n", b"x", b"+"]  # fmt: skip  # noqa: E501
WIDE = [b"\xff\xfe", b"\xfe\xff", *(t.encode("utf-16-le") for t in ("a", "\n", "\r\n", ";", '"', "é", "界", "😀", "ਅ"))]
WIDE += [t.encode("utf-16-be") for t in ("a", "\n", ";", '"', '""')] + [b"\n", b"\x00"]
DESCRIBED = [b"\x00\x05\x00\x00a", b"\x00\x04\x00\x00", b"\x00\x07\x00\x00abc", b"\x00", b"\x00\x00", b"\x01\x00"]
PIECES = {"jso": JSON, "xml": XML, "x12": X12, "edi": EDIFACT, "lin": WIDE, "csv": WIDE, "des": DESCRIBED, "bin": XML}


LIMITS = {kind: [1200, 1500, 10_000] if kind in ("x12", "edi") else [24, 60, 200, 10_000] for kind in PIECES}


def framer_of(name: str, limit: int = 10_000, target: int = 40, **more: Any) -> Framer:
    kind: Any = msgspec.convert(KINDS[name], Format)
    scanner = kind.scanner()
    if hasattr(scanner, "_part_bytes"):
        scanner._part_bytes = 120  # what a setting allows is too long for a test
    return Framer(scanner, limit, target_bytes=target, target_records=3, **more)


def frame(data: bytes, framer: Framer, sizes: Sequence[int] = (100_000,)) -> list[Run]:
    runs: list[Run] = []
    at = turn = 0
    while at < len(data):
        runs += framer.feed(data[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    return [*runs, *framer.finish()]


def check(data: bytes, runs: list[Run], limit: int) -> None:
    """Records and rejects in order, none over the limit, each where it says it is."""
    position = Position()
    for run in runs:
        assert not (run.records and run.rejects)
        assert run.start.offset >= position.offset
        assert run.start.record == position.record
        assert run.start.line == 1 + data[: run.start.offset].count(b"\n")
        assert run.end.line == 1 + data[: run.end.offset].count(b"\n")
        assert run.end.record == run.start.record + run.records + len(run.rejects)
        assert all(length <= limit for length in run.lengths)
        assert not run.lengths or (sum(run.lengths) == len(run.payload) and len(run.lengths) == run.records)
        for reject in run.rejects:
            assert (reject.record, reject.line, reject.offset) == (run.start.record, run.start.line, run.start.offset)
            assert reject.offset + reject.bytes == run.end.offset <= len(data)
            assert data[reject.offset :].startswith(reject.sample)
        position = run.end


STRUCTURED = [name for name in KINDS if name.partition(" ")[0] in ("json", "xml", "x12", "edifact")]


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=EXAMPLES)
@given(st.data())
def test_any_blocks_give_the_same_runs(name: str, data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.sampled_from(PIECES[name[:3]]), max_size=40))
    limit = data.draw(st.sampled_from(LIMITS[name[:3]]))
    content = b"".join(pieces)
    runs = frame(content, framer_of(name, limit))
    if name in STRUCTURED:
        check(content, runs, limit)
    framer = framer_of(name, limit)
    assert frame(content, framer, data.draw(BLOCKS)) == runs


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=EXAMPLES)
@given(st.data())
def test_read_on_after_any_run_gives_the_same_runs(name: str, data: st.DataObject) -> None:
    content = b"".join(data.draw(st.lists(st.sampled_from(PIECES[name[:3]]), max_size=40)))
    limit = data.draw(st.sampled_from(LIMITS[name[:3]]))
    framer = framer_of(name, limit)
    runs = frame(content, framer)
    if len(runs) < 2 or any(r.code in ("header_too_long", "path_not_found") for run in runs for r in run.rejects):
        return
    k = data.draw(st.integers(0, len(runs) - 2))  # behind the last one nothing is ever read on, but in a longer file
    spans = runs[k].spans
    prefix = b"".join(content[start : start + length] for start, length in spans) if spans else framer.prefix
    again = framer_of(name, limit, start=runs[k].end, prefix=prefix, spans=spans)
    assert plain(frame(content[runs[k].end.offset :], again)) == plain(runs[k + 1 :])


def plain(runs: list[Run]) -> list[Run]:
    """Without where to read on if the file was longer: once something was torn, that is before all that follows."""
    return [replace(run, loose=None) for run in runs]


@pytest.mark.parametrize("name", STRUCTURED)
@settings(max_examples=EXAMPLES)
@given(st.data())
def test_a_file_found_longer_gives_what_it_would_have_given_whole(name: str, data: st.DataObject) -> None:
    content = b"".join(data.draw(st.lists(st.sampled_from(PIECES[name[:3]]), max_size=40)))
    for piece, sound in ((ISA, ISA + b"GS*PO~"), (b"<!DOCTYPE", b"<!DOCTYPE x>")):  # how they end is guessed otherwise
        content = content.replace(piece, sound)
    length = data.draw(st.integers(0, len(content)))
    framer = framer_of(name)
    runs = frame(content[:length], framer)
    if not runs:
        return
    at, spans = runs[-1].loose or runs[-1].end, runs[-1].spans
    prefix = b"".join(content[start : start + size] for start, size in spans) if spans else framer.prefix
    if not at.record:  # it is read from its beginning then
        return
    before = contents(runs, content)[: at.record]
    again = framer_of(name, start=at, prefix=prefix, spans=spans)
    more = contents(frame(content[at.offset :], again), content)
    assert before + more == contents(frame(content, framer_of(name)), content)


def pieces_of(name: str, content: bytes, **more: Any) -> list[tuple[str, bytes]]:
    """Each record, or code and content of each reject."""
    return contents(frame(content, framer_of(name, **more), [7]), content)


def contents(runs: list[Run], content: bytes) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for run in runs:
        at = 0
        for length in run.lengths:
            found.append(("", run.payload[at : at + length]))
            at += length
        found += [(r.code, content[r.offset : r.offset + r.bytes]) for r in run.rejects]
    return found


def test_a_quote_or_bracket_too_few_costs_its_json_element_and_no_other() -> None:
    one = b'[\n  {"a": "x"y"},\n  {"a": 2},\n  {"a": {"b": 3},\n  {"a": 4},\n  {"a": "5", "b": [}]},\n  {"a": 6}\n]'
    expected = [
        ("json_syntax", b'{"a": "x"y"},\n  '),
        ("", b'{"a": 2}'),
        ("json_syntax", b'{"a": {"b": 3},\n  '),
        ("", b'{"a": 4}'),
        ("json_syntax", b'{"a": "5", "b": [}]},\n  '),
        ("", b'{"a": 6}'),
    ]
    assert pieces_of("json", one) == expected
    assert pieces_of("json at a path", b'{"a": {"b": ' + one + b"}}") == expected


def test_json_escapes_and_brackets_in_texts_end_nothing() -> None:
    rows = [b'{"a": "]}\\\\"}', b'{"a": "\\"}"}', b'"]"', b"[[], {}]", b"-1.5e3", b"null", b'{"\\u0061": {"b": ["}"]}}']
    assert pieces_of("json", b"[" + b" , ".join(rows) + b"]") == [("", row) for row in rows]
    assert pieces_of("json", b"\n".join(rows[:2])) == [("", rows[0]), ("", rows[1])]


def test_the_array_at_a_path_is_found_by_its_names_alone() -> None:
    before = b'{"b": [9], "x": {"a": {"b": [8]}}, "t": "\\"a\\": {\\"b\\": [7", "\\u0061": {"c": [6], "b": ['
    behind = b']}, "a": {"b": [5]}}'
    assert pieces_of("json at a path", before + b'{"n": 1}, {"n": 2}' + behind) == [
        ("", b'{"n": 1}'),
        ("", b'{"n": 2}'),
    ]
    (only,) = pieces_of("json at a path", b'{"a": {"b": {"n": 1}}}')
    assert only == ("", b'{"n": 1}')
    assert pieces_of("json at a path", b'{"a": [1]}') == [("path_not_found", b'{"a": [1]}')]


def test_a_json_array_that_breaks_off_says_so() -> None:
    assert pieces_of("json", b'[{"a": 1}, ') == [("", b'{"a": 1}'), ("truncated", b"")]
    assert pieces_of("json", b'[{"a": 1}, {"a"') == [("", b'{"a": 1}'), ("truncated", b'{"a"')]


def test_xml_elements_are_told_from_what_only_looks_like_one() -> None:
    rows = [
        b"<O><!-- </O> --><![CDATA[</O>]]><?p </O>?></O>",
        b"<n:O a='</n:O' b=\">\"><O><O/></O></n:O>",
        b"<O\n/>",
        b"<O>1 < 2 </O\n>",
    ]
    between = b"<Ox/><xO/><!-- <O/> --><![CDATA[<O/>]]><?p <O/>?><n:Ox></n:Ox>"
    document = b"<!-- <O/> --><R>" + between.join(rows[:1] + rows[2:]) + between + b"</R>"
    assert pieces_of("xml", document) == [("", row) for row in rows[:1] + rows[2:]]
    nested = b"<n:O a='>'><O><O/></O></n:O>"
    assert pieces_of("xml", b"<R>" + nested + b"</R>") == [("", nested)]


def test_only_xml_elements_at_the_path_are_records() -> None:
    document = b"<R><O/><S><X><O/></X><n:O>1</n:O></S><T><S><O/></S></T><S/><S a='/'><O>2</O></S></R>"
    assert pieces_of("xml at a path", document) == [("", b"<n:O>1</n:O>"), ("", b"<O>2</O>")]


def test_an_xml_element_that_is_never_closed_costs_itself_alone() -> None:
    good = [b"<O>%d</O>" % i for i in range(3)]
    document = b"<R>" + good[0] + b"<O>lost" + good[1] + good[2] + b"</R>"
    expected = [("", good[0]), ("unclosed_element", b"<O>lost"), ("", good[1]), ("", good[2])]
    assert pieces_of("xml", document) == expected
    many = b"<R><O>lost" + b"<O>x</O>" * 100 + b"</R>"
    assert pieces_of("xml", many, limit=60) == [("unclosed_element", b"<O>lost"), *[("", b"<O>x</O>")] * 100]


def test_a_record_over_the_limit_is_one_reject_and_the_next_is_found() -> None:
    long = b"x" * 500
    assert pieces_of("json", b'["' + long + b'", 2]', limit=100) == [("too_long", b'"' + long + b'"'), ("", b"2")]
    document = b"<R><O>" + long + b"</O><O/></R>"
    assert pieces_of("xml", document, limit=100) == [("too_long", b"<O>" + long + b"</O>"), ("", b"<O/>")]
    message = b"ST*850*1~N1*" + b"x" * 2000 + b"~SE*2*1~"
    content = ISA + b"GS*PO~" + message + b"ST*850*2~SE*2*2~GE*2~IEA*1*1~"
    assert pieces_of("x12", content, limit=1500) == [
        ("too_long", b"GS*PO~" + message),
        ("", b"ST*850*2~SE*2*2~GE*2~IEA*1*1~"),
    ]


def test_text_between_interchanges_and_one_without_an_end_cost_their_neighbours_nothing() -> None:
    whole = ISA + b"GS*PO~GE*0~IEA*1*1~"
    content = b"mail:\r\n" + whole + b"\r\n\x1a" + ISA + b"GS*PO~\r\n" + whole + b"ISA"
    assert pieces_of("x12", content) == [
        ("not_x12", b"mail:\r\n"),
        ("", whole),
        ("", ISA + b"GS*PO~\r\n"),
        ("", whole),
        ("not_x12", b"ISA"),
    ]


def test_a_released_terminator_ends_no_edifact_segment() -> None:
    one = b"UNB+UNOC:3+S?'UNZ+0+1+R+1:2+9'UNH+1+ORDERS'FTX+??'UNT+3+1'UNZ+1+9'"
    assert pieces_of("edifact", one + b"\n" + one) == [("", one), ("", one)]


def test_a_million_released_terminators_are_looked_at_once() -> None:
    content = b"UNB+" + b"?'" * 1_000_000 + b"'UNZ+1+9'"
    framer = Framer(Edifact().scanner())
    (run,) = [*framer.feed(content), *framer.finish()]
    assert (run.prefix or b"") + run.payload == content


def test_a_bad_descriptor_sets_the_rest_of_the_file_aside() -> None:
    runs = frame(b"\x00\x05\x00\x00a\x00\x02\x00\x00rest", framer_of("descriptors"))
    assert [(run.records, [(r.code, r.bytes) for r in run.rejects]) for run in runs] == [
        (1, []),
        (0, [("bad_descriptor", 8)]),
    ]
