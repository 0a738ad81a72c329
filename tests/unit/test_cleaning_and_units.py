"""What is done to texts before they are converted, check digits, signs in words, dates in numbers, other units."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from crossdock.errors import ConfigError, Rejected
from crossdock_controller.mappings.check_digits import check_digit
from crossdock_controller.mappings.cleaning import cleaner
from crossdock_controller.mappings.codes import Coding
from crossdock_controller.mappings.compile import problems
from crossdock_controller.mappings.converters import Convert, Warned, converters
from crossdock_controller.mappings.model import FieldSpec, Mapping, UnitsSpec
from crossdock_controller.mappings.units import conversion
from crossdock_controller.outcomes import Outcomes
from support.mapping import Known, engine, file_batches, table_batches

CSV = {"kind": "csv", "delimiter": ";"}
BERLIN = ZoneInfo("Europe/Berlin")


def spec(**options: Any) -> FieldSpec:
    return FieldSpec.model_validate({"from": "COLUMN", **options})


def make(name: str, zone: ZoneInfo | None = None, /, **options: Any) -> Convert:
    return converters()[name].make(spec(**options), zone)


def run(fields: dict[str, Any], data: str, **mapping: Any) -> Outcomes:
    made = engine(CSV, {"mapping": "wms", "document": "Product", "fields": fields, **mapping})
    return made.run(file_batches(CSV, data.encode()), Known())[0]


@pytest.mark.parametrize(
    ("text", "options", "cleaned"),
    [
        ("SKU-0042", {"strip_prefix": "SKU-"}, "0042"),
        ("ART-0042", {"strip_prefix": ["SKU-", "ART-"]}, "0042"),
        ("0042", {"strip_prefix": "SKU-"}, "0042"),
        ("12,50 EUR", {"strip_suffix": ["EUR", "USD"]}, "12,50"),
        ("PO 4711 / line 3", {"extract": r"PO (\d+)"}, "4711"),
        ("PO 4711", {"extract": r"\d+"}, "4711"),
        ("ABCDEF", {"substring": [3, 2]}, "CD"),
        ("ABCDEF", {"substring": [3]}, "CDEF"),
        ("AB", {"substring": [5, 2]}, ""),
        ("ab c", {"case": "upper"}, "AB C"),
        ("42", {"pad": 6}, "000042"),
        ("42", {"pad": {"to": 4, "with": "x", "side": "right"}}, "42xx"),
        ("a-7-b", {"extract": r"\d", "pad": 3, "case": "upper"}, "007"),
        ("SKU-", {"strip_prefix": "SKU-", "pad": 3}, ""),
    ],
)
def test_a_text_is_made_fit(text: str, options: dict[str, Any], cleaned: str) -> None:
    clean = cleaner(spec(**options))
    assert clean is not None
    assert clean(text) == cleaned


def test_what_is_blank_after_cleaning_is_blank_and_a_number_is_cleaned_before_it_is_read() -> None:
    fields = {
        "sku": "SKU",
        "description": {"from": "TEXT", "strip_prefix": "n/a", "default": "none"},
        "weight": {"from": "KG", "strip_suffix": "kg", "decimal": ",", "uom": {"value": "KGM"}},
    }
    out = run(fields, "SKU;TEXT;KG\nA;n/a;1,5 kg\nB;n/a;kg\n")
    assert [m.body for m in out.mapped] == [
        b'{"sku":"A","description":"none","weight":{"value":"1.5","uom":"KGM"}}',
        b'{"sku":"B","description":"none"}',
    ]


def test_a_text_too_long_for_a_pattern_or_without_what_it_asks_for_is_refused() -> None:
    clean = cleaner(spec(extract="(a+)+$"))
    assert clean is not None
    for text in ("b", "a" * 5000):
        with pytest.raises(Rejected):
            clean(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("(12,50)", "-12.50"),
        ("12,50CR", "-12.50"),
        ("12,50 cr", "-12.50"),
        ("12,50 DB", "12.50"),
        ("DB 3", "3"),
        ("0 CR", "0"),
        ("12,50-", "-12.50"),
        ("-3", "-3"),
        ("( 1.000,5 )", "-1000.5"),
        ("7 CREDIT", "-7"),
    ],
)
def test_signs_in_words_are_read(text: str, number: str) -> None:
    options = {"decimal": ",", "thousands": ".", "negative": ["parentheses", "CR", "CREDIT"], "positive": "DB"}
    assert str(make("decimal", **options)(text)) == number


@pytest.mark.parametrize("text", ["-3 CR", "(-3)", "((3))", "3 CR CR", "CR", "()", "(3", "3 XX"])
def test_two_signs_or_none_of_ours_are_refused(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        make("decimal", negative=["parentheses", "CR"])(text)
    assert caught.value.code == "bad_decimal"


@pytest.mark.parametrize(
    ("text", "format_", "expected"),
    [
        ("26031", "yyddd", "2026-01-31"),
        ("2026366", "yyyyddd", None),
        ("2024366", "yyyyddd", "2024-12-31"),
        ("69001", "yyddd", "1969-01-01"),
        ("1001", "yyddd", "2001-01-01"),
        ("26000", "yyddd", None),
        ("46053", "excel", "2026-01-31"),
        ("61", "excel", "1900-03-01"),
        ("60", "excel", None),
        ("12", "excel1904", "1904-01-13"),
        ("1769817600", "epoch", "2026-01-31"),
        ("1769817600123", "epoch_ms", "2026-01-31"),
        ("99999999999999999", "epoch", None),
        ("1140101", "cyymmdd", "2014-01-01"),
    ],
)
def test_dates_in_numbers_are_read(text: str, format_: str, expected: str | None) -> None:
    convert = make("date", format=format_)
    if expected is None:
        with pytest.raises(Rejected) as caught:
            convert(text)
        assert caught.value.code == "bad_date"
    else:
        assert convert(text) == date.fromisoformat(expected)


def test_numbers_that_hold_the_time_of_day_are_read_in_the_zone_of_the_site() -> None:
    assert make("datetime", BERLIN, format="excel")("46053.5") == datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert make("datetime", BERLIN, format="jde %H%M%S")("126031 120000") == datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert make("datetime", BERLIN, format="%Y%j %H%M")("2026031 1200") == datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert make("datetime", format="epoch_ms")("1769860800500") == datetime(2026, 1, 31, 12, 0, 0, 500000, tzinfo=UTC)


def test_the_century_of_two_digits_turns_at_the_pivot() -> None:
    assert make("date", format="%d%m%y")("010168") == date(2068, 1, 1)
    assert make("date", format="%d%m%y", pivot=50)("010168") == date(1968, 1, 1)
    assert make("date", format="%d%m%y", pivot=50)("010149") == date(2049, 1, 1)
    for wrong in ("%d%m%Y", "%d %b %y"):
        with pytest.raises(ConfigError):
            make("date", format=wrong, pivot=50)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("40170725", "00000040170725"),
        ("036000291452", "00036000291452"),
        ("4006381333931", "04006381333931"),
        ("10614141543219", "10614141543219"),
        (4006381333931, "04006381333931"),
        (4006381333931.0, "04006381333931"),
        ("4-006381-333931", "04006381333931"),
    ],
)
def test_a_gtin_has_14_digits(value: object, expected: str) -> None:
    assert make("gtin")(value) == expected


def test_a_gtin_that_lost_its_zeros_is_read_with_a_warning() -> None:
    found = make("gtin")("36000291452")
    assert isinstance(found, Warned)
    assert found.value == "00036000291452"


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("gtin", "4006381333932", "bad_check_digit"),
        ("gtin", "4.00638E+12", "bad_gtin"),
        ("gtin", "123", "bad_gtin"),
        ("gtin", "00000000", "bad_check_digit"),
        ("gtin", "123456789012345", "bad_gtin"),
        ("gtin", "٤٠٠٦٣٨١٣٣٣٩٣١", "bad_gtin"),
        ("sscc", "340123450000000018", "bad_check_digit"),
        ("sscc", "34012345000000001", "bad_sscc"),
        ("gln", "1234567890123", "bad_check_digit"),
    ],
)
def test_a_number_with_a_wrong_check_digit_is_refused(kind: str, value: str, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        make(kind)(value)
    assert caught.value.code == code


def test_sscc_and_gln_are_read() -> None:
    assert make("sscc")("(00)340123450000000017".replace("(00)", "00")) == "340123450000000017"
    assert make("sscc")("340123450000000017") == "340123450000000017"
    assert make("gln")("4012345000009") == "4012345000009"


@given(st.text("0123456789", min_size=4, max_size=13).filter(lambda digits: digits.strip("0")))
def test_every_number_with_its_check_digit_is_a_gtin_and_with_another_it_is_not(digits: str) -> None:
    right = digits + check_digit(digits)
    found = make("gtin")(right)
    assert (found.value if isinstance(found, Warned) else found) == right.zfill(14)
    wrong = digits + str((int(right[-1]) + 1) % 10)
    with pytest.raises(Rejected):
        make("gtin")(wrong)


def test_the_text_that_a_gtin_was_made_of_stays_beside_it() -> None:
    out = run(
        {"sku": "SKU", "gtin": {"from": "EAN", "as": "gtin"}}, "SKU;EAN\nA;4006381333931\nB;04006381333931\nC;\nD;x\n"
    )
    assert [m.body for m in out.mapped] == [
        b'{"sku":"A","gtin":"04006381333931","extensions":{"raw":{"gtin":"4006381333931"}}}',
        b'{"sku":"B","gtin":"04006381333931"}',
        b'{"sku":"C"}',
    ]
    assert [d.code for d in out.dead] == ["bad_gtin"]


@pytest.mark.parametrize(
    ("value", "unit", "units", "expected"),
    [
        ("2", "LBR", {"to": "KGM"}, "0.90718474"),
        ("1500", "GRM", {"to": "KGM"}, "1.500"),
        ("3", "KGM", {"to": "KGM"}, "3"),
        ("1", "KGM", {"to": "LBR"}, "2.204622621849"),
        ("1", "KGM", {"to": "LBR", "digits": 2}, "2.20"),
        ("12", "FOT", {"to": "MTR"}, "3.6576"),
        ("5", "DZN", {"to": "H87"}, "60"),
        ("1", "TNE", {"to": "GRM"}, "1000000"),
        ("4", "CS", {"to": "H87", "factors": {"CS": 12, "PAL": "480"}}, "48"),
        ("0", "LBR", {"to": "KGM"}, "0"),
        ("-2.5", "CS", {"to": "H87", "factors": {"CS": "0.5"}}, "-1.25"),
    ],
)
def test_a_quantity_in_another_unit_is_exact(value: str, unit: str, units: dict[str, Any], expected: str) -> None:
    found = conversion(UnitsSpec.model_validate(units), Coding())(Decimal(value), unit)
    assert found == Decimal(expected)
    assert "E" not in str(found)


@pytest.mark.parametrize(("unit", "to"), [("LTR", "KGM"), ("XX", "KGM"), ("", "KGM")])
def test_units_that_do_not_go_together_are_refused(unit: str, to: str) -> None:
    with pytest.raises(Rejected) as caught:
        conversion(UnitsSpec(to=to), Coding())(Decimal(1), unit)
    assert caught.value.code == "no_conversion"


def test_the_unit_of_the_source_stays_beside_the_one_asked_for() -> None:
    uom = {"from": "UNIT", "codes": {"lb": "LBR", "kg": "KGM"}}
    fields = {"sku": "SKU", "weight": {"from": "W", "uom": uom, "convert": "KGM"}}
    out = run(fields, "SKU;W;UNIT\nA;2;lb\nB;2;kg\nC;;lb\n")
    assert [m.body for m in out.mapped] == [
        b'{"sku":"A","weight":{"value":"0.90718474","uom":"KGM","raw_uom":"lb"}}',
        b'{"sku":"B","weight":{"value":"2","uom":"KGM","raw_uom":"kg"}}',
        b'{"sku":"C"}',
    ]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"from": "A", "uom": "U", "convert": "XXX"}, "'XXX' is no unit that has factors of its own"),
        ({"from": "A", "convert": "KGM"}, "it is not told which unit is to be converted"),
        ({"from": "A", "uom": "U", "convert": {"to": "H87", "factors": {"CS": "many"}}}, "the factor of CS is 'many'"),
        ({"from": "A", "uom": "U", "convert": {"to": "H87", "factors": "pakcs"}}, "there is no list 'pakcs'"),
        ({"from": "A", "extract": "("}, "bad pattern in 'extract'"),
        ({"from": "A", "negative": "5"}, "'negative' and 'positive' are words beside a number"),
    ],
)
def test_what_cannot_be_done_is_told_at_plan(field: dict[str, Any], expected: str) -> None:
    model = Mapping.model_validate({"mapping": "m", "document": "Product", "fields": {"sku": "S", "weight": field}})
    found = problems(model, None, {"packs": None})
    assert any(expected in problem.message for problem in found), found
    assert all(problem.path[:2] == ("fields", "weight") for problem in found)


@pytest.mark.parametrize("wrong", [{"substring": [0]}, {"substring": [1, 2, 3]}, {"pad": 0}, {"pad": {"with": "00"}}])
def test_what_cannot_be_meant_is_refused_when_it_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**wrong)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=20),
    st.text("0123456789.,-+eE() CRDB", max_size=24),
    st.decimals(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.datetimes(),
)
CASES: list[dict[str, Any]] = [
    {"as": "gtin"},
    {"as": "sscc"},
    {"as": "gln"},
    {"as": "text", "extract": "[0-9]+", "pad": 5},
    {"as": "text", "substring": [2, 3]},
    {"as": "decimal", "negative": ["parentheses", "CR"], "positive": "DB", "decimal": ",", "thousands": "."},
    {"as": "decimal", "implied": 2, "negative": "parentheses", "digits": 1},
    {"as": "date", "format": "%d%m%y", "pivot": 30},
    *(
        {"as": kind, "format": name, **({"zone": "Europe/Berlin"} if kind == "datetime" else {})}
        for kind in ("date", "datetime")
        for name in (
            "cyymmdd",
            "jde",
            "yyddd",
            "yyyyddd",
            "excel",
            "excel1904",
            "epoch",
            "epoch_ms",
            "jde %H%M%S",
            "%Y%j",
        )
    ),
]


@settings(max_examples=40)
@given(st.lists(SCALARS, min_size=1, max_size=25))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_value_is_read_or_rejected(case: dict[str, Any], values: list[object]) -> None:
    given_ = spec(**case)
    convert = converters()[case["as"]].make(given_, BERLIN if case["as"] == "datetime" else None)
    clean, refused = cleaner(given_), 0
    for value in values:
        try:
            text = value if clean is None else clean(value)
            convert(text)
        except Rejected:
            refused += 1
    assert refused <= len(values)


@settings(max_examples=60)
@given(st.lists(st.tuples(SCALARS, SCALARS), min_size=1, max_size=10))
def test_any_row_of_a_table_is_a_document_or_a_letter(rows: list[tuple[object, object]]) -> None:
    fields = {
        "sku": {"value": "A"},
        "gtin": {"from": "A", "as": "gtin"},
        "weight": {
            "from": "B",
            "negative": "parentheses",
            "uom": {"from": "A", "codes": "uom", "otherwise": "keep"},
            "convert": {"to": "KGM"},
        },
    }
    sendable = [[v if isinstance(v, None | bool | int | float | str | bytes) else str(v) for v in row] for row in rows]
    made = engine({"kind": "rows"}, {"mapping": "m", "document": "Product", "fields": fields})
    (out,) = made.run(table_batches(["A", "B"], sendable), Known())
    assert out.records() == len(rows)
