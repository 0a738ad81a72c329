"""Four eyes, break-glass, environments and promotion: the commands an operator gives, on a real store."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crossdock.errors import ConfigError, Corrupt, Refused
from crossdock_controller.access import Grant
from crossdock_controller.authority import Authority
from crossdock_controller.cli import approvals as cli_approvals
from crossdock_controller.cli import configuration as cli_configuration
from crossdock_controller.cli import options, root
from crossdock_controller.commands import approvals, configuration, diffs, environments, gate, naming, people
from crossdock_controller.commands.rollout import InWaves
from crossdock_controller.config import words as plan_words
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.current import Current
from crossdock_controller.operations.carry import Caller, carry_out
from crossdock_controller.operations.table import BY_NAME
from crossdock_controller.paths import DataDirectory
from crossdock_controller.rollouts.waves import Asked
from crossdock_controller.store import agents, connection, migrate, proposals, revisions, rollouts
from support.trees import small_tree

POLICY = """\
    approvals:
      - paths: ["sinks/*"]
    """
HOUR = 3_600_000_000


class Place:
    """A controller's data directory, a folder with a tree, and a clock."""

    def __init__(self, directory: Path) -> None:
        self.data = DataDirectory(directory / "data")
        self.data.prepare()
        migrate(self.data.state)
        self.folder = directory / "tree"
        self.now_us = 1_790_000_000_000_000

    def write(self, tree: dict[str, str]) -> Path:
        for old in sorted(self.folder.rglob("*.yaml")):
            old.unlink()
        for name, text in tree.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return self.folder

    def apply(self, tree: dict[str, str], by: str = "local:anna", **how: Any) -> configuration.Applied:
        self.now_us += 1_000_000
        return configuration.apply(self.data, self.write(tree), by, "because", self.now_us, **how)

    def approve(self, name: str, by: str = "user:bert", **how: Any) -> approvals.Settled:
        self.now_us += 1_000_000
        return approvals.approve(self.data, name, by, self.now_us, **how)

    def in_force(self) -> tuple[int, dict[str, str]]:
        with closing(connection.connect(self.data.state)) as db:
            found = revisions.head(db)
        assert found is not None
        return found

    def audit(self) -> list[tuple[str, str, str]]:
        with closing(connection.connect(self.data.state)) as db:
            return db.execute("SELECT actor, action, target FROM audit ORDER BY seq").fetchall()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def run(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(*arguments: str, code: int = 0, user: str = "anna") -> Result:
        for module in (cli_approvals, cli_configuration):
            monkeypatch.setattr(module, "actor", lambda: f"local:{user}")
        env = {"CROSSDOCK_DATA": str(place.data.root), "COLUMNS": "220"}
        found = CliRunner().invoke(root, [*arguments], env=env)
        assert found.exit_code == code, f"{found.output}\n{found.stderr}\n{found.exception!r}"
        return found

    return run


def tree_with(policy: str = POLICY, **changes: str | None) -> dict[str, str]:
    return small_tree(**changes) | {"policy.yaml": dedent(policy)}


def finance(hours: int, name: str = "finance") -> str:
    return dedent(f"""\
        sink: {name}
        kind: sql
        url: sqlite:///finance.db
        retry_hours: {hours}
        tables:
          Shipment: {{table: shipment, key: [number], columns: {{number: number}}}}
        """)


def test_a_change_of_a_governed_path_waits_for_a_second_person_and_nothing_is_offered(place: Place) -> None:
    assert place.apply(tree_with()).changed
    proposed = place.apply(tree_with(sinks__finance=finance(5)))
    assert (proposed.changed, proposed.revision, proposed.proposal) == (False, 1, 1)
    assert [need.paths for need in proposed.needs] == [("sinks/finance.yaml",)]
    assert place.in_force()[0] == 1
    with closing(connection.connect(place.data.state)) as db:
        assert db.execute("SELECT count(*) FROM revisions").fetchone() == (1,)
        current: Current[Runtime] = Current(db, Runtime.from_tree)
        runtime = current.get()
        assert runtime is not None
        assert runtime.sinks["finance"].retry_hours == 48
    assert place.approve("p1", comment="seen") == approvals.Settled("p1", "approved", 2, 0)
    number, tree = place.in_force()
    assert (number, "retry_hours: 5" in tree["sinks/finance.yaml"]) == (2, True)
    assert [entry[:2] for entry in place.audit()][-3:] == [
        ("local:anna", "proposal.make"),
        ("user:bert", "proposal.approve"),
        ("user:bert", "revision.apply"),
    ]


def test_what_the_policy_does_not_name_is_in_force_at_once(place: Place) -> None:
    place.apply(tree_with())
    assert place.apply(tree_with(routes__all="to: [finance]\n")).changed


@pytest.mark.parametrize("same", ["local:anna", "user:anna", "user:Anna"])
def test_nobody_approves_their_own_change_whichever_way_they_come(place: Place, same: str) -> None:
    place.apply(tree_with())
    place.apply(tree_with(sinks__finance=finance(5)))
    with pytest.raises(Refused, match="nobody approves their own change"):
        place.approve("p1", same)
    for nobody in ("agent:atl1-a", "controller", "user:"):
        with pytest.raises(Refused, match="no person"):
            place.approve("p1", nobody)
    assert place.in_force()[0] == 1


def test_the_way_round_by_a_shared_file_is_governed_as_well(place: Place) -> None:
    sink = finance(5).replace("retry_hours: 5", "include: shared/pace.yaml")
    tree = tree_with(sinks__finance=sink) | {"shared/pace.yaml": "retry_hours: 5\n"}
    place.apply(tree)
    proposed = place.apply(tree | {"shared/pace.yaml": "retry_hours: 6\n"})
    assert proposed.proposal == 1
    assert proposed.needs[0].paths == ("sinks/finance.yaml",)


def test_the_policy_in_force_governs_its_own_change_and_its_removal(place: Place) -> None:
    place.apply(tree_with())
    weaker = place.apply(tree_with("approvals: []\n", sinks__finance=finance(5)))
    assert [need.rule for need in weaker.needs] == ["policy.yaml itself", "sinks/*"]
    gone = place.apply(small_tree())
    assert [need.rule for need in gone.needs] == ["policy.yaml itself"]
    assert place.in_force()[0] == 1


def test_a_rule_may_ask_for_two_people_and_one_person_counts_once(place: Place) -> None:
    place.apply(tree_with("approvals: [{paths: ['sinks/*'], people: 2}]\n"))
    place.apply(tree_with("approvals: [{paths: ['sinks/*'], people: 2}]\n", sinks__finance=finance(5)))
    assert place.approve("p1", "user:bert").missing == 1
    with pytest.raises(Refused, match="has approved p1 already"):
        place.approve("p1", "local:Bert")
    assert place.approve("p1", "user:cleo").revision == 2


@pytest.mark.parametrize("end", [people.disable_user, people.remove_user])
def test_the_word_of_a_user_who_was_shut_out_does_not_count_for_what_still_waits(
    place: Place, end: Callable[..., object]
) -> None:
    for name in ("bert", "root"):
        people.add_user(place.data, name, "admin", ["all"], by="local:anna", now_us=1)
    place.apply(tree_with("approvals: [{paths: ['sinks/*'], people: 2}]\n"))
    place.apply(tree_with("approvals: [{paths: ['sinks/*'], people: 2}]\n", sinks__finance=finance(5)))
    assert place.approve("p1", "user:bert").missing == 1
    end(place.data, "bert", by="local:anna", now_us=2)
    assert ("local:anna", "proposal.unapprove", "p1") in place.audit()
    assert place.approve("p1", "user:cleo").missing == 1
    assert place.in_force()[0] == 1
    assert place.approve("p1", "user:dora").revision == 2
    with closing(connection.connect(place.data.state)) as db:
        assert [a.actor for a in proposals.approvals(db, 1)] == ["user:cleo", "user:dora"]


def test_a_rule_for_some_sites_leaves_changes_at_others_alone(place: Place) -> None:
    policy = "approvals: [{sites: {region: us}}]\n"
    place.apply(tree_with(policy))
    eu = small_tree()["sites/rtm1.yaml"] + "zone: Europe/Amsterdam\n"
    us = small_tree()["sites/atl1.yaml"].replace("America/New_York", "America/Chicago")
    assert place.apply(tree_with(policy, sites__rtm1=eu)).changed
    assert place.apply(tree_with(policy, sites__rtm1=eu, sites__atl1=us)).proposal == 1


def test_who_takes_the_label_off_a_site_is_governed_by_it(place: Place) -> None:
    policy = "approvals: [{sites: {region: us}}]\n"
    place.apply(tree_with(policy))
    moved = small_tree()["sites/atl1.yaml"].replace("region: us", "region: eu")
    assert place.apply(tree_with(policy, sites__atl1=moved)).proposal == 1


def test_a_proposal_whose_base_is_no_longer_in_force_is_stale(place: Place) -> None:
    place.apply(tree_with())
    place.apply(tree_with(sinks__finance=finance(5)))
    place.apply(tree_with(routes__all="to: [finance]\n"))
    assert [p.state for p in approvals.approvals(place.data)] == ["stale"]
    with pytest.raises(Refused, match="planned against revision 1, and revision 2 is in force now"):
        place.approve("p1")
    assert place.in_force()[0] == 2
    with pytest.raises(Refused, match="p1 is stale"):
        place.approve("p1")


def test_a_rejected_proposal_never_comes_into_force_and_its_author_may_take_it_back(place: Place) -> None:
    place.apply(tree_with())
    place.apply(tree_with(sinks__finance=finance(5)))
    assert approvals.reject(place.data, "p1", "user:bert", "too short", 1).state == "rejected"
    with pytest.raises(Refused, match="p1 is rejected"):
        place.approve("p1")
    again = place.apply(tree_with(sinks__finance=finance(5)))
    assert again.proposal == 2
    assert approvals.reject(place.data, "p2", "local:anna", "mine", 1).state == "rejected"


def test_the_same_change_proposed_twice_is_one_proposal(place: Place) -> None:
    place.apply(tree_with())
    assert place.apply(tree_with(sinks__finance=finance(5))).proposal == 1
    assert place.apply(tree_with(sinks__finance=finance(5))).proposal == 1
    assert len(approvals.approvals(place.data)) == 1


@pytest.mark.parametrize(("hold", "patience"), [(-1.0, 60.0), (1e12, 60.0), (60.0, -1.0), (60.0, 1e300)])
def test_waves_that_hold_or_wait_for_no_time_that_there_is_are_refused(
    place: Place, hold: float, patience: float
) -> None:
    place.apply(tree_with())
    with closing(connection.connect(place.data.state)) as db:
        agents.record_enrolled(
            db, "atl1-a", "atl1", host="h", platform="Linux", version="1", expires_us=2**60, now_us=1
        )
    changed = tree_with(sources__shipments=small_tree()["sources/shipments.yaml"] + "poll_seconds: 9\n")
    waves = InWaves((Asked("canary", "atl1"), Asked("all", "all")), hold, patience)
    with pytest.raises(ConfigError, match=r"a wave (holds|waits) for"):
        place.apply(changed, waves=waves)
    assert place.in_force()[0] == 1


def test_the_same_tree_to_be_brought_otherwise_is_a_proposal_of_its_own(place: Place) -> None:
    place.apply(tree_with())
    with closing(connection.connect(place.data.state)) as db:
        agents.record_enrolled(
            db, "atl1-a", "atl1", host="h", platform="Linux", version="1", expires_us=2**60, now_us=1
        )
    changed = tree_with(
        sinks__finance=finance(5), sources__shipments=small_tree()["sources/shipments.yaml"] + "poll_seconds: 9\n"
    )
    waves = InWaves((Asked("canary", "atl1"), Asked("all", "all")), 60, 60)
    assert place.apply(changed).proposal == 1
    assert place.apply(changed, waves=waves).proposal == 2, "the first would be in force everywhere at once"
    assert place.apply(changed, waves=waves).proposal == 2
    assert place.approve("p2").in_waves


def test_broken_glass_is_in_force_at_once_loud_and_shown_until_a_second_person_confirms(
    place: Place, run: Callable[..., Result]
) -> None:
    place.apply(tree_with())
    with pytest.raises(Refused, match="own machine"):
        place.apply(tree_with(sinks__finance=finance(5)), "user:anna", break_glass="down")
    done = place.apply(tree_with(sinks__finance=finance(5)), break_glass="finance is down")
    assert (done.changed, done.revision, done.proposal) == (True, 2, 1)
    assert ("local:anna", "revision.break_glass", "2") in place.audit()
    steps = json.loads(run("status", "--json").stdout)["next"]
    assert steps[0].startswith("revision 2 was put in force by local:anna without a second person: finance is down")
    with pytest.raises(Refused, match="nobody approves their own"):
        place.approve("2", "user:anna")
    assert place.approve("2").state == "confirmed"
    assert not any("second person" in step for step in json.loads(run("status", "--json").stdout)["next"])
    assert ("user:bert", "revision.confirm", "2") in place.audit()


def test_a_glass_that_need_not_be_broken_leaves_nothing_to_confirm(place: Place) -> None:
    place.apply(tree_with())
    done = place.apply(tree_with(routes__all="to: [finance]\n"), break_glass="why not")
    assert (done.changed, done.proposal) == (True, 0)


def test_of_two_who_approve_at_the_same_moment_one_puts_it_in_force(place: Place) -> None:
    place.apply(tree_with())
    place.apply(tree_with(sinks__finance=finance(5)))
    with closing(connection.connect(place.data.state)) as db:
        proposal = proposals.get(db, 1)
        assert proposal is not None
        change = approvals._change(db, proposal)
        place.approve("p1", "user:cleo")
        with pytest.raises(Refused, match="settled meanwhile"), connection.transaction(db):
            approvals._approved(db, proposal, change, None, "user:bert", "", 1)
    assert place.in_force()[0] == 2


def test_the_page_for_an_approver_says_who_why_what_and_what_the_policy_asks(
    place: Place, run: Callable[..., Result]
) -> None:
    place.apply(tree_with())
    place.apply(tree_with(sinks__finance=finance(5)))
    page = diffs.page(place.data, "p1")
    assert (page.before, page.after, page.by, page.message) == ("revision 1", "proposal p1", "local:anna", "because")
    text = run("diff", "p1", "--files").stdout
    for said in (
        "local:anna", "because", "a second person, for sinks/* (sinks/finance.yaml)",
        "sink finance changed: retry_hours", "sinks/finance.yaml (changed)", "+retry_hours: 5", "crossdock approve p1",
    ):  # fmt: skip
        assert said in text
    assert json.loads(run("diff", "1", "p1", "--json").stdout)["files"] == ["sinks/finance.yaml"]
    assert "policy.yaml (added)" in run("diff", "1").stdout


def test_a_page_of_hostile_files_is_made_soon_and_shows_no_secret() -> None:
    long = "\n".join(f"{n % 7}: x" for n in range(60_000))
    found = diffs.file_diffs(
        {"a.yaml": long, "b.yaml": "password: hunter2\n"}, {"a.yaml": long[::-1], "c.yaml": "a" * 10**6}
    )
    assert [(f.path, f.action) for f in found] == [("a.yaml", "changed"), ("b.yaml", "removed"), ("c.yaml", "added")]
    assert "too many to be compared" in found[0].lines[0]
    assert "hunter2" not in str(found)
    assert max(len(line) for f in found for line in f.lines) <= 1000


def test_proposing_and_approving_from_the_command_line(place: Place, run: Callable[..., Result]) -> None:
    run("apply", str(place.write(tree_with())))
    text = run("apply", str(place.write(tree_with(sinks__finance=finance(5)))), "-m", "slower").stdout
    assert "Proposed as p1; revision 1 stays in force." in text
    assert "needs a second person, for sinks/* (sinks/finance.yaml)" in text
    assert "p1" in run("approvals").stdout
    run("approve", "p1", code=1)
    assert "Revision 2 is in force." in run("approve", "p1", "--comment", "ok", user="bert").stdout
    assert "Nothing waits" in run("approvals").stdout


def test_a_revision_is_named_by_the_beginning_of_its_hash_too(place: Place, run: Callable[..., Result]) -> None:
    place.apply(small_tree())
    place.apply(small_tree(routes__all="to: [finance]\n"))
    hashes = [r.hash for r in configuration.history(place.data, 1)]
    assert hashes[1][:12] in run("history").stdout
    assert configuration.rollback(place.data, hashes[1][:8], "local:anna", 9).revision == 3
    with closing(connection.connect(place.data.state)) as db:
        assert naming.named(db, hashes[1][:8]).revision == 3  # the newest with that tree
        for wrong in ("7", "abc", "zz", "p9", "0" * 8):
            with pytest.raises(ConfigError):
                naming.named(db, wrong)


def damage(place: Place, revision: int) -> None:
    with closing(connection.connect(place.data.state)) as db:
        db.execute("UPDATE revisions SET tree = replace(tree, 'D:/wms', 'E:/wms') WHERE number = ?", (revision,))


def test_a_damaged_revision_is_reported_and_never_offered_or_gone_back_to(
    place: Place, run: Callable[..., Result]
) -> None:
    place.apply(small_tree())
    place.apply(small_tree(routes__all="to: [finance]\n"))
    damage(place, 1)
    assert [r.damaged for r in configuration.history(place.data, 1)] == [False, True]
    assert "damaged" in run("history").stdout
    with pytest.raises(Corrupt, match="revision 1 is damaged"):
        configuration.rollback(place.data, 1, "local:anna", 9)
    assert "is damaged" in run("diff", "1", code=1).stderr


def test_when_the_revision_in_force_is_damaged_the_last_good_one_runs_and_applying_again_mends_it(
    place: Place, run: Callable[..., Result]
) -> None:
    place.apply(tree_with())
    with closing(connection.connect(place.data.state)) as db:
        current: Current[Runtime] = Current(db, Runtime.from_tree)
        assert current.get() is not None
        place.apply(tree_with(routes__all="to: [finance]\n"))
        damage(place, 2)
        current._looked_at = float("-inf")
        running = current.get()
        assert running is not None
        assert running.number == 1
    assert json.loads(run("status", "--json").stdout)["next"][0].startswith("revision 2 is damaged")
    assert place.apply(tree_with(sinks__finance=finance(5))).proposal == 1  # the policy of the last sound one governs
    assert place.apply(tree_with(routes__all="to: [finance]\n")).revision == 3


ENVIRONMENTS = {
    "environments/test.yaml": "on: {region: eu}\nvariables: {share: //test, db: test.db}\n",
    "environments/prod.yaml": "on: {region: us}\nvariables: {share: //prod, db: prod.db}\n",
}


def staged(policy: str = "", **changes: str | None) -> dict[str, str]:
    tree = small_tree(**changes) | ENVIRONMENTS
    tree["sinks/finance.yaml"] = tree["sinks/finance.yaml"].replace("finance.db", "${db}")
    return tree | ({"policy.yaml": dedent(policy)} if policy else {})


def test_a_controller_has_one_environment_and_everything_is_compiled_for_it(place: Place) -> None:
    with pytest.raises(ConfigError, match="it is not said which is meant"):
        place.apply(staged())
    assert environments.set_environment(place.data, "prod", "local:anna", 1).applied is None
    place.apply(staged())
    number, tree = place.in_force()
    runtime = Runtime.from_tree(tree, number)
    assert list(runtime.sites) == ["atl1"]
    assert runtime.sinks["finance"].settings["url"] == "sqlite:///prod.db"
    assert configuration.history(place.data, 1)[0].environment == "prod"
    moved = environments.set_environment(place.data, "test", "local:anna", 2)
    assert moved.applied is not None
    assert moved.applied.revision == 2
    assert list(Runtime.from_tree(place.in_force()[1], 2).sites) == ["rtm1"]
    assert environments.environment(place.data).serves == "test"
    waves = InWaves((Asked("all", "all"),), 60, 60)
    with closing(connection.connect(place.data.state)) as db:
        for site in ("atl1", "rtm1"):
            agents.record_enrolled(
                db, f"{site}-a", site, host="h", platform="Linux", version="1", expires_us=2**60, now_us=1
            )
    source = small_tree()["sources/shipments.yaml"] + "poll_seconds: 9\n"
    rolled = place.apply(staged(sources__shipments=source), waves=waves).rollout
    assert rolled is not None
    assert [wave.sites for wave in rolled.plan.waves] == [("rtm1",)]  # atl1 is of the other environment
    with pytest.raises(ConfigError, match="which the tree does not have"):
        environments.set_environment(place.data, "lab", "local:anna", 3)
    with pytest.raises(ConfigError, match="is no name of an environment"):
        environments.set_environment(place.data, "[red]Prod", "local:anna", 3)


def test_an_environment_that_was_set_by_mistake_is_taken_back(place: Place, run: Callable[..., Result]) -> None:
    place.apply(small_tree())
    run("config", "environment", "prod")
    with pytest.raises(ConfigError, match="the tree has no environments"):
        place.apply(small_tree(routes__all="to: [finance]\n"))
    assert "serves no environment" in run("config", "environment", "--none").stdout
    assert place.apply(small_tree(routes__all="to: [finance]\n")).changed
    run("config", "environment", "prod", "--none", code=2)


def test_with_a_policy_another_environment_needs_a_second_person(place: Place) -> None:
    environments.set_environment(place.data, "prod", "local:anna", 1)
    place.apply(staged(POLICY))
    moved = environments.set_environment(place.data, "test", "local:anna", 2)
    assert moved.serves == "prod"
    assert environments.environment(place.data).serves == "prod"
    assert place.approve("p1").revision == 2
    assert environments.environment(place.data).serves == "test"


@pytest.fixture
def stages(tmp_path: Path) -> tuple[Place, Place, str]:
    """A test and a prod controller, and a policy that trusts the CA of the first."""
    test, prod = Place(tmp_path / "test"), Place(tmp_path / "prod")
    environments.set_environment(test.data, "test", "local:anna", 1)
    environments.set_environment(prod.data, "prod", "local:anna", 1)
    authority = Authority.open(test.data.authority).fingerprint
    return test, prod, f"promotion: {{from: test, authority: {authority}, hours: 2}}\n"


def promoted(test: Place, out: Path) -> Path:
    environments.promote(test.data, out, "local:anna", test.now_us)
    return out


def test_a_tree_goes_from_test_to_prod_by_a_slip_and_only_that_tree(
    stages: tuple[Place, Place, str], tmp_path: Path
) -> None:
    test, prod, policy = stages
    prod.apply(staged(policy))  # the first one: no policy was in force
    new = staged(policy, routes__all="to: [finance]\n")
    with pytest.raises(Refused, match="must have run in 'test' before"):
        prod.apply(new)
    test.apply(new)
    with pytest.raises(Refused, match=r"had run for 0\.0 hours without trouble in 'test'.*asks for 2"):
        prod.apply(new, promotion=promoted(test, tmp_path / "early.json"))
    test.now_us += 3 * HOUR
    slip = promoted(test, tmp_path / "slip.json")
    with pytest.raises(Refused, match="the slip is for another tree"):
        prod.apply(new | {"routes/all.yaml": "to: [finance]\nwhen: 'true'\n"}, promotion=slip)
    assert prod.apply(new, promotion=slip).revision == 2
    assert prod.in_force()[1] == test.in_force()[1]
    back = configuration.rollback(prod.data, 1, "local:anna", prod.now_us)
    assert back.changed  # it ran here before


def test_a_slip_and_a_second_person_may_both_be_asked_for_and_the_page_shows_the_slip(
    stages: tuple[Place, Place, str], tmp_path: Path
) -> None:
    test, prod, policy = stages
    policy += "approvals: [{environments: [prod]}]\n"
    prod.apply(staged(policy))
    new = staged(policy, routes__all="to: [finance]\n")
    assert test.apply(new).changed  # the rule is for prod
    test.now_us += 3 * HOUR
    assert prod.apply(new, promotion=promoted(test, tmp_path / "slip.json")).proposal == 1
    waited = diffs.page(prod.data, "p1").proposal
    assert waited is not None
    assert waited.promoted == "from test, revision 1, 3.0 hours without trouble"
    assert prod.approve("p1").revision == 2
    with closing(connection.connect(prod.data.state)) as db:
        (details,) = db.execute("SELECT details FROM audit WHERE action = 'revision.apply' AND target = '2'").fetchone()
    assert json.loads(details)["promoted_from"] == "test revision 1"
    assert json.loads(details)["approved_by"] == "user:bert"


def test_a_slip_that_was_altered_or_signed_by_another_controller_is_refused(
    stages: tuple[Place, Place, str], tmp_path: Path
) -> None:
    test, prod, policy = stages
    prod.apply(staged(policy))
    new = staged(policy, routes__all="to: [finance]\n")
    test.apply(new)
    early = json.loads(promoted(test, tmp_path / "slip.json").read_text("utf-8"))
    forged = tmp_path / "forged.json"
    for change in ({"quiet_us": 99 * HOUR}, {"environment": "prod"}, {"extra": 1}, {"quiet_us": "9"}):
        forged.write_text(json.dumps(early | {"slip": early["slip"] | change}), "utf-8")
        with pytest.raises(Refused, match=r"was altered|is no promotion slip"):
            prod.apply(new, promotion=forged)
    for junk in ("", "[" * 50_000, "{}", "null", '{"slip": {}, "signature": "!", "authority": ""}', " " * 70_000):
        forged.write_text(junk, "utf-8")
        with pytest.raises(Refused, match="is no promotion slip"):
            prod.apply(new, promotion=forged)
    other = Place(tmp_path / "other")
    environments.set_environment(other.data, "test", "local:anna", 1)
    other.apply(new)
    other.now_us += 3 * HOUR
    with pytest.raises(Refused, match="and the policy in force trusts"):
        prod.apply(new, promotion=promoted(other, tmp_path / "other.json"))
    assert prod.in_force()[0] == 1


def test_a_slip_says_what_trouble_there_was(place: Place) -> None:
    environments.set_environment(place.data, "test", "local:anna", 1)
    place.apply(staged())
    since = place.now_us
    with closing(connection.connect(place.data.state)) as db:
        db.execute("INSERT INTO sources(id, site, agent, source) VALUES(1, 'rtm1', 'a', 's')")
        db.execute(
            "INSERT INTO dead_letters(kind, source_id, input_id, code, reason, field, records, locator, sample, rows,"
            " state, created_us) VALUES('record', 1, 1, 'x', '', '', 1, '{}', x'', '[]', 'open', ?)",
            (since + HOUR,),
        )
    slip = environments.promote(place.data, place.data.root / "slip.json", "local:anna", since + 3 * HOUR).slip
    assert (slip.trouble, slip.quiet_hours, slip.in_force_us) == ("a dead letter", 2.0, since)


def test_only_what_runs_in_an_environment_can_be_promoted(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no revision"):
        environments.promote(place.data, tmp_path / "slip", "local:anna", 1)
    place.apply(small_tree())
    with pytest.raises(ConfigError, match="put in force for none"):
        environments.promote(place.data, tmp_path / "slip", "local:anna", 1)


def test_through_the_api_a_user_of_the_same_name_is_the_same_person_and_no_glass_is_broken(place: Place) -> None:
    place.apply(tree_with())
    place.apply(tree_with(sinks__finance=finance(5)))

    def call(operation: str, user: str, **body: object) -> dict[str, object]:
        who = Caller(user, [Grant("engineer", "all")])
        answer = carry_out(BY_NAME[operation], place.data, who, json.dumps(body).encode())
        found: dict[str, object] = json.loads(answer)
        return found

    with pytest.raises(Refused, match="nobody approves their own change"):
        call("approve", "anna", name="p1")
    changed = tree_with(sinks__finance=finance(6))
    with pytest.raises(Refused, match="own machine"):
        call("apply", "cleo", tree=changed, message="", break_glass="quick")
    assert call("approve", "bert", name="p1")["revision"] == 2
    assert call("diff", "bert", name="2")["by"] == "anna"


def test_a_word_in_the_environment_makes_no_second_person(monkeypatch: pytest.MonkeyPatch) -> None:
    before = options.author()
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    assert options.author() == before


def test_persons_are_the_same_however_they_come() -> None:
    assert gate.person("local:Anna") == gate.person("user:anna") == "anna"
    assert gate.person("user:bert") != gate.person("user:anna")


def test_a_change_proposed_in_waves_is_rolled_out_in_them_when_it_is_approved(place: Place) -> None:
    place.apply(tree_with("approvals: [{sites: {region: us}}]\n"))
    with closing(connection.connect(place.data.state)) as db:
        for site in ("atl1", "rtm1"):
            agents.record_enrolled(
                db, f"{site}-a", site, host="h", platform="Linux", version="1", expires_us=2**60, now_us=1
            )
    source = small_tree()["sources/shipments.yaml"] + "poll_seconds: 9\n"
    changed = tree_with("approvals: [{sites: {region: us}}]\n", sources__shipments=source)
    waves = InWaves((Asked("canary", "rtm1"), Asked("all", "all")), 60, 60)
    assert place.apply(changed, waves=waves).proposal == 1
    assert place.in_force()[0] == 1
    done = place.approve("p1")
    assert (done.revision, done.in_waves) == (2, True)
    assert place.in_force()[0] == 1  # until its rollout is complete
    with closing(connection.connect(place.data.state)) as db:
        rolled = rollouts.live(db)
        assert rolled is not None
        assert (rolled.revision, rolled.base) == (2, 1)
    page = diffs.page(place.data, "2")
    assert page.before == "revision 1"
    assert "poll_seconds set to 9" in plan_words.text(page.plan)
