"""Join tokens, enrolments that wait for a person, and whose identity it is: who gets in, and who not any more."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass

from crossdock.errors import ConfigError
from crossdock_controller.commands.fleet import NAME
from crossdock_controller.paths import DataDirectory, read_addresses
from crossdock_controller.served import served
from crossdock_controller.store import (
    agents,
    audit,
    certificates,
    connection,
    enrolments,
    machines,
    refusals,
    revocations,
    tokens,
)

MOST_USES = 10_000
LONGEST_SECONDS = 366 * 86_400.0  # of a token's life


@dataclass(frozen=True, slots=True)
class JoinToken:
    """*token* is shown once and stored nowhere; *replaces*: an agent of that name exists and would enrol anew. *agent*
    is empty where each of several uses makes an agent of its own. *linux*, *windows*: the line to paste at the site."""

    id: str
    token: str
    site: str
    agent: str
    uses: int
    approve: bool
    expires_us: int
    enrollment: str
    command: str
    linux: str
    windows: str
    replaces: bool


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token without its secret. *state*: open, used, expired or revoked."""

    id: str
    site: str
    agent: str
    state: str
    uses: int
    uses_left: int
    approve: bool
    expires_us: int
    created_us: int
    made_by: str


@dataclass(frozen=True, slots=True)
class PendingView:
    """An enrolment that waits for a person. *code* is shown at the site too, so that two people can compare.
    *replaces*: an agent of that name exists."""

    agent: str
    site: str
    code: str
    host: str
    platform: str
    version: str
    machine: str
    address: str
    token: str
    first_us: int
    last_us: int
    replaces: bool


@served
def create_token(
    data: DataDirectory, site: str, agent: str, ttl_seconds: float, now_us: int, *, uses: int = 1,
    approve: bool = False, by: str = "",
) -> JoinToken:  # fmt: skip
    """A token for *uses* agents of *site*. One use makes an agent named like the site, unless *agent* is given; of
    several each makes one named after its host.

    Raises ConfigError for a name that cannot be one, or when no controller has run on *data* yet.
    """
    _check(site, agent, uses)
    if not 0 < ttl_seconds <= LONGEST_SECONDS:
        raise ConfigError("a token lives for a year at most, and for some time", hint="--ttl 1h is a good measure")
    agent = agent or (site if uses == 1 else "")
    addresses = read_addresses(data)
    from crossdock_controller.authority import Authority

    authority = Authority.open(data.authority)
    carried = authority.anchor
    secret, stored = authority.join_token(addresses.enrollment)
    expires_us = now_us + int(ttl_seconds * 1_000_000)
    row = tokens.Token(stored, site, agent, uses, uses, expires_us, now_us, approve, by, 0)
    with closing(connection.connect(data.state)) as db:
        known = agents.get(db, agent) if agent else None
        if known is not None and known.site != site:
            raise ConfigError(
                f"agent {agent!r} belongs to site {known.site!r}, not {site!r}",
                hint="give this one another --agent name",
            )
        with connection.transaction(db):
            tokens.create(db, row)
            certificates.note_token(db, stored, carried)
            audit.append(
                db, actor=by or "controller", action="token.create", target=row.id, now_us=now_us,
                details={"site": site, "agent": agent, "uses": uses, "expires_us": expires_us, "approve": approve},
            )  # fmt: skip
    command = f"crossdock-agent enroll --token {secret}"
    return JoinToken(
        row.id, secret, site, agent, uses, approve, expires_us, addresses.enrollment, command,
        f"sudo {command}", f"crossdock-agent.exe enroll --token '{secret}'", known is not None,
    )  # fmt: skip


@served
def list_tokens(data: DataDirectory, now_us: int) -> list[TokenView]:
    """All tokens, the newest first."""
    with closing(connection.connect(data.state)) as db:
        return [
            TokenView(
                t.id, t.site, t.agent, t.state(now_us), t.uses, t.uses_left, t.approve, t.expires_us, t.created_us,
                t.made_by,
            )
            for t in tokens.list_all(db)
        ]  # fmt: skip


