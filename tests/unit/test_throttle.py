"""Waits grow for who fails, stay away from who does not, and take no memory to speak of."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock_controller.throttle import (
    ADDRESSES,
    BURST,
    FORGET_SECONDS,
    FREE_FAILURES,
    LONGEST_WAIT_SECONDS,
    PACE_PER_SECOND,
    Throttle,
    address_of,
)


def guesses(throttle: Throttle, address: str, seconds: float, start: float = 0.0) -> int:
    """How many wrong guesses *address* gets through that tries ten times a second."""
    got = 0
    for tenth in range(int(seconds * 10)):
        now = start + tenth / 10
        if throttle.wait(address, now) == 0:
            throttle.failed(address, now)
            got += 1
    return got


def test_a_guesser_has_a_few_guesses_and_then_ever_fewer() -> None:
    throttle = Throttle()
    assert guesses(throttle, "10.0.0.1", 60) <= FREE_FAILURES + 6
    assert guesses(throttle, "10.0.0.1", 3600, 60) <= 16
    assert throttle.wait("10.0.0.1", 3660) <= LONGEST_WAIT_SECONDS


def test_who_has_not_failed_does_not_wait_for_a_flood_of_others() -> None:
    throttle = Throttle()
    for n in range(20_000):
        if throttle.wait(f"10.0.{n % 40}.1", n / 1000) == 0:
            throttle.failed(f"10.0.{n % 40}.1", n / 1000)
    assert throttle.wait("192.0.2.7", 20.0) == 0


def test_new_addresses_together_go_at_a_pace_and_the_wait_is_told() -> None:
    throttle = Throttle()
    through = sum(throttle.wait(f"10.{n >> 8}.{n & 255}.1", 1.0) == 0 for n in range(5_000))
    assert through == BURST
    assert 0 < throttle.wait("192.0.2.7", 1.0) <= 1 / PACE_PER_SECOND


def test_good_attempts_cost_nothing_however_many_come_from_one_address() -> None:
    throttle = Throttle()
    for n in range(10_000):
        assert throttle.wait("10.0.0.1", n / 1000) == 0
        throttle.passed("10.0.0.1", n / 1000)


def test_one_good_token_buys_no_endless_guesses() -> None:
    throttle, got = Throttle(), 0
    for second in range(600):
        if throttle.wait("10.0.0.1", second) == 0:
            for _ in range(5):
                throttle.failed("10.0.0.1", second)
            throttle.passed("10.0.0.1", second)
            got += 5
    assert got <= 60


def test_without_a_pace_only_who_failed_waits() -> None:
    throttle = Throttle(paced=False)
    assert all(throttle.wait(f"t{n}", 1.0) == 0 for n in range(5_000))
    for _ in range(FREE_FAILURES + 3):
        throttle.failed("t1", 1.0)
    assert throttle.wait("t1", 1.0) > 0
    assert throttle.wait("t2", 1.0) == 0


def test_a_failure_is_forgiven_after_an_hour() -> None:
    throttle = Throttle()
    for _ in range(20):
        throttle.failed("10.0.0.1", 0.0)
    assert throttle.wait("10.0.0.1", 1.0) > 0
    assert throttle.wait("10.0.0.1", FORGET_SECONDS + 1) == 0
    assert len(throttle) == 0


@settings(max_examples=20)
@given(st.integers(ADDRESSES, 3 * ADDRESSES))
def test_memory_is_bounded(addresses: int) -> None:
    throttle = Throttle()
    for n in range(addresses):
        throttle.failed(f"a{n}", n / 100)
    assert len(throttle) == ADDRESSES


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.5:41000", "10.0.0.5"),
        ("ipv6:%5B::1%5D:41000", "::1"),
        ("ipv6:[::ffff:10.0.0.5]:41000", "10.0.0.5"),
        ("ipv6:%5B2001:db8:1:2:aaaa::1%5D:41000", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%25eth0]:41000", "fe80::/64"),
        ("unix:/tmp/x", "unix:/tmp/x"),
        ("ipv4:nonsense:1", "nonsense"),
        ("", ""),
    ],
)
def test_an_address_is_whom_to_hold_responsible(peer: str, address: str) -> None:
    assert address_of(peer) == address
