"""Walks over the table of operations: who may do what, at which sites, and that it is on record."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock.errors import ConfigError
from crossdock_controller import commands
from crossdock_controller.access import ROLES, Grant, Sites
from crossdock_controller.api import openapi
from crossdock_controller.commands import configuration, environments
from crossdock_controller.operations import carry, plain, table, trees
from crossdock_controller.operations.carry import Forbidden, Malformed
from crossdock_controller.operations.hints import hints
from crossdock_controller.operations.scopes import Scope
from crossdock_controller.operations.table import OPERATIONS, Operation
from crossdock_controller.store import connection, revisions, rollouts
from support.estate import EU, TREE, US, Estate, caller
from support.operations import CALLS, entries

# The least role of each operation, written a second time on purpose: whoever changes one says so twice.
ROLE_OF = {
    "status": "viewer", "storage": "viewer", "top": "viewer", "account": "viewer", "agents": "viewer",
    "history": "viewer", "trace": "viewer",
    "dead.list": "operator", "dead.show": "operator", "dead.retry": "operator", "dead.discard": "operator",
    "reconcile.list": "viewer", "reconcile": "operator", "state.get": "viewer", "state.find": "viewer",
    "exceptions.list": "operator", "exceptions.show": "operator", "exceptions.assign": "operator",
    "exceptions.note": "operator", "exceptions.retry": "operator", "exceptions.resolve": "operator",
    "sinks.list": "viewer", "sinks.show": "viewer", "sinks.pause": "operator", "sinks.resume": "operator",
    "sinks.drain": "operator", "sinks.check": "operator",
    "replay.events": "operator", "replay.list": "operator", "replay.show": "operator", "replay.cancel": "operator",
    "writebacks": "viewer", "writebacks.undo": "operator",
    "holds.list": "operator", "holds.show": "operator", "holds.release": "operator", "holds.discard": "operator",
    "codes.list": "operator", "codes.export": "operator", "codes.set": "operator", "codes.ignore": "operator",
    "plan": "engineer", "apply": "engineer", "rollback": "engineer", "diff": "engineer", "approvals": "engineer",
    "approve": "engineer", "reject": "engineer", "config.tree": "engineer", "config.environment": "viewer",
    "config.sites": "viewer", "config.secrets": "engineer", "config.promote": "engineer",
    "config.set-environment": "admin", "rollout": "viewer", "rollout.drift": "viewer", "rollout.pause": "engineer",
    "rollout.resume": "engineer", "rollout.halt": "engineer", "rollout.finish": "engineer",
    "mapping.replay": "engineer", "mapping.replay-dry": "engineer", "mapping.replays": "engineer",
    "mapping.replay-show": "engineer", "mapping.replay-cancel": "engineer",
    "mapping.diff": "engineer", "mapping.diff-tree": "engineer",
    "fleet.risks": "viewer", "token.create": "engineer", "token.list": "operator", "token.revoke": "engineer",
    "agents.pending": "operator", "agents.decide": "engineer", "agents.move": "engineer",
    "agents.revoke": "engineer", "agents.adopt": "admin",
    "ca.list": "engineer", "ca.add": "admin", "ca.issue": "admin", "ca.switch": "admin", "ca.retire": "admin",
    "command.targets": "operator", "command.give": "operator", "command.states": "operator",
    "command.list": "operator", "command.show": "operator", "command.file": "operator",
    "users.add": "admin", "users.list": "admin", "users.grant": "admin", "users.link": "admin",
    "users.revoke-role": "admin", "users.disable": "admin", "users.remove": "admin", "users.token.create": "admin",
    "users.token.list": "admin",
    "users.token.revoke": "admin", "audit.list": "admin", "audit.verify": "admin",
}  # fmt: skip

each = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path / "data")
    yield estate
    estate.close()


def called(estate: Estate, operation: Operation, who: carry.Caller, site: str = US) -> Any:
    assert operation.name in CALLS, f"give {operation.name} a call in tests/support/operations.py"
    body = msgspec.json.encode(CALLS[operation.name](estate, site))
    return json.loads(carry.carry_out(operation, estate.data, who, body))


def test_the_least_role_of_each_operation_is_the_one_that_was_decided() -> None:
    assert {operation.name: operation.role for operation in OPERATIONS} == ROLE_OF
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    assert len({operation.place for operation in OPERATIONS}) == len(OPERATIONS)


def test_every_role_may_do_exactly_what_it_and_the_ones_below_it_may(estate: Estate) -> None:
    for operation in OPERATIONS:
        for role in ROLES:
            allowed = ROLES.index(role) >= ROLES.index(ROLE_OF[operation.name])  # type: ignore[arg-type]
            if allowed:
                assert carry.permitted(operation, estate.data, caller(role, "all")).everything
            else:
                with pytest.raises(Forbidden, match=f"needs the role {operation.role}"):
                    carry.permitted(operation, estate.data, caller(role, "all"))
        with pytest.raises(Forbidden, match="no role"):
            carry.permitted(operation, estate.data, caller("viewer"))


def test_what_is_served_is_in_the_table_and_the_table_serves_nothing_else() -> None:
    marked = set()
    for found in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"{commands.__name__}.{found.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if getattr(function, "__crossdock_served__", False) and function.__module__ == module.__name__:
                marked.add(f"{found.name}:{name}")
    assert marked == set(table.BY_PLACE)


@each
def test_who_holds_the_role_everywhere_may_call_it(estate: Estate, operation: Operation) -> None:
    called(estate, operation, caller(operation.role, "all"))


@each
def test_what_changes_something_or_reads_payloads_is_on_record_with_who_did_it(
    estate: Estate, operation: Operation
) -> None:
    assert operation.name in CALLS, f"give {operation.name} a call in tests/support/operations.py"
    body = msgspec.json.encode(CALLS[operation.name](estate, US))
    before = len(entries(estate))
    carry.carry_out(operation, estate.data, caller(operation.role, "all", user="ben"), body)
    new = entries(estate)[before:]
    if operation.changes or operation.payloads:
        assert new, f"{operation.name} left no entry"
    else:
        assert not new, "what only reads, and no payloads, fills no log"
    assert {actor for actor, _, _ in new} <= {"user:ben"}


@each
def test_a_person_of_other_sites_is_refused_or_sees_nothing_of_a_site(estate: Estate, operation: Operation) -> None:
    """Anna has the role at the sites of region us; what is about rtm1 is neither done nor told."""
    anna = caller(operation.role, "region=us")
    body = msgspec.json.encode(CALLS[operation.name](estate, EU)) if operation.name in CALLS else b"{}"
    before = len(entries(estate))
    agent_before = estate.db.execute("SELECT state, revision FROM agents WHERE agent = 'rtm1'").fetchone()
    refused, told = "", ""
    try:
        told = carry.carry_out(operation, estate.data, anna, body).decode()
    except Forbidden as error:
        refused = str(error)
    if refused:
        assert EU not in refused
        assert not entries(estate)[before:], "nothing was done"
    else:
        assert type(operation.scope) is not Scope, "an operation of every site was let through"
        if operation.name == "trace":
            assert json.loads(told)["entries"] == []
            told = told.replace("E1", "what was asked for")
        for foreign in (EU, "E1", "E2", "ghost"):
            assert foreign not in told, f"{operation.name} tells of {foreign}"
    assert estate.db.execute("SELECT state, revision FROM agents WHERE agent = 'rtm1'").fetchone() == agent_before


@each
def test_an_answer_survives_the_way_as_the_same_value(estate: Estate, operation: Operation) -> None:
    arguments = CALLS[operation.name](estate, US)
    function = carry.function_of(operation)
    known = {"data": estate.data, "now_us": 2, "by": "user:ben"}
    takes = inspect.signature(function).parameters
    answer = function(**arguments, **{k: v for k, v in known.items() if k in takes})
    sent = json.loads(json.dumps(plain.encode(answer)))
    assert plain.decode(sent, hints(inspect.unwrap(function))["return"]) == answer


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "missing required field"),
        (b"[]", "Expected `object`"),
        (b"{", "malformed|truncated"),
        (b'{"agent": 7}', "Expected `str`"),
        (b'{"agent": "atl1", "by": "user:root"}', "unknown field `by`"),
        (b'{"agent": "atl1", "now_us": 1}', "unknown field `now_us`"),
        (b'{"agent": "atl1", "data": "/etc"}', "unknown field `data`"),
        (b'{"agent": "atl1", "within": null}', "unknown field `within`"),
        (b'{"agent": "\xff"}', "Invalid UTF-8|utf-8"),
        (b'{"agent": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "Expected `str`|recursion|nested"),
    ],
)  # fmt: skip
def test_a_body_that_is_not_what_the_function_takes_is_refused_and_says_why(
    estate: Estate, body: bytes, said: str
) -> None:
    with pytest.raises(Malformed, match=said):
        carry.carry_out(table.BY_NAME["agents.revoke"], estate.data, caller("admin", "all"), body)
    assert estate.db.execute("SELECT state FROM agents WHERE agent = 'atl1'").fetchone() == ("active",)


@pytest.mark.parametrize("name", ["../rtm1", "atl1/../rtm1", "RTM1", "rtm1\u0000", "rtm1 ", "%72tm1", ""])
def test_a_name_that_looks_like_another_agents_reaches_nobody(estate: Estate, name: str) -> None:
    with pytest.raises(Forbidden):
        carry.carry_out(
            table.BY_NAME["agents.revoke"], estate.data, caller("engineer", "region=us"),
            msgspec.json.encode({"agent": name}),
        )  # fmt: skip
    assert estate.db.execute("SELECT count(*) FROM agents WHERE state = 'active'").fetchone() == (2,)


def test_a_site_that_is_labelled_anew_is_somebody_elses_from_the_next_call_on(estate: Estate) -> None:
    anna = caller("viewer", "region=us")
    agents = table.BY_NAME["agents"]

    def seen() -> list[str]:
        return [agent["agent"] for agent in json.loads(carry.carry_out(agents, estate.data, anna, b""))]

    assert seen() == [US]
    estate.apply({**TREE, "sites/rtm1.yaml": TREE["sites/rtm1.yaml"].replace("eu", "us")})
    assert seen() == [US, EU]
    estate.apply({**TREE, "sites/atl1.yaml": TREE["sites/atl1.yaml"].replace("us", "eu")})
    assert seen() == []


APPLY = table.BY_NAME["apply"]
NEW_SITE = {"sites/bos1.yaml": "site: bos1\nlabels: {region: us}\nvariables: {root: drop}\n"}
NEW_SOURCE = TREE["sources/wms.yaml"].replace("source: wms", "source: extra")
EXTRA_MAPPING = {"mappings/extra.yaml": TREE["mappings/wms.yaml"].replace("mapping: wms", "mapping: extra")}


@pytest.mark.parametrize(
    ("tree", "allowed"),
    [
        (TREE, True),  # nothing changes
        ({**TREE, "sites/atl1.yaml": TREE["sites/atl1.yaml"].replace("root: drop", "root: new")}, True),
        ({**TREE, **NEW_SITE}, True),
        ({**TREE, "sources/wms.yaml": "# why\n" + TREE["sources/wms.yaml"]}, True),
        ({**TREE, "sites/rtm1.yaml": TREE["sites/rtm1.yaml"].replace("root: drop", "root: new")}, False),
        ({**TREE, "sites/rtm1.yaml": TREE["sites/rtm1.yaml"].replace("eu", "us")}, False),  # takes a site over
        ({**TREE, "sites/atl1.yaml": TREE["sites/atl1.yaml"].replace("us", "eu")}, False),  # gives one away
        ({k: v for k, v in TREE.items() if k != "sites/rtm1.yaml"}, False),
        ({**TREE, "sources/wms.yaml": TREE["sources/wms.yaml"].replace("*.csv", "*.txt")}, False),  # runs at rtm1, too
        ({**TREE, "mappings/wms.yaml": TREE["mappings/wms.yaml"] + "# shared\n"}, False),
        ({**TREE, "routes/files.yaml": "when: 'true'\nto: [files]\n"}, False),
        ({**TREE, "sinks/files.yaml": TREE["sinks/files.yaml"].replace("out", "elsewhere")}, False),
        ({**TREE, **EXTRA_MAPPING, "sources/extra.yaml": NEW_SOURCE.replace("on: {}", "on: {region: us}")}, False),
        ({}, False),
    ],
)  # fmt: skip
def test_an_engineer_of_some_sites_applies_what_changes_those_and_nothing_that_all_share(
    estate: Estate, tree: dict[str, str], allowed: bool
) -> None:
    for name, more in (("plan", {}), ("apply", {"message": ""})):
        body = msgspec.json.encode({"tree": tree, **more})
        if allowed:
            carry.carry_out(table.BY_NAME[name], estate.data, caller("engineer", "region=us"), body)
        else:
            with pytest.raises(Forbidden):
                carry.carry_out(table.BY_NAME[name], estate.data, caller("engineer", "region=us"), body)


@pytest.mark.parametrize(
    ("name", "role", "arguments"),
    [
        ("rollout", "viewer", {"revision": 2**63}),
        ("dead.show", "operator", {"letter": 2**64 - 1}),
        ("dead.show", "operator", {"letter": -(2**63) - 1}),
        ("audit.list", "admin", {"since_us": 2**63}),
    ],
)
@pytest.mark.parametrize("on", ["all", "region=us"])
def test_a_number_that_no_store_can_hold_is_the_callers_mistake_and_not_the_controllers(
    estate: Estate, name: str, role: str, arguments: dict[str, int], on: str
) -> None:
    with pytest.raises(Malformed):
        carry.carry_out(table.BY_NAME[name], estate.data, caller(role, on), json.dumps(arguments).encode())


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 1e10, 1e300])
def test_a_door_is_open_for_a_year_at_most_and_no_time_breaks_a_call(estate: Estate, seconds: float) -> None:
    body = msgspec.json.encode({"site": US, "agent": "", "ttl_seconds": seconds})
    with pytest.raises(ConfigError, match="a token lives for"):
        carry.carry_out(table.BY_NAME["token.create"], estate.data, caller("engineer", "region=us"), body)


STAGED = {
    **TREE,
    "environments/prod.yaml": "on: {region: us}\n",
    "environments/test.yaml": "on: {region: eu}\n",
}


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"sites/atl1.yaml": TREE["sites/atl1.yaml"].replace("root: drop", "root: new")}, True),
        ({"sinks/files.yaml": TREE["sinks/files.yaml"].replace("out", "elsewhere")}, False),
        ({"sites/rtm1.yaml": TREE["sites/rtm1.yaml"].replace("root: drop", "root: new")}, False),  # served elsewhere
        ({"environments/prod.yaml": "on: {}\n"}, False),
        ({"shared/x.yaml": "lane: bulk\n"}, False),
        ({"groups/eu.yaml": "on: {region: eu}\n"}, False),
        ({"policy.yaml": "approvals: []\n"}, False),
    ],
)
def test_a_tree_with_environments_is_confined_in_the_one_that_is_served(
    estate: Estate, change: dict[str, str], allowed: bool
) -> None:
    environments.set_environment(estate.data, "prod", by="local:test", now_us=1)
    estate.apply(STAGED)
    anna, body = caller("engineer", "region=us"), msgspec.json.encode({"tree": {**STAGED, **change}, "message": ""})
    if allowed:
        carry.carry_out(APPLY, estate.data, anna, body)
    else:
        with pytest.raises(Forbidden):
            carry.carry_out(APPLY, estate.data, anna, body)
    elsewhere = msgspec.json.encode({"tree": STAGED, "environment": "test"})
    with pytest.raises(Forbidden):
        carry.carry_out(table.BY_NAME["plan"], estate.data, anna, elsewhere)


def test_a_tree_is_not_applied_over_another_revision_than_the_one_its_sites_were_judged_by(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody changes rtm1 between the two: what was judged to change atl1 alone would take that back."""
    judge, theirs = trees.confined, {**TREE, "sites/rtm1.yaml": TREE["sites/rtm1.yaml"].replace("drop", "theirs")}

    def confined(*arguments: Any) -> bool:
        answer = judge(*arguments)
        estate.apply(theirs)
        return answer

    monkeypatch.setattr(trees, "confined", confined)
    mine = {**TREE, "sites/atl1.yaml": TREE["sites/atl1.yaml"].replace("drop", "mine")}
    with pytest.raises(ConfigError, match="was applied meanwhile"):
        carry.carry_out(
            APPLY, estate.data, caller("engineer", "region=us"), msgspec.json.encode({"tree": mine, "message": ""})
        )
    head = revisions.head(estate.db)
    assert head is not None
    assert head[1] == theirs


