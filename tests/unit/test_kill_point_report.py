"""What the kill-point sweep counts, and that only a run that came to its point and kept every promise has passed."""

from __future__ import annotations

import pytest

from chaos.killpoints import Case, Result, cases, report
from chaos.points import Event, Point
from chaos.sweeping import Outcome

COMMIT = Event("agent", "sync", "outbox.db-wal", 7)
RENAME = Event("agent", "rename", "stock#.csv", 1)
WRITE = Event("agent", "write", "outbox.db-wal", 3)


def result(event: Event, *, reached: bool, faults: tuple[str, ...] = ()) -> Result:
    point = Point(event, "before")
    return Result(Case(point), Outcome(point, reached, list(faults)))


def test_every_event_is_met_from_both_sides_and_a_write_before_it() -> None:
    assert [str(case.point) for case in cases([WRITE, RENAME])] == [
        "before write 3 of outbox.db-wal by agent",
        "before rename 1 of stock#.csv by agent",
        "after rename 1 of stock#.csv by agent",
    ]


def test_a_power_cut_is_tried_with_both_outcomes() -> None:
    assert [(case.point.moment, case.cut) for case in cases([WRITE, COMMIT], powerful=True)] == [
        ("before", "strict"), ("before", "named"), ("after", "strict"), ("after", "named")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reached", "faults", "verdict"),
    [(True, (), "passed"), (False, (), "not reached"), (True, ("lost",), "broken"), (False, ("lost",), "broken")],
)
def test_only_a_run_that_came_to_its_point_and_lost_nothing_has_passed(
    reached: bool, faults: tuple[str, ...], verdict: str
) -> None:
    assert result(COMMIT, reached=reached, faults=faults).verdict == verdict


def test_the_report_counts_commits_and_renames() -> None:
    said = report([result(COMMIT, reached=True), result(COMMIT, reached=False), result(RENAME, reached=True)])
    assert "| agent | commit | 2 | 1 | 1 | 0 |" in said
    assert "3 kills, of them 2 around SQLite commits and 1 around renames: 2 passed, 1 not reached, 0 broken." in said
