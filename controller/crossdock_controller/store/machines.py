"""Which machine each agent runs on, by a digest: the first that greets has the identity, until a person moves it.

Functions are for a transaction of the caller; times are microseconds since the epoch, UTC.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

MOVE_SECONDS = 24 * 3600  # how long the next machine may take an identity that a person has freed


@dataclass(frozen=True, slots=True)
class Machine:
    """*moving_us*: when a person freed the identity for the next machine; 0 when it is not free."""

    agent: str
    machine: str
    host: str
    since_us: int
    moving_us: int

    def free(self, now_us: int) -> bool:
        return bool(self.moving_us) and now_us - self.moving_us < MOVE_SECONDS * 1_000_000


def get(db: sqlite3.Connection, agent: str) -> Machine | None:
    row = db.execute("SELECT agent, machine, host, since_us, moving_us FROM machines WHERE agent = ?", (agent,))
    found = row.fetchone()
    return Machine(*found) if found else None


def barring(db: sqlite3.Connection, agent: str, machine: str, now_us: int) -> Machine | None:
    """The machine that has the identity of *agent*, where *machine* (a digest) is another one and may not take it."""
    bound = get(db, agent)
    if bound is None or not machine or bound.machine == machine or bound.free(now_us):
        return None
    return bound


def list_all(db: sqlite3.Connection) -> list[Machine]:
    return [
        Machine(*row)
        for row in db.execute("SELECT agent, machine, host, since_us, moving_us FROM machines ORDER BY agent")
    ]


def bind(db: sqlite3.Connection, agent: str, machine: str, host: str, now_us: int) -> None:
    """*agent* runs on *machine* from now on; an empty one is the next that says what it is."""
    if not machine:
        db.execute("DELETE FROM machines WHERE agent = ?", (agent,))
        return
    db.execute(
        "INSERT INTO machines(agent, machine, host, since_us) VALUES(?,?,?,?) ON CONFLICT(agent) DO UPDATE"
        " SET machine = excluded.machine, host = excluded.host, since_us = excluded.since_us, moving_us = 0",
        (agent, machine, host, now_us),
    )


def free(db: sqlite3.Connection, agent: str, now_us: int) -> None:
    """The next machine that greets as *agent* has the identity."""
    db.execute("UPDATE machines SET moving_us = ? WHERE agent = ?", (now_us, agent))