def test_a_source_of_ones_own_sites_may_be_changed_but_not_spread_to_others(estate: Estate) -> None:
    own = {**TREE, **EXTRA_MAPPING, "sources/extra.yaml": NEW_SOURCE.replace("on: {}", "on: {region: us}")}
    estate.apply(own)
    anna = caller("engineer", "region=us")
    better = {**own, "sources/extra.yaml": own["sources/extra.yaml"].replace("*.csv", "*.txt")}
    carry.carry_out(APPLY, estate.data, anna, msgspec.json.encode({"tree": better, "message": ""}))
    for labels in ("{}", "{region: eu}", "{region: [us, eu]}"):
        spread = {**better, "sources/extra.yaml": better["sources/extra.yaml"].replace("{region: us}", labels)}
        with pytest.raises(Forbidden):
            carry.carry_out(APPLY, estate.data, anna, msgspec.json.encode({"tree": spread, "message": ""}))


def test_the_description_names_every_operation_and_every_reference_in_it_resolves() -> None:
    told = json.loads(openapi.document())
    assert set(told["paths"]) == {f"/v1/{operation.name}" for operation in OPERATIONS}
    schemas = told["components"]["schemas"]

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    references = set(walk(told))
    assert references
    assert {r.removeprefix("#/components/schemas/") for r in references} <= set(schemas)
    assert schemas["people.TokenView"] != schemas["enrolment.TokenView"], "two of one name"
    assert "in" in schemas["account.AccountLine"]["properties"], "as it is sent"
    takes = schemas["agents_revoke"]
    assert set(takes["properties"]) == {"agent", "because"}
    assert takes["additionalProperties"] is False


