"""The mapping engine on records that are documents each: one outcome a record, and every fault on its own line."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.documents.base import Quantity
from crossdock_controller.outcomes import Dead, Mapped, Outcomes
from support.mapping import Known, all_dead, all_mapped, engine, file_batches, run, summary, table_batches

CSV = {"kind": "csv", "delimiter": ";", "encoding": "cp1252"}
STOCK: dict[str, Any] = {
    "mapping": "stock",
    "document": "StockLevel",
    "fields": {
        "location": "LOC",
        "sku": "SKU",
        "on_hand": {"from": "QTY", "decimal": ",", "thousands": ".", "uom": {"from": "UNIT", "codes": {"ST": "H87"}}},
        "description": "TEXT",
    },
}
HEADER = b"LOC;SKU;QTY;UNIT;TEXT\r\n"


def map_csv(body: bytes, header: bytes = HEADER, mapping: dict[str, Any] | None = None, **cut: Any) -> list[Outcomes]:
    return run(engine(CSV, mapping or STOCK), file_batches(CSV, header + body, **cut))


def only_dead(outcomes: Sequence[Outcomes]) -> Dead:
    (dead,) = all_dead(outcomes)
    return dead


def test_a_record_becomes_a_document_with_its_line_and_its_own_unit() -> None:
    (mapped,) = all_mapped(map_csv("A-01;4711;1.234,50-;ST;größer\r\n".encode("cp1252")))
    assert mapped.fields.on_hand == Quantity(Decimal("-1234.50"), "H87", "ST")  # type: ignore[attr-defined]
    assert msgspec.json.decode(mapped.body) == {
        "location": "A-01",
        "sku": "4711",
        "on_hand": {"value": "-1234.50", "uom": "H87", "raw_uom": "ST"},
        "description": "größer",
    }
    assert (mapped.key, mapped.records, mapped.locator.text()) == ("A-01:4711", 1, "in.csv line 2")
    assert len(mapped.event_id) == 16


def test_a_truncated_row_is_dead_with_the_column_at_which_it_ends() -> None:
    outcomes = map_csv(b"A;1;5;ST;x\r\nA;2;5")
    dead = only_dead(outcomes)
    assert (dead.code, dead.field, dead.locator.line) == ("too_few_fields", "UNIT", 3)
    assert dead.reason == "the record ends after 3 of 5 fields, in QTY; UNIT is missing"
    assert dead.sample == b"A;2;5"
    assert dead.rows == ({"LOC": "A", "SKU": "2"},)  # the last field may be cut in half
    assert len(all_mapped(outcomes)) == 1


def test_a_row_with_too_many_fields_is_dead_and_trailing_delimiters_are_not_fields() -> None:
    outcomes = map_csv(b"A;1;5;ST;x;y\r\nA;2;5;ST;x;; \r\n")
    assert only_dead(outcomes).code == "too_many_fields"
    assert [m.key for m in all_mapped(outcomes)] == ["A:2"]


def test_a_byte_that_is_not_in_the_encoding_is_charged_to_its_record_and_column() -> None:
    outcomes = map_csv(b"A;1;5;ST;x\r\nA;2;5;ST;sch\x81n\r\nA;3;5;ST;z\r\n")
    dead = only_dead(outcomes)
    assert (dead.code, dead.field, dead.locator.line) == ("encoding", "TEXT", 3)
    assert "byte 0x81 at byte 13 of the record is not cp1252" in dead.reason
    assert dead.rows == ({"LOC": "A", "SKU": "2", "QTY": "5", "UNIT": "ST"},)
    assert [m.locator.line for m in all_mapped(outcomes)] == [2, 4]


def test_a_text_in_a_number_is_dead_with_the_column_and_the_value() -> None:
    dead = only_dead(map_csv(b"A;1;five;ST;x\r\n"))
    assert (dead.code, dead.field) == ("bad_decimal", "on_hand")
    assert dead.reason.startswith("QTY: 'five' is not a number")
    assert dead.rows == ({"LOC": "A", "SKU": "1", "QTY": "five", "UNIT": "ST", "TEXT": "x"},)


def test_all_errors_of_a_record_are_told_at_once() -> None:
    dead = only_dead(map_csv(b"A;;5,x;BAG;x\r\n"))
    assert (dead.code, dead.field) == ("required", "sku")
    assert "SKU: is blank, sku is required" in dead.reason
    assert "QTY: '5,x' is not a number" in dead.reason


def test_a_code_that_the_table_does_not_have_names_those_it_has() -> None:
    dead = only_dead(map_csv(b"A;1;5;BAG;x\r\n"))
    assert dead.code == "unknown_code"
    assert dead.reason == "UNIT: 'BAG' is not among the codes ST (add it to 'codes')"


def test_a_header_that_lost_a_column_makes_every_record_dead_and_names_both() -> None:
    outcomes = map_csv(b"A;1;5;x\r\nA;2;6;y\r\n", header=b"LOC;SKU;MENGE;TEXT\r\n")
    dead = all_dead(outcomes)
    assert {d.code for d in dead} == {"header_changed"}
    assert dead[0].reason == "column QTY, UNIT is missing; header seen: LOC;SKU;MENGE;TEXT"
    assert [d.rows[0]["SKU"] for d in dead] == ["1", "2"]  # they can be mapped again when the mapping is corrected


def test_new_and_reordered_columns_are_no_change_that_matters() -> None:
    outcomes = map_csv(b"9;x;ST;5;1;A\r\n", header=b"NEW;TEXT;UNIT;QTY;SKU;LOC\r\n")
    assert [m.key for m in all_mapped(outcomes)] == ["A:1"]


def test_a_column_that_stands_twice_is_not_chosen_by_chance() -> None:
    dead = only_dead(map_csv(b"A;1;5;ST;x;6\r\n", header=b"LOC;SKU;QTY;UNIT;TEXT;QTY\r\n"))
    assert dead.reason.startswith("column QTY stands more than once")


def test_blank_lines_and_an_end_of_file_mark_are_ignored() -> None:
    outcomes = map_csv(b"\r\nA;1;5;ST;x\r\n;;;;\r\n   \r\n\x1a")
    assert len(all_mapped(outcomes)) == 1
    assert summary(outcomes)["ignored"] == {"blank record": 4}


def test_a_footer_is_left_out_by_where_even_when_it_is_shorter_than_a_row() -> None:
    mapping = {**STOCK, "where": {"column": "LOC", "not_equals": ["TOTAL", "END"]}}
    outcomes = map_csv(b"A;1;5;ST;x\r\nTOTAL;2\r\nEND", mapping=mapping)
    assert summary(outcomes)["ignored"] == {"left out by where: LOC not_equals TOTAL, END": 2}
    assert all_dead(outcomes) == []


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ({"equals": "D"}, ["1", "3"]),
        ({"not_equals": ["D", ""]}, ["2"]),
        ({"matches": "[DT]"}, ["1", "2", "3"]),
        ({"blank": True}, ["4"]),
        ({"blank": False, "not_equals": "T"}, ["1", "3"]),
    ],
)
def test_where_keeps_the_records_for_which_it_holds(condition: dict[str, Any], kept: list[str]) -> None:
    mapping = {
        "mapping": "m",
        "document": "Product",
        "fields": {"sku": "SKU"},
        "where": {"column": "TYPE", **condition},
    }
    outcomes = map_csv(b"1;D\n2;T\n3; D \n4;\n", header=b"SKU;TYPE\n", mapping=mapping)
    assert [m.key for m in all_mapped(outcomes)] == kept


def test_a_field_that_spans_lines_is_one_record_and_later_lines_keep_their_numbers() -> None:
    outcomes = map_csv(b'A;1;5;ST;"two\r\nlines; and ""more"""\r\nA;2;x;ST;y\r\n')
    (mapped,) = all_mapped(outcomes)
    assert mapped.fields.description == 'two\r\nlines; and "more"'  # type: ignore[attr-defined]
    assert only_dead(outcomes).locator.line == 4


