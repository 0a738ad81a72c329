"""Time as tables write it: recognised, moved back, written the same way and never later."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock_agent.sql.times import DAY_US, parse, render

NOON = datetime(2024, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
NOON_US = 1_717_243_200_123_456


@pytest.mark.parametrize(
    ("value", "us"),
    [
        ("2024-06-01 12:00:00.123456", NOON_US),
        ("2024-06-01T12:00:00.123456Z", NOON_US),
        ("2024-06-01 12:00:00.123456+00", NOON_US),
        ("2024-06-01 14:00:00.123456+02:00", NOON_US),
        ("2024-06-01 12:00:00,123", NOON_US - 456),
        ("2024-06-01 12:00:00", NOON_US - 123_456),
        ("2024-06-01 12:00", NOON_US - 123_456),
        ("2024-06-01", NOON_US - 123_456 - DAY_US // 2),
        ("20240601", NOON_US - 123_456 - DAY_US // 2),
        (20240601, NOON_US - 123_456 - DAY_US // 2),
        (20240601120000, NOON_US - 123_456),
        (1717243200, NOON_US - 123_456),
        (1717243200123, NOON_US - 456),
        (1717243200123456, NOON_US),
        (1717243200.0, NOON_US - 123_456),
        (2460463.0, NOON_US - 123_456),
        (
            "0001-01-01",
            int((datetime(1, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)),
        ),
    ],
)
def test_a_time_is_recognised_however_the_table_writes_it(value: object, us: int) -> None:
    moment = parse(value)
    assert moment is not None
    assert moment.us == us
    assert render(us, moment.style) == value


@pytest.mark.parametrize(
    "value", [None, "", "31.01.2024", "infinity", "0044-03-15 BC", "n/a", b"2024", True, "2024-13-01", 10**30]
)
def test_what_is_no_time_is_not_taken_for_one(value: object) -> None:
    assert parse(value) is None


@given(
    st.datetimes(datetime(1902, 1, 1), datetime(2199, 1, 1)),  # noqa: DTZ001 - a table's wall clock
    st.integers(0, 10**13),
    st.sampled_from(
        [
            "2024-06-01",
            "2024-06-01 12:00",
            "2024-06-01 12:00:00",
            "2024-06-01T12:00:00.123Z",
            "2024-06-01 12:00:00.123456",
            "2024-06-01 14:00:00+02",
            20240601,
            20240601120000,
            "20240601120000",
            1717243200123,
            1717243200123456,
        ]
    ),
)
def test_a_rendered_time_is_never_later_and_at_most_one_unit_earlier(at: datetime, back: int, like: object) -> None:
    moment = parse(like)
    assert moment is not None
    us = int((at.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) - back
    if moment.style.kind == "epoch":
        us = abs(us) + 2 * 10**14  # the unit of an epoch is told by its size: right from 1974 on
    rendered = parse(render(us, moment.style))
    assert rendered is not None
    assert 0 <= us - rendered.us < moment.style.unit_us


def test_years_no_calendar_here_knows_have_no_rendering() -> None:
    moment = parse("2024-06-01")
    assert moment is not None
    assert render(-(10**18), moment.style) is None
