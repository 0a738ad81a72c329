"""The bucket that all lanes share, with a clock of the test's own: what may pass in any time, and who goes first."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock_agent.limits.bucket import BORROW_SECONDS, BURST_SECONDS, Meter, SharedBucket

RATE = 1000.0
SIZES = st.floats(1.0, 5000.0)
STEPS = st.lists(st.tuples(st.sampled_from(["critical", "standard", "bulk"]), SIZES, st.floats(0.0, 5.0)), max_size=60)


def passed(bucket: SharedBucket, steps: list[tuple[str, float, float]]) -> list[tuple[float, float, str]]:
    """(when, how much, lane) of takings one after the other, each as soon as it may after the pause before it."""
    now, taken = 0.0, []
    for lane, size, pause in steps:
        now += pause
        while wait := bucket.wait(lane, now):
            now += wait
        bucket.take(size, now, lane)
        taken.append((now, size, lane))
    return taken


def most_over(taken: list[tuple[float, float, str]], rate: float) -> float:
    """By how much the takings of any interval exceed what came in in it."""
    over = 0.0
    for i, j in itertools.combinations_with_replacement(range(len(taken)), 2):
        over = max(over, sum(size for _, size, _ in taken[i : j + 1]) - rate * (taken[j][0] - taken[i][0]))
    return over


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_in_any_interval_no_more_passes_than_the_rate_two_bursts_what_critical_borrows_and_two_batches(
    steps: list[tuple[str, float, float]],
) -> None:
    taken = passed(SharedBucket(RATE, 0.0), steps)
    assert most_over(taken, RATE) <= RATE * (2 * BURST_SECONDS + BORROW_SECONDS) + 2 * 5000.0 + 1e-3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["standard", "bulk"]), SIZES, st.floats(0.0, 5.0)), max_size=60))
def test_without_critical_data_nothing_is_borrowed(steps: list[tuple[str, float, float]]) -> None:
    assert most_over(passed(SharedBucket(RATE, 0.0), steps), RATE) <= RATE * BURST_SECONDS + 5000.0 + 1e-3


@settings(max_examples=60, deadline=None)
@given(STEPS, st.lists(st.floats(1.0, 1e5), min_size=1, max_size=10))
def test_whatever_rates_came_before_the_last_one_holds_from_its_beginning(
    steps: list[tuple[str, float, float]], rates: list[float]
) -> None:
    bucket = SharedBucket(None, 0.0)
    for i, rate in enumerate([*rates, RATE]):
        bucket.set_rate(rate, i * 0.25)
    taken = [(when, size, lane) for when, size, lane in passed(bucket, steps) if when >= len(rates) * 0.25]
    assert most_over(taken, RATE) <= RATE * (2 * BURST_SECONDS + BORROW_SECONDS) + 2 * 5000.0 + 1e-3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SIZES, st.floats(-7200.0, 5.0)), max_size=40))
def test_a_clock_that_goes_back_gives_nothing_and_stops_nothing(steps: list[tuple[float, float]]) -> None:
    """Monotonic clocks do not go back; if one did (a bug of a hypervisor), the flow goes on at the rate from there."""
    bucket, now, came, took = SharedBucket(RATE, 0.0), 0.0, 0.0, 0.0
    for size, step in steps:
        now += step
        came += max(0.0, step)
        wait = bucket.wait("bulk", now)
        assert wait <= 5000.0 / RATE + 1e-6  # never longer than the debt of one batch
        now += wait
        came += wait
        bucket.take(size, now)
        took += size
    assert took <= RATE * (came + BURST_SECONDS) + 5000.0 + 1e-3


def test_the_whole_rate_is_used_when_there_is_enough_to_send() -> None:
    taken = passed(SharedBucket(RATE, 0.0), [("bulk", 100.0, 0.0)] * 1000)
    assert taken[-1][0] == pytest.approx(1000 * 100.0 / RATE, abs=1.0)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_critical_data_waits_exactly_as_if_it_were_alone(steps: list[tuple[str, float, float]]) -> None:
    """Whatever others take in between, and were it a batch of minutes."""
    shared, alone, now = SharedBucket(RATE, 0.0), SharedBucket(RATE, 0.0), 0.0
    for lane, size, pause in steps:
        now += pause
        if lane == "critical":
            wait = alone.wait("critical", now)
            assert shared.wait("critical", now) == pytest.approx(wait)
            now += wait
            alone.take(size, now, "critical")
            shared.take(size, now, "critical")
        else:
            shared.take(size * 1000, now, lane)


def test_the_others_pay_for_what_critical_data_took() -> None:
    bucket = SharedBucket(RATE, 0.0)
    bucket.take(5000.0, 0.0, "bulk")  # a batch of five seconds
    assert bucket.wait("bulk", 0.0) == pytest.approx(5.0 - BURST_SECONDS)
    assert bucket.wait("critical", 0.0) == 0
    bucket.take(2000.0, 0.0, "critical")
    assert bucket.wait("bulk", 0.0) == pytest.approx(7.0 - BURST_SECONDS)


def test_what_critical_data_borrows_has_an_end() -> None:
    taken = passed(SharedBucket(RATE, 0.0), [("critical", 100.0, 0.0)] * 1000)
    at_once = sum(size for when, size, _ in taken if when == 0.0)
    assert at_once <= RATE * (BURST_SECONDS + BORROW_SECONDS) + 100.0
    assert taken[-1][0] == pytest.approx(100.0 - BURST_SECONDS - BORROW_SECONDS, abs=0.2)


def test_a_debt_outlives_a_change_of_the_rate_and_a_saved_burst_does_not() -> None:
    bucket = SharedBucket(RATE, 0.0)
    bucket.take(2500.0, 0.0)
    bucket.set_rate(100.0, 0.0)
    assert bucket.wait("bulk", 0.0) == pytest.approx(25.0 - 10 * BURST_SECONDS)
    bucket = SharedBucket(RATE, 0.0)
    bucket.set_rate(100.0, 0.0)
    assert bucket.room("bulk", 0.0) == pytest.approx(100.0 * BURST_SECONDS)


def test_unlimited_counts_nothing_and_a_limit_after_it_begins_without_a_burst() -> None:
    bucket = SharedBucket(None, 0.0)
    bucket.take(1e12, 0.0)
    assert bucket.wait("bulk", 0.0) == 0
    bucket.set_rate(RATE, 100.0)
    assert bucket.room("bulk", 100.0) == 0
    assert bucket.wait("bulk", 100.0) == 0


def test_a_meter_says_how_fast_it_went_lately_and_not_since_the_beginning() -> None:
    meter = Meter(10.0)
    for second in range(100):
        meter.note(1000.0 * min(second, 50), float(second))
        if second == 50:
            assert meter.rate(50_000.0, 50.0) == pytest.approx(1000.0)
    assert meter.rate(50_000.0, 99.0) == 0
    assert Meter().rate(5.0, 1.0) == 0
