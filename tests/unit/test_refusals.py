"""Who guesses is slowed down, each address for itself, in a memory that does not grow."""

from __future__ import annotations

import pytest

from crossdock_controller.api import refusals
from crossdock_controller.api.refusals import Buckets


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_after_some_failures_one_comes_back_each_few_seconds_and_never_more_than_there_were() -> None:
    clock = Clock()
    buckets = Buckets(3, 6.0, clock)
    assert [buckets.take("10.0.0.1") for _ in range(5)] == [True, True, True, False, False]
    assert not buckets.left("10.0.0.1")
    assert buckets.missed("10.0.0.1") == 2
    assert buckets.missed("10.0.0.1") == 0
    clock.now += 6.1
    assert [buckets.take("10.0.0.1") for _ in range(2)] == [True, False]
    clock.now += 1_000_000
    assert [buckets.take("10.0.0.1") for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("unknown", "unknown", True),
    ],
)
def test_addresses_that_one_caller_has_by_the_million_are_one(one: str, other: str, same: bool) -> None:
    buckets = Buckets(1, 60.0, Clock())
    assert buckets.take(one)
    assert buckets.take(other) is not same


def test_a_flood_of_addresses_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "ADDRESSES", 100)
    buckets = Buckets(1, 60.0, Clock())
    for i in range(1000):
        buckets.take(f"10.0.{i // 256}.{i % 256}")
    assert len(buckets._known) == 100
