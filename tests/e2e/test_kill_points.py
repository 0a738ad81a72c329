"""A sample of the kill-point sweep (`make killpoints` makes all of it): whoever dies wherever, the ledger balances."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chaos import power
from chaos.killpoints import Case, Sweep, cases
from chaos.points import Event

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the shim that kills at a point is loaded by LD_PRELOAD"),
    pytest.mark.timeout(400),
]

# One of each sort that a fault has its own way with: (process, kind, which of them, from 0).
SAMPLE = [
    ("agent", "commit", 3),  # batches and their checkpoint
    ("agent", "rename", 3),  # of a file that goes to the archive, or beside it
    ("controller", "commit", 5),  # the intake
    ("controller-normalize", "commit", 6),
    ("controller-dispatch", "file sync", 2),  # between the file sink's ledger and the name of its file
]
CUTS = [("agent", "commit", 4), ("controller", "commit", 6)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    made = Sweep(tmp_path_factory.mktemp("killpoints"), jobs=1)
    made.prepare()
    counting = made.count()
    assert not counting.faults, "\n".join([*counting.faults, counting.log])
    return made


def _chosen(events: list[Event], process: str, kind: str, which: int) -> Event:
    return [e for e in events if e.process == process and e.kind == kind][which]


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


@pytest.mark.parametrize("sort", SAMPLE, ids=lambda sort: "-".join(map(str, sort)))
def test_a_process_dies_at_a_point_and_nothing_is_lost_or_doubled(sweep: Sweep, sort: tuple[str, str, int]) -> None:
    chosen = _chosen(sweep.counted, *sort)
    _must_pass(sweep, next(case for case in cases([chosen]) if case.point.moment == "after"))


@pytest.mark.parametrize("sort", CUTS, ids=lambda sort: "-".join(map(str, sort)))
def test_a_machine_loses_its_current_and_nothing_is_lost_or_doubled(
    sweep: Sweep, tmp_path: Path, sort: tuple[str, str, int]
) -> None:
    if not power.supported(tmp_path):
        pytest.skip("the file system does not tell when a file was born (tmpfs of an old kernel): set TMPDIR")
    chosen = _chosen(sweep.counted, *sort)
    case = next(c for c in cases([chosen], powerful=True) if c.point.moment == "before" and c.cut == "strict")
    _must_pass(sweep, case)
