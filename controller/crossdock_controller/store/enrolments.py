"""Enrolments: one for each key that a join token was used with, from its first request until its agent has connected.

    pending ─▶ approved ─▶ issued ─▶ done          pending, approved, issued ─▶ denied

A request that comes again with the same token and the same key finds its own enrolment: nothing is used up twice, and
an answer that was lost on the way is given again until the certificate was seen in use. Functions are for a transaction
of the caller; times are microseconds since the epoch, UTC.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from crossdock_controller.store import tokens

NAME_CHARACTERS = 63
FORGET_DAYS = 90
MOST_ANSWERS = 20  # certificates for one key: answers get lost, and not for ever
_COLUMNS = (
    "id, token, key_sha256, code, agent, site, host, platform, version, machine, address, state, first_us, last_us,"
    " decided_us, decided_by, because"
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request to enrol says. *token*: its hash; *key_sha256* and *code*: of the CSR's public key."""

    token: str
    key_sha256: str
    code: str
    host: str
    platform: str
    version: str
    machine: str
    address: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    id: int
    token: str
    key_sha256: str
    code: str
    agent: str
    site: str
    host: str
    platform: str
    version: str
    machine: str
    address: str
    state: str
    first_us: int
    last_us: int
    decided_us: int
    decided_by: str
    because: str


@dataclass(frozen=True, slots=True)
class Turned:
    """Why a request was turned away. *kind*: "unknown", "expired", "used", "revoked", "other_key" or "denied"."""

    kind: str
    token: tokens.Token | None = None
    because: str = ""


def request(db: sqlite3.Connection, ask: Ask, *, approve_all: bool, now_us: int) -> Enrolment | Turned:
    """The enrolment of this token and this key, made now if it is the first request; or why there is none."""
    token = tokens.get(db, ask.token)
    if token is None:
        return Turned("unknown")
    known = _find(db, ask)
    if known is not None:
        return _again(db, token, known, ask, now_us)
    if not tokens.take(db, ask.token, now_us):
        state = token.state(now_us)
        return Turned("other_key" if state == "used" and token.uses == 1 else state, token)
    _forget_before(db, now_us - FORGET_DAYS * 86_400_000_000)
    agent = token.agent or free_name(db, agent_name(token.site, ask.host))
    state = "pending" if approve_all or token.approve else "approved"
    row = db.execute(
        "INSERT INTO enrolments(token, key_sha256, code, agent, site, host, platform, version, machine, address, state,"
        f" first_us, last_us) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?) RETURNING {_COLUMNS}",
        (
            ask.token, ask.key_sha256, ask.code, agent, token.site, ask.host, ask.platform, ask.version, ask.machine,
            ask.address, state, now_us, now_us,
        ),
    ).fetchone()  # fmt: skip
    return Enrolment(*row)


def _forget_before(db: sqlite3.Connection, before_us: int) -> None:
    """What was settled long ago; the audit log has it. Its token has ended long since, and lets nobody in."""
    db.execute("DELETE FROM enrolments WHERE state IN ('done', 'denied') AND last_us < ?", (before_us,))
    gone = "SELECT hash FROM tokens WHERE expires_us < ? AND hash NOT IN (SELECT token FROM enrolments)"
    for table in ("token_terms", "token_authorities", "tokens"):
        db.execute(f"DELETE FROM {table} WHERE hash IN ({gone})", (before_us,))


def _find(db: sqlite3.Connection, ask: Ask) -> Enrolment | None:
    row = db.execute(
        f"SELECT {_COLUMNS} FROM enrolments WHERE token = ? AND key_sha256 = ?", (ask.token, ask.key_sha256)
    ).fetchone()
    return Enrolment(*row) if row else None


def _again(db: sqlite3.Connection, token: tokens.Token, known: Enrolment, ask: Ask, now_us: int) -> Enrolment | Turned:
    if token.revoked_us:
        return Turned("revoked", token)
    if known.state == "denied":
        return Turned("denied", token, known.because)
    if known.state == "done" or _handed_out(db, known) >= MOST_ANSWERS:
        return Turned("used", token)
    row = db.execute(
        "UPDATE enrolments SET last_us = ?, address = ?, host = ?, platform = ?, version = ?, machine = ? WHERE id = ?"
        f" RETURNING {_COLUMNS}",
        (now_us, ask.address, ask.host, ask.platform, ask.version, ask.machine, known.id),
    ).fetchone()
    return Enrolment(*row)


