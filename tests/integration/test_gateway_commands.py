"""Commands as the gateway takes them to agents, and what it makes of their answers."""

from __future__ import annotations

import queue
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from crossdock.errors import ConfigError
from crossdock.sitecommands import OUTPUT_BYTES, PART_BYTES, UNANSWERED_PER_AGENT
from crossdock.v1 import link_pb2
from crossdock.v1.link_pb2 import Command, CommandResult
from crossdock_controller.commands import sitecommands
from crossdock_controller.commands.sitecommands import CommandView
from crossdock_controller.store import commands, connection, migrate
from support.gateway import Gateway, Identity, running_gateway, stub, wait_until

EPOCH = b"e" * 16
NUMBERS = count()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("commands") / "controller") as running:
        yield running


class Agent:
    """A wire-level agent; use in a `with` statement for a session of it."""

    def __init__(self, gateway: Gateway, name: str) -> None:
        self.gateway, self.name = gateway, name
        self.identity: Identity = gateway.enroll(gateway.token(name, name))[0]

    def __enter__(self) -> Agent:
        return self.connect(["commands"])

    def __exit__(self, *_: object) -> None:
        self._outgoing.put(None)
        self._channel.close()

    def connect(self, capabilities: list[str], version: str = "0.2.0") -> Agent:
        self._outgoing: queue.Queue[link_pb2.Report | None] = queue.Queue()
        hello = link_pb2.Hello(
            protocol=1, version=version, instance=b"i1", epoch=EPOCH, capabilities=capabilities, host="h"
        )  # fmt: skip
        self._outgoing.put(link_pb2.Report(hello=hello))
        self._channel = self.gateway.link(self.identity)
        self._call = stub(self._channel).Control(iter(self._outgoing.get, None), timeout=60)
        assert next(self._call).WhichOneof("kind") == "welcome"
        return self

    def command(self) -> Command:
        return next(d.command for d in self._call if d.WhichOneof("kind") == "command")

    def say(self, *results: CommandResult) -> None:
        for result in results:
            self._outgoing.put(link_pb2.Report(command_result=result))

    def give(self, name: str = "check", **arguments: str) -> str:
        given = sitecommands.give(
            self.gateway.data, sitecommands.Target(self.name), name, arguments, "local:me", now_us()
        )
        return given[0].id

    def view(self, id_: str) -> CommandView:
        return sitecommands.show(self.gateway.data, id_, "local:me", 1)

    def ended(self, id_: str) -> CommandView:
        wait_until(lambda: self.view(id_).ended, "the command has its end")
        return self.view(id_)


def now_us() -> int:
    return time.time_ns() // 1000


def audited(gateway: Gateway, id_: str) -> list[str]:
    with closing(sqlite3.connect(gateway.data.state)) as db:
        return [a for (a,) in db.execute("SELECT action FROM audit WHERE target = ? ORDER BY seq", (id_,))]


def test_a_command_reaches_its_agent_whole_and_the_parts_of_the_answer_are_put_together(gateway: Gateway) -> None:
    agent = Agent(gateway, "whole")
    id_ = agent.give("logs", since_seconds="60", grep="a b")
    with agent:
        order = agent.command()
        assert (order.id, order.name, dict(order.arguments)) == (id_, "logs", {"since_seconds": "60", "grep": "a b"})
        assert (order.by, order.expires_us) == ("local:me", agent.view(id_).expires_us)
        agent.say(CommandResult(id=id_, started=True))
        wait_until(lambda: agent.view(id_).state == "running", "it runs")
        answer = b'{"text": ["one", "two"], "value": 3}'
        agent.say(
            CommandResult(id=id_, output=answer[:9], part=0, more=True),
            CommandResult(id=id_, output=answer[9:], part=1, ok=True),
        )
        view = agent.ended(id_)
    assert (view.state, view.text, view.value, view.output_bytes) == ("done", ("one", "two"), 3, len(answer))
    assert audited(gateway, id_) == ["command.give", "command.answer"]


def test_an_agent_that_did_not_answer_is_asked_again_over_each_new_stream(gateway: Gateway) -> None:
    agent = Agent(gateway, "again")
    id_ = agent.give()
    for _ in range(2):
        with agent:
            assert agent.command().id == id_
            agent.say(CommandResult(id=id_, output=b"half", part=0, more=True))
            wait_until(lambda: agent.view(id_).state == "sent", "it was sent")
    with agent:
        assert agent.command().id == id_
        agent.say(CommandResult(id=id_, output=b'{"text": [], "value": 1}', part=0, ok=True))
        assert agent.ended(id_).value == 1


