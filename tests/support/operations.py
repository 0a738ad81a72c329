"""A call of each operation that works in an `Estate`, aimed at one of its sites. Whoever adds an operation that changes
something, reads payloads, or is about less than every site adds a line here: the walks over the table ask for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from crossdock_controller.commands import people
from crossdock_controller.store import connection
from support.estate import EU, TREE, US, Estate

Arguments = dict[str, Any]


def _tree(site: str) -> dict[str, str]:
    """Changes *site* and nothing else."""
    name = f"sites/{site}.yaml"
    return {**TREE, name: TREE[name].replace("root: drop", "root: elsewhere")}


def _rolled_back(estate: Estate, site: str) -> Arguments:
    estate.apply(_tree(site))
    return {"revision": 1}


def _made_user(estate: Estate, _site: str) -> Arguments:
    people.add_user(estate.data, "carl", "viewer", ["region=us"], by="local:test", now_us=1)
    return {"name": "carl"}


def _made_token(estate: Estate, site: str) -> Arguments:
    made = people.create_token(estate.data, _made_user(estate, site)["name"], 60.0, by="local:test", now_us=1)
    return {"token": made.id}


CALLS: dict[str, Callable[[Estate, str], Arguments]] = {
    "status": lambda _e, _s: {},
    "storage": lambda _e, _s: {},
    "top": lambda _e, _s: {"interval": 0.01},
    "account": lambda _e, _s: {},
    "agents": lambda _e, _s: {},
    "history": lambda _e, _s: {},
    "trace": lambda _e, s: {"number": {US: "U1", EU: "E1"}[s]},
    "dead.list": lambda _e, _s: {},
    "dead.show": lambda e, s: {"letter": e.letter(s)},
    "dead.retry": lambda e, s: {"letter": e.letter(s), "changes": {"QTY": "2"}, "note": ""},
    "dead.discard": lambda e, s: {"letter": e.letter(s), "note": "a test"},
    "plan": lambda _e, s: {"tree": _tree(s)},
    "apply": lambda _e, s: {"tree": _tree(s), "message": ""},
    "rollback": _rolled_back,
    "token.create": lambda _e, s: {"site": s, "agent": "", "ttl_seconds": 60.0},
    "agents.revoke": lambda _e, s: {"agent": s},
    "agents.adopt": lambda _e, _s: {"agent": "ghost", "site": "ghost"},
    "users.add": lambda _e, _s: {"name": "dora", "role": "viewer", "on": ["all"]},
    "users.list": lambda _e, _s: {},
    "users.grant": lambda e, s: {**_made_user(e, s), "role": "operator", "on": ["region=us"]},
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
