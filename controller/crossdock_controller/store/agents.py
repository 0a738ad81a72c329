"""The fleet's allow-list and what each agent last said.

Every function takes an open connection to state.db (autocommit) and is one statement; times are microseconds since the
epoch, UTC.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AgentRow:
    agent: str
    site: str
    state: str  # "active" or "revoked"
    enrolled_us: int
    host: str
    platform: str
    version: str
    last_seen_us: int
    connected: bool
    desired_revision: int
    revision: int
    config_state: str  # "", "applying", "applied" or "failed"
    config_reason: str
    health: str  # JSON of the last heartbeat
    certificate_expires_us: int


_COLUMNS = (
    "agent, site, state, enrolled_us, host, platform, version, last_seen_us, connected,"
    " desired_revision, revision, config_state, config_reason, health, certificate_expires_us"
)


def _row(values: sqlite3.Row | tuple[object, ...]) -> AgentRow:
    fields = list(values)
    fields[8] = bool(fields[8])
    return AgentRow(*fields)


def get(db: sqlite3.Connection, agent: str) -> AgentRow | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM agents WHERE agent = ?", (agent,)).fetchone()
    return _row(row) if row else None


def list_all(db: sqlite3.Connection) -> list[AgentRow]:
    """Every agent ever enrolled, by name."""
    return [_row(r) for r in db.execute(f"SELECT {_COLUMNS} FROM agents ORDER BY agent")]


def active(db: sqlite3.Connection) -> dict[str, str]:
    """{agent: site} of those that may use the link."""
    return dict(db.execute("SELECT agent, site FROM agents WHERE state = 'active'").fetchall())


def record_enrolled(
    db: sqlite3.Connection,
    agent: str,
    site: str,
    *,
    host: str,
    platform: str,
    version: str,
    expires_us: int,
    now_us: int,
) -> None:
    """Put *agent* on the allow-list; enrolling anew lifts a revocation."""
    db.execute(
        "INSERT INTO agents(agent, site, state, enrolled_us, host, platform, version, certificate_expires_us)"
        " VALUES(?,?,'active',?,?,?,?,?) ON CONFLICT(agent) DO UPDATE SET site = excluded.site, state = 'active',"
        " enrolled_us = excluded.enrolled_us, host = excluded.host, platform = excluded.platform,"
        " version = excluded.version, certificate_expires_us = excluded.certificate_expires_us",
        (agent, site, now_us, host, platform, version, expires_us),
    )


def record_certificate(db: sqlite3.Connection, agent: str, expires_us: int) -> None:
    db.execute("UPDATE agents SET certificate_expires_us = ? WHERE agent = ?", (expires_us, agent))


def record_hello(
    db: sqlite3.Connection, agent: str, *, host: str, platform: str, version: str, revision: int, now_us: int
) -> None:
    db.execute(
        "UPDATE agents SET host = ?, platform = ?, version = ?, revision = ?, connected = 1, last_seen_us = ?"
        " WHERE agent = ?",
        (host, platform, version, revision, now_us, agent),
    )


def record_heartbeat(db: sqlite3.Connection, agent: str, health: str, now_us: int) -> None:
    db.execute("UPDATE agents SET health = ?, last_seen_us = ? WHERE agent = ?", (health, now_us, agent))


def record_misfit(db: sqlite3.Connection, agent: str, version: str, health: str, now_us: int) -> None:
    """It greeted and cannot be spoken to; *health* says why."""
    db.execute(
        "UPDATE agents SET version = ?, health = ?, last_seen_us = ? WHERE agent = ?", (version, health, now_us, agent)
    )


def record_config(db: sqlite3.Connection, agent: str, revision: int, state: str, reason: str) -> None:
    """What the agent says of a revision; its effective revision moves only when it was applied."""
    db.execute(
        "UPDATE agents SET config_state = ?, config_reason = ?,"
        " revision = CASE WHEN ? = 'applied' THEN ? ELSE revision END WHERE agent = ?",
        (state, reason, state, revision, agent),
    )


def record_offered(db: sqlite3.Connection, agent: str, revision: int) -> None:
    """It is asked to run *revision*; what it said of another one is over."""
    db.execute(
        "UPDATE agents SET desired_revision = ?, config_state = '', config_reason = '' WHERE agent = ?",
        (revision, agent),
    )


def record_settled(db: sqlite3.Connection, agent: str, revision: int) -> None:
    """It is to run *revision*, and does."""
    db.execute(
        "UPDATE agents SET desired_revision = ?, revision = ?, config_state = 'applied', config_reason = ''"
        " WHERE agent = ?",
        (revision, revision, agent),
    )


def record_effective(db: sqlite3.Connection, agent: str, revision: int) -> None:
    db.execute("UPDATE agents SET revision = ? WHERE agent = ?", (revision, agent))


def record_disconnected(db: sqlite3.Connection, agent: str) -> None:
    db.execute("UPDATE agents SET connected = 0 WHERE agent = ?", (agent,))


def disconnect_all(db: sqlite3.Connection) -> None:
    """At the gateway's start: whoever was connected is not any more."""
    db.execute("UPDATE agents SET connected = 0")


def revoke(db: sqlite3.Connection, agent: str) -> bool:
    """Take *agent* off the allow-list; False when there is none of that name."""
    return db.execute("UPDATE agents SET state = 'revoked' WHERE agent = ?", (agent,)).rowcount > 0
