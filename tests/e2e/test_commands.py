"""Commands to a site, between real processes: given, refused, waited for, and survived by both ends."""

from __future__ import annotations

import getpass
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from support.command_site import CommandSite
from support.gateway import wait_until
from support.people import Api

pytestmark = pytest.mark.slow
ME = f"local:{getpass.getuser()}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandSite]:
    site = CommandSite(tmp_path_factory.mktemp("commands"), "atl1", "rtm1")
    (site.drop / "one.csv").write_text("NO,QTY\nSHP-1,50000\nSHP-2,70000\n")
    with site:
        wait_until(lambda: site.received() == 2, "the first file has arrived")
        yield site


@pytest.fixture(autouse=True)
def _no_policy(site: CommandSite) -> Iterator[None]:
    yield
    site.policy(None)
    for agent in site.agents.values():
        if not agent.alive():
            agent.start()
    if not site.centre.process.alive():
        site.centre.start()


def frozen_child(agent: int) -> psutil.Process:
    """The process that works for the agent's command, stopped in its tracks."""
    found: list[psutil.Process] = []

    def caught() -> bool:
        with suppress(psutil.Error):
            for child in psutil.Process(agent).children():
                if "answer" in child.cmdline():
                    child.suspend()
                    found.append(child)
        return bool(found)

    wait_until(caught, "the agent works on the command")
    return found[0]


