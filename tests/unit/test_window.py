"""Whose turn it is, and how much may be under way: arithmetic."""

from collections import Counter

from crossdock_agent.window import MAX_BATCHES, MAX_BYTES, MIN_BYTES, Turns, Window


def run_turns(turns: Turns, ready: dict[str, list[str]], count: int, size: int = 1000) -> list[tuple[str, str]]:
    taken = []
    for _ in range(count):
        lane, source = turns.order(ready)[0]
        turns.took(lane, source, size)
        taken.append((lane, source))
    return taken


def test_lanes_with_a_backlog_share_by_weight() -> None:
    lanes = Counter(lane for lane, _ in run_turns(Turns(), {"critical": ["a"], "standard": ["b"], "bulk": ["c"]}, 1200))
    assert abs(lanes["critical"] - 800) <= 2
    assert abs(lanes["standard"] - 300) <= 2
    assert abs(lanes["bulk"] - 100) <= 2


def test_a_lane_gets_all_when_it_is_alone() -> None:
    assert {lane for lane, _ in run_turns(Turns(), {"bulk": ["c"]}, 20)} == {"bulk"}


def test_fresh_critical_data_has_the_next_turn_whatever_the_backlog_used() -> None:
    turns = Turns()
    run_turns(turns, {"standard": ["b"], "bulk": ["c"]}, 1000)
    assert turns.order({"critical": ["a"], "standard": ["b"], "bulk": ["c"]})[0] == ("critical", "a")


def test_a_lane_that_was_idle_has_saved_no_credit() -> None:
    turns = Turns()
    run_turns(turns, {"bulk": ["c"]}, 1000)
    lanes = Counter(lane for lane, _ in run_turns(turns, {"standard": ["b"], "bulk": ["c"]}, 400))
    assert 95 <= lanes["bulk"] <= 105


def test_sources_of_one_lane_take_turns() -> None:
    taken = [source for _, source in run_turns(Turns(), {"bulk": ["huge", "small", "tiny"]}, 6)]
    assert taken == ["huge", "small", "tiny", "huge", "small", "tiny"]


def test_one_batch_may_always_be_under_way_and_then_the_limit_counts() -> None:
    window = Window(limit_bytes=1000)
    assert window.open("bulk")
    window.sent(64 * 1024 * 1024)
    assert not window.open("bulk")
    window.forget(64 * 1024 * 1024)
    assert window.open("bulk")


def test_critical_batches_find_room_in_a_window_that_bulk_has_filled() -> None:
    window = Window(limit_bytes=1000)
    window.sent(1000)
    assert not window.open("bulk")
    assert window.open("critical")
    window.sent(300)
    assert not window.open("critical")


def test_batches_under_way_are_counted_as_well_as_bytes() -> None:
    window = Window()
    for _ in range(MAX_BATCHES):
        assert window.open("bulk")
        window.sent(1)
    assert not window.open("bulk")


def test_the_window_grows_on_a_fast_line_and_halves_once_a_window_on_a_slow_one() -> None:
    window = Window(limit_bytes=2_000_000)
    for _ in range(20):
        window.sent(1_000_000)
        window.acknowledged(1_000_000, 0.01)
    assert window.limit_bytes == MAX_BYTES
    for _ in range(5):
        window.sent(100_000)
        window.acknowledged(100_000, 5.0)
    assert window.limit_bytes == MAX_BYTES // 2
    for _ in range(1000):
        window.sent(100_000)
        window.acknowledged(100_000, 5.0)
    assert window.limit_bytes == MIN_BYTES
    assert (window.bytes, window.batches) == (0, 0)
