"""What every format must do: each record in exactly one place, no exception for any bytes, the same content anywhere.

A format is added to the battery by one entry in CASES.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock.v1.batch_pb2 import BatchHeader, Column
from crossdock_controller.formats.base import Decoded, Format, create, kinds
from crossdock_controller.formats.framed import splitter
from crossdock_controller.formats.rows import RowsSettings
from support.mapping import Known, engine

COLUMNS = ["NO", "SKU", "QTY"]
ROWS = [["1", "A-1", "5"], ["1", "größer", "1.5"], ["2", "C", ""], ["3", "", "x"]]


SLICED = ("json", "xml", "x12", "edifact")  # whose records have their lengths in the header
FILE_LINES = ("csv", "jsonl", "lines")


@dataclass(frozen=True)
class Case:
    settings: dict[str, Any]
    prefix: bytes = b""
    columns: tuple[str, ...] = tuple(COLUMNS)

    def encode(self, rows: list[list[str]]) -> bytes:
        return b"".join(self.records(rows))

    def records(self, rows: list[list[str]]) -> list[bytes]:
        return [self._encode([row]) for row in rows]

    def expected(self, row: list[str]) -> dict[str, str]:
        """What is read of *row* under `columns`."""
        if self.columns == ("line",):
            return {"line": "|".join(row)}
        return dict(zip(self.columns, row, strict=True))

    def _encode(self, rows: list[list[str]]) -> bytes:
        kind, encoding = self.settings["kind"], self.settings.get("encoding", "utf-8")
        if kind == "lines":
            return "".join("|".join(row) + "\n" for row in rows).encode(encoding)
        if kind == "json":
            return b"".join(msgspec.json.encode(dict(zip(COLUMNS, row, strict=True))) for row in rows)
        if kind == "xml":
            fields = ["".join(f"<{n}>{v}</{n}>" for n, v in zip(COLUMNS, row, strict=True)) for row in rows]
            return "".join(f"<Row>{text}</Row>" for text in fields).encode(encoding)
        if kind == "x12":
            pad = "*".join(["ISA", "00", " " * 10, "00", " " * 10, "ZZ"])
            return "".join(
                f"{pad}*{row[1]:15}*ZZ*{row[2]:15}*260131*1200*U*00401*{row[0]:>9}*0*P*>~IEA*0*{row[0]}~"
                for row in rows
            ).encode()
        if kind == "edifact":
            return "".join(f"UNB+UNOC:3+{r[1]}+{r[2]}+260131:1200+{r[0]}'UNZ+0+{r[0]}'" for r in rows).encode()
        if kind == "csv":
            delimiter, quote = self.settings.get("delimiter", ","), self.settings.get("quote", '"') or ""
            text = "".join(delimiter.join([*row[:-1], f"{quote}{row[-1]}{quote}"]) + "\r\n" for row in rows)
            return text.encode(encoding)
        if kind == "jsonl":
            texts = [msgspec.json.encode(dict(zip(COLUMNS, row, strict=True))).decode() for row in rows]
            return "".join(text + "\n" for text in texts).encode(encoding)
        if kind == "fixed":
            newline = "\n" if self.settings.get("newline", True) else ""
            return "".join("".join(v.ljust(8) for v in row) + newline for row in rows).encode(encoding)
        return b"".join(map(msgspec.msgpack.encode, rows))

    def header(self, records: int, first: int = 0, lengths: Sequence[int] = ()) -> BatchHeader:
        header = BatchHeader(format=self.settings["kind"], records=records, prefix=self.prefix, closes=True)
        header.record_bytes.extend(lengths if self.settings["kind"] in SLICED else ())
        header.origin.kind, header.origin.name = "file", "f"
        header.origin.first_record, header.origin.first_line = first, first + 1
        if self.settings["kind"] == "rows":
            header.origin.kind = "table"
            for name in COLUMNS:
                header.columns.add(name=name, type="text")
        return header

    def format(self) -> Format:
        return create(kinds()[self.settings["kind"]].settings.model_validate(self.settings))

    def decode(self, payload: bytes, records: int, first: int = 0, lengths: Sequence[int] = ()) -> Decoded:
        return self.format().decode(self.header(records, first, lengths), payload, COLUMNS)

    def decoded(self, rows: list[list[str]], first: int = 0) -> Decoded:
        records = self.records(rows)
        return self.decode(b"".join(records), len(rows), first, list(map(len, records)))


FIELDS = [{"name": name, "start": 1 + 8 * i, "length": 8} for i, name in enumerate(COLUMNS)]
CASES = {
    "csv": Case({"kind": "csv", "delimiter": ";", "encoding": "cp1252"}, b"NO;SKU;QTY\r\n"),
    "csv, no quotes": Case({"kind": "csv", "delimiter": "\t", "quote": None}, b"NO\tSKU\tQTY\n"),
    "csv, no header": Case({"kind": "csv", "header": False, "columns": COLUMNS}),
    "jsonl": Case({"kind": "jsonl"}),
    "fixed": Case({"kind": "fixed", "encoding": "cp850", "fields": FIELDS}),
    "fixed, no newlines": Case(
        {"kind": "fixed", "encoding": "cp850", "newline": False, "record_bytes": 24, "fields": FIELDS}
    ),
    "fixed, ebcdic": Case(
        {"kind": "fixed", "encoding": "cp273", "newline": False, "record_bytes": 24, "fields": FIELDS}
    ),
    "rows": Case({"kind": "rows"}),
    "csv, utf-16": Case({"kind": "csv", "encoding": "utf-16-le"}, "\ufeffNO,SKU,QTY\r\n".encode("utf-16-le")),
    "jsonl, utf-16": Case({"kind": "jsonl", "encoding": "utf-16-be"}),
    "lines": Case({"kind": "lines", "encoding": "cp1252"}, columns=("line",)),
    "lines, utf-16": Case({"kind": "lines", "encoding": "utf-16-le"}, columns=("line",)),
    "json": Case({"kind": "json"}, b"["),
    "xml": Case({"kind": "xml", "element": "Row", "encoding": "cp1252"}, b"<Rows>"),
    "x12": Case({"kind": "x12"}, columns=("control_number", "sender", "receiver")),
    "edifact": Case({"kind": "edifact"}, columns=("control_number", "sender", "receiver")),
    "binary": Case({"kind": "binary"}),
}


@pytest.fixture(params=sorted(CASES.keys() - {"binary"}))  # a payload of which is one record, whatever it holds
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_every_kind_is_in_the_battery() -> None:
    assert {case.settings["kind"] for case in CASES.values()} == set(kinds())


def test_rows_come_out_as_they_went_in(case: Case) -> None:
    decoded = case.decoded(ROWS)
    assert (decoded.count, decoded.faults, decoded.blanks) == (len(ROWS), [], [])
    expected = [case.expected(row) for row in ROWS]
    values = [{name: str(decoded.column(name)[i]).strip() for name in case.columns} for i in range(len(ROWS))]
    assert values == expected
    assert list(decoded.positions) == [0, 1, 2, 3]
    fields = [{k: str(v).strip() for k, v in decoded.fields(i).items()} for i in range(len(ROWS))]
    assert [{name: row[name] for name in case.columns} for row in fields] == expected


def test_lines_are_counted_from_the_first_of_the_batch(case: Case) -> None:
    decoded = case.decoded(ROWS, first=100)
    has_lines = case.settings["kind"] in FILE_LINES or case.settings.get("newline", "fields" in case.settings)
    assert list(decoded.lines) == ([101, 102, 103, 104] if has_lines else [0, 0, 0, 0])


def test_an_empty_payload_has_no_records(case: Case) -> None:
    decoded = case.decode(b"", 0)
    assert (decoded.count, len(decoded.rows), decoded.faults, decoded.blanks) == (0, 0, [], [])


def test_the_content_of_a_record_is_the_same_in_any_batch_and_by_column_name(case: Case) -> None:
    form = case.format()
    whole = form.contents(case.decoded(ROWS))
    assert len(set(whole)) == len(ROWS)
    for i, row in enumerate(ROWS):
        alone = case.decoded([row], first=i)
        assert form.contents(alone) == [whole[i]]
        assert form.content(dict(alone.fields(0))) == whole[i]


def test_selected_rows_keep_their_places(case: Case) -> None:
    form = case.format()
    decoded = case.decoded(ROWS)
    kept = decoded.select([1, 3])
    assert list(kept.positions) == [1, 3]
    name = case.columns[len(case.columns) // 2]
    assert [str(v).strip() for v in kept.column(name)] == [case.expected(ROWS[i])[name] for i in (1, 3)]
    assert form.contents(kept) == [form.contents(decoded)[i] for i in (1, 3)]
    assert kept.sample(1) == decoded.sample(1) != b""


def test_a_record_cut_short_is_a_fault_and_the_others_are_rows(case: Case) -> None:
    records = case.records(ROWS[:2])
    torn = case.encode([ROWS[0]])
    records.append(torn[: len(torn) // 3])
    decoded = case.decode(b"".join(records), 3, lengths=list(map(len, records)))
    assert list(decoded.positions)[:2] == [0, 1]
    if case.settings["kind"] in ("lines", "x12", "edifact"):
        return  # the beginning of a line is a line; an interchange without its end is told in its findings
    assert len(decoded.rows) == 2
    assert decoded.count - len(decoded.rows) == len(decoded.faults) in (0, 1)  # a torn array is no record at all


def test_no_exception_comes_out_of_a_glimpse(case: Case) -> None:
    for sample in (b"", b"\xff\xfe", b"1;A", b'"1', b"\x00" * 50, case.encode(ROWS)[:10]):
        assert isinstance(case.format().glimpse(case.header(0), sample), dict)


_CRUMBS = [b"1", b"A", b";", b"\t", b",", b"\n", b"\r\n", b'"', b"\x81", b"\xff", b" " * 8, b"{", b"}", b'"NO":1']
_CRUMBS += [b"\x93", b"\xa1a", b"\x01", b"\x1a", b"\x00", b"1;2;3\n"]
_GARBAGE = st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(_CRUMBS), max_size=30).map(b"".join))


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=120, deadline=None)
@given(payload=_GARBAGE, records=st.integers(0, 8), first=st.sampled_from([0, 7]))
def test_every_record_of_any_bytes_is_a_row_a_fault_or_blank(
    name: str, payload: bytes, records: int, first: int
) -> None:
    lengths = [len(part) for part in payload.partition(b"1")] if records == 3 else []
    decoded = CASES[name].decode(payload, records, first, lengths)
    places = sorted([*decoded.positions, *decoded.blanks, *(fault.position for fault in decoded.faults)])
    assert places == list(range(decoded.count))
    assert len(decoded.rows) == len(decoded.positions) == len(decoded.lines)
    for position in range(decoded.count):
        assert isinstance(decoded.sample(position), bytes)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=75, deadline=None)
@given(data=st.data())
def test_the_account_holds_for_any_bytes_any_count_and_any_skip(name: str, grouped: bool, data: st.DataObject) -> None:
    case = CASES[name]
    mapping: dict[str, Any] = {
        "mapping": "m",
        "document": "SalesOrder",
        "fields": {"number": "NO", "lines": {"sku": "SKU", "quantity": "QTY"}},
        "where": {"column": "NO", "not_equals": "2"},
    }
    made = engine(case.settings, mapping | ({"each": "NO"} if grouped else {}))
    batches = []
    for _ in range(data.draw(st.integers(1, 3))):
        header = case.header(data.draw(st.integers(0, 6)), data.draw(st.sampled_from([0, 9])))
        header.closes = data.draw(st.booleans())
        for j in range(data.draw(st.integers(0, 2))):
            header.rejects.add(record=header.origin.first_record + header.records + j, code="too_long", sample=b"1;A")
        batches.append((header, data.draw(_GARBAGE), data.draw(st.integers(0, header.records + len(header.rejects)))))
    for cap_reached in (False, True):
        outcomes = made.run(batches, Known(), cap_reached=cap_reached)
        decided = sum(out.records() for out in outcomes)
        assert decided == sum(header.records + len(header.rejects) - skip for header, _, skip in batches)
        assert not cap_reached or all(out.open_records == 0 for out in outcomes)
        if not grouped:
            assert [o.records() for o in outcomes] == [h.records + len(h.rejects) - skip for h, _, skip in batches]


@pytest.mark.parametrize("delimiter", [";", ",", "|"])
@settings(max_examples=200)
@given(st.lists(st.sampled_from(["a", '"', ";", ",", "|", "\n", '""', "x\n"]), max_size=30))
def test_cutting_a_payload_loses_and_invents_no_byte(delimiter: str, pieces: list[str]) -> None:
    payload = "".join(pieces).encode()
    assert b"".join(splitter(delimiter, '"')(payload)) == payload
    assert b"".join(splitter(delimiter, None)(payload)) == payload


def test_unknown_settings_and_impossible_ones_are_refused() -> None:
    bad: list[dict[str, Any]] = [
        {"kind": "csv", "delimeter": ";"},
        {"kind": "csv", "delimiter": ";;"},
        {"kind": "csv", "header": False},
        {"kind": "csv", "encoding": "utf-32"},
        {"kind": "json", "encoding": "utf-16"},
        {"kind": "json", "encoding": "cp932"},
        {"kind": "json", "path": "a..b"},
        {"kind": "xml"},
        {"kind": "xml", "element": "Orders/"},
        {"kind": "xml", "element": "Order", "lists": ["Lines//Line"]},
        {"kind": "xml", "element": "Order", "encoding": "utf-16"},
        {"kind": "x12", "encoding": "cp037"},
        {"kind": "edifact", "encoding": "cp932"},
        {"kind": "binary", "encoding": "utf-8"},
        {"kind": "lines", "encoding": "klingon"},
        {"kind": "fixed", "fields": FIELDS, "encoding": "cp037"},
        {"kind": "fixed", "fields": [{**FIELDS[0], "type": "packed"}]},
        {"kind": "fixed", "fields": [{**FIELDS[0], "decimals": 2}]},
        {"kind": "fixed", "fields": FIELDS, "rdw": True, "record_bytes": 9},
        {"kind": "csv", "encoding": "klingon"},
        {"kind": "jsonl", "encoding": "cp037"},
        {"kind": "fixed", "fields": []},
        {"kind": "fixed", "newline": False, "fields": FIELDS},
        {"kind": "fixed", "newline": False, "record_bytes": 20, "fields": FIELDS},
        {"kind": "fixed", "fields": [FIELDS[0], FIELDS[0]]},
        {"kind": "fixed", "fields": [{"name": "A", "start": 0, "length": 1}]},
    ]
    for settings_ in bad:
        with pytest.raises(ValueError, match="validation error"):
            kinds()[settings_["kind"]].settings.model_validate(settings_)


def test_a_row_with_text_that_is_not_utf8_ends_the_payload_and_is_no_exception() -> None:
    form = create(RowsSettings())
    header = BatchHeader(format="rows", records=2, columns=[Column(name="A", type="text")])
    decoded = form.decode(header, b"\x91\xa1x" + b"\x91\xa1\x80", ["A"])
    assert decoded.rows == [["x"]]