def end(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        process.kill()
        process.wait(10)


def test_a_site_answers_and_both_ends_have_it_in_writing(site: CommandSite) -> None:
    check = site.one("atl1", "check")
    assert (check["state"], check["agent"], check["by"]) == ("done", "atl1", ME)
    said = {finding["name"]: finding for finding in check["value"]}
    assert said["certificate"]["ok"]
    assert said["policy"]["detail"] == "remote commands: all; values of records are not shown"
    assert said["controller"]["ok"]
    assert any(line.startswith("ok    outbox: ") for line in check["text"])
    assert site.audited(check["id"]) == [
        (ME, "command.give"), ("agent:atl1", "command.answer"), (ME, "command.read"),
    ]  # fmt: skip
    lines = [line for line in site.record().splitlines() if check["id"] in line]
    assert [f'"{ME}" "check"' in line for line in lines] == [True, True]
    assert lines[0].endswith("begins")
    assert "done (" in lines[1]


def test_a_trial_shows_shapes_unless_the_site_lets_values_out(site: CommandSite) -> None:
    shapes = site.one("atl1", "try", "wms", "--records", "1")
    assert shapes["state"] == "done"
    assert shapes["value"]["names"] == ["NO", "QTY"]
    assert shapes["value"]["rows"] == [["AAA-9", "99999"]]
    assert "SHP-1" not in json.dumps(shapes)
    assert "50000" not in json.dumps(shapes)
    site.policy("payloads = true\n")
    assert site.one("atl1", "try", "wms")["value"]["rows"] == [["SHP-1", "50000"], ["SHP-2", "70000"]]


def test_a_command_for_a_label_is_answered_by_every_site_with_it_and_a_restart_is_for_one(site: CommandSite) -> None:
    found = site.give("--label", "region=us", "rescan")
    assert [(view["agent"], view["state"], view["value"]["sources"]) for view in found] == [
        ("atl1", "done", {"wms": ""}), ("rtm1", "done", {"wms": ""}),
    ]  # fmt: skip
    refused = site.typed("--all", "restart")
    assert refused.returncode == 1
    assert "restart is for one agent at a time, and 2 are meant: atl1, rtm1" in refused.stderr


@pytest.mark.parametrize(
    ("policy", "words", "said"),
    [
        ('remote_commands = "none"', ["check"], "this site takes no remote commands"),
        ('remote_commands = ["check", "logs"]', ["restart"], "this site does not take 'restart', only check, logs"),
        ('sources = ["erp"]', ["pause", "wms"], "this site does not take commands about source 'wms'"),
        ('remote_comands = "all"', ["check"], "cannot be used, so every command is refused"),
        ('remote_commands = ["chek"]', ["logs"], "remote_commands names chek"),
        ("not toml", ["logs"], "cannot be used, so every command is refused"),
    ],
)
def test_the_sites_policy_has_the_last_word(site: CommandSite, policy: str, words: list[str], said: str) -> None:
    site.policy(policy)
    done = site.typed("atl1", *words)
    assert done.returncode == 1
    assert "atl1: refused" in done.stdout
    assert said in done.stdout
    assert said.split("'", maxsplit=1)[0] in site.record().splitlines()[-1]


def test_an_agent_that_is_away_is_waited_for_until_the_end_and_no_longer(site: CommandSite) -> None:
    agent = site.agents["rtm1"]
    agent.stop()
    late = site.one("rtm1", "rescan", "--for", "1s")
    assert late["state"] == "expired"
    assert "agent rtm1 was not connected before it expired; nothing was done" in late["error"]
    assert site.audited(late["id"]) == [(ME, "command.give"), ("controller", "command.end")]
    patient = site.one("rtm1", "rescan", "--for", "2h", "--no-wait")
    assert patient["state"] == "waiting"
    agent.start()
    assert site.waiting(patient["id"], "done")["value"] == {"sources": {"wms": ""}}
    assert late["id"] not in site.record("rtm1")


def test_a_restart_ends_the_parts_in_order_comes_back_by_itself_and_is_answered(site: CommandSite) -> None:
    agent = site.agents["atl1"]
    process = agent.pid
    settings = site.state() / "agent.toml"
    settings.write_text("own_log_mb = 0\n")
    try:
        done = site.one("atl1", "restart")
        assert (done["state"], done["value"]) == ("done", {"in_order": True})
        assert (agent.alive(), agent.pid) == (True, process)
        assert agent.tail(400).count("the agent begins anew, as the centre told it to") == 1
        remembered = site.one("atl1", "logs", "--grep", "COMMAND BEGINS", "--level", "INFO")["text"]
        assert "own_log_mb is 0" in remembered[0]  # agent.toml was read anew
        assert any("command=restart" in line for line in remembered[1:])
        assert len(site.one("atl1", "logs", "--level", "ERROR")["text"]) == 1
        settings.write_text("own_log_mb = oops\n")
        assert site.one("atl1", "restart")["state"] == "done"
        wait_until(lambda: "runs on with the settings it had" in str(site.view()["problems"]), "a person is told")
    finally:
        settings.unlink()
    site.one("atl1", "restart")
    assert "command begins" in "\n".join(site.one("atl1", "logs")["text"])
    wait_until(lambda: "the settings it had" not in str(site.view()["problems"]), "the problem is gone")


def test_an_agent_killed_during_a_command_reports_it_interrupted_and_never_runs_it_again(site: CommandSite) -> None:
    agent = site.agents["atl1"]
    given = site.one("atl1", "check", "--no-wait", "--for", "1h")
    child = frozen_child(agent.pid)
    try:
        site.waiting(given["id"], "running")
        agent.kill()
        child.resume()
        wait_until(lambda: not child.is_running(), "what worked for it has ended with it")
    finally:
        end(child)
    agent.start()
    ended = site.waiting(given["id"], "failed")
    assert "interrupted: the agent ended while it ran" in ended["error"]
    assert ended["text"] == []
    assert [line.count("begins") for line in site.record().splitlines() if given["id"] in line] == [1, 0]


def test_an_agent_that_is_stopped_during_a_command_says_so_when_it_is_back(site: CommandSite) -> None:
    agent = site.agents["atl1"]
    given = site.one("atl1", "check", "--no-wait", "--for", "1h")
    child = frozen_child(agent.pid)
    site.waiting(given["id"], "running")
    agent.stop()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    agent.start()
    assert "interrupted" in site.waiting(given["id"], "failed")["error"]


def test_a_controller_killed_while_a_command_waits_or_runs_goes_on_with_it(site: CommandSite) -> None:
    away, agent = site.agents["rtm1"], site.agents["atl1"]
    away.stop()
    waiting = site.one("rtm1", "rescan", "--no-wait", "--for", "1h")
    running = site.one("atl1", "check", "--no-wait", "--for", "1h")
    child = frozen_child(agent.pid)
    site.waiting(running["id"], "running")
    site.centre.process.kill()
    child.resume()
    site.centre.start()
    away.start()
    assert site.waiting(running["id"], "done")["value"]
    assert site.waiting(waiting["id"], "done")["value"] == {"sources": {"wms": ""}}
    lines = [line for line in site.record().splitlines() if running["id"] in line]
    assert len(lines) == 2  # begun once, done once


def test_two_commands_at_once_are_run_one_after_the_other(site: CommandSite) -> None:
    ids = [site.one("atl1", word, "--no-wait")["id"] for word in ("check", "check", "logs")]
    for id_ in ids:
        site.waiting(id_, "done")
    order = [line.split()[1] for line in site.record().splitlines() if line.split()[1] in ids]
    assert order == [id_ for id_ in ids for _ in range(2)]


def test_a_long_log_comes_in_parts_newest_kept_and_its_size_bounded(site: CommandSite) -> None:
    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000%z} WARNING agent padding {{:07}} " + "x" * 200
    log = site.state() / "logs" / "agent.log.1"
    log.write_text("\n".join(line.format(n) for n in range(40_000)) + "\n")
    try:
        found = site.one("atl1", "logs", "--since", "2h", "--grep", "PADDING")
    finally:
        log.unlink()
    assert found["state"] == "done"
    assert found["output_bytes"] > 3_000_000
    assert found["value"]["lines"] + found["value"]["left_out"] == 40_000
    assert "older entries left out" in found["text"][0]
    assert "padding 0039999" in found["text"][-1]