def test_broken_quoting_is_dead_and_not_read_as_something_else() -> None:
    outcomes = map_csv(b'A;1;5;ST;"19" rack"\r\nA;2;5;ST;y\r\n')
    dead = only_dead(outcomes)
    assert (dead.code, dead.locator.line) == ("csv_syntax", 2)
    assert [m.key for m in all_mapped(outcomes)] == ["A:2"]


def test_a_utf8_mark_under_another_encoding_is_not_read_through() -> None:
    outcomes = map_csv(b"A;1;5;ST;x\r\n", header=b"\xef\xbb\xbf" + HEADER)
    assert only_dead(outcomes).reason == "the file begins with a UTF-8 byte order mark, the source declares cp1252"


def test_a_utf8_mark_under_utf8_is_no_part_of_the_first_name() -> None:
    settings_ = {"kind": "csv", "delimiter": ";"}
    data = b"\xef\xbb\xbf" + HEADER + b"A;1;5;ST;x\r\n"
    assert len(all_mapped(run(engine(settings_, STOCK), file_batches(settings_, data)))) == 1
    bare = {"kind": "csv", "delimiter": ";", "header": False, "columns": ["LOC", "SKU", "QTY", "UNIT", "TEXT"]}
    data = b'\xef\xbb\xbf"A";1;5;ST;x\r\n'
    assert [m.key for m in all_mapped(run(engine(bare, STOCK), file_batches(bare, data)))] == ["A:1"]


