"""A rate is kept in the long run, and a second's worth may go at once."""

import hypothesis.strategies as st
from hypothesis import given

from crossdock_controller.meter import Meter


@given(
    rate=st.floats(0.1, 5000),
    waits=st.lists(st.integers(0, 3_000_000), min_size=1, max_size=60),
    most=st.integers(1, 500),
)
def test_no_more_goes_than_the_rate_allows_and_no_less_when_it_is_asked_often(
    rate: float, waits: list[int], most: int
) -> None:
    meter, now, gone = Meter(rate), 1_000_000_000, 0
    for wait in waits:
        now += wait
        allowed = meter.allows(most, now)
        assert 0 <= allowed <= most
        meter.take(allowed)
        gone += allowed
        assert gone <= max(1.0, rate) + sum(waits) * rate / 1_000_000 + 1e-3


def test_a_burst_of_a_second_then_the_rate() -> None:
    meter = Meter(50.0)
    assert meter.allows(500, 0) == 50
    meter.take(50)
    assert meter.allows(500, 0) == 0
    assert 0.09 < meter.seconds() < 0.11
    assert meter.allows(500, 100_000) == 5
    assert meter.allows(500, 60_000_000) == 50


def test_no_rate_is_no_limit_and_a_clock_set_back_takes_nothing() -> None:
    assert Meter(0.0).allows(500, 0) == 500
    assert Meter(0.0).seconds() == 0.0
    meter = Meter(10.0)
    meter.take(10)
    assert meter.allows(10, 1_000_000) == 0
    assert meter.allows(10, 500_000) == 0
    assert meter.allows(10, 1_500_000) == 10
