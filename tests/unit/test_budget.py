"""Token buckets with a clock of the test's own."""

from __future__ import annotations

import random

import pytest

from crossdock import siteconfig
from crossdock.codec import TARGET_RAW_BYTES
from crossdock_agent.budget import CPU_BURST_SECONDS, Bucket, Throttle


def spend(bucket: Bucket, sizes: list[float], now: float = 0.0) -> list[tuple[float, float]]:
    """(when, how much) for takings that follow each other as soon as they may."""
    taken = []
    for size in sizes:
        now += bucket.wait(size, now)
        bucket.take(size, now)
        taken.append((now, size))
    return taken


@pytest.mark.parametrize("seed", range(20))
def test_over_any_window_no_more_is_taken_than_came_in_and_one_batch(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.choice([1.0, 50.0, 100.0, 260.0]) * rng.random() for _ in range(60)]
    taken = spend(Bucket(rate=40.0, capacity=100.0, now=0.0), sizes)
    for i, (begin, _) in enumerate(taken):
        for j in range(i, len(taken)):
            within = sum(size for _, size in taken[i : j + 1])
            assert within <= 40.0 * (taken[j][0] - begin) + max(100.0, *sizes) + 1e-6


def test_what_is_left_of_the_budget_is_not_saved_up_for_a_burst() -> None:
    bucket = Bucket(rate=10.0, capacity=5.0, now=0.0)
    assert bucket.wait(5.0, 1e6) == 0
    bucket.take(5.0, 1e6)
    assert bucket.wait(5.0, 1e6) == pytest.approx(0.5)


def test_the_whole_rate_is_used_when_there_is_enough_to_read() -> None:
    taken = spend(Bucket(rate=40.0, capacity=100.0, now=0.0), [100.0] * 41)
    assert taken[-1][0] == pytest.approx(100.0)


def test_more_than_the_bucket_holds_is_taken_in_one_and_paid_for_afterwards() -> None:
    bucket = Bucket(rate=10.0, capacity=5.0, now=0.0)
    assert bucket.wait(50.0, 0.0) == 0
    bucket.take(50.0, 0.0)
    assert bucket.wait(5.0, 0.0) == pytest.approx(5.0)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = Bucket(rate=10.0, capacity=5.0, now=100.0)
    bucket.take(5.0, 100.0)
    assert bucket.wait(5.0, 90.0) == pytest.approx(0.5)


def test_cpu_time_stays_within_its_share_of_the_wall_whatever_the_work_took() -> None:
    throttle = Throttle(siteconfig.Budget(cpu_percent=25), 0.0)
    now = cpu = 0.0
    throttle.worked(cpu, now)
    for _ in range(200):
        now, cpu = now + 0.13, cpu + 0.1  # of each 0.13 s at work, 0.03 s were spent waiting for the disk
        now += throttle.worked(cpu, now)
        assert cpu <= 0.25 * now + CPU_BURST_SECONDS + 1e-6
    assert cpu >= 0.25 * now - 0.1  # and it is not slowed more than asked


def test_a_restarted_thread_begins_to_count_its_cpu_time_anew() -> None:
    throttle = Throttle(siteconfig.Budget(cpu_percent=10), 0.0)
    throttle.worked(50.0, 0.0)
    assert throttle.worked(0.01, 1.0) == 0


def test_rows_are_counted_for_each_pass() -> None:
    throttle = Throttle(siteconfig.Budget(max_rows_per_poll=10), 0.0)
    for _ in range(2):
        throttle.begin_pass()
        throttle.took(100, 9, 0.0)
        assert not throttle.is_enough
        throttle.took(100, 1, 0.0)
        assert throttle.is_enough


def test_without_a_budget_nothing_waits() -> None:
    throttle = Throttle(None, 0.0)
    throttle.took(10**9, 10**9, 0.0)
    assert throttle.before(10**9, 0.0) == 0
    assert throttle.worked(10.0**6, 0.0) == 0
    assert not throttle.is_enough


def test_a_small_first_batch_is_taken_at_once() -> None:
    throttle = Throttle(siteconfig.Budget(max_mb_per_second=0.1), 0.0)
    assert throttle.before(TARGET_RAW_BYTES, 0.0) == 0