def _handed_out(db: sqlite3.Connection, known: Enrolment) -> int:
    """How many certificates were made for it: each answer that was lost has its own."""
    (count,) = db.execute(
        "SELECT count(*) FROM certificates WHERE agent = ? AND key_sha256 = ?", (known.agent, known.key_sha256)
    ).fetchone()
    return int(count)


def agent_name(site: str, host: str) -> str:
    """ "atl1-wms-07" for host WMS_07.corp.example of atl1: what an agent is called whose token names none."""
    short = re.sub(r"[^a-z0-9]+", "-", host.partition(".")[0].lower()).strip("-")
    return f"{site}-{short or 'agent'}"[:NAME_CHARACTERS].rstrip("-")


def free_name(db: sqlite3.Connection, name: str) -> str:
    """*name*, or with a number behind it the first that no agent has: on the list, on its way, or knocking."""
    taken = {
        row[0]
        for row in db.execute(
            "SELECT agent FROM agents UNION SELECT agent FROM strangers UNION SELECT agent FROM enrolments"
            " WHERE state IN ('pending', 'approved', 'issued')"
        )
    }
    if name not in taken:
        return name
    number = 2
    while (numbered := f"{name[: NAME_CHARACTERS - 5]}-{number}") in taken:
        number += 1
    return numbered


def waiting(db: sqlite3.Connection) -> list[Enrolment]:
    """Those that a person has to decide on, the oldest first."""
    return _listed(db, "state = 'pending' ORDER BY first_us, id")


def of_agent(db: sqlite3.Connection, agent: str) -> list[Enrolment]:
    """All of *agent*, the newest first."""
    return _listed(db, "agent = ? ORDER BY id DESC", agent)


def decide(db: sqlite3.Connection, enrolment: int, state: str, *, by: str, because: str, now_us: int) -> None:
    """A person said "approved" or "denied"."""
    db.execute(
        "UPDATE enrolments SET state = ?, decided_us = ?, decided_by = ?, because = ? WHERE id = ?",
        (state, now_us, by, because, enrolment),
    )


def issued(db: sqlite3.Connection, enrolment: int) -> None:
    db.execute("UPDATE enrolments SET state = 'issued' WHERE id = ? AND state = 'approved'", (enrolment,))


def seen(db: sqlite3.Connection, agent: str, key_sha256: str) -> None:
    """*agent* connected with the certificate it enrolled for: its token is worth nothing from now on."""
    db.execute(
        "UPDATE enrolments SET state = 'done' WHERE agent = ? AND state = 'issued' AND key_sha256 = ?",
        (agent, key_sha256),
    )


def deny_all(db: sqlite3.Connection, agent: str, because: str, now_us: int) -> None:
    """*agent* was revoked: nothing that it asked for before lets it in again."""
    db.execute(
        "UPDATE enrolments SET state = 'denied', because = ?, decided_us = ? WHERE agent = ?"
        " AND state IN ('pending', 'approved', 'issued')",
        (because, now_us, agent),
    )


def deny_token(db: sqlite3.Connection, token_hash: str, because: str, now_us: int) -> None:
    """The token was revoked: so is what waits on it."""
    db.execute(
        "UPDATE enrolments SET state = 'denied', because = ?, decided_us = ? WHERE token = ?"
        " AND state IN ('pending', 'approved')",
        (because, now_us, token_hash),
    )


def void_all(db: sqlite3.Connection) -> None:
    """After a restore: what was open at the backup may have ended since."""
    db.execute(
        "UPDATE enrolments SET state = 'denied', because = 'the store was restored from a backup'"
        " WHERE state IN ('pending', 'approved', 'issued')"
    )


def _listed(db: sqlite3.Connection, which: str, *values: object) -> list[Enrolment]:
    return [Enrolment(*row) for row in db.execute(f"SELECT {_COLUMNS} FROM enrolments WHERE {which}", values)]
