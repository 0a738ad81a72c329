"""Framing is compared with `csv.reader` over the whole file, in blocks of any size."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crossdock.codec import TARGET_RAW_BYTES, TARGET_RECORDS
from crossdock_agent.framing import Csv, FixedWidth, Format, Framer, JsonLines, Position, Run
from support.memory import allocated_at_most

BOM = b"\xef\xbb\xbf"
FIELDS = {"fields": [{"name": "sku", "start": 1, "length": 2}]}
# No carriage return but in a line's end: csv.reader refuses a bare one, which is the decoder's to report.
_PIECES = [b"a", b"\xe9", b";", b'"', b'""', b"\n", b"\r\n", b';"', b'";', b'"\n', b"4711", b" "]
hostile_text = st.lists(st.sampled_from(_PIECES), max_size=60).map(b"".join)
block_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def blocks(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at += size
        turn += 1


def frame(data: bytes, framer: Framer, sizes: Sequence[int] = (7,)) -> list[Run]:
    runs = [run for block in blocks(data, sizes) for run in framer.feed(block)]
    return [*runs, *framer.finish()]


def framer_of(kind: Format, limit: int = 1000, target: int = 16, records: int = 3, **more: object) -> Framer:
    return Framer(kind.scanner(), limit, target_bytes=target, target_records=records, **more)  # type: ignore[arg-type]


def csv_rows(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("latin-1"), newline="\n"), delimiter=";"))


def readable(data: bytes) -> bool:
    """Whether csv.reader reads *data* at all: it refuses text after a carriage return."""
    try:
        csv_rows(data)
    except csv.Error:
        return False
    return True


def check_accounting(data: bytes, framer: Framer, runs: list[Run], begin: int) -> None:
    """Every byte once, ordinals and lines gapless, limits kept."""
    assert framer.prefix == data[:begin]
    position = Position(begin, 0, 1 + data[:begin].count(b"\n"))
    for run in runs:
        assert run.start == position
        assert not (run.records and run.rejects)
        if run.rejects:
            (reject,) = run.rejects
            assert (reject.record, reject.line, reject.offset) == (position.record, position.line, position.offset)
            assert data[reject.offset :].startswith(reject.sample)
            assert run.end.record == position.record + 1
            assert run.end.offset == position.offset + reject.bytes
        else:
            assert run.payload == data[position.offset : run.end.offset]
            assert run.end.record == position.record + run.records
        assert run.end.line == 1 + data[: run.end.offset].count(b"\n")
        position = run.end
    assert position.offset == len(data)


@settings(max_examples=600)
@given(hostile_text, block_sizes)
@example(b'"', [1])
@example(b'a"";"\n"";"x', [1])
@example(b'"a""\n";"\n', [3])
def test_records_are_those_of_csv_reader_whatever_the_blocks(data: bytes, sizes: list[int]) -> None:
    framer = framer_of(Csv(delimiter=";", header=False, columns=("a",)))
    runs = frame(data, framer, sizes)
    check_accounting(data, framer, runs, 0)
    assert [run for run in runs if run.rejects and run.rejects[0].code != "unclosed_quote"] == []
    for run in runs:
        if readable(run.payload):
            assert len(csv_rows(run.payload)) == run.records
        assert run.records <= 3
    if not any(run.rejects for run in runs) and readable(data):
        assert [row for run in runs for row in csv_rows(run.payload)] == csv_rows(data)


@settings(max_examples=250)
@given(hostile_text, block_sizes, st.integers(8, 60))
def test_with_a_short_limit_nothing_is_longer_and_every_byte_is_accounted_for(
    data: bytes, sizes: list[int], limit: int
) -> None:
    kind = Csv(delimiter=";", header=False, columns=("a",))
    framer = framer_of(kind, limit)
    runs = frame(data, framer, sizes)
    check_accounting(data, framer, runs, 0)
    assert all(len(run.payload) <= limit for run in runs)
    assert all(r.code in ("too_long", "unclosed_quote") for run in runs for r in run.rejects)
    assert runs == frame(data, framer_of(kind, limit), [1000])  # the same runs from any blocks


@settings(max_examples=250)
@given(hostile_text, block_sizes, st.booleans())
def test_the_header_is_the_first_record_with_blank_lines_before_it(data: bytes, sizes: list[int], mark: bool) -> None:
    data = (BOM if mark else b"") + data
    framer = framer_of(Csv(delimiter=";"))
    runs = frame(data, framer, sizes)
    if any(r.code == "header_too_long" for run in runs for r in run.rejects):
        assert len(runs) == 1
        assert runs[0].rejects[0].bytes == len(data)
        return
    check_accounting(data, framer, runs, len(framer.prefix))
    bare = framer.prefix.removeprefix(BOM)
    if readable(bare):
        assert [bool(row) for row in csv_rows(bare)] in (
            [False] * bare.count(b"\n"),
            [False] * (len(csv_rows(bare)) - 1) + [True],
        )


@settings(max_examples=300)
@given(hostile_text, block_sizes, st.data())
def test_read_on_after_any_run_gives_the_same_runs(data: bytes, sizes: list[int], draw: st.DataObject) -> None:
    kind = Csv(delimiter=";")
    framer = framer_of(kind, 40)
    runs = frame(data, framer, sizes)
    if not runs or any(r.code == "header_too_long" for run in runs for r in run.rejects):
        return
    k = draw.draw(st.integers(0, len(runs) - 1))
    again = framer_of(kind, 40, start=runs[k].end, prefix=framer.prefix)
    assert plain(frame(data[runs[k].end.offset :], again, [11])) == plain(runs[k + 1 :])


def plain(runs: list[Run]) -> list[Run]:
    """Without where to read on if the file was longer: once something was torn, that is before all that follows."""
    return [replace(run, loose=None) for run in runs]


LENGTH = msgspec.convert({"kind": "fixed", "newline": False, "record_bytes": 5, **FIELDS}, FixedWidth)


@settings(max_examples=300)
@given(hostile_text, st.integers(0, 60), st.sampled_from([Csv(delimiter=";"), JsonLines(), LENGTH]))
@example(b'a;b\n1;"x\ny";z\n2;"x";z\n', 9, Csv(delimiter=";"))
@example(b'"a;\nb"\n1;2\n', 4, Csv(delimiter=";"))
def test_a_file_found_longer_gives_what_it_would_have_given_whole(data: bytes, length: int, kind: Format) -> None:
    framer = framer_of(kind)
    runs = frame(data[:length], framer)
    at = (runs[-1].loose or runs[-1].end) if runs else Position()
    if not at.record:  # it is read from its beginning then
        return
    more = frame(data[at.offset :], framer_of(kind, start=at, prefix=framer.prefix))
    whole = frame(data, framer_of(kind))
    assert rejected(runs, at.record) + rejected(more) == rejected(whole)
    taken = b"".join(run.payload[: max(0, at.offset - run.start.offset)] for run in runs)
    assert taken + b"".join(run.payload for run in more) == b"".join(run.payload for run in whole)
    assert (more or runs)[-1].end == whole[-1].end


def rejected(runs: list[Run], before: int = 2**31) -> list[tuple[int, str, int]]:
    return [(r.record, r.code, r.bytes) for run in runs for r in run.rejects if r.record < before]


@given(st.lists(st.sampled_from([b"{}", b"\n", b"\r\n", b'"', b"x"]), max_size=40).map(b"".join), block_sizes)
def test_every_newline_ends_a_json_line_and_a_fixed_line(data: bytes, sizes: list[int]) -> None:
    for kind in (JsonLines(), msgspec.convert({"kind": "fixed", **FIELDS}, FixedWidth)):
        framer = framer_of(kind)
        runs = frame(data, framer, sizes)
        check_accounting(data, framer, runs, 0)
        assert sum(run.records for run in runs) == data.count(b"\n") + (data[-1:] not in (b"", b"\n"))


@given(st.binary(max_size=60), st.integers(1, 9), block_sizes)
def test_records_of_a_length_need_no_newline_and_a_torn_one_is_counted(
    data: bytes, length: int, sizes: list[int]
) -> None:
    kind = msgspec.convert({"kind": "fixed", "newline": False, "record_bytes": length, **FIELDS}, FixedWidth)
    runs = frame(data, framer_of(kind), sizes)
    assert b"".join(run.payload for run in runs) == data
    body = data.removeprefix(BOM)
    assert sum(run.records for run in runs) == -(-len(body) // length)
    assert all(0 < run.records <= 3 for run in runs)
    torn = len(body) % length
    assert [run.loose.offset for run in runs if run.loose] == ([len(data) - torn] if torn else [])


def test_small_records_after_a_long_one_are_cut_as_they_would_be_after_a_restart() -> None:
    kind = Csv(delimiter=";", header=False, columns=("a",))
    data = b"x" * 33 + b"\n" + b"aaaaa\n" * 20
    runs = frame(data, framer_of(kind))
    assert runs[0].records == 3
    again = framer_of(kind, start=runs[0].end)
    assert frame(data[runs[0].end.offset :], again) == runs[1:]


def test_a_header_over_the_limit_makes_the_file_one_reject() -> None:
    data = b"x" * 5000 + b"\n" + b"1;2\n" * 500
    framer = framer_of(Csv(delimiter=";"), limit=1000)
    (run,) = frame(data, framer, [100])
    (reject,) = run.rejects
    assert (reject.code, reject.bytes, reject.line, reject.sample) == ("header_too_long", len(data), 1, data[:1000])
    assert framer.prefix == b""


def test_a_byte_order_mark_travels_and_does_not_hide_a_quote() -> None:
    framer = framer_of(Csv(delimiter=";", header=False, columns=("a", "b")))
    (run,) = frame(BOM + b'"a\nb";c', framer)
    assert (run.payload, run.records) == (BOM + b'"a\nb";c', 1)


def test_header_lines_of_a_fixed_file_travel_as_prefix() -> None:
    kind = msgspec.convert({"kind": "fixed", "header_lines": 2, **FIELDS}, FixedWidth)
    framer = framer_of(kind)
    (run,) = frame(b"H1\nH2\nAB\n", framer)
    assert (framer.prefix, run.payload, run.start) == (b"H1\nH2\n", b"AB\n", Position(6, 0, 3))
    short = framer_of(kind)
    assert frame(b"H1\nH", short) == []
    assert short.prefix == b"H1\nH"


def test_an_unclosed_quote_costs_its_line_and_not_the_file() -> None:
    rows = b"".join(b"%d;x\n" % i for i in range(100))
    kind = Csv(delimiter=";", header=False, columns=("a", "b"))
    runs = frame(b'1;x\n2;"open\n' + rows, framer_of(kind, 10_000))
    (reject,) = [r for run in runs for r in run.rejects]
    assert (reject.code, reject.line, reject.bytes, reject.sample) == ("unclosed_quote", 2, 8, b'2;"open\n')
    assert sum(run.records for run in runs) == 101
    runs = frame(b'1;x\n2;"open\n' + rows, framer_of(kind, 50))
    (reject,) = [r for run in runs for r in run.rejects]
    assert (reject.code, reject.line, reject.bytes) == ("too_long", 2, 8)
    assert sum(run.records for run in runs) == 101


def test_an_unclosed_quote_does_not_tear_the_quoted_lines_before_it_in_its_record() -> None:
    kind = Csv(delimiter=";", header=False, columns=("a", "b"))
    runs = frame(b'"two\nlines";"open\n3;4\n', framer_of(kind))
    (reject,) = [r for run in runs for r in run.rejects]
    assert (reject.bytes, reject.line) == (18, 1)
    assert runs[-1].payload == b"3;4\n"
    assert runs[-1].start == Position(18, 1, 3)


def test_a_line_over_the_limit_is_passed_over_in_constant_memory() -> None:
    framer = Framer(JsonLines().scanner(), 1024 * 1024)
    block = b"x" * 262_144
    with allocated_at_most(6 * 1024 * 1024):
        runs = list(framer.feed(b"first\n"))
        for _ in range(200 * 4):
            runs += framer.feed(block)
        runs += framer.feed(b"end\nlast\n")
        runs += framer.finish()
    assert [run.payload for run in runs] == [b"first\n", b"", b"last\n"]
    (reject,) = runs[1].rejects
    assert (reject.code, reject.record, reject.line, reject.offset) == ("too_long", 1, 2, 6)
    assert reject.bytes == 200 * 4 * 262_144 + 4
    assert len(reject.sample) == 4096


def test_many_unclosed_quotes_do_not_make_framing_slow() -> None:
    """One after each limit: a record that is looked at again from every line would take minutes."""
    kind = Csv(delimiter=";", header=False, columns=("a", "b"))
    record = b'"a\nb";"c\nd";' * 20_000 + b'"open\n'
    data = (record + b"1;2\n" * 100_000) * 3
    framer = Framer(kind.scanner(), 512 * 1024)
    started = time.process_time()
    runs = frame(data, framer, [262_144])
    assert time.process_time() - started < 5
    check_accounting(data, framer, runs, 0)
    assert 3 <= sum(len(run.rejects) for run in runs) <= 6


def test_batches_close_at_the_targets_of_the_codec() -> None:
    runs = frame(b"1;2\n" * 200_000, Framer(Csv(delimiter=";").scanner()), [262_144])
    assert max(run.records for run in runs) == TARGET_RECORDS
    assert sum(run.records for run in runs) == 199_999
    long = frame((b"x" * 99 + b"\n") * 20_000, Framer(JsonLines().scanner()), [262_144])
    assert all(TARGET_RAW_BYTES - 100 < len(run.payload) <= TARGET_RAW_BYTES for run in long[:-1])
    assert all(a.end == b.start for a, b in pairwise(long))


def test_a_million_rows_frame_in_a_fraction_of_a_second() -> None:
    row = (b"4711;2024-01-01;SKU000123;" + b"x" * 200)[:199] + b"\n"
    block = row * 10_000
    framer = Framer(Csv(delimiter=";").scanner())
    started = time.process_time()
    records = sum(run.records for _ in range(100) for run in framer.feed(block))
    records += sum(run.records for run in framer.finish())
    assert time.process_time() - started < 1.5  # 0.1 measured; a loop over rows takes 0.5 and more
    assert records == 999_999


@pytest.mark.parametrize(
    ("given_settings", "said"),
    [
        ({"kind": "csv", "encoding": "utf-32"}, "cannot be framed"),
        ({"kind": "json", "encoding": "utf-16"}, "cannot be framed"),
        ({"kind": "json", "encoding": "cp932"}, "cannot be framed"),
        ({"kind": "json", "path": ".a"}, "names with dots"),
        ({"kind": "xml", "element": "a//b"}, "names with slashes"),
        ({"kind": "xml", "element": "a", "encoding": "cp037"}, "cannot be framed"),
        ({"kind": "fixed", "encoding": "cp037", **FIELDS}, "or set 'newline: false'"),
        ({"kind": "fixed", "rdw": True, "record_bytes": 9, **FIELDS}, "give either"),
        ({"kind": "fixed", "fields": [{"name": "q", "start": 1, "length": 2, "type": "packed"}]}, "may hold a newline"),
        ({"kind": "x12", "part_bytes": 10}, "part_bytes"),
        ({"kind": "csv", "encoding": "cp9999"}, "unknown encoding"),
        ({"kind": "csv", "delimiter": "€"}, "one ASCII character"),
        ({"kind": "csv", "delimiter": '"'}, "are both"),
        ({"kind": "csv", "header": False}, "needs 'columns'"),
        ({"kind": "fixed", "newline": False, **FIELDS}, "need 'record_bytes'"),
        ({"kind": "fixed", "newline": False, "record_bytes": 9, "header_lines": 1, **FIELDS}, "needs lines"),
        ({"kind": "xlsx"}, "xlsx"),
    ],
)
def test_wrong_format_settings_are_refused_with_the_reason(given_settings: dict[str, object], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(given_settings, Format)