def test_an_empty_payload_has_no_outcome() -> None:
    header = BatchHeader(format="csv", prefix=HEADER, closes=True)
    assert run(engine(CSV, STOCK), [(header, b"", 0)]) == [Outcomes()]


def test_a_record_that_the_agent_refused_is_dead_with_its_reason() -> None:
    batches = file_batches(CSV, HEADER + b"A;1;5;ST;x\r\nA;2;5;ST;y\r\n")
    header = batches[0][0]
    header.rejects.add(record=2, line=4, code="too_long", reason="the record is longer than 10 bytes", sample=b"A;3;5")
    dead = only_dead(run(engine(CSV, STOCK), batches))
    assert (dead.code, dead.locator.record, dead.locator.line, dead.sample) == ("too_long", 2, 4, b"A;3;5")


def test_a_batch_in_another_format_than_the_source_has_now_is_dead_as_a_whole() -> None:
    batches = file_batches(CSV, HEADER + b"A;1;5;ST;x\r\nA;2;5;ST;y\r\n")
    dead = only_dead(run(engine({"kind": "jsonl"}, STOCK), batches))
    assert (dead.code, dead.records) == ("format_changed", 2)


@pytest.mark.parametrize("declared", [0, 1, 2, 4, 9])
@pytest.mark.parametrize("skip", [0, 1])
def test_a_count_that_does_not_agree_is_dead_and_the_account_still_holds(declared: int, skip: int) -> None:
    header, payload, _ = file_batches(CSV, HEADER + b"A;1;5;ST;x\r\nA;2;5;ST;y\r\nA;3;5;ST;z\r\n")[0]
    header.records = declared
    outcomes = run(engine(CSV, STOCK), [(header, payload, min(skip, declared))])
    if declared:
        assert any(d.code == "count_mismatch" for d in all_dead(outcomes)) or declared <= skip
    found = sum(len(d.rows) for d in all_dead(outcomes)) + len(all_mapped(outcomes))
    assert found >= 3 - skip - (declared <= skip) * 3  # no record is lost without a trace


