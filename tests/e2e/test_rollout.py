"""Rollouts over real processes: a few sites, what goes wrong there, and a controller that is killed meanwhile.

All tests share one fleet, which `settle` brings back to the first tree before each.
"""

from collections.abc import Iterator

import pytest

from support.rollout_fleet import MAPPING, RolloutFleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolloutFleet]:
    with RolloutFleet(tmp_path_factory.mktemp("fleet"), ["s01", "s02", "s03"]) as fleet:
        fleet.begin()
        yield fleet


@pytest.fixture
def fleet(living: RolloutFleet) -> RolloutFleet:
    living.settle()
    return living


def apply(fleet: RolloutFleet, why: str, hold: str = "2s") -> list[str]:
    return ["apply", str(fleet.tree), "-m", why, "--wave", "canary=s01", "--then", "all", "--hold", hold]


def changed(fleet: RolloutFleet, event: str) -> int:
    """How often the audit log has *event* of the newest rollout."""
    query = "SELECT count(*) FROM audit WHERE action = ? AND target = (SELECT max(revision) FROM rollouts)"
    return int(fleet.ask(query, f"rollout.{event}")[0][0])


def test_a_revision_that_breaks_a_source_is_taken_back_from_its_first_wave_and_reaches_no_other_site(
    fleet: RolloutFleet,
) -> None:
    was, new = fleet.in_force(), fleet.next()
    fleet.stock(directory="gone")
    fleet.centre.run(*apply(fleet, "moved"))
    found = fleet.wait_for("reverted")
    assert f"site s01: source stock is failing since revision {new} runs" in found["why"]
    assert "gone cannot be reached" in found["why"]
    assert [w["state"] for w in found["waves"]] == ["taken back", "waiting"]
    assert fleet.ever_applied("s01") == [new, was]
    for site in ("s02", "s03"):
        assert fleet.ever_applied(site) == []
        assert fleet.ask("SELECT offered FROM sightings WHERE agent = ?", site) == [(was,)]
    assert [fleet.runs(site) for site in fleet.sites] == [was, was, was]


def test_a_revision_that_a_site_refuses_is_taken_back_with_its_reason_and_its_last_log_lines(
    fleet: RolloutFleet,
) -> None:
    """Only the agent looks where the folders really are."""
    new = fleet.next()
    text = (fleet.tree / "sources/stock.yaml").read_text("utf-8")
    fleet.write("sources/stock.yaml", text + "afterwards: archive\narchive_directory: ${root}/drop\n")
    fleet.centre.run(*apply(fleet, "files are kept", "60s"))
    found = fleet.wait_for("reverted")
    refusal = f"site s01: it refused revision {new}: source stock: archive_directory is"
    assert found["why"].startswith(f"in wave 1 of 2, {refusal}")
    assert any("revision=" in line for line in found["evidence"]), found["evidence"]
    assert found["why"] in " ".join(fleet.centre.json("history")["revisions"][0]["why"].split())
    assert any(f"revision {new} was taken back" in step for step in fleet.centre.json("status")["next"])
    assert fleet.centre.json("fleet", "drift")["drift"] == []
    assert {tuple(fleet.ever_applied(site)) for site in ("s02", "s03")} == {()}


def test_a_mapping_that_rejects_what_it_took_before_is_taken_back_by_its_dead_letters(fleet: RolloutFleet) -> None:
    """The agents are well: only what becomes of their records shows it."""
    new, before = fleet.next(), fleet.arrived()
    for site in fleet.sites:
        fleet.deliver(site, "before", 20)
    fleet.wait(lambda: fleet.arrived() == before + 60, "what came before is delivered")
    fleet.write("mappings/stock.yaml", MAPPING.replace("SKU", "ARTICLE"))
    fleet.centre.run(*apply(fleet, "another column", "60s"))
    fleet.wait(lambda: "s01" in fleet.running(new), "the first wave has it")
    for site in fleet.sites:
        fleet.deliver(site, "after", 20)
    found = fleet.wait_for("reverted")
    fleet.wait(lambda: fleet.arrived() == before + 100, "the other sites' records went by the revision in force")
    letters = fleet.ask(
        "SELECT DISTINCT s.site FROM dead_letters d JOIN sources s ON s.id = d.source_id WHERE d.state = 'open'"
    )
    assert letters == [("s01",)]
    assert "20 of 20 records of source stock became dead letters" in found["why"]
    assert "s01-after" not in found["why"], "no value of a record"
    fleet.deliver("s01", "again", 20)
    fleet.wait(lambda: fleet.arrived() == before + 120, "its records go by the old mapping again")
    number = fleet.centre.json("dead", "list")["dead_letters"][0]["id"]
    fleet.centre.run("dead", "retry", str(number))
    fleet.wait(lambda: fleet.arrived() == before + 121, "and so does what was set aside")


