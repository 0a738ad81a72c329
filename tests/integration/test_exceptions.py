"""Exceptions by cause: opened with what died, owned by teams, settled all at once, on the operator's command line."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from crossdock.codec import Sealer
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller import clearing
from crossdock_controller.cli import root
from crossdock_controller.commands import exceptions as commands
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.normalize import Normalizer
from crossdock_controller.operations import carry, table
from crossdock_controller.outcomes import Dead, Locator
from crossdock_controller.sinks.base import DONE, Outgoing, Verdict
from crossdock_controller.store import audit, connection, dead_letters, migrate
from crossdock_controller.store.causes import cause_of_delivery, cause_of_record
from crossdock_controller.store.deliveries import State
from support.estate import EU, TREE, US, Estate, caller
from support.migration_process import make
from support.pipeline import Box, FakeRuntime, FakeSink
from support.serving import line

TEAMS = {
    "teams/warehouse.yaml": "members: [anna]\nowns: [{on: {region: us}}]\nsla: {reject: 2}\n",
    "teams/finance.yaml": "members: [ben]\nowns: [{kinds: [delivery], sinks: [files], on: {region: us}}]\n",
}
HOUR_US = 3_600_000_000


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path / "data")
    yield estate
    estate.close()


@pytest.fixture
def run(estate: Estate) -> Callable[..., Result]:
    def run(*arguments: str, code: int = 0) -> Result:
        found = CliRunner().invoke(root, [*arguments], env={"CROSSDOCK_DATA": str(estate.data.root), "COLUMNS": "200"})
        assert found.exit_code == code, f"{found.output}\n{found.stderr}\n{found.exception!r}"
        return found

    return run


def answer(run: Callable[..., Result], *arguments: str, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


CAUSE = "bad_decimal:wms:lines.quantity"


def test_every_dead_record_opens_one_exception_and_its_retry_or_discard_settles_it(
    estate: Estate, run: Callable[..., Result]
) -> None:
    (group,) = answer(run, "exceptions", "list")["exceptions"]
    assert (group["cause"], group["count"], group["sites"], group["documents"]) == (CAUSE, 2, [US, EU], ["Shipment"])
    assert (group["owner"], group["due_us"], group["overdue"]) == ("", 0, False)
    run("dead", "retry", str(estate.letter(US)), "--set", "QTY=3")
    run("dead", "discard", str(estate.letter(EU)), "--note", "a test")
    assert answer(run, "exceptions", "list")["exceptions"] == []
    told = estate.db.execute("SELECT site, state, outcome FROM exceptions ORDER BY site").fetchall()
    assert told == [(US, "resolved", "retried"), (EU, "resolved", "discarded")]
    assert "nothing is open" in run("exceptions", "show", CAUSE, code=1).stderr


def test_the_team_that_says_most_owns_it_by_the_revision_in_force_and_it_is_due_by_its_hours(
    estate: Estate, run: Callable[..., Result]
) -> None:
    estate.apply({**TREE, **TEAMS})
    (group,) = answer(run, "exceptions", "list", "--site", US)["exceptions"]
    assert (group["owner"], group["members"]) == ("warehouse", ["anna"])
    assert group["due_us"] == group["oldest_us"] + 2 * HOUR_US
    (nobodys,) = answer(run, "exceptions", "list", "--site", EU)["exceptions"]
    assert (nobodys["owner"], nobodys["due_us"]) == ("", 0)
    late = commands.exceptions_list(estate.data, by="local:x", now_us=group["due_us"] + 1, overdue=True)
    assert [(g.cause, g.overdue) for g in late] == [(CAUSE, True)]
    narrow = TEAMS["teams/warehouse.yaml"].replace("{on: {region: us}}", "{on: {region: us}, documents: [Invoice]}")
    estate.apply({**TREE, **TEAMS, "teams/warehouse.yaml": narrow})
    assert answer(run, "exceptions", "list", "--site", US)["exceptions"][0]["owner"] == "", "of Shipments no more"


def test_mine_are_those_of_my_teams_and_those_assigned_to_me(estate: Estate) -> None:
    estate.apply({**TREE, **TEAMS})

    def mine(who: str) -> list[str]:
        return [g.cause for g in commands.exceptions_list(estate.data, by=who, now_us=9, mine=True)]

    assert (mine("user:anna"), mine("user:ben"), mine("user:carl")) == ([CAUSE], [], [])
    assigned = commands.exceptions_assign(estate.data, CAUSE, "carl", by="user:anna", now_us=time.time_ns() // 1000)
    assert (assigned.owner, assigned.assigned) == ("carl", True)
    assert (mine("user:anna"), mine("user:carl")) == ([], [CAUSE])
    back = commands.exceptions_assign(estate.data, CAUSE, "", by="user:carl", now_us=time.time_ns() // 1000)
    assert (back.owner, back.assigned) == ("warehouse", False)


def test_what_was_assigned_is_forgotten_once_all_of_it_that_was_open_then_is_settled(estate: Estate) -> None:
    now_us = time.time_ns() // 1000
    commands.exceptions_assign(estate.data, CAUSE, "carl", now_us + HOUR_US, by="local:x", now_us=now_us)
    estate.db.execute("UPDATE exceptions SET opened_us = ? WHERE site = ?", (now_us + 5, US))
    (group,) = commands.exceptions_list(estate.data, by="local:x", now_us=now_us, site=US)
    assert (group.owner, group.due_us) == ("", 0), "what is open at this site came later"
    (group,) = commands.exceptions_list(estate.data, by="local:x", now_us=now_us, site=EU)
    assert (group.owner, group.due_us) == ("carl", now_us + HOUR_US)


def test_one_fix_corrects_every_record_of_the_cause_on_record_and_sends_it_on(
    estate: Estate, run: Callable[..., Result]
) -> None:
    run("exceptions", "note", CAUSE, "phoned the site")
    before = audit.head(estate.db)[0]
    found = answer(run, "exceptions", "fix", "bad_decimal", "--set", "QTY=7")
    assert (found["done"], found["left"], found["cause"]) == (2, 0, CAUSE)
    bodies = estate.db.execute("SELECT key FROM events ORDER BY key").fetchall()
    assert [key for (key,) in bodies] == ["E1", "E2", "U1", "U2"]
    assert estate.db.execute("SELECT count(*) FROM deliveries").fetchone() == (4,)
    told = [(e.action, e.details) for e in audit.entries(estate.db) if e.seq > before]
    assert told.count(("dead.retry", '{"fields":["QTY"]}')) == 2
    assert [action for action, _ in told if action == "exceptions.fix"] == ["exceptions.fix"]
    notes = estate.db.execute("SELECT DISTINCT what FROM exception_notes ORDER BY id").fetchall()
    assert notes == [("noted",), ("fixed",)]


def test_a_fix_that_does_not_help_leaves_everything_open_and_says_why(
    estate: Estate, run: Callable[..., Result]
) -> None:
    found = answer(run, "exceptions", "fix", CAUSE, "--set", "QTY=many", code=1)
    assert (found["done"], found["left"]) == (0, 2)
    assert "still refused" in found["refused"][0][1]
    found = answer(run, "exceptions", "fix", CAUSE, "--set", "QTYY=1", code=1)
    assert "has no column 'QTYY'" in found["refused"][0][1]
    assert estate.db.execute("SELECT count(*) FROM exceptions WHERE state = 'open'").fetchone() == (2,)
    told = run("exceptions", "retry", CAUSE, code=1).stdout
    assert "2 items left as before" in told
    assert re.search(r"dead letter (\d+): is still refused", told)


def test_resolving_gives_up_what_died_with_the_reason(estate: Estate, run: Callable[..., Result]) -> None:
    assert answer(run, "exceptions", "resolve", CAUSE, "--because", "test data")["done"] == 2
    told = estate.db.execute("SELECT DISTINCT state, note FROM dead_letters").fetchall()
    assert told == [("discarded", "test data")]
    assert answer(run, "exceptions", "list")["exceptions"] == []


def test_who_works_for_one_site_settles_that_sites_items_of_a_cause_and_no_others(estate: Estate) -> None:
    def call(name: str, **arguments: Any) -> Any:
        body = msgspec.json.encode({"cause": CAUSE, **arguments})
        return json.loads(carry.carry_out(table.BY_NAME[name], estate.data, caller("operator", "region=us"), body))

    call("exceptions.assign", to="anna")
    assert call("exceptions.show")["group"]["sites"] == [US]
    assert estate.db.execute("SELECT site FROM exception_groups").fetchall() == [(US,)]
    assert call("exceptions.retry", changes={"QTY": "1"})["done"] == 1
    left = estate.db.execute("SELECT site FROM exceptions WHERE state = 'open'").fetchall()
    assert left == [(EU,)]


def test_a_delivery_that_dies_again_is_the_same_exception_as_old_as_it_was(tmp_path: Path) -> None:
    box = Box(tmp_path)
    refusing = [True]

    def decide(delivery: Outgoing) -> Verdict:
        return Verdict("rejected", "409", f"order {delivery.key} is closed") if refusing[0] else DONE

    sink = FakeSink(decide)
    box.send(*(f"{i};a" for i in range(40)))
    box.normalize()
    with line(box, sink) as deliver:
        deliver()
        (group,) = commands.exceptions_list(box.data, by="local:x", now_us=1)
        assert (group.cause, group.count, group.kind) == ("finance:409:order * is closed", 40, "delivery")
        opened = box.db.execute("SELECT id, opened_us FROM exceptions ORDER BY id").fetchall()
        step = commands.exceptions_retry(box.data, group.cause, {}, by="local:x", now_us=2)
        assert (step.done, step.left, still_open(box)) == (40, 0, 0)
        deliver()
        assert box.db.execute("SELECT id, opened_us FROM exceptions WHERE state = 'open'").fetchall() == opened
        assert box.db.execute("SELECT DISTINCT reopened FROM exceptions").fetchall() == [(1,)]
        refused = commands.exceptions_retry(box.data, group.cause, {"A": "b"}, by="local:x", now_us=2)
        assert (refused.done, refused.left) == (0, 40)
        refusing[0] = False
        assert commands.exceptions_retry(box.data, group.cause, {}, by="local:x", now_us=3).done == 40
        deliver()
    assert sorted(sink.keys(), key=int) == [str(i) for i in range(40)]
    assert still_open(box) == 0
    box.close()


def still_open(box: Box) -> int:
    found: int = box.db.execute("SELECT count(*) FROM exceptions WHERE state = 'open'").fetchone()[0]
    return found


def test_five_thousand_of_one_cause_are_cleared_by_one_command(tmp_path: Path) -> None:
    box = Box(tmp_path / "data")
    try:
        box.apply(TREE)
        for first in range(0, 5000, 1000):
            send_shipments(box, [f"S{i};A;x{i}" for i in range(first, first + 1000)], first)
        normalizer = Normalizer(box.data, Runtime.from_tree)
        while normalizer.step():
            pass
        normalizer.close()
        assert still_open(box) == 5000
        began = time.monotonic()
        found = CliRunner().invoke(
            root, ["exceptions", "fix", CAUSE, "--set", "QTY=1"], env={"CROSSDOCK_DATA": str(box.data.root)}
        )
        seconds = time.monotonic() - began
        assert found.exit_code == 0, f"{found.output}\n{found.stderr}\n{found.exception!r}"
        assert "5,000 items corrected and went on" in found.stdout
        assert still_open(box) == 0
        assert box.db.execute("SELECT count(*) FROM events").fetchone() == (5000,)
        assert box.account().balanced
        assert seconds < 60, "seconds, not minutes, on any machine"
    finally:
        box.close()


def send_shipments(box: Box, lines: list[str], first: int) -> None:
    origin = Origin(kind="file", name="SHP1.csv", unit=b"u" * 16, first_record=first, first_line=first + 2)
    header = BatchHeader(
        format="csv", records=len(lines), prefix=b"SHIPMENT_NO;ITEM;QTY\n", origin=origin, closes=first == 4000
    )
    sealed = Sealer().seal(header, "".join(f"{line}\n" for line in lines).encode())
    box.store(sealed.data, sealed.crc32, len(lines))


def test_letters_that_were_open_before_the_upgrade_have_their_exceptions_after_it(tmp_path: Path) -> None:
    sql = (Path(__file__).parents[1] / "released" / "state-0004.sql").read_text("utf-8")
    path = tmp_path / "state.db"
    make(sql, path)
    with closing(connection.connect(path)) as db:
        (source,) = db.execute("SELECT id FROM sources LIMIT 1").fetchone()
        rows = [
            (source, "unknown_code", f"'P{i % 2}' is not among the codes 'EA'", "lines.quantity", state)
            for i, state in enumerate(("open", "open", "open", "discarded"))
        ]
        db.executemany(
            "INSERT INTO dead_letters(kind, source_id, input_id, code, reason, field, records, locator, sample, rows,"
            " state, created_us) VALUES('record', ?, 1, ?, ?, ?, 1, '{}', x'', '[]', ?, 7)",
            rows,
        )
        before = db.execute("SELECT count(*) FROM dead_letters WHERE state = 'open'").fetchone()
        (name,) = db.execute("SELECT source FROM sources WHERE id = ?", (source,)).fetchone()
    migrate(path)
    with closing(connection.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM exceptions WHERE state = 'open'").fetchone() == before
        told = db.execute(
            "SELECT cause, count(*), min(opened_us) FROM exceptions WHERE opened_us = 7 GROUP BY cause ORDER BY cause"
        ).fetchall()
    assert told == [(f"unknown_code:{name}:lines.quantity:P{i}", n, 7) for i, n in ((0, 2), (1, 1))]


def test_of_a_code_without_a_meaning_the_cause_is_the_list_and_the_code_whatever_source_sent_it() -> None:
    assert cause_of_record("unknown_code", "wms", "lines.uom", "x", "units", "PCE") == "unknown_code:units:PCE"
    assert cause_of_record("unknown_code", "wms", "uom", "'P C' is not among", "", "") == "unknown_code:wms:uom:P C"
    assert cause_of_record("bad_decimal", "wms", "lines.12.qty", "x") == "bad_decimal:wms:lines.*.qty"


def test_what_a_sink_says_is_alike_but_for_numbers_and_names() -> None:
    causes = {
        cause_of_delivery("f", "409", f"Order {n} of 'C{n}' is closed (trace 7f3a9c0d1e{n})") for n in range(100, 140)
    }
    assert causes == {"f:409:order * of * is closed (trace *)"}


def test_what_a_rule_holds_is_released_or_given_up_by_its_cause(estate: Estate, run: Callable[..., Result]) -> None:
    held = estate.hold(US)
    cause = "not_allowed:Shipment:status"
    groups = answer(run, "exceptions", "list")["exceptions"]
    assert [(g["cause"], g["kind"], g["severity"]) for g in groups if g["cause"] == cause] == [(cause, "hold", "hold")]
    assert "crossdock exceptions retry releases them" in run("exceptions", "fix", cause, "--set", "A=1", code=1).stderr
    assert answer(run, "exceptions", "retry", cause)["done"] == 1
    state = estate.db.execute("SELECT state FROM deliveries WHERE event_seq = ?", (held,)).fetchone()
    assert state == (State.PENDING,)
    other = estate.hold(EU)
    assert answer(run, "exceptions", "resolve", cause, "--because", "a test")["done"] == 1
    told = estate.db.execute("SELECT event_seq, state, note FROM holds ORDER BY opened_us, event_seq").fetchall()
    assert sorted(told) == sorted([(held, "released", ""), (other, "discarded", "a test")])
    assert "nothing is open" in run("exceptions", "show", cause, code=1).stderr


def test_a_letter_that_is_refused_for_another_reason_by_now_is_of_that_cause(estate: Estate) -> None:
    letter = estate.letter(US)

    def now_refused(code: str, field: str, list_: str = "", value: str = "") -> list[tuple[str, str]]:
        with connection.transaction(estate.db):
            found = Dead(code, "why", field, 1, Locator("file", "x", 0), b"", list=list_, value=value)
            dead_letters.changed(estate.db, letter, found)
        return estate.db.execute("SELECT cause, kind FROM exceptions WHERE letter_id = ?", (letter,)).fetchall()

    assert now_refused("unknown_code", "uom", "units", "PCE") == [("unknown_code:units:PCE", "code")]
    assert now_refused("missing", "lines.sku") == [("missing:wms:lines.sku", "record")]


def test_a_record_whose_source_has_sent_a_later_version_is_left_and_named(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.send("1;bad", "2;bad", "1;newer")
    box.normalize()
    runtime = FakeRuntime()
    numbers = [number for (number,) in box.db.execute("SELECT id FROM dead_letters ORDER BY id")]
    cleared = clearing.retry(box.db, lambda _site: runtime, numbers, {"TEXT": "good"}, by="local:x", note="")
    assert (cleared.done, cleared.left) == (1, 1)
    ((letter, why),) = cleared.refused
    assert letter == numbers[0]
    assert "later version of 1" in why
    assert still_open(box) == 1
    box.close()