@served
def revoke_token(data: DataDirectory, token_id: str, now_us: int, *, by: str) -> TokenView:
    """Nobody enrols with it any more, nor does who waits on it. Raises ConfigError when it is not exactly one."""
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        found = tokens.named(db, token_id)
        if len(found) != 1:
            what = f"no token {token_id!r}" if not found else f"{len(found)} tokens whose id begins with {token_id!r}"
            raise ConfigError(f"there is {what}", hint="'crossdock token list' names all of them")
        token = found[0]
        tokens.revoke(db, token.hash, now_us)
        enrolments.deny_token(db, token.hash, "its join token was revoked", now_us)
        audit.append(db, actor=by, action="token.revoke", target=token.id, details={"site": token.site}, now_us=now_us)
    return next(t for t in list_tokens(data, now_us) if t.id == token.id)


@served
def pending(data: DataDirectory) -> list[PendingView]:
    """Enrolments that wait for a person, the oldest first."""
    with closing(connection.connect(data.state)) as db:
        known = {row.agent for row in agents.list_all(db)}
        return [
            PendingView(
                e.agent, e.site, e.code, e.host, e.platform, e.version, e.machine, e.address,
                e.token[: tokens.ID_CHARACTERS], e.first_us, e.last_us, e.agent in known,
            )
            for e in enrolments.waiting(db)
        ]  # fmt: skip


@served
def decide(
    data: DataDirectory, agent: str, now_us: int, *, approve: bool, by: str, code: str = "", because: str = ""
) -> str:
    """Let *agent*, which waits, in or not; the code of the key that was decided on. *code*: only if it is that one.

    Raises ConfigError when none waits under that name, or several do and *code* does not say which.
    """
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        waiting = [e for e in enrolments.waiting(db) if e.agent == agent]
        if not waiting:
            raise ConfigError(
                f"no agent {agent!r} waits for a person", hint="'crossdock agents pending' shows who does"
            )
        wanted = code.upper().replace("-", "").strip()
        fitting = [e for e in waiting if not wanted or e.code.replace("-", "") == wanted]
        if len(fitting) != 1:
            codes = ", ".join(e.code for e in waiting)
            raise ConfigError(
                f"agent {agent!r} waits with code {codes}" + (f", not {code}" if code else ""),
                hint="compare with what the site shows, and name the right one with --code; another one is not yours",
            )
        state = "approved" if approve else "denied"
        enrolments.decide(db, fitting[0].id, state, by=by, because=because, now_us=now_us)
        audit.append(
            db, actor=by, action="agents.approve" if approve else "agents.deny", target=agent, now_us=now_us,
            details={"code": fitting[0].code, "host": fitting[0].host, "address": fitting[0].address,
                     "because": because},
        )  # fmt: skip
    return fitting[0].code


@served
def move(data: DataDirectory, agent: str, now_us: int, *, by: str) -> str:
    """The next machine that greets as *agent* has the identity; the host that had it. Raises ConfigError."""
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        _known(db, agent)
        bound = machines.get(db, agent)
        if bound is None:
            raise ConfigError(
                f"agent {agent!r} is bound to no machine: the next one that says which it is has the identity",
                hint="nothing is to be done",
            )
        machines.free(db, agent, now_us)
        refusals.forget(db, agent, ("machine",))
        audit.append(db, actor=by, action="agents.move", target=agent, details={"from_host": bound.host}, now_us=now_us)
    return bound.host


@served
def revoke(data: DataDirectory, agent: str, now_us: int, *, by: str, because: str = "") -> None:
    """Take *agent* off the allow-list, and whatever it asked for before; a running controller cuts its streams within a
    second. Raises ConfigError."""
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        _known(db, agent)
        agents.revoke(db, agent)
        revocations.record(db, agent, by, because, now_us)
        enrolments.deny_all(db, agent, "the agent was revoked", now_us)
        audit.append(db, actor=by, action="agents.revoke", target=agent, details={"because": because}, now_us=now_us)


def _known(db: sqlite3.Connection, agent: str) -> agents.AgentRow:
    row = agents.get(db, agent)
    if row is None:
        raise ConfigError(f"there is no agent {agent!r}", hint="'crossdock agents' lists all of them")
    return row


def _check(site: str, agent: str, uses: int) -> None:
    for what, name in (("site", site), ("agent", agent or site)):
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{what} {name!r} cannot be a name", hint="use small letters, digits, dots and dashes: atl1, rtm1-erp"
            )
    if not 1 <= uses <= MOST_USES:
        raise ConfigError(f"a token for {uses} uses cannot be made", hint=f"from 1 to {MOST_USES}")
    if agent and uses > 1:
        raise ConfigError(
            f"one name, {agent!r}, for {uses} agents", hint="leave --agent out: each is named after its site and host"
        )
