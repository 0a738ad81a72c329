"""What delimited files of old systems hold (LEGACY 17, 21, 43, 44), each through framing, decoding and mapping."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from crossdock_controller.outcomes import Dead, Mapped
from support.mapping import all_dead, all_mapped, engine, file_batches, run

MAPPING = {
    "mapping": "m",
    "document": "StockLevel",
    "fields": {"location": "BIN", "sku": "SKU", "on_hand": {"from": "QTY", "decimal": ","}, "lot": "LOT"},
}
CSV: dict[str, Any] = {"kind": "csv", "delimiter": ";", "encoding": "cp1252"}
HEADER = b"BIN;SKU;QTY;LOT\r\n"


def outcome(data: bytes, *, records: int = 5000, **settings: Any) -> tuple[list[Mapped], list[Dead], dict[str, int]]:
    made = {**CSV, **settings}
    outcomes = run(engine(made, MAPPING), file_batches(made, data, records=records))
    ignored = {entry.reason: entry.records for out in outcomes for entry in out.ignored}
    return all_mapped(outcomes), all_dead(outcomes), ignored


def skus(data: bytes, **settings: Any) -> list[str]:
    return [msgspec.json.decode(m.body)["sku"] for m in outcome(data, **settings)[0]]


def test_leading_zeros_of_a_number_stay() -> None:
    assert skus(HEADER + b"01;000123;1;\r\n01;000123.0;1;\r\n01;0;1;\r\n") == ["000123", "000123.0", "0"]


def test_a_comma_is_the_decimal_point_only_where_the_source_says_so() -> None:
    mapped, dead, _ = outcome(HEADER + b"1;A;1,5;\r\n1;B;1.234,5;\r\n1;C;1.234;\r\n")
    assert len(mapped) == 1
    assert [d.code for d in dead] == ["bad_decimal", "bad_decimal"]


@pytest.mark.parametrize("records", [1, 2, 5000])
def test_one_bad_row_is_set_aside_and_the_others_go_on(records: int) -> None:
    data = HEADER + b'1;A;1;"two\r\nlines"\r\n1;B;1;in;side\r\n1;C;1\r\n1;D;1;"q""uote"\r\n1;E;1;"half\r\n1;F;1;\r\n'
    mapped, dead, _ = outcome(data, records=records)
    assert len(mapped) == 3
    assert [(d.code, d.locator.line) for d in dead] == [
        ("too_many_fields", 4),
        ("too_few_fields", 5),
        ("unclosed_quote", 7),
    ]


def test_a_file_without_a_header_is_read_by_the_names_that_are_declared() -> None:
    assert skus(b"1;A;1;\n1;B;1;\n", header=False, columns=["BIN", "SKU", "QTY", "LOT"]) == ["A", "B"]


def test_mixed_newlines_and_marks_at_the_end_are_no_records() -> None:
    mapped, dead, ignored = outcome(HEADER + b"1;A;1;\n1;B;1;\r\n\r\n1;C;1;\n\x1a")
    assert (len(mapped), dead, ignored) == (3, [], {"blank record": 2})


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("records", [1, 2, 5000])
def test_utf16_is_read_with_its_mark_and_its_quoted_newlines(encoding: str, records: int) -> None:
    text = '\ufeffBIN;SKU;QTY;LOT\r\n1;größer;1;\r\n1;世界\u0a0d\u0d0a;1;"a\r\n\U0001f4e6"\r\n1;C;x;\r\n'
    mapped, dead, _ = outcome(text.encode(encoding), encoding=encoding, records=records)
    assert len(mapped) == 2
    assert [(d.code, d.locator.line) for d in dead] == [("bad_decimal", 5)]


def test_utf16_of_the_other_byte_order_is_one_dead_letter_that_says_what_to_set() -> None:
    text = "\ufeffBIN;SKU;QTY;LOT\r\n1;A;1;\r\n"
    mapped, dead, _ = outcome(text.encode("utf-16-be"), encoding="utf-16")
    assert mapped == []
    assert [(d.code, "set 'encoding'" in d.reason) for d in dead] == [("encoding", True)]


def test_half_a_character_of_utf16_is_charged_to_its_record() -> None:
    data = "BIN;SKU;QTY;LOT\n1;A;1;\n1;B;1;".encode("utf-16-le") + b"\x00\xd8\n\x00"
    mapped, dead, _ = outcome(data + "1;C;1;\n".encode("utf-16-le") + b"x", encoding="utf-16-le")
    assert len(mapped) == 2
    assert [(d.code, d.locator.line) for d in dead] == [("encoding", 3), ("encoding", 5)]


TRAILER = {"begins": "SUMME", "count": 2}
ROWS = b"1;A;1;\r\n1;B;1;\r\n1;C;1;\r\n"


@pytest.mark.parametrize("records", [1, 2, 5000])
@pytest.mark.parametrize("end", [b"SUMME;3\r\n", b"SUMME;0003;;\r\n\r\n", b"SUMME;3"])
def test_a_trailer_with_the_right_count_is_no_record(records: int, end: bytes) -> None:
    mapped, dead, ignored = outcome(HEADER + ROWS + end, records=records, trailer=TRAILER)
    assert (len(mapped), dead, ignored["trailer, its count is right"]) == (3, [], 1)


def test_a_trailer_may_count_itself_and_the_header() -> None:
    _, dead, _ = outcome(HEADER + ROWS + b"SUMME;5\r\n", trailer={**TRAILER, "extra": 2})
    assert dead == []


@pytest.mark.parametrize("records", [1, 2, 5000])
@pytest.mark.parametrize("count", [b"4", b"2", b"", b"x", b"9" * 30])
def test_a_trailer_with_another_count_is_a_dead_letter_and_the_records_go_on(records: int, count: bytes) -> None:
    mapped, (dead,), _ = outcome(HEADER + ROWS + b"SUMME;" + count + b"\r\n", records=records, trailer=TRAILER)
    assert (len(mapped), dead.code, dead.locator.line) == (3, "wrong_count", 5)
    assert "there are 3" in dead.reason


@pytest.mark.parametrize("records", [1, 2, 5000])
def test_a_file_without_its_trailer_says_that_it_was_not_written_to_its_end(records: int) -> None:
    mapped, (dead,), _ = outcome(HEADER + ROWS, records=records, trailer=TRAILER)
    assert (len(mapped), dead.code, dead.locator.line) == (2, "no_trailer", 4)
    assert dead.rows[0]["SKU"] == "C"


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        ({"kind": "json"}, b'[{"BIN": "1"}]'),
        ({"kind": "json", "path": "a"}, b'{"a": [{"BIN": "1"}]}'),
        ({"kind": "lines", "header_lines": 1}, b"one\ntwo\n"),
        ({"kind": "lines"}, b"one\ntwo\n"),
        ({"kind": "csv"}, HEADER + b"1;A;1;\n"),
    ],
)
def test_a_utf8_mark_under_another_encoding_is_not_read_through_in_any_format(
    settings: dict[str, Any], data: bytes
) -> None:
    for encoding, told in (("cp1252", True), ("utf-8", False)):
        made = {**settings, "encoding": encoding}
        column = "line" if settings["kind"] == "lines" else "BIN"
        mapping = {"mapping": "m", "document": "Product", "fields": {"sku": column}}
        if settings["kind"] == "csv":
            made["delimiter"] = ";"
        outcomes = run(engine(made, mapping), file_batches(made, b"\xef\xbb\xbf" + data))
        assert {d.code for d in all_dead(outcomes)} == ({"encoding"} if told else set())
        assert bool(all_mapped(outcomes)) != told
