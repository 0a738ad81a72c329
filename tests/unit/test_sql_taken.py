"""What is in flight: exact for whole numbers, small, and the same after it was stored."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import ConfigError
from crossdock_agent.sql.taken import Taken, decode, encode, numbers
from support.memory import allocated_at_most

KEYS = st.one_of(
    st.lists(st.integers(-(2**63), 2**64 - 1).map(lambda n: (n,)), min_size=1),
    st.lists(st.tuples(st.text(), st.one_of(st.none(), st.integers(-5, 5), st.binary())), min_size=1),
)


@given(KEYS, st.booleans())
def test_a_token_names_the_same_rows_after_it_was_stored(keys: list[tuple[object, ...]], hashed: bool) -> None:
    hashes = [index * 2**57 for index in range(len(keys))] if hashed else []
    due = decode(encode("t", ["a", "b"], keys, hashes))
    assert [tuple(key) for key in due.all_keys()] == keys
    assert list(due.all_hashes()) == hashes
    assert numbers(due.all_keys()) == numbers(keys)


@given(st.lists(st.tuples(st.sets(st.integers(0, 60), min_size=1), st.booleans())))
def test_what_is_taken_and_not_dropped_is_known_and_nothing_else(batches: list[tuple[set[int], bool]]) -> None:
    taken, expected = Taken(), set()
    for index, (some, dropped) in enumerate(batches):
        ids = {i for i in some if i not in expected}
        token = b"%d" % index
        taken.add(token, ids)
        if dropped:
            taken.drop(token)
            taken.drop(token)
        else:
            expected |= ids
    taken.index()
    assert taken.rows == len(expected)
    assert {i for i in range(-2, 63) if i in taken} == expected
    assert taken.last == max(expected, default=None)
    for i in expected:
        end = taken.run_end(i)
        assert end is not None
        assert set(range(i, end + 1)) <= expected
        assert end + 1 not in expected


def test_two_hundred_thousand_consecutive_ids_in_flight_take_little_memory_and_little_disk() -> None:
    with allocated_at_most(1_000_000):
        taken, stored = Taken(), 0
        for start in range(0, 200_000, 5_000):
            token = encode("t", ["id"], [(i,) for i in range(start, start + 5_000)], ())
            stored += len(token)
            taken.add(token, range(start, start + 5_000))
        taken.index()
        assert taken.rows == 200_000
        assert taken.run_end(7) == 199_999
        assert taken.scattered <= 40
        assert stored < 20_000


def test_a_token_of_a_later_version_is_refused_and_not_guessed_at() -> None:
    with pytest.raises(ConfigError, match="version 9"):
        decode(msgspec.msgpack.encode([9, "t", [], b"", [], b""]))
    with pytest.raises(ConfigError, match="cannot be read"):
        decode(b"\xc1")
