"""Halving finds exactly the records at fault, and says when there are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock_controller.culprits import MOST_CULPRITS, MOST_TRIALS, NotFound, culprits


@given(st.integers(2, 5_000), st.data())
def test_the_records_at_fault_are_found_and_no_others(count: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=min(2, count - 1)))
    asked = 0

    def trial(kept: frozenset[int]) -> str:
        nonlocal asked
        asked += 1
        return f"boom {sorted(kept & bad)}" if kept & bad else ""

    found = culprits(range(count), trial, "boom")
    assert set(found) == bad
    assert asked <= MOST_TRIALS + 1


def test_one_record_alone_can_be_the_culprit() -> None:
    assert culprits([7], lambda kept: "boom" if kept else "", "boom") == {7: "boom"}


def test_what_fails_without_any_record_is_no_records_fault() -> None:
    with pytest.raises(NotFound) as met:
        culprits(range(10), lambda _kept: "no format", "no format")
    assert met.value.without_records


def test_a_batch_whose_every_record_fails_is_not_taken_apart() -> None:
    with pytest.raises(NotFound):
        culprits(range(4), lambda kept: "boom" if kept else "", "boom")


def test_many_culprits_are_given_up_after_a_few_trials() -> None:
    asked = 0

    def trial(kept: frozenset[int]) -> str:
        nonlocal asked
        asked += 1
        return "boom" if any(p % 2 for p in kept) else ""

    with pytest.raises(NotFound):
        culprits(range(5_000), trial, "boom")
    assert asked <= MOST_TRIALS + MOST_CULPRITS


def test_records_that_fail_only_together_are_given_up() -> None:
    with pytest.raises(NotFound):
        culprits(range(8), lambda kept: "too much" if len(kept) > 5 else "", "too much")
