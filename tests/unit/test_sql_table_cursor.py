"""What moves the floor of the look-back window, and what never does."""

from __future__ import annotations

from crossdock_agent.sql.cursor import Checkpoint, Cursor, Scale, UnderWay
from crossdock_agent.sql.times import SECOND_US, parse

IDS = Scale(incrementing=True, look_back_seconds=60, look_back_ids=1000)
TIMES = Scale(incrementing=False, look_back_seconds=60, look_back_ids=0)


def at(text: str) -> int:
    moment = parse(text)
    assert moment is not None
    return moment.us


def ended(cursor: Cursor, now: float, last: list[object] | None, ceiling: int | None = None) -> bool:
    """One pass from *now* that ends at once; whether it covered the whole window."""
    done = cursor.start(now, ceiling)
    cursor.finish(done, last, now)
    return done.whole


def test_a_first_pass_over_ids_settles_all_but_the_last_thousand() -> None:
    cursor = Cursor(IDS, 5, None, 0.0)
    ended(cursor, 0.0, [5000], ceiling=4900)
    assert (cursor.high, cursor.floor) == ([5000], [3900])


def test_an_id_read_for_longer_than_the_look_back_is_settled_by_the_next_whole_pass() -> None:
    cursor = Cursor(IDS, 5, None, 0.0)
    ended(cursor, 0.0, [5000], ceiling=5000)
    floors = []
    for second in range(5, 200, 5):
        ended(cursor, float(second), [5000 + second])
        floors.append((second, cursor.floor))
    risen = [(second, floor[0]) for second, floor in floors if floor is not None]
    assert all(int(str(floor)) <= 5000 + max(0, second - 60) for second, floor in risen)
    assert int(str(risen[-1][1])) >= 5000 + 195 - 2 * 60 - 40


def test_short_passes_begin_inside_the_window_and_every_reach_comes_round() -> None:
    cursor = Cursor(IDS, 1, None, 0.0)
    ended(cursor, 0.0, [1], ceiling=1)
    whole, starts = [], set()
    for second in range(1, 300):
        done = cursor.start(float(second), None)
        starts.add(None if done.after is None else second - int(str(done.after[0])))
        cursor.finish(done, [second + 1], float(second))
        whole.append(done.whole)
    assert sum(whole[100:]) * 8 <= 200
    assert max(b - a for a, b in zip(*[[i for i, w in enumerate(whole) if w][j:] for j in (0, 1)], strict=False)) <= 32
    assert any(s is not None and s <= 2 for s in starts)


def test_the_floor_of_timestamps_stays_the_look_back_behind_both_the_newest_row_and_the_clock() -> None:
    for newest, clock, floor in [
        ("2024-06-01 12:00:00", "2024-06-01 12:00:10", "2024-06-01 11:59:00"),
        ("2024-06-01 12:00:00", "2024-06-01 12:30:00", "2024-06-01 11:59:00"),
        ("2099-01-01 00:00:00", "2024-06-01 12:00:10", "2024-06-01 11:59:10"),
    ]:
        cursor = Cursor(TIMES, 5, None, 0.0)
        ended(cursor, 0.0, [newest, 7], ceiling=at(clock))
        assert cursor.floor == [floor]


def test_a_row_from_the_future_never_drags_the_floor_past_the_present() -> None:
    cursor = Cursor(TIMES, 5, None, 0.0)
    clock = at("2024-06-01 12:00:00")
    for second in range(0, 600, 5):
        ended(cursor, float(second), ["2099-01-01 00:00:00", 7], ceiling=clock + second * SECOND_US)
        floor = cursor.scale.order(cursor.floor)
        assert floor is not None
        assert floor <= clock + max(0, second - 60) * SECOND_US


def test_a_quiet_table_is_settled_to_its_end_by_our_own_clock_alone() -> None:
    cursor = Cursor(TIMES, 5, None, 0.0)
    clock = at("2024-06-01 05:00:00")  # the server's clock is hours behind the rows, or in another zone
    ended(cursor, 0.0, ["2024-06-01 04:59:59", 7], ceiling=clock)
    for second in range(5, 300, 5):
        ended(cursor, float(second), None, ceiling=clock)
    assert cursor.floor == ["2024-06-01 04:59:59", 7]


def test_a_day_is_not_settled_before_it_is_over() -> None:
    cursor = Cursor(TIMES, 5, None, 0.0)
    for second in range(0, 7200, 5):
        ended(cursor, float(second), ["2024-06-01", second], ceiling=at("2024-06-01 12:00:00") + second * SECOND_US)
    assert cursor.floor == ["2024-05-31"]


def test_a_broken_off_pass_goes_on_where_it_was_with_the_present_of_its_beginning() -> None:
    stored = Checkpoint(1, "", None, None, UnderWay([400], True, 4900), [])
    cursor = Cursor(IDS, 5, stored, 0.0)
    assert cursor.under_way
    done = cursor.start(0.0, 9000)
    assert (done.after, done.whole, done.ceiling) == ([400], True, 4900)
    cursor.finish(done, [9000], 1.0)
    assert cursor.floor == [3900]
    assert not cursor.under_way


def test_a_short_pass_that_was_broken_off_settles_nothing() -> None:
    stored = Checkpoint(1, "", [500], [100], UnderWay([600], False, None), [])
    cursor = Cursor(IDS, 5, stored, 0.0)
    ended(cursor, 0.0, [900], ceiling=900)
    assert cursor.floor == [100]
    assert cursor.start(1.0, 900).after == [100]


def test_a_restart_keeps_at_least_as_wide_a_window_as_there_was() -> None:
    stored = Checkpoint(1, "", [90_000], [40_000], None, [])
    cursor = Cursor(IDS, 5, stored, 0.0)
    ended(cursor, 0.0, [100_000], ceiling=100_000)
    assert cursor.floor == [50_000]


def test_infinity_is_above_the_present_and_settles_nothing() -> None:
    cursor = Cursor(TIMES, 5, None, 0.0)
    ended(cursor, 0.0, ["2024-06-01 11:00:00", 1], ceiling=at("2024-06-01 12:00:00"))
    ended(cursor, 5.0, ["infinity", 1], ceiling=at("2024-06-01 12:00:05"))
    for second in range(10, 200, 5):
        ended(cursor, float(second), ["infinity", 1], ceiling=at("2024-06-01 12:00:00") + second * SECOND_US)
    floor = cursor.scale.order(cursor.floor)
    assert floor is not None
    assert floor <= at("2024-06-01 12:02:20")