def test_a_paused_source_stays_paused_through_restarts_and_configurations_and_loses_nothing(site: CommandSite) -> None:
    agent = site.agents["atl1"]
    wait_until(lambda: site.source()["state"] == "waiting", "the source rests")
    assert "paused; its data waits" in site.one("atl1", "pause", "wms")["text"][0]
    (site.drop / "two.csv").write_text("NO,QTY\nSHP-3,1\n")
    agent.stop()
    agent.start()
    site.apply("erp")
    wait_until(lambda: site.source().get("source") == "erp", "another source is in its place")
    assert "there is no source 'wms' here" in site.one("atl1", "pause", "wms")["error"]
    site.apply()
    wait_until(lambda: site.source().get("state") == "paused", "it is back, and paused")
    assert site.source()["paused_by"] == ME
    assert site.one("atl1", "rescan", "wms")["value"] == {"sources": {"wms": "it is paused"}}
    shown = site.centre.run("agents")
    assert "wms was paused" in shown
    assert "crossdock command atl1 resume wms" in shown
    assert site.source()["records"] == 0  # nothing was read since the agent started
    assert site.one("atl1", "resume", "wms")["value"]["was_paused"]
    wait_until(lambda: site.source()["records"] == 1, "the file that waited is read, and no other again")
    wait_until(lambda: site.received() == 3, "and has arrived")
    assert site.one("atl1", "resume", "wms")["value"] == {"source": "wms", "was_paused": False}


def test_a_support_bundle_is_a_zip_that_tells_how_the_agent_is(site: CommandSite, tmp_path: Path) -> None:
    target = tmp_path / "atl1.zip"
    done = site.typed("atl1", "support-bundle", "--out", str(target))
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(io.BytesIO(target.read_bytes())) as bundle:
        assert bundle.testzip() is None
        members = {name: bundle.read(name).decode() for name in bundle.namelist()}
    assert json.loads(members["status.json"])["agent"] == "atl1"
    assert json.loads(members["configuration.json"])["site"]["sources"][0]["name"] == "wms"
    assert json.loads(members["outbox.json"])["schema"] > 0
    assert "ok    certificate" in members["check.txt"]
    assert "SHP-1" not in "".join(members.values())
    again = site.typed("atl1", "support-bundle", "--out", str(target))
    assert again.returncode == 1
    assert "that file is there already" in again.stderr


def test_a_person_far_away_gives_commands_as_far_as_their_role_and_their_sites_go(
    site: CommandSite, tmp_path: Path
) -> None:
    api = Api(site.centre)
    api.wait()
    operator, viewer = api.user("olga", "operator", "site=atl1"), api.user("vera", "viewer", "all")
    assert "AAA-9" in api.remote(operator, "command", "atl1", "try", "wms").stdout
    assert '"user:olga" "try"' in site.record()
    [done] = json.loads(api.remote(operator, "command", "--all", "rescan", "--json").stdout)["commands"]
    assert (done["agent"], done["state"], done["by"]) == ("atl1", "done", "user:olga")  # not rtm1, which is not hers
    assert ("user:olga", "command.give") in site.audited(done["id"])
    target = tmp_path / "atl1.zip"
    api.remote(operator, "command", "atl1", "support-bundle", "--out", str(target))
    assert zipfile.is_zipfile(target)
    theirs = site.one("rtm1", "check")
    for words in (["rtm1", "check"], ["show", theirs["id"]]):
        refused = api.remote(operator, "command", *words, code=1)
        assert "not for what this command." in " ".join(refused.stderr.split())
    assert "needs the role operator" in " ".join(api.remote(viewer, "command", "atl1", "check", code=1).stderr.split())
    listed = json.loads(api.remote(operator, "command", "list", "--json").stdout)["commands"]
    assert {view["agent"] for view in listed} == {"atl1"}
