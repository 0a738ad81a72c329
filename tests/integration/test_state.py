"""The current state: it follows the log by its own cursor, and answers what a document is and what each system has."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import ConfigError
from crossdock.lifecycle import Stop
from crossdock_controller.cli import root
from crossdock_controller.commands import state as commands
from crossdock_controller.operations import carry, table
from crossdock_controller.projecting import MAX_REFS, STEP, Projector, refs_of
from crossdock_controller.sinks.base import DONE, Outgoing, Verdict
from crossdock_controller.store import projection
from support.estate import EU, US, Estate, caller
from support.pipeline import Box, FakeRuntime, FakeSink, wait_for
from support.serving import line


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "data")
    yield box
    box.close()


@pytest.fixture
def run(box: Box) -> Callable[..., Result]:
    def run(*arguments: str, code: int = 0) -> Result:
        found = CliRunner().invoke(root, [*arguments], env={"CROSSDOCK_DATA": str(box.data.root), "COLUMNS": "200"})
        assert found.exit_code == code, f"{found.output}\n{found.stderr}\n{found.exception!r}"
        return found

    return run


def project(box: Box) -> None:
    projector = Projector(box.db)
    while projector.step():
        pass


def rows(box: Box) -> tuple[list[Any], list[Any]]:
    latest = box.db.execute("SELECT document, source_id, key, event_seq FROM current ORDER BY 1, 2, 3").fetchall()
    return latest, box.db.execute("SELECT name, value, document, key FROM refs ORDER BY 1, 2, 3, 4").fetchall()


def test_it_takes_in_the_whole_log_in_steps_and_again_gives_the_same(box: Box) -> None:
    n = 2 * STEP + 40
    box.send(*(f"{i % 300};t{i}" for i in range(n)))
    box.send("7;from the ERP", source="erp")
    box.normalize()
    projector = Projector(box.db)
    assert projector.step()
    assert projection.cursor(box.db) == STEP
    project(box)
    latest, refs = rows(box)
    assert projection.cursor(box.db) == n + 1
    assert len(latest) == 301
    assert [seq for _, source, key, seq in latest if key == "7"] == [301 + 7, n + 1], "of each source the latest"
    assert ("order", "7", "SalesOrder", "7") in refs
    box.db.executescript("DELETE FROM current; DELETE FROM refs; DELETE FROM projections;")
    project(box)
    assert rows(box) == (latest, refs)


def test_a_step_that_fails_leaves_the_cursor_with_what_it_accounts_for(box: Box) -> None:
    box.send(*(f"{i};t" for i in range(10)))
    box.normalize()
    box.db.execute("CREATE TRIGGER full BEFORE INSERT ON refs BEGIN SELECT RAISE(ABORT, 'disk'); END")
    with pytest.raises(sqlite3.Error, match="disk"):
        Projector(box.db).step()
    assert (projection.cursor(box.db), rows(box)) == (0, ([], []))
    box.db.execute("DROP TRIGGER full")
    project(box)
    assert projection.cursor(box.db) == 10


def test_two_that_follow_the_log_at_once_never_go_back(box: Box) -> None:
    box.send(*(f"{i};t" for i in range(STEP + 10)))
    box.normalize()
    one, other = Projector(box.db), Projector(box.db)
    assert one.step()
    assert other.step()
    assert projection.cursor(box.db) == STEP + 10
    assert one.step(), "it sees that another has moved the cursor"
    assert not one.step()
    assert len(rows(box)[0]) == STEP + 10


def test_a_damaged_body_costs_what_it_refers_to_and_not_the_rest(box: Box) -> None:
    box.send("1;a")
    box.normalize()
    box.db.execute("UPDATE bodies SET data = x'00'")
    box.send("2;b")
    box.normalize()
    project(box)
    latest, refs = rows(box)
    assert [key for _, _, key, _ in latest] == ["1", "2"]
    assert {value for _, value, _, _ in refs} == {"2"}


def test_the_normalizer_follows_by_itself_in_the_time_that_records_leave_and_after_a_restart(box: Box) -> None:
    box.send(*(f"{i};a" for i in range(STEP + 5)))
    for n in (STEP + 5, STEP + 6):
        stop = Stop()

        def work(stop: Stop = stop) -> None:
            normalizer = box.normalizer()
            normalizer.run(stop)
            normalizer.close()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            wait_for(lambda n=n: projection.cursor(box.db) == n, "every event is taken in")
        finally:
            stop.set()
            thread.join(30)
        assert not thread.is_alive()
        box.send("9999;b")
    assert ("order", "9999", "SalesOrder", "9999") in rows(box)[1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["lines", "sku", "customer", "id", "number", "order_number", "supplier"]), inner, max_size=4
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["lines", "sku", "customer", "number", "supplier", "reference"]), JSON))
def test_whatever_a_document_holds_its_references_are_texts_and_nothing_is_raised(body: dict[str, Any]) -> None:
    assert all(isinstance(value, str) and value for _, value in refs_of("SalesOrder", body))


def test_the_references_of_a_document_are_bounded() -> None:
    lines = [{"sku": f"S{i}", "order_number": f"{i}"} for i in range(5000)]
    found = refs_of("Shipment", {"number": "S1", "customer": {"id": "C1"}, "lines": lines})
    assert len(found) == MAX_REFS
    assert {("shipment", "S1"), ("number", "S1"), ("customer", "C1")} <= found


def test_get_tells_what_changed_where_it_came_from_and_what_each_system_believes(
    box: Box, run: Callable[..., Result]
) -> None:
    runtime = FakeRuntime("finance", "webshop")
    box.send("4711;first")
    box.normalize(runtime)
    with line(box, FakeSink(), "finance") as deliver:
        deliver()

    def decide(delivery: Outgoing) -> Verdict:
        return DONE if b"first" in delivery.body else Verdict("rejected", "409", "closed")

    webshop = FakeSink(decide)
    with line(box, webshop, "webshop") as deliver:
        deliver()
        box.send("4711;second")
        box.normalize(runtime)
        deliver()
        box.send("4711;third", source="erp")
        box.normalize(runtime)
        deliver()
    (known,) = json.loads(run("get", "order", "4711", "--json").stdout)["documents"]
    assert known["body"] == {"number": "4711", "text": "third"}
    assert [v["number"] for v in known["versions"]] == [1, 2, 3]
    assert known["versions"][1]["changes"] == [{"path": "text", "before": "first", "after": "second"}]
    assert known["versions"][0]["changes"] == []
    assert (known["versions"][2]["source"], known["versions"][2]["place"]) == ("erp", "file-1.csv line 1")
    finance, shop = known["sinks"]
    assert (finance["sink"], finance["has"], finance["waiting"]) == ("finance", 1, [[2, "pending"], [3, "pending"]])
    assert (shop["sink"], shop["has"], shop["waiting"]) == ("webshop", 1, [[2, "dead"], [3, "held"]])
    said = run("get", "order", "4711").stdout
    assert "text: second → third" in said
    assert "version 2 (dead), version 3 (held)" in said
    assert "nothing is known" in run("get", "4712", code=1).stdout
    assert "is not a kind" in run("get", "odrer", "1", code=1).stderr


def test_find_by_what_is_referred_to_time_site_and_state(box: Box, run: Callable[..., Result]) -> None:
    box.send("1;a", "2;a", "3;a")
    box.normalize()
    with line(box, FakeSink(lambda d: Verdict("rejected", "1", "no") if d.key == "2" else DONE), "finance") as deliver:
        deliver()
    box.send("1;b")
    box.normalize()
    project(box)

    def keys(*arguments: str) -> list[str]:
        return [d["key"] for d in json.loads(run("find", *arguments, "--json").stdout)["documents"]]

    assert keys() == keys("--since", "24h") == keys("--since", "today", "--site", "atl1") == ["1", "3", "2"]
    assert keys("--order", "2") == keys("--state", "dead") == keys("--state", "dead", "--order", "2") == ["2"]
    assert keys("--state", "done") == ["3"], "the latest version of 1 is not delivered"
    assert keys("--state", "pending", "--document", "order") == ["1"]
    assert keys("--limit", "1") == ["1"]
    assert keys("--customer", "C1") == keys("--site", "rtm1") == keys("--since", "2099-01-01") == []
    assert "SalesOrder" in run("find", "--order", "2").stdout
    assert "is not a time" in run("find", "--since", "mnday", code=2).stderr
    assert "no state" in run("find", "--state", "daed", code=1).stderr
    with pytest.raises(ConfigError, match="not known by"):
        commands.find(box.data, {"x": "1"}, by="local:x", now_us=1)


def test_a_document_that_no_longer_refers_to_it_is_not_found_by_it(box: Box) -> None:
    box.send("1;a")
    box.normalize()
    project(box)
    box.db.execute("INSERT INTO refs(name, value, document, key) VALUES('customer', 'C9', 'SalesOrder', '1')")
    assert commands.find(box.data, {"customer": "C9"}, by="local:x", now_us=1) == []


def test_who_sees_one_site_gets_and_finds_documents_of_that_site_only(tmp_path: Path) -> None:
    estate = Estate(tmp_path / "data")
    anna = caller("viewer", "region=us")

    def call(name: str, **arguments: Any) -> Any:
        return json.loads(carry.carry_out(table.BY_NAME[name], estate.data, anna, msgspec.json.encode(arguments)))

    assert [d["key"] for d in call("state.find", refs={})] == ["U1"]
    assert call("state.get", number="E1") == []
    assert call("state.get", number="U1")[0]["versions"][0]["site"] == US
    assert EU not in json.dumps(call("state.find", refs={}))
    estate.close()
