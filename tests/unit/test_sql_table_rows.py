"""Rows into units, units into batches: nothing lost, no unit cut, no batch over its target without need."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.codec import TARGET_RAW_BYTES, TARGET_RECORDS
from crossdock_agent.sql import rows as rows_module
from crossdock_agent.sql.rows import MAX_ROW_BYTES, Batch, Page, RowShape

LINES = RowShape(payload=3, position=(0, 1), group=1)  # order, line, text


def batches(page: Page) -> list[Batch]:
    made = [Batch()]
    at, end = 0, page.ends[-1] if page.ends else 0
    while at < end:
        at = made[-1].take(page, at, end)
        if at < end:
            made.append(Batch())
    return made


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60_000)), max_size=60), st.booleans())
def test_units_are_never_cut_and_only_the_last_of_a_full_page_is_left_out(
    drawn: list[tuple[int, int]], full: bool
) -> None:
    rows = [(order, line, "x" * size) for line, (order, size) in enumerate(sorted(drawn))]
    page = Page(LINES, rows, full=full, may_split=False)
    units = [list(group) for _, group in groupby(rows, key=lambda row: row[0])]
    wanted = units[:-1] if full else units
    sent = [[msgspec.msgpack.decode(data) for data in batch.rows] for batch in batches(page)]
    assert [tuple(row) for batch in sent for row in batch] == [row for unit in wanted for row in unit]
    for batch in sent:
        assert {row[0] for row in batch}.isdisjoint(row[0] for other in sent if other is not batch for row in other)
    for batch in batches(page):
        assert batch.size <= TARGET_RAW_BYTES or len({msgspec.msgpack.decode(data)[0] for data in batch.rows}) == 1
        assert batch.size == sum(map(len, batch.rows))


def test_a_batch_ends_at_its_target_of_records() -> None:
    page = Page(RowShape(1, (0,), 1), [(i,) for i in range(TARGET_RECORDS * 2 + 1)], full=False, may_split=False)
    assert [len(batch.rows) for batch in batches(page)] == [TARGET_RECORDS, TARGET_RECORDS, 1]


def test_a_full_page_that_is_one_unit_gives_none_until_it_may_be_split() -> None:
    rows = [(7, line, "") for line in range(10)]
    assert not Page(LINES, rows, full=True, may_split=False).ends
    page = Page(LINES, rows, full=True, may_split=True)
    assert page.ends == list(range(1, 10))
    assert page.position(9) == (7, 8)


def test_a_whole_unit_stands_at_its_group_so_that_a_line_added_later_brings_it_again_whole() -> None:
    page = Page(LINES, [(7, 1, ""), (7, 2, ""), (8, 1, "")], full=False, may_split=True)
    assert (page.ends, page.position(2), page.position(3)) == ([2, 3], (7,), (8,))


def test_rows_that_agree_in_the_whole_key_cannot_be_split() -> None:
    assert not Page(LINES, [(7, 1, "")] * 10, full=True, may_split=True).ends


def test_a_row_over_the_limit_is_rejected_with_its_whole_unit_by_key() -> None:
    rows = [(1, 1, "a"), (2, 1, "b"), (2, 2, "c" * MAX_ROW_BYTES), (3, 1, "d")]
    made = batches(Page(LINES, rows, full=False, may_split=True))
    assert [len(batch.rows) for batch in made] == [1, 1]
    first = made[0]
    assert [(r.record, r.code) for r in first.rejects] == [(1, "incomplete_unit"), (2, "too_long")]
    assert f"row 2, 2: it has {MAX_ROW_BYTES + 8} bytes, the limit is {MAX_ROW_BYTES}" in first.rejects[1].reason
    assert first.position == (2,)
    assert not made[1].rejects


def test_a_unit_over_a_quarter_of_the_batch_limit_is_sent_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MAX_UNIT_BYTES", 1000)
    page = Page(LINES, [(7, line, "x" * 300) for line in range(5)] + [(8, 1, "")], full=False, may_split=True)
    assert page.ends == [1, 2, 3, 4, 5, 6]
    assert page.position(3) == (7, 2)


@pytest.mark.parametrize(
    ("row", "flags", "expected"),
    [
        ((1, "ü", None), (), [1, "ü", None]),
        ((2**63 - 1, -(2**63), 2**64 - 1), (), [2**63 - 1, -(2**63), 2**64 - 1]),
        ((1.5, float("inf"), b"\x00\xff"), (), [1.5, float("inf"), b"\x00\xff"]),
        ((1, 0, 2), (0, 1, 2), [True, False, 2]),
        (("1", 1.0, None), (0, 1, 2), ["1", 1.0, None]),
    ],
)
def test_a_value_travels_as_it_is(row: tuple[Any, ...], flags: tuple[int, ...], expected: list[Any]) -> None:
    packed = RowShape(3, (0,), 1, flags).pack([row])
    decoded = msgspec.msgpack.decode(packed[0])
    assert decoded == expected
    assert list(map(type, decoded)) == list(map(type, expected))


def test_columns_behind_the_payload_serve_the_cursor_only() -> None:
    shape = RowShape(payload=1, position=(1,), group=1)
    page = Page(shape, [("a", 5), ("b", 6)], full=False, may_split=True)
    assert [msgspec.msgpack.decode(data) for data in page.packed] == [["a"], ["b"]]
    assert page.position(2) == (6,)
