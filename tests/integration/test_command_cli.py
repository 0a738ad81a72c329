"""`crossdock command` as it is typed: what it takes, what it says, and what it leaves to the site's answer."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crossdock_controller.cli import root
from crossdock_controller.commands import sitecommands
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import agents, commands, connection, migrate
from crossdock_controller.store.commands import CommandRow


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """A controller's data, with agents at two sites, one of them revoked; no controller runs."""
    data = DataDirectory(tmp_path)
    data.prepare()
    migrate(data.state)
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        for agent, site in (("atl1", "atl1"), ("rtm1-a", "rtm1"), ("rtm1-b", "rtm1"), ("gone", "gone")):
            agents.record_enrolled(db, agent, site, host="h", platform="p", version="1", expires_us=0, now_us=1)
        agents.revoke(db, "gone")
    return data


def typed(data: DataDirectory, *words: str) -> Result:
    return CliRunner().invoke(root, ["command", *words, "--data", str(data.root)])


def given(data: DataDirectory) -> list[sitecommands.CommandView]:
    return sitecommands.listed(data)


def answered(data: DataDirectory, id_: str, state: str, error: str, output: bytes) -> None:
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        commands.add_part(db, id_, 0, output)
        commands.ended(db, id_, state, error, time.time_ns() // 1000)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["atl1"], "name a command behind the site or agent: check, try"),
        (["atl1", "chek"], "name a command behind the site or agent"),
        (["check"], "name a command behind the site or agent"),
        (["atl1", "try"], "try needs a SOURCE"),
        (["atl1", "check", "wms"], "check takes nothing behind it"),
        (["atl1", "pause", "a", "b"], "pause takes one SOURCE, not ['a', 'b']"),
        (["atl1", "check", "--since", "1h"], "--since is for logs, not for check"),
        (["atl1", "logs", "--records", "3"], "--records is for try, not for logs"),
        (["atl1", "logs", "--grep", "a\nb"], "is not valid"),
        (["atl1", "pause", "../x"], "source '../x' is not valid"),
        (["atl2", "check"], "there is no site or agent 'atl2'"),
        (["gone", "check"], "agent 'gone' is revoked"),
        (["rtm1", "restart"], "restart is for one agent at a time, and 2 are meant: rtm1-a, rtm1-b"),
        (["--all", "pause", "wms"], "pause is for one agent at a time"),
        (["atl1", "check", "--for", "30d"], "may wait for 1 s to 7 d"),
        (["--label", "region=us", "check"], "sites have their labels from the configuration"),
        (["rtm1", "support-bundle", "--out", "x.zip"], "several agents are meant"),
        (["show"], "crossdock command show ID"),
        (["show", "abc"], "there is no command 'abc'"),
    ],
)
def test_what_is_mistyped_is_told_and_gives_nothing(data: DataDirectory, words: list[str], said: str) -> None:
    done = typed(data, *words)
    assert done.exit_code != 0
    assert said in " ".join(done.output.split())
    assert given(data) == []


def test_a_site_means_all_its_agents_and_everyone_means_those_that_may_connect(data: DataDirectory) -> None:
    assert typed(data, "rtm1", "check", "--no-wait").exit_code == 0
    assert {view.agent for view in given(data)} == {"rtm1-a", "rtm1-b"}
    typed(data, "--all", "rescan", "--no-wait")
    assert {view.agent for view in given(data) if view.name == "rescan"} == {"atl1", "rtm1-a", "rtm1-b"}


def test_where_no_controller_runs_it_says_so_and_the_command_waits(data: DataDirectory) -> None:
    done = typed(data, "atl1", "check", "--timeout", "1s")
    assert done.exit_code == 1
    assert "atl1: no answer yet, waiting (is the controller running?); later: crossdock command show " in done.output


