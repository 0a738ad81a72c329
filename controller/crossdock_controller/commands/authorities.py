"""Replacing the certificate authority in phases, so that nobody is locked out: add, issue, switch, retire.

Each step is audited first and then taken by one file that is replaced (see `authority.files`); a running controller
takes it up within a second. A step that would lock somebody out refuses, naming them.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from crossdock.errors import ConfigError
from crossdock.lock import is_held
from crossdock_controller.authority import Authority, State, short, states
from crossdock_controller.commands import authority_needs as needs
from crossdock_controller.commands.authority_needs import Need
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import agents, audit, certificates, connection, facts

DEFAULT_GRACE_US = 30 * 86_400_000_000  # where no controller of this release has run yet
TAKEN_UP_SECONDS = 15.0  # many times what a controller that is well needs
SHOWN = 8  # agents named in a refusal; the rest is counted


@dataclass(frozen=True, slots=True)
class AuthorityView:
    """*state*: "trusted", "issuing", "issuing, serving", "retired" ...; *trusted_by* and *held_by*: how many active
    agents say that they trust it, and hold a certificate of it; *vouched_by*: authorities an agent may know instead.
    *needed_by*: what stands against retiring it (against letting it serve, for the one that is next). Microseconds
    UTC, 0 for what is not known (of one that is retired)."""

    fingerprint: str
    state: str
    made_us: int
    ends_us: int
    retired_us: int
    trusted_by: int
    held_by: int
    vouched_by: list[str] = field(default_factory=list)
    needed_by: list[Need] = field(default_factory=list)
    certificate: str = ""  # PEM, while it is trusted


@dataclass(frozen=True, slots=True)
class Authorities:
    """All of them, the oldest first; *next_step* is a command, or empty when no replacement is under way."""

    authorities: list[AuthorityView]
    agents: int
    grace_us: int
    server_ends_us: int
    next_step: str


@dataclass(frozen=True, slots=True)
class Step:
    """What was done: *locked_out* were in the way, and forced. *next_step* as in `Authorities`."""

    fingerprint: str
    state: str
    locked_out: list[Need]
    next_step: str
    taken_up: bool  # by the running controller; where none runs, by the next that starts


@served
def listing(data: DataDirectory, now_us: int) -> Authorities:
    authority = Authority.open(data.authority)
    ends = {fingerprint: _us(end) for fingerprint, end in authority.ends().items()}
    pem = authority.certificates()
    with closing(connection.connect(data.state)) as db, connection.snapshot(db):
        known = _facts(db, now_us)
        server = int(facts.get(db, facts.SERVER_ENDS) or b"0")
    first = authority.states[0].fingerprint
    views = []
    for state in authority.states:
        trusting, holding = needs.counts(state, known, first)
        views.append(
            AuthorityView(
                state.fingerprint, state.word, state.made_us, ends.get(state.fingerprint, 0), state.retired_us,
                trusting, holding, sorted(state.crosses), _needed(authority, state, known),
                pem.get(state.fingerprint, ""),
            )
        )  # fmt: skip
    return Authorities(views, len(known.active), known.grace_us, server, states.next_step(authority.states))


def ends(data: DataDirectory) -> list[tuple[str, int]]:
    """(what, when it ends in microseconds UTC) of each trusted CA, and of the certificate that the server shows."""
    authority = Authority.open(data.authority)
    found = [
        (f"certificate authority {short(s.fingerprint)} ({s.word})", _us(authority.ends()[s.fingerprint]))
        for s in authority.states
        if s.trusted
    ]
    with closing(connection.connect(data.state)) as db:
        server = int(facts.get(db, facts.SERVER_ENDS) or b"0")
    return found + ([("certificate of the controller", server)] if server else [])


@served
def add(data: DataDirectory, now_us: int, by: str) -> Step:
    """A new authority, which agents learn to trust. Raises ConfigError while a replacement is under way."""
    now = dt.datetime.fromtimestamp(now_us / 1e6, dt.UTC)
    with _change(data) as (authority, db):
        signer, new = authority.prepared(now)
        made = _audited(db, by, "authority.add", new.fingerprint, {}, now_us, lambda: authority.added(signer, new))
        return _step(data, db, authority, made)


@served
def issue(data: DataDirectory, now_us: int, by: str) -> Step:
    """The newest authority makes agents' certificates from now on. Raises ConfigError when it does already."""
    with _change(data) as (authority, db):
        new = states.newest(states.issued(authority.states))
        done = _audited(db, by, "authority.issue", new.fingerprint, {}, now_us, authority.issuing)
        return _step(data, db, authority, done)


