"""Sinks and replays as an operator steers them, from the command line to files on the disk."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crossdock.lifecycle import Stop
from crossdock_controller.cli import root
from crossdock_controller.config.errors import ConfigInvalid
from crossdock_controller.config.load import load
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.dispatch import Dispatcher
from crossdock_controller.store.account import account
from support.estate import TREE, Estate
from support.pipeline import wait_for

Run = Callable[..., Result]


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path / "data")
    yield estate
    estate.close()


@pytest.fixture
def run(estate: Estate) -> Run:
    def invoke(*words: str, ok: bool = True) -> Result:
        result = CliRunner().invoke(root, [*words, "--data", str(estate.data.root)])
        assert not ok or result.exit_code == 0, result.output + repr(result.exception)
        return result

    return invoke


@pytest.fixture
def dispatching(estate: Estate) -> Iterator[None]:
    stop = Stop()

    def work() -> None:
        dispatcher = Dispatcher(estate.data, Runtime.from_tree)
        dispatcher.run(stop)
        dispatcher.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def delivered(estate: Estate) -> int:
    return sum(row.delivered for row in account(estate.data.state, estate.data.intake))


def asked(run: Run, *words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def test_a_paused_sink_says_who_and_why_everywhere_and_goes_on_when_resumed(estate: Estate, run: Run) -> None:
    said = run("sinks", "pause", "files", "--because", "the ERP is moved").output
    assert "paused by local:" in said
    for words in (["sinks", "list"], ["sinks", "show", "files"], ["status"]):
        assert "the ERP is moved" in " ".join(run(*words).output.split()), words
    assert "paused by" in asked(run, "top", "--interval", "0.01", "--once")["sinks"][0]["problem"]
    assert "crossdock sinks resume files" in run("sinks", "show", "files").output
    view = asked(run, "sinks", "resume", "files", "--because", "it is there")["view"]
    assert (view["paused"], view["said_because"]) == (False, "it is there")
    entries = estate.db.execute("SELECT action, target FROM audit WHERE action LIKE 'sinks.%'").fetchall()
    assert entries == [("sinks.pause", "files"), ("sinks.resume", "files")]


def test_a_sink_is_drained_before_its_maintenance_and_what_it_has_is_sent_again_after(
    estate: Estate, run: Run, dispatching: None
) -> None:
    found = asked(run, "sinks", "drain", "files", "--because", "maintenance")
    wait_for(lambda: asked(run, "sinks", "show", "files")["view"]["paused"], "it is drained")
    assert not found["view"]["draining"], "the command waited for it"
    before = delivered(estate)
    assert before > 0
    run("sinks", "resume", "files")
    counted = asked(run, "replay", "events", "--sink", "files", "--again", "--dry-run")
    assert (counted["counts"]["send"], counted["replay"]) == (before, None)
    unexplained = run("replay", "events", "--sink", "files", ok=False)
    assert unexplained.exit_code != 0
    assert "a replay needs a reason" in unexplained.output
    begun = asked(run, "replay", "events", "--sink", "files", "--again", "--because", "restored on Sunday")
    number = str(begun["replay"]["id"])
    wait_for(lambda: asked(run, "replay", "show", number)["sent"] == before, "all are sent again")
    assert "restored" in run("replay", "list").output
    assert "over: done" in run("replay", "cancel", number, ok=False).output
    assert delivered(estate) == before


def test_a_replay_takes_a_kind_as_people_say_it_and_refuses_what_is_none(
    estate: Estate, run: Run, dispatching: None
) -> None:
    run("sinks", "drain", "files", "--because", "all is delivered then")
    (kind,) = estate.db.execute("SELECT document FROM events LIMIT 1").fetchone()
    words = ("replay", "events", "--sink", "files", "--unrouted", "--again", "--dry-run", "--document")
    exactly = asked(run, *words, kind)["counts"]["send"]
    assert exactly > 0
    assert asked(run, *words, kind.lower() + "s")["counts"]["send"] == exactly
    for wrong, said in (("gadget", "is not a kind of document"), ("order", "one of PurchaseOrder, SalesOrder")):
        refused = run(*words, wrong, ok=False)
        assert refused.exit_code == 1
        assert said in refused.output


def test_what_was_chosen_for_a_replay_is_shown_as_it_was_typed(estate: Estate, run: Run, dispatching: None) -> None:
    run("sinks", "drain", "files", "--because", "all is delivered then")
    (key,) = estate.db.execute("SELECT key FROM events LIMIT 1").fetchone()
    words = ("replay", "events", "--sink", "files", "--unrouted", "--again", "--key", key)
    begun = asked(run, *words, "--because", "[/] [red]")
    shown = run("replay", "show", str(begun["replay"]["id"])).output
    assert "[/] [red]" in shown
    assert f"chosen: key={key}, unrouted, again" in shown


def test_a_sink_is_reached_without_sending_anything(run: Run) -> None:
    assert asked(run, "sinks", "check", "files")["ok"] is True
    refused = run("sinks", "check", "nobody", ok=False)
    assert refused.exit_code != 0
    assert "no sink 'nobody'" in refused.output


def test_the_policy_of_a_sink_is_read_from_its_file_and_shown(estate: Estate, run: Run) -> None:
    policy = "rate: 50/s\nsupersede: [StockLevel]\nttl_hours: {Shipment: 4}\nversions: {Shipment: 1}\n"
    estate.apply({**TREE, "sinks/files.yaml": TREE["sinks/files.yaml"] + policy})
    assert asked(run, "sinks", "show", "files")["policy"] == {
        "rate": 50.0, "supersede": ["StockLevel"], "ttl_hours": {"Shipment": 4.0}, "versions": {"Shipment": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rate: fast", "is not a rate of deliveries"),
        ("rate: 0/s", "must be at least 0.001"),
        ("supersede: [Stocklevel]", "did you mean 'StockLevel'?"),
        ("ttl_hours: {Shipment: 0}", "must be more than 0"),
        ("versions: {Shipment: 0}", "must be at least 1"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_its_place(line: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load({**TREE, "sinks/files.yaml": TREE["sinks/files.yaml"] + line + "\n"})
    (problem,) = caught.value.problems
    assert problem.file == "sinks/files.yaml"
    assert said in problem.text()