def test_skipped_records_have_no_outcome_and_the_others_are_the_same() -> None:
    (batch,) = file_batches(CSV, HEADER + b"A;1;5;ST;x\r\n;;;;\r\nA;2;5\r\nA;3;5;ST;z\r\n")
    made = engine(CSV, STOCK)
    whole = [m.event_id for m in all_mapped(run(made, [batch]))]
    for skip in range(5):
        outcomes = run(made, [(batch[0], batch[1], skip)])
        assert [m.event_id for m in all_mapped(outcomes)] == whole[min(1, skip) :][: 2 if skip < 4 else 0]


def test_an_ambiguous_local_time_goes_through_with_a_warning() -> None:
    mapping = {
        **STOCK,
        "fields": {**STOCK["fields"], "as_of": {"from": "TEXT", "format": "%d.%m.%Y %H:%M", "zone": "site"}},
    }
    del mapping["fields"]["description"]
    outcomes = map_csv(
        b"A;1;5;ST;25.10.2026 02:30\r\nA;2;5;ST;25.10.2026 02:30\r\nA;3;5;ST;25.10.2026 04:30\r\n", mapping=mapping
    )
    warned = [m.warnings for m in all_mapped(outcomes)]
    assert warned[0] == warned[1] != ()
    assert "happens twice in Europe/Berlin" in warned[0][0]
    assert warned[2] == ()
    assert msgspec.json.decode(all_mapped(outcomes)[0].body)["zone"] == "Europe/Berlin"


def test_site_and_source_can_fill_a_field() -> None:
    mapping = {**STOCK, "fields": {**STOCK["fields"], "issuer": "$site", "location": "$source"}}
    assert [m.key for m in all_mapped(map_csv(b"A;1;5;ST;x\r\n", mapping=mapping))] == ["atl1:wms:1"]


def test_nested_parts_and_extensions_are_made_of_columns_and_left_out_when_blank() -> None:
    mapping = {
        "mapping": "m",
        "document": "Shipment",
        "fields": {
            "number": "NO",
            "ship_to.city": "CITY",
            "ship_to.country": {"from": "LAND", "codes": {"D": "DE"}},
            "extensions.acme.dock": "DOCK",
            "packages": {"from": "N", "default": 1},
        },
    }
    outcomes = map_csv(b"1;K\xf6ln;D;7;\n2;;;;3\n", header=b"NO;CITY;LAND;DOCK;N\n", mapping=mapping)
    assert [msgspec.json.decode(m.body) for m in all_mapped(outcomes)] == [
        {
            "number": "1",
            "packages": 1,
            "ship_to": {"city": "Köln", "country": "DE"},
            "extensions": {"acme": {"dock": "7"}},
        },
        {"number": "2", "packages": 3},
    ]


def test_rows_of_a_table_keep_their_types_and_are_found_by_key() -> None:
    columns = ["NO", "QTY", "ACTIVE", "TEXT"]
    mapping = {
        "mapping": "m",
        "document": "Product",
        "fields": {"sku": "NO", "weight": {"from": "QTY", "digits": 3}, "active": "ACTIVE", "description": "TEXT"},
    }
    rows: list[list[Any]] = [
        [1, 0.1 + 0.2, True, None],
        ["1", "7.5", 1, "1"],
        [1.5, None, 0, " x "],
        [b"\x01", 1, 1, ""],
    ]
    outcomes = run(engine({"kind": "rows"}, mapping), table_batches(columns, rows, key="NO"))
    assert [msgspec.json.decode(m.body) for m in all_mapped(outcomes)] == [
        {"sku": "1", "active": True, "weight": {"value": "0.300"}},
        {"sku": "1", "description": "1", "active": True, "weight": {"value": "7.5"}},
        {"sku": "1.5", "description": "x", "active": False},
    ]
    assert all_mapped(outcomes)[0].locator.text() == "ORDERS NO=1"
    assert only_dead(outcomes).code == "bad_text"


