"""What an operator types about tokens, enrolments and identities, and what is said back."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crossdock_controller import exits
from crossdock_controller.authority import token_hash
from crossdock_controller.cli import root
from crossdock_controller.paths import Addresses, write_addresses
from crossdock_controller.store import agents, connection, enrolments, machines, refusals
from support.pipeline import Box

NOW_US = 1_772_366_400_000_000


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "data")
    write_addresses(box.data, Addresses("127.0.0.1:1", "127.0.0.1:2"))
    yield box
    box.close()


@pytest.fixture
def run(box: Box) -> Callable[..., Result]:
    def run(*arguments: str, code: int = 0) -> Result:
        found = CliRunner().invoke(root, [*arguments], env={"CROSSDOCK_DATA": str(box.data.root), "COLUMNS": "200"})
        assert found.exit_code == code, f"{found.output}\n{found.stderr}\n{found.exception!r}"
        return found

    return run


def answer(run: Callable[..., Result], *arguments: str, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


def asks(box: Box, made: dict[str, Any], key: str, host: str = "WMS-07") -> None:
    """A request to enrol with the token of *made*, as the port takes it."""
    secret = json.loads(base64.urlsafe_b64decode(made["token"].removeprefix("cd1_") + "==="))["t"]
    ask = enrolments.Ask(token_hash(secret), key, f"CODE-{key}", host, "Windows", "1", "ab" * 32, "10.4.0.17")
    with connection.transaction(box.db):
        found = enrolments.request(box.db, ask, approve_all=False, now_us=made["expires_us"] - 1_000_000)
    assert isinstance(found, enrolments.Enrolment)


def audited(box: Box) -> list[tuple[str, str]]:
    return box.db.execute(
        "SELECT action, target FROM audit WHERE action LIKE 'agents.%' OR action LIKE 'token.%' ORDER BY seq"
    ).fetchall()


def test_a_token_of_several_uses_is_made_listed_and_revoked_and_never_shown_again(
    box: Box, run: Callable[..., Result]
) -> None:
    assert "There are no join tokens." in run("token", "list").stdout
    made = answer(run, "token", "create", "--site", "atl1", "--uses", "3", "--approve")
    assert (made["agent"], made["uses"], made["approve"]) == ("", 3, True)
    assert made["linux"] == f"sudo {made['command']}"
    assert made["windows"] == f"crossdock-agent.exe enroll --token '{made['token']}'"
    assert run("token", "create", "--site", "rtm1", "--for", "windows").stdout.startswith("crossdock-agent.exe enroll")
    assert "leave --agent out" in run("token", "create", "--site", "atl1", "--uses", "2", "--agent", "x", code=1).stderr
    told = run("token", "list").stdout
    assert made["id"] in told
    assert "3 of 3" in told
    assert "by a person" in told
    assert made["token"] not in run("token", "list", "--json").stdout
    asks(box, made, "K1")
    assert (
        f"token {made['id']} of site atl1 is revoked; 1 of 3 uses were made"
        in run("token", "revoke", made["id"]).stdout
    )
    assert {t["id"]: t["state"] for t in answer(run, "token", "list")["tokens"]}[made["id"]] == "revoked"
    assert "No agent waits" in run("agents", "pending").stdout  # it waited on that token
    assert "there is no token 'zz'" in run("token", "revoke", "zz", code=1).stderr


def test_who_waits_is_listed_approved_by_code_or_denied_with_a_reason(box: Box, run: Callable[..., Result]) -> None:
    made = answer(run, "token", "create", "--site", "atl1", "--uses", "3", "--approve")
    asks(box, made, "K1")
    asks(box, made, "K2")
    told = run("agents", "pending").stdout
    for words in ("atl1-wms-07", "atl1-wms-07-2", "CODE-K1", "10.4.0.17", "WMS-07 (Windows, machine abababab)"):
        assert words in told
    assert "crossdock agents approve atl1-wms-07 --code CODE-K1" in told
    assert (
        "waits with code CODE-K1, not CODE-K2"
        in run("agents", "approve", "atl1-wms-07", "--code", "CODE-K2", code=1).stderr
    )
    assert "is let in" in run("agents", "approve", "atl1-wms-07", "--code", "code-k1").stdout
    assert "is denied" in run("agents", "deny", "atl1-wms-07-2", "--because", "not ours").stdout
    assert answer(run, "agents", "pending")["pending"] == []
    assert [e.because for e in enrolments.of_agent(box.db, "atl1-wms-07-2")] == ["not ours"]
    assert audited(box)[1:] == [("agents.approve", "atl1-wms-07"), ("agents.deny", "atl1-wms-07-2")]


def test_an_identity_is_moved_and_taken_away_and_the_reason_is_kept(box: Box, run: Callable[..., Result]) -> None:
    agents.record_enrolled(
        box.db, "atl1", "atl1", host="wms-01", platform="", version="0.1.0", expires_us=2**60, now_us=NOW_US
    )
    machines.bind(box.db, "atl1", "ab" * 32, "wms-01", NOW_US)
    assert "which wms-01 had" in run("agents", "move", "atl1").stdout
    assert [r["kind"] for r in answer(run, "fleet", "risks")["risks"]] == ["move"]
    assert "is revoked" in run("agents", "revoke", "atl1", "--because", "laptop stolen").stdout
    (shown,) = answer(run, "agents")["agents"]
    assert (shown["state"], shown["problems"][0].endswith(": laptop stolen")) == ("revoked", True)
    assert audited(box) == [("agents.move", "atl1"), ("agents.revoke", "atl1")]
    for command in ("move", "revoke"):
        assert "there is no agent 'osl1'" in run("agents", command, "osl1", code=1).stderr


def test_what_presses_stands_in_the_risks_on_the_status_page_and_in_the_exit_code(
    box: Box, run: Callable[..., Result]
) -> None:
    assert "Nobody will lock out." in run("fleet", "risks").stdout
    now_us = int(time.time() * 1e6)
    agents.record_enrolled(
        box.db, "atl1", "atl1", host="wms-01", platform="", version="0.1.0", expires_us=2**60, now_us=now_us
    )
    refusals.add(box.db, "machine", "atl1", "10.4.0.99", 7, "wms-copy", now_us)
    told = run("fleet", "risks", code=exits.PRESSING).stdout
    assert "another machine, wms-copy at 10.4.0.99" in told
    assert "7 times" in told
    assert "next: if it is to take the other's place: crossdock agents move atl1" in told
    assert answer(run, "fleet", "risks", code=exits.PRESSING)["pressing"] == 1
    assert "another machine, wms-copy" in run("status").stdout
    assert "another machine, wms-copy" in run("agents").stdout
