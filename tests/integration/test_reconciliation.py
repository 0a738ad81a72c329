"""Two systems' views compared: what differs is one open item a document, agrees again by itself, and a side that is
not to be believed is one exception."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crossdock_controller import reconciling
from crossdock_controller.cli import root
from crossdock_controller.comparing import Seen, compare, seen
from crossdock_controller.config.load import inspect
from crossdock_controller.config.reconciliations import Reconciliation
from crossdock_controller.projecting import Projector
from crossdock_controller.store import reconciliations
from support.pipeline import Box
from support.trees import small_tree

STOCK = {
    "document": "SalesOrder", "left": {"source": "erp"}, "right": {"source": "wms"}, "compare": ["text"],
    "schedule": "30 6 * * mon-fri", "zone": "Europe/Berlin", "younger_minutes": 0,
}  # fmt: skip


def model(**changes: Any) -> Reconciliation:
    return Reconciliation.model_validate({"reconciliation": "stock", **STOCK, **changes})


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "data")
    configure(box)
    yield box
    box.close()


def configure(box: Box, **changes: Any) -> None:
    box.apply({"reconciliations/stock.yaml": json.dumps({**STOCK, **changes})})


def sent(box: Box, source: str, *records: str) -> None:
    """What *source* says now, in the log and in the current state."""
    box.send(*records, source=source, unit=source.encode())
    box.normalize()
    projector = Projector(box.db)
    while projector.step():
        pass


@pytest.fixture
def run(box: Box) -> Callable[..., Result]:
    def run(*arguments: str, code: int = 0) -> Result:
        found = CliRunner().invoke(root, [*arguments], env={"CROSSDOCK_DATA": str(box.data.root), "COLUMNS": "200"})
        assert found.exit_code == code, f"{found.output}\n{found.stderr}\n{found.exception!r}"
        return found

    return run


def items(box: Box) -> list[tuple[str, str]]:
    query = "SELECT cause, title FROM exceptions WHERE state = 'open' ORDER BY cause, key"
    return [(cause.removeprefix("difference:stock:"), title) for cause, title in box.db.execute(query)]


def test_what_differs_and_what_one_side_lacks_is_listed_and_goes_by_itself(
    box: Box, run: Callable[..., Result]
) -> None:
    sent(box, "erp", "A;5", "B;7", "C;1")
    sent(box, "wms", "A;5.0", "B;8", "D;2")
    assert "B: text: erp says 7, wms says 8" in run("reconcile", "stock", "--now", code=1).stdout
    assert items(box) == [
        ("different", "B: text: erp says 7, wms says 8"),
        ("missing-left", "D is in wms and not in erp"),
        ("missing-right", "C is in erp and not in wms"),
    ]
    opened = box.db.execute("SELECT id FROM exceptions WHERE key = 'C'").fetchone()
    sent(box, "wms", "B;7", "C;3")
    run("reconcile", "stock", "--now", code=1)
    assert items(box) == [
        ("different", "C: text: erp says 1, wms says 3"),
        ("missing-left", "D is in wms and not in erp"),
    ]
    assert box.db.execute("SELECT id FROM exceptions WHERE key = 'C'").fetchall() == [opened], "the same item"
    outcome = box.db.execute("SELECT state, outcome FROM exceptions WHERE key = 'B'").fetchall()
    assert outcome == [("resolved", "both agree again")]
    sent(box, "wms", "C;1")
    sent(box, "erp", "D;2")
    assert "Both agree." in run("reconcile", "stock", "--now").stdout
    (listed,) = json.loads(run("reconcile", "list", "--json").stdout)["reconciliations"]
    assert (listed["name"], listed["open"], listed["last"]["left"], listed["last"]["right"]) == ("stock", 0, 4, 4)
    assert "stock" in run("reconcile", "list").stdout
    assert "there is no reconciliation 'stok'" in run("reconcile", "stok", code=1).stderr


def test_a_side_that_is_empty_or_shrank_is_one_exception_until_a_person_accepts_it(
    box: Box, run: Callable[..., Result]
) -> None:
    sent(box, "wms", *(f"{i};1" for i in range(30)))
    run("reconcile", "stock", "--now", code=1)
    assert items(box) == [("brake", "not compared: left (erp) has no SalesOrder at all")]
    run("reconcile", "stock", "--now", code=1)
    assert len(items(box)) == 1, "it is not said twice"
    sent(box, "erp", *(f"{i};{1 if i else 2}" for i in range(30)))
    run("reconcile", "stock", "--now", code=1)
    assert items(box) == [("different", "0: text: erp says 2, wms says 1")]
    configure(box, right={"source": "wms", "on": {"site": "elsewhere"}})
    run("reconcile", "stock", "--now", code=1)
    assert [what for what, _ in items(box)] == ["brake", "different"], "what was open stays as it was"
    found = json.loads(run("reconcile", "stock", "--accept", "--json", code=1).stdout)
    assert found["reconciliation"]["last"]["missing_right"] == 30
    assert len(items(box)) == 30


def test_while_the_current_state_is_behind_nothing_is_compared(box: Box, run: Callable[..., Result]) -> None:
    sent(box, "erp", "A;5")
    box.send("A;5", source="wms")
    box.normalize()
    assert "still taking in the event log" in run("reconcile", "stock", "--now", code=1).stderr
    assert items(box) == []


def test_it_runs_when_its_schedule_says_in_its_zone_and_not_for_times_before_it_was_known(box: Box) -> None:
    now = [at("2099-03-02T05:29:00")]  # a Monday; 06:29 in Berlin
    worker = reconciling.Reconciler(box.data, lambda: now[0])
    sent(box, "erp", "A;5")
    assert worker.step() == []
    now[0] = at("2099-03-02T05:29:59")
    assert worker.step() == []
    now[0] = at("2099-03-02T05:30:10")
    assert worker.step() == ["stock"]
    assert worker.step() == [], "once"
    assert [what for what, _ in items(box)] == ["missing-right"]
    now[0] = at("2099-03-04T12:00:00")  # two days down: what was missed is made up for once
    assert worker.step() == ["stock"]
    assert worker.step() == []


def test_one_that_is_due_while_the_state_is_behind_runs_at_the_next_look(box: Box) -> None:
    now = [at("2099-03-02T05:00:00")]
    worker = reconciling.Reconciler(box.data, lambda: now[0])
    assert worker.step() == []
    box.send("A;5", source="erp")
    box.normalize()
    now[0] = at("2099-03-02T05:31:00")
    assert worker.step() == []
    assert "still taking in" in reconciliations.last(box.db)["stock"].problem
    Projector(box.db).step()
    assert worker.step() == ["stock"]
    assert reconciliations.last(box.db)["stock"].problem == ""


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text + "+00:00").timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "now", "expected"),
    [
        ("30 6 * * *", "UTC", "2026-03-02T06:29:59", "2026-03-02T06:30:00", True),
        ("30 6 * * *", "UTC", "2026-03-02T06:30:00", "2026-03-03T06:29:59", False),
        ("30 6 * * *", "UTC", "2026-03-01T06:31:00", "2026-03-02T06:31:00", True),
        ("30 6 * * *", "Europe/Berlin", "2026-07-01T04:00:00", "2026-07-01T04:31:00", True),
        ("0 6 * * sun", "UTC", "2026-03-02T00:00:00", "2026-03-02T23:00:00", False),
        ("*/5 * * * *", "UTC", "2020-01-01T00:00:00", "2026-03-02T23:04:00", True),
    ],
)
def test_a_schedule_is_due_once_its_time_lies_between_two_looks(
    schedule: str, zone: str, after: str, now: str, expected: bool
) -> None:
    assert reconciling.due(model(schedule=schedule, zone=zone), at(after), at(now)) is expected


def one(match: str, *values: str | None, at_us: int = 0, seq: int = 1) -> Seen:
    return Seen(match, values, at_us, "atl1", seq)


def test_numbers_agree_by_value_within_their_tolerance_and_nothing_is_no_number() -> None:
    exact, loose = model(), model(tolerance={"text": 0.5})
    pairs = [("1", "1.000", []), ("1", "1.5", ["A"]), ("NaN", "1", ["A"]), (None, "0", ["A"]), ("x", "y", ["A"])]
    for x, y, expected in pairs:
        assert [d.match for d in compare(exact, [one("A", x)], [one("A", y)], (0, 0), 9).differences] == expected
    assert compare(loose, [one("A", "1")], [one("A", "1.5")], (0, 0), 9).differences == []
    assert len(compare(loose, [one("A", "1")], [one("A", "1.51")], (0, 0), 9).differences) == 1
    assert loose.tolerance == {"text": Decimal("0.5")}


def test_what_changed_a_moment_ago_is_on_its_way_and_not_compared() -> None:
    hour = 3_600_000_000
    found = compare(model(younger_minutes=30), [one("A", "1", at_us=hour)], [one("B", "1")], (0, 0), hour + 1)
    assert ([d.match for d in found.differences], found.young) == (["B"], {"A"})


def test_of_two_versions_of_one_match_the_latest_counts_and_a_deleted_one_is_gone() -> None:
    left = [one("A", "2", seq=7), one("A", "1", seq=3)]
    assert compare(model(), left, [one("A", "2")], (0, 0), 9).differences == []
    by_fields = model(match=["sku", "location"], compare=["on_hand"])
    body = {"sku": "S", "location": "L", "on_hand": {"value": "3", "uom": "EA"}}
    assert seen(by_fields, "k", body, 0, "s", 1) == Seen("S:L", ("3",), 0, "s", 1)
    assert seen(by_fields, "k", {**body, "status": "deleted"}, 0, "s", 1) is None
    assert seen(by_fields, "k", {"sku": "S"}, 0, "s", 1) is None


def test_where_nearly_everything_differs_a_unit_is_wrong_and_not_each_document() -> None:
    left, right = [one(f"{i}", "1") for i in range(40)], [one(f"{i}", "1000") for i in range(40)]
    found = compare(model(), left, right, (0, 0), 9)
    assert (found.differences, found.brake[:40]) == ([], "40 of 40 documents differ or are missing")
    assert len(compare(model(), left, right, (0, 0), 9, accept=True).differences) == 40
    shrunk = compare(model(), left[:20], left, (40, 40), 9)
    assert "shrank from 40 to 20" in shrunk.brake


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"left": {"source": "wms-shipment"}}, "there is no source 'wms-shipment'"),
        ({"document": "StockLvl"}, "there is no document 'StockLvl'"),
        ({"compare": ["statsu"]}, "has no field 'statsu'"),
        ({"compare": ["lines.sku"]}, "is in a list"),
        ({"schedule": "61 * * * *"}, "not a number from 0 to 59"),
        ({"zone": "Mars"}, "not a time zone"),
        ({"right": {"source": "wms-shipments"}}, "left and right are the same"),
        ({"tolerance": {"carrier": 1}}, "carrier, which is not compared"),
        ({"tolerance": {"status": -1}}, "is not a number from 0 up"),
        ({"reconciliation": "list"}, "is a word of the command line"),
        ({"brke": {}}, "brke"),
    ],
)
def test_a_mistake_in_a_reconciliation_is_found_by_plan(changes: dict[str, Any], said: str) -> None:
    given = {
        "document": "Shipment", "left": {"source": "wms-shipments"},
        "right": {"source": "wms-shipments", "on": {"region": "us"}}, "compare": ["status"], "schedule": "0 6 * * *",
    }  # fmt: skip
    tree = small_tree()
    assert inspect({**tree, "reconciliations/a.yaml": json.dumps(given)})[0] is not None
    problems = inspect({**tree, "reconciliations/a.yaml": json.dumps({**given, **changes})})[1]
    assert any(said in p.text() for p in problems if p.severity == "error"), [p.text() for p in problems]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"owns": [{"documents": ["Invoce"]}]}, "there is no document 'Invoce'"),
        ({"owns": [{"sinks": ["finanze"]}]}, "there is no sink 'finanze'"),
        ({"owns": [{"sources": ["erp"]}]}, "there is no source 'erp'"),
        ({"owns": [{"kinds": ["letter"]}]}, "owns"),
        ({"owns": []}, "owns"),
        ({"sla": {"reject": 0}}, "sla.reject"),
        ({"sla": {"urgent": 1}}, "urgent"),
    ],
)
def test_a_mistake_in_a_team_is_found_by_plan(changes: dict[str, Any], said: str) -> None:
    given = {"members": ["anna"], "owns": [{"documents": ["Invoice"]}]}
    assert inspect({**small_tree(), "teams/a.yaml": json.dumps(given)})[0] is not None
    problems = inspect({**small_tree(), "teams/a.yaml": json.dumps({**given, **changes})})[1]
    assert any(said in p.text() for p in problems if p.severity == "error"), [p.text() for p in problems]
