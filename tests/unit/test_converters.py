"""Converters: what they read, what they refuse, and that they raise nothing but Rejected."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crossdock.errors import ConfigError, Rejected
from crossdock_controller.mappings.converters import Convert, Warned, converter, converters
from crossdock_controller.mappings.dates import Localizer
from crossdock_controller.mappings.model import FieldSpec

BERLIN = ZoneInfo("Europe/Berlin")


def make(name: str, place: ZoneInfo | None = None, /, **options: Any) -> Convert:
    return converters()[name].make(FieldSpec.model_validate({"from": "COLUMN", **options}), place)


def code_of(convert: Convert, value: object) -> str:
    with pytest.raises(Rejected) as caught:
        convert(value)
    return caught.value.code


@pytest.mark.parametrize(
    ("text", "options", "number"),
    [
        ("12,50", {"decimal": ","}, "12.50"),
        ("1.234.567,8", {"decimal": ",", "thousands": "."}, "1234567.8"),
        ("1234567,8", {"decimal": ",", "thousands": "."}, "1234567.8"),
        ("1,234.5", {"thousands": ","}, "1234.5"),
        ("1 234,5", {"decimal": ",", "thousands": " "}, "1234.5"),
        ("123-", {}, "-123"),
        ("1.234,50-", {"decimal": ",", "thousands": "."}, "-1234.50"),
        ("+7", {}, "7"),
        ("-0,00", {"decimal": ","}, "0.00"),
        ("0.000000000", {}, "0.000000"),
        ("0", {}, "0"),
        (".5", {}, "0.5"),
        ("5.", {}, "5"),
        ("007.10", {}, "7.10"),
        ("1E+3", {}, "1000"),
        ("12345", {"implied": 2}, "123.45"),
        ("00000012345-", {"implied": 3}, "-12.345"),
        ("0.125", {"digits": 2}, "0.12"),
        ("99999999999999999999999999999999999999", {}, "99999999999999999999999999999999999999"),
    ],
)
def test_a_decimal_is_read_exactly(text: str, options: dict[str, Any], number: str) -> None:
    assert str(make("decimal", **options)(text)) == number


@settings(max_examples=300)
@given(
    st.decimals(-(10**15), 10**15, places=3),
    st.sampled_from([(".", None), (",", None), (",", "."), (".", ","), (",", " "), (".", "'")]),
    st.booleans(),
    st.booleans(),
)
def test_a_number_is_read_as_it_was_written(
    number: Decimal, separators: tuple[str, str | None], grouped: bool, minus_behind: bool
) -> None:
    point, thousands = separators
    text = f"{abs(number):{',' if grouped and thousands else ''}.3f}"
    text = text.replace(",", "T").replace(".", point).replace("T", thousands or "")
    if number < 0:
        text = f"{text}-" if minus_behind else f"-{text}"
    assert make("decimal", decimal=point, thousands=thousands)(text) == number


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("abc", {}),
        ("12,50", {}),
        ("1.234", {"decimal": ","}),  # 1234 or 1.234: not guessed
        ("1.23", {"decimal": ",", "thousands": "."}),  # a group of two
        ("1.2345", {"decimal": ",", "thousands": "."}),
        ("-5-", {}),
        ("--5", {}),
        ("", {}),
        ("-", {}),
        (".", {}),
        ("1 2", {}),
        ("NaN", {}),
        ("Infinity", {}),
        ("0x10", {}),
        ("١٢", {}),  # digits, but not of ours
        ("1e999", {}),
        ("9" * 39, {}),
        ("0." + "1" * 39, {}),
        ("12.5", {"implied": 2}),
    ],
)
def test_what_is_not_surely_a_number_is_refused(text: str, options: dict[str, Any]) -> None:
    assert code_of(make("decimal", **options), text) == "bad_decimal"


def test_a_refusal_names_the_value_and_the_separators_it_was_read_by() -> None:
    with pytest.raises(Rejected, match=r"'1\.5' is not a number with decimal ',' and thousands None"):
        make("decimal", decimal=",")("1.5")


def test_numbers_of_tables_and_json_are_taken_as_they_are() -> None:
    convert = make("decimal")
    assert convert(5) == Decimal(5)
    assert convert(Decimal("1.10")) == Decimal("1.10")
    assert str(convert(0.1)) == "0.1"
    assert str(make("decimal", digits=2)(0.1 + 0.2)) == "0.30"
    assert code_of(convert, float("nan")) == "bad_decimal"
    assert code_of(convert, True) == "bad_decimal"
    assert code_of(convert, b"5") == "bad_text"


def test_separators_that_cannot_be_told_apart_are_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="cannot be told apart"):
        make("decimal", decimal=",", thousands=",")


@pytest.mark.parametrize(("value", "number"), [("42", 42), ("-7", -7), ("7-", -7), (5, 5), (5.0, 5), (Decimal(2), 2)])
def test_an_integer_is_read(value: object, number: int) -> None:
    assert make("integer")(value) == number


@pytest.mark.parametrize("value", ["1.0", "1,000", "a", "9" * 30, 2**63, 1.5, True, Decimal("1E+400"), "9" * 5000])
def test_what_is_not_a_whole_number_of_64_bits_is_refused(value: object) -> None:
    assert code_of(make("integer"), value) == "bad_integer"


@pytest.mark.parametrize(
    ("value", "answer"), [("J", True), ("n", False), ("X", True), (1, True), (False, False), ("0", False)]
)
def test_a_boolean_is_read_in_the_words_of_old_systems(value: object, answer: bool) -> None:
    assert make("boolean")(value) is answer


def test_own_words_for_true_and_false_replace_ours() -> None:
    convert = make("boolean", truthy=["AKTIV"], falsy=["GESPERRT"])
    assert convert("aktiv") is True
    assert convert("Gesperrt") is False
    assert code_of(convert, "1") == "bad_boolean"


@pytest.mark.parametrize(
    ("text", "options", "day"),
    [
        ("30.01.2026", {"format": "%d.%m.%Y"}, date(2026, 1, 30)),
        ("1.2.2026", {"format": "%d.%m.%Y"}, date(2026, 2, 1)),
        ("20260130", {"format": "%Y%m%d"}, date(2026, 1, 30)),
        ("300126", {"format": ["%Y%m%d", "%d%m%y"]}, date(2026, 1, 30)),
        ("310169", {"format": "%d%m%y"}, date(1969, 1, 31)),
        ("30-Jan-2026", {"format": "%d-%b-%Y"}, date(2026, 1, 30)),
        ("2026-01-30", {}, date(2026, 1, 30)),
        ("2026-01-30 00:00:00", {}, date(2026, 1, 30)),
    ],
)
def test_a_date_is_read_by_its_format_or_as_iso(text: str, options: dict[str, Any], day: date) -> None:
    assert make("date", **options)(text) == day


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("31.02.2026", {"format": "%d.%m.%Y"}),
        ("30.01.26", {"format": "%d.%m.%Y"}),
        ("112026", {"format": "%d%m%Y"}),  # 1.1. or 11.?
        ("30.01.2026 ", {"format": "%d.%m.%Y"}),
        ("2026-01-30 10:00", {}),
        ("today", {}),
    ],
)
def test_a_text_that_is_no_date_is_refused(text: str, options: dict[str, Any]) -> None:
    assert code_of(make("date", **options), text) == "bad_date"


@pytest.mark.parametrize(
    "text", ["1900-01-01", "9999-12-31", "0001-01-01", "1753-01-01", "00000000", "0000-00-00", "0"]
)
def test_a_sentinel_is_no_date_and_says_so(text: str) -> None:
    found = make("date")(text)
    assert isinstance(found, Warned)
    assert found.value is None
    assert "read as no date" in found.text


@pytest.mark.parametrize(
    ("value", "form", "day"),
    [
        ("1140101", "cyymmdd", date(2014, 1, 1)),
        ("0991231", "cyymmdd", date(1999, 12, 31)),
        (991231, "cyymmdd", date(1999, 12, 31)),
        (Decimal("1140101.00"), "cyymmdd", date(2014, 1, 1)),
        ("114001", "jde", date(2014, 1, 1)),
        (99365, "jde", date(1999, 12, 31)),
        ("116366", "jde", date(2016, 12, 31)),
        ("114366", "jde", date(2015, 1, 1)),
        ("114731", "jde", date(2016, 1, 1)),
    ],
)
def test_dates_of_as400_and_jd_edwards_are_read_each_by_its_own_name(value: object, form: str, day: date) -> None:
    assert make("date", format=form)(value) == day
    moment = make("datetime", BERLIN, format=form, zone="site")(value)
    assert isinstance(moment, datetime)
    assert moment.astimezone(BERLIN).date() == day


@pytest.mark.parametrize(
    ("value", "form"),
    [("114001", "cyymmdd"), ("1140101", "jde"), ("114000", "jde"), ("114732", "jde"), ("1141301", "cyymmdd"),
     ("11401x", "jde"), ("-14001", "jde"), ("11400110", "cyymmdd"), (114001.5, "jde"), ("2014-01-01", "cyymmdd")],
)  # fmt: skip
def test_one_of_them_is_not_read_as_the_other_or_as_anything_else(value: object, form: str) -> None:
    assert code_of(make("date", format=form), value) == "bad_date"


@pytest.mark.parametrize(
    ("value", "form"),
    [(0, "jde"), ("0", "jde"), ("000000", "jde"), (0, "cyymmdd"), ("0000000", "cyymmdd"), ("9999999", "cyymmdd"),
     ("000101", "cyymmdd"), ("00000000", "%Y%m%d"), ("99999999", "%Y%m%d"), ("99991231", "%Y%m%d"), ("0", None),
     ("0001-01-01", None), ("1753-01-01 00:00:00.000", None), ("1900-01-01", None), ("9999-12-31", None)],
)  # fmt: skip
def test_zeros_nines_and_the_first_days_of_calendars_are_no_date_and_say_so(value: object, form: str | None) -> None:
    found = make("date", **({"format": form} if form else {}))(value)
    assert isinstance(found, Warned)
    assert found.value is None
    assert "no date" in found.text


def test_a_local_time_becomes_utc() -> None:
    convert = make("datetime", BERLIN, format="%d.%m.%Y %H:%M", zone="site")
    assert convert("30.01.2026 09:15") == datetime(2026, 1, 30, 8, 15, tzinfo=UTC)
    assert convert("30.07.2026 09:15") == datetime(2026, 7, 30, 7, 15, tzinfo=UTC)


def test_a_time_that_happens_twice_is_the_first_and_warns() -> None:
    convert = make("datetime", BERLIN, format="%d.%m.%Y %H:%M", zone="site")
    found = convert("25.10.2026 02:30")
    assert isinstance(found, Warned)
    assert found.value == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert "happens twice in Europe/Berlin" in found.text
    assert convert("25.10.2026 03:00") == datetime(2026, 10, 25, 2, 0, tzinfo=UTC)
    assert convert("25.10.2026 01:59") == datetime(2026, 10, 24, 23, 59, tzinfo=UTC)


def test_a_time_that_the_clocks_skip_warns() -> None:
    found = make("datetime", BERLIN, format="%d.%m.%Y %H:%M", zone="site")("29.03.2026 02:30")
    assert isinstance(found, Warned)
    assert found.value == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert "does not exist in Europe/Berlin" in found.text


def test_a_time_with_its_own_offset_needs_no_zone() -> None:
    assert make("datetime")("2026-01-30T09:15:00+01:00") == datetime(2026, 1, 30, 8, 15, tzinfo=UTC)
    assert code_of(make("datetime"), "2026-01-30T09:15:00") == "no_zone"
    with_offset = make("datetime", format="%Y-%m-%d %H:%M %z")
    assert with_offset("2026-01-30 09:15 +0100") == datetime(2026, 1, 30, 8, 15, tzinfo=UTC)


def test_a_local_format_without_a_zone_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="a local time needs a zone"):
        make("datetime", format="%d.%m.%Y %H:%M")


def test_a_format_that_cannot_be_read_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        make("date", format="%Q")


@settings(max_examples=300)
@example(datetime(2000, 10, 29, 1, 0, fold=1), "America/New_York")  # noqa: DTZ001 - local times are what is asked
@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2036, 1, 1)),  # noqa: DTZ001 - local times are what is asked
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"]),
)
def test_the_remembered_offset_of_a_day_is_the_one_of_the_zone(local: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    found = Localizer(zone)(local)
    instant = found.value if isinstance(found, Warned) else found
    assert instant == local.replace(tzinfo=zone, fold=0).astimezone(UTC)  # of an hour that happens twice, the first


@settings(max_examples=200)
@given(
    st.dates(date(1970, 1, 1), date(2068, 12, 31)),
    st.sampled_from(["%d.%m.%Y", "%Y%m%d", "%m/%d/%y", "%y%m%d", "%d-%b-%Y"]),
)
def test_what_strftime_writes_is_read_back(day: date, text: str) -> None:
    assert make("date", format=text)(day.strftime(text)) == day


_VALUES = st.one_of(
    st.text(max_size=30),
    st.text("0123456789.,-+eE /:T", max_size=40),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.booleans(),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
)
_MAKES = [
    ("text", {}),
    ("integer", {"thousands": "."}),
    ("decimal", {}),
    ("decimal", {"decimal": ",", "thousands": ".", "implied": 3}),
    ("decimal", {"decimal": ",", "digits": 2}),
    ("boolean", {}),
    ("date", {}),
    ("date", {"format": ["%Y%m%d", "%d.%m.%y"]}),
    ("date", {"format": "%d %B %Y"}),
    ("datetime", {}),
    ("datetime", {"zone": "site"}),
    ("datetime", {"zone": "site", "format": "%Y%m%d%H%M%S"}),
    ("datetime", {"zone": "site", "format": "%y %j %H"}),
]


def _outcome(convert: Convert, value: object) -> object:
    try:
        return convert(value)
    except Rejected as error:
        return error


@pytest.mark.parametrize(("name", "options"), _MAKES, ids=str)
@settings(max_examples=300)
@given(value=_VALUES)
def test_a_converter_raises_nothing_but_rejected(name: str, options: dict[str, Any], value: object) -> None:
    kind = converters()[name]
    convert = make(name, BERLIN if options.get("zone") else None, **options)
    found = _outcome(convert, value)
    if isinstance(found, Rejected):
        assert found.code
        assert len(found.message) < 400
        return
    made = found.value if isinstance(found, Warned) else found
    assert made is None or isinstance(made, kind.returns)
    if isinstance(made, Decimal):
        assert "E" not in str(made) or 0 < abs(made) < Decimal("1e-6")
        assert len(made.as_tuple().digits) <= 38


def test_a_converter_of_ones_own_is_one_function() -> None:
    @converter("last_four", returns=str, options=("options",))
    def last_four(spec: FieldSpec, zone: ZoneInfo | None) -> Convert:
        del zone
        return lambda value: str(value)[-int(spec.options.get("count", 4)) :]

    assert make("last_four", options={"count": 2})("123456") == "56"