def test_a_person_pauses_resumes_finishes_and_no_second_revision_begins_meanwhile(fleet: RolloutFleet) -> None:
    was, new = fleet.in_force(), fleet.next()
    fleet.stock(lane="critical")
    fleet.centre.run(*apply(fleet, "urgent", "1h"))
    fleet.wait(lambda: "s01" in fleet.running(new), "the first wave has it")
    noted = "SELECT 1 FROM audit WHERE action = 'rollout.held' AND target = ?"
    fleet.wait(lambda: bool(fleet.ask(noted, str(new))), "and the conductor has seen it")
    fleet.centre.run("rollout", "pause", "-m", "lunch")
    assert fleet.rollout()["state"] == "held"
    fleet.stock(lane="bulk")
    said = fleet.refused("apply", str(fleet.tree))
    assert f"revision {new} is being rolled out" in said
    assert "crossdock rollout" in said
    assert f"revision {new} is being rolled out" in fleet.refused("rollback", str(was))
    fleet.centre.run("rollout", "resume")
    assert "needs a reason" in fleet.refused("rollout", "finish", "-m", " ")
    fleet.centre.run("rollout", "finish", "-m", "the lorry waits")
    fleet.wait_until_all_run(new)
    assert fleet.in_force() == new
    rows = fleet.ask("SELECT actor, action, details FROM audit WHERE action LIKE 'rollout.%' AND target = ?", str(new))
    assert [r[1] for r in rows] == [f"rollout.{w}" for w in ("begin", "wave", "held", "pause", "resume", "finish")]
    assert rows[-1][0].startswith("local:")
    assert "the lorry waits" in rows[-1][2]
    back = fleet.centre.json("rollback", str(was), "--wave", "all", "--hold", "1s", "--wait")
    assert (back["rollout"]["state"], back["revision"]) == ("complete", new + 1)


def test_a_wave_waits_for_a_site_that_is_off_then_goes_on_and_the_site_gets_its_revision_when_it_returns(
    fleet: RolloutFleet,
) -> None:
    was, new = fleet.in_force(), fleet.next()
    rollouts = fleet.ask("SELECT count(*) FROM rollouts")
    fleet.agents["s02"].kill()
    fleet.wait(lambda: fleet.ask("SELECT connected FROM agents WHERE agent = 's02'") == [(0,)], "s02 is off")
    fleet.stock(lane="critical")
    waves = ["--wave", "canary=s01", "--then", "s02,s03", "--hold", "1s", "--patience", "3s"]
    assert "wave 2, s02,s03: s02, s03" in fleet.centre.run("plan", str(fleet.tree), *waves)
    assert fleet.ask("SELECT count(*) FROM rollouts") == rollouts, "a plan changes nothing"
    fleet.centre.run("apply", str(fleet.tree), "-m", "urgent", *waves)
    found = fleet.wait_for("complete")
    assert list(found["waves"][1]["without"]) == ["s02"]
    (behind,) = fleet.centre.json("fleet", "drift")["drift"]
    assert (behind["agent"], behind["kind"], behind["desired"], behind["effective"]) == ("s02", "offline", new, was)
    fleet.start("s02")
    fleet.wait_until_all_run(new)
    assert fleet.ever_applied("s02") == [new]
    fleet.wait(lambda: fleet.centre.json("fleet", "drift")["drift"] == [], "nobody drifts")


def test_a_controller_killed_in_the_middle_of_each_wave_goes_on_with_it_and_each_begins_once(
    fleet: RolloutFleet,
) -> None:
    new = fleet.next()
    fleet.stock(lane="critical")
    fleet.centre.run(*apply(fleet, "urgent", "3s"))
    fleet.wait(lambda: fleet.row()[1] == 1 and "s01" in fleet.running(new), "the first wave has it")
    fleet.centre.process.kill()
    assert fleet.row()[:2] == ("rolling", 1)
    fleet.centre.start()
    fleet.wait(lambda: fleet.row()[1] == 2, "the second wave has begun")
    fleet.centre.process.kill()
    fleet.centre.start()
    found = fleet.wait_for("complete")
    fleet.wait_until_all_run(new)
    assert (changed(fleet, "wave"), changed(fleet, "held"), changed(fleet, "complete")) == (2, 2, 1)
    assert [w["state"] for w in found["waves"]] == ["passed", "passed"]
    assert {tuple(fleet.ever_applied(site)) for site in fleet.sites} == {(new,)}
    assert fleet.ask("SELECT count(*) FROM site_targets") == [(0,)]


def test_a_controller_killed_in_the_middle_of_a_revert_brings_it_to_its_end(fleet: RolloutFleet) -> None:
    was, new = fleet.in_force(), fleet.next()
    fleet.stock(directory="gone")
    fleet.centre.run(*apply(fleet, "moved", "6s"))
    fleet.wait(lambda: '"failing"' in fleet.ask("SELECT health FROM agents WHERE agent = 's01'")[0][0], "it fails")
    fleet.agents["s01"].pause()  # it cannot answer the revert, which so waits for it
    fleet.wait(lambda: fleet.row()[0] == "reverting", "the revert has begun")
    fleet.centre.process.kill()
    assert fleet.row()[0] == "reverting"
    fleet.agents["s01"].resume()
    fleet.centre.start()
    found = fleet.wait_for("reverted")
    assert (changed(fleet, "halted"), changed(fleet, "reverted")) == (1, 1)
    fleet.wait_until_all_run(was)
    assert found["left"] == {}
    assert fleet.ever_applied("s01") == [new, was]
    assert {tuple(fleet.ever_applied(site)) for site in ("s02", "s03")} == {()}