@served
def switch(data: DataDirectory, now_us: int, by: str, *, force: bool = False) -> Step:
    """The newest authority signs the server's certificate and the configurations from now on. Raises ConfigError when
    it does not issue yet, and, unless *force*, when somebody could not verify the server then."""
    with _change(data) as (authority, db):
        new = states.serving(states.switched(authority.states))
        found = needs.for_switch(authority.states, new, _facts(db, now_us))
        what = f"authority {short(new.fingerprint)} cannot serve yet"
        _refuse(what, found, force=force, command="crossdock ca switch --force")
        details = {"locked_out": [n.agent for n in found]} if found else {}
        done = _audited(db, by, "authority.switch", new.fingerprint, details, now_us, authority.switched)
        return _step(data, db, authority, done, found)


@served
def retire(data: DataDirectory, fingerprint: str, now_us: int, by: str, *, force: bool = False) -> Step:
    """Nobody trusts this one any more, and no certificate of it lets anyone in. Raises ConfigError while it is in use,
    and, unless *force*, while somebody needs it."""
    with _change(data) as (authority, db):
        old = states.find(authority.states, fingerprint)
        states.retired(authority.states, old.fingerprint, now_us)
        found = needs.for_retire(authority.states, old, _facts(db, now_us)) if _in_use(authority, old) else []
        command = f"crossdock ca retire {short(old.fingerprint)} --force"
        _refuse(f"authority {short(old.fingerprint)} cannot retire yet", found, force=force, command=command)
        details = {"locked_out": [n.agent for n in found]} if found else {}
        done = _audited(
            db, by, "authority.retire", old.fingerprint, details, now_us,
            lambda: authority.retired(old.fingerprint, now_us),
        )  # fmt: skip
        return _step(data, db, authority, done, found)


def _step(
    data: DataDirectory, db: sqlite3.Connection, authority: Authority, done: State, found: Sequence[Need] = ()
) -> Step:
    """Waits until the running controller has taken the step up, or for TAKEN_UP_SECONDS."""
    deadline, version = time.monotonic() + TAKEN_UP_SECONDS, authority.version.encode()
    while not (taken := facts.get(db, facts.AUTHORITIES) == version or not is_held(data.lock)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return Step(done.fingerprint, done.word, list(found), states.next_step(authority.states), taken)


@contextmanager
def _change(data: DataDirectory) -> Iterator[tuple[Authority, sqlite3.Connection]]:
    """One command at a time. Raises Refused when another one does not end."""
    with (
        Authority.lock(data.authority),
        closing(connection.connect(data.state)) as db,
    ):
        yield Authority.open(data.authority), db


def _audited(
    db: sqlite3.Connection,
    by: str,
    action: str,
    target: str,
    details: Mapping[str, object],
    now_us: int,
    do: Callable[[], State],
) -> State:
    """*do*, noted first: what is in the log may not have come about (a crash between), but nothing comes about that is
    not in the log."""
    with connection.transaction(db):
        audit.append(db, actor=by, action=action, target=target, details=details, now_us=now_us)
    try:
        return do()
    except Exception as error:
        with connection.transaction(db):
            audit.append(
                db, actor=by, action=f"{action}_failed", target=target, details={"error": str(error)}, now_us=now_us
            )
        raise


def _facts(db: sqlite3.Connection, now_us: int) -> needs.Facts:
    grace = facts.get(db, facts.GRACE)
    return needs.Facts(
        active={
            row.agent: needs.Active(row.host, row.connected, row.certificate_expires_us)
            for row in agents.list_all(db)
            if row.state == "active"
        },
        held=certificates.held(db),
        confirmed=certificates.trusts(db),
        tokens=certificates.live_tokens(db, now_us),
        now_us=now_us,
        grace_us=int(grace) if grace else DEFAULT_GRACE_US,
    )


def _needed(authority: Authority, state: State, known: needs.Facts) -> list[Need]:
    if state.serving or not state.trusted:
        return []
    if state is states.newest(authority.states):
        return needs.for_switch(authority.states, state, known)
    return needs.for_retire(authority.states, state, known) if _in_use(authority, state) else []


def _in_use(authority: Authority, state: State) -> bool:
    """Whether anybody can have come to rely on it: not on one that is given up before it ever issued."""
    return state is not states.newest(authority.states)


def _refuse(what: str, found: list[Need], *, force: bool, command: str) -> None:
    if not found or force:
        return
    named = "; ".join(f"{n.agent} {n.reason}" for n in found[:SHOWN])
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise ConfigError(
        f"{what}: {named}{more}",
        hint=f"{found[0].step}. 'crossdock ca' shows who is still in the way; {command} locks them out",
    )


def _us(when: dt.datetime) -> int:
    return int(when.timestamp() * 1_000_000)