def test_an_agent_of_an_older_release_is_named_with_what_to_do(gateway: Gateway) -> None:
    agent = Agent(gateway, "old")
    id_ = agent.give()
    agent.connect(["config", "certificate"], version="0.1.0")
    try:
        view = agent.ended(id_)
    finally:
        agent.__exit__()
    assert (view.state, view.error) == (
        "failed", "agent old (crossdock 0.1.0) is of a release that takes no commands: upgrade it",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("results", "state", "said"),
    [
        ([{"ok": False, "error": "no source"}], "failed", "no source"),
        ([{"refused": True, "error": "this site takes none"}], "refused", "this site takes none"),
        ([{"expired": True, "error": "too late"}], "expired", "too late"),
        ([{"output": b"a", "more": True}, {"output": b"c", "part": 2, "ok": True}], "failed", "came incomplete"),
        ([{"output": bytes(PART_BYTES + 1), "ok": True}], "failed", "a part is too large"),
        ([{"ok": True, "error": "x" * 100_000}], "done", "x" * 2000),
    ],
)
def test_what_the_agent_says_decides_the_end(
    gateway: Gateway, results: list[dict[str, object]], state: str, said: str
) -> None:
    agent = Agent(gateway, f"says-{next(NUMBERS)}")
    id_ = agent.give()
    with agent:
        agent.command()
        agent.say(*(CommandResult(id=id_, **fields) for fields in results))  # type: ignore[arg-type]
        view = agent.ended(id_)
    assert view.state == state
    assert said in view.error
    assert len(view.error) <= 2000
    assert view.text == ()


def test_what_was_never_answered_is_given_up_a_day_after_its_end_and_said_to_be_unknown(gateway: Gateway) -> None:
    agent = Agent(gateway, "silent")
    id_ = agent.give()
    with agent:
        agent.command()
        wait_until(lambda: agent.view(id_).state == "sent", "it was sent")
        with closing(connection.connect(gateway.data.state)) as db, connection.transaction(db):
            db.execute("UPDATE commands SET expires_us = ? WHERE id = ?", (now_us() - 86_000_000_000, id_))
        later = agent.give()
        wait_until(lambda: agent.view(later).state == "sent", "the gateway has looked since")
        assert agent.view(id_).state == "sent"  # not yet
        with closing(connection.connect(gateway.data.state)) as db, connection.transaction(db):
            db.execute("UPDATE commands SET expires_us = ? WHERE id = ?", (now_us() - 86_401_000_000, id_))
        view = agent.ended(id_)
    assert view.state == "failed"
    assert "no answer came: whether it ran there is not known" in view.error


def test_an_answer_beyond_the_limit_is_dropped_whole(gateway: Gateway) -> None:
    agent = Agent(gateway, "large")
    id_ = agent.give()
    with agent:
        agent.command()
        piece = bytes(PART_BYTES)
        parts = OUTPUT_BYTES // PART_BYTES + 1
        agent.say(*(CommandResult(id=id_, output=piece, part=n, more=True) for n in range(parts)))
        view = agent.ended(id_)
    assert (view.state, view.output_bytes) == ("failed", 0)
    assert "larger than 16 MiB" in view.error
    with closing(connection.connect(gateway.data.state)) as db:
        assert commands.output(db, id_) == b""


def test_nobody_answers_for_another_agent_or_twice(gateway: Gateway) -> None:
    victim, thief = Agent(gateway, "victim"), Agent(gateway, "thief")
    id_ = victim.give()
    own = thief.give()
    forged = CommandResult(id=id_, ok=True, output=b'{"text": ["all is well"], "value": 1}')
    with victim, thief:
        victim.command()
        thief.command()
        thief.say(forged, CommandResult(id="nothing", ok=True), CommandResult(id=own, ok=True))
        thief.ended(own)  # what was said before it was heard
        assert victim.view(id_).state == "sent"
        victim.say(CommandResult(id=id_, ok=False, error="the truth"), forged)
        assert victim.ended(id_).error == "the truth"
        last = victim.give()
        victim.command()
        victim.say(CommandResult(id=last, ok=True))
        victim.ended(last)
        assert (victim.view(id_).error, victim.view(id_).text) == ("the truth", ())
    assert audited(gateway, id_) == ["command.give", "command.answer"]


def test_an_agent_is_given_no_more_than_it_may_owe(gateway: Gateway) -> None:
    agent = Agent(gateway, "busy")
    for _ in range(UNANSWERED_PER_AGENT):
        agent.give()
    with pytest.raises(ConfigError, match="agent busy has 20 commands to answer already"):
        agent.give()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("shell", {}, "there is no command 'shell'"),
        ("try", {}, "try needs 'source'"),
        ("check", {"path": "/etc/passwd"}, "check takes no 'path'"),
        ("pause", {"source": "../x"}, "source '../x' is not valid"),
    ],
)
def test_a_command_that_is_none_is_not_given(gateway: Gateway, name: str, arguments: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        sitecommands.give(gateway.data, sitecommands.Target("x"), name, arguments, "local:me", now_us())


def test_old_commands_go_and_the_oldest_outputs_go_first(tmp_path: Path) -> None:
    migrate(tmp_path / "state.db")
    with closing(connection.connect(tmp_path / "state.db")) as db, connection.transaction(db):
        for n in range(4):
            id_ = f"purged-{n}"
            commands.add(
                db, id_=id_, agent="p", name="logs", arguments={}, by="b", created_us=n * 10, expires_us=n * 10 + 5
            )  # fmt: skip
            commands.add_part(db, id_, 0, b"x" * 100)
            if n < 3:
                commands.ended(db, id_, "done", "", n * 10 + 3)
        assert commands.purge(db, before_us=10, keep_bytes=150) == 2
        kept = {row.id: (row.state, len(commands.output(db, row.id))) for row in commands.newest(db, 10, ["p"])}
    assert kept == {"purged-3": ("waiting", 100), "purged-2": ("done", 100), "purged-1": ("done", 0)}