def test_the_reference_has_a_row_for_each_operation_with_its_role_and_sites() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "api.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `([a-z.-]+)` \| (\w+) \| (.+?) \| (.+?) \|$", page, re.MULTILINE))
    told = {(o.name, o.role, o.scope.words, ", ".join(_marks(o)) or "-") for o in OPERATIONS}
    assert rows == told


def _marks(operation: Operation) -> list[str]:
    marks = (("changes", operation.changes), ("payloads", operation.payloads))
    return [word for word, is_so in marks if is_so]


def test_why_a_revision_was_taken_back_names_sites_and_is_for_who_sees_them_all(estate: Estate) -> None:
    with closing(connection.connect(estate.data.state)) as db, connection.transaction(db):
        rollouts.begin(db, 1, 0, "{}", "{}", 1)
        row = rollouts.get(db, 1)
        assert row is not None
        rollouts.change(db, row, state="reverted", progress="{}", why="agent rtm1 refused it", evidence="[]")
    whole = configuration.history(estate.data, 1)
    assert (whole[0].rollout, whole[0].why) == ("reverted", "agent rtm1 refused it")
    mine = configuration.history(estate.data, 1, Sites([Grant("viewer", "region=us")], trees.labels_of(estate.data)))
    assert (mine[0].rollout, mine[0].why) == ("reverted", "")


def test_counts_are_of_the_callers_sites_alone(estate: Estate) -> None:
    def told(name: str, *on: str, **body: Any) -> Any:
        who = caller("admin", *on)
        return json.loads(carry.carry_out(table.BY_NAME[name], estate.data, who, msgspec.json.encode(body)))

    for on, letters, records in (("all", 2, 4), ("region=us", 1, 2), ("region=apac", 0, 0)):
        assert sum(dead["letters"] for dead in told("status", on)["dead"]) == letters
        assert told("account", on)["total"]["in"] == records
        assert told("top", on, interval=0.01)["dead"] == letters
        assert len(told("dead.list", on)) == letters
        assert len(told("dead.list", on, limit=1)) == min(letters, 1), "others' letters take no place on the page"
    estate.db.execute("UPDATE dead_letters SET created_us = created_us + id")
    newest = told("dead.list", "all", limit=1)[0]["site"]
    other = "region=eu" if newest == US else "region=us"
    assert len(told("dead.list", other, limit=1)) == 1, "an older one of the caller's own is found behind it"
