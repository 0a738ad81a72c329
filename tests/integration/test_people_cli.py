"""`crossdock users` and `crossdock audit` as a person on the controller's machine types them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crossdock_controller import presence
from crossdock_controller.authority import Authority
from crossdock_controller.cli import root
from support.estate import Estate

Run = Callable[..., Result]


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path / "data")
    yield estate
    estate.close()


@pytest.fixture
def run(estate: Estate) -> Run:
    def run(*arguments: str, code: int = 0) -> Result:
        env = {"CROSSDOCK_DATA": str(estate.data.root), "COLUMNS": "200", "CROSSDOCK_SERVER": ""}
        found = CliRunner().invoke(root, [*arguments], env=env)
        assert found.exit_code == code, f"{found.output}\n{found.stderr}\n{found.exception!r}"
        return found

    return run


def _json(run: Run, *arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_a_person_is_made_given_a_role_more_and_less_disabled_and_removed(run: Run) -> None:
    made = run("users", "add", "anna", "--role", "operator", "--on", "region=us", "--on", "site=rtm1").stdout
    assert "user anna is operator on region=us, operator on site=rtm1" in made
    assert "next: crossdock users token create anna" in made
    assert (
        "engineer on env=prod,region=us"
        in run("users", "grant", "anna", "--role", "engineer", "--on", "region=us,env=prod").stdout
    )
    assert (
        "operator on site=rtm1"
        not in run("users", "revoke-role", "anna", "--role", "operator", "--on", "site=rtm1").stdout
    )
    assert "has no role admin" in run("users", "revoke-role", "anna", "--role", "admin", code=1).stderr
    assert "user anna is disabled" in run("users", "disable", "anna").stdout
    assert "nothing: disabled" in run("users", "list").stdout
    assert "operator on region=us" in run("users", "disable", "anna", "--undo").stdout
    assert "their tokens with them" in run("users", "remove", "anna").stdout
    assert "there is no user 'anna'" in run("users", "remove", "anna", code=1).stderr
    assert _json(run, "users", "list") == {"users": []}


def test_a_role_needs_sites_and_a_known_word(run: Run) -> None:
    assert "--on" in run("users", "add", "anna", "--role", "viewer", code=2).stderr
    assert "is not one of" in run("users", "add", "anna", "--role", "root", "--on", "all", code=2).stderr
    assert "selects no sites" in run("users", "add", "anna", "--role", "viewer", "--on", "us", code=1).stderr


def test_a_token_is_printed_alone_on_stdout_and_listed_without_its_secret(run: Run) -> None:
    run("users", "add", "anna", "--role", "viewer", "--on", "all")
    made = run("users", "token", "create", "anna", "--ttl", "90d", "--name", "laptop")
    token = made.stdout.strip()
    assert token.startswith("cdt_")
    assert "shown once" in made.stderr
    listed = run("users", "token", "list").stdout
    assert "laptop" in listed
    assert token not in listed
    (row,) = _json(run, "users", "token", "list", "anna")["tokens"]
    assert f"token {row['id']} of anna is revoked" in run("users", "token", "revoke", row["id"]).stdout
    assert _json(run, "users", "token", "list")["tokens"][0]["state"] == "revoked"
    assert "there is no API token" in run("users", "token", "revoke", "nothing", code=1).stderr


def test_the_audit_log_is_read_filtered_exported_and_proved(run: Run, estate: Estate) -> None:
    run("users", "add", "anna", "--role", "viewer", "--on", "all")
    run("agents", "revoke", "rtm1")
    shown = run("audit", "--action", "agents").stdout
    assert "agents.revoke" in shown
    assert "users.add" not in shown
    found = _json(run, "audit", "--target", "anna")["entries"]
    assert [(e["action"], e["details"]["grants"]) for e in found] == [("users.add", ["viewer on all"])]
    assert found[0]["actor"].startswith("local:")
    assert [e["action"] for e in _json(run, "audit", "--since", "1h", "--limit", "1")["entries"]] == ["agents.revoke"]
    assert "There is no such entry" in run("audit", "--actor", "nobody").stdout
    lines = [json.loads(line) for line in run("audit", "export").stdout.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert "No signed head stands beside it" in run("audit", "verify").stdout
    presence.Witness(estate.data, Authority.open(estate.data.authority)).step()
    assert "The audit log holds" in run("audit", "verify").stdout
    estate.db.execute("DROP TRIGGER audit_no_update")
    estate.db.execute("UPDATE audit SET target = 'atl1' WHERE action = 'agents.revoke'")
    told = run("audit", "verify", code=1).stdout
    assert f"entry {len(lines)} is not what was written" in told
    assert json.loads(run("audit", "verify", "--json", code=1).stdout)["broken"] == len(lines)


def test_a_backup_is_asked_whether_the_log_still_has_what_it_had(run: Run, estate: Estate, tmp_path: Path) -> None:
    run("users", "add", "anna", "--role", "viewer", "--on", "all")
    run("backup", str(tmp_path / "b"))
    assert "The audit log holds" in run("audit", "verify", "--backup", str(tmp_path / "b")).stdout
    estate.db.execute("DROP TRIGGER audit_no_delete")
    estate.db.execute("DELETE FROM audit WHERE action IN ('users.add', 'backup.create')")
    assert "The audit log holds" in run("audit", "verify").stdout, "by itself it cannot know"
    assert "its end was cut off" in run("audit", "verify", "--backup", str(tmp_path / "b"), code=1).stdout


def test_tokens_of_a_restored_backup_are_void_and_the_restore_is_in_the_log(run: Run, tmp_path: Path) -> None:
    run("users", "add", "anna", "--role", "viewer", "--on", "all")
    run("users", "token", "create", "anna")
    run("backup", str(tmp_path / "b"))
    run("restore", str(tmp_path / "b"), "--replace")
    assert [t["state"] for t in _json(run, "users", "token", "list")["tokens"]] == ["revoked"]
    assert _json(run, "audit", "--limit", "1")["entries"][0]["action"] == "backup.restore"
    assert _json(run, "audit", "verify")["sound"] is True