def test_equal_values_of_different_types_are_not_taken_for_each_other() -> None:
    """1 == 1.0 == True in Python; a memory by value would make the answer depend on what came first."""
    mapping = {"mapping": "m", "document": "Product", "fields": {"sku": "S", "description": "V"}}
    rows = [["a", 1], ["b", True], ["c", 1.0], ["d", "1"]]
    outcomes = run(engine({"kind": "rows"}, mapping), table_batches(["S", "V"], rows))
    assert [m.fields.description for m in all_mapped(outcomes)] == ["1", "true", "1.0", "1"]  # type: ignore[attr-defined]


def test_json_numbers_are_exact_and_nested_fields_are_reached_by_path() -> None:
    mapping = {
        "mapping": "m",
        "document": "Product",
        "fields": {"sku": "item.sku", "weight": "w", "description": "gone"},
    }
    data = b'{"item": {"sku": 7}, "w": 0.1000000000000000055}\nnull\n{"item": {"sku": "A"}, "w": 1e400}\n{"w": 1\n'
    outcomes = run(engine({"kind": "jsonl"}, mapping), file_batches({"kind": "jsonl"}, data))
    assert msgspec.json.decode(all_mapped(outcomes)[0].body) == {
        "sku": "7",
        "weight": {"value": "0.1000000000000000055"},
    }
    assert [(d.code, d.locator.line) for d in all_dead(outcomes)] == [
        ("json_syntax", 2),
        ("bad_decimal", 3),
        ("json_syntax", 4),
    ]


def test_conversions_stay_right_when_there_are_more_values_than_are_remembered() -> None:
    body = b"".join(b"A;%d;%d,5;ST;x\r\n" % (i, i) for i in range(40_000))
    mapped = all_mapped(map_csv(body))
    assert [m.fields.on_hand.value for m in mapped] == [Decimal(i) + Decimal("0.5") for i in range(40_000)]  # type: ignore[attr-defined]


