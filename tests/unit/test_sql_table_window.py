"""What the look-back window knows after any sequence of batches, crashes and lost ledger rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from crossdock_agent.sql.hashes import HashSet
from crossdock_agent.sql.window import OPEN_HASHES, OPEN_SECONDS, SegmentState, Window, row_hash


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=40), max_size=30))
def test_a_hash_set_holds_what_was_added_and_nothing_else(batches: list[list[int]]) -> None:
    hashes, model = HashSet(), set()
    for batch in batches:
        hashes.add(batch)
        model.update(batch)
    assert all(value in hashes for value in model)
    assert not any((value + 1) % 2**64 in hashes for value in model if (value + 1) % 2**64 not in model)
    assert len(hashes) == sum(map(len, batches))


def test_large_runs_are_merged_in_order() -> None:
    hashes = HashSet()
    for start in (3, 0, 2, 1):
        hashes.add(range(start, 200_000, 4))
    assert all(value in hashes for value in range(200_000))
    assert 200_000 not in hashes


@dataclass
class Committed:
    """What an outbox holds after a batch: the checkpoint's part, and the rows that were taken up to it."""

    states: list[SegmentState] = field(default_factory=list)
    taken: list[tuple[int, int]] = field(default_factory=list)  # position, hash
    floor: int = 0
    high: int = 0


class WindowModel(RuleBasedStateMachine):
    """A window against a list of what was taken; a crash goes back to what was committed last."""

    def __init__(self) -> None:
        super().__init__()
        self.window, self.now = Window(), 0.0
        self.at, self.committed = Committed(), Committed()
        self.ledger: dict[str, bytes] = {}
        self.drafts: list[tuple[tuple[tuple[str, bytes], ...], Committed]] = []  # handed over, not yet committed

    @rule(rows=st.lists(st.integers(0, 50), min_size=1, max_size=OPEN_HASHES))
    def take(self, rows: list[int]) -> None:
        at = self.at
        at.high += 50
        batch = [(at.high - 50 + row, row_hash(b"%d %d" % (at.high, row))) for row in rows]
        self.window.add([value for _, value in batch], at.high, self.now)
        at.taken += batch
        self.drafts.append(
            (self.window.newest_row(), Committed(self.window.states(), list(at.taken), at.floor, at.high))
        )

    @rule(count=st.integers(1, 3))
    def commit(self, count: int) -> None:
        for remember, committed in self.drafts[:count]:
            self.ledger.update(remember)
            self.committed = committed
        del self.drafts[:count]

    @rule(seconds=st.floats(0, 3 * OPEN_SECONDS))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(part=st.floats(0, 1))
    def settle(self, part: float) -> None:
        at = self.at
        at.floor += int((at.high - at.floor) * part)
        assert not self.window.prune(at.floor)
        at.taken = [(position, value) for position, value in at.taken if position >= at.floor]

    @rule()
    def crash(self) -> None:
        kept = self.committed
        self.at = Committed([], list(kept.taken), kept.floor, kept.high)
        self.window = Window.load(kept.states, self.ledger.get, self.now)
        self.drafts.clear()

    @invariant()
    def knows_what_was_taken(self) -> None:
        assert all(self.window.knows([value]) for _, value in self.at.taken)
        assert not self.window.knows([row_hash(b"never taken")])


TestWindowModel = WindowModel.TestCase


def test_ledger_rows_are_used_again_once_their_segment_is_settled() -> None:
    window, ledger = Window(), {}
    for step in range(1, 500):
        window.add([row_hash(b"%d" % step)], step, now=float(step * 10))
        ledger.update(window.newest_row())
        window.prune(step - 3)
    assert len(ledger) <= 6
    assert len(window) <= 5


def test_a_segment_whose_row_holds_a_later_generation_is_not_believed() -> None:
    window, ledger = Window(), {}
    window.add([1], 1, now=0.0)
    states = window.states()
    ledger.update(window.newest_row())
    window.prune(2)
    window.add([2], 2, now=100.0)
    ledger.update(window.newest_row())  # the same slot, used again
    assert not Window.load(states, ledger.get, 0.0).knows([1])
    assert not Window.load(states, ledger.get, 0.0).knows([2])
    assert Window.load(window.states(), ledger.get, 0.0).knows([2])


def test_rows_without_an_order_are_never_settled() -> None:
    window = Window()
    window.add([1], None, now=0.0)
    window.prune(10**18)
    assert window.knows([1])


def test_a_window_over_its_limit_forgets_the_oldest_and_says_so(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("crossdock_agent.sql.window.MAX_HASHES", 1000)
    window = Window()
    for step in range(3):
        window.add(list(range(step * 600, step * 600 + 600)), step, now=0.0)
    assert window.prune(None)
    assert window.knows(range(1200, 1800))
    assert not window.knows([0])
