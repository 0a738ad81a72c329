"""Guesses about files: right where the bytes say it, and called a guess where they do not."""

from __future__ import annotations

import codecs
from typing import Any

import pytest

from crossdock_agent.guessing import Guess, encodings, files, values
from crossdock_agent.guessing.files import FileGuess

SHIPMENTS = "SHIPMENT_NO;ITEM;QTY;SHIP_TS;NAME\r\n" + "".join(
    f"{i:06d};A-{i};{i}.234,50;{i:02d}.02.2026 10:15;Müller Größe {i}\r\n" for i in range(1, 20)
)


def of(text: str | bytes, encoding: str = "utf-8") -> FileGuess:
    return files.guess(text.encode(encoding) if isinstance(text, str) else text, whole=True)


def value(guess: FileGuess, setting: str) -> Any:
    return found(guess, setting).value


def found(guess: FileGuess, setting: str) -> Guess:
    return next(g for g in guess.guesses if g.setting == setting)


@pytest.mark.parametrize(
    ("encoding", "guessed", "sure"),
    [
        ("utf-8", "utf-8", True), ("utf-8-sig", "utf-8", True), ("utf-16", "utf-16", True), ("cp1252", "cp1252", False),
        ("utf-16-le", "utf-16-le", True), ("utf-16-be", "utf-16-be", True), ("cp850", "cp850", False),
    ],
)  # fmt: skip
def test_the_encoding_is_found_and_only_called_sure_when_it_proves_itself(
    encoding: str, guessed: str, sure: bool
) -> None:
    guess = of(SHIPMENTS, encoding)
    assert (value(guess, "format.encoding"), found(guess, "format.encoding").sure) == (guessed, sure)
    assert value(guess, "format.delimiter") == ";"
    assert bool(guess.differing) is not sure
    assert all("Müller Größe" in as_guessed != otherwise for as_guessed, otherwise, _ in guess.differing)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Straße;Betrag\nHauptstraße 5;12,50 €\n", "cp1252"), ("Straße;Betrag\nHauptstraße 5;12,50\n", "cp850"),
        ("Smörgåsbord, Ærø, København\n", "cp850"), ("Smörgåsbord, Ærø, København\n", "cp1252"),
        ("Crème brûlée à l'été; dès août\n", "cp850"), ("Crème brûlée à l'été; dès août\n", "cp1252"),
        ("El niño comió jamón en Coruña\n", "cp850"), ("El niño comió jamón en Coruña\n", "cp1252"),
    ],
)  # fmt: skip
def test_code_pages_are_told_apart_by_their_letters(text: str, encoding: str) -> None:
    guess = encodings.guess(text.encode(encoding))
    assert guess.value == encoding
    assert "a guess" in guess.reason
    assert "not valid UTF-8 (byte 0x" in guess.reason


def test_ascii_alone_and_ebcdic_say_what_they_do_not_know() -> None:
    assert "read it alike" in found(of("a;b\n1;2\n"), "format.encoding").reason
    ebcdic = found(of("ORDER 000123 ACME    0000450".encode("cp500") * 30), "format.encoding")
    assert ebcdic.value == "cp500"
    assert not ebcdic.sure
    assert "cp273" in ebcdic.reason


def test_a_character_cut_at_the_end_of_the_sample_is_no_reason_against_utf_8() -> None:
    data = "a;ä\nb;ö\n".encode()
    assert files.guess(data[: data.rindex("ö".encode()) + 1], whole=False).guesses
    assert encodings.guess(data[: data.rindex("ö".encode()) + 1]).value == "utf-8"


