"""A call of each operation that works in an `Estate`, aimed at one of its sites. Whoever adds an operation that changes
something, reads payloads, or is about less than every site adds a line here: the walks over the table ask for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

from crossdock_controller.authority import Authority
from crossdock_controller.commands import (
    authorities,
    configuration,
    enrolment,
    environments,
    people,
    remap,
    rollout,
    sitecommands,
)
from crossdock_controller.commands.rollout import InWaves
from crossdock_controller.rollouts.waves import Asked
from crossdock_controller.store import (
    commands,
    connection,
    enrolments,
    machines,
    replays,
    sinks,
    site_deliveries,
    site_links,
    tokens,
)
from crossdock_controller.store.replays import Chosen
from crossdock_controller.store.site_deliveries import Addressed, Settled
from support.estate import EU, TREE, US, Estate

Arguments = dict[str, Any]


def _tree(site: str) -> dict[str, str]:
    """Changes *site* and nothing else."""
    name = f"sites/{site}.yaml"
    return {**TREE, name: TREE[name].replace("root: drop", "root: elsewhere")}


def _rolled_back(estate: Estate, site: str) -> Arguments:
    estate.apply(_tree(site))
    return {"revision": 1}


def _reconciling(estate: Estate, _site: str) -> Arguments:
    compared = {
        "document": "Shipment", "left": {"source": "wms", "on": {"region": "us"}},
        "right": {"source": "wms", "on": {"region": "eu"}}, "compare": ["status"], "schedule": "0 6 * * *",
    }  # fmt: skip
    estate.apply({**TREE, "reconciliations/sites.yaml": json.dumps(compared)})
    return {"name": "sites"}


def _made_user(estate: Estate, _site: str) -> Arguments:
    people.add_user(estate.data, "carl", "viewer", ["region=us"], by="local:test", now_us=1)
    return {"name": "carl"}


def _made_token(estate: Estate, site: str) -> Arguments:
    made = people.create_token(estate.data, _made_user(estate, site)["name"], 60.0, by="local:test", now_us=1)
    return {"token": made.id}


def _written(estate: Estate, site: str) -> Arguments:
    """Something that its agent has written there."""
    with connection.transaction(estate.db):
        (agent, *_) = site_links.agents_of(estate.db, site)
        one = Addressed(b"i" * 16, 1, "Product", f"{site}-1", b"{}", 1)
        site_deliveries.put(estate.db, [one], sink="back", site=site, agent=agent, writer="drop", now_us=1)
        site_deliveries.settle(estate.db, agent, [Settled(one.id, 1, "applied", "", "", "there")], 2)
    return {"sink": "back", "document": "Product", "key": f"{site}-1", "because": "a test"}


def _applied(estate: Estate, site: str) -> Arguments:
    estate.apply(_tree(site))
    return {"name": "2"}


def _proposed(estate: Estate, _site: str) -> Arguments:
    governed = {**TREE, "policy.yaml": 'approvals:\n  - paths: ["sinks/*"]\n'}
    estate.apply(governed)
    changed = TREE["sinks/files.yaml"].replace("out", "elsewhere")
    configuration.apply_tree(estate.data, {**governed, "sinks/files.yaml": changed}, "local:test", "", 3)
    return {"name": "p1"}


def _in_an_environment(estate: Estate, _site: str) -> Arguments:
    environments.set_environment(estate.data, "prod", by="local:test", now_us=1)
    estate.apply({**TREE, "environments/prod.yaml": "on: {}\n"})
    return {}


def _rolling(estate: Estate, site: str) -> Arguments:
    waves = InWaves((Asked("canary", site),), 60.0, 60.0)
    configuration.apply_tree(estate.data, _tree(site), "local:test", "", 2, waves)
    return {"why": "a test"}


def _held(estate: Estate, site: str) -> Arguments:
    why = _rolling(estate, site)
    rollout.pause(estate.data, "local:test", "", 3)
    return why


def _replayed(estate: Estate, site: str) -> Arguments:
    made = remap.replay_records(estate.data, "wms", "a test", site=site, by="local:test", now_us=2)
    return {"number": made.id}


def _join_token(estate: Estate, site: str) -> Arguments:
    made = enrolment.create_token(estate.data, site, "", 60.0, 1, by="local:test")
    return {"token_id": made.id}


def _waiting(estate: Estate, site: str) -> Arguments:
    """Somebody waits under a new name at *site*."""
    name = f"{site}-new"
    enrolment.create_token(estate.data, site, name, 60.0, 1, by="local:test", approve=True)
    with connection.transaction(estate.db):
        token = next(t for t in tokens.list_all(estate.db) if t.agent == name)
        ask = enrolments.Ask(token.hash, "ab" * 32, "ABCD-EFGH", "host", "Linux", "1", "", "10.0.0.1")
        found = enrolments.request(estate.db, ask, approve_all=False, now_us=2)
    assert isinstance(found, enrolments.Enrolment)
    return {"agent": name, "approve": True}


def _bound(estate: Estate, site: str) -> Arguments:
    with connection.transaction(estate.db):
        machines.bind(estate.db, site, "digest", f"{site}-host", 1)
    return {"agent": site}


def _replayed(estate: Estate, _site: str) -> Arguments:
    """A replay of what a sink that is newer than its events never got."""
    number = sinks.sink_id(estate.db, "newer")
    with connection.transaction(estate.db):
        begun = replays.add(
            estate.db, number, Chosen(unrouted=True), because="a test", by="local:test", rate=0.0, total=1,
            until_seq=replays.last_seq(estate.db), now_us=2,
        )  # fmt: skip
    return {"replay": begun}


def _authority(*steps: str) -> Callable[[Estate, str], Arguments]:
    def call(estate: Estate, _site: str) -> Arguments:
        first = Authority.open(estate.data.authority).fingerprint
        for number, step in enumerate(steps):
            if step == "switch":
                authorities.switch(estate.data, number + 1, "local:test", force=True)
            else:
                getattr(authorities, step)(estate.data, number + 1, "local:test")
        return {"fingerprint": first, "force": True} if "switch" in steps else {}

    return call


def _quiet(prepare: Callable[[Estate, str], Arguments]) -> Callable[[Estate, str], Arguments]:
    """Of what *prepare* made, nothing is an argument."""

    def call(estate: Estate, site: str) -> Arguments:
        prepare(estate, site)
        return {}

    return call


def _given(name: str, **arguments: str) -> Callable[[Estate, str], str]:
    """The id of a command that an agent of the site has answered."""

    def call(estate: Estate, site: str) -> str:
        view = sitecommands.give(estate.data, sitecommands.Target(site), name, arguments, "local:test", 2)[0]
        with connection.transaction(estate.db):
            commands.add_part(estate.db, view.id, 0, b'{"text": ["said"], "value": {"rows": [["%s"]]}}' % site.encode())
            commands.ended(estate.db, view.id, "done", "", 3)
        return view.id

    return call


_tried, _bundled = _given("try", source="wms"), _given("support-bundle")


CALLS: dict[str, Callable[[Estate, str], Arguments]] = {
    "status": lambda _e, _s: {},
    "storage": lambda _e, _s: {},
    "top": lambda _e, _s: {"interval": 0.01},
    "account": lambda _e, _s: {},
    "agents": lambda _e, _s: {},
    "mapping.replay": lambda _e, s: {"source": "wms", "because": "a test", "site": s},
    "mapping.replay-dry": lambda _e, s: {"source": "wms", "site": s},
    "mapping.replays": lambda _e, _s: {},
    "mapping.replay-show": _replayed,
    "mapping.replay-cancel": _replayed,
    "mapping.diff": lambda _e, _s: {"name": "1", "since_us": 0, "seconds": 30.0},
    "mapping.diff-tree": lambda _e, s: {"tree": _tree(s), "since_us": 0, "seconds": 30.0},
    "history": lambda _e, _s: {},
    "trace": lambda _e, s: {"number": {US: "U1", EU: "E1"}[s]},
    "dead.list": lambda _e, _s: {},
    "dead.show": lambda e, s: {"letter": e.letter(s)},
    "dead.retry": lambda e, s: {"letter": e.letter(s), "changes": {"QTY": "2"}, "note": ""},
    "dead.discard": lambda e, s: {"letter": e.letter(s), "note": "a test"},
    "state.get": lambda _e, s: {"number": "U1" if s == US else "E1", "document": "shipment"},
    "state.find": lambda _e, s: {"refs": {"sku": "A"}, "document": "shipment", "site": s},
    "reconcile.list": lambda _e, _s: {},
    "reconcile": _reconciling,
    "exceptions.list": lambda _e, _s: {},
    "exceptions.show": lambda _e, _s: {"cause": "bad_decimal"},
    "exceptions.assign": lambda _e, _s: {"cause": "bad_decimal", "to": "carl", "due_us": 7},
    "exceptions.note": lambda _e, _s: {"cause": "bad_decimal", "text": "phoned the site"},
    "exceptions.retry": lambda _e, _s: {"cause": "bad_decimal", "changes": {"QTY": "2"}},
    "exceptions.resolve": lambda _e, _s: {"cause": "bad_decimal", "because": "a test"},
    "sinks.list": lambda _e, _s: {},
    "sinks.show": lambda _e, _s: {"sink": "files"},
    "sinks.pause": lambda _e, _s: {"sink": "files", "because": "a test"},
    "sinks.resume": lambda _e, _s: {"sink": "files", "because": "a test"},
    "sinks.drain": lambda _e, _s: {"sink": "files", "because": "a test"},
    "sinks.check": lambda _e, _s: {"sink": "files"},
    "replay.events": lambda _e, _s: {"sink": "files", "chosen": Chosen(unrouted=True), "because": "a test"},
    "replay.list": _quiet(_replayed),
    "replay.show": _replayed,
    "replay.cancel": _replayed,
    "writebacks": lambda _e, _s: {},
    "writebacks.undo": _written,
    "holds.list": lambda _e, _s: {},
    "holds.show": lambda e, s: {"event": e.hold(s)},
    "holds.release": lambda e, s: {"event": e.hold(s), "note": "a test"},
    "holds.discard": lambda e, s: {"event": e.hold(s), "note": "a test"},
    "codes.list": lambda _e, _s: {},
    "codes.export": lambda _e, _s: {},
    "codes.set": lambda _e, s: {"name": "units", "value": "PCE", "meaning": "H87", "site": s, "note": ""},
    "codes.ignore": lambda _e, s: {"name": "units", "value": "PCE", "site": s, "note": "a test"},
    "plan": lambda _e, s: {"tree": _tree(s)},
    "apply": lambda _e, s: {"tree": _tree(s), "message": ""},
    "rollback": _rolled_back,
    "diff": _applied,
    "approvals": lambda _e, _s: {},
    "approve": _proposed,
    "reject": lambda e, s: {**_proposed(e, s), "because": "a test"},
    "config.tree": lambda _e, _s: {},
    "config.sites": lambda _e, _s: {},
    "config.secrets": lambda _e, _s: {},
    "config.promote": _in_an_environment,
    "config.environment": lambda _e, _s: {},
    "config.set-environment": lambda _e, _s: {"name": "test"},
    "rollout": _quiet(_rolling),
    "rollout.drift": lambda _e, _s: {},
    "rollout.pause": _rolling,
    "rollout.resume": _held,
    "rollout.halt": _rolling,
    "rollout.finish": _rolling,
    "fleet.risks": lambda _e, _s: {},
    "token.list": _quiet(_join_token),
    "token.revoke": _join_token,
    "agents.pending": _quiet(_waiting),
    "agents.decide": _waiting,
    "agents.move": _bound,
    "ca.list": lambda _e, _s: {},
    "ca.add": _authority(),
    "ca.issue": _authority("add"),
    "ca.switch": lambda e, s: {**_authority("add", "issue")(e, s), "force": True},
    "ca.retire": _authority("add", "issue", "switch"),
    "token.create": lambda _e, s: {"site": s, "agent": "", "ttl_seconds": 60.0},
    "agents.revoke": lambda _e, s: {"agent": s},
    "agents.adopt": lambda _e, _s: {"agent": "ghost", "site": "ghost"},
    "command.targets": lambda _e, s: {"target": sitecommands.Target(s)},
    "command.give": lambda _e, s: {"target": sitecommands.Target(s), "name": "check", "arguments": {}},
    "command.states": lambda e, s: {"ids": [_tried(e, s)]},
    "command.list": _quiet(lambda e, s: {"id": _tried(e, s)}),
    "command.show": lambda e, s: {"prefix": _tried(e, s)[:8]},
    "command.file": lambda e, s: {"prefix": _bundled(e, s)},
    "users.add": lambda _e, _s: {"name": "dora", "role": "viewer", "on": ["all"]},
    "users.list": lambda _e, _s: {},
    "users.grant": lambda e, s: {**_made_user(e, s), "role": "operator", "on": ["region=us"]},
    "users.link": lambda e, s: {**_made_user(e, s), "email": "carl@example.com"},
    "users.revoke-role": lambda e, s: {**_made_user(e, s), "role": "viewer"},
    "users.disable": _made_user,
    "users.remove": _made_user,
    "users.token.create": lambda e, s: {"user": _made_user(e, s)["name"], "ttl_seconds": 60.0},
    "users.token.list": lambda _e, _s: {},
    "users.token.revoke": _made_token,
    "audit.list": lambda _e, _s: {},
    "audit.verify": lambda _e, _s: {},
}


def entries(estate: Estate) -> list[tuple[str, str, str]]:
    """(actor, action, target) of the whole audit log, oldest first."""
    with closing(connection.connect(estate.data.state)) as db:
        return list(db.execute("SELECT actor, action, target FROM audit ORDER BY seq"))