_LINES = st.lists(
    st.sampled_from(
        [
            b"A;1;5;ST;x",
            b"A;2;1.000,5;ST;y",
            b"A;3;bad;ST;z",
            b"A;4;5",
            b";;;;",
            b"",
            b"A;5;5;ST;\x81",
            b'A;6;5;ST;"a\nb"',
            b"T;9",
        ]
    ),
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(lines=_LINES, records=st.integers(1, 9), ended=st.booleans())
def test_the_outcomes_do_not_depend_on_how_the_file_was_cut(lines: list[bytes], records: int, ended: bool) -> None:
    data = HEADER + b"\n".join(lines) + (b"\n" if ended else b"")
    mapping = {**STOCK, "where": {"column": "LOC", "not_equals": "T"}}
    made = engine(CSV, mapping)
    whole = summary(run(made, file_batches(CSV, data)))
    assert summary(run(made, file_batches(CSV, data, records=records))) == whole
    one_by_one = [out for batch in file_batches(CSV, data, records=records) for out in run(made, [batch])]
    assert summary(one_by_one) == whole


def test_an_event_id_tells_apart_site_source_file_place_and_content() -> None:
    def ids(body: bytes, site: str = "atl1", unit: bytes = b"u") -> list[bytes]:
        batches = file_batches(CSV, HEADER + body)
        batches[0][0].origin.unit = unit
        return [m.event_id for m in all_mapped(run(engine(CSV, STOCK, site=site), batches))]

    same = b"A;1;5;ST;x\r\n"
    assert ids(same) == ids(same)
    assert len({*ids(same), *ids(same, site="rtm1"), *ids(same, unit=b"v"), *ids(b"A;1;6;ST;x\r\n")}) == 4
    assert len(set(ids(same * 3))) == 3
    assert ids(same + same)[0] == ids(same)[0]


def test_a_row_of_a_table_read_again_elsewhere_is_the_same_event() -> None:
    mapping = {"mapping": "m", "document": "Product", "fields": {"sku": "S", "description": "V"}}
    made = engine({"kind": "rows"}, mapping)
    first = all_mapped(run(made, table_batches(["S", "V"], [["a", "1"], ["b", "2"]])))
    again = all_mapped(run(made, table_batches(["S", "V"], [["x", "0"], ["b", "2"], ["a", "3"]])))
    assert first[1].event_id == again[1].event_id
    assert first[0].event_id != again[2].event_id


def test_a_corrected_mapping_gives_the_same_event_ids() -> None:
    body = b"A;1;5;ST;x\r\n"
    other = {**STOCK, "fields": {**STOCK["fields"], "lot": "TEXT"}}
    assert [m.event_id for m in all_mapped(map_csv(body))] == [
        m.event_id for m in all_mapped(map_csv(body, mapping=other))
    ]


def test_a_dead_letter_is_mapped_again_with_its_correction_and_keeps_its_place() -> None:
    dead = only_dead(map_csv(b"A;1;five;ST;x\r\n"))
    made = engine(CSV, STOCK)
    rows = [dict(dead.rows[0], QTY="5")]
    mapped = made.remap(rows, dead.locator, Known(), unit=b"unit-of-the-file")
    assert isinstance(mapped, Mapped)
    assert (mapped.locator, mapped.records, mapped.key) == (dead.locator, 1, "A:1")
    assert mapped == made.remap(rows, dead.locator, Known(), unit=b"unit-of-the-file")
    still = made.remap(list(dead.rows), dead.locator, Known())
    assert isinstance(still, Dead)
    assert still.code == "bad_decimal"


_LAYOUT = [{"name": n, "start": 1 + 4 * i, "length": 4} for i, n in enumerate(["LOC", "SKU", "QTY", "UNIT", "TEXT"])]
_JSON = b'{"UNIT": "BAG", "TEXT": "x", "LOC": "A", "SKU": 1, "QTY": 7.0, "MORE": {"a": [1, null]}}\n'


@pytest.mark.parametrize(
    ("settings_", "data"),
    [
        (CSV, HEADER + b"A;1;7;BAG;x\r\n"),
        ({"kind": "csv"}, b'LOC,SKU,QTY,UNIT,TEXT\nA,1,7,BAG,"x, y"\n'),
        ({"kind": "jsonl"}, _JSON),
        ({"kind": "fixed", "fields": _LAYOUT}, b"A   1   7   BAG x   \n"),
    ],
    ids=["csv", "quoted csv", "jsonl", "fixed"],
)
def test_unchanged_rows_under_a_corrected_mapping_are_the_event_the_batch_would_have_been(
    settings_: dict[str, Any], data: bytes
) -> None:
    (dead,) = all_dead(run(engine(settings_, STOCK), file_batches(settings_, data)))
    corrected = {**STOCK, "fields": {**STOCK["fields"], "on_hand": {"from": "QTY", "uom": "UNIT"}}}
    made = engine(settings_, corrected)
    kept = msgspec.json.decode(msgspec.json.encode(dead.rows))  # as the store keeps them
    again = made.remap(kept, dead.locator, Known(), unit=b"unit-of-the-file")
    (batch,) = all_mapped(run(made, file_batches(settings_, data)))
    assert isinstance(again, Mapped)
    assert again.event_id == batch.event_id
    assert again.body == batch.body


def test_what_a_damaged_record_lost_must_be_supplied() -> None:
    dead = only_dead(map_csv(b"A;1;5"))
    made = engine(CSV, STOCK)
    still = made.remap(list(dead.rows), dead.locator, Known())
    assert isinstance(still, Dead)
    assert (still.code, still.reason) == ("missing_column", "record 1 has no QTY, UNIT, TEXT: set it, or discard")
    assert isinstance(made.remap([dict(dead.rows[0], QTY="5", UNIT="ST", TEXT="")], dead.locator, Known()), Mapped)


def test_a_record_that_where_leaves_out_is_not_retried_into_a_document() -> None:
    made = engine(CSV, {**STOCK, "where": {"column": "LOC", "not_equals": "T"}})
    dead = only_dead(map_csv(b"T;1;five;ST;x\r\n"))
    still = made.remap(list(dead.rows), dead.locator, Known())
    assert isinstance(still, Dead)
    assert still.code == "left_out"
