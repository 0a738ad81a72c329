"""Commands to sites: whom they are for, giving them, waiting for their answers, reading them again later."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta

from crossdock.errors import ConfigError
from crossdock.sitecommands import KINDS, LONGEST_SECONDS, UNANSWERED_PER_AGENT, fault_of
from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.hints import did_you_mean
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import Elsewhere, served
from crossdock_controller.store import agents, audit, connection, revisions
from crossdock_controller.store import commands as rows
from crossdock_controller.store.commands import CommandRow

WAIT_SECONDS = 60.0  # for an agent that is not connected, unless told otherwise
POLL_SECONDS = 0.2
POLL_ELSEWHERE_SECONDS = 1.0
SHOWN = 50
PAYLOADS = ("try", "check")  # what may hold values of records, if the site lets them out


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


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a command is for: *name* is an agent or a site, else those of sites with all *labels*, else *everyone*."""

    name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    everyone: bool = False


@served
def targets(data: DataDirectory, target: Target, within: Sites = EVERYWHERE) -> list[str]:
    """Names of the agents meant, of those that may connect. Raises ConfigError when there are none."""
    with closing(connection.connect(data.state)) as db:
        fleet = [row for row in agents.list_all(db) if within(row.site)]
        head = revisions.head(db) if target.labels else None
    active = {row.agent: row.site for row in fleet if row.state == "active"}
    if target.everyone:
        found = sorted(active)
    elif target.labels:
        sites = _sites_with(head, target.labels)
        found = sorted(agent for agent, site in active.items() if site in sites)
    elif target.name in active:
        found = [target.name]
    else:
        found = sorted(agent for agent, site in active.items() if site == target.name)
    if found:
        return found
    if target.name in {row.agent for row in fleet}:
        raise ConfigError(f"agent {target.name!r} is revoked", hint="'crossdock token create' lets it in again")
    if target.name:
        known = {*active, *active.values()}
        raise ConfigError(f"there is no site or agent {target.name!r}", hint=did_you_mean(target.name, known))
    said = " and ".join(f"{name}={value}" for name, value in target.labels.items())
    raise ConfigError(f"no agent is at a site with {said}" if target.labels else "no agent has enrolled yet")


def _sites_with(head: tuple[int, dict[str, str]] | None, labels: Mapping[str, str]) -> set[str]:
    from crossdock_controller.config.runtime import Runtime

    if head is None:
        raise ConfigError("sites have their labels from the configuration, and none was applied yet")
    sites = Runtime.from_tree(head[1], head[0]).sites
    return {name for name, site in sites.items() if labels.items() <= site.all_labels().items()}


@served
def give(
    data: DataDirectory,
    target: Target,
    name: str,
    arguments: dict[str, str],
    by: str,
    now_us: int,
    expires_seconds: float = WAIT_SECONDS,
    within: Sites = EVERYWHERE,
) -> list[CommandView]:
    """Give one command to each agent meant. A running controller takes it to them within a second.

    Raises ConfigError, and gives none, when the command is not valid, is too much for several agents at once, or an
    agent has not answered too many already.
    """
    fault = fault_of(name, arguments)
    if fault:
        raise ConfigError(fault)
    meant = targets(data, target, within)
    if len(meant) > 1 and not KINDS[name].many:
        raise ConfigError(
            f"{name} is for one agent at a time, and {len(meant)} are meant: {', '.join(meant)}",
            hint="name the agent",
        )
    if not 1 <= expires_seconds <= LONGEST_SECONDS:
        raise ConfigError(f"a command may wait for 1 s to {LONGEST_SECONDS // 86_400} d, not {expires_seconds:g} s")
    expires_us = now_us + int(expires_seconds * 1e6)
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        ids = [_add(db, agent, name, arguments, by, now_us, expires_us) for agent in meant]
    return states(data, ids, within)


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


