"""Names, prints and the book of growing files."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crossdock_agent.framing import Csv, JsonLines
from crossdock_agent.tails.live import Live, Tail
from crossdock_agent.tails.names import rotation
from crossdock_agent.tails.prints import head_of, print_of, still_begins
from crossdock_agent.tails.state import Book

OLDEST_FIRST = [
    ["x.log.10", "x.log.2.gz", "x.log.1", "x.log"],
    ["x.log-20251231", "x.log-20260101.gz", "x.log-20260102", "x.log"],
    ["x-2026-11-25.log", "x-2026-11-26.log", "x.log"],
    ["x-20261125_2359.log", "x-20261126_0000.log"],
    ["x.2026-11-25.log.gz", "x.2026-11-26.log"],
    ["x.log.old", "x.log"],
    ["2026/x.log.1", "2026/x.log"],
]


@pytest.mark.parametrize("names", OLDEST_FIRST)
def test_names_tell_the_generations_of_a_log_and_their_order(names: list[str]) -> None:
    found = [rotation(name) for name in names]
    assert len({each.family for each in found}) == 1
    assert [each.rank for each in found] == sorted(each.rank for each in found)
    assert len({each.rank for each in found}) == len(names)


@pytest.mark.parametrize("name", ["x.log", "SHP4711.csv", "till-20269999.log", "x-99991231.log", "a.b.c", "x1.log"])
def test_names_without_rotation_are_their_own_family(name: str) -> None:
    assert rotation(name) == (name, (1, "", 0))


def test_the_same_log_in_two_directories_is_two() -> None:
    assert rotation("a/x.log.1").family != rotation("b/x.log").family


@given(st.binary(max_size=9000), st.binary(max_size=9000), st.integers(0, 9000))
def test_a_print_holds_for_every_continuation_and_no_shorter_file(read: bytes, more: bytes, cut: int) -> None:
    mark, seam = print_of(io.BytesIO(read + more), len(read))
    assert (mark, seam) == print_of(io.BytesIO(read), len(read))
    assert still_begins(io.BytesIO(read + more), len(read), mark, seam)
    if cut < len(read):
        assert not still_begins(io.BytesIO(read[:cut]), len(read), mark, seam)


@pytest.mark.parametrize("at", [0, 4000, 8990, 9999])
def test_a_print_does_not_hold_where_the_beginning_or_the_end_of_what_was_read_differs(at: int) -> None:
    read = bytes(i % 251 for i in range(10_000))
    mark, seam = print_of(io.BytesIO(read), len(read))
    other = bytearray(read)
    other[at] ^= 1
    assert not still_begins(io.BytesIO(bytes(other)), len(read), mark, seam)


def test_the_head_goes_through_the_first_record_and_is_the_same_however_much_follows() -> None:
    csv, lines = Csv().scanner(), JsonLines().scanner()
    begun = b'\xef\xbb\xbfA,B\n"1\n2",x\n'
    assert head_of(io.BytesIO(begun), csv) == head_of(io.BytesIO(begun + b"3,y\n" * 9999), csv)
    assert head_of(io.BytesIO(begun), csv) != head_of(io.BytesIO(begun.replace(b"x", b"y")), csv)
    assert head_of(io.BytesIO(b"a\nb\n"), lines) == head_of(io.BytesIO(b"a\n"), lines)
    assert head_of(io.BytesIO(b""), lines) == b""
    endless = b"y" * 100_000
    assert head_of(io.BytesIO(endless), lines) == head_of(io.BytesIO(endless * 2), lines)


class Ledger:
    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}

    def recall(self, key: str) -> bytes | None:
        return self.rows.get(key)


def tail(n: int, **more: object) -> Tail:
    made = Tail(bytes([n]) * 16, b"x.log", b"x.log", b"h%d" % n, b"m", b"s", n, 10, offset=10)
    return replace(made, **more)


def test_a_revived_generation_is_missed_after_a_restart_without_the_checkpoints_help() -> None:
    ledger = Ledger()
    book = Book(ledger)
    checkpoint, rows = book.advance(tail(1, finished=True))
    ledger.rows.update(rows)
    book.revive(tail(1).unit)
    ledger.rows.update(book.advance(tail(1, size=20))[1])
    for n in range(2, 60):
        checkpoint, rows = book.advance(tail(n))
        ledger.rows.update(rows)
    other = Book(ledger)
    other.load(checkpoint)
    assert len(other.live) == 59
    assert other.live[tail(1).unit].size == 20


def test_the_live_ones_are_found_by_what_they_are_now() -> None:
    live = Live()
    live.put(tail(1))
    live.put(tail(2))
    live.put(tail(1, name=b"x.log.1", inode=7))
    assert [each.unit[0] for each in live.with_name(b"x.log")] == [2]
    assert [each.unit[0] for each in live.with_inode(7)] == [1]
    assert {each.unit[0] for each in live.of_family("x.log")} == {1, 2}
    live.pop(tail(1).unit)
    assert [each.unit[0] for each in live.of_family("x.log")] == [2]
    assert live.on_page(1) == []
    assert [*live.with_inode(7), *live.with_head(b"h1")] == []
