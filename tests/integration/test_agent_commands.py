"""Commands at the agent, over the wire: each at most once, nothing that was not meant, and the site's word on top."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError
from crossdock.retry import Backoff
from crossdock.secrets import Secrets
from crossdock.v1.link_pb2 import Command, CommandResult, Directive
from crossdock_agent import health, pump, streams
from crossdock_agent.remote import children
from support import sources
from support.agents import RunningAgent, eventually, helpers_in_process, site_config
from support.controller import FakeController
from support.sources import config, reel

QUICK = Backoff(first_seconds=0.05, max_seconds=0.2)
LATER_US = time.time_ns() // 1000 + 3_600_000_000
NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "RETRY", QUICK)
    monkeypatch.setattr(health, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(streams.Stream.__init__, "__defaults__", (QUICK,))
    helpers_in_process(monkeypatch)
    sources.install()


@pytest.fixture
def controller() -> Iterator[FakeController]:
    fake = FakeController().start()
    yield fake
    fake.stop()


@pytest.fixture
def state(controller: FakeController, tmp_path: Path) -> Path:
    controller.identity(tmp_path / "state")
    controller.offer(site_config(1, config("wms"), config("erp")), 1)
    return tmp_path / "state"


@pytest.fixture
def agent(controller: FakeController, state: Path) -> Iterator[RunningAgent]:
    with RunningAgent(state) as running:
        controller.wait(lambda: (1, "applied") in controller.statuses(), "the configuration runs")
        yield running


def new_id() -> str:
    return f"{next(NUMBERS):016}"


def results(controller: FakeController, id_: str) -> list[CommandResult]:
    found = [r.command_result for r in controller.reports if r.WhichOneof("kind") == "command_result"]
    return [result for result in found if result.id == id_]


def send(
    controller: FakeController, name: str, arguments: Mapping[str, str], id_: str, expires_us: int = LATER_US
) -> None:
    order = Command(id=id_, name=name, arguments=arguments, expires_us=expires_us, by="user:ann")
    controller.send(Directive(command=order))


def answer(
    controller: FakeController, name: str, *, id_: str = "", expires_us: int = LATER_US, **arguments: str
) -> tuple[CommandResult, Any]:
    """The last part, and what all parts say."""
    id_ = id_ or new_id()
    before = len(results(controller, id_))
    send(controller, name, arguments, id_, expires_us)

    def last() -> CommandResult | None:
        new = results(controller, id_)[before:]
        return new[-1] if new and not new[-1].more and not new[-1].started else None

    controller.wait(last, f"{name} is answered")
    found = last()
    assert found is not None
    output = b"".join(result.output for result in results(controller, id_)[before:])
    return found, json.loads(output) if output else None


def states(agent: RunningAgent) -> dict[str, str]:
    status = agent.status()
    return {source.source: source.state for source in status.sources} if status else {}


def files(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*")}


HOSTILE_SOURCES = ["../../escape", "/etc/passwd", "-h", "--from-file=x", "a\nb", "..", "C:\\x", "wms\x00", "x" * 5000]


@pytest.mark.parametrize("name", ["try", "rescan", "pause", "resume"])
def test_a_hostile_source_is_refused_before_anything_is_done(
    controller: FakeController, agent: RunningAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(children, "answer", lambda *_: pytest.fail("a process was started"))
    before = files(tmp_path)
    for source in HOSTILE_SOURCES:
        said, _ = answer(controller, name, source=source)
        assert not said.ok
        assert "is not valid" in said.error
    made = files(tmp_path) - before
    assert all(file.startswith("state/") and "escape" not in file for file in made)
    assert {file for file in made if not file.startswith("state/logs/")} <= {"state/rates.json", "state/status.json"}


@pytest.mark.parametrize("name", ["", "shell", "../check", "check;ls", "__init__", "do", "_bundle", "x" * 10_000])
def test_a_command_that_is_none_is_refused(controller: FakeController, agent: RunningAgent, name: str) -> None:
    said, _ = answer(controller, name)
    assert not said.ok
    assert "there is no command" in said.error
    assert len(said.error) < 500


@pytest.mark.parametrize("id_", ["../../../../evil", "/tmp/evil", "", "a b", "A" * 16, "x" * 100_000, "..\\evil"])
def test_an_id_is_no_file_name_and_a_wrong_one_stops_nothing(
    controller: FakeController, agent: RunningAgent, tmp_path: Path, id_: str
) -> None:
    send(controller, "pause", {"source": "wms"}, id_)
    said, _ = answer(controller, "pause", source="erp")  # it came after the other, and was done after it
    assert said.ok
    assert results(controller, id_) == []
    assert "evil" not in "".join(files(tmp_path))
    eventually(lambda: states(agent)["erp"] == "paused", "erp is paused")
    assert states(agent)["wms"] != "paused"


def test_a_command_that_comes_twice_is_done_once_and_answered_twice(
    controller: FakeController, agent: RunningAgent
) -> None:
    id_ = new_id()
    first, told = answer(controller, "pause", id_=id_, source="wms")
    assert first.ok
    assert answer(controller, "resume", source="wms")[0].ok
    again, told_again = answer(controller, "pause", id_=id_, source="wms")
    assert (again.ok, told_again) == (True, told)
    eventually(lambda: states(agent)["wms"] == "waiting", "the source reads on")
    assert not (agent.settings.pauses_path.read_bytes()).count(b"wms")


def test_a_command_that_was_answered_is_remembered_by_the_next_process(controller: FakeController, state: Path) -> None:
    id_ = new_id()
    with RunningAgent(state):
        controller.wait(lambda: (1, "applied") in controller.statuses(), "the configuration runs")
        answer(controller, "pause", id_=id_, source="wms")
        answer(controller, "resume", source="wms")
    controller.cut()  # what it sends next is for the new stream
    with RunningAgent(state) as agent:
        controller.wait(lambda: len([r for r in controller.reports if r.HasField("hello")]) == 2, "it is back")
        again, told = answer(controller, "pause", id_=id_, source="wms")
        assert (again.ok, told["value"]["source"]) == (True, "wms")
        eventually(lambda: states(agent).get("wms") == "waiting", "the source reads on")


def test_a_damaged_note_of_a_command_is_answered_and_the_command_is_not_run_again(
    controller: FakeController, agent: RunningAgent
) -> None:
    id_ = new_id()
    answer(controller, "pause", id_=id_, source="wms")
    answer(controller, "resume", source="wms")
    for path in agent.settings.commands_path.glob("*.json"):
        path.write_bytes(b"{")
    said, _ = answer(controller, "pause", id_=id_, source="wms")
    assert not said.ok
    assert "whether it ran is not known; it is not run again" in said.error


def test_what_has_no_room_to_be_written_down_is_not_run(controller: FakeController, agent: RunningAgent) -> None:
    agent.settings.commands_path.write_bytes(b"a file where the folder should be")
    said, _ = answer(controller, "pause", source="wms")
    assert not said.ok
    assert "not run: " in said.error
    assert not agent.settings.pauses_path.exists()


def test_where_nothing_can_be_written_what_only_looks_is_answered_all_the_same(
    controller: FakeController, agent: RunningAgent
) -> None:
    agent.settings.commands_path.write_bytes(b"a file where the folder should be")
    said, told = answer(controller, "rescan", source="wms")
    assert (said.ok, told["value"]) == (True, {"sources": {"wms": ""}})
    assert not answer(controller, "restart")[0].ok


def test_a_command_past_its_end_is_not_begun(controller: FakeController, agent: RunningAgent) -> None:
    said, _ = answer(controller, "pause", expires_us=time.time_ns() // 1000 - 5_000_000, source="wms")
    assert (said.expired, said.ok) == (True, False)
    assert not agent.settings.pauses_path.exists()


def test_a_policy_counts_from_the_next_command_on_and_nothing_from_the_centre_changes_it(
    controller: FakeController, agent: RunningAgent, state: Path
) -> None:
    path = state / "policy.toml"
    assert answer(controller, "pause", source="wms")[0].ok
    path.write_text('remote_commands = ["resume", "rescan"]\nsources = ["wms"]\n')
    refused, _ = answer(controller, "pause", source="wms")
    assert (refused.refused, refused.ok) == (True, False)
    assert answer(controller, "resume", source="erp")[0].refused
    assert answer(controller, "resume", source="wms")[0].ok
    _, told = answer(controller, "rescan")
    assert told["value"] == {"sources": {"wms": ""}}
    assert "1 source(s) left out by the site's policy" in told["text"]
    path.write_text("oops")
    assert "every command is refused" in answer(controller, "resume", source="wms")[0].error
    assert path.read_text() == "oops"
    path.unlink()
    assert answer(controller, "pause", source="erp")[0].ok


def test_a_rescan_wakes_a_source_that_would_have_slept_on(controller: FakeController, state: Path) -> None:
    controller.offer(site_config(2, config("slow", poll=3600.0)), 2)
    with RunningAgent(state) as agent:
        eventually(lambda: states(agent).get("slow") == "waiting", "it read once and rests")
        reel("slow").lines = [b"new"]
        assert answer(controller, "rescan", source="slow")[0].ok
        controller.wait(lambda: controller.sequences("slow") == [1], "the new line has arrived", 30)


def test_commands_log_holds_no_line_that_the_centre_could_have_forged(
    controller: FakeController, agent: RunningAgent, state: Path
) -> None:
    order = Command(
        id=new_id(), name="logs\n2026-01-01 forged", by='eve"\n2026-01-01 forged', expires_us=LATER_US,
        arguments={"grep": "x\n2026-01-01 forged"},
    )  # fmt: skip
    controller.send(Directive(command=order))
    controller.wait(lambda: results(controller, order.id), "it is refused")
    eventually((state / "logs" / "commands.log").exists, "it is written down")
    lines = (state / "logs" / "commands.log").read_text("utf-8").splitlines()
    assert [line.startswith("2026-01-01 forged") for line in lines] == [False] * len(lines)
    assert len(lines) == 1


def test_anything_at_all_as_a_command_leaves_the_agent_well(controller: FakeController, agent: RunningAgent) -> None:
    rng = random.Random(5)
    letters = "abc./\\-_ \x00\n{}'\"$`|ü\u2028:%"

    def word() -> str:
        return "".join(rng.choice(letters) for _ in range(rng.randrange(60)))

    names = ["check", "try", "rescan", "logs", "pause", "resume", "restart", "support-bundle"]
    for turn in range(400):
        if turn % 40 == 0:
            assert answer(controller, "rescan", source="wms")[0].ok  # they are taken up as they come
        arguments = {word() or "x": word() for _ in range(rng.randrange(1, 4))}
        send(controller, rng.choice(names), arguments, rng.choice([new_id(), word()]), rng.choice([0, -1, LATER_US]))
    said, _ = answer(controller, "pause", source="wms")
    assert said.ok
    done = [r for r in controller.reports if r.WhichOneof("kind") == "command_result" and r.command_result.ok]
    assert len(done) == 11
    assert agent.problems() == ""


def test_what_an_agent_says_of_itself_carries_no_secret(
    controller: FakeController, agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSDOCK_SECRET_WMS_DB", "canary-in-heartbeat-9")
    Secrets(agent.settings.directory).resolve("secret:wms-db")
    said = "login failed: Driver=x;UID=sa;PWD=canary-typed-8;Server=erp for canary-in-heartbeat-9"
    reel("wms").failure = ConfigError(said, hint="is canary-in-heartbeat-9 right?")
    controller.offer(site_config(2, config("wms", version=2)), 2)
    controller.wait(lambda: (2, "failed") in controller.statuses(), "the revision is refused")
    eventually(lambda: "failing" in states(agent).values(), "the source fails")
    count = len(controller.reports)
    controller.wait(lambda: len(controller.reports) > count + 2, "heartbeats went on")
    told = b"".join(report.SerializeToString() for report in controller.reports)
    assert b"login failed" in told
    assert b"canary" not in told
    eventually(lambda: b"login failed" in agent.settings.status_path.read_bytes(), "the status says it")
    assert b"canary" not in agent.settings.status_path.read_bytes()
