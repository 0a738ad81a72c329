"""A sample of the kill-point sweep (`make killpoints` makes all of it): whoever dies wherever, the ledger balances."""

from __future__ import annotations

import sys

import pytest

from chaos.killpoints import Case, Sweep, cases
from chaos.points import Event

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the shim that kills at a point is loaded by LD_PRELOAD"),
    pytest.mark.timeout(400),
]

# Where a fault would have its own way: (process, kind, file, which of them).
SAMPLE = [
    ("agent", "rename", "stock#.csv", 2),  # to the archive, once acknowledged
    ("controller-normalize", "commit", "state.db-wal", 6),
    ("controller-dispatch", "file sync", "ledger", 1),  # between the file sink's ledger and the name of its file
]
CUTS = [
    ("agent", "commit", "outbox.db-wal", 4),  # batches and their checkpoint
    ("controller", "commit", "intake.db-wal", 3),  # the intake, before its acknowledgement
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    made = Sweep(tmp_path_factory.mktemp("killpoints"), jobs=1)
    made.prepare()
    counting = made.count()
    assert not counting.faults, "\n".join([*counting.faults, counting.log])
    return made


def _chosen(events: list[Event], process: str, kind: str, name: str, which: int) -> Event:
    return next(e for e in events if (e.process, e.kind, e.name, e.ordinal) == (process, kind, name, which))


def _must_pass(sweep: Sweep, case: Case) -> None:
    (result,) = sweep.run([case], lambda _result: None)
    outcome = result.outcome
    assert result.verdict == "passed", "\n".join([str(case), *outcome.faults, *outcome.lost, outcome.log])


def test_every_sort_of_point_is_counted(sweep: Sweep) -> None:
    found = {(e.process, e.kind) for e in sweep.counted}
    for process in ("agent", "agent-helper", "controller", "controller-normalize", "controller-dispatch"):
        assert (process, "commit") in found
    assert {("agent", "rename"), ("agent", "removal"), ("controller-dispatch", "rename")} <= found
    assert len(cases(sweep.counted)) > 500


@pytest.mark.parametrize("sort", SAMPLE, ids=lambda sort: " ".join(map(str, sort)))
def test_a_process_dies_at_a_point_and_nothing_is_lost_or_doubled(
    sweep: Sweep, sort: tuple[str, str, str, int]
) -> None:
    chosen = _chosen(sweep.counted, *sort)
    _must_pass(sweep, next(case for case in cases([chosen]) if case.point.moment == "after"))


@pytest.mark.parametrize("sort", CUTS, ids=lambda sort: " ".join(map(str, sort)))
def test_a_machine_loses_its_current_and_nothing_is_lost_or_doubled(
    sweep: Sweep, sort: tuple[str, str, str, int]
) -> None:
    chosen = _chosen(sweep.counted, *sort)
    case = next(c for c in cases([chosen], powerful=True) if c.point.moment == "before" and c.cut == "strict")
    _must_pass(sweep, case)