@pytest.mark.parametrize(
    ("text", "delimiter", "quote"),
    [
        ("a;b\n1,5;2,5\n3,25;4,75\n", ";", '"'),  # decimal commas cut just as evenly
        ('a,b\n1,"x, y"\n2,"two\nlines"\n3,z\n', ",", '"'),
        ("a\tb\tc\n1\tx, y\t2\n3\tz\t4\n", "\t", '"'),
        ("10:15|11:20\n10:16|11:21\n", "|", '"'),
        ("id;text\n1;'a;b'\n2;'c'\n3;'d'\n", ";", "'"),
        ('no;size\n1;5" pipe\n2;6" pipe\n3;x\n', ";", '"'),
        ("a,b,c\n1,2,3\n4,5,6\n", ",", '"'),
        ("1;2024-01-31 10:15:00;x\n2;2024-02-01 11:16:00;y\n", ";", '"'),
    ],
)
def test_delimiter_and_quote_cut_the_records_evenly(text: str, delimiter: str, quote: str) -> None:
    guess = of(text)
    assert value(guess, "format.kind") == "csv"
    assert (value(guess, "format.delimiter"), value(guess, "format.quote")) == (delimiter, quote)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("NO;QTY\n1;2\n3;4\n", True), ("1;2\n3;4\n", False), ("SKU;NAME\nA-1;Bolt\nA-2;Nut\n", True),
        ("A-1;Bolt\nA-2;Nut\nA-1;Bolt\n", False), ("A;;C\nx;y;z\nu;v;w\n", False), ("A;A\nx;y\nu;v\n", False),
        ("17.01.2026;x\n18.01.2026;y\n", False), ("DATE;x\n18.01.2026;y\n19.01.2026;z\n", True),
    ],
)  # fmt: skip
def test_a_header_is_told_from_a_record(text: str, header: bool) -> None:
    guess = found(of(text), "format.header")
    assert guess.value is header
    assert guess.reason


def test_columns_say_their_type_their_format_and_an_example() -> None:
    columns = {c.name: (c.kind, c.format) for c in of(SHIPMENTS).columns}
    assert columns == {
        "SHIPMENT_NO": ("text", ""),  # 000123 is a part number, and 123 is another one
        "ITEM": ("text", ""),
        "QTY": ("decimal", ","),
        "SHIP_TS": ("datetime", "%d.%m.%Y %H:%M"),
        "NAME": ("text", ""),
    }
    assert "leading zeros (000001)" in of(SHIPMENTS).columns[0].reason


@pytest.mark.parametrize(
    ("texts", "kind", "format_"),
    [
        (["1", "-20", "3", ""], "integer", ""), (["1.5", "2", "1,234.00"], "decimal", "."), (["007", "8"], "text", ""),
        (["1,5", "2", "1.234,00", "3,25-"], "decimal", ","), (["20260131", "20251224"], "date", "%Y%m%d"),
        (["31/12/2026", "01/02/2026"], "date", "%d/%m/%Y"), (["12/31/2026", "01/02/2026"], "date", "%m/%d/%Y"),
        (["2026-01-31T10:15:00", "2026-01-31T10:15:01"], "datetime", "%Y-%m-%dT%H:%M:%S"), (["", " "], "empty", ""),
        (["20260131101500", "20260131101501"], "datetime", "%Y%m%d%H%M%S"), (["12345678", "87654321"], "integer", ""),
        (["2026-01-31 10:15:00.5"], "datetime", "%Y-%m-%d %H:%M:%S.%f"), (["x", "1"], "text", ""),
    ],
)  # fmt: skip
def test_values_are_typed(texts: list[str], kind: str, format_: str) -> None:
    guess = values.guess("c", texts)
    assert (guess.kind, guess.format) == (kind, format_), guess


def test_what_could_be_read_in_two_ways_says_so() -> None:
    assert "%m/%d/%Y fits as well" in values.guess("c", ["01/02/2026", "03/04/2026"]).reason
    one_odd = values.guess("c", [*map(str, range(1, 40)), "n/a"])
    assert one_odd.kind == "integer"
    assert "1 of 40 are not, such as 'n/a'" in one_odd.reason
    assert values.guess("c", ["Y", "N"] * 5).reason == "only N, Y"


