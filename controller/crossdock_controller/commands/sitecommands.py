"""Commands to sites: whom they are for, giving them, waiting for their answers, reading them again later."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from crossdock.errors import ConfigError
from crossdock.sitecommands import KINDS, LONGEST_SECONDS, UNANSWERED_PER_AGENT, fault_of
from crossdock_controller.hints import did_you_mean
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import agents, audit, connection, revisions
from crossdock_controller.store import commands as rows
from crossdock_controller.store.commands import CommandRow

WAIT_SECONDS = 60.0  # for an agent that is not connected, unless told otherwise
POLL_SECONDS = 0.2
SHOWN = 50


@dataclass(frozen=True, slots=True)
class CommandView:
    """*state*: waiting (for its agent), sent, running, done, failed, refused (by the site), expired. *text* and *value*
    are the answer, for people and for programs."""

    id: str
    agent: str
    name: str
    arguments: dict[str, str]
    by: str
    created_us: int
    expires_us: int
    state: str
    sent_us: int
    started_us: int
    ended_us: int
    error: str
    output_bytes: int
    text: tuple[str, ...] = ()
    value: Any = None

    @property
    def ended(self) -> bool:
        return self.state in rows.ENDED


def agents_for(data: DataDirectory, target: str, labels: Mapping[str, str], *, everyone: bool) -> list[str]:
    """Names of the agents meant: one agent, those of a site, those of sites with all *labels*, or all.

    Raises ConfigError when there are none.
    """
    with closing(connection.connect(data.state)) as db:
        active = agents.active(db)
        known = {row.agent for row in agents.list_all(db)}
        head = revisions.head(db)
    if everyone:
        found = sorted(active)
    elif labels:
        sites = _sites_with(head, labels)
        found = sorted(agent for agent, site in active.items() if site in sites)
    elif target in active:
        found = [target]
    else:
        found = sorted(agent for agent, site in active.items() if site == target)
    if found:
        return found
    if target in known:
        raise ConfigError(f"agent {target!r} is revoked", hint="'crossdock token create' lets it in again")
    if target:
        raise ConfigError(
            f"there is no site or agent {target!r}", hint=did_you_mean(target, {*active, *active.values()})
        )  # fmt: skip
    said = " and ".join(f"{name}={value}" for name, value in labels.items())
    raise ConfigError(f"no agent is at a site with {said}" if labels else "no agent has enrolled yet")


def _sites_with(head: tuple[int, dict[str, str]] | None, labels: Mapping[str, str]) -> set[str]:
    from crossdock_controller.config.runtime import Runtime

    if head is None:
        raise ConfigError("sites have their labels from the configuration, and none was applied yet")
    sites = Runtime.from_tree(head[1], head[0]).sites
    return {name for name, site in sites.items() if labels.items() <= site.all_labels().items()}


def give(
    data: DataDirectory,
    targets: Sequence[str],
    name: str,
    arguments: Mapping[str, str],
    by: str,
    now_us: int,
    expires_seconds: float = WAIT_SECONDS,
) -> list[CommandView]:
    """Give one command to each of *targets* (agents). A running controller takes it to them within a second.

    Raises ConfigError, and gives none, when the command is not valid, is too much for several agents at once, or an
    agent has not answered too many already.
    """
    fault = fault_of(name, arguments)
    if fault:
        raise ConfigError(fault)
    if len(targets) > 1 and not KINDS[name].many:
        raise ConfigError(
            f"{name} is for one agent at a time, and {len(targets)} are meant: {', '.join(targets)}",
            hint="name the agent",
        )
    if not 1 <= expires_seconds <= LONGEST_SECONDS:
        raise ConfigError(f"a command may wait for 1 s to {LONGEST_SECONDS // 86_400} d, not {expires_seconds:g} s")
    expires_us = now_us + int(expires_seconds * 1e6)
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        ids = [_add(db, agent, name, arguments, by, now_us, expires_us) for agent in targets]
    return seen(data, ids)


def _add(
    db: sqlite3.Connection, agent: str, name: str, arguments: Mapping[str, str], by: str, now_us: int, expires_us: int
) -> str:
    if rows.unanswered_of(db, agent) >= UNANSWERED_PER_AGENT:
        raise ConfigError(
            f"agent {agent} has {UNANSWERED_PER_AGENT} commands to answer already", hint="see 'crossdock command list'"
        )
    id_ = secrets.token_hex(8)
    rows.add(db, id_=id_, agent=agent, name=name, arguments=arguments, by=by, created_us=now_us, expires_us=expires_us)
    details = {"agent": agent, "name": name, "arguments": dict(arguments), "expires_us": expires_us}
    audit.append(db, actor=by, action="command.give", target=id_, details=details, now_us=now_us)
    return id_


def seen(data: DataDirectory, ids: Sequence[str]) -> list[CommandView]:
    """How the commands with these ids are now, with their answers."""
    with closing(connection.connect(data.state)) as db:
        found = [(row, rows.output(db, row.id)) for id_ in ids if (row := rows.get(db, id_)) is not None]
    return [_view(row, output) for row, output in found]


def waited(
    data: DataDirectory,
    ids: Sequence[str],
    seconds: float,
    tell: Callable[[CommandView], None] = lambda _view: None,
) -> list[CommandView]:
    """The same, once each has an end or *seconds* have passed; *tell* is called with each that comes to its end."""
    deadline = time.monotonic() + seconds
    ended: set[str] = set()
    while True:
        with closing(connection.connect(data.state)) as db:
            states = {id_: row.state for id_ in ids if (row := rows.get(db, id_)) is not None}
        for view in seen(data, [i for i in ids if states.get(i) in rows.ENDED and i not in ended]):
            ended.add(view.id)
            tell(view)
        if len(ended) == len(states) or time.monotonic() >= deadline:
            return seen(data, ids)
        time.sleep(POLL_SECONDS)


def listed(data: DataDirectory, limit: int = SHOWN, agents_of: Sequence[str] | None = None) -> list[CommandView]:
    """The newest commands first, without their answers; with *agents_of*, only theirs."""
    with closing(connection.connect(data.state)) as db:
        return [_view(row, b"") for row in rows.newest(db, limit, agents_of)]


def show(data: DataDirectory, prefix: str, by: str, now_us: int) -> CommandView:
    """The command whose id begins with *prefix*. Reading records in an answer is audited. Raises ConfigError."""
    with closing(connection.connect(data.state)) as db:
        row = _one(db, prefix)
        if row.name == "try" and row.output_bytes:
            with connection.transaction(db):
                audit.append(
                    db, actor=by, action="command.read", target=row.id, details={"agent": row.agent}, now_us=now_us
                )  # fmt: skip
        return _view(row, rows.output(db, row.id))


def file_of(data: DataDirectory, prefix: str) -> bytes:
    """The bytes of an answer that is a file (support-bundle). Raises ConfigError when it has none."""
    with closing(connection.connect(data.state)) as db:
        row = _one(db, prefix)
        output = rows.output(db, row.id)
    if row.name != "support-bundle":
        raise ConfigError(f"{row.name} answers in words, not with a file", hint=f"crossdock command show {row.id}")
    if row.state != "done" or not output:
        raise ConfigError(f"command {row.id} has no file: it is {row.state}" + (f", {row.error}" if row.error else ""))
    return output


def _one(db: sqlite3.Connection, prefix: str) -> CommandRow:
    found = rows.beginning_with(db, prefix) if prefix else []
    if not found:
        raise ConfigError(f"there is no command {prefix!r}", hint="see 'crossdock command list'")
    if len(found) > 1:
        raise ConfigError(f"several commands begin with {prefix!r}", hint="give more of the id")
    return found[0]


def _view(row: CommandRow, output: bytes) -> CommandView:
    text, value = ((), None) if row.name == "support-bundle" else _answer(output)
    return CommandView(
        row.id, row.agent, row.name, row.arguments, row.by, row.created_us, row.expires_us, row.state, row.sent_us,
        row.started_us, row.ended_us, row.error, row.output_bytes, text, value,
    )  # fmt: skip


def _answer(output: bytes) -> tuple[tuple[str, ...], Any]:
    """(lines for a person, value for a program); an agent's bytes are never trusted to be either."""
    if not output:
        return (), None
    try:
        answer = json.loads(output)
        return tuple(str(line) for line in answer["text"]), answer.get("value")
    except (ValueError, KeyError, TypeError, RecursionError):
        return (f"an answer of {len(output)} bytes that this release cannot read",), None