def test_an_answer_is_read_again_by_the_beginning_of_its_id_and_reading_records_is_audited(data: DataDirectory) -> None:
    typed(data, "atl1", "try", "wms", "--no-wait")
    [view] = given(data)
    answered(data, view.id, "done", "", b'{"text": ["NO", "A-9"], "value": {"rows": [["A-9"]]}}')
    shown = typed(data, "show", view.id[:6])
    assert shown.exit_code == 0
    assert "try source=wms for atl1, given by local:" in shown.output
    assert "  A-9" in shown.output
    assert json.loads(typed(data, "show", view.id, "--json").output)["value"] == {"rows": [["A-9"]]}
    with closing(connection.connect(data.state)) as db:
        actions = [action for (action,) in db.execute("SELECT action FROM audit WHERE target = ?", (view.id,))]
    assert actions == ["command.give", "command.read", "command.read"]


def test_records_in_an_answer_that_comes_while_it_is_asked_for_are_audited_too(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(data, "atl1", "try", "wms", "--no-wait")
    [view] = given(data)
    found = sitecommands._one

    def answered_after(*about: Any) -> CommandRow:
        row = found(*about)
        answered(data, view.id, "done", "", b'{"text": ["NO", "A-9"], "value": null}')
        return row

    monkeypatch.setattr(sitecommands, "_one", answered_after)
    assert "A-9" in sitecommands.show(data, view.id, "user:anna", 9).text
    with closing(connection.connect(data.state)) as db:
        read = db.execute("SELECT actor FROM audit WHERE action = 'command.read'").fetchall()
    assert read == [("user:anna",)]


def test_what_a_site_says_cannot_steer_the_terminal(data: DataDirectory) -> None:
    typed(data, "atl1", "logs", "--no-wait")
    [view] = given(data)
    text = json.dumps({"text": ["\x1b[2J\x1b]0;owned\x07 line \u202e one", "[bold]x[/]"], "value": None})
    answered(data, view.id, "failed", "\x1b[31mred\r\nforged: done", text.encode())
    for words in (["show", view.id], ["list"]):
        output = typed(data, *words).output
        assert "\x1b" not in output
        assert "\u202e" not in output
        assert "\nforged" not in output
    assert "[bold]x[/]" in typed(data, "show", view.id).output


@pytest.mark.parametrize("output", [b"\xff\xfe", b"[]", b'{"value": 1}', b"[" * 100_000, b'{"text": 5}'])
def test_an_answer_that_is_none_is_said_to_be_unreadable(data: DataDirectory, output: bytes) -> None:
    typed(data, "atl1", "check", "--no-wait")
    [view] = given(data)
    answered(data, view.id, "done", "", output)
    shown = typed(data, "show", view.id)
    assert shown.exit_code == 0
    assert "that this release cannot read" in shown.output


def test_a_bundle_is_written_once_and_only_a_bundle_is_a_file(data: DataDirectory, tmp_path: Path) -> None:
    typed(data, "atl1", "support-bundle", "--no-wait")
    [view] = given(data)
    target = tmp_path / "bundle.zip"
    early = typed(data, "show", view.id, "--out", str(target))
    assert (early.exit_code, target.exists()) == (1, False)
    assert "has no file: it is waiting" in early.output
    answered(data, view.id, "done", "", b"PK zip")
    assert typed(data, "show", view.id, "--out", str(target)).exit_code == 0
    assert target.read_bytes() == b"PK zip"
    again = typed(data, "show", view.id, "--out", str(target))
    assert (again.exit_code, target.read_bytes()) == (1, b"PK zip")
    typed(data, "atl1", "check", "--no-wait")
    other = typed(data, "show", given(data)[0].id, "--out", str(tmp_path / "x"))
    assert "check answers in words, not with a file" in other.output


def test_the_list_is_of_one_site_when_it_is_named_and_empty_at_first(data: DataDirectory) -> None:
    assert "No command was given yet." in typed(data, "list").output
    typed(data, "atl1", "check", "--no-wait")
    typed(data, "rtm1-a", "rescan", "--no-wait")
    assert [v["agent"] for v in json.loads(typed(data, "list", "atl1", "--json").output)["commands"]] == ["atl1"]
    assert len(json.loads(typed(data, "list", "--json").output)["commands"]) == 2