def test_lines_of_one_length_are_cut_where_all_are_blank() -> None:
    lines = ["STOCK 2026-01-31", *(f"A-{i:02d}    {i:06d}      {i * 7:5d}" for i in range(1, 30))]
    guess = of("\n".join(lines) + "\n")
    assert value(guess, "format.kind") == "fixed"
    fields = value(guess, "format.fields")
    assert [(f["start"], f["length"]) for f in fields] == [(1, 8), (9, 14), (23, 3)]
    assert value(guess, "format.header_lines") == 1


@pytest.mark.parametrize(
    ("data", "setting", "expected"),
    [
        (b'{"a": 1}\n{"a": 2}\n', "format.kind", "jsonl"), (b'[{"a": 1},\n{"a": 2}]', "format.kind", "json"),
        (b'{\n"a": 1\n}', "format.kind", "json"), (b"<?xml version='1.0'?><a/>", "format.kind", "xml"),
        (b"ISA*00*          *00*  ", "format.kind", "x12"), (b"UNB+UNOC:3+A+B'", "format.kind", "edifact"),
        (b"\x1f\x8b\x08\x00", "file", "gzip"), (b"PK\x03\x04....", "file", "zip"), (b"", "file", "empty"),
        (codecs.BOM_UTF8, "file", "empty"), (b"just\nsome words\nhere and there\n", "format.kind", "lines"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_called_what_it_is(data: bytes, setting: str, expected: str) -> None:
    assert value(of(data), setting) == expected


def test_the_element_that_comes_again_is_the_record() -> None:
    orders = "<Order a='1'><No>1</No></Order><Order a='2'><No>2</No></Order>"
    xml = f"<?xml version='1.0'?><!-- x --><Orders><Head/>{orders}</Orders>"
    guess = found(of(xml), "format.element")
    assert guess.value == "Order"
    assert guess.reason == "<Order> comes 2 times below <Orders>"
    assert [g.setting for g in of("<a><b/></a>").guesses] == ["format.kind", "format.encoding", "newlines"]


@pytest.mark.parametrize(
    ("data", "expected", "reason"),
    [
        (b"a;b\r\n1;2\r\n", "CR LF", "2 CR LF"), (b"a;b\n1;2\r\n3;4\n", "LF", "mixed"),
        (b"a;b\r1;2\r", "CR alone", "2 CR"),
        (b"a;b\n1;2\n\x1a", "LF", "^Z"), (b"ABCDEF" * 50, "none", "no newline in 300"),
    ],
)  # fmt: skip
def test_newlines_are_named(data: bytes, expected: str, reason: str) -> None:
    guess = found(of(data), "newlines")
    assert guess.value == expected
    assert reason in guess.reason


def test_hostile_text_costs_no_more_than_its_length() -> None:
    tags = "".join(f"<a{i}/>" for i in range(300_000))
    assert [g.setting for g in of(f"<r>{tags}</r>").guesses] == ["format.kind", "format.encoding", "newlines"]
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    assert value(of(f'{deep}\n{{"a":1}}\n'), "format.kind") == "jsonl"


def test_records_of_another_length_are_counted_and_the_first_is_shown() -> None:
    guess = found(of("a;b;c\n" + "1;2;3\n" * 30 + "TOTAL;30\n"), "records")
    assert guess.value == "1 uneven"
    assert "record 32 has 2 fields: ['TOTAL', '30']" in guess.reason


def test_any_bytes_give_a_guess_and_never_an_error() -> None:
    import random

    rng = random.Random(5)
    for size in (1, 2, 3, 7, 100, 5_000):
        for _ in range(20):
            assert files.guess(rng.randbytes(size), whole=bool(size % 2)).guesses
            assert files.guess(bytes(rng.choices(b"a1;,'\"\n\r\x00\xe4{[<", k=size)), whole=False).guesses