@served
def states(data: DataDirectory, ids: list[str], within: Sites = EVERYWHERE) -> list[CommandView]:
    """How the commands with these ids are now, without their answers."""
    with closing(connection.connect(data.state)) as db:
        seen = _visible(db, within)
        found = [row for id_ in ids[:1000] if (row := rows.get(db, id_)) is not None and seen(row)]
    return [_view(row, b"") for row in found]


def waited(
    data: DataDirectory,
    ids: Sequence[str],
    seconds: float,
    by: str,
    tell: Callable[[CommandView], None] = lambda _view: None,
) -> list[CommandView]:
    """The commands with their answers, once each has an end or *seconds* have passed; *tell* is called with each that
    comes to its end, as it does."""
    deadline = time.monotonic() + seconds
    ended: dict[str, CommandView] = {}
    while True:
        now = {view.id: view for view in states(data, list(ids))}
        for view in now.values():
            if view.ended and view.id not in ended:
                ended[view.id] = show(data, view.id, by, time.time_ns() // 1000)
                tell(ended[view.id])
        if len(ended) == len(now) or time.monotonic() >= deadline:
            return [ended.get(id_, view) for id_, view in now.items()]
        time.sleep(POLL_ELSEWHERE_SECONDS if isinstance(data, Elsewhere) else POLL_SECONDS)


@served
def listed(
    data: DataDirectory,
    limit: Annotated[int, Meta(ge=1, le=1000)] = SHOWN,
    target: str = "",
    within: Sites = EVERYWHERE,
) -> list[CommandView]:
    """The newest commands first, without their answers; with *target*, those of an agent or a site."""
    with closing(connection.connect(data.state)) as db:
        fleet = [row for row in agents.list_all(db) if within(row.site)]
        meant = [row.agent for row in fleet if target in ("", row.agent, row.site)]
        everything = within.everything and not target
        return [_view(row, b"") for row in rows.newest(db, limit, None if everything else meant)]


@served
def show(data: DataDirectory, prefix: str, by: str, now_us: int, within: Sites = EVERYWHERE) -> CommandView:
    """The command whose id begins with *prefix*. Reading records in an answer is audited. Raises ConfigError."""
    with closing(connection.connect(data.state)) as db:
        row = _one(db, prefix, within)
        output = rows.output(db, row.id)  # what is shown decides: the answer may have come since *row* was read
        if row.name in PAYLOADS and output:
            _read(db, row, by, now_us)
        return _view(row, output)


@served
def file_of(data: DataDirectory, prefix: str, by: str, now_us: int, within: Sites = EVERYWHERE) -> bytes:
    """The bytes of an answer that is a file (support-bundle); audited. Raises ConfigError when it has none."""
    with closing(connection.connect(data.state)) as db:
        row = _one(db, prefix, within)
        output = rows.output(db, row.id)
        if row.name != "support-bundle":
            raise ConfigError(f"{row.name} answers in words, not with a file", hint=f"crossdock command show {row.id}")
        if row.state != "done" or not output:
            why = f", {row.error}" if row.error else ""
            raise ConfigError(f"command {row.id} has no file: it is {row.state}{why}")
        _read(db, row, by, now_us)
    return output


def _read(db: sqlite3.Connection, row: CommandRow, by: str, now_us: int) -> None:
    with connection.transaction(db):
        details = {"agent": row.agent, "name": row.name}
        audit.append(db, actor=by, action="command.read", target=row.id, details=details, now_us=now_us)


def _visible(db: sqlite3.Connection, within: Sites) -> Callable[[CommandRow], bool]:
    """Whether a command is at a site that may be seen."""
    if within.everything:
        return lambda _row: True
    at = {row.agent for row in agents.list_all(db) if within(row.site)}
    return lambda row: row.agent in at


def _one(db: sqlite3.Connection, prefix: str, within: Sites) -> CommandRow:
    seen = _visible(db, within)
    found = [row for row in rows.beginning_with(db, prefix) if seen(row)] if prefix else []
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
